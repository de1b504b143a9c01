//! A checkpoint, written in the background and read at the start: files of the segments that have none yet, then its
//! own file. That holds the length of the description (u32 little-endian), the description ([`Meta`]), then the key space.

use core::mem;

use crate::apply::{BadMeta, Meta};
use crate::disk::{Disk, DiskError, DiskOp};
use crate::limits::{CHECKPOINT_CHUNK_BYTES, CHECKPOINT_META_BYTES_MAX};
use crate::mvcc::{
    BadCheckpoint, BadIndex, BadSegment, CheckpointCursor, CheckpointFiles, Digests, OnSegments,
    Reader, Restore, SegmentFileReport, Store, StoreConfig,
};
use crate::types::Index;
use crate::wal::CheckpointWriter;

/// Writes one checkpoint of a state that goes on changing. For the background worker.
pub struct CheckpointJob {
    index: Index,
    salt: u64,
    cursor: CheckpointCursor,
    meta: Meta,
    /// What was taken from the cursor and is not written yet.
    buffer: Vec<u8>,
    stage: Stage,
}

enum Stage {
    Segments,
    Content(CheckpointWriter),
    /// The last operations, in order.
    Finish(std::array::IntoIter<DiskOp, 4>),
    Ended,
}

/// Why a checkpoint was given up. The member goes on with a longer log and tries again later.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum CheckpointFailed {
    /// A write failed; only the checkpoint is lost.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Records cannot be read. The member finds out for itself what that means.
    #[error(transparent)]
    Records(#[from] BadSegment),
}

impl CheckpointJob {
    /// A checkpoint of the state that `meta` describes and `cursor` holds. `salt` is the directory's.
    #[must_use]
    pub fn new(meta: Meta, cursor: CheckpointCursor, salt: u64) -> Self {
        Self {
            index: meta.applied.0,
            salt,
            cursor,
            meta,
            buffer: Vec::new(),
            stage: Stage::Segments,
        }
    }

    /// The entry it covers the log up to.
    #[must_use]
    pub fn index(&self) -> Index {
        self.index
    }

    /// Writes one segment, one chunk or one of the last operations. True: the checkpoint is durable under its name, and
    /// what it names too.
    ///
    /// # Errors
    /// It is given up; what there is of it goes now, or at the next start.
    pub fn step(&mut self, disk: &mut dyn Disk) -> Result<bool, CheckpointFailed> {
        let done = self.advance(disk);
        if done.is_err() {
            // The first failure is the one to be told; a disk that is full gets its space back if it
            // can.
            let _ = CheckpointWriter::abandon(self.index, disk);
            let _ = self.cursor.abandon(disk);
        }
        done
    }

    /// What the store wants to hear, after the last step.
    #[must_use]
    pub fn take_files(&mut self) -> CheckpointFiles {
        self.cursor.take_files()
    }

    fn advance(&mut self, disk: &mut dyn Disk) -> Result<bool, CheckpointFailed> {
        match mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Segments => {
                self.stage = match self.cursor.write_segment(disk, self.salt)? {
                    true => Stage::Segments,
                    false => {
                        let writer = CheckpointWriter::new(self.index, self.salt);
                        writer.begin(disk)?;
                        // Not before, as all leases are in it.
                        self.buffer = description(&self.meta);
                        Stage::Content(writer)
                    }
                };
            }
            Stage::Content(mut writer) => {
                self.stage = match self.write_some(&mut writer, disk)? {
                    true => Stage::Content(writer),
                    false => Stage::Finish(writer.finish().into_iter()),
                };
            }
            Stage::Finish(mut ops) => {
                let Some(op) = ops.next() else {
                    return Ok(true);
                };
                disk.perform(op)?;
                self.stage = Stage::Finish(ops);
            }
            Stage::Ended => return Ok(true),
        }
        Ok(false)
    }

    /// Writes the next part of the content. False: that was the last.
    fn write_some(
        &mut self,
        writer: &mut CheckpointWriter,
        disk: &mut dyn Disk,
    ) -> Result<bool, CheckpointFailed> {
        let (buffer, bytes) = (&mut self.buffer, CHECKPOINT_CHUNK_BYTES);
        let more = self.cursor.next_chunk(buffer, bytes, disk, self.salt)?;
        write_chunks(writer, buffer, disk)?;
        Ok(more)
    }
}

/// Writes the checkpoint of a member that is made from a snapshot, all at once.
pub struct CheckpointImport {
    writer: CheckpointWriter,
    buffer: Vec<u8>,
}

impl CheckpointImport {
    /// Begins the file of the state that `meta` describes. `salt` is the directory's.
    ///
    /// # Errors
    /// The disk's.
    pub fn begin(meta: &Meta, salt: u64, disk: &mut dyn Disk) -> Result<Self, DiskError> {
        let writer = CheckpointWriter::new(meta.applied.0, salt);
        writer.begin(disk)?;
        let buffer = description(meta);
        Ok(Self { writer, buffer })
    }

