use super::call::{Answers, Call, Grpc, Phase};
use super::framing::{self, Next};
use super::head::{Head, Verdict};
use super::{Code, Method, Request, Status};
use crate::h2::{self, ErrorCode, Events, KeepAlive, Reason, Role, Settings, StreamKey};
use crate::hpack::Fields;
use crate::limits::{
    KEPT_BUFFER_BYTES_MAX, Limits, PARTIAL_REQUEST_BYTES_MAX, STREAM_WINDOW_BYTES_MAX,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a server's connections are set up.
#[derive(Debug, Clone, Copy)]
pub struct ServerConfig {
    /// Largest request message, bytes, also after inflating.
    pub message_bytes_max: usize,
    /// Streams that a client may have open; `u32::MAX` is not advertised.
    pub streams_max: u32,
    /// What we bear.
    pub limits: Limits,
    /// Pings closer together are strikes (grpc-keepalive-min-time).
    pub ping_min_interval: Duration,
    /// We ping a client after so long a silence (grpc-keepalive-interval); zero: never.
    pub ping_interval: Duration,
    /// And give it up so long after (grpc-keepalive-timeout).
    pub ping_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig {
            message_bytes_max: 2 << 20,
            streams_max: u32::MAX,
            limits: Limits::default(),
            ping_min_interval: Duration::from_secs(5),
            ping_interval: Duration::from_secs(2 * 60 * 60),
            ping_timeout: Duration::from_secs(20),
        }
    }
}

/// What the client sent is not gRPC: Unsupported Media Type.
const NOT_GRPC_HTTP_STATUS: u16 = 415;

/// Who hears of calls: the service behind the reactor, for one connection. `answers` is where it may reply at once.
pub trait Sink {
    /// What is served at `path`; asked for header blocks that the connection has not cached.
    fn method(&self, path: &[u8]) -> Method;
    /// See `Service::on_request`.
    fn on_request(&mut self, answers: &mut Answers, stream: u32, request: Request<'_>);
    /// See `Service::on_end`.
    fn on_end(&mut self, answers: &mut Answers, stream: u32);
    /// See `Service::on_cancel`. Only for calls that `on_request` or `on_end` told of.
    fn on_cancel(&mut self, answers: &mut Answers, stream: u32);
    /// See `Service::on_writable`.
    fn on_writable(&mut self, answers: &mut Answers, stream: u32);
}

/// A server's side of one gRPC connection, without its socket.
#[derive(Debug)]
pub struct Connection {
    h2: h2::Connection<Grpc>,
    calls: CallState,
}

/// What all calls of a connection share.
#[derive(Debug)]
struct CallState {
    message_bytes_max: usize,
    now: Instant,
    /// No open call has an earlier deadline. It may be too early, never too late.
    earliest_deadline: Option<Instant>,
    /// At least the bytes of all partial messages; counted anew when it reaches its bound.
    partial_bytes: usize,
    /// Lent to a call whose message came in pieces while the service reads it.
    whole: Vec<u8>,
    inflated: Vec<u8>,
}

impl Connection {
    /// `recv` begins with the preface; our settings wait in `out`.
    pub fn new(config: &ServerConfig, now: Instant) -> Connection {
        let window = u32::try_from(config.message_bytes_max.saturating_mul(2)).unwrap_or(u32::MAX);
        let settings = Settings {
            streams_max: config.streams_max,
            initial_window: window
                .clamp(Settings::default().initial_window, STREAM_WINDOW_BYTES_MAX),
            ..Settings::default()
        };
        let h2 = h2::Config {
            role: Role::Server,
            settings,
            limits: config.limits,
            keep_alive: KeepAlive {
                peer_interval_min: config.ping_min_interval,
                interval: (!config.ping_interval.is_zero()).then_some(config.ping_interval),
                timeout: config.ping_timeout,
            },
        };
        Connection {
            h2: h2::Connection::new(&h2, now),
            calls: CallState {
                message_bytes_max: config.message_bytes_max,
                now,
                earliest_deadline: None,
                partial_bytes: 0,
                whole: Vec::new(),
                inflated: Vec::new(),
            },
        }
    }

