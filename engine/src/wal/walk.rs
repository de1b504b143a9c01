//! Reads the log from its start, frame by frame, for as long as each continues the one before.

use std::collections::{BTreeMap, VecDeque};

use super::corrupt::{Corrupt, Rot, length_of};
use super::record::{FrameKind, Header, each_run, unpack};
use super::recover::{Progress, Replayed};
use super::segment::Used;
use super::superblock::{Place, Superblock};
use crate::disk::{Disk, File, Name, PAGE_BYTES, Page, Pages, ReadAhead, read_pages};
use crate::limits::{WAL_READ_BYTES, WAL_READS_AHEAD};
use crate::mutant::{Mutant, is_on};
use crate::run::entries_prefix;
use crate::types::{HardState, Index, Run, Term};

/// Where the log ends, and what it says up to there.
#[derive(Debug)]
pub(super) struct End {
    /// The segments of the log; it ends in the last one, at its `at`.
    pub(super) used: VecDeque<Used>,
    /// The last whole frame.
    pub(super) sequence: u64,
    /// Its digest; unknown if the log has no frame since its start.
    pub(super) digest: Option<u32>,
    pub(super) last: Index,
    pub(super) last_term: Term,
    /// Of the last frame.
    pub(super) hard: HardState,
    /// The longest frame that the last writer would write, in bytes.
    pub(super) window_bytes: u64,
    pub(super) is_sealed: bool,
}

impl End {
    /// The segment the log ends in.
    pub(super) fn tail(&self) -> &Used {
        self.used.back().expect("the log has a segment")
    }
}

/// The segments by what their first frame says, without those that hold no frame of this member.
pub(super) fn by_generation(
    disk: &mut dyn Disk,
    names: &[Name],
    block: &Superblock,
) -> Result<BTreeMap<u64, Place>, Corrupt> {
    let mut places = BTreeMap::new();
    let slots = names.iter().filter_map(|name| match name.file {
        Some(File::Wal(slot)) => Some(slot),
        _ => None,
    });
    let firsts: Vec<ReadAhead> = slots.map(SegmentReader::first).collect();
    disk.read_ahead(&firsts);
    for name in names {
        let Some(File::Wal(slot)) = name.file else {
            continue;
        };
        let mut reader = SegmentReader::new(slot, name.bytes);
        let first = reader.first_page(disk)?;
        let header = first.and_then(|page| page.0.first_chunk().and_then(Header::decode));
        let Some((header, _)) = header else {
            continue;
        };
        if header.is_here(block, slot, 0) {
            places.insert(
                header.generation,
                Place {
                    slot,
                    bytes: name.bytes,
                    generation: header.generation,
                },
            );
        }
    }
    Ok(places)
}

impl Header {
    /// Whether the header was written for this place.
    pub(super) fn is_here(&self, block: &Superblock, slot: u64, offset: u64) -> bool {
        self.salt == block.identity.frame_salt() && self.slot == slot && self.offset == offset
    }
}

/// Reads one segment in large pieces.
#[derive(Debug)]
pub(super) struct SegmentReader {
    slot: u64,
    bytes: u64,
    /// The piece read last.
    window: Pages,
    window_at: u64,
    window_pages: usize,
    /// Pages of more than one piece, in one.
    joined: Pages,
}

impl SegmentReader {
    pub(super) fn new(slot: u64, bytes: u64) -> Self {
        Self {
            slot,
            bytes,
            window: Pages::default(),
            window_at: 0,
            window_pages: 0,
            joined: Pages::default(),
        }
    }

