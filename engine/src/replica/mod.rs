//! One member's whole machine, still without I/O: inputs in, effects drained.
//!
//! Promises: nothing is answered before it is durable here and on a quorum; what is answered is
//! published; no message leaves before what it promises is durable; after a failed write nothing is
//! acknowledged any more, to clients or members, and who waits is told.
//! Never: a syscall, a clock, a thread. Start at `Replica::turn`; `boot.rs` is how one comes to be.

mod alarm;
mod asks;
mod auto_compaction;
mod boot;
mod checkpoint;
mod confchange;
mod forced;
mod handover;
mod inspect;
mod job;
mod lease;
mod lease_counts;
mod members;
mod notice;
mod parts;
mod proposals;
mod published;
mod read_index;
mod refill;
mod scrub;
mod sending;
mod snapshot_job;
mod turn;
mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;

pub use crate::apply::{Outcome, Refused, Replies};
pub use auto_compaction::AutoCompaction;
pub use boot::{Boot, BootFailed, ReplicaConfig};
pub use checkpoint::{
    BadContent, CheckpointContent, CheckpointFailed, CheckpointImport, CheckpointJob,
};
pub use confchange::BadChange;
pub use inspect::{
    CheckpointRefused, CheckpointReport, Integrity, inspect_checkpoint, inspect_revlog, integrity,
};
pub use job::{Job, JobDone};
pub use lease::{Ask, LeasesJob};
pub use lease_counts::{LEASE_TTL_BUCKETS, LeaseCounts, LeaseTotals};
pub use notice::Notice;
pub use proposals::{Proposals, run_bytes_max};
pub use published::{ClusterView, Counts, Published, ReadGate, Status};
pub use scrub::{ScrubCounts, ScrubJob};
#[cfg(any(test, feature = "fuzzing"))]
pub use snapshot_job::fuzz;
pub use snapshot_job::{SnapshotDone, SnapshotJob};

use crate::apply::{Halt, Machine, Quota};
use crate::disk::{DiskDone, DiskOp, OpId};
use crate::limits::{INBOX_BYTES_MAX, NOTICES_MAX};
use crate::mvcc::{BadSegment, NeedRead, Reader};
use crate::raft::Raft;
use crate::types::{HardState, Index, MemberId, Millis, ReplyTo, Term};
use crate::wal::{Wal, WalFailed};
use alarm::{Alarm, Relief};
use asks::Asks;
use auto_compaction::AutoCompactor;
use handover::{Stall, Transfer};
use lease::Leasing;
use members::{Batch, Change, Forwarded};
use parts::Parts;
use read_index::ReadQueue;
use refill::Refill;
use scrub::Scrubbing;
use sending::Sending;
use waiting::Waiting;

/// One member.
pub struct Replica {
    config: ReplicaConfig,
    raft: Raft,
    wal: Wal,
    machine: Machine,
    reader: Reader,
    published: Arc<Published>,
    /// Taken over and not in the log yet, for want of room there. At most `INBOX_BYTES_MAX`.
    inbox: VecDeque<Batch>,
    inbox_bytes: usize,
    /// Who waits for which entry of the log.
    waiting: Waiting,
    /// Who waits for an entry that another member puts into the log.
    forwarded: Forwarded,
    /// Changes of the members that are not in the log yet. At most `MEMBER_CHANGES_MAX`, and those that wait for an alarm.
    changes: VecDeque<Change>,
    reads: ReadQueue,
    transfer: Option<Transfer>,
    stall: Option<Stall>,
    /// The leader and the term last seen, and since when.
    leader_seen: (Option<MemberId>, Term),
    leader_since: Millis,
    /// Term and vote that the log was last told.
    hard: HardState,
    /// The term in which this leader has proposed a cluster version.
    versioned: Term,
    /// The newest time that was told.
    now: Millis,
    /// Written when the store was full; answered once an alarm is active.
    over_quota: Vec<ReplyTo>,
    /// Physical compactions whose memory is not given back yet: revision, who, encoded answer.
    compacting: VecDeque<(i64, ReplyTo, Vec<u8>)>,
    replies: Replies,
    checkpoint: Checkpointing,
    /// Whether name and client URLs of this start went into the log, and where.
    announced: Announced,
    /// Whether this member has raised its alarm since it last had space.
    alarm: Alarm,
    /// While the alarm is on, with `--auto-disarm`.
    relief: Option<Relief>,
    quota: Quota,
    /// The changes that the published cluster view shows.
    cluster_changes: u64,
    counts: Counts,
    stopping: Stopping,
    /// Whether it goes on alone and has still to remove the others.
    is_forced: bool,
    /// Compacts without being asked, if it is told to.
    compactor: Option<AutoCompactor>,
    leases: Leasing,
    asks: Asks,
    /// Of the compaction that is worked on: when that began, and records dropped before it.
    space_began: Option<(Millis, u64)>,
    /// When compaction goes on, if there is any.
    space_due: Millis,
    /// When the log tries again to get space, while it is short of it.
    space_retry: Option<Millis>,
    /// The part of the key space that the next entry needs and that is not in memory. The next turn tries again.
    parked: Option<NeedRead>,
    parts: Parts,
    scrub: Scrubbing,
    sending: Option<Sending>,
    refill: Refill,
    /// Work on snapshots that nobody has taken yet.
    snapshot_jobs: Vec<SnapshotJob>,
    /// Whether the next entry needs more turns.
    has_more: bool,
    /// At most `NOTICES_MAX`.
    notices: Vec<Notice>,
    failure: Option<Failure>,
}

