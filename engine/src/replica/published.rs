//! What other threads may know of a member without asking it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use basalt_pb::etcdserverpb;

use super::ScrubCounts;
use super::lease_counts::LeaseCounts;
use crate::apply::{self, Refused};
use crate::types::{Index, MemberId, Term};

/// Says whether a linearizable read may use the newest published view at once: this member leads
/// alone, an entry of its own term is applied, and everything acknowledged is published.
#[derive(Debug, Default)]
pub struct ReadGate {
    free: AtomicBool,
}

impl ReadGate {
    /// Whether a linearizable read is free now. Ask before pinning the view.
    #[must_use]
    pub fn is_free(&self) -> bool {
        // Pairs with the store in `set`: who sees it open also sees the view published before.
        self.free.load(Ordering::Acquire)
    }

    /// Publishes.
    pub fn set(&self, free: bool) {
        self.free.store(free, Ordering::Release);
    }
}

/// A member's own view of itself. Fields may stem from neighbouring turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The leader, if one is known.
    pub leader: Option<MemberId>,
    /// The term this member is in.
    pub raft_term: Term,
    /// Highest committed index; etcd calls it raftIndex.
    pub committed: Index,
    /// Highest applied index.
    pub applied: Index,
    /// The term of the entry at `applied`: what response headers carry.
    pub applied_term: Term,
    /// Bytes allocated for the store; never 0, which etcdctl would divide by.
    pub db_size: u64,
    /// Bytes of `db_size` that hold data.
    pub db_size_in_use: u64,
    /// Whether this member has no vote.
    pub is_learner: bool,
    /// Whether this start's name and client URLs are applied: the member serves.
    pub is_ready: bool,
    /// What whoever still waits is told, once this member has stopped for good.
    pub failed: Option<Refused>,
}

/// Numbers for the metrics; they only grow, but for `proposals_pending` and `cache_bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// What was applied.
    pub applied: apply::Counts,
    /// How often this member has seen a leader begin.
    pub leader_changes: u64,
    /// Proposals that were refused before or instead of being applied.
    pub proposals_failed: u64,
    /// Proposals taken over that are not applied yet.
    pub proposals_pending: u64,
    /// Frames and pages that were read back because something was not in memory.
    pub cache_reads: u64,
    /// Bytes in memory that could be read back: records and leaves of the index.
    pub cache_bytes: u64,
    /// What the scrub has done.
    pub scrub: ScrubCounts,
}

/// [`Counts`] as other threads see them. Each stands for itself, so no order is needed.
#[derive(Debug, Default)]
struct AtomicCounts {
    puts: AtomicU64,
    deletes: AtomicU64,
    ranges: AtomicU64,
    txns: AtomicU64,
    put_bytes: AtomicU64,
    leader_changes: AtomicU64,
    proposals_failed: AtomicU64,
    proposals_pending: AtomicU64,
    cache_reads: AtomicU64,
    cache_bytes: AtomicU64,
    scrub_bytes: AtomicU64,
    scrub_passes: AtomicU64,
    scrub_damages: AtomicU64,
}

/// Members, alarms and versions: changes rarely, so readers take a counted copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterView {
    /// By ascending id.
    pub members: Vec<etcdserverpb::Member>,
    /// Ids that never come back.
    pub removed: Vec<MemberId>,
    /// Active alarms by member, then by `AlarmType` number.
    pub alarms: Vec<(MemberId, i32)>,
    /// `3.7.0`; `None` before the leader decided.
    pub cluster_version: Option<String>,
}

/// The published copies. The replica writes them once a turn, any thread reads.
#[derive(Debug, Default)]
pub struct Published {
    gate: ReadGate,
    leader: AtomicU64,
    raft_term: AtomicU64,
    committed: AtomicU64,
    applied: AtomicU64,
    applied_term: AtomicU64,
    db_size: AtomicU64,
    db_size_in_use: AtomicU64,
    is_learner: AtomicBool,
    is_ready: AtomicBool,
    /// 0, or one more than the place in `FAILED`.
    failed: AtomicU8,
    counts: AtomicCounts,
    leases: LeaseCounts,
    cluster: Mutex<Arc<ClusterView>>,
}

impl Published {
    /// The gate of linearizable reads.
    #[must_use]
    pub fn read_gate(&self) -> &ReadGate {
        &self.gate
    }

