use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::dispatch::{Hub, Left, Letter};
use super::event::{Kind, Message, fragments, header};
use super::group::{Group, Wanted};
use super::pass::Pass;
use super::slab::Slab;
use crate::mvcc::{KeyRange, Reader};
use crate::types::Term;

/// The watchers of one network loop, by stream. `A` is how the loop addresses a stream.
pub struct Watchers<A> {
    pub(super) hub: Arc<Hub>,
    pub(super) net_loop: usize,
    /// A message that is not smaller is cut, for watchers that want that.
    fragment_bytes: usize,
    pub(super) streams: Slab<Stream<A>>,
    pub(super) watchers: Slab<Watcher>,
    /// The groups that have watchers here.
    pub(super) locals: Slab<Local>,
    pub(super) passes: Slab<Pass>,
    /// The pass that had the last slice.
    pub(super) last_pass: u32,
    /// Streams with room again whose stalled watchers may go on.
    resumed: Vec<u32>,
    /// Streams whose connection has no room.
    crowded: Vec<u32>,
    /// Streams whose client has asked for progress.
    asked: Vec<u32>,
    /// Synced watchers were sent everything up to it.
    dispatched: i64,
}

/// A stream of a [`Watchers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamId(u32);

/// What the loop does with messages.
pub trait Outlet<A> {
    /// Sends a message, which is always taken. False: no more are welcome before `on_writable`.
    fn send(&mut self, to: A, message: &Message<'_>) -> bool;

    /// Whether the stream's connection has room for long messages.
    fn has_room(&mut self, to: A) -> bool;
}

/// etcd's `WatchCreateRequest`.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "etcd's fields by etcd's names")]
pub struct CreateRequest<'a> {
    pub key: &'a [u8],
    pub range_end: &'a [u8],
    pub start_revision: i64,
    pub progress_notify: bool,
    pub no_put: bool,
    pub no_delete: bool,
    pub prev_kv: bool,
    pub watch_id: i64,
    pub fragment: bool,
}

pub(super) struct Stream<A> {
    address: A,
    /// Numbers of its watchers.
    ids: BTreeMap<i64, u32>,
    /// No id below it is given by the stream itself any more.
    next_id: i64,
    /// Bytes sent since it was said that no more are welcome.
    over: usize,
    is_full: bool,
    is_crowded: bool,
    /// Watchers that wait for room.
    stalled: usize,
}

/// A cursor into the log, and where it is told of.
pub(super) struct Watcher {
    id: i64,
    /// It was sent everything below, or did not want it. Of a synced watcher the lower bound of what it wants; of
    /// one that catches up its pass may be further.
    pub(super) next: i64,
    stream: u32,
    pub(super) local: u32,
    pub(super) state: State,
    /// Neighbours in one of the lists of its group.
    before: u32,
    pub(super) after: u32,
    is_fragmented: bool,
    wants_progress: bool,
    /// Nothing was sent since the last time that progress was told.
    is_quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Is told of what is dispatched.
    Synced,
    /// Reads the log with this pass.
    Behind(u32),
    /// Waits for room on its stream; in no list.
    Stalled,
}

/// One group's watchers of this loop.
pub(super) struct Local {
    pub(super) group: Arc<Group>,
    pub(super) synced: u32,
    pub(super) behind: u32,
    watchers: usize,
}

impl<A: Copy> Watchers<A> {
    /// The watchers of network loop `net_loop`. `fragment_bytes` is the size from which messages are cut.
    #[must_use]
    pub fn new(hub: Arc<Hub>, net_loop: usize, fragment_bytes: usize) -> Self {
        Self {
            hub,
            net_loop,
            fragment_bytes,
            streams: Slab::new(),
            watchers: Slab::new(),
            locals: Slab::new(),
            passes: Slab::new(),
            last_pass: 0,
            resumed: Vec::new(),
            crowded: Vec::new(),
            asked: Vec::new(),
            dispatched: 0,
        }
    }

    /// A stream without watchers.
    pub fn open(&mut self, address: A) -> StreamId {
        self.hub.counters().streams.fetch_add(1, Ordering::Relaxed);
        StreamId(self.streams.insert(Stream {
            address,
            ids: BTreeMap::new(),
            next_id: 0,
            over: 0,
            is_full: false,
            is_crowded: false,
            stalled: 0,
        }))
    }

