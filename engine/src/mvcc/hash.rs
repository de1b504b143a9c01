use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::aside::Aside;
use super::compact::CompactHash;
use super::hold::{Hold, HoldRefused};
use super::range::{KeyRange, Resume, SliceBound, Visited, Want};
use super::revlog::packed::WordSet;
use super::revlog::record::Stored;
use super::revlog::{BadSegment, Position};
use super::store::{Pin, Reader};
use super::view::View;
use super::wants::NeedRead;
use crate::disk::Disk;

/// A HashKV request at work: a cursor over the revision log that equals etcd's number for equal
/// history.
pub struct HashJob {
    reader: Reader,
    /// Everything from the compacted revision on stays as it was; given up with the job.
    hold: Option<Hold>,
    answer: HashAnswer,
    /// Physical compaction done at the start: what it drops is not in the log.
    finished: i64,
    walk: Walk,
    marks: Marks,
    hash: RecordHash,
    aside: Aside,
}

/// What HashKV answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashAnswer {
    /// CRC-32C of the records.
    pub hash: u32,
    /// The compaction the hash refers to; -1 for none.
    pub compact_revision: i64,
    /// The revision that was hashed: the one asked for, or the newest.
    pub hash_revision: i64,
    /// The store's revision when the job began, for the header.
    pub revision: i64,
}

/// Why there is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashRefused {
    /// The revision lies below the compacted one.
    Compacted,
    /// The revision is greater than the store's.
    Future,
    /// Too many jobs are in flight.
    Busy,
}

enum Walk {
    Mark(Position),
    /// Looks for a key that is live.
    Keeps(Resume),
    Hash {
        at: Position,
        keeps_any: bool,
    },
    Done,
}

/// Records at or below the compacted revision that a later one replaces, told apart by who does.
#[derive(Default)]
struct Marks {
    /// Replaced at or below the compacted revision: compaction drops them, or has already.
    dropped: BTreeMap<u32, WordSet>,
    /// Replaced above it, at or below the hashed revision.
    replaced: BTreeMap<u32, WordSet>,
}

/// The running CRC over records in revision order, from the bucket's name on. etcd-facts 10.2, 1
/// and 2.
#[derive(Clone, Copy)]
pub(super) struct RecordHash(u32);

impl HashJob {
    /// Begins to hash at `rev`; 0 is the newest revision, a negative one hashes no record.
    ///
    /// # Errors
    /// The revision is compacted (and no remembered compaction's) or in the future, or too many
    /// jobs are in flight.
    pub fn start(reader: &Reader, rev: i64) -> Result<Self, HashRefused> {
        loop {
            let pin = reader.pin();
            let view = pin.view();
            let remembered = pin.compact_hash(rev);
            if remembered.is_none() && rev > 0 && rev < view.compacted() {
                return Err(HashRefused::Compacted);
            }
            if rev > view.revision() {
                return Err(HashRefused::Future);
            }
            // After a compaction at revision 0, 0 names that one.
            let is_newest = rev == 0 && remembered.is_none();
            let hash_revision = if is_newest { view.revision() } else { rev };
            let mut answer = HashAnswer {
                hash: RecordHash::new().value(),
                compact_revision: view.compacted(),
                hash_revision,
                revision: view.revision(),
            };
            let (mut hold, mut walk) = (None, Walk::Done);
            if let Some(CompactHash {
                hash,
                compact_revision,
                ..
            }) = remembered
            {
                (answer.hash, answer.compact_revision) = (hash, compact_revision);
            } else if rev >= 0 {
                hold = match reader.hold(view.compacted()) {
                    Ok(hold) => Some(hold),
                    // A sweep past this view has begun; the state that it belongs to is about to be
                    // published.
                    Err(HoldRefused::Swept) if is_outdated(&pin, reader) => continue,
                    Err(HoldRefused::Swept | HoldRefused::Full) => return Err(HashRefused::Busy),
                };
                walk = Walk::Mark(Position::default());
            }
            let (finished, hash, marks) = (view.finished(), RecordHash::new(), Marks::default());
            return Ok(Self {
                reader: reader.clone(),
                hold,
                answer,
                finished,
                walk,
                marks,
                hash,
                aside: Aside::default(),
            });
        }
    }

    /// Goes on for about `budget_records` records; what is not in memory it reads from `disk`, each
    /// time between two pins. `Some` is the end.
    ///
    /// # Errors
    /// Records cannot be read: there is no hash.
    pub fn poll(
        &mut self,
        budget_records: usize,
        disk: &mut dyn Disk,
    ) -> Result<Option<HashAnswer>, BadSegment> {
        let mut budget = budget_records.max(1);
        let reader = self.reader.clone();
        let mut aside = std::mem::take(&mut self.aside);
        let done = aside.run(&reader, disk, |view| self.walk(&view, &mut budget));
        self.aside = aside;
        done
    }

