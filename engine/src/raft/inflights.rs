//! Messages with entries that a follower has not acknowledged.

use std::collections::VecDeque;

use crate::limits::{APPEND_WINDOW_BYTES, APPEND_WINDOW_MESSAGES};
use crate::types::Index;

/// The window of one follower: bounded by bytes and by messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Inflights {
    /// The last entry of each message and its bytes, ascending.
    appends: VecDeque<(Index, usize)>,
    bytes: usize,
}

impl Inflights {
    /// Whether nothing more may be sent. One message of any size always fits into an empty window.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= APPEND_WINDOW_BYTES || self.appends.len() >= APPEND_WINDOW_MESSAGES
    }

    /// Whether everything is acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.appends.is_empty()
    }

    /// A message was sent.
    pub(super) fn push(&mut self, last: Index, bytes: usize) {
        self.appends.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// Everything up to `index` arrived.
    pub(super) fn free_to(&mut self, index: Index) {
        while let Some((_, bytes)) = self.appends.pop_front_if(|(last, _)| *last <= index) {
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A follower that does not answer costs a bounded amount of memory on the way to it.
    #[test]
    fn the_window_is_bounded_by_bytes_and_by_messages() {
        let mut window = Inflights::default();
        window.push(Index(1), APPEND_WINDOW_BYTES);
        assert!(window.is_full());
        window.free_to(Index(1));
        assert!(window.is_empty());
        for index in 0..APPEND_WINDOW_MESSAGES as u64 {
            assert!(!window.is_full());
            window.push(Index(index), 1);
        }
        assert!(window.is_full());
        window.free_to(Index(0));
        assert!(!window.is_full());
    }
}
