use std::collections::BTreeMap;
use std::sync::Arc;

use super::aside::Aside;
use super::digest;
use super::hash::RecordHash;
use super::revlog::directory::Body;
use super::revlog::packed::{Packer, WordSet};
use super::revlog::record::Stored;
use super::revlog::{BadSegment, Position, SegmentId};
use super::store::{RevisionRefused, Store};
use super::wants::{NeedRead, PartRead};
use crate::disk::Pages;
use crate::limits::COMPACT_HASHES_MAX;

/// The hash of what a compaction began with, see etcd-facts 10.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CompactHash {
    pub(super) revision: i64,
    /// The compaction before, -1 if none.
    pub(super) compact_revision: i64,
    pub(super) hash: u32,
}

/// Giving memory back: the compaction being worked on, and the one to follow. Compactions in
/// between are covered by the latter.
#[derive(Default)]
pub(super) struct Space {
    job: Option<Box<Job>>,
    /// Records dropped since the process began.
    dropped: u64,
    next: Option<i64>,
    /// Dropped records stay where they lie.
    is_short_of_memory: bool,
}

/// The physical work of one compaction, in three walks: find what is dropped, look at it (and hash
/// what was there), drop it.
struct Job {
    target: i64,
    /// The compaction before, whose work is done.
    previous: i64,
    /// `None` if the hash will not be remembered.
    hash: Option<RecordHash>,
    /// By segment: records that this compaction drops, or that are dropped already. They are told by
    /// what replaced them; old ones are not read in the first walk, which goes where it is led.
    marked: BTreeMap<u32, WordSet>,
    /// By segment: those that are there.
    doomed: BTreeMap<u32, Doomed>,
    walk: Walk,
    /// What was read for it.
    aside: Aside,
}

#[derive(Default)]
struct Doomed {
    words: WordSet,
    tombstones: WordSet,
    records: u64,
    bytes: u64,
    /// Of the records' hashes.
    digest: u64,
}

enum Walk {
    Mark(Position),
    /// Goes through all records.
    Hash(Position),
    /// Goes through the marked ones only.
    Look(Position),
    /// Waiting for holds below the target.
    Wait,
    Sweep(Sweep),
}

enum Sweep {
    /// Drops the tombstones among the doomed from the index; then marks the segment.
    Index { segment: u32, word: u32 },
    /// Copies what is left of a segment.
    Rewrite {
        segment: u32,
        word: u32,
        packer: Packer,
    },
}

impl Store {
    /// Compacts at `rev`: reads below it are refused from the next publish on. The memory comes
    /// back through `poll_space`. [K16]
    ///
    /// # Errors
    /// `Compacted` if `rev` is not above the compacted revision, `Future` if it is above the
    /// newest.
    pub fn compact(&mut self, rev: i64) -> Result<(), RevisionRefused> {
        if rev <= self.marks.compacted {
            return Err(RevisionRefused::Compacted);
        }
        if rev > self.marks.revision {
            return Err(RevisionRefused::Future);
        }
        let previous_is_done = self.marks.finished == self.marks.compacted;
        self.marks.compacted = rev;
        self.marks.digests.on_compact(rev);
        self.is_dirty = true;
        if self.space.job.is_none() {
            let hash = previous_is_done.then(RecordHash::new);
            self.start_job(rev, hash)
        } else {
            self.space.next = Some(rev);
        }
        Ok(())
    }

    /// Goes on with a compaction that a checkpoint found unfinished. Its hash is not remembered, as
    /// in etcd.
    pub(super) fn resume_compaction(&mut self) {
        if self.marks.finished < self.marks.compacted {
            self.start_job(self.marks.compacted, None);
        }
    }

