//! The watchers' side: connections that carry them, and whether each heard all that it wants, once and in order.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use basalt_net::grpc::client::{Answered, Client, Template};
use basalt_net::grpc::{Metadata, Status};
use basalt_pb::hot::{
    Malformed, Wire, WireType, begin_nested, end_nested, put_bool_field, put_bytes_field,
    put_int_field,
};
use mio::net::TcpStream;
use mio::{Interest, Poll, Token};

use super::keys::Keys;
use super::told::Told;
use super::workload::Workload;
use crate::plan::Watching;

/// All watchers of a run.
pub(crate) struct Watchers {
    watching: Watching,
    keys: Keys,
    template: Template,
    links: Vec<Link>,
    state: State,
    /// How far the creating may go: none yet, or all.
    is_creating: bool,
    /// Creations asked for.
    asked: u32,
    /// While it lasts nothing is read, on the driver's clock.
    pause: Range<u64>,
    is_paused: bool,
    resumed_at: Option<u64>,
}

/// What was heard.
struct State {
    watchers: Vec<Watcher>,
    each: u32,
    has_own_keys: bool,
    /// Creations that were answered, and when the last one was.
    created: u32,
    created_at: u64,
    /// Watchers that have come to their targets, and when the last one did.
    arrived: u32,
    arrived_at: u64,
    problem: Option<String>,
}

#[derive(Clone, Copy)]
struct Watcher {
    /// Of the last event.
    revision: i64,
    version: i64,
    /// It has caught up when it has heard of this revision.
    target: i64,
}

struct Link {
    socket: TcpStream,
    client: Client,
    /// Streams of the links before it.
    first: u32,
    opened: u32,
}

/// Hears one link.
struct Hearer<'a> {
    state: &'a mut State,
    told: &'a mut Told,
    first: u32,
    now: u64,
}

impl Watchers {
    /// Connects; nobody watches yet.
    ///
    /// # Errors
    /// When the server does not take a connection.
    pub(crate) fn connect(
        to: SocketAddr,
        poll: &Poll,
        first_token: usize,
        (watching, workload): (&Watching, &Workload),
    ) -> Result<Self> {
        let streams = u32::from(watching.watch_streams);
        let links = (0..u32::from(watching.watch_conns)).map(|number| {
            let token = Token(first_token + number as usize);
            Link::new(to, poll, token, number * streams)
        });
        let keys = workload.key_names();
        let (watchers, all) = (watching.watchers, streams * u32::from(watching.watch_conns));
        Ok(Self {
            watching: watching.clone(),
            keys,
            template: Template::new("/etcdserverpb.Watch/Watch", &to.to_string(), &[], None),
            links: links.collect::<Result<_>>()?,
            state: State {
                watchers: Vec::new(),
                each: watchers / all,
                has_own_keys: watching.watch_own,
                created: 0,
                created_at: 0,
                arrived: 0,
                arrived_at: 0,
                problem: None,
            },
            is_creating: false,
            asked: 0,
            pause: u64::MAX..u64::MAX,
            is_paused: false,
            resumed_at: None,
        })
    }

    /// Creates them all, from the revision behind `told`'s first.
    pub(crate) fn create(&mut self, told: &Told, workload: &Workload) {
        let watcher = Watcher {
            revision: told.base(),
            version: 0,
            target: 0,
        };
        self.state.watchers = vec![watcher; self.watching.watchers as usize];
        self.set_targets(told, workload);
        self.is_creating = true;
    }

    /// The measured time begins.
    pub(crate) fn begin(&mut self, measured: &Range<u64>) {
        let pause = (self.watching.watch_pause * 1e9) as u64;
        if pause > 0 {
            let from = measured.start + (measured.end - measured.start).saturating_sub(pause) / 2;
            self.pause = from..from + pause;
        }
    }

    /// When it has something to do next.
    pub(crate) fn due(&self) -> u64 {
        match self.is_paused {
            true => self.pause.end,
            false => self.pause.start,
        }
    }

    /// Asks for watchers, stops and resumes reading, and writes.
    ///
    /// # Errors
    /// When a connection fails, or something was heard that must not be.
    pub(crate) fn turn(
        &mut self,
        clock: Instant,
        now: u64,
        (told, workload): (&mut Told, &Workload),
        buffer: &mut [u8],
    ) -> Result<()> {
        if self.is_paused && now >= self.pause.end {
            self.is_paused = false;
            self.pause = u64::MAX..u64::MAX;
            self.resumed_at = Some(now);
            self.set_targets(told, workload);
            for place in 0..self.links.len() {
                self.read(place, clock, now, told, buffer)?;
            }
        } else if !self.is_paused && now >= self.pause.start {
            self.is_paused = true;
        }
        self.ask();
        for link in &mut self.links {
            let first = link.first;
            let state = &mut self.state;
            let mut hearer = Hearer {
                state,
                told,
                first,
                now,
            };
            link.write(clock, &mut hearer)?;
        }
        match self.state.problem.take() {
            Some(problem) => bail!("{problem}"),
            None => Ok(()),
        }
    }

