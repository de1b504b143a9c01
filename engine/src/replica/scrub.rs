//! Looks at what lies on the disk before anybody needs it: the files of the newest checkpoint are read again and again, slowly.
//!
//! Promises: what is not as it was written is told once a pass, with file and place. Never: stops a member, which serves what it
//! has; a read that needs what is damaged does.

use core::mem;

use super::{Notice, Replica, Stopping};
use crate::disk::{Disk, File};
use crate::limits::{SCRUB_INTERVAL_MS, SCRUB_PAUSE_MS, SCRUB_STEP_BYTES};
use crate::mvcc::{BadSegment, Scrub, Scrubbed};
use crate::types::{Index, Millis};
use crate::wal::{CheckpointReader, Corrupt};

/// Numbers of the scrub since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubCounts {
    /// Bytes read.
    pub bytes: u64,
    /// Times that everything was read.
    pub passes: u64,
    /// Places that were not as they were written.
    pub damages: u64,
}

/// Where a member's scrub stands.
#[derive(Debug)]
pub(super) struct Scrubbing {
    /// The pass that rests between two of its steps.
    resting: Option<Box<ScrubJob>>,
    /// One that nobody has taken yet.
    ready: Option<Box<ScrubJob>>,
    running: bool,
    /// The next step or pass begins then; never, if there is none.
    pub(super) next: Option<Millis>,
    pub(super) counts: ScrubCounts,
}

/// A part of one pass. For the background worker.
#[derive(Debug, Default)]
pub struct ScrubJob {
    /// Of the checkpoint whose files they are.
    index: Index,
    salt: u64,
    checkpoint: CheckpointPart,
    files: Scrub,
    /// What this part has shown: the file, and what is wrong with it.
    found: Vec<(File, BadSegment)>,
    bytes: u64,
    is_over: bool,
}

#[derive(Debug, Default)]
enum CheckpointPart {
    Closed,
    Open(Box<CheckpointReader>),
    #[default]
    Done,
}

impl Scrubbing {
    /// The first pass begins at `first`, if there is to be one.
    pub(super) fn new(first: Option<Millis>) -> Self {
        Self {
            resting: None,
            ready: None,
            running: false,
            next: first,
            counts: ScrubCounts::default(),
        }
    }

    pub(super) fn take_ready(&mut self) -> Option<Box<ScrubJob>> {
        self.ready.take()
    }
}

impl ScrubJob {
    fn new(index: Index, salt: u64, files: Scrub) -> Self {
        Self {
            index,
            salt,
            checkpoint: CheckpointPart::Closed,
            files,
            found: Vec::new(),
            bytes: 0,
            is_over: false,
        }
    }

    /// Reads one piece. True: it is time for a rest, or over.
    pub fn step(&mut self, disk: &mut dyn Disk) -> bool {
        match mem::replace(&mut self.checkpoint, CheckpointPart::Done) {
            CheckpointPart::Closed => match CheckpointReader::open(disk, self.index, self.salt) {
                Ok(reader) => self.checkpoint = CheckpointPart::Open(Box::new(reader)),
                Err(corrupt) => self.on_checkpoint(corrupt),
            },
            CheckpointPart::Open(mut reader) => match reader.next(disk) {
                Ok(Some(chunk)) => {
                    self.bytes += chunk.len() as u64;
                    self.checkpoint = CheckpointPart::Open(reader);
                }
                Ok(None) => {}
                Err(corrupt) => self.on_checkpoint(corrupt),
            },
            CheckpointPart::Done => match self.files.step(disk) {
                Some(Scrubbed {
                    file,
                    bytes,
                    damage,
                }) => {
                    self.bytes += bytes;
                    let found = damage.map(|bad| (File::Segment(file), bad));
                    self.found.extend(found);
                }
                None => self.is_over = true,
            },
        }
        self.is_over || self.bytes >= SCRUB_STEP_BYTES
    }

    fn on_checkpoint(&mut self, corrupt: Corrupt) {
        let file = File::Checkpoint(self.index.0);
        let bad = match corrupt {
            Corrupt::Disk(error) => BadSegment::Disk(error),
            Corrupt::Rotten { offset, .. } => BadSegment::Rotten {
                file,
                offset,
                what: "the checkpoint",
            },
            _ => BadSegment::Rotten {
                file,
                offset: 0,
                what: "the checkpoint",
            },
        };
        self.found.push((file, bad));
    }
}

impl Replica {
    /// Begins or goes on with a scrub when it is time. When that will be.
    pub(super) fn scrub(&mut self, now: Millis) -> Option<Millis> {
        if self.scrub.running || self.stopping != Stopping::No {
            return None;
        }
        let next = self.scrub.next?;
        if now < next {
            return Some(next);
        }
        let index = self.checkpoint.last;
        let job = match self.scrub.resting.take() {
            Some(job) => job,
            None if index > Index(0) => {
                let salt = self.checkpoint.salt;
                let files = self.machine.store().scrub(salt);
                Box::new(ScrubJob::new(index, salt, files))
            }
            // All that there is is the log, which a start reads.
            None => {
                let next = now.plus(Millis(SCRUB_INTERVAL_MS));
                self.scrub.next = Some(next);
                return Some(next);
            }
        };
        self.scrub.ready = Some(job);
        self.scrub.running = true;
        None
    }

    /// A part of a pass is done.
    pub(super) fn on_scrub(&mut self, mut job: Box<ScrubJob>, now: Millis) {
        self.scrub.running = false;
        self.scrub.counts.bytes += mem::take(&mut job.bytes);
        for (file, damage) in job.found.drain(..) {
            // A newer checkpoint may have taken its place meanwhile.
            let matters = match file {
                File::Checkpoint(index) => index == self.checkpoint.last.0,
                File::Segment(number) => self.machine.store().uses_file(number),
                _ => true,
            };
            if matters {
                self.scrub.counts.damages += 1;
                self.notice(Notice::Damaged(damage));
            }
        }
        let pause = match job.is_over {
            true => SCRUB_INTERVAL_MS,
            false => SCRUB_PAUSE_MS,
        };
        self.scrub.next = Some(now.plus(Millis(pause)));
        match job.is_over {
            true => self.scrub.counts.passes += 1,
            false => self.scrub.resting = Some(job),
        }
    }
}
