use std::sync::Arc;

use super::file::SegmentFile;
use super::frame::Frame;
use super::packed::{Packed, WordSet};
use super::record::Stored;
use super::segment::Segment;
use super::{Position, SegmentId};
use crate::mvcc::aside::Aside;
use crate::mvcc::wants::{NeedRead, PartRead, Wants};

/// Which segment lies where. Immutable once published; the writer copies one chunk and the top when
/// a segment is added or replaced, once a mebibyte of writes.
#[derive(Clone, Default)]
pub(crate) struct Directory {
    chunks: Vec<Chunk>,
    /// Where reads note what they miss.
    wants: Arc<Wants>,
}

/// `CHUNK` segments in a row.
#[derive(Clone)]
struct Chunk {
    /// Main revision of the first record that was ever in it.
    first_main: i64,
    /// `None` once nothing is left in any of them and no more will be added.
    places: Option<Arc<Vec<Place>>>,
}

/// One segment as the directory knows it.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) body: Body,
    /// Main revision of the first record that was ever in it.
    pub(crate) first_main: i64,
    /// Records that are still in the body although compaction has dropped them: no read may see
    /// them.
    pub(crate) gone: Option<Arc<WordSet>>,
    /// Bytes of the dropped records in `gone`.
    pub(crate) gone_bytes: u64,
    /// Bytes of the body; kept by the writer, stale while the segment is the open one.
    pub(crate) bytes: u64,
    /// The file that holds just this body, once there is one.
    pub(crate) file: Option<Arc<SegmentFile>>,
}

/// Where a segment's records are.
#[derive(Clone)]
pub(crate) enum Body {
    /// As it was written; the open segment too.
    Whole(Arc<Segment>),
    /// Rewritten by compaction.
    Packed(Arc<Packed>),
    /// As it was read from its file.
    Filed(Arc<Filed>),
    /// Compaction left nothing.
    Empty,
}

/// A segment whose records lie in a file, and some of them in memory.
#[derive(Clone)]
pub(crate) struct Filed {
    pub(crate) file: Arc<SegmentFile>,
    /// One for each of the file's; `None` if it is not in memory.
    pub(crate) frames: Box<[Option<Arc<Frame>>]>,
}

impl Directory {
    pub(crate) fn place(&self, id: SegmentId) -> Option<&Place> {
        let chunk = self.chunks.get(id.0 as usize / CHUNK)?;
        chunk.places.as_ref()?.get(id.0 as usize % CHUNK)
    }

    /// The files that hold segments.
    pub(crate) fn files(&self) -> impl Iterator<Item = Arc<SegmentFile>> {
        let places = self.chunks.iter().filter_map(|chunk| chunk.places.as_ref());
        let places = places.flat_map(|places| places.iter());
        places.filter_map(|place| place.file.clone())
    }

    /// Where reads note what they miss.
    pub(crate) fn wants(&self) -> &Arc<Wants> {
        &self.wants
    }

    /// The record at `at`; `None` if compaction has dropped it. What is not in memory may be in
    /// `aside`.
    pub(crate) fn record<'a>(
        &'a self,
        at: Position,
        aside: Option<&'a Aside>,
    ) -> Result<Option<Stored<'a>>, NeedRead> {
        let Some(place) = self.place(at.id()) else {
            return Ok(None);
        };
        let bytes = match &place.body {
            Body::Whole(segment) => segment.record(at.word),
            Body::Packed(packed) => packed.record(at.word),
            Body::Filed(filed) => filed
                .record(at.word, aside)
                .map_err(|cold| cold.of(at.id()))?,
            Body::Empty => None,
        };
        match &place.gone {
            Some(gone) if gone.contains(at.word) => Ok(None),
            _ => Ok(bytes.map(Stored::new)),
        }
    }

    /// The first record at or after `at`, dropped ones skipped.
    pub(crate) fn next_from<'a>(
        &'a self,
        at: Position,
        aside: Option<&'a Aside>,
    ) -> Result<Option<(Position, Stored<'a>)>, NeedRead> {
        let mut at = at;
        while (at.segment as usize) < self.len() {
            if self.chunks[at.segment as usize / CHUNK].places.is_none() {
                let next_chunk = (at.segment as usize / CHUNK + 1) * CHUNK;
                at = Position {
                    segment: u32::try_from(next_chunk).expect("segment ids fit u32"),
                    word: 0,
                };
                continue;
            }
            if let Some(place) = self.place(at.id())
                && let Some((word, stored)) = place.next_from(at, aside)?
            {
                return Ok(Some((
                    Position {
                        segment: at.segment,
                        word,
                    },
                    stored,
                )));
            }
            at = Position {
                segment: at.segment + 1,
                word: 0,
            };
        }
        Ok(None)
    }

    /// The file that holds what is missing; `None` if it is missing no more, or its segment has no
    /// such part any more.
    pub(crate) fn file_of(&self, need: NeedRead) -> Option<&Arc<SegmentFile>> {
        let NeedRead::Frame { segment, frame } = need else {
            return None;
        };
        match &self.place(segment)?.body {
            Body::Filed(filed) => {
                let is_cold = filed.frames.get(frame as usize)?.is_none();
                is_cold.then_some(&filed.file)
            }
            _ => None,
        }
    }

    /// How that is read.
    pub(crate) fn part_of(&self, need: NeedRead) -> Option<PartRead> {
        let file = self.file_of(need)?;
        match need {
            NeedRead::Frame { frame, .. } => Some(file.part(frame)),
            NeedRead::Page(_) => None,
        }
    }

    /// The begin of the last segment before which all records are older than main revision `main`.
    pub(crate) fn seek(&self, main: i64) -> Position {
        let chunk = self
            .chunks
            .partition_point(|chunk| chunk.first_main < main)
            .saturating_sub(1);
        let places = self
            .chunks
            .get(chunk)
            .and_then(|chunk| chunk.places.as_ref());
        let place = places.map_or(0, |places| {
            places
                .partition_point(|place| place.first_main < main)
                .saturating_sub(1)
        });
        Position {
            segment: id(chunk * CHUNK + place),
            word: 0,
        }
    }

    /// Segments ever made.
    pub(crate) fn len(&self) -> usize {
        match self.chunks.last() {
            Some(Chunk {
                places: Some(places),
                ..
            }) => (self.chunks.len() - 1) * CHUNK + places.len(),
            Some(_) => self.chunks.len() * CHUNK,
            None => 0,
        }
    }

    /// Adds a segment behind all others.
    pub(crate) fn push(&mut self, place: Place) -> SegmentId {
        let next = self.len();
        if next.is_multiple_of(CHUNK) {
            self.chunks.push(Chunk {
                first_main: place.first_main,
                places: Some(Arc::default()),
            });
        }
        let places = self
            .chunks
            .last_mut()
            .and_then(|chunk| chunk.places.as_mut());
        Arc::make_mut(places.expect("the last chunk is full or has places")).push(place);
        SegmentId(id(next))
    }

    /// Changes one place; readers of the published directory keep the old one.
    pub(crate) fn place_mut(&mut self, id: SegmentId) -> Option<&mut Place> {
        let chunk = self.chunks.get_mut(id.0 as usize / CHUNK)?;
        Arc::make_mut(chunk.places.as_mut()?).get_mut(id.0 as usize % CHUNK)
    }

    /// Forgets the chunk of `id` once it is full and all of it is empty.
    pub(crate) fn trim(&mut self, id: SegmentId) {
        let chunk = &mut self.chunks[id.0 as usize / CHUNK];
        let Some(places) = &chunk.places else { return };
        if places.len() == CHUNK && places.iter().all(|place| matches!(place.body, Body::Empty)) {
            chunk.places = None;
        }
    }
}

