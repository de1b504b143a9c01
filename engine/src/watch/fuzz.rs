//! The body of the fuzz target `watch_oracle`: watchers on two loops against the plain history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use basalt_pb::etcdserverpb::WatchResponse;
use basalt_pb::mvccpb::KeyValue;
use prost::Message as _;

use super::dispatch::Bounds;
use super::{CreateRequest, Dispatcher, Hub, Left, Message, Outlet, StreamId, Watchers};
use crate::mvcc::{KeyRange, Reader, Store, StoreConfig};
use crate::types::{ClusterId, LeaseId, MemberId, Term};

/// Runs the script that `data` is: writes, compactions and watchers, of which each must be told of all
/// that it wants, once, in order, in whole revisions, or that it is compacted.
///
/// # Panics
/// When one is not.
pub fn watch_oracle(data: &[u8]) {
    let mut script = Script(data.iter());
    let mut rig = Rig::new(Bounds {
        slice_records: 1 + script.below(8),
        slice_bytes: 1 + 16 * script.below(16),
        mail_bytes: 1 + 64 * script.below(16),
        over_bytes: 1 + 64 * script.below(8),
        passes: 1 + script.below(4),
        pass_span: script.below(8) as i64,
    });
    while let Some(op) = script.next() {
        rig.act(op, &mut script);
        rig.hear();
    }
    rig.finish();
}

struct Script<'a>(std::slice::Iter<'a, u8>);

struct Rig {
    store: Store,
    reader: Reader,
    hub: Arc<Hub>,
    dispatcher: Dispatcher,
    loops: Vec<Loop>,
    history: Vec<Event>,
    live: BTreeMap<Vec<u8>, KeyValue>,
}

/// One change, as the model has it.
#[derive(Clone)]
struct Event {
    is_delete: bool,
    kv: KeyValue,
    before: Option<KeyValue>,
}

struct Loop {
    watchers: Watchers<usize>,
    wire: Wire,
    streams: Vec<Option<Stream>>,
}

/// What the connections of a loop carry, by stream.
#[derive(Default)]
struct Wire {
    sent: Vec<(usize, Vec<u8>)>,
    /// Messages that each still takes.
    room: [usize; STREAMS],
    is_crowded: bool,
}

struct Stream {
    id: StreamId,
    watches: BTreeMap<i64, Watch>,
    /// Creations that were not answered yet.
    asked: Vec<Watch>,
}

/// What one watcher asked for and has heard.
#[derive(Clone)]
struct Watch {
    key: Vec<u8>,
    end: Vec<u8>,
    no_put: bool,
    no_delete: bool,
    prev_kv: bool,
    fragment: bool,
    chosen: i64,
    start: i64,
    /// It has heard everything up to here.
    seen: i64,
    pieces: Vec<Event>,
}

impl Outlet<usize> for Wire {
    fn send(&mut self, to: usize, message: &Message<'_>) -> bool {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        self.sent.push((to, bytes));
        self.room[to] = self.room[to].saturating_sub(1);
        self.room[to] > 0
    }

    fn has_room(&mut self, _: usize) -> bool {
        !self.is_crowded
    }
}

impl Script<'_> {
    fn next(&mut self) -> Option<u8> {
        self.0.next().copied()
    }

    fn byte(&mut self) -> u8 {
        self.next().unwrap_or_default()
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }
}

impl Rig {
    fn new(bounds: Bounds) -> Self {
        let (store, reader) = Store::new(StoreConfig {
            segment_bytes: 600,
            ..StoreConfig::default()
        });
        let hub = Hub::with_bounds(ClusterId(1), MemberId(2), LOOPS, bounds);
        let dispatcher = Dispatcher::new(Arc::clone(&hub), &reader).expect("nothing is held");
        let loops = (0..LOOPS).map(|number| Loop {
            watchers: Watchers::new(Arc::clone(&hub), number, FRAGMENT_BYTES),
            wire: Wire {
                room: [usize::MAX; STREAMS],
                ..Wire::default()
            },
            streams: (0..STREAMS).map(|_| None).collect(),
        });
        Self {
            store,
            reader,
            loops: loops.collect(),
            hub,
            dispatcher,
            history: Vec::new(),
            live: BTreeMap::new(),
        }
    }

