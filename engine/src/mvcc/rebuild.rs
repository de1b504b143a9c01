//! Checkpoints of stores alone, on a disk in memory, for models and tests.

use std::ops::ControlFlow;

use super::revlog::Position;
use super::{
    CheckpointCursor, CheckpointFiles, KeyRange, NeedRead, Reader, Record, Restore, Resume,
    SliceBound, Store, StoreConfig, Want,
};
use crate::disk::mem::MemDisk;
use crate::disk::{Disk, DiskAnswer};

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
        .next_chunk(&mut content, 100, disk, SALT)
        .expect("this disk does not fail")
    {}
    let files = cursor.take_files();
    Made { content, files }
}

/// Writes a checkpoint and gives back the memory of all records, as `cache_bytes` is 0.
#[cfg(test)]
pub(crate) fn chill(store: &mut Store, disk: &mut MemDisk) {
    let cursor = store.checkpoint().expect("nothing is compacted");
    let made = write(cursor, disk);
    store.on_checkpoint(made.files);
    store.evict();
    store.publish();
}

/// Reads what reads have missed; how many parts that were.
pub(crate) fn load(store: &mut Store, disk: &mut MemDisk) -> usize {
    let parts = store.take_wanted();
    for part in &parts {
        match disk.perform(part.op()) {
            Ok(DiskAnswer::Read { pages, bytes }) => {
                store.on_part(part, &pages, bytes).expect("just written");
            }
            other => panic!("{other:?}"),
        }
    }
    match store.is_paused {
        true => store.publish_log(),
        false => store.publish(),
    }
    parts.len()
}

/// Reads all records, as long as they fit.
pub(crate) fn load_all(store: &mut Store, disk: &mut MemDisk) {
    let mut at = Position::default();
    loop {
        let next = store.view().log.next_from(at);
        match next.map(|next| next.map(|(found, stored)| found.after(stored))) {
            Ok(Some(after)) => at = after,
            Ok(None) => return,
            Err(_) => assert!(load(store, disk) > 0),
        }
    }
}

/// Works on compaction, and reads what that misses.
pub(crate) fn poll_space(store: &mut Store, budget: usize, disk: &mut MemDisk) -> bool {
    loop {
        let part = match store.poll_space(budget) {
            Ok(has_more) => return has_more,
            Err(part) => part,
        };
        match disk.perform(part.op()) {
            Ok(DiskAnswer::Read { pages, bytes }) => {
                store
                    .on_space_part(&part, &pages, bytes)
                    .expect("just written");
            }
            other => panic!("{other:?}"),
        }
    }
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

/// What `op` answers once it needs no page of the index any more.
pub(super) fn ready<R>(
    store: &mut Store,
    disk: &mut MemDisk,
    mut op: impl FnMut(&mut Store) -> Result<R, NeedRead>,
) -> R {
    loop {
        match op(store) {
            Ok(done) => return done,
            Err(need) => store.read_now(need, disk).expect("just written"),
        }
    }
}

/// Takes the whole index into memory.
pub(super) fn load_index(store: &mut Store, disk: &mut MemDisk) {
    let bytes = std::mem::replace(&mut store.page_bytes, u64::MAX);
    let (range, want) = (KeyRange::All, Want::Keys);
    ready(store, disk, |store| {
        let mut resume = Resume::default();
        let each = |_: &Record<'_>| ControlFlow::Continue(());
        let view = store.view();
        view.visit(&range, i64::MAX, want, &mut resume, SliceBound::NONE, each)
    });
    store.page_bytes = bytes;
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
