//! The leader's clock. Only it counts time, so only it says when a lease ends; on every other member none ever does.

use super::grants::{Change, Grants, Lease, Slot};
use super::wheel::{Popped, Wheel};
use crate::limits::{
    LEASE_CHECKPOINT_MS, LEASE_CHECKPOINTS_MAX, LEASE_REVOKE_RETRY_MS, LEASE_REVOKES_MAX,
    LEASE_TIMERS_A_TURN,
};
use crate::types::{LeaseId, Millis};

/// When leases end, on a member that leads; otherwise it knows of no time.
#[derive(Debug)]
pub struct Lessor {
    primary: Option<Primary>,
    wheel: Wheel,
    /// By lease slot.
    clocks: Vec<Clock>,
    /// Leases whose revoke is on its way.
    revoking: usize,
    /// When the last of them was proposed.
    proposed: Millis,
}

#[derive(Clone, Copy, Debug)]
struct Primary {
    /// When its time began.
    since: Millis,
    /// What it adds to each lease that was there before, as it does not know when that was renewed last.
    extend: Millis,
    /// Slots from here on may hold leases that were there before and have no deadline yet.
    next: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    state: State,
    /// Never moves back while the lease lives, so that a timer that was set for it is never late.
    deadline: Millis,
    /// When its rest goes into the log, if it lives that long.
    checkpoint: Millis,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// It has no deadline and no timer.
    #[default]
    Unknown,
    Runs,
    /// Its time is over, and that was proposed.
    Revoking,
}

/// What goes into the log.
#[derive(Debug, Default)]
pub struct Due {
    /// Leases whose time is over, with their generations.
    pub revokes: Vec<(LeaseId, u64)>,
    /// Leases that live long, and the seconds that they have left.
    pub checkpoints: Vec<(LeaseId, i64)>,
}

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It lives so many seconds from now on.
    Renewed(i64),
    /// There is no such lease.
    Missing,
    /// Its time is over; it is gone once that has come back from the log.
    Over,
    /// A checkpoint says that less is left. That must be taken back in the log first, or the next leader would end it early.
    Shortened,
}

impl Lessor {
    /// Knows of no time.
    #[must_use]
    pub fn new() -> Self {
        Self {
            primary: None,
            wheel: Wheel::new(),
            clocks: Vec::new(),
            revoking: 0,
            proposed: Millis(0),
        }
    }

