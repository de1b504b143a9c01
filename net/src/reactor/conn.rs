use std::io;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

use super::Config;
use super::calls::{LoopCalls, ServiceSink, Table};
use super::listener::{ListenOptions, Protocols};
use super::peers;
use super::slab::Key;
use super::stats::Stats;
use super::stream::Stream;
use crate::grpc::{self, CallId, Service};
use crate::h1::{self, HttpDate};
use crate::limits::{
    H1_IDLE_TIMEOUT, H1_REQUEST_TIMEOUT, LINGER_TIMEOUT, READ_BYTES_PER_TURN_MAX, TRIM_AFTER,
    UNSENT_BYTES_MAX,
};
use crate::peer::{self, ConnId, Gone};
use crate::sniff::{Sniffed, sniff};

/// One connection of a loop: its socket, its protocol and what is known of the socket's readiness.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) stream: Stream,
    pub(super) protocol: Protocol,
    /// The listener's tag, shown with each HTTP/1.1 request.
    tag: u32,
    /// In the loop's list of connections to read or go on with.
    pub(super) is_queued: bool,
    /// In the loop's list of connections to write.
    pub(super) is_dirty: bool,
    /// An HTTP/1.1 answer was given outside a read: a request behind it may be waiting.
    pub(super) is_nudged: bool,
    /// The socket may have bytes or an end: edge-triggered, so true until a read said otherwise.
    readable: bool,
    /// The peer has ended its side; it shows as a read of 0 behind the last bytes.
    read_closed: bool,
    /// Close once everything is written.
    pub(super) ending: bool,
    /// An idle HTTP/2 connection still holds the buffers of its last calls; soon they are given back.
    keeps_buffers: bool,
    /// When the socket last took nothing; no write is tried before it says that it can.
    pub(super) blocked_since: Option<Instant>,
    /// The turn of the last write: there is one per turn.
    pub(super) wrote_in_turn: u64,
    /// When the present stage (first bytes, request, idleness, lingering) began; for HTTP/2, when bytes last came.
    since: Instant,
    /// From accepting to knowing the protocol; the same bound as HTTP/2 has for its preface.
    first_bytes_timeout: Duration,
    /// How long a client may take nothing of what waits for it; `None` is for ever, as etcd does.
    stall_timeout: Option<Duration>,
}

/// What the bytes of a connection are.
#[derive(Debug)]
pub(super) enum Protocol {
    /// Too few bytes so far to tell.
    Sniffing {
        head: [u8; 4],
        length: u8,
        /// Whether other members may come this way.
        takes_peers: bool,
    },
    /// Another member; its link's state is with the service.
    Peer(ConnId),
    /// `number` counts the requests: it is their stream id.
    Http1 {
        connection: Box<h1::Connection>,
        number: u32,
    },
    Http2(Box<grpc::Connection>),
    /// Everything is said: what still comes is thrown away, so that the last answer is not lost to a reset.
    Lingering,
    /// It is being driven right now, its owner stands on the stack.
    Driven,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    Enough,
    /// The budget of this turn is used up, there may be more.
    More,
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    Done,
    /// More can be written without waiting, in the next turn.
    More,
    /// Everything is said and written, but the peer has not ended its side.
    Over,
    Gone,
}

impl Conn {
    pub(super) fn new(
        stream: Stream,
        options: ListenOptions,
        config: &Config,
        now: Instant,
    ) -> Conn {
        let protocol = match options.protocols {
            Protocols::Any | Protocols::Peer => Protocol::Sniffing {
                head: [0; 4],
                length: 0,
                takes_peers: options.protocols == Protocols::Peer,
            },
            Protocols::Http1 => http1(config),
            Protocols::Http2 => http2(config, now),
        };
        Conn {
            stream,
            protocol,
            tag: options.tag,
            is_queued: false,
            is_dirty: false,
            is_nudged: false,
            readable: false,
            read_closed: false,
            ending: false,
            keeps_buffers: false,
            blocked_since: None,
            wrote_in_turn: 0,
            since: now,
            first_bytes_timeout: config.grpc.limits.preface_timeout,
            stall_timeout: config.grpc.limits.stall_timeout,
        }
    }

