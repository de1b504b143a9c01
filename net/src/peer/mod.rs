//! Member to member: links that carry opaque messages of two classes. Bytes in, bytes out; the reactor has the sockets.
//!
//! Promises: nothing is carried before both ends have said who they are and agree on the cluster; messages of one class arrive in order or
//! the connection ends; urgent ones pass bulk that is not at the socket yet; a peer that is slow, silent or hostile costs bounded memory.
//! Never: a message's meaning, a resend (what is lost with a connection is Raft's to repeat), a clock of its own.
//! Start at [`Peers`]; `hello.rs` and `frame.rs` are the bytes (docs/FORMAT.md).

mod connection;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod hello;
mod outbox;
mod peers;

pub use frame::HEAD_BYTES;
pub use hello::{Release, Verdict};
pub use peers::{ConnId, Event, Gone, Peers, PeersConfig, Received, Roster};

use std::net::SocketAddr;
use std::path::PathBuf;

/// A member's id. 0 is nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// Which messages go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Small and soon of no use: heartbeats, votes, acknowledgements.
    Urgent,
    /// Entries and snapshots.
    Bulk,
}

/// Where a listener listens, or a peer is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// An address; of a listener the wildcard of IPv4 also listens on IPv6 where the host has it, as Go does.
    Tcp(SocketAddr),
    /// A socket file. A listener removes one that is left over from before, as etcd does.
    Unix(PathBuf),
}

#[cfg(test)]
mod tests;
