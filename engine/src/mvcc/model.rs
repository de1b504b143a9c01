//! The store against simple models, driven by bytes: bodies of the fuzz targets and of seeded
//! tests.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::aside::Aside;
pub use super::page::fuzz::fuzz_checkpoint_page;
pub use super::tree::model::fuzz_tree_model;
use super::{
    Counting, HashJob, HashRefused, KeyRange, NeedRead, Reader, Record, Resume, RevisionRefused,
    SliceBound, Store, StoreConfig, View, Visited, Want, rebuild,
};
use crate::disk::{File, mem::MemDisk};
use crate::types::{LeaseId, Revision};

/// Plays the operations that `data` spells on a store and on a list of all records, and compares
/// what both answer.
///
/// # Panics
/// When they differ.
pub fn fuzz_mvcc_model(data: &[u8]) {
    let mut play = Play::new();
    let mut input = Input(data);
    while let Some(op) = input.next() {
        match op % 16 {
            0..=5 => play.transaction(op >> 4, &mut input),
            6 => match op >> 4 {
                0..=7 => play.store.publish(),
                8..=11 => _ = play.store.settle(),
                some => play.evict(u64::from(some - 12) * 8192),
            },
            7 => play.compact(&mut input),
            8 | 9 => play.poll(usize::from(op >> 4) * 3 + 1),
            10 => play.check_get(&mut input),
            11 | 12 => play.check_range(&mut input),
            13 => play.check_hash(&mut input),
            14 if op >> 4 > 12 => play.restart(usize::from(op >> 4)),
            _ => play.check_old_pin(),
        }
    }
    play.finish();
}

/// What one change made: `None` is a tombstone.
type Change = Option<Put>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Put {
    value: Vec<u8>,
    create: i64,
    version: i64,
    lease: i64,
}

/// The model: every record that compaction has not dropped, dropped at once.
#[derive(Clone, Default)]
struct Model {
    records: BTreeMap<(i64, i64), (Vec<u8>, Change)>,
    revision: i64,
    compacted: i64,
    /// (revision, compaction before, hash)
    hashes: Vec<(i64, i64, u32)>,
}

struct Play {
    store: Store,
    reader: Reader,
    model: Model,
    /// What checkpoints leave.
    disk: MemDisk,
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// One of some 60 keys, a few of them prefixes of others.
    fn key(&mut self) -> Vec<u8> {
        let byte = self.byte();
        let mut key = vec![b'a' + byte % 4];
        key.extend(std::iter::repeat_n(b'x', usize::from(byte / 4 % 4) * 3));
        key.extend(std::iter::repeat_n(0, usize::from(byte / 16 % 2)));
        key.push(byte / 64);
        key
    }
}

impl Model {
    /// The newest change of each key at `rev`, tombstones included.
    fn at(&self, rev: i64) -> BTreeMap<&[u8], ((i64, i64), &Change)> {
        let records = self.records.range(..=(rev, i64::MAX));
        records
            .map(|(revision, (key, change))| (&key[..], (*revision, change)))
            .collect()
    }

    fn live<'m>(&'m self, range: &KeyRange<'_>, rev: i64) -> Vec<Record<'m>> {
        let newest = self
            .at(rev)
            .into_iter()
            .filter(|(key, _)| range.contains(key));
        let live = newest.filter_map(|(key, (at, change))| {
            let Put {
                value,
                create,
                version,
                lease,
            } = change.as_ref()?;
            Some(Record {
                key,
                value,
                create_revision: *create,
                mod_revision: Revision::new(at.0, at.1),
                version: *version,
                lease: LeaseId(*lease),
            })
        });
        live.collect()
    }

    /// The keep set of etcd-facts 9.
    fn kept(&self, rev: i64, keep_tombstones_at_rev: bool) -> BTreeSet<(i64, i64)> {
        let newest = self.at(rev).into_values();
        newest
            .filter(|(at, change)| change.is_some() || (keep_tombstones_at_rev && at.0 == rev))
            .map(|(at, _)| at)
            .collect()
    }

