//! One fixed buffer that grows at its end while others read what is already there.
//!
//! Layout: record after record, each on an 8-byte boundary and named by the word at which it
//! begins. `published` counts the words that readers may touch; they never change again.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::record::{record_len, words_of};

/// The shared half: whoever holds it reads the published records.
pub(crate) struct Segment {
    /// Owned; from `Box<[u64]>`, freed in `drop`.
    words: NonNull<[u64]>,
    /// Words below it are written for ever; the one `Appender` writes only beyond them.
    published: AtomicU32,
}

/// The only writer of its segment: not `Clone`, made together with the segment.
pub(crate) struct Appender {
    segment: Arc<Segment>,
    /// Equals the segment's `published`.
    used: u32,
}

// SAFETY: published words are immutable, the others are touched by the one `Appender` only.
unsafe impl Send for Segment {}
// SAFETY: as for `Send`; the count is atomic.
unsafe impl Sync for Segment {}

impl Segment {
    /// The record that begins at `word`, padding included; `None` if nothing published lies there.
    /// A word at which no record begins gives bytes without meaning, or nothing.
    pub(crate) fn record(&self, word: u32) -> Option<&[u8]> {
        // Pairs with the store in `Appender::append`.
        let published = self.published.load(Ordering::Acquire);
        if word >= published {
            return None;
        }
        // SAFETY: `word` is below `published`, which is not beyond the buffer.
        let start = unsafe { self.words.cast::<u64>().add(word as usize) };
        // SAFETY: inside the buffer, and from `vec![0; _]`, so initialised; published, so not
        // written any more.
        let lens = unsafe { start.read() };
        let words = words_of(record_len(lens.to_le_bytes()));
        if words > (published - word) as usize {
            return None;
        }
        // SAFETY: all these words are published (just checked): initialised, never written again,
        // and alive as long as `self`.
        Some(unsafe { std::slice::from_raw_parts(start.cast::<u8>().as_ptr(), words * 8) })
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a box in `Appender::new` and is freed only here.
        drop(unsafe { Box::from_raw(self.words.as_ptr()) });
    }
}

impl Appender {
    /// A fresh segment of `bytes`, or of as many as one record of `record_bytes` needs.
    /// The memory is zero pages of the system until it is written.
    pub(crate) fn new(bytes: usize, record_bytes: usize) -> Self {
        let boxed = vec![0u64; words_of(bytes.max(record_bytes))].into_boxed_slice();
        let words = NonNull::from(Box::leak(boxed));
        let segment = Arc::new(Segment {
            words,
            published: AtomicU32::new(0),
        });
        Self { segment, used: 0 }
    }

    /// The readers' half.
    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Bytes of records so far, padding included.
    pub(crate) fn used(&self) -> u64 {
        u64::from(self.used) * 8
    }

    /// Adds one record made of `parts` in order, and returns the word at which it begins, or `None`
    /// when there is no room for it.
    pub(crate) fn append(&mut self, parts: [&[u8]; 3]) -> Option<u32> {
        let len = parts.iter().map(|part| part.len()).sum();
        let begin = self.used;
        let end = begin as usize + words_of(len);
        if end > self.segment.words.len() {
            return None;
        }
        let first = self.segment.words.cast::<u64>();
        // SAFETY: `begin` is at most `end`, which is inside the buffer or just behind it.
        let mut to = unsafe { first.add(begin as usize) }.cast::<u8>();
        for part in parts {
            let from = NonNull::from(part).cast::<u8>();
            // SAFETY: the bytes lie below `end` and are not published; this is their only writer.
            unsafe { to.copy_from_nonoverlapping(from, part.len()) };
            // SAFETY: still at or below `end`: all parts together were measured above.
            to = unsafe { to.add(part.len()) };
        }
        self.used = u32::try_from(end).expect("a record has less than 32 GiB");
        // Pairs with the load in `Segment::record`: whoever sees the count sees the bytes.
        self.segment.published.store(self.used, Ordering::Release);
        Some(begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::revlog::record::HEAD_BYTES;

    /// A head that says how long key and value are, and nothing else.
    fn head(key: &[u8], value: &[u8]) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&u32::try_from(key.len()).unwrap().to_le_bytes());
        head[4..8].copy_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
        head
    }

    fn append(appender: &mut Appender, key: &[u8], value: &[u8]) -> Option<u32> {
        appender.append([&head(key, value), key, value])
    }

    /// A full segment refuses; the last record may end where the buffer does.
    #[test]
    fn append_refuses_what_does_not_fit() {
        let mut appender = Appender::new(2 * HEAD_BYTES + 24, 0);
        assert_eq!(append(&mut appender, b"abcdefgh", b"12345678"), Some(0));
        assert_eq!(append(&mut appender, b"abcdefgh", b"1"), None);
        let second = append(&mut appender, b"abc", b"12345").unwrap();
        assert_eq!(append(&mut appender, b"", b""), None);
        let segment = Arc::clone(appender.segment());
        drop(appender);
        assert_eq!(
            &segment.record(0).unwrap()[HEAD_BYTES..],
            b"abcdefgh12345678"
        );
        assert_eq!(&segment.record(second).unwrap()[HEAD_BYTES..], b"abc12345");
        assert_eq!(segment.record(second + 11), None);
    }

    /// A word at which no record begins is harmless: it never leads outside the published words.
    #[test]
    fn any_word_can_be_asked_for() {
        let mut appender = Appender::new(1 << 12, 0);
        while append(&mut appender, &[0xff; 9], &[0xff; 30]).is_some() {}
        for word in 0..1 << 9 {
            let found = appender.segment().record(word).map_or(0, <[u8]>::len);
            assert!(word as usize * 8 + found <= 1 << 12);
        }
    }

    /// A record larger than a segment gets its room.
    #[test]
    fn a_segment_is_made_large_enough_for_its_first_record() {
        let large = vec![7u8; 1000];
        let mut appender = Appender::new(64, HEAD_BYTES + large.len());
        assert_eq!(append(&mut appender, b"", &large), Some(0));
        assert_eq!(
            &appender.segment().record(0).unwrap()[HEAD_BYTES..],
            &large[..]
        );
    }

    /// Readers see whole records of a prefix only, while the writer goes on.
    #[test]
    fn readers_see_a_growing_prefix_of_whole_records() {
        let records: u64 = if cfg!(miri) { 50 } else { 20_000 };
        let mut appender = Appender::new(records as usize * (HEAD_BYTES + 24), 0);
        let segment = Arc::clone(appender.segment());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut seen, mut word) = (0u64, 0);
                while seen < records {
                    while let Some(record) = segment.record(word) {
                        assert_eq!(record[HEAD_BYTES..], *seen.to_le_bytes().repeat(3));
                        seen += 1;
                        word += u32::try_from(words_of(record.len())).unwrap();
                    }
                    std::hint::spin_loop();
                }
            });
            for record in 0..records {
                let bytes = record.to_le_bytes();
                assert!(append(&mut appender, &bytes, &bytes.repeat(2)).is_some());
            }
        });
    }
}