    /// Where the key space goes next, as [`crate::mvcc::ContentWriter`] writes it.
    pub fn content(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Writes what has gathered, if that is enough for a chunk.
    ///
    /// # Errors
    /// The disk's.
    pub fn flush(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        if self.buffer.len() >= CHECKPOINT_CHUNK_BYTES {
            write_chunks(&mut self.writer, &mut self.buffer, disk)?;
        }
        Ok(())
    }

    /// Makes it durable under its name.
    ///
    /// # Errors
    /// The disk's.
    pub fn finish(mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        write_chunks(&mut self.writer, &mut self.buffer, disk)?;
        for op in self.writer.finish() {
            disk.perform(op)?;
        }
        Ok(())
    }
}

/// Writes all of the buffer, a long list in more than one chunk, and empties it.
fn write_chunks(
    writer: &mut CheckpointWriter,
    buffer: &mut Vec<u8>,
    disk: &mut dyn Disk,
) -> Result<(), DiskError> {
    for chunk in buffer.chunks(CHECKPOINT_CHUNK_BYTES) {
        let written = disk.perform(writer.push(chunk))?;
        writer.reuse(written);
    }
    buffer.clear();
    Ok(())
}

/// Its length, then the description.
fn description(meta: &Meta) -> Vec<u8> {
    let mut description = Vec::new();
    meta.write(&mut description);
    assert!(description.len() <= CHECKPOINT_META_BYTES_MAX);
    let len = u32::try_from(description.len()).expect("checked above");
    let mut whole = len.to_le_bytes().to_vec();
    whole.append(&mut description);
    whole
}

impl core::fmt::Debug for CheckpointJob {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(out, "CheckpointJob({})", self.index)
    }
}

/// Takes the chunks of a checkpoint, split anywhere.
pub struct CheckpointContent {
    /// Bytes of a description that has not come whole yet.
    carry: Vec<u8>,
    meta: Option<Meta>,
    keys: Restore,
}

/// A checkpoint whose file is whole holds something else than a checkpoint's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadContent {
    /// The description.
    #[error(transparent)]
    Meta(#[from] BadMeta),
    /// The key space.
    #[error("the checkpoint's content cannot be read: {0:?}")]
    Keys(BadCheckpoint),
    /// A file of the revision log that it names.
    #[error(transparent)]
    Segment(BadSegment),
    /// The pages of the index.
    #[error("the checkpoint's index cannot be read: {0}")]
    Index(BadIndex),
}

impl From<BadCheckpoint> for BadContent {
    fn from(bad: BadCheckpoint) -> Self {
        match bad {
            BadCheckpoint::Segment(bad) => Self::Segment(bad),
            BadCheckpoint::Index(bad) => Self::Index(bad),
            bad => Self::Keys(bad),
        }
    }
}

impl CheckpointContent {
    /// Nothing read yet.
    #[must_use]
    pub fn new(config: StoreConfig) -> Self {
        Self {
            carry: Vec::new(),
            meta: None,
            keys: Restore::new(config),
        }
    }

    /// The next bytes.
    ///
    /// # Errors
    /// See [`BadContent`].
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), BadContent> {
        if self.meta.is_some() {
            return Ok(self.keys.push(chunk)?);
        }
        self.carry.extend_from_slice(chunk);
        let Some((len, rest)) = self.carry.split_first_chunk::<4>() else {
            return Ok(());
        };
        let len = u32::from_le_bytes(*len) as usize;
        if len > CHECKPOINT_META_BYTES_MAX {
            return Err(BadMeta.into());
        }
        let Some((description, keys)) = rest.split_at_checked(len) else {
            return Ok(());
        };
        self.meta = Some(Meta::read(description)?);
        self.keys.push(keys)?;
        self.carry = Vec::new();
        Ok(())
    }

    /// The numbers of the files of the revision log that it names, ascending.
    #[must_use]
    pub fn named(&self) -> Vec<u64> {
        self.keys.named()
    }

    /// Reads each file of pages of the index, as [`Restore::inspect_index`].
    pub(super) fn inspect_index(&self, disk: &mut dyn Disk, salt: u64) -> Vec<BadSegment> {
        self.keys.inspect_index(disk, salt)
    }

    /// Reads each file that it names, as [`Restore::inspect_segments`].
    pub(super) fn inspect_segments(
        &self,
        disk: &mut dyn Disk,
        salt: u64,
        progress: OnSegments<'_>,
    ) -> Vec<SegmentFileReport> {
        self.keys.inspect_segments(disk, salt, progress)
    }

    /// What the keys add up to, by the checkpoint's own word.
    pub(super) fn digests(&self) -> Option<Digests> {
        self.keys.digests()
    }

    /// The state, after the last chunk. Reads the segments' files; `salt` is the directory's, and `on_segments` hears how
    /// many bytes of how many are read.
    ///
    /// # Errors
    /// Something is missing.
    pub fn finish(
        self,
        disk: &mut dyn Disk,
        salt: u64,
        on_segments: OnSegments<'_>,
    ) -> Result<(Meta, Store, Reader), BadContent> {
        let meta = self.meta.ok_or(BadMeta)?;
        let (store, reader) = self.keys.finish(disk, salt, on_segments)?;
        Ok((meta, store, reader))
    }
}
