//! Readers of small requests, which treat known fields of a wrong wire type as etcd's decoder does.

use basalt_pb::hot::{Malformed, Wire, WireType};

/// The varint fields 1 to `N` of a message; those that are missing are 0.
///
/// # Errors
/// If the bytes are not a message.
pub(super) fn ints<const N: usize>(message: &[u8]) -> Result<[u64; N], Malformed> {
    let mut values = [0; N];
    let mut wire = Wire::new(message);
    while let Some(field) = wire.tag()? {
        match values.get_mut(field.0 as usize - 1) {
            Some(value) if field.1 == WireType::Varint => *value = wire.varint()?,
            _ => wire.skip(field)?,
        }
    }
    Ok(values)
}

/// A whole message of few fields, or of one that is seldom sent.
///
/// # Errors
/// If the bytes are not that message.
pub(super) fn message<M: prost::Message + Default>(message: &[u8]) -> Result<M, Malformed> {
    M::decode(message).map_err(|_| Malformed::Truncated)
}

/// The string field `number` of a message; empty if it is missing.
///
/// # Errors
/// If the bytes are not a message, or the string is not UTF-8.
pub(super) fn text(message: &[u8], number: u32) -> Result<&str, Malformed> {
    let mut value = "";
    let mut wire = Wire::new(message);
    while let Some(field) = wire.tag()? {
        if field == (number, WireType::Len) {
            value = std::str::from_utf8(wire.bytes()?).map_err(|_| Malformed::NotUtf8)?;
        } else {
            wire.skip(field)?;
        }
    }
    Ok(value)
}
