use super::inner::{Inner, Summary};
use super::keys::common_prefix;
use super::leaf::{Entry, Leaf};
use super::root::{Link, Nursery};
use super::{Body, PageRef};
use crate::limits::{INNER_CHILDREN_MAX, LEAF_KEYS_MAX, NODE_KEY_BYTES_MAX};

/// What an insert did below a link.
struct Upserted {
    /// Change of the number of live keys.
    live: i32,
    /// The changed key's newest create or delete.
    changed: i64,
    /// Nodes that were split off to the right, in order; at most two, as a giant key is cut out of
    /// the middle.
    split: Vec<Split>,
}

struct Split {
    separator: Vec<u8>,
    right: Link,
}

/// Inserts or changes `key` in the tree of `root`, which grows by a level when it is split.
pub(super) fn upsert_root(
    nursery: &mut Nursery,
    root: &mut Link,
    key: &[u8],
    make: impl FnOnce(Option<&Entry>) -> Entry,
) -> Result<(), PageRef> {
    let mut split = upsert(nursery, root, key, make)?.split.into_iter();
    let Some(first) = split.next() else {
        return Ok(());
    };
    let right_summary = first.right.get().summary();
    let placeholder = nursery.alloc(Body::Leaf(Leaf::new()));
    let left = std::mem::replace(root, placeholder);
    let left_summary = left.get().summary();
    let mut inner = Inner::new(
        (left, left_summary),
        &first.separator,
        (first.right, right_summary),
    );
    for next in split {
        let summary = next.right.get().summary();
        inner.insert(inner.len(), &next.separator, next.right, summary);
    }
    let grown = nursery.alloc(Body::Inner(inner));
    nursery.release(std::mem::replace(root, grown));
    Ok(())
}

fn upsert(
    nursery: &mut Nursery,
    slot: &mut Link,
    key: &[u8],
    make: impl FnOnce(Option<&Entry>) -> Entry,
) -> Result<Upserted, PageRef> {
    slot.node()?;
    match nursery.make_mut(slot) {
        Body::Leaf(leaf) => Ok(upsert_leaf(nursery, leaf, key, make)),
        Body::Inner(inner) => {
            let index = inner.child_for(key);
            let mut below = upsert(nursery, inner.link_mut(index), key, make)?;
            if below.split.is_empty() {
                let old = inner.summary_of(index);
                let live = old
                    .live
                    .checked_add_signed(below.live)
                    .expect("a count of keys fits u32 and is not negative");
                inner.set_summary(
                    index,
                    Summary {
                        live,
                        changed: old.changed.max(below.changed),
                    },
                );
            } else {
                inner.set_summary(index, inner.child(index).summary());
                below.split = adopt(nursery, inner, index + 1, below.split);
            }
            Ok(below)
        }
    }
}

fn upsert_leaf(
    nursery: &mut Nursery,
    leaf: &mut Leaf,
    key: &[u8],
    make: impl FnOnce(Option<&Entry>) -> Entry,
) -> Upserted {
    let (index, is_equal) = leaf.search(key);
    if is_equal {
        let old = leaf.entry_mut(index);
        let was_live = old.is_live();
        *old = make(Some(&*old));
        let live = i32::from(old.is_live()) - i32::from(was_live);
        return Upserted {
            live,
            changed: old.changed(),
            split: Vec::new(),
        };
    }
    let entry = make(None);
    let live = i32::from(entry.is_live());
    let changed = entry.changed();
    let split = if leaf.is_full_for(key.len()) {
        insert_splitting(nursery, leaf, index, key, entry)
    } else {
        leaf.insert(index, key, entry);
        Vec::new()
    };
    Upserted {
        live,
        changed,
        split,
    }
}

/// Inserts into a leaf that has no room and returns what was cut off to its right. A key behind all
/// others starts a leaf of its own, so that ascending inserts leave full leaves; a giant key gets a
/// leaf of its own; else the leaf is halved.
fn insert_splitting(
    nursery: &mut Nursery,
    leaf: &mut Leaf,
    index: usize,
    key: &[u8],
    entry: Entry,
) -> Vec<Split> {
    let is_giant = key.len() > NODE_KEY_BYTES_MAX / 2;
    if index == leaf.len() || is_giant {
        let behind = (index < leaf.len()).then(|| leaf.split_off(index));
        let mut alone = Leaf::new();
        alone.insert(0, key, entry);
        if leaf.len() == 0 {
            *leaf = alone;
            return behind
                .map(|behind| split_between(nursery, leaf, behind))
                .into_iter()
                .collect();
        }
        let behind = behind.map(|behind| split_between(nursery, &alone, behind));
        let mut split = vec![split_between(nursery, leaf, alone)];
        split.extend(behind);
        return split;
    }
    let at = leaf.middle();
    let mut right = leaf.split_off(at);
    if index <= at {
        leaf.insert(index, key, entry);
    } else {
        right.insert(index - at, key, entry);
    }
    vec![split_between(nursery, leaf, right)]
}

