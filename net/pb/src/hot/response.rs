//! The parts that nearly every answer is made of.

use super::wire::{
    WireType, bytes_field_len, int_field_len, put_bytes_field, put_int_field, put_tag, put_varint,
    varint_len,
};

/// `mvccpb.KeyValue`, borrowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "etcd's fields by etcd's names")]
pub struct KeyValue<'a> {
    pub key: &'a [u8],
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub value: &'a [u8],
    pub lease: i64,
}

/// Bytes that [`write_key_value`] appends.
#[inline]
pub fn key_value_len(kv: &KeyValue<'_>) -> usize {
    bytes_field_len(kv.key.len())
        + int_field_len(kv.create_revision)
        + int_field_len(kv.mod_revision)
        + int_field_len(kv.version)
        + bytes_field_len(kv.value.len())
        + int_field_len(kv.lease)
}

/// Appends the message itself, without tag and length.
#[inline]
pub fn write_key_value(out: &mut Vec<u8>, kv: &KeyValue<'_>) {
    put_bytes_field(out, 1, kv.key);
    put_int_field(out, 2, kv.create_revision);
    put_int_field(out, 3, kv.mod_revision);
    put_int_field(out, 4, kv.version);
    put_bytes_field(out, 5, kv.value);
    put_int_field(out, 6, kv.lease);
}

/// Appends the message as field `field` of another one.
#[inline]
pub fn write_key_value_field(out: &mut Vec<u8>, field: u32, kv: &KeyValue<'_>) {
    let len = key_value_len(kv);
    out.reserve(len + varint_len(len as u64) + 5);
    put_tag(out, field, WireType::Len);
    put_varint(out, len as u64);
    write_key_value(out, kv);
}

/// `etcdserverpb.ResponseHeader`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "etcd's fields by etcd's names")]
pub struct Header {
    pub cluster_id: u64,
    pub member_id: u64,
    pub revision: i64,
    pub raft_term: u64,
}

/// Appends the header as field 1 of an answer, which is where every answer has it; also when all
/// its fields are 0.
#[inline]
pub fn write_header(out: &mut Vec<u8>, header: &Header) {
    // Made aside, as its length comes first, and appended in one piece.
    let mut bytes = [0; 2 + 4 * 11];
    let mut end = 2;
    let mut field = |tag: u8, mut value: u64| {
        if value == 0 {
            return;
        }
        bytes[end] = tag;
        end += 1;
        while value >= 0x80 {
            bytes[end] = value as u8 | 0x80;
            value >>= 7;
            end += 1;
        }
        bytes[end] = value as u8;
        end += 1;
    };
    field(1 << 3, header.cluster_id);
    field(2 << 3, header.member_id);
    field(3 << 3, header.revision as u64);
    field(4 << 3, header.raft_term);
    bytes[0] = 1 << 3 | WireType::Len as u8;
    bytes[1] = (end - 2) as u8;
    out.extend_from_slice(&bytes[..end]);
}