    /// `count` whole pages at `at`, or `None` if the file is shorter.
    pub(super) fn pages(
        &mut self,
        disk: &mut dyn Disk,
        at: u64,
        count: usize,
    ) -> Result<Option<&[Page]>, Corrupt> {
        let page = PAGE_BYTES as u64;
        let end = at + count as u64 * page;
        if end > self.bytes {
            return Ok(None);
        }
        if !self.has(at) {
            self.load(disk, at)?;
        }
        if end <= self.window_end() {
            let from = usize::try_from((at - self.window_at) / page).expect("inside the window");
            return Ok(self.window.as_slice().get(from..from + count));
        }
        self.joined.resize(count);
        let (mut at, mut done) = (at, 0);
        while at < end {
            if !self.has(at) {
                self.load(disk, at)?;
            }
            if !self.has(at) {
                return Ok(None);
            }
            let until = end.min(self.window_end());
            let from = usize::try_from((at - self.window_at) / page).expect("inside the window");
            let some = usize::try_from((until - at) / page).expect("inside the window");
            let pages = &self.window.as_slice()[from..from + some];
            self.joined.as_mut_slice()[done..done + some].clone_from_slice(pages);
            (at, done) = (until, done + some);
        }
        Ok(Some(self.joined.as_slice()))
    }

    fn has(&self, at: u64) -> bool {
        (self.window_at..self.window_end()).contains(&at)
    }

    fn window_end(&self) -> u64 {
        self.window_at + (self.window_pages * PAGE_BYTES) as u64
    }

    /// Reads the piece that has `at`, and announces those behind it.
    fn load(&mut self, disk: &mut dyn Disk, at: u64) -> Result<(), Corrupt> {
        let bytes = WAL_READ_BYTES as u64;
        let piece = |at: u64| ReadAhead {
            file: File::Wal(self.slot),
            offset: at,
            pages: usize::try_from(bytes.min(self.bytes - at)).expect("a piece") / PAGE_BYTES,
        };
        let own = piece(at - at % bytes);
        let behind = (1..=WAL_READS_AHEAD as u64).map(|number| own.offset + number * bytes);
        let behind = behind.take_while(|at| *at < self.bytes).map(piece);
        let behind: Vec<ReadAhead> = behind.filter(|read| read.pages > 0).collect();
        disk.read_ahead(&behind);
        let mut into = core::mem::take(&mut self.window);
        into.resize(own.pages);
        let (pages, bytes) = read_pages(disk, own.file, own.offset, into)?;
        self.window = pages;
        self.window_at = own.offset;
        self.window_pages = bytes / PAGE_BYTES;
        Ok(())
    }

    /// The first page, without what is behind it.
    pub(super) fn first_page(&mut self, disk: &mut dyn Disk) -> Result<Option<&Page>, Corrupt> {
        let first = Self::first(self.slot);
        if self.bytes < PAGE_BYTES as u64 {
            return Ok(None);
        }
        let mut into = core::mem::take(&mut self.window);
        into.resize(first.pages);
        let (pages, bytes) = read_pages(disk, first.file, first.offset, into)?;
        self.window = pages;
        self.window_at = 0;
        self.window_pages = bytes / PAGE_BYTES;
        Ok(self
            .window
            .as_slice()
            .first()
            .filter(|_| self.window_pages > 0))
    }

    /// The read of `first_page`, to be announced.
    fn first(slot: u64) -> ReadAhead {
        ReadAhead {
            file: File::Wal(slot),
            offset: 0,
            pages: 1,
        }
    }
}

/// Follows the frames and hands their runs out.
pub(super) struct Walk<'a> {
    pub(super) block: &'a Superblock,
    pub(super) names: &'a [Name],
    pub(super) generations: &'a BTreeMap<u64, Place>,
    pub(super) on_event: &'a mut OnEvent<'a>,
    pub(super) progress: &'a mut dyn FnMut(Progress),
    /// Hears of every frame that is whole and in its place, after its runs.
    pub(super) on_frame: &'a mut OnFrame<'a>,
}

/// Hears of what is replayed, and may read other files meanwhile.
pub type OnEvent<'a> = dyn FnMut(Replayed<'_>, &mut dyn Disk) + 'a;

pub(super) type OnFrame<'a> = dyn FnMut(&mut dyn Disk, &Header) -> Result<(), Corrupt> + 'a;

