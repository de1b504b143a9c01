//! Every change ever made and not yet compacted, in revision order, in append-only segments.
//!
//! Promises: a position names the same record for ever, also after its segment was rewritten; a
//! reader's directory stays whole while it is pinned. Never: changes a published byte, drops a
//! record on its own (compact.rs says which). Start at `RevLog`.

pub(crate) mod cache;
pub(crate) mod directory;
pub(crate) mod file;
pub(crate) mod frame;
pub(crate) mod log_view;
pub(crate) mod packed;
pub(crate) mod record;
#[allow(
    unsafe_code,
    reason = "append-only memory with one writer and many readers; see the file's head"
)]
pub(crate) mod segment;

use std::sync::Arc;

use cache::Cache;
use directory::{Body, Directory, Place};
use file::SegmentFile;
use packed::Packer;
use record::{Chain, HEAD_BYTES, Head, Older, Stored, words_of};
use segment::Appender;

use super::store::StoreConfig;

pub use file::BadSegment;

/// Names one segment of the revision log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u32);

/// Where a record lies. Ordered as the records are: by revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) segment: u32,
    /// Where it began in its segment when it was written, in 8-byte words.
    pub(crate) word: u32,
}

/// The writer's end of the log.
pub(crate) struct RevLog {
    /// Shared with the published states; copied when it changes.
    directory: Arc<Directory>,
    open: Appender,
    open_id: SegmentId,
    segment_bytes: usize,
    /// Bytes of all bodies but the open one.
    sealed_bytes: u64,
    /// Bytes of dropped records that still lie in some body.
    gone_bytes: u64,
    /// The part of `sealed_bytes` whose bodies have no file.
    unfiled_bytes: u64,
    /// How many frames are not in memory.
    cold: usize,
    cache: Cache,
    /// The number of the next file; no checkpoint of any member ever named it.
    file_next: u64,
}

/// A sealed segment as it comes back from its file.
pub(crate) struct Kept {
    pub(crate) id: SegmentId,
    pub(crate) place: Place,
}

impl Position {
    pub(crate) fn id(self) -> SegmentId {
        SegmentId(self.segment)
    }

    /// The place behind the record that lies here, where a cursor goes on.
    pub(crate) fn after(self, record: Stored<'_>) -> Self {
        let words = u32::try_from(words_of(record.len())).expect("a record has less than 32 GiB");
        Self {
            segment: self.segment,
            word: self.word + words,
        }
    }
}

/// Where a process begins to number its files. No two processes begin at one place: what is `stored` in a checkpoint grows with
/// each that becomes durable, and files that none names are removed at the start.
fn first_file(seed: u64, stored: u64) -> u64 {
    if seed == 0 {
        return stored;
    }
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..].copy_from_slice(&stored.to_le_bytes());
    (u64::from(crc32c::crc32c(&bytes)) << 32) | 1
}

impl RevLog {
    pub(crate) fn new(config: StoreConfig) -> Self {
        let StoreConfig {
            segment_bytes,
            cache_bytes,
            files_seed,
        } = config;
        let open = Appender::new(segment_bytes, 0);
        let mut directory = Directory::default();
        let open_id = directory.push(whole(&open, 0));
        let cache = Cache::new(cache_bytes);
        Self {
            directory: Arc::new(directory),
            open,
            open_id,
            segment_bytes,
            sealed_bytes: 0,
            gone_bytes: 0,
            unfiled_bytes: 0,
            cold: 0,
            cache,
            file_next: first_file(files_seed, 1),
        }
    }

    /// The log whose sealed segments are `kept`, by ascending number, and that has made `made`
    /// segments in all. The next record's main revision is at least `next_main`.
    pub(crate) fn reopen(
        config: StoreConfig,
        kept: Vec<Kept>,
        made: u32,
        file_next: u64,
        next_main: i64,
    ) -> Self {
        let mut directory = Directory::default();
        let (mut sealed_bytes, mut gone_bytes, mut cold) = (0, 0, 0);
        let mut kept = kept.into_iter().peekable();
        for id in 0..made {
            let place = match kept.next_if(|kept| kept.id.0 == id) {
                Some(kept) => kept.place,
                // Whoever seeks a revision must not be led behind a record of it.
                None => Place {
                    body: Body::Empty,
                    first_main: kept.peek().map_or(next_main, |next| next.place.first_main),
                    gone: None,
                    gone_bytes: 0,
                    bytes: 0,
                    file: None,
                },
            };
            sealed_bytes += place.bytes;
            gone_bytes += place.gone_bytes;
            if let Body::Filed(filed) = &place.body {
                cold += filed.cold_frames();
            }
            let id = directory.push(place);
            directory.trim(id);
        }
        assert!(kept.next().is_none());
        let StoreConfig {
            segment_bytes,
            cache_bytes,
            files_seed,
        } = config;
        let cache = Cache::new(cache_bytes);
        let open = Appender::new(segment_bytes, 0);
        let open_id = directory.push(whole(&open, next_main));
        Self {
            directory: Arc::new(directory),
            open,
            open_id,
            segment_bytes,
            sealed_bytes,
            gone_bytes,
            unfiled_bytes: 0,
            cold,
            cache,
            file_next: first_file(files_seed, file_next),
        }
    }