    /// etcd-facts 10.2 and 10.3.
    fn hash(&self, rev: i64, keep: &BTreeSet<(i64, i64)>) -> u32 {
        let mut bytes = b"key".to_vec();
        for (&(main, sub), (key, change)) in self.records.range(..=(rev, i64::MAX)) {
            let is_old = main <= self.compacted;
            if is_old && !keep.is_empty() && !keep.contains(&(main, sub)) {
                continue;
            }
            if main == self.compacted && change.is_none() {
                continue;
            }
            bytes.extend_from_slice(&main.to_be_bytes());
            bytes.push(b'_');
            bytes.extend_from_slice(&sub.to_be_bytes());
            let mut message = basalt_pb::mvccpb::KeyValue {
                key: key.clone().into(),
                ..Default::default()
            };
            if let Some(put) = change {
                message.create_revision = put.create;
                message.mod_revision = main;
                message.version = put.version;
                message.value = put.value.clone().into();
                message.lease = put.lease;
            } else {
                bytes.push(b't');
            }
            bytes.extend_from_slice(&prost::Message::encode_to_vec(&message));
        }
        crc32c::crc32c(&bytes)
    }

    fn compact(&mut self, rev: i64, is_remembered: bool) {
        let keep = self.kept(rev, true);
        if is_remembered {
            let hash = (rev, self.compacted, self.hash(rev, &keep));
            self.hashes.push(hash);
            if self.hashes.len() > 10 {
                self.hashes.remove(0);
            }
        }
        self.records.retain(|at, _| at.0 > rev || keep.contains(at));
        self.compacted = rev;
    }
}

impl Play {
    fn new() -> Self {
        let (store, reader) = Store::new(StoreConfig {
            segment_bytes: 600,
            cache_bytes: CACHE_BYTES,
            ..StoreConfig::default()
        });
        let model = Model {
            revision: 1,
            compacted: -1,
            ..Model::default()
        };
        Self {
            store,
            reader,
            model,
            disk: MemDisk::default(),
        }
    }

    /// Lets at most `bytes` of the index stay that pages hold.
    fn evict(&mut self, bytes: u64) {
        self.store.page_bytes = bytes;
        self.store.evict();
        self.store.evict();
        let memory = self.store.tree.memory();
        assert!(memory.clean_bytes <= bytes || memory.leaves == 1);
    }

    fn transaction(&mut self, changes: u8, input: &mut Input<'_>) {
        let (store, disk, model) = (&mut self.store, &mut self.disk, &mut self.model);
        let main = model.revision + 1;
        let mut sub = 0;
        let mut done = 0;
        for _ in 0..changes % 5 + 1 {
            let key = input.key();
            let how = input.byte();
            let state = model.at(i64::MAX);
            let old = state.get(&key[..]).and_then(|(_, change)| change.as_ref());
            let meta = rebuild::ready(store, disk, |store| {
                let write = store.resume(done);
                let meta = write.meta(&key);
                let meta = meta.map(|it| it.map(|record| (record.create_revision, record.version)));
                assert_eq!(write.pause(), done);
                meta
            });
            assert_eq!(meta, old.map(|old| (old.create, old.version)));
            match how % 8 {
                0 | 1 => {
                    let expected = old.map(|_| Revision::new(main, sub));
                    let deleted = rebuild::ready(store, disk, |store| {
                        let mut write = store.resume(done);
                        let deleted = write.delete(&key);
                        done = write.pause();
                        deleted
                    });
                    assert_eq!(deleted, expected);
                    if expected.is_some() {
                        model.records.insert((main, sub), (key, None));
                        sub += 1;
                    }
                }
                2 => {
                    let range = KeyRange::Range {
                        start: &key,
                        end: b"c",
                    };
                    let live = model.live(&range, i64::MAX);
                    let expected: Vec<Vec<u8>> = live.iter().map(|r| r.key.to_vec()).collect();
                    let mut seen = Vec::new();
                    let mut resume = Resume::default();
                    let bound = SliceBound {
                        records: usize::from(how >> 3) + 1,
                        bytes: 1000,
                    };
                    let mut each = |record: &Record<'_>| seen.push(record.key.to_vec());
                    while rebuild::ready(store, disk, |store| {
                        let mut write = store.resume(done);
                        let mut left = bound;
                        let visited = write.delete_range(&range, &mut resume, &mut left, &mut each);
                        done = write.pause();
                        visited
                    }) == Visited::More
                    {}
                    assert_eq!(seen, expected);
                    for key in expected {
                        model.records.insert((main, sub), (key, None));
                        sub += 1;
                    }
                }
                _ => {
                    let value = vec![how; usize::from(how) / 2];
                    let lease = i64::from(how % 3);
                    let made = rebuild::ready(store, disk, |store| {
                        let mut write = store.resume(done);
                        let made = write.put(&key, &value, LeaseId(lease));
                        done = write.pause();
                        made
                    });
                    assert_eq!(made, Revision::new(main, sub));
                    let (create, version) = old.map_or((main, 1), |o| (o.create, o.version + 1));
                    let put = Put {
                        value,
                        create,
                        version,
                        lease,
                    };
                    model.records.insert((main, sub), (key, Some(put)));
                    sub += 1;
                }
            }
        }
        model.revision += i64::from(sub > 0);
        assert_eq!(store.resume(done).finish(), model.revision);
    }

