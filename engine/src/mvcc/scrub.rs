use std::collections::VecDeque;
use std::sync::Arc;

use super::page::IndexFile;
use super::revlog::BadSegment;
use super::revlog::file::SegmentFile;
use super::store::Store;
use crate::disk::{Disk, PAGE_BYTES};

/// Reads the files of one checkpoint again, a small piece at a time, and tells what is not as it was written.
#[derive(Default)]
pub struct Scrub {
    /// The newest revision that a page can know.
    revision: i64,
    salt: u64,
    /// Not looked at to their end yet.
    files: VecDeque<ScrubFile>,
    /// In the first of them: frames or pages that are done. `None`: not even its table.
    done: Option<usize>,
}

enum ScrubFile {
    Segment(Arc<SegmentFile>),
    Index(Arc<IndexFile>),
}

/// What one piece showed.
#[derive(Clone, Copy, Debug)]
pub struct Scrubbed {
    /// The number of the file.
    pub file: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is damaged. The rest of that file is left out.
    pub damage: Option<BadSegment>,
}

impl Store {
    /// A look at all files of the newest checkpoint. `salt` is the directory's.
    #[must_use]
    pub fn scrub(&self, salt: u64) -> Scrub {
        let segments = self.log.directory().files().map(ScrubFile::Segment);
        let index = self.pages.files().cloned();
        Scrub {
            revision: self.marks.revision,
            salt,
            files: segments.chain(index.map(ScrubFile::Index)).collect(),
            done: None,
        }
    }

    /// Whether a file of the revision log or of the index is in use: what is wrong with it matters.
    #[must_use]
    pub fn uses_file(&self, number: u64) -> bool {
        let mut segments = self.log.directory().files();
        segments.any(|file| file.number == number)
            || self.pages.files().any(|file| file.number == number)
    }
}

impl ScrubFile {
    fn number(&self) -> u64 {
        match self {
            Self::Segment(file) => file.number,
            Self::Index(file) => file.number,
        }
    }
}

impl Scrub {
    /// Reads the next table, frame or stretch of pages; `None` at the end.
    pub fn step(&mut self, disk: &mut dyn Disk) -> Option<Scrubbed> {
        let file = self.files.front()?;
        let (salt, revision) = (self.salt, self.revision);
        let number = file.number();
        let read = match (file, self.done) {
            (ScrubFile::Segment(file), None) => {
                SegmentFile::open(disk, salt, &file.named()).map(|_| (0, 0))
            }
            (ScrubFile::Segment(file), Some(done)) => match u32::try_from(done) {
                Ok(frame) if done < file.frames.len() => file.read(disk, frame).map(|_| {
                    (
                        done + 1,
                        u64::from(file.part(frame).pages) * PAGE_BYTES as u64,
                    )
                }),
                _ => {
                    self.next_file();
                    return self.step(disk);
                }
            },
            (ScrubFile::Index(file), None) => {
                IndexFile::open(disk, salt, &file.named()).map(|_| (0, 0))
            }
            (ScrubFile::Index(file), Some(done)) => match file.check_from(disk, done, revision) {
                Ok(Some(checked)) => Ok(checked),
                Ok(None) => {
                    self.next_file();
                    return self.step(disk);
                }
                Err(bad) => Err(bad),
            },
        };
        let scrubbed = |bytes, damage| Scrubbed {
            file: number,
            bytes,
            damage,
        };
        Some(match read {
            Ok((done, bytes)) => {
                self.done = Some(done);
                scrubbed(bytes, None)
            }
            Err(bad) => {
                self.next_file();
                scrubbed(0, Some(bad))
            }
        })
    }

    fn next_file(&mut self) {
        self.files.pop_front();
        self.done = None;
    }
}

impl std::fmt::Debug for Scrub {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Scrub({} files left)", self.files.len())
    }
}
