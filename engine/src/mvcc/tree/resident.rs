use std::sync::atomic::Ordering;

use super::root::{Link, Nursery};
use super::{Body, Inner, Leaf, PageRef, Tree};

/// A leaf that a checkpoint has written to a page.
#[derive(Debug)]
pub(crate) struct Written {
    /// Of the leaf then.
    pub(crate) separator: Box<[u8]>,
    pub(crate) was: Was,
    /// Where it lies now.
    pub(crate) page: PageRef,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Was {
    /// A leaf in memory that was last changed in this batch, just as it was.
    Batch(u64),
    /// Another page, which was copied.
    Page(PageRef),
}

impl<T: Send + Sync + 'static> Tree<T> {
    /// Takes the leaf of `page` into memory; false if it is there, or the tree has changed since.
    pub(crate) fn load(&mut self, page: PageRef, leaf: Leaf) -> bool {
        if leaf.len() == 0 || bottom(&self.root, leaf.key(0)).node().err() != Some(page) {
            return false;
        }
        let key = leaf.key(0).to_vec();
        let loaded = self.nursery.alloc_stored(leaf, page);
        *bottom_mut(&mut self.nursery, &mut self.root, &key) = loaded;
        self.nursery.memory.pages -= 1;
        true
    }

    /// Hears where a leaf lies now, if it is still what was written. True if readers must see that.
    pub(crate) fn settle(&mut self, written: &Written) -> bool {
        let key = &*written.separator;
        let found = bottom(&self.root, key).node();
        match (found, written.was) {
            (Ok(node), Was::Batch(batch)) => {
                // The leaf of this separator may be gone, and its left neighbour be as old.
                let is_it = match &node.body {
                    Body::Leaf(leaf) => leaf.len() > 0 && leaf.key(0) >= key,
                    Body::Inner(_) => false,
                };
                if is_it && node.head.batch == batch && node.stored().is_none() {
                    self.nursery.on_stored(node, written.page);
                }
                false
            }
            (Ok(node), Was::Page(page)) => {
                if node.stored() == Some(page) {
                    node.head
                        .stored
                        .store(written.page.bits().get(), Ordering::Relaxed);
                }
                false
            }
            (Err(found), was) => {
                let is_it = was == Was::Page(found);
                if is_it {
                    let slot = bottom_mut(&mut self.nursery, &mut self.root, key);
                    *slot = Link::to_page(written.page);
                }
                is_it
            }
        }
    }

    /// Gives back leaves that pages hold until at most `bound` bytes of them are in memory, those that
    /// were not read since it last came by; looks at about `looks` leaves. True if any went.
    pub(crate) fn evict(&mut self, bound: u64, looks: usize) -> bool {
        let (mut left, mut is_any) = (looks, false);
        while self.nursery.memory.clean_bytes > bound && left > 0 {
            let Some((inner, behind)) = bottom_inner(&self.root, &self.hand) else {
                // The only leaf there is stays.
                break;
            };
            let unused: Vec<usize> = (0..inner.len())
                .filter(|index| is_unused(inner, *index))
                .collect();
            left = left.saturating_sub(inner.len());
            let behind = behind.map_or(Vec::new(), <[u8]>::to_vec);
            if !unused.is_empty() {
                let at = std::mem::take(&mut self.hand);
                self.nursery.give_back(&mut self.root, &at, &unused);
                is_any = true;
            }
            self.hand = behind;
        }
        is_any
    }
}

impl Nursery {
    /// Gives back these children, which pages hold, of the lowest inner node on the way to `key`.
    fn give_back(&mut self, root: &mut Link, key: &[u8], children: &[usize]) {
        let mut slot = root;
        loop {
            let Body::Inner(inner) = self.make_mut(slot) else {
                unreachable!("it stands above the leaves");
            };
            if !is_lowest(inner) {
                let index = inner.child_for(key);
                slot = inner.link_mut(index);
                continue;
            }
            for index in children {
                let link = inner.link_mut(*index);
                let page = link.get().stored().expect("looked at just now");
                let leaf = std::mem::replace(link, Link::to_page(page));
                self.release(leaf);
                self.memory.pages += 1;
            }
            return;
        }
    }
}

/// Whether the child is a leaf that a page holds and that was not read since the last look.
fn is_unused(inner: &Inner, index: usize) -> bool {
    inner.try_child(index).is_ok_and(|node| {
        let is_clean = node.stored().is_some();
        is_clean && !node.head.used.swap(false, Ordering::Relaxed)
    })
}

/// Whether the children are leaves.
fn is_lowest(inner: &Inner) -> bool {
    inner
        .try_child(0)
        .map_or(true, |node| matches!(node.body, Body::Leaf(_)))
}

/// The link of the leaf in whose range `key` lies.
fn bottom<'n>(root: &'n Link, key: &[u8]) -> &'n Link {
    let mut link = root;
    while let Ok(node) = link.node()
        && let Body::Inner(inner) = &node.body
    {
        link = inner.link(inner.child_for(key));
    }
    link
}

/// The same link for change; the nodes above it become the batch's own.
fn bottom_mut<'n>(nursery: &mut Nursery, root: &'n mut Link, key: &[u8]) -> &'n mut Link {
    let mut slot = root;
    loop {
        let is_inner = slot
            .node()
            .is_ok_and(|node| matches!(node.body, Body::Inner(_)));
        if !is_inner {
            return slot;
        }
        let Body::Inner(inner) = nursery.make_mut(slot) else {
            unreachable!("looked at just now");
        };
        let index = inner.child_for(key);
        slot = inner.link_mut(index);
    }
}

/// The lowest inner node on the way to `key`, and where the next one begins; `None` if the root is a
/// leaf.
fn bottom_inner<'n>(root: &'n Link, key: &[u8]) -> Option<(&'n Inner, Option<&'n [u8]>)> {
    let (mut link, mut behind, mut found) = (root, None, None);
    while let Ok(node) = link.node()
        && let Body::Inner(inner) = &node.body
    {
        found = Some((inner, behind));
        let index = inner.child_for(key);
        if index + 1 < inner.len() {
            behind = Some(inner.separator(index + 1));
        }
        link = inner.link(index);
    }
    found
}