    /// The newest published state.
    #[must_use]
    pub fn status(&self) -> Status {
        let leader = self.leader.load(Ordering::Acquire);
        Status {
            leader: (leader != 0).then_some(MemberId(leader)),
            raft_term: Term(self.raft_term.load(Ordering::Acquire)),
            // applied before committed, so that applied <= committed holds in the copy too.
            applied: Index(self.applied.load(Ordering::Acquire)),
            applied_term: Term(self.applied_term.load(Ordering::Acquire)),
            committed: Index(self.committed.load(Ordering::Acquire)),
            db_size: self.db_size.load(Ordering::Acquire),
            db_size_in_use: self.db_size_in_use.load(Ordering::Acquire),
            is_learner: self.is_learner.load(Ordering::Acquire),
            is_ready: self.is_ready.load(Ordering::Acquire),
            failed: match self.failed.load(Ordering::Acquire) {
                0 => None,
                place => FAILED.get(usize::from(place) - 1).copied(),
            },
        }
    }

    /// The term that response headers of reads carry.
    #[must_use]
    pub fn applied_term(&self) -> Term {
        Term(self.applied_term.load(Ordering::Acquire))
    }

    /// Numbers for the metrics.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            applied: apply::Counts {
                puts: load(&self.counts.puts),
                deletes: load(&self.counts.deletes),
                ranges: load(&self.counts.ranges),
                txns: load(&self.counts.txns),
                put_bytes: load(&self.counts.put_bytes),
            },
            leader_changes: load(&self.counts.leader_changes),
            proposals_failed: load(&self.counts.proposals_failed),
            proposals_pending: load(&self.counts.proposals_pending),
            cache_reads: load(&self.counts.cache_reads),
            cache_bytes: load(&self.counts.cache_bytes),
            scrub: ScrubCounts {
                bytes: load(&self.counts.scrub_bytes),
                passes: load(&self.counts.scrub_passes),
                damages: load(&self.counts.scrub_damages),
            },
        }
    }

    /// Publishes.
    pub fn set_counts(&self, counts: Counts) {
        let store = |to: &AtomicU64, count| to.store(count, Ordering::Relaxed);
        store(&self.counts.puts, counts.applied.puts);
        store(&self.counts.deletes, counts.applied.deletes);
        store(&self.counts.ranges, counts.applied.ranges);
        store(&self.counts.txns, counts.applied.txns);
        store(&self.counts.put_bytes, counts.applied.put_bytes);
        store(&self.counts.leader_changes, counts.leader_changes);
        store(&self.counts.proposals_failed, counts.proposals_failed);
        store(&self.counts.proposals_pending, counts.proposals_pending);
        store(&self.counts.cache_reads, counts.cache_reads);
        store(&self.counts.cache_bytes, counts.cache_bytes);
        store(&self.counts.scrub_bytes, counts.scrub.bytes);
        store(&self.counts.scrub_passes, counts.scrub.passes);
        store(&self.counts.scrub_damages, counts.scrub.damages);
    }

    /// What became of leases.
    #[must_use]
    pub fn leases(&self) -> &LeaseCounts {
        &self.leases
    }

    /// Members, alarms, versions. Takes a lock for the time of one counter.
    #[must_use]
    pub fn cluster(&self) -> Arc<ClusterView> {
        let guard = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&guard)
    }

    /// Publishes.
    pub fn set_status(&self, status: Status) {
        let leader = status.leader.map_or(0, |id| id.0);
        self.leader.store(leader, Ordering::Release);
        self.raft_term.store(status.raft_term.0, Ordering::Release);
        // committed before applied: see `status`.
        self.committed.store(status.committed.0, Ordering::Release);
        self.applied_term
            .store(status.applied_term.0, Ordering::Release);
        self.applied.store(status.applied.0, Ordering::Release);
        self.db_size.store(status.db_size, Ordering::Release);
        self.db_size_in_use
            .store(status.db_size_in_use, Ordering::Release);
        self.is_learner.store(status.is_learner, Ordering::Release);
        self.is_ready.store(status.is_ready, Ordering::Release);
        let place = FAILED.iter().position(|it| Some(*it) == status.failed);
        let place = place.map_or(0, |place| u8::try_from(place + 1).expect("a few"));
        self.failed.store(place, Ordering::Release);
    }

    /// Publishes.
    pub fn set_cluster(&self, view: ClusterView) {
        let mut guard = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        *guard = Arc::new(view);
    }
}

/// What a member that has stopped for good answers.
const FAILED: [Refused; 3] = [
    Refused::Stopped,
    Refused::DiskFailed,
    Refused::CorruptCluster,
];
