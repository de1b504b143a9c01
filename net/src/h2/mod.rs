//! HTTP/2 (RFC 9113) as bytes in, bytes out, for a server or a client; what runs over it is a `Protocol`.
//!
//! Promises: the result does not depend on how the bytes were split; every violation gets the error the RFC names; memory
//! per connection is bounded; steady traffic allocates nothing. Never: a socket, a clock, a header's meaning beyond RFC 9113, 8.
//! Start at `Connection::recv` (what comes in), then `Streams` (what goes out).

mod block;
mod connection;
mod error;
mod flow;
pub mod frame;
mod guard;
mod keepalive;
mod message;
mod receive;
mod schedule;
mod settings;
mod shared;
mod slots;
mod stream;
mod streams;

pub use connection::{Config, Connection, Events};
pub use error::{ErrorCode, Reason};
pub use keepalive::KeepAlive;
pub use schedule::Backlog;
pub use settings::Settings;
pub use shared::Shared;
pub(crate) use stream::reuse;
pub use streams::{Role, StreamKey, Streams};

/// What runs over HTTP/2: what it keeps of a header block, and what it keeps for each stream.
pub trait Protocol: 'static {
    /// What is kept of the header block that opened a stream. Values are reused: `Events::read_head` overwrites all of it.
    type Head: Default + Send + Sync + std::fmt::Debug;
    /// State beside each stream. Values are reused, so that their buffers are: `recycle` makes one as good as new.
    type Stream: Default + Send + std::fmt::Debug;

    /// Memory that a head keeps, bytes: a large one is not reused.
    fn head_bytes(head: &Self::Head) -> usize;

    /// Prepares the state of a stream that is over for the next one.
    fn recycle(stream: &mut Self::Stream);
}
