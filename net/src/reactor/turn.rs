use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::Registry;
use mio::event::Event;

use super::calls::{LoopCalls, Table};
use super::conn::{self, Conn, Flushed, Received};
use super::handle::Handle;
use super::listener::{ListenOptions, Listener, Protocols};
use super::slab::Key;
use super::stats::Stats;
use super::stream::Stream;
use super::timers::Wheel;
use super::{Config, token};
use crate::grpc::Service;
use crate::h1::HttpDate;
use crate::limits::{ACCEPT_PAUSE, ACCEPTS_PER_TURN_MAX, RECEIVE_BYTES};

/// Everything of a loop but the waiting: what one turn does with the events it was given.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) config: Config,
    pub(super) registry: Registry,
    handle: Handle,
    listeners: Vec<Listener>,
    /// Loops that share what is accepted here, and whose turn it is. Empty: this loop keeps all.
    sharers: Vec<Handle>,
    next_sharer: usize,
    pub(super) table: Table,
    wheel: Wheel,
    /// Connections that have something to read or to go on with in the next turn, each once.
    work: Vec<Key>,
    work_before: Vec<Key>,
    /// Keeps its capacity while the other list is filled.
    dirty_before: Vec<Key>,
    due: Vec<u32>,
    receive: Box<[u8]>,
    pub(super) stats: Arc<Stats>,
    /// When the service wants to be asked again.
    service_wake_up: Option<Instant>,
    /// When a link to another member has something to do.
    pub(super) peers_wake_up: Option<Instant>,
    /// Clients are taken; false until the owner says so.
    accepts: bool,
    drain_until: Option<Instant>,
    date_until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goes {
    On,
    Stopped,
}

impl Turn {
    pub(super) fn new(
        config: Config,
        mut listeners: Vec<Listener>,
        registry: Registry,
        handle: Handle,
        now: Instant,
    ) -> Turn {
        // A client may have connected between bind and register: look once without an event.
        listeners
            .iter_mut()
            .for_each(|listener| listener.ready = true);
        Turn {
            config,
            registry,
            handle,
            listeners,
            sharers: Vec::new(),
            next_sharer: 0,
            table: Table::new(http_date()),
            wheel: Wheel::new(now),
            work: Vec::new(),
            work_before: Vec::new(),
            dirty_before: Vec::new(),
            due: Vec::new(),
            receive: vec![0; RECEIVE_BYTES].into_boxed_slice(),
            stats: Arc::new(Stats::default()),
            // The service may have work before anything is heard from outside.
            service_wake_up: Some(now),
            peers_wake_up: None,
            accepts: false,
            drain_until: None,
            date_until: now,
        }
    }

    pub(super) fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    pub(super) fn share_accepted(&mut self, loops: Vec<Handle>) {
        self.sharers = loops;
    }

