//! An ordered set that any number of threads change and read at once, without a lock.
//!
//! A node is in the set while its lowest link is unmarked; whoever marks that one has removed it.
//! Marks are set from the highest level down, and only then is the node cut out of any level: so a
//! node that is seen unmarked at one level still hangs in all levels below it. A marked link never
//! changes again, and what it leads to can be cut out only after its own node. `links` counts the
//! levels in which a node hangs, and its inserter. At 0 nobody finds it any more who was not pinned
//! before, and the epoch frees it.

use std::cmp::Ordering;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};

use crossbeam_epoch::{self as epoch, Atomic, Guard, Owned, Shared};

/// What such a set holds: something with a place in an order.
pub(crate) trait Ranked: Send + Sync {
    /// What orders items. Two items that are in the set have different ranks.
    type Rank<'a>: Copy
    where
        Self: 'a;

    /// The item's place; it never changes.
    fn rank(&self) -> Self::Rank<'_>;

    /// How that place compares with another one.
    fn compare(&self, rank: Self::Rank<'_>) -> Ordering;
}

/// The set.
pub(crate) struct SkipList<T> {
    /// Each level's link to its first node.
    head: [Atomic<Node<T>>; LEVELS_MAX],
    /// Nodes ever made: their heights come from it.
    drawn: AtomicU64,
}

struct Node<T> {
    item: T,
    /// Levels in which it hangs, and 1 for its inserter. Never rises from 0.
    links: AtomicU32,
    /// Its link at level 0.
    base: Atomic<Node<T>>,
    /// Its links from level 1 on. Three nodes in four have none.
    upper: Box<[Atomic<Node<T>>]>,
}

/// Where a rank belongs: at each level the link that leads there and the node that it leads to.
struct Place<'g, T> {
    left: [&'g Atomic<Node<T>>; LEVELS_MAX],
    right: [Shared<'g, Node<T>>; LEVELS_MAX],
}

/// Goes through the items from one on, in order.
pub(crate) struct Items<'g, T> {
    next: Shared<'g, Node<T>>,
    guard: &'g Guard,
}

impl<T: Ranked> SkipList<T> {
    pub(crate) fn new() -> Self {
        Self {
            head: [const { Atomic::null() }; LEVELS_MAX],
            drawn: AtomicU64::new(0),
        }
    }

    /// Adds `item`, unless one of its rank is in the set already; then it comes back.
    pub(crate) fn insert(&self, item: T) -> Result<(), T> {
        let guard = &epoch::pin();
        let mut node = Owned::new(Node {
            item,
            // The inserter, and level 0.
            links: AtomicU32::new(2),
            base: Atomic::null(),
            upper: (1..self.draw_height()).map(|_| Atomic::null()).collect(),
        });
        let (linked, mut place) = loop {
            let place = self.search(node.item.rank(), guard);
            if has_rank(place.right[0], node.item.rank()) {
                return Err(node.into_box().item);
            }
            node.base.store(place.right[0], Relaxed);
            step();
            // Release, here and wherever a node is linked: whoever finds it sees it whole.
            match place.left[0].compare_exchange(place.right[0], node, Release, Relaxed, guard) {
                Ok(linked) => break (linked, place),
                Err(lost) => node = lost.new,
            }
        };
        let node = known(linked).expect("just linked");
        let mut level = 1;
        while level < node.height() {
            step();
            let own = node.link(level).load(Acquire, guard);
            let right = place.right[level];
            // It fails too if the link is marked meanwhile: the node was removed.
            if own.tag() == MARKED
                || node
                    .link(level)
                    .compare_exchange(own, right, Release, Relaxed, guard)
                    .is_err()
            {
                break;
            }
            node.links.fetch_add(1, Relaxed);
            step();
            // Another node of this rank that still hangs here is removed: it must be cut out first.
            let is_clear = !has_rank(right, node.item.rank());
            if is_clear
                && place.left[level]
                    .compare_exchange(right, linked, Release, Relaxed, guard)
                    .is_ok()
            {
                level += 1;
                continue;
            }
            node.links.fetch_sub(1, Relaxed);
            place = self.search(node.item.rank(), guard);
            if place.right[0] != linked {
                break;
            }
        }
        step();
        // Marks are set from the top: a remover that did not find the highest links is seen here.
        if node.link(node.height() - 1).load(Acquire, guard).tag() == MARKED {
            self.search(node.item.rank(), guard);
        }
        release(linked, guard);
        Ok(())
    }

    /// Removes the item of this rank if `is_meant` says so of it; false if it does not, if there is
    /// none, or if another thread has removed it.
    pub(crate) fn remove(&self, rank: T::Rank<'_>, is_meant: impl Fn(&T) -> bool) -> bool {
        let guard = &epoch::pin();
        let found = self.search(rank, guard).right[0];
        let Some(node) = known(found).filter(|_| has_rank(found, rank)) else {
            return false;
        };
        if !is_meant(&node.item) {
            return false;
        }
        for level in (0..node.height()).rev() {
            step();
            let before = node.link(level).fetch_or(MARKED, AcqRel, guard);
            if level == 0 && before.tag() == MARKED {
                return false;
            }
        }
        self.search(rank, guard);
        true
    }

