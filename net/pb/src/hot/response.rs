//! The parts that nearly every answer is made of.

use super::wire::{
    WireType, bytes_field_len, int_field_len, put_bytes_field, put_int_field, put_tag,
    put_uint_field, put_varint, varint_len,
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
    put_tag(out, 1, WireType::Len);
    let at = out.len();
    out.push(0);
    put_uint_field(out, 1, header.cluster_id);
    put_uint_field(out, 2, header.member_id);
    put_int_field(out, 3, header.revision);
    put_uint_field(out, 4, header.raft_term);
    let len = out.len() - at - 1;
    // Four fields of a tag and at most ten bytes.
    assert!(len < 0x80);
    out[at] = len as u8;
}
