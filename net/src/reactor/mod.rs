//! The only place that waits: one loop per thread over edge-triggered sockets.
//!
//! Promises: one write per connection and turn, however many answers it holds; reads, accepts and memory of a connection are
//! bounded per turn, so that one client cannot starve the others; an address of a closed connection finds nothing.
//! Never: what the bytes mean. Order of a turn: wait, accept, read, `Service::on_turn`, write. Start at `Reactor::run`.

mod calls;
mod conn;
mod handle;
mod listener;
mod peers;
mod slab;
mod stats;
mod stream;
mod timers;
mod turn;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

pub use crate::peer::Endpoint;
pub use handle::Handle;
pub use listener::{ListenOptions, Listener, Protocols};
pub use stats::{Counter, Stats};

use crate::grpc::Service;
use crate::limits::EVENTS_PER_TURN_MAX;
use slab::{GENERATION_RESERVED, Key};
use turn::Turn;

/// What a loop needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Bounds and timers of HTTP/2 connections and their calls.
    pub grpc: crate::grpc::ServerConfig,
    /// Decoded body bytes of one HTTP/1.1 request.
    pub h1_body_bytes_max: usize,
    /// Open connections of this loop; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Look for events this long after the last one before sleeping. Only where cores are to spare.
    pub spin: Option<Duration>,
}

/// One loop: its listeners, its connections, its timers.
#[derive(Debug)]
pub struct Reactor {
    poll: Poll,
    events: Events,
    handle: Handle,
    spin: Option<Duration>,
    turn: Turn,
}

impl Reactor {
    /// A loop without listeners serves what other loops hand to it.
    pub fn new(config: Config, mut listeners: Vec<Listener>) -> io::Result<Reactor> {
        assert!(listeners.len() < FOREIGN_BASE);
        let poll = Poll::new()?;
        let handle = Handle::new(Handle::waker_of(&poll, reserved(WAKER))?);
        for (number, listener) in listeners.iter_mut().enumerate() {
            listener.register(poll.registry(), reserved(LISTENER_BASE + number))?;
        }
        let registry = poll.registry().try_clone()?;
        let spin = config.spin;
        let turn = Turn::new(config, listeners, registry, handle.clone(), Instant::now());
        Ok(Reactor {
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN_MAX),
            handle,
            spin,
            turn,
        })
    }

    /// For other threads: wake, stop.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Counters of this loop; they may be read from any thread while it runs.
    pub fn stats(&self) -> Arc<Stats> {
        self.turn.stats()
    }

    /// Accepted connections go in turns to these loops, of which this one may be one.
    pub fn share_accepted(&mut self, loops: Vec<Handle>) {
        self.turn.share_accepted(loops);
    }

    /// Calls `Service::on_ready(number)` when the descriptor becomes readable, edge-triggered.
    ///
    /// The descriptor must stay open while the loop runs.
    pub fn watch(&mut self, descriptor: BorrowedFd<'_>, number: usize) -> io::Result<()> {
        let token = reserved(FOREIGN_BASE + number);
        self.poll.registry().register(
            &mut SourceFd(&descriptor.as_raw_fd()),
            token,
            Interest::READABLE,
        )
    }

    /// Serves from `Handle::accept` until `Handle::stop`; then every connection is closed and every listener gone.
    pub fn run<S: Service>(&mut self, service: &mut S) -> io::Result<()> {
        let mut idle_since: Option<Instant> = None;
        loop {
            let timeout = self.timeout(&mut idle_since);
            // A completion of an io_uring that lives on this thread interrupts the wait: a turn without events reaps it.
            match self.poll.poll(&mut self.events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.handle.awake();
            let now = Instant::now();
            if !self.events.is_empty() {
                idle_since = None;
            }
            self.turn.begin(now);
            for event in &self.events {
                match classify(event.token()) {
                    Ready::Waker => {}
                    Ready::Listener(number) => self.turn.on_acceptable(number),
                    Ready::Foreign(number) => service.on_ready(number),
                    Ready::Connection(key) => self.turn.on_event(key, event),
                }
            }
            if self.turn.go_on(service, now) == turn::Goes::Stopped {
                return Ok(());
            }
        }
    }

    fn timeout(&self, idle_since: &mut Option<Instant>) -> Option<Duration> {
        let now = Instant::now();
        let wait = self
            .turn
            .next_wake_up(now)
            .map(|at| at.saturating_duration_since(now));
        match self.spin {
            Some(spin) if now.duration_since(*idle_since.get_or_insert(now)) < spin => {
                Some(Duration::ZERO)
            }
            _ => wait,
        }
    }
}

enum Ready {
    Waker,
    Listener(usize),
    Foreign(usize),
    Connection(Key),
}

fn classify(token: Token) -> Ready {
    let key = Key {
        index: token.0 as u32,
        generation: (token.0 >> 32) as u32,
    };
    match (key.generation, key.index as usize) {
        (GENERATION_RESERVED, WAKER) => Ready::Waker,
        (GENERATION_RESERVED, number) if number < FOREIGN_BASE => {
            Ready::Listener(number - LISTENER_BASE)
        }
        (GENERATION_RESERVED, number) => Ready::Foreign(number - FOREIGN_BASE),
        _ => Ready::Connection(key),
    }
}

fn reserved(number: usize) -> Token {
    token(Key {
        index: u32::try_from(number).expect("a handful of listeners and descriptors"),
        generation: GENERATION_RESERVED,
    })
}

fn token(key: Key) -> Token {
    Token((key.generation as usize) << 32 | key.index as usize)
}

const WAKER: usize = 0;
const LISTENER_BASE: usize = 1;
const FOREIGN_BASE: usize = 1024;
const _: () = assert!(
    usize::BITS == 64,
    "a poll token holds a slot and its generation"
);

#[cfg(test)]
mod tests;
