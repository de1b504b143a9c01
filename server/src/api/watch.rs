//! The Watch service: one two-way call carries many watchers. The engine knows what each is owed; this
//! room reads requests, keeps the time, and ends calls.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use basalt_engine::mvcc::Reader;
use basalt_engine::types::Term;
use basalt_engine::watch::{CreateRequest, Left, Message, Outlet, StreamId, Watchers};
use basalt_net::grpc::{CallId, Calls, Code, Flow, Metadata, Shared, Status};
use basalt_pb::hot::{Malformed, Wire, WireType};

use super::ApiConfig;
use super::backend::Backend;
use super::errors::Error;
use super::gate::{LeaderLoss, Led, Rpc, needs_leader};
use super::limits::{
    GRPC_OVERHEAD_BYTES, STALLED_LOOK_INTERVAL, WATCH_PROGRESS_INTERVAL,
    WATCH_PROGRESS_INTERVAL_MIN, WATCH_READ_RETRY,
};
use super::meter::Meter;
use super::services::Services;

/// The watch streams of one loop.
pub(super) struct Watches {
    watchers: Watchers<CallId>,
    streams: HashMap<CallId, Stream>,
    listeners: Listeners,
    /// When each stream with a watcher that wants it is told of progress; the number tells apart what is due at once.
    ticks: BTreeMap<(Instant, u64), CallId>,
    /// Streams that get their first tick at the next turn, which knows the time.
    fresh: Vec<CallId>,
    ticks_made: u64,
    progress_interval: Duration,
    leader_loss: LeaderLoss,
}

struct Stream {
    id: StreamId,
    /// `hasleader: true` came with the call.
    needs_leader: bool,
    /// It gets its first tick at the next turn, or stands in `ticks` with this.
    tick: Option<Tick>,
}

/// When a stream is told of progress.
#[derive(Clone, Copy)]
enum Tick {
    Fresh,
    At((Instant, u64)),
}

/// A `WatchRequest`; one that says nothing is ignored.
#[derive(Debug, PartialEq, Eq)]
enum WatchRequest<'a> {
    Create(&'a [u8]),
    Cancel(i64),
    Progress,
    Nothing,
}

/// Where the engine's messages go.
struct Out<'c, C>(&'c mut C, &'c mut Listeners);

/// Calls of other services that hear of keys, each by one watcher of its own.
#[derive(Default)]
struct Listeners {
    /// With the number of the watcher: a call may have several, one after the other.
    streams: HashMap<CallId, (StreamId, u64)>,
    made: u64,
    heard: Vec<Heard>,
}

/// What a call was told.
pub(super) struct Heard {
    pub(super) call: CallId,
    watcher: u64,
    /// A `WatchResponse`.
    pub(super) message: Vec<u8>,
}

impl<C: Calls> Outlet<CallId> for Out<'_, C> {
    fn send(&mut self, to: CallId, message: &Message<'_>) -> bool {
        let Out(calls, listeners) = self;
        if !listeners.streams.is_empty()
            && let Some((_, watcher)) = listeners.streams.get(&to)
        {
            let mut heard = Heard {
                call: to,
                watcher: *watcher,
                message: Vec::new(),
            };
            message.write(&mut heard.message);
            listeners.heard.push(heard);
            return false;
        }
        let flow = match message.shared() {
            None => calls.send(to, |out| message.write(out)),
            Some((bytes, range)) => {
                let shared = Shared::new(Arc::clone(bytes), range);
                calls.send_shared(to, |out| message.write_own(out), shared)
            }
        };
        flow == Flow::Ready
    }

    fn has_room(&mut self, to: CallId) -> bool {
        self.0.has_room(to)
    }
}

impl Watches {
    pub(super) fn new(config: &ApiConfig) -> Self {
        let fragment_bytes = config.max_request_bytes + GRPC_OVERHEAD_BYTES;
        let hub = config.hub.clone();
        let interval = match config.watch_progress_interval {
            Duration::ZERO => WATCH_PROGRESS_INTERVAL,
            interval => interval.max(WATCH_PROGRESS_INTERVAL_MIN),
        };
        Watches {
            watchers: Watchers::new(hub, config.net_loop as usize, fragment_bytes),
            streams: HashMap::new(),
            listeners: Listeners::default(),
            ticks: BTreeMap::new(),
            fresh: Vec::new(),
            ticks_made: 0,
            progress_interval: interval,
            leader_loss: LeaderLoss::default(),
        }
    }

