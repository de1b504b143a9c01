//! Watchers on all members, and what each must hear: every change that it wants, once, in order, in whole revisions, or that it is compacted.
//!
//! A watcher keeps what it has heard over its streams: when one breaks it goes on at another member behind the last revision that it knows
//! to be complete. It is held against the committed log, so it does not matter which member told it what.

use std::collections::BTreeSet;
use std::sync::Arc;

use basalt_engine::mvcc::{HoldRefused, KeyRange};
use basalt_engine::replica::Replica;
use basalt_engine::types::{ClusterId, MemberId};
use basalt_engine::watch::{
    CreateRequest, Dispatcher, Hub, Left, Message, Outlet, StreamId, Watchers,
};
use basalt_pb::etcdserverpb as pb;
use basalt_pb::mvccpb::{Event as Told, KeyValue};
use bytes::Bytes;
use fastrand::Rng;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::finish::Phase;
use super::plan::Settings;
use super::witness::Witness;
use super::workload::{KEYS_MAX, key};
use super::world::{At, Event, World};
use crate::check::history::Violation;

/// Somebody who watches from some time on until the end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Watch {
    /// When it begins; microseconds.
    pub at_us: u64,
    /// Whom it asks first.
    pub member: u8,
    /// The first key.
    pub from: u8,
    /// The key behind the last; `None`: one key.
    pub to: Option<u8>,
    /// From so many revisions behind (or below 0, ahead of) the newest one that anybody has heard of; `None`: from now on.
    pub back: Option<i8>,
    /// Whether previous records are wanted.
    pub previous: bool,
    /// Whether puts (1) or deletions (2) are not wanted.
    pub without: u8,
    /// Whether long messages may come in pieces.
    pub fragment: bool,
    /// How long it takes to read a message.
    pub slow_us: u64,
    /// After how many messages it goes to another member, asking for progress meanwhile; 0: never.
    pub hops: u8,
}

/// The watchers of a member's process, beside its replica.
pub struct Side {
    dispatcher: Dispatcher,
    watchers: Watchers<usize>,
    wire: Wire,
    /// Whether its loop will have a turn.
    is_due: bool,
}

/// What the connections carry, by number of the watcher.
#[derive(Default)]
struct Wire {
    sent: Vec<(usize, Vec<u8>)>,
    /// Who reads slowly.
    slow: BTreeSet<usize>,
    /// Who has not read what it was sent.
    full: BTreeSet<usize>,
}

/// A watcher while it runs.
#[derive(Debug, Default)]
pub(super) struct Watching {
    stream: Option<(At, StreamId)>,
    /// Streams that it has tried to open.
    tries: u32,
    is_created: bool,
    /// What it asked for, on this stream.
    start: i64,
    /// It has heard everything up to here; 0: nothing was ever promised to it.
    seen: i64,
    pieces: Vec<Told>,
    messages: u32,
}

impl Outlet<usize> for Wire {
    fn send(&mut self, to: usize, message: &Message<'_>) -> bool {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        self.sent.push((to, bytes));
        if self.slow.contains(&to) {
            self.full.insert(to);
        }
        true
    }

    fn has_room(&mut self, to: usize) -> bool {
        !self.full.contains(&to)
    }
}

impl Side {
    /// Nobody watches yet.
    ///
    /// # Errors
    /// The store keeps nothing for anybody.
    pub fn new(
        cluster: ClusterId,
        member: MemberId,
        replica: &Replica,
    ) -> Result<Self, HoldRefused> {
        let hub = Hub::new(cluster, member, 1);
        Ok(Self {
            dispatcher: Dispatcher::new(Arc::clone(&hub), replica.reader())?,
            watchers: Watchers::new(hub, 0, FRAGMENT_BYTES),
            wire: Wire::default(),
            is_due: false,
        })
    }

    /// Hands on what was published. True: something must be read from the disk first.
    fn dispatch(&mut self, replica: &Replica) -> bool {
        let term = replica.published().applied_term();
        let newest = replica.revision();
        loop {
            match self.dispatcher.dispatch(newest, term, |_| {}) {
                Left::More => {}
                left => return left == Left::Reads,
            }
        }
    }

