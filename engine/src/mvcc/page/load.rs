use std::collections::BTreeMap;
use std::sync::Arc;

use super::archive::CheckedPage;
use super::file::{IndexFile, IndexFileRef};
use super::files::{Copier, IndexFiles, KnownFile};
use super::table::{BadIndex, Part, TableReader};
use crate::disk::Disk;
use crate::lease::Attached;
use crate::mvcc::revlog::BadSegment;
use crate::mvcc::tree::{Bulk, PageRef};
use crate::types::LeaseId;

/// Builds the index above the pages that a checkpoint names.
pub(in crate::mvcc) struct IndexLoad {
    /// Of the checkpoint: no page is newer.
    revision: i64,
    table: TableReader,
    bulk: Bulk,
    /// Of all leaves, in key order.
    pages: Vec<PageRef>,
    /// Of each file: pages in use, and the last of them.
    used: BTreeMap<u32, (u32, u32)>,
    named: BTreeMap<u32, IndexFileRef>,
    is_complete: bool,
}

/// An index without a leaf in memory.
#[derive(Default)]
pub(in crate::mvcc) struct LoadedIndex {
    pub(in crate::mvcc) bulk: Bulk,
    pub(in crate::mvcc) files: IndexFiles,
    /// Which keys hang on which lease.
    pub(in crate::mvcc) attached: Attached,
}

impl IndexLoad {
    /// Awaits the table of an index at `revision`.
    pub(in crate::mvcc) fn new(revision: i64) -> Self {
        Self {
            revision,
            table: TableReader::new(revision),
            bulk: Bulk::new(),
            pages: Vec::new(),
            used: BTreeMap::new(),
            named: BTreeMap::new(),
            is_complete: false,
        }
    }

    /// Takes the parts that have come whole; answers how many bytes they have.
    ///
    /// # Errors
    /// They do not go on as a table does; the load is over.
    pub(in crate::mvcc) fn push(&mut self, bytes: &[u8]) -> Result<usize, BadIndex> {
        let mut rest = bytes;
        while !self.is_complete
            && let Some((part, taken)) = self.table.read(rest)?
        {
            rest = &rest[taken..];
            match part {
                Part::Row(row) => {
                    let (used, last) = self.used.entry(row.page.file).or_default();
                    *used += 1;
                    *last = row.page.page.max(*last);
                    self.bulk.push(row.separator, row.page, row.summary);
                    self.pages.push(row.page);
                }
                Part::File(file, named) => _ = self.named.insert(file, named),
                Part::End => self.is_complete = true,
            }
        }
        if self.is_complete {
            self.check_files()?;
        }
        Ok(bytes.len() - rest.len())
    }

    /// Whether the end has come.
    pub(in crate::mvcc) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The numbers of the files of pages.
    pub(in crate::mvcc) fn named(&self) -> impl Iterator<Item = u64> {
        self.named.values().map(|named| named.number)
    }

    /// Reads all files of pages, each from one end to the other, and answers what is wrong with them.
    /// `revision` is the checkpoint's.
    pub(in crate::mvcc) fn inspect(
        &self,
        disk: &mut dyn Disk,
        salt: u64,
        revision: i64,
    ) -> Vec<BadSegment> {
        let read = |named| IndexFile::open(disk, salt, named)?.check_all(disk, revision);
        let read = self.named.values().map(read);
        read.filter_map(Result::err).collect()
    }

    /// The index; reads the tables of the files, and the pages that have leases.
    ///
    /// # Errors
    /// A file is not the one that was written.
    pub(in crate::mvcc) fn finish(
        self,
        disk: &mut dyn Disk,
        salt: u64,
    ) -> Result<LoadedIndex, BadSegment> {
        let mut files = BTreeMap::new();
        for (file, named) in &self.named {
            let known = KnownFile {
                file: Arc::new(IndexFile::open(disk, salt, named)?),
                used: self.used.get(file).map_or(0, |(used, _)| *used),
            };
            files.insert(*file, known);
        }
        let files = IndexFiles::new(files);
        let (mut attached, mut copier) = (Attached::default(), Copier::default());
        let leased = self.pages.iter().filter(|page| files.is_leased(**page));
        for page in leased {
            let archive = copier.archive(&files, *page, disk)?;
            let checked = CheckedPage::open(&archive, self.revision);
            let checked = checked.map_err(|_| files.rotten(*page))?;
            checked.each_leased(|key, lease| attached.change(key, LeaseId(0), lease));
        }
        Ok(LoadedIndex {
            bulk: self.bulk,
            files,
            attached,
        })
    }

    /// Every page must be in a file that is named, which has no more of them in use than there are.
    fn check_files(&self) -> Result<(), BadIndex> {
        for (file, (used, last)) in &self.used {
            let pages = self.named.get(file).map_or(0, |named| named.pages);
            if *used > pages || *last >= pages {
                return Err(BadIndex::Page { file: *file });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
