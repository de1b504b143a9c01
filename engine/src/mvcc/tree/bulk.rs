use std::mem;

use super::inner::{Inner, Summary};
use super::leaf::Leaf;
use super::root::{Link, Nursery};
use super::{Body, PageRef, Tree};
use crate::limits::{INNER_CHILDREN_MAX, NODE_KEY_BYTES_MAX};

/// Builds a tree above leaves that are on disk, in key order: full inner nodes, no leaf in memory.
pub(crate) struct Bulk {
    nursery: Nursery,
    /// Nodes without a parent, by level from the leaves up: children of the node that is next on
    /// the level above.
    levels: Vec<Level>,
}

#[derive(Default)]
struct Level {
    /// Nodes with what separates each from the one before.
    children: Vec<(Vec<u8>, Link, Summary)>,
    /// Bytes of the separators but the first, which stands in a node above.
    bytes: usize,
}

impl Default for Bulk {
    fn default() -> Self {
        Self::new()
    }
}

impl Bulk {
    pub(crate) fn new() -> Self {
        Self {
            nursery: Nursery::new(),
            levels: Vec::new(),
        }
    }

    /// Adds the leaf of `page` behind all others; `separator` is above all keys before it and not above
    /// its first.
    pub(crate) fn push(&mut self, separator: &[u8], page: PageRef, summary: Summary) {
        self.nursery.memory.pages += 1;
        self.add(0, separator.to_vec(), Link::to_page(page), summary);
    }

    /// The tree, published with `rest`.
    pub(crate) fn finish<T: Send + Sync + 'static>(mut self, rest: T) -> Tree<T> {
        let mut level = 0;
        let root = loop {
            let is_top = level + 1 >= self.levels.len();
            let Some(Level { children, .. }) = self.levels.get_mut(level) else {
                break self.nursery.alloc(Body::Leaf(Leaf::new()));
            };
            // The root is in memory always, leaves are not.
            let is_root = is_top && level > 0 && children.len() == 1;
            if is_root && let Some((_, root, _)) = children.pop() {
                break root;
            }
            self.close_inner(level);
            level += 1;
        };
        let nursery = mem::replace(&mut self.nursery, Nursery::new());
        Tree::new(nursery, root, rest)
    }

    fn close_inner(&mut self, level: usize) {
        let mut children = mem::take(&mut self.levels[level]).children;
        let separator = mem::take(&mut children[0].0);
        let inner = Inner::of_sorted(children);
        let summary = inner.summary();
        let inner = self.nursery.alloc(Body::Inner(inner));
        self.add(level + 1, separator, inner, summary);
    }

    fn add(&mut self, level: usize, separator: Vec<u8>, node: Link, summary: Summary) {
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
        children.push((separator, node, summary));
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        for level in &mut self.levels {
            for (_, node, _) in &mut level.children {
                self.nursery.free_unpublished(node);
            }
        }
    }
}
