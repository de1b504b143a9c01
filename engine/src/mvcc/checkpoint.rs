use super::hold::{Hold, HoldRefused};
use super::revlog::{NeedRead, Position};
use super::store::{Marks, Reader, Stamp, Store, StoreConfig};
use super::view::Record;

/// Writes the content of a checkpoint: all records up to the revision that was newest when it
/// began, in revision order. Compaction gives no memory back until it is dropped.
pub struct CheckpointCursor {
    reader: Reader,
    _hold: Hold,
    marks: Marks,
    at: Position,
    records: u64,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Head,
    Records,
    End,
}

/// Writes the same content from records that come from elsewhere.
pub struct ContentWriter {
    records: u64,
}

/// Rebuilds a store from a checkpoint's content.
pub struct Restore {
    config: StoreConfig,
    /// Bytes of a part that has not come whole yet.
    carry: Vec<u8>,
    /// Once the head has come.
    built: Option<(Store, Reader)>,
    /// Main and sub-revision of the last record.
    last: (i64, u32),
    revision: i64,
    records: u64,
    is_complete: bool,
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
}

impl Store {
    /// Begins a checkpoint of the published state.
    ///
    /// # Errors
    /// `Swept` while compaction is giving memory back: finish that first. `Full` if too many jobs
    /// are in flight.
    pub fn checkpoint(&self) -> Result<CheckpointCursor, HoldRefused> {
        let reader = self.reader();
        let marks = reader.pin().view().marks;
        let hold = reader.hold(marks.finished)?;
        Ok(CheckpointCursor {
            reader,
            _hold: hold,
            marks,
            at: Position::default(),
            records: 0,
            phase: Phase::Head,
        })
    }
}

impl CheckpointCursor {
    /// The revision of the content.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.marks.revision
    }

    /// Appends about `bytes` more of the content to `out`, under a pin of its own; at least one
    /// record, however large. False at the end.
    ///
    /// # Errors
    /// A segment must be read first; what was appended stays valid.
    pub fn next_chunk(&mut self, out: &mut Vec<u8>, bytes: usize) -> Result<bool, NeedRead> {
        let end = out.len().saturating_add(bytes);
        if self.phase == Phase::Head {
            let marks = self.marks;
            write_head(out, [marks.revision, marks.compacted, marks.finished]);
            self.phase = Phase::Records;
        }
        let pin = self.reader.pin();
        let log = pin.view().log;
        while self.phase == Phase::Records {
            let next = log
                .next_from(self.at)?
                .filter(|(_, stored)| stored.main() <= self.marks.revision);
            let Some((found, stored)) = next else {
                write_end(out, self.records);
                self.phase = Phase::End;
                break;
            };
            write_record(out, &stored.record());
            self.records += 1;
            self.at = found.after(stored);
            if out.len() >= end {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl ContentWriter {
    /// Begins with the revision, the compacted one and the finished compaction, -1 for never:
    /// finished <= compacted <= revision.
    #[must_use]
    pub fn begin(out: &mut Vec<u8>, revision: i64, compacted: i64, finished: i64) -> Self {
        write_head(out, [revision, compacted, finished]);
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

fn write_head(out: &mut Vec<u8>, marks: [i64; 3]) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    for mark in marks {
        out.extend_from_slice(&mark.to_le_bytes());
    }
}

fn write_end(out: &mut Vec<u8>, records: u64) {
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

impl Restore {
    /// Awaits the content of one checkpoint.
    #[must_use]
    pub fn new(config: StoreConfig) -> Self {
        let carry = Vec::new();
        Self {
            config,
            carry,
            built: None,
            last: (0, 0),
            revision: 0,
            records: 0,
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

    /// The rebuilt store, published. A compaction that was not finished goes on with
    /// `Store::poll_space`.
    ///
    /// # Errors
    /// The end of the content has not come.
    pub fn finish(self) -> Result<(Store, Reader), BadCheckpoint> {
        let Some((mut store, reader)) = self.built.filter(|_| self.is_complete) else {
            return Err(BadCheckpoint::Short);
        };
        store.marks.revision = self.revision;
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
        if self.built.is_none() {
            return self.take_head(bytes);
        }
        let Some(&kind) = bytes.first() else {
            return Ok(None);
        };
        match kind {
            _ if self.is_complete => Err(BadCheckpoint::Trailing),
            KIND_RECORD => self.take_record(bytes),
            KIND_END => {
                let Some(count) = bytes[1..].first_chunk() else {
                    return Ok(None);
                };
                let expected = u64::from_le_bytes(*count);
                if expected != self.records {
                    return Err(BadCheckpoint::Count {
                        expected,
                        found: self.records,
                    });
                }
                self.is_complete = true;
                Ok(Some(1 + count.len()))
            }
            found => Err(BadCheckpoint::Kind { found }),
        }
    }

    fn take_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadCheckpoint> {
        let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        if !head.starts_with(MAGIC) {
            return Err(BadCheckpoint::Magic);
        }
        let found = word(head, 8);
        if found != FORMAT {
            return Err(BadCheckpoint::Format { found });
        }
        let marks = Marks {
            revision: long(head, 12),
            compacted: long(head, 20),
            finished: long(head, 28),
        };
        let is_ordered = -1 <= marks.finished
            && marks.finished <= marks.compacted
            && marks.compacted <= marks.revision;
        if !is_ordered || marks.revision < 1 {
            return Err(BadCheckpoint::Numbers);
        }
        self.revision = marks.revision;
        self.built = Some(Store::with_marks(self.config, marks));
        Ok(Some(HEAD_BYTES))
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
        if (main, sub) <= self.last && self.records > 0 || main < 1 || main > self.revision {
            return Err(BadCheckpoint::Order { main });
        }
        let is_tombstone = version == 0;
        if version < 0 || create < 0 || create > main || is_tombstone != (create == 0) {
            return Err(BadCheckpoint::Numbers);
        }
        let Some(key) = bytes[RECORD_HEAD_BYTES..].get(..key_len) else {
            return Ok(None);
        };
        let Some(value) = bytes[RECORD_HEAD_BYTES + key_len..].get(..value_len) else {
            return Ok(None);
        };
        let (store, _) = self.built.as_mut().expect("records come after the head");
        store.append(key, value, |_| Stamp {
            main,
            sub,
            create,
            version,
            lease,
        });
        self.last = (main, sub);
        self.records += 1;
        Ok(Some(RECORD_HEAD_BYTES + key_len + value_len))
    }
}

fn long(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

const MAGIC: &[u8; 8] = b"basaltkv";

/// Counts changes of this layout.
const FORMAT: u32 = 1;

/// Magic, format, three marks.
const HEAD_BYTES: usize = 8 + 4 + 3 * 8;

/// Kind, four `i64`, three `u32`.
const RECORD_HEAD_BYTES: usize = 1 + 4 * 8 + 3 * 4;

const KIND_RECORD: u8 = 1;
const KIND_END: u8 = 2;