/// The separator is the shortest that tells the two leaves apart.
fn split_between(nursery: &mut Nursery, left: &Leaf, right: Leaf) -> Split {
    let first = right.key(0);
    let shared = common_prefix(left.key(left.len() - 1), first);
    let separator = first[..=shared].to_vec();
    Split {
        separator,
        right: nursery.alloc(Body::Leaf(right)),
    }
}

/// Gives `inner` new children from `index` on; returns what had to be cut off to its right.
fn adopt(nursery: &mut Nursery, inner: &mut Inner, index: usize, split: Vec<Split>) -> Vec<Split> {
    let bytes = split.iter().map(|split| split.separator.len()).sum();
    let mut cut = None;
    if inner.is_full_for(split.len(), bytes) {
        let at = if index == inner.len() {
            index - 1
        } else {
            inner.len() / 2
        };
        cut = Some((at, inner.split_off(at)));
    }
    for (more, Split { separator, right }) in split.into_iter().enumerate() {
        let summary = right.get().summary();
        match &mut cut {
            Some((at, (_, behind))) if index > *at => {
                behind.insert(index - *at + more, &separator, right, summary)
            }
            _ => inner.insert(index + more, &separator, right, summary),
        }
    }
    let cut = cut.map(|(_, (separator, right))| Split {
        separator,
        right: nursery.alloc(Body::Inner(right)),
    });
    cut.into_iter().collect()
}

/// Takes `key` out of the tree of `root`, which loses a level when one child is left.
pub(super) fn remove_root(nursery: &mut Nursery, root: &mut Link, key: &[u8]) {
    remove(nursery, root, key);
    // The root itself is always in memory: it keeps a last child that is not.
    while let Body::Inner(inner) = &root.get().body
        && inner.len() <= 1
        && (inner.len() == 0 || inner.try_child(0).is_ok())
    {
        let Body::Inner(inner) = nursery.make_mut(root) else {
            break;
        };
        let child = if inner.len() == 1 {
            inner.remove(0)
        } else {
            nursery.alloc(Body::Leaf(Leaf::new()))
        };
        nursery.release(std::mem::replace(root, child));
    }
}

/// Returns the change of the number of live keys.
fn remove(nursery: &mut Nursery, slot: &mut Link, key: &[u8]) -> i32 {
    match nursery.make_mut(slot) {
        Body::Leaf(leaf) => {
            let (index, is_equal) = leaf.search(key);
            assert!(is_equal);
            let live = i32::from(leaf.entry(index).is_live());
            leaf.remove(index);
            -live
        }
        Body::Inner(inner) => {
            let index = inner.child_for(key);
            let live = remove(nursery, inner.link_mut(index), key);
            let old = inner.summary_of(index);
            // `changed` may now be too new; that costs time in reads of old revisions, never a
            // wrong count.
            let left = old
                .live
                .checked_add_signed(live)
                .expect("a count of keys is not negative");
            inner.set_summary(index, Summary { live: left, ..old });
            let child_len = inner.child(index).body.len();
            if child_len == 0 {
                let child = inner.remove(index);
                nursery.release(child);
            } else if child_len < LEAF_KEYS_MAX / 4 {
                merge(nursery, inner, index);
            }
            live
        }
    }
}

/// Merges child `index` with a neighbour if that is in memory and the two leave room in one node.
fn merge(nursery: &mut Nursery, inner: &mut Inner, index: usize) {
    let fits = |left: usize| {
        let (Ok(a), Ok(b)) = (inner.try_child(left), inner.try_child(left + 1)) else {
            return false;
        };
        let most = if matches!(a.body, Body::Leaf(_)) {
            LEAF_KEYS_MAX
        } else {
            INNER_CHILDREN_MAX
        };
        let separator = inner.separator(left + 1).len();
        a.body.len() + b.body.len() <= most * 3 / 4
            && a.keys().len() + b.keys().len() + separator <= NODE_KEY_BYTES_MAX
    };
    let left = if index > 0 && fits(index - 1) {
        index - 1
    } else if index + 1 < inner.len() && fits(index) {
        index
    } else {
        return;
    };
    let separator = inner.separator(left + 1).to_vec();
    let mut right = inner.remove(left + 1);
    let left_link = inner.link_mut(left);
    match (nursery.make_mut(left_link), nursery.make_mut(&mut right)) {
        (Body::Leaf(left), Body::Leaf(right)) => left.append(right),
        (Body::Inner(left), Body::Inner(right)) => left.append(&separator, right),
        _ => unreachable!("all leaves lie on one level"),
    }
    nursery.release(right);
    inner.set_summary(left, inner.child(left).summary());
}
