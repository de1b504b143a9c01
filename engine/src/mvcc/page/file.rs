//! Pages of the index as a file: one behind the other, then a table of them whose last 64 bytes say what file it is.
//!
//! A file is written once, under a temporary name, and only if there is a page for it. The checkpoint that names it holds
//! the digest of its table and the table holds those of the pages, so no other bytes can be taken for them.

use std::ops::Range;

use rkyv::util::AlignedVec;

use super::archive::{CheckedPage, Sealed};
use crate::disk::{
    Disk, DiskAnswer, DiskError, DiskOp, File, PAGE_BYTES, Pages, copied, each_piece, read_pages,
    remove_if_there,
};
use crate::limits::{INDEX_GAP_BYTES, INDEX_READ_BYTES, INDEX_STRETCH_BYTES_MAX};
use crate::mvcc::revlog::BadSegment;
use crate::mvcc::revlog::file::{fill, read_whole, temp};
use crate::mvcc::revlog::record::{long, word};
use crate::mvcc::tree::PageRef;
use crate::mvcc::wants::PartRead;

/// A file of pages, and where they lie in it.
pub(crate) struct IndexFile {
    pub(crate) number: u64,
    /// Ascending by `at`.
    rows: Box<[Row]>,
    /// Where the table begins.
    end: u64,
    digest: u32,
}

/// Where a page lies.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// Offset in units of `UNIT`.
    at: u32,
    /// Bytes of the archive.
    bytes: u32,
    /// Whether a key of it has a lease.
    is_leased: bool,
    /// CRC-32C of the archive and of what lies between it and the next one, or the table.
    digest: u32,
}

/// What a checkpoint says of such a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexFileRef {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    pub(crate) pages: u32,
    /// CRC-32C of the table: with it, the file is known to be the one that was written.
    pub(crate) digest: u32,
}

/// Some wanted pages of a file, in one read.
pub(super) struct Stretch {
    pub(super) read: PartRead,
    /// How many of those that were asked for.
    pub(super) wanted: usize,
}

/// A file in the making.
pub(super) struct IndexFileWriter {
    number: u64,
    rows: Vec<Row>,
    /// What is not written yet.
    buffer: Vec<u8>,
    /// Where that begins; 0: there is no file yet.
    offset: u64,
    is_begun: bool,
    spare: Pages,
}

impl IndexFile {
    /// Reads the table of the file that a checkpoint names.
    ///
    /// # Errors
    /// It is not the one that was written.
    pub(crate) fn open(
        disk: &mut dyn Disk,
        salt: u64,
        named: &IndexFileRef,
    ) -> Result<Self, BadSegment> {
        let file = File::Segment(named.number);
        let pages = table_pages(named.pages as usize);
        let end = named.bytes.checked_sub((pages * PAGE_BYTES) as u64);
        let rotten = |offset| BadSegment::Rotten {
            file,
            offset,
            what: "the table of the index's pages",
        };
        let end = end.ok_or(rotten(0))?;
        let read = read_whole(disk, file, end, pages)?.ok_or(rotten(end))?;
        let table = copied(&read, 0, read.bytes());
        let (body, digest) = table.split_last_chunk::<4>().ok_or(rotten(end))?;
        let digest = u32::from_le_bytes(*digest);
        let tail = &table[table.len() - TAIL_BYTES..];
        let is_ours = crc32c::crc32c(body) == digest
            && digest == named.digest
            && tail.starts_with(MAGIC)
            && long(tail, 8).cast_unsigned() == salt
            && long(tail, 16).cast_unsigned() == named.number
            && long(tail, 24).cast_unsigned() == end
            && word(tail, 32) == named.pages;
        if !is_ours {
            return Err(rotten(end));
        }
        let rows = decode_rows(&table, named.pages as usize, end).ok_or(rotten(end))?;
        Ok(Self {
            number: named.number,
            rows,
            end,
            digest,
        })
    }

    /// What a checkpoint says of it.
    pub(crate) fn named(&self) -> IndexFileRef {
        IndexFileRef {
            number: self.number,
            bytes: self.end + (table_pages(self.rows.len()) * PAGE_BYTES) as u64,
            pages: self.page_count(),
            digest: self.digest,
        }
    }

