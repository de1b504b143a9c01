//! What a snapshot asks of the disk: pieces read for another member, pieces of another's written, the look at the whole, the
//! step to it.

use bytes::Bytes;

use super::inspect::inspect_checkpoint;
use crate::disk::{
    Disk, DiskAnswer, DiskError, DiskOp, File, PAGE_BYTES, Pages, copied, read_pages,
    remove_if_there,
};
use crate::limits::{SNAPSHOT_LIST_BYTES_MAX, SNAPSHOT_PART_BYTES};
use crate::raft::log::Mark;
use crate::types::{Index, MemberId};
use crate::wal;

/// A piece of work for the background worker.
#[derive(Debug)]
pub struct SnapshotJob(pub(super) Work);

/// How it went.
#[derive(Debug)]
pub struct SnapshotDone(pub(super) Done);

/// A piece of a file of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Of which snapshot.
    pub(super) at: Index,
    /// Which of its files, counted from 1.
    pub(super) file: u32,
    /// Where it begins.
    pub(super) offset: u64,
    /// Bytes of the whole file.
    pub(super) total: u64,
}

#[derive(Debug)]
pub(super) enum Work {
    /// Makes the list of the checkpoint and of the files that it names.
    List {
        at: Index,
        salt: u64,
        named: Vec<u64>,
    },
    Read {
        to: MemberId,
        piece: Piece,
        name: File,
    },
    Write {
        piece: Piece,
        name: File,
        bytes: Bytes,
    },
    /// Gives the checkpoint its name and reads all that it names.
    Check {
        at: Mark,
        salt: u64,
    },
    /// Takes away what was written of a snapshot that is given up.
    Clear(Vec<File>),
    Switch(wal::Switch),
}

#[derive(Debug)]
pub(super) enum Done {
    Listed {
        at: Index,
        list: Option<FileList>,
    },
    Read {
        to: MemberId,
        piece: Piece,
        bytes: Option<Bytes>,
    },
    Written {
        piece: Piece,
        bytes: u64,
        result: Result<(), DiskError>,
    },
    Checked {
        at: Index,
        is_whole: bool,
    },
    Cleared,
    Switched(Result<(), DiskError>),
}

/// The files of a snapshot: the checkpoint, then those that it names, by ascending number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileList {
    /// What the files carry.
    pub(super) salt: u64,
    /// Each with its length.
    pub(super) files: Vec<(File, u64)>,
}

impl FileList {
    /// As it travels: the salt (8 bytes), then number and length of each file (8 and 8), the first being the checkpoint.
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = self.salt.to_le_bytes().to_vec();
        for (file, len) in &self.files {
            let (File::Checkpoint(number) | File::Segment(number)) = file else {
                unreachable!("a snapshot has no other files");
            };
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.extend_from_slice(&len.to_le_bytes());
        }
        bytes.into()
    }

    /// Reads the list of the snapshot of `at`; `None` if it is none.
    pub(super) fn read(bytes: &[u8], at: Index) -> Option<Self> {
        let (salt, rest) = bytes.split_first_chunk::<8>()?;
        let (entries, rest) = rest.as_chunks::<16>();
        let mut files = Vec::with_capacity(entries.len());
        let mut before = None;
        for entry in entries {
            let (number, len) = entry.split_at(8);
            let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
            let (number, len) = (word(number)?, word(len)?);
            let is_fit = len > 0 && len < 1 << 48 && len.is_multiple_of(PAGE_BYTES as u64);
            let follows = before.is_none_or(|before| before < number);
            if !is_fit || (!files.is_empty() && !follows) {
                return None;
            }
            files.push(match files.is_empty() {
                true => (File::Checkpoint(number), len),
                false => (File::Segment(number), len),
            });
            before = (files.len() > 1).then_some(number);
        }
        let is_its = files
            .first()
            .is_some_and(|it| it.0 == File::Checkpoint(at.0));
        let salt = u64::from_le_bytes(*salt);
        (rest.is_empty() && is_its).then_some(Self { salt, files })
    }
}

/// The name of a checkpoint that has not come whole. No slot and no checkpoint in the making has this number.
pub(super) fn coming(at: Index) -> File {
    File::Temp(1 << 62 | at.0)
}

