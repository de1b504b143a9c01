//! Shown with an allocator that counts: the steady state of a read does not touch the heap.
#![allow(
    unsafe_code,
    reason = "an allocator can only be replaced by an unsafe impl; it forwards to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::ControlFlow;

use basalt_engine::mvcc::{KeyRange, Resume, SliceBound, Store, StoreConfig, Want};
use basalt_engine::types::LeaseId;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is forwarded unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// [issue 3, must show 3] A get, a count and a whole scan allocate nothing, at the newest revision
/// and at an old one.
#[test]
fn reads_allocate_nothing_in_steady_state() {
    let (mut store, reader) = Store::new(StoreConfig::default());
    for round in 0..3 {
        for key in 0..5000 {
            let key = format!("key{key:05}");
            store.write().put(key.as_bytes(), &[round; 100], LeaseId(0));
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
        assert_eq!(pin.view().count(&range, rev), Ok(5000));
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
