//! One thread, all connections: sends what the workload draws, either as fast as answers come or by the clock.
//!
//! Promises: an operation's latency runs from the moment it was due, not from the moment there was room to send it; every
//! acknowledged change is counted and found again at the end. Start at `Driver::run`.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::alarm::Alarm;
use super::link::{Call, Ending, Link};
use super::recorder::Recorder;
use super::workload::{Answer, Method, Verdict, Workload};
use super::{Interrupted, Progress};
use crate::cost::{Counters, Meter};
use crate::record::Cost;

/// How operations are started.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Each stream starts its next operation when the last one ended: shows capacity.
    Closed { streams: usize },
    /// Operation i is due at i / rate, answered or not: shows latency.
    Open { per_second: f64 },
}

/// How long and how hard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub connections: usize,
    pub pace: Pace,
    pub warmup: Duration,
    pub duration: Duration,
}

/// What one run found.
pub(crate) struct Outcome {
    pub recorder: Recorder,
    /// Since the epoch, when the measurement began.
    pub began: Duration,
    pub elapsed: Duration,
    pub cost: Cost,
    pub tally: Tally,
}

/// What became of the operations of warm-up and measurement together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Answered OK and right, conflicts included.
    pub good: u64,
    /// Txns whose compare did not hold.
    pub conflicts: u64,
    /// Acknowledged changes of the store.
    pub changes: u64,
    /// By how much the store's revision rose.
    pub revisions: i64,
    /// Acknowledged keys that were read back at the end.
    pub read_back: u64,
    /// Answers with status OK that do not belong to their request.
    pub wrong: u64,
    /// Failures by text.
    pub failures: BTreeMap<String, u64>,
    /// Operations of an open loop that were due while too many were unanswered.
    pub over_limit: u64,
}

/// The generator.
pub(crate) struct Driver {
    poll: Poll,
    links: Vec<Connection>,
    alarm: Alarm,
    workload: Workload,
    plan: Plan,
    origin: Instant,
    phase: Phase,
    tally: Tally,
    recorder: Recorder,
    /// Nanoseconds after `origin` at which the measurement begins and ends; only what is due in between is recorded.
    measured: std::ops::Range<u64>,
    /// When the measurement will end, foretold before it begins.
    ends: u64,
    /// Which keys have an acknowledged put.
    acked: Vec<bool>,
    last_revision: i64,
    message: Vec<u8>,
    buffer: Vec<u8>,
}

struct Connection {
    socket: TcpStream,
    link: Link,
}

/// What may be started now.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Load {
        next: u32,
        end: u32,
    },
    Closed {
        streams: usize,
    },
    Open {
        interval_ns: f64,
        began: u64,
        started: u64,
    },
    ReadBack {
        left: u32,
    },
    Drain,
}

