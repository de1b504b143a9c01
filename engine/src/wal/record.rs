//! The bytes of a frame: sectors with stamps, one header, a body of runs. docs/FORMAT.md shows the layout.

use crate::disk::{PAGE_BYTES, PAGE_SECTORS, Page, Pages, SECTOR_BYTES};
use crate::run::{self, RUN_HEAD_BYTES, split_run};
use crate::types::{HardState, Index, MemberId, Run, Term};

/// Bytes of a sector that carry payload; the rest is its stamp.
pub(super) const SECTOR_PAYLOAD: usize = SECTOR_BYTES - 8;

/// Payload bytes of a page.
pub(super) const PAGE_PAYLOAD: usize = SECTOR_PAYLOAD * PAGE_SECTORS;

/// Bytes of a frame's header, all in its first sector.
pub(super) const HEADER_BYTES: usize = 144;

/// The version of everything in a segment.
pub(super) const FORMAT: u16 = 1;

/// Durable frames in flight, recorded in every header: only that many can be torn.
pub(super) const WINDOW: u8 = 1;

const MAGIC: [u8; 8] = *b"BSLTfrm1";

const _: () = assert!(HEADER_BYTES < SECTOR_PAYLOAD);

/// Pages of a frame whose body has `body` bytes.
pub(super) fn frame_pages(body: usize) -> usize {
    (HEADER_BYTES + body).div_ceil(PAGE_PAYLOAD)
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FrameKind {
    /// Carries runs.
    Runs = 0,
    /// The last frame before a clean stop; no body.
    Seal = 1,
}

/// The first bytes of a frame. It checks itself; the body is checked apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: FrameKind,
    pub(super) body_bytes: u32,
    pub(super) body_crc: u32,
    /// The digest of the frame before this one: a chain over all segments.
    pub(super) previous: u32,
    /// Pages that a frame of this writer may have: no torn frame is longer.
    pub(super) frame_pages_max: u32,
    pub(super) salt: u64,
    /// Counts the uses of segments. The frames of one use are consecutive.
    pub(super) generation: u64,
    pub(super) slot: u64,
    pub(super) offset: u64,
    pub(super) segment_bytes: u64,
    /// Counts frames for ever, from 1.
    pub(super) sequence: u64,
    /// The term of the last run.
    pub(super) term: Term,
    /// The lowest index in the frame.
    pub(super) first: Index,
    /// The last entry of the log once this frame counts.
    pub(super) last: Index,
    pub(super) hard: HardState,
    pub(super) runs: u32,
}

impl Header {
    /// Writes the header over the start of `sector` and returns its digest.
    pub(super) fn encode(&self, sector: &mut [u8; SECTOR_BYTES]) -> u32 {
        let mut out = Writer {
            into: &mut sector[..HEADER_BYTES],
            at: 0,
        };
        out.put(&MAGIC);
        out.put(&FORMAT.to_le_bytes());
        out.put(&[self.kind as u8, WINDOW]);
        for word in [
            self.body_bytes,
            self.body_crc,
            self.previous,
            self.frame_pages_max,
            self.runs,
        ] {
            out.put(&word.to_le_bytes());
        }
        let vote = self.hard.vote.map_or(0, |member| member.0);
        for word in [
            self.salt,
            self.generation,
            self.slot,
            self.offset,
            self.segment_bytes,
            self.sequence,
            self.term.0,
            self.first.0,
            self.last.0,
            self.hard.term.0,
            vote,
            self.hard.commit.0,
        ] {
            out.put(&word.to_le_bytes());
        }
        assert!(out.at <= HEADER_BYTES - 4);
        out.into[out.at..HEADER_BYTES - 4].fill(0);
        let digest = crc32c::crc32c(&sector[..HEADER_BYTES - 4]);
        sector[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&digest.to_le_bytes());
        digest
    }

