//! Lets a log run on a disk in memory.

use super::{Job, Wal};
pub(crate) use crate::disk::mem::MemDisk;
use crate::disk::{Disk, DiskDone};

impl MemDisk {
    /// Lets the log and its background work run until nothing is left to do.
    pub(super) fn drive(&mut self, wal: &mut Wal) {
        loop {
            let mut idle = true;
            while let Some((id, op)) = wal.poll_op() {
                let result = self.perform(op);
                wal.on_done(DiskDone { id, result })
                    .expect("this disk does not fail");
                idle = false;
            }
            for job in wal.take_jobs() {
                let done = Job::run(job, self);
                wal.on_job_done(done);
                idle = false;
            }
            if idle {
                return;
            }
        }
    }
}

/// A log that is small enough for a test to fill.
#[cfg(test)]
pub(super) mod small {
    use crate::types::{ClusterId, HardState, MemberId, Run, RunKind, Term};
    use crate::wal::{Identity, Wal, WalLimits};

    pub(crate) const LIMITS: WalLimits = WalLimits {
        group_bytes: 16 << 10,
        run_bytes_max: 24 << 10,
        segment_bytes_min: 64 << 10,
        segment_bytes_max: 128 << 10,
        ballast_bytes: 4 << 10,
        fill_bytes: 64 << 10,
    };

    pub(crate) const IDENTITY: Identity = Identity {
        cluster: ClusterId(1),
        member: MemberId(2),
        salt: 3,
    };

    /// One entry of so many bytes, not driven to the disk yet.
    pub(crate) fn append_entry(wal: &mut Wal, payload: usize, hard: HardState) {
        let mut bytes = u32::try_from(payload).unwrap().to_le_bytes().to_vec();
        bytes.resize(4 + payload, 1);
        let first = wal.last().next();
        let run = Run {
            kind: RunKind::Normal,
            term: Term(1),
            first,
            count: 1,
            bytes: &bytes,
        };
        wal.append(run, hard);
    }
}
