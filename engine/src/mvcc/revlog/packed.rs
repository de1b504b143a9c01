use std::sync::Arc;

use super::record::words_of;

/// A sealed segment rewritten without its dropped records, which are found by where they lay
/// before, so that positions stay valid.
pub(crate) struct Packed {
    bytes: Box<[u8]>,
    /// One a kept record, in the old order.
    kept: Box<[Kept]>,
    /// For each stretch of `1 << stretch` old words: the first kept record at or behind its begin.
    first_of: Box<[u32]>,
    stretch: u32,
}

/// Where a kept record lay and where it begins now, in words; it ends where the next one begins.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    pub(super) old: u32,
    pub(super) new: u32,
}

/// A set of records of one segment, by the words at which they begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WordSet {
    bits: Vec<u64>,
}

/// Collects what a rewrite keeps.
pub(crate) struct Packer {
    bytes: Vec<u8>,
    kept: Vec<Kept>,
}

impl Packed {
    /// `bytes` are the kept records, which begin where `kept` says, in ascending order; they come back
    /// if it is empty.
    pub(super) fn new(bytes: Vec<u8>, kept: Vec<Kept>) -> Result<Arc<Self>, Vec<u8>> {
        let Some(last) = kept.last() else {
            return Err(bytes);
        };
        let words = last.old + 1;
        // About eight records a stretch: its entry and their places are two cache lines.
        let stretches = (kept.len() / 8).max(1);
        let stretch = (words as usize)
            .div_ceil(stretches)
            .next_power_of_two()
            .ilog2();
        let begins = (0..=(words - 1) >> stretch).map(|index| index << stretch);
        let first_of = begins.map(|begin| {
            let index = kept.partition_point(|kept| kept.old < begin);
            u32::try_from(index).expect("not more records than words")
        });
        let first_of = first_of.collect();
        let (bytes, kept) = (bytes.into_boxed_slice(), kept.into_boxed_slice());
        Ok(Arc::new(Self {
            bytes,
            kept,
            first_of,
            stretch,
        }))
    }

    /// The record that lay at `word`, unless it was dropped.
    pub(crate) fn record(&self, word: u32) -> Option<&[u8]> {
        let first = *self.first_of.get((word >> self.stretch) as usize)? as usize;
        let behind = self.kept[first..]
            .iter()
            .position(|kept| kept.old >= word)?;
        let index = first + behind;
        (self.kept[index].old == word).then(|| self.bytes_at(index))
    }

    /// The first kept record that lay at `word` or behind, and where.
    pub(crate) fn next_from(&self, word: u32) -> Option<(u32, &[u8])> {
        let index = self.kept.partition_point(|kept| kept.old < word);
        let kept = self.kept.get(index)?;
        Some((kept.old, self.bytes_at(index)))
    }

    /// The `index`-th kept record, padding included.
    fn bytes_at(&self, index: usize) -> &[u8] {
        let start = self.kept[index].new as usize * 8;
        let end = self
            .kept
            .get(index + 1)
            .map_or(self.bytes.len(), |next| next.new as usize * 8);
        &self.bytes[start..end]
    }
}

impl WordSet {
    /// Adds `word`; false if it was a member already.
    pub(crate) fn insert(&mut self, word: u32) -> bool {
        let index = word as usize / 64;
        if index >= self.bits.len() {
            self.bits.resize(index + 1, 0);
        }
        let bit = 1u64 << (word % 64);
        let is_new = self.bits[index] & bit == 0;
        self.bits[index] |= bit;
        is_new
    }

    pub(crate) fn contains(&self, word: u32) -> bool {
        let bits = self.bits.get(word as usize / 64).copied().unwrap_or(0);
        bits & (1 << (word % 64)) != 0
    }

    /// The first member at or after `word`.
    pub(crate) fn next(&self, word: u32) -> Option<u32> {
        let first = word as usize / 64;
        let mut mask = u64::MAX << (word % 64);
        for (index, bits) in self.bits.iter().enumerate().skip(first) {
            let bits = bits & mask;
            if bits != 0 {
                return u32::try_from(index * 64 + bits.trailing_zeros() as usize).ok();
            }
            mask = u64::MAX;
        }
        None
    }

    /// Adds all members of `other`.
    pub(crate) fn union(&mut self, other: &WordSet) {
        if self.bits.len() < other.bits.len() {
            self.bits.resize(other.bits.len(), 0);
        }
        for (to, from) in self.bits.iter_mut().zip(&other.bits) {
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

    /// Keeps `record`, which lay at `word`; words come in ascending order.
    pub(crate) fn push(&mut self, word: u32, record: &[u8]) {
        assert!(self.kept.last().is_none_or(|last| last.old < word));
        let new = u32::try_from(self.bytes.len() / 8).expect("not more than there was");
        self.kept.push(Kept { old: word, new });
        self.bytes.extend_from_slice(record);
        self.bytes
            .resize((new as usize + words_of(record.len())) * 8, 0);
    }

    /// Bytes kept so far, padding included.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// `None` when nothing was kept.
    pub(crate) fn finish(self) -> Option<Arc<Packed>> {
        Packed::new(self.bytes, self.kept).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A position taken before a rewrite finds the same record after it, and a dropped one finds
    /// nothing.
    #[test]
    fn kept_records_are_found_where_they_lay_and_dropped_ones_are_absent() {
        let every_third: Vec<u32> = (0..300).map(|index| index * 3).collect();
        for kept in [&[3u32, 63, 64, 65, 2000][..], &[0], &every_third] {
            let mut packer = Packer::new(0);
            for word in kept {
                packer.push(*word, &u64::from(*word).to_le_bytes());
            }
            let packed = packer.finish().unwrap();
            for word in 0..2100u32 {
                let expected = kept.contains(&word).then(|| u64::from(word).to_le_bytes());
                assert_eq!(
                    packed.record(word),
                    expected.as_ref().map(|bytes| &bytes[..])
                );
                let next = kept.iter().copied().find(|kept| *kept >= word);
                assert_eq!(packed.next_from(word).map(|(found, _)| found), next);
            }
        }
        assert!(Packer::new(0).finish().is_none());
    }

    /// The sweep walks members in ascending order across the borders of the bit words.
    #[test]
    fn members_are_found_in_order() {
        let mut set = WordSet::default();
        for word in [0, 1, 63, 64, 500] {
            assert!(set.insert(word));
            assert!(!set.insert(word));
        }
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(word) = set.next(from) {
            found.push(word);
            from = word + 1;
        }
        assert_eq!(found, [0, 1, 63, 64, 500]);
    }
}
