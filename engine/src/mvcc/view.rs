use std::ops::{ControlFlow, Range};

use super::aside::Aside;
use super::range::{Counting, KeyRange, Resume, SliceBound, Visited, Want};
use super::revlog::Position;
use super::revlog::log_view::LogView;
use super::revlog::record::Stored;
use super::store::{Marks, RevisionRefused};
use super::tree::{self, Entry, Leaf, Left, Node, PageRef};
use super::wants::NeedRead;
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
    pub(super) log: LogView<'a>,
    pub(super) marks: Marks,
}

/// A record of a key's chain must be read first.
#[derive(Clone, Copy)]
pub(super) struct Miss {
    need: NeedRead,
    /// Which: a later search begins with it. `None`: a page must be read.
    pub(super) at: Option<Position>,
}

impl From<Miss> for NeedRead {
    fn from(miss: Miss) -> Self {
        miss.need
    }
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

    /// The same with what a job has read for itself.
    pub(super) fn with(self, aside: &'a Aside) -> Self {
        Self {
            log: self.log.with(aside),
            ..self
        }
    }

    /// Whether what a read missed is in memory now, or will never be asked for again.
    #[must_use]
    pub fn has(&self, need: NeedRead) -> bool {
        match need {
            NeedRead::Frame { .. } => self.log.file_of(need).is_none(),
            NeedRead::Page(page) => !self.log.is_awaited(page),
        }
    }

    /// The page that must be read before `key` can be looked for, if any; nobody is asked to.
    #[must_use]
    pub fn page_of(&self, key: &[u8]) -> Option<PageRef> {
        self.root.get(key).err()
    }

    /// Asks the member to read it, as the read that missed it did.
    pub fn ask(&self, need: NeedRead) {
        self.log.note(need);
    }