    /// A connection to another member that is on its way: nothing is written before the socket says that it can be.
    pub(super) fn dialed(stream: Stream, id: ConnId, config: &Config, now: Instant) -> Conn {
        Conn {
            protocol: Protocol::Peer(id),
            blocked_since: Some(now),
            ..Conn::new(stream, ListenOptions::default(), config, now)
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.stream.register(registry, token)
    }

    pub(super) fn on_readable(&mut self, read_closed: bool) {
        self.readable = true;
        self.read_closed |= read_closed;
    }

    /// True if a write was waiting for this.
    pub(super) fn on_writable(&mut self) -> bool {
        self.blocked_since.take().is_some()
    }

    /// There is something to do for it without an event.
    pub(super) fn wants_work(&self) -> bool {
        (self.readable || self.is_nudged) && self.wants_read()
    }

    /// When a client that takes nothing of what waits for it is given up.
    fn stalls_at(&self) -> Option<Instant> {
        Some(self.blocked_since? + self.stall_timeout?)
    }

    /// When something must have happened; the latest of them shows as an early call that changes nothing.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stage = match &self.protocol {
            Protocol::Sniffing { .. } => Some(self.since + self.first_bytes_timeout),
            Protocol::Http1 { connection, .. } if connection.is_answering() => None,
            Protocol::Http1 { connection, .. } if connection.is_receiving() => {
                Some(self.since + H1_REQUEST_TIMEOUT)
            }
            Protocol::Http1 { .. } => Some(self.since + H1_IDLE_TIMEOUT),
            Protocol::Http2(connection) => {
                let trim = self.keeps_buffers.then(|| self.since + TRIM_AFTER);
                [connection.next_deadline(), trim]
                    .into_iter()
                    .flatten()
                    .min()
            }
            Protocol::Lingering => Some(self.since + LINGER_TIMEOUT),
            Protocol::Peer(_) | Protocol::Driven => None,
        };
        let stall = self.stalls_at();
        [stage, stall].into_iter().flatten().min()
    }

    /// The server stops: no new requests, what is in flight ends.
    pub(super) fn say_goodbye(&mut self, date: &HttpDate, now: Instant) {
        match &mut self.protocol {
            Protocol::Sniffing { .. } => self.ending = true,
            Protocol::Http1 { connection, .. } => {
                self.ending = connection.is_idle();
                connection.close_idle(date);
            }
            Protocol::Http2(connection) => connection.go_away(now),
            Protocol::Peer(_) | Protocol::Lingering | Protocol::Driven => {}
        }
    }

    fn wants_read(&self) -> bool {
        match &self.protocol {
            Protocol::Http1 { connection, .. } => {
                !connection.is_full() && connection.out().len() < UNSENT_BYTES_MAX
            }
            Protocol::Http2(connection) => connection.wants_read(),
            Protocol::Sniffing { .. } | Protocol::Lingering => true,
            Protocol::Peer(_) => !self.ending,
            Protocol::Driven => false,
        }
    }

    fn unsent(&self) -> &[u8] {
        match &self.protocol {
            Protocol::Http1 { connection, .. } => connection.out(),
            Protocol::Http2(connection) => connection.out(),
            Protocol::Sniffing { .. }
            | Protocol::Peer(_)
            | Protocol::Lingering
            | Protocol::Driven => &[],
        }
    }

    fn is_answering(&self) -> bool {
        match &self.protocol {
            Protocol::Http1 { connection, .. } => connection.is_answering(),
            Protocol::Sniffing { .. }
            | Protocol::Peer(_)
            | Protocol::Http2(_)
            | Protocol::Lingering
            | Protocol::Driven => false,
        }
    }

    /// One write of what is unsent, the only one of this turn.
    fn write(&mut self, turn: u64, stats: &Stats, now: Instant) -> Flushed {
        if self.unsent().is_empty() {
            return self.after_write(now);
        }
        if self.blocked_since.is_some() {
            return Flushed::Done;
        }
        assert!(
            self.wrote_in_turn < turn,
            "a connection is written once a turn"
        );
        self.wrote_in_turn = turn;
        stats.writes.add(1);
        let unsent = match &self.protocol {
            Protocol::Http1 { connection, .. } => connection.out(),
            Protocol::Http2(connection) => connection.out(),
            Protocol::Sniffing { .. }
            | Protocol::Peer(_)
            | Protocol::Lingering
            | Protocol::Driven => &[],
        };
        let offered = unsent.len();
        let written = match self.stream.write(unsent) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            // Interrupted before anything was taken: the next turn tries again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Flushed::More,
            Err(_) => return Flushed::Gone,
        };
        stats.sent_bytes.add(written as u64);
        match &mut self.protocol {
            Protocol::Http1 { connection, .. } => connection.advance_out(written),
            Protocol::Http2(connection) => connection.advance(written),
            Protocol::Sniffing { .. }
            | Protocol::Peer(_)
            | Protocol::Lingering
            | Protocol::Driven => {}
        }
        if written < offered {
            // The socket is full; taking less than was offered arms the edge that says when it is not.
            self.blocked_since = Some(now);
            return Flushed::Done;
        }
        self.after_write(now)
    }

    fn after_write(&mut self, now: Instant) -> Flushed {
        let is_over = match &mut self.protocol {
            Protocol::Http1 { connection, .. } => {
                if !connection.is_answering() && !connection.is_receiving() {
                    self.since = now;
                }
                connection.is_closing()
            }
            Protocol::Http2(connection) if connection.is_finished() => true,
            Protocol::Http2(connection) if connection.has_more() => return Flushed::More,
            Protocol::Http2(connection) => {
                self.keeps_buffers |= connection.open_calls() == 0;
                false
            }
            Protocol::Sniffing { .. }
            | Protocol::Peer(_)
            | Protocol::Lingering
            | Protocol::Driven => false,
        };
        if (self.ending && !self.is_answering()) || (is_over && self.read_closed) {
            return Flushed::Gone;
        }
        if is_over {
            Flushed::Over
        } else {
            Flushed::Done
        }
    }

    fn linger(&mut self, now: Instant) -> Flushed {
        self.protocol = Protocol::Lingering;
        self.since = now;
        if self.stream.shutdown_write().is_err() {
            Flushed::Gone
        } else {
            Flushed::Done
        }
    }
}

