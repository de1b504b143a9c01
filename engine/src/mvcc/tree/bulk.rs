use std::mem;

use super::inner::Inner;
use super::keys::{Span, common_prefix};
use super::leaf::{Entry, Leaf};
use super::root::{Link, Nursery};
use super::{Body, Tree};
use crate::limits::{INNER_CHILDREN_MAX, LEAF_KEYS_MAX, NODE_KEY_BYTES_MAX};

/// Builds a tree from keys in ascending order: full nodes, and each key copied once. It answers as
/// a tree does into which they were put one by one.
pub(crate) struct Bulk {
    nursery: Nursery,
    /// The leaf being filled: its keys one behind the other, and one entry a key.
    keys: Vec<u8>,
    entries: Vec<(Span, Entry)>,
    /// The greatest key of the leaf before.
    last_key: Vec<u8>,
    /// Nodes without a parent, by level from the leaves up: children of the node that is next on
    /// the level above.
    levels: Vec<Level>,
}

#[derive(Default)]
struct Level {
    /// Nodes with what separates each from the one before.
    children: Vec<(Vec<u8>, Link)>,
    /// Bytes of the separators but the first, which stands in a node above.
    bytes: usize,
}

impl Bulk {
    pub(crate) fn new() -> Self {
        Self {
            nursery: Nursery::new(),
            keys: Vec::new(),
            entries: Vec::new(),
            last_key: Vec::new(),
            levels: Vec::new(),
        }
    }

    /// Adds a key above all others.
    pub(crate) fn push(&mut self, key: &[u8], entry: Entry) {
        let is_full = self.entries.len() == LEAF_KEYS_MAX
            || (!self.entries.is_empty() && self.keys.len() + key.len() > NODE_KEY_BYTES_MAX);
        if is_full {
            self.close_leaf();
        }
        let span = Span::new(self.keys.len(), key.len());
        self.entries.push((span, entry));
        self.keys.extend_from_slice(key);
    }

    /// The tree, published with `rest`.
    pub(crate) fn finish<T: Send + Sync + 'static>(mut self, rest: T) -> Tree<T> {
        if !self.entries.is_empty() {
            self.close_leaf();
        }
        let mut level = 0;
        let root = loop {
            let Some(top) = self.levels.get_mut(level) else {
                break self.nursery.alloc(Body::Leaf(Leaf::new()));
            };
            if top.children.len() == 1 && level + 1 == self.levels.len() {
                let (_, root) = self.levels[level].children.remove(0);
                break root;
            }
            self.close_inner(level);
            level += 1;
        };
        let nursery = mem::replace(&mut self.nursery, Nursery::new());
        Tree::new(nursery, root, rest)
    }

    fn close_leaf(&mut self) {
        let leaf = Leaf::of_sorted(&self.keys, &self.entries);
        let (first, last) = (leaf.key(0), leaf.key(leaf.len() - 1));
        let separator = if self.levels.is_empty() {
            Vec::new()
        } else {
            assert!(*self.last_key < *first);
            first[..=common_prefix(&self.last_key, first)].to_vec()
        };
        self.last_key.clear();
        self.last_key.extend_from_slice(last);
        self.keys.clear();
        self.entries.clear();
        let leaf = self.nursery.alloc(Body::Leaf(leaf));
        self.add(0, separator, leaf);
    }

    fn close_inner(&mut self, level: usize) {
        let mut children = mem::take(&mut self.levels[level]).children;
        let separator = mem::take(&mut children[0].0);
        let inner = Body::Inner(Inner::of_sorted(children));
        let inner = self.nursery.alloc(inner);
        self.add(level + 1, separator, inner);
    }

    fn add(&mut self, level: usize, separator: Vec<u8>, node: Link) {
        if level == self.levels.len() {
            self.levels.push(Level::default());
        }
        let Level { children, bytes } = &self.levels[level];
        let is_full = children.len() == INNER_CHILDREN_MAX
            || (children.len() >= 4 && bytes + separator.len() > NODE_KEY_BYTES_MAX);
        if is_full {
            self.close_inner(level);
        }
        let Level { children, bytes } = &mut self.levels[level];
        if !children.is_empty() {
            *bytes += separator.len();
        }
        children.push((separator, node));
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        for level in &mut self.levels {
            for (_, node) in &mut level.children {
                self.nursery.free_unpublished(node);
            }
        }
    }
}
