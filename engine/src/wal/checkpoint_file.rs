//! The framing of a checkpoint: chunks that check themselves and each other's order, a trailer written last. What is in
//! the chunks is the business of who pushes them.

use super::corrupt::{Corrupt, Rot, length_of};
use super::record::{Reader, Writer};
use crate::disk::{
    Disk, DiskAnswer, DiskError, DiskOp, File, PAGE_BYTES, Pages, read_pages, remove_if_there,
};
use crate::limits::CHECKPOINT_CHUNK_BYTES_MAX;
use crate::types::Index;

const HEAD_BYTES: usize = 64;
const CHUNK_MAGIC: [u8; 8] = *b"BSLTckp1";
const TRAILER_MAGIC: [u8; 8] = *b"BSLTend1";

/// The head of a chunk, and with other meanings of the trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    magic: [u8; 8],
    salt: u64,
    index: u64,
    /// Of a chunk: its number from 0. Of the trailer: how many chunks.
    number: u64,
    /// Where the head lies in the file.
    offset: u64,
    /// Of a chunk: its bytes and their checksum. Of the trailer: 0 and the chain over all chunks.
    bytes: u32,
    body: u32,
    /// The digest of the head before: a chain.
    previous: u32,
}

impl Head {
    fn encode(&self, page: &mut [u8]) -> u32 {
        let mut out = Writer {
            into: &mut page[..HEAD_BYTES],
            at: 0,
        };
        out.put(&self.magic);
        for word in [self.salt, self.index, self.number, self.offset] {
            out.put(&word.to_le_bytes());
        }
        for word in [self.bytes, self.body, self.previous] {
            out.put(&word.to_le_bytes());
        }
        out.into[out.at..HEAD_BYTES - 4].fill(0);
        let digest = crc32c::crc32c(&page[..HEAD_BYTES - 4]);
        page[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&digest.to_le_bytes());
        digest
    }

    fn decode(page: &[u8]) -> Option<(Self, u32)> {
        let (bytes, digest) = page.first_chunk::<HEAD_BYTES>()?.split_last_chunk::<4>()?;
        let digest = u32::from_le_bytes(*digest);
        if crc32c::crc32c(bytes) != digest {
            return None;
        }
        let magic = *bytes.first_chunk::<8>()?;
        let mut from = Reader { from: &bytes[8..] };
        let (salt, index, number, offset) = (from.u64(), from.u64(), from.u64(), from.u64());
        let (bytes, body, previous) = (from.u32(), from.u32(), from.u32());
        Some((
            Self {
                magic,
                salt,
                index,
                number,
                offset,
                bytes,
                body,
                previous,
            },
            digest,
        ))
    }
}

/// Makes a checkpoint file as operations for the background worker, each to be performed before the next is asked for.
/// A failed one ends it: the half-made file is removed by the next try or the next start.
#[derive(Debug)]
pub struct CheckpointWriter {
    index: Index,
    salt: u64,
    number: u64,
    offset: u64,
    previous: u32,
    spare: Pages,
}

impl CheckpointWriter {
    /// The checkpoint that covers the log up to `index`. `salt` is the directory's (`Identity::salt`).
    #[must_use]
    pub fn new(index: Index, salt: u64) -> Self {
        Self {
            index,
            salt,
            number: 0,
            offset: 0,
            previous: 0,
            spare: Pages::default(),
        }
    }

    /// Makes the file under a temporary name. What an earlier try left is taken away first.
    ///
    /// # Errors
    /// The disk's.
    pub fn begin(&self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        remove_if_there(disk, self.temp())?;
        disk.perform(DiskOp::Create {
            file: self.temp(),
            bytes: 0,
        })
        .map(|_| ())
    }

    /// The write of one chunk, at most [`CHECKPOINT_CHUNK_BYTES_MAX`] long; 256 KiB is a good size. The reader gives the
    /// same chunks back. Panics on a longer or an empty one.
    pub fn push(&mut self, chunk: &[u8]) -> DiskOp {
        assert!(!chunk.is_empty());
        assert!(chunk.len() <= CHECKPOINT_CHUNK_BYTES_MAX);
        let bytes = u32::try_from(chunk.len()).expect("checked above");
        self.put(CHUNK_MAGIC, bytes, crc32c::crc32c(chunk), chunk)
    }

    /// Takes the buffer of a finished write for the next one.
    pub fn reuse(&mut self, answer: DiskAnswer) {
        if let DiskAnswer::Written(pages) = answer {
            self.spare = pages;
        }
    }

    /// The operations that make the file a checkpoint: trailer, flush, name, flush of the name.
    #[must_use]
    pub fn finish(mut self) -> [DiskOp; 4] {
        let chain = self.previous;
        let trailer = self.put(TRAILER_MAGIC, 0, chain, &[]);
        let (temp, file) = (self.temp(), File::Checkpoint(self.index.0));
        [
            trailer,
            DiskOp::Sync { file: temp },
            DiskOp::Rename {
                from: temp,
                to: file,
            },
            DiskOp::SyncDir,
        ]
    }

