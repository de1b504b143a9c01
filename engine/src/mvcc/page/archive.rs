use rkyv::rancor::{Failure, Panic, ResultExt};
use rkyv::util::AlignedVec;
use rkyv::{Archive, Serialize};

use crate::limits::INDEX_PAGE_BYTES;
use crate::mvcc::revlog::Position;
use crate::mvcc::revlog::record::is_numbered;
use crate::mvcc::tree::{Entry, common_prefix};

/// Keys in ascending order with their entries.
#[derive(Archive, Serialize, Default)]
struct Page {
    /// What all keys of the page begin with.
    prefix: Vec<u8>,
    /// The rest of each key, one behind the other. Whole keys while the page is being built.
    keys: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<u32>,
    /// One a key.
    rows: Vec<Row>,
}

/// An [`Entry`].
#[derive(Archive, Serialize, Clone, Copy)]
struct Row {
    main: i64,
    create: i64,
    version: i64,
    lease: i64,
    segment: u32,
    word: u32,
    sub: u32,
    value_len: u32,
}

/// The parent of all pages.
#[derive(Archive, Serialize, Default)]
struct Table {
    pages: Vec<PageRef>,
}

/// What the page table says of a page.
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[rkyv(compare(PartialEq))]
pub(super) struct PageRef {
    /// CRC-32C of the page's bytes.
    pub(super) digest: u32,
    /// Bytes of the page.
    pub(super) bytes: u32,
    /// Keys in it, at least one.
    pub(super) keys: u32,
}

/// Makes pages of about [`INDEX_PAGE_BYTES`] out of keys in ascending order.
#[derive(Default)]
pub(super) struct PageBuilder {
    page: Page,
    /// Bytes that all keys so far begin with.
    shared: usize,
}

/// A page whose every byte was checked: it can be read, its keys ascend.
pub(super) struct CheckedPage<'a>(&'a ArchivedPage);

/// What is wrong with the bytes of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPage {
    /// They are no archive of this layout.
    Archive,
    /// Keys and rows do not match each other, or there are none.
    Shape,
    /// A key is not above the one before.
    Order,
    /// The numbers of a row contradict each other or the revision of the checkpoint.
    Numbers,
}

impl PageBuilder {
    /// Whether `key` has to begin a new page.
    pub(super) fn is_full_for(&self, key: &[u8]) -> bool {
        let keys = self.page.rows.len();
        if keys == 0 {
            return false;
        }
        let shared = common_prefix(&self.page.keys[..self.shared], key);
        let suffixes = self.page.keys.len() + key.len() - (keys + 1) * shared;
        let rows = (keys + 1) * (size_of::<ArchivedRow>() + size_of::<u32>());
        shared + suffixes + rows + size_of::<ArchivedPage>() > INDEX_PAGE_BYTES
    }

    /// Adds a key above all others.
    pub(super) fn push(&mut self, key: &[u8], entry: &Entry) {
        let page = &mut self.page;
        self.shared = match page.rows.is_empty() {
            true => key.len(),
            false => common_prefix(&page.keys[..self.shared], key),
        };
        page.keys.extend_from_slice(key);
        let end = u32::try_from(page.keys.len()).expect("one key of under 4 GiB and a few short");
        page.ends.push(end);
        page.rows.push(Row::from(entry));
    }

    /// The page and what its parent keeps of it, `None` if it is empty. The next page begins.
    pub(super) fn seal(&mut self) -> Option<(AlignedVec, PageRef)> {
        if self.page.rows.is_empty() {
            return None;
        }
        self.cut_prefix();
        let page = &mut self.page;
        let sealed = rkyv::to_bytes::<Panic>(page).always_ok();
        let parent = PageRef::new(&sealed, page.rows.len());
        page.prefix.clear();
        page.keys.clear();
        page.ends.clear();
        page.rows.clear();
        Some((sealed, parent))
    }

    /// Whole keys become what follows the prefix.
    fn cut_prefix(&mut self) {
        let Page {
            prefix, keys, ends, ..
        } = &mut self.page;
        prefix.extend_from_slice(&keys[..self.shared]);
        let (mut start, mut to) = (0, 0);
        for end in ends {
            let suffix = start + self.shared..*end as usize;
            start = *end as usize;
            let cut = suffix.len();
            keys.copy_within(suffix, to);
            to += cut;
            *end = u32::try_from(to).expect("not more than before");
        }
        keys.truncate(to);
    }
}

