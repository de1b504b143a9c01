//! The tree against a `BTreeMap`, driven by bytes: for the fuzzer, and for seeded tests.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{Body, Bulk, Entry, Node, count, walk, walk_back};
use crate::limits::NODE_KEY_BYTES_MAX;

/// Plays the operations that `data` spells and checks the tree after each.
///
/// # Panics
/// When the tree and the model differ.
pub fn fuzz_tree_model(data: &[u8]) {
    let mut tree = Bulk::new().finish(0u64);
    let mut model = BTreeMap::new();
    let mut published = model.clone();
    let mut data = data;
    let mut rev = 1;
    while let Some((&op, rest)) = data.split_first() {
        data = rest;
        rev += 1;
        match op % 8 {
            0..=3 => {
                let key = take_key(&mut data);
                let old = model.get(&key).copied();
                tree.upsert(&key, |found| {
                    assert_eq!(found.copied(), old);
                    let create =
                        found.map_or(rev, |old| if old.is_live() { old.create } else { rev });
                    Entry {
                        main: rev,
                        create,
                        version: 1 + old.map_or(0, |old: Entry| old.version),
                        ..Entry::default()
                    }
                });
                let entry = tree
                    .root()
                    .get(&key)
                    .map(|(leaf, index)| *leaf.entry(index))
                    .unwrap_or_default();
                assert_eq!(entry.main, rev);
                model.insert(key, entry);
            }
            4 => {
                let key = take_key(&mut data);
                if let Some(entry) = model.get_mut(&key) {
                    *entry = Entry {
                        main: rev,
                        ..Entry::default()
                    };
                    tree.upsert(&key, |_| *entry);
                }
            }
            5 => {
                let from = take_key(&mut data);
                let next = model.range(from..).next().map(|(key, _)| key.clone());
                if let Some(key) = next {
                    model.remove(&key);
                    tree.remove(&key);
                }
            }
            6 if op >= 0xf0 => {
                // As a restart does.
                let mut bulk = Bulk::new();
                for (key, entry) in &model {
                    bulk.push(key, *entry);
                }
                tree = bulk.finish(0);
                published = model.clone();
            }
            6 => {
                published = model.clone();
                tree.publish(rev.unsigned_abs(), op & 8 != 0);
            }
            _ => {
                let (from, before) = (take_key(&mut data), take_key(&mut data));
                check_range(tree.root(), &model, &from, &before, rev);
            }
        }
    }
    check_all(tree.root(), &model, rev);
    let pin = tree.shared().pin();
    check_all(pin.get().0, &published, rev);
    drop(tree);
}

/// A key of up to 255 bytes from few letters, with runs that make prefixes and heads collide;
/// rarely a giant.
fn take_key(data: &mut &[u8]) -> Vec<u8> {
    let Some((&form, rest)) = data.split_first() else {
        return b"k".to_vec();
    };
    let len = usize::from(form % 8).min(rest.len());
    let (letters, rest) = rest.split_at(len);
    *data = rest;
    let repeat = match form >> 3 {
        0..=15 => 1,
        16..=24 => 5,
        25..=29 => 40,
        30 => 700,
        _ => 3000,
    };
    let mut key = b"/k".to_vec();
    for letter in letters {
        key.extend(std::iter::repeat_n(letter % 5, repeat));
    }
    key
}

fn check_range(
    root: &Node,
    model: &BTreeMap<Vec<u8>, Entry>,
    from: &[u8],
    before: &[u8],
    rev: i64,
) {
    if from >= before {
        return;
    }
    let expected: Vec<(&[u8], Entry)> = model
        .range(from.to_vec()..before.to_vec())
        .map(|(key, entry)| (&key[..], *entry))
        .collect();
    check(root, Some(from), Some(before), &expected, rev);
}

fn check_all(root: &Node, model: &BTreeMap<Vec<u8>, Entry>, rev: i64) {
    let expected: Vec<(&[u8], Entry)> = model
        .iter()
        .map(|(key, entry)| (&key[..], *entry))
        .collect();
    check(root, None, None, &expected, rev);
    for (key, entry) in model {
        assert_eq!(
            root.get(key).map(|(leaf, index)| leaf.entry(index)),
            Some(entry)
        );
    }
    check_node(root, true);
}

fn check(
    root: &Node,
    from: Option<&[u8]>,
    before: Option<&[u8]>,
    expected: &[(&[u8], Entry)],
    rev: i64,
) {
    let mut found = Vec::new();
    let _: ControlFlow<()> = walk(root, from, before, &mut |leaf, places| {
        found.extend(places.map(|index| (leaf.key(index), *leaf.entry(index))));
        ControlFlow::Continue(())
    });
    assert_eq!(found, expected);
    found.clear();
    let _: ControlFlow<()> = walk_back(root, from, before, &mut |leaf, places| {
        found.extend(
            places
                .rev()
                .map(|index| (leaf.key(index), *leaf.entry(index))),
        );
        ControlFlow::Continue(())
    });
    found.reverse();
    assert_eq!(found, expected);
    for rev in [rev, rev / 2] {
        // A key that changed after `rev` counts as live in this model, whatever it was.
        let live = expected
            .iter()
            .filter(|(_, entry)| entry.is_live() || entry.main > rev)
            .count();
        let mut counted = 0;
        let done = count(root, from, before, rev, &mut counted, &mut |_, _| {
            Ok::<bool, ()>(true)
        });
        assert_eq!((done, counted), (Ok(()), live as u64));
    }
}

/// Returns what the parent must say of the node.
fn check_node(node: &Node, is_root: bool) {
    match &node.body {
        Body::Leaf(leaf) => {
            assert!(is_root || leaf.len() > 0);
            let giant = (0..leaf.len()).any(|index| leaf.key(index).len() > NODE_KEY_BYTES_MAX / 2);
            assert!(leaf.len() <= 1 || leaf.keys.len() <= NODE_KEY_BYTES_MAX * 3 / 2 || giant);
        }
        Body::Inner(inner) => {
            assert!(!is_root || inner.len() > 1);
            assert!(inner.len() > 0);
            for index in 0..inner.len() {
                let child = inner.child(index);
                let summary = child.summary();
                assert_eq!(inner.summary_of(index).live, summary.live);
                assert!(inner.summary_of(index).changed >= summary.changed);
                check_node(child, false);
            }
        }
    }
}
