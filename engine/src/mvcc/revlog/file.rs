//! One sealed segment as a file: frames, then a table of them whose last 64 bytes say what it is.
//!
//! A file is written once, whole, under a temporary name. The checkpoint that names it holds the
//! digest of its table and the table holds those of the frames, so no other bytes can be taken for it.

use super::SegmentId;
use super::directory::Body;
use super::frame::{Frame, FrameAt, FrameBuilder};
use super::record::{long, word};
use crate::disk::{
    Disk, DiskAnswer, DiskError, DiskOp, File, PAGE_BYTES, Page, Pages, ReadAhead, copied,
    read_pages, remove_if_there,
};
use crate::mvcc::wants::{NeedRead, PartRead};

/// A segment's file, and where its frames lie in it.
pub(crate) struct SegmentFile {
    pub(crate) number: u64,
    pub(crate) segment: u32,
    /// Ascending by `first` and by `page`.
    pub(crate) frames: Box<[FrameAt]>,
    /// Bytes of the file.
    pub(crate) bytes: u64,
    /// Bytes of its records as they lie in memory.
    pub(crate) record_bytes: u64,
    /// CRC-32C of the table: with it, the file is known to be the one that was written.
    pub(crate) digest: u32,
}

/// What a checkpoint says of a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileRef {
    pub(crate) number: u64,
    pub(crate) segment: u32,
    pub(crate) bytes: u64,
    pub(crate) record_bytes: u64,
    pub(crate) digest: u32,
}

/// A file of the revision log is not what the checkpoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSegment {
    /// The disk could not give it, or has none.
    #[error("{0}; put the file back, or restore the directory from a backup")]
    Disk(#[from] DiskError),
    /// Other bytes than were written.
    #[error(
        "member/{file} at byte {offset}: {what} is not what was written; restore the directory from a backup"
    )]
    Rotten {
        /// The file.
        file: File,
        /// Where the part begins.
        offset: u64,
        /// Which part.
        what: &'static str,
    },
}

impl SegmentFile {
    /// Writes the records of a sealed body as file `number` and gives it its name; the name is
    /// durable after the next `SyncDir`.
    ///
    /// # Errors
    /// The disk's; a half-made file may be left under the temporary name.
    pub(crate) fn write(
        disk: &mut dyn Disk,
        salt: u64,
        segment: u32,
        number: u64,
        body: &Body,
    ) -> Result<Self, DiskError> {
        let file = temp(number);
        remove_if_there(disk, file)?;
        disk.perform(DiskOp::Create { file, bytes: 0 })?;
        let is_packed = matches!(body, Body::Packed(_));
        let mut pending = Pages::zeroed(WRITE_BYTES / PAGE_BYTES);
        pending.resize(0);
        let mut out = Out {
            disk,
            file,
            frames: Vec::new(),
            offset: 0,
            pending,
        };
        let mut record_bytes = 0;
        let mut frame = FrameBuilder::new(is_packed);
        let mut word = 0;
        while let Some((at, record)) = body
            .next_from(word, None)
            .expect("what has no file is in memory")
        {
            if !frame.push(at, record) {
                out.frame(frame)?;
                frame = FrameBuilder::new(is_packed);
                assert!(frame.push(at, record));
            }
            record_bytes += record.len() as u64;
            word = at + u32::try_from(record.len() / 8).expect("a record has less than 4 GiB");
        }
        assert!(!frame.is_empty());
        out.frame(frame)?;
        let start = out.offset + out.pending.bytes() as u64;
        let (table, digest) = encode_table(&out.frames, salt, segment, number, record_bytes, start);
        out.push(&table);
        out.flush()?;
        let Out {
            disk,
            frames,
            offset: bytes,
            ..
        } = out;
        disk.perform(DiskOp::Sync { file })?;
        disk.perform(DiskOp::Rename {
            from: file,
            to: File::Segment(number),
        })?;
        Ok(Self {
            number,
            segment,
            frames: frames.into(),
            bytes,
            record_bytes,
            digest,
        })
    }

