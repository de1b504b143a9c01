//! A store of some size.

use basalt_engine::mvcc::{Reader, Store, StoreConfig};
use basalt_engine::types::LeaseId;

/// Of every key.
pub const VALUE: [u8; 256] = [b'v'; 256];

/// Puts of one batch: what a busy loop publishes at once.
pub const BATCH: u64 = 100;

const NONE: LeaseId = LeaseId(0);

/// Sixteen bytes, in the order of the numbers.
#[must_use]
pub fn key(number: u64) -> [u8; 16] {
    let mut key = *b"/bench/000000000";
    let mut rest = number;
    for digit in key[7..].iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    key
}

/// A store with so many keys, put in random order, and its reader.
#[must_use]
pub fn filled(keys: u64) -> (Store, Reader) {
    let (mut store, reader) = Store::new(StoreConfig::default());
    let mut order: Vec<u64> = (0..keys).collect();
    fastrand::Rng::with_seed(keys).shuffle(&mut order);
    for (done, number) in (0u64..).zip(order) {
        store
            .write()
            .put(&key(number), &VALUE, NONE)
            .expect("in memory");
        if done % BATCH == 0 {
            store.publish();
        }
    }
    store.publish();
    (store, reader)
}
