use std::mem;

use rkyv::rancor::{Failure, Panic, ResultExt};
use rkyv::util::AlignedVec;
use rkyv::{Archive, Serialize};

use crate::limits::LEAF_KEYS_MAX;
use crate::mvcc::revlog::Position;
use crate::mvcc::revlog::record::is_numbered;
use crate::mvcc::tree::{Entry, Leaf, Span, Summary, common_prefix};
use crate::types::LeaseId;

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

/// Makes pages out of keys in ascending order, at most `LEAF_KEYS_MAX` each.
#[derive(Default)]
pub(super) struct PageBuilder {
    page: Page,
    /// Bytes that all keys so far begin with.
    shared: usize,
    summary: Summary,
    is_leased: bool,
}

/// A page and what is said of it elsewhere.
pub(super) struct Sealed {
    pub(super) archive: AlignedVec,
    pub(super) summary: Summary,
    /// Whether a key of it has a lease.
    pub(super) is_leased: bool,
}

/// A page whose every byte was checked: it can be read, its keys ascend.
pub(crate) struct CheckedPage<'a>(&'a ArchivedPage);

/// What is wrong with the bytes of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPage {
    /// They are no archive of this layout.
    Archive,
    /// Keys and rows do not match each other, there are none or too many.
    Shape,
    /// A key is not above the one before.
    Order,
    /// The numbers of a row contradict each other or the revision of the checkpoint.
    Numbers,
}

