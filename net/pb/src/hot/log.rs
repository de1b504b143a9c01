//! The payload of a log entry: `InternalRaftRequest`, framed around the client's own bytes.

use super::Malformed;
use super::wire::WireType::{Len, Varint};
use super::wire::{
    Wire, WireType, bytes_field_len, put_nested, put_tag, put_uint_field, put_varint, varint_len,
};

/// `etcdserverpb.InternalRaftRequest` with exactly one request, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InternalRaftRequest<'a> {
    /// Field 1; requests carry their id in the header instead.
    pub id: u64,
    /// Field 100. `None` and an empty one are told apart.
    pub header: Option<RequestHeader<'a>>,
    /// Number of the request's field (4 is `put`); 0 if there is none that this release knows.
    pub field: u32,
    /// The request's bytes, not looked into.
    pub body: &'a [u8],
}

/// `etcdserverpb.RequestHeader`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "etcd's fields by etcd's names")]
pub struct RequestHeader<'a> {
    pub id: u64,
    pub username: &'a str,
    pub auth_revision: u64,
}

const HEADER: u32 = 100;

impl<'a> InternalRaftRequest<'a> {
    /// Reads a whole message, but for the request's body.
    ///
    /// # Errors
    /// Any kind but `TooDeep`; `Split` also for two requests of different kinds, of which prost
    /// would keep both.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut wire = Wire::new(bytes);
        let mut r = InternalRaftRequest::default();
        while let Some(field) = wire.tag()? {
            match field {
                (1, Varint) => r.id = wire.varint()?,
                (HEADER, Len) => {
                    let body = wire.bytes()?;
                    if r.header.is_some() {
                        return Err(Malformed::Split);
                    }
                    r.header = Some(RequestHeader::read_from(wire.nested(body)?)?);
                }
                (number, Len) if is_request(number) => {
                    let body = wire.bytes()?;
                    if r.field != 0 {
                        return Err(Malformed::Split);
                    }
                    r.field = number;
                    r.body = body;
                }
                _ => wire.skip(field)?,
            }
        }
        Ok(r)
    }
}

impl<'a> RequestHeader<'a> {
    fn read_from(mut wire: Wire<'a>) -> Result<Self, Malformed> {
        let mut r = RequestHeader::default();
        while let Some(field) = wire.tag()? {
            match field {
                (1, Varint) => r.id = wire.varint()?,
                (2, Len) => {
                    let text = std::str::from_utf8(wire.bytes()?);
                    r.username = text.map_err(|_| Malformed::NotUtf8)?;
                }
                (3, Varint) => r.auth_revision = wire.varint()?,
                _ => wire.skip(field)?,
            }
        }
        Ok(r)
    }
}

/// The fields of `InternalRaftRequest` that hold a request, by api.txt.
fn is_request(field: u32) -> bool {
    matches!(
        field,
        3..=11 | 1000 | 1011..=1013 | 1100..=1107 | 1200..=1204 | 1300..=1302 | 9900
    )
}

/// Bytes that [`write_internal_raft_request`] appends.
pub fn internal_raft_request_len(id: u64, field: u32, body_len: usize) -> usize {
    // The tag of field 100 and of fields from 16 to 2047 has two bytes.
    let header = 3 + uint_len(id);
    let more_tag = varint_len(u64::from(field) << 3) - 1;
    let body = if body_len == 0 {
        2
    } else {
        bytes_field_len(body_len)
    };
    header + more_tag + body
}

/// Appends a request in the framing of the log: the request as it came, and a header with its id;
/// in the order of the field numbers, as etcd writes it.
pub fn write_internal_raft_request(out: &mut Vec<u8>, id: u64, field: u32, body: &[u8]) {
    assert!(is_request(field));
    if field < HEADER {
        put_nested(out, field, body);
    }
    put_tag(out, HEADER, WireType::Len);
    put_varint(out, uint_len(id) as u64);
    put_uint_field(out, 1, id);
    if field > HEADER {
        put_nested(out, field, body);
    }
}

fn uint_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}
