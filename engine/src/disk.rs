//! What may be asked of a disk, as data, and what it answers.
//!
//! Promises: the same words serve io_uring, the fallback thread, the background worker and the simulated disk of the tests.
//! Never: a syscall or a path. A file is named by what it is; `io/dir` knows the directory. Start at [`DiskOp`].

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod mem;

use core::fmt;
use core::ops::Range;

/// Bytes of a page: the unit of offsets, lengths and alignment of every read and write.
pub const PAGE_BYTES: usize = 4096;

/// Bytes of a sector: what a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// Sectors in a page.
pub const PAGE_SECTORS: usize = PAGE_BYTES / SECTOR_BYTES;

/// A file of the data directory (`member/`, flat). `Display` is its name on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    /// One of the two superblocks, 0 or 1.
    Superblock(u8),
    /// A segment of the log, by the number of its slot. A slot is used again and again.
    Wal(u64),
    /// A finished checkpoint, by the index it covers.
    Checkpoint(u64),
    /// A sealed segment of the revision log. No two that a checkpoint ever named have one number.
    Segment(u64),
    /// A file in the making; the number keeps two makers apart. Removed at the next start.
    Temp(u64),
    /// Space kept back for the day when the disk is full.
    Ballast,
}

impl File {
    /// The file that has this name, if it is one of ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let number = |prefix: &str| -> Option<u64> {
            let digits = name.strip_prefix(prefix)?;
            let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            if digits.len() != 16 || !digits.bytes().all(lower) {
                return None;
            }
            u64::from_str_radix(digits, 16).ok()
        };
        match name {
            "BASALT" => Some(Self::Superblock(0)),
            "BASALT.copy" => Some(Self::Superblock(1)),
            "ballast" => Some(Self::Ballast),
            _ => number("wal-")
                .map(Self::Wal)
                .or_else(|| number("checkpoint-").map(Self::Checkpoint))
                .or_else(|| number("segment-").map(Self::Segment))
                .or_else(|| number("temp-").map(Self::Temp)),
        }
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superblock(0) => f.write_str("BASALT"),
            Self::Superblock(_) => f.write_str("BASALT.copy"),
            Self::Wal(slot) => write!(f, "wal-{slot:016x}"),
            Self::Checkpoint(index) => write!(f, "checkpoint-{index:016x}"),
            Self::Segment(number) => write!(f, "segment-{number:016x}"),
            Self::Temp(number) => write!(f, "temp-{number:016x}"),
            Self::Ballast => f.write_str("ballast"),
        }
    }
}

/// One page, aligned so that O_DIRECT takes it as it is.
#[derive(Clone)]
#[repr(C, align(4096))]
pub struct Page(pub [u8; PAGE_BYTES]);

impl Page {
    /// A page of zeros.
    pub const ZERO: Self = Self([0; PAGE_BYTES]);
}

/// Consecutive pages of memory, page-aligned: the buffer of every read and write. Moves, never copied by a disk.
#[derive(Clone, Default)]
pub struct Pages(Vec<Page>);

impl Pages {
    /// `count` pages of zeros.
    #[must_use]
    pub fn zeroed(count: usize) -> Self {
        Self(vec![Page::ZERO; count])
    }

    /// How many pages.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How many bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len() * PAGE_BYTES
    }

    /// Whether there is no page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Shortens to `count` pages, or lengthens by pages of zeros. Keeps the memory.
    pub fn resize(&mut self, count: usize) {
        self.0.resize(count, Page::ZERO);
    }

    /// The pages.
    #[must_use]
    pub fn as_slice(&self) -> &[Page] {
        &self.0
    }

    /// The pages, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [Page] {
        &mut self.0
    }

    /// Sector `number` counted from the first page. Panics past the end.
    #[must_use]
    pub fn sector(&self, number: usize) -> &[u8; SECTOR_BYTES] {
        let (sectors, _) = self.0[number / PAGE_SECTORS].0.as_chunks();
        &sectors[number % PAGE_SECTORS]
    }

    /// Sector `number` counted from the first page, to be changed. Panics past the end.
    pub fn sector_mut(&mut self, number: usize) -> &mut [u8; SECTOR_BYTES] {
        let (sectors, _) = self.0[number / PAGE_SECTORS].0.as_chunks_mut();
        &mut sectors[number % PAGE_SECTORS]
    }
}

impl From<Page> for Pages {
    fn from(page: Page) -> Self {
        Self(vec![page])
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pages({})", self.0.len())
    }
}