    /// Writes a file whose one frame has these bytes, digests and all.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn write_raw(disk: &mut dyn Disk, salt: u64, frame: &[u8], at: FrameAt) -> FileRef {
        let (segment, number) = (0, 1);
        let file = File::Segment(number);
        let pages_of = |bytes: &[u8]| {
            let mut pages = Pages::zeroed(bytes.len().div_ceil(PAGE_BYTES).max(1));
            fill(pages.as_mut_slice(), bytes);
            pages
        };
        let pages = pages_of(frame);
        let at = FrameAt {
            page: 0,
            pages: u32::try_from(pages.count()).expect("small"),
            digest: digest_of(pages.as_slice()),
            ..at
        };
        let (offset, record_bytes) = (pages.bytes() as u64, frame.len() as u64);
        let (table, digest) = encode_table(&[at], salt, segment, number, record_bytes, offset);
        let bytes = offset + table.len() as u64;
        let write = |offset, pages| DiskOp::Write {
            file,
            offset,
            pages,
            durable: false,
        };
        let ops = [
            DiskOp::Create { file, bytes: 0 },
            write(0, pages),
            write(offset, pages_of(&table)),
        ];
        for op in ops {
            disk.perform(op).expect("this disk does not fail");
        }
        FileRef {
            number,
            segment,
            bytes,
            record_bytes,
            digest,
        }
    }

    /// Takes away what there is of file `number` after a failure. No superblock leads to it yet.
    ///
    /// # Errors
    /// The disk's; the next start removes it then.
    pub(crate) fn abandon(disk: &mut dyn Disk, number: u64) -> Result<(), DiskError> {
        let made = remove_if_there(disk, temp(number));
        remove_if_there(disk, File::Segment(number))?;
        made
    }

    /// What `open` reads first, and most often all; `None` if there is no such page.
    pub(crate) fn last_page(named: &FileRef) -> Option<ReadAhead> {
        Some(ReadAhead {
            file: File::Segment(named.number),
            offset: named.bytes.checked_sub(PAGE_BYTES as u64)?,
            pages: 1,
        })
    }

    /// Reads the table of the file that a checkpoint names.
    ///
    /// # Errors
    /// It is not the one that was written.
    pub(crate) fn open(
        disk: &mut dyn Disk,
        salt: u64,
        named: &FileRef,
    ) -> Result<Self, BadSegment> {
        let file = File::Segment(named.number);
        let rotten = |offset| BadSegment::Rotten {
            file,
            offset,
            what: "the table of the segment",
        };
        let page = PAGE_BYTES as u64;
        let end = named.bytes.checked_sub(page).ok_or(rotten(0))?;
        let last = read_whole(disk, file, end, 1)?.ok_or(rotten(end))?;
        let tail: Option<&[u8; TAIL_BYTES]> = last.as_slice()[0].0.last_chunk();
        let tail = &tail.copied().ok_or(rotten(end))?;
        let count = word(tail, 44) as usize;
        let pages = table_pages(count);
        let start = end
            .checked_sub((pages as u64 - 1) * page)
            .ok_or(rotten(end))?;
        // Most tables are one page, and a start opens thousands of files.
        let table = match pages {
            1 => last,
            _ => read_whole(disk, file, start, pages)?.ok_or(rotten(start))?,
        };
        let bytes = copied(&table, 0, table.bytes());
        let (body, digest) = bytes.split_last_chunk::<4>().ok_or(rotten(start))?;
        let digest = u32::from_le_bytes(*digest);
        let is_ours = crc32c::crc32c(body) == digest
            && digest == named.digest
            && tail.starts_with(MAGIC)
            && long(tail, 8).cast_unsigned() == salt
            && long(tail, 16).cast_unsigned() == named.number
            && long(tail, 24).cast_unsigned() == start
            && long(tail, 32).cast_unsigned() == named.record_bytes
            && word(tail, 40) == named.segment;
        if !is_ours {
            return Err(rotten(start));
        }
        let frames = decode_frames(&bytes, count, start).ok_or(rotten(start))?;
        Ok(Self {
            number: named.number,
            segment: named.segment,
            frames,
            bytes: named.bytes,
            record_bytes: named.record_bytes,
            digest,
        })
    }

    /// Reads one frame.
    ///
    /// # Errors
    /// It is not the one that was written.
    pub(crate) fn read(&self, disk: &mut dyn Disk, frame: u32) -> Result<Frame, BadSegment> {
        let part = self.part(frame);
        let into = Pages::zeroed(part.pages as usize);
        let (pages, bytes) = read_pages(disk, part.file, part.offset, into)?;
        self.check(frame, &pages, bytes)
    }

    /// How a frame is read.
    pub(crate) fn part(&self, frame: u32) -> PartRead {
        let at = &self.frames[frame as usize];
        PartRead {
            need: NeedRead::Frame {
                segment: SegmentId(self.segment),
                frame,
            },
            file: File::Segment(self.number),
            offset: u64::from(at.page) * PAGE_BYTES as u64,
            pages: at.pages,
        }
    }

    /// The frame, if these are its pages, of which the file had `bytes`.
    ///
    /// # Errors
    /// They are not what was written.
    pub(crate) fn check(
        &self,
        frame: u32,
        pages: &Pages,
        bytes: usize,
    ) -> Result<Frame, BadSegment> {
        let at = &self.frames[frame as usize];
        let is_whole = bytes == pages.bytes() && digest_of(pages.as_slice()) == at.digest;
        let decoded = match is_whole {
            true => Frame::decode(pages, self.segment, at),
            false => None,
        };
        decoded.ok_or(BadSegment::Rotten {
            file: File::Segment(self.number),
            offset: u64::from(at.page) * PAGE_BYTES as u64,
            what: "a frame of the segment",
        })
    }

    /// The frame that holds `word`, if any does.
    pub(crate) fn frame_of(&self, word: u32) -> usize {
        self.frames
            .partition_point(|at| at.first <= word)
            .saturating_sub(1)
    }

    /// What a checkpoint says of it.
    pub(crate) fn named(&self) -> FileRef {
        FileRef {
            number: self.number,
            segment: self.segment,
            bytes: self.bytes,
            record_bytes: self.record_bytes,
            digest: self.digest,
        }
    }
}

