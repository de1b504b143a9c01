//! Checkpoints of stores alone, on a disk in memory, for models and tests.

use super::{CheckpointCursor, CheckpointFiles, Reader, Restore, Store, StoreConfig};
use crate::disk::mem::MemDisk;

/// A checkpoint that is durable.
pub(super) struct Made {
    pub(super) content: Vec<u8>,
    pub(super) files: CheckpointFiles,
}

/// Writes files and content.
pub(super) fn write(mut cursor: CheckpointCursor, disk: &mut MemDisk) -> Made {
    while cursor
        .write_segment(disk, SALT)
        .expect("this disk does not fail")
    {}
    let mut content = Vec::new();
    while cursor
        .next_chunk(&mut content, 100)
        .expect("all is in memory")
    {}
    let files = cursor.take_files();
    Made { content, files }
}

/// Rebuilds the store; the content comes in pieces of `step` bytes.
pub(super) fn read(
    content: &[u8],
    step: usize,
    disk: &mut MemDisk,
    config: StoreConfig,
) -> (Store, Reader) {
    let mut restore = Restore::new(config);
    for piece in content.chunks(step) {
        restore.push(piece).expect("just written");
    }
    restore
        .finish(disk, SALT, &mut |_, _| {})
        .expect("just written")
}

/// The sum of the hashes of the records that lie in the files.
pub(super) fn recount(content: &[u8], disk: &mut MemDisk) -> u64 {
    let mut restore = Restore::new(StoreConfig::default());
    restore.push(content).expect("just written");
    let segments = restore.inspect_segments(disk, SALT, &mut |_, _| {});
    let sums = segments
        .iter()
        .map(|it| it.read.expect("just written").digest);
    sums.fold(0, u64::wrapping_add)
}

pub(super) const SALT: u64 = 7;
