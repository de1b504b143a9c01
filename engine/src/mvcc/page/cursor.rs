use std::ops::{ControlFlow, Range};

use super::write::IndexWriter;
use crate::limits::READ_SLICE_RECORDS;
use crate::mvcc::range::Resume;
use crate::mvcc::tree::{self, Leaf};
use crate::mvcc::view::View;
use crate::mvcc::wants::NeedRead;

/// Writes the index exactly as it was at one revision while the tree changes: every key that was in
/// it then, tombstones included, with the entry of then. Who uses it holds that revision (`Hold`),
/// so that the chains of records lead there.
pub(in crate::mvcc) struct IndexCursor {
    revision: i64,
    at: Resume,
    writer: IndexWriter,
    /// Live keys at the revision that were not written yet: none at the end.
    live_left: u32,
    is_complete: bool,
}

impl IndexCursor {
    /// Of the index that `view` shows.
    pub(in crate::mvcc) fn new(view: &View<'_>) -> Self {
        Self {
            revision: view.revision(),
            at: Resume::default(),
            writer: IndexWriter::default(),
            live_left: view.root.live(),
            is_complete: false,
        }
    }

    /// Appends the pages of the next keys to `out`: looks at `READ_SLICE_RECORDS` keys, or at fewer
    /// once `out` has `bytes`. Each call gets a view of the newest state. False at the end.
    ///
    /// # Errors
    /// A segment must be read first; call again then.
    pub(in crate::mvcc) fn next_slice(
        &mut self,
        view: &View<'_>,
        out: &mut Vec<u8>,
        bytes: usize,
    ) -> Result<bool, NeedRead> {
        if self.is_complete {
            return Ok(false);
        }
        let mut left = READ_SLICE_RECORDS;
        let resumed = std::mem::take(&mut self.at);
        let from = resumed.is_set.then_some(&resumed.key[..]);
        let mut visit = |leaf: &Leaf, places: Range<usize>| {
            for index in places {
                let key = leaf.key(index);
                if left == 0 || out.len() >= bytes {
                    return ControlFlow::Break((key.to_vec(), None));
                }
                left -= 1;
                let chain = resumed.chain.filter(|_| from == Some(key));
                match view.entry_at(leaf.entry(index), self.revision, chain) {
                    Ok(Some(entry)) => {
                        let live = u32::from(entry.is_live());
                        self.live_left = self.live_left.checked_sub(live).expect(NOT_AS_IT_WAS);
                        self.writer.push(key, &entry, out);
                    }
                    Ok(None) => {}
                    Err(miss) => return ControlFlow::Break((key.to_vec(), Some(miss))),
                }
            }
            ControlFlow::Continue(())
        };
        if let ControlFlow::Break((key, miss)) = tree::walk(view.root, from, None, &mut visit) {
            self.at.set(&key);
            self.at.chain = miss.map(|miss| miss.at);
            return miss.map_or(Ok(true), |miss| Err(miss.into()));
        }
        assert!(self.live_left == 0, "{NOT_AS_IT_WAS}");
        self.writer.finish(out);
        self.is_complete = true;
        Ok(false)
    }
}

/// A start would serve another state than the log made.
const NOT_AS_IT_WAS: &str = "each key that was live at the revision is written once";

#[cfg(test)]
mod tests;