    /// How many pages there are.
    pub(super) fn page_count(&self) -> u32 {
        u32::try_from(self.rows.len()).expect("pages are numbered by u32")
    }

    /// Whether a key of `page` has a lease.
    pub(super) fn is_leased(&self, page: u32) -> bool {
        self.rows[page as usize].is_leased
    }

    /// Where the bytes of `page` begin and end.
    fn extent(&self, page: usize) -> (u64, u64) {
        let start = |row: &Row| u64::from(row.at) * UNIT as u64;
        let end = self.rows.get(page + 1).map_or(self.end, start);
        (start(&self.rows[page]), end)
    }

    /// How `page` is read; with its neighbours, if `is_wide`. `None` if there is no such page.
    pub(super) fn read(&self, page: PageRef, is_wide: bool) -> Option<PartRead> {
        let at = page.page as usize;
        self.rows.get(at)?;
        let (mut start, mut end) = self.extent(at);
        if is_wide {
            start -= start % INDEX_READ_BYTES;
            end = end.max(self.end.min(start + INDEX_READ_BYTES));
        }
        Some(self.part(page, start, end))
    }

    /// Reads of all these pages, which ascend: one for each stretch of them with small gaps only.
    pub(super) fn reads(&self, pages: &[PageRef]) -> Vec<Stretch> {
        let mut stretches: Vec<Stretch> = Vec::new();
        let mut begin = 0;
        let mut extents = (0, 0);
        for (index, page) in pages.iter().enumerate() {
            let (start, end) = self.extent(page.page as usize);
            let goes_on = index > begin
                && start - extents.1 <= INDEX_GAP_BYTES
                && end - extents.0 <= INDEX_STRETCH_BYTES_MAX;
            extents = if goes_on {
                (extents.0, end)
            } else {
                (start, end)
            };
            if goes_on {
                stretches.pop();
            } else {
                begin = index;
            }
            stretches.push(Stretch {
                read: self.part(pages[begin], extents.0, extents.1),
                wanted: pages[begin..=index].len(),
            });
        }
        stretches
    }

    fn part(&self, page: PageRef, start: u64, end: u64) -> PartRead {
        let unit = PAGE_BYTES as u64;
        let offset = start - start % unit;
        let pages = (end - offset).div_ceil(unit);
        PartRead {
            need: page.into(),
            file: File::Segment(self.number),
            offset,
            pages: u32::try_from(pages).expect("a page has one long key or a few short ones"),
        }
    }

    /// The numbers of the pages that a read for `page` brings.
    pub(super) fn pages_in(&self, page: PageRef, read: &PartRead) -> Range<usize> {
        let last = read.offset + u64::from(read.pages) * PAGE_BYTES as u64;
        let page = page.page as usize;
        if last < read.offset + INDEX_READ_BYTES && last < self.end {
            return page..page + 1;
        }
        let first = self
            .rows
            .partition_point(|row| u64::from(row.at) * (UNIT as u64) < read.offset);
        let mut end = first;
        while end < self.rows.len() && self.extent(end).1 <= last {
            end += 1;
        }
        first..end
    }

    /// The archive of a page that lies in the first `bytes` bytes of `read`, which begin at `offset` of the file.
    ///
    /// # Errors
    /// It is not what was written.
    pub(super) fn archive(
        &self,
        page: usize,
        read: &Pages,
        bytes: usize,
        offset: u64,
    ) -> Result<AlignedVec, BadSegment> {
        let (start, end) = self.extent(page);
        let place = start.checked_sub(offset).and_then(|from| {
            let from = usize::try_from(from).ok()?;
            let until = usize::try_from(end - offset).ok()?;
            (until <= bytes).then_some(from..until)
        });
        let row = &self.rows[page];
        let mut archive = AlignedVec::new();
        if let Some(place) = place {
            archive.reserve_exact(place.len());
            each_piece(read, place, |piece| archive.extend_from_slice(piece));
        }
        if archive.is_empty() || crc32c::crc32c(&archive) != row.digest {
            return Err(self.rotten(page));
        }
        archive.resize(row.bytes as usize, 0);
        Ok(archive)
    }