    fn act(&mut self, op: u8, script: &mut Script<'_>) {
        let number = script.below(LOOPS);
        let at = script.below(STREAMS);
        match op % 16 {
            0..=2 => self.write(1, script),
            3 => {
                let changes = 1 + script.below(5);
                self.write(changes, script);
            }
            4 => self.publish(),
            5 => {
                self.store.publish();
                let newest = self.store.published_revision();
                let _ = self.dispatcher.dispatch(newest, TERM, |_| {});
            }
            6 => {
                let back = script.below(6) as i64;
                let revision = self.store.revision() - back;
                // One that is compacted already stays so.
                let _ = self.store.compact(revision);
            }
            7 => {
                // A hold may keep it from its end.
                for _ in 0..1 + script.below(16) {
                    let more = self.store.poll_space(1 + script.below(8));
                    let _ = more.expect("all is in memory");
                }
            }
            8 | 9 => self.create(number, at, script),
            10 => {
                let id = script.below(4) as i64;
                let own = &mut self.loops[number];
                if let Some(stream) = &mut own.streams[at] {
                    let (reader, wire) = (&self.reader, &mut own.wire);
                    own.watchers.cancel(stream.id, id, reader, TERM, wire);
                }
            }
            11 => {
                let own = &mut self.loops[number];
                if let Some(stream) = &own.streams[at] {
                    own.watchers.ask_progress(stream.id);
                }
            }
            12 => {
                let room = script.below(8);
                self.loops[number].wire.room[at] = room;
            }
            13 => {
                let own = &mut self.loops[number];
                own.wire.room[at] = usize::MAX;
                if let Some(stream) = &own.streams[at] {
                    own.watchers.on_writable(stream.id);
                }
            }
            14 => {
                let own = &mut self.loops[number];
                match (script.below(4), &mut own.streams[at]) {
                    (0, closed @ Some(_)) => {
                        let id = closed.take().expect("just seen").id;
                        own.watchers.close(id);
                    }
                    (1, _) => own.wire.is_crowded = !own.wire.is_crowded,
                    (2, Some(stream)) => {
                        own.watchers.tell_progress(stream.id, TERM, &mut own.wire);
                    }
                    _ => {}
                }
            }
            _ => {
                let own = &mut self.loops[number];
                let _ = own.watchers.poll(&self.reader, TERM, &mut own.wire);
            }
        }
    }

    fn write(&mut self, changes: usize, script: &mut Script<'_>) {
        let mut changed = BTreeSet::new();
        let mut write = self.store.write();
        for _ in 0..changes {
            let pick = script.byte();
            let key = vec![b'a' + pick % 5; 1 + usize::from(pick / 5 % 2)];
            // etcd refuses to change a key twice in one transaction; compaction at its revision would leave
            // the last change only.
            if !changed.insert(key.clone()) {
                continue;
            }
            let before = self.live.get(&key).cloned();
            let kv = if pick >= 200 {
                let Some(revision) = write.delete(&key).expect("in memory") else {
                    continue;
                };
                self.live.remove(&key);
                KeyValue {
                    key: key.into(),
                    mod_revision: revision.main,
                    ..KeyValue::default()
                }
            } else {
                let value = vec![pick; usize::from(pick % 40)];
                let revision = write.put(&key, &value, LeaseId(0)).expect("in memory").main;
                let kv = KeyValue {
                    create_revision: before.as_ref().map_or(revision, |kv| kv.create_revision),
                    version: before.as_ref().map_or(0, |kv| kv.version) + 1,
                    mod_revision: revision,
                    key: key.clone().into(),
                    value: value.into(),
                    lease: 0,
                };
                self.live.insert(key, kv.clone());
                kv
            };
            self.history.push(Event {
                is_delete: kv.version == 0,
                before: before.filter(|_| kv.create_revision != kv.mod_revision),
                kv,
            });
        }
        write.finish();
    }