    /// Takes all of `bytes`; requests that are whole reach `sink` before it returns.
    pub fn recv(&mut self, bytes: &[u8], now: Instant, sink: &mut impl Sink) {
        self.calls.now = now;
        let calls = &mut self.calls;
        self.h2.recv(bytes, now, &mut Driver { calls, sink });
    }

    /// The answering half, outside of `recv`.
    pub fn answers(&mut self) -> &mut Answers {
        self.h2.streams()
    }

    /// Moves queued answers into `out`, bounded, and tells who may send more. Before each write.
    pub fn flush(&mut self, now: Instant, sink: &mut impl Sink) {
        self.calls.now = now;
        let calls = &mut self.calls;
        self.h2.flush(now, &mut Driver { calls, sink });
    }

    /// Bytes for the socket.
    pub fn out(&self) -> &[u8] {
        self.h2.out()
    }

    /// So many of them are written.
    pub fn advance(&mut self, bytes: usize) {
        self.h2.advance(bytes);
    }

    /// After a flush and a write: would another flush find something?
    pub fn has_more(&self) -> bool {
        self.h2.has_more()
    }

    /// Should the socket be read? Not while 1 MiB waits to be written, nor after an error.
    pub fn wants_read(&self) -> bool {
        self.h2.wants_read()
    }

    /// When `on_deadline` must be called at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let transport = self.h2.next_deadline();
        [transport, self.calls.earliest_deadline]
            .into_iter()
            .flatten()
            .min()
    }

    /// Time has passed: calls over their deadline are cancelled, pings sent, dead peers given up.
    pub fn on_deadline(&mut self, now: Instant, sink: &mut impl Sink) {
        self.calls.now = now;
        self.h2.on_deadline(now);
        if self
            .calls
            .earliest_deadline
            .is_none_or(|deadline| deadline > now)
        {
            return;
        }
        self.calls.earliest_deadline = None;
        let keys: Vec<StreamKey> = self.h2.streams().keys().collect();
        for key in keys {
            let answers = self.h2.streams();
            let Some(deadline) = answers.state(key).and_then(|call| call.deadline) else {
                continue;
            };
            if deadline > now {
                self.calls.expect_deadline(deadline);
                continue;
            }
            let calls = &mut self.calls;
            Driver { calls, sink }.on_reset(answers, key, ErrorCode::Cancel);
            answers.reset(key, ErrorCode::Cancel);
        }
    }

    /// Begins an orderly end: open calls finish, new ones are soon refused.
    pub fn go_away(&mut self) {
        self.h2.go_away();
    }

    /// All is over and written: close the socket.
    pub fn is_finished(&self) -> bool {
        self.h2.is_finished()
    }

    /// Why the connection ended, if it did so by an error.
    pub fn failure(&self) -> Option<Reason> {
        self.h2.failure()
    }

    /// The socket is gone: every open call is cancelled.
    pub fn on_closed(&mut self, sink: &mut impl Sink) {
        let calls = &mut self.calls;
        self.h2.on_closed(&mut Driver { calls, sink });
        self.calls.earliest_deadline = None;
    }

    /// Number of open calls.
    pub fn open_calls(&self) -> usize {
        self.h2.open_streams()
    }

    /// Gives buffers back; for a connection that has been quiet.
    pub fn trim(&mut self) {
        self.h2.trim();
        self.calls.whole = Vec::new();
        self.calls.inflated = Vec::new();
    }
}

impl CallState {
    fn expect_deadline(&mut self, deadline: Instant) {
        self.earliest_deadline = Some(
            self.earliest_deadline
                .map_or(deadline, |known| known.min(deadline)),
        );
    }
}

/// Hears the events of HTTP/2 and makes calls of them.
struct Driver<'a, S> {
    calls: &'a mut CallState,
    sink: &'a mut S,
}