    fn compact(&mut self, input: &mut Input<'_>) {
        let rev = self.revision(input) + i64::from(input.byte() % 8) - 2;
        let is_remembered = self.store.finished() == self.store.compacted();
        let expected = if rev <= self.model.compacted {
            Err(RevisionRefused::Compacted)
        } else if rev > self.model.revision {
            Err(RevisionRefused::Future)
        } else {
            Ok(())
        };
        assert_eq!(self.store.compact(rev), expected);
        if expected.is_ok() {
            self.model.compact(rev, is_remembered);
        }
    }

    fn poll(&mut self, budget: usize) {
        let has_more = rebuild::poll_space(&mut self.store, budget, &mut self.disk);
        self.store.evict();
        assert_eq!(has_more, self.store.finished() < self.store.compacted());
        let sizes = self.store.sizes();
        assert!(sizes.in_use <= sizes.total);
    }

    /// A revision that can be read.
    fn revision(&self, input: &mut Input<'_>) -> i64 {
        let oldest = self.model.compacted.max(1);
        oldest + i64::from(input.byte()) % (self.model.revision - oldest + 1)
    }

    fn check_get(&mut self, input: &mut Input<'_>) {
        let key = input.key();
        let rev = self.revision(input);
        let expected = self.model.live(&KeyRange::Single(&key), rev);
        let mut resume = Resume::default();
        loop {
            let (view, want) = (self.store.view(), Want::Values);
            if let Ok(found) = view.get_on(&key, rev, want, &mut resume) {
                break assert_eq!(found.as_slice(), expected);
            }
            assert!(rebuild::load(&mut self.store, &mut self.disk) > 0);
        }
        let meta = loop {
            let view = self.store.view();
            if let Ok(meta) = view.get_on(&key, rev, Want::Keys, &mut resume) {
                break meta.map(|meta| meta.mod_revision);
            }
            assert!(rebuild::load(&mut self.store, &mut self.disk) > 0);
        };
        assert_eq!(meta, expected.first().map(|r| r.mod_revision));
    }

    fn check_range(&mut self, input: &mut Input<'_>) {
        let (start, end) = (input.key(), input.key());
        let (form, slice) = (input.byte(), input.byte());
        let rev = self.revision(input);
        let range = match form % 4 {
            0 => KeyRange::All,
            1 => KeyRange::From(&start),
            _ => KeyRange::Range {
                start: &start,
                end: &end,
            },
        };
        let bound = SliceBound {
            records: usize::from(slice % 16) + 1,
            bytes: usize::from(slice) * 8 + 1,
        };
        let is_back = form & 4 != 0;
        loop {
            self.store.publish();
            let pin = self.reader.pin();
            let (view, disk) = (pin.view(), &mut self.disk);
            let walked = check_walks(&self.model, &view, disk, &range, rev, bound, is_back);
            drop(pin);
            let Err(need) = walked else { return };
            let read = self.store.read_now(need, &mut self.disk);
            read.expect("just written");
        }
    }