impl Walk<'_> {
    pub(super) fn run(&mut self, disk: &mut dyn Disk) -> Result<End, Corrupt> {
        let start = self.block.start;
        self.check_length(start)?;
        let used = Used {
            place: start,
            at: 0,
            first_sequence: self.block.start_sequence,
            highest: Index(0),
        };
        let mut end = End {
            used: VecDeque::from([used]),
            sequence: self.block.start_sequence - 1,
            digest: None,
            last: self.block.checkpoint,
            last_term: Term(0),
            hard: HardState::default(),
            window_bytes: u64::MAX,
            is_sealed: false,
        };
        let mut log = Handed {
            checkpoint: self.block.checkpoint,
            log: None,
            handed: self.block.checkpoint,
        };
        let mut reader = SegmentReader::new(start.slot, start.bytes);
        let mut body = Vec::new();
        let total_bytes = self.total_bytes();
        let mut done_bytes = 0;
        loop {
            let tail = end.tail();
            let (place, at) = (tail.place, tail.at);
            if let Some((header, digest)) =
                next_frame(&mut reader, disk, self.block, &end, place, at, &mut body)?
            {
                self.take(disk, &header, &body, &mut end, &mut log)?;
                (self.on_frame)(disk, &header)?;
                end.digest = Some(digest);
                let bytes = (header.pages() * PAGE_BYTES) as u64;
                let tail = end.used.back_mut().expect("the log has a segment");
                tail.at += bytes;
                tail.highest = tail.highest.max(log.take_highest());
                done_bytes += bytes;
                (self.progress)(Progress {
                    done_bytes,
                    total_bytes,
                });
                continue;
            }
            let Some(&next) = self.generations.get(&(place.generation + 1)) else {
                break;
            };
            let mut next_reader = SegmentReader::new(next.slot, next.bytes);
            if next_frame(&mut next_reader, disk, self.block, &end, next, 0, &mut body)?.is_none() {
                break;
            }
            reader = next_reader;
            let first_sequence = end.sequence + 1;
            end.used.push_back(Used {
                place: next,
                at: 0,
                first_sequence,
                highest: Index(0),
            });
        }
        Ok(end)
    }

    /// A frame that is whole and in its place.
    fn take(
        &mut self,
        disk: &mut dyn Disk,
        header: &Header,
        body: &[u8],
        end: &mut End,
        log: &mut Handed,
    ) -> Result<(), Corrupt> {
        let rotten = |what| {
            let (file, offset) = (File::Wal(header.slot), header.offset);
            Corrupt::Rotten { file, offset, what }
        };
        let mut gap = None;
        let mut on_event = |event: Replayed<'_>| (self.on_event)(event, disk);
        let mut runs = Vec::new();
        let read = each_run(header, body, |run| runs.push(run));
        let kept = kept_upto(&runs);
        for (run, upto) in runs.into_iter().zip(kept) {
            // The frame's commit may mean an entry that replaces this run's in this very frame.
            let commit = match is_on(Mutant::CommitReplaced) {
                true => header.hard.commit,
                false => header.hard.commit.min(upto),
            };
            let hard = HardState {
                commit,
                ..header.hard
            };
            gap = gap.or(log.hand(&run, hard, &mut on_event));
            end.last_term = run.term;
        }
        if let Err(at) = read {
            return Err(rotten(Rot::Senseless {
                sequence: header.sequence,
                at,
            }));
        }
        if let Some((last, first)) = gap {
            return Err(rotten(Rot::IndexGap { last, first }));
        }
        end.sequence = header.sequence;
        end.last = log.last();
        end.hard = header.hard;
        end.window_bytes = u64::from(header.frame_pages_max) * PAGE_BYTES as u64;
        end.is_sealed = header.kind == FrameKind::Seal;
        Ok(())
    }

    fn check_length(&self, place: Place) -> Result<(), Corrupt> {
        let file = File::Wal(place.slot);
        match length_of(self.names, file) {
            None => Err(Corrupt::Missing { file }),
            Some(bytes) if bytes != place.bytes => Err(Corrupt::Length {
                file,
                bytes,
                expected: place.bytes,
            }),
            Some(_) => Ok(()),
        }
    }

    fn total_bytes(&self) -> u64 {
        let from = self.block.start.generation;
        self.generations
            .range(from..)
            .map(|(_, place)| place.bytes)
            .sum()
    }
}

