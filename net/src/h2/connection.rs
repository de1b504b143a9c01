use super::Protocol;
use super::block::{BlockCache, OpenBlock};
use super::error::{ErrorCode, Reason};
use super::flow::ReceiveWindow;
use super::frame::{self, FrameHeader, HEADER_BYTES, ID_MAX};
use super::guard::Guard;
use super::keepalive::{Due, KeepAlive, Pings};
use super::settings::{FRAME_BYTES_DEFAULT, INITIAL_WINDOW_DEFAULT, Settings};
use super::streams::{Role, StreamKey, Streams};
use crate::hpack::{DEFAULT_TABLE_BYTES, Decoder, Fields};
use crate::limits::{CONNECTION_WINDOW_BYTES, KEPT_BUFFER_BYTES_MAX, Limits, UNSENT_BYTES_MAX};
use crate::sniff::PREFACE;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One HTTP/2 connection without its socket.
#[derive(Debug)]
pub struct Connection<P: Protocol> {
    /// What may be said; handed to every event.
    pub(super) streams: Streams<P>,
    pub(super) limits: Limits,
    pub(super) phase: Phase,
    /// The beginning of a frame whose end has not come, and since when it waits.
    partial: Vec<u8>,
    partial_since: Option<Instant>,
    pub(super) block: Option<OpenBlock>,
    pub(super) decoder: Decoder,
    pub(super) fields: Fields,
    pub(super) cache: BlockCache<P>,
    pub(super) receive: ReceiveWindow,
    /// Highest stream id opened: by the peer of a server, by us as a client.
    pub(super) last_stream: u32,
    pub(super) guard: Guard,
    pub(super) pings: Pings,
    pub(super) drain: Drain,
    pub(super) now: Instant,
    /// Something waits for the peer to take it: `Streams::moved` when it was last looked at, and when that was.
    waiting: Option<(u64, Instant)>,
}

/// How a connection is set up.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Our side.
    pub role: Role,
    /// What we tell the peer.
    pub settings: Settings,
    /// What we bear.
    pub limits: Limits,
    /// Pings.
    pub keep_alive: KeepAlive,
}

/// Where the reading side stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// So many bytes of the preface have come.
    Preface {
        seen: usize,
        since: Instant,
    },
    /// The first frame must be SETTINGS.
    FirstFrame {
        since: Instant,
    },
    Open,
    /// A connection error: what comes is ignored, the socket closes once all is written.
    Closed(Reason),
}

/// How far an orderly end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drain {
    No,
    /// GOAWAY without a last stream and a ping are on their way, since then: what the client had sent before is still taken.
    Announced(Instant),
    /// The last stream is told; newer ones are refused.
    Final,
    /// The peer has said GOAWAY.
    ByPeer,
}

/// What a connection tells the protocol above it. A stream may be gone when an event is handled: then answers are ignored.
pub trait Events<P: Protocol> {
    /// Overwrites `head` with what is to be kept of a valid header block. The answer may be kept and used again.
    fn read_head(&mut self, fields: &Fields, head: &mut P::Head);

    /// A stream has been opened by the peer, or it has answered, or ended with trailers.
    fn on_headers(
        &mut self,
        streams: &mut Streams<P>,
        key: StreamKey,
        head: &Arc<P::Head>,
        is_end: bool,
    );

    /// Data, and whether it is the last. Server: trailers are reported as an end without data.
    fn on_data(&mut self, streams: &mut Streams<P>, key: StreamKey, data: &[u8], is_end: bool);

    /// The stream is over before its end, by the peer or by its fault. It is freed right after.
    fn on_reset(&mut self, streams: &mut Streams<P>, key: StreamKey, code: ErrorCode);

    /// The queue of a stream that was told `Backlog::Full` has drained.
    fn on_writable(&mut self, streams: &mut Streams<P>, key: StreamKey);
}

/// An announced end becomes final at the latest after this, if the peer does not answer the ping.
const DRAIN_ANNOUNCE_MAX: Duration = Duration::from_secs(1);
pub(super) const DRAIN_PING: [u8; 8] = *b"goodbye?";
const KEEP_ALIVE_PING: [u8; 8] = *b"alive???";

