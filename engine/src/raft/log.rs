//! The log's newest part in memory: what is not applied yet, and what must still be sent.

#[cfg(feature = "probing")]
mod probe;

use std::collections::VecDeque;

use crate::limits::SPENT_RUNS_MAX;
use crate::types::{Index, Run, RunKind, Term};

/// Runs of entries with the marks that say how far each has come.
///
/// released <= applied <= min(committed, durable); durable <= staged <= last.
#[derive(Debug)]
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
}

/// An entry's place and age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The entry's position.
    pub index: Index,
    /// The entry's term.
    pub term: Term,
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

#[derive(Debug)]
struct HeldRun {
    kind: RunKind,
    term: Term,
    first: Index,
    count: u32,
    bytes: Vec<u8>,
}

/// `runs[slot].bytes[offset..]` begins with the wanted entry; `slot == runs.len()`: not there yet.
#[derive(Clone, Copy, Debug, Default)]
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
        }
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
        let run = self.runs.iter().rev().find(|run| run.first <= index)?;
        (index <= run.last()).then_some(run.term)
    }

    /// Adds a run behind the last entry. `bytes` must be `count` framed entries.
    pub fn append(&mut self, kind: RunKind, term: Term, count: u32, bytes: Vec<u8>) -> Index {
        assert!(count > 0);
        assert!(term >= self.last().term);
        let first = self.last().index.next();
        self.runs.push_back(HeldRun {
            kind,
            term,
            first,
            count,
            bytes,
        });
        first
    }

    /// Takes back a run that the disk kept; it and nothing behind it is the log then.
    ///
    /// # Errors
    /// The run is not `count` entries, leaves a gap, or replaces what is applied.
    pub fn restore(&mut self, run: Run<'_>) -> Result<(), BadRun> {
        let bad = BadRun(run.first);
        if count_entries(run.bytes) != Some(run.count) || run.first <= self.committed {
            return Err(bad);
        }
        self.truncate(run.first);
        if run.first != self.last().index.next() || run.term < self.last().term {
            return Err(bad);
        }
        let mut bytes = self.spent.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(run.bytes);
        self.append(run.kind, run.term, run.count, bytes);
        self.staged = run.last();
        self.durable = run.last();
        Ok(())
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

    /// The oldest run that the disk has not been given.
    #[must_use]
    pub fn next_to_stage(&self) -> Option<Run<'_>> {
        // The newest runs are the unstaged ones, and few.
        let unstaged = self.runs.iter().rev();
        let run = unstaged.take_while(|run| run.first > self.staged).last()?;
        Some(run.as_run())
    }

    /// The disk was given everything up to `last`.
    pub fn on_staged(&mut self, last: Index) {
        assert!(last > self.staged);
        assert!(last <= self.last().index);
        self.staged = last;
    }

    /// Everything up to `last` survives a power cut.
    pub fn on_durable(&mut self, last: Index) {
        assert!(last >= self.durable);
        assert!(last <= self.staged);
        self.durable = last;
    }

    /// A quorum holds everything up to `index`. An older mark changes nothing.
    pub fn commit_to(&mut self, index: Index) {
        assert!(index <= self.last().index);
        self.committed = self.committed.max(index);
    }

    /// The entry to apply next, once it is both committed and durable here.
    #[must_use]
    pub fn next_to_apply(&self) -> Option<Entry<'_>> {
        if self.applied.index >= self.committed.min(self.durable) {
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

    /// The entry of `next_to_apply` is applied.
    pub fn on_applied(&mut self) {
        let entry = self
            .next_to_apply()
            .expect("only an entry handed out can be applied");
        let len = entry.bytes.len();
        self.applied = entry.at;
        self.cursor.offset += LENGTH_BYTES + len;
        if self.applied.index == self.runs[self.cursor.slot].last() {
            self.cursor = Cursor {
                slot: self.cursor.slot + 1,
                offset: 0,
            };
        }
    }

    /// Forgets runs that lie whole at or below `index`; nobody needs them any more. Runs that are
    /// not applied stay.
    pub fn release(&mut self, index: Index) {
        let upto = index.min(self.applied.index);
        while let Some(run) = self.runs.pop_front_if(|run| run.last() <= upto) {
            self.released = Mark {
                index: run.last(),
                term: run.term,
            };
            self.cursor.slot -= 1;
            if self.spent.len() < SPENT_RUNS_MAX {
                self.spent.push(run.bytes);
            }
        }
    }

    /// An empty buffer with room, from a released run.
    pub fn take_spent(&mut self) -> Option<Vec<u8>> {
        let mut bytes = self.spent.pop()?;
        bytes.clear();
        Some(bytes)
    }

    /// Drops everything from `first` on, which a newer leader replaced.
    fn truncate(&mut self, first: Index) {
        while let Some(run) = self.runs.pop_back_if(|run| run.last() >= first) {
            let kept = first.0.saturating_sub(run.first.0);
            if kept > 0 {
                let kept = u32::try_from(kept).expect("fewer than the run's own u32");
                self.runs.push_back(run.cut(kept));
                break;
            }
        }
        let last = self.last().index;
        self.staged = self.staged.min(last);
        self.durable = self.durable.min(last);
    }
}

impl HeldRun {
    fn last(&self) -> Index {
        self.as_run().last()
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
        let mut end = 0;
        for _ in 0..count {
            let (entry, _) = split_entry(&self.bytes[end..]).expect(FRAMED);
            end += LENGTH_BYTES + entry.len();
        }
        self.bytes.truncate(end);
        self.count = count;
        self
    }
}