/// A file in the making.
struct Out<'d> {
    disk: &'d mut dyn Disk,
    file: File,
    frames: Vec<FrameAt>,
    /// Bytes written.
    offset: u64,
    /// What comes behind them.
    pending: Pages,
}

impl Out<'_> {
    fn frame(&mut self, frame: FrameBuilder) -> Result<(), DiskError> {
        let (bytes, at) = frame.finish();
        let small = |count: u64| u32::try_from(count).expect("a segment has less than 16 TiB");
        let page = self.offset / PAGE_BYTES as u64 + self.pending.count() as u64;
        let pages = self.push(&bytes);
        let (count, digest) = (pages.len() as u64, digest_of(pages));
        self.frames.push(FrameAt {
            page: small(page),
            pages: small(count),
            digest,
            ..at
        });
        match self.pending.bytes() < WRITE_BYTES {
            true => Ok(()),
            false => self.flush(),
        }
    }

    /// Adds whole pages of `bytes` to what is written next.
    fn push(&mut self, bytes: &[u8]) -> &[Page] {
        let first = self.pending.count();
        self.pending
            .resize(first + bytes.len().div_ceil(PAGE_BYTES));
        let pages = &mut self.pending.as_mut_slice()[first..];
        fill(pages, bytes);
        pages
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        let pages = std::mem::take(&mut self.pending);
        let bytes = pages.bytes() as u64;
        let write = DiskOp::Write {
            file: self.file,
            offset: self.offset,
            pages,
            durable: false,
        };
        if let DiskAnswer::Written(mut pages) = self.disk.perform(write)? {
            pages.resize(0);
            self.pending = pages;
        }
        self.offset += bytes;
        Ok(())
    }
}

