//! THE place where state changes.
//!
//! Promises: the same entries make the same state and the same answers on every member; a refused
//! command leaves no trace; an entry that answers `NeedRead` can be applied again and ends as if it
//! never had. Never: a clock, a random number, a file, or a word about terms and logs beyond the
//! entry's own. Start at `Machine::apply`.

mod ahead;
mod alarm;
mod compaction;
mod delete;
mod kv;
mod lease;
#[cfg(any(test, feature = "fuzzing"))]
pub mod lease_model;
mod member;
mod meta;
mod quota;
mod reply;
mod txn;
mod txn_job;

use basalt_pb::hot;

pub use alarm::Alarms;
pub use member::MemberChange;
pub use meta::{BadMeta, Meta};
pub use quota::{QUOTA_BYTES_DEFAULT, Quota, put_cost};
pub use reply::{Outcome, Refused, Replies};

use crate::command::{Command, Unreadable};
use crate::limits::LEASE_BYTES;
use crate::member::{Members, Release};
use crate::mvcc::{NeedRead, SliceBound, Store};
use crate::types::{ClusterId, Index, MemberId, Term};

/// The replicated state: what all members share at one index.
pub struct Machine {
    /// Whose answers these are. Not part of the state.
    cluster: ClusterId,
    me: MemberId,
    store: Store,
    members: Members,
    alarms: Alarms,
    cluster_version: Option<Release>,
    quota: Quota,
    /// The last entry applied, whatever it was.
    applied: (Index, Term),
    /// Counts changes of members, alarms and versions, so that copies are made only then.
    cluster_changes: u64,
    txn: txn::Scratch,
    /// The entry after `applied`, if it was begun.
    job: Option<Job>,
    /// What entries of many records may still do before the next `begin_slice`.
    slice: SliceBound,
    /// What `slice` was at that moment.
    whole_slice: SliceBound,
    counts: Counts,
}

/// An entry that is applied in part.
#[derive(Debug)]
enum Job {
    Delete(delete::DeleteJob),
    Txn(Box<txn_job::TxnJob>),
    Revoke(lease::RevokeJob),
}

/// What this process has applied since it started, replay included. Not part of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Puts, those inside transactions too.
    pub puts: u64,
    /// DeleteRange requests, those inside transactions too.
    pub deletes: u64,
    /// Ranges inside transactions.
    pub ranges: u64,
    /// Transactions of more than one operation.
    pub txns: u64,
    /// Bytes of the keys and values that were put.
    pub put_bytes: u64,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Answer this.
    Done(Outcome),
    /// It is written, but the store was full: answer `NoSpace` once a NOSPACE alarm is active.
    WrittenWithoutSpace,
    /// A physical compaction: answer this once the store has finished it.
    Compacting {
        /// The revision compacted at.
        revision: i64,
        /// The answer, encoded.
        outcome: Outcome,
    },
}

/// Why an entry cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// Apply it again when this is in memory. It may be done in part, which nobody may see.
    #[error("a segment must be read first")]
    NeedRead(NeedRead),
    /// The slice is used up: apply it again after the next `begin_slice`. It may be done in part,
    /// which nobody may see.
    #[error("there is more to do")]
    More,
    /// The log is not this release's, or damaged: the member must stop.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl From<NeedRead> for Halt {
    fn from(need: NeedRead) -> Self {
        Self::NeedRead(need)
    }
}

impl From<Refused> for Applied {
    fn from(refused: Refused) -> Self {
        Self::Done(Outcome::Refused(refused))
    }
}

impl Machine {
    /// The state of a cluster that has no member yet.
    #[must_use]
    pub fn new(cluster: ClusterId, me: MemberId, quota: Quota, store: Store) -> Self {
        Self {
            cluster,
            me,
            store,
            members: Members::default(),
            alarms: Alarms::default(),
            cluster_version: None,
            quota,
            applied: (Index(0), Term(0)),
            cluster_changes: 0,
            txn: txn::Scratch::default(),
            job: None,
            slice: SliceBound::NONE,
            whole_slice: SliceBound::NONE,
            counts: Counts::default(),
        }
    }

