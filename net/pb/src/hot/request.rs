//! The plain requests of the KV service.

use super::Malformed;
use super::wire::WireType::{Len, Varint};
use super::wire::{Wire, put_bool_field, put_bytes_field, put_int_field};

/// `etcdserverpb.RangeRequest`. An enum's number may be one without a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "etcd's fields by etcd's names")]
pub struct RangeRequest<'a> {
    pub key: &'a [u8],
    pub range_end: &'a [u8],
    pub limit: i64,
    pub revision: i64,
    pub sort_order: i32,
    pub sort_target: i32,
    pub serializable: bool,
    pub keys_only: bool,
    pub count_only: bool,
    pub min_mod_revision: i64,
    pub max_mod_revision: i64,
    pub min_create_revision: i64,
    pub max_create_revision: i64,
}

impl<'a> RangeRequest<'a> {
    /// Reads a whole message.
    ///
    /// # Errors
    /// Any kind but `Split` and `TooDeep`.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::read_from(Wire::new(bytes))
    }

    pub(super) fn read_from(mut wire: Wire<'a>) -> Result<Self, Malformed> {
        let mut r = RangeRequest::default();
        while let Some(field) = wire.tag()? {
            match field {
                (1, Len) => r.key = wire.bytes()?,
                (2, Len) => r.range_end = wire.bytes()?,
                (3, Varint) => r.limit = wire.varint()? as i64,
                (4, Varint) => r.revision = wire.varint()? as i64,
                (5, Varint) => r.sort_order = wire.varint()? as i32,
                (6, Varint) => r.sort_target = wire.varint()? as i32,
                (7, Varint) => r.serializable = wire.boolean()?,
                (8, Varint) => r.keys_only = wire.boolean()?,
                (9, Varint) => r.count_only = wire.boolean()?,
                (10, Varint) => r.min_mod_revision = wire.varint()? as i64,
                (11, Varint) => r.max_mod_revision = wire.varint()? as i64,
                (12, Varint) => r.min_create_revision = wire.varint()? as i64,
                (13, Varint) => r.max_create_revision = wire.varint()? as i64,
                _ => wire.skip_unless(field.0 <= 13, field)?,
            }
        }
        Ok(r)
    }

    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        put_bytes_field(out, 1, self.key);
        put_bytes_field(out, 2, self.range_end);
        put_int_field(out, 3, self.limit);
        put_int_field(out, 4, self.revision);
        put_int_field(out, 5, i64::from(self.sort_order));
        put_int_field(out, 6, i64::from(self.sort_target));
        put_bool_field(out, 7, self.serializable);
        put_bool_field(out, 8, self.keys_only);
        put_bool_field(out, 9, self.count_only);
        put_int_field(out, 10, self.min_mod_revision);
        put_int_field(out, 11, self.max_mod_revision);
        put_int_field(out, 12, self.min_create_revision);
        put_int_field(out, 13, self.max_create_revision);
    }
}

/// `etcdserverpb.PutRequest`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "etcd's fields by etcd's names")]
pub struct PutRequest<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub lease: i64,
    pub prev_kv: bool,
    pub ignore_value: bool,
    pub ignore_lease: bool,
}

impl<'a> PutRequest<'a> {
    /// Reads a whole message.
    ///
    /// # Errors
    /// Any kind but `Split` and `TooDeep`.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::read_from(Wire::new(bytes))
    }

    pub(super) fn read_from(mut wire: Wire<'a>) -> Result<Self, Malformed> {
        let mut r = PutRequest::default();
        while let Some(field) = wire.tag()? {
            match field {
                (1, Len) => r.key = wire.bytes()?,
                (2, Len) => r.value = wire.bytes()?,
                (3, Varint) => r.lease = wire.varint()? as i64,
                (4, Varint) => r.prev_kv = wire.boolean()?,
                (5, Varint) => r.ignore_value = wire.boolean()?,
                (6, Varint) => r.ignore_lease = wire.boolean()?,
                _ => wire.skip_unless(field.0 <= 6, field)?,
            }
        }
        Ok(r)
    }

    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        put_bytes_field(out, 1, self.key);
        put_bytes_field(out, 2, self.value);
        put_int_field(out, 3, self.lease);
        put_bool_field(out, 4, self.prev_kv);
        put_bool_field(out, 5, self.ignore_value);
        put_bool_field(out, 6, self.ignore_lease);
    }
}

/// `etcdserverpb.DeleteRangeRequest`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "etcd's fields by etcd's names")]
pub struct DeleteRangeRequest<'a> {
    pub key: &'a [u8],
    pub range_end: &'a [u8],
    pub prev_kv: bool,
}

impl<'a> DeleteRangeRequest<'a> {
    /// Reads a whole message.
    ///
    /// # Errors
    /// Any kind but `Split` and `TooDeep`.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::read_from(Wire::new(bytes))
    }

    pub(super) fn read_from(mut wire: Wire<'a>) -> Result<Self, Malformed> {
        let mut r = DeleteRangeRequest::default();
        while let Some(field) = wire.tag()? {
            match field {
                (1, Len) => r.key = wire.bytes()?,
                (2, Len) => r.range_end = wire.bytes()?,
                (3, Varint) => r.prev_kv = wire.boolean()?,
                _ => wire.skip_unless(field.0 <= 3, field)?,
            }
        }
        Ok(r)
    }

    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        put_bytes_field(out, 1, self.key);
        put_bytes_field(out, 2, self.range_end);
        put_bool_field(out, 3, self.prev_kv);
    }
}

/// `etcdserverpb.CompactionRequest`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "etcd's fields by etcd's names")]
pub struct CompactionRequest {
    pub revision: i64,
    pub physical: bool,
}

impl CompactionRequest {
    /// Reads a whole message.
    ///
    /// # Errors
    /// Any kind but `Split` and `TooDeep`.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::read_from(Wire::new(bytes))
    }

    pub(super) fn read_from(mut wire: Wire<'_>) -> Result<Self, Malformed> {
        let mut r = CompactionRequest::default();
        while let Some(field) = wire.tag()? {
            match field {
                (1, Varint) => r.revision = wire.varint()? as i64,
                (2, Varint) => r.physical = wire.boolean()?,
                _ => wire.skip_unless(field.0 <= 2, field)?,
            }
        }
        Ok(r)
    }

    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        put_int_field(out, 1, self.revision);
        put_bool_field(out, 2, self.physical);
    }
}