    /// When the next turn is due though nothing happens; `None` waits for an event.
    pub(super) fn next_wake_up(&self, now: Instant) -> Option<Instant> {
        if !self.work.is_empty() || !self.table.dirty.is_empty() || self.handle.has_errand() {
            return Some(now);
        }
        let accept = self
            .listeners
            .iter()
            .filter(|listener| listener.ready && self.has_room(listener));
        let accept = accept
            .map(|listener| listener.paused_until.unwrap_or(now))
            .min();
        [
            accept,
            self.wheel.next(),
            self.service_wake_up,
            self.peers_wake_up,
            self.drain_until,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn begin(&mut self, now: Instant) {
        self.stats.turns.add(1);
        self.table.turn += 1;
        if now >= self.date_until {
            self.table.date = http_date();
            self.date_until = now + Duration::from_millis(500);
        }
    }

    pub(super) fn on_acceptable(&mut self, number: usize) {
        if let Some(listener) = self.listeners.get_mut(number) {
            listener.ready = true;
        }
    }

    pub(super) fn on_event(&mut self, key: Key, event: &Event) {
        let Some(conn) = self.table.conns.get_mut(key) else {
            return;
        };
        if event.is_writable() && conn.on_writable() {
            self.table.mark_dirty(key);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            let Some(conn) = self.table.conns.get_mut(key) else {
                return;
            };
            conn.on_readable(event.is_read_closed() || event.is_error());
            self.queue(key);
        }
    }

    /// The rest of the turn, once all events have been heard.
    pub(super) fn go_on<S: Service>(&mut self, service: &mut S, now: Instant) -> Goes {
        if self.handle.take_errand() {
            self.run_errands(service, now);
        }
        self.accept(service, now);
        self.read_all(service, now);
        self.fire_timers(service, now);
        // From here on whoever adds work for the service must wake the loop: this is its last look.
        self.handle.going_to_sleep();
        self.service_wake_up = service.on_turn(&mut LoopCalls::outside(&mut self.table), now);
        self.drive_peers(service, now);
        self.write_all(service, now);
        if std::mem::take(&mut self.table.is_writable_told) {
            self.service_wake_up = Some(now);
        }
        match self.drain_until {
            // Members go on to hear each other: what is in flight needs them.
            Some(until)
                if now >= until
                    || self.table.conns.len() == self.table.peers.len() && !service.is_ending() =>
            {
                for key in self.table.conns.keys() {
                    self.close(service, key, now);
                }
                Goes::Stopped
            }
            _ => Goes::On,
        }
    }

    fn run_errands<S: Service>(&mut self, service: &mut S, now: Instant) {
        for (stream, options) in self.handle.take_adopted() {
            self.open(service, stream, options, now);
        }
        self.accepts = self.handle.accepts();
        if let Some(drain) = self.handle.stop_requested()
            && self.drain_until.is_none()
        {
            self.begin_drain(service, now, drain);
        }
    }

    /// Members are let in before clients are: without them this one cannot serve.
    fn has_room(&self, listener: &Listener) -> bool {
        let is_open = self.accepts || listener.options.protocols == Protocols::Peer;
        is_open && self.table.conns.len() < self.config.connections_max
    }

    fn accept<S: Service>(&mut self, service: &mut S, now: Instant) {
        for number in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_TURN_MAX {
                let has_room = self.has_room(&self.listeners[number]);
                let listener = &mut self.listeners[number];
                listener.paused_until = listener.paused_until.filter(|&until| until > now);
                if !listener.ready || listener.paused_until.is_some() || !has_room {
                    break;
                }
                match listener.accept() {
                    Ok(stream) => {
                        let options = listener.options;
                        self.place(service, stream, options, now);
                    }
                    Err(error) => match error.kind() {
                        io::ErrorKind::WouldBlock => listener.ready = false,
                        // The client gave up while it waited in the queue.
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                        // Out of descriptors or memory: the queue keeps the clients until there is room again.
                        _ => {
                            listener.paused_until = Some(now + ACCEPT_PAUSE);
                            self.stats.accept_pauses.add(1);
                        }
                    },
                }
            }
        }
    }

    fn place<S: Service>(
        &mut self,
        service: &mut S,
        stream: Stream,
        options: ListenOptions,
        now: Instant,
    ) {
        if self.sharers.is_empty() {
            return self.open(service, stream, options, now);
        }
        let sharer = self.next_sharer % self.sharers.len();
        self.next_sharer = sharer + 1;
        if self.sharers[sharer].is_same_loop(&self.handle) {
            self.open(service, stream, options, now);
        } else {
            self.sharers[sharer].adopt(stream, options);
        }
    }

    fn open<S: Service>(
        &mut self,
        service: &mut S,
        stream: Stream,
        options: ListenOptions,
        now: Instant,
    ) {
        // Whoever accepted it for us could not know; dropping the socket closes it.
        if self.drain_until.is_some() || self.table.conns.len() >= self.config.connections_max {
            return;
        }
        let key = self
            .table
            .conns
            .insert(Conn::new(stream, options, &self.config, now));
        self.stats.opened.add(1);
        let registered = match self.table.conns.get_mut(key) {
            Some(conn) => conn.register(&self.registry, token(key)),
            None => return,
        };
        if registered.is_err() {
            return self.close(service, key, now);
        }
        // Most clients have sent their first bytes by now: look at once, the edge for them is spent otherwise on a turn more.
        if let Some(conn) = self.table.conns.get_mut(key) {
            conn.on_readable(false);
        }
        self.queue(key);
        self.rearm(key);
    }

    fn read_all<S: Service>(&mut self, service: &mut S, now: Instant) {
        let mut work = std::mem::replace(&mut self.work, std::mem::take(&mut self.work_before));
        for key in work.drain(..) {
            self.read(service, key, now);
        }
        self.work_before = work;
    }

    fn read<S: Service>(&mut self, service: &mut S, key: Key, now: Instant) {
        let Some(conn) = self.table.conns.get_mut(key) else {
            return;
        };
        conn.is_queued = false;
        let received = conn::receive(
            &mut self.table,
            key,
            &mut self.receive,
            service,
            &self.stats,
            &self.config,
            now,
        );
        match received {
            Received::Enough => {}
            Received::More => self.queue(key),
            Received::Gone => return self.close(service, key, now),
        }
        self.table.mark_dirty(key);
        self.rearm(key);
    }

    fn fire_timers<S: Service>(&mut self, service: &mut S, now: Instant) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.fire(now, &mut due);
        for index in due.drain(..) {
            let Some(key) = self.table.conns.key_at(index) else {
                continue;
            };
            if conn::on_deadline(&mut self.table, key, service, now) == Received::Gone {
                self.close(service, key, now);
                continue;
            }
            self.table.mark_dirty(key);
            self.rearm(key);
        }
        self.due = due;
    }

