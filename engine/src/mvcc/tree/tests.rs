use std::sync::atomic::{AtomicBool, Ordering};

use super::model::fuzz_tree_model;
use super::*;

fn entry(main: i64) -> Entry {
    Entry {
        main,
        create: main,
        version: 1,
        ..Entry::default()
    }
}

/// The tree equals a sorted map under random changes, removals, publishes and key sizes.
#[test]
fn random_changes_match_a_sorted_map() {
    let (seeds, bytes) = if cfg!(miri) { (6, 400) } else { (300, 4000) };
    for seed in 0..seeds {
        let mut random = fastrand::Rng::with_seed(seed);
        let data: Vec<u8> = (0..bytes).map(|_| random.u8(..)).collect();
        fuzz_tree_model(&data);
    }
}

/// Many levels up and down again: every key is found on the way, counts stay exact, the empty tree
/// is a leaf.
#[test]
fn a_tree_grows_and_shrinks_through_all_levels() {
    let keys: u64 = if cfg!(miri) { 150 } else { 20_000 };
    for order in 0..3 {
        let mut tree = Bulk::new().finish(());
        let mut random = fastrand::Rng::with_seed(order);
        let mut names: Vec<String> = (0..keys)
            .map(|key| format!("/registry/pods/{key:09}"))
            .collect();
        match order {
            0 => {}
            1 => names.reverse(),
            _ => random.shuffle(&mut names),
        }
        for (done, name) in names.iter().enumerate() {
            tree.upsert(name.as_bytes(), |_| entry(2 + done as i64));
            if done % 100 == 0 {
                tree.publish((), false);
            }
        }
        assert_eq!(tree.root().summary().live as u64, keys);
        random.shuffle(&mut names);
        for (done, name) in names.iter().enumerate() {
            assert!(tree.root().get(name.as_bytes()).is_some());
            tree.remove(name.as_bytes());
            assert!(tree.root().get(name.as_bytes()).is_none());
            if done % 100 == 0 {
                assert_eq!(
                    u64::from(tree.root().summary().live),
                    keys - done as u64 - 1
                );
                tree.publish((), true);
            }
        }
        assert!(matches!(&tree.root().body, Body::Leaf(leaf) if leaf.len() == 0));
    }
}

/// A bulk-loaded tree is full, answers as one that grew key by key (counts at old revisions
/// included), and goes on as that one does.
#[test]
fn a_tree_built_from_sorted_keys_equals_one_that_grew() {
    let all: u32 = if cfg!(miri) { 130 } else { 40_000 };
    for keys in [0, 1, 31, 32, 33, 32 * 56, 32 * 56 + 1, all] {
        let keys = keys.min(all);
        let (mut bulk, mut grown) = (Bulk::new(), Bulk::new().finish(()));
        for key in 0..keys {
            let name = format!(
                "/registry/{}/{key:09}",
                if key < 2000 { "a" } else { "pods" }
            );
            let mut entry = entry(2 + i64::from(key.wrapping_mul(7919) % keys));
            if key % 5 == 0 {
                (entry.create, entry.version) = (0, 0);
            }
            bulk.push(name.as_bytes(), entry);
            grown.upsert(name.as_bytes(), |_| entry);
        }
        let built = bulk.finish(());
        assert_eq!(built.root().summary(), grown.root().summary());
        let entries = |tree: &Tree<()>| {
            let mut found = Vec::new();
            let mut leaves = 0;
            let _: std::ops::ControlFlow<()> =
                walk(tree.root(), None, None, &mut |leaf, places| {
                    found.extend(places.map(|at| (leaf.key(at).to_vec(), *leaf.entry(at))));
                    leaves += 1;
                    std::ops::ControlFlow::Continue(())
                });
            (found, leaves)
        };
        let (found, leaves) = entries(&built);
        assert_eq!(found, entries(&grown).0);
        assert_eq!(leaves, keys.div_ceil(32));
        for (key, entry) in &found {
            let (leaf, index) = built.root().get(key).unwrap();
            assert_eq!(leaf.entry(index), entry);
        }
        assert!(built.root().get(b"/registry/a/0000000070").is_none());
        for rev in [1, 2, i64::from(keys / 2), i64::from(keys + 2)] {
            let counts = [&built, &grown].map(|tree| {
                let (from, before) = (
                    Some(&b"/registry/a/000000007"[..]),
                    Some(&b"/registry/q"[..]),
                );
                let mut total = 0;
                count(
                    tree.root(),
                    from,
                    before,
                    rev,
                    &mut total,
                    &mut |leaf, at| Ok::<bool, ()>(leaf.key(at).len() % 2 == 0),
                )
                .map(|()| total)
            });
            assert_eq!(counts[0], counts[1]);
        }
    }
}