impl<P: Protocol> Connection<P> {
    /// Its greeting waits in `out` at once.
    pub fn new(config: &Config, now: Instant) -> Connection<P> {
        let is_client = config.role == Role::Client;
        let mut streams = Streams::new(config.role, config.settings);
        if is_client {
            streams.out.extend_from_slice(PREFACE);
        }
        config.settings.put(&mut streams.out, is_client);
        frame::put_window_update(
            &mut streams.out,
            0,
            CONNECTION_WINDOW_BYTES - INITIAL_WINDOW_DEFAULT,
        );
        let phase = match config.role {
            Role::Server => Phase::Preface {
                seen: 0,
                since: now,
            },
            Role::Client => Phase::FirstFrame { since: now },
        };
        Connection {
            streams,
            limits: config.limits,
            phase,
            partial: Vec::new(),
            partial_since: None,
            block: None,
            decoder: Decoder::new(DEFAULT_TABLE_BYTES),
            fields: Fields::default(),
            cache: BlockCache::new(),
            receive: ReceiveWindow::new(CONNECTION_WINDOW_BYTES),
            last_stream: 0,
            guard: Guard::new(config.limits),
            pings: Pings::new(config.keep_alive, now),
            drain: Drain::No,
            now,
            waiting: None,
        }
    }

    /// Takes all of `bytes`. Whole frames are handled in place; the beginning of one is kept.
    pub fn recv(&mut self, bytes: &[u8], now: Instant, events: &mut impl Events<P>) {
        self.now = now;
        self.pings.on_read(now);
        if let Err(reason) = self.try_recv(bytes, events) {
            self.fail(reason);
        }
    }

    fn try_recv(&mut self, bytes: &[u8], events: &mut impl Events<P>) -> Result<(), Reason> {
        let mut rest = bytes;
        if let Phase::Preface { seen, since } = self.phase {
            rest = self.take_preface(rest, seen, since)?;
        }
        if !self.partial.is_empty() {
            rest = self.complete_partial(rest, events)?;
        }
        while let Some((head, tail)) = rest.split_first_chunk::<HEADER_BYTES>() {
            if matches!(self.phase, Phase::Closed(_)) {
                return Ok(());
            }
            let header = FrameHeader::read(head);
            self.check_size(header)?;
            let Some((payload, after)) = tail.split_at_checked(header.payload_bytes) else {
                break;
            };
            self.on_frame(header, payload, events)?;
            rest = after;
        }
        if !rest.is_empty() && !matches!(self.phase, Phase::Closed(_)) {
            self.partial.extend_from_slice(rest);
            self.partial_since.get_or_insert(self.now);
        }
        Ok(())
    }

