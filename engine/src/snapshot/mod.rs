//! The state as the file that etcd's tools know, a bbolt database with etcd's buckets: written and read.
//!
//! Promises: the file is one published state, whatever is written meanwhile; its size is known
//! before its first byte; memory is bounded by the largest record. A file that is read may be anybody's: no number
//! in it is trusted. Never: I/O; a byte that stock `etcdutl` would not take. Start at `Snapshot` to
//! write and `Import` to read; `page.rs` has the layout.

mod buckets;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod import;
mod page;
mod read;
mod tree;
mod write;

pub use buckets::{Bucket, Description};
pub use import::{Import, ImportRefused};
pub use read::{Damage, Database, Source, file_digest};
pub use write::{Progress, Snapshot};

#[cfg(test)]
mod tests;
