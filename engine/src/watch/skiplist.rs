//! An ordered set that any number of threads change and read at once, without a lock.
//!
//! A node is in the set while its lowest link is unmarked; whoever marks that one has removed it.
//! Marks are set from the highest level down, and only then is the node cut out of any level: so a
//! node that is seen unmarked at one level still hangs in all levels below it. A marked link never
//! changes again, and what it leads to can be cut out only after its own node. `links` counts the
//! levels in which a node hangs, and those who hold it. At 0 nobody finds it any more who was not
//! pinned before, and the epoch frees it.
//!
//! A node is one allocation: its links, some words that threads share and some bytes lie behind it. There
//! may be a million of them.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cmp::Ordering;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};

use crossbeam_epoch::{self as epoch, Atomic, Guard, Shared};

/// What such a set holds: something that has a place in an order, with the words and bytes of its node.
pub(crate) trait Ranked: Sized + Send + Sync {
    /// What orders items. Two items that are in the set have different ranks.
    type Rank<'a>: Copy
    where
        Self: 'a;

    /// The item's place; it never changes.
    fn rank(entry: Entry<'_, Self>) -> Self::Rank<'_>;

    /// How that place compares with another one.
    fn compare(entry: Entry<'_, Self>, rank: Self::Rank<'_>) -> Ordering;
}

/// The set.
pub(crate) struct SkipList<T> {
    /// Each level's link to its first node.
    head: [Atomic<Node<T>>; LEVELS_MAX],
    /// Nodes ever made: their heights come from it.
    drawn: AtomicU64,
}

/// What stands at the beginning of a node's allocation. Behind it lie `height - 1` links, from level 1 on (three nodes in
/// four have none), then the words, then the bytes.
struct Node<T> {
    /// Its link at level 0.
    base: Atomic<Node<T>>,
    /// Levels in which it hangs, and those who hold it. Never rises from 0.
    links: AtomicU32,
    bytes: u32,
    words: u16,
    height: u8,
    item: T,
}

/// A node that is there for as long as `'g`.
pub(crate) struct Entry<'g, T> {
    /// From the allocation, so that it may reach all of it.
    node: NonNull<Node<T>>,
    seen: PhantomData<&'g Node<T>>,
}

