//! Work on files that no acknowledgement waits for: a background worker performs it through the same `DiskOp` data.

use super::record::Stamps;
use crate::disk::{Disk, DiskAnswer, DiskError, DiskOp, File, PAGE_BYTES, Pages, remove_if_there};

/// One piece of background work. `step` does one operation, `run` all of them.
#[derive(Debug)]
pub struct Job {
    work: Work,
    step: Step,
    pages: Pages,
}

/// A finished job, to be handed to [`super::Wal::on_job_done`].
#[derive(Debug)]
pub struct JobDone {
    pub(super) work: Work,
    pub(super) result: Result<(), DiskError>,
}

impl JobDone {
    /// The error the job ended with. The log deals with it; this is for the operator's eyes.
    #[must_use]
    pub fn error(&self) -> Option<&DiskError> {
        self.result.as_ref().err()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Makes segment `slot` of `bytes`, every sector stamped as filling, `chunk` bytes a write.
    Fill {
        slot: u64,
        bytes: u64,
        salt: u64,
        chunk: usize,
        spend_ballast: bool,
    },
    /// Makes the ballast file.
    Ballast { bytes: u64 },
    /// Removes a file that is not needed any more.
    Remove { file: File },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Takes away what an earlier try or life left.
    Clear,
    Spend,
    SpendSync,
    Create,
    Write(u64),
    Sync,
    Rename,
    SyncDir,
}

impl Job {
    pub(super) fn new(work: Work) -> Self {
        Self {
            work,
            step: Step::Clear,
            pages: Pages::default(),
        }
    }

    /// Does all of it. An error leaves nothing behind but, at worst, a temporary file.
    pub fn run(mut self, disk: &mut dyn Disk) -> JobDone {
        loop {
            if let Some(done) = self.step(disk) {
                return done;
            }
        }
    }

    /// Does one operation, of at most [`crate::limits::WAL_FILL_BYTES`].
    pub fn step(&mut self, disk: &mut dyn Disk) -> Option<JobDone> {
        let result = match self.advance(disk) {
            Ok(false) => return None,
            Ok(true) => Ok(()),
            Err(error) => {
                if let Some(temp) = self.temp() {
                    // The space matters more than the answer: this is the way out of a full disk.
                    let _ = disk.perform(DiskOp::Remove { file: temp });
                }
                Err(error)
            }
        };
        Some(JobDone {
            work: self.work,
            result,
        })
    }

    /// The file in the making.
    fn temp(&self) -> Option<File> {
        match self.work {
            Work::Fill { slot, .. } => Some(File::Temp(slot)),
            Work::Ballast { .. } => Some(File::Temp(BALLAST_TEMP)),
            Work::Remove { .. } => None,
        }
    }

    /// One operation; true once the last one is done.
    fn advance(&mut self, disk: &mut dyn Disk) -> Result<bool, DiskError> {
        let (temp, target, bytes) = match self.work {
            Work::Fill { slot, bytes, .. } => (File::Temp(slot), File::Wal(slot), bytes),
            Work::Ballast { bytes } => (File::Temp(BALLAST_TEMP), File::Ballast, bytes),
            Work::Remove { file } => return self.remove(disk, file),
        };
        let then = match self.step {
            Step::Clear => {
                remove_if_there(disk, temp)?;
                let spend = matches!(
                    self.work,
                    Work::Fill {
                        spend_ballast: true,
                        ..
                    }
                );
                if spend { Step::Spend } else { Step::Create }
            }
            Step::Spend => {
                remove_if_there(disk, File::Ballast)?;
                Step::SpendSync
            }
            Step::SpendSync => {
                disk.perform(DiskOp::SyncDir)?;
                Step::Create
            }
            Step::Create => {
                disk.perform(DiskOp::Create { file: temp, bytes })?;
                if matches!(self.work, Work::Fill { .. }) {
                    Step::Write(0)
                } else {
                    Step::Sync
                }
            }
            Step::Write(offset) => {
                let after = self.fill(disk, temp, offset)?;
                if after < bytes {
                    Step::Write(after)
                } else {
                    Step::Sync
                }
            }
            Step::Sync => {
                disk.perform(DiskOp::Sync { file: temp })?;
                Step::Rename
            }
            Step::Rename => {
                disk.perform(DiskOp::Rename {
                    from: temp,
                    to: target,
                })?;
                Step::SyncDir
            }
            Step::SyncDir => {
                disk.perform(DiskOp::SyncDir)?;
                return Ok(true);
            }
        };
        self.step = then;
        Ok(false)
    }

    fn remove(&mut self, disk: &mut dyn Disk, file: File) -> Result<bool, DiskError> {
        if self.step == Step::SyncDir {
            disk.perform(DiskOp::SyncDir)?;
            return Ok(true);
        }
        remove_if_there(disk, file)?;
        self.step = Step::SyncDir;
        // These go by the hundred. A name that comes back after a crash is removed by the start.
        Ok(matches!(file, File::Segment(_)))
    }

    /// Writes the filling at `offset` and returns where it ends.
    fn fill(&mut self, disk: &mut dyn Disk, temp: File, offset: u64) -> Result<u64, DiskError> {
        let Work::Fill {
            slot,
            bytes,
            salt,
            chunk,
            ..
        } = self.work
        else {
            unreachable!("only a segment is filled");
        };
        let take = (bytes - offset).min(chunk as u64);
        let mut pages = core::mem::take(&mut self.pages);
        pages.resize(usize::try_from(take).expect("a chunk") / PAGE_BYTES);
        Stamps::new(salt, slot).stamp(pages.as_mut_slice(), offset, 0);
        let write = DiskOp::Write {
            file: temp,
            offset,
            pages,
            durable: false,
        };
        if let DiskAnswer::Written(pages) = disk.perform(write)? {
            self.pages = pages;
        }
        Ok(offset + take)
    }
}

/// Slots are counted from 1 and superblocks are made under small numbers at the top: these never meet.
const BALLAST_TEMP: u64 = u64::MAX;