/// Reads what the turn's budget allows and hands it to the service.
pub(super) fn receive<S: Service>(
    table: &mut Table,
    key: Key,
    buffer: &mut [u8],
    service: &mut S,
    stats: &Stats,
    config: &Config,
    now: Instant,
) -> Received {
    let mut budget = READ_BYTES_PER_TURN_MAX;
    let Some(conn) = table.conns.get_mut(key) else {
        return Received::Enough;
    };
    if std::mem::take(&mut conn.is_nudged) {
        deliver(table, key, &[], service, config, now);
    }
    loop {
        let Some(conn) = table.conns.get_mut(key) else {
            return Received::Enough;
        };
        if !conn.readable || !conn.wants_read() {
            return Received::Enough;
        }
        if budget == 0 {
            return Received::More;
        }
        let room = budget.min(buffer.len());
        match conn.stream.read(&mut buffer[..room]) {
            Ok(0) => {
                conn.readable = false;
                conn.read_closed = true;
                conn.ending = true;
                // An answer to what came just before the end still goes out; `write` ends the connection behind it.
                let keep = conn.is_answering() || !conn.unsent().is_empty();
                return if keep {
                    Received::Enough
                } else {
                    Received::Gone
                };
            }
            Ok(count) => {
                budget -= count;
                // Less than asked for empties the socket, but an end that came with the data raises no further edge.
                if count < room && !conn.read_closed {
                    conn.readable = false;
                }
                stats.reads.add(1);
                stats.received_bytes.add(count as u64);
                deliver(table, key, &buffer[..count], service, config, now);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                conn.readable = false;
                return Received::Enough;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                if let Protocol::Peer(id) = conn.protocol {
                    peers::failed(service, id, &error, now);
                }
                return Received::Gone;
            }
        }
    }
}