impl Place {
    /// The first record of this segment at `at.word` or behind that was not dropped.
    fn next_from<'a>(
        &'a self,
        at: Position,
        aside: Option<&'a Aside>,
    ) -> Result<Option<(u32, Stored<'a>)>, NeedRead> {
        let mut word = at.word;
        loop {
            let next = self.body.next_from(word, aside);
            let Some((found, bytes)) = next.map_err(|cold| cold.of(at.id()))? else {
                return Ok(None);
            };
            let stored = Stored::new(bytes);
            if !self.gone.as_ref().is_some_and(|gone| gone.contains(found)) {
                return Ok(Some((found, stored)));
            }
            let found = Position {
                segment: at.segment,
                word: found,
            };
            word = found.after(stored).word;
        }
    }
}

impl Body {
    /// The first record that was written at `word` or behind, dropped ones included, and where; for
    /// words at which a record begins or ends.
    pub(crate) fn next_from<'a>(
        &'a self,
        word: u32,
        aside: Option<&'a Aside>,
    ) -> Result<Option<(u32, &'a [u8])>, IsCold> {
        match self {
            Self::Whole(segment) => Ok(segment.record(word).map(|bytes| (word, bytes))),
            Self::Packed(packed) => Ok(packed.next_from(word)),
            Self::Filed(filed) => filed.next_from(word, aside),
            Self::Empty => Ok(None),
        }
    }

    /// Whether it holds the very same memory.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Arc::ptr_eq(a, b),
            (Self::Packed(a), Self::Packed(b)) => Arc::ptr_eq(a, b),
            (Self::Filed(a), Self::Filed(b)) => Arc::ptr_eq(&a.file, &b.file),
            _ => false,
        }
    }
}

/// This frame of the body is not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IsCold(u32);

impl IsCold {
    fn of(self, segment: SegmentId) -> NeedRead {
        let frame = self.0;
        NeedRead::Frame { segment, frame }
    }
}

impl Filed {
    /// With no frame in memory.
    pub(crate) fn cold(file: Arc<SegmentFile>) -> Self {
        let frames = file.frames.iter().map(|_| None).collect();
        Self { file, frames }
    }

    /// How many frames are not in memory.
    pub(crate) fn cold_frames(&self) -> usize {
        self.frames.iter().filter(|frame| frame.is_none()).count()
    }

    /// Bytes of the records that are in memory.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.frames
            .iter()
            .flatten()
            .map(|frame| frame.bytes())
            .sum()
    }

    fn record<'a>(
        &'a self,
        word: u32,
        aside: Option<&'a Aside>,
    ) -> Result<Option<&'a [u8]>, IsCold> {
        Ok(self.frame(self.file.frame_of(word), aside)?.record(word))
    }

    fn next_from<'a>(
        &'a self,
        word: u32,
        aside: Option<&'a Aside>,
    ) -> Result<Option<(u32, &'a [u8])>, IsCold> {
        for index in self.file.frame_of(word)..self.frames.len() {
            let found = self.frame(index, aside)?.next_from(word);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn frame<'a>(&'a self, index: usize, aside: Option<&'a Aside>) -> Result<&'a Frame, IsCold> {
        if let Some(frame) = &self.frames[index] {
            frame.on_used();
            return Ok(frame);
        }
        let index = u32::try_from(index).expect("from a u32");
        let frame = aside.and_then(|aside| aside.find(self.file.number, index));
        frame.ok_or(IsCold(index))
    }
}

fn id(index: usize) -> u32 {
    u32::try_from(index).expect("4 billion segments are 4 PiB of writes")
}

/// Segments of one chunk: what adding a segment copies besides the list of chunks.
const CHUNK: usize = 256;
