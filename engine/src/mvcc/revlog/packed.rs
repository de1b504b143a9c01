use std::sync::Arc;

/// A sealed segment rewritten without its dropped records. Slots keep their numbers, so positions
/// stay valid.
pub(crate) struct Packed {
    bytes: Box<[u8]>,
    /// One a kept record, in slot order.
    kept: Box<[Kept]>,
    slots: SlotSet,
}

/// Where a kept record begins; it ends where the next one begins.
#[derive(Clone, Copy)]
struct Kept {
    slot: u32,
    offset: u32,
}

/// A set of slots that knows how many members lie below a slot.
#[derive(Default)]
struct SlotSet {
    /// 64 slots each: which of them are kept, and how many are kept in all words before.
    words: Box<[(u64, u32)]>,
}

/// Slots of one segment that hold no readable record any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    words: Vec<u64>,
}

/// Collects what a rewrite keeps.
pub(crate) struct Packer {
    bytes: Vec<u8>,
    kept: Vec<Kept>,
}

impl Packed {
    /// The record in `slot`, unless it was dropped.
    pub(crate) fn record(&self, slot: u32) -> Option<&[u8]> {
        self.at(self.slots.rank(slot)?)
    }

    /// How many records are left.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The `index`-th kept record.
    pub(crate) fn at(&self, index: usize) -> Option<&[u8]> {
        let start = self.kept.get(index)?.offset as usize;
        let end = self
            .kept
            .get(index + 1)
            .map_or(self.bytes.len(), |next| next.offset as usize);
        Some(&self.bytes[start..end])
    }

    /// The slot of the `index`-th kept record.
    pub(crate) fn slot(&self, index: usize) -> Option<u32> {
        Some(self.kept.get(index)?.slot)
    }

    /// The first kept record in `slot` or after it, by index.
    pub(crate) fn index_from(&self, slot: u32) -> usize {
        self.kept.partition_point(|kept| kept.slot < slot)
    }
}

impl SlotSet {
    fn new(kept: &[Kept]) -> Self {
        let words = kept.last().map_or(0, |last| last.slot as usize / 64 + 1);
        let mut words = vec![(0u64, 0u32); words].into_boxed_slice();
        for kept in kept {
            words[kept.slot as usize / 64].0 |= 1 << (kept.slot % 64);
        }
        let mut before = 0;
        for (bits, rank) in &mut words {
            *rank = before;
            before += bits.count_ones();
        }
        Self { words }
    }

    /// How many members lie below `slot`, if it is a member itself.
    fn rank(&self, slot: u32) -> Option<usize> {
        let (bits, before) = *self.words.get(slot as usize / 64)?;
        let bit = 1u64 << (slot % 64);
        (bits & bit != 0).then(|| before as usize + (bits & (bit - 1)).count_ones() as usize)
    }
}

impl Slots {
    /// Adds `slot`; false if it was a member already.
    pub(crate) fn insert(&mut self, slot: u32) -> bool {
        let word = slot as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let bit = 1u64 << (slot % 64);
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        is_new
    }

    pub(crate) fn contains(&self, slot: u32) -> bool {
        let word = self.words.get(slot as usize / 64).copied().unwrap_or(0);
        word & (1 << (slot % 64)) != 0
    }

    /// The first member at or after `slot`.
    pub(crate) fn next(&self, slot: u32) -> Option<u32> {
        let first = slot as usize / 64;
        let mut mask = u64::MAX << (slot % 64);
        for (index, word) in self.words.iter().enumerate().skip(first) {
            let bits = word & mask;
            if bits != 0 {
                return u32::try_from(index * 64 + bits.trailing_zeros() as usize).ok();
            }
            mask = u64::MAX;
        }
        None
    }

    /// Adds all members of `other`.
    pub(crate) fn union(&mut self, other: &Slots) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (to, from) in self.words.iter_mut().zip(&other.words) {
            *to |= from;
        }
    }
}

impl Packer {
    /// Room for `bytes` of records.
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            kept: Vec::new(),
        }
    }

    /// Keeps `record`; slots come in ascending order.
    pub(crate) fn push(&mut self, slot: u32, record: &[u8]) {
        assert!(self.kept.last().is_none_or(|last| last.slot < slot));
        let offset = u32::try_from(self.bytes.len())
            .expect("a rewritten segment is smaller than half a full one");
        self.kept.push(Kept { slot, offset });
        self.bytes.extend_from_slice(record);
    }

    /// Bytes kept so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// `None` when nothing was kept.
    pub(crate) fn finish(self) -> Option<Arc<Packed>> {
        let slots = SlotSet::new(&self.kept);
        let packed = Packed {
            bytes: self.bytes.into_boxed_slice(),
            kept: self.kept.into_boxed_slice(),
            slots,
        };
        (packed.len() > 0).then(|| Arc::new(packed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A position taken before a rewrite finds the same record after it, and a dropped one finds
    /// nothing.
    #[test]
    fn kept_records_keep_their_slots_and_dropped_ones_are_absent() {
        let mut packer = Packer::new(0);
        let kept = [3u32, 63, 64, 65, 200];
        for slot in kept {
            packer.push(slot, &slot.to_le_bytes());
        }
        let packed = packer.finish().unwrap();
        for slot in 0..300u32 {
            let expected = kept.contains(&slot).then(|| slot.to_le_bytes());
            assert_eq!(
                packed.record(slot),
                expected.as_ref().map(|bytes| &bytes[..])
            );
        }
        assert_eq!(packed.index_from(64), 2);
        assert_eq!(packed.slot(4), Some(200));
        assert!(Packer::new(0).finish().is_none());
    }

    /// The sweep walks members in ascending order across word borders.
    #[test]
    fn slots_are_found_in_order() {
        let mut slots = Slots::default();
        for slot in [0, 1, 63, 64, 500] {
            assert!(slots.insert(slot));
            assert!(!slots.insert(slot));
        }
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(slot) = slots.next(from) {
            found.push(slot);
            from = slot + 1;
        }
        assert_eq!(found, [0, 1, 63, 64, 500]);
    }
}
