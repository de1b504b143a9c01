//! The multi-version store: every key at every revision that is not compacted.
//!
//! Promises: one writer; readers pin what was published and never wait for it. A read at a revision
//! gives the same answer for ever, until that revision is compacted. Never: makes a syscall, reads a
//! clock, decides whether a request is allowed. Start at `Store` (writer) and `View` (reads);
//! records lie in revlog/, the index in tree/.

mod aside;
mod changes;
mod checkpoint;
mod compact;
mod digest;
mod hash;
mod history;
mod hold;
mod inspect;
mod leases;
mod page;
mod range;
mod resident;
mod restore;
mod revlog;
mod scrub;
mod store;
mod tree;
mod view;
mod wants;

pub use changes::{Change, ChangesAt};
pub use checkpoint::{BadCheckpoint, CheckpointCursor, CheckpointFiles, ContentWriter};
pub use digest::Digests;
pub use hash::{HashAnswer, HashJob, HashRefused};
pub use history::{History, HistoryAt};
pub use hold::{Hold, HoldRefused};
pub use inspect::{FramesReport, SegmentFileReport};
pub use page::{BadIndex, BadPage};
pub use range::{Counting, KeyRange, Resume, SliceBound, Visited, Want};
pub use restore::{OnSegments, Restore};
pub use revlog::{BadSegment, SegmentId};
pub use scrub::{Scrub, Scrubbed};
pub use store::{Pin, Reader, RevisionRefused, Sizes, Store, StoreConfig, Write};
pub use tree::PageRef;
pub use view::{Record, View};
pub use wants::{NeedRead, PartRead};

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
#[cfg(any(test, feature = "fuzzing"))]
pub mod model;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod rebuild;

#[cfg(test)]
mod stress;