fn encode_table(
    frames: &[FrameAt],
    salt: u64,
    segment: u32,
    number: u64,
    record_bytes: u64,
    offset: u64,
) -> (Vec<u8>, u32) {
    let mut bytes = Vec::new();
    for at in frames {
        for number in [at.first, at.page, at.pages, at.digest] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for main in [at.oldest, at.newest] {
            bytes.extend_from_slice(&main.to_le_bytes());
        }
    }
    let whole = table_pages(frames.len()) * PAGE_BYTES;
    bytes.resize(whole - TAIL_BYTES, 0);
    bytes.extend_from_slice(MAGIC);
    for long in [salt, number, offset, record_bytes] {
        bytes.extend_from_slice(&long.to_le_bytes());
    }
    let count = u32::try_from(frames.len()).expect("fewer frames than records");
    for word in [segment, count] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.resize(whole - 4, 0);
    let digest = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&digest.to_le_bytes());
    (bytes, digest)
}

/// The table's rows, if they lie one behind the other up to the table.
fn decode_frames(table: &[u8], count: usize, start: u64) -> Option<Box<[FrameAt]>> {
    let (rows, _) = table.as_chunks::<ROW_BYTES>();
    let rows = rows.get(..count)?;
    let mut frames: Vec<FrameAt> = Vec::with_capacity(count);
    let mut page = 0;
    for row in rows {
        let at = FrameAt {
            first: word(row, 0),
            page: word(row, 4),
            pages: word(row, 8),
            digest: word(row, 12),
            oldest: long(row, 16),
            newest: long(row, 24),
        };
        let is_behind = frames
            .last()
            .is_none_or(|last| last.first < at.first && last.newest <= at.oldest);
        if !is_behind || at.page != page || at.pages == 0 || at.oldest > at.newest {
            return None;
        }
        page = page.checked_add(at.pages)?;
        frames.push(at);
    }
    let is_whole = count > 0 && u64::from(page) * PAGE_BYTES as u64 == start;
    is_whole.then(|| frames.into())
}

pub(crate) fn read_whole(
    disk: &mut dyn Disk,
    file: File,
    offset: u64,
    count: usize,
) -> Result<Option<Pages>, DiskError> {
    let (pages, bytes) = read_pages(disk, file, offset, Pages::zeroed(count))?;
    Ok((bytes == pages.bytes()).then_some(pages))
}

fn digest_of(pages: &[Page]) -> u32 {
    pages
        .iter()
        .fold(0, |crc, page| crc32c::crc32c_append(crc, &page.0))
}

/// Copies `bytes` to the begin of `pages` and zeros behind them.
pub(crate) fn fill(pages: &mut [Page], bytes: &[u8]) {
    let mut pieces = bytes.chunks(PAGE_BYTES);
    for Page(page) in pages {
        let piece = pieces.next().unwrap_or_default();
        page[..piece.len()].copy_from_slice(piece);
        page[piece.len()..].fill(0);
    }
}

fn table_pages(count: usize) -> usize {
    (count * ROW_BYTES + TAIL_BYTES).div_ceil(PAGE_BYTES)
}

/// The name in the making; checkpoints and slots of the log have other numbers.
pub(crate) fn temp(number: u64) -> File {
    File::Temp(1 << 62 | number)
}

const MAGIC: &[u8; 8] = b"BSLTseg1";

/// Frames are gathered until they are this long: a call of the system and a kick of the device for each of 64 KiB cost more
/// than the copying.
const WRITE_BYTES: usize = 1 << 20;

/// Four `u32`, two `i64`.
const ROW_BYTES: usize = 32;