impl PageBuilder {
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
        self.summary.live += u32::from(entry.is_live());
        self.summary.changed = self.summary.changed.max(entry.changed());
        self.is_leased |= entry.lease != 0;
    }

    /// The page, `None` if it is empty. The next page begins.
    pub(super) fn seal(&mut self) -> Option<Sealed> {
        if self.page.rows.is_empty() {
            return None;
        }
        assert!(self.page.rows.len() <= LEAF_KEYS_MAX);
        self.cut_prefix();
        let archive = rkyv::to_bytes::<Panic>(&self.page).always_ok();
        let page = &mut self.page;
        page.prefix.clear();
        page.keys.clear();
        page.ends.clear();
        page.rows.clear();
        Some(Sealed {
            archive,
            summary: mem::take(&mut self.summary),
            is_leased: mem::take(&mut self.is_leased),
        })
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
    pub(crate) fn open(bytes: &'a [u8], revision: i64) -> Result<Self, BadPage> {
        let page = rkyv::access::<ArchivedPage, Failure>(bytes).map_err(|_| BadPage::Archive)?;
        let checked = Self(page);
        let keys_len = u32::try_from(page.keys.len()).map_err(|_| BadPage::Shape)?;
        let is_matching = page.ends.len() == page.rows.len()
            && page.rows.len() <= LEAF_KEYS_MAX
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

    /// The leaf that was written.
    pub(crate) fn leaf(&self) -> Leaf {
        let prefix = &self.0.prefix;
        let mut keys = Vec::with_capacity(self.0.keys.len() + prefix.len() * self.len());
        let mut entries = Vec::with_capacity(self.len());
        for (index, row) in self.0.rows.iter().enumerate() {
            let at = keys.len();
            keys.extend_from_slice(prefix);
            keys.extend_from_slice(self.suffix(index));
            entries.push((Span::new(at, keys.len() - at), row.entry()));
        }
        Leaf::of_sorted(&keys, &entries)
    }

    /// Hands out the keys that have a lease, and which.
    pub(super) fn each_leased(&self, mut each: impl FnMut(&[u8], LeaseId)) {
        let mut key = Vec::new();
        for (index, row) in self.0.rows.iter().enumerate() {
            if row.lease != 0 {
                key.clear();
                key.extend_from_slice(&self.0.prefix);
                key.extend_from_slice(self.suffix(index));
                each(&key, LeaseId(row.lease.to_native()));
            }
        }
    }

    /// The greatest number of a segment that a row names.
    pub(crate) fn last_segment(&self) -> u32 {
        let segments = self.0.rows.iter().map(|row| row.segment.to_native());
        segments.max().unwrap_or(0)
    }

    /// Keys in it, at least one.
    fn len(&self) -> usize {
        self.0.rows.len()
    }

    fn suffix(&self, index: usize) -> &[u8] {
        let start = match index {
            0 => 0,
            _ => self.0.ends[index - 1].to_native() as usize,
        };
        &self.0.keys[start..self.0.ends[index].to_native() as usize]
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

#[cfg(test)]
mod tests {
    use super::*;

    const REVISION: i64 = 5000;

    fn entry(main: i64) -> Entry {
        Entry {
            main,
            create: 2,
            version: 3,
            at: Position {
                segment: 7,
                word: 1,
            },
            ..Entry::default()
        }
    }

    fn page(entries: &[(&str, Entry)]) -> AlignedVec {
        let mut builder = PageBuilder::default();
        for (key, entry) in entries {
            builder.push(key.as_bytes(), entry);
        }
        builder.seal().unwrap().archive
    }

    fn refusal(page: &[u8]) -> Option<BadPage> {
        CheckedPage::open(page, REVISION).err()
    }

    /// The bytes are those of the features that the superblock names: a dependency that switches on
    /// another one would make directories that no release reads, without a word.
    #[test]
    fn the_layout_of_a_page_does_not_change() {
        let page = page(&[("/a/b", entry(0x0102_0304)), ("/a/cd", entry(0x0102_0304))]);
        let hex = page
            .iter()
            .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let row = "0403020100000000\
                   0200000000000000\
                   0300000000000000\
                   0000000000000000\
                   07000000010000000000000000000000";
        let expected = [
            // `/a/`, `b` and `cd`, where these end.
            "2f612f",
            "626364",
            "0000",
            "0100000003000000",
            row,
            row,
            // The root: how far back each of the four lies, and how long it is.
            "90ffffffffffffff0300000000000000",
            "83ffffffffffffff0300000000000000",
            "78ffffffffffffff0200000000000000",
            "70ffffffffffffff0200000000000000",
        ];
        assert_eq!(hex, expected.concat());
    }

    #[test]
    fn keys_out_of_order_or_too_many_are_refused() {
        let found = page(&[("b", entry(2)), ("a", entry(2))]);
        assert_eq!(refusal(&found), Some(BadPage::Order));
        let keys: Vec<String> = (0..=LEAF_KEYS_MAX).map(|key| format!("{key:03}")).collect();
        let mut large = Page::default();
        for key in &keys {
            large.keys.extend_from_slice(key.as_bytes());
            large.ends.push(u32::try_from(large.keys.len()).unwrap());
            large.rows.push(Row::from(&entry(2)));
        }
        let large = rkyv::to_bytes::<Panic>(&large).always_ok();
        assert_eq!(refusal(&large), Some(BadPage::Shape));
    }

    /// A row from the future, or one that contradicts itself, would be served to clients.
    #[test]
    fn rows_that_no_store_makes_are_refused() {
        let sound = entry(REVISION);
        assert_eq!(refusal(&page(&[("k", sound)])), None);
        let main = REVISION + 1;
        let create = REVISION + 1;
        let wrong = [
            Entry { main, ..sound },
            Entry {
                main: 0,
                create: 0,
                version: 0,
                ..sound
            },
            Entry { create, ..sound },
            Entry { create: 0, ..sound },
            Entry {
                version: 0,
                ..sound
            },
            Entry {
                version: -1,
                ..sound
            },
        ];
        for entry in wrong {
            assert_eq!(refusal(&page(&[("k", entry)])), Some(BadPage::Numbers));
        }
    }

    /// An archive of something else, as another layout's would be.
    #[test]
    fn a_foreign_archive_is_refused() {
        let foreign = rkyv::to_bytes::<Failure>(&vec![7u64; 20]).unwrap();
        assert_eq!(refusal(&foreign), Some(BadPage::Archive));
    }
}