    fn take_preface<'a>(
        &mut self,
        bytes: &'a [u8],
        seen: usize,
        since: Instant,
    ) -> Result<&'a [u8], Reason> {
        let wanted = &PREFACE[seen..];
        let (now, rest) = bytes.split_at(bytes.len().min(wanted.len()));
        if now != &wanted[..now.len()] {
            return Err(Reason::protocol("no HTTP/2 preface"));
        }
        self.phase = if now.len() == wanted.len() {
            Phase::FirstFrame { since }
        } else {
            Phase::Preface {
                seen: seen + now.len(),
                since,
            }
        };
        Ok(rest)
    }

    /// Fills up the frame that was cut, and handles it once it is whole. Returns what follows it.
    fn complete_partial<'a>(
        &mut self,
        mut rest: &'a [u8],
        events: &mut impl Events<P>,
    ) -> Result<&'a [u8], Reason> {
        rest = self.fill_partial(rest, HEADER_BYTES);
        let Some(head) = self.partial.first_chunk::<HEADER_BYTES>() else {
            return Ok(rest);
        };
        let header = FrameHeader::read(head);
        self.check_size(header)?;
        let whole = HEADER_BYTES + header.payload_bytes;
        rest = self.fill_partial(rest, whole);
        if self.partial.len() < whole {
            return Ok(rest);
        }
        let mut frame = std::mem::take(&mut self.partial);
        self.partial_since = None;
        let result = self.on_frame(header, &frame[HEADER_BYTES..], events);
        super::stream::reuse(&mut frame);
        self.partial = frame;
        result.map(|()| rest)
    }

    fn fill_partial<'a>(&mut self, rest: &'a [u8], bytes: usize) -> &'a [u8] {
        let missing = bytes.saturating_sub(self.partial.len());
        let (now, rest) = rest.split_at(rest.len().min(missing));
        self.partial.extend_from_slice(now);
        rest
    }

    fn check_size(&self, header: FrameHeader) -> Result<(), Reason> {
        if header.payload_bytes > FRAME_BYTES_DEFAULT {
            return Err(Reason::frame_size("frame larger than MAX_FRAME_SIZE"));
        }
        Ok(())
    }

    /// A connection error: the peer is told, everything open is over once the owner calls `on_closed`.
    pub(super) fn fail(&mut self, reason: Reason) {
        if matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        self.phase = Phase::Closed(reason);
        let last = match self.streams.role {
            Role::Server => self.last_stream,
            Role::Client => 0,
        };
        frame::put_goaway(
            &mut self.streams.out,
            last,
            reason.code,
            reason.text.as_bytes(),
        );
        self.partial = Vec::new();
        self.block = None;
    }

    /// A dead peer hears nothing: what waits for it is dropped.
    fn abandon(&mut self, reason: Reason) {
        self.phase = Phase::Closed(reason);
        self.streams.out.clear();
        self.streams.written = 0;
    }

    /// The sending half, to speak outside of events.
    pub fn streams(&mut self) -> &mut Streams<P> {
        &mut self.streams
    }

    /// A client opens a stream. `None`: as many are open as the peer allows, or the connection is ending.
    pub fn open(&mut self, block: &[u8], is_end: bool) -> Option<StreamKey> {
        assert!(self.streams.role == Role::Client);
        let is_full = self.streams.len() >= self.streams.peer.streams_max as usize;
        if is_full
            || self.drain != Drain::No
            || self.failure().is_some()
            || self.last_stream > ID_MAX - 2
        {
            return None;
        }
        let id = if self.last_stream == 0 {
            1
        } else {
            self.last_stream + 2
        };
        self.last_stream = id;
        let key = self.streams.open(id, None);
        self.streams.headers(key, block, is_end);
        Some(key)
    }

    /// Number of open streams.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Moves queued data into `out` and tells who may send more. Before each write.
    pub fn flush(&mut self, now: Instant, events: &mut impl Events<P>) {
        self.now = now;
        self.streams.pump();
        if !self.streams.writable.is_empty() {
            self.tell_writable(events);
        }
        self.watch_stall();
    }

    fn tell_writable(&mut self, events: &mut impl Events<P>) {
        let mut writable = std::mem::take(&mut self.streams.writable);
        for key in writable.drain(..) {
            if self.streams.slots.get(key).is_some() {
                events.on_writable(&mut self.streams, key);
            }
        }
        // What became writable meanwhile is told at the next flush.
        writable.append(&mut self.streams.writable);
        self.streams.writable = writable;
        self.streams.pump();
    }

    /// Bytes for the socket.
    pub fn out(&self) -> &[u8] {
        self.streams.unsent()
    }

    /// So many of them are written.
    pub fn advance(&mut self, bytes: usize) {
        self.streams.advance(bytes);
        self.waiting = self.is_waiting().then_some((self.streams.moved, self.now));
    }

    /// After a flush and a write, is there more that could be written?
    pub fn has_more(&self) -> bool {
        self.streams.has_ready() || !self.streams.writable.is_empty()
    }

    /// Should the socket be read?
    pub fn wants_read(&self) -> bool {
        self.streams.unsent().len() < UNSENT_BYTES_MAX && !matches!(self.phase, Phase::Closed(_))
    }

    /// Why the connection has ended, if it has by an error.
    pub fn failure(&self) -> Option<Reason> {
        match self.phase {
            Phase::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// All is said and written: the socket can be closed.
    pub fn is_finished(&self) -> bool {
        let is_over = match self.phase {
            Phase::Closed(_) => true,
            _ => match self.drain {
                Drain::Final | Drain::ByPeer => self.streams.is_empty(),
                Drain::No | Drain::Announced(_) => false,
            },
        };
        is_over && self.streams.unsent().is_empty()
    }

    /// Begins an orderly end: what is open goes on, what the peer opens from now on is soon refused.
    pub fn go_away(&mut self, now: Instant) {
        self.now = now;
        if self.drain != Drain::No || matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        if self.streams.role == Role::Client {
            frame::put_goaway(&mut self.streams.out, 0, ErrorCode::NoError, b"");
            self.drain = Drain::Final;
            return;
        }
        self.drain = Drain::Announced(self.now);
        frame::put_goaway(&mut self.streams.out, ID_MAX, ErrorCode::NoError, b"");
        frame::put_ping(&mut self.streams.out, false, DRAIN_PING);
    }

    pub(super) fn finish_drain(&mut self) {
        if matches!(self.drain, Drain::Announced(_)) {
            self.drain = Drain::Final;
            frame::put_goaway(
                &mut self.streams.out,
                self.last_stream,
                ErrorCode::NoError,
                b"",
            );
        }
    }

    /// When `on_deadline` must be called at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Closed(_) => return None,
            Phase::Preface { since, .. } | Phase::FirstFrame { since } => {
                Some(since + self.limits.preface_timeout)
            }
            Phase::Open => None,
        };
        let frame = self
            .frame_since()
            .map(|since| since + self.limits.frame_timeout);
        let drain = match self.drain {
            Drain::Announced(since) => Some(since + DRAIN_ANNOUNCE_MAX),
            _ => None,
        };
        let stall = self.waiting.zip(self.limits.stall_timeout);
        let stall = stall.map(|((_, since), timeout)| since + timeout);
        [phase, frame, drain, stall, self.pings.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Time has passed.
    pub fn on_deadline(&mut self, now: Instant) {
        self.now = now;
        let is_past = |since: Instant, timeout| now.saturating_duration_since(since) >= timeout;
        match self.phase {
            Phase::Closed(_) => return,
            Phase::Preface { since, .. } | Phase::FirstFrame { since }
                if is_past(since, self.limits.preface_timeout) =>
            {
                self.abandon(Reason::new(
                    ErrorCode::SettingsTimeout,
                    "no preface in time",
                ));
                return;
            }
            _ => {}
        }
        if self
            .frame_since()
            .is_some_and(|since| is_past(since, self.limits.frame_timeout))
        {
            self.fail(Reason::calm("frame or header block not ended in time"));
            return;
        }
        if let Drain::Announced(since) = self.drain
            && is_past(since, DRAIN_ANNOUNCE_MAX)
        {
            self.finish_drain();
        }
        self.watch_stall();
        match self.pings.on_deadline(now) {
            Due::Nothing => {}
            Due::SendPing => frame::put_ping(&mut self.streams.out, false, KEEP_ALIVE_PING),
            Due::PeerIsDead => self.abandon(Reason::new(
                ErrorCode::NoError,
                "keep-alive ping not answered",
            )),
        }
    }

    /// The socket is gone: every open stream is over.
    pub fn on_closed(&mut self, events: &mut impl Events<P>) {
        self.abandon(Reason::new(ErrorCode::NoError, "connection closed"));
        let keys: Vec<StreamKey> = self.streams.keys().collect();
        for key in keys {
            events.on_reset(&mut self.streams, key, ErrorCode::Cancel);
            self.streams.release(key);
        }
        self.abandon(Reason::new(ErrorCode::NoError, "connection closed"));
    }

    /// Gives memory back; for a connection that has been quiet.
    pub fn trim(&mut self) {
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        if self.streams.out.capacity() > KEPT_BUFFER_BYTES_MAX || self.streams.is_empty() {
            self.streams.out.drain(..self.streams.written);
            self.streams.written = 0;
            self.streams.out.shrink_to_fit();
        }
        self.streams.slots.trim();
        if self.streams.is_empty() {
            self.streams.ready = Default::default();
        }
    }

    fn frame_since(&self) -> Option<Instant> {
        let block = self.block.as_ref().map(|block| block.since);
        [block, self.partial_since].into_iter().flatten().min()
    }

    fn is_waiting(&self) -> bool {
        self.streams.queued_bytes > 0 || !self.streams.unsent().is_empty()
    }

    fn watch_stall(&mut self) {
        let moved = self.streams.moved;
        match self.waiting {
            _ if !self.is_waiting() => self.waiting = None,
            Some((before, since)) if before == moved => {
                let timeout = self.limits.stall_timeout;
                if timeout
                    .is_some_and(|timeout| self.now.saturating_duration_since(since) >= timeout)
                {
                    self.abandon(Reason::calm("nothing taken of what waits"));
                }
            }
            _ => self.waiting = Some((moved, self.now)),
        }
    }
}