impl<'a> CheckedPage<'a> {
    /// Checks a page of an index at `revision`; `bytes` are aligned to 8.
    pub(super) fn open(bytes: &'a [u8], revision: i64) -> Result<Self, BadPage> {
        let page = rkyv::access::<ArchivedPage, Failure>(bytes).map_err(|_| BadPage::Archive)?;
        let checked = Self(page);
        let keys_len = u32::try_from(page.keys.len()).map_err(|_| BadPage::Shape)?;
        let is_matching = page.ends.len() == page.rows.len()
            && page.ends.last().is_some_and(|end| *end == keys_len)
            && page.ends.is_sorted();
        if !is_matching {
            return Err(BadPage::Shape);
        }
        if !(1..checked.len()).all(|index| checked.suffix(index - 1) < checked.suffix(index)) {
            return Err(BadPage::Order);
        }
        if !page.rows.iter().all(|row| row.is_consistent(revision)) {
            return Err(BadPage::Numbers);
        }
        Ok(checked)
    }

    /// Keys in it, at least one.
    pub(super) fn len(&self) -> usize {
        self.0.rows.len()
    }

    /// Puts the key at `index` into `key`.
    pub(super) fn key(&self, index: usize, key: &mut Vec<u8>) {
        key.clear();
        key.extend_from_slice(&self.0.prefix);
        key.extend_from_slice(self.suffix(index));
    }

    pub(super) fn entry(&self, index: usize) -> Entry {
        self.0.rows[index].entry()
    }

    fn suffix(&self, index: usize) -> &[u8] {
        let start = match index {
            0 => 0,
            _ => self.0.ends[index - 1].to_native() as usize,
        };
        &self.0.keys[start..self.0.ends[index].to_native() as usize]
    }
}

impl PageRef {
    /// What a parent keeps of a sealed page.
    pub(super) fn new(page: &[u8], keys: usize) -> Self {
        Self {
            digest: crc32c::crc32c(page),
            bytes: u32::try_from(page.len()).expect("a few short keys or one of under 4 GiB"),
            keys: u32::try_from(keys).expect("not more than bytes"),
        }
    }
}

impl From<&Entry> for Row {
    fn from(entry: &Entry) -> Self {
        Self {
            main: entry.main,
            create: entry.create,
            version: entry.version,
            lease: entry.lease,
            segment: entry.at.segment,
            word: entry.at.word,
            sub: entry.sub,
            value_len: entry.value_len,
        }
    }
}

impl ArchivedRow {
    fn entry(&self) -> Entry {
        Entry {
            main: self.main.to_native(),
            create: self.create.to_native(),
            version: self.version.to_native(),
            lease: self.lease.to_native(),
            at: Position {
                segment: self.segment.to_native(),
                word: self.word.to_native(),
            },
            sub: self.sub.to_native(),
            value_len: self.value_len.to_native(),
        }
    }

    /// Whether a store at `revision` can have made this entry.
    fn is_consistent(&self, revision: i64) -> bool {
        let entry = self.entry();
        let is_tombstone = entry.version == 0;
        let has_lease = entry.lease != 0;
        entry.main <= revision
            && is_numbered(entry.main, entry.create, entry.version)
            && !(is_tombstone && has_lease)
    }
}

/// The archive of the page table.
pub(super) fn archive_table(pages: Vec<PageRef>) -> AlignedVec {
    rkyv::to_bytes::<Panic>(&Table { pages }).always_ok()
}

/// The first page that the table in `bytes` (aligned to 8) and `pages` name differently.
pub(super) fn difference(bytes: &[u8], pages: &[PageRef]) -> Result<Option<usize>, BadPage> {
    let table = rkyv::access::<ArchivedTable, Failure>(bytes).map_err(|_| BadPage::Archive)?;
    let same = pages.iter().zip(table.pages.iter());
    let same = same.take_while(|(found, expected)| expected == found);
    let same = same.count();
    Ok((same < pages.len().max(table.pages.len())).then_some(same))
}