    fn publish(&mut self) {
        self.store.publish();
        let newest = self.store.published_revision();
        while self.dispatcher.dispatch(newest, TERM, |_| {}) != Left::Nothing {}
    }

    fn create(&mut self, number: usize, at: usize, script: &mut Script<'_>) {
        let (shape, keys, bits) = (script.byte(), script.byte(), script.byte());
        let key = vec![b'a' + keys % 5; 1 + usize::from(keys / 5 % 2)];
        let end = match shape % 6 {
            0 | 1 => Vec::new(),
            2 => vec![0],
            3 => vec![b'a' + keys / 16 % 6],
            4 => vec![b'a' + keys / 16 % 6; 2],
            _ => {
                let mut end = key.clone();
                *end.last_mut().expect("a key has a byte") += 1;
                end
            }
        };
        let newest = self.store.published_revision();
        let start = match shape / 6 % 4 {
            0 | 1 => 0,
            2 => newest - i64::from(bits % 16),
            _ => newest + i64::from(bits % 4) - 1,
        };
        let watch = Watch {
            key,
            end,
            no_put: bits & 0x11 == 0x11,
            no_delete: bits & 0x22 == 0x22,
            prev_kv: bits & 4 != 0,
            fragment: bits & 8 != 0,
            chosen: i64::from(bits / 64),
            start,
            seen: 0,
            pieces: Vec::new(),
        };
        let own = &mut self.loops[number];
        let stream = own.streams[at].get_or_insert_with(|| Stream {
            id: own.watchers.open(at),
            watches: BTreeMap::new(),
            asked: Vec::new(),
        });
        stream.asked.push(watch.clone());
        let request = CreateRequest {
            key: &watch.key,
            range_end: &watch.end,
            start_revision: watch.start,
            progress_notify: bits & 1 != 0,
            no_put: watch.no_put,
            no_delete: watch.no_delete,
            prev_kv: watch.prev_kv,
            watch_id: watch.chosen,
            fragment: watch.fragment,
        };
        let (id, wire) = (stream.id, &mut own.wire);
        own.watchers.create(id, &request, &self.reader, TERM, wire);
    }

    /// Checks all that was sent.
    fn hear(&mut self) {
        let compacted = self.reader.pin().view().compacted();
        for own in &mut self.loops {
            for (at, bytes) in std::mem::take(&mut own.wire.sent) {
                let response =
                    WatchResponse::decode(&bytes[..]).expect("what was sent is a message");
                let stream = own.streams[at]
                    .as_mut()
                    .expect("only open streams are told");
                stream.hear(response, &self.history, compacted);
            }
        }
    }

    /// Everybody reads again: all that was ever promised must come.
    fn finish(&mut self) {
        self.publish();
        for own in &mut self.loops {
            own.wire.room = [usize::MAX; STREAMS];
            own.wire.is_crowded = false;
            for stream in own.streams.iter().flatten() {
                own.watchers.on_writable(stream.id);
            }
            while own.watchers.poll(&self.reader, TERM, &mut own.wire) != Left::Nothing {}
        }
        self.hear();
        let mut watchers = 0;
        for own in &mut self.loops {
            for stream in own.streams.iter().flatten() {
                assert!(stream.asked.is_empty());
                for watch in stream.watches.values() {
                    let rest = watch.wanted(&self.history, watch.seen, i64::MAX);
                    assert!(rest.is_empty(), "{} events never came", rest.len());
                    watchers += 1;
                }
            }
        }
        let counts = self.hub.counts();
        assert_eq!((counts.watchers, counts.slow_watchers), (watchers, 0));
        for own in &mut self.loops {
            for stream in own.streams.iter_mut().filter_map(Option::take) {
                own.watchers.close(stream.id);
            }
        }
        assert_eq!(self.hub.counts().watchers, 0);
        assert!(self.hub.index.is_empty());
    }
}