    /// A page is not what was written.
    pub(super) fn rotten(&self, page: usize) -> BadSegment {
        BadSegment::Rotten {
            file: File::Segment(self.number),
            offset: self.extent(page).0,
            what: "a page of the index",
        }
    }

    /// Reads the whole file. `revision` is the newest that a page can know.
    ///
    /// # Errors
    /// The first page that is not what was written.
    pub(crate) fn check_all(&self, disk: &mut dyn Disk, revision: i64) -> Result<(), BadSegment> {
        let mut page = 0;
        while let Some((next, _)) = self.check_from(disk, page, revision)? {
            page = next;
        }
        Ok(())
    }

    /// Reads a stretch from `page` on; answers which page comes behind it, and how many bytes that took. `None` behind
    /// the last page.
    ///
    /// # Errors
    /// As `check_all`.
    pub(crate) fn check_from(
        &self,
        disk: &mut dyn Disk,
        page: usize,
        revision: i64,
    ) -> Result<Option<(usize, u64)>, BadSegment> {
        let at = PageRef {
            file: 0,
            page: u32::try_from(page).expect("pages are numbered by u32"),
        };
        let Some(read) = self.read(at, true) else {
            return Ok(None);
        };
        let (pages, bytes) = read_now(disk, &read)?;
        let within = self.pages_in(at, &read);
        for page in page..within.end {
            let archive = self.archive(page, &pages, bytes, read.offset)?;
            CheckedPage::open(&archive, revision).map_err(|_| self.rotten(page))?;
        }
        Ok(Some((within.end.max(page + 1), pages.bytes() as u64)))
    }
}

/// Reads it now; answers how many bytes of the pages are the file's.
///
/// # Errors
/// The disk's.
pub(super) fn read_now(disk: &mut dyn Disk, read: &PartRead) -> Result<(Pages, usize), DiskError> {
    let into = Pages::zeroed(read.pages as usize);
    read_pages(disk, read.file, read.offset, into)
}

