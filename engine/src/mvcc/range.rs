use super::revlog::Position;
use crate::limits::{READ_SLICE_BYTES, READ_SLICE_RECORDS};

/// The keys a request speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRange<'k> {
    /// This key.
    Single(&'k [u8]),
    /// Keys from `start` on, below `end`. Empty unless `start < end`.
    Range {
        /// The first key.
        start: &'k [u8],
        /// The first key that is not meant.
        end: &'k [u8],
    },
    /// This key and all greater ones.
    From(&'k [u8]),
    /// Every key.
    All,
}

/// Whether values are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Whole records.
    Values,
    /// Records without value, from the index alone as far as they are the newest of their key.
    Keys,
}

/// How much one call of a sliced job may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceBound {
    /// Index entries that are examined, deleted keys included.
    pub records: usize,
    /// Bytes of keys and values that are handed out; passed by the last record at most.
    pub bytes: usize,
}

/// How a sliced walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visited {
    /// The range is exhausted.
    End,
    /// The visitor broke off; a resumed walk begins behind the record it broke at.
    Stopped,
    /// The slice is used up; call again with the same `Resume`.
    More,
}

/// Where a sliced walk goes on. The same value must be used with one range and one direction only.
#[derive(Clone, Debug, Default)]
pub struct Resume {
    /// Ascending: the first key not yet seen. Descending: all keys from here on are done.
    pub(super) key: Vec<u8>,
    pub(super) is_set: bool,
    /// The record of the next key that must be read first: what comes before it in the key's chain is
    /// known to be too new.
    pub(super) chain: Option<Position>,
}

/// A count that goes on where it stopped. The same value must be used with one range and one
/// revision only.
#[derive(Clone, Debug, Default)]
pub struct Counting {
    pub(super) resume: Resume,
    /// Live keys before the place at which it goes on.
    pub(super) total: u64,
}

impl<'k> KeyRange<'k> {
    /// Reads etcd's convention: no `range_end` is one key, one zero byte is "from key", both one
    /// zero byte is everything.
    #[must_use]
    pub fn new(key: &'k [u8], range_end: &'k [u8]) -> Self {
        match (key, range_end) {
            (_, []) => Self::Single(key),
            ([] | [0], [0]) => Self::All,
            (_, [0]) => Self::From(key),
            _ => Self::Range {
                start: key,
                end: range_end,
            },
        }
    }

    /// Whether `key` is meant.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match *self {
            Self::Single(single) => key == single,
            Self::Range { start, end } => start <= key && key < end,
            Self::From(start) => start <= key,
            Self::All => true,
        }
    }

    /// First key, and first key behind; `None` is no bound. For `Single` the end is left to the
    /// caller.
    pub(super) fn bounds(&self) -> (Option<&'k [u8]>, Option<&'k [u8]>) {
        match *self {
            Self::Single(key) => (Some(key), None),
            Self::Range { start, end } => (Some(start), Some(end)),
            Self::From(start) => (Some(start), None),
            Self::All => (None, None),
        }
    }
}

impl SliceBound {
    /// No bound: for walks that the caller bounds itself.
    pub const NONE: Self = Self {
        records: usize::MAX,
        bytes: usize::MAX,
    };
    /// What a reader does under one pin: about 50 us.
    pub const SLICE: Self = Self {
        records: READ_SLICE_RECORDS,
        bytes: READ_SLICE_BYTES,
    };
}

impl Resume {
    /// Goes on at `key`; descending walks exclude it.
    pub(super) fn set(&mut self, key: &[u8]) {
        self.key.clear();
        self.key.extend_from_slice(key);
        self.is_set = true;
        self.chain = None;
    }

    /// Goes on behind `key` in ascending, with it in descending walks.
    pub(super) fn set_after(&mut self, key: &[u8]) {
        self.set(key);
        self.key.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [K3] The four forms of key and range_end.
    #[test]
    fn key_and_range_end_are_read_as_etcd_reads_them() {
        assert_eq!(KeyRange::new(b"a", b""), KeyRange::Single(b"a"));
        assert_eq!(KeyRange::new(b"a", b"\0"), KeyRange::From(b"a"));
        assert_eq!(KeyRange::new(b"\0", b"\0"), KeyRange::All);
        assert_eq!(
            KeyRange::new(b"a", b"b"),
            KeyRange::Range {
                start: b"a",
                end: b"b"
            }
        );
        assert!(!KeyRange::new(b"b", b"a").contains(b"b"));
        assert!(KeyRange::new(b"a", b"\0").contains(b"b"));
    }
}
