//! gRPC over HTTP/2 as bytes in, bytes out: what a service sees of a call and how it answers.
//!
//! Promises: a unary request is shown whole and within its size bound; what the transport refuses is worded as grpc-go
//! words it; an answer to a call that is gone is dropped in silence. Never: a socket, a clock, an etcd word.
//! Start at `Service` and `Calls` below.

mod call;
pub mod client;
mod connection;
mod driver;
mod framing;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod head;
mod metadata;
mod status;
mod timeout;

use crate::h1;
pub use crate::h2::Shared;
use crate::peer::Peers;
use std::time::{Duration, Instant};

pub use call::{Answers, Call, Grpc};
pub use connection::{Connection, ServerConfig, Sink};
pub use head::Head;
pub use metadata::Metadata;
pub use status::{Code, Status, percent_decode, percent_encode};

/// The address of one call in one network loop. A stale one (connection or stream gone) is harmless: it is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId {
    /// The connection's place in its loop.
    pub conn: u32,
    /// Tells two connections apart that had the same place one after the other.
    pub generation: u32,
    /// HTTP/2 stream id; for HTTP/1.1 the number of the request on its connection.
    pub stream: u32,
}

/// One message of a call.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `:path` as sent, such as `/etcdserverpb.KV/Put`.
    pub path: &'a [u8],
    /// The message without its five-byte prefix, already inflated if it came compressed.
    pub message: &'a [u8],
    /// All metadata of the call; transport headers are left out.
    pub meta: &'a Metadata,
    /// What the client granted when the call began, from its `grpc-timeout`.
    pub timeout: Option<Duration>,
    /// The client has said that nothing follows on this call.
    pub last: bool,
}

/// The beginning of a call whose requests follow.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// `:path` as sent.
    pub path: &'a [u8],
    /// All metadata of the call; transport headers are left out.
    pub meta: &'a Metadata,
}

/// How the messages of a method come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// Unary: `on_request` once, as soon as the message is whole; `on_end` never.
    OneRequest,
    /// One request and a stream of answers: `on_request` once, when the client has ended its side; `on_end` never.
    ServerStreaming,
    /// Any number of request messages, and answers at any time: `on_open`, `on_request` for each, then `on_end`.
    ManyRequests,
    /// Not served: the transport answers Unimplemented with this text, without waiting for a message.
    Unknown(Status),
}

/// May a streaming answer go on?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// More may be sent.
    Ready,
    /// What was sent is queued; send no more before `Service::on_writable`.
    Full,
}

/// What a server does with its calls. The reactor drives it; one value per network loop.
pub trait Service {
    /// What is served at `path`, asked when a header block is seen that is not in the connection's cache.
    fn method(&self, path: &[u8]) -> Method;

    /// A whole message: once for a method with one request, else once per message.
    fn on_request(&mut self, calls: &mut impl Calls, call: CallId, request: Request<'_>);

    /// A call of a method with many requests has begun: before its first message, or its end without any.
    /// A service that has no such method hears of none.
    fn on_open(&mut self, _calls: &mut impl Calls, _call: CallId, _opening: Opening<'_>) {}

    /// The client has ended its side of a method with many requests. The call goes on until the service ends it.
    fn on_end(&mut self, calls: &mut impl Calls, call: CallId);

    /// The call is over without an answer: reset by the client, its connection gone, or its deadline passed.
    fn on_cancel(&mut self, call: CallId);

    /// A streaming answer that was told `Flow::Full` may go on. A turn follows.
    fn on_writable(&mut self, calls: &mut impl Calls, call: CallId);

    /// An HTTP/1.1 request, its body whole and bounded.
    fn on_http(&mut self, calls: &mut impl Calls, call: CallId, request: h1::Request<'_>);

    /// Once per loop turn, after all reads and before the writes. Returns when it wants to be woken at the latest.
    fn on_turn(&mut self, calls: &mut impl Calls, now: Instant) -> Option<Instant>;

    /// A foreign descriptor registered with the reactor has become readable.
    fn on_ready(&mut self, token: usize);

    /// The loop is to stop, and clients have been told: calls that do not end by themselves should be ended now.
    /// Those that are open when the time for that is over are cut.
    fn on_stop(&mut self, _calls: &mut impl Calls) {}

    /// While the loop stops: whether something other than clients' calls is still under way. It goes on for that, within its time.
    fn is_ending(&self) -> bool {
        false
    }

    /// The links to other members, if this loop's service has them: the loop drives them.
    fn peers(&mut self) -> Option<&mut Peers> {
        None
    }
}

/// How a service answers. Every method ignores a call that is gone or already ended.
pub trait Calls {
    /// Ends a call with status OK and the one message that `write` appends; it must only append.
    fn reply(&mut self, call: CallId, write: impl FnOnce(&mut Vec<u8>));

    /// Ends a call without a message.
    fn fail(&mut self, call: CallId, status: Status);

    /// Sends one message of a streaming answer. It is accepted even when `Flow::Full` is returned.
    fn send(&mut self, call: CallId, write: impl FnOnce(&mut Vec<u8>)) -> Flow;

    /// The same for a message that ends with `shared`, which many calls are sent and which is not copied for each.
    fn send_shared(
        &mut self,
        call: CallId,
        write: impl FnOnce(&mut Vec<u8>),
        shared: Shared,
    ) -> Flow;

    /// Ends a streaming answer, after all that was sent.
    fn finish(&mut self, call: CallId, status: Status);

    /// Whether a long answer to this call may be made now: not while much waits for the client of its connection.
    /// A call that is gone has room.
    fn has_room(&mut self, call: CallId) -> bool;

    /// Answers an HTTP/1.1 request.
    fn reply_http(&mut self, call: CallId, response: h1::Response);
}

/// Bytes from outside in a message for people: quoted, what is not printable escaped, as Go's `%q` does.
fn quote(bytes: &[u8]) -> String {
    let mut quoted = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '\t' => quoted.push_str("\\t"),
                control if control.is_control() => {
                    quoted.push_str(&format!("\\x{:02x}", u32::from(control)))
                }
                printable => quoted.push(printable),
            }
        }
        for byte in chunk.invalid() {
            quoted.push_str(&format!("\\x{byte:02x}"));
        }
    }
    quoted.push('"');
    quoted
}