    fn write_all<S: Service>(&mut self, service: &mut S, now: Instant) {
        // What becomes dirty from here on is written in the next turn, which then comes at once.
        let mut dirty = std::mem::replace(
            &mut self.table.dirty,
            std::mem::take(&mut self.dirty_before),
        );
        for key in dirty.drain(..) {
            let Some(conn) = self.table.conns.get_mut(key) else {
                continue;
            };
            conn.is_dirty = false;
            match conn::flush(&mut self.table, key, service, &self.stats, now) {
                Flushed::Done | Flushed::Over => {}
                Flushed::More => self.table.mark_dirty(key),
                Flushed::Gone => {
                    self.close(service, key, now);
                    continue;
                }
            }
            if self
                .table
                .conns
                .get_mut(key)
                .is_some_and(|conn| conn.wants_work())
            {
                self.queue(key);
            }
            self.rearm(key);
        }
        self.dirty_before = dirty;
    }

    fn queue(&mut self, key: Key) {
        if let Some(conn) = self.table.conns.get_mut(key)
            && !conn.is_queued
        {
            conn.is_queued = true;
            self.work.push(key);
        }
    }

    fn rearm(&mut self, key: Key) {
        if let Some(at) = self
            .table
            .conns
            .get_mut(key)
            .and_then(|conn| conn.deadline())
        {
            self.wheel.arm_earlier(key.index, at);
        }
    }

    fn begin_drain<S: Service>(&mut self, service: &mut S, now: Instant, drain: Duration) {
        self.drain_until = Some(now + drain);
        self.listeners.clear();
        for key in self.table.conns.keys() {
            let date = self.table.date;
            if let Some(conn) = self.table.conns.get_mut(key) {
                conn.say_goodbye(&date, now);
            }
            self.table.mark_dirty(key);
        }
        service.on_stop(&mut LoopCalls::outside(&mut self.table));
    }

    pub(super) fn close<S: Service>(&mut self, service: &mut S, key: Key, now: Instant) {
        if self.table.conns.get_mut(key).is_some() {
            self.wheel.cancel(key.index);
            self.stats.closed.add(1);
            conn::gone(&mut self.table, key, service, now);
        }
    }
}

fn http_date() -> HttpDate {
    // A clock before 1970 only makes the header wrong.
    HttpDate::new(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
    )
}
