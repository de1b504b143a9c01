//! Who owns the nodes of the tree: the only unsafe code of the index.
//!
//! A `Link` whose lowest bit is set is no address but names a page. Any other owns its node as a `Box` would, but for two things. Copying an inner node copies its
//! links bit by bit; from then on the old node, and the links in it, belong to the published past
//! and are only read. And dropping a link frees nothing: `Nursery` frees a node at once if no
//! reader can know it, else through the epoch, in deferred functions of bounded size.
//!
//! So at any time: every node of the writer's tree hangs on one link; a node stamped with the
//! current batch was never published; a node that was replaced or released lives until no pin is
//! left that could have seen it.

use std::marker::PhantomData;
use std::mem;
use std::num::NonZero;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_epoch::{self as epoch, Atomic, Guard, Owned};

use super::{Body, Head, Leaf, Node, PageRef};

/// The one reference to a node in its version of the tree, or the name of the page that holds a leaf.
/// Not `Clone`: see the head of this file.
pub(super) struct Link(NonNull<Node>);

/// A page's name fits a link.
const _: () = assert!(usize::BITS == 64);
/// The lowest bit of an address is free.
const _: () = assert!(align_of::<Node>() > 1);

/// The writer's side: makes, copies and retires nodes.
pub(super) struct Nursery {
    /// The stamp of nodes made since the last publish; unique to this nursery's batch.
    batch: u64,
    /// Nodes of the published tree that the writer's tree no longer has.
    retired: Vec<NonNull<Node>>,
    /// Retired nodes handed to the epoch since it was last told to hurry.
    unflushed: usize,
    pub(super) memory: Memory,
}

/// What there is of the leaves of the writer's tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Leaves in memory.
    pub(crate) leaves: u64,
    /// Those of them that a page holds just as they are.
    pub(crate) clean: u64,
    /// Bytes of these.
    pub(crate) clean_bytes: u64,
    /// Leaves that are pages only.
    pub(crate) pages: u64,
}

/// The newest published tree and what belongs to it.
pub(crate) struct Shared<T> {
    /// Never null; owns the published state and, when dropped, every node below its root.
    current: Atomic<Published<T>>,
}

struct Published<T> {
    root: Link,
    rest: T,
}

/// Keeps everything that was published when it was made.
pub(crate) struct Pin<'s, T> {
    /// Declared for its drop: the epoch stays pinned as long as `state` can be used.
    _guard: Guard,
    state: NonNull<Published<T>>,
    shared: PhantomData<&'s Shared<T>>,
}

/// What one publish replaced; its drop is what the epoch defers.
struct Garbage<T> {
    nodes: Vec<NonNull<Node>>,
    state: Option<Owned<Published<T>>>,
}

// SAFETY: a link is a page's name or a unique reference to a node, and nodes are plain data, atomics,
// links and an `Arc<[u8]>`.
unsafe impl Send for Link {}
// SAFETY: through a shared link a node can only be read.
unsafe impl Sync for Link {}
// SAFETY: as for `Link`: the list only waits to be published or freed.
unsafe impl Send for Nursery {}
// SAFETY: a shared nursery can do nothing with its list.
unsafe impl Sync for Nursery {}
// SAFETY: garbage owns its nodes and its state; `T: Send` lets the state be dropped elsewhere.
unsafe impl<T: Send> Send for Garbage<T> {}

impl Link {
    /// A leaf that is on disk only.
    pub(super) fn to_page(page: PageRef) -> Self {
        let bits = usize::try_from(page.bits().get()).expect("as many bits");
        let bits = NonZero::new(bits).expect("the lowest bit is set");
        Self(NonNull::without_provenance(bits))
    }

    /// The node, or the page that holds it. For the writer a node lives until it is changed, which
    /// needs the link exclusively; for a reader the pin from which this link was reached keeps it.
    #[inline]
    pub(super) fn node(&self) -> Result<&Node, PageRef> {
        let bits = self.0.addr().get();
        if bits & 1 != 0 {
            return Err(PageRef::from_bits(bits as u64));
        }
        // SAFETY: an even address is that of a node (`alloc`, `copy`). It is freed only when no pin
        // that could reach this link is left, and by the writer only when the link was given up
        // (`release`) or replaced (`make_mut`), which this borrow excludes.
        Ok(unsafe { self.0.as_ref() })
    }

    /// The node of a link that is known to be none of a page.
    #[inline]
    pub(super) fn get(&self) -> &Node {
        self.node().expect("in memory")
    }

    /// The same node for the published past or for a node copied bit by bit; the caller keeps the
    /// two apart as the head says.
    fn alias(&self) -> Self {
        Self(self.0)
    }
}

