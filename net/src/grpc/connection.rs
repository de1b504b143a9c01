use super::call::{Answers, Grpc};
use super::driver::{CallState, Driver};
use super::{Method, Opening, Request};
use crate::h2::{self, ErrorCode, Events, KeepAlive, Reason, Role, Settings, StreamKey};
use crate::limits::{Limits, STREAM_WINDOW_BYTES_MAX};
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

/// Who hears of calls: the service behind the reactor, for one connection. `answers` is where it may reply at once.
pub trait Sink {
    /// What is served at `path`; asked for header blocks that the connection has not cached.
    fn method(&self, path: &[u8]) -> Method;
    /// See `Service::on_request`.
    fn on_request(&mut self, answers: &mut Answers, stream: u32, request: Request<'_>);
    /// See `Service::on_open`.
    fn on_open(&mut self, _answers: &mut Answers, _stream: u32, _opening: Opening<'_>) {}
    /// See `Service::on_end`.
    fn on_end(&mut self, answers: &mut Answers, stream: u32);
    /// See `Service::on_cancel`. Only for calls that `on_open` or `on_request` told of.
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
            calls: CallState::new(config.message_bytes_max, now),
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
    pub fn go_away(&mut self, now: Instant) {
        self.h2.go_away(now);
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
        self.calls.trim();
    }
}