impl SnapshotJob {
    /// Does a piece of it; `Some` at the end.
    pub(super) fn step(&mut self, disk: &mut dyn Disk) -> Option<SnapshotDone> {
        let done = match &mut self.0 {
            Work::List { at, salt, named } => Done::Listed {
                at: *at,
                list: list(disk, *at, *salt, named).ok().flatten(),
            },
            Work::Read { to, piece, name } => Done::Read {
                to: *to,
                piece: *piece,
                bytes: read(disk, *piece, *name).ok(),
            },
            Work::Write { piece, name, bytes } => Done::Written {
                piece: *piece,
                bytes: bytes.len() as u64,
                result: write(disk, *piece, *name, bytes),
            },
            Work::Check { at, salt } => Done::Checked {
                at: at.index,
                is_whole: is_whole(disk, *at, *salt),
            },
            Work::Clear(files) => {
                for file in files {
                    // The next start removes what stays.
                    let _ = remove_if_there(disk, *file);
                }
                Done::Cleared
            }
            Work::Switch(switch) => match switch.step(disk) {
                Ok(false) => return None,
                ended => Done::Switched(ended.map(drop)),
            },
        };
        Some(SnapshotDone(done))
    }
}

fn list(
    disk: &mut dyn Disk,
    at: Index,
    salt: u64,
    named: &[u64],
) -> Result<Option<FileList>, DiskError> {
    let DiskAnswer::Names(names) = disk.perform(DiskOp::List)? else {
        unreachable!("a listing answers with names");
    };
    let segments = named.iter().map(|number| File::Segment(*number));
    let mut files = Vec::with_capacity(1 + named.len());
    for file in core::iter::once(File::Checkpoint(at.0)).chain(segments) {
        let Some(name) = names.iter().find(|name| name.file == Some(file)) else {
            return Ok(None);
        };
        files.push((file, name.bytes));
    }
    Ok(Some(FileList { salt, files }))
}

fn read(disk: &mut dyn Disk, piece: Piece, name: File) -> Result<Bytes, DiskError> {
    let left = piece.total.saturating_sub(piece.offset);
    let bytes = usize::try_from(left).map_or(SNAPSHOT_PART_BYTES, |it| it.min(SNAPSHOT_PART_BYTES));
    let into = Pages::zeroed(bytes.div_ceil(PAGE_BYTES));
    let (pages, found) = read_pages(disk, name, piece.offset, into)?;
    Ok(copied(&pages, 0, found.min(bytes)).into())
}

fn write(disk: &mut dyn Disk, piece: Piece, name: File, bytes: &[u8]) -> Result<(), DiskError> {
    if piece.offset == 0 {
        remove_if_there(disk, name)?;
        disk.perform(DiskOp::Create {
            file: name,
            bytes: 0,
        })?;
    }
    let mut pages = Pages::zeroed(bytes.len().div_ceil(PAGE_BYTES));
    for (page, bytes) in pages
        .as_mut_slice()
        .iter_mut()
        .zip(bytes.chunks(PAGE_BYTES))
    {
        page.0[..bytes.len()].copy_from_slice(bytes);
    }
    disk.perform(DiskOp::Write {
        file: name,
        offset: piece.offset,
        pages,
        durable: false,
    })?;
    if piece.offset + bytes.len() as u64 == piece.total {
        disk.perform(DiskOp::Sync { file: name })?;
    }
    Ok(())
}

/// Whether the snapshot of `at` is here with every byte of every file that it names, and durable.
fn is_whole(disk: &mut dyn Disk, at: Mark, salt: u64) -> bool {
    let named = [
        DiskOp::Rename {
            from: coming(at.index),
            to: File::Checkpoint(at.index.0),
        },
        DiskOp::SyncDir,
    ];
    if !named.into_iter().all(|op| disk.perform(op).is_ok()) {
        return false;
    }
    let checked = inspect_checkpoint(disk, at.index, salt, &mut |_, _| {});
    checked.is_ok_and(|report| report.meta.applied == (at.index, at.term))
}

const _: () = assert!(SNAPSHOT_PART_BYTES.is_multiple_of(PAGE_BYTES));
const _: () = assert!(SNAPSHOT_LIST_BYTES_MAX < u32::MAX as u64);

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz {
    //! What fuzzing asks of a snapshot's list: what is read is written again as it was.

    use super::FileList;
    use crate::types::Index;

    /// The body of the fuzz target `snapshot_list`: the index, then what a leader sends.
    pub fn snapshot_list(data: &[u8]) {
        if let Some((at, list)) = data.split_first_chunk::<8>()
            && let Some(read) = FileList::read(list, Index(u64::from_le_bytes(*at)))
        {
            assert_eq!(read.encode(), list);
        }
    }
}
