use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rkyv::util::AlignedVec;

use super::archive::CheckedPage;
use super::file::{IndexFile, PageRead, read_bytes};
use crate::disk::{Disk, File};
use crate::mvcc::revlog::BadSegment;
use crate::mvcc::tree::{Leaf, PageRef};

/// The files to which the index refers, by what `PageRef::file` calls them.
#[derive(Clone, Default)]
pub(crate) struct IndexFiles {
    files: BTreeMap<u32, KnownFile>,
    /// What the next one is called.
    next: u32,
}

#[derive(Clone)]
pub(crate) struct KnownFile {
    pub(super) file: Arc<IndexFile>,
    /// Pages in use when the newest checkpoint was made.
    pub(super) used: u32,
}

impl IndexFiles {
    pub(super) fn new(files: BTreeMap<u32, KnownFile>) -> Self {
        let next = files.last_key_value().map_or(0, |(file, _)| file + 1);
        Self { files, next }
    }

    /// Where a page lies; `None` once no tree refers to it.
    pub(crate) fn file_of(&self, page: PageRef) -> Option<File> {
        let known = self.files.get(&page.file)?;
        Some(File::Segment(known.file.number))
    }

    /// How a page is read; with its neighbours, if `is_wide`. `None` once no tree refers to it.
    pub(crate) fn read(&self, page: PageRef, is_wide: bool) -> Option<PageRead> {
        self.files.get(&page.file)?.file.read(page, is_wide)
    }

    /// The leaves of the pages that a read brought. `revision` is the newest, and `segments` how many
    /// segments the log has made.
    ///
    /// # Errors
    /// A page is not what was written.
    pub(crate) fn leaves(
        &self,
        read: &PageRead,
        bytes: &[u8],
        revision: i64,
        segments: usize,
    ) -> Result<Vec<(PageRef, Leaf)>, BadSegment> {
        let Some(known) = self.files.get(&read.page.file) else {
            return Ok(Vec::new());
        };
        let leaf = |page: usize| {
            let archive = known.file.archive(page, bytes, read.offset)?;
            let checked = CheckedPage::open(&archive, revision).ok();
            let checked = checked.filter(|page| (page.last_segment() as usize) < segments);
            let checked = checked.ok_or_else(|| known.file.rotten(page))?;
            let page = u32::try_from(page).expect("pages are numbered by u32");
            let page = PageRef { page, ..read.page };
            Ok((page, checked.leaf()))
        };
        known.file.pages_in(read).map(leaf).collect()
    }

    /// Whether a key of a page has a lease.
    pub(super) fn is_leased(&self, page: PageRef) -> bool {
        self.files[&page.file].file.is_leased(page.page)
    }

    /// A page is not what was written.
    pub(super) fn rotten(&self, page: PageRef) -> BadSegment {
        self.files[&page.file].file.rotten(page.page as usize)
    }

    /// What the next file is called, which no other will be.
    pub(crate) fn draw(&mut self) -> u32 {
        let file = self.next;
        assert!(file < PageRef::FILES_MAX);
        self.next += 1;
        file
    }

    /// Those whose pages a checkpoint that writes `dirty` leaves should copy, so that they can go: in which
    /// less than half is in use, and small ones together with others as small. There are as many left as
    /// doublings from one to the largest, and a page is copied as often at most.
    pub(super) fn worth_copying(&self, dirty: u64) -> BTreeSet<u32> {
        let mut by_size: Vec<(u32, u32, u32)> = self
            .files
            .iter()
            .map(|(file, known)| (known.used, *file, known.file.page_count()))
            .collect();
        by_size.sort_unstable();
        let (mut copied, mut chosen) = (dirty, BTreeSet::new());
        for (used, file, pages) in by_size {
            if u64::from(used) <= copied || used < pages / 2 {
                copied += u64::from(used);
                chosen.insert(file);
            }
        }
        chosen
    }

    /// Without those to which the newest checkpoint's index did not refer any more.
    pub(super) fn in_use(&self) -> Self {
        let mut files = self.files.clone();
        files.retain(|_, known| known.used > 0);
        Self {
            files,
            next: self.next,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &KnownFile)> {
        self.files.iter().map(|(file, known)| (*file, known))
    }

    /// A checkpoint is durable that refers to these files.
    pub(crate) fn on_checkpoint(&mut self, named: IndexFiles) {
        self.files = named.files;
    }

    pub(super) fn add(&mut self, file: u32, known: KnownFile) {
        self.files.insert(file, known);
    }

    pub(super) fn set_used(&mut self, used: &BTreeMap<u32, u32>) {
        for (file, known) in &mut self.files {
            known.used = used.get(file).copied().unwrap_or(0);
        }
    }
}

/// Copies pages of the same files one after the other: each stretch is read once.
#[derive(Default)]
pub(super) struct Copier {
    window: Option<(PageRead, Vec<u8>)>,
}

impl Copier {
    /// The archive of `page`, checked by its digest.
    ///
    /// # Errors
    /// It cannot be read, or is not what was written.
    pub(super) fn archive(
        &mut self,
        files: &IndexFiles,
        page: PageRef,
        disk: &mut dyn Disk,
    ) -> Result<AlignedVec, BadSegment> {
        let file = &files.files[&page.file].file;
        let at = page.page as usize;
        let is_there = self.window.as_ref().is_some_and(|(read, _)| {
            read.page.file == page.file && file.pages_in(read).contains(&at)
        });
        if !is_there {
            let read = file.read(page, true).expect("the index refers to it");
            let bytes = read_bytes(disk, File::Segment(file.number), &read)?;
            self.window = Some((read, bytes));
        }
        let (read, bytes) = self.window.as_ref().expect("just read");
        file.archive(at, bytes, read.offset)
    }
}
