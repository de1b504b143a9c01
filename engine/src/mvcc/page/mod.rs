//! The index at one revision as pages: what a checkpoint holds of it.
//!
//! Promises: pages that were read back are sorted, complete and those that were written, or the
//! damage is named; a page is checked before anything in it is used. Never: trusts a page because a
//! checksum beside it fits; its parent, the page table, holds the digest. Start at `IndexCursor`
//! (writes) and `IndexLoad` (reads); one page is in archive.rs.

mod archive;
mod cursor;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzz;
mod load;
mod write;

pub use archive::BadPage;
pub(super) use cursor::IndexCursor;
pub use load::BadIndex;
pub(super) use load::IndexLoad;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) use write::IndexWriter;

/// What precedes each part of the stream: its kind (1 byte) and its bytes (4).
const PART_HEAD_BYTES: usize = 5;

/// A page of the index.
const KIND_PAGE: u8 = 1;

/// The page table: its archive, then 4 bytes of digest of it. It ends the index.
const KIND_TABLE: u8 = 2;
