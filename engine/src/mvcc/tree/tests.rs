use std::ops::ControlFlow;

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

fn put<T: Send + Sync + 'static>(tree: &mut Tree<T>, key: &[u8], main: i64) {
    tree.upsert(key, |_| entry(main)).unwrap();
}

fn counted<T: Send + Sync + 'static>(
    tree: &Tree<T>,
    from: Option<&[u8]>,
    before: Option<&[u8]>,
    rev: i64,
    is_live: &mut impl FnMut(&Leaf, usize) -> Result<bool, Left<()>>,
) -> Result<u64, PageRef> {
    let mut total = 0;
    match count(tree.root(), from, before, rev, &mut total, is_live) {
        Err(Left::Page(page)) => Err(page),
        counted => {
            assert_eq!(counted, Ok(()));
            Ok(total)
        }
    }
}

fn has<T: Send + Sync + 'static>(tree: &Tree<T>, key: &[u8]) -> bool {
    tree.root().get(key).unwrap().is_some()
}

/// The tree equals a sorted map under random changes, removals, publishes and key sizes.
#[test]
fn random_changes_match_a_sorted_map() {
    let (seeds, bytes) = if cfg!(miri) { (6, 400) } else { (100, 4000) };
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
            put(&mut tree, name.as_bytes(), 2 + done as i64);
            if done % 100 == 0 {
                tree.publish((), false);
            }
        }
        assert_eq!(tree.root().summary().live as u64, keys);
        random.shuffle(&mut names);
        for (done, name) in names.iter().enumerate() {
            assert!(has(&tree, name.as_bytes()));
            tree.remove(name.as_bytes());
            assert!(!has(&tree, name.as_bytes()));
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

/// A tree built above pages answers as the one that they were written from (counts at old revisions
/// included), with the least of them in memory, and goes on as that one does.
#[test]
fn a_tree_above_pages_equals_the_one_that_was_written() {
    let all: u32 = if cfg!(miri) { 130 } else { 40_000 };
    for keys in [1, 31, 32, 33, 32 * 56, 32 * 56 + 1, all] {
        let keys = keys.min(all);
        let mut grown = Bulk::new().finish(());
        for key in 0..keys {
            let name = format!(
                "/registry/{}/{key:09}",
                if key < 2000 { "a" } else { "pods" }
            );
            let mut entry = entry(2 + i64::from(key.wrapping_mul(7919) % keys));
            if key % 5 == 0 {
                (entry.create, entry.version) = (0, 0);
            }
            grown.upsert(name.as_bytes(), |_| entry).unwrap();
        }
        let (mut pages, mut bulk) = (Vec::new(), Bulk::new());
        let _: ControlFlow<()> = walk_bottom(grown.root(), b"", &mut |bottom| {
            let page = PageRef {
                file: 7,
                page: u32::try_from(pages.len()).unwrap(),
            };
            bulk.push(bottom.separator, page, bottom.summary);
            pages.push(model::entries_of(bottom.leaf.unwrap().0));
            ControlFlow::Continue(())
        });
        let mut built = bulk.finish(());
        assert_eq!(built.root().summary(), grown.root().summary());
        assert_eq!(built.memory().pages, u64::from(keys.div_ceil(32)));
        let (from, before) = (b"/registry/a/000000007", b"/registry/q");
        for rev in [i64::from(keys + 2), i64::from(keys / 2), 2, 1] {
            let count = |tree: &Tree<()>| {
                let is_live = &mut |leaf: &Leaf, at| Ok(leaf.key(at).len().is_multiple_of(2));
                counted(tree, Some(from), Some(before), rev, is_live)
            };
            let before = built.memory().leaves;
            let counted = loop {
                match count(&built) {
                    Ok(counted) => break counted,
                    Err(at) => {
                        assert!(built.load(at, model::leaf_of(&pages[at.page as usize])));
                    }
                }
            };
            assert_eq!(Ok(counted), count(&grown));
            // At the newest revision only the leaves at the bounds were needed.
            assert!(rev <= i64::from(keys) || built.memory().leaves - before <= 2);
        }
        for (page, entries) in (0..).zip(&pages) {
            let page = PageRef { file: 7, page };
            built.load(page, model::leaf_of(entries));
        }
        assert_eq!(built.memory().pages, 0);
        for (key, entry) in pages.iter().flatten() {
            let (leaf, index) = built.root().get(key).unwrap().unwrap();
            assert_eq!(leaf.entry(index), entry);
        }
        assert!(!has(&built, b"/registry/a/0000000070"));
    }
}

/// A load that is given up leaves nothing behind; AddressSanitizer looks.
#[test]
fn a_bulk_load_that_is_dropped_frees_its_nodes() {
    let mut bulk = Bulk::new();
    for key in 0..20_000u32 {
        let page = PageRef { file: 0, page: key };
        bulk.push(&key.to_be_bytes(), page, Summary::default());
    }
    drop(bulk);
}

/// What was read since the last look stays, and a changed leaf is never given back.
#[test]
fn eviction_takes_clean_leaves_that_nobody_reads() {
    let mut tree = Bulk::new().finish(0);
    for key in 0..64 * 100u32 {
        put(&mut tree, &key.to_be_bytes(), 2);
    }
    tree.publish(1, true);
    let mut written = Vec::new();
    let _: ControlFlow<()> = walk_bottom(tree.root(), b"", &mut |bottom| {
        let page = u32::try_from(written.len()).unwrap();
        written.push(Written {
            separator: bottom.separator.into(),
            was: Was::Batch(bottom.leaf.unwrap().1),
            page: PageRef { file: 0, page },
        });
        ControlFlow::Continue(())
    });
    // One leaf changes between the writing and its end.
    put(&mut tree, &70u32.to_be_bytes(), 3);
    tree.publish(2, true);
    for leaf in &written {
        tree.settle(leaf);
    }
    let leaves = written.len() as u64;
    assert_eq!(tree.memory().clean, leaves - 1);
    // The first look finds all of them used by those who made them.
    tree.evict(0, written.len());
    assert_eq!(tree.memory().clean, leaves - 1);
    assert!(has(&tree, &6000u32.to_be_bytes()));
    tree.evict(0, written.len());
    assert_eq!(tree.memory().leaves, 2);
    assert_eq!(tree.memory().clean, 1);
    tree.publish(3, true);
    let pin = tree.shared().pin();
    assert!(pin.get().0.get(&70u32.to_be_bytes()).unwrap().is_some());
    assert!(pin.get().0.get(&6001u32.to_be_bytes()).unwrap().is_some());
    let gone = pin.get().0.get(&0u32.to_be_bytes()).err();
    assert_eq!(gone, Some(PageRef { file: 0, page: 0 }));
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
        put(&mut tree, &[b'a', small], 2);
        put(&mut tree, &[b'c', small], 2);
    }
    put(&mut tree, &giant(b'b'), 3);
    put(&mut tree, &giant(b'a'), 3);
    put(&mut tree, &giant(b'd'), 3);
    for first in [b'a', b'b', b'd'] {
        let (leaf, _) = tree.root().get(&giant(first)).unwrap().unwrap();
        assert_eq!(leaf.len(), 1);
    }
    let mut leaves = 0;
    let _: ControlFlow<Left<()>> = walk(tree.root(), None, None, &mut |leaf, _| {
        leaves += 1;
        assert!(leaf.len() == 1 || leaf.keys.len() < 1000);
        ControlFlow::Continue(())
    });
    assert!(leaves >= 5);
}