    /// Applies the entry at `index`, the one after the last. Answers are appended to `out`; an
    /// outcome's range lies behind what was there.
    ///
    /// # Errors
    /// See [`Halt`]; `out` is as it was, and so is the state unless `is_mid_entry` says that there is more to do.
    #[inline]
    pub fn apply(
        &mut self,
        index: Index,
        term: Term,
        entry: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Applied, Halt> {
        assert!(index == self.applied.0.next());
        assert!(term >= self.applied.1);
        let start = out.len();
        let applied = match Command::read(entry) {
            Ok((_, command)) => self.dispatch(&command, (index, term), out),
            // Every member sees the same bytes, so refusing them is as deterministic as applying.
            Err(Unreadable::Body) => Ok(Refused::Malformed.into()),
            Err(unreadable) => return Err(unreadable.into()),
        };
        match applied {
            Ok(applied) => {
                assert!(self.job.is_none());
                self.applied = (index, term);
                Ok(applied)
            }
            Err(halt) => {
                out.truncate(start);
                Err(halt)
            }
        }
    }

    /// Lets entries of many records do this much from now on, all together, and no more; without a
    /// call there is no bound. What one entry does with one key is not counted.
    pub fn begin_slice(&mut self, bound: SliceBound) {
        self.slice = bound;
        self.whole_slice = bound;
    }

    /// Whether an entry is applied in part: nothing may be published, nor the store changed or saved.
    #[must_use]
    pub fn is_mid_entry(&self) -> bool {
        match &self.job {
            Some(Job::Delete(job)) => job.has_changed(),
            Some(Job::Txn(job)) => job.has_changed(),
            Some(Job::Revoke(job)) => job.has_changed(),
            None => false,
        }
    }

    /// Whether the next entry goes on where it stopped when it is applied again, and does not begin anew.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.job.is_some()
    }

    fn dispatch(
        &mut self,
        command: &Command<'_>,
        (index, term): (Index, Term),
        out: &mut Vec<u8>,
    ) -> Result<Applied, Halt> {
        if let Some(refused) = self.gate(command) {
            return Ok(refused.into());
        }
        match command {
            Command::Empty => Ok(NOTHING),
            Command::Put(request) => Ok(self.put(request, term, out)?),
            Command::DeleteRange(request) => self.delete_range(request, term, out),
            Command::Txn(request) => self.txn(request, term, out),
            Command::Compaction(request) => Ok(self.compact(*request, term, out)),
            Command::LeaseGrant(request) => Ok(self.lease_grant(index, request, term, out)),
            Command::LeaseRevoke(revoke) => self.lease_revoke(revoke, term, out),
            Command::LeaseCheckpoint(request) => Ok(self.lease_checkpoint(request)),
            Command::Alarm(request) => Ok(self.alarm(request, term, out)),
            Command::ClusterVersionSet(request) => Ok(self.set_cluster_version(request)),
            Command::ClusterMemberAttrSet(request) => Ok(self.set_member_attributes(request)),
        }
    }

    /// The refusals that come before a command is looked at, in etcd's order.
    fn gate(&self, command: &Command<'_>) -> Option<Refused> {
        if self.alarms.is_empty() {
            return None;
        }
        let (writes, cost) = match command {
            Command::Put(request) => (true, quota::put_cost(request)),
            Command::Txn(request) => (true, quota::txn_cost(request)),
            Command::LeaseGrant(_) => (true, LEASE_BYTES),
            Command::DeleteRange(_) | Command::Compaction(_) | Command::LeaseRevoke(_) => (true, 0),
            Command::Empty
            | Command::Alarm(_)
            | Command::LeaseCheckpoint(_)
            | Command::ClusterVersionSet(_)
            | Command::ClusterMemberAttrSet(_) => (false, 0),
        };
        if writes && self.alarms.is_corrupt() {
            Some(Refused::CorruptCluster)
        } else if cost > 0 && self.alarms.is_no_space() {
            Some(Refused::NoSpace)
        } else {
            None
        }
    }

    /// Appends a whole answer: the header, then what `body` writes.
    fn answer(
        &self,
        revision: i64,
        term: Term,
        out: &mut Vec<u8>,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Outcome {
        let start = out.len();
        hot::write_header(out, &self.header(revision, term));
        body(out);
        Outcome::Encoded {
            start,
            end: out.len(),
        }
    }

    fn header(&self, revision: i64, term: Term) -> hot::Header {
        hot::Header {
            cluster_id: self.cluster.0,
            member_id: self.me.0,
            revision,
            raft_term: term.0,
        }
    }

    /// The last entry applied and its term.
    #[must_use]
    pub fn applied(&self) -> (Index, Term) {
        self.applied
    }

    /// The key space.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The key space, for what changes no content: publishing, giving memory back.
    pub fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    /// The members.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The active alarms.
    #[must_use]
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// The version that the leader decided for all.
    #[must_use]
    pub fn cluster_version(&self) -> Option<Release> {
        self.cluster_version
    }

    /// What was applied, in numbers.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Grows whenever members, alarms or the cluster version change.
    #[must_use]
    pub fn cluster_changes(&self) -> u64 {
        self.cluster_changes
    }
}

/// The answer of commands that nobody asks.
const NOTHING: Applied = Applied::Done(Outcome::Encoded { start: 0, end: 0 });

#[cfg(test)]
mod tests;
