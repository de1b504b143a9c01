use std::ops::{ControlFlow, Range};

use super::{Body, Leaf, Node};

/// Hands out, in key order, each leaf with keys in `from..before` and the places of those keys.
/// `None` is no bound.
pub(crate) fn walk<'a, B>(
    node: &'a Node,
    from: Option<&[u8]>,
    before: Option<&[u8]>,
    visit: &mut impl FnMut(&'a Leaf, Range<usize>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    match &node.body {
        Body::Leaf(leaf) => visit_leaf(leaf, from, before, visit),
        Body::Inner(inner) => {
            let first = from.map_or(0, |from| inner.child_for(from));
            let last = before.map_or(inner.len() - 1, |before| inner.child_for(before));
            for index in first..=last {
                let from = from.filter(|_| index == first);
                let before = before.filter(|_| index == last);
                walk(inner.child(index), from, before, visit)?;
            }
            ControlFlow::Continue(())
        }
    }
}

/// `walk` from the last leaf to the first; places inside a leaf still ascend.
pub(crate) fn walk_back<'a, B>(
    node: &'a Node,
    from: Option<&[u8]>,
    before: Option<&[u8]>,
    visit: &mut impl FnMut(&'a Leaf, Range<usize>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    match &node.body {
        Body::Leaf(leaf) => visit_leaf(leaf, from, before, visit),
        Body::Inner(inner) => {
            let first = from.map_or(0, |from| inner.child_for(from));
            let last = before.map_or(inner.len() - 1, |before| inner.child_for(before));
            for index in (first..=last).rev() {
                let from = from.filter(|_| index == first);
                let before = before.filter(|_| index == last);
                walk_back(inner.child(index), from, before, visit)?;
            }
            ControlFlow::Continue(())
        }
    }
}

fn visit_leaf<'a, B>(
    leaf: &'a Leaf,
    from: Option<&[u8]>,
    before: Option<&[u8]>,
    visit: &mut impl FnMut(&'a Leaf, Range<usize>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let first = from.map_or(0, |from| leaf.search(from).0);
    let end = before.map_or(leaf.len(), |before| leaf.search(before).0);
    if first < end {
        visit(leaf, first..end)
    } else {
        ControlFlow::Continue(())
    }
}
