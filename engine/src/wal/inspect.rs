//! The log as recovery would find it, told instead of repaired.

use super::corrupt::{Corrupt, length_of};
use super::record::{
    FrameKind, HEADER_BYTES, Header, SECTOR_PAYLOAD, Stamp, Stamps, each_run, unpack,
};
use super::recover::newest_hard;
use super::still::Still;
use super::superblock::{Found, Look, Superblock, look_closely};
use super::verdict::{Verdict, judge};
use super::walk::{SegmentReader, Walk, by_generation};
use crate::disk::{Disk, File, Name, PAGE_BYTES, Page, Pages, SECTOR_BYTES, read_pages};
use crate::limits::BLEMISHES_MAX;
use crate::types::{HardState, Index, Run, Term};

/// What a directory's superblocks and log say.
#[derive(Clone, Debug)]
pub struct WalReport {
    /// The superblock that holds.
    pub superblock: Superblock,
    /// Term, vote and commit as a start would take them.
    pub hard: HardState,
    /// The segments of the log, oldest first.
    pub segments: Vec<SegmentReport>,
    /// The last index of the log, or the checkpoint's.
    pub last: Index,
    /// Its term; 0 if only the checkpoint knows it.
    pub last_term: Term,
    /// Where the log ends and why, as recovery judges it. An error is what a start would refuse with.
    pub end: Result<WalEnd, Corrupt>,
    /// What a start would mend, in words.
    pub notices: Vec<String>,
    /// What has changed where no start looks; at most [`BLEMISHES_MAX`], the first ones.
    pub blemishes: Vec<Blemish>,
    /// Files outside the log.
    pub others: Vec<OtherFile>,
}

/// A file that holds no part of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// What it is there for.
    pub purpose: &'static str,
}

/// The end of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalEnd {
    /// The segment it ends in.
    pub slot: u64,
    /// The byte behind the last frame.
    pub offset: u64,
    /// The last frame; 0 if there was never one.
    pub sequence: u64,
    /// The last frame is the seal of a clean stop.
    pub is_sealed: bool,
    /// Bytes behind it of a frame that was never acknowledged, or of unused space that is damaged: a start fills them anew.
    pub torn_bytes: u64,
}

/// One segment of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentReport {
    /// The number of the file.
    pub slot: u64,
    /// Its length.
    pub bytes: u64,
    /// Bytes that hold frames.
    pub used_bytes: u64,
    /// The use of segments, counted from 1.
    pub generation: u64,
    /// How many frames it holds.
    pub frames: u64,
    /// The first and the last frame; 0 if it holds none.
    pub sequences: (u64, u64),
    /// How many entries there are in its frames, replaced ones counted.
    pub entries: u64,
    /// The lowest and highest index of its frames; 0 if they hold no entry.
    pub indexes: (Index, Index),
    /// The lowest and highest term of its entries.
    pub terms: (Term, Term),
}

/// One frame that is whole and in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameReport {
    /// The segment.
    pub slot: u64,
    /// Where it begins.
    pub offset: u64,
    /// Its length, padding included.
    pub bytes: u64,
    /// Counts frames for ever, from 1.
    pub sequence: u64,
    /// It was written by a clean stop and holds no entry.
    pub is_seal: bool,
    /// How many runs are in it.
    pub runs: u32,
    /// The lowest index in it, and the last of the log after it.
    pub indexes: (Index, Index),
    /// The term of its last run.
    pub term: Term,
    /// The hard state as of the frame.
    pub hard: HardState,
}

/// Bytes that are not as they were written, in a place that no start trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "member/{file} at byte {offset}: {what}; a start does not need it, but the disk has changed it"
)]
pub struct Blemish {
    /// Where.
    pub file: File,
    /// The first byte.
    pub offset: u64,
    /// What is wrong.
    pub what: &'static str,
}

