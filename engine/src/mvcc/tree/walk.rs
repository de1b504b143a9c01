use std::ops::{ControlFlow, Range};

use super::{Body, Leaf, Node, PageRef, Summary};

/// Why a walk ended early.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left<B> {
    /// The visitor broke off.
    Visitor(B),
    /// This page must be loaded first; what lies before it was visited.
    Page(PageRef),
}

/// Hands out, in key order, each leaf with keys in `from..before` and the places of those keys.
/// `None` is no bound.
pub(crate) fn walk<'a, B>(
    node: &'a Node,
    from: Option<&[u8]>,
    before: Option<&[u8]>,
    visit: &mut impl FnMut(&'a Leaf, Range<usize>) -> ControlFlow<B>,
) -> ControlFlow<Left<B>> {
    match &node.body {
        Body::Leaf(leaf) => visit_leaf(node, leaf, from, before, visit),
        Body::Inner(inner) => {
            let first = from.map_or(0, |from| inner.child_for(from));
            let last = before.map_or(inner.len() - 1, |before| inner.child_for(before));
            for index in first..=last {
                let from = from.filter(|_| index == first);
                let before = before.filter(|_| index == last);
                match inner.try_child(index) {
                    Ok(child) => walk(child, from, before, visit)?,
                    Err(page) => return ControlFlow::Break(Left::Page(page)),
                }
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
) -> ControlFlow<Left<B>> {
    match &node.body {
        Body::Leaf(leaf) => visit_leaf(node, leaf, from, before, visit),
        Body::Inner(inner) => {
            let first = from.map_or(0, |from| inner.child_for(from));
            let last = before.map_or(inner.len() - 1, |before| inner.child_for(before));
            for index in (first..=last).rev() {
                let from = from.filter(|_| index == first);
                let before = before.filter(|_| index == last);
                match inner.try_child(index) {
                    Ok(child) => walk_back(child, from, before, visit)?,
                    Err(page) => return ControlFlow::Break(Left::Page(page)),
                }
            }
            ControlFlow::Continue(())
        }
    }
}

fn visit_leaf<'a, B>(
    node: &Node,
    leaf: &'a Leaf,
    from: Option<&[u8]>,
    before: Option<&[u8]>,
    visit: &mut impl FnMut(&'a Leaf, Range<usize>) -> ControlFlow<B>,
) -> ControlFlow<Left<B>> {
    node.touch();
    let first = from.map_or(0, |from| leaf.search(from).0);
    let end = before.map_or(leaf.len(), |before| leaf.search(before).0);
    if first < end {
        visit(leaf, first..end).map_break(Left::Visitor)
    } else {
        ControlFlow::Continue(())
    }
}

/// A leaf as its parent knows it, in memory or not.
pub(crate) struct Bottom<'a> {
    /// Not above its first key and above all keys before it; empty for the first leaf.
    pub(crate) separator: &'a [u8],
    pub(crate) summary: Summary,
    /// The page that holds it just as it is.
    pub(crate) page: Option<PageRef>,
    /// The leaf and the batch in which it was last changed, if it is in memory.
    pub(crate) leaf: Option<(&'a Leaf, u64)>,
}

/// Hands out every leaf from the one on in whose range `from` lies. Counts as no read.
pub(crate) fn walk_bottom<'a, B>(
    node: &'a Node,
    from: &[u8],
    visit: &mut impl FnMut(Bottom<'a>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    bottom(Ok(node), node.summary(), &[], Some(from), visit)
}

fn bottom<'a, B>(
    node: Result<&'a Node, PageRef>,
    summary: Summary,
    separator: &'a [u8],
    from: Option<&[u8]>,
    visit: &mut impl FnMut(Bottom<'a>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let (page, leaf) = match node {
        Err(page) => (Some(page), None),
        Ok(node) => match &node.body {
            Body::Leaf(leaf) => (node.stored(), Some((leaf, node.head.batch))),
            Body::Inner(inner) => {
                let first = from.map_or(0, |from| inner.child_for(from));
                for index in first..inner.len() {
                    let separator = match index {
                        0 => separator,
                        _ => inner.separator(index),
                    };
                    let from = from.filter(|_| index == first);
                    let summary = inner.summary_of(index);
                    bottom(inner.try_child(index), summary, separator, from, visit)?;
                }
                return ControlFlow::Continue(());
            }
        },
    };
    visit(Bottom {
        separator,
        summary,
        page,
        leaf,
    })
}
