use std::sync::Arc;

use super::checkpoint::{
    BadCheckpoint, FORMAT_RECORDS, FORMAT_SEGMENTS, HEAD_BYTES, KIND_END, KIND_INDEX, KIND_RECORD,
    KIND_SEGMENT, MAGIC, RECORD_HEAD_BYTES, SEGMENTS_HEAD_BYTES, SegmentEntry,
};
use super::digest::Digests;
use super::page::{BadIndex, IndexLoad};
use super::revlog::directory::{Body, Filed, Place};
use super::revlog::file::SegmentFile;
use super::revlog::record::{is_numbered, long, word};
use super::revlog::{BadSegment, Kept, RevLog, SegmentId};
use super::store::{Marks, Reader, Stamp, Store, StoreConfig};
use crate::disk::Disk;
use crate::mutant::{Mutant, is_on};

/// Rebuilds a store from a checkpoint's content and the files that it names.
pub struct Restore {
    config: StoreConfig,
    /// Bytes of a part that has not come whole yet.
    carry: Vec<u8>,
    content: Content,
    /// Parts so far, the head left out.
    parts: u64,
    is_complete: bool,
}

enum Content {
    /// The head has not come.
    Awaited,
    Records {
        store: Box<Store>,
        reader: Reader,
        /// Main and sub-revision of the last record.
        last: (i64, u32),
        revision: i64,
    },
    Segments {
        marks: Marks,
        made: u32,
        file_next: u64,
        /// By ascending segment.
        entries: Vec<SegmentEntry>,
        /// Once its first page may come.
        index: Option<Box<IndexLoad>>,
    },
}

/// How far reading the segments is.
pub type OnSegments<'f> = &'f mut dyn FnMut(u64, u64);

impl Restore {
    /// Awaits the content of one checkpoint.
    #[must_use]
    pub fn new(config: StoreConfig) -> Self {
        Self {
            config,
            carry: Vec::new(),
            content: Content::Awaited,
            parts: 0,
            is_complete: false,
        }
    }