/// A timer of the connection fired, maybe early.
pub(super) fn on_deadline<S: Service>(
    table: &mut Table,
    key: Key,
    service: &mut S,
    now: Instant,
) -> Received {
    let date = table.date;
    let Some(conn) = table.conns.get_mut(key) else {
        return Received::Enough;
    };
    if conn.deadline().is_none_or(|at| at > now) {
        return Received::Enough;
    }
    if conn.stalls_at().is_some_and(|at| at <= now) {
        return Received::Gone;
    }
    match &mut conn.protocol {
        Protocol::Sniffing { .. } | Protocol::Lingering => Received::Gone,
        Protocol::Http1 { connection, .. } if connection.is_idle() => Received::Gone,
        Protocol::Http1 { connection, .. } => {
            connection.close_idle(&date);
            Received::Enough
        }
        Protocol::Http2(connection) => {
            if conn.keeps_buffers && conn.since + TRIM_AFTER <= now {
                conn.keeps_buffers = false;
                connection.trim();
            }
            drive_http2(table, key, service, |connection, sink| {
                connection.on_deadline(now, sink)
            });
            Received::Enough
        }
        Protocol::Peer(_) | Protocol::Driven => Received::Enough,
    }
}

/// The one write of this turn, after what is queued behind the connection's windows has been moved up.
pub(super) fn flush<S: Service>(
    table: &mut Table,
    key: Key,
    service: &mut S,
    stats: &Stats,
    now: Instant,
) -> Flushed {
    drive_http2(table, key, service, |connection, sink| {
        connection.flush(now, sink)
    });
    let turn = table.turn;
    let Some(conn) = table.conns.get_mut(key) else {
        return Flushed::Done;
    };
    if let Protocol::Peer(id) = conn.protocol {
        return conn.write_peer(id, service, turn, stats, now);
    }
    match conn.write(turn, stats, now) {
        Flushed::Over => {
            drive_http2(table, key, service, |connection, sink| {
                connection.on_closed(sink)
            });
            table
                .conns
                .get_mut(key)
                .map_or(Flushed::Done, |conn| conn.linger(now))
        }
        flushed => flushed,
    }
}

/// The socket is gone: whoever works for its calls hears it.
pub(super) fn gone<S: Service>(table: &mut Table, key: Key, service: &mut S, now: Instant) {
    drive_http2(table, key, service, |connection, sink| {
        connection.on_closed(sink)
    });
    let Some(conn) = table.conns.remove(key) else {
        return;
    };
    if let Protocol::Peer(id) = conn.protocol {
        table.peers.remove(&id);
        if let Some(peers) = service.peers() {
            peers.closed(id, Gone::Ended, now);
        }
    }
    if let Protocol::Http1 { connection, number } = conn.protocol
        && connection.is_answering()
    {
        service.on_cancel(CallId {
            conn: key.index,
            generation: key.generation,
            stream: number,
        });
    }
}

