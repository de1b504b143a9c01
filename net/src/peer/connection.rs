use std::time::{Duration, Instant};

use super::PeerId;
use super::frame::{BadFrame, Frames, Kind};
use super::hello::HELLO_BYTES;
use super::outbox::Outbox;

/// One connection to another member, whichever end dialed it: after the hellos both do the same.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) side: Side,
    pub(super) stage: Stage,
    /// Whom a dialed one means to reach; of an accepted one known with its hello.
    pub(super) peer: Option<PeerId>,
    /// Of the other end's process, once its hello has come.
    pub(super) session: u64,
    hello: Vec<u8>,
    frames: Frames,
    pub(super) out: Outbox,
    /// Whether the reactor was told that there is something to write.
    pub(super) is_dirty: bool,
    /// When it began, or when bytes last came.
    heard: Instant,
    next_ping: Instant,
    /// When the ping was made whose answer has not come.
    pinged: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Dialed,
    Accepted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The other end has not said who it is.
    Hello,
    Open,
    /// The refusal is written, then it ends.
    Refusing,
    /// It ends as soon as the reactor hears of it.
    Closing,
}

/// What came of some bytes.
pub(super) enum Heard<'a> {
    Nothing,
    /// The hello is whole; the rest of the bytes stands behind it.
    Hello([u8; HELLO_BYTES], &'a [u8]),
}

impl Connection {
    pub(super) fn new(
        side: Side,
        peer: Option<PeerId>,
        frame_bytes_max: usize,
        now: Instant,
    ) -> Connection {
        Connection {
            side,
            stage: Stage::Hello,
            peer,
            session: 0,
            hello: Vec::new(),
            frames: Frames::new(frame_bytes_max),
            out: Outbox::default(),
            is_dirty: false,
            heard: now,
            next_ping: now,
            pinged: None,
        }
    }

    /// Bytes before the hello is whole.
    pub(super) fn hear_hello<'a>(&mut self, bytes: &'a [u8], now: Instant) -> Heard<'a> {
        let missing = bytes.len().min(HELLO_BYTES - self.hello.len());
        let (hello, rest) = bytes.split_at(missing);
        self.hello.extend_from_slice(hello);
        match <[u8; HELLO_BYTES]>::try_from(&self.hello[..]) {
            Ok(hello) => {
                self.heard = now;
                self.hello = Vec::new();
                Heard::Hello(hello, rest)
            }
            Err(_) => Heard::Nothing,
        }
    }

    /// Bytes behind the hello: shows the messages, answers pings. How long an answer to a ping took, if one came.
    pub(super) fn hear_frames(
        &mut self,
        bytes: &[u8],
        now: Instant,
        mut on_message: impl FnMut(&[u8]),
    ) -> Result<Option<Duration>, BadFrame> {
        let mut round_trip = None;
        let Connection {
            frames,
            out,
            pinged,
            ..
        } = self;
        frames.recv(bytes, |kind, body| match kind {
            Kind::Urgent | Kind::Bulk => on_message(body),
            // Whoever sends pings faster than it takes their answers loses some.
            Kind::Ping => _ = out.push(Kind::Pong, |out| out.extend_from_slice(body)),
            Kind::Pong => {
                let took = |at| now.saturating_duration_since(at);
                round_trip = pinged.take().map(took).or(round_trip);
            }
        })?;
        if !bytes.is_empty() {
            self.heard = now;
        }
        Ok(round_trip)
    }

    /// Pings where one is due; false if the other end has been silent for too long.
    pub(super) fn keep_alive(&mut self, now: Instant, silence_max: Duration) -> bool {
        if now >= self.heard + silence_max {
            return false;
        }
        if self.stage == Stage::Open && now >= self.next_ping {
            self.next_ping = now + silence_max / PINGS_IN_SILENCE;
            // A queue that is full is a connection that is alive or soon silent.
            if self.out.push(Kind::Ping, |_| {}) {
                self.pinged.get_or_insert(now);
            }
        }
        true
    }

    /// When `keep_alive` has something to do.
    pub(super) fn deadline(&self, silence_max: Duration) -> Instant {
        let silent = self.heard + silence_max;
        match self.stage {
            Stage::Open => silent.min(self.next_ping),
            Stage::Hello | Stage::Refusing | Stage::Closing => silent,
        }
    }
}

/// So many pings must be lost or late before a connection is given up.
const PINGS_IN_SILENCE: u32 = 8;
