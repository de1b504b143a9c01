//! What the answers of the three methods have in common, read without allocation.

use basalt_pb::hot::{Wire, WireType};

use super::template::MARKER_BYTES;

/// A RangeResponse, PutResponse or TxnResponse as far as the workloads look at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The header's revision, above 0.
    pub revision: i64,
    pub succeeded: bool,
    /// Answers inside a txn's.
    pub responses: u32,
    /// Keys found, those inside a txn too.
    pub kvs: u32,
    /// Marker of the first value, and whether those of all others follow it one by one.
    pub marker: u64,
    pub is_consecutive: bool,
    /// Of a RangeResponse: keys in the range, and whether some are beyond its limit.
    pub count: u64,
    pub more: bool,
    /// Of all values.
    pub value_bytes: u64,
    /// Of the last key.
    pub mod_revision: i64,
}

/// A key as a server returns it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyValue<'a> {
    pub key: &'a [u8],
    pub mod_revision: i64,
    pub value: &'a [u8],
}

impl Answer {
    /// `None`: not such an answer.
    pub(crate) fn read(message: &[u8]) -> Option<Self> {
        Self::read_with(message, &mut |_| {})
    }

    /// The same without asking for a revision: a part of an answer may have no header.
    pub(crate) fn read_part(message: &[u8]) -> Option<Self> {
        Self::read_fields(message, &mut |_| {})
    }

    /// As [`Answer::read`], and tells each key of a RangeResponse.
    pub(crate) fn read_with(message: &[u8], each: &mut dyn FnMut(KeyValue<'_>)) -> Option<Self> {
        Self::read_fields(message, each).filter(|answer| answer.revision > 0)
    }

    fn read_fields(message: &[u8], each: &mut dyn FnMut(KeyValue<'_>)) -> Option<Self> {
        let mut answer = Answer {
            is_consecutive: true,
            ..Answer::default()
        };
        let mut wire = Wire::new(message);
        while let Some(field) = wire.tag().ok()? {
            match field {
                (1, WireType::Len) => answer.revision = header_revision(wire.bytes().ok()?)?,
                (2, WireType::Len) => each(answer.key_value(wire.bytes().ok()?)?),
                (2, WireType::Varint) => answer.succeeded = wire.boolean().ok()?,
                (3, WireType::Varint) => answer.more = wire.boolean().ok()?,
                (4, WireType::Varint) => answer.count = wire.varint().ok()?,
                // TxnResponse.responses.
                (3, WireType::Len) => answer.response_op(wire.bytes().ok()?)?,
                _ => wire.skip(field).ok()?,
            }
        }
        Some(answer)
    }

    fn response_op(&mut self, op: &[u8]) -> Option<()> {
        self.responses += 1;
        let mut wire = Wire::new(op);
        while let Some(field) = wire.tag().ok()? {
            if field != (1, WireType::Len) {
                wire.skip(field).ok()?;
                continue;
            }
            let mut range = Wire::new(wire.bytes().ok()?);
            while let Some(field) = range.tag().ok()? {
                match field {
                    (2, WireType::Len) => {
                        self.key_value(range.bytes().ok()?)?;
                    }
                    _ => range.skip(field).ok()?,
                }
            }
        }
        Some(())
    }

    fn key_value<'a>(&mut self, bytes: &'a [u8]) -> Option<KeyValue<'a>> {
        let mut kv = KeyValue::default();
        let mut wire = Wire::new(bytes);
        while let Some(field) = wire.tag().ok()? {
            match field {
                (1, WireType::Len) => kv.key = wire.bytes().ok()?,
                (3, WireType::Varint) => kv.mod_revision = wire.varint().ok()? as i64,
                (5, WireType::Len) => kv.value = wire.bytes().ok()?,
                _ => wire.skip(field).ok()?,
            }
        }
        // A key without its value has no marker either.
        if !kv.value.is_empty() {
            let marker = u64::from_be_bytes(*kv.value.first_chunk::<MARKER_BYTES>()?);
            if self.kvs == 0 {
                self.marker = marker;
            } else {
                self.is_consecutive &= self.marker.checked_add(u64::from(self.kvs)) == Some(marker);
            }
        }
        self.kvs += 1;
        self.value_bytes += kv.value.len() as u64;
        self.mod_revision = kv.mod_revision;
        Some(kv)
    }
}

fn header_revision(header: &[u8]) -> Option<i64> {
    let mut wire = Wire::new(header);
    while let Some(field) = wire.tag().ok()? {
        match field {
            (3, WireType::Varint) => return Some(wire.varint().ok()? as i64),
            _ => wire.skip(field).ok()?,
        }
    }
    Some(0)
}