    /// Seals the open segment if it holds anything, so that all records lie in sealed ones. The next
    /// record's main revision is at least `next_main`.
    pub(crate) fn seal_open(&mut self, next_main: i64) {
        if self.open.used() > 0 {
            self.roll(next_main, 0);
        }
    }

    /// How many segments were ever made, the open one left out.
    pub(crate) fn sealed(&self) -> u32 {
        self.open_id.0
    }

    /// Draws numbers for so many files.
    pub(crate) fn draw_files(&mut self, count: u64) -> u64 {
        let first = self.file_next;
        self.file_next += count;
        first
    }

    /// Hears that `file` holds `body`, which may have been replaced meanwhile.
    pub(crate) fn on_filed(&mut self, body: &Body, file: &Arc<SegmentFile>) {
        let id = SegmentId(file.segment);
        let is_there = |place: &Place| place.file.is_none() && place.body.is_same(body);
        if self.directory.place(id).is_some_and(is_there)
            && let Some(place) = Arc::make_mut(&mut self.directory).place_mut(id)
        {
            let bytes = place.bytes;
            place.file = Some(Arc::clone(file));
            self.unfiled_bytes -= bytes;
            self.on_evictable(id, file.number, bytes);
        }
    }

    pub(crate) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Adds a record behind all others; its revision is greater than theirs.
    pub(crate) fn append(&mut self, head: &Head, key: &[u8], value: &[u8]) -> Position {
        let encoded = head.encode(key.len(), value.len());
        let word = match self.open.append([&encoded, key, value]) {
            Some(word) => word,
            None => {
                self.roll(head.main, HEAD_BYTES + key.len() + value.len());
                self.open
                    .append([&encoded, key, value])
                    .expect("a fresh segment has room for its first record")
            }
        };
        Position {
            segment: self.open_id.0,
            word,
        }
    }

    /// The chain of the record that follows the one at `newest` (main revision `main`) of the same
    /// key.
    ///
    /// Ordinals are read in base 8: a record jumps to the one whose ordinal has its lowest non-zero
    /// digit cleared. So a search takes at most 18 steps a digit, and the jump comes from the
    /// record before in seven of eight cases. When an old record cannot be read the chain is merely
    /// slower.
    pub(crate) fn chain_after(&self, newest: Position, main: i64) -> Chain {
        let prev = Older { main, at: newest };
        let Ok(Some(before)) = self.directory.record(newest, None) else {
            return Chain {
                ordinal: 0,
                prev,
                jump: prev,
            };
        };
        let before = before.chain();
        let ordinal = before.ordinal.wrapping_add(1);
        let target = cleared(ordinal);
        let mut jump = prev;
        let mut jump_ordinal = before.ordinal;
        let mut next = before.jump;
        while jump_ordinal != target && next.main != 0 {
            jump = next;
            jump_ordinal = cleared(jump_ordinal);
            match self.directory.record(jump.at, None) {
                Ok(Some(stored)) if jump_ordinal != target => next = stored.jump(),
                _ => break,
            }
        }
        Chain {
            ordinal,
            prev,
            jump,
        }
    }

