//! Work for the background worker: on files and pinned views only, nothing waits for it but space.

use super::checkpoint::{CheckpointFailed, CheckpointJob};
use super::lease::LeasesJob;
use super::scrub::ScrubJob;
use super::snapshot_job::{SnapshotDone, SnapshotJob};
use crate::disk::Disk;
use crate::mvcc::CheckpointFiles;
use crate::types::{Index, ReplyTo};
use crate::wal;

/// One piece of background work.
#[derive(Debug)]
pub enum Job {
    /// Filling, removing or recycling files of the log.
    Wal(wal::Job),
    /// Writing a checkpoint.
    Checkpoint(Box<CheckpointJob>),
    /// The list of all leases.
    Leases(Box<LeasesJob>),
    /// A part of the scrub.
    Scrub(Box<ScrubJob>),
    /// Files of a snapshot, sent or received.
    Snapshot(SnapshotJob),
}

/// A finished job, for [`super::Replica::on_job`].
#[derive(Debug)]
pub enum JobDone {
    /// Of the log.
    Wal(wal::JobDone),
    /// The checkpoint that covers the log up to `index` is durable, or was given up.
    Checkpoint {
        /// What it covers.
        index: Index,
        /// What it names, if it is durable.
        result: Result<CheckpointFiles, CheckpointFailed>,
    },
    /// A list of all leases.
    Leases {
        /// Who asked.
        to: ReplyTo,
        /// The whole answer.
        answer: Vec<u8>,
    },
    /// A part of the scrub is done.
    Scrub(Box<ScrubJob>),
    /// Of a snapshot.
    Snapshot(SnapshotDone),
}

impl Job {
    /// Does a piece of it, at most a few megabytes of I/O; `Some` at the end. Other jobs may run
    /// between two steps.
    pub fn step(&mut self, disk: &mut dyn Disk) -> Option<JobDone> {
        match self {
            Self::Wal(job) => job.step(disk).map(JobDone::Wal),
            Self::Checkpoint(job) => {
                let result = job.step(disk);
                if matches!(result, Ok(false)) {
                    return None;
                }
                let index = job.index();
                let result = result.map(|_| job.take_files());
                Some(JobDone::Checkpoint { index, result })
            }
            Self::Scrub(job) => job.step(disk).then(|| JobDone::Scrub(core::mem::take(job))),
            Self::Leases(job) => Some(JobDone::Leases {
                to: job.to,
                answer: job.run(),
            }),
            Self::Snapshot(job) => job.step(disk).map(JobDone::Snapshot),
        }
    }

    /// Does all of it.
    pub fn run(mut self, disk: &mut dyn Disk) -> JobDone {
        loop {
            if let Some(done) = self.step(disk) {
                return done;
            }
        }
    }
}
