//! Leases as the log knows them. When one ends is not decided here: the leader proposes it.

use basalt_pb::etcdserverpb::{LeaseCheckpointRequest, LeaseGrantRequest};
use basalt_pb::hot;

use super::{Applied, Halt, Job, Machine, NOTHING, Outcome, Refused};
use crate::command::{Fence, LeaseRevoke};
use crate::lease::{Change, Lease};
use crate::limits::{APPLY_RECORDS_A_DELETE, LEASE_BYTES, LEASE_TTL_MAX, LEASES_MAX};
use crate::mutant::{Mutant, is_on};
use crate::mvcc::{SliceBound, Visited};
use crate::types::{Index, LeaseId, Term};

/// A revoke that is not finished.
#[derive(Debug, Default)]
pub(super) struct RevokeJob {
    /// Keys deleted so far, which are the changes of its transaction.
    deleted: u32,
}

impl Machine {
    /// Whether a key may be attached to `lease`. 0 is no lease.
    #[inline]
    pub(super) fn has_lease(&self, lease: LeaseId) -> bool {
        lease == LeaseId(0) || self.store.grants().get(lease).is_some()
    }

    /// The entry at `index` grants a lease. The proposer has drawn the id and raised the time to live.
    pub(super) fn lease_grant(
        &mut self,
        index: Index,
        request: &LeaseGrantRequest,
        term: Term,
        out: &mut Vec<u8>,
    ) -> Applied {
        let (id, ttl) = (LeaseId(request.id), request.ttl);
        let grants = self.store.grants();
        let refused = if id == LeaseId(0) {
            Some(Refused::LeaseNotFound)
        } else if ttl > LEASE_TTL_MAX {
            Some(Refused::LeaseTtlTooLarge)
        } else if grants.get(id).is_some() {
            Some(Refused::LeaseExists)
        } else if grants.len() >= LEASES_MAX {
            Some(Refused::TooManyRequests)
        } else {
            None
        };
        if let Some(refused) = refused {
            return refused.into();
        }
        let used = self.store.sizes().in_use;
        let has_space = self.quota.allows(LEASE_BYTES, used);
        self.store.grant(Lease {
            id,
            ttl,
            remaining: 0,
            generation: index.0,
        });
        if !has_space {
            return Applied::WrittenWithoutSpace;
        }
        Applied::Done(self.answer(self.store.revision(), term, out, |out| {
            hot::put_int_field(out, 2, id.0);
            hot::put_int_field(out, 3, ttl);
        }))
    }

    /// Deletes the keys of a lease, in one revision, and the lease.
    pub(super) fn lease_revoke(
        &mut self,
        revoke: &LeaseRevoke,
        term: Term,
        out: &mut Vec<u8>,
    ) -> Result<Applied, Halt> {
        let id = revoke.id;
        let is_current = self.store.grants().get(id).is_some_and(|(_, lease)| {
            let generation = lease.generation;
            let holds = |fence: Fence| {
                is_on(Mutant::ExpireForEver)
                    || (fence.term == term && fence.generation == generation)
            };
            revoke.fence.is_none_or(holds)
        });
        if !is_current {
            return Ok(Refused::LeaseNotFound.into());
        }
        let mut job = match self.job.take() {
            Some(Job::Revoke(job)) => job,
            None => RevokeJob::default(),
            Some(Job::Delete(_) | Job::Txn(_)) => unreachable!("the entry is the same"),
        };
        if !job.has_changed() {
            self.begin_revoke(id)?;
        }
        let mut write = self.store.resume(job.deleted);
        let mut left = SliceBound {
            records: self.slice.records / APPLY_RECORDS_A_DELETE,
            bytes: self.slice.bytes,
        };
        let before = left.records;
        let visited = write.delete_leased(id, &mut left);
        let deleted = before - left.records;
        job.deleted += u32::try_from(deleted).expect("a slice is short");
        // A lease without keys is some work too.
        let used = deleted.max(1) * APPLY_RECORDS_A_DELETE;
        self.slice.records = self.slice.records.saturating_sub(used);
        self.slice.bytes = left.bytes;
        let halt = match visited {
            Ok(Visited::End) => None,
            Ok(Visited::More | Visited::Stopped) => Some(Halt::More),
            Err(need) => Some(need.into()),
        };
        if let Some(halt) = halt {
            assert!(write.pause() == job.deleted);
            self.job = Some(Job::Revoke(job));
            return Err(halt);
        }
        let revision = write.finish();
        self.store.end_lease(id);
        Ok(Applied::Done(self.answer(revision, term, out, |_| {})))
    }

    /// A lease of few keys waits for a slice that has room for all of them. One of many is deleted over several turns, and what is
    /// applied already is answered at the end of this one, so readers must see it now: nothing can be published between here
    /// and the last deletion.
    fn begin_revoke(&mut self, id: LeaseId) -> Result<(), Halt> {
        let room = |bound: &SliceBound| bound.records / APPLY_RECORDS_A_DELETE;
        let whole = self.whole_slice;
        if self.slice.records < APPLY_RECORDS_A_DELETE || self.slice.bytes == 0 {
            return Err(Halt::More);
        }
        let attached = self.store.attached();
        let keys = attached.count(id);
        let bytes: usize = match keys <= room(&whole) {
            true => attached.keys_from(id, &[]).map(<[u8]>::len).sum(),
            false => 0,
        };
        if keys <= room(&self.slice) && bytes <= self.slice.bytes {
            Ok(())
        } else if keys <= room(&whole) && bytes <= whole.bytes {
            Err(Halt::More)
        } else {
            self.store.publish();
            Ok(())
        }
    }

    /// What is left of leases, as a leader has counted it. Leases that are gone meanwhile are left out.
    pub(super) fn lease_checkpoint(&mut self, request: &LeaseCheckpointRequest) -> Applied {
        for checkpoint in &request.checkpoints {
            let remaining = checkpoint.remaining_ttl;
            self.store
                .checkpoint_lease(LeaseId(checkpoint.id), remaining);
        }
        NOTHING
    }

    /// Hands over what entries changed of the leases since the last time.
    pub fn take_lease_changes(&mut self, into: &mut Vec<Change>) {
        self.store.take_lease_changes(into);
    }

    /// An answer to what is no entry, in the term of the last one: the header, then what `body` writes.
    pub fn answer_now(
        &self,
        revision: i64,
        out: &mut Vec<u8>,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Outcome {
        self.answer(revision, self.applied.1, out, body)
    }
}

impl RevokeJob {
    /// Whether the store holds a part of it, which must not be published.
    pub(super) fn has_changed(&self) -> bool {
        self.deleted > 0
    }
}
