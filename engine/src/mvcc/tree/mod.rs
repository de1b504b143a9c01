//! The index: every key with its newest record, in key order, with counts.
//!
//! Promises: readers walk an immutable tree without retries; counting a range costs O(log n). One
//! writer copies the nodes it changes, once a batch, and publishes the new root. A leaf may be a page
//! on disk only: who needs it is told which, and what changes it does nothing before it is loaded.
//! Never: reads a page itself, or knows of records beyond their position and revision. Start at
//! `Tree`; nodes are in leaf.rs and inner.rs, who owns them in root.rs, which leaves are in memory in
//! resident.rs.

mod bulk;
mod count;
mod edit;
mod inner;
mod keys;
mod leaf;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod model;
mod resident;
#[allow(
    unsafe_code,
    reason = "readers follow raw links under an epoch pin; see the file's head"
)]
mod root;
mod walk;

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(crate) use bulk::Bulk;
pub(crate) use count::count;
pub(crate) use inner::{Inner, Summary};
pub(crate) use keys::{Span, common_prefix};
pub(crate) use leaf::{Entry, Leaf};
pub(crate) use resident::{Was, Written};
pub(crate) use root::{Memory, Pin, Shared};
pub(crate) use walk::{Left, walk, walk_back, walk_bottom};

use keys::Keys;
use root::{Link, Nursery};

/// The writer's tree. What it publishes goes with a `T`.
pub(crate) struct Tree<T> {
    root: Link,
    nursery: Nursery,
    shared: Arc<Shared<T>>,
    /// Where the search for leaves to give back goes on.
    hand: Vec<u8>,
}

/// A node, as readers walk it.
pub(crate) struct Node {
    head: Head,
    pub(crate) body: Body,
}

/// What is not copied with a node.
struct Head {
    /// The batch in which it was made or copied; see root.rs.
    batch: u64,
    /// The page that holds this leaf just as it is, as `PageRef::bits`; 0 if there is none. Only the
    /// writer sets it.
    stored: AtomicU64,
    /// Whether a read came since the writer last looked.
    used: AtomicBool,
}

impl Head {
    fn new(batch: u64) -> Self {
        Self {
            batch,
            stored: AtomicU64::new(0),
            used: AtomicBool::new(true),
        }
    }
}

/// Where a leaf lies on disk: a page of a file of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageRef {
    /// Which of the files, below `FILES_MAX`; none ever had the same.
    pub(crate) file: u32,
    pub(crate) page: u32,
}

impl PageRef {
    pub(crate) const FILES_MAX: u32 = 1 << 31;

    /// As a number whose lowest bit is set.
    fn bits(self) -> NonZero<u64> {
        debug_assert!(self.file < Self::FILES_MAX);
        NonZero::<u64>::MIN | (u64::from(self.file) << 33 | u64::from(self.page) << 1)
    }

    #[allow(clippy::cast_possible_truncation, reason = "it takes the bits apart")]
    fn from_bits(bits: u64) -> Self {
        Self {
            file: (bits >> 33) as u32,
            page: (bits >> 1) as u32,
        }
    }
}

/// What a node holds. Both kinds are about as large.
#[allow(
    clippy::large_enum_variant,
    reason = "both are 2 KiB and live in a box of their own"
)]
pub(crate) enum Body {
    Leaf(Leaf),
    Inner(Inner),
}

impl<T: Send + Sync + 'static> Tree<T> {
    /// The tree of `root`, which `nursery` made, published with `rest`; `Bulk` makes them.
    fn new(nursery: Nursery, root: Link, rest: T) -> Self {
        let shared = Shared::new(&root, rest);
        let mut tree = Self {
            root,
            nursery,
            shared,
            hand: Vec::new(),
        };
        // The first root is published: freeze it.
        tree.nursery.freeze();
        tree
    }

    /// Where readers pin.
    pub(crate) fn shared(&self) -> &Arc<Shared<T>> {
        &self.shared
    }

    /// The writer's root, unpublished changes included.
    pub(crate) fn root(&self) -> &Node {
        self.root.get()
    }

    /// Sets the entry of `key` to what `make` answers to its present one.
    ///
    /// # Errors
    /// This page must be loaded first; nothing is changed and `make` was not called.
    pub(crate) fn upsert(
        &mut self,
        key: &[u8],
        make: impl FnOnce(Option<&Entry>) -> Entry,
    ) -> Result<(), PageRef> {
        edit::upsert_root(&mut self.nursery, &mut self.root, key, make)
    }

    /// Takes `key` out, which was found just now: it is there, and in memory.
    pub(crate) fn remove(&mut self, key: &[u8]) {
        edit::remove_root(&mut self.nursery, &mut self.root, key);
    }

    /// What there is of leaves.
    pub(crate) fn memory(&self) -> Memory {
        self.nursery.memory
    }

    /// Shows readers all changes. `hurry` asks the epoch to free what it can now.
    pub(crate) fn publish(&mut self, rest: T, hurry: bool) {
        self.nursery.publish(&self.shared, &self.root, rest, hurry);
    }

    /// Shows readers another `T` beside the root that is published already.
    pub(crate) fn publish_rest(&mut self, make: impl FnOnce(&T) -> T) {
        self.nursery.publish_rest(&self.shared, make);
    }
}

impl<T> Drop for Tree<T> {
    fn drop(&mut self) {
        self.nursery.free_unpublished(&mut self.root);
    }
}

impl Node {
    /// The entry of `key`.
    ///
    /// # Errors
    /// This page must be loaded first.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<(&Leaf, usize)>, PageRef> {
        let mut node = self;
        loop {
            match &node.body {
                Body::Inner(inner) => node = inner.try_child(inner.child_for(key))?,
                Body::Leaf(leaf) => {
                    node.touch();
                    let (index, is_equal) = leaf.search(key);
                    return Ok(is_equal.then_some((leaf, index)));
                }
            }
        }
    }

    /// Notes that it is read.
    #[inline]
    fn touch(&self) {
        // Most reads find it noted, and leave the cache line to everybody.
        if !self.head.used.load(Ordering::Relaxed) {
            self.head.used.store(true, Ordering::Relaxed);
        }
    }

    /// The page that holds this leaf just as it is.
    fn stored(&self) -> Option<PageRef> {
        match self.head.stored.load(Ordering::Relaxed) {
            0 => None,
            bits => Some(PageRef::from_bits(bits)),
        }
    }

    /// Bytes of a leaf.
    fn bytes(&self) -> u64 {
        (size_of::<Self>() + self.keys().allocated()) as u64
    }

    /// How many keys below it have a newest record that is no tombstone.
    pub(crate) fn live(&self) -> u32 {
        self.summary().live
    }

    fn summary(&self) -> Summary {
        self.body.summary()
    }

    fn keys(&self) -> &Keys {
        match &self.body {
            Body::Leaf(leaf) => &leaf.keys,
            Body::Inner(inner) => &inner.keys,
        }
    }
}

impl Body {
    fn summary(&self) -> Summary {
        match self {
            Body::Inner(inner) => inner.summary(),
            Body::Leaf(leaf) => Summary {
                live: leaf.entries().map(|entry| u32::from(entry.is_live())).sum(),
                changed: leaf.entries().map(Entry::changed).max().unwrap_or(0),
            },
        }
    }

    fn len(&self) -> usize {
        match self {
            Body::Leaf(leaf) => leaf.len(),
            Body::Inner(inner) => inner.len(),
        }
    }
}

#[cfg(test)]
mod tests;