/// Reads superblocks and log from one end to the other, as recovery does, and changes nothing. `on_frame` hears of each frame.
/// `is_in_use`: a server may be writing to the log meanwhile.
///
/// # Errors
/// There is no member's directory to speak of: what a start would refuse with before it reads the log, or
/// [`Corrupt::Missing`] for an empty one.
pub fn inspect(
    disk: &mut dyn Disk,
    is_in_use: bool,
    on_frame: &mut dyn FnMut(&FrameReport),
) -> Result<WalReport, Corrupt> {
    let Look {
        found,
        names,
        notices,
        ..
    } = look_closely(disk)?;
    let Found::Ours(block) = found else {
        let file = File::Superblock(0);
        return Err(Corrupt::Missing { file });
    };
    let mut blemishes = Vec::new();
    behind_superblocks(disk, &names, &mut blemishes)?;
    let mut disk = Still::new(disk);
    if is_in_use {
        disk.keep_end(&names, &block)?;
    }
    let disk: &mut dyn Disk = &mut disk;
    let generations = by_generation(disk, &names, &block)?;
    let mut frames = Frames {
        block: &block,
        reader: None,
        body: Vec::new(),
        segments: Vec::new(),
        blemishes,
        on_frame,
    };
    let mut walk = Walk {
        block: &block,
        names: &names,
        generations: &generations,
        on_event: &mut |_, _| {},
        progress: &mut |_| {},
        on_frame: &mut |disk, header| frames.take(disk, header),
    };
    let walked = walk.run(disk);
    let Frames {
        segments,
        blemishes,
        ..
    } = frames;
    let mut report = WalReport {
        superblock: block,
        hard: HardState::default(),
        last: block.checkpoint,
        last_term: Term(0),
        end: Ok(WalEnd::default()),
        notices,
        blemishes,
        others: others(&names, &block, &segments),
        segments,
    };
    report.end = walked.and_then(|end| {
        report.hard = newest_hard(&block, &end);
        (report.last, report.last_term) = (end.last, end.last_term);
        let tail = end.tail();
        match judge(disk, &names, &block, &end)? {
            Verdict::Rotten(corrupt) => Err(corrupt),
            Verdict::Whole(wipes) => Ok(WalEnd {
                slot: tail.place.slot,
                offset: tail.at,
                sequence: end.sequence,
                is_sealed: end.is_sealed,
                torn_bytes: wipes.iter().map(|wipe| wipe.to - wipe.from).sum(),
            }),
        }
    });
    Ok(report)
}

/// Hears of the frames of a walk, and looks at what the walk does not need.
struct Frames<'a> {
    block: &'a Superblock,
    /// Of the segment that the last frame was in.
    reader: Option<SegmentReader>,
    body: Vec<u8>,
    segments: Vec<SegmentReport>,
    blemishes: Vec<Blemish>,
    on_frame: &'a mut dyn FnMut(&FrameReport),
}

impl Frames<'_> {
    fn take(&mut self, disk: &mut dyn Disk, header: &Header) -> Result<(), Corrupt> {
        if self.segments.last().map(|it| it.generation) != Some(header.generation) {
            self.segments.push(SegmentReport {
                slot: header.slot,
                bytes: header.segment_bytes,
                generation: header.generation,
                ..SegmentReport::default()
            });
            self.reader = None;
        }
        let reader = self
            .reader
            .get_or_insert_with(|| SegmentReader::new(header.slot, header.segment_bytes));
        let bytes = (header.pages() * PAGE_BYTES) as u64;
        let segment = self.segments.last_mut().expect("pushed above");
        segment.used_bytes = header.offset + bytes;
        segment.frames += 1;
        segment.sequences.1 = header.sequence;
        if segment.frames == 1 {
            segment.sequences.0 = header.sequence;
        }
        if let Some(pages) = reader.pages(disk, header.offset, header.pages())? {
            let stray = stray(header, pages, self.block);
            unpack(header, pages, &mut self.body);
            // The walk has read them just now.
            let _ = each_run(header, &self.body, |run| segment.count(&run));
            if let Some((offset, what)) = stray {
                let file = File::Wal(header.slot);
                note(&mut self.blemishes, Blemish { file, offset, what });
            }
        }
        (self.on_frame)(&FrameReport {
            slot: header.slot,
            offset: header.offset,
            bytes,
            sequence: header.sequence,
            is_seal: header.kind == FrameKind::Seal,
            runs: header.runs,
            indexes: (header.first, header.last),
            term: header.term,
            hard: header.hard,
        });
        Ok(())
    }
}

