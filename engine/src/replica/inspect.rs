//! A whole data directory, told instead of started from.

use super::checkpoint::{BadContent, CheckpointContent};
use crate::apply::Meta;
use crate::disk::{Disk, File};
use crate::mvcc::{BadSegment, Digests, SegmentFileReport, Sizes, StoreConfig};
use crate::types::Index;
use crate::wal::{self, Blemish, CheckpointReader, Corrupt, WalReport};

/// What a checkpoint holds.
#[derive(Clone, Debug)]
pub struct CheckpointReport {
    /// The entry it covers the log up to: its name.
    pub index: Index,
    /// Bytes of its file.
    pub bytes: u64,
    /// The state without the keys.
    pub meta: Meta,
    /// The newest revision.
    pub revision: i64,
    /// The compacted one, -1 for never.
    pub compacted: i64,
    /// The compaction whose space is given back, -1 for none.
    pub finished: i64,
    /// What the keys add up to; members compare `history`.
    pub digests: Digests,
    /// Sizes as a start would report them.
    pub sizes: Sizes,
    /// The files of the revision log that it names, all of them whole.
    pub segments: Vec<SegmentFileReport>,
    /// A change where no start looks.
    pub blemish: Option<Blemish>,
}

/// Why a checkpoint is not what a member can start from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointRefused {
    /// The file.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The file is whole and holds something else.
    #[error("member/{}: {content}", File::Checkpoint(index.0))]
    Content {
        /// Its name.
        index: Index,
        /// What is wrong.
        content: BadContent,
    },
    /// Files that it names, of the revision log or of the index's pages; all that are damaged.
    #[error("{}", list(.0))]
    Segments(Vec<BadSegment>),
    /// The files are whole, but their records are not those that were written.
    #[error("the records add up to {found:016x} and not to {expected:016x}, as member/{} says", File::Checkpoint(index.0))]
    Digest {
        /// Its name.
        index: Index,
        /// What the checkpoint says.
        expected: u64,
        /// What the files hold.
        found: u64,
    },
    /// It is another entry's.
    #[error("member/{} holds the state of index {found}", File::Checkpoint(expected.0))]
    OtherIndex {
        /// By its name.
        expected: Index,
        /// What it holds.
        found: Index,
    },
}

/// What [`integrity`] found.
#[derive(Clone, Debug)]
pub struct Integrity {
    /// Superblocks and log, or why there is none to speak of.
    pub wal: Result<WalReport, Corrupt>,
    /// The checkpoint that the superblocks name, if they name one.
    pub checkpoint: Option<Result<CheckpointReport, CheckpointRefused>>,
}

impl Integrity {
    /// What a start would refuse with.
    #[must_use]
    pub fn damages(&self) -> Vec<String> {
        let (wal, end) = match &self.wal {
            Ok(report) => (None, report.end.as_ref().err()),
            Err(corrupt) => (Some(corrupt), None),
        };
        let checkpoint = self.checkpoint.iter().filter_map(|it| it.as_ref().err());
        let mut said: Vec<String> = [wal, end]
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        for refused in checkpoint {
            match refused {
                CheckpointRefused::Segments(all) => {
                    said.extend(all.iter().map(ToString::to_string))
                }
                other => said.push(other.to_string()),
            }
        }
        said
    }

    /// What is not as it was written, and would not keep a member from starting: mended then, or never looked at.
    #[must_use]
    pub fn blemishes(&self) -> Vec<String> {
        let Ok(wal) = &self.wal else {
            return Vec::new();
        };
        let checkpoint = self.checkpoint.iter().filter_map(|it| it.as_ref().ok());
        let behind = checkpoint.filter_map(|it| it.blemish.as_ref());
        let places = wal.blemishes.iter().chain(behind);
        let mut said = wal.notices.clone();
        said.extend(places.map(ToString::to_string));
        said
    }
}

fn list(damaged: &[BadSegment]) -> String {
    let said: Vec<String> = damaged.iter().map(ToString::to_string).collect();
    said.join("\n")
}

/// Reads the checkpoint of `index` and the files that it names from one end to the other, and builds its state in memory, as a
/// start does. `salt` is the directory's; `progress` hears bytes done and in all, of one after the other.
///
/// # Errors
/// See [`CheckpointRefused`].
pub fn inspect_checkpoint(
    disk: &mut dyn Disk,
    index: Index,
    salt: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<CheckpointReport, CheckpointRefused> {
    let (reader, content) = read_content(disk, index, salt, progress)?;
    let segments = content.inspect_segments(disk, salt, progress);
    let damaged = segments.iter().filter_map(|segment| segment.read.err());
    let damaged = damaged.chain(content.inspect_index(disk, salt));
    let damaged: Vec<BadSegment> = damaged.collect();
    if !damaged.is_empty() {
        return Err(CheckpointRefused::Segments(damaged));
    }
    let digests = content.digests();
    let sums = segments.iter().filter_map(|segment| segment.read.ok());
    let found = sums.fold(0u64, |sum, frames| sum.wrapping_add(frames.digest));
    if let Some(Digests { kept, .. }) = digests
        && kept != found
    {
        return Err(CheckpointRefused::Digest {
            index,
            expected: kept,
            found,
        });
    }
    let finished = content.finish(disk, salt, progress);
    let (meta, store, _) =
        finished.map_err(|content| CheckpointRefused::Content { index, content })?;
    let found = meta.applied.0;
    if found != index {
        return Err(CheckpointRefused::OtherIndex {
            expected: index,
            found,
        });
    }
    Ok(CheckpointReport {
        index,
        bytes: reader.bytes(),
        meta,
        revision: store.revision(),
        compacted: store.compacted(),
        finished: store.finished(),
        digests: store.digests(),
        sizes: store.sizes(),
        segments,
        blemish: reader.stray().map(|offset| Blemish {
            file: File::Checkpoint(index.0),
            offset,
            what: "what fills a page is changed",
        }),
    })
}

/// Reads the files of the revision log that the checkpoint of `index` names, each from one end to the other, whole or not.
///
/// # Errors
/// The checkpoint's own file is damaged. See [`CheckpointRefused`].
pub fn inspect_revlog(
    disk: &mut dyn Disk,
    index: Index,
    salt: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<SegmentFileReport>, CheckpointRefused> {
    let (_, content) = read_content(disk, index, salt, progress)?;
    Ok(content.inspect_segments(disk, salt, progress))
}

fn read_content(
    disk: &mut dyn Disk,
    index: Index,
    salt: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(CheckpointReader, CheckpointContent), CheckpointRefused> {
    let mut reader = CheckpointReader::open(disk, index, salt)?;
    let mut content = CheckpointContent::new(StoreConfig::default());
    let mut done = 0;
    while let Some(chunk) = reader.next(disk)? {
        let pushed = content.push(chunk);
        pushed.map_err(|content| CheckpointRefused::Content { index, content })?;
        done += chunk.len() as u64;
        progress(done, reader.bytes());
    }
    Ok((reader, content))
}

/// Reads everything that a start would trust, in all its parts even if one is damaged. Changes nothing. `is_in_use`: a server
/// may be writing to the log meanwhile.
pub fn integrity(
    disk: &mut dyn Disk,
    is_in_use: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Integrity {
    let wal = wal::inspect(disk, is_in_use, &mut |_| {});
    let named = wal.as_ref().ok().map(|report| &report.superblock);
    let named = named.filter(|block| block.checkpoint != Index(0));
    let checkpoint =
        named.map(|block| inspect_checkpoint(disk, block.checkpoint, block.files_salt, progress));
    Integrity { wal, checkpoint }
}
