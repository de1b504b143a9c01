//! The body of the fuzz target `skiplist_model`: groups found by key against a plain list of what is wanted.

use super::group::{GroupHeld, Wanted};
use super::index::Index;
use crate::mvcc::KeyRange;

/// Watchers come and go as `data` says; every key must find just the groups that want it.
///
/// # Panics
/// When it does not.
pub fn skiplist_model(data: &[u8]) {
    let mut bytes = data.iter().copied();
    let mut byte = move || bytes.next();
    let index = Index::new(1);
    let mut joined: Vec<(Plain, GroupHeld)> = Vec::new();
    while let Some(op) = byte() {
        let mut next = || byte().unwrap_or_default();
        match op % 8 {
            0..=3 => {
                let plain = Plain {
                    start: key(&mut next),
                    end: match op / 8 % 4 {
                        0 | 1 => None,
                        2 => Some(key(&mut next)),
                        _ => Some(vec![0]),
                    },
                    bits: next(),
                };
                if plain.is_empty() {
                    continue;
                }
                let group = index.join(&plain.wanted());
                let same = joined.iter().find(|(other, _)| other.wants_as(&plain));
                assert!(same.is_none_or(|(_, other)| other.entry().address() == group.entry().address()));
                joined.push((plain, group));
            }
            4 | 5 if !joined.is_empty() => {
                let (_, group) = joined.swap_remove(usize::from(next()) % joined.len());
                index.leave(group.entry());
            }
            _ => {
                let (key, is_delete) = (key(&mut next), op & 8 != 0);
                let mut found: Vec<usize> = Vec::new();
                index.stab(&key, is_delete, |group| found.push(group.address()));
                found.sort_unstable();
                let wanting = joined.iter().filter(|it| it.0.wants(&key, is_delete));
                let mut expected: Vec<usize> = wanting.map(|it| it.1.entry().address()).collect();
                expected.sort_unstable();
                expected.dedup();
                assert_eq!(found, expected, "groups of {key:?}");
            }
        }
    }
    for (_, group) in joined {
        index.leave(group.entry());
    }
    assert!(index.is_empty());
}

/// What one watcher wants, as a client says it.
struct Plain {
    start: Vec<u8>,
    end: Option<Vec<u8>>,
    bits: u8,
}

impl Plain {
    fn keys(&self) -> KeyRange<'_> {
        KeyRange::new(&self.start, self.end.as_deref().unwrap_or_default())
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            keys: self.keys(),
            no_put: self.bits & 1 != 0,
            no_delete: self.bits & 2 != 0,
            prev_kv: self.bits & 4 != 0,
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self.keys(), KeyRange::Range { start, end } if start >= end)
    }

    fn wants(&self, key: &[u8], is_delete: bool) -> bool {
        let is_filtered = self.bits & if is_delete { 2 } else { 1 } != 0;
        self.keys().contains(key) && !is_filtered
    }

    fn wants_as(&self, other: &Self) -> bool {
        self.keys() == other.keys() && self.bits & 7 == other.bits & 7
    }
}

/// One of few keys that share beginnings, some of them long.
fn key(next: &mut impl FnMut() -> u8) -> Vec<u8> {
    let shape = next();
    let mut key = match shape % 8 {
        7 => vec![b'l'; 300],
        length => vec![b'p'; usize::from(length) / 3],
    };
    key.extend((0..1 + shape / 8 % 3).map(|_| [b'a', b'b', 0, 255][usize::from(next() % 4)]));
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// An event that finds a group too few is lost.
        #[test]
        fn a_key_finds_the_groups_that_want_it_and_no_others(
            ops in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            skiplist_model(&ops);
        }
    }
}
