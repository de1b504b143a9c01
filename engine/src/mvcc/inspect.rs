use super::checkpoint::SegmentEntry;
use super::digest;
use super::revlog::BadSegment;
use super::revlog::file::SegmentFile;
use super::revlog::record::{Stored, words_of};
use super::{Digests, Restore};
use crate::disk::Disk;

/// What a checkpoint and the file itself say of a segment of the revision log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFileReport {
    /// The number of the file.
    pub number: u64,
    /// The segment.
    pub segment: u32,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of its records.
    pub record_bytes: u64,
    /// Bytes of those that compaction has dropped.
    pub gone_bytes: u64,
    /// Frames, and the main revisions of the first and the last record. An error is what a read of the file would meet.
    pub read: Result<FramesReport, BadSegment>,
}

/// What lies in a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramesReport {
    /// How many frames.
    pub frames: usize,
    /// Main revisions of the first and the last record.
    pub revisions: (i64, i64),
    /// The sum of the hashes of the records that compaction has not dropped.
    pub digest: u64,
}

impl Restore {
    /// What the content adds up to, by its own word; `None` where the records themselves follow.
    #[must_use]
    pub fn digests(&self) -> Option<Digests> {
        self.marks().map(|marks| marks.digests)
    }

    /// Reads each file that the content names from one end to the other, whether or not another is damaged. `salt` is the
    /// directory's; `progress` hears how many bytes of how many are read.
    pub fn inspect_segments(
        &self,
        disk: &mut dyn Disk,
        salt: u64,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Vec<SegmentFileReport> {
        let entries = self.entries();
        let (mut done, total) = (0, entries.iter().map(|entry| entry.file.bytes).sum());
        let report = |entry: &SegmentEntry| {
            let file = &entry.file;
            let read = read(entry, disk, salt);
            done += file.bytes;
            progress(done, total);
            SegmentFileReport {
                number: file.number,
                segment: file.segment,
                bytes: file.bytes,
                record_bytes: file.record_bytes,
                gone_bytes: entry.gone_bytes,
                read,
            }
        };
        entries.iter().map(report).collect()
    }
}

impl Restore {
    /// Reads each file of pages of the index from one end to the other, and answers what is wrong with them.
    pub fn inspect_index(&self, disk: &mut dyn Disk, salt: u64) -> Vec<BadSegment> {
        match (self.index(), self.marks()) {
            (Some(index), Some(marks)) => index.inspect(disk, salt, marks.revision),
            _ => Vec::new(),
        }
    }
}

fn read(entry: &SegmentEntry, disk: &mut dyn Disk, salt: u64) -> Result<FramesReport, BadSegment> {
    let file = SegmentFile::open(disk, salt, &entry.file)?;
    let mut digest = 0u64;
    for (frame, _) in (0..).zip(&file.frames) {
        let frame = file.read(disk, frame)?;
        let mut word = 0;
        while let Some((at, record)) = frame.next_from(word) {
            let is_gone = entry.gone.as_ref().is_some_and(|gone| gone.contains(at));
            if !is_gone {
                digest = digest.wrapping_add(digest::of_record(&Stored::new(record).record()));
            }
            word = at + u32::try_from(words_of(record.len())).expect("it lies in a frame");
        }
    }
    let first = file.frames.first().map_or(0, |frame| frame.oldest);
    let last = file.frames.last().map_or(0, |frame| frame.newest);
    Ok(FramesReport {
        frames: file.frames.len(),
        revisions: (first, last),
        digest,
    })
}