    /// The call is gone; false if it was no watch.
    pub(super) fn on_cancel(&mut self, call: CallId) -> bool {
        let closed = self.streams.remove(&call);
        if let Some(stream) = &closed {
            self.watchers.close(stream.id);
            if let Some(Tick::At(due)) = stream.tick {
                self.ticks.remove(&due);
            }
        }
        closed.is_some()
    }

    pub(super) fn on_writable(&mut self, call: CallId) {
        if let Some(stream) = self.streams.get(&call) {
            self.watchers.on_writable(stream.id);
        }
    }

    /// Lets a call hear of keys: `take_heard` has what it is told.
    pub(super) fn listen(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        request: &CreateRequest<'_>,
        reader: &Reader,
        term: Term,
    ) {
        let id = self.watchers.open(call);
        self.listeners.made += 1;
        let number = self.listeners.made;
        let before = self.listeners.streams.insert(call, (id, number));
        assert!(before.is_none());
        let out = &mut Out(calls, &mut self.listeners);
        self.watchers.create(id, request, reader, term, out);
        self.hear_more(call);
    }

    /// It hears nothing more, if it did.
    pub(super) fn unlisten(&mut self, call: CallId) {
        if let Some((id, _)) = self.listeners.streams.remove(&call) {
            self.watchers.close(id);
        }
    }

    /// A call that has taken what it heard wants more.
    pub(super) fn hear_more(&mut self, call: CallId) {
        if let Some((id, _)) = self.listeners.streams.get(&call) {
            self.watchers.on_writable(*id);
        }
    }

    /// What calls have heard since the last time.
    pub(super) fn take_heard(&mut self) -> Vec<Heard> {
        std::mem::take(&mut self.listeners.heard)
    }

    /// Whether it comes from the watcher that its call has now.
    pub(super) fn is_current(&self, heard: &Heard) -> bool {
        let now = self.listeners.streams.get(&heard.call);
        now.is_some_and(|(_, watcher)| *watcher == heard.watcher)
    }

    /// Ends the calls of which `is_meant` is true.
    fn end(&mut self, calls: &mut impl Calls, error: Error, is_meant: impl Fn(&Stream) -> bool) {
        let meant = self.streams.iter().filter(|(_, stream)| is_meant(stream));
        let meant: Vec<CallId> = meant.map(|(call, _)| *call).collect();
        for call in meant {
            self.on_cancel(call);
            calls.finish(call, error.status());
        }
    }

    /// Tells of progress where it is due. Returns when it is due next.
    fn tick(
        &mut self,
        calls: &mut impl Calls,
        backend: &impl Backend,
        now: Instant,
    ) -> Option<Instant> {
        for call in std::mem::take(&mut self.fresh) {
            self.arm(call, now);
        }
        while let Some(due) = self.ticks.first_entry() {
            if due.key().0 > now {
                return Some(due.key().0);
            }
            let call = due.remove();
            let term = backend.published().applied_term();
            let id = self.streams[&call].id;
            let out = &mut Out(calls, &mut self.listeners);
            self.watchers.tell_progress(id, term, out);
            self.arm(call, now);
        }
        None
    }

    fn arm(&mut self, call: CallId, now: Instant) {
        let Some(stream) = self.streams.get_mut(&call) else {
            return;
        };
        self.ticks_made += 1;
        // Up to a tenth more, so that streams that came together are not all told at once.
        let jitter = self.progress_interval.mul_f64(0.1) * (self.ticks_made % 16) as u32 / 16;
        let at = now + self.progress_interval + jitter;
        let due = (at, self.ticks_made);
        self.ticks.insert(due, call);
        stream.tick = Some(Tick::At(due));
    }
}

impl<B: Backend> Services<B> {
    pub(super) fn on_watch_open(&mut self, call: CallId, meta: &Metadata) -> Result<(), Error> {
        self.admit(Rpc::Watch, false, Some(meta))?;
        let watches = &mut self.watches;
        let stream = Stream {
            id: watches.watchers.open(call),
            needs_leader: needs_leader(meta),
            tick: None,
        };
        watches.streams.insert(call, stream);
        Ok(())
    }