    /// Bytes of all records, dropped ones included as long as they lie in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.sealed_bytes + self.open.used()
    }

    /// The part of `bytes` that lies in no file: a checkpoint writes it.
    pub(crate) fn unfiled_bytes(&self) -> u64 {
        self.unfiled_bytes + self.open.used()
    }

    /// The part of `bytes` that compaction has dropped.
    pub(crate) fn gone_bytes(&self) -> u64 {
        self.gone_bytes
    }

    /// Seals the open segment if it is `id`, so that it can be rewritten.
    pub(crate) fn seal(&mut self, id: SegmentId, next_main: i64) {
        if id == self.open_id {
            self.roll(next_main, 0);
        }
    }

    /// Bytes of the records of `id` as they lie in memory.
    pub(crate) fn bytes_of(&self, id: SegmentId) -> u64 {
        if id == self.open_id {
            self.open.used()
        } else {
            self.directory.place(id).map_or(0, |place| place.bytes)
        }
    }

    /// Marks more records of `id` as dropped: reads no longer find them, their memory stays.
    pub(crate) fn drop_records(&mut self, id: SegmentId, dropped: &packed::WordSet, bytes: u64) {
        let in_all = self.bytes_of(id);
        let place = Arc::make_mut(&mut self.directory)
            .place_mut(id)
            .expect("dropped records lie in a segment");
        let mut gone = place.gone.as_deref().cloned().unwrap_or_default();
        gone.union(dropped);
        place.gone = Some(Arc::new(gone));
        // A file whose records lead to where none begins must not count more than there is.
        let bytes = bytes.min(in_all - place.gone_bytes);
        place.gone_bytes += bytes;
        self.gone_bytes += bytes;
    }

    /// Puts a rewritten body in the place of a sealed one.
    pub(crate) fn replace(&mut self, id: SegmentId, packer: Packer) {
        assert!(id != self.open_id);
        let old = self
            .directory
            .place(id)
            .expect("a rewritten segment exists");
        self.sealed_bytes -= old.bytes;
        self.gone_bytes -= old.gone_bytes;
        let (body, bytes) = (old.body.clone(), old.bytes);
        if old.file.is_none() {
            self.unfiled_bytes -= bytes;
        } else {
            self.forget(&body, bytes);
        }
        if let Body::Filed(filed) = &body {
            self.cold -= filed.cold_frames();
        }
        let directory = Arc::make_mut(&mut self.directory);
        let place = directory.place_mut(id).expect("a rewritten segment exists");
        place.bytes = packer.bytes();
        place.gone = None;
        place.gone_bytes = 0;
        place.body = packer.finish().map_or(Body::Empty, Body::Packed);
        place.file = None;
        self.sealed_bytes += place.bytes;
        self.unfiled_bytes += place.bytes;
        directory.trim(id);
    }

    /// Whether any read can answer `NeedRead` now.
    pub(crate) fn has_cold(&self) -> bool {
        self.cold > 0
    }

    fn roll(&mut self, first_main: i64, record_bytes: usize) {
        let used = self.open.used();
        let directory = Arc::make_mut(&mut self.directory);
        let sealed = directory
            .place_mut(self.open_id)
            .expect("the open segment has a place");
        if used == 0 {
            // Sealed it would be a file without a frame: a larger one takes its place.
            self.open = Appender::new(self.segment_bytes, record_bytes);
            sealed.body = Body::Whole(Arc::clone(self.open.segment()));
            return;
        }
        sealed.bytes = used;
        self.sealed_bytes += used;
        self.unfiled_bytes += used;
        self.open = Appender::new(self.segment_bytes, record_bytes);
        self.open_id = directory.push(whole(&self.open, first_main));
    }
}

fn whole(open: &Appender, first_main: i64) -> Place {
    Place {
        body: Body::Whole(Arc::clone(open.segment())),
        first_main,
        gone: None,
        gone_bytes: 0,
        bytes: 0,
        file: None,
    }
}

/// `ordinal` with its lowest non-zero base-8 digit cleared.
fn cleared(ordinal: u32) -> u32 {
    let digit = ordinal.trailing_zeros() / 3 * 3;
    if ordinal == 0 {
        0
    } else {
        ordinal & !(7 << digit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_bytes(segment_bytes: usize) -> StoreConfig {
        StoreConfig {
            segment_bytes,
            ..StoreConfig::default()
        }
    }

    fn head(main: i64, chain: Chain) -> Head {
        Head {
            main,
            sub: 0,
            create: 1,
            version: 1,
            lease: 0,
            chain,
        }
    }

    /// Finding an old version of a hot key stays logarithmic: 4,096 versions in at most 18 steps a
    /// digit.
    #[test]
    fn an_old_version_is_found_in_few_steps() {
        let mut log = RevLog::new(of_bytes(4096));
        let versions = 4096;
        let mut at = log.append(&head(1, Chain::default()), b"k", b"");
        for main in 2..=versions {
            let chain = log.chain_after(at, main - 1);
            assert!(chain.jump.main <= chain.prev.main);
            at = log.append(&head(main, chain), b"k", b"");
        }
        for wanted in 1..=versions {
            let mut stored = log.directory().record(at, None).unwrap().unwrap();
            let mut steps = 0;
            while stored.main() > wanted {
                let older = if stored.jump().main >= wanted {
                    stored.jump()
                } else {
                    stored.prev()
                };
                stored = log.directory().record(older.at, None).unwrap().unwrap();
                assert_eq!(stored.main(), older.main);
                steps += 1;
            }
            assert_eq!(stored.main(), wanted);
            assert!(steps <= 18 * 4, "{steps} steps to {wanted}");
        }
    }

    /// A cursor started by revision misses no record, wherever segments end.
    #[test]
    fn seek_finds_the_first_record_of_a_revision() {
        let mut log = RevLog::new(of_bytes(512));
        for main in 1..=40 {
            for sub in 0..3 {
                log.append(
                    &Head {
                        sub,
                        ..head(main, Chain::default())
                    },
                    b"key",
                    b"value",
                );
            }
        }
        for main in 1..=40 {
            let mut at = log.directory().seek(main);
            let mut skipped = 0;
            loop {
                let (found, stored) = log.directory().next_from(at, None).unwrap().unwrap();
                if stored.main() >= main {
                    assert_eq!((stored.main(), stored.sub()), (main, 0));
                    break;
                }
                skipped += 1;
                at = found.after(stored);
            }
            assert!(skipped < 16);
        }
    }
}