    /// Whether it counts time.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.primary.is_some()
    }

    /// Begins to count: every lease gets what the log says is left of it and `extend`. Done in slices by `poll`, which sets the
    /// same deadlines whenever it comes to them.
    pub fn promote(&mut self, now: Millis, extend: Millis) {
        assert!(self.primary.is_none());
        self.primary = Some(Primary {
            since: now,
            extend,
            next: 0,
        });
    }

    /// Forgets all deadlines.
    pub fn demote(&mut self) {
        *self = Self::new();
    }

    /// An entry has changed `grants`.
    pub fn on_change(&mut self, change: Change, now: Millis) {
        match change {
            Change::Granted { slot, ttl } if self.is_primary() => self.start(slot, now, ttl),
            Change::Revoked { slot, .. } if self.is_primary() => {
                self.wheel.clear(slot);
                if let Some(clock) = self.clocks.get_mut(slot.0 as usize) {
                    self.revoking -= usize::from(clock.state == State::Revoking);
                    *clock = Clock::default();
                }
            }
            Change::Granted { .. } | Change::Revoked { .. } | Change::Checkpointed { .. } => {}
        }
    }

    /// Renews `id`; for a leader that is sure of being it.
    pub fn renew(&mut self, grants: &Grants, id: LeaseId, now: Millis) -> Renewal {
        let Some((slot, lease)) = grants.get(id) else {
            return Renewal::Missing;
        };
        if self.deadline(slot, lease) <= now {
            return Renewal::Over;
        }
        if lease.remaining > 0 {
            return Renewal::Shortened;
        }
        if self.state(slot) == State::Unknown {
            self.take_over(slot, lease);
        }
        let clock = &mut self.clocks[slot.0 as usize];
        clock.deadline = clock.deadline.max(now.plus(millis(lease.ttl)));
        clock.checkpoint = now.plus(Millis(LEASE_CHECKPOINT_MS));
        Renewal::Renewed(lease.ttl)
    }

    /// What is left of a lease; `None` if this is not the leader's. 0: its time is over.
    #[must_use]
    pub fn left(&self, slot: Slot, lease: &Lease, now: Millis) -> Option<Millis> {
        self.is_primary()
            .then(|| self.deadline(slot, lease).since(now))
    }

    /// The deadlines of these slots, the highest number where there is none or this is not the leader's.
    pub fn deadlines(
        &self,
        grants: &Grants,
        slots: core::ops::Range<u32>,
    ) -> impl Iterator<Item = Millis> {
        slots.map(Slot).map(|slot| match self.is_primary() {
            true => self.deadline(slot, grants.at(slot)),
            false => Millis(u64::MAX),
        })
    }

    /// Looks at what is due at `now` and adds what must go into the log to `due`, each lease once; a bounded number of them, so
    /// call again while `wake` says now. For a leader that is sure of being it.
    pub fn poll(&mut self, grants: &Grants, now: Millis, due: &mut Due) {
        let mut left = self.take_over_some(grants);
        let is_lost = now >= self.retry();
        while left > 0 && (self.revoking < LEASE_REVOKES_MAX || is_lost) {
            left -= 1;
            match self.wheel.pop(now) {
                Some(Popped::Due(slot)) => self.on_timer(slot, grants.at(slot), now, due),
                Some(Popped::Moved) => {}
                None => return,
            }
            if due.checkpoints.len() == LEASE_CHECKPOINTS_MAX
                || due.revokes.len() == LEASE_REVOKES_MAX
            {
                return;
            }
        }
    }

    /// When `poll` has something to do at the latest. While `LEASE_REVOKES_MAX` are on their way, that is when they come back.
    #[must_use]
    pub fn wake(&self, grants: &Grants) -> Option<Millis> {
        let primary = self.primary?;
        if primary.next < grants.slots_end() {
            return Some(primary.since);
        }
        let wake = self.wheel.wake()?;
        match self.revoking < LEASE_REVOKES_MAX {
            true => Some(wake),
            false => Some(wake.max(self.retry())),
        }
    }

    /// When what is on its way must be taken for lost.
    fn retry(&self) -> Millis {
        self.proposed.plus(Millis(LEASE_REVOKE_RETRY_MS))
    }

    fn on_timer(&mut self, slot: Slot, lease: &Lease, now: Millis, due: &mut Due) {
        let clock = &mut self.clocks[slot.0 as usize];
        assert!(clock.state != State::Unknown);
        if clock.deadline <= now {
            due.revokes.push((lease.id, lease.generation));
            self.revoking += usize::from(clock.state != State::Revoking);
            clock.state = State::Revoking;
            self.proposed = now;
            // Whatever becomes of the entry: a lease is not forgotten.
            self.wheel
                .set(slot, now.plus(Millis(LEASE_REVOKE_RETRY_MS)));
            return;
        }
        if clock.checkpoint <= now {
            clock.checkpoint = now.plus(Millis(LEASE_CHECKPOINT_MS));
            let left = clock.deadline.since(now);
            if left > Millis(LEASE_CHECKPOINT_MS) {
                due.checkpoints
                    .push((lease.id, left.0.div_ceil(1000) as i64));
            }
        }
        self.wheel.set(slot, clock.deadline.min(clock.checkpoint));
    }

    /// A lease of `ttl` seconds begins now.
    fn start(&mut self, slot: Slot, now: Millis, ttl: i64) {
        let clock = Clock {
            state: State::Runs,
            deadline: now.plus(millis(ttl)),
            checkpoint: now.plus(Millis(LEASE_CHECKPOINT_MS)),
        };
        self.set(slot, clock);
    }

    /// A lease that was there before this leader's time gets its deadline.
    fn take_over(&mut self, slot: Slot, lease: &Lease) {
        let since = self.primary.map_or(Millis(0), |primary| primary.since);
        let clock = Clock {
            state: State::Runs,
            deadline: self.deadline(slot, lease),
            checkpoint: since.plus(Millis(LEASE_CHECKPOINT_MS)),
        };
        self.set(slot, clock);
    }

    fn set(&mut self, slot: Slot, clock: Clock) {
        let at = slot.0 as usize;
        if self.clocks.len() <= at {
            self.clocks.resize(at + 1, Clock::default());
        }
        assert!(self.clocks[at].state == State::Unknown);
        self.clocks[at] = clock;
        self.wheel.set(slot, clock.deadline.min(clock.checkpoint));
    }

    /// Does a slice of what `promote` began; answers how many more timers may be looked at.
    fn take_over_some(&mut self, grants: &Grants) -> usize {
        let Some(primary) = self.primary else {
            return 0;
        };
        let end = grants.slots_end();
        let slots = primary.next..end.min(primary.next + LEASE_TIMERS_A_TURN as u32);
        for slot in slots.clone().map(Slot) {
            let lease = grants.at(slot);
            if lease.id != LeaseId(0) && self.state(slot) == State::Unknown {
                self.take_over(slot, lease);
            }
        }
        self.primary = Some(Primary {
            next: slots.end,
            ..primary
        });
        LEASE_TIMERS_A_TURN - slots.len()
    }

    fn state(&self, slot: Slot) -> State {
        let clock = self.clocks.get(slot.0 as usize);
        clock.map_or(State::Unknown, |clock| clock.state)
    }

    /// The deadline of a lease that exists, for the leader.
    fn deadline(&self, slot: Slot, lease: &Lease) -> Millis {
        match (self.clocks.get(slot.0 as usize), self.primary) {
            (Some(clock), _) if clock.state != State::Unknown => clock.deadline,
            (_, Some(primary)) => primary
                .since
                .plus(millis(lease.rest()))
                .plus(primary.extend),
            (_, None) => Millis(u64::MAX),
        }
    }
}

