//! A hierarchical timing wheel: 64 slots a level, each level 64 times coarser than the one below. Setting and clearing a timer
//! costs the same whatever their number; the nodes are linked through one array, so that it allocates nothing per timer.

use super::grants::Slot;
use crate::types::Millis;

/// One timer for each lease slot at most.
#[derive(Debug)]
pub(super) struct Wheel {
    /// Ticks that are over: no timer before them is left.
    elapsed: u64,
    levels: [Level; LEVELS],
    /// By lease slot.
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    /// One bit for each place that holds a timer.
    occupied: u64,
    /// The first timer of each place.
    heads: [u32; PLACES],
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// The tick that it is due at.
    tick: u64,
    previous: u32,
    next: u32,
    level: u8,
    place: u8,
}

impl Wheel {
    pub(super) fn new() -> Self {
        let empty = Level {
            occupied: 0,
            heads: [NIL; PLACES],
        };
        Self {
            elapsed: 0,
            levels: [empty; LEVELS],
            nodes: Vec::new(),
        }
    }

    /// Sets the timer of `slot`, which must not be set, to `due` or up to a tick later.
    pub(super) fn set(&mut self, slot: Slot, due: Millis) {
        let at = slot.0 as usize;
        if self.nodes.len() <= at {
            self.nodes.resize(at + 1, UNSET);
        }
        assert!(self.nodes[at].level == UNSET.level);
        self.link(slot.0, due.0.div_ceil(TICK_MS).min(TICK_MAX));
    }

    /// Clears the timer of `slot`, if it is set.
    pub(super) fn clear(&mut self, slot: Slot) {
        let is_set = |node: &Node| node.level != UNSET.level;
        if self.nodes.get(slot.0 as usize).is_some_and(is_set) {
            self.unlink(slot.0);
        }
    }

    /// Takes a timer that is due, or moves one closer to its end: the caller bounds how often it calls. `None`: nothing more is
    /// due at `now`.
    pub(super) fn pop(&mut self, now: Millis) -> Option<Popped> {
        let now = (now.0 / TICK_MS).min(TICK_MAX);
        let Some((level, place, tick)) = self.first().filter(|(_, _, tick)| *tick <= now) else {
            self.elapsed = self.elapsed.max(now);
            return None;
        };
        // A place that begins before `elapsed` has begun already.
        self.elapsed = self.elapsed.max(tick);
        let at = self.levels[level].heads[place];
        assert!(at != NIL);
        let due = self.nodes[at as usize].tick;
        self.unlink(at);
        if due <= now {
            return Some(Popped::Due(Slot(at)));
        }
        self.link(at, due);
        Some(Popped::Moved)
    }

    /// When to call `pop` again at the latest; at or before the first timer's time.
    pub(super) fn wake(&self) -> Option<Millis> {
        let (_, _, tick) = self.first()?;
        Some(Millis(tick.max(self.elapsed) * TICK_MS))
    }

    /// The first place that holds a timer, and the tick that it begins at. All levels are looked at: what was taken out of a coarse
    /// place may stand in a finer one before that is empty.
    fn first(&self) -> Option<(usize, usize, u64)> {
        let levels = self.levels.iter().enumerate();
        let firsts = levels.filter(|(_, level)| level.occupied != 0);
        let firsts = firsts.map(|(level, Level { occupied, .. })| {
            // No timer is behind `elapsed`, so the lowest bit that is set is the next place.
            let place = occupied.trailing_zeros() as usize;
            let shift = level as u32 * PLACE_BITS;
            let above = u64::MAX << (shift + PLACE_BITS);
            let tick = (self.elapsed & above) | ((place as u64) << shift);
            (level, place, tick)
        });
        firsts.min_by_key(|(_, _, tick)| *tick)
    }

    fn link(&mut self, at: u32, tick: u64) {
        let tick = tick.max(self.elapsed);
        // The highest place in which it differs from `elapsed`: there its way begins.
        let differing = (tick ^ self.elapsed) | 1;
        let level = (differing.ilog2() / PLACE_BITS) as usize;
        let place = (tick >> (level as u32 * PLACE_BITS)) as usize % PLACES;
        let next = self.levels[level].heads[place];
        if next != NIL {
            self.nodes[next as usize].previous = at;
        }
        self.levels[level].heads[place] = at;
        self.levels[level].occupied |= 1 << place;
        self.nodes[at as usize] = Node {
            tick,
            previous: NIL,
            next,
            level: level as u8,
            place: place as u8,
        };
    }