    /// Takes away what there is of the checkpoint of `index` after a failure, the name included that may
    /// not be durable. No superblock names it yet.
    ///
    /// # Errors
    /// The disk's; the next start removes the files then.
    pub fn abandon(index: Index, disk: &mut dyn Disk) -> Result<(), DiskError> {
        let temp = remove_if_there(disk, temp(index));
        remove_if_there(disk, File::Checkpoint(index.0))?;
        temp
    }

    fn temp(&self) -> File {
        temp(self.index)
    }

    fn put(&mut self, magic: [u8; 8], bytes: u32, body: u32, chunk: &[u8]) -> DiskOp {
        let head = Head {
            magic,
            salt: self.salt,
            index: self.index.0,
            number: self.number,
            offset: self.offset,
            bytes,
            body,
            previous: self.previous,
        };
        let mut pages = core::mem::take(&mut self.spare);
        pages.resize(chunk_pages(chunk.len()));
        self.previous = head.encode(&mut pages.as_mut_slice()[0].0);
        let mut rest = chunk;
        let mut skip = HEAD_BYTES;
        for page in pages.as_mut_slice() {
            let (now, later) = rest.split_at(rest.len().min(PAGE_BYTES - skip));
            page.0[skip..skip + now.len()].copy_from_slice(now);
            page.0[skip + now.len()..].fill(0);
            rest = later;
            skip = 0;
        }
        let offset = self.offset;
        self.offset += pages.bytes() as u64;
        self.number += 1;
        DiskOp::Write {
            file: self.temp(),
            offset,
            pages,
            durable: false,
        }
    }
}

/// Streams a checkpoint, each chunk checked. Only once `next` answered `None` is it known to be whole.
#[derive(Debug)]
pub struct CheckpointReader {
    file: File,
    index: Index,
    salt: u64,
    bytes: u64,
    chunks: u64,
    chain: u32,
    number: u64,
    offset: u64,
    previous: u32,
    pages: Pages,
    chunk: Vec<u8>,
    stray: Option<u64>,
}

impl CheckpointReader {
    /// Opens `Checkpoint(index)` and checks its trailer.
    ///
    /// # Errors
    /// It is missing, or its end is not what was written.
    pub fn open(disk: &mut dyn Disk, index: Index, salt: u64) -> Result<Self, Corrupt> {
        let file = File::Checkpoint(index.0);
        let DiskAnswer::Names(names) = disk.perform(DiskOp::List)? else {
            unreachable!("a listing answers with names");
        };
        let bytes = length_of(&names, file).ok_or(Corrupt::Missing { file })?;
        let page = PAGE_BYTES as u64;
        let mut reader = Self {
            file,
            index,
            salt,
            bytes,
            chunks: 0,
            chain: 0,
            number: 0,
            offset: bytes.saturating_sub(page),
            previous: 0,
            pages: Pages::default(),
            chunk: Vec::new(),
            stray: None,
        };
        let rotten = Corrupt::Rotten {
            file,
            offset: reader.offset,
            what: Rot::Trailer,
        };
        if bytes < page || !bytes.is_multiple_of(page) || !reader.read(disk, 1)? {
            return Err(rotten);
        }
        match Head::decode(&reader.pages.as_slice()[0].0) {
            Some((head, _)) if head.magic == TRAILER_MAGIC && reader.is_here(&head) => {
                (reader.chunks, reader.chain) = (head.number, head.body);
                reader.look_behind(HEAD_BYTES);
            }
            _ => return Err(rotten),
        }
        reader.offset = 0;
        Ok(reader)
    }

    /// Bytes of the file, for progress.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next chunk as it was pushed, or `None` after the last one.
    ///
    /// # Errors
    /// A chunk is not what was written.
    pub fn next(&mut self, disk: &mut dyn Disk) -> Result<Option<&[u8]>, Corrupt> {
        if self.number == self.chunks {
            let whole =
                self.offset + PAGE_BYTES as u64 == self.bytes && self.previous == self.chain;
            let (file, offset) = (self.file, self.offset);
            return if whole {
                Ok(None)
            } else {
                Err(Corrupt::Rotten {
                    file,
                    offset,
                    what: Rot::Trailer,
                })
            };
        }
        let what = Rot::Chunk { chunk: self.number };
        let rotten = Corrupt::Rotten {
            file: self.file,
            offset: self.offset,
            what,
        };
        if !self.read(disk, 1)? {
            return Err(rotten);
        }
        let (head, digest) = match Head::decode(&self.pages.as_slice()[0].0) {
            Some((head, digest))
                if head.magic == CHUNK_MAGIC
                    && head.number == self.number
                    && head.previous == self.previous
                    && head.bytes as usize <= CHECKPOINT_CHUNK_BYTES_MAX
                    && self.is_here(&head) =>
            {
                (head, digest)
            }
            _ => return Err(rotten),
        };
        let count = chunk_pages(head.bytes as usize);
        if !self.read(disk, count)? {
            return Err(rotten);
        }
        self.chunk.clear();
        let mut skip = HEAD_BYTES;
        for page in self.pages.as_slice() {
            let left = head.bytes as usize - self.chunk.len();
            self.chunk
                .extend_from_slice(&page.0[skip..skip + left.min(PAGE_BYTES - skip)]);
            skip = 0;
        }
        if crc32c::crc32c(&self.chunk) != head.body {
            return Err(rotten);
        }
        self.look_behind(HEAD_BYTES + self.chunk.len());
        self.offset += (count * PAGE_BYTES) as u64;
        self.previous = digest;
        self.number += 1;
        Ok(Some(&self.chunk))
    }

