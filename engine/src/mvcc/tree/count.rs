use super::{Body, Leaf, Left, Node};

/// Adds to `total` how many keys in `from..before` are live at main revision `rev`. `is_live` decides
/// for a key that was created, deleted or created anew after `rev`; it is asked only below nodes
/// where that happened, in the order of the keys. Where it fails the keys before are counted. Of pages
/// only those at the bounds, or where that happened, must be loaded.
///
/// # Errors
/// Those of `is_live`, or a page must be loaded first.
pub(crate) fn count<'a, B>(
    node: &'a Node,
    from: Option<&[u8]>,
    before: Option<&[u8]>,
    rev: i64,
    total: &mut u64,
    is_live: &mut impl FnMut(&'a Leaf, usize) -> Result<bool, Left<B>>,
) -> Result<(), Left<B>> {
    match &node.body {
        Body::Leaf(leaf) => {
            node.touch();
            let first = from.map_or(0, |from| leaf.search(from).0);
            let end = before.map_or(leaf.len(), |before| leaf.search(before).0);
            for index in first..end {
                let entry = leaf.entry(index);
                let live = if entry.changed() <= rev {
                    entry.is_live()
                } else {
                    is_live(leaf, index)?
                };
                *total += u64::from(live);
            }
        }
        Body::Inner(inner) => {
            let first = from.map_or(0, |from| inner.child_for(from));
            let last = before.map_or(inner.len() - 1, |before| inner.child_for(before));
            for index in first..=last {
                let from = from.filter(|_| index == first);
                let before = before.filter(|_| index == last);
                let summary = inner.summary_of(index);
                if from.is_none() && before.is_none() && summary.changed <= rev {
                    *total += u64::from(summary.live);
                } else {
                    let child = inner.try_child(index).map_err(Left::Page)?;
                    count(child, from, before, rev, total, is_live)?;
                }
            }
        }
    }
    Ok(())
}