    /// The items from `rank` on. Those that come or go meanwhile are seen or not.
    pub(crate) fn from<'g>(&'g self, rank: T::Rank<'_>, guard: &'g Guard) -> Items<'g, T> {
        let mut before = None;
        let mut next = Shared::null();
        for level in (0..LEVELS_MAX).rev() {
            step();
            next = self.link(before, level).load(Acquire, guard).with_tag(0);
            while let Some(node) = known(next) {
                step();
                let after = node.link(level).load(Acquire, guard);
                if after.tag() != MARKED {
                    if node.item.compare(rank).is_ge() {
                        break;
                    }
                    before = Some(node);
                }
                // A removed node is passed, but never the way to a lower level: see the head.
                next = after.with_tag(0);
            }
        }
        Items { next, guard }
    }

    /// Finds where `rank` belongs and cuts out what is removed on the way there.
    fn search<'g>(&'g self, rank: T::Rank<'_>, guard: &'g Guard) -> Place<'g, T> {
        'anew: loop {
            let mut place = Place {
                left: self.head.each_ref(),
                right: [Shared::null(); LEVELS_MAX],
            };
            let mut before = None;
            for level in (0..LEVELS_MAX).rev() {
                let left = |before| self.link(before, level);
                step();
                let mut next = left(before).load(Acquire, guard);
                if next.tag() == MARKED {
                    continue 'anew;
                }
                while let Some(node) = known(next) {
                    step();
                    let after = node.link(level).load(Acquire, guard);
                    if after.tag() == MARKED {
                        let after = after.with_tag(0);
                        let cut =
                            left(before).compare_exchange(next, after, Release, Relaxed, guard);
                        if cut.is_err() {
                            continue 'anew;
                        }
                        release(next, guard);
                        next = after;
                    } else if node.item.compare(rank).is_lt() {
                        (before, next) = (Some(node), after);
                    } else {
                        break;
                    }
                }
                (place.left[level], place.right[level]) = (left(before), next);
            }
            return place;
        }
    }

    fn link<'g>(&'g self, before: Option<&'g Node<T>>, level: usize) -> &'g Atomic<Node<T>> {
        match before {
            Some(node) => node.link(level),
            None => &self.head[level],
        }
    }

    /// A quarter of the nodes is in each level of those in the level below.
    fn draw_height(&self) -> usize {
        let drawn = self.drawn.fetch_add(1, Relaxed);
        // splitmix64: equal sequences of inserts make equal lists.
        let mut bits = drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let height = 1 + (bits ^ (bits >> 31)).trailing_zeros() as usize / 2;
        height.min(LEVELS_MAX)
    }
}

impl<T> Node<T> {
    fn height(&self) -> usize {
        1 + self.upper.len()
    }

    fn link(&self, level: usize) -> &Atomic<Node<T>> {
        match level {
            0 => &self.base,
            _ => &self.upper[level - 1],
        }
    }
}

impl<'g, T> Iterator for Items<'g, T> {
    type Item = &'g T;

    fn next(&mut self) -> Option<&'g T> {
        while let Some(node) = known(self.next) {
            step();
            let after = node.base.load(Acquire, self.guard);
            self.next = after.with_tag(0);
            if after.tag() != MARKED {
                return Some(&node.item);
            }
        }
        None
    }
}

impl<T> Drop for SkipList<T> {
    fn drop(&mut self) {
        let mut next = std::mem::replace(&mut self.head[0], Atomic::null());
        loop {
            // SAFETY: `&mut self` says that no other thread uses the list; a node that was removed
            // hangs nowhere any more, so each node of level 0 is owned by its one link there.
            let Some(node) = (unsafe { next.try_into_owned() }) else {
                return;
            };
            next = node.into_box().base;
        }
    }
}

/// The node, if there is one.
fn known<'g, T>(node: Shared<'g, Node<T>>) -> Option<&'g Node<T>> {
    // SAFETY: it was read from a link of the list, or linked, while the guard of `'g` was pinned; a
    // node is freed through the epoch only, after it was cut out of all levels (see the head).
    unsafe { node.as_ref() }
}

fn has_rank<T: Ranked>(node: Shared<'_, Node<T>>, rank: T::Rank<'_>) -> bool {
    known(node).is_some_and(|node| node.item.compare(rank).is_eq())
}

/// One link to the node is gone, or its inserter.
fn release<T>(node: Shared<'_, Node<T>>, guard: &Guard) {
    let links = &known(node).expect("released by who knew it").links;
    // Release and the fence: what others did with the node is done before it is freed.
    if links.fetch_sub(1, Release) == 1 {
        fence(Acquire);
        // SAFETY: it hangs in no level and its inserter is done, so nobody finds it who is not
        // pinned now; the count never rises from 0, so this happens once.
        unsafe { guard.defer_destroy(node) };
    }
}

/// Before every look at or change of what threads share: where a test lets another thread go on.
#[inline]
fn step() {
    #[cfg(test)]
    tests::turn();
}

/// The tag of a link whose node is removed.
const MARKED: usize = 1;

/// With a quarter of the nodes from level to level, enough for 16 million. Tests have few nodes, and each level is a step
/// of their schedules.
const LEVELS_MAX: usize = if cfg!(test) { 3 } else { 12 };

#[cfg(test)]
mod tests;