    /// The first byte behind a chunk or the trailer that is not zero as it was written. It says nothing about the content,
    /// but much about the disk.
    #[must_use]
    pub fn stray(&self) -> Option<u64> {
        self.stray
    }

    /// Looks at what fills the last page behind its first `used` bytes from the current place on.
    fn look_behind(&mut self, used: usize) {
        let last = self.pages.as_slice().last().expect("read just now");
        let from = used - (self.pages.count() - 1) * PAGE_BYTES;
        if let Some(at) = last.0[from..].iter().position(|byte| *byte != 0) {
            self.stray.get_or_insert(self.offset + (used + at) as u64);
        }
    }

    fn is_here(&self, head: &Head) -> bool {
        head.salt == self.salt && head.index == self.index.0 && head.offset == self.offset
    }

    /// Reads `count` pages at the current place; false if the file is shorter.
    fn read(&mut self, disk: &mut dyn Disk, count: usize) -> Result<bool, Corrupt> {
        let mut into = core::mem::take(&mut self.pages);
        into.resize(count);
        let (pages, bytes) = read_pages(disk, self.file, self.offset, into)?;
        let whole = bytes == pages.bytes();
        self.pages = pages;
        Ok(whole)
    }
}

/// The name in the making. Slots never get so high.
fn temp(index: Index) -> File {
    File::Temp(1 << 63 | index.0)
}

fn chunk_pages(bytes: usize) -> usize {
    (HEAD_BYTES + bytes).div_ceil(PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::mem_disk::MemDisk;

    const SALT: u64 = 5;

    fn written(chunks: &[Vec<u8>]) -> MemDisk {
        let mut disk = MemDisk::default();
        let mut writer = CheckpointWriter::new(Index(9), SALT);
        writer.begin(&mut disk).unwrap();
        for chunk in chunks {
            let answer = disk.perform(writer.push(chunk)).unwrap();
            writer.reuse(answer);
        }
        for op in writer.finish() {
            disk.perform(op).unwrap();
        }
        disk
    }

    fn read(disk: &mut MemDisk) -> Result<Vec<Vec<u8>>, Corrupt> {
        let mut reader = CheckpointReader::open(disk, Index(9), SALT)?;
        let mut chunks = Vec::new();
        while let Some(chunk) = reader.next(disk)? {
            chunks.push(chunk.to_vec());
        }
        Ok(chunks)
    }

    #[test]
    fn chunks_are_read_back_as_they_were_pushed() {
        let sizes = [1, 4031, 4032, 4033, 70_000, CHECKPOINT_CHUNK_BYTES_MAX];
        let chunks: Vec<Vec<u8>> = sizes.iter().map(|size| vec![7; *size]).collect();
        assert_eq!(read(&mut written(&chunks)).unwrap(), chunks);
        assert_eq!(read(&mut written(&[])).unwrap(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn every_flipped_bit_of_a_checkpoint_is_seen_or_harmless() {
        let chunks = vec![vec![1; 100], vec![2; 4500]];
        let disk = written(&chunks);
        let file = File::Checkpoint(9);
        for byte in 0..disk.files[&file].len() {
            let mut disk = disk.clone();
            disk.files.get_mut(&file).unwrap()[byte] ^= 1 << (byte % 8);
            assert!(
                read(&mut disk).map_or(true, |read| read == chunks),
                "byte {byte}"
            );
        }
    }

    #[test]
    fn a_checkpoint_without_its_end_or_of_somebody_else_is_refused() {
        let disk = written(&[vec![1; 100], vec![2; 100]]);
        let file = File::Checkpoint(9);
        for length in (0..disk.files[&file].len()).step_by(512) {
            let mut disk = disk.clone();
            disk.files.get_mut(&file).unwrap().truncate(length);
            assert!(read(&mut disk).is_err(), "{length} bytes");
        }
        assert!(CheckpointReader::open(&mut disk.clone(), Index(9), SALT + 1).is_err());
    }
}