/// The first entry of a run's bytes, and the bytes behind it.
fn split_entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (prefix, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    let len = usize::try_from(u32::from_le_bytes(*prefix)).ok()?;
    rest.split_at_checked(len)
}

/// How many entries `bytes` are, if they are nothing else.
fn count_entries(mut bytes: &[u8]) -> Option<u32> {
    let mut count = 0_u32;
    while !bytes.is_empty() {
        (_, bytes) = split_entry(bytes)?;
        count = count.checked_add(1)?;
    }
    Some(count)
}

const LENGTH_BYTES: usize = 4;
const FRAMED: &str = "append and restore take framed entries only";

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(entries: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in entries {
            bytes.extend_from_slice(&(entry.len() as u32).to_le_bytes());
            bytes.extend_from_slice(entry.as_bytes());
        }
        bytes
    }

    fn run(term: u64, first: u64, count: u32, bytes: &[u8]) -> Run<'_> {
        Run {
            kind: RunKind::Normal,
            term: Term(term),
            first: Index(first),
            count,
            bytes,
        }
    }

    fn append(log: &mut Log, term: u64, entries: &[&str]) -> Index {
        let count = entries.len() as u32;
        log.append(RunKind::Normal, Term(term), count, framed(entries))
    }

    fn make_durable(log: &mut Log) {
        while let Some(last) = log.next_to_stage().map(|run| run.last()) {
            log.on_staged(last);
        }
        log.on_durable(log.last().index);
    }

    fn apply_all(log: &mut Log) -> Vec<(u64, String)> {
        let mut seen = Vec::new();
        while let Some(entry) = log.next_to_apply() {
            let text = String::from_utf8_lossy(entry.bytes).into_owned();
            seen.push((entry.at.index.0, text));
            log.on_applied();
        }
        seen
    }

    /// R1: neither commitment without durability nor durability without commitment applies an entry.
    #[test]
    fn an_entry_is_applied_only_when_committed_and_durable_here() {
        let mut log = Log::new(Mark::default());
        append(&mut log, 1, &["a", "b"]);
        log.commit_to(Index(2));
        assert!(log.next_to_apply().is_none());

        let mut log = Log::new(Mark::default());
        append(&mut log, 1, &["a", "b"]);
        make_durable(&mut log);
        assert!(log.next_to_apply().is_none());
        log.commit_to(Index(1));
        assert_eq!(apply_all(&mut log), [(1, "a".to_owned())]);
    }

    /// A commit mark may fall inside a run; application goes on there.
    #[test]
    fn application_goes_on_in_the_middle_of_a_run() {
        let mut log = Log::new(Mark::default());
        append(&mut log, 1, &["a", "", "c"]);
        append(&mut log, 2, &["d"]);
        make_durable(&mut log);
        log.commit_to(Index(2));
        assert_eq!(apply_all(&mut log).len(), 2);
        log.release(Index(9));
        assert_eq!(log.term_at(Index(1)), Some(Term(1)));
        log.commit_to(Index(4));
        let rest = [(3, "c".to_owned()), (4, "d".to_owned())];
        assert_eq!(apply_all(&mut log), rest);
        log.release(log.applied().index);
        assert_eq!(log.applied(), log.last());
        assert!(log.take_spent().is_some_and(|bytes| bytes.is_empty()));
    }

    /// Runs reach the disk in order and once each.
    #[test]
    fn runs_are_staged_in_order() {
        let mut log = Log::new(Mark {
            index: Index(7),
            term: Term(1),
        });
        assert_eq!(append(&mut log, 1, &["a", "b"]), Index(8));
        assert_eq!(append(&mut log, 1, &["c"]), Index(10));
        assert_eq!(log.next_to_stage().map(|run| run.first), Some(Index(8)));
        log.on_staged(Index(9));
        assert_eq!(log.next_to_stage().map(|run| run.first), Some(Index(10)));
        log.on_staged(Index(10));
        assert_eq!(log.next_to_stage(), None);
    }

    /// A later run of an index replaces it and all that follows, also from the middle of a run.
    #[test]
    fn a_restored_run_replaces_the_suffix() {
        let mut log = Log::new(Mark::default());
        log.restore(run(1, 1, 3, &framed(&["a", "b", "c"])))
            .expect("first");
        log.restore(run(2, 3, 1, &framed(&["C"])))
            .expect("replaces 3");
        log.restore(run(2, 4, 1, &framed(&["d"]))).expect("follows");
        log.commit_to(Index(4));
        let texts: Vec<String> = apply_all(&mut log)
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        assert_eq!(texts, ["a", "b", "C", "d"]);
        assert_eq!(
            log.restore(run(3, 4, 1, &framed(&["x"]))),
            Err(BadRun(Index(4)))
        );
    }

    /// A damaged or foreign log must be named and not be applied.
    #[test]
    fn gaps_and_wrong_counts_are_refused() {
        let mut log = Log::new(Mark::default());
        let bytes = framed(&["a", "b"]);
        assert!(log.restore(run(1, 2, 2, &bytes)).is_err());
        assert!(log.restore(run(1, 1, 1, &bytes)).is_err());
        assert!(
            log.restore(run(1, 1, 2, &bytes[..bytes.len() - 1]))
                .is_err()
        );
        assert!(log.restore(run(1, 1, 2, &bytes)).is_ok());
    }
}
