//! One thread, all connections: sends what the workload draws, either as fast as answers come or by the clock.
//!
//! Promises: an operation's latency runs from the moment it was due, not from the moment there was room to send it; at most one
//! write per connection and turn; a turn costs nothing for connections on which nothing happened. Start at `Driver::go`.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::alarm::Alarm;
use super::beside::Schedule;
use super::idle;
use super::judge::Judge;
use super::link::{Call, Link};
use super::pace::Pace;
use super::told::Told;
use super::watchers::Watchers;
use super::workload::{Ask, Workload, spread};
use super::{Interrupted, Progress};
use crate::plan::{Load, Watching};

/// The generator.
pub(crate) struct Driver {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    /// Connections of the workload's operations; those behind them are for what is done beside.
    foreground: usize,
    /// Connections on which the server has said something.
    greeted: usize,
    beside: Option<Schedule>,
    pub(super) watchers: Option<Watchers>,
    /// Calls beside begun, ever.
    beside_begun: u64,
    alarm: Alarm,
    origin: Instant,
    phase: Phase,
    pub(super) judge: Judge,
    /// Calls begun, ever.
    begun: u64,
    /// Places of the connections that have something to write, each once.
    unwritten: Vec<usize>,
    message: Vec<u8>,
    buffer: Vec<u8>,
}

struct Connection {
    socket: TcpStream,
    link: Link,
    is_unwritten: bool,
    /// The server has said something on it.
    is_greeted: bool,
}

/// What may be started now.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// Nothing.
    Drain,
    /// The workload's operations, so many at a time on each connection.
    Closed { streams: usize },
    /// The workload's operations when they are due, on all connections in turn.
    Open(Pace),
    /// Loading requests from this key on.
    Load { next: u32 },
    /// Leases from this number on.
    Grant { next: u32 },
    /// Keys on leases, from this one on.
    Attach { next: u32 },
    /// Renewals of all leases, from this number on.
    Renew { next: u32 },
    /// One call about no key of the workload.
    Once { ask: Ask, is_asked: bool },
    /// Reads of so many keys, spread over all.
    ReadBack { left: u32 },
    /// Pages from this key on, one at a time.
    Pages { next: u32 },
}

/// The part of a whole run that a phase is, for those who wait: shares from 0 to 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub name: &'static str,
    pub from: f64,
    pub to: f64,
}

