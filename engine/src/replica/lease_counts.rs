use std::sync::atomic::{AtomicU64, Ordering};

/// What has become of leases in this process. Counted when it happens, so that turns without leases pay nothing.
#[derive(Debug, Default)]
pub struct LeaseCounts {
    granted: AtomicU64,
    revoked: AtomicU64,
    renewed: AtomicU64,
    expired: AtomicU64,
    /// Leases granted, by the smallest of 1, 2, 4, ... that is not below their time to live; the last is for all above.
    ttls: [AtomicU64; LEASE_TTL_BUCKETS],
    ttl_seconds: AtomicU64,
}

/// A copy of [`LeaseCounts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseTotals {
    /// Grants that were applied.
    pub granted: u64,
    /// Revokes that were applied, whoever asked for them.
    pub revoked: u64,
    /// Renewals by this member.
    pub renewed: u64,
    /// Leases whose time this member found to be over.
    pub expired: u64,
    /// By bucket, not cumulative.
    pub ttls: [u64; LEASE_TTL_BUCKETS],
    /// Sum of all times to live.
    pub ttl_seconds: u64,
}

impl LeaseCounts {
    /// A copy. Numbers may stem from neighbouring moments.
    #[must_use]
    pub fn totals(&self) -> LeaseTotals {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LeaseTotals {
            granted: load(&self.granted),
            revoked: load(&self.revoked),
            renewed: load(&self.renewed),
            expired: load(&self.expired),
            ttls: core::array::from_fn(|bucket| load(&self.ttls[bucket])),
            ttl_seconds: load(&self.ttl_seconds),
        }
    }

    pub(super) fn on_granted(&self, ttl: i64) {
        let ttl = u64::try_from(ttl).unwrap_or(0);
        add(&self.granted, 1);
        add(&self.ttl_seconds, ttl);
        let bucket = ttl.max(1).next_power_of_two().trailing_zeros() as usize;
        add(&self.ttls[bucket.min(LEASE_TTL_BUCKETS - 1)], 1);
    }

    pub(super) fn on_revoked(&self) {
        add(&self.revoked, 1);
    }

    pub(super) fn on_renewed(&self) {
        add(&self.renewed, 1);
    }

    pub(super) fn on_expired(&self, leases: u64) {
        add(&self.expired, leases);
    }
}

/// One thread adds, so a load and a store will do.
fn add(count: &AtomicU64, more: u64) {
    let count_before = count.load(Ordering::Relaxed);
    count.store(count_before.wrapping_add(more), Ordering::Relaxed);
}

/// etcd's 24 bounds, and what none of them holds.
pub const LEASE_TTL_BUCKETS: usize = 25;