    fn check_hash(&mut self, input: &mut Input<'_>) {
        let rev = self.revision(input) - i64::from(input.byte().is_multiple_of(4));
        self.store.publish();
        let model = &self.model;
        // A remembered hash is known when the physical work is done.
        let known = model
            .hashes
            .iter()
            .filter(|hash| hash.0 <= self.store.finished());
        let remembered = known.into_iter().find(|hash| hash.0 == rev);
        let mut job = match HashJob::start(&self.reader, rev) {
            Ok(job) => job,
            Err(refused) => {
                assert_eq!(refused, HashRefused::Compacted);
                assert!(rev < model.compacted);
                assert!(remembered.is_none());
                return;
            }
        };
        let answer = loop {
            if let Some(answer) = job.poll(7, &mut self.disk).expect("just written") {
                break answer;
            }
            rebuild::load(&mut self.store, &mut self.disk);
            // The physical work may go on in between.
            rebuild::poll_space(&mut self.store, 5, &mut self.disk);
            self.store.publish();
        };
        let (compact_revision, hash) = match remembered {
            Some((_, before, hash)) => (*before, *hash),
            None if rev == 0 => (
                model.compacted,
                model.hash(model.revision, &model.kept(model.revision, false)),
            ),
            None => (model.compacted, model.hash(rev, &model.kept(rev, false))),
        };
        assert_eq!(
            (answer.compact_revision, answer.hash),
            (compact_revision, hash)
        );
    }

    /// Writes a checkpoint and, if `step` is odd, goes on with the store rebuilt from it.
    fn restart(&mut self, step: usize) {
        self.store.publish();
        let cursor = loop {
            match self.store.checkpoint() {
                Ok(cursor) => break cursor,
                Err(_) => self.poll(100),
            }
            self.store.publish();
        };
        assert_eq!(cursor.revision(), self.model.revision);
        let made = rebuild::write(cursor, &mut self.disk);
        let digests = self.store.digests();
        assert_eq!(
            rebuild::recount(&made.content, &mut self.disk),
            digests.kept
        );
        let named = made.files.named().to_vec();
        self.store.on_checkpoint(made.files);
        assert_eq!(self.store.unfiled_bytes(), 0);
        // What no checkpoint names is removed, as after a real one.
        let is_named = |number: &u64| named.binary_search(number).is_ok();
        self.disk.files.retain(|file, _| match file {
            File::Segment(number) => is_named(number),
            _ => false,
        });
        if step.is_multiple_of(2) {
            return;
        }
        let config = StoreConfig {
            segment_bytes: 900,
            cache_bytes: CACHE_BYTES,
            ..StoreConfig::default()
        };
        let step = step * 7;
        let sizes = self.store.sizes();
        (self.store, self.reader) = rebuild::read(&made.content, step, &mut self.disk, config);
        assert_eq!(self.store.sizes(), sizes);
        assert_eq!(self.store.digests(), digests);
        assert_eq!(self.store.unfiled_bytes(), 0);
        self.model.hashes.clear();
    }

    /// A pin shows one state, whatever the writer does meanwhile.
    fn check_old_pin(&mut self) {
        rebuild::load_index(&mut self.store, &mut self.disk);
        self.store.publish();
        let reader = self.reader.clone();
        let pin = reader.pin();
        let old = self.model.clone();
        let put = self.store.write().put(b"pin", b"later", LeaseId(0));
        put.expect("all is in memory");
        let state = self.model.at(i64::MAX);
        let before = state
            .get(&b"pin"[..])
            .and_then(|(_, change)| change.as_ref());
        let main = self.model.revision + 1;
        let (create, version) = before.map_or((main, 1), |o| (o.create, o.version + 1));
        let put = Put {
            value: b"later".to_vec(),
            create,
            version,
            lease: 0,
        };
        self.model
            .records
            .insert((main, 0), (b"pin".to_vec(), Some(put)));
        self.model.revision = main;
        self.poll(50);
        self.store.publish();
        let rev = old.revision;
        check_walks(
            &old,
            &pin.view(),
            &mut self.disk,
            &KeyRange::All,
            rev,
            SliceBound::NONE,
            true,
        )
        .expect("all is in memory");
    }

    fn finish(mut self) {
        while self.store.finished() < self.store.compacted() {
            self.poll(100);
        }
        rebuild::load_index(&mut self.store, &mut self.disk);
        self.check_attached();
        self.store.publish();
        let pin = self.reader.pin();
        for rev in self.model.compacted.max(1)..=self.model.revision {
            check_walks(
                &self.model,
                &pin.view(),
                &mut self.disk,
                &KeyRange::All,
                rev,
                SliceBound::SLICE,
                false,
            )
            .expect("all is in memory");
        }
    }
}

