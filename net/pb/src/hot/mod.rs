//! Borrowed readers and writers of the messages that are on the path of every request.
//!
//! Promises: no allocation (writers grow the buffer they are given); whatever prost accepts is
//! accepted with the same values, and the other way round but for known fields of a wrong wire
//! type, [`Malformed::Split`] and [`Malformed::TooDeep`]; what a writer makes is what prost and Go
//! make, byte for byte. Never: a panic, or recursion without a bound, whatever the bytes. Start at
//! `wire.rs`.

mod fuzz;
mod log;
mod request;
mod response;
mod txn;
mod wire;

pub use fuzz::fuzz_one;
pub use log::{
    InternalRaftRequest, RequestHeader, internal_raft_request_len, write_internal_raft_request,
};
pub use request::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest};
pub use response::{
    Header, KeyValue, key_value_len, write_header, write_key_value, write_key_value_field,
};
pub use txn::{Compare, Compares, Kinds, RequestOp, RequestOps, TXN_DEPTH_MAX, Target, TxnRequest};
pub use wire::{
    Mark, Wire, WireType, begin_nested, bytes_field_len, end_nested, int_field_len, put_bool_field,
    put_bytes_field, put_int_field, put_nested, put_tag, put_uint_field, put_varint, varint_len,
};

/// Why bytes are not the message that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// The bytes end inside a field, or a length points past the end.
    #[error("unexpected EOF")]
    Truncated,
    /// A varint of more than 64 bits.
    #[error("integer overflow")]
    Overflow,
    /// Field number 0 or above 2^29 - 1, or a wire type that does not exist.
    #[error("illegal tag")]
    IllegalTag,
    /// A known field with a wire type that is not its own, where that is refused: etcd's own
    /// decoder and all readers here take such a field for an unknown one.
    #[error("wrong wireType = {wire_type} for field {field}")]
    WireType {
        /// The field's number.
        field: u32,
        /// The wire type found.
        wire_type: u8,
    },
    /// A group that ends without a beginning, or is nested more than [`wire::RECURSION_MAX`] deep.
    #[error("illegal group")]
    Group,
    /// A string field that is not UTF-8.
    #[error("string field contains invalid UTF-8")]
    NotUtf8,
    /// An embedded message that stands in the bytes twice. Legal: the two are to be merged, which
    /// needs an owned message. See [`canonical`].
    #[error("embedded message occurs twice")]
    Split,
    /// Transactions nested more than [`TXN_DEPTH_MAX`] deep.
    #[error("transactions nested too deeply")]
    TooDeep,
}

/// Re-encodes a legal message so that no embedded message is split; for the rare client that a
/// reader answered [`Malformed::Split`].
///
/// # Errors
/// `Group` or another kind if the bytes are malformed in a way that the reader had not reached yet.
pub fn canonical<M: prost::Message + Default>(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    // prost tells its errors apart by text only; nobody acts on the kind here.
    M::decode(bytes)
        .map(|m| m.encode_to_vec())
        .map_err(|_| Malformed::Truncated)
}

#[cfg(test)]
mod tests;