impl Stream {
    fn hear(&mut self, response: WatchResponse, history: &[Event], compacted: i64) {
        let revision = response.header.map_or(0, |header| header.revision);
        let id = response.watch_id;
        if response.created {
            let mut watch = self.asked.remove(0);
            if response.canceled {
                assert_eq!(id, -1);
                assert!(watch.is_refused(&self.watches), "{response:?}");
                return;
            }
            assert!(!watch.is_refused(&self.watches));
            assert!(watch.chosen == 0 || watch.chosen == id);
            watch.seen = match watch.start {
                start if start == 0 || start > revision => revision.max(start - 1),
                start => start - 1,
            };
            assert!(self.watches.insert(id, watch).is_none());
        } else if response.canceled && response.compact_revision != 0 {
            let watch = self.watches.remove(&id).expect("it was created");
            assert_eq!((response.compact_revision, revision), (compacted, 0));
            assert!(watch.seen + 1 < compacted && response.cancel_reason.is_empty());
        } else if response.canceled {
            assert!(self.watches.remove(&id).is_some());
        } else if !response.events.is_empty() {
            let watch = self.watches.get_mut(&id).expect("created before events");
            watch.hear(response, history, compacted);
        } else {
            assert!(id != -1 || !self.watches.is_empty());
            for (own, watch) in &self.watches {
                if id == -1 || id == *own {
                    let missed = watch.wanted(history, watch.seen, revision);
                    assert!(missed.is_empty(), "progress ahead of events");
                    assert!(
                        revision + 1 >= watch.start,
                        "told of progress before its start"
                    );
                }
            }
        }
    }
}

impl Watch {
    fn is_refused(&self, watches: &BTreeMap<i64, Watch>) -> bool {
        let is_empty = self.end.len() > 1 || self.end.first().is_some_and(|byte| *byte != 0);
        self.start < 0
            || is_empty && self.key >= self.end
            || self.chosen != 0 && watches.contains_key(&self.chosen)
    }

    /// What it is to hear of the revisions behind `after`, up to `until`.
    fn wanted(&self, history: &[Event], after: i64, until: i64) -> Vec<Event> {
        let keys = KeyRange::new(&self.key, &self.end);
        let is_wanted = |event: &&Event| {
            let is_filtered = match event.is_delete {
                true => self.no_delete,
                false => self.no_put,
            };
            let revision = event.kv.mod_revision;
            keys.contains(&event.kv.key) && !is_filtered && (after + 1..=until).contains(&revision)
        };
        history.iter().filter(is_wanted).cloned().collect()
    }

    fn hear(&mut self, response: WatchResponse, history: &[Event], compacted: i64) {
        let is_fragment = response.fragment;
        assert!(!is_fragment || self.fragment);
        for event in response.events {
            let kv = event.kv.expect("every event has its key");
            if !self.prev_kv {
                assert_eq!(event.prev_kv, None);
            }
            self.pieces.push(Event {
                is_delete: event.r#type == 1,
                kv,
                before: event.prev_kv,
            });
        }
        if is_fragment {
            return;
        }
        let heard = std::mem::take(&mut self.pieces);
        let last = heard.last().expect("a message has events").kv.mod_revision;
        let wanted = self.wanted(history, self.seen, last);
        assert_eq!(
            heard.len(),
            wanted.len(),
            "gap, repetition or part of a revision"
        );
        for (heard, wanted) in heard.iter().zip(&wanted) {
            assert_eq!(heard.kv, wanted.kv);
            assert_eq!(heard.is_delete, wanted.is_delete);
            let is_gone = heard.before.is_none() && wanted.kv.mod_revision - 1 < compacted;
            if self.prev_kv && !is_gone {
                assert_eq!(heard.before, wanted.before);
            }
        }
        self.seen = last;
    }
}

const LOOPS: usize = 2;
const STREAMS: usize = 3;
const FRAGMENT_BYTES: usize = 120;
const TERM: Term = Term(3);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// [WATCH-1] A watcher that misses, repeats or reorders an event corrupts what its client believes.
        #[test]
        fn every_watcher_hears_all_it_wants_once_and_in_order(
            script in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            watch_oracle(&script);
        }
    }
}