impl Driver {
    /// Connects.
    ///
    /// # Errors
    /// When the server does not take a connection.
    pub(crate) fn new(to: SocketAddr, load: &Load, workload: Workload) -> Result<Self> {
        let poll = Poll::new()?;
        let authority = to.to_string();
        let beside = Schedule::new(load);
        let foreground = match load.idle {
            true => usize::from(load.conns.min(idle::FIRST)),
            false => usize::from(load.conns),
        };
        let all = beside
            .as_ref()
            .map_or(foreground, |beside| beside.connections.end);
        let connections = (0..all)
            .map(|place| Connection::new(to, &authority, &poll, Token(place)))
            .collect::<Result<Vec<_>>>()?;
        let alarm = Alarm::new(&poll, ALARM)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            unwritten: (0..connections.len()).collect(),
            connections,
            foreground,
            greeted: 0,
            beside,
            watchers: None,
            beside_begun: 0,
            alarm,
            origin: Instant::now(),
            phase: Phase::Drain,
            judge: Judge::new(workload),
            begun: 0,
            message: Vec::new(),
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Runs `phase` until that moment, or, without one, until it has nothing left to start and all is answered.
    ///
    /// # Errors
    /// When a connection ends or the server stops answering; [`Interrupted`].
    pub(crate) fn go(
        &mut self,
        phase: Phase,
        until: Option<u64>,
        part: Part,
        progress: Progress<'_>,
    ) -> Result<()> {
        self.phase = phase;
        self.resume(until, part, progress)
    }

    /// Goes on with the phase that there is.
    ///
    /// # Errors
    /// As of [`Driver::go`].
    pub(crate) fn resume(
        &mut self,
        until: Option<u64>,
        part: Part,
        progress: Progress<'_>,
    ) -> Result<()> {
        let began = self.now();
        let good = self.judge.tally.good;
        let (mut heard, mut told) = (began, 0);
        (0..self.connections.len()).for_each(|place| self.refill(place, began));
        loop {
            let clock = Instant::now();
            let now = self.at(clock);
            self.start_due(now);
            self.start_beside(now);
            self.write_all(clock)?;
            self.watch(clock, now)?;
            let is_done = self.in_flight() == 0 && !self.is_owed();
            if until.is_some_and(|end| now >= end) || until.is_none() && is_done {
                return Ok(());
            }
            if now - told > PROGRESS.as_nanos() as u64 {
                told = now;
                let share = part.from + self.share(began, now, until) * (part.to - part.from);
                let done = self.judge.tally.good - good;
                if progress(part.name, done as f64, share).is_break() {
                    bail!(Interrupted);
                }
            }
            let due = match &self.phase {
                Phase::Open(pace) => pace.due(),
                _ => u64::MAX,
            };
            let beside = self.beside.as_ref().map_or(u64::MAX, Schedule::due);
            let watchers = self.watchers.as_ref().map_or(u64::MAX, Watchers::due);
            let beside = beside.min(watchers);
            self.alarm
                .set(due.min(beside).min(until.unwrap_or(u64::MAX)), now)?;
            if self.turn()? {
                heard = self.judge.now;
            }
            let silent = self.judge.now.max(now) - heard;
            let patience = if self.beside_begun > self.judge.beside_ended {
                BESIDE_PATIENCE
            } else {
                PATIENCE
            };
            let is_waiting = self.in_flight() > 0 || self.is_owed();
            if silent > patience.as_nanos() as u64 && is_waiting {
                bail!(
                    "{} operations unanswered and {} events owed for {} s",
                    self.in_flight(),
                    self.judge.told.as_ref().map_or(0, Told::owed),
                    silent / 1_000_000_000
                );
            }
        }
    }

    /// One more connection for the operations.
    ///
    /// # Errors
    /// When the server does not take it.
    pub(crate) fn open(&mut self, to: SocketAddr) -> Result<()> {
        // Those for what is done beside come behind all others.
        assert!(self.beside.is_none());
        let token = Token(self.connections.len());
        let connection = Connection::new(to, &to.to_string(), &self.poll, token)?;
        self.unwritten.push(self.connections.len());
        self.connections.push(connection);
        self.foreground += 1;
        Ok(())
    }

    /// Connections for the load's watchers.
    ///
    /// # Errors
    /// When the server does not take them.
    pub(crate) fn connect_watchers(&mut self, to: SocketAddr, watching: &Watching) -> Result<()> {
        let of = (watching, &self.judge.workload);
        self.watchers = Some(Watchers::connect(to, &self.poll, WATCHERS_TOKEN, of)?);
        Ok(())
    }

    /// Creates the watchers.
    pub(crate) fn create_watchers(&mut self) {
        if let (Some(watchers), Some(told)) = (&mut self.watchers, &self.judge.told) {
            watchers.create(told, &self.judge.workload);
        }
    }

    /// Connections for the operations.
    pub(crate) fn foreground(&self) -> usize {
        self.foreground
    }

    /// Connections on which the server has said something.
    pub(crate) fn greeted(&self) -> usize {
        self.greeted
    }

    /// Gives up all that is unanswered: it counts as failed. Says how much that was.
    pub(crate) fn abandon(&mut self) -> u64 {
        let unanswered = self.in_flight() as u64;
        self.phase = Phase::Drain;
        self.judge.ended = self.begun;
        if unanswered > 0 {
            let failures = &mut self.judge.tally.failures;
            *failures.entry(ABANDONED.to_owned()).or_insert(0) += unanswered;
        }
        unanswered
    }

    /// Connects anew, by turns to each of these, with nothing in flight on any connection.
    ///
    /// # Errors
    /// When a server does not take a connection.
    pub(crate) fn reconnect(&mut self, to: &[SocketAddr]) -> Result<()> {
        assert!(self.in_flight() == 0);
        for (place, to) in (0..self.connections.len()).zip(to.iter().cycle()) {
            // The old one leaves the poll with its socket.
            let token = Token(place);
            self.connections[place] = Connection::new(*to, &to.to_string(), &self.poll, token)?;
        }
        self.unwritten = (0..self.connections.len()).collect();
        self.greeted = 0;
        Ok(())
    }

    /// Nanoseconds on the driver's clock.
    pub(crate) fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    /// The phase that was last gone through.
    pub(crate) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// That moment on the driver's clock.
    pub(crate) fn at(&self, clock: Instant) -> u64 {
        (clock - self.origin).as_nanos() as u64
    }

    fn in_flight(&self) -> usize {
        (self.begun - self.judge.ended) as usize
    }

    /// Whether watchers have not heard of everything that was acknowledged.
    fn is_owed(&self) -> bool {
        self.watchers.is_some() && self.judge.told.as_ref().is_some_and(|told| told.owed() > 0)
    }

    /// What the watchers' connections have to do.
    fn watch(&mut self, clock: Instant, now: u64) -> Result<()> {
        let judge = &mut self.judge;
        if let (Some(watchers), Some(told)) = (&mut self.watchers, &mut judge.told) {
            watchers.turn(clock, now, (told, &judge.workload), &mut self.buffer)?;
        }
        Ok(())
    }

    /// Waits for something to happen, and deals with all that did. Says whether the server was heard.
    fn turn(&mut self) -> Result<bool> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        if let Err(error) = self.poll.poll(&mut events, Some(PROGRESS))
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        let mut is_heard = false;
        for event in &events {
            let Token(place) = event.token();
            if event.token() == ALARM {
                self.alarm.on_ring();
                continue;
            }
            if place >= WATCHERS_TOKEN {
                let (watchers, told) = (&mut self.watchers, &mut self.judge.told);
                if let (Some(watchers), Some(told)) = (watchers, told) {
                    let clock = Instant::now();
                    let now = (clock - self.origin).as_nanos() as u64;
                    self.judge.now = now;
                    let place = place - WATCHERS_TOKEN;
                    watchers.read(place, clock, now, told, &mut self.buffer)?;
                    is_heard = true;
                }
                continue;
            }
            if event.is_writable() {
                self.note_unwritten(place);
            }
            if event.is_readable() || event.is_read_closed() {
                self.read(place)?;
                is_heard = true;
            }
        }
        self.events = events;
        Ok(is_heard)
    }

