//! A disk of byte vectors without faults, for unit tests and fuzzing. Crashes and errors are the simulated disk's, in `tests/`.

use std::collections::BTreeMap;

use super::{Disk, DiskAnswer, DiskError, DiskErrorKind, DiskOp, File, Name, PAGE_BYTES, Pages};

/// Files by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemDisk {
    pub(crate) files: BTreeMap<File, Vec<u8>>,
}

impl MemDisk {
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
