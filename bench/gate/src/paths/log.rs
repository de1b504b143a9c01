//! A log on a disk that is infinitely fast.

use std::collections::BTreeMap;
use std::time::Duration;

use basalt_engine::disk::{
    Disk, DiskAnswer, DiskDone, DiskError, DiskErrorKind, DiskOp, File, Name,
};
use basalt_engine::types::{ClusterId, HardState, Index, MemberId, Run, RunKind, Term};
use basalt_engine::wal::{Identity, RecoverConfig, Wal, WalLimits, create, recover};

use crate::cpu_time;

/// A put of an 8-byte key and a 256-byte value with its header.
pub const ENTRY_BYTES: usize = 300;

/// Files in memory, as far as making and opening a log needs them.
#[derive(Default)]
struct Memory {
    files: BTreeMap<File, Vec<u8>>,
}

impl Disk for Memory {
    fn perform(&mut self, op: DiskOp) -> Result<DiskAnswer, DiskError> {
        let site = op.site();
        let refuse = |kind| DiskError {
            site,
            kind,
            errno: None,
        };
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
                if self.files.insert(file, vec![0; bytes as usize]).is_some() {
                    return Err(refuse(DiskErrorKind::Exists));
                }
            }
            DiskOp::Read {
                file,
                offset,
                mut into,
            } => {
                let bytes = self
                    .files
                    .get(&file)
                    .ok_or(refuse(DiskErrorKind::NotFound))?;
                let from = bytes.get(offset as usize..).unwrap_or_default();
                let places = into
                    .as_mut_slice()
                    .iter_mut()
                    .flat_map(|page| page.0.iter_mut());
                let read = places.zip(from).map(|(place, byte)| *place = *byte).count();
                return Ok(DiskAnswer::Read {
                    pages: into,
                    bytes: read,
                });
            }
            DiskOp::Write {
                file,
                offset,
                pages,
                ..
            } => {
                let bytes = self
                    .files
                    .get_mut(&file)
                    .ok_or(refuse(DiskErrorKind::NotFound))?;
                let end = offset as usize + pages.bytes();
                bytes.resize(bytes.len().max(end), 0);
                let pieces =
                    bytes[offset as usize..end].chunks_mut(basalt_engine::disk::PAGE_BYTES);
                pieces
                    .zip(pages.as_slice())
                    .for_each(|(piece, page)| piece.copy_from_slice(&page.0));
                return Ok(DiskAnswer::Written(pages));
            }
            DiskOp::Rename { from, to } => {
                let bytes = self
                    .files
                    .remove(&from)
                    .ok_or(refuse(DiskErrorKind::NotFound))?;
                self.files.insert(to, bytes);
            }
            DiskOp::Remove { file } => {
                self.files
                    .remove(&file)
                    .ok_or(refuse(DiskErrorKind::NotFound))?;
            }
            DiskOp::Sync { .. } | DiskOp::SyncDir => {}
        }
        Ok(DiskAnswer::Done)
    }
}

/// A log whose disk is infinitely fast.
pub struct Log {
    wal: Wal,
    disk: Memory,
    next: Index,
}

impl Log {
    /// Empty.
    ///
    /// # Panics
    /// Never: the disk does all it is told.
    #[must_use]
    pub fn new() -> Self {
        let mut disk = Memory::default();
        let identity = Identity {
            cluster: ClusterId(1),
            member: MemberId(2),
            salt: 3,
        };
        create(&mut disk, &identity, &WalLimits::default()).expect("an empty disk");
        let recovered = recover(
            &mut disk,
            &RecoverConfig::default(),
            &mut |_, _| {},
            &mut |_| {},
        )
        .expect("a new log");
        Self {
            wal: recovered.wal,
            disk,
            next: Index(1),
        }
    }

    /// Appends one run of `entries` entries and sees it durable; the CPU time of the log's own code.
    ///
    /// # Panics
    /// When `bytes` does not hold so many entries.
    pub fn group(&mut self, entries: u32, bytes: &[u8]) -> Duration {
        let hard = HardState {
            term: Term(1),
            vote: Some(MemberId(2)),
            commit: Index(self.next.0 - 1),
        };
        let run = Run {
            kind: RunKind::Normal,
            term: Term(1),
            first: self.next,
            count: entries,
            bytes,
        };
        let last = run.last();
        let began = cpu_time();
        self.wal.append(run, hard);
        let mut spent = cpu_time() - began;
        while self.wal.durable() < last {
            let began = cpu_time();
            let op = self.wal.poll_op();
            spent += cpu_time() - began;
            let Some((id, op)) = op else {
                self.work();
                continue;
            };
            // The log's pages go nowhere; superblocks are kept, as later ones build on them.
            let result = match op {
                DiskOp::Write {
                    file: File::Wal(_),
                    pages: written,
                    ..
                } => Ok(DiskAnswer::Written(written)),
                other => self.disk.perform(other),
            };
            let began = cpu_time();
            self.wal
                .on_done(DiskDone { id, result })
                .expect("the disk never fails");
            spent += cpu_time() - began;
        }
        self.next = Index(last.0 + 1);
        self.wal.release(last, &[]);
        self.work();
        spent
    }

    /// Background work, which nobody measures here.
    fn work(&mut self) {
        for job in self.wal.take_jobs() {
            let done = job.run(&mut self.disk);
            self.wal.on_job_done(done);
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

/// The bytes of a run of so many puts.
#[must_use]
pub fn entries(count: u32) -> Vec<u8> {
    let entry = [
        (ENTRY_BYTES as u32).to_le_bytes().to_vec(),
        vec![b'e'; ENTRY_BYTES],
    ]
    .concat();
    entry.repeat(count as usize)
}