    /// Works on compaction for about `budget_records` records, and answers whether there is more to
    /// do. Call it once a turn, and publish after it. Work that a hold keeps back counts as more to
    /// do.
    ///
    /// # Errors
    /// This must be read first, for [`Store::on_space_part`].
    pub fn poll_space(&mut self, budget_records: usize) -> Result<bool, PartRead> {
        let Some(mut job) = self.space.job.take() else {
            return Ok(false);
        };
        let mut budget = budget_records.max(1);
        let done = job.run(self, &mut budget);
        match done {
            Ok(false) => self.space.job = Some(job),
            Err(need) => {
                self.space.job = Some(job);
                let part = self.part_of(need);
                return Err(part.expect("it was missing just now"));
            }
            Ok(true) => {
                self.finish_job(&job);
                if let Some(next) = self.space.next.take() {
                    self.start_job(next, None);
                }
            }
        }
        Ok(self.space.job.is_some())
    }

    /// Takes what compaction missed: `bytes` of the pages are the file's. It stays out of the cache.
    ///
    /// # Errors
    /// It is not what was written.
    pub fn on_space_part(
        &mut self,
        part: &PartRead,
        pages: &Pages,
        bytes: usize,
    ) -> Result<(), BadSegment> {
        let NeedRead::Frame { frame, .. } = part.need else {
            return self.on_part(part, pages, bytes);
        };
        let directory = self.log.directory();
        if directory.part_of(part.need) == Some(*part)
            && let Some(file) = directory.file_of(part.need)
            && let Some(job) = &mut self.space.job
        {
            let read = file.check(frame, pages, bytes)?;
            job.aside.put(file.number, frame, read);
        }
        Ok(())
    }

    /// Whether segments are not to be rewritten for now: what they become is in memory until a
    /// checkpoint writes it. The next compaction comes to those that were left out.
    pub fn set_short_of_memory(&mut self, is_short: bool) {
        self.space.is_short_of_memory = is_short;
    }

    /// Records that compactions have dropped since the process began.
    #[must_use]
    pub fn dropped_records(&self) -> u64 {
        self.space.dropped
    }

    /// The hash of the newest remembered compaction, if that was the one at `rev`.
    #[must_use]
    pub fn newest_compact_hash(&self, rev: i64) -> Option<u32> {
        let newest = self.hashes.last().filter(|hash| hash.revision == rev);
        newest.map(|hash| hash.hash)
    }

    fn start_job(&mut self, target: i64, hash: Option<RecordHash>) {
        let previous = self.marks.finished;
        let walk = Walk::Mark(Position::default());
        self.space.job = Some(Box::new(Job {
            target,
            previous,
            hash,
            marked: BTreeMap::new(),
            doomed: BTreeMap::new(),
            walk,
            aside: Aside::default(),
        }));
    }

    fn finish_job(&mut self, job: &Job) {
        self.marks.finished = job.target;
        self.is_dirty = true;
        self.is_freeing = true;
        if let Some(hash) = &job.hash {
            let hash = CompactHash {
                revision: job.target,
                compact_revision: job.previous,
                hash: hash.value(),
            };
            let skip = (self.hashes.len() + 1).saturating_sub(COMPACT_HASHES_MAX);
            self.hashes = self
                .hashes
                .iter()
                .skip(skip)
                .copied()
                .chain([hash])
                .collect();
        }
    }
}

