use std::cmp::Ordering;
use std::sync::Arc;

/// The bytes of one node's keys. Shared by all copies of the node until one of them adds a key, so
/// that copying a node never copies keys, however long they are.
#[derive(Clone)]
pub(super) struct Keys {
    bytes: Arc<[u8]>,
    /// Bytes handed out from the front.
    used: u32,
    /// The part of `used` that no key needs any more.
    dead: u32,
    /// All keys of the node share their first `prefix` bytes; heads are taken behind them.
    prefix: u32,
    /// The first of these bytes, so that a search seldom has to follow `bytes`.
    prefix_begin: [u8; PREFIX_BEGIN],
}

/// Where a key lies in its node's `Keys`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    at: u32,
    len: u32,
}

impl Span {
    pub(crate) fn new(at: usize, len: usize) -> Self {
        Self {
            at: u32::try_from(at).expect("one key of under 4 GiB and a few short ones"),
            len: u32::try_from(len).expect("a key is shorter than 4 GiB"),
        }
    }
}

impl Keys {
    pub(super) fn new() -> Self {
        Self::of(&[])
    }

    /// Holds these bytes, all of them in use.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: Arc::from(bytes),
            used: u32::try_from(bytes.len()).expect("one key of under 4 GiB and a few short ones"),
            dead: 0,
            prefix: 0,
            prefix_begin: [0; PREFIX_BEGIN],
        }
    }

    pub(super) fn get(&self, span: Span) -> &[u8] {
        &self.bytes[span.at as usize..][..span.len as usize]
    }

    /// How many leading bytes all keys share.
    pub(super) fn prefix(&self) -> usize {
        self.prefix as usize
    }

    /// All keys share the first `len` bytes of `key`, which is one of them.
    pub(super) fn set_prefix(&mut self, key: Span, len: usize) {
        self.prefix = u32::try_from(len).expect("not longer than a key");
        let begin = len.min(PREFIX_BEGIN);
        let key = &self.bytes[key.at as usize..][..begin];
        self.prefix_begin[..begin].copy_from_slice(key);
    }

    /// Bytes of memory.
    pub(super) fn allocated(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of the keys in use.
    pub(super) fn len(&self) -> usize {
        (self.used - self.dead) as usize
    }

    /// Stores a key. In place if no other copy of the node shares the bytes, else into a copy with
    /// some room to grow.
    pub(super) fn add(&mut self, key: &[u8]) -> Span {
        let at = self.used as usize;
        let end = at + key.len();
        let has_room = end <= self.bytes.len() && Arc::get_mut(&mut self.bytes).is_some();
        if !has_room {
            let mut grown: Arc<[u8]> = std::iter::repeat_n(0, end + end / 4 + 16).collect();
            let to = Arc::get_mut(&mut grown).expect("just made");
            to[..at].copy_from_slice(&self.bytes[..at]);
            self.bytes = grown;
        }
        let to = Arc::get_mut(&mut self.bytes).expect("checked or just made");
        to[at..end].copy_from_slice(key);
        self.used = u32::try_from(end).expect("one key of under 4 GiB and a few short ones");
        Span::new(at, key.len())
    }

    /// The key of `span` left the node. Its bytes come back with the next `rebuilt`.
    pub(super) fn discard(&mut self, span: Span) {
        self.dead += span.len;
    }

    /// Whether more than half of the bytes belong to keys that left.
    pub(super) fn is_sparse(&self) -> bool {
        self.dead > self.used / 2
    }

    /// The same keys without the dead bytes; `spans` is brought up to date.
    pub(super) fn rebuild<'s>(&mut self, spans: impl Iterator<Item = &'s mut Span>) {
        let mut bytes = Vec::with_capacity(self.len());
        for span in spans {
            let at = u32::try_from(bytes.len()).expect("not more than before");
            bytes.extend_from_slice(self.get(*span));
            span.at = at;
        }
        self.used = u32::try_from(bytes.len()).expect("not more than before");
        self.dead = 0;
        self.bytes = Arc::from(bytes);
    }
}

/// The first eight bytes as a number that orders as they do. Shorter keys are filled with zeros:
/// equal heads decide nothing.
pub(super) fn head(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(first) => u64::from_be_bytes(*first),
        None => {
            let mut first = [0; 8];
            first[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(first)
        }
    }
}

