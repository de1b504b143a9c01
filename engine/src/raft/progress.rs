//! How far one other member has come, as its leader sees it.

use super::inflights::Inflights;
use crate::types::{Index, Millis};

/// One member's progress in this leader's term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Progress {
    /// Highest entry known durable there. matched < next.
    pub(super) matched: Index,
    /// The entry to send next.
    pub(super) next: Index,
    pub(super) state: State,
    /// When it was last heard of.
    pub(super) heard: Millis,
    /// The commit mark that it was sent last.
    pub(super) commit_sent: Index,
    /// The newest round of reads that it has answered.
    pub(super) round: u64,
}

/// How entries are sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    /// Where the logs agree is not known: one message at a time.
    Probe {
        /// One is under way.
        is_paused: bool,
    },
    /// They agree at `matched`: messages follow each other without waiting.
    Replicate(Inflights),
    /// It needs entries that are gone here.
    Snapshot,
}

impl Progress {
    /// Nothing is known but that the leader's log ends before `next`.
    pub(super) fn new(next: Index, now: Millis) -> Self {
        Self {
            matched: Index(0),
            next,
            state: State::Probe { is_paused: false },
            heard: now,
            commit_sent: Index(0),
            round: 0,
        }
    }

    /// It durably holds everything up to `matched`. True: that is news.
    pub(super) fn on_appended(&mut self, matched: Index) -> bool {
        let is_news = matched > self.matched;
        self.matched = self.matched.max(matched);
        self.next = self.next.max(matched.next());
        match &mut self.state {
            State::Replicate(inflights) => inflights.free_to(matched),
            State::Probe { .. } if matched.next() >= self.next => self.replicate(),
            // It caught up by other means.
            State::Snapshot if is_news => self.state = State::Probe { is_paused: false },
            State::Probe { .. } | State::Snapshot => {}
        }
        is_news
    }

    /// It does not hold `previous`; `agreed` is the highest entry that both may have.
    pub(super) fn on_rejected(&mut self, previous: Index, agreed: Index) {
        match self.state {
            State::Probe { .. } if previous == self.next.previous() => {
                // It may even have lost what it once had: then it does not count any more.
                self.matched = self.matched.min(agreed);
                self.next = agreed.next().min(previous).max(self.matched.next());
                self.state = State::Probe { is_paused: false };
            }
            // A message before it was lost.
            State::Replicate(_) => self.probe(),
            // Late.
            State::Probe { .. } | State::Snapshot => {}
        }
    }

    /// Its process is gone: what was on the way is lost.
    pub(super) fn on_unreachable(&mut self) {
        if matches!(self.state, State::Replicate(_)) {
            self.probe();
        }
    }

    /// Finds out anew where the logs agree.
    fn probe(&mut self) {
        self.next = self.matched.next();
        self.commit_sent = Index(0);
        self.state = State::Probe { is_paused: false };
    }

    fn replicate(&mut self) {
        self.next = self.matched.next();
        self.state = State::Replicate(Inflights::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probing(next: u64) -> Progress {
        Progress::new(Index(next), Millis(0))
    }

    /// A follower that is behind must be found in few steps, and never be sent what it has.
    #[test]
    fn rejections_lead_to_where_the_logs_agree() {
        let mut progress = probing(10);
        progress.on_rejected(Index(9), Index(4));
        assert_eq!(progress.next, Index(5));
        assert!(progress.on_appended(Index(4)));
        assert!(matches!(progress.state, State::Replicate(_)));
        // A late copy of the first rejection.
        progress.on_rejected(Index(9), Index(4));
        assert_eq!((progress.matched, progress.next), (Index(4), Index(5)));
        assert!(!progress.on_appended(Index(3)));
    }

    /// D3: what a follower has lost must not be counted for a majority.
    #[test]
    fn a_follower_that_lost_its_log_does_not_count() {
        let mut progress = probing(10);
        progress.on_appended(Index(9));
        progress.on_rejected(Index(9), Index(2));
        assert_eq!(progress.matched, Index(9));
        progress.on_rejected(Index(9), Index(2));
        assert_eq!((progress.matched, progress.next), (Index(2), Index(3)));
    }
}
