//! Which file holds which part of the log: in use, full, named as the next one, ready, on the way out.

use std::collections::VecDeque;

use super::job::{Job, JobDone, Work};
use super::record::frame_pages;
use super::superblock::{Place, Superblock};
use crate::disk::{DiskError, File, PAGE_BYTES};
use crate::limits;
use crate::run::RUN_HEAD_BYTES;
use crate::types::Index;

/// The sizes of a log. `Default` is what a server uses; tests use small ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalLimits {
    /// A group closes at this many bytes, or at one run if that is larger.
    pub group_bytes: usize,
    /// The largest run that is ever appended, in bytes.
    pub run_bytes_max: usize,
    /// The first segment, and the smallest one that is made when space is short.
    pub segment_bytes_min: u64,
    /// Sizes double up to here.
    pub segment_bytes_max: u64,
    /// Space kept back for the day when the disk is full; enough for one smallest segment.
    pub ballast_bytes: u64,
    /// One write of the background filling.
    pub fill_bytes: usize,
}

impl Default for WalLimits {
    fn default() -> Self {
        Self {
            group_bytes: limits::WAL_GROUP_BYTES,
            run_bytes_max: limits::WAL_GROUP_BYTES,
            segment_bytes_min: limits::WAL_SEGMENT_BYTES_MIN,
            segment_bytes_max: limits::WAL_SEGMENT_BYTES_MAX,
            ballast_bytes: limits::WAL_BALLAST_BYTES,
            fill_bytes: limits::WAL_FILL_BYTES,
        }
    }
}

impl WalLimits {
    /// Pages of the largest frame.
    pub(super) fn frame_pages_max(&self) -> usize {
        frame_pages(self.group_bytes.max(self.run_bytes_max + RUN_HEAD_BYTES))
    }

    /// The smallest segment: any frame fits into a fresh one.
    pub(super) fn smallest(&self) -> u64 {
        let frame = (self.frame_pages_max() * PAGE_BYTES) as u64;
        self.segment_bytes_min.max(2 * frame)
    }
}

/// Whether the log can go on for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// A segment ahead is ready or in the making.
    Enough,
    /// The next segment or the ballast could not be made: what grows should be refused, what frees space still fits.
    Low {
        /// Bytes that can still be logged, padding included.
        left: u64,
        /// Why.
        cause: DiskError,
    },
}

/// A segment that frames were written to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    pub(super) place: Place,
    /// Where the next frame goes.
    pub(super) at: u64,
    /// The sequence of its first frame; of the next frame if it has none.
    pub(super) first_sequence: u64,
    /// The highest index in any of its frames.
    pub(super) highest: Index,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    None,
    /// Not in both superblocks yet.
    Chosen(Place),
    /// In both superblocks: the log may go there.
    Named(Place),
}

#[derive(Debug)]
pub(super) struct Segments {
    pub(super) current: Used,
    /// Full ones, oldest first.
    full: VecDeque<Used>,
    next: Next,
    /// Free to become the next one: (slot, bytes).
    ready: Vec<(u64, u64)>,
    /// Released, but the superblocks on disk still start with them.
    leaving: Vec<Place>,
    slot_next: u64,
    largest: u64,
    /// Whether a job makes a segment or the ballast right now.
    making: bool,
    has_ballast: bool,
    cause: Option<DiskError>,
    jobs: Vec<Job>,
    salt: u64,
    limits: WalLimits,
}

/// What recovery found.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) used: VecDeque<Used>,
    pub(super) next: Option<Place>,
    pub(super) ready: Vec<(u64, u64)>,
    pub(super) slot_next: u64,
    pub(super) has_ballast: bool,
}

