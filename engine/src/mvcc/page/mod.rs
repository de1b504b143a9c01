//! The leaves of the index at one revision as pages: what a checkpoint holds of them.
//!
//! Promises: a page that was read back is the one that was written, or the damage is named; it is
//! checked before anything in it is used. A checkpoint writes what has changed since the one before.
//! Never: trusts a page because a checksum beside it fits; the table of its file holds the digest,
//! and the checkpoint that of the table. Start at `IndexCursor` (writes) and `IndexLoad` (reads); one
//! page is in archive.rs, a file of them in file.rs, what names them all in table.rs.

mod archive;
mod cursor;
mod file;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzz;
mod load;
mod table;

pub use archive::BadPage;
pub(super) use cursor::{IndexCursor, IndexWritten};
pub(super) use file::IndexFile;
pub(super) use files::IndexFiles;
pub(super) use load::{IndexLoad, LoadedIndex};
pub use table::BadIndex;
