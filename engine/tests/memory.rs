//! Shown with an allocator that counts: reads do not touch the heap, and compaction gives it back.
#![allow(
    unsafe_code,
    reason = "an allocator can only be replaced by an unsafe impl; it forwards to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use basalt_engine::mvcc::{Counting, KeyRange, Resume, SliceBound, Store, StoreConfig, Want};
use basalt_engine::types::{ClusterId, LeaseId, MemberId, Term};
use basalt_engine::watch::{CreateRequest, Hub, Message, Outlet, Watchers};

struct Counted;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Bytes that are allocated now, by any thread.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// One test at a time: what the other allocates would count.
static ALONE: Mutex<()> = Mutex::new(());

// SAFETY: every call is forwarded unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counted = Counted;

/// [issue 3, must show 3] A get, a count and a whole scan allocate nothing, at the newest revision
/// and at an old one.
#[test]
fn reads_allocate_nothing_in_steady_state() {
    let _alone = ALONE.lock();
    let (mut store, reader) = Store::new(StoreConfig::default());
    for round in 0..3 {
        for key in 0..5000 {
            let key = format!("key{key:05}");
            store
                .write()
                .put(key.as_bytes(), &[round; 100], LeaseId(0))
                .unwrap();
        }
        store.publish();
    }
    let names: Vec<String> = (0..5000).map(|key| format!("key{key:05}")).collect();
    // The first pin of a thread registers it with the epoch.
    drop(reader.pin());
    let before = ALLOCATIONS.get();
    let mut bytes = 0;
    for rev in [15_001, 7000] {
        for name in &names {
            let pin = reader.pin();
            let record = pin.view().get_at(name.as_bytes(), rev).unwrap().unwrap();
            bytes += record.value.len();
        }
        let pin = reader.pin();
        let range = KeyRange::From(b"key");
        let counted = pin
            .view()
            .count(&range, rev, &mut Counting::default(), usize::MAX);
        assert_eq!(counted, Ok(Some(5000)));
        let mut resume = Resume::default();
        let visited = pin.view().visit(
            &range,
            rev,
            Want::Values,
            &mut resume,
            SliceBound::NONE,
            |record| {
                bytes += record.value.len();
                ControlFlow::Continue(())
            },
        );
        assert!(visited.is_ok());
    }
    assert_eq!(bytes, 4 * 5000 * 100);
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

/// [K16] After a compaction the history's memory is free, not only unreachable.
#[test]
fn compaction_gives_the_memory_of_the_history_back() {
    let _alone = ALONE.lock();
    let before = LIVE.load(Ordering::Relaxed);
    let (mut store, reader) = Store::new(StoreConfig::default());
    for round in 0..20 {
        for key in 0..2000 {
            let key = format!("key{key:05}");
            store
                .write()
                .put(key.as_bytes(), &[round; 1000], LeaseId(0))
                .unwrap();
        }
        store.publish();
    }
    let full = LIVE.load(Ordering::Relaxed) - before;
    assert!(full > 40_000_000);
    store.compact(store.revision()).unwrap();
    while store.poll_space(500).unwrap() {
        store.publish();
    }
    // The epoch frees a few pins later.
    for _ in 0..8 {
        store.write().put(b"another", b"value", LeaseId(0)).unwrap();
        store.publish();
        store.compact(store.revision()).unwrap();
        while store.poll_space(500).unwrap() {}
        store.publish();
        drop(reader.pin());
    }
    let left = LIVE.load(Ordering::Relaxed) - before;
    assert!(left < 10_000_000, "{left} of {full} bytes are left");
    assert!(store.sizes().total < 4_000_000);
}

/// [issue 7, must show 2] A watch on a key of its own, of 48 bytes, takes at most 150, and leaves nothing behind.
#[test]
fn a_watch_costs_little_more_than_its_key() {
    struct Nowhere;
    impl Outlet<usize> for Nowhere {
        fn send(&mut self, _: usize, _: &Message<'_>) -> bool {
            true
        }
        fn has_room(&mut self, _: usize) -> bool {
            true
        }
    }
    const STREAMS: usize = 100;
    const WATCHES: usize = 100_000;
    let _alone = ALONE.lock();
    let (_store, reader) = Store::new(StoreConfig::default());
    let hub = Hub::new(ClusterId(1), MemberId(2), 1);
    let mut watchers = Watchers::new(hub, 0, 1 << 20);
    drop(reader.pin());
    let before = LIVE.load(Ordering::Relaxed);
    let streams: Vec<_> = (0..STREAMS).map(|at| watchers.open(at)).collect();
    for number in 0..WATCHES {
        let key = format!("/registry/leases/ns-{number:07}/{number:020}");
        assert_eq!(key.len(), 48);
        let request = CreateRequest {
            key: key.as_bytes(),
            ..CreateRequest::default()
        };
        let stream = streams[number % STREAMS];
        watchers.create(stream, &request, &reader, Term(1), &mut Nowhere);
    }
    let each = (LIVE.load(Ordering::Relaxed) - before) / WATCHES;
    assert!(each <= 140, "{each} bytes a watch");
    streams
        .into_iter()
        .for_each(|stream| watchers.close(stream));
    // The epoch frees a few pins later.
    for _ in 0..100_000 {
        if LIVE.load(Ordering::Relaxed) - before < 100_000 {
            return;
        }
        drop(reader.pin());
    }
    let left = LIVE.load(Ordering::Relaxed) - before;
    panic!("{left} bytes are left");
}
