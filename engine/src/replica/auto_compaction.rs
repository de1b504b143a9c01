//! Compactions that nobody asks for: when a leader makes them, by etcd's two rules.

use std::collections::VecDeque;

use crate::limits::AUTO_COMPACTION_TIMEOUT_MS;
use crate::types::Millis;

/// Which history goes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// What was superseded this long ago; at least a millisecond.
    Periodic {
        /// How long history stays.
        period: Millis,
    },
    /// All but the newest revisions.
    Revision {
        /// How many of them stay, at least 1.
        retention: i64,
    },
}

/// One member's clockwork for it. It runs on every member, so that a new leader has its window
/// ready, and compacts on the leader alone.
#[derive(Debug)]
pub(super) struct AutoCompactor {
    rule: AutoCompaction,
    /// When it looks again; `None` before it was asked for the first time.
    due: Option<Millis>,
    /// The revisions of the last looks, oldest first: the first is as old as the period, and one look
    /// more once the window is full.
    window: VecDeque<i64>,
    /// How long after a success the next compaction is due: the period for the first one, then an
    /// hour at most.
    interval: Millis,
    last_success: Millis,
    last_revision: i64,
    running: Option<Running>,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    revision: i64,
    since: Millis,
}

/// What became of the compaction under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    TimedOut,
    /// It is refused for now, as every write is.
    Corrupt,
}

/// What the compactor sees of the member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) leads: bool,
    pub(super) is_corrupt: bool,
}

impl AutoCompactor {
    pub(super) fn new(rule: AutoCompaction) -> Self {
        let interval = match rule {
            AutoCompaction::Periodic { period } => period,
            AutoCompaction::Revision { .. } => Millis(0),
        };
        Self {
            rule,
            due: None,
            window: VecDeque::new(),
            interval,
            last_success: Millis(0),
            last_revision: 0,
            running: None,
        }
    }

    pub(super) fn rule(&self) -> AutoCompaction {
        self.rule
    }

    /// The revision to compact at now, if it is time.
    pub(super) fn poll(&mut self, now: Millis, seen: Seen) -> Option<i64> {
        if self.running.is_some() {
            return None;
        }
        match self.due {
            Some(due) if now < due => return None,
            Some(_) if !seen.leads => {}
            Some(_) => {
                if let Some(revision) = self.wanted(now, seen.revision) {
                    self.running = Some(Running {
                        revision,
                        since: now,
                    });
                    return Some(revision);
                }
            }
            None => self.last_success = now,
        }
        self.rest(now, seen.revision);
        None
    }

    /// How the compaction under way ended, if it did: its revision, and how long it took.
    pub(super) fn poll_end(&mut self, now: Millis, seen: Seen) -> Option<(i64, Millis, Ended)> {
        let Running { revision, since } = self.running?;
        let took = now.since(since);
        // Whoever compacted there, it is done: etcd too takes `compacted` for a success.
        let ended = if seen.compacted >= revision {
            Ended::Done
        } else if seen.is_corrupt {
            Ended::Corrupt
        } else if took >= Millis(AUTO_COMPACTION_TIMEOUT_MS) {
            Ended::TimedOut
        } else {
            return None;
        };
        self.running = None;
        if ended == Ended::Done {
            self.last_revision = revision;
            self.last_success = now;
        }
        self.rest(now, seen.revision);
        Some((revision, took, ended))
    }

    /// When it has something to do at the latest, once it was asked.
    pub(super) fn wake(&self) -> Option<Millis> {
        match self.running {
            Some(running) => Some(running.since.plus(Millis(AUTO_COMPACTION_TIMEOUT_MS))),
            None => self.due,
        }
    }

    /// Time between two looks, which is also that between two tries.
    pub(super) fn look_interval(&self) -> Millis {
        match self.rule {
            AutoCompaction::Periodic { period } => {
                Millis((period.0.min(HOUR.0) / LOOKS_A_PERIOD).max(1))
            }
            AutoCompaction::Revision { .. } => REVISION_INTERVAL,
        }
    }

    fn wanted(&mut self, now: Millis, newest: i64) -> Option<i64> {
        match self.rule {
            AutoCompaction::Periodic { period } => {
                let revision = *self.window.front()?;
                if now.since(self.last_success) < self.interval || revision == self.last_revision {
                    return None;
                }
                // Only the first one waits for the whole period.
                self.interval = period.min(HOUR);
                Some(revision)
            }
            AutoCompaction::Revision { retention } => {
                let revision = newest.saturating_sub(retention);
                (revision > 0 && revision != self.last_revision).then_some(revision)
            }
        }
    }

    /// Looks at the revision and waits.
    fn rest(&mut self, now: Millis, revision: i64) {
        if let AutoCompaction::Periodic { period } = self.rule {
            let looks = period.0 / self.look_interval().0 + 1;
            self.window.push_back(revision);
            if self.window.len() as u64 > looks {
                self.window.pop_front();
            }
        }
        self.due = Some(now.plus(self.look_interval()));
    }
}

