//! The state as the file that etcd's tools know: a bbolt database with etcd's buckets.
//!
//! Promises: the file is one published state, whatever is written meanwhile; its size is known
//! before its first byte; memory is bounded by the largest record. Never: I/O; a byte that stock
//! `etcdutl` would not take. Start at `Snapshot`; `tree.rs` packs records into pages, `page.rs` has
//! the layout.

mod buckets;
mod page;
mod tree;
mod write;

pub use buckets::{Bucket, Description};
pub use write::{Progress, Snapshot};

#[cfg(test)]
mod tests;
