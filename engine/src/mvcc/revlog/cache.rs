use std::collections::VecDeque;
use std::sync::Arc;

use super::directory::{Body, Filed, Place};
use super::frame::Frame;
use super::{BadSegment, RevLog, SegmentId};
use crate::disk::Pages;
use crate::limits::EVICT_BYTES_A_TURN;
use crate::mvcc::wants::{NeedRead, PartRead};

/// Which records that lie in a file are in memory too, in the order in which they are looked at for
/// eviction.
pub(super) struct Cache {
    /// Bytes of such records that are kept.
    bound: u64,
    bytes: u64,
    /// What was replaced meanwhile stays until it is looked at, or the list has doubled.
    clock: VecDeque<Resident>,
    /// So long the list may become before it is tidied.
    clock_max: usize,
}

/// One frame, or a body that is still as it was made.
struct Resident {
    segment: SegmentId,
    /// The file that holds it: a body that was rewritten since has another, or none.
    number: u64,
    /// `None` for the body.
    frame: Option<u32>,
}

impl Cache {
    pub(super) fn new(bound: u64) -> Self {
        Self {
            bound,
            bytes: 0,
            clock: VecDeque::new(),
            clock_max: CLOCK_MIN,
        }
    }
}

impl RevLog {
    /// The body of `segment`, which has file `number`, may be given back from now on.
    pub(super) fn on_evictable(&mut self, segment: SegmentId, number: u64, bytes: u64) {
        self.cache.bytes += bytes;
        self.remember(Resident {
            segment,
            number,
            frame: None,
        });
    }

    /// Bytes of records in memory that lie in files too.
    pub(crate) fn cache_bytes(&self) -> u64 {
        self.cache.bytes
    }

    /// A body that has a file is replaced: what of it was in memory counts no more.
    pub(super) fn forget(&mut self, body: &Body, bytes: u64) {
        self.cache.bytes -= match body {
            Body::Filed(filed) => filed.resident_bytes(),
            _ => bytes,
        };
    }

    /// Takes a frame that was read; one of a file that is no longer the segment's is dropped.
    ///
    /// # Errors
    /// It is not what was written.
    pub(crate) fn on_part(
        &mut self,
        part: &PartRead,
        pages: &Pages,
        bytes: usize,
    ) -> Result<(), BadSegment> {
        let NeedRead::Frame { segment, frame } = part.need else {
            return Ok(());
        };
        if self.directory.part_of(part.need) != Some(*part) {
            return Ok(());
        }
        let directory = Arc::make_mut(&mut self.directory);
        let place = directory.place_mut(segment);
        let Some(Body::Filed(filed)) = place.map(|place| &mut place.body) else {
            unreachable!("it was missing just now");
        };
        let read = filed.file.check(frame, pages, bytes)?;
        let (number, bytes) = (filed.file.number, read.bytes());
        Arc::make_mut(filed).frames[frame as usize] = Some(Arc::new(read));
        self.cache.bytes += bytes;
        self.cold -= 1;
        self.remember(Resident {
            segment,
            number,
            frame: Some(frame),
        });
        Ok(())
    }

    /// Gives back memory above the bound: second chance by frame, the oldest first for bodies that
    /// were never read back; `elsewhere` is taken by others. Bounded work a call: a checkpoint makes hundreds of megabytes of
    /// them at once. True if anything went.
    pub(crate) fn evict(&mut self, elsewhere: u64) -> bool {
        let bound = self.cache.bound.saturating_sub(elsewhere);
        let bound = bound.max(self.cache.bytes.saturating_sub(EVICT_BYTES_A_TURN));
        let mut is_changed = false;
        // Once around and again: then all second chances are used up.
        for _ in 0..2 * self.cache.clock.len() {
            if self.cache.bytes <= bound {
                break;
            }
            let Some(resident) = self.cache.clock.pop_front() else {
                break;
            };
            let Some(place) = self.place_of(&resident) else {
                continue;
            };
            if was_used(place, &resident) {
                self.cache.clock.push_back(resident);
            } else {
                self.give_back(&resident);
                is_changed = true;
            }
        }
        is_changed
    }

    fn remember(&mut self, resident: Resident) {
        if self.cache.clock.len() >= self.cache.clock_max {
            let mut clock = std::mem::take(&mut self.cache.clock);
            clock.retain(|resident| self.place_of(resident).is_some());
            self.cache.clock_max = CLOCK_MIN.max(2 * clock.len());
            self.cache.clock = clock;
        }
        self.cache.clock.push_back(resident);
    }

    /// Where it is, if it is still there.
    fn place_of(&self, resident: &Resident) -> Option<&Place> {
        let place = self.directory.place(resident.segment)?;
        let is_its_file = place.file.as_ref()?.number == resident.number;
        let is_there = match (&place.body, resident.frame) {
            (Body::Filed(filed), Some(frame)) => filed.frames[frame as usize].is_some(),
            (Body::Whole(_) | Body::Packed(_), None) => true,
            _ => false,
        };
        (is_its_file && is_there).then_some(place)
    }

    fn give_back(&mut self, resident: &Resident) {
        let directory = Arc::make_mut(&mut self.directory);
        let Some(place) = directory.place_mut(resident.segment) else {
            return;
        };
        match (&mut place.body, resident.frame, &place.file) {
            (Body::Filed(filed), Some(frame), _) => {
                let frame = Arc::make_mut(filed).frames[frame as usize].take();
                self.cache.bytes -= frame.map_or(0, |frame| frame.bytes());
                self.cold += 1;
            }
            (body, _, Some(file)) => {
                let filed = Filed::cold(Arc::clone(file));
                self.cache.bytes -= place.bytes;
                self.cold += filed.frames.len();
                *body = Body::Filed(Arc::new(filed));
            }
            (_, _, None) => {}
        }
    }
}

/// Whether a read came since it was last looked at.
fn was_used(place: &Place, resident: &Resident) -> bool {
    match (&place.body, resident.frame) {
        (Body::Filed(filed), Some(frame)) => {
            let frame = filed.frames[frame as usize].as_deref();
            frame.is_some_and(Frame::take_used)
        }
        _ => false,
    }
}

/// The list is not tidied below this length.
const CLOCK_MIN: usize = 1024;
