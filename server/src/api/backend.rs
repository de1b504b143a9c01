//! What the API needs of the machine behind it, so that one thread for all and many threads share
//! the API.

use std::time::Instant;

use basalt_engine::disk::Disk;
use basalt_engine::mvcc::Reader;
use basalt_engine::raft::confchange::ConfChange;
use basalt_engine::replica::{Ask, Published, Refused, Replies};
use basalt_engine::types::{MemberId, ReplyTo, RequestId};
use basalt_net::h1;
use basalt_net::peer::Peers;

/// The member behind a network loop's API. Inline it owns the replica; threaded it is the loop's
/// end of the rings to the engine's thread.
pub trait Backend {
    /// The store's published views.
    fn reader(&self) -> &Reader;

    /// The member's published state.
    fn published(&self) -> &Published;

    /// Adds a proposal to the batch that the next [`Backend::turn`] hands over. `body` is field
    /// `field` of an `InternalRaftRequest`. Its answer comes through the replies of a turn, in the
    /// order proposed but for compactions that wait for their space and Puts that passed the quota.
    ///
    /// # Errors
    /// `Busy` if the bound of bytes on their way is reached; then nothing is proposed.
    fn propose(&mut self, to: ReplyTo, id: RequestId, field: u32, body: &[u8]) -> Result<(), Busy>;

    /// Adds a question to that batch. Its answer comes through the replies of a turn, in any order.
    ///
    /// # Errors
    /// `Busy` if too many are on their way.
    fn ask(&mut self, to: ReplyTo, ask: Ask) -> Result<(), Busy>;

    /// Asks the replica for something that is no proposal. Its answer comes through the replies of a turn.
    ///
    /// # Errors
    /// `Busy` if too many are on their way.
    fn order(&mut self, to: ReplyTo, order: Order) -> Result<(), Busy>;

    /// Gives work to the background worker. Its answer comes through the replies of a turn.
    ///
    /// # Errors
    /// `Busy` if the worker's queue is full.
    fn submit(&mut self, to: ReplyTo, work: Work) -> Result<(), Busy>;

    /// Hands the batch over, lets the machine run as far as it can without waiting, and puts all
    /// answers for this loop into `replies`, which come in empty. Returns when to call again at the
    /// latest.
    fn turn(&mut self, now: Instant, replies: &mut Replies) -> Option<Instant>;

    /// A descriptor that the backend registered with the reactor has become readable.
    fn on_ready(&mut self, token: usize);

    /// Answers an HTTP/1.1 request.
    fn http(&mut self, request: &h1::Request<'_>) -> h1::Response;

    /// The loop is told to stop.
    fn on_stop(&mut self) {}

    /// Whether stopping needs the loop for more than its clients' calls.
    fn is_ending(&self) -> bool {
        false
    }

    /// The links to other members, if they are with this loop.
    fn peers(&mut self) -> Option<&mut Peers> {
        None
    }
}

/// What only the replica can do, and only rarely or once for many.
#[derive(Clone, Debug)]
pub enum Order {
    /// Answer `Readable` once the newest published view holds all that was acknowledged before.
    ConfirmReads,
    /// Change the membership.
    Change(ConfChange),
    /// Make this member the leader.
    MoveLeader(MemberId),
    /// Hand over and seal the log, if this member leads others; not answered.
    Stop,
}

/// A bounded queue is full; the client hears `too many requests`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// A long computation in short steps, done by the background worker between its other work. Records
/// that are not in memory it reads from the worker's disk; what it appends to the vector is the
/// answer's message.
pub type Work = Box<dyn FnMut(&mut dyn Disk, &mut Vec<u8>) -> Step + Send>;

/// How one step of [`Work`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to do: call again.
    Again,
    /// The vector holds the whole answer.
    Done,
    /// There is no answer but this.
    Refused(Refused),
}
