//! The log on disk as pure data.
//!
//! Promises: an entry reported durable survives a power cut; recovery returns the whole log that was promised, or names
//! the damage and changes nothing; a torn tail that was never promised is cut in silence.
//! Never: a syscall, a clock, a thread. `Wal::poll_op` says what to write, `on_done` hears that it is written.
//! Start at `group.rs`, then `recover.rs`; the bytes are in docs/FORMAT.md.

mod checkpoint_file;
mod corrupt;
mod create;
mod group;
mod inspect;
mod job;
mod record;
mod recover;
mod segment;
mod still;
mod superblock;
mod switch;
mod verdict;
mod walk;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod mem_disk;

pub use checkpoint_file::{CheckpointReader, CheckpointWriter};
pub use corrupt::{Corrupt, Rot, WalFailed};
pub use create::{create, create_from};
pub use group::Wal;
pub use inspect::{Blemish, FrameReport, OtherFile, SegmentReport, WalEnd, WalReport, inspect};
pub use job::{Job, JobDone};
pub use recover::{Progress, RecoverConfig, Recovered, Replayed, recover};
pub use segment::{Space, WalLimits};
pub use superblock::{
    ARCHIVE_FEATURES, DIRECTORY_FORMAT, Found, Identity, Place, Superblock, look,
};
pub use switch::Switch;
pub use walk::OnEvent;