    fn walk(
        &mut self,
        view: &View<'_>,
        budget: &mut usize,
    ) -> Result<Option<HashAnswer>, NeedRead> {
        while *budget > 0 {
            match &mut self.walk {
                Walk::Mark(at) => {
                    let at = *at;
                    self.mark(view, at, budget)?;
                }
                Walk::Keeps(resume) => {
                    let mut left = SliceBound {
                        records: *budget,
                        bytes: usize::MAX,
                    };
                    let (all, until) = (KeyRange::All, self.answer.hash_revision);
                    let visited = match view.has_unchanged_since(until) {
                        true => Ok(Visited::Stopped),
                        false => {
                            view.visit_within(&all, until, Want::Keys, resume, &mut left, |_| {
                                ControlFlow::Break(())
                            })
                        }
                    };
                    let visited = match visited {
                        // The member reads it, and the next call looks again.
                        Err(NeedRead::Page(_)) => return Ok(None),
                        visited => visited?,
                    };
                    *budget = left.records;
                    if visited != Visited::More {
                        self.walk = Walk::Hash {
                            at: Position::default(),
                            keeps_any: visited == Visited::Stopped,
                        };
                    }
                }
                Walk::Hash { at, keeps_any } => {
                    let (at, keeps_any) = (*at, *keeps_any);
                    self.walk_records(view, at, keeps_any, budget)?;
                }
                Walk::Done => {
                    self.hold = None;
                    return Ok(Some(self.answer));
                }
            }
        }
        Ok(None)
    }

    /// Finds what is replaced at or below the hashed revision.
    fn mark(&mut self, view: &View<'_>, at: Position, budget: &mut usize) -> Result<(), NeedRead> {
        let (compacted, until) = (self.answer.compact_revision, self.answer.hash_revision);
        let mut at = if at == Position::default() {
            view.log.seek(self.finished)
        } else {
            at
        };
        while *budget > 0 {
            let Some((found, stored)) = view
                .log
                .next_from(at)?
                .filter(|(_, stored)| stored.main() <= until)
            else {
                self.walk = Walk::Keeps(Resume::default());
                return Ok(());
            };
            let prev = stored.prev();
            if stored.main() > self.finished && prev.main > 0 && prev.main <= compacted {
                let by = if stored.main() <= compacted {
                    &mut self.marks.dropped
                } else {
                    &mut self.marks.replaced
                };
                by.entry(prev.at.segment).or_default().insert(prev.at.word);
            }
            *budget -= 1;
            at = found.after(stored);
            self.walk = Walk::Mark(at);
        }
        Ok(())
    }

    fn walk_records(
        &mut self,
        view: &View<'_>,
        mut at: Position,
        keeps_any: bool,
        budget: &mut usize,
    ) -> Result<(), NeedRead> {
        let until = self.answer.hash_revision;
        while *budget > 0 {
            let Some((found, stored)) = view
                .log
                .next_from(at)?
                .filter(|(_, stored)| stored.main() <= until)
            else {
                self.answer.hash = self.hash.value();
                self.walk = Walk::Done;
                return Ok(());
            };
            if !self.is_skipped(found, stored, keeps_any) {
                self.hash.add(stored);
            }
            *budget = budget.saturating_sub(1 + stored.len() / 1024);
            at = found.after(stored);
            self.walk = Walk::Hash { at, keeps_any };
        }
        Ok(())
    }

    /// etcd-facts 10.2, 4 and 5. Where nothing is kept, what compaction drops is left out whether
    /// or not its memory is given back yet.
    fn is_skipped(&self, at: Position, stored: Stored<'_>, keeps_any: bool) -> bool {
        let is_in = |marks: &BTreeMap<u32, WordSet>| {
            marks
                .get(&at.segment)
                .is_some_and(|words| words.contains(at.word))
        };
        let compacted = self.answer.compact_revision;
        stored.main() <= compacted
            && (stored.is_tombstone()
                || is_in(&self.marks.dropped)
                || (keeps_any && is_in(&self.marks.replaced)))
    }
}

fn is_outdated(pin: &Pin<'_>, reader: &Reader) -> bool {
    reader.pin().view().compacted() > pin.view().compacted()
}

impl RecordHash {
    pub(super) fn new() -> Self {
        Self(crc32c::crc32c(b"key"))
    }

    pub(super) fn value(self) -> u32 {
        self.0
    }

    /// Adds a record: its key in etcd's store, then its value there (a `KeyValue` message).
    pub(super) fn add(&mut self, stored: Stored<'_>) {
        let mut front = Short::new();
        front.put(&stored.main().to_be_bytes());
        front.put(b"_");
        front.put(&i64::from(stored.sub()).to_be_bytes());
        if stored.is_tombstone() {
            front.put(b"t");
        }
        let record = stored.record();
        front.length(1, record.key.len());
        self.bytes(front.written());
        self.bytes(record.key);
        if stored.version() == 0 {
            return;
        }
        let mut middle = Short::new();
        middle.number(2, record.create_revision);
        middle.number(3, record.mod_revision.main);
        middle.number(4, record.version);
        middle.length(5, record.value.len());
        self.bytes(middle.written());
        self.bytes(record.value);
        let mut end = Short::new();
        end.number(6, record.lease.0);
        self.bytes(end.written());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }
}