impl Nursery {
    pub(super) fn new() -> Self {
        Self {
            batch: 1,
            retired: Vec::new(),
            unflushed: 0,
            memory: Memory::default(),
        }
    }

    /// A new node that only the writer knows.
    pub(super) fn alloc(&mut self, body: Body) -> Link {
        self.memory.leaves += u64::from(matches!(body, Body::Leaf(_)));
        Link(NonNull::from(Box::leak(Box::new(Node {
            head: Head::new(self.batch),
            body,
        }))))
    }

    /// A new leaf that `page` holds just so.
    pub(super) fn alloc_stored(&mut self, leaf: Leaf, page: PageRef) -> Link {
        let link = self.alloc(Body::Leaf(leaf));
        self.on_stored(link.get(), page);
        link
    }

    /// `page` holds this leaf just as it is, and none did before.
    pub(super) fn on_stored(&mut self, leaf: &Node, page: PageRef) {
        let before = leaf.head.stored.swap(page.bits().get(), Ordering::Relaxed);
        assert!(before == 0);
        self.memory.clean += 1;
        self.memory.clean_bytes += leaf.bytes();
    }

    /// The tree has this leaf no more, or will change it: if a page holds it, it counts no more.
    #[inline]
    fn on_dirty(&mut self, leaf: &Node) {
        if leaf.head.stored.load(Ordering::Relaxed) != 0 {
            self.memory.clean -= 1;
            self.memory.clean_bytes -= leaf.bytes();
        }
    }

    /// The node of `slot` for writing: itself if no reader can know it, else a copy that takes its
    /// place in `slot`.
    pub(super) fn make_mut<'l>(&mut self, slot: &'l mut Link) -> &'l mut Body {
        self.on_dirty(slot.get());
        if slot.get().head.batch != self.batch {
            let copy = self.copy(slot.get());
            self.retired.push(mem::replace(slot, copy).0);
        }
        // SAFETY: stamped with the current batch, so never published, and `slot`, borrowed
        // exclusively, is its only link.
        let node = unsafe { slot.0.as_mut() };
        *node.head.stored.get_mut() = 0;
        &mut node.body
    }

    /// The tree no longer has this node. Its children were given to other nodes before.
    pub(super) fn release(&mut self, link: Link) {
        self.on_dirty(link.get());
        self.memory.leaves -= u64::from(matches!(link.get().body, Body::Leaf(_)));
        if link.get().head.batch == self.batch {
            // SAFETY: never published, and its only link is given up here; it came from `Box` in
            // `alloc` or `copy`.
            drop(unsafe { Box::from_raw(link.0.as_ptr()) });
        } else {
            self.retired.push(link.0);
        }
    }

    /// A copy stamped with the current batch, of the body bit by bit.
    fn copy(&self, node: &Node) -> Link {
        let mut fresh = Box::<Node>::new_uninit();
        let to = fresh.as_mut_ptr();
        // SAFETY: inside the box; nothing is read.
        let head = unsafe { &raw mut (*to).head };
        // SAFETY: as above.
        let body = unsafe { &raw mut (*to).body };
        // SAFETY: inside the box, aligned as the node is.
        unsafe { head.write(Head::new(self.batch)) };
        // SAFETY: two distinct nodes. The head is not copied, as other threads may set its flags meanwhile.
        // Besides plain data and links (the old ones are only read from now on, see the head of this file)
        // a body holds one `Arc`, counted again below.
        unsafe { ptr::copy_nonoverlapping(&raw const node.body, body, 1) };
        mem::forget(node.keys().clone());
        // SAFETY: both fields were written just now.
        let fresh = unsafe { fresh.assume_init() };
        Link(NonNull::from(Box::leak(fresh)))
    }

    /// Shows `root` and `rest` to new pins, freezes all nodes made so far and hands the replaced
    /// ones to the epoch.
    pub(super) fn publish<T: Send + 'static>(
        &mut self,
        shared: &Shared<T>,
        root: &Link,
        rest: T,
        hurry: bool,
    ) {
        let state = Owned::new(Published {
            root: root.alias(),
            rest,
        });
        let guard = epoch::pin();
        // Release pairs with the load in `Shared::pin`: who sees the state sees the nodes. Acquire,
        // to free what it replaced.
        let old = shared.current.swap(state, Ordering::AcqRel, &guard);
        // SAFETY: it was the published state until now and is no longer reachable for new pins;
        // only this call retires it.
        let old = unsafe { old.into_owned() };
        let mut nodes = mem::take(&mut self.retired);
        self.unflushed += nodes.len();
        // Whoever runs a piece of garbage is held up for that long, and a large deletion replaces half
        // of the tree: a bag of its own for each piece spreads them over many pins.
        while nodes.len() > FLUSH_NODES {
            let piece = Garbage::<T> {
                nodes: nodes.split_off(nodes.len() - FLUSH_NODES),
                state: None,
            };
            guard.defer(move || drop(piece));
            guard.flush();
        }
        let garbage = Garbage {
            nodes,
            state: Some(old),
        };
        // The epoch runs it when all pins that are held now are gone.
        guard.defer(move || drop(garbage));
        if hurry || self.unflushed >= FLUSH_NODES {
            self.unflushed = 0;
            guard.flush();
        }
        self.freeze();
    }

    /// Shows new pins what `make` answers to the published `T`, beside the same root.
    pub(super) fn publish_rest<T: Send + 'static>(
        &mut self,
        shared: &Shared<T>,
        make: impl FnOnce(&T) -> T,
    ) {
        let guard = epoch::pin();
        // Acquire: as in `Shared::pin`.
        let old = shared.current.load(Ordering::Acquire, &guard);
        // SAFETY: never null, and `guard` keeps what was published when it was loaded.
        let old = unsafe { old.deref() };
        let state = Owned::new(Published {
            root: old.root.alias(),
            rest: make(&old.rest),
        });
        let old = shared.current.swap(state, Ordering::AcqRel, &guard);
        // SAFETY: as in `publish`; `&mut self` says that nobody else publishes. Its root is an alias: the
        // state owns no node.
        let state = Some(unsafe { old.into_owned() });
        let nodes = Vec::new();
        let garbage = Garbage { nodes, state };
        guard.defer(move || drop(garbage));
    }

    /// From now on no node made so far is changed in place.
    pub(super) fn freeze(&mut self) {
        self.batch += 1;
    }

    /// Frees what was made since the last publish and hangs on `link`; the rest belongs to
    /// `Shared`.
    pub(super) fn free_unpublished(&mut self, link: &mut Link) {
        if link
            .node()
            .map_or(true, |node| node.head.batch != self.batch)
        {
            return;
        }
        if let Body::Inner(inner) = self.make_mut(link) {
            while inner.len() > 0 {
                let mut child = inner.remove(inner.len() - 1);
                self.free_unpublished(&mut child);
            }
        }
        // SAFETY: never published; the caller gives up the tree that `link` hangs in and does not
        // use the link again.
        drop(unsafe { Box::from_raw(link.0.as_ptr()) });
    }
}