/// Names one operation in flight; the asker draws it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// What a disk can be asked. Offsets are in bytes and whole pages.
#[derive(Debug)]
pub enum DiskOp {
    /// Every name of the directory, ours or not: answered by `Names`.
    List,
    /// Makes a new file of `bytes` reserved bytes that read as zeros. Fails if the name is taken. The reservation and the
    /// name are durable only after `Sync` and `SyncDir`.
    Create {
        /// The new file.
        file: File,
        /// Its length; 0 for one that grows.
        bytes: u64,
    },
    /// Fills `into`, or as much of it as the file has: answered by `Read`.
    Read {
        /// The file.
        file: File,
        /// Where to start.
        offset: u64,
        /// The pages to fill; they come back with the answer.
        into: Pages,
    },
    /// Writes all pages; `durable` means that the answer promises them for ever.
    Write {
        /// The file.
        file: File,
        /// Where to start.
        offset: u64,
        /// What to write; comes back with the answer.
        pages: Pages,
        /// Whether the answer waits for the flush.
        durable: bool,
    },
    /// Makes everything answered before durable, with the file's length.
    Sync {
        /// The file.
        file: File,
    },
    /// Gives a file another name and takes that name from whoever had it.
    Rename {
        /// The name it has.
        from: File,
        /// The name it gets.
        to: File,
    },
    /// Takes a name away.
    Remove {
        /// The file.
        file: File,
    },
    /// Makes creations, renames and removals durable.
    SyncDir,
}

impl DiskOp {
    /// The operation without its buffers, for errors and logs.
    #[must_use]
    pub fn site(&self) -> Site {
        let site = |call, file, offset| Site { call, file, offset };
        match *self {
            Self::List => site(Call::List, None, 0),
            Self::Create { file, bytes } => site(Call::Create, Some(file), bytes),
            Self::Read { file, offset, .. } => site(Call::Read, Some(file), offset),
            Self::Write { file, offset, .. } => site(Call::Write, Some(file), offset),
            Self::Sync { file } => site(Call::Sync, Some(file), 0),
            Self::Rename { from, .. } => site(Call::Rename, Some(from), 0),
            Self::Remove { file } => site(Call::Remove, Some(file), 0),
            Self::SyncDir => site(Call::SyncDir, None, 0),
        }
    }
}

/// A disk's good answer.
#[derive(Debug)]
pub enum DiskAnswer {
    /// To `List`.
    Names(Vec<Name>),
    /// To `Read`: the buffer and how many of its bytes are the file's. The rest is unspecified.
    Read {
        /// The buffer of the question.
        pages: Pages,
        /// Bytes that the file had there.
        bytes: usize,
    },
    /// To `Write`: all of it is written; the buffer comes back for the next one.
    Written(Pages),
    /// To everything else.
    Done,
}

/// One name of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// As it stands on disk; what is not UTF-8 is replaced.
    pub text: String,
    /// What it is to us, if anything.
    pub file: Option<File>,
    /// Its length in bytes.
    pub bytes: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// The answer to an operation that was submitted.
#[derive(Debug)]
pub struct DiskDone {
    /// Which one.
    pub id: OpId,
    /// How it went. An error is final: no backend has retries left when it reports one.
    pub result: Result<DiskAnswer, DiskError>,
}

/// The verb of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// See [`DiskOp::List`].
    List,
    /// See [`DiskOp::Create`].
    Create,
    /// See [`DiskOp::Read`].
    Read,
    /// See [`DiskOp::Write`].
    Write,
    /// See [`DiskOp::Sync`].
    Sync,
    /// See [`DiskOp::Rename`].
    Rename,
    /// See [`DiskOp::Remove`].
    Remove,
    /// See [`DiskOp::SyncDir`].
    SyncDir,
}

/// Where an operation went: verb, file, offset (for `Create` the length).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// The verb.
    pub call: Call,
    /// The file, if it was about one.
    pub file: Option<File>,
    /// The offset in bytes.
    pub offset: u64,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.file {
            Some(file) => write!(f, "{:?} of {file} at {}", self.call, self.offset),
            None => write!(f, "{:?} of the data directory", self.call),
        }
    }
}

/// Why a disk refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{site} failed: {kind}{}", errno.map(|e| format!(" (errno {e})")).unwrap_or_default())]
pub struct DiskError {
    /// What was asked.
    pub site: Site,
    /// What the program can react to.
    pub kind: DiskErrorKind,
    /// The system's own number, if it gave one.
    pub errno: Option<i32>,
}