/// Magic, four `u64`, two `u32`, twelve zeros, the digest of the whole table.
const TAIL_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::mem::MemDisk;
    use crate::mvcc::revlog::packed::Packer;
    use crate::mvcc::revlog::record::{Chain, Head};
    use crate::mvcc::revlog::segment::Appender;

    const SALT: u64 = 3;

    /// Records of these value lengths, and where they lie.
    fn body(lengths: &[usize]) -> (Body, Vec<(u32, Vec<u8>)>) {
        let mut open = Appender::new(1 << 20, 0);
        let mut all = Vec::new();
        for (main, len) in (1..).zip(lengths) {
            let head = Head {
                main,
                sub: 0,
                create: main,
                version: 1,
                lease: 0,
                chain: Chain::default(),
            };
            let value = vec![7; *len];
            let word = open.append([&head.encode(1, *len), b"k", &value]).unwrap();
            all.push((word, open.segment().record(word).unwrap().to_vec()));
        }
        (Body::Whole(Arc::clone(open.segment())), all)
    }

    /// Every second record, as a rewrite leaves them.
    fn packed(all: &[(u32, Vec<u8>)]) -> (Body, Vec<(u32, Vec<u8>)>) {
        let mut packer = Packer::new(0);
        let kept: Vec<_> = all.iter().step_by(2).cloned().collect();
        for (word, record) in &kept {
            packer.push(*word, record);
        }
        (Body::Packed(packer.finish().unwrap()), kept)
    }

    fn write(disk: &mut MemDisk, body: &Body) -> FileRef {
        SegmentFile::write(disk, SALT, 5, 9, body).unwrap().named()
    }

    fn read(disk: &mut MemDisk, named: &FileRef) -> Result<Vec<(u32, Vec<u8>)>, BadSegment> {
        let file = SegmentFile::open(disk, SALT, named)?;
        let mut found = Vec::new();
        for index in 0..file.frames.len() {
            let frame = file.read(disk, u32::try_from(index).unwrap())?;
            let mut word = file.frames[index].first;
            while let Some((at, record)) = frame.next_from(word) {
                assert_eq!(file.frame_of(at), index);
                assert_eq!(frame.record(at), Some(record));
                found.push((at, record.to_vec()));
                word = at + u32::try_from(record.len() / 8).unwrap();
            }
        }
        Ok(found)
    }

    /// Positions stay: each record is found in its file where it was written in memory.
    #[test]
    fn records_are_read_back_where_they_were_written() {
        let many = [30_000, 1, 0, 65_000, 70_000, 200_000, 9, 40_000, 30_000, 2];
        for lengths in [&[0][..], &[10; 900], &many] {
            let (whole, all) = body(lengths);
            let rewritten = packed(&all);
            for (body, records) in [(whole, all), rewritten] {
                let mut disk = MemDisk::default();
                let named = write(&mut disk, &body);
                assert_eq!(read(&mut disk, &named).unwrap(), records);
                assert_eq!(disk.files.len(), 1);
            }
        }
    }

    /// No changed bit is taken for data.
    #[test]
    fn every_flipped_bit_of_a_segment_is_seen() {
        let (_, all) = body(&[100; 20]);
        let (body, _) = packed(&all);
        let mut disk = MemDisk::default();
        let named = write(&mut disk, &body);
        let file = File::Segment(9);
        for byte in 0..disk.files[&file].len() {
            let mut disk = disk.clone();
            disk.files.get_mut(&file).unwrap()[byte] ^= 1 << (byte % 8);
            let refused = read(&mut disk, &named).unwrap_err();
            assert!(matches!(refused, BadSegment::Rotten { file: named, .. } if named == file));
        }
    }

    /// A whole file of another time, place or directory is not this one.
    #[test]
    fn another_segment_under_this_name_is_refused() {
        let (body, all) = body(&[100; 20]);
        let mut disk = MemDisk::default();
        let named = write(&mut disk, &body);
        for (salt, segment, number) in [(SALT + 1, 5, 9), (SALT, 6, 9), (SALT, 5, 10)] {
            let mut disk = MemDisk::default();
            SegmentFile::write(&mut disk, salt, segment, number, &body).unwrap();
            let bytes = disk.files.remove(&File::Segment(number)).unwrap();
            disk.files.insert(File::Segment(9), bytes);
            assert!(read(&mut disk, &named).is_err());
        }
        let mut older = MemDisk::default();
        write(&mut older, &packed(&all).0);
        assert!(read(&mut older, &named).is_err());
        assert!(read(&mut MemDisk::default(), &named).is_err());
    }
}