/// For each run of a frame: the last entry that no later run of the frame replaces.
fn kept_upto(runs: &[Run<'_>]) -> Vec<Index> {
    let mut kept = vec![Index(u64::MAX); runs.len()];
    let mut upto = Index(u64::MAX);
    for (kept, run) in kept.iter_mut().zip(runs).rev() {
        *kept = upto;
        upto = upto.min(run.first.previous());
    }
    kept
}

/// The frame at `at`, if it is whole and continues the log; its body is in `body`. Otherwise `verdict.rs` says what it is.
fn next_frame(
    reader: &mut SegmentReader,
    disk: &mut dyn Disk,
    block: &Superblock,
    end: &End,
    place: Place,
    at: u64,
    body: &mut Vec<u8>,
) -> Result<Option<(Header, u32)>, Corrupt> {
    let first = reader
        .pages(disk, at, 1)?
        .and_then(|pages| pages[0].0.first_chunk());
    let Some((header, digest)) = first.and_then(Header::decode) else {
        return Ok(None);
    };
    if !continues(&header, block, end, place, at) {
        return Ok(None);
    }
    if header.segment_bytes != place.bytes {
        let (file, bytes, expected) = (File::Wal(place.slot), place.bytes, header.segment_bytes);
        return Err(Corrupt::Length {
            file,
            bytes,
            expected,
        });
    }
    let Some(pages) = reader.pages(disk, at, header.pages())? else {
        return Ok(None);
    };
    unpack(&header, pages, body);
    Ok((crc32c::crc32c(body) == header.body_crc).then_some((header, digest)))
}

/// Whether this is the header of the next frame, written for this place.
pub(super) fn continues(
    header: &Header,
    block: &Superblock,
    end: &End,
    place: Place,
    at: u64,
) -> bool {
    header.is_here(block, place.slot, at)
        && header.generation == place.generation
        && header.sequence == end.sequence + 1
        && end.digest.is_none_or(|digest| header.previous == digest)
}

/// What of the log was handed out: only what is above the checkpoint, replaced suffixes cut.
struct Handed {
    checkpoint: Index,
    /// The last index of the log as the frames say it, and the highest since `take_highest`.
    log: Option<(Index, Index)>,
    /// The last index handed out, or the checkpoint.
    handed: Index,
}

impl Handed {
    fn last(&self) -> Index {
        self.handed
    }

    fn take_highest(&mut self) -> Index {
        match &mut self.log {
            Some((_, highest)) => core::mem::replace(highest, Index(0)),
            None => Index(0),
        }
    }

    /// Hands a run out. Returns (last, first) if it leaves a gap.
    fn hand(
        &mut self,
        run: &Run<'_>,
        hard: HardState,
        on_event: &mut dyn FnMut(Replayed<'_>),
    ) -> Option<(Index, Index)> {
        let (last, highest) = self.log.unwrap_or((self.checkpoint, Index(0)));
        // After an accepted loss the log goes on behind the checkpoint, which has what is missing.
        let last = last.max(self.checkpoint);
        if run.first > last.next() {
            return Some((last, run.first));
        }
        self.log = Some((run.last(), highest.max(run.last())));
        let above = self.checkpoint.next();
        let from = run.first.max(above);
        if from <= self.handed {
            on_event(Replayed::CutFrom(from));
            self.handed = from.previous();
        }
        if run.last() < above {
            return None;
        }
        let skipped = u32::try_from(from.0 - run.first.0).expect("fewer than the run has");
        let bytes = entries_prefix(run.bytes, skipped).expect("each_run counted them");
        let rest = Run {
            first: from,
            count: run.count - skipped,
            bytes: &run.bytes[bytes..],
            ..*run
        };
        on_event(Replayed::Run(rest, hard));
        self.handed = run.last();
        None
    }
}