    /// Takes what a socket gives, unless nobody reads.
    ///
    /// # Errors
    /// When the connection ends.
    pub(crate) fn read(
        &mut self,
        place: usize,
        clock: Instant,
        now: u64,
        told: &mut Told,
        buffer: &mut [u8],
    ) -> Result<()> {
        while !self.is_paused {
            let link = &mut self.links[place];
            let count = match link.socket.read(buffer) {
                Ok(0) => bail!("the server closed a connection of watchers"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let (state, first) = (&mut self.state, link.first);
            let mut hearer = Hearer {
                state,
                told,
                first,
                now,
            };
            link.client.recv(&buffer[..count], clock, &mut hearer);
            if let Some(reason) = link.client.failure() {
                bail!("a connection of watchers failed: {reason:?}");
            }
            if count < buffer.len() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// When all that were asked for are there.
    pub(crate) fn created_at(&self) -> Option<u64> {
        (self.state.created == self.watching.watchers).then_some(self.state.created_at)
    }

    /// When all had caught up with what was there when they were asked for, or began to read again.
    pub(crate) fn arrived_at(&self) -> Option<u64> {
        (self.state.arrived == self.watching.watchers).then_some(self.state.arrived_at)
    }

    /// When catching up began, if that is asked for: with the measured time, or when they read again.
    pub(crate) fn resumed_at(&self, measured_from: u64) -> Option<u64> {
        match self.watching.watch_behind {
            0 => self.resumed_at,
            _ => Some(measured_from),
        }
    }

    fn set_targets(&mut self, told: &Told, workload: &Workload) {
        self.state.arrived = 0;
        for (number, watcher) in (0..).zip(&mut self.state.watchers) {
            watcher.target = match self.state.has_own_keys {
                true => workload.seen(number),
                false => told.newest(),
            };
            let is_there = watcher.revision >= watcher.target;
            self.state.arrived += u32::from(is_there);
        }
        // Should all be there already.
        self.state.arrived_at = 0;
    }

    /// Asks for the next ones, so many at a time that neither end drowns in them.
    fn ask(&mut self) {
        let streams = u32::from(self.watching.watch_streams);
        for link in &mut self.links {
            while link.opened < streams && link.client.open(&self.template).is_some() {
                link.opened += 1;
            }
        }
        while self.is_creating
            && self.asked < self.watching.watchers
            && self.asked - self.state.created < CREATIONS_MAX
        {
            // Round the streams, so that all are equally long.
            let all = streams * self.links.len() as u32;
            let (stream, nth) = (self.asked % all, self.asked / all);
            let number = stream * self.state.each + nth;
            let link = &mut self.links[(stream / streams) as usize];
            if link.opened <= stream % streams {
                return;
            }
            let request = request(&self.watching, self.keys, number, self.state.watchers[0]);
            let id = 1 + 2 * (stream % streams);
            link.client.send(id, |out| out.extend_from_slice(&request));
            self.asked += 1;
        }
    }
}

/// A `WatchRequest` that creates.
fn request(watching: &Watching, keys: Keys, number: u32, watcher: Watcher) -> Vec<u8> {
    let mut out = Vec::new();
    let create = begin_nested(&mut out, 1);
    if watching.watch_own {
        let mut key = Vec::new();
        keys.push(u64::from(number), &mut key);
        put_bytes_field(&mut out, 1, &key);
    } else {
        // All keys.
        put_bytes_field(&mut out, 1, &[0]);
        put_bytes_field(&mut out, 2, &[0]);
    }
    if watching.watch_behind > 0 {
        put_int_field(&mut out, 3, watcher.revision + 1);
    }
    put_bool_field(&mut out, 6, watching.watch_prev_kv);
    end_nested(&mut out, create);
    out
}

impl Link {
    fn new(to: SocketAddr, poll: &Poll, token: Token, first: u32) -> Result<Self> {
        let socket =
            std::net::TcpStream::connect(to).with_context(|| format!("connecting to {to}"))?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut socket = TcpStream::from_std(socket);
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut socket, token, interest)?;
        Ok(Self {
            socket,
            client: Client::new(MESSAGE_BYTES_MAX, Instant::now()),
            first,
            opened: 0,
        })
    }

    fn write(&mut self, clock: Instant, hearer: &mut Hearer<'_>) -> Result<()> {
        loop {
            self.client.flush(clock, hearer);
            while !self.client.out().is_empty() {
                match self.socket.write(self.client.out()) {
                    Ok(0) => bail!("the server takes no more bytes of watchers"),
                    Ok(count) => self.client.advance(count),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if !self.client.has_more() {
                return Ok(());
            }
        }
    }
}

impl Answered for Hearer<'_> {
    fn on_message(&mut self, stream: u32, message: &[u8]) {
        let stream = self.first + (stream - 1) / 2;
        let heard = self.state.hear(stream, message, self.told, self.now);
        if let Err(problem) = heard {
            let text = format!("a watcher of stream {stream}: {problem:#}");
            self.state.problem.get_or_insert(text);
        }
    }

    fn on_status(&mut self, _: u32, status: &Status, _: &Metadata) {
        let text = format!("a stream of watchers ended: {status}");
        self.state.problem.get_or_insert(text);
    }
}

impl State {
    /// Takes a `WatchResponse`; its id comes before its events.
    fn hear(&mut self, stream: u32, message: &[u8], told: &mut Told, now: u64) -> Result<()> {
        let mut id = 0;
        let mut wire = Wire::new(message);
        while let Some(field) = wire.tag().map_err(malformed)? {
            match field {
                (2, WireType::Varint) => id = wire.varint().map_err(malformed)?,
                (3, WireType::Varint) => {
                    wire.varint().map_err(malformed)?;
                    self.created += 1;
                    self.created_at = now;
                }
                (4, WireType::Varint) => bail!("watcher {id} was canceled"),
                (11, WireType::Len) => {
                    let event = wire.bytes().map_err(malformed)?;
                    let (revision, version) = read_event(event).map_err(malformed)?;
                    ensure!(id < u64::from(self.each), "nobody has the id {id}");
                    let number = stream * self.each + id as u32;
                    self.on_event(number, revision, version, now)?;
                    told.on_event(revision, now);
                }
                field => wire.skip(field).map_err(malformed)?,
            }
        }
        Ok(())
    }

    fn on_event(&mut self, number: u32, revision: i64, version: i64, now: u64) -> Result<()> {
        let watcher = &mut self.watchers[number as usize];
        let is_next = match self.has_own_keys {
            true => {
                let is_first = watcher.version == 0;
                revision > watcher.revision && (is_first || version == watcher.version + 1)
            }
            false => revision == watcher.revision + 1,
        };
        ensure!(
            is_next,
            "number {number} heard of version {version} at revision {revision} after version {} at {}",
            watcher.version,
            watcher.revision
        );
        if watcher.revision < watcher.target && revision >= watcher.target {
            self.arrived += 1;
            self.arrived_at = now;
        }
        (watcher.revision, watcher.version) = (revision, version);
        Ok(())
    }
}

/// Mod revision and version of the key.
fn read_event(event: &[u8]) -> Result<(i64, i64), Malformed> {
    let (mut revision, mut version) = (0, 0);
    let mut wire = Wire::new(event);
    while let Some(field) = wire.tag()? {
        if field != (2, WireType::Len) {
            wire.skip(field)?;
            continue;
        }
        let mut kv = Wire::new(wire.bytes()?);
        while let Some(field) = kv.tag()? {
            match field {
                (3, WireType::Varint) => revision = kv.varint()? as i64,
                (4, WireType::Varint) => version = kv.varint()? as i64,
                field => kv.skip(field)?,
            }
        }
    }
    Ok((revision, version))
}

fn malformed(why: Malformed) -> anyhow::Error {
    anyhow::anyhow!("a message that is none: {why}")
}

/// Creations without an answer.
const CREATIONS_MAX: u32 = 20_000;

/// Far above what a workload's revision may be.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn state(has_own_keys: bool) -> State {
        let watcher = Watcher {
            revision: 10,
            version: 0,
            target: 12,
        };
        State {
            watchers: vec![watcher; 2],
            each: 2,
            has_own_keys,
            created: 0,
            created_at: 0,
            arrived: 0,
            arrived_at: 0,
            problem: None,
        }
    }

    #[test]
    fn an_event_that_is_missing_or_comes_twice_is_noticed() {
        let mut state = state(false);
        assert!(state.on_event(0, 11, 7, 1).is_ok());
        assert!(state.on_event(0, 12, 3, 2).is_ok());
        assert_eq!((state.arrived, state.arrived_at), (1, 2));
        assert!(state.on_event(0, 12, 3, 3).is_err(), "twice");
        assert!(state.on_event(0, 14, 1, 3).is_err(), "13 is missing");
        assert!(state.on_event(1, 12, 1, 3).is_err(), "11 is missing");
    }

    #[test]
    fn versions_of_a_watchers_own_key_follow_each_other() {
        let mut state = state(true);
        assert!(state.on_event(0, 14, 7, 1).is_ok());
        assert!(state.on_event(0, 19, 8, 1).is_ok());
        assert!(state.on_event(0, 18, 9, 1).is_err(), "goes back");
        assert!(state.on_event(0, 21, 10, 1).is_err(), "9 is missing");
    }
}