    /// Reads a header and its digest. `None` if these bytes are not a whole header of ours.
    pub(super) fn decode(sector: &[u8; SECTOR_BYTES]) -> Option<(Self, u32)> {
        if sector[..8] != MAGIC {
            return None;
        }
        let (bytes, digest) = sector[..HEADER_BYTES].split_at(HEADER_BYTES - 4);
        let digest = u32::from_le_bytes(digest.try_into().ok()?);
        if crc32c::crc32c(bytes) != digest {
            return None;
        }
        let mut from = Reader { from: &bytes[8..] };
        if from.u16() != FORMAT {
            return None;
        }
        let kind = match from.byte() {
            0 => FrameKind::Runs,
            1 => FrameKind::Seal,
            _ => return None,
        };
        if from.byte() != WINDOW {
            return None;
        }
        let [body_bytes, body_crc, previous, frame_pages_max, runs] = [(); 5].map(|()| from.u32());
        let [
            salt,
            generation,
            slot,
            offset,
            segment_bytes,
            sequence,
            term,
            first,
            last,
            hard_term,
            vote,
            commit,
        ] = [(); 12].map(|()| from.u64());
        let header = Self {
            kind,
            body_bytes,
            body_crc,
            previous,
            frame_pages_max,
            salt,
            generation,
            slot,
            offset,
            segment_bytes,
            sequence,
            term: Term(term),
            first: Index(first),
            last: Index(last),
            hard: HardState {
                term: Term(hard_term),
                vote: (vote != 0).then_some(MemberId(vote)),
                commit: Index(commit),
            },
            runs,
        };
        Some((header, digest))
    }

    /// Pages of the whole frame.
    pub(super) fn pages(&self) -> usize {
        frame_pages(self.body_bytes as usize)
    }
}

/// What the last eight bytes of a sector say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    /// Written by the frame with this sequence; 0 is the filling of a fresh segment.
    Of(u64),
    /// Not a stamp of this member for this place.
    Damaged,
}

/// Makes and reads the stamps of one segment: 48 bits of sequence and 16 that bind it to its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamps {
    base: u64,
}

const SEQUENCE_BITS: u32 = 48;
const SEQUENCE_MAX: u64 = (1 << SEQUENCE_BITS) - 1;

