use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use super::{
    CheckpointCursor, Counting, HashJob, HoldRefused, KeyRange, Reader, Resume, SliceBound, Store,
    StoreConfig, Visited, Want, rebuild,
};
use crate::disk::mem::MemDisk;
use crate::types::LeaseId;

const KEYS: u32 = 64;

/// Every transaction but those that delete sets all keys to its own revision, so a reader knows
/// what it must see at any revision.
fn key(number: u32) -> [u8; 8] {
    u64::from(number).to_be_bytes()
}

/// One read of everything at the newest revision, in many small slices with a pin each.
fn read_all_in_slices(reader: &Reader, mut load: impl FnMut()) {
    let pin = reader.pin();
    let rev = pin.view().revision();
    let hold = reader.hold(rev);
    drop(pin);
    let hold = match hold {
        Ok(hold) => hold,
        Err(HoldRefused::Swept) => return,
        Err(HoldRefused::Full) => panic!("two readers cannot take all places"),
    };
    let mut resume = Resume::default();
    let bound = SliceBound {
        records: 5,
        bytes: 1 << 20,
    };
    let mut seen = 0;
    loop {
        let pin = reader.pin();
        let visited =
            pin.view()
                .visit(&KeyRange::All, rev, Want::Values, &mut resume, bound, |r| {
                    assert_eq!(r.mod_revision.main, rev);
                    assert_eq!(r.value, rev.to_le_bytes());
                    seen += 1;
                    ControlFlow::Continue(())
                });
        drop(pin);
        match visited {
            Ok(Visited::End) => break,
            Ok(_) => {}
            Err(_) => load(),
        }
    }
    assert!(rev == 1 || seen == KEYS);
    drop(hold);
}

fn read(reader: &Reader, stop: &AtomicBool, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    while !stop.load(Ordering::Relaxed) {
        {
            let pin = reader.pin();
            let view = pin.view();
            for _ in 0..10 {
                let rev = random.i64(view.compacted().max(1)..=view.revision());
                let found = view.get_at(&key(random.u32(..KEYS)), rev).unwrap();
                let expected = (rev > 1).then(|| rev.to_le_bytes());
                assert_eq!(
                    found.map(|r| r.value),
                    expected.as_ref().map(|bytes| &bytes[..])
                );
                let count = if rev > 1 { u64::from(KEYS) } else { 0 };
                let mut counting = Counting::default();
                let counted = view.count(&KeyRange::All, rev, &mut counting, usize::MAX);
                assert_eq!(counted, Ok(Some(count)));
            }
        }
        read_all_in_slices(reader, || panic!("all is in memory"));
        let rev = reader.pin().view().revision();
        let mut disk = MemDisk::default();
        let mut hash = || {
            let mut job = HashJob::start(reader, rev).ok()?;
            loop {
                if let Some(answer) = job.poll(50, &mut disk).unwrap() {
                    return Some((answer.compact_revision, answer.hash));
                }
            }
        };
        if let (Some(first), Some(second)) = (hash(), hash()) {
            assert!(first.0 != second.0 || first.1 == second.1);
        }
    }
}

fn rebuild(cursors: &mpsc::Receiver<CheckpointCursor>) -> u32 {
    let mut rebuilt = 0;
    let mut disk = MemDisk::default();
    for cursor in cursors {
        let rev = cursor.revision();
        let made = rebuild::write(cursor, &mut disk);
        let config = StoreConfig {
            segment_bytes: 8 << 10,
            ..StoreConfig::default()
        };
        let (mut store, reader) = rebuild::read(&made.content, 2000, &mut disk, config);
        assert_eq!(store.revision(), rev);
        while rebuild::poll_space(&mut store, 1000, &mut disk) {}
        store.publish();
        read_all_in_slices(&reader, || _ = rebuild::load(&mut store, &mut disk));
        disk.files.clear();
        rebuilt += 1;
    }
    rebuilt
}

/// Readers, hashes and checkpoints on their own threads see whole transactions only, at every
/// revision that is not compacted, while the writer goes on and compaction frees behind them.
#[test]
fn readers_on_other_threads_see_whole_transactions_at_every_revision() {
    let rounds = 1500;
    let (mut store, reader) = Store::new(StoreConfig {
        segment_bytes: 16 << 10,
        ..StoreConfig::default()
    });
    let stop = AtomicBool::new(false);
    let (send, cursors) = mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (reader, stop) = (reader.clone(), &stop);
            scope.spawn(move || read(&reader, stop, seed));
        }
        let checkpoints = scope.spawn(move || rebuild(&cursors));
        let mut begun = 0;
        for round in 0..rounds {
            let mut write = store.write();
            let value = (write.revision() + 1).to_le_bytes();
            for number in 0..KEYS {
                if round % 7 == 0 {
                    write.delete(&key(number)).unwrap();
                }
                write.put(&key(number), &value, LeaseId(0)).unwrap();
            }
            write.finish();
            if round % 3 == 0 {
                store.publish();
            }
            if round % 50 == 49 {
                store.compact(store.revision() - 20).unwrap();
            }
            store.poll_space(300).unwrap();
            if let Ok(cursor) = store.checkpoint()
                && send.try_send(cursor).is_ok()
            {
                begun += 1;
            }
        }
        drop(send);
        assert_eq!(checkpoints.join().unwrap(), begun);
        stop.store(true, Ordering::Relaxed);
    });
    let newest = store.revision();
    store.compact(newest).unwrap();
    while store.poll_space(1000).unwrap() {}
    store.publish();
    assert_eq!(store.finished(), newest);
    // All but the last record of each key is gone, and what a half-live segment may keep.
    assert!(store.sizes().total <= 20_480 + 2 * u64::from(KEYS) * 104 + 4096);
}
