//! What happened that an operator may want to read of. The core has no log; whoever drives it writes the lines.

use super::auto_compaction::AutoCompaction;
use crate::mvcc::{BadSegment, Sizes};
use crate::types::{Index, MemberId, Millis};

/// One event, for [`super::Replica::take_notices`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// This leader proposed a compaction by itself.
    AutoCompactionBegan {
        /// Why.
        rule: AutoCompaction,
        /// Where.
        revision: i64,
    },
    /// It is in force, or somebody else's at or above its revision is.
    AutoCompactionDone {
        /// Why it was made.
        rule: AutoCompaction,
        /// Where.
        revision: i64,
        /// Since it was proposed.
        took: Millis,
    },
    /// It was given up and will be tried again.
    AutoCompactionFailed {
        /// Why it was made.
        rule: AutoCompaction,
        /// Where.
        revision: i64,
        /// When the next one is tried.
        retry_interval: Millis,
        /// Whether a CORRUPT alarm refuses it; else it took too long.
        is_corrupt: bool,
    },
    /// The scrub found what is not as it was written. The member goes on until a read needs it.
    Damaged(BadSegment),
    /// The NOSPACE alarm of this member is on its way out, as there is room again.
    AlarmLifted {
        /// Bytes of data now.
        used: u64,
    },
    /// What this member needs next the leader's log does not hold any more: its snapshot comes.
    SnapshotBegan {
        /// The leader.
        from: MemberId,
        /// The last entry that it covers.
        index: Index,
    },
    /// It could not be written, or is not what it should be; another try follows.
    SnapshotFailed {
        /// The last entry that it covers.
        index: Index,
    },
    /// The space of all compactions up to a revision is given back.
    CompactionFinished {
        /// Up to which.
        revision: i64,
        /// Since the work began, in this process.
        took: Millis,
        /// Records that it dropped.
        records: u64,
        /// The compaction's hash, if it is remembered.
        hash: Option<u32>,
        /// The store's sizes now.
        sizes: Sizes,
    },
}
