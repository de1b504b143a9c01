use std::sync::Arc;

use super::aside::Aside;
use super::digest::Digests;
use super::hold::{Hold, HoldRefused};
use super::page::{BadIndex, IndexCursor, IndexWritten};
use super::revlog::directory::{Body, Directory, Place};
use super::revlog::file::{FileRef, SegmentFile};
use super::revlog::frame::WORD_MAX;
use super::revlog::packed::WordSet;
use super::revlog::record::{long, word};
use super::revlog::{BadSegment, SegmentId};
use super::store::{Marks, Reader, Store};
use super::view::Record;
use crate::disk::{Disk, DiskError};

/// Writes the segments that have no file yet, then the content of a checkpoint: the marks, which
/// file holds which segment, and what names the pages of the index, of which it writes those that are
/// new, all as of the revision that was newest when it began. No later compaction drops anything until
/// it is dropped, and none takes a key out of the index.
pub struct CheckpointCursor {
    reader: Reader,
    /// As it was then; the segments below `made` are sealed.
    directory: Arc<Directory>,
    made: u32,
    _hold: Hold,
    marks: Marks,
    /// The number of the next file.
    file_next: u64,
    /// The number of the file that is being written.
    making: Option<u64>,
    /// The number of the file of the index's pages.
    index_number: u64,
    /// By ascending segment.
    written: Vec<Written>,
    /// The next segment, first of the walk that writes files, then of the one that names them.
    at: u32,
    /// Files that the content names.
    named: Vec<u64>,
    index: IndexCursor,
    aside: Aside,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Files,
    Head,
    Names,
    Index,
    End,
}

/// A body that got its file.
struct Written {
    body: Body,
    file: Arc<SegmentFile>,
}

/// What a durable checkpoint names and what was written for it, for [`Store::on_checkpoint`].
pub struct CheckpointFiles {
    written: Vec<Written>,
    index: IndexWritten,
    named: Vec<u64>,
}

/// Writes the same content from records that come from elsewhere.
pub struct ContentWriter {
    records: u64,
}

/// The content is not a checkpoint's. The file's checksums held, so it was written wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCheckpoint {
    /// It does not begin as a checkpoint does.
    Magic,
    /// Written in a format this release does not know.
    Format {
        /// The number found.
        found: u32,
    },
    /// A part of an unknown kind.
    Kind {
        /// The byte found.
        found: u8,
    },
    /// Records are out of order, or beyond the revision in the head.
    Order {
        /// Main revision of the record.
        main: i64,
    },
    /// The marks or a record's numbers contradict each other.
    Numbers,
    /// More or fewer records than the end says.
    Count {
        /// What the end says.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// Bytes behind the end.
    Trailing,
    /// The end is missing.
    Short,
    /// A file of the revision log that it names.
    Segment(BadSegment),
    /// What names the pages of the index.
    Index(BadIndex),
}

impl Store {
    /// Begins a checkpoint of the newest state, which it publishes; seals the open segment. The tree must have heard of all
    /// of the one before (`settle`): what is left of that is done at once.
    ///
    /// # Errors
    /// `Full` if too many jobs are in flight.
    pub fn checkpoint(&mut self) -> Result<CheckpointCursor, HoldRefused> {
        while self.settle() {}
        self.publish();
        let marks = self.marks;
        let reader = self.reader();
        // The chains must lead to what was newest then; what compaction has dropped before is in none.
        let hold = reader.hold(marks.revision)?;
        self.log.seal_open(marks.revision + 1);
        self.is_dirty = true;
        self.publish();
        let directory = Arc::clone(self.log.directory());
        let made = self.log.sealed();
        // More than enough: each segment gets at most one, and the index.
        let number = self.log.draw_files(1 + u64::from(made));
        let memory = self.tree.memory();
        let dirty = memory.leaves - memory.clean;
        let file = self.pages.draw();
        let index = IndexCursor::new(&self.view(), &self.walks, &self.pages, dirty, file, number);
        Ok(CheckpointCursor {
            reader,
            directory,
            made,
            _hold: hold,
            marks,
            file_next: number + 1,
            making: None,
            index_number: number,
            written: Vec::new(),
            at: 0,
            named: Vec::new(),
            index,
            aside: Aside::default(),
            phase: Phase::Files,
        })
    }

    /// Hears that a checkpoint is durable: its files hold what they were made from.
    pub fn on_checkpoint(&mut self, files: CheckpointFiles) {
        for Written { body, file } in &files.written {
            self.log.on_filed(body, file);
        }
        self.on_index_written(files.index);
        self.is_dirty = true;
    }
}

impl std::fmt::Debug for CheckpointFiles {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (written, named) = (self.written.len(), self.named.len());
        write!(out, "CheckpointFiles({written} new of {named})")
    }
}

impl CheckpointFiles {
    /// The numbers of all files that the checkpoint names, ascending.
    #[must_use]
    pub fn named(&self) -> &[u64] {
        &self.named
    }
}