    pub(super) fn on_watch_request(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &[u8],
    ) {
        let (reader, published) = (self.backend.reader(), self.backend.published());
        let watches = &mut self.watches;
        let Some(stream) = watches.streams.get_mut(&call) else {
            return;
        };
        let term = published.applied_term();
        let request = WatchRequest::read(message);
        let create = match request {
            Ok(WatchRequest::Create(body)) => Some(read_create(body)),
            _ => None,
        };
        match (request, create) {
            (Err(why), _) | (_, Some(Err(why))) => {
                watches.on_cancel(call);
                let text = format!("grpc: failed to unmarshal the received message: proto: {why}");
                calls.finish(call, Status::new(Code::Internal, text));
            }
            (_, Some(Ok(create))) => {
                if create.progress_notify && stream.tick.is_none() {
                    stream.tick = Some(Tick::Fresh);
                    watches.fresh.push(call);
                }
                let id = stream.id;
                let out = &mut Out(calls, &mut watches.listeners);
                watches.watchers.create(id, &create, reader, term, out);
            }
            (Ok(WatchRequest::Cancel(id)), _) => {
                let out = &mut Out(calls, &mut watches.listeners);
                watches.watchers.cancel(stream.id, id, reader, term, out);
            }
            (Ok(WatchRequest::Progress), _) => watches.watchers.ask_progress(stream.id),
            (Ok(WatchRequest::Nothing | WatchRequest::Create(_)), _) => {}
        }
    }

    /// Sends what there is to send. Returns when to look again.
    pub(super) fn poll_watches(
        &mut self,
        calls: &mut impl Calls,
        meter: &Meter,
        now: Instant,
    ) -> Option<Instant> {
        let watches = &mut self.watches;
        if watches.streams.is_empty() && watches.listeners.streams.is_empty() {
            watches.leader_loss.forget();
            return None;
        }
        let calls = &mut meter.count(Rpc::Watch, calls);
        let published = self.backend.published();
        let led = watches.leader_loss.look(published, now);
        if led == Led::No {
            watches.end(calls, Error::NoLeader, |stream| stream.needs_leader);
        }
        let wake = match led {
            Led::Until(end) => Some(end),
            Led::Yes | Led::No => None,
        };
        let term = published.applied_term();
        let reader = self.backend.reader();
        let out = &mut Out(calls, &mut watches.listeners);
        let look = match watches.watchers.poll(reader, term, out) {
            Left::Nothing => None,
            Left::More => Some(now),
            Left::Reads => Some(now + WATCH_READ_RETRY),
            Left::Room => Some(now + STALLED_LOOK_INTERVAL),
        };
        let tick = watches.tick(calls, &self.backend, now);
        [wake, look, tick].into_iter().flatten().min()
    }

    /// The loop is to stop.
    pub(super) fn stop_watches(&mut self, calls: &mut impl Calls, meter: &Meter) {
        let calls = &mut meter.count(Rpc::Watch, calls);
        self.watches.end(calls, Error::Stopped, |_| true);
    }
}

impl<'a> WatchRequest<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut request = WatchRequest::Nothing;
        let mut wire = Wire::new(message);
        while let Some(field) = wire.tag()? {
            request = match field {
                (1, WireType::Len) => WatchRequest::Create(wire.bytes()?),
                (2, WireType::Len) => WatchRequest::Cancel(read_id(wire.bytes()?)?),
                (3, WireType::Len) => {
                    wire.bytes()?;
                    WatchRequest::Progress
                }
                field => {
                    wire.skip(field)?;
                    continue;
                }
            };
        }
        Ok(request)
    }
}

fn read_id(message: &[u8]) -> Result<i64, Malformed> {
    let [id] = super::fields::ints(message)?;
    Ok(id as i64)
}

fn read_create(message: &[u8]) -> Result<CreateRequest<'_>, Malformed> {
    let mut request = CreateRequest::default();
    let mut wire = Wire::new(message);
    while let Some(field) = wire.tag()? {
        match field {
            (1, WireType::Len) => request.key = wire.bytes()?,
            (2, WireType::Len) => request.range_end = wire.bytes()?,
            (3, WireType::Varint) => request.start_revision = wire.varint()? as i64,
            (4, WireType::Varint) => request.progress_notify = wire.boolean()?,
            (5, WireType::Varint) => filter(&mut request, wire.varint()?),
            (5, WireType::Len) => {
                let mut packed = Wire::new(wire.bytes()?);
                while packed.remaining() > 0 {
                    filter(&mut request, packed.varint()?);
                }
            }
            (6, WireType::Varint) => request.prev_kv = wire.boolean()?,
            (7, WireType::Varint) => request.watch_id = wire.varint()? as i64,
            (8, WireType::Varint) => request.fragment = wire.boolean()?,
            field => wire.skip(field)?,
        }
    }
    Ok(request)
}

/// Unknown filters are ignored.
fn filter(request: &mut CreateRequest<'_>, number: u64) {
    match number {
        0 => request.no_put = true,
        1 => request.no_delete = true,
        _ => {}
    }
}
