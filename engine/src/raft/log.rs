//! The log's newest part in memory: what is not applied yet, and what others may still need.

#[cfg(feature = "probing")]
mod probe;

use std::collections::VecDeque;

use super::message::Runs;
use crate::limits::{SNAPSHOT_LOG_BYTES_MAX, SPENT_RUNS_MAX};
use crate::mutant::{Mutant, is_on};
use crate::run::{
    ENTRY_LENGTH_BYTES, RUN_HEAD_BYTES, count_entries, entries_prefix, split_entry, suffix,
};
use crate::types::{Index, Run, RunKind, Term};

/// Runs of entries with the marks that say how far each has come.
///
/// released <= applied <= min(committed, durable); durable <= staged <= last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    /// The entry right before the first one held.
    released: Mark,
    runs: VecDeque<HeldRun>,
    /// Highest entry handed to the disk.
    staged: Index,
    /// Highest entry that a power cut leaves here.
    durable: Index,
    /// Highest entry known durable on a quorum; never moves back.
    committed: Index,
    applied: Mark,
    /// Where the entry after `applied` begins.
    cursor: Cursor,
    /// Buffers of released runs, to be filled again.
    spent: Vec<Vec<u8>>,
    /// Bytes of applied runs that stay for members who lag; 0 if there are none.
    kept_bytes_max: usize,
    /// And at most so many entries.
    kept_entries_max: u64,
    /// What lies behind it stays, whatever is kept otherwise: somebody needs it next.
    held_behind: Option<Index>,
    /// Bytes of all runs held.
    held_bytes: usize,
    /// Bytes of the runs that are not applied to their end.
    unapplied_bytes: usize,
}

/// An entry's place and age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The entry's position.
    pub index: Index,
    /// The entry's term.
    pub term: Term,
}

impl Mark {
    /// Whether a log that ends here misses nothing that one ending at `other` could have committed (Raft, 5.4.1).
    #[must_use]
    pub fn covers(self, other: Mark) -> bool {
        (self.term, self.index) >= (other.term, other.index)
    }
}

/// One entry that may be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its position and term.
    pub at: Mark,
    /// What it is to Raft.
    pub kind: RunKind,
    /// Its payload.
    pub bytes: &'a [u8],
}

/// The bytes of a run are not `count` entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the run at index {0} does not hold the entries that it announces")]
pub struct BadRun(pub Index);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct HeldRun {
    kind: RunKind,
    term: Term,
    first: Index,
    count: u32,
    bytes: Vec<u8>,
}

/// `runs[slot].bytes[offset..]` begins with the wanted entry; `slot == runs.len()`: not there yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Cursor {
    slot: usize,
    offset: usize,
}

impl Log {
    /// A log whose entries up to `base` are applied, durable and gone.
    #[must_use]
    pub fn new(base: Mark) -> Self {
        Self {
            released: base,
            runs: VecDeque::new(),
            staged: base.index,
            durable: base.index,
            committed: base.index,
            applied: base,
            cursor: Cursor::default(),
            spent: Vec::new(),
            kept_bytes_max: 0,
            kept_entries_max: u64::MAX,
            held_behind: None,
            held_bytes: 0,
            unapplied_bytes: 0,
        }
    }

    /// Keeps about so many bytes of applied runs from now on, and so many entries at most, for members that lag.
    pub fn keep(&mut self, bytes: usize, entries: u64) {
        self.kept_bytes_max = bytes;
        self.kept_entries_max = entries;
    }

    /// Keeps what lies behind `index` too, up to `SNAPSHOT_LOG_BYTES_MAX` of it; or no longer.
    pub fn hold_behind(&mut self, index: Option<Index>) {
        self.held_behind = index;
    }

    /// Bytes of the runs that are not applied to their end.
    #[must_use]
    pub fn unapplied_bytes(&self) -> usize {
        self.unapplied_bytes
    }

    /// The newest entry.
    #[must_use]
    pub fn last(&self) -> Mark {
        self.runs.back().map_or(self.released, |run| Mark {
            index: run.last(),
            term: run.term,
        })
    }