impl Segments {
    /// Panics if no segment is in use: recovery always has one.
    pub(super) fn new(mut layout: Layout, salt: u64, limits: WalLimits) -> Self {
        let current = layout.used.pop_back().expect("the log has a segment");
        let sizes = layout
            .used
            .iter()
            .map(|used| used.place.bytes)
            .chain(layout.ready.iter().map(|ready| ready.1));
        let largest = sizes
            .chain([current.place.bytes])
            .chain(layout.next.map(|next| next.bytes))
            .max();
        let mut segments = Self {
            current,
            full: layout.used,
            next: layout.next.map_or(Next::None, Next::Named),
            ready: layout.ready,
            leaving: Vec::new(),
            slot_next: layout.slot_next,
            largest: largest.unwrap_or(0),
            making: false,
            has_ballast: layout.has_ballast,
            cause: None,
            jobs: Vec::new(),
            salt,
            limits,
        };
        if matches!(segments.next, Next::Named(next) if next.bytes < limits.smallest()) {
            segments.next = Next::None;
        }
        segments.provide();
        if !segments.has_ballast && !segments.making {
            segments.make(Work::Ballast {
                bytes: limits.ballast_bytes,
            });
        }
        segments
    }

    /// Finds room for a frame, going to the next segment if it must. False: there is none yet.
    pub(super) fn make_room(&mut self, bytes: u64, sequence: u64) -> bool {
        if self.current.at + bytes <= self.current.place.bytes {
            return true;
        }
        let Next::Named(place) = self.next else {
            return false;
        };
        assert!(bytes <= place.bytes);
        let full = core::mem::replace(
            &mut self.current,
            Used {
                place,
                at: 0,
                first_sequence: sequence,
                highest: Index(0),
            },
        );
        self.full.push_back(full);
        self.next = Next::None;
        self.provide();
        true
    }

    /// The part of a superblock that this room knows.
    pub(super) fn describe(&self, block: &mut Superblock) {
        let start = self.full.front().unwrap_or(&self.current);
        block.start = start.place;
        block.start_sequence = start.first_sequence;
        block.next = match self.next {
            Next::None => Place::default(),
            Next::Chosen(place) | Next::Named(place) => place,
        };
    }

    /// Both superblocks say `block` now.
    pub(super) fn on_described(&mut self, block: &Superblock) {
        if self.next == Next::Chosen(block.next) {
            self.next = Next::Named(block.next);
        }
        let (gone, staying) = self
            .leaving
            .drain(..)
            .partition(|place| place.generation < block.start.generation);
        self.leaving = staying;
        let gone: Vec<Place> = gone;
        self.ready
            .extend(gone.iter().map(|place| (place.slot, place.bytes)));
        self.provide();
        self.trim();
    }

    /// Where a log that does not continue this one begins, and the work that makes its segment. Its generation tells it from
    /// any that this log has named.
    pub(super) fn fresh_start(&mut self) -> (Place, Work) {
        let (slot, bytes) = (self.slot_next, self.limits.smallest());
        self.slot_next += 1;
        let generation = self.current.place.generation + 2;
        let fill = Work::Fill {
            slot,
            bytes,
            salt: self.salt,
            chunk: self.limits.fill_bytes,
            spend_ballast: false,
        };
        let place = Place {
            slot,
            bytes,
            generation,
        };
        (place, fill)
    }

    /// The checkpoint has everything up to `upto`: full segments without anything above may go. True if one does.
    pub(super) fn release(&mut self, upto: Index) -> bool {
        let before = self.leaving.len();
        while let Some(used) = self.full.pop_front_if(|used| used.highest <= upto) {
            self.leaving.push(used.place);
        }
        self.leaving.len() > before
    }

    /// Bytes of log that a restart would read.
    pub(super) fn live_bytes(&self) -> u64 {
        self.full.iter().map(|used| used.at).sum::<u64>() + self.current.at
    }

    /// Whether the superblocks must name another next segment.
    pub(super) fn wants_naming(&self) -> bool {
        matches!(self.next, Next::Chosen(_))
    }

