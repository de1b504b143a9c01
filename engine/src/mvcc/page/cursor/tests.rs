use std::ops::ControlFlow;

use super::*;
use crate::disk::mem::MemDisk;
use crate::mvcc::rebuild::SALT;
use crate::mvcc::tree::{Entry, Node};
use crate::mvcc::{Reader, Store, StoreConfig, rebuild};
use crate::types::LeaseId;

/// What lies in the leaves in memory.
fn entries(root: &Node) -> Vec<(Vec<u8>, Entry)> {
    let mut found = Vec::new();
    let _: ControlFlow<()> = walk_bottom(root, b"", &mut |bottom| {
        let (leaf, _) = bottom.leaf.expect("in memory");
        found.extend((0..leaf.len()).map(|at| (leaf.key(at).to_vec(), *leaf.entry(at))));
        ControlFlow::Continue(())
    });
    found
}

/// What the cursor writes, with `between` run after each slice.
fn written(
    reader: &Reader,
    cursor: &mut IndexCursor,
    disk: &mut MemDisk,
    mut between: impl FnMut(),
) -> Vec<(Vec<u8>, Entry)> {
    let mut table = Vec::new();
    loop {
        cursor.look(&reader.pin().view()).unwrap();
        let more = cursor.write(disk, SALT, &mut table).unwrap();
        between();
        if !more {
            break;
        }
    }
    let len = table.len();
    assert_eq!(cursor.write(disk, SALT, &mut table), Ok(false));
    assert_eq!(table.len(), len);
    super::super::fuzz::read_index(&table, len, disk).unwrap()
}

fn change(store: &mut Store, random: &mut fastrand::Rng) {
    let mut write = store.write();
    for _ in 0..random.usize(1..6) {
        // Many keys, a few hot ones, and long ones that fill leaves.
        let mut key = match random.u8(..4) {
            0 => format!("hot/{}", random.u8(..4)),
            _ => format!("/registry/pods/{:05}", random.u16(..3000)),
        };
        if key.ends_with('7') {
            key.extend(std::iter::repeat_n('x', 300));
        }
        if random.u8(..4) == 0 {
            write.delete(key.as_bytes()).unwrap();
        } else {
            let lease = LeaseId(random.i64(0..3));
            write.put(key.as_bytes(), &[0; 20], lease).unwrap();
        }
    }
    write.finish();
}

fn cursor_of(store: &Store, view: &View<'_>) -> IndexCursor {
    IndexCursor::new(view, &store.walks, &store.pages, 0, 1, 8)
}

/// A restart from what the cursor wrote goes on from the checkpoint's revision and from no later
/// one: keys made later are left out, changed and deleted ones are as they were, tombstones that
/// compaction has not dropped are in it.
#[test]
fn the_index_is_written_as_it_was_while_keys_change_and_are_compacted() {
    let (seeds, changes) = if cfg!(miri) { (2, 60) } else { (20, 300) };
    let mut moved = 0;
    for seed in 0..seeds {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut store, reader) = Store::new(StoreConfig {
            segment_bytes: 2000,
            ..StoreConfig::default()
        });
        for _ in 0..random.u32(..changes) {
            change(&mut store, &mut random);
            if random.u8(..100) == 0 {
                let _ = store.compact(random.i64(1..=store.revision()));
            }
            store.poll_space(random.usize(1..20)).unwrap();
        }
        while store.poll_space(1000).unwrap() {}
        if random.bool() {
            // One that is under way, but has not begun to drop.
            let _ = store.compact(store.revision());
        }
        store.publish();
        let pin = reader.pin();
        let _hold = reader.hold(pin.view().finished()).unwrap();
        let expected = entries(pin.view().root);
        let mut cursor = cursor_of(&store, &pin.view());
        drop(pin);
        let found = written(&reader, &mut cursor, &mut MemDisk::default(), || {
            for _ in 0..random.usize(..100) {
                change(&mut store, &mut random);
            }
            if random.bool() {
                let _ = store.compact(random.i64(1..=store.revision()));
            }
            store.poll_space(random.usize(1..5000)).unwrap();
            store.publish();
        });
        assert!(found == expected, "seed {seed}");
        moved += usize::from(entries(store.view().root) != expected);
    }
    assert!(moved > 0, "nothing changed between the slices");
}