impl CheckpointCursor {
    /// The revision of the content.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.marks.revision
    }

    /// Writes the next segment that has no file; its name is durable after the next `SyncDir`. False
    /// if there is none left: then the content follows.
    ///
    /// # Errors
    /// The disk's: the checkpoint is given up, see `abandon`.
    pub fn write_segment(&mut self, disk: &mut dyn Disk, salt: u64) -> Result<bool, DiskError> {
        while self.phase == Phase::Files {
            let Some((id, place)) = self.next_place() else {
                self.phase = Phase::Head;
                self.at = 0;
                break;
            };
            if place.file.is_some() {
                continue;
            }
            let body = place.body.clone();
            let number = self.file_next;
            self.file_next += 1;
            self.making = Some(number);
            let file = SegmentFile::write(disk, salt, id.0, number, &body)?;
            let file = Arc::new(file);
            self.making = None;
            self.written.push(Written { body, file });
            return Ok(true);
        }
        Ok(false)
    }

    /// Appends about `bytes` more of the content to `out`, the index in slices under a pin of their
    /// own; writes new pages of it to `disk`, and reads records from there that are not in memory. False
    /// at the end.
    ///
    /// # Errors
    /// The disk's, or something that is read is damaged: the checkpoint is given up, see `abandon`.
    pub fn next_chunk(
        &mut self,
        out: &mut Vec<u8>,
        bytes: usize,
        disk: &mut dyn Disk,
        salt: u64,
    ) -> Result<bool, BadSegment> {
        assert!(self.phase != Phase::Files);
        let end = out.len().saturating_add(bytes);
        if self.phase == Phase::Head {
            self.phase = Phase::Names;
            write_head(out, FORMAT_SEGMENTS, self.marks);
            out.extend_from_slice(&self.made.to_le_bytes());
            out.extend_from_slice(&self.file_next.to_le_bytes());
            let Digests { history, kept } = self.marks.digests;
            out.extend_from_slice(&history.to_le_bytes());
            out.extend_from_slice(&kept.to_le_bytes());
        }
        while self.phase == Phase::Names {
            let Some((id, place)) = self.next_place() else {
                out.push(KIND_INDEX);
                self.phase = Phase::Index;
                break;
            };
            let file = match &place.file {
                Some(file) => file.named(),
                None => {
                    let found = self
                        .written
                        .binary_search_by_key(&id.0, |it| it.file.segment);
                    self.written[found.expect("what had no file was written")]
                        .file
                        .named()
                }
            };
            let entry = SegmentEntry {
                file,
                first_main: place.first_main,
                gone_bytes: place.gone_bytes,
                gone: place.gone.clone(),
            };
            entry.write(out);
            self.named.push(file.number);
            if out.len() >= end {
                return Ok(true);
            }
        }
        while self.phase == Phase::Index {
            if out.len() >= end {
                return Ok(true);
            }
            // No pin while the disk is written to.
            let index = &mut self.index;
            self.aside
                .run(&self.reader, disk, |view| index.look(&view))?;
            if !self.index.write(disk, salt, out)? {
                write_end(out, self.named.len() as u64);
                self.named.extend(self.index.named());
                self.named.sort_unstable();
                self.phase = Phase::End;
            }
        }
        Ok(false)
    }

    /// What `Store::on_checkpoint` wants to hear once the checkpoint is durable.
    #[must_use]
    pub fn take_files(&mut self) -> CheckpointFiles {
        assert!(self.phase == Phase::End);
        CheckpointFiles {
            written: std::mem::take(&mut self.written),
            index: self.index.take_written(),
            named: std::mem::take(&mut self.named),
        }
    }

    /// Takes away the files that were written for it, as no checkpoint will name them.
    ///
    /// # Errors
    /// The disk's first; the next start removes what is left then.
    pub fn abandon(&self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        let written = self.written.iter().map(|it| it.file.number);
        let index = self.index.is_making().then_some(self.index_number);
        let mut result = Ok(());
        for number in written.chain(self.making).chain(index) {
            result = result.and(SegmentFile::abandon(disk, number));
        }
        result
    }

    /// The next segment in which something is left.
    fn next_place(&mut self) -> Option<(SegmentId, Place)> {
        while self.at < self.made {
            let id = SegmentId(self.at);
            self.at += 1;
            if let Some(place) = self.directory.place(id)
                && !matches!(place.body, Body::Empty)
            {
                return Some((id, place.clone()));
            }
        }
        None
    }
}

impl ContentWriter {
    /// Begins with the revision, the compacted one and the finished compaction, -1 for never:
    /// finished <= compacted <= revision.
    #[must_use]
    pub fn begin(out: &mut Vec<u8>, revision: i64, compacted: i64, finished: i64) -> Self {
        let marks = Marks {
            revision,
            compacted,
            finished,
            digests: Digests::default(),
        };
        write_head(out, FORMAT_RECORDS, marks);
        Self { records: 0 }
    }

    /// Appends the next record, in revision order.
    pub fn record(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        write_record(out, record);
        self.records += 1;
    }

    /// Appends the end.
    pub fn end(self, out: &mut Vec<u8>) {
        write_end(out, self.records);
    }
}

