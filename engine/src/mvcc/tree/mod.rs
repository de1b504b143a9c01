//! The index: every key with its newest record, in key order, with counts.
//!
//! Promises: readers walk an immutable tree without retries; counting a range costs O(log n). One
//! writer copies the nodes it changes, once a batch, and publishes the new root. Never: knows of
//! records beyond their position and revision. Start at `Tree`; nodes are in leaf.rs and inner.rs,
//! who owns them in root.rs.

mod bulk;
mod count;
mod edit;
mod inner;
mod keys;
mod leaf;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod model;
#[allow(
    unsafe_code,
    reason = "readers follow raw links under an epoch pin; see the file's head"
)]
mod root;
mod walk;

use std::sync::Arc;

pub(crate) use bulk::Bulk;
pub(crate) use count::count;
pub(crate) use inner::{Inner, Summary};
pub(crate) use keys::common_prefix;
pub(crate) use leaf::{Entry, Leaf};
pub(crate) use root::{Pin, Shared};
pub(crate) use walk::{walk, walk_back};

use keys::Keys;
use root::{Link, Nursery};

/// The writer's tree. What it publishes goes with a `T`.
pub(crate) struct Tree<T> {
    root: Link,
    nursery: Nursery,
    shared: Arc<Shared<T>>,
}

/// A node, as readers walk it.
pub(crate) struct Node {
    /// The batch in which it was made or copied; see root.rs.
    batch: u64,
    pub(crate) body: Body,
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
    pub(crate) fn upsert(&mut self, key: &[u8], make: impl FnOnce(Option<&Entry>) -> Entry) {
        edit::upsert_root(&mut self.nursery, &mut self.root, key, make);
    }

    /// Takes `key` out; it is there.
    pub(crate) fn remove(&mut self, key: &[u8]) {
        edit::remove_root(&mut self.nursery, &mut self.root, key);
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
    pub(crate) fn get(&self, key: &[u8]) -> Option<(&Leaf, usize)> {
        let mut node = self;
        loop {
            match &node.body {
                Body::Inner(inner) => node = inner.child(inner.child_for(key)),
                Body::Leaf(leaf) => {
                    let (index, is_equal) = leaf.search(key);
                    return is_equal.then_some((leaf, index));
                }
            }
        }
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
