use super::view::Record;

/// What the content of a store adds up to, so that members and runs can be compared for nothing. Sums
/// of record hashes modulo 2^64: independent of pages, files and of when a member gave space back
/// (reliability.md R10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// All records ever written and all compactions: equal on all members at one index.
    pub history: u64,
    /// The records that compaction has not dropped: equal to a recount of what lies in the log.
    pub kept: u64,
}

impl Digests {
    pub(super) fn on_append(&mut self, record: &Record<'_>) {
        let hash = of_record(record);
        self.history = self.history.wrapping_add(hash);
        self.kept = self.kept.wrapping_add(hash);
    }

    pub(super) fn on_compact(&mut self, rev: i64) {
        let hash = fold(fold(COMPACTION) ^ rev.cast_unsigned());
        self.history = self.history.wrapping_add(hash);
    }

    /// `sum` of the hashes of what was dropped.
    pub(super) fn on_drop(&mut self, sum: u64) {
        self.kept = self.kept.wrapping_sub(sum);
    }
}

/// The hash of one record: its bytes by their CRC-32C, then its numbers.
pub(super) fn of_record(record: &Record<'_>) -> u64 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(record.key), record.value);
    let begin = u64::from(crc) | (record.key.len() as u64) << 32;
    [
        record.mod_revision.main,
        record.mod_revision.sub,
        record.create_revision,
        record.version,
        record.lease.0,
    ]
    .into_iter()
    .fold(fold(begin), |hash, number| {
        fold(hash ^ number.cast_unsigned())
    })
}

/// Both halves of a product, as wyhash mixes: each bit of `word` reaches all of the result.
fn fold(word: u64) -> u64 {
    let product = u128::from(word ^ FACTOR.rotate_left(32)) * u128::from(FACTOR);
    (product >> 64) as u64 ^ product as u64
}

/// Odd, without pattern: wyhash's first.
const FACTOR: u64 = 0xa076_1d64_78bd_642f;

/// Not a record's begin: no key is that long.
const COMPACTION: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use crate::mvcc::{Digests, Store, StoreConfig};
    use crate::types::LeaseId;

    fn history(last: &[u8]) -> Store {
        let (mut store, _) = Store::new(StoreConfig {
            segment_bytes: 300,
            ..StoreConfig::default()
        });
        for value in [b"1", b"2", b"3"] {
            store.write().put(b"a", value, LeaseId(0)).unwrap();
            store.write().put(b"b", value, LeaseId(7)).unwrap();
        }
        store.write().delete(b"b").unwrap();
        store.write().put(b"c", last, LeaseId(0)).unwrap();
        store.compact(6).unwrap();
        store
    }

    /// [R10] Members that give space back at different times have one history digest, and one of
    /// what is kept as soon as both have.
    #[test]
    fn digests_do_not_depend_on_when_space_comes_back() {
        let mut eager = history(b"x");
        while eager.poll_space(1).unwrap() {
            eager.publish();
        }
        let mut lazy = history(b"x");
        assert_eq!(eager.digests().history, lazy.digests().history);
        assert_ne!(eager.digests().kept, lazy.digests().kept);
        while lazy.poll_space(1000).unwrap() {
            lazy.publish();
        }
        assert_eq!(eager.digests(), lazy.digests());
        assert_ne!(eager.digests(), Digests::default());
    }

    /// [R10] One bit of one value, and whether there was a compaction, show in the digest.
    #[test]
    fn another_history_has_another_digest() {
        let one = history(b"x");
        let mut other = history(b"y");
        assert_ne!(one.digests().history, other.digests().history);
        other = history(b"x");
        other.compact(7).unwrap();
        assert_ne!(one.digests().history, other.digests().history);
    }
}
