//! Requests made once and sent often: between two of a kind only key numbers and a revision differ.

use basalt_pb::hot;

use super::keys::Keys;

/// An encoded request with the places that are written over for each use.
pub(crate) struct Template {
    bytes: Vec<u8>,
    holes: Vec<Hole>,
}

#[derive(Clone, Copy, Debug)]
struct Hole {
    at: usize,
    /// Added to the number of the key that the request is about.
    ahead: u32,
    kind: HoleKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HoleKind {
    /// A key of the workload: numbers begin anew after the last.
    Key,
    /// The end of a range: at most the number behind the last, which is none of the workload's.
    End,
    /// The first bytes of a value, which are the number of its key.
    Marker,
}

/// Encodes a request around marks, which a template then finds.
pub(crate) struct Builder<'a> {
    pub out: Vec<u8>,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

impl Template {
    /// `encode` writes the request, with `key` and `value` of the builder wherever the workload's stand; `ahead` tells, for the
    /// n-th such key, how many keys after the request's own it is, and whether it ends a range.
    pub(crate) fn new(
        keys: Keys,
        value: &[u8],
        encode: impl FnOnce(&mut Builder<'_>),
        ahead: impl Fn(usize) -> (u32, bool),
    ) -> Self {
        let key = vec![KEY_MARK; keys.bytes];
        let mut marked = value.to_vec();
        marked[..MARKER_BYTES].fill(VALUE_MARK);
        let mut builder = Builder {
            out: Vec::new(),
            key: &key,
            value: &marked,
        };
        encode(&mut builder);
        let mut bytes = builder.out;
        let mut holes = Vec::new();
        let (mut at, mut seen) = (0, 0);
        while at < bytes.len() {
            if bytes[at..].starts_with(&key) {
                let (ahead, is_end) = ahead(seen);
                seen += 1;
                let kind = if is_end { HoleKind::End } else { HoleKind::Key };
                holes.push(Hole { at, ahead, kind });
                let mut whole = Vec::with_capacity(keys.bytes);
                keys.push(0, &mut whole);
                bytes[at..at + keys.bytes].copy_from_slice(&whole);
                at += keys.bytes;
            } else if bytes[at..].starts_with(&[VALUE_MARK; MARKER_BYTES]) {
                // A value stands behind its key.
                let ahead = holes.last().map_or(0, |hole: &Hole| hole.ahead);
                holes.push(Hole {
                    at,
                    ahead,
                    kind: HoleKind::Marker,
                });
                at += MARKER_BYTES;
            } else {
                at += 1;
            }
        }
        Self { bytes, holes }
    }

    /// Appends the request about key `number`.
    pub(crate) fn write(&self, keys: Keys, number: u32, out: &mut Vec<u8>) {
        let from = out.len();
        out.extend_from_slice(&self.bytes);
        for hole in &self.holes {
            let at = from + hole.at;
            let key = u64::from(number) + u64::from(hole.ahead);
            let count = u64::from(keys.count);
            match hole.kind {
                HoleKind::Marker => {
                    out[at..at + MARKER_BYTES].copy_from_slice(&wrapped(key, count).to_be_bytes());
                }
                HoleKind::Key => keys.patch(wrapped(key, count), &mut out[at..at + keys.bytes]),
                HoleKind::End => keys.patch(key.min(count), &mut out[at..at + keys.bytes]),
            }
        }
    }

    /// The same for a txn whose first compare is of a mod revision: it is encoded in as many bytes as the template's.
    pub(crate) fn write_compared(&self, keys: Keys, number: u32, revision: u64, out: &mut Vec<u8>) {
        let from = out.len();
        self.write(keys, number, out);
        // The operand stands behind the key and its own tag.
        let mut at = from + self.holes[0].at + keys.bytes + 1;
        let mut rest = revision;
        while rest >= 0x80 {
            out[at] = rest as u8 | 0x80;
            rest >>= 7;
            at += 1;
        }
        out[at] = rest as u8;
    }
}

/// The largest revision whose varint has as many bytes as this one's.
pub(crate) fn longest_alike(revision: u64) -> u64 {
    let bits = 7 * hot::varint_len(revision) as u32;
    u64::MAX >> (64 - bits.min(63))
}

fn wrapped(number: u64, count: u64) -> u64 {
    if number < count {
        number
    } else {
        number % count
    }
}

/// Bytes of a value that hold the number of its key.
pub(crate) const MARKER_BYTES: usize = 8;

/// Neither is part of a fixed key, of a value (letters and digits), of a tag or, eight times, of a length.
const KEY_MARK: u8 = 0xF5;
const VALUE_MARK: u8 = 0xF6;