    /// The record of `key` at `rev`, if it was live then.
    ///
    /// # Errors
    /// A page or a segment must be read first.
    pub fn get_at(&self, key: &[u8], rev: i64) -> Result<Option<Record<'a>>, NeedRead> {
        Ok(self.look_up(key, rev, Want::Values, None)?)
    }

    /// As `get_at`, without the value.
    ///
    /// # Errors
    /// A page or a segment must be read first.
    pub fn meta_at(&self, key: &[u8], rev: i64) -> Result<Option<Record<'a>>, NeedRead> {
        Ok(self.look_up(key, rev, Want::Keys, None)?)
    }

    /// As `get_at` or `meta_at`, from where `resume` stands in the key's chain.
    ///
    /// # Errors
    /// A page or a segment must be read first; `resume` stands at the record that needs it.
    pub fn get_on(
        &self,
        key: &[u8],
        rev: i64,
        want: Want,
        resume: &mut Resume,
    ) -> Result<Option<Record<'a>>, NeedRead> {
        let found = self.look_up(key, rev, want, resume.chain);
        if let Err(miss) = &found {
            resume.chain = miss.at.or(resume.chain);
        } else {
            resume.chain = None;
        }
        Ok(found?)
    }

    /// How many keys of `range` are live.
    ///
    /// # Errors
    /// A page at one of its bounds must be read first.
    pub fn count_newest(&self, range: &KeyRange<'_>) -> Result<u64, NeedRead> {
        let rev = self.revision();
        if let KeyRange::Single(key) = range {
            return Ok(u64::from(self.meta_at(key, rev)?.is_some()));
        }
        let (from, before) = range.bounds();
        let mut total = 0;
        if !is_empty(from, before) {
            let none = &mut |_: &Leaf, _| -> Result<bool, Left<()>> {
                unreachable!("nothing was changed after the newest change")
            };
            match tree::count(self.root, from, before, rev, &mut total, none) {
                Err(Left::Page(page)) => return Err(self.missing(page)),
                counted => assert!(counted.is_ok()),
            }
        }
        Ok(total)
    }

    /// How many keys of `range` were live at `rev`, from where `counting` stands. O(log n) below nodes
    /// where nothing was created or deleted after `rev`; looks at no more than so many `records` where
    /// something was. `None`: there is more to count.
    ///
    /// # Errors
    /// A segment must be read first; `counting` stands at the record that needs it. Or a page: then it
    /// stands where it stood.
    pub fn count(
        &self,
        range: &KeyRange<'_>,
        rev: i64,
        counting: &mut Counting,
        records: usize,
    ) -> Result<Option<u64>, NeedRead> {
        let Counting { resume, total } = counting;
        if let KeyRange::Single(key) = range {
            let found = self.get_on(key, rev, Want::Keys, resume)?;
            return Ok(Some(u64::from(found.is_some())));
        }
        let (start, before) = range.bounds();
        let resumed = std::mem::take(resume);
        let stood = resumed.is_set.then_some(&resumed.key[..]);
        let from = stood.or(start);
        if is_empty(from, before) {
            return Ok(Some(*total));
        }
        let counted = *total;
        let mut left = records.max(1);
        let mut is_live = |leaf: &'a Leaf, index: usize| {
            let key = leaf.key(index);
            if left == 0 {
                return Err(Left::Visitor((key, None)));
            }
            left -= 1;
            let chain = resumed.chain.filter(|_| stood == Some(key));
            match self.find(leaf.entry(index), rev, chain) {
                Ok(found) => Ok(!matches!(found, Found::Nothing)),
                Err(miss) => Err(Left::Visitor((key, Some(miss)))),
            }
        };
        match tree::count(self.root, from, before, rev, total, &mut is_live) {
            Ok(()) => Ok(Some(*total)),
            Err(Left::Page(page)) => {
                (*resume, *total) = (resumed, counted);
                Err(self.missing(page))
            }
            Err(Left::Visitor((key, miss))) => {
                resume.set(key);
                resume.chain = miss.and_then(|miss| miss.at);
                miss.map_or(Ok(None), |miss| Err(miss.need))
            }
        }
    }

    /// Whether the index knows without its leaves of a key that was live at `rev`.
    pub(super) fn has_unchanged_since(&self, rev: i64) -> bool {
        let mut found = false;
        let _ = tree::walk_bottom(self.root, b"", &mut |bottom| {
            found = bottom.summary.live > 0 && bottom.summary.changed <= rev;
            match found {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        found
    }

    /// Hands out the records of `range` that were live at `rev`, in key order, from where `resume`
    /// stands.
    ///
    /// # Errors
    /// A page or a segment must be read first; `resume` stands where it is needed, nothing is handed
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
        let chain = resume.chain.take();
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
            // Descending walks exclude the key at which they stand.
            chain: chain.zip(stood.map(|stood| match BACK {
                true => stood.strip_suffix(&[0]).unwrap_or(stood),
                false => stood,
            })),
        };
        // The last key that was looked at.
        let mut last = None;
        let mut visit = |leaf: &'a Leaf, mut places: Range<usize>| {
            let until = if BACK { places.start } else { places.end - 1 };
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
            last = Some((leaf, until));
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
        let stop = match stop {
            Left::Visitor(stop) => stop,
            Left::Page(page) => {
                match last.map(|(leaf, at)| leaf.key(at)) {
                    Some(key) if BACK => resume.set(key),
                    Some(key) => resume.set_after(key),
                    // Nothing before it was looked at either.
                    None => {}
                }
                return Err(self.missing(page));
            }
        };
        match (&stop, BACK) {
            (Stop::Before(key, _), false) | (Stop::At(key), true) => resume.set(key),
            (Stop::Before(key, _), true) | (Stop::At(key), false) => resume.set_after(key),
        }
        resume.chain = stop.miss().and_then(|miss| miss.at);
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
        let record = self.get_on(key, rev, want, resume)?;
        if let Some(record) = record
            && each(&record).is_break()
        {
            resume.set(key);
            return Ok(Visited::Stopped);
        }
        Ok(Visited::End)
    }

    /// Notes a page that a read misses.
    #[cold]
    pub(super) fn missing(&self, page: PageRef) -> NeedRead {
        self.log.note(page.into());
        page.into()
    }

    fn look_up(
        &self,
        key: &[u8],
        rev: i64,
        want: Want,
        chain: Option<Position>,
    ) -> Result<Option<Record<'a>>, Miss> {
        let found = self.root.get(key).map_err(|page| Miss {
            need: self.missing(page),
            at: None,
        })?;
        let Some((leaf, index)) = found else {
            return Ok(None);
        };
        self.look(leaf, index, rev, want, chain)
    }

    fn look(
        &self,
        leaf: &'a Leaf,
        index: usize,
        rev: i64,
        want: Want,
        chain: Option<Position>,
    ) -> Result<Option<Record<'a>>, Miss> {
        let key = leaf.key(index);
        match (self.find(leaf.entry(index), rev, chain)?, want) {
            (Found::Newest(entry), Want::Values) => self.value_of(key, entry).map(Some),
            (Found::Newest(entry), Want::Keys) => Ok(Some(meta_of(key, entry))),
            (Found::Older(stored), Want::Values) => Ok(Some(stored.record())),
            (Found::Older(stored), Want::Keys) => Ok(Some(Record {
                value: &[],
                ..stored.record()
            })),
            (Found::Nothing, _) => Ok(None),
        }
    }

    /// The record of a key at `rev`, from its newest entry back, or from `chain` if an earlier search
    /// came there. A record that compaction has dropped was not live then.
    fn find(&self, entry: &'a Entry, rev: i64, chain: Option<Position>) -> Result<Found<'a>, Miss> {
        if entry.main <= rev {
            return Ok(if entry.is_live() {
                Found::Newest(entry)
            } else {
                Found::Nothing
            });
        }
        Ok(match self.older(chain.unwrap_or(entry.at), rev)? {
            Some((_, stored)) if !stored.is_tombstone() => Found::Older(stored),
            _ => Found::Nothing,
        })
    }

    /// What the index said of a key at `rev`, tombstones included; `None` if it was not in it. `chain`
    /// as in `find`.
    pub(super) fn entry_at(
        &self,
        entry: &Entry,
        rev: i64,
        chain: Option<Position>,
    ) -> Result<Option<Entry>, Miss> {
        if entry.main <= rev {
            return Ok(Some(*entry));
        }
        let older = self.older(chain.unwrap_or(entry.at), rev)?;
        Ok(older.map(|(at, stored)| entry_of(at, stored)))
    }

    /// The newest record at or below `rev` of the key that has a record at `at`, from there back;
    /// `None` if there was none or compaction has dropped it.
    fn older(&self, at: Position, rev: i64) -> Result<Option<(Position, Stored<'a>)>, Miss> {
        let mut at = at;
        while let Some(stored) = self.record(at)? {
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

    fn value_of(&self, key: &'a [u8], entry: &Entry) -> Result<Record<'a>, Miss> {
        let stored = self
            .record(entry.at)?
            .expect("the newest record of a live key is never dropped");
        Ok(Record {
            value: stored.value(),
            ..meta_of(key, entry)
        })
    }

    fn record(&self, at: Position) -> Result<Option<Stored<'a>>, Miss> {
        self.log
            .record(at)
            .map_err(|need| Miss { need, at: Some(at) })
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
    /// Records that are looked up before the first of them is handed out: one at first, as most
    /// walks are short.
    ahead: usize,
    /// For this key, if it is the first one, an earlier call came so far.
    chain: Option<(Position, &'v [u8])>,
}

/// Why and where a walk ends early.
enum Stop<'a> {
    /// This key was not handed out: the slice is used up, or a segment must be read.
    Before(&'a [u8], Option<Miss>),
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
        // The first record of a call, alone in its chunk, may be the one at which an earlier call stood.
        let stood = self.chain.take();
        let stood = stood.filter(|(_, key)| *key == leaf.key(chunk.start));
        let chain = stood.map(|(at, _)| at);
        for index in chunk.clone() {
            let record = self.view.look(leaf, index, self.rev, self.want, chain);
            found[index - chunk.start] = record;
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
                Err(miss) => return ControlFlow::Break(Stop::Before(key, Some(miss))),
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
}

impl Stop<'_> {
    fn end(&self) -> Result<Visited, NeedRead> {
        match self {
            Self::Before(_, Some(miss)) => Err(miss.need),
            Self::Before(_, None) => Ok(Visited::More),
            Self::At(_) => Ok(Visited::Stopped),
        }
    }

    fn miss(&self) -> Option<Miss> {
        match self {
            Self::Before(_, miss) => *miss,
            Self::At(_) => None,
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
