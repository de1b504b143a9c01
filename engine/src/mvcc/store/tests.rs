use std::ops::ControlFlow;

use super::*;
use crate::disk::mem::MemDisk;
use crate::mvcc::{Counting, Restore, Want, rebuild};

const NONE: LeaseId = LeaseId(0);

fn store() -> (Store, Reader) {
    Store::new(StoreConfig {
        segment_bytes: 512,
        ..StoreConfig::default()
    })
}

fn values(view: &View<'_>, range: &KeyRange<'_>, rev: i64) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut resume = Resume::default();
    let bound = SliceBound {
        records: 3,
        bytes: 10_000,
    };
    loop {
        let visited = view.visit(range, rev, Want::Values, &mut resume, bound, |record| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            found.push((text(record.key), text(record.value)));
            ControlFlow::Continue(())
        });
        if visited.unwrap() == Visited::End {
            return found;
        }
    }
}

/// [K1] A fresh store is at revision 1, the first write makes 2; version and creation restart with
/// each generation.
#[test]
fn revisions_versions_and_generations_count_as_in_etcd() {
    let (mut store, _) = store();
    assert_eq!(store.revision(), 1);
    let mut write = store.write();
    assert_eq!(write.put(b"a", b"1", NONE).unwrap(), Revision::new(2, 0));
    assert_eq!(write.put(b"b", b"1", NONE).unwrap(), Revision::new(2, 1));
    assert_eq!(write.finish(), 2);
    store.write().put(b"a", b"2", LeaseId(7)).unwrap();
    assert_eq!(
        store.write().delete(b"a").unwrap(),
        Some(Revision::new(4, 0))
    );
    assert_eq!(store.write().delete(b"a").unwrap(), None);
    assert_eq!(store.write().finish(), 4);
    store.write().put(b"a", b"3", NONE).unwrap();
    let view = store.view();
    let newest = view.get_at(b"a", 5).unwrap().unwrap();
    assert_eq!(
        (newest.create_revision, newest.version, newest.value),
        (5, 1, &b"3"[..])
    );
    let old = view.get_at(b"a", 3).unwrap().unwrap();
    assert_eq!(
        (old.create_revision, old.version, old.lease, old.value),
        (2, 2, LeaseId(7), &b"2"[..])
    );
    assert!(view.get_at(b"a", 4).unwrap().is_none());
    assert!(view.get_at(b"a", 1).unwrap().is_none());
}

/// Readers see a batch as a whole, at its publish, and keep what they pinned.
#[test]
fn a_pinned_view_does_not_change() {
    let (mut store, reader) = store();
    store.write().put(b"a", b"1", NONE).unwrap();
    assert_eq!(reader.pin().view().revision(), 1);
    store.publish();
    let pin = reader.pin();
    store.write().put(b"a", b"2", NONE).unwrap();
    store.publish();
    assert_eq!(pin.view().revision(), 2);
    assert_eq!(
        pin.view().get_at(b"a", i64::MAX).unwrap().unwrap().value,
        b"1"
    );
    assert_eq!(
        reader
            .pin()
            .view()
            .get_at(b"a", i64::MAX)
            .unwrap()
            .unwrap()
            .value,
        b"2"
    );
}

/// [facts 22.2] A key changed twice in one transaction is what the last change made it, also after
/// a compaction there.
#[test]
fn the_newest_record_of_a_main_revision_survives_compaction_at_it() {
    let (mut store, _) = store();
    store.write().put(b"k", b"old", NONE).unwrap();
    let mut write = store.write();
    write.delete(b"k").unwrap().unwrap();
    write.put(b"k", b"new", NONE).unwrap();
    assert_eq!(write.finish(), 3);
    store.compact(3).unwrap();
    while store.poll_space(1).unwrap() {}
    let record = store.view().get_at(b"k", 3).unwrap().unwrap();
    assert_eq!(
        (record.value, record.create_revision, record.mod_revision),
        (&b"new"[..], 3, Revision::new(3, 1))
    );
}