/// How many leading bytes `a` and `b` share.
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Searches sorted keys: the first index whose key is not below `key`, and whether it is equal to it.
/// `heads` are taken behind the prefix that all keys share; `span_of` says where a key lies.
pub(super) fn search(
    heads: &[u64],
    keys: &Keys,
    key: &[u8],
    span_of: impl Fn(usize) -> Span,
) -> (usize, bool) {
    if heads.is_empty() {
        return (0, false);
    }
    let prefix = keys.prefix as usize;
    let begin = prefix.min(PREFIX_BEGIN);
    let has_prefix = key.len() >= prefix
        && key[..begin] == keys.prefix_begin[..begin]
        && (prefix == begin || key[begin..prefix] == keys.get(span_of(0))[begin..prefix]);
    if !has_prefix {
        let is_before = key < &keys.get(span_of(0))[..prefix];
        return (if is_before { 0 } else { heads.len() }, false);
    }
    let rest = &key[prefix..];
    let wanted = head(rest);
    let mut low = first_not_below(heads, wanted);
    let mut high = low
        + heads[low..]
            .iter()
            .take_while(|head| **head == wanted)
            .count();
    while low < high {
        let middle = low + (high - low) / 2;
        let span = span_of(middle);
        let other_len = span.len as usize - prefix;
        let order = if rest.len() <= HEAD && other_len <= HEAD {
            // Equal heads say everything but how many zeros are padding.
            other_len.cmp(&rest.len())
        } else {
            keys.get(span)[prefix..].cmp(rest)
        };
        match order {
            Ordering::Less => low = middle + 1,
            Ordering::Equal => return (middle, true),
            Ordering::Greater => high = middle,
        }
    }
    (low, false)
}

/// The last steps are not halved: their loads do not wait for each other.
fn first_not_below(heads: &[u64], wanted: u64) -> usize {
    let (mut base, mut left) = (0, heads.len());
    while left > 8 {
        let half = left / 2;
        base += if heads[base + half - 1] < wanted {
            half
        } else {
            0
        };
        left -= half;
    }
    let below = heads[base..base + left]
        .iter()
        .map(|head| usize::from(*head < wanted));
    base + below.sum::<usize>()
}

/// Bytes of a head.
const HEAD: usize = 8;

/// Bytes of the prefix that a node holds itself: with them its first cache lines decide most searches.
const PREFIX_BEGIN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    /// Copies of a node keep their bytes when one of them goes on adding.
    #[test]
    fn adding_a_key_leaves_other_copies_alone() {
        let mut keys = Keys::new();
        let a = keys.add(b"alpha");
        let copy = keys.clone();
        let b = keys.add(b"beta");
        assert_eq!(keys.get(a), b"alpha");
        assert_eq!(keys.get(b), b"beta");
        assert_eq!(copy.get(a), b"alpha");
        assert_eq!(copy.len(), 5);
        keys.discard(a);
        assert!(keys.is_sparse());
        let mut spans = [b];
        keys.rebuild(spans.iter_mut());
        assert_eq!(keys.get(spans[0]), b"beta");
        assert_eq!(keys.len(), 4);
    }

    /// Keys that differ only in trailing zeros or behind the head are told apart.
    #[test]
    fn search_tells_keys_with_equal_heads_apart() {
        let keys: [&[u8]; 6] = [b"p", b"p\0", b"p\0\0", b"p12345678a", b"p12345678b", b"q"];
        let mut node = Keys::new();
        let spans: Vec<Span> = keys.iter().map(|key| node.add(key)).collect();
        for prefix in [0, 1] {
            let count = keys.len() - prefix;
            node.set_prefix(spans[0], prefix);
            let heads: Vec<u64> = keys[..count]
                .iter()
                .map(|key| head(&key[prefix..]))
                .collect();
            let find = |key: &[u8]| search(&heads, &node, key, |i| spans[i]);
            for (index, key) in keys[..count].iter().enumerate() {
                assert_eq!(find(key), (index, true));
            }
            assert_eq!(find(b"p\0a"), (3, false));
            assert_eq!(find(b"z"), (count, false));
            assert_eq!(find(b"p12345678ab"), (4, false));
            assert_eq!(find(b"a"), (0, false));
            assert_eq!(find(b""), (0, false));
        }
    }
}