    /// Starts what an open loop has due.
    fn start_due(&mut self, now: u64) {
        let Phase::Open(pace) = &mut self.phase else {
            return;
        };
        let mut pace = pace.clone();
        while pace.due() <= now {
            if self.in_flight() >= OUTSTANDING_MAX {
                self.judge.tally.over_limit += 1;
            } else {
                let place = (pace.count() % self.foreground as u64) as usize;
                self.message.clear();
                let question = self.judge.workload.draw(&mut self.message);
                self.send(
                    place,
                    Call {
                        due: pace.due(),
                        question,
                    },
                );
            }
            pace.advance();
        }
        self.phase = Phase::Open(pace);
    }

    /// Starts what is to be done beside, once on each of its connections.
    fn start_beside(&mut self, now: u64) {
        let Some(mut schedule) = self.beside.take_if(|schedule| schedule.due() <= now) else {
            return;
        };
        for place in schedule.connections.clone() {
            self.message.clear();
            let question = self
                .judge
                .workload
                .write(schedule.ask, 0, &mut self.message);
            self.beside_begun += 1;
            self.send(place, Call { due: now, question });
        }
        schedule.advance();
        self.beside = Some(schedule);
    }

    /// What is done beside is due from that moment on, or no more.
    pub(crate) fn set_beside(&mut self, from: Option<u64>) {
        match (&mut self.beside, from) {
            (Some(schedule), Some(from)) => schedule.begin(from),
            (Some(schedule), None) => schedule.end(),
            (None, _) => {}
        }
    }

    /// Starts what a connection has room for, in the phases that go as fast as answers come.
    fn refill(&mut self, place: usize, now: u64) {
        let streams = match &self.phase {
            Phase::Drain | Phase::Open(_) => return,
            _ if place >= self.foreground => return,
            Phase::Closed { streams } => *streams,
            // With more connections than that, only the first ones load.
            Phase::Load { .. } | Phase::Attach { .. } if place >= LOAD_CALLS_MAX => 0,
            Phase::Load { .. } | Phase::Attach { .. } => (LOAD_CALLS_MAX / self.foreground).max(1),
            Phase::Grant { .. } | Phase::Renew { .. } => (LEASE_CALLS / self.foreground).max(1),
            Phase::ReadBack { .. } => READ_BACK_STREAMS,
            // Only one connection asks, one question at a time.
            Phase::Once { .. } | Phase::Pages { .. } => usize::from(place == 0),
        };
        while self.connections[place].link.in_flight() < streams && self.start(place, now) {}
    }

    /// Starts one operation; `false` when the phase has none left.
    fn start(&mut self, place: usize, due: u64) -> bool {
        self.message.clear();
        let workload = &mut self.judge.workload;
        let keys = workload.keys();
        let (ask, key) = match &mut self.phase {
            Phase::Load { next } if *next < keys => {
                let key = *next;
                *next += workload.loaded_by(key);
                (Ask::Load, key)
            }
            Phase::Grant { next } if *next < workload.leases.count => {
                *next += 1;
                (Ask::Grant, *next - 1)
            }
            Phase::Renew { next } if *next < workload.leases.count => {
                *next += 1;
                (Ask::Renew, *next - 1)
            }
            Phase::Attach { next } if *next < workload.leases.keys() => {
                let key = *next;
                *next += workload.leases.attached_by(key);
                (Ask::Attach, key)
            }
            Phase::Pages { next } if *next < keys => {
                let key = *next;
                *next += workload.paged_by(key);
                (Ask::Page, key)
            }
            Phase::Once {
                ask,
                is_asked: asked @ false,
            } => {
                *asked = true;
                (*ask, 0)
            }
            Phase::ReadBack { left } if *left > 0 => {
                *left -= 1;
                (Ask::ReadBack, spread(*left, keys))
            }
            Phase::Closed { .. } => {
                let question = workload.draw(&mut self.message);
                self.send(place, Call { due, question });
                return true;
            }
            _ => return false,
        };
        let question = workload.write(ask, key, &mut self.message);
        self.send(place, Call { due, question });
        true
    }

