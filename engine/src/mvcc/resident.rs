//! What of the store is in memory: what was read comes in, what nobody reads goes.

use std::collections::BTreeSet;

use super::NeedRead;
use super::page::IndexWritten;
use super::revlog::BadSegment;
use super::store::Store;
use super::tree::{Leaf, PageRef};
use super::wants::PartRead;
use crate::disk::{Disk, Pages, ReadAhead, read_pages};
use crate::limits::{INDEX_LOOKS_A_TURN, INDEX_SETTLE_A_TURN, LEAF_BYTES};

impl Store {
    /// Tells the tree where some of the leaves lie that the newest checkpoint has written. Once a turn;
    /// true if there are more.
    pub fn settle(&mut self) -> bool {
        let first = self.written.len().saturating_sub(INDEX_SETTLE_A_TURN);
        for written in self.written.drain(first..) {
            self.is_dirty |= self.tree.settle(&written);
        }
        !self.written.is_empty()
    }

    /// Whether the tree has heard of all that the newest checkpoint has written.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.written.is_empty()
    }

    /// A checkpoint is durable whose index is in these pages.
    pub(super) fn on_index_written(&mut self, index: IndexWritten) {
        assert!(self.written.is_empty());
        self.pages.on_checkpoint(index.files);
        self.written = index.written;
    }

    /// Takes what was read: `bytes` of the pages are the file's. Readers see it after the next publish.
    ///
    /// # Errors
    /// It is not what was written, and nobody knows what it was.
    pub fn on_part(
        &mut self,
        part: &PartRead,
        pages: &Pages,
        bytes: usize,
    ) -> Result<(), BadSegment> {
        match part.need() {
            NeedRead::Frame { .. } => {
                self.is_log_dirty = true;
                self.log.on_part(part, pages, bytes)
            }
            NeedRead::Page(page) => {
                let segments = self.log.directory().len();
                let revision = self.marks.revision;
                let got = (pages, bytes);
                let leaves = self.pages.leaves(page, part, got, revision, segments)?;
                for (page, leaf) in leaves {
                    self.take_leaf(page, leaf);
                }
                Ok(())
            }
        }
    }

    /// Whether it is still of use: it is missing, and the file is in use.
    #[must_use]
    pub fn is_wanted(&self, part: &PartRead) -> bool {
        match part.need() {
            NeedRead::Frame { .. } => self.part_of(part.need()) == Some(*part),
            NeedRead::Page(page) => self.pages.file_of(page) == Some(part.file),
        }
    }

    /// How it is read; `None` if it is in memory, or nobody can need it any more.
    pub(super) fn part_of(&self, need: NeedRead) -> Option<PartRead> {
        match need {
            NeedRead::Frame { .. } => self.log.directory().part_of(need),
            NeedRead::Page(page) => {
                if self.pages.file_of(page).is_none() {
                    // Who asked looks again, in a newer state.
                    let wants = self.log.directory().wants();
                    wants.on_pages(std::iter::once(page));
                    return None;
                }
                self.pages.read(page, self.is_index_small())
            }
        }
    }

    /// Bytes of leaves that no page holds, where memory is too small for the whole index: they stay until a checkpoint
    /// has written them.
    #[must_use]
    pub fn unfiled_index_bytes(&self) -> u64 {
        match self.is_index_small() {
            true => 0,
            false => 2 * self.changed_index_bytes(),
        }
    }

    /// About the bytes of the index that the next checkpoint writes: leaves that no page holds as they are.
    #[must_use]
    pub fn changed_index_bytes(&self) -> u64 {
        let memory = self.tree.memory();
        // A page has no room to grow and no more than the ends of its keys: it takes half of what its leaf does.
        (memory.leaves - memory.clean) * LEAF_BYTES / 2
    }

    /// Bytes in memory that can be given back and read again.
    #[must_use]
    pub fn cache_bytes(&self) -> u64 {
        self.log.cache_bytes() + self.tree.memory().clean_bytes
    }

    /// Reads what is needed at once. For the start; a member that runs does not wait for a disk.
    ///
    /// # Errors
    /// It cannot be read, or is not what was written.
    pub fn read_now(&mut self, need: NeedRead, disk: &mut dyn Disk) -> Result<(), BadSegment> {
        let Some(part) = self.part_of(need) else {
            return Ok(());
        };
        let into = Pages::zeroed(part.pages as usize);
        let (pages, bytes) = read_pages(disk, part.file, part.offset, into)?;
        self.on_part(&part, &pages, bytes)
    }

    /// Reads these pages of the index at once, many together. For the start: they are about to be changed, and then stay in
    /// memory however many they are.
    ///
    /// # Errors
    /// As [`Store::read_now`].
    pub fn read_pages_now(
        &mut self,
        wanted: &BTreeSet<PageRef>,
        disk: &mut dyn Disk,
    ) -> Result<(), BadSegment> {
        let segments = self.log.directory().len();
        let revision = self.marks.revision;
        let reads = self.pages.reads(wanted);
        let ahead = |(read, _): &(PartRead, _)| ReadAhead {
            file: read.file,
            offset: read.offset,
            pages: read.pages as usize,
        };
        let ahead: Vec<ReadAhead> = reads.iter().map(ahead).collect();
        disk.read_ahead(&ahead);
        let mut spare = Pages::default();
        for (read, wanted) in reads {
            spare.resize(read.pages as usize);
            let (pages, bytes) = read_pages(disk, read.file, read.offset, spare)?;
            for page in wanted {
                let got = (&pages, bytes);
                let leaf = self.pages.leaf(page, &read, got, revision, segments)?;
                self.take_leaf(page, leaf);
            }
            spare = pages;
        }
        Ok(())
    }

    /// Gives back memory above the bound, of the index bounded work a call. Before a publish.
    pub fn evict(&mut self) {
        let bound = self.page_bytes;
        if self.tree.memory().clean_bytes > bound && self.tree.evict(bound, INDEX_LOOKS_A_TURN) {
            self.is_dirty = true;
            self.is_freeing = true;
        }
        let leaves = self.tree.memory().clean_bytes.min(bound);
        self.is_log_dirty |= self.log.evict(leaves);
    }

    fn take_leaf(&mut self, page: PageRef, leaf: Leaf) {
        self.tree.load(page, leaf);
        self.came.push(page);
        self.is_dirty = true;
    }

    /// Whether all of the index may be in memory: then it is read in large pieces.
    fn is_index_small(&self) -> bool {
        let memory = self.tree.memory();
        (memory.leaves + memory.pages).saturating_mul(LEAF_BYTES) <= self.page_bytes
    }
}