impl<T> Shared<T> {
    /// Publishes the first state.
    pub(super) fn new(root: &Link, rest: T) -> Arc<Self> {
        Arc::new(Self {
            current: Atomic::new(Published {
                root: root.alias(),
                rest,
            }),
        })
    }

    /// The newest published state, kept until the pin is dropped.
    pub(crate) fn pin(&self) -> Pin<'_, T> {
        let guard = epoch::pin();
        // Acquire pairs with the swap in `publish`.
        let state = self.current.load(Ordering::Acquire, &guard);
        let state =
            NonNull::new(state.as_raw().cast_mut()).expect("a state is published from the start");
        Pin {
            _guard: guard,
            state,
            shared: PhantomData,
        }
    }
}

impl<T> Pin<'_, T> {
    /// The root and what was published with it.
    pub(crate) fn get(&self) -> (&Node, &T) {
        // SAFETY: loaded under `_guard`; `publish` frees a state only through the epoch and
        // `Shared` outlives the pin.
        let state = unsafe { self.state.as_ref() };
        (state.root.get(), &state.rest)
    }
}

impl<T> Drop for Garbage<T> {
    fn drop(&mut self) {
        for node in self.nodes.drain(..) {
            // SAFETY: retired once, by `make_mut` or `release`; the epoch says that no pin can
            // reach it any more.
            drop(unsafe { Box::from_raw(node.as_ptr()) });
        }
        drop(self.state.take());
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let current = mem::replace(&mut self.current, Atomic::null());
        // SAFETY: `&mut self`: no pin is left (they borrow it), and the writer, who held an `Arc`
        // of it, is gone.
        let state = unsafe { current.into_owned() };
        free_below(&state.root);
    }
}

/// Frees a whole published tree. The caller owns it and uses no link of it again.
fn free_below(link: &Link) {
    let Ok(node) = link.node() else { return };
    if let Body::Inner(inner) = &node.body {
        for index in 0..inner.len() {
            free_below(inner.link(index));
        }
    }
    // SAFETY: see above; every node hangs on one link, so it is freed once.
    drop(unsafe { Box::from_raw(link.0.as_ptr()) });
}

/// Replaced nodes (2 KiB each) that may wait in this thread's bag before the epoch is told to
/// collect.
const FLUSH_NODES: usize = 256;