impl SegmentReport {
    fn count(&mut self, run: &Run<'_>) {
        if self.entries == 0 {
            self.indexes = (run.first, run.last());
            self.terms = (run.term, run.term);
        }
        self.entries += u64::from(run.count);
        self.indexes.0 = self.indexes.0.min(run.first);
        self.indexes.1 = self.indexes.1.max(run.last());
        self.terms.0 = self.terms.0.min(run.term);
        self.terms.1 = self.terms.1.max(run.term);
    }
}

/// The first place in a whole frame that is not as it was written: a sector's stamp, or what fills the last page.
fn stray(header: &Header, pages: &[Page], block: &Superblock) -> Option<(u64, &'static str)> {
    let stamps = Stamps::new(block.identity.frame_salt(), header.slot);
    let sectors = pages
        .iter()
        .flat_map(|page| page.0.as_chunks::<SECTOR_BYTES>().0);
    let mut left = HEADER_BYTES + header.body_bytes as usize;
    let mut at = header.offset;
    for sector in sectors {
        let used = left.min(SECTOR_PAYLOAD);
        left -= used;
        if let Some(skip) = sector[used..SECTOR_PAYLOAD].iter().position(|it| *it != 0) {
            return Some((
                at + (used + skip) as u64,
                "the filling of a frame is changed",
            ));
        }
        if stamps.read(sector, at) != Stamp::Of(header.sequence) {
            return Some((
                at + SECTOR_PAYLOAD as u64,
                "the stamp of a sector is changed",
            ));
        }
        at += SECTOR_BYTES as u64;
    }
    None
}

/// A superblock is one sector; the rest of its page is zero.
fn behind_superblocks(
    disk: &mut dyn Disk,
    names: &[Name],
    blemishes: &mut Vec<Blemish>,
) -> Result<(), Corrupt> {
    for file in [File::Superblock(0), File::Superblock(1)] {
        let bytes = length_of(names, file);
        if bytes.is_some_and(|bytes| bytes > PAGE_BYTES as u64) {
            let (offset, what) = (PAGE_BYTES as u64, "it has more than its page");
            note(blemishes, Blemish { file, offset, what });
        }
        // One that cannot be read has been spoken of.
        let Ok((pages, PAGE_BYTES)) = read_pages(disk, file, 0, Pages::zeroed(1)) else {
            continue;
        };
        let rest = &pages.as_slice()[0].0[SECTOR_BYTES..];
        if let Some(at) = rest.iter().position(|byte| *byte != 0) {
            let (offset, what) = (
                (SECTOR_BYTES + at) as u64,
                "the rest of its page is changed",
            );
            note(blemishes, Blemish { file, offset, what });
        }
    }
    Ok(())
}

fn note(blemishes: &mut Vec<Blemish>, blemish: Blemish) {
    if blemishes.len() < BLEMISHES_MAX {
        blemishes.push(blemish);
    }
}

/// What each file outside the log is there for.
fn others(names: &[Name], block: &Superblock, used: &[SegmentReport]) -> Vec<OtherFile> {
    let mut others = Vec::new();
    for name in names {
        let is_used = |slot| used.iter().any(|segment| segment.slot == slot);
        let purpose = match name.file {
            Some(File::Superblock(_)) => continue,
            Some(File::Wal(slot)) if is_used(slot) => continue,
            Some(File::Wal(slot)) if slot == block.start.slot => "where the log goes on",
            Some(File::Wal(slot)) if slot == block.next.slot => "the next segment",
            Some(File::Wal(_)) => "a segment kept for later use",
            Some(File::Checkpoint(index)) if index == block.checkpoint.0 => "the checkpoint",
            Some(File::Checkpoint(_)) => "a checkpoint that no superblock names",
            Some(File::Segment(_)) => "a segment of the revision log",
            Some(File::Temp(_)) => "a file in the making",
            Some(File::Ballast) => "space kept back for a full disk",
            None => "not basalt's",
        };
        others.push(OtherFile {
            name: name.text.clone(),
            bytes: name.bytes,
            purpose,
        });
    }
    others
}