const HOUR: Millis = Millis(3_600_000);

/// etcd's `revInterval`.
const REVISION_INTERVAL: Millis = Millis(300_000);

/// etcd's `retryDivisor`.
const LOOKS_A_PERIOD: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// A member whose revision grows by one a second, at the looks of its compactor.
    struct Rig {
        compactor: AutoCompactor,
        seen: Seen,
        /// When, and at which revision.
        asked: Vec<(u64, i64)>,
    }

    impl Rig {
        fn new(rule: AutoCompaction) -> Self {
            let seen = Seen {
                revision: 1,
                compacted: -1,
                leads: true,
                is_corrupt: false,
            };
            Self {
                compactor: AutoCompactor::new(rule),
                seen,
                asked: Vec::new(),
            }
        }

        /// Runs until `end`, in seconds; compactions succeed at once if `works`.
        fn run(&mut self, seconds: std::ops::Range<u64>, works: bool) {
            for second in seconds {
                let now = Millis(second * 1000);
                self.seen.revision = 1 + second as i64;
                if let Some(revision) = self.compactor.poll(now, self.seen) {
                    self.asked.push((second, revision));
                    if works {
                        self.seen.compacted = revision;
                    }
                }
                let _ = self.compactor.poll_end(now, self.seen);
            }
        }
    }

    fn periodic(seconds: u64) -> Rig {
        let period = Millis(seconds * 1000);
        Rig::new(AutoCompaction::Periodic { period })
    }

    /// etcd's schedule for ten minutes: nothing in the first ten, then every ten, each time what was the
    /// newest revision eleven minutes ago, as the window is full when it is asked.
    #[test]
    fn a_short_period_compacts_once_a_period() {
        let mut rig = periodic(600);
        rig.run(0..2000, true);
        assert_eq!(rig.asked, [(600, 1), (1200, 541), (1800, 1141)]);
    }

    /// A period of a day is compacted every hour, after the first day.
    #[test]
    fn a_long_period_compacts_once_an_hour() {
        let mut rig = periodic(24 * 3600);
        rig.run(0..27 * 3600, true);
        let day = 24 * 3600;
        let asked = [(day, 1), (day + 3600, 3241), (day + 7200, 6841)];
        assert_eq!(rig.asked, asked);
    }

    /// What was compacted is not compacted again while nothing is written.
    #[test]
    fn a_quiet_store_is_compacted_once() {
        let mut rig = periodic(600);
        rig.run(0..1, true);
        let written = rig.seen;
        for second in 1..5000 {
            if let Some(revision) = rig.compactor.poll(Millis(second * 1000), rig.seen) {
                rig.asked.push((second, revision));
                rig.seen.compacted = revision;
            }
            let _ = rig.compactor.poll_end(Millis(second * 1000), rig.seen);
        }
        assert_eq!(written.revision, 1);
        assert_eq!(rig.asked, [(600, 1)]);
    }

    /// Only a leader compacts; the window goes on, so a new leader does not wait for a period of its own.
    #[test]
    fn a_follower_only_watches() {
        let mut rig = periodic(600);
        rig.seen.leads = false;
        rig.run(0..1000, true);
        assert_eq!(rig.asked, []);
        rig.seen.leads = true;
        rig.run(1000..1100, true);
        assert_eq!(rig.asked, [(1020, 361)]);
    }

    /// A compaction that does not get through is given up and tried again.
    #[test]
    fn a_failure_is_tried_again_after_a_tenth_of_the_period() {
        let mut rig = periodic(600);
        rig.run(0..601, false);
        assert_eq!(rig.asked, [(600, 1)]);
        let timeout = Millis(600_000 + AUTO_COMPACTION_TIMEOUT_MS);
        let ended = rig.compactor.poll_end(timeout, rig.seen);
        let took = Millis(AUTO_COMPACTION_TIMEOUT_MS);
        assert_eq!(ended, Some((1, took, Ended::TimedOut)));
        let seconds = timeout.0 / 1000;
        rig.run(seconds..seconds + 61, true);
        assert_eq!(rig.asked[1..], [(seconds + 60, 1)]);
        rig.run(seconds + 61..seconds + 661, false);
        let at = Millis((seconds + 661) * 1000);
        rig.seen.is_corrupt = true;
        let ended = rig.compactor.poll_end(at, rig.seen);
        assert_eq!(ended, Some((601, Millis(1000), Ended::Corrupt)));
    }

    /// Every five minutes, and never below the first revision.
    #[test]
    fn revisions_are_counted_from_the_newest() {
        let mut rig = Rig::new(AutoCompaction::Revision { retention: 400 });
        rig.run(0..1000, true);
        assert_eq!(rig.asked, [(600, 201), (900, 501)]);
    }
}