fn deliver<S: Service>(
    table: &mut Table,
    key: Key,
    bytes: &[u8],
    service: &mut S,
    config: &Config,
    now: Instant,
) {
    let Some(conn) = table.conns.get_mut(key) else {
        return;
    };
    match &mut conn.protocol {
        Protocol::Sniffing {
            head,
            length: known,
            takes_peers,
        } => {
            let length = usize::from(*known);
            let missing = bytes.len().min(head.len() - length);
            head[length..length + missing].copy_from_slice(&bytes[..missing]);
            let length = length + missing;
            *known = u8::try_from(length).expect("the head has four bytes");
            let (head, takes_peers) = (*head, *takes_peers);
            conn.protocol = match sniff(&head[..length]) {
                Sniffed::Undecided => return,
                Sniffed::Peer if takes_peers => {
                    let accepted = service.peers().and_then(|peers| peers.accept(now));
                    let Some(id) = accepted else {
                        conn.ending = true;
                        return;
                    };
                    table.peers.insert(id, key);
                    Protocol::Peer(id)
                }
                // A member does not take gRPC on its peers' port: HTTP/1.1 words the refusal.
                Sniffed::Http2 if takes_peers => http1(config),
                Sniffed::Http2 => http2(config, conn.since),
                Sniffed::Http1 | Sniffed::Peer => http1(config),
            };
            // Bytes of a first read that was too short are given again, in front of the rest.
            if length > missing {
                deliver(table, key, &head[..length - missing], service, config, now);
            }
            deliver(table, key, bytes, service, config, now);
        }
        Protocol::Http1 { connection, .. } => {
            if !connection.is_receiving() && !bytes.is_empty() {
                conn.since = now;
            }
            connection.recv(bytes);
            serve_http1(table, key, service);
        }
        Protocol::Http2(_) => {
            conn.since = now;
            drive_http2(table, key, service, |connection, sink| {
                connection.recv(bytes, now, sink)
            });
        }
        Protocol::Peer(id) => {
            let heard = service.peers().map(|peers| peers.recv(*id, bytes, now));
            conn.ending |= heard != Some(peer::Received::Fine);
        }
        Protocol::Lingering | Protocol::Driven => {}
    }
}

fn serve_http1<S: Service>(table: &mut Table, key: Key, service: &mut S) {
    loop {
        let date = table.date;
        let Some(conn) = table.conns.get_mut(key) else {
            return;
        };
        let tag = conn.tag;
        let Protocol::Http1 { connection, number } = &mut conn.protocol else {
            return;
        };
        if connection.out().len() >= UNSENT_BYTES_MAX {
            conn.is_nudged = true;
            return;
        }
        if connection.poll(&date) == h1::Parsed::Nothing {
            return;
        }
        let Some(taken) = connection.take_request() else {
            return;
        };
        *number = number.wrapping_add(1);
        let call = CallId {
            conn: key.index,
            generation: key.generation,
            stream: *number,
        };
        taken.show(tag, |request| {
            service.on_http(&mut LoopCalls::outside(table), call, request)
        });
    }
}

/// Runs `drive` with the connection taken out of the table, so that the service can reach every other one meanwhile.
fn drive_http2<S: Service>(
    table: &mut Table,
    key: Key,
    service: &mut S,
    drive: impl FnOnce(&mut grpc::Connection, &mut ServiceSink<'_, S>),
) {
    let Some(conn) = table.conns.get_mut(key) else {
        return;
    };
    if !matches!(conn.protocol, Protocol::Http2(_)) {
        return;
    }
    let Protocol::Http2(mut connection) = std::mem::replace(&mut conn.protocol, Protocol::Driven)
    else {
        return;
    };
    drive(
        &mut connection,
        &mut ServiceSink {
            table,
            key,
            service,
        },
    );
    if let Some(conn) = table.conns.get_mut(key) {
        conn.protocol = Protocol::Http2(connection);
    }
}

fn http1(config: &Config) -> Protocol {
    Protocol::Http1 {
        connection: Box::new(h1::Connection::new(config.h1_body_bytes_max)),
        number: 0,
    }
}

fn http2(config: &Config, now: Instant) -> Protocol {
    Protocol::Http2(Box::new(grpc::Connection::new(&config.grpc, now)))
}

/// Ten thousand idle connections cost a few megabytes beside what the kernel keeps for them.
const _: () = assert!(size_of::<Conn>() <= 128);
