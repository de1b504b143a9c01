//! One fixed buffer that grows at its end while others read what is already there.
//!
//! Layout: records from the front, each on an 8-byte boundary; the slot table from the back, one
//! `u64` a record: offset / 8 in the high half, length in the low half. `published` counts the
//! slots that readers may touch.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The shared half: whoever holds it reads the published records, which never change again.
pub(crate) struct Segment {
    /// Owned; from `Box<[u64]>`, freed in `drop`.
    words: NonNull<[u64]>,
    /// Slots below it are written for ever; the one `Appender` of this segment writes only beyond
    /// them.
    published: AtomicU32,
}

/// The only writer of its segment: not `Clone`, made together with the segment.
pub(crate) struct Appender {
    segment: Arc<Segment>,
    /// Bytes taken from the front, a multiple of 8; front and slot table never meet.
    used: usize,
    slots: u32,
}

// SAFETY: published words are immutable, unpublished ones are touched by the one `Appender` only.
unsafe impl Send for Segment {}
// SAFETY: as for `Send`; the count is atomic.
unsafe impl Sync for Segment {}

impl Segment {
    /// How many records can be read. Pairs with the store in `Appender::append`.
    pub(crate) fn slots(&self) -> u32 {
        self.published.load(Ordering::Acquire)
    }

    /// The record in `slot`, if it is published.
    pub(crate) fn record(&self, slot: u32) -> Option<&[u8]> {
        if slot >= self.slots() {
            return None;
        }
        let entry_at = self.words.len() - 1 - slot as usize;
        let first = self.words.cast::<u64>();
        // SAFETY: `slot` is published, so its entry lies inside the buffer; `append` wrote it
        // before publishing.
        let entry_ptr = unsafe { first.add(entry_at) };
        // SAFETY: inside the buffer and initialised (see above); nobody writes a published entry.
        let entry = unsafe { entry_ptr.read() };
        // SAFETY: `append` checked that the record's words lie inside the buffer.
        let start = unsafe { first.add((entry >> 32) as usize) };
        let len = (entry & u64::from(u32::MAX)) as usize;
        // SAFETY: these bytes were written before publishing and never change; they live as long as
        // `self`.
        Some(unsafe { std::slice::from_raw_parts(start.cast::<u8>().as_ptr(), len) })
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `Box::into_raw` in `Appender::new` and is freed only here.
        drop(unsafe { Box::from_raw(self.words.as_ptr()) });
    }
}

impl Appender {
    /// A fresh segment that can hold at least one record of `record_bytes`, and as a rule `bytes`
    /// in all. The memory is zero pages of the system until it is written.
    pub(crate) fn new(bytes: usize, record_bytes: usize) -> Self {
        let words = bytes.max(record_bytes + 16).div_ceil(8);
        let boxed = vec![0u64; words].into_boxed_slice();
        let words = NonNull::from(Box::leak(boxed));
        let segment = Arc::new(Segment {
            words,
            published: AtomicU32::new(0),
        });
        Self {
            segment,
            used: 0,
            slots: 0,
        }
    }

    /// The readers' half.
    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Bytes of records so far, padding included.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Adds one record made of `parts` in order and returns its slot, or `None` when there is no
    /// room for it.
    pub(crate) fn append(&mut self, parts: [&[u8]; 3]) -> Option<u32> {
        let words = self.segment.words.len();
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let used_after = self.used + len.next_multiple_of(8);
        let table = 8 * (self.slots as usize + 1);
        if used_after + table > words * 8 {
            return None;
        }
        let len32 = u32::try_from(len).expect("a request is shorter than 4 GiB");
        let first = self.segment.words.cast::<u64>();
        // SAFETY: `used` is within the buffer (checked above for this record).
        let mut to = unsafe { first.cast::<u8>().add(self.used) };
        for part in parts {
            let from = NonNull::from(part).cast::<u8>();
            // SAFETY: the range ends before the slot table; these bytes are not published and this
            // is their only writer.
            unsafe { to.copy_from_nonoverlapping(from, part.len()) };
            // SAFETY: still inside the buffer: all parts together were checked above.
            to = unsafe { to.add(part.len()) };
        }
        // SAFETY: the entry of slot `slots` lies above the records (checked above).
        let entry = unsafe { first.add(words - 1 - self.slots as usize) };
        // SAFETY: as above; the slot is not published, so nobody reads it now.
        unsafe { entry.write(((self.used as u64 / 8) << 32) | u64::from(len32)) };
        let slot = self.slots;
        self.slots += 1;
        self.used = used_after;
        // Pairs with the load in `Segment::slots`: whoever sees the count sees the bytes.
        self.segment.published.store(self.slots, Ordering::Release);
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full segment refuses instead of letting records and slot table meet.
    #[test]
    fn append_refuses_when_records_would_reach_the_slot_table() {
        let mut appender = Appender::new(64, 0);
        assert_eq!(appender.append([b"abcdefgh", b"12345678", b""]), Some(0));
        assert_eq!(appender.append([b"x", b"", b"yz"]), Some(1));
        assert_eq!(appender.append([b"0123456789abcdefg", b"", b""]), None);
        assert_eq!(appender.append([b"0123456789abcdef", b"", b""]), Some(2));
        assert_eq!(appender.append([b"", b"", b""]), None);
        let segment = Arc::clone(appender.segment());
        drop(appender);
        assert_eq!(segment.record(0), Some(&b"abcdefgh12345678"[..]));
        assert_eq!(segment.record(1), Some(&b"xyz"[..]));
        assert_eq!(segment.record(2), Some(&b"0123456789abcdef"[..]));
        assert_eq!(segment.record(3), None);
    }

    /// A record larger than a segment gets its room.
    #[test]
    fn a_segment_is_made_large_enough_for_its_first_record() {
        let large = vec![7u8; 1000];
        let mut appender = Appender::new(64, large.len());
        assert_eq!(appender.append([&large, b"", b""]), Some(0));
        assert_eq!(appender.segment().record(0), Some(&large[..]));
    }

    /// Readers see whole records of a prefix only, while the writer goes on.
    #[test]
    fn readers_see_a_growing_prefix_of_whole_records() {
        let records: u32 = if cfg!(miri) { 50 } else { 20_000 };
        let mut appender = Appender::new(records as usize * 32, 0);
        let segment = Arc::clone(appender.segment());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut seen = 0;
                while seen < records {
                    let now = segment.slots();
                    for slot in seen..now {
                        assert_eq!(
                            segment.record(slot),
                            Some(&slot.to_le_bytes().repeat(3)[..])
                        );
                    }
                    seen = now;
                    std::hint::spin_loop();
                }
            });
            for slot in 0..records {
                let bytes = slot.to_le_bytes();
                assert_eq!(appender.append([&bytes, &bytes, &bytes]), Some(slot));
            }
        });
    }
}