impl Default for Lessor {
    fn default() -> Self {
        Self::new()
    }
}

/// What was granted is at most `LEASE_TTL_MAX`; what a snapshot or a checkpoint says may be anything.
fn millis(seconds: i64) -> Millis {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Millis(seconds.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rig {
        grants: Grants,
        lessor: Lessor,
        changes: Vec<Change>,
    }

    impl Rig {
        fn primary() -> Self {
            let mut lessor = Lessor::new();
            lessor.promote(Millis(0), Millis(1000));
            Self {
                grants: Grants::default(),
                lessor,
                changes: Vec::new(),
            }
        }

        fn grant(&mut self, id: i64, ttl: i64, now: u64) {
            self.grants.insert(Lease {
                id: LeaseId(id),
                ttl,
                remaining: 0,
                generation: 3,
            });
            self.tell(now);
        }

        fn revoke(&mut self, id: i64, now: u64) {
            self.grants.remove(LeaseId(id));
            self.tell(now);
        }

        fn tell(&mut self, now: u64) {
            self.grants.take_changes(&mut self.changes);
            for change in self.changes.drain(..) {
                self.lessor.on_change(change, Millis(now));
            }
        }

        fn renew(&mut self, id: i64, now: u64) -> Renewal {
            self.lessor.renew(&self.grants, LeaseId(id), Millis(now))
        }

        /// Everything that is due, by id.
        fn poll(&mut self, now: u64) -> (Vec<i64>, Vec<(i64, i64)>) {
            let mut due = Due::default();
            self.lessor.poll(&self.grants, Millis(now), &mut due);
            let revokes = due.revokes.iter().map(|(id, _)| id.0).collect();
            let checkpoints = due.checkpoints.iter().map(|(id, left)| (id.0, *left));
            (revokes, checkpoints.collect())
        }
    }

    /// [LEASE-5] A lease ends when nobody has renewed it for its time, once, and not before.
    #[test]
    fn a_lease_ends_after_its_time_since_the_last_renewal() {
        let mut rig = Rig::primary();
        rig.grant(1, 10, 0);
        assert_eq!(rig.poll(9_999), (vec![], vec![]));
        assert_eq!(rig.renew(1, 9_999), Renewal::Renewed(10));
        assert_eq!(rig.poll(10_100), (vec![], vec![]));
        assert_eq!(rig.poll(19_998), (vec![], vec![]));
        assert_eq!(rig.renew(1, 19_999), Renewal::Over);
        assert_eq!(rig.poll(20_015), (vec![1], vec![]));
        // On its way, and proposed again only if it does not come back.
        assert_eq!(rig.poll(20_100), (vec![], vec![]));
        assert_eq!(rig.poll(30_100), (vec![1], vec![]));
        rig.revoke(1, 30_100);
        assert_eq!(rig.renew(1, 30_100), Renewal::Missing);
        assert_eq!(rig.poll(100_000), (vec![], vec![]));
        assert_eq!(rig.lessor.wake(&rig.grants), None);
    }

    /// [LEASE-6] A new leader does not know who renewed what: nothing ends before the rest that the log knows and one election.
    #[test]
    fn a_new_leader_gives_each_lease_its_rest_and_an_election() {
        let mut rig = Rig::primary();
        rig.lessor.demote();
        rig.grant(1, 10, 0);
        rig.grant(2, 3600, 0);
        rig.grants.checkpoint(LeaseId(2), 20);
        rig.tell(0);
        assert_eq!(rig.poll(1_000_000), (vec![], vec![]));
        rig.lessor.promote(Millis(5_000), Millis(1000));
        assert_eq!(rig.lessor.wake(&rig.grants), Some(Millis(5_000)));
        assert_eq!(rig.poll(15_999), (vec![], vec![]));
        assert_eq!(rig.poll(16_016), (vec![1], vec![]));
        rig.revoke(1, 16_016);
        assert_eq!(rig.poll(25_999), (vec![], vec![]));
        assert_eq!(rig.renew(2, 25_999), Renewal::Shortened);
        assert_eq!(rig.poll(26_016), (vec![2], vec![]));
    }

    /// [LEASE-7] The rest of a long lease is logged every five minutes, and not while it is renewed in between.
    #[test]
    fn long_leases_are_checkpointed() {
        let mut rig = Rig::primary();
        rig.grant(1, 1000, 0);
        assert_eq!(rig.poll(300_016), (vec![], vec![(1, 700)]));
        rig.grants.checkpoint(LeaseId(1), 700);
        rig.tell(300_016);
        assert_eq!(rig.renew(1, 400_000), Renewal::Shortened);
        rig.grants.checkpoint(LeaseId(1), 0);
        rig.tell(400_000);
        assert_eq!(rig.renew(1, 400_000), Renewal::Renewed(1000));
        assert_eq!(rig.poll(600_100), (vec![], vec![]));
        assert_eq!(rig.poll(700_016), (vec![], vec![(1, 700)]));
        assert_eq!(rig.poll(1_000_032).1, [(1, 400)]);
        // Five minutes or less are not worth an entry.
        assert_eq!(rig.poll(1_300_048), (vec![], vec![]));
        assert_eq!(rig.poll(1_400_016), (vec![1], vec![]));
    }

    /// [LEASE-8] Whatever ends at once, only so much of it is on its way through the log.
    #[test]
    fn a_storm_is_cut_into_waves() {
        let mut rig = Rig::primary();
        for id in 1..=3000 {
            rig.grant(id, 2, 0);
        }
        let (mut gone, mut waves) = (0, 0);
        while gone < 3000 {
            let (revokes, _) = rig.poll(2_016);
            assert!(revokes.len() <= LEASE_REVOKES_MAX);
            assert_eq!(rig.poll(2_016), (vec![], vec![]));
            gone += revokes.len();
            waves += 1;
            for id in revokes {
                rig.revoke(id, 2_016);
            }
            assert!(waves < 10);
        }
        assert!(rig.grants.is_empty());
    }
}