impl Play {
    /// What hangs on a lease is what the newest records say, rebuilt or not.
    fn check_attached(&self) {
        let live = self.model.live(&KeyRange::All, self.model.revision);
        for lease in [LeaseId(1), LeaseId(2)] {
            let expected = live.iter().filter(|record| record.lease == lease);
            let attached = self.store.attached();
            let found = attached.keys_from(lease, &[]);
            assert!(found.eq(expected.map(|record| record.key)));
        }
    }
}

/// Under one pin, which sees nothing that comes into memory later.
fn check_walks(
    model: &Model,
    view: &View<'_>,
    disk: &mut MemDisk,
    range: &KeyRange<'_>,
    rev: i64,
    bound: SliceBound,
    is_back: bool,
) -> Result<(), NeedRead> {
    let mut eyes = Eyes {
        view,
        disk,
        aside: Aside::default(),
    };
    let mut expected = model.live(range, rev);
    let mut counting = Counting::default();
    let counted = loop {
        let records = bound.records.min(1000);
        if let Some(count) = eyes.look(|view| view.count(range, rev, &mut counting, records))? {
            break count;
        }
    };
    assert_eq!(counted, expected.len() as u64);
    if is_back {
        expected.reverse();
    }
    let mut found: Vec<Vec<u8>> = Vec::new();
    let mut resume = Resume::default();
    loop {
        let break_at = found.len() + 3;
        let visited = eyes.look(|view| {
            let each = |record: &Record<'_>| {
                found.push(record.key.to_vec());
                if found.len() == break_at {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            };
            if is_back {
                view.visit_back(range, rev, Want::Values, &mut resume, bound, each)
            } else {
                view.visit(range, rev, Want::Keys, &mut resume, bound, each)
            }
        })?;
        if visited == Visited::End {
            break;
        }
    }
    assert_eq!(found.len(), expected.len());
    for (key, expected) in found.iter().zip(&expected) {
        let mut resume = Resume::default();
        eyes.look(|view| {
            let record = view.get_on(key, rev, Want::Values, &mut resume)?;
            assert_eq!(record.as_ref(), Some(expected));
            Ok(())
        })?;
    }
    Ok(())
}

/// Looks at one view and reads for itself what is not in memory.
struct Eyes<'v> {
    view: &'v View<'v>,
    disk: &'v mut MemDisk,
    aside: Aside,
}

impl Eyes<'_> {
    /// # Errors
    /// A page is needed: no leaf comes into a tree that is pinned.
    fn look<T>(
        &mut self,
        mut at: impl FnMut(View<'_>) -> Result<T, NeedRead>,
    ) -> Result<T, NeedRead> {
        loop {
            let need = match at(self.view.with(&self.aside)) {
                Ok(seen) => return Ok(seen),
                Err(need) => need,
            };
            let NeedRead::Frame { frame, .. } = need else {
                return Err(need);
            };
            let file = self.view.log.file_of(need).expect("it was missing");
            let read = file.read(self.disk, frame).expect("just written");
            self.aside.put(file.number, frame, read);
        }
    }
}

/// A few of the frames of these small segments.
const CACHE_BYTES: u64 = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    /// The store equals a plain list of records under random transactions, compactions in steps,
    /// reads of old revisions, hashes, and rebuilds from checkpoints.
    #[test]
    fn random_histories_match_a_list_of_records() {
        let (seeds, bytes) = if cfg!(miri) { (4, 300) } else { (60, 2500) };
        for seed in 0..seeds {
            let mut random = fastrand::Rng::with_seed(seed);
            let data: Vec<u8> = (0..bytes).map(|_| random.u8(..)).collect();
            fuzz_mvcc_model(&data);
        }
    }

    /// [HashKV] Where every key is deleted nothing is kept, and the records that the compaction
    /// before had kept count.
    #[test]
    fn a_hash_where_nothing_is_kept_counts_what_the_last_compaction_kept() {
        let put_two = [0, 0, 3, 0, 1, 3];
        let compact_at_3_and_finish = [7, 2, 2, 0xf8, 0xf8];
        let delete_all = [0, 0, 2];
        let hash_at_4 = [13, 1, 1];
        let data = [
            &put_two[..],
            &compact_at_3_and_finish,
            &delete_all,
            &hash_at_4,
        ]
        .concat();
        fuzz_mvcc_model(&data);
    }
}