impl Stamps {
    /// The stamps of segment `slot` under `salt`.
    pub(super) fn new(salt: u64, slot: u64) -> Self {
        Self {
            base: salt ^ slot.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    fn make(self, sector: u64, sequence: u64) -> u64 {
        assert!(sequence <= SEQUENCE_MAX);
        let mut mix = self.base ^ sector.wrapping_add(1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mix = (mix ^ (mix >> 29))
            .wrapping_add(sequence)
            .wrapping_mul(0x94d0_49bb_1331_11eb);
        (mix ^ (mix >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93) >> SEQUENCE_BITS << SEQUENCE_BITS
            | sequence
    }

    /// Stamps every sector of `pages`, which start at `offset` of the segment.
    pub(super) fn stamp(self, pages: &mut [Page], offset: u64, sequence: u64) {
        let mut number = offset / SECTOR_BYTES as u64;
        for page in pages {
            let (sectors, _) = page.0.as_chunks_mut::<SECTOR_BYTES>();
            for sector in sectors {
                sector[SECTOR_PAYLOAD..]
                    .copy_from_slice(&self.make(number, sequence).to_le_bytes());
                number += 1;
            }
        }
    }

    /// Reads the stamp of the sector at byte `offset` of the segment.
    pub(super) fn read(self, sector: &[u8; SECTOR_BYTES], offset: u64) -> Stamp {
        let (_, stamp) = sector.split_at(SECTOR_PAYLOAD);
        let stamp = stamp
            .iter()
            .rev()
            .fold(0, |word, &byte| word << 8 | u64::from(byte));
        let sequence = stamp & SEQUENCE_MAX;
        match self.make(offset / SECTOR_BYTES as u64, sequence) == stamp {
            true => Stamp::Of(sequence),
            false => Stamp::Damaged,
        }
    }
}

/// A frame in the making. Bytes are copied once, into the pages that the disk will take.
#[derive(Debug)]
pub(super) struct Frame {
    pages: Pages,
    /// Payload bytes so far, header included.
    end: usize,
    crc: u32,
    runs: u32,
    first: Index,
    last: Index,
    /// The highest index of any run: a later run may have replaced it.
    highest: Index,
    term: Term,
}

impl Frame {
    /// An empty frame that uses the memory of `pages`.
    pub(super) fn new(mut pages: Pages) -> Self {
        pages.resize(0);
        let none = Index(0);
        let first = Index(u64::MAX);
        Self {
            pages,
            end: HEADER_BYTES,
            crc: 0,
            runs: 0,
            first,
            last: none,
            highest: none,
            term: Term(0),
        }
    }

    /// Bytes of the body so far.
    pub(super) fn body_bytes(&self) -> usize {
        self.end - HEADER_BYTES
    }

    /// Whether no run is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.runs == 0
    }

    /// Bytes on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        (frame_pages(self.body_bytes()) * PAGE_BYTES) as u64
    }

    /// The highest index of any run.
    pub(super) fn highest(&self) -> Index {
        self.highest
    }

    /// Adds a run.
    pub(super) fn push(&mut self, run: &Run<'_>) {
        let body = self.body_bytes() + RUN_HEAD_BYTES + run.bytes.len();
        self.pages.resize(frame_pages(body));
        self.copy(&run::head(run));
        self.copy(run.bytes);
        self.runs += 1;
        self.first = self.first.min(run.first);
        self.last = run.last();
        self.highest = self.highest.max(self.last);
        self.term = run.term;
    }

    fn copy(&mut self, mut bytes: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        while !bytes.is_empty() {
            let within = self.end % SECTOR_PAYLOAD;
            let take = bytes.len().min(SECTOR_PAYLOAD - within);
            let (now, later) = bytes.split_at(take);
            self.pages.sector_mut(self.end / SECTOR_PAYLOAD)[within..within + take]
                .copy_from_slice(now);
            self.end += take;
            bytes = later;
        }
    }

    /// Fills in what only the frame knows, writes header and stamps, and gives the pages with the header's digest.
    pub(super) fn finish(mut self, mut header: Header) -> (Pages, u32) {
        self.pages.resize(frame_pages(self.body_bytes()));
        let mut sector = self.end / SECTOR_PAYLOAD;
        let mut within = self.end % SECTOR_PAYLOAD;
        while sector < self.pages.count() * PAGE_SECTORS {
            self.pages.sector_mut(sector)[within..SECTOR_PAYLOAD].fill(0);
            sector += 1;
            within = 0;
        }
        header.body_bytes =
            u32::try_from(self.body_bytes()).expect("a frame is shorter than a segment");
        header.body_crc = self.crc;
        header.runs = self.runs;
        if !self.is_empty() {
            header.first = self.first;
            header.last = self.last;
            header.term = self.term;
        }
        let digest = header.encode(self.pages.sector_mut(0));
        let stamps = Stamps::new(header.salt, header.slot);
        stamps.stamp(self.pages.as_mut_slice(), header.offset, header.sequence);
        (self.pages, digest)
    }
}

/// Takes the body of a frame out of its sectors into `body`. The pages are the whole frame.
pub(super) fn unpack(header: &Header, pages: &[Page], body: &mut Vec<u8>) {
    body.clear();
    let mut skip = HEADER_BYTES;
    let mut left = header.body_bytes as usize;
    for page in pages {
        let (sectors, _) = page.0.as_chunks::<SECTOR_BYTES>();
        for sector in sectors {
            let take = left.min(SECTOR_PAYLOAD - skip);
            body.extend_from_slice(&sector[skip..skip + take]);
            left -= take;
            skip = 0;
        }
    }
    assert!(left == 0);
}

/// Hands each run of a checked body to `on_run`. An error names the byte of the body that makes no sense.
pub(super) fn each_run<'b>(
    header: &Header,
    body: &'b [u8],
    mut on_run: impl FnMut(Run<'b>),
) -> Result<(), usize> {
    let mut rest = body;
    let mut runs = 0;
    while !rest.is_empty() {
        let (run, after) = split_run(rest).ok_or(body.len() - rest.len())?;
        on_run(run);
        runs += 1;
        rest = after;
    }
    if runs == header.runs {
        Ok(())
    } else {
        Err(body.len())
    }
}

/// Appends fields to a slice of fixed size.
pub(super) struct Writer<'a> {
    pub(super) into: &'a mut [u8],
    pub(super) at: usize,
}

impl Writer<'_> {
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.into[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

/// Takes fields from a slice that is long enough for all of them.
pub(super) struct Reader<'a> {
    pub(super) from: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (now, later) = self
            .from
            .split_first_chunk()
            .expect("the layout is shorter than its block");
        self.from = later;
        *now
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

#[cfg(test)]
mod tests;