/// [K16] Compaction gives memory back and keeps every read at or above its revision.
#[test]
fn compaction_keeps_reads_at_its_revision_and_frees_the_rest() {
    let (mut store, reader) = store();
    for round in 0..50 {
        for key in 0..10 {
            store
                .write()
                .put(
                    format!("key{key}").as_bytes(),
                    format!("value {round}").as_bytes(),
                    NONE,
                )
                .unwrap();
        }
    }
    store.write().delete(b"key3").unwrap();
    store.publish();
    let before = values(&store.view(), &KeyRange::All, 480);
    let full = store.sizes();
    assert_eq!(store.compact(480), Ok(()));
    assert_eq!(store.compact(480), Err(RevisionRefused::Compacted));
    assert_eq!(store.compact(10_000), Err(RevisionRefused::Future));
    let hold = reader.hold(100).unwrap();
    for _ in 0..1000 {
        assert!(store.poll_space(10).unwrap());
    }
    assert_eq!(store.finished(), -1);
    assert_eq!(values(&store.view(), &KeyRange::All, 100).len(), 10);
    drop(hold);
    while store.poll_space(7).unwrap() {
        store.publish();
    }
    store.publish();
    assert_eq!(store.finished(), 480);
    assert_eq!(values(&reader.pin().view(), &KeyRange::All, 480), before);
    assert!(store.sizes().total < full.total);
    assert!(store.sizes().in_use <= store.sizes().total);
    assert_eq!(
        reader.pin().view().check(479),
        Err(RevisionRefused::Compacted)
    );
    assert_eq!(reader.pin().view().check(480), Ok(480));
}

/// A deleted key leaves the index with the compaction after its deletion, not with the one at it.
#[test]
fn a_tombstone_exactly_at_the_compacted_revision_is_kept() {
    let (mut store, _) = store();
    store.write().put(b"a", b"1", NONE).unwrap();
    store.write().delete(b"a").unwrap().unwrap();
    store.compact(3).unwrap();
    while store.poll_space(1).unwrap() {}
    assert!(store.tree.root().get(b"a").unwrap().is_some());
    store.write().put(b"b", b"1", NONE).unwrap();
    store.compact(4).unwrap();
    while store.poll_space(1).unwrap() {}
    assert!(store.tree.root().get(b"a").unwrap().is_none());
    assert!(store.tree.root().get(b"b").unwrap().is_some());
}

/// A store rebuilt from its checkpoint answers as before; the bytes may come cut anywhere.
#[test]
fn a_checkpoint_rebuilds_the_same_store() {
    let (mut store, _) = store();
    for key in 0..100 {
        store
            .write()
            .put(
                format!("key{:02}", key % 40).as_bytes(),
                format!("{key}").as_bytes(),
                NONE,
            )
            .unwrap();
    }
    store.write().delete(b"key05").unwrap();
    store.compact(30).unwrap();
    store.publish();
    let mut disk = MemDisk::default();
    let cursor = store.checkpoint().unwrap();
    let bytes = rebuild::write(cursor, &mut disk).content;
    for step in [1, 7, bytes.len()] {
        let config = StoreConfig {
            segment_bytes: 700,
            ..StoreConfig::default()
        };
        let (mut rebuilt, _) = rebuild::read(&bytes, step, &mut disk, config);
        rebuild::load_index(&mut rebuilt, &mut disk);
        rebuild::load_all(&mut rebuilt, &mut disk);
        assert_eq!(
            (rebuilt.revision(), rebuilt.compacted(), rebuilt.finished()),
            (102, 30, -1)
        );
        rebuild::load_index(&mut rebuilt, &mut disk);
        rebuild::load_all(&mut rebuilt, &mut disk);
        while rebuilt.poll_space(5).unwrap() {}
        assert_eq!(rebuilt.finished(), 30);
        for rev in 30..=102 {
            assert_eq!(
                values(&rebuilt.view(), &KeyRange::All, rev),
                values(&store.view(), &KeyRange::All, rev)
            );
        }
    }
    let mut cut = Restore::new(StoreConfig::default());
    cut.push(&bytes[..bytes.len() - 1]).unwrap();
    let refused = cut.finish(&mut disk, rebuild::SALT, &mut |_, _| {}).err();
    assert_eq!(refused, Some(crate::mvcc::BadCheckpoint::Short));
}

