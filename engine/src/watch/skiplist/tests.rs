use super::*;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

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

    fn rank(entry: Entry<'_, Self>) -> u16 {
        entry.item().value
    }

    fn compare(entry: Entry<'_, Self>, rank: u16) -> Ordering {
        entry.item().value.cmp(&rank)
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

/// Adds an item with words and bytes that tell it, if its value is not there.
fn insert(list: &SkipList<Counted>, item: Counted) -> bool {
    let value = item.value;
    let words = (value % 3, |at| u32::from(value + at));
    list.insert(&list.make(item, words, &[&value.to_le_bytes(), b"x"]))
}

fn values(list: &SkipList<Counted>, from: u16) -> Vec<u16> {
    let guard = epoch::pin();
    let value = |entry: Entry<'_, Counted>| {
        let value = entry.item().value;
        let words = entry.words().iter().map(|word| word.load(SeqCst));
        assert!(words.eq((0..value % 3).map(|at| u32::from(value + at))));
        assert_eq!(entry.bytes(), [&value.to_le_bytes()[..], b"x"].concat());
        value
    };
    list.from(from, &guard).map(value).collect()
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
                    let inserted = insert(&list, Counted::new(value, 0, &alive));
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
                            if insert(list, Counted::new(value, owner, alive)) {
                                balance[usize::from(value)].fetch_add(1, SeqCst);
                            }
                        }
                        1 => {
                            if list.remove(value, |entry| entry.item().owner < THREADS) {
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

/// Orders in which the steps of three threads can follow each other, drawn so that a thread is often
/// stopped for long in the middle of something: `BASALT_SCHEDULES` says how many.
#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "how long a test runs is no member's state"
)]
fn drawn_schedules_of_three_threads_lose_nothing_and_show_what_stays() {
    static DRAWN: AtomicUsize = AtomicUsize::new(0);
    let schedules = std::env::var("BASALT_SCHEDULES").map_or(2_000, |count| {
        count.parse().expect("BASALT_SCHEDULES is a number")
    });
    let run = || {
        TURN.set(Some(|| shuttle::thread::sleep(Duration::ZERO)));
        let mut random = fastrand::Rng::with_seed(DRAWN.fetch_add(1, SeqCst) as u64);
        let alive = Arc::default();
        let list = Arc::new(SkipList::new());
        // Heights follow the number of nodes made, so each schedule has others.
        list.drawn.store(random.u64(0..1 << 20), SeqCst);
        let balance: Arc<[AtomicUsize; VALUES]> = Arc::default();
        for value in [STAYS, random.u16(0..STAYS)] {
            assert!(insert(&list, Counted::new(value, 0, &alive)));
            balance[usize::from(value)].fetch_add(1, SeqCst);
        }
        let threads: Vec<_> = (0..3)
            .map(|owner| {
                let ops: Vec<(u8, u16)> = (0..3)
                    .map(|_| (random.u8(0..5), random.u16(0..STAYS)))
                    .collect();
                let (list, alive) = (Arc::clone(&list), Arc::clone(&alive));
                let balance = Arc::clone(&balance);
                shuttle::thread::spawn(move || {
                    for (op, value) in ops {
                        let count = &balance[usize::from(value)];
                        match op {
                            0 | 1 => {
                                if insert(&list, Counted::new(value, owner, &alive)) {
                                    count.fetch_add(1, SeqCst);
                                }
                            }
                            2 | 3 => {
                                if list.remove(value, |_| true) {
                                    count.fetch_sub(1, SeqCst);
                                }
                            }
                            _ => {
                                let seen = values(&list, value);
                                assert!(seen.is_sorted_by(|a, b| a < b));
                                assert_eq!(seen.last(), Some(&STAYS));
                            }
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no assertion failed");
        }
        TURN.set(None);
        let left: Vec<u16> = (0..)
            .zip(balance.iter())
            .filter(|(_, count)| count.load(SeqCst) == 1)
            .map(|(value, _)| value)
            .collect();
        assert!(balance.iter().all(|count| count.load(SeqCst) <= 1));
        assert_eq!(values(&list, 0), left);
        assert_whole(&list, left.len());
    };
    shuttle::check_pct(run, schedules, STOPS);
}

/// Nothing that was removed hangs in any level, and what is left hangs in all of its own.
fn assert_whole(list: &SkipList<Counted>, count: usize) {
    let guard = epoch::pin();
    let mut seen = 0;
    for level in 0..LEVELS_MAX {
        let mut next = list.head[level].load(Acquire, &guard);
        while let Some(node) = known(next) {
            assert_eq!(next.tag(), 0);
            seen += usize::from(level == 0);
            if level + 1 == node.height() {
                assert_eq!(node.head().links.load(SeqCst) as usize, node.height());
            }
            next = node.link(level).load(Acquire, &guard);
        }
        assert_eq!(next.tag(), 0);
    }
    assert_eq!(seen, count);
}

/// The greatest value of the schedules, which nobody removes.
const STAYS: u16 = 3;
const VALUES: usize = 4;
/// How often a schedule stops a thread in favour of another one.
const STOPS: usize = 3;
