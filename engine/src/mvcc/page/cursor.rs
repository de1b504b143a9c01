use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::archive::{PageBuilder, Sealed};
use super::file::IndexFileWriter;
use super::files::{Copier, IndexFiles, KnownFile};
use super::table::{TableRow, TableWriter};
use crate::disk::Disk;
use crate::limits::{INDEX_SLICE_LEAVES, READ_SLICE_RECORDS};
use crate::mvcc::revlog::BadSegment;
use crate::mvcc::revlog::Position;
use crate::mvcc::tree::{PageRef, Summary, Was, Written, walk_bottom};
use crate::mvcc::view::View;
use crate::mvcc::wants::NeedRead;

/// Writes the index exactly as it was at one revision while the tree changes: every key that was in
/// it then, tombstones included, with the entry of then. Leaves that pages hold are only named, the
/// others become pages of one new file. Who uses it holds that revision (`Hold`), so that the chains
/// of records lead there.
pub(in crate::mvcc) struct IndexCursor {
    revision: i64,
    /// As long as it is held, no key is taken out of the index.
    _walk: Arc<()>,
    /// The separator of the next leaf, or the key in it that is next.
    at: Vec<u8>,
    /// How far the search for the record of that key came.
    chain: Option<Position>,
    is_walked: bool,
    builder: PageBuilder,
    /// Leaves that the last slice found.
    found: Vec<Found>,
    table: TableWriter,
    files: IndexFiles,
    /// Files that are copied to the new one.
    copied: BTreeSet<u32>,
    copier: Copier,
    /// What the new file is called in the tree.
    file: u32,
    writer: IndexFileWriter,
    /// Pages in use, by file.
    used: BTreeMap<u32, u32>,
    written: Vec<Written>,
    /// Live keys at the revision that were not seen yet: none at the end.
    live_left: u32,
    is_complete: bool,
}

/// A leaf as it was at the revision.
struct Found {
    separator: Vec<u8>,
    summary: Summary,
    what: What,
}

enum What {
    /// A page holds it.
    Page(PageRef),
    /// This page will; `Some` if the leaf is still just so, with its batch.
    New(Sealed, Option<u64>),
}

/// What a durable checkpoint says of the index, for `Store::on_checkpoint`.
pub(in crate::mvcc) struct IndexWritten {
    pub(in crate::mvcc) files: IndexFiles,
    pub(in crate::mvcc) written: Vec<Written>,
}

impl IndexCursor {
    /// Of the index that `view` shows, in which about `dirty` leaves are in no page. New pages go to file `number`,
    /// called `file`.
    pub(in crate::mvcc) fn new(
        view: &View<'_>,
        walks: &Arc<()>,
        files: &IndexFiles,
        dirty: u64,
        file: u32,
        number: u64,
    ) -> Self {
        Self {
            revision: view.revision(),
            _walk: Arc::clone(walks),
            at: Vec::new(),
            chain: None,
            is_walked: false,
            builder: PageBuilder::default(),
            found: Vec::new(),
            table: TableWriter::default(),
            files: files.in_use(),
            copied: files.worth_copying(dirty),
            copier: Copier::default(),
            file,
            writer: IndexFileWriter::new(number),
            used: BTreeMap::new(),
            written: Vec::new(),
            live_left: view.root.live(),
            is_complete: false,
        }
    }