    /// A turn of the loop: what was sent, and what is left to do.
    fn poll(&mut self, replica: &Replica) -> (Vec<(usize, Vec<u8>)>, Left) {
        let term = replica.published().applied_term();
        let left = self.watchers.poll(replica.reader(), term, &mut self.wire);
        self.is_due = left == Left::More;
        (std::mem::take(&mut self.wire.sent), left)
    }

    fn close(&mut self, number: usize, stream: StreamId) {
        self.watchers.close(stream);
        self.wire.slow.remove(&number);
        self.wire.full.remove(&number);
    }
}

/// Draws who watches.
pub(super) fn draw(rng: &mut Rng, settings: &Settings) -> Vec<Watch> {
    let count = if rng.bool() { 0 } else { rng.usize(1..6) };
    let draw = |rng: &mut Rng| Watch {
        at_us: rng.u64(0..settings.safety_ms * 1000),
        member: rng.u8(0..settings.members),
        from: rng.u8(0..KEYS_MAX),
        to: (rng.u8(0..4) > 0).then(|| rng.u8(0..=KEYS_MAX)),
        back: rng.bool().then(|| rng.i8(-8..40)),
        previous: rng.bool(),
        without: rng.u8(0..8).saturating_sub(5),
        fragment: rng.bool(),
        slow_us: match rng.u8(0..3) {
            0 => rng.u64(1_000..500_000),
            _ => 0,
        },
        hops: rng.u8(0..8),
    };
    (0..count).map(|_| draw(rng)).collect()
}

