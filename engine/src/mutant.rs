//! Mistakes that can be switched on, one at a time: they prove that the simulator would see them.
//!
//! Promises: without the feature `mutants` no mistake can be made and asking costs nothing. Only `tests/src/bin/mutants.rs`
//! switches one on, in a process of its own.

/// A mistake. What each does is written where it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mutant {
    /// The leader counts what is not durable on its own disk (M02).
    CommitBeforeDurable = 1,
    /// A follower acknowledges what is not durable on its disk.
    AcknowledgeBeforeDurable,
    /// Messages leave before term and vote are durable.
    SpeakBeforeDurable,
    /// The vote is forgotten at a restart.
    ForgetVote,
    /// The term is forgotten at a restart, but for the log's.
    ForgetTerm,
    /// Everybody who asks gets a vote.
    VoteTwice,
    /// A candidate with an older log gets votes.
    VoteForOlderLog,
    /// Half of the members are a majority.
    HalfIsMajority,
    /// A majority that would vote is taken for one that did.
    PreVoteElects,
    /// A leader does not make way for a newer term.
    LeadForEver,
    /// Copies of older terms' entries commit them (Raft, figure 8).
    CommitOlderTerm,
    /// The entry before new ones is not compared.
    AppendBlindly,
    /// Entries of another term stay where the leader's should be.
    KeepConflicts,
    /// What is behind a repeated entry is cut off.
    CutBehindRepeated,
    /// The leader's commit covers whatever a follower has there.
    CommitUnseen,
    /// Whoever answers a heartbeat has everything.
    HeartbeatAcknowledges,
    /// A read is confirmed by the leader alone (M17).
    ReadAlone,
    /// A new leader answers reads before an entry of its own is committed.
    ReadTooEarly,
    /// A read does not wait until its index is applied.
    ReadUnapplied,
    /// A forwarded proposal that comes twice is executed twice.
    ExecuteTwice,
    /// What is durable is applied, committed or not.
    ApplyUncommitted,
    /// A member's own id is in what it applies (M03).
    ApplyDifferently,
    /// A commit covers what its own frame replaces.
    CommitReplaced,
    /// The commit written with a new term covers what was replaced (M23).
    CommitUnstaged,
    /// After a failed write the log goes on (R2).
    IgnoreFailedWrite,
    /// A damaged log is cut where the damage is.
    CutAtDamage,
    /// The log is released when a checkpoint begins, not when it is durable (M01).
    ReleaseEarly,
    /// A restart forgets the compaction that was not finished (M09).
    ForgetCompaction,
    /// Progress is told although a watcher is behind (M05).
    ProgressAhead,
    /// A watch from a future revision hears of those before it (M06, M15).
    WatchBackInTime,
    /// A synced watcher is told of what it has heard already (M07).
    WatchTwice,
    /// A watcher whose stream is full is not told later (M08).
    ForgetStalled,
    /// A watch from the compacted revision begins behind it (M13).
    SkipCompacted,
    /// A watch from a future revision hears of progress before it (M14).
    ProgressBeforeStart,
    /// A member that leads no more goes on ending leases, and nobody looks at the fence (M18).
    ExpireForEver,
    /// A lease is said to be gone when its time is over, not when that is committed (M19).
    GoneTooEarly,
}

#[cfg(feature = "mutants")]
static ON: core::sync::atomic::AtomicU8 = core::sync::atomic::AtomicU8::new(0);

#[cfg(feature = "mutants")]
impl Mutant {
    /// All of them.
    pub const ALL: [Self; 36] = [
        Self::CommitBeforeDurable,
        Self::AcknowledgeBeforeDurable,
        Self::SpeakBeforeDurable,
        Self::ForgetVote,
        Self::ForgetTerm,
        Self::VoteTwice,
        Self::VoteForOlderLog,
        Self::HalfIsMajority,
        Self::PreVoteElects,
        Self::LeadForEver,
        Self::CommitOlderTerm,
        Self::AppendBlindly,
        Self::KeepConflicts,
        Self::CutBehindRepeated,
        Self::CommitUnseen,
        Self::HeartbeatAcknowledges,
        Self::ReadAlone,
        Self::ReadTooEarly,
        Self::ReadUnapplied,
        Self::ExecuteTwice,
        Self::ApplyUncommitted,
        Self::ApplyDifferently,
        Self::CommitReplaced,
        Self::CommitUnstaged,
        Self::IgnoreFailedWrite,
        Self::CutAtDamage,
        Self::ReleaseEarly,
        Self::ForgetCompaction,
        Self::ProgressAhead,
        Self::WatchBackInTime,
        Self::WatchTwice,
        Self::ForgetStalled,
        Self::SkipCompacted,
        Self::ProgressBeforeStart,
        Self::ExpireForEver,
        Self::GoneTooEarly,
    ];

    /// From now on this process makes this mistake.
    pub fn switch_on(self) {
        ON.store(self as u8, core::sync::atomic::Ordering::Relaxed);
    }
}

/// Whether the mistake is made.
#[cfg(feature = "mutants")]
pub(crate) fn is_on(mutant: Mutant) -> bool {
    ON.load(core::sync::atomic::Ordering::Relaxed) == mutant as u8
}

/// Whether the mistake is made: never in this build.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn is_on(_: Mutant) -> bool {
    false
}
