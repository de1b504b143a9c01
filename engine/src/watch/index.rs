//! The groups of a member, found by key.
//!
//! A group stands in the list behind the longest prefix that its first and its last key share; a
//! single key stands behind itself. So what wants a key stands behind one of the key's own prefixes,
//! and of those only the lengths that are in use are looked at: one or two, as clients watch. Behind
//! one prefix, ranges that begin with the same next byte lie together, and those that end before the
//! key are stepped over by a seek.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_epoch as epoch;

use super::group::{Group, GroupEntry, GroupHeld, PREFIX_BYTES_MAX, Rank, Span, Wanted, next};
use super::skiplist::{Ranked, SkipList};

/// All groups, for every thread.
pub(super) struct Index {
    list: SkipList<Group>,
    /// By length of prefix: ranges that stand behind such a one, those counted that are about to come.
    ranges: Mutex<Box<[u32; PREFIX_BYTES_MAX + 1]>>,
    /// One bit for each length that has ranges; changed under the lock of `ranges`, read without.
    lengths: [AtomicU64; LENGTH_WORDS],
    loops: u16,
}

impl Index {
    pub(super) fn new(loops: usize) -> Self {
        Self {
            list: SkipList::new(),
            ranges: Mutex::new(Box::new([0; PREFIX_BYTES_MAX + 1])),
            lengths: [const { AtomicU64::new(0) }; LENGTH_WORDS],
            loops: u16::try_from(loops).expect("a loop is a thread"),
        }
    }

    /// The group of what is wanted, with one watcher more than it had.
    pub(super) fn join(&self, wanted: &Wanted<'_>) -> GroupHeld {
        let new = Group::make(&self.list, wanted, self.loops);
        loop {
            let guard = epoch::pin();
            let rank = Group::rank(new.entry());
            let found = self.list.from(rank, &guard).next();
            if let Some(group) = found.filter(|group| Group::rank(*group) == rank) {
                if group.join() {
                    return group.hold().expect("a group with a watcher is in the list");
                }
                // Its last watcher is about to remove it: whoever comes first does.
                self.remove(group);
                continue;
            }
            drop(guard);
            self.count(new.entry(), true);
            if self.list.insert(&new) {
                return new;
            }
            // Another thread was faster; ours has been seen by nobody.
            self.count(new.entry(), false);
        }
    }

    /// Takes a watcher out of its group, and the group out of the index if it was the last one.
    pub(super) fn leave(&self, group: GroupEntry<'_>) {
        if group.leave() {
            self.remove(group);
        }
    }

    fn remove(&self, group: GroupEntry<'_>) {
        assert!(group.is_gone());
        let is_it = |found: GroupEntry<'_>| found.address() == group.address();
        if self.list.remove(Group::rank(group), is_it) {
            self.count(group, false);
        }
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn is_empty(&self) -> bool {
        let guard = epoch::pin();
        self.list
            .from(Rank::first(&[], 0, 0), &guard)
            .next()
            .is_none()
    }

    /// Hands every group that wants the event to `each`, once. A group that is added meanwhile may
    /// be missed.
    pub(super) fn stab(&self, key: &[u8], is_delete: bool, mut each: impl FnMut(GroupEntry<'_>)) {
        let guard = epoch::pin();
        for group in self.list.from(Rank::first(key, 0, 0), &guard) {
            // Behind the groups of the key stand the ranges that begin with it.
            if group.span().to != 0 || !Group::rank(group).is_behind(key) {
                break;
            }
            if group.wants(key, is_delete) {
                each(group);
            }
        }
        for (word, lengths) in self.lengths.iter().enumerate() {
            // SeqCst: see `Hub::is_told`.
            let mut lengths = lengths.load(Ordering::SeqCst);
            while lengths != 0 {
                let length = word * 64 + lengths.trailing_zeros() as usize;
                lengths &= lengths - 1;
                let Some(prefix) = key.get(..length) else {
                    return;
                };
                self.stab_behind(prefix, key, is_delete, &guard, &mut each);
            }
        }
    }

    /// The ranges behind one prefix of the key.
    fn stab_behind(
        &self,
        prefix: &[u8],
        key: &[u8],
        is_delete: bool,
        guard: &epoch::Guard,
        each: &mut impl FnMut(GroupEntry<'_>),
    ) {
        let at = next(key, prefix.len());
        let mut groups = self.list.from(Rank::first(prefix, 0, at.max(1)), guard);
        while let Some(group) = groups.next() {
            let Span { from, to, .. } = group.span();
            if !Group::rank(group).is_behind(prefix) || from > at {
                return;
            }
            if to < at {
                groups = self.list.from(Rank::first(prefix, from, at), guard);
            } else if group.wants(key, is_delete) {
                each(group);
            }
        }
    }

    /// Counts a range in, before it is added, or out, after it was removed.
    fn count(&self, group: GroupEntry<'_>, is_in: bool) {
        let span = group.span();
        if span.to == 0 {
            return;
        }
        let mut ranges = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        let count = &mut ranges[span.common];
        let (length, bit) = (&self.lengths[span.common / 64], 1 << (span.common % 64));
        if is_in {
            *count += 1;
            length.fetch_or(bit, Ordering::SeqCst);
        } else {
            *count -= 1;
            if *count == 0 {
                length.fetch_and(!bit, Ordering::SeqCst);
            }
        }
    }
}

const LENGTH_WORDS: usize = (PREFIX_BYTES_MAX + 1) / 64;
