//! Who waits for which entry of the log.

use std::collections::VecDeque;

use crate::limits::SPENT_RUNS_MAX;
use crate::types::{Index, Millis, ReplyTo};

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
    /// When it was proposed.
    since: Millis,
    waiters: Vec<Option<ReplyTo>>,
}

impl Waiting {
    /// The run whose first entry is `first` has one waiter, or none, for each entry.
    pub(super) fn push(&mut self, first: Index, since: Millis, waiters: Vec<Option<ReplyTo>>) {
        if let Some(run) = self.runs.back() {
            assert!(run.end() <= first);
        }
        self.count += waiters.iter().flatten().count() as u64;
        self.runs.push_back(Run {
            first,
            since,
            waiters,
        });
    }

    /// Who waits for the entry at `index`. Entries are asked for in order, each once.
    pub(super) fn take(&mut self, index: Index) -> Option<ReplyTo> {
        // The rest of such a run was cut off after its last entry had been taken.
        while self.runs.pop_front_if(|run| run.end() <= index).is_some() {}
        let run = self.runs.front_mut()?;
        let slot = usize::try_from(index.0.checked_sub(run.first.0)?).ok()?;
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

    /// Hands out those who wait for an entry from `first` on, which is gone.
    pub(super) fn cut_from(&mut self, first: Index, each: &mut impl FnMut(ReplyTo)) {
        while let Some(mut run) = self.runs.pop_back_if(|run| run.end() > first) {
            let kept = first.0.saturating_sub(run.first.0);
            let kept = usize::try_from(kept).expect("fewer than the run has");
            for to in run.waiters.drain(kept..).flatten() {
                self.count -= 1;
                each(to);
            }
            if kept > 0 {
                self.runs.push_back(run);
                break;
            }
        }
    }

    /// Hands out those of runs that are late, with the time of the proposal. Their entries may still come.
    pub(super) fn take_late(
        &mut self,
        is_late: impl Fn(Millis) -> bool,
        each: &mut impl FnMut(ReplyTo, Millis),
    ) {
        for run in self.runs.iter_mut().take_while(|run| is_late(run.since)) {
            for to in run.waiters.iter_mut().filter_map(Option::take) {
                self.count -= 1;
                each(to, run.since);
            }
        }
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

impl Run {
    /// The entry behind the last one.
    fn end(&self) -> Index {
        self.first.plus(self.waiters.len() as u64)
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
        waiting.push(Index(5), Millis(0), vec![Some(to(1)), None, Some(to(2))]);
        waiting.push(Index(9), Millis(0), vec![Some(to(3))]);
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
        waiting.push(Index(1), Millis(0), vec![Some(to(1)), Some(to(2))]);
        waiting.push(Index(3), Millis(0), vec![None, Some(to(3))]);
        waiting.take(Index(1));
        let mut told = Vec::new();
        waiting.drain(&mut |waiter| told.push(waiter));
        assert_eq!(told, [to(2), to(3)]);
    }

    /// What a newer leader replaced, and nothing else, is lost; later entries find their own waiters.
    #[test]
    fn a_cut_takes_those_behind_it() {
        let mut waiting = Waiting::default();
        waiting.push(
            Index(1),
            Millis(5),
            vec![Some(to(1)), Some(to(2)), Some(to(3))],
        );
        waiting.push(Index(4), Millis(6), vec![Some(to(4))]);
        let mut lost = Vec::new();
        waiting.cut_from(Index(2), &mut |waiter| lost.push(waiter));
        lost.sort_unstable_by_key(|it| it.stream);
        assert_eq!(lost, [to(2), to(3), to(4)]);
        waiting.push(Index(3), Millis(7), vec![Some(to(5))]);
        let mut late = Vec::new();
        let is_late = |since| since < Millis(7);
        waiting.take_late(is_late, &mut |waiter, since| late.push((waiter, since)));
        assert_eq!(late, [(to(1), Millis(5))]);
        assert_eq!(waiting.take(Index(1)), None);
        assert_eq!(waiting.take(Index(3)), Some(to(5)));
        assert_eq!(waiting.count(), 0);
    }
}
