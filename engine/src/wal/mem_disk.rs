//! A disk of byte vectors without faults, for unit tests and fuzzing. Crashes and errors are the simulated disk's, in `tests/`.

use std::collections::BTreeMap;

use super::{Job, Wal};
use crate::disk::{
    Disk, DiskAnswer, DiskDone, DiskError, DiskErrorKind, DiskOp, File, Name, PAGE_BYTES, Pages,
};

/// Files by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemDisk {
    pub(crate) files: BTreeMap<File, Vec<u8>>,
}

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

    fn file(&mut self, op: &DiskOp, file: File) -> Result<&mut Vec<u8>, DiskError> {
        let missing = DiskError {
            site: op.site(),
            kind: DiskErrorKind::NotFound,
            errno: None,
        };
        self.files.get_mut(&file).ok_or(missing)
    }
}

impl Disk for MemDisk {
    fn perform(&mut self, op: DiskOp) -> Result<DiskAnswer, DiskError> {
        match op {
            DiskOp::List => {
                let name = |(file, bytes): (&File, &Vec<u8>)| Name {
                    text: file.to_string(),
                    file: Some(*file),
                    bytes: bytes.len() as u64,
                    is_dir: false,
                };
                return Ok(DiskAnswer::Names(self.files.iter().map(name).collect()));
            }
            DiskOp::Create { file, bytes } => {
                assert!(!self.files.contains_key(&file));
                self.files
                    .insert(file, vec![0; usize::try_from(bytes).expect("small")]);
            }
            DiskOp::Read {
                file,
                offset,
                mut into,
            } => {
                let site = DiskOp::Sync { file };
                let from = self.file(&site, file)?;
                let from = from
                    .get(usize::try_from(offset).expect("small")..)
                    .unwrap_or_default();
                let take = from.len().min(into.bytes());
                copy_in(&mut into, &from[..take]);
                return Ok(DiskAnswer::Read {
                    pages: into,
                    bytes: take,
                });
            }
            DiskOp::Write {
                file,
                offset,
                pages,
                ..
            } => {
                let bytes = self.file(&DiskOp::Sync { file }, file)?;
                let from = usize::try_from(offset).expect("small");
                bytes.resize(bytes.len().max(from + pages.bytes()), 0);
                for (page, at) in pages.as_slice().iter().zip((from..).step_by(PAGE_BYTES)) {
                    bytes[at..at + PAGE_BYTES].copy_from_slice(&page.0);
                }
                return Ok(DiskAnswer::Written(pages));
            }
            DiskOp::Rename { from, to } => {
                let bytes = self.files.remove(&from).expect("renamed files exist");
                self.files.insert(to, bytes);
            }
            DiskOp::Remove { file } => {
                self.file(&DiskOp::Sync { file }, file)?;
                self.files.remove(&file);
            }
            DiskOp::Sync { .. } | DiskOp::SyncDir => {}
        }
        Ok(DiskAnswer::Done)
    }
}

fn copy_in(pages: &mut Pages, bytes: &[u8]) {
    for (page, bytes) in pages
        .as_mut_slice()
        .iter_mut()
        .zip(bytes.chunks(PAGE_BYTES))
    {
        page.0[..bytes.len()].copy_from_slice(bytes);
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