    fn unlink(&mut self, at: u32) {
        let Node {
            previous,
            next,
            level,
            place,
            ..
        } = std::mem::replace(&mut self.nodes[at as usize], UNSET);
        if next != NIL {
            self.nodes[next as usize].previous = previous;
        }
        if previous != NIL {
            self.nodes[previous as usize].next = next;
            return;
        }
        let level = &mut self.levels[level as usize];
        level.heads[place as usize] = next;
        if next == NIL {
            level.occupied &= !(1 << place);
        }
    }
}

/// What [`Wheel::pop`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Popped {
    /// This timer is due and not set any more.
    Due(Slot),
    /// One is closer to its end.
    Moved,
}

/// A timer that is not set.
const UNSET: Node = Node {
    tick: 0,
    previous: NIL,
    next: NIL,
    level: u8::MAX,
    place: 0,
};
const NIL: u32 = u32::MAX;

/// What a lease may live longer than it was told: far below the half second of etcd.
const TICK_MS: u64 = 16;
const PLACE_BITS: u32 = 6;
const PLACES: usize = 1 << PLACE_BITS;
const LEVELS: usize = 7;

/// 2,000 years: later timers are set to this, and whoever set them looks again.
const TICK_MAX: u64 = (1 << (LEVELS as u32 * PLACE_BITS)) - 1;

const _: () = assert!(TICK_MAX / 1000 * TICK_MS > crate::limits::LEASE_TTL_MAX as u64);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::btree_map::Entry;

    use super::*;

    fn due(wheel: &mut Wheel, now: u64) -> Vec<u32> {
        let mut due = Vec::new();
        while let Some(popped) = wheel.pop(Millis(now)) {
            if let Popped::Due(Slot(slot)) = popped {
                due.push(slot);
            }
        }
        due.sort_unstable();
        due
    }

    /// Against a map of times, over ten levels of magnitude: a timer is due when its time has come and a tick later at the
    /// latest, and the wheel asks to be woken in time for it.
    #[test]
    fn timers_are_due_in_time_and_never_early() {
        let (mut wheel, mut model) = (Wheel::new(), BTreeMap::new());
        let mut random = 7u64;
        let mut draw = |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % below
        };
        let mut now = 0;
        for round in 0..20_000 {
            let (slot, shift) = (draw(50) as u32, draw(31));
            if draw(4) == 0 {
                model.remove(&slot);
                wheel.clear(Slot(slot));
            } else if let Entry::Vacant(place) = model.entry(slot) {
                let at = now + draw(1 << shift);
                place.insert(at);
                wheel.set(Slot(slot), Millis(at));
            }
            if let Some(wake) = wheel.wake() {
                let first = model.values().min().expect("a timer is set");
                assert!(wake.0 <= (first / TICK_MS + 1) * TICK_MS, "round {round}");
            }
            now += match draw(8) {
                0 => draw(1 << shift),
                _ => draw(100),
            };
            for slot in due(&mut wheel, now) {
                let at = model.remove(&slot).expect("it is set");
                assert!(at <= now, "round {round}");
            }
            let is_late = |at: &u64| at + TICK_MS <= now;
            assert!(!model.values().any(is_late), "round {round}");
        }
        assert!(due(&mut wheel, u64::MAX).len() == model.len());
        assert_eq!(wheel.wake(), None);
    }

    /// A lease of the longest time to live, and one beyond all bounds, must not wrap around to now.
    #[test]
    fn the_longest_times_are_not_short() {
        let mut wheel = Wheel::new();
        wheel.set(Slot(0), Millis(9_000_000_000_000));
        wheel.set(Slot(3), Millis(u64::MAX));
        assert!(due(&mut wheel, 8_999_999_999_999).is_empty());
        assert_eq!(due(&mut wheel, 9_000_000_000_015), [0]);
        assert_eq!(due(&mut wheel, TICK_MAX * TICK_MS), [3]);
    }
}
