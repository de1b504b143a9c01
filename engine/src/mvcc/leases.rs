//! The leases of a store: part of what is published, so that keys and what they hang on are always of one moment.

use super::NeedRead;
use super::range::{SliceBound, Visited};
use super::store::{Store, Write};
use crate::lease::{Attached, Change, Grants, GrantsImage, Lease};
use crate::types::LeaseId;

impl Store {
    /// All leases.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Which keys hang on them, unpublished changes included.
    #[must_use]
    pub fn attached(&self) -> &Attached {
        &self.attached
    }

    /// Adds a lease, whose id must be new and not 0.
    pub fn grant(&mut self, lease: Lease) {
        self.grants.insert(lease);
        self.is_dirty = true;
    }

    /// Removes a lease that exists and has no keys any more.
    pub fn end_lease(&mut self, id: LeaseId) {
        assert!(self.attached.count(id) == 0);
        self.grants.remove(id);
        self.is_dirty = true;
    }

    /// Sets what a new leader gives a lease; nothing if it does not exist.
    pub fn checkpoint_lease(&mut self, id: LeaseId, remaining: i64) {
        self.grants.checkpoint(id, remaining);
        self.is_dirty = true;
    }

    /// The leases of a checkpoint or a snapshot, in a store that has none.
    pub fn set_leases(&mut self, leases: GrantsImage) {
        assert!(self.grants.is_empty());
        self.grants = Grants::of(leases);
        self.is_dirty = true;
        self.publish();
    }

    /// Hands over what entries changed since the last time.
    pub fn take_lease_changes(&mut self, into: &mut Vec<Change>) {
        self.grants.take_changes(into);
    }
}

impl Write<'_> {
    /// Deletes the keys of `lease` in byte order. What it does is taken from `left`.
    ///
    /// # Errors
    /// A page must be read first; the keys before are deleted.
    pub fn delete_leased(
        &mut self,
        lease: LeaseId,
        left: &mut SliceBound,
    ) -> Result<Visited, NeedRead> {
        let mut key = Vec::new();
        loop {
            let Some(first) = self.attached().keys_from(lease, &[]).next() else {
                return Ok(Visited::End);
            };
            if left.records == 0 || left.bytes == 0 {
                return Ok(Visited::More);
            }
            key.clear();
            key.extend_from_slice(first);
            let deleted = self.delete(&key)?;
            assert!(deleted.is_some(), "only live keys are attached");
            left.records -= 1;
            left.bytes = left.bytes.saturating_sub(key.len());
        }
    }
}