    fn send(&mut self, place: usize, call: Call) {
        self.begun += 1;
        self.connections[place].link.send(&self.message, call);
        self.note_unwritten(place);
    }

    fn note_unwritten(&mut self, place: usize) {
        if !std::mem::replace(&mut self.connections[place].is_unwritten, true) {
            self.unwritten.push(place);
        }
    }

    fn write_all(&mut self, clock: Instant) -> Result<()> {
        // A connection whose socket is full is noted again when it is writable.
        for place in self.unwritten.drain(..) {
            let connection = &mut self.connections[place];
            connection.is_unwritten = false;
            connection.write(clock, &mut self.judge)?;
        }
        Ok(())
    }

    fn read(&mut self, place: usize) -> Result<()> {
        loop {
            let connection = &mut self.connections[place];
            let count = match connection.socket.read(&mut self.buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let clock = Instant::now();
            self.judge.now = (clock - self.origin).as_nanos() as u64;
            self.greeted += usize::from(!std::mem::replace(&mut connection.is_greeted, true));
            connection
                .link
                .receive(&self.buffer[..count], clock, &mut self.judge)?;
            // Settings and window updates are answered too.
            self.note_unwritten(place);
            self.refill(place, self.judge.now);
            // A short read leaves nothing behind; the end of the connection is an event of its own.
            if count < self.buffer.len() {
                return Ok(());
            }
        }
    }

    /// How much of the phase is done, from 0 to 1.
    fn share(&self, began: u64, now: u64, until: Option<u64>) -> f64 {
        let part = |done: u64, all: u64| (done as f64 / all.max(1) as f64).min(1.0);
        let keys = u64::from(self.judge.workload.keys());
        match (&self.phase, until) {
            (_, Some(end)) => part(now - began, end - began),
            (Phase::Load { next } | Phase::Pages { next }, None) => part(u64::from(*next), keys),
            _ => 0.0,
        }
    }
}

impl Connection {
    fn new(to: SocketAddr, authority: &str, poll: &Poll, token: Token) -> Result<Self> {
        let socket =
            std::net::TcpStream::connect(to).with_context(|| format!("connecting to {to}"))?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut socket = TcpStream::from_std(socket);
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut socket, token, interest)?;
        Ok(Self {
            socket,
            link: Link::new(authority, Instant::now()),
            is_unwritten: true,
            is_greeted: false,
        })
    }

    fn write(&mut self, clock: Instant, judge: &mut Judge) -> Result<()> {
        loop {
            self.link.flush(clock, judge);
            while !self.link.output().is_empty() {
                match self.socket.write(self.link.output()) {
                    Ok(0) => bail!("the server takes no more bytes"),
                    Ok(count) => self.link.advance(count),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if !self.link.has_more() {
                return Ok(());
            }
        }
    }
}

/// Operations that an open loop may have unanswered; what is due beyond is counted as failed.
pub(crate) const OUTSTANDING_MAX: usize = 20_000;

/// Loading requests in flight; together with their size this bounds what waits in memory, here and at the server.
const LOAD_CALLS_MAX: usize = 16;

const READ_BACK_STREAMS: usize = 32;

/// Leases that are granted or renewed at once before a run.
const LEASE_CALLS: usize = 200;

/// No connection's.
const ALARM: Token = Token(usize::MAX - 1);

/// Of the watchers' first connection; those of the operations are far fewer.
const WATCHERS_TOKEN: usize = 1 << 32;

const READ_BYTES: usize = 256 << 10;
const EVENTS: usize = 1024;

/// What became of operations whose server was ended.
const ABANDONED: &str = "unanswered when the server was ended";

/// Between two reports of progress.
const PROGRESS: Duration = Duration::from_millis(200);

/// A server that answers nothing for so long has failed, but while it does something beside that may stop everything.
const BESIDE_PATIENCE: Duration = Duration::from_secs(300);

/// A server that answers nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
