use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::dispatch::{Hub, Left, Letter};
use super::event::{Events, Kind, Message, fragments, header};
use super::group::{GroupEntry, GroupHeld, Wanted};
use super::ids::Ids;
use super::pass::Pass;
use super::slab::Slab;
use crate::limits::WATCH_PASSES_MAX;
use crate::mutant::{Mutant, is_on};
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
    ids: Ids,
    /// No id below it is given by the stream itself any more.
    next_id: i64,
    /// Bytes sent since it was said that no more are welcome.
    over: usize,
    is_full: bool,
    is_crowded: bool,
    /// Watchers that wait for room.
    stalled: usize,
}

/// A cursor into the log, and where it is told of. The watchers of a loop in one group are a list: the synced ones first, in
/// its words the number of the first. There may be a million watchers, most of them alone in their group.
pub(super) struct Watcher {
    id: i64,
    /// It was sent everything below, or did not want it. Of a synced watcher the lower bound of what it wants; of
    /// one that catches up its pass may be further.
    pub(super) next: i64,
    group: GroupHeld,
    stream: u32,
    /// Neighbours in the list of its group: before the first is the last, after the last nobody.
    before: u32,
    after: u32,
    pub(super) state: State,
    traits: Traits,
}

const _: () = assert!(size_of::<Option<Watcher>>() == 40);