/// A node that stays for as long as somebody holds it, in the set or not.
pub(crate) struct Held<T>(NonNull<Node<T>>);

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

    /// A node for this set, which is not in it yet, with so many words and these bytes.
    pub(crate) fn make(
        &self,
        item: T,
        (words, word): (u16, impl Fn(u16) -> u32),
        bytes: &[&[u8]],
    ) -> Held<T> {
        let length = bytes.iter().map(|part| part.len()).sum::<usize>();
        let node = Node {
            base: Atomic::null(),
            // Whoever asked for it holds it.
            links: AtomicU32::new(1),
            bytes: u32::try_from(length).expect("a request is shorter than 4 GiB"),
            words,
            height: self.draw_height(),
            item,
        };
        let layout = node.layout();
        // SAFETY: the layout is that of at least a `Node`, which is not empty.
        let made = unsafe { alloc_zeroed(layout) }.cast::<Node<T>>();
        let Some(made) = NonNull::new(made) else {
            handle_alloc_error(layout);
        };
        // SAFETY: a `Node` begins the allocation.
        unsafe { made.write(node) };
        // From here on it is whole: links that are null and words that are 0 are zeros.
        let held = Held(made);
        let entry = held.entry();
        (0..words).for_each(|at| entry.words()[usize::from(at)].store(word(at), Relaxed));
        let bytes = bytes.concat();
        let to = entry.part(entry.head().bytes_at());
        // SAFETY: the layout has so many bytes there; nobody else knows the node, and nothing refers to them yet.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(&bytes[..]).cast::<u8>(), length) };
        held
    }

    /// Adds a node that was never in the set. False if another one has its rank: then it stays outside.
    pub(crate) fn insert(&self, new: &Held<T>) -> bool {
        let guard = &epoch::pin();
        let node = new.entry();
        let linked = Shared::from(new.0.as_ptr().cast_const());
        let rank = T::rank(node);
        // The set's own, of level 0.
        let before = node.head().links.fetch_add(1, Relaxed);
        assert!(before > 0);
        let mut place = loop {
            let place = self.search(rank, guard);
            if has_rank(place.right[0], rank) {
                node.head().links.fetch_sub(1, Relaxed);
                return false;
            }
            node.link(0).store(place.right[0], Relaxed);
            step();
            // Release, here and wherever a node is linked: whoever finds it sees it whole.
            let done =
                place.left[0].compare_exchange(place.right[0], linked, Release, Relaxed, guard);
            if done.is_ok() {
                break place;
            }
        };
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
            node.head().links.fetch_add(1, Relaxed);
            step();
            // Another node of this rank that still hangs here is removed: it must be cut out first.
            let is_clear = !has_rank(right, rank);
            if is_clear
                && place.left[level]
                    .compare_exchange(right, linked, Release, Relaxed, guard)
                    .is_ok()
            {
                level += 1;
                continue;
            }
            node.head().links.fetch_sub(1, Relaxed);
            place = self.search(rank, guard);
            if place.right[0] != linked {
                break;
            }
        }
        step();
        // Marks are set from the top: a remover that did not find the highest links is seen here.
        if node.link(node.height() - 1).load(Acquire, guard).tag() == MARKED {
            self.search(rank, guard);
        }
        true
    }

    /// Removes the item of this rank if `is_meant` says so of it; false if it does not, if there is
    /// none, or if another thread has removed it.
    pub(crate) fn remove(
        &self,
        rank: T::Rank<'_>,
        is_meant: impl Fn(Entry<'_, T>) -> bool,
    ) -> bool {
        let guard = &epoch::pin();
        let found = self.search(rank, guard).right[0];
        let Some(node) = known(found).filter(|_| has_rank(found, rank)) else {
            return false;
        };
        if !is_meant(node) {
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
                    if T::compare(node, rank).is_ge() {
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
                        node.release();
                        next = after;
                    } else if T::compare(node, rank).is_lt() {
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

    fn link<'g>(&'g self, before: Option<Entry<'g, T>>, level: usize) -> &'g Atomic<Node<T>> {
        match before {
            Some(node) => node.link(level),
            None => &self.head[level],
        }
    }

    /// A quarter of the nodes is in each level of those in the level below.
    fn draw_height(&self) -> u8 {
        let drawn = self.drawn.fetch_add(1, Relaxed);
        // splitmix64: equal sequences of inserts make equal lists.
        let mut bits = drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let height = 1 + (bits ^ (bits >> 31)).trailing_zeros() as u8 / 2;
        height.min(LEVELS_MAX as u8)
    }
}

impl<T> Node<T> {
    /// Where the parts of its allocation begin, from its own beginning.
    fn upper_at(&self) -> usize {
        size_of::<Self>()
    }

    fn words_at(&self) -> usize {
        self.upper_at() + (usize::from(self.height) - 1) * size_of::<Atomic<Self>>()
    }

    fn bytes_at(&self) -> usize {
        self.words_at() + usize::from(self.words) * size_of::<AtomicU32>()
    }

    fn layout(&self) -> Layout {
        // The links lie where a node may end, and the words behind them.
        const { assert!(align_of::<Self>() >= align_of::<Atomic<Self>>()) };
        const { assert!(align_of::<Atomic<Self>>() >= align_of::<AtomicU32>()) };
        let bytes = self.bytes_at() + self.bytes as usize;
        Layout::from_size_align(bytes, align_of::<Self>()).expect("its parts lie in memory")
    }
}

impl<'g, T> Entry<'g, T> {
    pub(crate) fn item(self) -> &'g T {
        &self.head().item
    }

    /// What threads share of it.
    pub(crate) fn words(self) -> &'g [AtomicU32] {
        let (at, count) = (self.head().words_at(), self.head().words.into());
        let words = NonNull::slice_from_raw_parts(self.part(at), count);
        // SAFETY: `make` has written so many words there, and the node is there for `'g`.
        unsafe { words.as_ref() }
    }

    pub(crate) fn bytes(self) -> &'g [u8] {
        let (at, count) = (self.head().bytes_at(), self.head().bytes as usize);
        let bytes = NonNull::slice_from_raw_parts(self.part(at), count);
        // SAFETY: `make` has written so many bytes there, nobody changes them, and the node is there for `'g`.
        unsafe { bytes.as_ref() }
    }

    /// Keeps it; `None` if it hangs nowhere any more and nobody has it.
    pub(crate) fn hold(self) -> Option<Held<T>> {
        let one_more = |links| (links > 0).then_some(links + 1);
        let links = &self.head().links;
        let held = links.fetch_update(Relaxed, Relaxed, one_more);
        held.is_ok().then_some(Held(self.node))
    }

    /// Tells nodes apart; of one that is gone another may have it.
    pub(crate) fn address(self) -> usize {
        self.node.addr().get()
    }

    fn head(self) -> &'g Node<T> {
        // SAFETY: whoever made the entry knows that the node is there for `'g`; what changes of it is atomic.
        unsafe { self.node.as_ref() }
    }

    fn height(self) -> usize {
        self.head().height.into()
    }

    fn link(self, level: usize) -> &'g Atomic<Node<T>> {
        if level == 0 {
            return &self.head().base;
        }
        assert!(level < self.height());
        let at = self.head().upper_at() + (level - 1) * size_of::<Atomic<Node<T>>>();
        // SAFETY: `make` has written `height - 1` links there, and the node is there for `'g`.
        unsafe { self.part(at).as_ref() }
    }

    /// What lies behind the node's beginning.
    fn part<P>(self, at: usize) -> NonNull<P> {
        assert!(at <= self.head().bytes_at());
        // SAFETY: the bytes come last in the allocation; they begin in it or, if there are none, at its end.
        unsafe { self.node.byte_add(at) }.cast()
    }

    /// One link to the node is gone, or who held it.
    fn release(self) {
        // Release and the fence: what others did with the node is done before it is freed.
        if self.head().links.fetch_sub(1, Release) == 1 {
            fence(Acquire);
            let node = self.node;
            // SAFETY: it hangs in no level and nobody holds it, so nobody finds it who is not pinned
            // now; the count never rises from 0, so this happens once.
            unsafe { epoch::pin().defer_unchecked(move || free(node)) };
        }
    }
}

