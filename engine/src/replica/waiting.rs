//! Who waits for which entry of the log.

use std::collections::VecDeque;

use crate::limits::SPENT_RUNS_MAX;
use crate::types::{Index, ReplyTo};

/// The waiters of the runs in the log that are not applied, in the log's order.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    runs: VecDeque<Run>,
    /// Lists of finished runs, to be filled again.
    spent: Vec<Vec<Option<ReplyTo>>>,
    /// Entries that are waited for.
    count: u64,
}

#[derive(Debug)]
struct Run {
    first: Index,
    waiters: Vec<Option<ReplyTo>>,
}

impl Waiting {
    /// The run whose first entry is `first` has one waiter, or none, for each entry.
    pub(super) fn push(&mut self, first: Index, waiters: Vec<Option<ReplyTo>>) {
        if let Some(run) = self.runs.back() {
            assert!(run.first.plus(run.waiters.len() as u64) <= first);
        }
        self.count += waiters.iter().flatten().count() as u64;
        self.runs.push_back(Run { first, waiters });
    }

    /// Who waits for the entry at `index`. Entries are asked for in order, each once.
    pub(super) fn take(&mut self, index: Index) -> Option<ReplyTo> {
        let run = self.runs.front_mut()?;
        let slot = usize::try_from(index.0.checked_sub(run.first.0)?).ok()?;
        assert!(slot < run.waiters.len());
        let waiter = run.waiters[slot].take();
        let is_last = slot + 1 == run.waiters.len();
        self.count -= u64::from(waiter.is_some());
        if is_last
            && let Some(run) = self.runs.pop_front()
            && self.spent.len() < SPENT_RUNS_MAX
        {
            self.spent.push(run.waiters);
        }
        waiter
    }

    /// Hands out everybody and forgets them.
    pub(super) fn drain(&mut self, each: &mut impl FnMut(ReplyTo)) {
        let runs = self.runs.drain(..);
        runs.flat_map(|run| run.waiters).flatten().for_each(each);
        self.count = 0;
    }

    /// Entries that somebody waits for.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// An empty list with room, from a finished run.
    pub(super) fn take_spent(&mut self) -> Vec<Option<ReplyTo>> {
        let mut waiters = self.spent.pop().unwrap_or_default();
        waiters.clear();
        waiters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(stream: u32) -> ReplyTo {
        ReplyTo {
            stream,
            ..ReplyTo::default()
        }
    }

    /// Entries of others (no waiter, or not in any run) must not shift the answers.
    #[test]
    fn each_entry_finds_its_own_waiter() {
        let mut waiting = Waiting::default();
        waiting.push(Index(5), vec![Some(to(1)), None, Some(to(2))]);
        waiting.push(Index(9), vec![Some(to(3))]);
        assert_eq!(waiting.count(), 3);
        let found: Vec<Option<ReplyTo>> = (4..=10).map(|n| waiting.take(Index(n))).collect();
        let expected = [
            None,
            Some(to(1)),
            None,
            Some(to(2)),
            None,
            Some(to(3)),
            None,
        ];
        assert_eq!(found, expected);
        assert_eq!(waiting.count(), 0);
    }

    /// After a failure everybody is told, once.
    #[test]
    fn draining_finds_everybody_left() {
        let mut waiting = Waiting::default();
        waiting.push(Index(1), vec![Some(to(1)), Some(to(2))]);
        waiting.push(Index(3), vec![None, Some(to(3))]);
        waiting.take(Index(1));
        let mut told = Vec::new();
        waiting.drain(&mut |waiter| told.push(waiter));
        assert_eq!(told, [to(2), to(3)]);
    }
}