    /// Takes the next bytes, cut anywhere.
    ///
    /// # Errors
    /// They do not go on as a checkpoint does; the restore is over.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), BadCheckpoint> {
        if self.carry.is_empty() {
            let taken = self.take_parts(bytes)?;
            self.carry.extend_from_slice(&bytes[taken..]);
            return Ok(());
        }
        let mut carry = std::mem::take(&mut self.carry);
        carry.extend_from_slice(bytes);
        let taken = self.take_parts(&carry)?;
        carry.drain(..taken);
        self.carry = carry;
        Ok(())
    }

    /// What the head says, where segments follow.
    pub(super) fn marks(&self) -> Option<Marks> {
        match self.content {
            Content::Segments { marks, .. } => Some(marks),
            Content::Awaited | Content::Records { .. } => None,
        }
    }

    /// What the content says of segments and their files, by ascending segment.
    pub(super) fn entries(&self) -> &[SegmentEntry] {
        match &self.content {
            Content::Segments { entries, .. } => entries,
            Content::Awaited | Content::Records { .. } => &[],
        }
    }

    /// What it says of the index.
    pub(super) fn index(&self) -> Option<&IndexLoad> {
        match &self.content {
            Content::Segments { index, .. } => index.as_deref(),
            Content::Awaited | Content::Records { .. } => None,
        }
    }

    /// The numbers of the files that the content names, ascending.
    #[must_use]
    pub fn named(&self) -> Vec<u64> {
        let numbers = self.entries().iter().map(|entry| entry.file.number);
        let index = self.index().into_iter().flat_map(IndexLoad::named);
        let mut named: Vec<u64> = numbers.chain(index).collect();
        named.sort_unstable();
        named
    }

    /// The rebuilt store, published, after the last byte. Reads the files, `salt` being the
    /// directory's, and tells `on_segments` how many bytes of how many it has read. A compaction
    /// that was not finished goes on with `Store::poll_space`.
    ///
    /// # Errors
    /// The end of the content has not come, or a file is not what it says.
    pub fn finish(
        self,
        disk: &mut dyn Disk,
        salt: u64,
        on_segments: OnSegments<'_>,
    ) -> Result<(Store, Reader), BadCheckpoint> {
        if !self.is_complete {
            return Err(BadCheckpoint::Short);
        }
        let (mut store, reader) = match self.content {
            Content::Awaited => return Err(BadCheckpoint::Short),
            Content::Records {
                mut store,
                reader,
                revision,
                ..
            } => {
                store.marks.revision = revision;
                (*store, reader)
            }
            Content::Segments {
                marks,
                made,
                file_next,
                entries,
                index,
            } => {
                let index = index.ok_or(BadCheckpoint::Index(BadIndex::Short))?;
                let index = index.finish(disk, salt);
                let index = index.map_err(BadCheckpoint::Segment)?;
                let kept = open_segments(&entries, disk, salt, on_segments)?;
                let next_main = marks.revision + 1;
                let log = RevLog::reopen(self.config, kept, made, file_next, next_main);
                Store::with_log(self.config, marks, log, index)
            }
        };
        store.is_dirty = true;
        store.resume_compaction();
        store.publish();
        Ok((store, reader))
    }

    /// Consumes whole parts; answers how many bytes they took.
    fn take_parts(&mut self, bytes: &[u8]) -> Result<usize, BadCheckpoint> {
        let mut rest = bytes;
        while let Some(taken) = self.take_part(rest)? {
            rest = &rest[taken..];
        }
        Ok(bytes.len() - rest.len())
    }

    /// The length of the part that was taken, `None` if it has not come whole.
    fn take_part(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadCheckpoint> {
        if matches!(self.content, Content::Awaited) {
            return self.take_head(bytes);
        }
        let Some(&kind) = bytes.first() else {
            return Ok(None);
        };
        match (kind, &mut self.content) {
            _ if self.is_complete => Err(BadCheckpoint::Trailing),
            (
                _,
                Content::Segments {
                    index: Some(index), ..
                },
            ) if !index.is_complete() => {
                let taken = index.push(bytes).map_err(BadCheckpoint::Index)?;
                Ok((taken > 0).then_some(taken))
            }
            (
                KIND_INDEX,
                Content::Segments {
                    marks,
                    index: index @ None,
                    ..
                },
            ) => {
                *index = Some(Box::new(IndexLoad::new(marks.revision)));
                Ok(Some(1))
            }
            (KIND_RECORD, Content::Records { .. }) => self.take_record(bytes),
            (
                KIND_SEGMENT,
                Content::Segments {
                    made,
                    entries,
                    index: None,
                    ..
                },
            ) => {
                let Some((entry, taken)) = SegmentEntry::read(bytes)? else {
                    return Ok(None);
                };
                let segment = entry.file.segment;
                let is_next = entries.last().is_none_or(|last| {
                    last.file.segment < segment && last.first_main <= entry.first_main
                });
                if segment >= *made || !is_next {
                    return Err(BadCheckpoint::Numbers);
                }
                entries.push(entry);
                self.parts += 1;
                Ok(Some(taken))
            }
            (KIND_END, _) => {
                let Some(count) = bytes[1..].first_chunk() else {
                    return Ok(None);
                };
                let expected = u64::from_le_bytes(*count);
                if expected != self.parts {
                    return Err(BadCheckpoint::Count {
                        expected,
                        found: self.parts,
                    });
                }
                self.is_complete = true;
                Ok(Some(1 + count.len()))
            }
            (found, _) => Err(BadCheckpoint::Kind { found }),
        }
    }

    fn take_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadCheckpoint> {
        let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        if !head.starts_with(MAGIC) {
            return Err(BadCheckpoint::Magic);
        }
        let mut marks = Marks {
            revision: long(head, 12),
            compacted: long(head, 20),
            finished: long(head, 28),
            digests: Digests::default(),
        };
        if is_on(Mutant::ForgetCompaction) {
            marks.compacted = marks.finished;
        }
        let is_ordered = -1 <= marks.finished
            && marks.finished <= marks.compacted
            && marks.compacted <= marks.revision;
        if !is_ordered || !(1..i64::MAX).contains(&marks.revision) {
            return Err(BadCheckpoint::Numbers);
        }
        match word(head, 8) {
            FORMAT_RECORDS => {
                let (store, reader) = Store::with_marks(self.config, marks);
                self.content = Content::Records {
                    store: Box::new(store),
                    reader,
                    last: (0, 0),
                    revision: marks.revision,
                };
                Ok(Some(HEAD_BYTES))
            }
            FORMAT_SEGMENTS => {
                let Some(rest) = bytes[HEAD_BYTES..].first_chunk::<SEGMENTS_HEAD_BYTES>() else {
                    return Ok(None);
                };
                marks.digests = Digests {
                    history: long(rest, 12).cast_unsigned(),
                    kept: long(rest, 20).cast_unsigned(),
                };
                self.content = Content::Segments {
                    marks,
                    made: word(rest, 0),
                    file_next: long(rest, 4).cast_unsigned(),
                    entries: Vec::new(),
                    index: None,
                };
                Ok(Some(HEAD_BYTES + SEGMENTS_HEAD_BYTES))
            }
            found => Err(BadCheckpoint::Format { found }),
        }
    }

    fn take_record(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadCheckpoint> {
        let Some(head) = bytes.first_chunk::<RECORD_HEAD_BYTES>() else {
            return Ok(None);
        };
        let (main, create, version, lease) =
            (long(head, 1), long(head, 9), long(head, 17), long(head, 25));
        let (sub, key_len, value_len) = (
            word(head, 33),
            word(head, 37) as usize,
            word(head, 41) as usize,
        );
        let Content::Records {
            store,
            last,
            revision,
            ..
        } = &mut self.content
        else {
            unreachable!("only called for records");
        };
        if (main, sub) <= *last && self.parts > 0 || main < 1 || main > *revision {
            return Err(BadCheckpoint::Order { main });
        }
        let is_tombstone = version == 0;
        if !is_numbered(main, create, version) || (is_tombstone && lease != 0) {
            return Err(BadCheckpoint::Numbers);
        }
        let Some(key) = bytes[RECORD_HEAD_BYTES..].get(..key_len) else {
            return Ok(None);
        };
        let Some(value) = bytes[RECORD_HEAD_BYTES + key_len..].get(..value_len) else {
            return Ok(None);
        };
        let appended = store.append(key, value, |_| Stamp {
            main,
            sub,
            create,
            version,
            lease,
        });
        assert!(appended.is_ok(), "no leaf of it was ever given back");
        *last = (main, sub);
        self.parts += 1;
        Ok(Some(RECORD_HEAD_BYTES + key_len + value_len))
    }
}

/// Reads the tables of all segments; the records stay where they are until they are needed.
fn open_segments(
    entries: &[SegmentEntry],
    disk: &mut dyn Disk,
    salt: u64,
    on_segments: OnSegments<'_>,
) -> Result<Vec<Kept>, BadCheckpoint> {
    let (mut done, total) = (0, entries.iter().map(|entry| entry.file.bytes).sum());
    let mut kept = Vec::new();
    let ahead = entries
        .iter()
        .filter_map(|it| SegmentFile::last_page(&it.file));
    disk.read_ahead(&ahead.collect::<Vec<_>>());
    for entry in entries {
        kept.push(open_segment(entry, disk, salt).map_err(BadCheckpoint::Segment)?);
        done += entry.file.bytes;
        on_segments(done, total);
    }
    Ok(kept)
}

fn open_segment(entry: &SegmentEntry, disk: &mut dyn Disk, salt: u64) -> Result<Kept, BadSegment> {
    let file = Arc::new(SegmentFile::open(disk, salt, &entry.file)?);
    let body = Body::Filed(Arc::new(Filed::cold(Arc::clone(&file))));
    Ok(Kept {
        id: SegmentId(entry.file.segment),
        place: Place {
            body,
            first_main: entry.first_main,
            gone: entry.gone.clone(),
            gone_bytes: entry.gone_bytes,
            bytes: entry.file.record_bytes,
            file: Some(file),
        },
    })
}