impl World<'_> {
    /// A watcher opens its stream, if the member is there.
    pub(super) fn watch(&mut self, number: usize) {
        let plan = &self.plan.watches[number];
        let state = &self.watching[number];
        if self.phase == Phase::Over || state.stream.is_some() {
            return;
        }
        let member = match state.tries {
            0 => usize::from(plan.member),
            _ => self.rng.usize(..self.nodes.len()),
        };
        self.watching[number].tries += 1;
        let newest = self.heard();
        let node = &mut self.nodes[member];
        let at = At {
            member,
            life: node.life,
        };
        let free = node.running.as_mut();
        let Some(process) = free.filter(|it| it.paused_until_us <= self.now_us) else {
            return self.schedule(AGAIN_US, Event::Watch(number));
        };
        let state = &mut self.watching[number];
        state.start = match (state.seen, plan.back) {
            (0, None) => 0,
            (0, Some(back)) => (newest - i64::from(back)).max(1),
            (seen, _) => seen + 1,
        };
        state.pieces.clear();
        let side = &mut process.watch;
        let stream = side.watchers.open(number);
        state.stream = Some((at, stream));
        state.is_created = false;
        if plan.slow_us > 0 && self.phase == Phase::Faults {
            side.wire.slow.insert(number);
        }
        let (from, to) = plan.keys();
        let request = CreateRequest {
            key: &from,
            range_end: &to,
            start_revision: state.start,
            no_put: plan.without == 1,
            no_delete: plan.without == 2,
            prev_kv: plan.previous,
            fragment: plan.fragment,
            ..CreateRequest::default()
        };
        let term = process.replica.published().applied_term();
        let (reader, wire) = (process.replica.reader(), &mut side.wire);
        side.watchers.create(stream, &request, reader, term, wire);
        self.tally.add("watch streams", 1);
        self.schedule(0, Event::Wake(at));
    }

    /// A slow watcher has read what it was sent.
    pub(super) fn has_read(&mut self, number: usize, at: At) {
        let is_over = self.phase != Phase::Faults;
        let stays = self.watching[number].stream.is_some_and(|it| it.0 == at);
        if stays && let Some(process) = &mut self.nodes[at.member].running {
            if is_over {
                process.watch.wire.slow.remove(&number);
            }
            process.watch.wire.full.remove(&number);
            self.schedule(0, Event::Wake(at));
        }
    }

    /// A process is gone, and all streams to it.
    pub(super) fn break_streams(&mut self, member: usize) {
        for number in 0..self.watching.len() {
            let stream = &mut self.watching[number].stream;
            if stream.take_if(|(at, _)| at.member == member).is_some() {
                let after = self.rng.u64(0..2 * AGAIN_US);
                self.schedule(after, Event::Watch(number));
            }
        }
    }

    /// What a turn has published is dispatched; the watchers' loop, a thread of its own, hears of it some time later.
    pub(super) fn dispatch(&mut self, at: At) {
        let Some(process) = &mut self.nodes[at.member].running else {
            return;
        };
        if self.plan.watches.is_empty() {
            return;
        }
        let waits = process.watch.dispatch(&process.replica);
        let was_due = std::mem::replace(&mut process.watch.is_due, true);
        if waits {
            self.schedule(READ_AGAIN_US, Event::Wake(at));
        }
        if !was_due {
            let after = self.rng.u64(0..LOOP_US);
            self.schedule(after, Event::Loop(at));
        }
    }

    /// What a turn of a member's watchers has sent is heard.
    pub(super) fn take_events(&mut self, at: At) -> Result<(), Violation> {
        let member = at.member;
        let Some(process) = &mut self.nodes[member].running else {
            return Ok(());
        };
        let (sent, left) = process.watch.poll(&process.replica);
        let compacted = process.replica.reader().pin().view().compacted();
        match left {
            Left::More => self.schedule(SOON_US, Event::Loop(at)),
            Left::Reads => self.schedule(READ_AGAIN_US, Event::Wake(at)),
            Left::Nothing | Left::Room => {}
        }
        for (number, bytes) in sent {
            let state = &mut self.watching[number];
            let Some((_, stream)) = state.stream.filter(|it| it.0 == at) else {
                continue;
            };
            let response = pb::WatchResponse::decode(&bytes[..]).map_err(|it| it.to_string())?;
            self.trace.note_value(self.now_us, &(number, &bytes));
            let plan = &self.plan.watches[number];
            let has_events = !response.events.is_empty();
            let is_over = state
                .hear(plan, response, &self.witness, compacted)
                .map_err(|wrong| format!("watcher {number} at member {member}: {wrong}"))?;
            state.messages += u32::from(has_events);
            self.tally.add("watch messages", 1);
            let hops = if has_events { u32::from(plan.hops) } else { 0 };
            // Whoever moves on before the last piece of a revision begins anew: not for ever.
            let may_hop = hops > 0 && self.phase == Phase::Faults;
            let hops_on = may_hop && state.messages.is_multiple_of(4 * hops);
            if is_over || hops_on {
                state.stream = None;
                if let Some(process) = &mut self.nodes[member].running {
                    process.watch.close(number, stream);
                }
                self.tally.add("watches compacted", u64::from(is_over));
                self.schedule(AGAIN_US, Event::Watch(number));
            } else if let Some(process) = &mut self.nodes[member].running {
                let asks = hops > 0 && state.messages.is_multiple_of(hops);
                if asks {
                    process.watch.watchers.ask_progress(stream);
                }
                let is_slow = process.watch.wire.slow.contains(&number);
                if asks {
                    self.schedule(1, Event::Wake(at));
                }
                if is_slow {
                    self.schedule(plan.slow_us, Event::HasRead(number, at));
                }
            }
        }
        Ok(())
    }

    /// Whether every watcher has heard all that there is.
    pub(super) fn is_all_heard(&self) -> bool {
        let has_all = |(plan, state): (&Watch, &Watching)| {
            let is_open = state.stream.is_some() && state.is_created;
            let after = state.seen.max(state.start - 1);
            is_open && plan.wanted(&self.witness, after, i64::MAX).next().is_none()
        };
        let mut all = self.plan.watches.iter().zip(&self.watching);
        all.all(has_all)
    }
}

/// A change that a watcher is to hear of.
struct Change<'w> {
    revision: i64,
    key: &'w Bytes,
    /// `None`: deleted.
    kv: &'w Option<KeyValue>,
}

impl Watch {
    fn keys(&self) -> (Bytes, Bytes) {
        let (from, to) = (key(self.from), self.to.map(key));
        match to {
            None => (from, Bytes::new()),
            Some(to) if to <= from => (from, Bytes::from_static(b"\0")),
            Some(to) => (from, to),
        }
    }

    /// What it is to hear of the revisions behind `after`, up to `until`, in order.
    fn wanted<'w>(
        &self,
        witness: &'w Witness,
        after: i64,
        until: i64,
    ) -> impl Iterator<Item = Change<'w>> + use<'w> {
        let (from, to) = self.keys();
        let without = self.without;
        let first = after.saturating_add(1);
        let written = witness.written().range(first.min(until)..=until);
        let written = written.filter(move |(revision, _)| **revision >= first);
        let changes = written.flat_map(|(revision, changes)| {
            changes.iter().map(|(key, kv)| Change {
                revision: *revision,
                key,
                kv,
            })
        });
        changes.filter(move |change| {
            let is_filtered = match change.kv {
                Some(_) => without == 1,
                None => without == 2,
            };
            KeyRange::new(&from, &to).contains(change.key) && !is_filtered
        })
    }
}