/// One segment in the content.
pub(super) struct SegmentEntry {
    pub(super) file: FileRef,
    pub(super) first_main: i64,
    /// Bytes of the records in `gone`; at most the file's record bytes.
    pub(super) gone_bytes: u64,
    /// Records of the file that compaction has dropped.
    pub(super) gone: Option<Arc<WordSet>>,
}

impl SegmentEntry {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(KIND_SEGMENT);
        for word in [self.file.segment, self.file.digest] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for long in [
            self.first_main.cast_unsigned(),
            self.file.number,
            self.file.bytes,
            self.file.record_bytes,
            self.gone_bytes,
        ] {
            out.extend_from_slice(&long.to_le_bytes());
        }
        let length_at = out.len();
        out.extend_from_slice(&[0; 4]);
        let mut next = 0;
        while let Some(word) = self.gone.as_ref().and_then(|gone| gone.next(next)) {
            write_varint(out, word - next);
            next = word + 1;
        }
        let length = u32::try_from(out.len() - length_at - 4).expect("less than its segment");
        out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// The entry, its kind included, and its length; `None` if it has not come whole.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, BadCheckpoint> {
        let Some(head) = bytes.first_chunk::<SEGMENT_HEAD_BYTES>() else {
            return Ok(None);
        };
        let whole = SEGMENT_HEAD_BYTES + word(head, 49) as usize;
        let Some(mut list) = bytes.get(SEGMENT_HEAD_BYTES..whole) else {
            return Ok(None);
        };
        let file = FileRef {
            segment: word(head, 1),
            digest: word(head, 5),
            number: long(head, 17).cast_unsigned(),
            bytes: long(head, 25).cast_unsigned(),
            record_bytes: long(head, 33).cast_unsigned(),
        };
        let gone_bytes = long(head, 41).cast_unsigned();
        if gone_bytes > file.record_bytes {
            return Err(BadCheckpoint::Numbers);
        }
        let mut gone = WordSet::default();
        let mut next = 0u32;
        let is_any = !list.is_empty();
        while !list.is_empty() {
            let gap = read_varint(&mut list).ok_or(BadCheckpoint::Numbers)?;
            let word = next.checked_add(gap).filter(|word| *word <= WORD_MAX);
            let word = word.ok_or(BadCheckpoint::Numbers)?;
            gone.insert(word);
            next = word + 1;
        }
        let entry = Self {
            file,
            first_main: long(head, 9),
            gone_bytes,
            gone: is_any.then(|| Arc::new(gone)),
        };
        Ok(Some((entry, whole)))
    }
}

/// Seven bits a byte, the lowest first.
fn write_varint(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn read_varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut number = 0u64;
    for shift in (0..35).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return u32::try_from(number).ok();
        }
    }
    None
}

pub(super) fn write_head(out: &mut Vec<u8>, format: u32, marks: Marks) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&format.to_le_bytes());
    for mark in [marks.revision, marks.compacted, marks.finished] {
        out.extend_from_slice(&mark.to_le_bytes());
    }
}

pub(super) fn write_end(out: &mut Vec<u8>, records: u64) {
    out.push(KIND_END);
    out.extend_from_slice(&records.to_le_bytes());
}

fn write_record(out: &mut Vec<u8>, record: &Record<'_>) {
    out.push(KIND_RECORD);
    for number in [
        record.mod_revision.main,
        record.create_revision,
        record.version,
        record.lease.0,
    ] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let key_len = u32::try_from(record.key.len()).expect("as it is in the log");
    let value_len = u32::try_from(record.value.len()).expect("as it is in the log");
    let sub = u32::try_from(record.mod_revision.sub).expect("as it is in the log");
    for number in [sub, key_len, value_len] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(record.key);
    out.extend_from_slice(record.value);
}

pub(super) const MAGIC: &[u8; 8] = b"basaltkv";

/// The records themselves follow: how a restored snapshot begins.
pub(super) const FORMAT_RECORDS: u32 = 1;

/// The digests and the files of the segments follow, and what names the pages of the index. (2 and 3 held the pages
/// themselves.)
pub(super) const FORMAT_SEGMENTS: u32 = 4;

/// Magic, format, three marks.
pub(super) const HEAD_BYTES: usize = 8 + 4 + 3 * 8;

/// Segments ever made, next file, two digests; only where segments follow.
pub(super) const SEGMENTS_HEAD_BYTES: usize = 4 + 8 + 2 * 8;

/// Kind, four `i64`, three `u32`.
pub(super) const RECORD_HEAD_BYTES: usize = 1 + 4 * 8 + 3 * 4;

/// Kind, two `u32`, five `u64`, the length of what follows (`u32`).
const SEGMENT_HEAD_BYTES: usize = 1 + 2 * 4 + 5 * 8 + 4;

pub(super) const KIND_RECORD: u8 = 1;
pub(super) const KIND_END: u8 = 2;
pub(super) const KIND_SEGMENT: u8 = 3;

/// What names the pages of the index follows, then the end.
pub(super) const KIND_INDEX: u8 = 4;
