use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Position;
use super::packed::{Kept, Packed};
use super::record::{Stored, is_numbered, record_len, words_of};
use crate::disk::{Pages, copied};
use crate::limits::MVCC_SEGMENT_BYTES;

/// Some neighbouring records of one segment as one read brings them from a file.
///
/// On disk: how many places follow (`u32`, 0 if the records lie as they were written), bytes of the
/// records (`u32`), the places (`u32` each, in words, padded to 8 bytes), the records.
pub(crate) struct Frame {
    /// Where its first record was written in the segment.
    first: u32,
    records: Records,
    /// Bytes of its records.
    bytes: u64,
    /// A read came since this was last taken back. Relaxed: a hint that orders nothing.
    used: AtomicBool,
}

enum Records {
    /// As they were written, without a gap.
    Whole(Box<[u8]>),
    /// With gaps where compaction dropped records.
    Packed(Arc<Packed>),
}

/// What the segment's table says of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameAt {
    /// Where its first record was written in the segment, in words.
    pub(crate) first: u32,
    /// Where it lies in the file, and how long it is.
    pub(crate) page: u32,
    pub(crate) pages: u32,
    /// CRC-32C of its pages.
    pub(crate) digest: u32,
    /// Main revisions of its first and its last record.
    pub(crate) oldest: i64,
    pub(crate) newest: i64,
}

/// Collects neighbouring records until a frame is full.
pub(crate) struct FrameBuilder {
    places: Vec<u32>,
    bytes: Vec<u8>,
    is_packed: bool,
    oldest: i64,
    newest: i64,
}

impl Frame {
    /// Reads and checks what `FrameBuilder` wrote for `segment`. `None` if it is anything else: then
    /// nothing that a frame answers could be trusted to end.
    pub(crate) fn decode(pages: &Pages, segment: u32, at: &FrameAt) -> Option<Self> {
        let begin = pages.as_slice().first()?;
        let [count, len] = [0, 4].map(|from| {
            let bytes: [u8; 4] = begin.0[from..from + 4].try_into().expect("four bytes");
            u32::from_le_bytes(bytes) as usize
        });
        let records_at = count.checked_mul(4)?.checked_next_multiple_of(8)? + 8;
        let end = records_at.checked_add(len)?;
        if end > pages.bytes() {
            return None;
        }
        let places = copied(pages, 8, 8 + count * 4);
        let (places, _) = places.as_chunks::<4>();
        let bytes = copied(pages, records_at, end);
        let mut kept = Vec::with_capacity(count);
        let mut rest = &bytes[..];
        let mut word = at.first;
        let mut last = (at.oldest, None);
        for index in 0.. {
            if rest.is_empty() {
                let is_all = index > 0 && (count == 0 || index == count);
                if !is_all || last.0 != at.newest {
                    return None;
                }
                break;
            }
            if count > 0 {
                let place = u32::from_le_bytes(*places.get(index)?);
                if place < word || (index == 0 && place != at.first) {
                    return None;
                }
                word = place;
            }
            if word > WORD_MAX {
                return None;
            }
            let words = words_of(record_len(*rest.first_chunk()?));
            let (record, after) = rest.split_at_checked(words.checked_mul(8)?)?;
            let stored = Stored::new(record);
            let now = (stored.main(), Some(stored.sub()));
            if now <= last || (index == 0 && now.0 != at.oldest) {
                return None;
            }
            let here = Position { segment, word };
            if !is_sound(stored, here) {
                return None;
            }
            if count > 0 {
                let new = u32::try_from((bytes.len() - rest.len()) / 8).ok()?;
                kept.push(Kept { old: word, new });
            }
            word = word.checked_add(u32::try_from(words).ok()?)?;
            last = now;
            rest = after;
        }
        let records = match Packed::new(bytes, kept) {
            Ok(packed) => Records::Packed(packed),
            Err(bytes) => Records::Whole(bytes.into_boxed_slice()),
        };
        Some(Self {
            first: at.first,
            records,
            bytes: len as u64,
            used: AtomicBool::new(false),
        })
    }

