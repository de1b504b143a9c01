use std::sync::Arc;

use super::packed::{Packed, Slots};
use super::record::Stored;
use super::segment::Segment;
use super::{NeedRead, Position, SegmentId};

/// Which segment lies where. Immutable once published; the writer copies one chunk and the top when
/// a segment is added or replaced, once a mebibyte of writes.
#[derive(Clone, Default)]
pub(crate) struct Directory {
    chunks: Vec<Chunk>,
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
    pub(crate) gone: Option<Arc<Slots>>,
    /// Bytes of the dropped records in `gone`.
    pub(crate) gone_bytes: u64,
    /// Bytes of the body; kept by the writer, stale while the segment is the open one.
    pub(crate) bytes: u64,
}

/// Where a segment's records are.
#[derive(Clone)]
pub(crate) enum Body {
    /// As it was written; the open segment too.
    Whole(Arc<Segment>),
    /// Rewritten by compaction.
    Packed(Arc<Packed>),
    /// Not in memory: reads answer `NeedRead` until it is warmed.
    Cold(Box<Body>),
    /// Compaction left nothing.
    Empty,
}

impl Directory {
    pub(crate) fn place(&self, id: SegmentId) -> Option<&Place> {
        let chunk = self.chunks.get(id.0 as usize / CHUNK)?;
        chunk.places.as_ref()?.get(id.0 as usize % CHUNK)
    }

    /// The record at `at`; `None` if compaction has dropped it.
    pub(crate) fn record(&self, at: Position) -> Result<Option<Stored<'_>>, NeedRead> {
        let Some(place) = self.place(at.id()) else {
            return Ok(None);
        };
        let bytes = match &place.body {
            Body::Whole(segment) => segment.record(at.slot),
            Body::Packed(packed) => packed.record(at.slot),
            Body::Cold(_) => return Err(NeedRead(at.id())),
            Body::Empty => None,
        };
        match &place.gone {
            Some(gone) if gone.contains(at.slot) => Ok(None),
            _ => Ok(bytes.map(Stored::new)),
        }
    }

    /// The first record at or after `at`, dropped ones skipped.
    pub(crate) fn next_from(
        &self,
        at: Position,
    ) -> Result<Option<(Position, Stored<'_>)>, NeedRead> {
        let mut at = at;
        while (at.segment as usize) < self.len() {
            if self.chunks[at.segment as usize / CHUNK].places.is_none() {
                let next_chunk = (at.segment as usize / CHUNK + 1) * CHUNK;
                at = Position {
                    segment: u32::try_from(next_chunk).expect("segment ids fit u32"),
                    slot: 0,
                };
                continue;
            }
            if let Some(place) = self.place(at.id())
                && let Some((slot, stored)) = place.next_from(at)?
            {
                return Ok(Some((
                    Position {
                        segment: at.segment,
                        slot,
                    },
                    stored,
                )));
            }
            at = Position {
                segment: at.segment + 1,
                slot: 0,
            };
        }
        Ok(None)
    }

    /// A position at or before the first record of main revision `main` or later, and after almost
    /// all earlier ones.
    pub(crate) fn seek(&self, main: i64) -> Result<Position, NeedRead> {
        let chunk = self
            .chunks
            .partition_point(|chunk| chunk.first_main < main)
            .saturating_sub(1);
        let Some(Chunk {
            places: Some(places),
            ..
        }) = self.chunks.get(chunk)
        else {
            return Ok(Position {
                segment: id(chunk * CHUNK),
                slot: 0,
            });
        };
        let place = places
            .partition_point(|place| place.first_main < main)
            .saturating_sub(1);
        let segment = id(chunk * CHUNK + place);
        let slot = match places.get(place).map(|place| &place.body) {
            Some(Body::Whole(body)) => lower_bound(body.slots(), |slot| body.record(slot), main),
            Some(Body::Packed(body)) => {
                let kept = id(body.len());
                let index = lower_bound(kept, |index| body.at(index as usize), main);
                body.slot(index as usize).map_or(u32::MAX, |slot| slot)
            }
            Some(Body::Cold(_)) => return Err(NeedRead(SegmentId(segment))),
            Some(Body::Empty) | None => 0,
        };
        Ok(Position { segment, slot })
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
    /// The first record of this segment in slot `at.slot` or after it that was not dropped.
    fn next_from(&self, at: Position) -> Result<Option<(u32, Stored<'_>)>, NeedRead> {
        let is_gone = |slot| self.gone.as_ref().is_some_and(|gone| gone.contains(slot));
        match &self.body {
            Body::Whole(segment) => {
                let mut slot = at.slot;
                while let Some(bytes) = segment.record(slot) {
                    if !is_gone(slot) {
                        return Ok(Some((slot, Stored::new(bytes))));
                    }
                    slot += 1;
                }
                Ok(None)
            }
            Body::Packed(packed) => {
                let mut index = packed.index_from(at.slot);
                while let (Some(slot), Some(bytes)) = (packed.slot(index), packed.at(index)) {
                    if !is_gone(slot) {
                        return Ok(Some((slot, Stored::new(bytes))));
                    }
                    index += 1;
                }
                Ok(None)
            }
            Body::Cold(_) => Err(NeedRead(at.id())),
            Body::Empty => Ok(None),
        }
    }
}

/// The first of `count` records in revision order whose main revision is at least `main`.
fn lower_bound<'a>(count: u32, record: impl Fn(u32) -> Option<&'a [u8]>, main: i64) -> u32 {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        let is_before = record(middle).is_some_and(|bytes| Stored::new(bytes).main() < main);
        if is_before {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn id(index: usize) -> u32 {
    u32::try_from(index).expect("4 billion segments are 4 PiB of writes")
}

/// Segments of one chunk: what adding a segment copies besides the list of chunks.
const CHUNK: usize = 256;