/// What is written, deleted and compacted while a checkpoint is being made is not in it: a member
/// that starts from it replays that from its log.
#[test]
fn a_checkpoint_is_of_the_revision_at_which_it_began() {
    let (mut store, _) = Store::new(StoreConfig {
        segment_bytes: 4000,
        ..StoreConfig::default()
    });
    let keys = if cfg!(miri) { 200 } else { 2500 };
    let name = |key: i32| format!("/registry/{key:05}");
    for key in 0..keys {
        store
            .write()
            .put(name(key).as_bytes(), b"first", NONE)
            .unwrap();
    }
    for key in (0..keys).step_by(7) {
        store.write().delete(name(key).as_bytes()).unwrap();
    }
    let revision = store.revision();
    let expected = values(&store.view(), &KeyRange::All, revision);
    let mut disk = MemDisk::default();
    let mut cursor = store.checkpoint().unwrap();
    while cursor.write_segment(&mut disk, rebuild::SALT).unwrap() {}
    let (mut content, mut chunks, mut more) = (Vec::new(), 0, true);
    while more {
        more = cursor
            .next_chunk(&mut content, 500, &mut disk, rebuild::SALT)
            .unwrap();
        chunks += 1;
        for key in (0..keys + 100).step_by(13) {
            let key = name(key + chunks);
            match chunks % 3 {
                0 => drop(store.write().delete(key.as_bytes()).unwrap()),
                _ => drop(store.write().put(key.as_bytes(), b"later", NONE).unwrap()),
            }
        }
        let _ = store.compact(store.revision());
        store.poll_space(50_000).unwrap();
        store.publish();
    }
    assert!(chunks > 3);
    let config = StoreConfig::default();
    let (mut rebuilt, _) = rebuild::read(&content, 999, &mut disk, config);
    rebuild::load_index(&mut rebuilt, &mut disk);
    rebuild::load_all(&mut rebuilt, &mut disk);
    assert_eq!(rebuilt.revision(), revision);
    assert!(values(&rebuilt.view(), &KeyRange::All, revision) == expected);
    let live = rebuilt.view().count_newest(&KeyRange::All);
    assert_eq!(live, Ok(expected.len() as u64));
}

/// What is not in memory parks the read that needs it and nothing else; no record is handed out twice.
#[test]
fn reads_ask_for_what_is_cold_and_go_on_when_it_is_there() {
    let (mut store, _) = Store::new(StoreConfig {
        cache_bytes: 0,
        ..StoreConfig::default()
    });
    let value = [7; 3000];
    for key in 0..40 {
        store
            .write()
            .put(format!("key{key:02}").as_bytes(), &value, NONE)
            .unwrap();
    }
    let mut disk = MemDisk::default();
    rebuild::chill(&mut store, &mut disk);
    store.write().put(b"key39", &value, NONE).unwrap();
    let need = store.view().get_at(b"key00", 42).unwrap_err();
    assert!(!store.view().has(need));
    assert!(store.view().meta_at(b"key00", 42).unwrap().is_some());
    assert!(store.view().get_at(b"key39", 42).unwrap().is_some());
    assert_eq!(rebuild::load(&mut store, &mut disk), 1);
    assert!(store.view().has(need));
    assert!(store.view().get_at(b"key00", 42).unwrap().is_some());
    let (mut seen, mut misses) = (0, 0);
    let mut resume = Resume::default();
    loop {
        let (all, bound) = (KeyRange::All, SliceBound::NONE);
        let visited = store
            .view()
            .visit(&all, 42, Want::Values, &mut resume, bound, |_| {
                seen += 1;
                ControlFlow::Continue(())
            });
        match visited {
            Ok(visited) => break assert_eq!(visited, Visited::End),
            Err(_) => misses += rebuild::load(&mut store, &mut disk),
        }
    }
    assert_eq!((seen, misses), (40, 1));
}

/// However little is kept in memory, a search through many versions ends: each read brings it on.
#[test]
fn a_search_through_cold_versions_goes_on_where_it_stood() {
    let (mut store, _) = Store::new(StoreConfig {
        segment_bytes: 4096,
        cache_bytes: 0,
        ..StoreConfig::default()
    });
    let mut disk = MemDisk::default();
    for version in 0..50u8 {
        store.write().put(b"hot", &[version; 3000], NONE).unwrap();
        store.write().put(b"other", &[version; 3000], NONE).unwrap();
        // A put onto a record that is not in memory needs no read.
        rebuild::chill(&mut store, &mut disk);
    }
    assert_eq!(store.take_wanted(), []);
    let (mut resume, mut misses) = (Resume::default(), 0);
    let found = loop {
        match store.view().get_on(b"hot", 2, Want::Values, &mut resume) {
            Ok(found) => break found.map(|record| record.value[0]),
            Err(_) => {
                // Only what the next step needs is there.
                store.evict();
                misses += rebuild::load(&mut store, &mut disk);
                assert!(misses <= 50);
            }
        }
    };
    assert_eq!(found, Some(0));
    let mut counting = Counting::default();
    for _ in 0..200 {
        let counted = store.view().count(&KeyRange::All, 3, &mut counting, 1);
        match counted {
            Ok(Some(count)) => return assert_eq!(count, 2),
            Ok(None) => {}
            Err(_) => {
                store.evict();
                rebuild::load(&mut store, &mut disk);
            }
        }
    }
    panic!("a count never ends");
}

