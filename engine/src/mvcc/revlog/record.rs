use super::Position;
use crate::mvcc::Record;
use crate::types::{LeaseId, Revision};

/// What precedes key and value of a record in the log, all numbers little-endian, behind the lengths
/// of the two (`u32` each).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) main: i64,
    pub(crate) sub: u32,
    /// Main revision of the first put of this generation; 0 in a tombstone.
    pub(crate) create: i64,
    /// Puts in this generation, this one included; 0 marks a tombstone.
    pub(crate) version: i64,
    pub(crate) lease: i64,
    pub(crate) chain: Chain,
}

/// How a record leads to the older ones of its key. Targets may have been dropped by compaction;
/// their revisions are kept here so that a reader never has to touch a dropped one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Counts the records of the key from 0, tombstones included; decides where `jump` leads, see
    /// `RevLog::chain_after`.
    pub(crate) ordinal: u32,
    pub(crate) prev: Older,
    /// Never newer than `prev`; equal to it where there is nothing to skip.
    pub(crate) jump: Older,
}

/// An older record of the same key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Older {
    /// Its main revision; 0 when there is no such record (the first possible revision is 1).
    pub(crate) main: i64,
    pub(crate) at: Position,
}

/// A record in the log's memory; fields are decoded when asked for.
#[derive(Clone, Copy)]
pub(crate) struct Stored<'a> {
    head: &'a [u8; HEAD_BYTES],
    bytes: &'a [u8],
}

impl Head {
    /// The bytes before key and value.
    pub(crate) fn encode(&self, key_len: usize, value_len: usize) -> [u8; HEAD_BYTES] {
        let mut out = [0; HEAD_BYTES];
        let chain = &self.chain;
        let key_len = u32::try_from(key_len).expect("a request is shorter than 4 GiB");
        let value_len = u32::try_from(value_len).expect("a request is shorter than 4 GiB");
        out[..4].copy_from_slice(&key_len.to_le_bytes());
        out[4..8].copy_from_slice(&value_len.to_le_bytes());
        let (prev, jump) = (chain.prev, chain.jump);
        let longs = [
            self.main,
            self.create,
            self.version,
            self.lease,
            prev.main,
            jump.main,
        ];
        for (to, from) in out[8..].chunks_exact_mut(8).zip(longs) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        let (prev, jump) = (prev.at, jump.at);
        let words = [
            prev.segment,
            prev.word,
            jump.segment,
            jump.word,
            self.sub,
            chain.ordinal,
        ];
        for (to, from) in out[56..].chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        out
    }
}

impl<'a> Stored<'a> {
    /// `bytes` is what `RevLog::append` wrote.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let head = bytes
            .first_chunk()
            .expect("a record in the log begins with its head");
        Self { head, bytes }
    }

    fn long(self, at: usize) -> i64 {
        long(self.head, at)
    }

    fn word(self, at: usize) -> u32 {
        word(self.head, at)
    }

    pub(crate) fn main(self) -> i64 {
        self.long(8)
    }

    pub(crate) fn sub(self) -> u32 {
        self.word(72)
    }

    pub(crate) fn create(self) -> i64 {
        self.long(16)
    }

    pub(crate) fn version(self) -> i64 {
        self.long(24)
    }

    pub(crate) fn lease(self) -> i64 {
        self.long(32)
    }

    /// Whether it deletes its key. The empty key, which no client can name, has one record of version
    /// 0 that does not: the mark that etcd's restore leaves where it raises the revision.
    pub(crate) fn is_tombstone(self) -> bool {
        self.version() == 0 && self.word(0) != 0
    }

    pub(crate) fn chain(self) -> Chain {
        Chain {
            ordinal: self.word(76),
            prev: self.prev(),
            jump: self.jump(),
        }
    }

    pub(crate) fn prev(self) -> Older {
        Older {
            main: self.long(40),
            at: Position {
                segment: self.word(56),
                word: self.word(60),
            },
        }
    }

    pub(crate) fn jump(self) -> Older {
        Older {
            main: self.long(48),
            at: Position {
                segment: self.word(64),
                word: self.word(68),
            },
        }
    }

    pub(crate) fn key(self) -> &'a [u8] {
        &self.bytes[HEAD_BYTES..][..self.word(0) as usize]
    }

    pub(crate) fn value(self) -> &'a [u8] {
        let value_at = HEAD_BYTES + self.word(0) as usize;
        &self.bytes[value_at..][..self.value_len() as usize]
    }

    pub(crate) fn value_len(self) -> u32 {
        self.word(4)
    }

    /// The record as it lies in the log, padding included.
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// As long as it lies in the log, padding included.
    pub(crate) fn len(self) -> usize {
        self.bytes.len()
    }

    /// The record as clients know it.
    pub(crate) fn record(self) -> Record<'a> {
        Record {
            key: self.key(),
            value: self.value(),
            create_revision: self.create(),
            mod_revision: Revision::new(self.main(), i64::from(self.sub())),
            version: self.version(),
            lease: LeaseId(self.lease()),
        }
    }
}

/// The length of a record that begins with these bytes, without padding.
pub(crate) fn record_len(begin: [u8; 8]) -> usize {
    let [k0, k1, k2, k3, v0, v1, v2, v3] = begin;
    let key_len = u32::from_le_bytes([k0, k1, k2, k3]) as usize;
    let value_len = u32::from_le_bytes([v0, v1, v2, v3]) as usize;
    HEAD_BYTES + key_len + value_len
}

/// The little-endian number at byte `at`, which is there with its seven followers.
pub(crate) fn long(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// As `long`, of four bytes.
pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Whether a record at main revision `main` can have this create revision and version: both are 0 in a tombstone and above 0
/// otherwise.
pub(crate) fn is_numbered(main: i64, create: i64, version: i64) -> bool {
    main >= 1 && version >= 0 && (0..=main).contains(&create) && (version == 0) == (create == 0)
}

/// How many 8-byte words `bytes` take.
pub(crate) fn words_of(bytes: usize) -> usize {
    bytes.div_ceil(8)
}

/// Two lengths, six `i64`, then six `u32`.
pub(crate) const HEAD_BYTES: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field comes back as it was written, at the extremes too.
    #[test]
    fn a_record_decodes_to_what_was_encoded() {
        let head = Head {
            main: i64::MAX,
            sub: u32::MAX,
            create: 7,
            version: 3,
            lease: -1,
            chain: Chain {
                ordinal: 9,
                prev: Older {
                    main: 5,
                    at: Position {
                        segment: 1,
                        word: u32::MAX,
                    },
                },
                jump: Older {
                    main: 4,
                    at: Position {
                        segment: u32::MAX,
                        word: 2,
                    },
                },
            },
        };
        let mut bytes = head.encode(3, 5).to_vec();
        bytes.extend_from_slice(b"keyvalue");
        let stored = Stored::new(&bytes);
        assert_eq!(stored.chain(), head.chain);
        assert_eq!(stored.key(), b"key");
        assert_eq!(stored.value(), b"value");
        let record = stored.record();
        assert_eq!(
            record.mod_revision,
            Revision::new(i64::MAX, i64::from(u32::MAX))
        );
        assert_eq!(
            (record.create_revision, record.version, record.lease),
            (7, 3, LeaseId(-1))
        );
    }
}