impl Job {
    /// True when the compaction is finished.
    fn run(&mut self, store: &mut Store, budget: &mut usize) -> Result<bool, NeedRead> {
        while *budget > 0 {
            match &mut self.walk {
                Walk::Mark(at) => {
                    let mut next = *at;
                    if next == Position::default() {
                        next = store.log.directory().seek(self.previous);
                    }
                    self.mark(store, next, budget)?;
                }
                Walk::Hash(at) => {
                    let at = *at;
                    self.hash(store, at, budget)?;
                }
                Walk::Look(at) => {
                    let at = *at;
                    self.look(store, at, budget)?;
                }
                Walk::Wait => {
                    // Who reads the newest state that is published must not be refused as compacted.
                    store.publish();
                    if !store.holds.begin_sweep(self.target) {
                        return Ok(false);
                    }
                    for id in store.left_out() {
                        self.doomed.entry(id).or_default();
                    }
                    self.walk = Walk::Sweep(Sweep::Index {
                        segment: 0,
                        word: 0,
                    });
                }
                Walk::Sweep(_) => {
                    if self.sweep(store, budget)? {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Marks every record at or below the target that a later one at or below it replaces, and
    /// every tombstone below it. Only records since the previous compaction can do that, or the
    /// tombstones which that one kept.
    fn mark(
        &mut self,
        store: &Store,
        mut at: Position,
        budget: &mut usize,
    ) -> Result<(), NeedRead> {
        let log = store.log.directory();
        while *budget > 0 {
            let Some((found, stored)) = log
                .next_from(at, Some(&self.aside))?
                .filter(|(_, stored)| stored.main() <= self.target)
            else {
                self.walk = match self.hash {
                    Some(_) => Walk::Hash(Position::default()),
                    None => Walk::Look(Position::default()),
                };
                return Ok(());
            };
            let prev = stored.prev();
            let mut mark = |at: Position| {
                self.marked.entry(at.segment).or_default().insert(at.word);
            };
            if stored.main() > self.previous && prev.main > 0 {
                mark(prev.at);
            }
            if stored.is_tombstone() && stored.main() < self.target {
                mark(found);
            }
            *budget -= 1;
            at = found.after(stored);
            self.walk = Walk::Mark(at);
        }
        Ok(())
    }

    /// etcd-facts 10.3. The keep set is never empty: the newest record at the target is in it.
    fn hash(
        &mut self,
        store: &Store,
        mut at: Position,
        budget: &mut usize,
    ) -> Result<(), NeedRead> {
        let log = store.log.directory();
        let hash = self
            .hash
            .as_mut()
            .expect("this walk is only made for a hash");
        while *budget > 0 {
            let next = log.next_from(at, Some(&self.aside))?;
            let Some((found, stored)) = next.filter(|(_, stored)| stored.main() <= self.target)
            else {
                self.walk = Walk::Wait;
                return Ok(());
            };
            let is_doomed = self
                .marked
                .get(&found.segment)
                .is_some_and(|words| words.contains(found.word));
            if is_doomed {
                doom(&mut self.doomed, found, stored);
            }
            let is_skipped = stored.main() <= self.previous && is_doomed;
            let is_old_tombstone = stored.main() == self.previous && stored.is_tombstone();
            if !is_skipped && !is_old_tombstone {
                hash.add(stored);
            }
            *budget = budget.saturating_sub(cost(stored));
            at = found.after(stored);
            self.walk = Walk::Hash(at);
        }
        Ok(())
    }

    /// Looks at what is marked, where nothing is hashed.
    fn look(
        &mut self,
        store: &Store,
        mut at: Position,
        budget: &mut usize,
    ) -> Result<(), NeedRead> {
        let log = store.log.directory();
        while *budget > 0 {
            let Some((&segment, words)) = self.marked.range(at.segment..).next() else {
                self.walk = Walk::Wait;
                return Ok(());
            };
            if segment != at.segment {
                at = Position { segment, word: 0 };
            }
            let Some(word) = words.next(at.word) else {
                at = Position {
                    segment: segment + 1,
                    word: 0,
                };
                continue;
            };
            let found = Position { segment, word };
            if let Some(stored) = log.record(found, Some(&self.aside))? {
                doom(&mut self.doomed, found, stored);
            }
            *budget -= 1;
            at.word = word + 1;
            self.walk = Walk::Look(at);
        }
        Ok(())
    }

    /// Works on one segment, oldest first: whoever finds a record dropped can rely on those before
    /// it being dropped too. True at the end.
    fn sweep(&mut self, store: &mut Store, budget: &mut usize) -> Result<bool, NeedRead> {
        let Walk::Sweep(sweep) = &mut self.walk else {
            return Ok(false);
        };
        match sweep {
            Sweep::Index { segment, word } => {
                let Some((&id, doomed)) = self.doomed.range(*segment..).next() else {
                    return Ok(true);
                };
                if id != *segment {
                    (*segment, *word) = (id, 0);
                }
                while let Some(next) = doomed.tombstones.next(*word) {
                    // A checkpoint names leaf by leaf: none may go or be merged while it walks.
                    if Arc::strong_count(&store.walks) > 1 {
                        *budget = 0;
                    }
                    if *budget == 0 {
                        return Ok(false);
                    }
                    let at = Position {
                        segment: id,
                        word: next,
                    };
                    store.drop_from_index(at, &self.aside)?;
                    *budget -= 1;
                    *word = next + 1;
                }
                store.space.dropped += doomed.records;
                store
                    .log
                    .drop_records(SegmentId(id), &doomed.words, doomed.bytes);
                store.marks.digests.on_drop(doomed.digest);
                store.is_dirty = true;
                store.is_freeing = true;
                let is_worth = store.is_worth_rewriting(SegmentId(id));
                *sweep = if is_worth && !store.space.is_short_of_memory {
                    store.log.seal(SegmentId(id), store.marks.revision + 1);
                    let packer = Packer::new(store.live_bytes(SegmentId(id)));
                    Sweep::Rewrite {
                        segment: id,
                        word: 0,
                        packer,
                    }
                } else {
                    Sweep::Index {
                        segment: id + 1,
                        word: 0,
                    }
                };
            }
            Sweep::Rewrite {
                segment,
                word,
                packer,
            } => {
                let id = *segment;
                while *budget > 0 {
                    let at = Position {
                        segment: id,
                        word: *word,
                    };
                    let next = store
                        .log
                        .directory()
                        .next_from(at, Some(&self.aside))?
                        .filter(|(found, _)| found.segment == id);
                    let Some((found, stored)) = next else {
                        let packer = std::mem::replace(packer, Packer::new(0));
                        store.log.replace(SegmentId(id), packer);
                        *sweep = Sweep::Index {
                            segment: id + 1,
                            word: 0,
                        };
                        return Ok(false);
                    };
                    packer.push(found.word, stored.bytes());
                    *budget = budget.saturating_sub(cost(stored));
                    *word = found.after(stored).word;
                }
            }
        }
        Ok(false)
    }
}

impl Store {
    /// A dropped tombstone that is still its key's newest record takes the key out of the index.
    fn drop_from_index(&mut self, at: Position, aside: &Aside) -> Result<(), NeedRead> {
        let directory = Arc::clone(self.log.directory());
        let Some(stored) = directory.record(at, Some(aside))? else {
            return Ok(());
        };
        let found = self.tree.root().get(stored.key());
        let newest = found
            .map_err(|page| self.view().missing(page))?
            .map(|(leaf, index)| leaf.entry(index).at);
        if newest == Some(at) {
            self.tree.remove(stored.key());
            self.is_dirty = true;
        }
        Ok(())
    }

    /// Segments that an earlier compaction should have rewritten.
    fn left_out(&self) -> Vec<u32> {
        let all = 0..self.log.sealed();
        all.filter(|id| {
            let place = self.log.directory().place(SegmentId(*id));
            place.is_some_and(|place| place.gone_bytes > 0)
                && self.is_worth_rewriting(SegmentId(*id))
        })
        .collect()
    }

    /// At least half of the bytes are dropped records.
    fn is_worth_rewriting(&self, id: SegmentId) -> bool {
        let gone = self
            .log
            .directory()
            .place(id)
            .map_or(0, |place| place.gone_bytes);
        gone * 2 >= self.log.bytes_of(id)
    }

    fn live_bytes(&self, id: SegmentId) -> usize {
        let place = self.log.directory().place(id);
        let live = place.map_or(0, |place| match place.body {
            Body::Empty => 0,
            _ => place.bytes - place.gone_bytes,
        });
        usize::try_from(live).expect("it lies in memory")
    }
}

fn doom(doomed: &mut BTreeMap<u32, Doomed>, at: Position, stored: Stored<'_>) {
    let doomed = doomed.entry(at.segment).or_default();
    if doomed.words.insert(at.word) {
        doomed.records += 1;
        doomed.bytes += stored.len() as u64;
        let digest = digest::of_record(&stored.record());
        doomed.digest = doomed.digest.wrapping_add(digest);
        if stored.is_tombstone() {
            doomed.tombstones.insert(at.word);
        }
    }
}

/// A record counts as one for each KiB of it.
fn cost(stored: Stored<'_>) -> usize {
    1 + stored.len() / 1024
}