    /// The stream and all its watchers are gone.
    pub fn close(&mut self, stream: StreamId) {
        let Some(closed) = self.streams.get_mut(stream.0) else {
            return;
        };
        for number in std::mem::take(&mut closed.ids).into_values() {
            self.remove(number);
        }
        self.streams.remove(stream.0);
        for list in [&mut self.resumed, &mut self.crowded, &mut self.asked] {
            list.retain(|listed| *listed != stream.0);
        }
        self.hub.counters().streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// Begins to watch, or says why not. [W1] to [W4]
    pub fn create(
        &mut self,
        stream: StreamId,
        request: &CreateRequest<'_>,
        reader: &Reader,
        term: Term,
        out: &mut impl Outlet<A>,
    ) {
        let key = match request.key {
            [] => &[0],
            key => key,
        };
        let keys = KeyRange::new(key, request.range_end);
        let ids = &self.streams[stream.0].ids;
        let refusal = if request.start_revision < 0 {
            Some(COMPACTED)
        } else if matches!(keys, KeyRange::Range { start, end } if start >= end) {
            Some(EMPTY_RANGE)
        } else if request.watch_id != 0 && ids.contains_key(&request.watch_id) {
            Some(DUPLICATE_ID)
        } else {
            None
        };
        if let Some(reason) = refusal {
            let newest = reader.pin().view().revision();
            self.tell(stream.0, -1, Kind::Refused(reason), (newest, term), out);
            return;
        }
        let wanted = Wanted {
            keys,
            no_put: request.no_put,
            no_delete: request.no_delete,
            prev_kv: request.prev_kv,
        };
        let locals = &mut self.locals;
        let group = self.hub.join(&wanted, self.net_loop, |group| {
            locals.insert(Local {
                group: Arc::clone(group),
                synced: NONE,
                behind: NONE,
                watchers: 0,
            })
        });
        // Not before the group is known: what is published from here on is dispatched to it.
        let (newest, compacted) = {
            let pin = reader.pin();
            (pin.view().revision(), pin.view().compacted())
        };
        let local = group.local(self.net_loop).expect("set by the join");
        self.locals[local].watchers += 1;
        let owner = &mut self.streams[stream.0];
        let id = owner.draw_id(request.watch_id);
        let start = request.start_revision;
        let is_synced = start == 0 || start > newest;
        let number = self.watchers.insert(Watcher {
            id,
            next: if is_synced {
                start.max(newest + 1)
            } else {
                start
            },
            stream: stream.0,
            local,
            state: State::Stalled,
            before: NONE,
            after: NONE,
            is_fragmented: request.fragment,
            wants_progress: request.progress_notify,
            is_quiet: true,
        });
        owner.ids.insert(id, number);
        owner.stalled += 1;
        self.count_slow(1);
        self.tell(stream.0, id, Kind::Created, (newest, term), out);
        if is_synced {
            self.unstall(number);
            self.sync(number);
        } else if start < compacted {
            self.cancel_compacted(number, compacted, term, out);
        } else {
            self.unstall(number);
            self.join_pass(number);
        }
    }

    /// Ends a watcher. One that is not there is ignored. [W10]
    pub fn cancel(
        &mut self,
        stream: StreamId,
        id: i64,
        reader: &Reader,
        term: Term,
        out: &mut impl Outlet<A>,
    ) {
        if let Some(number) = self.streams[stream.0].ids.remove(&id) {
            self.remove(number);
            let newest = reader.pin().view().revision();
            self.tell(stream.0, id, Kind::Canceled, (newest, term), out);
        }
    }

    /// The client asks how far its watchers are; [`Watchers::poll`] answers if all are synced. [W9]
    pub fn ask_progress(&mut self, stream: StreamId) {
        if !self.asked.contains(&stream.0) {
            self.asked.push(stream.0);
        }
    }

    /// Tells each quiet, synced watcher of the stream that wants it how far it is; a turn of the periodic
    /// ticker. [W9]
    pub fn tell_progress(&mut self, stream: StreamId, term: Term, out: &mut impl Outlet<A>) {
        let header = self.header((self.dispatched, term));
        let Stream { address, ids, .. } = &self.streams[stream.0];
        for (id, number) in ids {
            let watcher = &mut self.watchers[*number];
            let is_there = watcher.state == State::Synced && watcher.next <= self.dispatched + 1;
            if watcher.wants_progress && watcher.is_quiet && is_there {
                let message = Message {
                    header: &header,
                    watch_id: *id,
                    kind: Kind::Progress,
                };
                // Small and rare: what it says of room is said again by the next event.
                let _ = out.send(*address, &message);
            }
            watcher.is_quiet = true;
        }
    }

    /// The stream takes more.
    pub fn on_writable(&mut self, stream: StreamId) {
        let Some(owner) = self.streams.get_mut(stream.0) else {
            return;
        };
        (owner.is_full, owner.over) = (false, 0);
        if owner.stalled > 0 && !self.resumed.contains(&stream.0) {
            self.resumed.push(stream.0);
        }
    }

    /// Delivers what was dispatched, does a slice of catching up, answers who asked for progress.
    pub fn poll(&mut self, reader: &Reader, term: Term, out: &mut impl Outlet<A>) -> Left {
        let dispatched = self.hub.dispatched();
        let mail = self.hub.take_mail(self.net_loop);
        for letter in &mail.letters {
            self.deliver_letter(letter, out);
        }
        if let Some(lost_from) = mail.lost_from {
            self.fall_behind(lost_from);
        }
        self.dispatched = dispatched;
        self.resume(out);
        let mut left = self.catch_up(reader, term, out);
        if !self.asked.is_empty() {
            self.answer_progress(reader, term, out);
        }
        if left == Left::Nothing && !self.crowded.is_empty() {
            left = Left::Room;
        }
        left
    }

    /// Sends events to a watcher, if there is room.
    pub(super) fn deliver(
        &mut self,
        number: u32,
        header: &[u8],
        (events, count): (&[u8], u32),
        out: &mut impl Outlet<A>,
    ) -> bool {
        let watcher = &mut self.watchers[number];
        let stream = &mut self.streams[watcher.stream];
        if stream.over >= self.hub.bounds.over_bytes {
            return false;
        }
        if !out.has_room(stream.address) {
            if !std::mem::replace(&mut stream.is_crowded, true) {
                self.crowded.push(watcher.stream);
            }
            return false;
        }
        let mut message = Message {
            header,
            watch_id: watcher.id,
            kind: Kind::Events {
                events,
                is_fragment: false,
            },
        };
        let bytes = message.bytes();
        let is_welcome = if watcher.is_fragmented && bytes >= self.fragment_bytes {
            let base = bytes - events.len();
            let mut pieces = fragments(events, base, self.fragment_bytes)
                .expect("encoded here")
                .into_iter()
                .peekable();
            let mut is_welcome = true;
            while let Some(events) = pieces.next() {
                let is_fragment = pieces.peek().is_some();
                message.kind = Kind::Events {
                    events,
                    is_fragment,
                };
                is_welcome = out.send(stream.address, &message);
            }
            is_welcome
        } else {
            out.send(stream.address, &message)
        };
        stream.is_full |= !is_welcome;
        if stream.is_full {
            stream.over += bytes;
        }
        watcher.is_quiet = false;
        let counters = self.hub.counters();
        counters
            .events
            .fetch_add(u64::from(count), Ordering::Relaxed);
        true
    }

    fn deliver_letter(&mut self, letter: &Letter, out: &mut impl Outlet<A>) {
        for gathered in &letter.groups {
            let Some(local) = gathered.group.local(self.net_loop) else {
                continue;
            };
            let events = gathered.events_from(letter.revision);
            let mut number = self.locals[local].synced;
            while let Some(watcher) = self.watchers.get(number) {
                let after = watcher.after;
                if watcher.next <= letter.revision
                    && !self.deliver(number, &letter.header, events, out)
                {
                    self.stall(number, letter.revision);
                }
                number = after;
            }
        }
    }

    /// The mail from a revision on is lost: the log has it.
    fn fall_behind(&mut self, lost_from: i64) {
        for local in self.locals.numbers() {
            while let Some(watcher) = self.watchers.get_mut(self.locals[local].synced) {
                let next = watcher.next.max(lost_from);
                let number = self.locals[local].synced;
                self.stall(number, next);
                self.unstall(number);
                self.join_pass(number);
            }
        }
    }

    /// Lets the stalled watchers of streams with room go on.
    fn resume(&mut self, out: &mut impl Outlet<A>) {
        let mut crowded = std::mem::take(&mut self.crowded);
        crowded.retain(|stream| {
            let owner = &mut self.streams[*stream];
            owner.is_crowded = !out.has_room(owner.address);
            if !owner.is_crowded {
                self.resumed.push(*stream);
            }
            owner.is_crowded
        });
        self.crowded = crowded;
        for stream in std::mem::take(&mut self.resumed) {
            if self.streams[stream].stalled == 0 {
                continue;
            }
            let numbers: Vec<u32> = self.streams[stream].ids.values().copied().collect();
            for number in numbers {
                if self.watchers[number].state == State::Stalled {
                    self.unstall(number);
                    self.join_pass(number);
                }
            }
        }
    }

    fn answer_progress(&mut self, reader: &Reader, term: Term, out: &mut impl Outlet<A>) {
        let newest = reader.pin().view().revision();
        for stream in std::mem::take(&mut self.asked) {
            let numbers = self.streams[stream].ids.values();
            let mut is_synced = numbers.len() > 0;
            let mut next = 0;
            for number in numbers {
                let watcher = &self.watchers[*number];
                is_synced &= watcher.state == State::Synced;
                next = next.max(watcher.next);
            }
            if !is_synced || next > newest + 1 {
                continue;
            }
            // A watcher that has just begun must not hear of a revision before its first.
            if next > self.dispatched + 1 {
                self.asked.push(stream);
                continue;
            }
            let at = (self.dispatched, term);
            self.tell(stream, -1, Kind::Progress, at, out);
        }
    }

    /// Ends a watcher whose next revision is compacted.
    pub(super) fn cancel_compacted(
        &mut self,
        number: u32,
        compact_revision: i64,
        term: Term,
        out: &mut impl Outlet<A>,
    ) {
        let Watcher { id, stream, .. } = self.watchers[number];
        self.streams[stream].ids.remove(&id);
        self.remove(number);
        let kind = Kind::Compacted { compact_revision };
        self.tell(stream, id, kind, (0, term), out);
    }

    fn tell(
        &self,
        stream: u32,
        watch_id: i64,
        kind: Kind<'_>,
        at: (i64, Term),
        out: &mut impl Outlet<A>,
    ) {
        let message = Message {
            header: &self.header(at),
            watch_id,
            kind,
        };
        // What it says of room is said again by the next event.
        let _ = out.send(self.streams[stream].address, &message);
    }

    pub(super) fn header(&self, (revision, term): (i64, Term)) -> Vec<u8> {
        header(self.hub.cluster.0, self.hub.member.0, revision, term.0)
    }

    /// From no list into that of the synced.
    pub(super) fn sync(&mut self, number: u32) {
        self.watchers[number].state = State::Synced;
        self.link(number);
        self.count_slow(-1);
    }

    /// From no list into that of a pass.
    pub(super) fn enter(&mut self, number: u32, pass: u32) {
        self.watchers[number].state = State::Behind(pass);
        self.link(number);
    }

    /// Out of its list, to wait for room and then go on at `next`.
    pub(super) fn stall(&mut self, number: u32, next: i64) {
        self.unlink(number);
        let watcher = &mut self.watchers[number];
        let before = std::mem::replace(&mut watcher.state, State::Stalled);
        watcher.next = next;
        self.streams[watcher.stream].stalled += 1;
        match before {
            State::Synced => self.count_slow(1),
            State::Behind(pass) => self.passes[pass].leave(),
            State::Stalled => unreachable!("it was in a list"),
        }
    }

    /// A stalled watcher is about to go on.
    fn unstall(&mut self, number: u32) {
        self.streams[self.watchers[number].stream].stalled -= 1;
    }

    /// Forgets a watcher that its stream no longer names.
    fn remove(&mut self, number: u32) {
        let state = self.watchers[number].state;
        match state {
            State::Synced => self.unlink(number),
            State::Behind(pass) => {
                self.unlink(number);
                self.passes[pass].leave();
            }
            State::Stalled => self.unstall(number),
        }
        if state != State::Synced {
            self.count_slow(-1);
        }
        let Some(Watcher { local, .. }) = self.watchers.remove(number) else {
            return;
        };
        let own = &mut self.locals[local];
        own.watchers -= 1;
        let group = Arc::clone(&own.group);
        if own.watchers == 0 {
            group.set_local(self.net_loop, None);
            self.locals.remove(local);
        }
        self.hub.leave(&group);
    }

    fn link(&mut self, number: u32) {
        let Watcher { state, local, .. } = self.watchers[number];
        let head = self.locals[local].list(state);
        let first = std::mem::replace(head, number);
        if let Some(first) = self.watchers.get_mut(first) {
            first.before = number;
        }
        let watcher = &mut self.watchers[number];
        (watcher.before, watcher.after) = (NONE, first);
    }

    pub(super) fn unlink(&mut self, number: u32) {
        let Watcher {
            state,
            local,
            before,
            after,
            ..
        } = self.watchers[number];
        match self.watchers.get_mut(before) {
            Some(before) => before.after = after,
            None => *self.locals[local].list(state) = after,
        }
        if let Some(after) = self.watchers.get_mut(after) {
            after.before = before;
        }
    }

    fn count_slow(&self, change: i64) {
        let slow = &self.hub.counters().slow_watchers;
        slow.fetch_add(change as u64, Ordering::Relaxed);
    }
}

impl<A> Stream<A> {
    /// The id that the client has chosen, or the next free one.
    fn draw_id(&mut self, chosen: i64) -> i64 {
        if chosen != 0 {
            return chosen;
        }
        while self.ids.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }
}

impl Local {
    /// The head of the list for watchers in this state.
    fn list(&mut self, state: State) -> &mut u32 {
        match state {
            State::Synced => &mut self.synced,
            State::Behind(_) => &mut self.behind,
            State::Stalled => unreachable!("who is stalled is in no list"),
        }
    }
}

impl<A> Drop for Watchers<A> {
    /// Other loops go on.
    fn drop(&mut self) {
        for number in self.watchers.numbers() {
            let local = self.watchers[number].local;
            self.hub.leave(&self.locals[local].group);
        }
    }
}

/// No watcher's number.
pub(super) const NONE: u32 = u32::MAX;

// etcd's texts.
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
