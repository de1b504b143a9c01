use super::*;
use crate::disk::mem::MemDisk;
use crate::mvcc::page::IndexLoad;
use crate::mvcc::tree::{Entry, Node};
use crate::mvcc::{Reader, Store, StoreConfig, rebuild};
use crate::types::LeaseId;

fn entries(root: &Node) -> Vec<(Vec<u8>, Entry)> {
    let mut found = Vec::new();
    let _: ControlFlow<()> = tree::walk(root, None, None, &mut |leaf, places| {
        found.extend(places.map(|index| (leaf.key(index).to_vec(), *leaf.entry(index))));
        ControlFlow::Continue(())
    });
    found
}

/// What the cursor writes, with `between` run after each slice.
fn written(
    reader: &Reader,
    cursor: &mut IndexCursor,
    bytes: usize,
    mut between: impl FnMut(),
) -> Vec<(Vec<u8>, Entry)> {
    let mut load = IndexLoad::new(cursor.revision);
    loop {
        let mut out = Vec::new();
        let more = cursor.next_slice(&reader.pin().view(), &mut out, bytes);
        assert_eq!(load.push(&out, |_| true), Ok(out.len()));
        between();
        if !more.unwrap() {
            break;
        }
    }
    assert_eq!(
        cursor.next_slice(&reader.pin().view(), &mut Vec::new(), 1),
        Ok(false)
    );
    let tree = load.finish().unwrap().0.finish(());
    entries(tree.root())
}

fn change(store: &mut Store, random: &mut fastrand::Rng) {
    let mut write = store.write();
    for _ in 0..random.usize(1..6) {
        // Many keys, a few hot ones, and long ones that fill pages.
        let mut key = match random.u8(..4) {
            0 => format!("hot/{}", random.u8(..4)),
            _ => format!("/registry/pods/{:05}", random.u16(..3000)),
        };
        if key.ends_with('7') {
            key.extend(std::iter::repeat_n('x', 300));
        }
        if random.u8(..4) == 0 {
            write.delete(key.as_bytes());
        } else {
            write.put(key.as_bytes(), &[0; 20], LeaseId(random.i64(0..3)));
        }
    }
    write.finish();
}

/// A restart from what the cursor wrote goes on from the checkpoint's revision and from no later
/// one: keys made later are left out, changed and deleted ones are as they were, tombstones that
/// compaction has not dropped are in it.
#[test]
fn the_index_is_written_as_it_was_while_keys_change_and_are_compacted() {
    let (seeds, changes) = if cfg!(miri) { (2, 60) } else { (20, 2000) };
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
        let mut cursor = IndexCursor::new(&pin.view());
        drop(pin);
        let bytes = random.usize(1..40_000);
        let found = written(&reader, &mut cursor, bytes, || {
            for _ in 0..random.usize(..300) {
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
    for key in 0..40u8 {
        store.write().put(&[key], b"old", LeaseId(0));
    }
    let mut disk = MemDisk::default();
    rebuild::chill(&mut store, &mut disk);
    let expected = entries(reader.pin().view().root);
    let mut cursor = IndexCursor::new(&reader.pin().view());
    store.write().put(&[20], b"new", LeaseId(0));
    store.publish();
    let mut out = Vec::new();
    let stopped = cursor.next_slice(&reader.pin().view(), &mut out, usize::MAX);
    assert!(stopped.is_err());
    assert!(out.is_empty());
    assert_eq!(rebuild::load(&mut store, &mut disk), 1);
    assert_eq!(written(&reader, &mut cursor, usize::MAX, || {}), expected);
}