/// What went wrong, as far as the program reacts to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskErrorKind {
    /// No space or quota left.
    NoSpace,
    /// The filesystem is read-only.
    ReadOnly,
    /// There is no such file.
    NotFound,
    /// The name is taken.
    Exists,
    /// The system does not let us.
    Denied,
    /// A write ended early again and again without an error.
    Short,
    /// Anything else: the device failed.
    Failed,
}

impl fmt::Display for DiskErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSpace => "no space left",
            Self::ReadOnly => "the filesystem is read-only",
            Self::NotFound => "no such file",
            Self::Exists => "the name is taken",
            Self::Denied => "permission denied",
            Self::Short => "only a part was written",
            Self::Failed => "input/output error",
        })
    }
}

/// Fills `into` from a file, repeating what failed a few times; answers how many bytes the file has there.
///
/// # Errors
/// The disk's, after the last try.
pub(crate) fn read_pages(
    disk: &mut dyn Disk,
    file: File,
    offset: u64,
    mut into: Pages,
) -> Result<(Pages, usize), DiskError> {
    let count = into.count();
    let mut tries = READ_TRIES;
    loop {
        match disk.perform(DiskOp::Read { file, offset, into }) {
            Ok(DiskAnswer::Read { pages, bytes }) => return Ok((pages, bytes)),
            Ok(other) => unreachable!("a read answered {other:?}"),
            Err(error) if error.kind != DiskErrorKind::Failed || tries == 1 => return Err(error),
            Err(_) => {
                tries -= 1;
                into = Pages::zeroed(count);
            }
        }
    }
}

/// The bytes `from..to`, cut where the pages end.
pub(crate) fn copied(pages: &Pages, from: usize, to: usize) -> Vec<u8> {
    let to = to.min(pages.bytes());
    let mut bytes = Vec::with_capacity(to.saturating_sub(from));
    each_piece(pages, from..to, |piece| bytes.extend_from_slice(piece));
    bytes
}

/// Hands out bytes of the pages, which have them all, piece by piece.
pub(crate) fn each_piece(pages: &Pages, bytes: Range<usize>, mut each: impl FnMut(&[u8])) {
    let mut at = bytes.start;
    while at < bytes.end {
        let begin = at % PAGE_BYTES;
        let end = PAGE_BYTES.min(begin + bytes.end - at);
        each(&pages.as_slice()[at / PAGE_BYTES].0[begin..end]);
        at += end - begin;
    }
}

/// Removes a file; one that is not there is no error.
///
/// # Errors
/// The disk's.
pub(crate) fn remove_if_there(disk: &mut dyn Disk, file: File) -> Result<(), DiskError> {
    match disk.perform(DiskOp::Remove { file }) {
        Err(error) if error.kind != DiskErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A failed read is made so many times in all; then it counts as damage.
const READ_TRIES: u32 = 3;

/// The blocking form: boot, the background worker and the simulated disk. The running log emits [`DiskOp`]s instead.
pub trait Disk {
    /// Does it and waits.
    fn perform(&mut self, op: DiskOp) -> Result<DiskAnswer, DiskError>;

    /// These will soon be asked for, just so and in about this order: a disk that can begins now. It may also do nothing.
    fn read_ahead(&mut self, _reads: &[ReadAhead]) {}
}

/// A read that will be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadAhead {
    /// The file.
    pub file: File,
    /// Where it starts, in bytes.
    pub offset: u64,
    /// How many pages.
    pub pages: usize,
}

impl ReadAhead {
    /// Bytes of its pages.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pages * PAGE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_found_again_by_its_name() {
        let files = [
            File::Superblock(0),
            File::Superblock(1),
            File::Wal(1),
            File::Wal(u64::MAX),
            File::Checkpoint(77),
            File::Segment(78),
            File::Temp(0),
            File::Ballast,
        ];
        for file in files {
            assert_eq!(File::parse(&file.to_string()), Some(file));
        }
    }

    #[test]
    fn names_that_only_look_like_ours_are_not_ours() {
        for name in [
            "wal-1",
            "wal-000000000000000G",
            "wal-+00000000000000f",
            "snap",
            "wal",
            "BASALT.x",
            "",
        ] {
            assert_eq!(File::parse(name), None, "{name}");
        }
    }
}
