use std::ops::Range;
use std::sync::Arc;

/// Data that many streams send and that is in memory once.
#[derive(Debug, Clone)]
pub struct Shared {
    bytes: Arc<Vec<u8>>,
    /// What of it is still to be sent.
    range: Range<usize>,
}

impl Shared {
    /// A part of `bytes`.
    ///
    /// # Panics
    /// When it is not in them.
    #[must_use]
    pub fn new(bytes: Arc<Vec<u8>>, range: Range<usize>) -> Shared {
        assert!(range.start <= range.end);
        assert!(range.end <= bytes.len());
        Shared { bytes, range }
    }

    /// Bytes of it.
    #[must_use]
    #[allow(
        clippy::len_without_is_empty,
        reason = "an empty one is nothing special"
    )]
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }

    /// Its next bytes, so many at most.
    pub(super) fn take(&mut self, bytes_max: usize) -> &[u8] {
        let from = self.range.start;
        self.range.start += bytes_max.min(self.range.len());
        &self.bytes[from..self.range.start]
    }
}