impl IndexFileWriter {
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            rows: Vec::new(),
            buffer: Vec::new(),
            offset: 0,
            is_begun: false,
            spare: Pages::default(),
        }
    }

    /// Whether there may be a file.
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Adds a page; answers its number.
    pub(super) fn push(&mut self, page: &Sealed) -> u32 {
        self.pad();
        let archive = &page.archive;
        let at = (self.offset + self.buffer.len() as u64) / UNIT as u64;
        let bytes = u32::try_from(archive.len()).expect("one key of a request and a few short");
        assert!(bytes < LEASED);
        let row = Row {
            at: u32::try_from(at).expect("an index has less than 64 GiB"),
            bytes,
            is_leased: page.is_leased,
            digest: crc32c::crc32c(archive),
        };
        self.buffer.extend_from_slice(archive);
        self.rows.push(row);
        u32::try_from(self.rows.len() - 1).expect("fewer pages than units")
    }

    /// Writes what has gathered, if that is much.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn flush(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        if self.buffer.len() >= WRITE_BYTES {
            let rest = self.buffer.len() % PAGE_BYTES;
            let rest = self.buffer.split_off(self.buffer.len() - rest);
            self.write(disk)?;
            self.buffer.extend_from_slice(&rest);
        }
        Ok(())
    }

    /// Writes the rest and the table, and gives the file its name, which is durable after the next
    /// `SyncDir`. `None`: there is no page and no file.
    ///
    /// # Errors
    /// The disk's; a half-made file may be left under the temporary name.
    pub(super) fn finish(
        &mut self,
        disk: &mut dyn Disk,
        salt: u64,
    ) -> Result<Option<IndexFile>, DiskError> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        self.pad();
        let fill = self.buffer.len().next_multiple_of(PAGE_BYTES) - self.buffer.len();
        self.zeros(fill);
        self.write(disk)?;
        let end = self.offset;
        let mut table = Vec::new();
        for row in &self.rows {
            let leased = if row.is_leased { LEASED } else { 0 };
            for number in [row.at, row.bytes | leased, row.digest] {
                table.extend_from_slice(&number.to_le_bytes());
            }
        }
        table.resize(table_pages(self.rows.len()) * PAGE_BYTES - TAIL_BYTES, 0);
        table.extend_from_slice(MAGIC);
        for number in [salt, self.number, end] {
            table.extend_from_slice(&number.to_le_bytes());
        }
        let count = u32::try_from(self.rows.len()).expect("pages are numbered by u32");
        table.extend_from_slice(&count.to_le_bytes());
        table.resize(table.len().next_multiple_of(PAGE_BYTES) - 4, 0);
        let digest = crc32c::crc32c(&table);
        table.extend_from_slice(&digest.to_le_bytes());
        self.buffer = table;
        self.write(disk)?;
        let from = temp(self.number);
        disk.perform(DiskOp::Sync { file: from })?;
        let to = File::Segment(self.number);
        disk.perform(DiskOp::Rename { from, to })?;
        Ok(Some(IndexFile {
            number: self.number,
            rows: std::mem::take(&mut self.rows).into(),
            end,
            digest,
        }))
    }

    /// Fills up to where the next page may begin.
    fn pad(&mut self) {
        self.zeros(self.buffer.len().next_multiple_of(UNIT) - self.buffer.len());
    }

    /// Adds zeros, which count to the last page.
    fn zeros(&mut self, count: usize) {
        const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
        if let Some(row) = self.rows.last_mut() {
            row.digest = crc32c::crc32c_append(row.digest, &ZEROS[..count]);
        }
        self.buffer.extend_from_slice(&ZEROS[..count]);
    }

    /// Writes the buffer, whole pages of it.
    fn write(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        let file = temp(self.number);
        if !self.is_begun {
            self.is_begun = true;
            remove_if_there(disk, file)?;
            disk.perform(DiskOp::Create { file, bytes: 0 })?;
        }
        let mut pages = std::mem::take(&mut self.spare);
        pages.resize(self.buffer.len().div_ceil(PAGE_BYTES));
        fill(pages.as_mut_slice(), &self.buffer);
        let offset = self.offset;
        self.offset += pages.bytes() as u64;
        self.buffer.clear();
        let write = DiskOp::Write {
            file,
            offset,
            pages,
            durable: false,
        };
        if let DiskAnswer::Written(pages) = disk.perform(write)? {
            self.spare = pages;
        }
        Ok(())
    }
}

/// The table's rows, if they lie one behind the other up to the table.
fn decode_rows(table: &[u8], count: usize, end: u64) -> Option<Box<[Row]>> {
    let (rows, _) = table.as_chunks::<ROW_BYTES>();
    let mut decoded: Vec<Row> = Vec::with_capacity(count);
    let mut at = 0;
    for row in rows.get(..count)? {
        let row = Row {
            at: word(row, 0),
            bytes: word(row, 4) & !LEASED,
            is_leased: word(row, 4) & LEASED != 0,
            digest: word(row, 8),
        };
        if u64::from(row.at) * UNIT as u64 != at {
            return None;
        }
        at += u64::from(row.bytes).next_multiple_of(UNIT as u64);
        decoded.push(row);
    }
    (count > 0 && at.next_multiple_of(PAGE_BYTES as u64) == end).then(|| decoded.into())
}

fn table_pages(count: usize) -> usize {
    (count * ROW_BYTES + TAIL_BYTES).div_ceil(PAGE_BYTES)
}

const MAGIC: &[u8; 8] = b"BSLTidx1";

/// Pages begin at multiples of this: rkyv wants 8.
const UNIT: usize = 16;

/// Pages are gathered until they are this long.
const WRITE_BYTES: usize = 1 << 20;

/// In the bytes of a page: a key of it has a lease.
const LEASED: u32 = 1 << 31;

/// Three `u32`.
const ROW_BYTES: usize = 12;

/// Magic, three `u64`, one `u32`, zeros, the digest of the whole table.
const TAIL_BYTES: usize = 64;

#[cfg(test)]
mod tests;
