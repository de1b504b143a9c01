use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::corrupt::Corrupt;
use super::superblock::{Place, Superblock};
use super::walk::by_generation;
use crate::disk::{Disk, DiskAnswer, DiskError, DiskOp, File, Name, PAGE_BYTES, Pages, read_pages};
use crate::limits::{INSPECT_CHUNK_BYTES, INSPECT_KEPT_BYTES_MAX};

/// A disk on which the end of the log stands still although a server goes on writing to it.
pub(super) struct Still<'d> {
    disk: &'d mut dyn Disk,
    kept: BTreeMap<File, Pages>,
}

impl<'d> Still<'d> {
    /// As `disk` is: nothing is kept.
    pub(super) fn new(disk: &'d mut dyn Disk) -> Self {
        let kept = BTreeMap::new();
        Self { disk, kept }
    }

    /// Keeps the segments that a server may write to, read from the end of the log towards its start: what is read later was
    /// written earlier, so nothing is seen without all that came before it. `block` was read before.
    pub(super) fn keep_end(&mut self, names: &[Name], block: &Superblock) -> Result<(), Corrupt> {
        let places = by_generation(self.disk, names, block)?;
        let next = Some(block.next).filter(|next| next.bytes > 0);
        let mut places: Vec<Place> = places.into_values().chain(next).collect();
        places.sort_by_key(|place| Reverse(place.generation));
        places.dedup_by_key(|place| place.slot);
        for place in places.into_iter().take(SEGMENTS_WRITTEN_MAX) {
            self.keep(place)?;
        }
        Ok(())
    }

    fn keep(&mut self, place: Place) -> Result<(), Corrupt> {
        if place.bytes > INSPECT_KEPT_BYTES_MAX {
            return Ok(());
        }
        let file = File::Wal(place.slot);
        let whole = usize::try_from(place.bytes).expect("bounded above") / PAGE_BYTES;
        let mut kept = Pages::zeroed(whole);
        let chunk = INSPECT_CHUNK_BYTES / PAGE_BYTES;
        for from in (0..whole).step_by(chunk).rev() {
            let into = Pages::zeroed(chunk.min(whole - from));
            let (pages, bytes) = read_pages(self.disk, file, (from * PAGE_BYTES) as u64, into)?;
            if bytes < pages.bytes() {
                // Its length is not what its superblock says: whoever reads it will see that.
                return Ok(());
            }
            kept.as_mut_slice()[from..][..pages.count()].clone_from_slice(pages.as_slice());
        }
        self.kept.insert(file, kept);
        Ok(())
    }
}

impl Disk for Still<'_> {
    fn perform(&mut self, op: DiskOp) -> Result<DiskAnswer, DiskError> {
        let (offset, mut pages, kept) = match op {
            DiskOp::Read { file, offset, into } if self.kept.contains_key(&file) => {
                (offset, into, &self.kept[&file])
            }
            op => return self.disk.perform(op),
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX) / PAGE_BYTES;
        let there = kept.as_slice().get(from..).unwrap_or_default();
        let count = there.len().min(pages.count());
        pages.as_mut_slice()[..count].clone_from_slice(&there[..count]);
        let bytes = count * PAGE_BYTES;
        Ok(DiskAnswer::Read { pages, bytes })
    }
}

/// The one in use and the next one.
const SEGMENTS_WRITTEN_MAX: usize = 2;

const _: () = assert!(INSPECT_CHUNK_BYTES.is_multiple_of(PAGE_BYTES));
