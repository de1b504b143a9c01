use std::ops::{ControlFlow, Range};

use super::range::{KeyRange, Resume, SliceBound, Visited, Want};
use super::revlog::directory::Directory;
use super::revlog::record::Stored;
use super::revlog::{NeedRead, Position};
use super::store::{Marks, RevisionRefused};
use super::tree::{self, Entry, Leaf, Node};
use crate::types::{LeaseId, Revision};

/// One record of one key, as clients know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value; empty where only the index was asked.
    pub value: &'a [u8],
    /// Main revision of the first put of this generation.
    pub create_revision: i64,
    /// The revision that made this record.
    pub mod_revision: Revision,
    /// Puts since the creation, this one included; 0 in a tombstone, which only the log shows.
    pub version: i64,
    /// The lease it is attached to, 0 for none.
    pub lease: LeaseId,
}

/// The store as it was at one publish: immutable as long as the pin it came from is held. Revisions
/// are main revisions; reads at a compacted or future one are not refused here but by `check`.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub(super) root: &'a Node,
    pub(super) log: &'a Directory,
    pub(super) marks: Marks,
}

/// What a key was at a revision.
enum Found<'a> {
    Newest(&'a Entry),
    Older(Stored<'a>),
    Nothing,
}

impl<'a> View<'a> {
    /// The main revision of the last change.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.marks.revision
    }

    /// The compacted revision: reads below it are refused. -1 if nothing was ever compacted.
    #[must_use]
    pub fn compacted(&self) -> i64 {
        self.marks.compacted
    }

    /// The compacted revision up to which the memory is given back; at most `compacted`.
    #[must_use]
    pub fn finished(&self) -> i64 {
        self.marks.finished
    }

    /// The revision to read at when a client asks for `rev`: 0 and below mean the newest. [K5]
    ///
    /// # Errors
    /// The revision lies in the future or was compacted; one equal to the compacted revision can be
    /// read.
    pub fn check(&self, rev: i64) -> Result<i64, RevisionRefused> {
        if rev > self.revision() {
            Err(RevisionRefused::Future)
        } else if rev <= 0 {
            Ok(self.revision())
        } else if rev < self.compacted() {
            Err(RevisionRefused::Compacted)
        } else {
            Ok(rev)
        }
    }

    /// The record of `key` at `rev`, if it was live then.
    ///
    /// # Errors
    /// A segment must be read first.
    pub fn get_at(&self, key: &[u8], rev: i64) -> Result<Option<Record<'a>>, NeedRead> {
        let Some((leaf, index)) = self.root.get(key) else {
            return Ok(None);
        };
        match self.find(leaf.entry(index), rev)? {
            Found::Newest(entry) => self.value_of(leaf.key(index), entry).map(Some),
            Found::Older(stored) => Ok(Some(stored.record())),
            Found::Nothing => Ok(None),
        }
    }

    /// As `get_at`, without the value.
    ///
    /// # Errors
    /// A segment must be read first; never at the newest revision.
    pub fn meta_at(&self, key: &[u8], rev: i64) -> Result<Option<Record<'a>>, NeedRead> {
        let Some((leaf, index)) = self.root.get(key) else {
            return Ok(None);
        };
        match self.find(leaf.entry(index), rev)? {
            Found::Newest(entry) => Ok(Some(meta_of(leaf.key(index), entry))),
            Found::Older(stored) => Ok(Some(Record {
                value: &[],
                ..stored.record()
            })),
            Found::Nothing => Ok(None),
        }
    }

    /// How many keys of `range` were live at `rev`. O(log n) below nodes where nothing was created
    /// or deleted after `rev`.
    ///
    /// # Errors
    /// A segment must be read first.
    pub fn count(&self, range: &KeyRange<'_>, rev: i64) -> Result<u64, NeedRead> {
        if let KeyRange::Single(key) = range {
            return Ok(u64::from(self.meta_at(key, rev)?.is_some()));
        }
        let (from, before) = range.bounds();
        if is_empty(from, before) {
            return Ok(0);
        }
        tree::count(self.root, from, before, rev, &mut |leaf, index| {
            Ok(!matches!(
                self.find(leaf.entry(index), rev)?,
                Found::Nothing
            ))
        })
    }

    /// Hands out the records of `range` that were live at `rev`, in key order, from where `resume`
    /// stands.
    ///
    /// # Errors
    /// A segment must be read first; `resume` stands at the record that needs it, nothing is handed
    /// out twice.
    pub fn visit(
        &self,
        range: &KeyRange<'_>,
        rev: i64,
        want: Want,
        resume: &mut Resume,
        bound: SliceBound,
        each: impl FnMut(&Record<'a>) -> ControlFlow<()>,
    ) -> Result<Visited, NeedRead> {
        let mut left = bound;
        self.visit_in::<false>(range, rev, want, resume, &mut left, each)
    }

    /// As `visit`, within what several walks share: `left` is less afterwards by what this one used.
    ///
    /// # Errors
    /// As `visit`.
    pub fn visit_within(
        &self,
        range: &KeyRange<'_>,
        rev: i64,
        want: Want,
        resume: &mut Resume,
        left: &mut SliceBound,
        each: impl FnMut(&Record<'a>) -> ControlFlow<()>,
    ) -> Result<Visited, NeedRead> {
        self.visit_in::<false>(range, rev, want, resume, left, each)
    }

    /// As `visit`, from the greatest key downward.
    ///
    /// # Errors
    /// As `visit`.
    pub fn visit_back(
        &self,
        range: &KeyRange<'_>,
        rev: i64,
        want: Want,
        resume: &mut Resume,
        bound: SliceBound,
        each: impl FnMut(&Record<'a>) -> ControlFlow<()>,
    ) -> Result<Visited, NeedRead> {
        let mut left = bound;
        self.visit_in::<true>(range, rev, want, resume, &mut left, each)
    }

    /// `visit`, or `visit_back` if `BACK`.
    fn visit_in<const BACK: bool>(
        &self,
        range: &KeyRange<'_>,
        rev: i64,
        want: Want,
        resume: &mut Resume,
        left: &mut SliceBound,
        mut each: impl FnMut(&Record<'a>) -> ControlFlow<()>,
    ) -> Result<Visited, NeedRead> {
        if let KeyRange::Single(key) = range {
            left.records = left.records.saturating_sub(1);
            return self.visit_single(key, rev, want, resume, each);
        }
        let (start, end) = range.bounds();
        let resumed = std::mem::take(&mut resume.key);
        let stood = resume.is_set.then_some(&resumed[..]);
        let (from, before) = if BACK {
            (start, stood.or(end))
        } else {
            (stood.or(start), end)
        };
        if is_empty(from, before) {
            return Ok(Visited::End);
        }
        let mut slice = Slice {
            view: self,
            rev,
            want,
            left: *left,
            ahead: 1,
        };
        let mut visit = |leaf: &'a Leaf, mut places: Range<usize>| {
            while !places.is_empty() {
                let some = slice.look_ahead().min(places.len());
                let chunk = if BACK {
                    places.end -= some;
                    places.end..places.end + some
                } else {
                    places.start += some;
                    places.start - some..places.start
                };
                slice.each::<BACK>(leaf, chunk, &mut each)?;
            }
            ControlFlow::Continue(())
        };
        let stopped = if BACK {
            tree::walk_back(self.root, from, before, &mut visit)
        } else {
            tree::walk(self.root, from, before, &mut visit)
        };
        *left = slice.left;
        let ControlFlow::Break(stop) = stopped else {
            return Ok(Visited::End);
        };
        resume.key = resumed;
        match (&stop, BACK) {
            (Stop::Before(key, _), false) | (Stop::At(key), true) => resume.set(key),
            (Stop::Before(key, _), true) | (Stop::At(key), false) => resume.set_after(key),
        }
        stop.end()
    }

    fn visit_single(
        &self,
        key: &[u8],
        rev: i64,
        want: Want,
        resume: &mut Resume,
        mut each: impl FnMut(&Record<'a>) -> ControlFlow<()>,
    ) -> Result<Visited, NeedRead> {
        if resume.is_set {
            return Ok(Visited::End);
        }
        let record = match want {
            Want::Values => self.get_at(key, rev)?,
            Want::Keys => self.meta_at(key, rev)?,
        };
        if let Some(record) = record
            && each(&record).is_break()
        {
            resume.set(key);
            return Ok(Visited::Stopped);
        }
        Ok(Visited::End)
    }

    /// The record of a key at `rev`, from its newest entry back. A record that compaction has
    /// dropped was not live then.
    fn find(&self, entry: &'a Entry, rev: i64) -> Result<Found<'a>, NeedRead> {
        if entry.main <= rev {
            return Ok(if entry.is_live() {
                Found::Newest(entry)
            } else {
                Found::Nothing
            });
        }
        Ok(match self.older(entry.at, rev)? {
            Some((_, stored)) if !stored.is_tombstone() => Found::Older(stored),
            _ => Found::Nothing,
        })
    }

    /// What the index said of a key at `rev`, tombstones included; `None` if it was not in it.
    pub(super) fn entry_at(&self, entry: &Entry, rev: i64) -> Result<Option<Entry>, NeedRead> {
        if entry.main <= rev {
            return Ok(Some(*entry));
        }
        let older = self.older(entry.at, rev)?;
        Ok(older.map(|(at, stored)| entry_of(at, stored)))
    }

    /// The newest record at or below `rev` of the key whose newest record, above `rev`, lies at
    /// `at`; `None` if there was none or compaction has dropped it.
    fn older(&self, at: Position, rev: i64) -> Result<Option<(Position, Stored<'a>)>, NeedRead> {
        let mut at = at;
        while let Some(stored) = self.log.record(at)? {
            if stored.main() <= rev {
                return Ok(Some((at, stored)));
            }
            let (jump, prev) = (stored.jump(), stored.prev());
            if prev.main == 0 {
                break;
            }
            at = if jump.main > rev { jump.at } else { prev.at };
        }
        Ok(None)
    }

    fn value_of(&self, key: &'a [u8], entry: &Entry) -> Result<Record<'a>, NeedRead> {
        let stored = self
            .log
            .record(entry.at)?
            .expect("the newest record of a live key is never dropped");
        Ok(Record {
            value: stored.value(),
            ..meta_of(key, entry)
        })
    }
}

/// What the index says of a key whose newest record lies at `at`.
pub(super) fn entry_of(at: Position, stored: Stored<'_>) -> Entry {
    Entry {
        main: stored.main(),
        create: stored.create(),
        version: stored.version(),
        lease: stored.lease(),
        at,
        sub: stored.sub(),
        value_len: stored.value_len(),
    }
}

/// One call of `visit`.
struct Slice<'v, 'a> {
    view: &'v View<'a>,
    rev: i64,
    want: Want,
    left: SliceBound,
    /// Records that are looked up before the first of them is handed out: few at first, as most
    /// walks are short.
    ahead: usize,
}

/// Why and where a walk ends early.
enum Stop<'a> {
    /// This key was not handed out: the slice is used up, or a segment must be read.
    Before(&'a [u8], Option<NeedRead>),
    /// This one was, and the visitor broke off.
    At(&'a [u8]),
}

impl<'a> Slice<'_, 'a> {
    fn look_ahead(&mut self) -> usize {
        let ahead = self.ahead;
        self.ahead = LOOK_AHEAD_MAX.min(ahead * 2);
        ahead
    }

    /// Hands out the records of a few neighbours in one leaf, the last one first if `BACK`. All are
    /// looked up before the first is used, so that their cache misses overlap.
    fn each<const BACK: bool>(
        &mut self,
        leaf: &'a Leaf,
        chunk: Range<usize>,
        each: &mut impl FnMut(&Record<'a>) -> ControlFlow<()>,
    ) -> ControlFlow<Stop<'a>> {
        let mut found = [const { Ok(None) }; LOOK_AHEAD_MAX];
        for index in chunk.clone() {
            found[index - chunk.start] = self.look(leaf, index);
        }
        let mut rest = chunk.clone();
        while let Some(index) = if BACK { rest.next_back() } else { rest.next() } {
            let key = leaf.key(index);
            if self.left.records == 0 || self.left.bytes == 0 {
                return ControlFlow::Break(Stop::Before(key, None));
            }
            self.left.records -= 1;
            let record = match found[index - chunk.start] {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(need) => return ControlFlow::Break(Stop::Before(key, Some(need))),
            };
            self.left.bytes = self
                .left
                .bytes
                .saturating_sub(record.key.len() + record.value.len());
            if each(&record).is_break() {
                return ControlFlow::Break(Stop::At(key));
            }
        }
        ControlFlow::Continue(())
    }

    fn look(&self, leaf: &'a Leaf, index: usize) -> Result<Option<Record<'a>>, NeedRead> {
        let key = leaf.key(index);
        match self.view.find(leaf.entry(index), self.rev)? {
            Found::Newest(entry) if self.want == Want::Values => {
                self.view.value_of(key, entry).map(Some)
            }
            Found::Newest(entry) => Ok(Some(meta_of(key, entry))),
            Found::Older(stored) if self.want == Want::Values => Ok(Some(stored.record())),
            Found::Older(stored) => Ok(Some(Record {
                value: &[],
                ..stored.record()
            })),
            Found::Nothing => Ok(None),
        }
    }
}

impl Stop<'_> {
    fn end(&self) -> Result<Visited, NeedRead> {
        match self {
            Self::Before(_, Some(need)) => Err(*need),
            Self::Before(_, None) => Ok(Visited::More),
            Self::At(_) => Ok(Visited::Stopped),
        }
    }
}

fn meta_of<'a>(key: &'a [u8], entry: &Entry) -> Record<'a> {
    Record {
        key,
        value: &[],
        create_revision: entry.create,
        mod_revision: Revision::new(entry.main, i64::from(entry.sub)),
        version: entry.version,
        lease: LeaseId(entry.lease),
    }
}

fn is_empty(from: Option<&[u8]>, before: Option<&[u8]>) -> bool {
    match (from, before) {
        (Some(from), Some(before)) => from >= before,
        (None, Some(before)) => before.is_empty(),
        _ => false,
    }
}

/// As many cache misses as are worth having in flight.
const LOOK_AHEAD_MAX: usize = 8;