/// A load that is given up leaves nothing behind; miri looks.
#[test]
fn a_bulk_load_that_is_dropped_frees_its_nodes() {
    let mut bulk = Bulk::new();
    for key in 0..2000u32 {
        bulk.push(&key.to_be_bytes(), entry(2));
    }
    drop(bulk);
}

/// A key as large as a request does not make its neighbours' leaf expensive to change.
#[test]
fn giant_keys_get_leaves_of_their_own() {
    let mut tree = Bulk::new().finish(());
    let giant = |first: u8| {
        [
            &[first][..],
            &vec![b'x'; if cfg!(miri) { 20_000 } else { 1 << 20 }],
        ]
        .concat()
    };
    for small in 0..40u8 {
        tree.upsert(&[b'a', small], |_| entry(2));
        tree.upsert(&[b'c', small], |_| entry(2));
    }
    tree.upsert(&giant(b'b'), |_| entry(3));
    tree.upsert(&giant(b'a'), |_| entry(3));
    tree.upsert(&giant(b'd'), |_| entry(3));
    for first in [b'a', b'b', b'd'] {
        let (leaf, _) = tree.root().get(&giant(first)).unwrap();
        assert_eq!(leaf.len(), 1);
    }
    let mut leaves = 0;
    let _: std::ops::ControlFlow<()> = walk(tree.root(), None, None, &mut |leaf, _| {
        leaves += 1;
        assert!(leaf.len() == 1 || leaf.keys.len() < 1000);
        std::ops::ControlFlow::Continue(())
    });
    assert!(leaves >= 5);
}

/// What a reader pinned stays as it was while the writer replaces every node several times.
#[test]
fn pinned_readers_see_whole_batches_while_the_writer_goes_on() {
    let (keys, rounds) = if cfg!(miri) { (40u32, 8) } else { (2000, 300) };
    let mut tree = Bulk::new().finish(0i64);
    for key in 0..keys {
        tree.upsert(&key.to_be_bytes(), |_| entry(1));
    }
    tree.publish(1, false);
    let shared = Arc::clone(tree.shared());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (shared, stop) = (&shared, &stop);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                while !stop.load(Ordering::Relaxed) {
                    let pin = shared.pin();
                    let (root, round) = pin.get();
                    for _ in 0..20 {
                        let key = random.u32(..keys).to_be_bytes();
                        let (leaf, index) = root.get(&key).unwrap();
                        assert_eq!(leaf.entry(index).main, *round);
                    }
                }
            });
        }
        for round in 2..rounds {
            for key in 0..keys {
                tree.upsert(&key.to_be_bytes(), |_| entry(round));
            }
            tree.publish(round, round % 16 == 0);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// Inner nodes and leaves come from one allocation size.
#[test]
fn both_kinds_of_node_are_about_as_large() {
    let (leaf, inner) = (size_of::<Leaf>(), size_of::<Inner>());
    assert!(leaf.abs_diff(inner) <= 64, "{leaf} {inner}");
    assert!(size_of::<Node>() <= 2176);
}