impl<S: Sink> Events<Grpc> for Driver<'_, S> {
    fn read_head(&mut self, fields: &Fields, head: &mut Head) {
        head.read(fields, |path| self.sink.method(path));
    }

    fn on_headers(
        &mut self,
        answers: &mut Answers,
        key: StreamKey,
        head: &Arc<Head>,
        is_end: bool,
    ) {
        let Some(call) = answers.state(key) else {
            return;
        };
        match &head.verdict {
            Verdict::OneRequest | Verdict::ManyRequests => {}
            Verdict::Refuse(http_status, status) => {
                answers.refuse_call(key, *http_status, status);
                return;
            }
            Verdict::NotGrpc(status) if is_end => {
                answers.refuse_http(key, NOT_GRPC_HTTP_STATUS, status);
                return;
            }
            Verdict::NotGrpc(_) => {
                call.phase = Phase::NotGrpc;
                return;
            }
        }
        call.has_own_headers = head.answer.is_some();
        call.is_gzip = head.is_gzip;
        if let Some(timeout) = head.timeout {
            if timeout.is_zero() {
                let status = Status::new(Code::DeadlineExceeded, "context deadline exceeded");
                answers.refuse_call(key, 200, &status);
                return;
            }
            // A deadline beyond the end of the clock is none.
            call.deadline = self.calls.now.checked_add(timeout);
            if let Some(deadline) = call.deadline {
                self.calls.expect_deadline(deadline);
            }
        }
        if is_end {
            self.end(answers, key, b"");
        }
    }

    fn on_data(&mut self, answers: &mut Answers, key: StreamKey, data: &[u8], is_end: bool) {
        let Some(call) = answers.state(key) else {
            return;
        };
        match call.phase {
            Phase::Waiting | Phase::Receiving => {}
            Phase::Received | Phase::Over => return,
            Phase::NotGrpc => {
                if let (true, Some(head)) = (is_end, answers.head(key).cloned())
                    && let Verdict::NotGrpc(status) = &head.verdict
                {
                    answers.refuse_http(key, NOT_GRPC_HTTP_STATUS, status);
                }
                return;
            }
        }
        if call.partial.is_empty() {
            self.take_messages(answers, key, data, is_end);
            return;
        }
        call.partial.extend_from_slice(data);
        self.calls.partial_bytes += data.len();
        if is_end || matches!(self.next(&call.partial), Ok(Next::Message { .. }) | Err(_)) {
            // The service reads from our buffer, the call keeps an empty one.
            let mut whole =
                std::mem::replace(&mut call.partial, std::mem::take(&mut self.calls.whole));
            self.calls.partial_bytes = self.calls.partial_bytes.saturating_sub(whole.len());
            self.take_messages(answers, key, &whole, is_end);
            h2::reuse(&mut whole);
            self.calls.whole = whole;
        } else {
            self.check_partial_bytes(answers, key);
        }
    }

    fn on_reset(&mut self, answers: &mut Answers, key: StreamKey, _: ErrorCode) {
        let is_known = answers.state(key).is_some_and(|call| call.is_known());
        if is_known {
            self.sink.on_cancel(answers, key.id);
        }
    }

    fn on_writable(&mut self, answers: &mut Answers, key: StreamKey) {
        self.sink.on_writable(answers, key.id);
    }
}