/// What is true of a watcher, a bit each.
#[derive(Clone, Copy)]
struct Traits(u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Is told of what is dispatched.
    Synced,
    /// Reads the log with this pass.
    Behind(u8),
    /// Waits for room on its stream.
    Stalled,
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
            ids: Ids::default(),
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
        for (_, number) in std::mem::take(&mut closed.ids).iter() {
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
        } else if request.watch_id != 0 && ids.get(request.watch_id).is_some() {
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
        let owner = &mut self.streams[stream.0];
        let id = owner.draw_id(request.watch_id);
        let number = self.watchers.insert(Watcher {
            id,
            next: 0,
            group: self.hub.join(&wanted),
            stream: stream.0,
            before: NONE,
            after: NONE,
            state: State::Stalled,
            traits: Traits::new(request),
        });
        owner.ids.insert(id, number);
        owner.stalled += 1;
        self.count_slow(1);
        self.link(number);
        // Not before the group is known: what is published from here on is dispatched to it.
        self.hub.is_told();
        let (newest, compacted) = {
            let pin = reader.pin();
            (pin.view().revision(), pin.view().compacted())
        };
        let mut start = request.start_revision;
        if is_on(Mutant::SkipCompacted) && start == compacted {
            start += 1;
        }
        let is_synced = start == 0 || start > newest;
        self.watchers[number].next = match is_synced {
            true if is_on(Mutant::WatchBackInTime) => newest + 1,
            true => start.max(newest + 1),
            false => start,
        };
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
        if let Some(number) = self.streams[stream.0].ids.remove(id) {
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
        for (id, number) in ids.iter() {
            let watcher = &mut self.watchers[number];
            let is_there = watcher.state == State::Synced && watcher.next <= self.dispatched + 1;
            let Traits(traits) = watcher.traits;
            if traits & Traits::TOLD == Traits::TOLD && is_there {
                let message = Message {
                    header: &header,
                    watch_id: id,
                    kind: Kind::Progress,
                };
                // Small and rare: what it says of room is said again by the next event.
                let _ = out.send(*address, &message);
            }
            watcher.traits.0 |= Traits::IS_QUIET;
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
        events: &Events<'_>,
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
        let message = |events, is_fragment| Message {
            header,
            watch_id: watcher.id,
            kind: Kind::Events {
                events,
                is_fragment,
            },
        };
        let whole = message(events, false);
        let bytes = whole.bytes();
        let is_fragmented = watcher.traits.0 & Traits::IS_FRAGMENTED != 0;
        let is_welcome = if is_fragmented && bytes >= self.fragment_bytes {
            let base = bytes - events.range.len();
            let pieces = fragments(events, base, self.fragment_bytes).expect("encoded here");
            let last = pieces.len() - 1;
            let pieces = pieces.iter().enumerate();
            pieces.fold(true, |_, (at, events)| {
                out.send(stream.address, &message(events, at < last))
            })
        } else {
            out.send(stream.address, &whole)
        };
        stream.is_full |= !is_welcome;
        if stream.is_full {
            stream.over += bytes;
        }
        watcher.traits.0 &= !Traits::IS_QUIET;
        let counters = self.hub.counters();
        counters
            .events
            .fetch_add(u64::from(events.count), Ordering::Relaxed);
        true
    }

    fn deliver_letter(&mut self, letter: &Letter, out: &mut impl Outlet<A>) {
        for gathered in &letter.groups {
            let events = gathered.events_from(letter.revision);
            let mut at = gathered.group.entry().first_of(self.net_loop);
            while let Some(number) = at {
                let watcher = &self.watchers[number];
                if watcher.state != State::Synced {
                    break;
                }
                at = self.watchers.get(watcher.after).map(|_| watcher.after);
                if (watcher.next <= letter.revision || is_on(Mutant::WatchTwice))
                    && !self.deliver(number, &letter.header, &events, out)
                {
                    let lost = i64::from(is_on(Mutant::ForgetStalled));
                    self.stall(number, letter.revision + lost);
                }
            }
        }
    }

    /// The mail from a revision on is lost: the log has it.
    fn fall_behind(&mut self, lost_from: i64) {
        for number in self.watchers.numbers() {
            let watcher = &self.watchers[number];
            if watcher.state == State::Synced {
                let next = watcher.next.max(lost_from);
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
            let ids = self.streams[stream].ids.iter();
            let numbers: Vec<u32> = ids.map(|(_, number)| number).collect();
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
            let ids = &self.streams[stream].ids;
            let mut is_synced = ids.iter().next().is_some();
            let mut next = 0;
            for (_, number) in ids.iter() {
                let watcher = &self.watchers[number];
                is_synced &= watcher.state == State::Synced || is_on(Mutant::ProgressAhead);
                next = next.max(watcher.next);
            }
            let may_be_early = is_on(Mutant::ProgressBeforeStart);
            if !is_synced || (next > newest + 1 && !may_be_early) {
                continue;
            }
            // A watcher that has just begun must not hear of a revision before its first.
            if next > self.dispatched + 1 && !may_be_early {
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
        self.streams[stream].ids.remove(id);
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

    /// One that was not is told of what is dispatched.
    pub(super) fn sync(&mut self, number: u32) {
        self.watchers[number].state = State::Synced;
        self.link_anew(number);
        self.count_slow(-1);
    }

    /// It waits for room and then goes on at `next`.
    pub(super) fn stall(&mut self, number: u32, next: i64) {
        let watcher = &mut self.watchers[number];
        let before = std::mem::replace(&mut watcher.state, State::Stalled);
        watcher.next = next;
        self.streams[watcher.stream].stalled += 1;
        match before {
            State::Synced => {
                self.link_anew(number);
                self.count_slow(1);
            }
            State::Behind(pass) => self.passes[pass.into()].leave(),
            State::Stalled => unreachable!("it was told of something"),
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
            State::Synced => {}
            State::Behind(pass) => self.passes[pass.into()].leave(),
            State::Stalled => self.unstall(number),
        }
        if state != State::Synced {
            self.count_slow(-1);
        }
        self.unlink(number);
        if let Some(Watcher { group, .. }) = self.watchers.remove(number) {
            self.hub.leave(group.entry());
        }
    }

    /// The last watcher of the group's list, if it is not synced.
    pub(super) fn last_unsynced(&self, group: GroupEntry<'_>) -> Option<u32> {
        let first = group.first_of(self.net_loop)?;
        let last = self.watchers[first].before;
        (self.watchers[last].state != State::Synced).then_some(last)
    }

    /// The one before it in its list, if there is one that is not synced.
    pub(super) fn unsynced_before(&self, number: u32) -> Option<u32> {
        let before = self.watchers[number].before;
        let watcher = &self.watchers[before];
        (watcher.after != NONE && watcher.state != State::Synced).then_some(before)
    }

    /// Where it belongs by its state. The group is never without a first one meanwhile: its letters would be lost.
    fn link_anew(&mut self, number: u32) {
        if self.watchers[number].before != number {
            self.unlink(number);
            self.link(number);
        }
    }

    /// Into the list of its group: in front, or behind all others if it is not synced.
    fn link(&mut self, number: u32) {
        let own = &self.watchers[number];
        let is_synced = own.state == State::Synced;
        let Some(first) = own.group.entry().first_of(self.net_loop) else {
            own.group.entry().set_first_of(self.net_loop, Some(number));
            self.watchers[number].before = number;
            return;
        };
        let last = std::mem::replace(&mut self.watchers[first].before, number);
        if is_synced {
            let own = &mut self.watchers[number];
            (own.before, own.after) = (last, first);
            own.group.entry().set_first_of(self.net_loop, Some(number));
        } else {
            self.watchers[last].after = number;
            self.watchers[number].before = last;
        }
    }

    fn unlink(&mut self, number: u32) {
        let own = &mut self.watchers[number];
        let before = std::mem::replace(&mut own.before, NONE);
        let after = std::mem::replace(&mut own.after, NONE);
        let own = &self.watchers[number];
        let group = own.group.entry();
        let first = group.first_of(self.net_loop).expect("it is in the list");
        if first != number {
            self.watchers[before].after = after;
            let behind = if after == NONE { first } else { after };
            self.watchers[behind].before = before;
        } else if after == NONE {
            group.set_first_of(self.net_loop, None);
        } else {
            group.set_first_of(self.net_loop, Some(after));
            self.watchers[after].before = before;
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
        while self.ids.get(self.next_id).is_some() {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }
}

impl State {
    pub(super) fn behind(pass: u32) -> Self {
        const { assert!(WATCH_PASSES_MAX <= 1 << u8::BITS) };
        State::Behind(u8::try_from(pass).expect("numbers of passes are used again"))
    }
}

impl Traits {
    const IS_FRAGMENTED: u8 = 1;
    const WANTS_PROGRESS: u8 = 1 << 1;
    /// Nothing was sent since the last time that progress was told.
    const IS_QUIET: u8 = 1 << 2;
    /// It hears of progress when that is due.
    const TOLD: u8 = Self::WANTS_PROGRESS | Self::IS_QUIET;

    fn new(request: &CreateRequest<'_>) -> Self {
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        Self(
            bit(request.fragment, Self::IS_FRAGMENTED)
                | bit(request.progress_notify, Self::WANTS_PROGRESS)
                | Self::IS_QUIET,
        )
    }
}

impl<A> Drop for Watchers<A> {
    /// Other loops go on.
    fn drop(&mut self) {
        for number in self.watchers.numbers() {
            self.hub.leave(self.watchers[number].group.entry());
        }
    }
}

/// No watcher's number.
const NONE: u32 = u32::MAX;

// etcd's texts.
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
