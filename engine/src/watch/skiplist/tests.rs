use super::*;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

/// An item that counts those of its kind which were not freed.
struct Counted {
    value: u16,
    /// Tells equal items of different threads apart.
    owner: usize,
    alive: Arc<AtomicUsize>,
}

impl Counted {
    fn new(value: u16, owner: usize, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, SeqCst);
        Self {
            value,
            owner,
            alive: Arc::clone(alive),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        assert!(self.alive.fetch_sub(1, SeqCst) > 0);
    }
}

impl Ranked for Counted {
    type Rank<'a> = u16;

    fn rank(&self) -> u16 {
        self.value
    }

    fn compare(&self, rank: u16) -> Ordering {
        self.value.cmp(&rank)
    }
}

thread_local! {
    /// What a test does at each step of this thread.
    static TURN: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// Lets a test take another thread's turn.
pub(super) fn turn() {
    if let Some(turn) = TURN.get() {
        turn();
    }
}

fn values(list: &SkipList<Counted>, from: u16) -> Vec<u16> {
    let guard = epoch::pin();
    list.from(from, &guard).map(|item| item.value).collect()
}

proptest! {
    /// Alone it is a sorted set.
    #[test]
    fn it_holds_what_a_sorted_set_holds(
        ops in proptest::collection::vec((0..4u8, 0..60u16), 0..400),
    ) {
        let (list, mut model) = (SkipList::new(), BTreeSet::new());
        let alive = Arc::default();
        for (op, value) in ops {
            match op {
                0 | 1 => {
                    let inserted = list.insert(Counted::new(value, 0, &alive)).is_ok();
                    prop_assert_eq!(inserted, model.insert(value));
                }
                2 => {
                    prop_assert!(!list.remove(value, |_| false));
                    prop_assert_eq!(list.remove(value, |_| true), model.remove(&value));
                }
                _ => {
                    let expected: Vec<u16> = model.range(value..).copied().collect();
                    prop_assert_eq!(values(&list, value), expected);
                }
            }
        }
        drop(list);
    }
}

/// Threads that add and remove the same few items: each of their steps takes effect once, and at the end
/// the list holds what was added and not removed.
#[test]
fn many_threads_add_and_remove_and_none_is_lost() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 20_000;
    let list = SkipList::new();
    let alive = Arc::default();
    let balance: Vec<AtomicUsize> = (0..64).map(|_| AtomicUsize::new(0)).collect();
    std::thread::scope(|scope| {
        for owner in 0..THREADS {
            let (list, alive, balance) = (&list, &alive, &balance);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(owner as u64);
                for _ in 0..ROUNDS {
                    let value = random.u16(0..64);
                    match random.u8(0..3) {
                        0 => {
                            if list.insert(Counted::new(value, owner, alive)).is_ok() {
                                balance[usize::from(value)].fetch_add(1, SeqCst);
                            }
                        }
                        1 => {
                            if list.remove(value, |item| item.owner < THREADS) {
                                balance[usize::from(value)].fetch_sub(1, SeqCst);
                            }
                        }
                        _ => {
                            let seen = values(list, value);
                            assert!(seen.is_sorted_by(|a, b| a < b));
                            assert!(seen.iter().all(|it| *it >= value));
                        }
                    }
                }
            });
        }
    });
    let left: Vec<u16> = (0..64)
        .filter(|value| balance[usize::from(*value)].load(SeqCst) == 1)
        .collect();
    assert!(balance.iter().all(|count| count.load(SeqCst) <= 1));
    assert_eq!(values(&list, 0), left);
    drop(list);
    // What was removed is freed once no thread is pinned: a few pins let the epoch go on.
    for _ in 0..100_000 {
        if alive.load(SeqCst) == 0 {
            return;
        }
        epoch::pin().flush();
    }
    panic!("{} items were never freed", alive.load(SeqCst));
}
