use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use crate::limits::HOLDS_MAX;

/// Keeps compaction from dropping what a read at its floor, or above, can still need. Held by
/// whatever goes on after its pin: sliced reads, hashes, checkpoints. Who holds one gives it up
/// after a time cap.
pub struct Hold {
    holds: Arc<Holds>,
    place: usize,
}

/// Why there is no hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldRefused {
    /// Compaction has begun to drop what lies below a later revision. A read there is `Compacted`;
    /// a job may pin anew and try again.
    Swept,
    /// `HOLDS_MAX` are taken.
    Full,
}

/// All holds of a store.
pub(super) struct Holds {
    /// The floor of each place; `FREE` if it is not taken.
    floors: Box<[AtomicI64]>,
    /// The compacted revision that the last sweep began with: nothing is dropped that a read there
    /// needs.
    swept: AtomicI64,
    /// Where the next search for a free place begins.
    next: AtomicUsize,
}

impl Holds {
    pub(super) fn new(swept: i64) -> Self {
        let floors = (0..HOLDS_MAX).map(|_| AtomicI64::new(FREE)).collect();
        Self {
            floors,
            swept: AtomicI64::new(swept),
            next: AtomicUsize::new(0),
        }
    }

    pub(super) fn take(self: &Arc<Self>, floor: i64) -> Result<Hold, HoldRefused> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for step in 0..HOLDS_MAX {
            let place = first.wrapping_add(step) % HOLDS_MAX;
            // SeqCst here and below: either this load of `swept` sees a sweep that began, or that
            // sweep sees the floor.
            let taken = self.floors[place].compare_exchange(
                FREE,
                floor,
                Ordering::SeqCst,
                Ordering::Relaxed,
            );
            if taken.is_ok() {
                let hold = Hold {
                    holds: Arc::clone(self),
                    place,
                };
                let is_swept = self.swept.load(Ordering::SeqCst) > floor;
                return if is_swept {
                    Err(HoldRefused::Swept)
                } else {
                    Ok(hold)
                };
            }
        }
        Err(HoldRefused::Full)
    }

    /// Whether everything that only reads below `rev` need may be dropped from now on. If not, a
    /// hold is in the way; ask again.
    pub(super) fn begin_sweep(&self, rev: i64) -> bool {
        let before = self.swept.swap(rev, Ordering::SeqCst);
        let is_free = self
            .floors
            .iter()
            .all(|floor| floor.load(Ordering::SeqCst) >= rev);
        if !is_free {
            self.swept.store(before, Ordering::SeqCst);
        }
        is_free
    }
}

impl Hold {
    /// Gives up what only reads below `floor` need, which is not below the floor so far.
    pub fn raise(&mut self, floor: i64) {
        self.holds.floors[self.place].store(floor, Ordering::SeqCst);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds.floors[self.place].store(FREE, Ordering::SeqCst);
    }
}

const FREE: i64 = i64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    /// A read in flight at 5 keeps what compaction at 7 would drop; one at 7 does not.
    #[test]
    fn a_hold_below_the_revision_delays_a_sweep_until_it_is_dropped() {
        let holds = Arc::new(Holds::new(-1));
        let low = holds.take(5).unwrap();
        let high = holds.take(7).unwrap();
        assert!(!holds.begin_sweep(7));
        drop(low);
        assert!(holds.begin_sweep(7));
        assert_eq!(holds.take(6).err(), Some(HoldRefused::Swept));
        assert!(holds.take(7).is_ok());
        drop(high);
    }

    /// The registry is bounded: one read too many is refused, not queued.
    #[test]
    fn holds_are_refused_when_all_places_are_taken() {
        let holds = Arc::new(Holds::new(-1));
        let all: Vec<Hold> = (0..HOLDS_MAX).map(|_| holds.take(1).unwrap()).collect();
        assert_eq!(holds.take(1).err(), Some(HoldRefused::Full));
        drop(all);
        assert!(holds.take(1).is_ok());
    }
}