/// What a reader pinned stays as it was while the writer replaces every node several times, writes
/// leaves to pages and gives them back.
#[test]
fn pinned_readers_see_whole_batches_while_the_writer_goes_on() {
    let (keys, rounds) = if cfg!(miri) { (40u32, 8) } else { (2000, 300) };
    let mut tree = Bulk::new().finish(0i64);
    for key in 0..keys {
        put(&mut tree, &key.to_be_bytes(), 1);
    }
    tree.publish(1, false);
    let shared = Arc::clone(tree.shared());
    let stop = AtomicBool::new(false);
    let cold = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (shared, stop, cold) = (&shared, &stop, &cold);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                while !stop.load(Ordering::Relaxed) {
                    let pin = shared.pin();
                    let (root, round) = pin.get();
                    for _ in 0..20 {
                        let key = random.u32(..keys).to_be_bytes();
                        match root.get(&key) {
                            Ok(found) => {
                                let (leaf, index) = found.unwrap();
                                assert_eq!(leaf.entry(index).main, *round);
                            }
                            Err(page) => {
                                // Pages of a file are those of its round.
                                assert_eq!(i64::from(page.file), *round);
                                cold.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                    assert_eq!(root.live(), keys);
                }
            });
        }
        for round in 2..rounds {
            for key in 0..keys {
                put(&mut tree, &key.to_be_bytes(), round);
            }
            tree.publish(round, round % 16 == 0);
            let mut pages = Vec::new();
            let mut written = Vec::new();
            let _: ControlFlow<()> = walk_bottom(tree.root(), b"", &mut |bottom| {
                let (leaf, batch) = bottom.leaf.unwrap();
                let page = PageRef {
                    file: u32::try_from(round).unwrap(),
                    page: u32::try_from(pages.len()).unwrap(),
                };
                pages.push(model::entries_of(leaf));
                written.push(Written {
                    separator: bottom.separator.into(),
                    was: Was::Batch(batch),
                    page,
                });
                ControlFlow::Continue(())
            });
            for it in &written {
                tree.settle(it);
            }
            for _ in 0..3 {
                tree.evict(0, 40);
                tree.publish(round, true);
            }
            for it in &written {
                tree.load(it.page, model::leaf_of(&pages[it.page.page as usize]));
                if it.page.page % 8 == 0 {
                    tree.publish(round, false);
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(cfg!(miri) || cold.into_inner() > 0);
}

/// Inner nodes and leaves come from one allocation size.
#[test]
fn both_kinds_of_node_are_about_as_large() {
    let (leaf, inner) = (size_of::<Leaf>(), size_of::<Inner>());
    assert!(leaf.abs_diff(inner) <= 64, "{leaf} {inner}");
    assert!(size_of::<Node>() <= 2176);
}
