//! Why a data directory or a running log is not used: what, where, and what to do about it.

use crate::disk::{DiskError, File, Name, Site};
use crate::types::{ClusterId, Index, MemberId};

/// A data directory that is not started from. Nothing in it was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// The disk failed while reading or repairing.
    #[error("{0}; check the disk and the permissions, then start again")]
    Disk(#[from] DiskError),
    /// The directory is an etcd member's.
    #[error(
        "member/{name} belongs to etcd; basalt does not read or change it: give another --data-dir, and move the data with \
         `etcdctl snapshot save` and `basalt restore`"
    )]
    Etcd {
        /// The telling name.
        name: String,
    },
    /// Something else lives here.
    #[error(
        "member/{name} is not basalt's and there is no member/BASALT; give an empty --data-dir"
    )]
    Foreign {
        /// The first unknown name.
        name: String,
    },
    /// A release with another format wrote the directory.
    #[error(
        "member/{file} has format {found}, this release reads format {known}; start the release that wrote it"
    )]
    OtherFormat {
        /// Where it stands.
        file: File,
        /// What is there.
        found: u32,
        /// What this release knows.
        known: u32,
    },
    /// The archives in the directory have another layout.
    #[error(
        "member/{file} was written with other archive features ({found}); start the release that wrote it"
    )]
    OtherFeatures {
        /// Where it stands.
        file: File,
        /// What is there.
        found: String,
    },
    /// Data without a superblock.
    #[error(
        "member/BASALT and member/BASALT.copy are missing, but member/{name} is there; put them back, or restore the \
         directory from a backup"
    )]
    SuperblocksMissing {
        /// A file that shows that there was data.
        name: String,
    },
    /// No copy of the superblock is whole.
    #[error(
        "member/BASALT and member/BASALT.copy are both damaged or missing; restore the directory from a backup"
    )]
    SuperblocksDamaged,
    /// Two whole superblocks of different members.
    #[error(
        "member/BASALT and member/BASALT.copy belong to different members; put the right pair back"
    )]
    SuperblocksDisagree,
    /// The directory belongs to somebody else.
    #[error(
        "the data belongs to member {:x} of cluster {:x}, but the configuration names member {:x} of cluster {:x}; give \
         that member's --data-dir, or correct --name and the initial cluster",
        found.1.0, found.0.0, expected.1.0, expected.0.0
    )]
    OtherMember {
        /// Whose it is.
        found: (ClusterId, MemberId),
        /// Whose it should be.
        expected: (ClusterId, MemberId),
    },
    /// A directory was to be made where one is.
    #[error("the data directory is not empty; nothing was changed")]
    NotEmpty,
    /// Making the directory from a snapshot was not finished: what should be in it is not.
    #[error(
        "a restore into this directory was interrupted; remove the directory and restore the snapshot again"
    )]
    Unfinished,
    /// A file of the log or the checkpoint is not there.
    #[error("member/{file} is missing; put it back, or restore the directory from a backup")]
    Missing {
        /// Which.
        file: File,
    },
    /// A file has another length than it was given.
    #[error(
        "member/{file} has {bytes} bytes and should have {expected}; restore the directory from a backup"
    )]
    Length {
        /// Which.
        file: File,
        /// What it has.
        bytes: u64,
        /// What it should have.
        expected: u64,
    },
    /// Bytes that were promised have changed or gone.
    #[error("member/{file} at byte {offset}: {what}; {ADVICE}")]
    Rotten {
        /// Where.
        file: File,
        /// The byte at which it shows.
        offset: u64,
        /// What is wrong.
        what: Rot,
    },
}

const ADVICE: &str = "restore the directory from a backup or copy it away for inspection; --accept-data-loss starts with \
                      what lies before this place";

/// What is wrong with promised bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rot {
    /// The place where the next frame's header belongs holds something that was not left there by this log.
    #[error("the header of frame {sequence} is changed")]
    Header {
        /// The frame.
        sequence: u64,
    },
    /// All sectors of the frame are there and its body is not what was written.
    #[error("the body of frame {sequence} is changed")]
    Body {
        /// The frame.
        sequence: u64,
    },
    /// The frame is not whole, but a later one exists, so it was promised.
    #[error(
        "frame {sequence} is gone or not whole, but frame {later} was written after it (at byte {at} of {in_file})"
    )]
    Followed {
        /// The missing frame.
        sequence: u64,
        /// The frame that follows.
        later: u64,
        /// Where the later one shows.
        in_file: File,
        /// The byte there.
        at: u64,
    },
    /// Sectors of the frame lie where one frame in flight cannot reach.
    #[error("sectors of frame {sequence} lie where it cannot be (byte {at} of {in_file})")]
    Astray {
        /// The frame.
        sequence: u64,
        /// Where they lie.
        in_file: File,
        /// The byte there.
        at: u64,
    },
    /// The log ends before the durable floor.
    #[error("the log ends with frame {sequence}, but frames up to {floor} (index {}) were durable", index.0)]
    BelowFloor {
        /// The last frame.
        sequence: u64,
        /// The floor.
        floor: u64,
        /// The last index at the floor.
        index: Index,
    },
    /// The log ends before an entry it calls committed.
    #[error("the log ends with index {}, but index {} was committed", last.0, commit.0)]
    CommitLost {
        /// The last index.
        last: Index,
        /// The committed one.
        commit: Index,
    },
    /// A whole frame does not continue what is before it.
    #[error("the entries jump from index {} to {}", last.0, first.0)]
    IndexGap {
        /// The last index before.
        last: Index,
        /// The first index of the run.
        first: Index,
    },
    /// A whole frame holds what this release would not write.
    #[error("frame {sequence} is whole but makes no sense at byte {at} of its body")]
    Senseless {
        /// The frame.
        sequence: u64,
        /// The byte of the body.
        at: usize,
    },
    /// A part of a checkpoint is not what was written.
    #[error("chunk {chunk} of the checkpoint is changed")]
    Chunk {
        /// Which, from 0.
        chunk: u64,
    },
    /// The end of a checkpoint is not what was written.
    #[error("the checkpoint's trailer is changed")]
    Trailer,
}

/// The running log stopped for good: a write or a flush failed, and what the disk holds is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the log stopped: {error}; nothing more is acknowledged, restart the member once the disk is sound"
)]
pub struct WalFailed {
    /// What failed: verb, file, offset, errno.
    pub error: DiskError,
}

impl WalFailed {
    /// Where it failed.
    #[must_use]
    pub fn site(&self) -> Site {
        self.error.site
    }
}

/// The length of `file` in a listing.
pub(super) fn length_of(names: &[Name], file: File) -> Option<u64> {
    names
        .iter()
        .find(|name| name.file == Some(file))
        .map(|name| name.bytes)
}
