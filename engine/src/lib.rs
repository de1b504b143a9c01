//! See docs/ARCHITECTURE.md.

pub mod apply;
pub mod command;
pub mod disk;
#[cfg(feature = "io")]
pub mod io;
pub mod lease;
pub mod limits;
pub mod member;
pub mod mvcc;
pub mod query;
pub mod raft;
pub mod replica;
pub mod snapshot;
pub mod types;
pub mod wal;
pub mod watch;