impl<S: Sink> Driver<'_, S> {
    fn next<'b>(&self, bytes: &'b [u8]) -> Result<Next<'b>, Status> {
        framing::next_message(bytes, self.calls.message_bytes_max)
    }

    /// Hands out every whole message of `bytes` and keeps what is left.
    fn take_messages(&mut self, answers: &mut Answers, key: StreamKey, bytes: &[u8], is_end: bool) {
        let Some(head) = answers.head(key).cloned() else {
            return;
        };
        let is_single = head.verdict == Verdict::OneRequest;
        let mut rest = bytes;
        loop {
            let (flag, message, after) = match self.next(rest) {
                Ok(Next::Message {
                    flag,
                    message,
                    rest,
                }) => (flag, message, rest),
                Ok(Next::Partial { .. }) => break,
                Err(status) => return self.refuse(answers, key, status),
            };
            rest = after;
            let is_last = is_end && (is_single || rest.is_empty());
            if let Err(status) = self.hand_out(answers, key, &head, flag, message, is_last) {
                return self.refuse(answers, key, status);
            }
            let Some(call) = answers.state(key) else {
                return;
            };
            if !matches!(call.phase, Phase::Waiting | Phase::Receiving) {
                return;
            }
        }
        if is_end {
            self.end(answers, key, rest);
        } else if !rest.is_empty()
            && let Some(call) = answers.state(key)
        {
            call.partial.extend_from_slice(rest);
            self.calls.partial_bytes += rest.len();
            self.check_partial_bytes(answers, key);
        }
    }

    fn hand_out(
        &mut self,
        answers: &mut Answers,
        key: StreamKey,
        head: &Head,
        flag: u8,
        message: &[u8],
        is_last: bool,
    ) -> Result<(), Status> {
        let is_single = head.verdict == Verdict::OneRequest;
        let mut request = Request {
            path: &head.path,
            message,
            meta: &head.meta,
            timeout: head.timeout,
            last: is_last,
        };
        match flag {
            0 => {}
            1 if head.is_gzip => {
                framing::inflate(
                    message,
                    &mut self.calls.inflated,
                    self.calls.message_bytes_max,
                )?;
                request.message = &self.calls.inflated;
            }
            1 => {
                let text = "grpc: compressed flag set with identity or empty encoding";
                return Err(Status::new(Code::Internal, text));
            }
            other => {
                let text = format!("grpc: received unexpected payload format {other}");
                return Err(Status::new(Code::Internal, text));
            }
        }
        if let Some(call) = answers.state(key) {
            call.phase = if is_single {
                Phase::Received
            } else {
                Phase::Receiving
            };
        }
        self.sink.on_request(answers, key.id, request);
        if self.calls.inflated.capacity() > KEPT_BUFFER_BYTES_MAX {
            self.calls.inflated = Vec::new();
        }
        Ok(())
    }

    /// The client has ended its side; `rest` is what it left of a message.
    fn end(&mut self, answers: &mut Answers, key: StreamKey, rest: &[u8]) {
        let Some(head) = answers.head(key).cloned() else {
            return;
        };
        let is_single = head.verdict == Verdict::OneRequest;
        // What grpc-go makes of io.EOF and io.ErrUnexpectedEOF where a message should be.
        let status = match (rest.is_empty(), is_single) {
            (true, true) => Status::new(Code::Unknown, "EOF"),
            (false, true) => Status::new(Code::Unknown, "unexpected EOF"),
            (false, false) => Status::new(Code::Internal, "unexpected EOF"),
            (true, false) => {
                if let Some(call) = answers.state(key) {
                    call.phase = Phase::Received;
                }
                self.sink.on_end(answers, key.id);
                return;
            }
        };
        self.refuse(answers, key, status);
    }

    /// Ends a call that the client has spoilt; the service hears of it if it knew the call.
    fn refuse(&mut self, answers: &mut Answers, key: StreamKey, status: Status) {
        let is_known = answers.state(key).is_some_and(|call| call.is_known());
        if is_known {
            self.sink.on_cancel(answers, key.id);
        }
        answers.finish(key.id, status);
    }

    fn check_partial_bytes(&mut self, answers: &mut Answers, key: StreamKey) {
        if self.calls.partial_bytes <= PARTIAL_REQUEST_BYTES_MAX {
            return;
        }
        let keys: Vec<StreamKey> = answers.keys().collect();
        let held = |answers: &mut Answers, key| {
            answers
                .state(key)
                .map_or(0, |call: &mut Call| call.partial.len())
        };
        self.calls.partial_bytes = keys.into_iter().map(|key| held(answers, key)).sum();
        if self.calls.partial_bytes > PARTIAL_REQUEST_BYTES_MAX {
            let text = "grpc: too many bytes in unfinished requests of one connection";
            self.refuse(answers, key, Status::new(Code::ResourceExhausted, text));
        }
    }
}