impl Watching {
    /// Holds a message against the log. True: the watch is over, because it is compacted.
    fn hear(
        &mut self,
        plan: &Watch,
        response: pb::WatchResponse,
        witness: &Witness,
        compacted: i64,
    ) -> Result<bool, Violation> {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if response.created {
            if self.is_created || response.canceled {
                return Err(format!("created again or refused: {response:?}"));
            }
            self.is_created = true;
            let first = match self.start {
                start if start == 0 || start > revision => revision.max(start - 1),
                start => start - 1,
            };
            self.seen = self.seen.max(first);
            return Ok(false);
        }
        if !self.is_created {
            return Err(format!("not created yet: {response:?}"));
        }
        if response.canceled {
            let at = response.compact_revision;
            // It may have been said a moment ago, at the compaction before.
            if at > compacted || !witness.has_compacted(at) || self.seen + 1 >= at {
                return Err(format!(
                    "cancelled at {at} behind {}, compacted is {compacted}",
                    self.seen
                ));
            }
            self.seen = at - 1;
            return Ok(true);
        }
        if response.events.is_empty() {
            if let Some(missed) = plan.wanted(witness, self.seen, revision).next() {
                return Err(format!(
                    "progress at {revision} without revision {}",
                    missed.revision
                ));
            }
            if revision + 1 < self.start {
                return Err(format!("progress at {revision} before its start"));
            }
            self.seen = self.seen.max(revision);
            return Ok(false);
        }
        self.pieces.extend(response.events);
        if response.fragment {
            return match plan.fragment {
                true => Ok(false),
                false => Err("a piece nobody asked for".to_owned()),
            };
        }
        let mut heard = std::mem::take(&mut self.pieces);
        self.compare(plan, &mut heard, witness, compacted)?;
        Ok(false)
    }

    fn compare(
        &mut self,
        plan: &Watch,
        heard: &mut [Told],
        witness: &Witness,
        compacted: i64,
    ) -> Result<(), Violation> {
        let at = |event: &Told| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        if !heard.is_sorted_by_key(at) {
            return Err("revisions in no order".to_owned());
        }
        // Within a revision the order is the transaction's, which the witness does not keep.
        heard.sort_by(|a, b| {
            let key = |event: &Told| event.kv.as_ref().map(|kv| kv.key.clone());
            (at(a), key(a)).cmp(&(at(b), key(b)))
        });
        let last = heard.last().map_or(0, at);
        let mut wanted = plan.wanted(witness, self.seen, last);
        for event in heard.iter() {
            let Some(change) = wanted.next() else {
                return Err(format!("behind {}: nobody wrote {event:?}", self.seen));
            };
            let expected = change.kv.clone().unwrap_or_else(|| KeyValue {
                key: change.key.clone(),
                mod_revision: change.revision,
                ..KeyValue::default()
            });
            let is_delete = event.r#type == 1;
            if is_delete != change.kv.is_none() || event.kv.as_ref() != Some(&expected) {
                return Err(format!(
                    "behind {}: heard {event:?}, by the log it is {expected:?}",
                    self.seen
                ));
            }
            let before = witness.record(change.key, change.revision - 1);
            let is_gone = event.prev_kv.is_none() && change.revision - 1 < compacted;
            let previous = before.filter(|_| plan.previous);
            if event.prev_kv.as_ref() != previous && !is_gone {
                return Err(format!("heard {event:?}, before it was {before:?}"));
            }
        }
        if let Some(missed) = wanted.next() {
            return Err(format!("only a part of revision {}", missed.revision));
        }
        self.seen = last;
        Ok(())
    }
}

/// What a client that lost its stream waits, about.
const AGAIN_US: u64 = 30_000;

/// Until a loop has its turn, at most.
const LOOP_US: u64 = 3_000;

/// Until it goes on with what it could not end in one turn.
const SOON_US: u64 = 100;

/// Until a part of the log may have been read.
const READ_AGAIN_US: u64 = 2_000;

/// So small that some messages are longer.
const FRAGMENT_BYTES: usize = 3_000;