    /// Looks at the next leaves: about `READ_SLICE_RECORDS` keys, or `INDEX_SLICE_LEAVES` leaves that are only named. Each
    /// call gets a view of the newest state; `write` comes behind it.
    ///
    /// # Errors
    /// A segment must be read first; call again then.
    pub(in crate::mvcc) fn look(&mut self, view: &View<'_>) -> Result<(), NeedRead> {
        if self.is_walked {
            return Ok(());
        }
        let (mut keys, mut leaves) = (READ_SLICE_RECORDS, INDEX_SLICE_LEAVES);
        let at = mem::take(&mut self.at);
        let mut chain = self.chain.take();
        let (builder, found, revision) = (&mut self.builder, &mut self.found, self.revision);
        let live_left = &mut self.live_left;
        let mut add = |separator: &[u8], summary: Summary, what: What| {
            *live_left = live_left.checked_sub(summary.live).expect(NOT_AS_IT_WAS);
            found.push(Found {
                separator: separator.to_vec(),
                summary,
                what,
            });
        };
        let stopped = walk_bottom(view.root, &at, &mut |bottom| {
            if keys == 0 || leaves == 0 {
                return ControlFlow::Break((bottom.separator.to_vec(), None));
            }
            leaves -= 1;
            if let Some(page) = bottom.page {
                // The content is from before the revision.
                add(bottom.separator, bottom.summary, What::Page(page));
                return ControlFlow::Continue(());
            }
            let (leaf, batch) = bottom.leaf.expect("a leaf is in memory or in a page");
            keys = keys.saturating_sub(leaf.len());
            // The first one may be done in part.
            let is_whole = bottom.separator >= &at[..];
            let separator = if is_whole { bottom.separator } else { &at };
            let first = if is_whole { 0 } else { leaf.search(&at).0 };
            let mut is_same = is_whole;
            for index in first..leaf.len() {
                let (key, entry) = (leaf.key(index), leaf.entry(index));
                is_same &= entry.main <= revision;
                let chain = chain.take().filter(|_| *key == at[..]);
                match view.entry_at(entry, revision, chain) {
                    Ok(Some(entry)) => builder.push(key, &entry),
                    Ok(None) => {}
                    Err(miss) => {
                        if let Some(page) = builder.seal() {
                            add(separator, page.summary, What::New(page, None));
                        }
                        return ControlFlow::Break((key.to_vec(), Some(miss)));
                    }
                }
            }
            if let Some(page) = builder.seal() {
                let batch = is_same.then_some(batch);
                add(separator, page.summary, What::New(page, batch));
            }
            ControlFlow::Continue(())
        });
        match stopped {
            ControlFlow::Break((at, miss)) => {
                self.at = at;
                self.chain = miss.and_then(|miss| miss.at);
                miss.map_or(Ok(()), |miss| Err(miss.into()))
            }
            ControlFlow::Continue(()) => {
                assert!(*live_left == 0, "{NOT_AS_IT_WAS}");
                self.is_walked = true;
                Ok(())
            }
        }
    }

    /// Writes what the last look found to the new file, and what names it to `out`. False at the end.
    ///
    /// # Errors
    /// The disk's, or a page is damaged that is to be copied.
    pub(in crate::mvcc) fn write(
        &mut self,
        disk: &mut dyn Disk,
        salt: u64,
        out: &mut Vec<u8>,
    ) -> Result<bool, BadSegment> {
        if self.is_complete {
            return Ok(false);
        }
        for found in mem::take(&mut self.found) {
            let Found {
                separator,
                summary,
                what,
            } = found;
            let (page, was) = match what {
                What::New(page, batch) => (page, batch.map(Was::Batch)),
                What::Page(page) if self.copied.contains(&page.file) => {
                    let copy = Sealed {
                        archive: self.copier.archive(&self.files, page, disk)?,
                        summary,
                        is_leased: self.files.is_leased(page),
                    };
                    (copy, Some(Was::Page(page)))
                }
                What::Page(page) => {
                    self.name(&separator, page, summary, out);
                    continue;
                }
            };
            let page = PageRef {
                file: self.file,
                page: self.writer.push(&page),
            };
            self.writer.flush(disk)?;
            self.name(&separator, page, summary, out);
            let separator = separator.into();
            self.written.extend(was.map(|was| Written {
                separator,
                was,
                page,
            }));
        }
        if !self.is_walked {
            return Ok(true);
        }
        if let Some(file) = self.writer.finish(disk, salt)? {
            let (file, used) = (Arc::new(file), 0);
            self.files.add(self.file, KnownFile { file, used });
        }
        self.files.set_used(&self.used);
        for (file, known) in self.files.iter() {
            self.table.file(file, &known.file.named(), out);
        }
        self.table.finish(out);
        self.is_complete = true;
        Ok(false)
    }

    fn name(&mut self, separator: &[u8], page: PageRef, summary: Summary, out: &mut Vec<u8>) {
        *self.used.entry(page.file).or_default() += 1;
        let row = TableRow {
            separator,
            page,
            summary,
        };
        self.table.push(&row, out);
    }

    /// The numbers of the files that it names, at the end.
    pub(in crate::mvcc) fn named(&self) -> impl Iterator<Item = u64> {
        self.files.iter().map(|(_, known)| known.file.number)
    }

    /// Whether there may be a new file.
    pub(in crate::mvcc) fn is_making(&self) -> bool {
        self.writer.is_begun()
    }

    /// Its end.
    pub(in crate::mvcc) fn take_written(&mut self) -> IndexWritten {
        IndexWritten {
            files: mem::take(&mut self.files),
            written: mem::take(&mut self.written),
        }
    }
}

/// A start would serve another state than the log made.
const NOT_AS_IT_WAS: &str = "each key that was live at the revision is written once";

#[cfg(test)]
mod tests;
