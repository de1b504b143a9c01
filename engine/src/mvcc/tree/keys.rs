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
    /// All keys of the node share their first `prefix` bytes; heads are taken behind it.
    pub(super) prefix: u32,
}

/// Where a key lies in its node's `Keys`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    at: u32,
    len: u32,
}

impl Keys {
    pub(super) fn new() -> Self {
        Self {
            bytes: Arc::from([]),
            used: 0,
            dead: 0,
            prefix: 0,
        }
    }

    pub(super) fn get(&self, span: Span) -> &[u8] {
        &self.bytes[span.at as usize..][..span.len as usize]
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
        Span {
            at: u32::try_from(at).expect("below used"),
            len: u32::try_from(key.len()).expect("below used"),
        }
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
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Searches sorted keys: the first index whose key is not below `key`, and whether it is equal to
/// it. `heads` are taken behind `prefix`, which all keys share; `key_of` gives whole keys.
pub(super) fn search<'k>(
    heads: &[u64],
    prefix: &[u8],
    key: &[u8],
    key_of: impl Fn(usize) -> &'k [u8],
) -> (usize, bool) {
    let Some(rest) = key.strip_prefix(prefix) else {
        return (if key < prefix { 0 } else { heads.len() }, false);
    };
    let wanted = head(rest);
    let mut low = heads.partition_point(|head| *head < wanted);
    let mut high = low
        + heads[low..]
            .iter()
            .take_while(|head| **head == wanted)
            .count();
    while low < high {
        let middle = low + (high - low) / 2;
        match key_of(middle)[prefix.len()..].cmp(rest) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Equal => return (middle, true),
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    (low, false)
}

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
        for prefix in [0, 0] {
            let heads: Vec<u64> = keys.iter().map(|key| head(&key[prefix..])).collect();
            for (index, key) in keys.iter().enumerate() {
                assert_eq!(
                    search(&heads, &key[..prefix], key, |i| keys[i]),
                    (index, true)
                );
            }
            assert_eq!(search(&heads, b"", b"p\0a", |i| keys[i]), (3, false));
            assert_eq!(search(&heads, b"", b"z", |i| keys[i]), (6, false));
            assert_eq!(search(&heads, b"", b"", |i| keys[i]), (0, false));
        }
    }
}