/// What one turn leaves to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// When to take a turn although nothing happened.
    pub wake: Option<Millis>,
}

/// The inbox is full: the batch stays with the caller, who reads no more until it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much is proposed and not in the log yet")]
pub struct Full;

/// Why a member stopped for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A write of the log.
    #[error(transparent)]
    Wal(#[from] WalFailed),
    /// Records that were written and cannot be read any more.
    #[error("acknowledged data cannot be read: {0}")]
    Records(#[from] BadSegment),
    /// An entry that cannot be applied.
    #[error("the entry at index {index} cannot be applied: {halt}")]
    Entry {
        /// Which.
        index: Index,
        /// Why.
        halt: Halt,
    },
    /// A configuration entry that cannot be applied.
    #[error("the entry at index {index} cannot be applied: {change}")]
    Change {
        /// Which.
        index: Index,
        /// Why.
        change: BadChange,
    },
}

impl Failure {
    /// What clients are told.
    fn refused(&self) -> Refused {
        match self {
            Self::Wal(_) => Refused::DiskFailed,
            Self::Records(_) => Refused::CorruptCluster,
            Self::Entry { .. } | Self::Change { .. } => Refused::Stopped,
        }
    }
}

#[derive(Debug)]
struct Checkpointing {
    /// What the checkpoints' frames carry.
    salt: u64,
    /// The newest durable one.
    last: Index,
    /// The files of the revision log that it names, ascending.
    named: Vec<u64>,
    /// Whether one is being written.
    running: bool,
    /// A job that nobody has taken yet.
    ready: Option<Box<CheckpointJob>>,
    /// Bytes of log when it was begun: all that it covers.
    live: u64,
    /// Bytes of log that the last one covers and that are still there.
    covered: u64,
    /// After a failure: not before this.
    not_before: Millis,
    /// Until then a member that does not serve yet begins none; from the first turn on.
    serves_by: Option<Millis>,
    /// The entry applied last, and when nothing has come behind it for long.
    quiet: (Index, Millis),
    /// Whether a member needs a newer one than the last.
    is_wanted: bool,
}

impl Checkpointing {
    /// None was written since the start, which read that of `last`.
    fn after(last: Index, named: Vec<u64>, salt: u64) -> Self {
        Self {
            salt,
            last,
            named,
            running: false,
            ready: None,
            live: 0,
            covered: 0,
            not_before: Millis(0),
            serves_by: None,
            quiet: (Index(0), Millis(0)),
            is_wanted: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Announced {
    No,
    /// Its last entry, or one behind it.
    InLog(Index),
    /// Forwarded to the leader; asked again then.
    Asked(Millis),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    No,
    /// What was taken over still goes into the log.
    Wanted,
    /// As a leader it waits for another one, until then.
    HandingOver {
        until: Millis,
    },
    /// The log was told to end.
    Sealed,
}

impl Replica {
    fn new(
        config: ReplicaConfig,
        machine: Machine,
        reader: Reader,
        raft: Raft,
        wal: Wal,
        checkpoint: Checkpointing,
    ) -> Self {
        let reads = ReadQueue::new(config.raft.seed);
        let asks = Asks::new(config.raft.seed);
        let hard = wal.durable_hard();
        let scrub = Scrubbing::new(config.scrub_first);
        let mut replica = Self {
            compactor: config.auto_compaction.map(AutoCompactor::new),
            quota: Quota::from_flag(config.quota_bytes),
            config,
            raft,
            wal,
            machine,
            reader,
            published: Arc::default(),
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            waiting: Waiting::default(),
            forwarded: Forwarded::default(),
            changes: VecDeque::new(),
            reads,
            transfer: None,
            stall: None,
            leader_seen: (None, Term(0)),
            leader_since: Millis(0),
            hard,
            versioned: Term(0),
            now: Millis(0),
            over_quota: Vec::new(),
            compacting: VecDeque::new(),
            replies: Replies::default(),
            checkpoint,
            announced: Announced::No,
            alarm: Alarm::Silent,
            relief: None,
            cluster_changes: 0,
            counts: Counts::default(),
            stopping: Stopping::No,
            is_forced: false,
            leases: Leasing::default(),
            asks,
            space_began: None,
            space_due: Millis(0),
            space_retry: None,
            parked: None,
            parts: Parts::default(),
            scrub,
            sending: None,
            refill: Refill::default(),
            snapshot_jobs: Vec::new(),
            has_more: false,
            notices: Vec::new(),
            failure: None,
        };
        replica.look_at_leader();
        replica.publish_cluster();
        replica.publish_status();
        replica
    }

    /// Takes the content of a batch; the batch comes back empty, with room for the next one.
    ///
    /// # Errors
    /// The inbox is full and the batch untouched.
    pub fn propose(&mut self, batch: &mut Proposals) -> Result<(), Full> {
        self.take_asks(&mut batch.asks);
        if batch.is_empty() {
            return Ok(());
        }
        if let Some(refused) = self.refuses() {
            for to in batch.waiters.iter().flatten() {
                self.replies.push(*to, Outcome::Refused(refused));
            }
            self.counts.proposals_failed += batch.len() as u64;
            batch.clear();
            return Ok(());
        }
        // An empty inbox takes any batch.
        if !self.inbox.is_empty() && self.inbox_bytes + batch.bytes_len() > INBOX_BYTES_MAX {
            return Err(Full);
        }
        let empty = Proposals {
            bytes: self.raft.log_mut().take_spent().unwrap_or_default(),
            waiters: self.waiting.take_spent(),
            asks: Vec::new(),
        };
        let proposals = core::mem::replace(batch, empty);
        self.inbox_bytes += proposals.bytes_len();
        self.inbox.push_back(Batch {
            proposals,
            since: self.now,
            only_in: None,
        });
        Ok(())
    }

    /// The next operation on the files, if any. Call until `None`.
    pub fn poll_op(&mut self) -> Option<(OpId, DiskOp)> {
        self.wal.poll_op().or_else(|| self.parts.poll_op())
    }

    /// Hears how such an operation went. Take a turn afterwards.
    pub fn on_disk(&mut self, done: DiskDone) {
        let Some(done) = self.on_read(done) else {
            return;
        };
        match self.wal.on_done(done) {
            Ok(Some(durable)) => self.raft.on_durable(durable),
            Ok(None) => {}
            Err(failed) => self.fail(failed.into()),
        }
    }

    /// Adds work for the background worker to `jobs`.
    pub fn take_jobs(&mut self, jobs: &mut Vec<Job>) {
        jobs.extend(self.wal.take_jobs().into_iter().map(Job::Wal));
        jobs.extend(self.checkpoint.ready.take().map(Job::Checkpoint));
        jobs.extend(self.scrub.take_ready().map(Job::Scrub));
        jobs.extend(self.snapshot_jobs.drain(..).map(Job::Snapshot));
        self.take_lease_jobs(jobs);
    }

    /// Hears that a job is finished. Take a turn afterwards.
    pub fn on_job(&mut self, done: JobDone, now: Millis) {
        match done {
            JobDone::Wal(done) => self.wal.on_job_done(done),
            JobDone::Checkpoint { index, result } => self.on_checkpoint(index, result, now),
            JobDone::Scrub(job) => self.on_scrub(job, now),
            JobDone::Leases { to, answer } => self.replies.push_encoded(to, &answer),
            JobDone::Snapshot(SnapshotDone(done)) => self.on_snapshot_job(done, now),
        }
    }

    /// The answers since they were last taken; the taker clears them, or swaps in an empty one.
    pub fn replies(&mut self) -> &mut Replies {
        &mut self.replies
    }

    /// Takes what happened since the last time.
    pub fn take_notices(&mut self, into: &mut Vec<Notice>) {
        into.append(&mut self.notices);
    }

    /// Nobody who takes them is ever `NOTICES_MAX` behind.
    fn notice(&mut self, notice: Notice) {
        if self.notices.len() < NOTICES_MAX {
            self.notices.push(notice);
        }
    }

    /// What other threads may know.
    #[must_use]
    pub fn published(&self) -> &Arc<Published> {
        &self.published
    }

    /// A reader of the key space, to be cloned for each thread.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The consensus part, for the simulator's checkers.
    #[cfg(feature = "probing")]
    #[must_use]
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The replicated state, for the simulator's checkers.
    #[cfg(feature = "probing")]
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The store's revision that readers see.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.machine.store().published_revision()
    }

    /// Begins to stop: what was taken over is still answered, new proposals are refused, and the log
    /// is sealed. Go on taking turns until `is_stopped`.
    pub fn stop(&mut self) {
        if self.stopping == Stopping::No {
            self.stopping = Stopping::Wanted;
        }
        self.published.read_gate().set(false);
    }

    /// Whether nothing is left to wait for. Ask after a turn.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let is_sealed = self.stopping == Stopping::Sealed && self.wal.is_idle();
        self.failure.is_some()
            || self.is_refilled()
            || (is_sealed && self.raft.log().next_to_apply().is_none())
    }

    /// Why it acknowledges nothing more, if so.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Parts of files that came into memory since the start.
    #[must_use]
    pub fn parts_read(&self) -> u64 {
        self.parts.done
    }

    /// Why proposals are refused now, if they are.
    fn refuses(&self) -> Option<Refused> {
        match &self.failure {
            Some(failure) => Some(failure.refused()),
            None if self.stopping != Stopping::No || self.refill.is_switching() => {
                Some(Refused::Stopped)
            }
            None => None,
        }
    }

    /// Stops for good and tells everybody who waits.
    fn fail(&mut self, failure: Failure) {
        if self.failure.is_some() {
            return;
        }
        self.failure = Some(failure);
        self.raft.resign();
        self.published.read_gate().set(false);
        let refused = Outcome::Refused(self.refuses().unwrap_or(Refused::Stopped));
        self.refuse_all(refused);
        self.publish_status();
    }

    /// Tells everybody who waits for anything.
    fn refuse_all(&mut self, refused: Outcome) {
        let Self {
            waiting,
            forwarded,
            inbox,
            changes,
            reads,
            over_quota,
            compacting,
            replies,
            counts,
            ..
        } = self;
        reads.drain(&mut |to| replies.push(to, refused));
        if let Some(to) = self.transfer.take() {
            replies.push(to.reply(), refused);
        }
        let mut refuse = |to| {
            replies.push(to, refused);
            counts.proposals_failed += 1;
        };
        waiting.drain(&mut refuse);
        forwarded.drain(&mut refuse);
        let unlogged = inbox.drain(..).flat_map(|batch| batch.proposals.waiters);
        unlogged.flatten().for_each(&mut refuse);
        let changes = changes.drain(..).filter_map(|change| change.reply());
        changes.for_each(&mut refuse);
        over_quota.drain(..).for_each(&mut refuse);
        compacting.drain(..).for_each(|(_, to, _)| refuse(to));
        self.inbox_bytes = 0;
        self.fail_asks(self.refuses().unwrap_or(Refused::Stopped));
    }
}

#[cfg(test)]
mod tests;