    /// Highest entry known durable on a quorum.
    #[must_use]
    pub fn committed(&self) -> Index {
        self.committed
    }

    /// Highest entry that is durable here.
    #[must_use]
    pub fn durable(&self) -> Index {
        self.durable
    }

    /// The newest entry that is applied.
    #[must_use]
    pub fn applied(&self) -> Mark {
        self.applied
    }

    /// The term of an entry, if it is held or the one right before.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.released.index {
            return Some(self.released.term);
        }
        let run = self.runs.get(self.slot_of(index)?)?;
        (index <= run.last()).then_some(run.term)
    }

    /// The highest entry at or below `index` whose term is at most `term`: where this log and one that has an entry of
    /// `term` at `index` may agree at best. The entry before the first one held if there is none.
    #[must_use]
    pub fn agrees_at_most(&self, index: Index, term: Term) -> Mark {
        let older = self.runs.iter().rev().skip_while(|run| run.first > index);
        let run = older.skip_while(|run| run.term > term).map(|run| Mark {
            index: run.last().min(index),
            term: run.term,
        });
        run.into_iter().next().unwrap_or(self.released)
    }

    /// The entries from `first` on as a message carries them: at least one run, then as many as `bytes_max` has room for.
    #[must_use]
    pub fn runs_from(&self, first: Index, bytes_max: usize) -> Runs {
        let slot = self.runs.partition_point(|run| run.last() < first);
        let mut runs = Runs::builder();
        for run in self.runs.range(slot..) {
            let run = suffix(run.as_run(), first.max(run.first));
            if !runs.is_empty() && runs.bytes_len() + RUN_HEAD_BYTES + run.bytes.len() > bytes_max {
                break;
            }
            runs.push(&run);
        }
        runs.finish()
    }

    /// Adds a run behind the last entry. `bytes` must be `count` framed entries.
    pub fn append(&mut self, kind: RunKind, term: Term, count: u32, bytes: Vec<u8>) -> Index {
        assert!(count > 0);
        assert!(term >= self.last().term);
        let first = self.last().index.next();
        let mut run = HeldRun {
            kind,
            term,
            first,
            count,
            bytes,
        };
        // What stays for long must not hold the memory of a buffer that was once larger.
        if self.kept_bytes_max > 0 && run.bytes.capacity() > 2 * run.bytes.len() {
            run.bytes.shrink_to_fit();
        }
        self.held_bytes += run.size();
        self.unapplied_bytes += run.size();
        self.runs.push_back(run);
        first
    }

    /// Takes over what is new of a leader's run, in place of whatever stands there; it must follow an entry of this log.
    /// Answers the first index that was replaced, if any was.
    ///
    /// # Errors
    /// It leaves a gap, goes back in terms, or contradicts what is committed: no leader sends such a run.
    pub fn adopt(&mut self, run: Run<'_>) -> Result<Option<Index>, BadRun> {
        let bad = BadRun(run.first);
        let last = self.last().index;
        let mut first = run.first.max(self.released.index.next());
        // Entries of one index and one term are the same entry.
        while first <= last.min(run.last()) {
            let held = &self.runs[self.slot_of(first).ok_or(bad)?];
            if held.term != run.term && !is_on(Mutant::KeepConflicts) {
                break;
            }
            if is_on(Mutant::CutBehindRepeated) && first > self.committed {
                break;
            }
            first = held.last().next();
        }
        if first > run.last() {
            return Ok(None);
        }
        if first <= self.committed || first > last.next() {
            return Err(bad);
        }
        let before = self.term_at(first.previous()).ok_or(bad)?;
        if run.term < before {
            return Err(bad);
        }
        let replaced = (first <= last).then_some(first);
        if let Some(first) = replaced {
            self.truncate(first);
        }
        let run = suffix(run, first);
        let mut bytes = self.take_spent().unwrap_or_default();
        bytes.extend_from_slice(run.bytes);
        self.append(run.kind, run.term, run.count, bytes);
        Ok(replaced)
    }

    /// Takes back a run that the disk kept; it and nothing behind it is the log then. One of an older term than the entry that
    /// the log begins behind is left out.
    ///
    /// # Errors
    /// The run is not `count` entries, leaves a gap, or replaces what is applied.
    pub fn restore(&mut self, run: Run<'_>) -> Result<(), BadRun> {
        let bad = BadRun(run.first);
        if count_entries(run.bytes) != Some(run.count) || run.first <= self.committed {
            return Err(bad);
        }
        if run.term < self.released.term {
            // What the checkpoint ends with took the place of an entry before this run: so it was replaced too, further on
            // in what the disk kept.
            return Ok(());
        }
        self.truncate(run.first);
        if run.first != self.last().index.next() || run.term < self.last().term {
            return Err(bad);
        }
        let mut bytes = self.take_spent().unwrap_or_default();
        bytes.extend_from_slice(run.bytes);
        self.append(run.kind, run.term, run.count, bytes);
        self.staged = run.last();
        self.durable = run.last();
        Ok(())
    }

    /// Whether a committed entry behind `index` changes the configuration.
    #[must_use]
    pub fn has_change(&self, index: Index) -> bool {
        let newer = self.runs.iter().rev().take_while(|run| run.last() > index);
        newer
            .filter(|run| run.first <= self.committed)
            .any(|run| run.kind == RunKind::ConfChange)
    }

    /// Forgets everything from `first` on: the disk replaced it.
    ///
    /// # Errors
    /// Something of it is committed.
    pub fn cut_from(&mut self, first: Index) -> Result<(), BadRun> {
        if first <= self.committed {
            return Err(BadRun(first));
        }
        self.truncate(first);
        Ok(())
    }

    /// Highest entry that the disk was given and that is not replaced since.
    #[must_use]
    pub fn staged(&self) -> Index {
        self.staged
    }

    /// The oldest run that the disk has not been given.
    #[must_use]
    pub fn next_to_stage(&self) -> Option<Run<'_>> {
        let slot = self.runs.partition_point(|run| run.first <= self.staged);
        self.runs.get(slot).map(HeldRun::as_run)
    }

    /// The disk was given everything up to `last`.
    pub fn on_staged(&mut self, last: Index) {
        assert!(last > self.staged);
        assert!(last <= self.last().index);
        self.staged = last;
    }

    /// Everything that was staged up to `last` survives a power cut. What was replaced since it was staged does not count.
    pub fn on_durable(&mut self, last: Index) {
        self.durable = self.durable.max(last.min(self.staged));
    }

    /// A quorum holds everything up to `index`. An older mark changes nothing.
    pub fn commit_to(&mut self, index: Index) {
        assert!(index <= self.last().index);
        self.committed = self.committed.max(index);
    }

    /// The entry to apply next, once it is both committed and durable here.
    #[must_use]
    pub fn next_to_apply(&self) -> Option<Entry<'_>> {
        let committed = match is_on(Mutant::ApplyUncommitted) {
            true => self.durable,
            false => self.committed,
        };
        if self.applied.index >= committed.min(self.durable) {
            return None;
        }
        let run = &self.runs[self.cursor.slot];
        let (bytes, _) = split_entry(&run.bytes[self.cursor.offset..]).expect(FRAMED);
        Some(Entry {
            at: Mark {
                index: self.applied.index.next(),
                term: run.term,
            },
            kind: run.kind,
            bytes,
        })
    }

    /// The bytes of the entries that `next_to_apply` will hand out as things stand, changes of the members left out.
    pub fn to_apply(&self) -> impl Iterator<Item = &[u8]> {
        let upto = self.committed.min(self.durable).0;
        let left = upto.saturating_sub(self.applied.index.0);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let mut offset = self.cursor.offset;
        let runs = self.runs.iter().skip(self.cursor.slot);
        let entries = runs.flat_map(move |run| {
            let mut rest = &run.bytes[core::mem::take(&mut offset)..];
            core::iter::from_fn(move || {
                let (bytes, behind) = split_entry(rest)?;
                rest = behind;
                Some((run.kind, bytes))
            })
        });
        let entries = entries.take(left);
        entries.filter_map(|(kind, bytes)| (kind == RunKind::Normal).then_some(bytes))
    }

    /// The entry of `next_to_apply` is applied.
    pub fn on_applied(&mut self) {
        let entry = self
            .next_to_apply()
            .expect("only an entry handed out can be applied");
        let len = entry.bytes.len();
        self.applied = entry.at;
        self.cursor.offset += ENTRY_LENGTH_BYTES + len;
        if self.applied.index == self.runs[self.cursor.slot].last() {
            self.begin_next_run();
        }
    }

    /// The run at the cursor is applied to its end.
    fn begin_next_run(&mut self) {
        self.unapplied_bytes -= self.runs[self.cursor.slot].size();
        self.cursor = Cursor {
            slot: self.cursor.slot + 1,
            offset: 0,
        };
    }

    /// Forgets the oldest runs that are applied, but for what is kept for others.
    pub fn release(&mut self) {
        let (applied, kept) = (self.applied.index, self.kept_bytes_max);
        let held = self.held_behind.unwrap_or(applied).min(applied);
        loop {
            let entries = applied.0 - self.released.index.0.min(applied.0);
            if self.held_bytes <= kept && entries <= self.kept_entries_max {
                return;
            }
            let upto = match self.held_bytes > kept.saturating_add(SNAPSHOT_LOG_BYTES_MAX) {
                true => applied,
                false => held,
            };
            let Some(mut run) = self.runs.pop_front_if(|run| run.last() <= upto) else {
                return;
            };
            self.released = Mark {
                index: run.last(),
                term: run.term,
            };
            self.held_bytes -= run.size();
            self.cursor.slot -= 1;
            if self.spent.len() < SPENT_RUNS_MAX {
                run.bytes.clear();
                self.spent.push(run.bytes);
            }
        }
    }

    /// An empty buffer with room, from a released run.
    pub fn take_spent(&mut self) -> Option<Vec<u8>> {
        self.spent.pop()
    }

    /// Drops everything from `first` on, which a newer leader replaced.
    fn truncate(&mut self, first: Index) {
        while let Some(run) = self.runs.pop_back_if(|run| run.last() >= first) {
            self.held_bytes -= run.size();
            self.unapplied_bytes -= run.size();
            let kept = first.0.saturating_sub(run.first.0);
            if kept > 0 {
                let kept = u32::try_from(kept).expect("fewer than the run's own u32");
                let run = run.cut(kept);
                self.held_bytes += run.size();
                self.unapplied_bytes += run.size();
                self.runs.push_back(run);
                if self.applied.index.next() == first {
                    self.begin_next_run();
                }
                break;
            }
        }
        let last = self.last().index;
        self.staged = self.staged.min(last);
        self.durable = self.durable.min(last);
    }

    /// The newest run that begins at or before `index`.
    fn slot_of(&self, index: Index) -> Option<usize> {
        self.runs
            .partition_point(|run| run.first <= index)
            .checked_sub(1)
    }
}

impl HeldRun {
    fn last(&self) -> Index {
        self.as_run().last()
    }

    /// Bytes that it takes of a frame or message.
    fn size(&self) -> usize {
        RUN_HEAD_BYTES + self.bytes.len()
    }

    fn as_run(&self) -> Run<'_> {
        Run {
            kind: self.kind,
            term: self.term,
            first: self.first,
            count: self.count,
            bytes: &self.bytes,
        }
    }

    /// The run's first `count` entries.
    fn cut(mut self, count: u32) -> Self {
        assert!(count < self.count);
        let end = entries_prefix(&self.bytes, count).expect(FRAMED);
        self.bytes.truncate(end);
        self.count = count;
        self
    }
}

const FRAMED: &str = "append and restore take framed entries only";

#[cfg(test)]
mod tests;
