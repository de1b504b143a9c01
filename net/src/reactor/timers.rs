use std::time::{Duration, Instant};

use crate::limits::{TIMER_SLOTS, TIMER_TICK};

/// One coarse timer per connection, in a ring of lists threaded through the slots' own links: no allocation to move one.
///
/// A timer never fires before its time, except one that lies further ahead than the ring is long: its owner hears early and
/// arms it again. It fires at most one tick late.
#[derive(Debug)]
pub(super) struct Wheel {
    start: Instant,
    /// Every tick up to this one has been fired.
    fired: u64,
    heads: Vec<u32>,
    /// Indexed by connection.
    links: Vec<Link>,
    armed: usize,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
    /// The tick it fires at; `IDLE` when it is in no list.
    tick: u64,
}

const NONE: u32 = u32::MAX;
const IDLE: u64 = u64::MAX;

impl Wheel {
    pub(super) fn new(now: Instant) -> Wheel {
        Wheel {
            start: now,
            fired: 0,
            heads: vec![NONE; TIMER_SLOTS],
            links: Vec::new(),
            armed: 0,
        }
    }

    /// Fires for connection `index` at `at` or a little later; an earlier time that is already armed stays.
    pub(super) fn arm_earlier(&mut self, index: u32, at: Instant) {
        let ahead = at
            .saturating_duration_since(self.start)
            .as_nanos()
            .div_ceil(TIMER_TICK.as_nanos()) as u64;
        let tick = ahead.clamp(self.fired + 1, self.fired + TIMER_SLOTS as u64 - 1);
        if self.links.len() <= index as usize {
            self.links.resize(
                index as usize + 1,
                Link {
                    previous: NONE,
                    next: NONE,
                    tick: IDLE,
                },
            );
        }
        if self.links[index as usize].tick <= tick {
            return;
        }
        self.cancel(index);
        let head = &mut self.heads[(tick % TIMER_SLOTS as u64) as usize];
        let next = std::mem::replace(head, index);
        self.links[index as usize] = Link {
            previous: NONE,
            next,
            tick,
        };
        if next != NONE {
            self.links[next as usize].previous = index;
        }
        self.armed += 1;
    }

    pub(super) fn cancel(&mut self, index: u32) {
        let Some(link) = self
            .links
            .get_mut(index as usize)
            .filter(|link| link.tick != IDLE)
        else {
            return;
        };
        let Link {
            previous,
            next,
            tick,
        } = *link;
        link.tick = IDLE;
        match previous {
            NONE => self.heads[(tick % TIMER_SLOTS as u64) as usize] = next,
            previous => self.links[previous as usize].next = next,
        }
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
        self.armed -= 1;
    }

    /// When the next timer fires.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.armed == 0 {
            return None;
        }
        let tick = (self.fired + 1..self.fired + TIMER_SLOTS as u64)
            .find(|tick| self.heads[(tick % TIMER_SLOTS as u64) as usize] != NONE)?;
        Some(self.start + Duration::from_nanos(tick.saturating_mul(TIMER_TICK.as_nanos() as u64)))
    }

    /// Appends the connections whose time has come, and disarms them.
    pub(super) fn fire(&mut self, now: Instant, due: &mut Vec<u32>) {
        let now_tick =
            (now.saturating_duration_since(self.start).as_nanos() / TIMER_TICK.as_nanos()) as u64;
        if self.armed == 0 {
            self.fired = self.fired.max(now_tick);
            return;
        }
        while self.fired < now_tick && self.armed > 0 {
            self.fired += 1;
            let slot = (self.fired % TIMER_SLOTS as u64) as usize;
            while self.heads[slot] != NONE {
                let index = self.heads[slot];
                self.cancel(index);
                due.push(index);
            }
        }
        self.fired = self.fired.max(now_tick);
    }
}

/// The ring must be longer than the shortest deadline is fine-grained.
const _: () =
    assert!(TIMER_SLOTS as u128 * TIMER_TICK.as_millis() >= Duration::from_secs(5).as_millis());

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(wheel: &mut Wheel, now: Instant) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.fire(now, &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn a_timer_fires_once_not_early_and_at_most_a_tick_late() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let at = start + TIMER_TICK * 7 / 2;
        wheel.arm_earlier(3, at);
        assert_eq!(fired(&mut wheel, at), []);
        assert!(
            wheel
                .next()
                .is_some_and(|next| next >= at && next <= at + TIMER_TICK)
        );
        assert_eq!(fired(&mut wheel, at + TIMER_TICK), [3]);
        assert_eq!(fired(&mut wheel, at + TIMER_TICK * 9), []);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn the_earlier_time_wins_and_a_cancelled_one_is_silent() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        for index in 0..4 {
            wheel.arm_earlier(index, start + TIMER_TICK * 10);
        }
        wheel.arm_earlier(1, start + TIMER_TICK * 2);
        wheel.arm_earlier(1, start + TIMER_TICK * 20);
        wheel.cancel(2);
        assert_eq!(fired(&mut wheel, start + TIMER_TICK * 3), [1]);
        assert_eq!(fired(&mut wheel, start + TIMER_TICK * 11), [0, 3]);
    }

    #[test]
    fn a_time_beyond_the_ring_is_heard_early_and_can_be_armed_again() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let far = start + TIMER_TICK * (TIMER_SLOTS as u32 * 2);
        wheel.arm_earlier(0, far);
        let early = wheel.next().unwrap();
        assert!(early < far);
        assert_eq!(fired(&mut wheel, early), [0]);
        wheel.arm_earlier(0, far);
        assert!(wheel.next().is_some_and(|next| next > early));
    }

    /// A member that has run for years would otherwise never sleep again.
    #[test]
    fn the_next_timer_lies_ahead_also_after_years() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let late = start + Duration::from_secs(3 * 365 * 24 * 60 * 60);
        assert_eq!(fired(&mut wheel, late), []);
        wheel.arm_earlier(0, late + TIMER_TICK * 3);
        assert!(wheel.next().is_some_and(|next| next > late));
    }

    #[test]
    fn a_long_sleep_fires_everything_that_was_due() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        for index in 0..100 {
            wheel.arm_earlier(index, start + TIMER_TICK * index);
        }
        assert_eq!(fired(&mut wheel, start + TIMER_TICK * 10_000).len(), 100);
        wheel.arm_earlier(5, start + TIMER_TICK * 10_001);
        assert_eq!(fired(&mut wheel, start + TIMER_TICK * 10_001), [5]);
    }
}