/// The short parts of a record as etcd writes it.
struct Short {
    bytes: [u8; SHORT_BYTES],
    len: usize,
}

impl Short {
    fn new() -> Self {
        Self {
            bytes: [0; SHORT_BYTES],
            len: 0,
        }
    }

    fn written(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Tag and length of a bytes field; nothing if it is empty.
    fn length(&mut self, field: u8, len: usize) {
        if len > 0 {
            self.put(&[field << 3 | 2]);
            self.varint(len as u64);
        }
    }

    /// A whole integer field; nothing if it is 0. Negative numbers take ten bytes.
    fn number(&mut self, field: u8, value: i64) {
        if value != 0 {
            self.put(&[field << 3]);
            self.varint(value.cast_unsigned());
        }
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.put(&[value as u8]);
    }
}

/// Three integer fields with a length: 3 x 11 + 11 bytes at most.
const SHORT_BYTES: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::mem::MemDisk;
    use crate::mvcc::rebuild;
    use crate::mvcc::{Store, StoreConfig};
    use crate::types::LeaseId;

    fn answer(reader: &Reader, rev: i64) -> (u32, i64) {
        answer_with(reader, rev, &mut MemDisk::default())
    }

    fn answer_with(reader: &Reader, rev: i64, disk: &mut MemDisk) -> (u32, i64) {
        let mut job = HashJob::start(reader, rev).unwrap();
        loop {
            if let Some(answer) = job.poll(1, disk).unwrap() {
                return (answer.hash, answer.compact_revision);
            }
        }
    }

    /// The history of etcd-facts 10.4, up to revision 9.
    fn history() -> (Store, Reader) {
        let (mut store, reader) = Store::new(StoreConfig {
            segment_bytes: 300,
            ..StoreConfig::default()
        });
        let none = LeaseId(0);
        for value in [b"v1", b"v2", b"v3", b"v4"] {
            store.write().put(b"a", value, none).unwrap();
        }
        store.write().put(b"b", b"x", none).unwrap();
        store.write().delete(b"b").unwrap();
        store.write().put(b"c", b"y", none).unwrap();
        store.write().put(b"a", b"v5", none).unwrap();
        store.publish();
        assert_eq!(reader.pin().view().revision(), 9);
        (store, reader)
    }

    /// [HashKV] Equal to stock etcd before, during and after a compaction, whatever the pace of the
    /// physical work.
    #[test]
    fn hashes_equal_those_seen_on_stock_etcd() {
        let (mut store, reader) = history();
        assert_eq!(answer(&reader, 1), (1_084_519_789, -1));
        assert_eq!(answer(&reader, -5), (1_084_519_789, -1));
        assert_eq!(answer(&reader, 5), (1_967_288_640, -1));
        assert_eq!(answer(&reader, 9), (1_016_799_828, -1));
        store.compact(7).unwrap();
        loop {
            store.publish();
            assert_eq!(answer(&reader, 8), (2_865_796_915, 7));
            assert_eq!(answer(&reader, 9), (2_770_809_039, 7));
            if store.finished() < 7 {
                assert_eq!(answer(&reader, 7), (1_152_727_340, 7));
            }
            if !store.poll_space(1).unwrap() {
                break;
            }
        }
        store.publish();
        assert_eq!(answer(&reader, 7), (2_669_221_239, -1));
        assert_eq!(
            HashJob::start(&reader, 6).err(),
            Some(HashRefused::Compacted)
        );
        assert_eq!(HashJob::start(&reader, 10).err(), Some(HashRefused::Future));
        store
            .write()
            .put(b"d", b"z", LeaseId(2_330_509_440_224_722_446))
            .unwrap();
        store.publish();
        assert_eq!(answer(&reader, 10), (952_174_026, 7));
        assert_eq!(answer(&reader, 0), (952_174_026, 7));
    }

    /// [HashKV] Compaction hashes are in memory only: a rebuilt store answers by the rules.
    #[test]
    fn a_rebuilt_store_no_longer_remembers_compaction_hashes() {
        let (mut store, _) = history();
        store.compact(7).unwrap();
        while store.poll_space(1000).unwrap() {}
        store.publish();
        let mut disk = MemDisk::default();
        let made = rebuild::write(store.checkpoint().unwrap(), &mut disk);
        let config = StoreConfig::default();
        let (mut store, reader) = rebuild::read(&made.content, 100, &mut disk, config);
        rebuild::load_index(&mut store, &mut disk);
        store.publish();
        // No record is in memory: the job reads for itself.
        let seven = answer_with(&reader, 7, &mut disk);
        assert_eq!(seven, (1_152_727_340, 7));
        let nine = answer_with(&reader, 9, &mut disk);
        assert_eq!(nine, (2_770_809_039, 7));
        assert!(store.take_wanted().is_empty());
    }
}