    /// Bytes of its records.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A read uses it.
    pub(crate) fn on_used(&self) {
        // Readers share the line: they write it only where that changes something.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a read used it since the last call.
    pub(crate) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// The record that was written at `word`. A word at which none begins gives bytes without
    /// meaning, or nothing.
    pub(crate) fn record(&self, word: u32) -> Option<&[u8]> {
        match &self.records {
            Records::Whole(bytes) => {
                let at = word.checked_sub(self.first)? as usize * 8;
                let rest = bytes.get(at..)?;
                rest.get(..words_of(record_len(*rest.first_chunk()?)) * 8)
            }
            Records::Packed(packed) => packed.record(word),
        }
    }

    /// The first record that was written at `word` or behind, and where; for words at which a record
    /// begins or ends.
    pub(crate) fn next_from(&self, word: u32) -> Option<(u32, &[u8])> {
        match &self.records {
            Records::Whole(_) => {
                let word = word.max(self.first);
                Some((word, self.record(word)?))
            }
            Records::Packed(packed) => packed.next_from(word),
        }
    }
}

/// Whether a record's numbers can be: what it leads to lies before it, so every search ends.
fn is_sound(stored: Stored<'_>, here: Position) -> bool {
    let (prev, jump) = (stored.prev(), stored.jump());
    let main = stored.main();
    let is_chained = prev.main == 0
        || (prev.main >= 1
            && prev.main <= main
            && prev.at < here
            && jump.main >= 0
            && jump.main <= prev.main
            && jump.at <= prev.at);
    is_numbered(main, stored.create(), stored.version()) && is_chained
}

impl FrameBuilder {
    /// `is_packed`: its records may leave gaps.
    pub(crate) fn new(is_packed: bool) -> Self {
        Self {
            places: Vec::new(),
            bytes: Vec::new(),
            is_packed,
            oldest: 0,
            newest: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Adds the record that was written at `word`; false if the frame is full without it. An empty
    /// frame takes any.
    pub(crate) fn push(&mut self, word: u32, record: &[u8]) -> bool {
        let len = 8 + (self.places.len() + 2) * 4 + self.bytes.len() + record.len();
        if !self.is_empty() && len > FRAME_BYTES {
            return false;
        }
        let main = Stored::new(record).main();
        if self.is_empty() {
            self.oldest = main;
        }
        self.newest = main;
        self.places.push(word);
        self.bytes.extend_from_slice(record);
        true
    }

    /// The bytes without padding to pages, and what the table says of them but place, length and
    /// digest.
    pub(crate) fn finish(self) -> (Vec<u8>, FrameAt) {
        let count = if self.is_packed { self.places.len() } else { 0 };
        let small = |len: usize| u32::try_from(len).expect("a record has less than 4 GiB");
        let mut out = Vec::with_capacity(16 + count * 4 + self.bytes.len());
        out.extend_from_slice(&small(count).to_le_bytes());
        out.extend_from_slice(&small(self.bytes.len()).to_le_bytes());
        for place in &self.places[..count] {
            out.extend_from_slice(&place.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(8), 0);
        out.extend_from_slice(&self.bytes);
        let at = FrameAt {
            first: self.places[0],
            page: 0,
            pages: 0,
            digest: 0,
            oldest: self.oldest,
            newest: self.newest,
        };
        (out, at)
    }
}

/// Where the last record of a segment may begin, in words: a segment is that long only where it holds
/// one long record.
pub(crate) const WORD_MAX: u32 = 1 << 24;

const _: () = assert!(MVCC_SEGMENT_BYTES / 8 <= WORD_MAX as usize);

/// Bytes of a frame on disk, unless it holds a single longer record: what a cold read costs.
pub(crate) const FRAME_BYTES: usize = 64 << 10;
