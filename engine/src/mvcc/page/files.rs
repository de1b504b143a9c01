use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rkyv::util::AlignedVec;

use super::archive::CheckedPage;
use super::file::{IndexFile, Stretch, read_now};
use crate::disk::{Disk, File, Pages};
use crate::mvcc::revlog::BadSegment;
use crate::mvcc::tree::{Leaf, PageRef};
use crate::mvcc::wants::{NeedRead, PartRead};

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
    pub(crate) fn read(&self, page: PageRef, is_wide: bool) -> Option<PartRead> {
        self.files.get(&page.file)?.file.read(page, is_wide)
    }

    /// Reads of all these pages that a tree may refer to, stretches of them in one, and how many of them each brings: those
    /// of the first come first.
    pub(crate) fn reads(&self, pages: &BTreeSet<PageRef>) -> Vec<(PartRead, Vec<PageRef>)> {
        let pages: Vec<PageRef> = pages.iter().copied().collect();
        let mut reads = Vec::new();
        for pages in pages.chunk_by(|a, b| a.file == b.file) {
            let Some(known) = self.files.get(&pages[0].file) else {
                continue;
            };
            let mut rest = pages;
            for Stretch { read, wanted } in known.file.reads(pages) {
                let (own, behind) = rest.split_at(wanted);
                reads.push((read, own.to_vec()));
                rest = behind;
            }
        }
        reads
    }

    /// The leaves of the pages that a read for `page` brought, of which the file has so many `bytes`; with its neighbours,
    /// if the read has them. `revision` is the newest, and `segments` how many segments the log has made.
    ///
    /// # Errors
    /// A page is not what was written.
    pub(crate) fn leaves(
        &self,
        page: PageRef,
        read: &PartRead,
        (pages, bytes): (&Pages, usize),
        revision: i64,
        segments: usize,
    ) -> Result<Vec<(PageRef, Leaf)>, BadSegment> {
        let Some(known) = self.files.get(&page.file) else {
            return Ok(Vec::new());
        };
        let numbers = known.file.pages_in(page, read);
        let refs = numbers.map(|number| PageRef {
            page: u32::try_from(number).expect("pages are numbered by u32"),
            ..page
        });
        refs.map(|page| {
            let leaf = self.leaf(page, read, (pages, bytes), revision, segments)?;
            Ok((page, leaf))
        })
        .collect()
    }

    /// The leaf of one page that a read brought; as `leaves`.
    ///
    /// # Errors
    /// The page is not what was written.
    pub(crate) fn leaf(
        &self,
        page: PageRef,
        read: &PartRead,
        (pages, bytes): (&Pages, usize),
        revision: i64,
        segments: usize,
    ) -> Result<Leaf, BadSegment> {
        let file = &self.files[&page.file].file;
        let number = page.page as usize;
        let archive = file.archive(number, pages, bytes, read.offset)?;
        let checked = CheckedPage::open(&archive, revision).ok();
        let checked = checked.filter(|page| (page.last_segment() as usize) < segments);
        let checked = checked.ok_or_else(|| file.rotten(number))?;
        Ok(checked.leaf())
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

    /// The files themselves.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Arc<IndexFile>> {
        self.files.values().map(|known| &known.file)
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

/// Copies pages, those of each file in about the order in which they lie there: each stretch is read once.
#[derive(Default)]
pub(super) struct Copier {
    /// Of each file the stretch read last.
    windows: BTreeMap<u32, (PartRead, Pages, usize)>,
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
        let has = |read: &PartRead| match read.need {
            NeedRead::Page(first) => file.pages_in(first, read).contains(&at),
            NeedRead::Frame { .. } => false,
        };
        let window = match self.windows.remove(&page.file) {
            Some(window) if has(&window.0) => window,
            _ => {
                let read = file.read(page, true).expect("the index refers to it");
                let (pages, bytes) = read_now(disk, &read)?;
                (read, pages, bytes)
            }
        };
        let (read, pages, bytes) = self.windows.entry(page.file).or_insert(window);
        file.archive(at, pages, *bytes, read.offset)
    }
}
