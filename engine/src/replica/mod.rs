//! One member's whole machine, still without I/O: inputs in, effects drained.
//!
//! Promises: nothing is answered before it is durable here and on a quorum; what is answered is
//! published; after a failed write nothing more is answered but that failure.
//! Never: a syscall, a clock, a thread. Start at `turn`.

mod proposals;
mod published;

pub use crate::apply::{Outcome, Refused, Replies};
pub use proposals::Proposals;
pub use published::{ClusterView, Published, ReadGate, Status};