impl Driver {
    /// Connects.
    ///
    /// # Errors
    /// When the server does not take a connection.
    pub(crate) fn new(to: SocketAddr, workload: Workload, keys: u32, plan: Plan) -> Result<Self> {
        let poll = Poll::new()?;
        let mut links = Vec::with_capacity(plan.connections);
        for token in 0..plan.connections {
            let socket =
                std::net::TcpStream::connect(to).with_context(|| format!("connecting to {to}"))?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            let mut socket = TcpStream::from_std(socket);
            poll.registry().register(
                &mut socket,
                Token(token),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            links.push(Connection {
                socket,
                link: Link::new(&to.to_string(), Instant::now()),
            });
        }
        let alarm = Alarm::new(&poll, Token(plan.connections))?;
        Ok(Self {
            poll,
            links,
            alarm,
            workload,
            plan,
            origin: Instant::now(),
            phase: Phase::Drain,
            tally: Tally::default(),
            recorder: Recorder::new(),
            measured: 0..0,
            ends: 0,
            acked: vec![false; keys as usize],
            last_revision: 0,
            message: Vec::new(),
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Writes all keys.
    ///
    /// # Errors
    /// As of [`Driver::run`].
    pub(crate) fn load(&mut self, progress: Progress<'_>) -> Result<()> {
        let keys = self.acked.len() as u32;
        self.go(Phase::Load { next: 0, end: keys }, None, progress)?;
        ensure!(
            self.failed() == 0,
            "loading failed: {:?}",
            self.tally.failures
        );
        // The load's own operations belong to no figure.
        self.tally = Tally::default();
        Ok(())
    }

    /// Warms up, measures, drains and checks.
    ///
    /// # Errors
    /// When a connection ends, the server stops answering, or something acknowledged is missing; [`Interrupted`].
    pub(crate) fn run(mut self, meter: &Meter, progress: Progress<'_>) -> Result<Outcome> {
        let before = self.revision(progress)?;
        let phase = match self.plan.pace {
            Pace::Closed { streams } => Phase::Closed { streams },
            Pace::Open { per_second } => Phase::Open {
                interval_ns: 1e9 / per_second,
                began: self.now(),
                started: 0,
            },
        };
        self.ends = self.now() + (self.plan.warmup + self.plan.duration).as_nanos() as u64;
        let warm = self.now() + self.plan.warmup.as_nanos() as u64;
        self.go(phase, Some(warm), progress)?;
        let at_begin = meter.read()?;
        // The warm-up may have ended late, in the middle of a long turn.
        let begins = self.now();
        let began = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let ends = begins + self.plan.duration.as_nanos() as u64;
        self.measured = begins..ends;
        self.go(self.phase, Some(ends), progress)?;
        let at_end = meter.read()?;
        let elapsed = self.plan.duration;
        let cost = Counters::until(&at_begin, &at_end);
        self.go(Phase::Drain, None, progress)?;
        let after = self.revision(progress)?;
        self.tally.revisions = after - before;
        self.read_back(progress)?;
        Ok(Outcome {
            recorder: self.recorder,
            began,
            elapsed,
            cost,
            tally: self.tally,
        })
    }

    /// Runs a phase until that moment, or, without one, until it has nothing left to start and all is answered.
    fn go(&mut self, phase: Phase, until: Option<u64>, progress: Progress<'_>) -> Result<()> {
        self.phase = phase;
        let mut events = Events::with_capacity(EVENTS);
        let mut heard = self.now();
        let mut told = 0;
        loop {
            let now = self.now();
            if until.is_some_and(|end| now >= end) {
                return Ok(());
            }
            self.start_all(now);
            self.flush_all()?;
            if until.is_none() && self.is_idle() {
                return Ok(());
            }
            if now - told > PROGRESS_NS {
                told = now;
                let share = self.share(now);
                if progress(self.phase.name(), self.tally.good as f64, share).is_break() {
                    bail!(Interrupted);
                }
            }
            self.alarm.set(self.next_due(until), now)?;
            if let Err(error) = self.poll.poll(&mut events, Some(PATIENCE)) {
                if error.kind() == ErrorKind::Interrupted {
                    continue;
                }
                return Err(error.into());
            }
            for event in &events {
                let Token(place) = event.token();
                if place == self.links.len() {
                    self.alarm.reset();
                } else if event.is_readable() || event.is_read_closed() {
                    self.read(place)?;
                    heard = self.now();
                }
            }
            let silent = self.now() - heard;
            if silent > PATIENCE.as_nanos() as u64 && !self.is_idle() {
                bail!(
                    "{} operations unanswered for {} s",
                    self.in_flight(),
                    silent / 1_000_000_000
                );
            }
        }
    }

    /// Starts whatever is due on any connection.
    fn start_all(&mut self, now: u64) {
        match self.phase {
            Phase::Open {
                interval_ns,
                began,
                mut started,
            } => {
                while began + (started as f64 * interval_ns) as u64 <= now {
                    let due = began + (started as f64 * interval_ns) as u64;
                    if self.in_flight() >= OUTSTANDING_MAX {
                        self.tally.over_limit += 1;
                    } else {
                        self.start((started % self.links.len() as u64) as usize, due);
                    }
                    started += 1;
                }
                self.phase = Phase::Open {
                    interval_ns,
                    began,
                    started,
                };
            }
            _ => (0..self.links.len()).for_each(|place| self.refill(place, now)),
        }
    }

    /// Starts what a connection has room for, in the phases that go as fast as answers come.
    fn refill(&mut self, place: usize, now: u64) {
        let streams = match self.phase {
            Phase::Closed { streams } => streams,
            Phase::Load { .. } | Phase::ReadBack { .. } => LOAD_STREAMS,
            Phase::Open { .. } | Phase::Drain => return,
        };
        while self.links[place].link.in_flight() < streams && self.start(place, now) {}
    }

    /// Starts one operation; `false` when the phase has none left.
    fn start(&mut self, place: usize, due: u64) -> bool {
        self.message.clear();
        let (method, key) = match &mut self.phase {
            Phase::Load { next, end } if *next < *end => {
                let key = *next;
                *next += 1;
                self.workload.write_put(key, &mut self.message);
                (Method::Put, key)
            }
            Phase::ReadBack { left } if *left > 0 => {
                *left -= 1;
                let key = spread(*left, &self.acked);
                self.workload.write_get(key, &mut self.message);
                (Method::Range, key)
            }
            Phase::Closed { .. } | Phase::Open { .. } => self.workload.next(&mut self.message),
            Phase::Load { .. } | Phase::ReadBack { .. } | Phase::Drain => return false,
        };
        self.links[place]
            .link
            .send(&self.message, Call { due, key, method });
        true
    }

    fn flush_all(&mut self) -> Result<()> {
        for connection in &mut self.links {
            connection.flush()?;
        }
        Ok(())
    }

    fn read(&mut self, place: usize) -> Result<()> {
        loop {
            let connection = &mut self.links[place];
            let count = match connection.socket.read(&mut self.buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let clock = Instant::now();
            let now = (clock - self.origin).as_nanos() as u64;
            let mut judge = Judge {
                now,
                phase: self.phase,
                open: matches!(self.plan.pace, Pace::Open { .. }),
                measured: &self.measured,
                workload: &mut self.workload,
                tally: &mut self.tally,
                recorder: &mut self.recorder,
                acked: &mut self.acked,
                last_revision: &mut self.last_revision,
            };
            connection
                .link
                .receive(&self.buffer[..count], clock, &mut |call, ending| {
                    judge.on_end(call, ending)
                })?;
            self.refill(place, now);
            self.links[place].flush()?;
            // A short read leaves nothing behind; the end of the connection is an event of its own.
            if count < self.buffer.len() {
                return Ok(());
            }
        }
    }

    /// The store's revision, by a read of our own when nothing else is in flight.
    fn revision(&mut self, progress: Progress<'_>) -> Result<i64> {
        self.phase = Phase::Drain;
        let due = self.now();
        self.message.clear();
        self.workload.write_get(0, &mut self.message);
        let good = self.tally.good;
        self.links[0].link.send(
            &self.message,
            Call {
                due,
                key: u32::MAX,
                method: Method::Range,
            },
        );
        self.go(Phase::Drain, None, progress)?;
        self.tally.good = good;
        ensure!(
            self.last_revision > 0,
            "the server tells no revision: {:?}",
            self.tally.failures
        );
        Ok(self.last_revision)
    }

    /// Reads a sample of the acknowledged keys; all of them when they are few.
    fn read_back(&mut self, progress: Progress<'_>) -> Result<()> {
        let acked = self.acked.iter().filter(|acked| **acked).count() as u32;
        let sample = acked.min(READ_BACK_KEYS);
        let good = self.tally.good;
        self.go(Phase::ReadBack { left: sample }, None, progress)?;
        self.tally.read_back = self.tally.good - good;
        self.tally.good = good;
        ensure!(
            self.tally.read_back == u64::from(sample),
            "acknowledged keys are gone or wrong: {:?}",
            self.tally
        );
        let changes = self.tally.changes as i64;
        let lost = self.tally.revisions < changes;
        let surplus = self.tally.revisions > changes + self.failed() as i64;
        ensure!(
            !lost && !surplus,
            "{changes} acknowledged changes, {} revisions",
            self.tally.revisions
        );
        ensure!(
            self.tally.wrong == 0,
            "{} answers do not belong to their requests",
            self.tally.wrong
        );
        Ok(())
    }

    fn next_due(&self, until: Option<u64>) -> u64 {
        // Without an end the poll's own time-out is all that is wanted.
        let end = until.unwrap_or(u64::MAX);
        match self.phase {
            Phase::Open {
                interval_ns,
                began,
                started,
            } => end.min(began + (started as f64 * interval_ns) as u64),
            _ => end,
        }
    }

    fn is_idle(&self) -> bool {
        self.in_flight() == 0
    }

    fn in_flight(&self) -> usize {
        self.links
            .iter()
            .map(|connection| connection.link.in_flight())
            .sum()
    }

    fn failed(&self) -> u64 {
        self.tally.failures.values().sum()
    }

    /// How much of the run is done, as far as it can be foretold: loading is taken for a third of it.
    fn share(&self, now: u64) -> f64 {
        let part = |done: u64, all: u64| done as f64 / all.max(1) as f64;
        match self.phase {
            Phase::Load { next, end } => part(u64::from(next), u64::from(end)) * LOAD_SHARE,
            Phase::Closed { .. } | Phase::Open { .. } => {
                let end = self.ends.max(now);
                let all = self.plan.warmup + self.plan.duration;
                let left = part(end - now, all.as_nanos() as u64).min(1.0);
                1.0 - left * (1.0 - LOAD_SHARE)
            }
            Phase::ReadBack { .. } | Phase::Drain => 1.0,
        }
    }

    fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Load { .. } => "load",
            Phase::Closed { .. } => "closed loop",
            Phase::Open { .. } => "open loop",
            Phase::ReadBack { .. } => "read back",
            Phase::Drain => "drain",
        }
    }
}

/// Takes the end of a call to all who want to know.
struct Judge<'a> {
    now: u64,
    phase: Phase,
    open: bool,
    measured: &'a std::ops::Range<u64>,
    workload: &'a mut Workload,
    tally: &'a mut Tally,
    recorder: &'a mut Recorder,
    acked: &'a mut [bool],
    last_revision: &'a mut i64,
}

impl Judge<'_> {
    fn on_end(&mut self, call: Call, ending: Ending<'_>) {
        let message = match ending {
            Ending::Message(message) => message,
            Ending::Failed(status) => {
                *self.tally.failures.entry(status.to_string()).or_insert(0) += 1;
                return;
            }
        };
        if call.key == u32::MAX {
            *self.last_revision = Answer::read(message).map_or(0, |answer| answer.revision);
            return;
        }
        let verdict = match self.phase {
            Phase::Load { .. } => {
                self.workload.loaded(call.key, message);
                Verdict::Good { changes: true }
            }
            Phase::ReadBack { .. } => self.workload.judge_get(call.key, message),
            _ => self.workload.judge(call.method, call.key, message),
        };
        match verdict {
            Verdict::Wrong => {
                self.tally.wrong += 1;
                return;
            }
            Verdict::Conflict => self.tally.conflicts += 1,
            Verdict::Good { changes: true } => {
                self.tally.changes += 1;
                self.acked[call.key as usize] = true;
            }
            Verdict::Good { changes: false } => {}
        }
        self.tally.good += 1;
        self.record(call.due);
    }

    /// A closed loop counts what ended in the measured time. An open loop counts what was due in it, however late the answer
    /// came: leaving the late ones out would flatter a server that falls behind.
    fn record(&mut self, due: u64) {
        let counted = if self.open {
            self.measured.contains(&due)
        } else {
            self.measured.contains(&self.now)
        };
        if counted {
            let at =
                self.now.clamp(self.measured.start, self.measured.end - 1) - self.measured.start;
            self.recorder.record(at, self.now - due);
        }
    }
}

impl Connection {
    fn flush(&mut self) -> Result<()> {
        let now = Instant::now();
        loop {
            self.link.flush(now);
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

/// The `place`-th key of a walk over all keys in steps that share no factor with most sizes, moved on to an acknowledged one.
fn spread(place: u32, acked: &[bool]) -> u32 {
    const STEP: u64 = 0x9E37_79B1;
    let size = acked.len() as u64;
    let mut at = (u64::from(place) * STEP) % size;
    for _ in 0..size {
        if acked[at as usize] {
            return at as u32;
        }
        at = (at + 1) % size;
    }
    0
}

/// Operations that an open loop may have unanswered; what is due beyond is counted as failed.
const OUTSTANDING_MAX: usize = 20_000;

/// Streams of one connection while loading and reading back.
const LOAD_STREAMS: usize = 32;

/// Acknowledged keys read at the end.
const READ_BACK_KEYS: u32 = 1_000;

/// See `Driver::share`.
const LOAD_SHARE: f64 = 1.0 / 3.0;

const READ_BYTES: usize = 256 << 10;
const EVENTS: usize = 1024;
const PROGRESS_NS: u64 = 200_000_000;

/// A server that answers nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
