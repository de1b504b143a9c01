//! The table of the index: what a checkpoint says of each leaf, in key order, then of each file of pages.

use super::file::IndexFileRef;
use crate::limits::LEAF_KEYS_MAX;
use crate::mvcc::revlog::record;
use crate::mvcc::tree::{PageRef, Summary, common_prefix};

/// What the table says of a leaf.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TableRow<'a> {
    /// Not above its first key and above all keys before it; empty for the first leaf.
    pub(super) separator: &'a [u8],
    pub(super) page: PageRef,
    pub(super) summary: Summary,
}

/// Writes the table.
#[derive(Default)]
pub(super) struct TableWriter {
    /// Of the leaf before.
    separator: Vec<u8>,
    is_begun: bool,
}

/// Reads the table part by part.
pub(super) struct TableReader {
    /// No leaf has changed after this revision.
    revision: i64,
    /// Of the leaf before.
    separator: Vec<u8>,
    rows: u64,
    /// Of the file before, if there was one.
    file: Option<u32>,
}

/// One part of the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Row(TableRow<'a>),
    File(u32, IndexFileRef),
    End,
}

/// What is wrong with a table. The checkpoint's checksums held, so it was written wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadIndex {
    /// A part of an unknown kind, or at the wrong place.
    #[error("a part of the index has the unknown kind {found}")]
    Kind {
        /// The byte found.
        found: u8,
    },
    /// A leaf is not behind the one before.
    #[error("leaf {leaf} of the index is not behind the one before")]
    Order {
        /// Which, counted from 0.
        leaf: u64,
    },
    /// Its numbers cannot be.
    #[error("the numbers of leaf {leaf} of the index, or of a file behind it, cannot be")]
    Numbers {
        /// Which, counted from 0.
        leaf: u64,
    },
    /// It names a page that is in no file, or a file has more of them than there are.
    #[error("the index names pages of file {file} that are not there")]
    Page {
        /// The file's name in the index.
        file: u32,
    },
    /// The end has not come.
    #[error("the index has no end")]
    Short,
}

impl TableWriter {
    /// Appends the row of a leaf behind all others.
    pub(super) fn push(&mut self, row: &TableRow<'_>, out: &mut Vec<u8>) {
        // What was to be the first leaf may have had no key yet.
        let separator = match std::mem::replace(&mut self.is_begun, true) {
            true => row.separator,
            false => &[],
        };
        let shared = common_prefix(&self.separator, separator);
        let rest = &separator[shared..];
        out.push(KIND_LEAF);
        for number in [shared as u64, rest.len() as u64] {
            put_varint(out, number);
        }
        out.extend_from_slice(rest);
        let Summary { live, changed } = row.summary;
        for number in [row.page.file, row.page.page, live] {
            put_varint(out, u64::from(number));
        }
        put_varint(out, changed.cast_unsigned());
        self.separator.truncate(shared);
        self.separator.extend_from_slice(rest);
    }

    /// Appends a file; ascending by `file`, behind all leaves.
    pub(super) fn file(&self, file: u32, named: &IndexFileRef, out: &mut Vec<u8>) {
        out.push(KIND_FILE);
        for word in [file, named.pages, named.digest] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for long in [named.number, named.bytes] {
            out.extend_from_slice(&long.to_le_bytes());
        }
    }

    /// Appends the end.
    pub(super) fn finish(&self, out: &mut Vec<u8>) {
        out.push(KIND_END);
    }
}

impl TableReader {
    pub(super) fn new(revision: i64) -> Self {
        Self {
            revision,
            separator: Vec::new(),
            rows: 0,
            file: None,
        }
    }

    /// The next part and its length; `None` if it has not come whole.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Option<(Part<'_>, usize)>, BadIndex> {
        let Some((kind, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        match *kind {
            KIND_LEAF if self.file.is_none() => self.read_row(bytes, rest),
            KIND_FILE => {
                let Some(body) = rest.first_chunk::<FILE_BYTES>() else {
                    return Ok(None);
                };
                let word = |at| record::word(body, at);
                let long = |at| record::long(body, at).cast_unsigned();
                let file = word(0);
                if self.file.is_some_and(|last| last >= file) || file >= PageRef::FILES_MAX {
                    return Err(BadIndex::Numbers { leaf: self.rows });
                }
                self.file = Some(file);
                let named = IndexFileRef {
                    pages: word(4),
                    digest: word(8),
                    number: long(12),
                    bytes: long(20),
                };
                Ok(Some((Part::File(file, named), 1 + FILE_BYTES)))
            }
            KIND_END => Ok(Some((Part::End, 1))),
            found => Err(BadIndex::Kind { found }),
        }
    }

    fn read_row(
        &mut self,
        whole: &[u8],
        mut rest: &[u8],
    ) -> Result<Option<(Part<'_>, usize)>, BadIndex> {
        let leaf = self.rows;
        let bad = BadIndex::Numbers { leaf };
        let number = |rest: &mut &[u8]| take_varint(rest).map_err(|Endless| bad);
        let (Some(shared), Some(len)) = (number(&mut rest)?, number(&mut rest)?) else {
            return Ok(None);
        };
        let shared = usize::try_from(shared).map_err(|_| bad)?;
        let len = usize::try_from(len).map_err(|_| bad)?;
        if shared > self.separator.len() {
            return Err(bad);
        }
        let Some((suffix, behind)) = rest.split_at_checked(len) else {
            return Ok(None);
        };
        rest = behind;
        let mut numbers = [0; 4];
        for to in &mut numbers {
            let Some(found) = number(&mut rest)? else {
                return Ok(None);
            };
            *to = found;
        }
        let [file, page, live, changed] = numbers;
        // Only now: what came in part comes again.
        if (leaf > 0 && suffix <= &self.separator[shared..]) || (leaf == 0 && !suffix.is_empty()) {
            return Err(BadIndex::Order { leaf });
        }
        let word = |number: u64| u32::try_from(number).map_err(|_| bad);
        let (file, page, live) = (word(file)?, word(page)?, word(live)?);
        let changed = i64::try_from(changed).map_err(|_| bad)?;
        if file >= PageRef::FILES_MAX
            || live as usize > LEAF_KEYS_MAX
            || !(1..=self.revision).contains(&changed)
        {
            return Err(bad);
        }
        self.separator.truncate(shared);
        self.separator.extend_from_slice(suffix);
        self.rows += 1;
        let row = TableRow {
            separator: &self.separator,
            page: PageRef { file, page },
            summary: Summary { live, changed },
        };
        Ok(Some((Part::Row(row), whole.len() - rest.len())))
    }
}

/// Seven bits a byte, the lowest first.
fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// A number of more than 64 bits.
struct Endless;

/// The next number; `None` if it has not come whole.
fn take_varint(bytes: &mut &[u8]) -> Result<Option<u64>, Endless> {
    let mut number = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if index == 9 && bits > 1 {
            return Err(Endless);
        }
        number |= bits << (7 * index);
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Ok(Some(number));
        }
    }
    match bytes.len() {
        ..10 => Ok(None),
        _ => Err(Endless),
    }
}

/// A leaf: separator (bytes shared with the one before, further bytes, these), file, page, live keys, newest change.
const KIND_LEAF: u8 = 1;

/// A file: its name in the index, pages, digest (4 each), number, bytes (8 each).
const KIND_FILE: u8 = 2;

const FILE_BYTES: usize = 3 * 4 + 2 * 8;

const KIND_END: u8 = 3;