    pub(super) fn space(&self) -> Space {
        let ahead = match self.next {
            Next::None => 0,
            Next::Chosen(place) | Next::Named(place) => place.bytes,
        };
        let ready = self.ready.iter().map(|ready| ready.1).sum::<u64>();
        match self.cause {
            None => Space::Enough,
            Some(cause) => Space::Low {
                left: self.current.place.bytes - self.current.at + ahead + ready,
                cause,
            },
        }
    }

    pub(super) fn take_jobs(&mut self) -> Vec<Job> {
        core::mem::take(&mut self.jobs)
    }

    pub(super) fn remove(&mut self, file: File) {
        self.jobs.push(Job::new(Work::Remove { file }));
    }

    /// Tries again what lack of space prevented.
    pub(super) fn retry(&mut self) {
        if self.cause.is_none() || self.making {
            return;
        }
        if self.next == Next::None && self.ready.is_empty() {
            self.fill(self.limits.smallest(), false);
        } else if !self.has_ballast {
            self.make(Work::Ballast {
                bytes: self.limits.ballast_bytes,
            });
        } else {
            self.cause = None;
        }
    }

    pub(super) fn on_job_done(&mut self, done: JobDone) {
        match (done.work, done.result) {
            // A file that stays behind costs space only; the next start removes it.
            (Work::Remove { .. }, _) => return,
            (
                Work::Fill {
                    slot,
                    bytes,
                    spend_ballast,
                    ..
                },
                Ok(()),
            ) => {
                self.has_ballast &= !spend_ballast;
                self.largest = self.largest.max(bytes);
                self.ready.push((slot, bytes));
                self.making = false;
            }
            (
                Work::Fill {
                    bytes,
                    spend_ballast,
                    ..
                },
                Err(error),
            ) => {
                self.has_ballast &= !spend_ballast;
                self.cause = Some(error);
                self.making = false;
                if bytes > self.limits.smallest() {
                    self.fill(self.limits.smallest(), false);
                } else if self.has_ballast {
                    self.fill(self.limits.smallest(), true);
                }
            }
            (Work::Ballast { .. }, result) => {
                self.making = false;
                self.has_ballast = result.is_ok();
                self.cause = result.err();
            }
        }
        if !self.making {
            self.provide();
        }
    }

    /// Sees to it that there is a next segment: a ready one, else one to be made. Without space only `retry` makes one.
    fn provide(&mut self) {
        let largest = self
            .ready
            .iter()
            .enumerate()
            .max_by_key(|(_, ready)| ready.1)
            .map(|(at, _)| at);
        match (self.next, largest) {
            (Next::None, Some(at)) => {
                let (slot, bytes) = self.ready.swap_remove(at);
                let generation = self.current.place.generation + 1;
                self.next = Next::Chosen(Place {
                    slot,
                    bytes,
                    generation,
                });
            }
            (Next::None, None) if !self.making && self.cause.is_none() => {
                let smallest = self.limits.smallest();
                self.fill(
                    (2 * self.largest).clamp(smallest, self.limits.segment_bytes_max.max(smallest)),
                    false,
                );
            }
            _ => {}
        }
    }

    /// Gives back the smallest of the ready ones if there are too many.
    fn trim(&mut self) {
        while self.ready.len() > limits::WAL_SPARE_SEGMENTS_MAX {
            let smallest = self
                .ready
                .iter()
                .enumerate()
                .min_by_key(|(_, ready)| ready.1)
                .map(|(at, _)| at);
            let (slot, _) = self.ready.swap_remove(smallest.expect("more than none"));
            self.remove(File::Wal(slot));
        }
    }

    fn fill(&mut self, bytes: u64, spend_ballast: bool) {
        let slot = self.slot_next;
        self.slot_next += 1;
        let (salt, chunk) = (self.salt, self.limits.fill_bytes);
        self.make(Work::Fill {
            slot,
            bytes,
            salt,
            chunk,
            spend_ballast,
        });
    }

    fn make(&mut self, work: Work) {
        assert!(!self.making);
        self.making = true;
        self.jobs.push(Job::new(work));
    }
}
