use super::keys::{Keys, Span, common_prefix, head, search};
use crate::limits::{LEAF_KEYS_MAX, NODE_KEY_BYTES_MAX};
use crate::mvcc::revlog::Position;

/// What the index knows of a key: its newest record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) main: i64,
    /// 0 if the newest record is a tombstone.
    pub(crate) create: i64,
    /// 0 if the newest record is a tombstone.
    pub(crate) version: i64,
    pub(crate) lease: i64,
    pub(crate) at: Position,
    pub(crate) sub: u32,
    pub(crate) value_len: u32,
}

/// Keys in order with their entries.
pub(crate) struct Leaf {
    pub(super) keys: Keys,
    len: usize,
    heads: [u64; LEAF_KEYS_MAX],
    slots: [Slot; LEAF_KEYS_MAX],
}

#[derive(Clone, Copy, Default)]
struct Slot {
    key: Span,
    entry: Entry,
}

impl Entry {
    pub(crate) fn is_live(&self) -> bool {
        self.version != 0
    }

    /// The main revision of the newest create or delete of this key.
    pub(crate) fn changed(&self) -> i64 {
        if self.is_live() {
            self.create
        } else {
            self.main
        }
    }
}

impl Leaf {
    pub(super) fn new() -> Self {
        Self {
            keys: Keys::new(),
            len: 0,
            heads: [0; LEAF_KEYS_MAX],
            slots: [Slot::default(); LEAF_KEYS_MAX],
        }
    }

    /// Ascending keys that lie one behind the other in `keys`, at most `LEAF_KEYS_MAX`.
    pub(crate) fn of_sorted(keys: &[u8], entries: &[(Span, Entry)]) -> Self {
        let mut leaf = Self::new();
        leaf.keys = Keys::of(keys);
        leaf.len = entries.len();
        for (slot, (key, entry)) in leaf.slots[..entries.len()].iter_mut().zip(entries) {
            (slot.key, slot.entry) = (*key, *entry);
        }
        leaf.fit_prefix();
        leaf
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn key(&self, index: usize) -> &[u8] {
        self.keys.get(self.slots[..self.len][index].key)
    }

    pub(crate) fn entry(&self, index: usize) -> &Entry {
        &self.slots[..self.len][index].entry
    }

    pub(super) fn entry_mut(&mut self, index: usize) -> &mut Entry {
        &mut self.slots[..self.len][index].entry
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.slots[..self.len].iter().map(|slot| &slot.entry)
    }

    /// The first index whose key is not below `key`, and whether it is equal to it.
    pub(crate) fn search(&self, key: &[u8]) -> (usize, bool) {
        search(&self.heads[..self.len], &self.keys, key, |index| {
            self.slots[index].key
        })
    }

    /// Whether `key_len` more bytes of key make this leaf too large.
    pub(super) fn is_full_for(&self, key_len: usize) -> bool {
        self.len == LEAF_KEYS_MAX
            || (self.len > 0 && self.keys.len() + key_len > NODE_KEY_BYTES_MAX)
    }

    /// Puts a key that is not here yet at `index`, where `search` said.
    pub(super) fn insert(&mut self, index: usize, key: &[u8], entry: Entry) {
        assert!(self.len < LEAF_KEYS_MAX);
        assert!(index <= self.len);
        if self.keys.is_sparse() {
            self.keys
                .rebuild(self.slots[..self.len].iter_mut().map(|slot| &mut slot.key));
        }
        let prefix = self.keys.prefix();
        let shared = if self.len == 0 {
            key.len()
        } else {
            common_prefix(self.prefix(), key)
        };
        let span = self.keys.add(key);
        self.slots.copy_within(index..self.len, index + 1);
        self.heads.copy_within(index..self.len, index + 1);
        self.slots[index] = Slot { key: span, entry };
        self.len += 1;
        if self.len == 1 || shared < prefix {
            self.set_prefix(shared);
        } else {
            self.heads[index] = head(&key[prefix..]);
        }
    }

    pub(super) fn remove(&mut self, index: usize) {
        assert!(index < self.len);
        self.keys.discard(self.slots[index].key);
        self.slots.copy_within(index + 1..self.len, index);
        self.heads.copy_within(index + 1..self.len, index);
        self.len -= 1;
        if self.keys.is_sparse() {
            self.keys
                .rebuild(self.slots[..self.len].iter_mut().map(|slot| &mut slot.key));
        }
    }

    /// Cuts the leaf before `at`: returns what stood there and behind.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let mut right = Self::new();
        for index in at..self.len {
            right.push(self.key(index), *self.entry(index));
        }
        for slot in &self.slots[at..self.len] {
            self.keys.discard(slot.key);
        }
        self.len = at;
        self.keys
            .rebuild(self.slots[..at].iter_mut().map(|slot| &mut slot.key));
        self.fit_prefix();
        right.fit_prefix();
        right
    }

    /// Takes over all of `right`, whose keys are greater.
    pub(super) fn append(&mut self, right: &Self) {
        for index in 0..right.len {
            self.push(right.key(index), *right.entry(index));
        }
        self.fit_prefix();
    }

    /// Where to cut so that both halves have about as many bytes of key.
    pub(super) fn middle(&self) -> usize {
        if self.keys.len() <= NODE_KEY_BYTES_MAX / 2 {
            return self.len / 2;
        }
        let mut bytes = 0;
        for index in 0..self.len {
            bytes += self.key(index).len();
            if bytes * 2 >= self.keys.len() {
                return (index + 1).min(self.len - 1);
            }
        }
        self.len / 2
    }

    /// Adds a key behind all others; heads are set by the `fit_prefix` that follows.
    fn push(&mut self, key: &[u8], entry: Entry) {
        let span = self.keys.add(key);
        self.slots[self.len] = Slot { key: span, entry };
        self.len += 1;
    }

    fn prefix(&self) -> &[u8] {
        match self.slots[..self.len].first() {
            Some(slot) => &self.keys.get(slot.key)[..self.keys.prefix()],
            None => &[],
        }
    }

    fn fit_prefix(&mut self) {
        if self.len > 0 {
            self.set_prefix(common_prefix(self.key(0), self.key(self.len - 1)));
        }
    }

    fn set_prefix(&mut self, prefix: usize) {
        self.keys.set_prefix(self.slots[0].key, prefix);
        for index in 0..self.len {
            self.heads[index] = head(&self.keys.get(self.slots[index].key)[prefix..]);
        }
    }
}