impl<T> Clone for Entry<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Entry<'_, T> {}

impl<T> Held<T> {
    pub(crate) fn entry(&self) -> Entry<'_, T> {
        Entry {
            node: self.0,
            seen: PhantomData,
        }
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        self.entry().release();
    }
}

// SAFETY: it is a counted reference, as `Arc`: the item is shared by reference and dropped by the last thread that lets
// go of it.
unsafe impl<T: Send + Sync> Send for Held<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Held<T> {}

impl<'g, T> Iterator for Items<'g, T> {
    type Item = Entry<'g, T>;

    fn next(&mut self) -> Option<Entry<'g, T>> {
        while let Some(node) = known(self.next) {
            step();
            let after = node.link(0).load(Acquire, self.guard);
            self.next = after.with_tag(0);
            if after.tag() != MARKED {
                return Some(node);
            }
        }
        None
    }
}

impl<T> Drop for SkipList<T> {
    /// Some may still be held.
    fn drop(&mut self) {
        let guard = &epoch::pin();
        let mut next = self.head[0].load(Relaxed, guard);
        // `&mut self`: no other thread uses the list, so each node that is left hangs in all of its levels.
        while let Some(node) = known(next) {
            next = node.link(0).load(Relaxed, guard);
            (0..node.height()).for_each(|_| node.release());
        }
    }
}

/// The node, if there is one.
fn known<'g, T>(node: Shared<'g, Node<T>>) -> Option<Entry<'g, T>> {
    // It was read from a link of the list, or linked, while the guard of `'g` was pinned; a node is
    // freed through the epoch only, after it was cut out of all levels (see the head).
    NonNull::new(node.as_raw().cast_mut()).map(|node| Entry {
        node,
        seen: PhantomData,
    })
}

fn has_rank<T: Ranked>(node: Shared<'_, Node<T>>, rank: T::Rank<'_>) -> bool {
    known(node).is_some_and(|node| T::compare(node, rank).is_eq())
}

/// Gives the node's memory back.
fn free<T>(node: NonNull<Node<T>>) {
    let seen = PhantomData;
    let layout = Entry { node, seen }.head().layout();
    // SAFETY: `release` hands the last reference over, once.
    unsafe { node.drop_in_place() };
    // SAFETY: `make` has allocated it with this layout, and nothing refers to it any more.
    unsafe { dealloc(node.as_ptr().cast(), layout) };
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

const _: () = assert!(LEVELS_MAX <= u8::MAX as usize);

#[cfg(test)]
mod tests;