/// A record that is not in memory stops a slice and loses nothing; keys whose newest entry is old
/// enough need none.
#[test]
fn a_cold_record_is_asked_for_only_where_a_key_has_changed_since() {
    let (mut store, reader) = Store::new(StoreConfig {
        cache_bytes: 0,
        ..StoreConfig::default()
    });
    for key in 0..200u8 {
        store.write().put(&[key], b"old", LeaseId(0)).unwrap();
    }
    let expected = entries(store.view().root);
    let mut disk = MemDisk::default();
    rebuild::chill(&mut store, &mut disk);
    let mut cursor = cursor_of(&store, &reader.pin().view());
    rebuild::ready(&mut store, &mut disk, |store| {
        store.write().put(&[150], b"new", LeaseId(0)).map(|_| ())
    });
    store.publish();
    for _ in 0..2 {
        assert!(cursor.look(&reader.pin().view()).is_err());
        // The part of its leaf before it is done.
        assert_eq!(cursor.found.len(), 5);
    }
    assert_eq!(rebuild::load(&mut store, &mut disk), 1);
    let found = written(&reader, &mut cursor, &mut disk, || {});
    assert_eq!(found, expected);
}

/// Checkpoint after checkpoint: what has not changed is not written again, files do not pile up, and
/// each of them is what a start needs.
#[test]
fn checkpoints_write_what_has_changed() {
    let (mut store, _) = Store::new(StoreConfig::default());
    let mut disk = MemDisk::default();
    let put = |store: &mut Store, disk: &mut MemDisk, key: u32| {
        let key = format!("/registry/{key:06}");
        rebuild::ready(store, disk, |store| {
            store
                .write()
                .put(key.as_bytes(), b"value", LeaseId(0))
                .map(|_| ())
        });
    };
    for key in 0..6400 {
        put(&mut store, &mut disk, key);
    }
    let mut random = fastrand::Rng::with_seed(1);
    let mut pages_written = 0;
    for round in 0..60 {
        let made = rebuild::write(store.checkpoint().unwrap(), &mut disk);
        let named = made.files.named().to_vec();
        disk.files.retain(|file, _| match file {
            crate::disk::File::Segment(number) => named.binary_search(number).is_ok(),
            _ => false,
        });
        store.on_checkpoint(made.files);
        if round > 0 {
            pages_written += store.written.len();
        }
        while store.settle() {}
        assert_eq!(store.tree.memory().clean, store.tree.memory().leaves);
        let files = store.pages.iter().filter(|(_, known)| known.used > 0);
        assert!(files.count() <= 8, "round {round}");
        if round % 3 == 0 {
            store.page_bytes = 200_000;
            for _ in 0..3 {
                store.evict();
            }
            assert!(store.tree.memory().pages > 0);
        }
        if round % 10 == 9 {
            let config = StoreConfig::default();
            let revision = store.revision();
            store = rebuild::read(&made.content, 1000, &mut disk, config).0;
            assert_eq!(store.revision(), revision);
            assert_eq!(store.tree.memory().leaves, 0);
        }
        for _ in 0..4 {
            let key = random.u32(..6400);
            put(&mut store, &mut disk, key);
        }
    }
    // 200 leaves, 4 of them changed a round; all of them again and again would be 12,000.
    assert!(pages_written < 59 * 30, "{pages_written}");
    rebuild::load_index(&mut store, &mut disk);
    let found = entries(store.view().root);
    assert_eq!(found.len(), 6400);
    let newest = found.iter().map(|(_, entry)| entry.main).max();
    assert_eq!(newest, Some(store.revision()));
}