/// [K12] A range deletion deletes in key order, one record a key, in one revision, and can be
/// sliced.
#[test]
fn delete_range_deletes_live_keys_in_order_in_one_revision() {
    let (mut store, _) = store();
    for key in 0..600 {
        store
            .write()
            .put(format!("key{key:03}").as_bytes(), b"value", NONE)
            .unwrap();
    }
    store.write().delete(b"key100").unwrap();
    let range = KeyRange::Range {
        start: b"key050",
        end: b"key500",
    };
    let mut write = store.write();
    let mut seen: Vec<Vec<u8>> = Vec::new();
    let mut resume = Resume::default();
    let bound = SliceBound {
        records: 100,
        bytes: 1 << 20,
    };
    let mut slices = 1;
    while write.delete_range(&range, &mut resume, &mut bound.clone(), |record| {
        seen.push(record.key.to_vec())
    }) == Ok(Visited::More)
    {
        slices += 1;
    }
    assert!(slices >= 4);
    assert_eq!(write.finish(), 603);
    assert_eq!(seen.len(), 449);
    assert!(seen.is_sorted());
    assert_eq!(store.view().count_newest(&range), Ok(0));
    let before = store
        .view()
        .count(&range, 602, &mut Counting::default(), 1000);
    assert_eq!(before, Ok(Some(449)));
    assert_eq!(store.view().count_newest(&KeyRange::All), Ok(150));
}

/// Tools divide by the size; a fresh store looks as large as a fresh etcd.
#[test]
fn a_fresh_store_has_the_size_of_a_fresh_etcd() {
    let (mut store, _) = store();
    assert_eq!(
        store.sizes(),
        Sizes {
            total: 20_480,
            in_use: 20_480
        }
    );
    for _ in 0..9 {
        store.write().put(b"k", &[0; 4096], NONE).unwrap();
    }
    assert!(store.sizes().total > 53_248);
}

/// A reader of the newest state may go on after its pin whatever is compacted in the batch that is not
/// published yet: it cannot know of it, and its revision was compacted by nobody.
#[test]
fn nothing_is_swept_before_readers_can_see_the_compaction() {
    let (mut store, reader) = store();
    store.write().put(b"a", b"1", NONE).unwrap();
    store.publish();
    store.write().put(b"a", b"2", NONE).unwrap();
    store.compact(3).unwrap();
    loop {
        let has_more = store.poll_space(1).unwrap();
        let pin = reader.pin();
        let hold = reader.hold(pin.view().revision());
        assert!(hold.is_ok());
        drop(hold);
        if !has_more {
            break;
        }
    }
    assert_eq!(store.finished(), 3);
}

/// A segment without a record would be a file without a frame, which no checkpoint can be made of.
#[test]
fn records_longer_than_a_segment_leave_no_empty_one_behind() {
    let (mut store, _) = store();
    let mut disk = MemDisk::default();
    let mut content = Vec::new();
    for round in 0..3 {
        // The first one comes while the open segment is fresh: of the store, then of a checkpoint.
        for (key, length) in [("a", 5000), ("b", 7000), ("c", 10), ("a", 6000)] {
            let value = vec![b'0' + round; length];
            store.write().put(key.as_bytes(), &value, NONE).unwrap();
        }
        store.publish();
        let made = rebuild::write(store.checkpoint().unwrap(), &mut disk);
        content = made.content;
        store.on_checkpoint(made.files);
    }
    let config = StoreConfig {
        segment_bytes: 512,
        ..StoreConfig::default()
    };
    let (mut rebuilt, _) = rebuild::read(&content, 100, &mut disk, config);
    rebuild::load_index(&mut rebuilt, &mut disk);
    rebuild::load_all(&mut rebuilt, &mut disk);
    for rev in 1..=store.revision() {
        assert_eq!(
            values(&rebuilt.view(), &KeyRange::All, rev),
            values(&store.view(), &KeyRange::All, rev)
        );
    }
}
