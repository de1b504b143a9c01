//! Leases: which there are, which keys hang on them, and, on the leader, when they end.
//!
//! Promises: what entries of the log have decided ([`Grants`], [`Attached`]) is the same on every member at one index and is part
//! of the store's published state; a deadline only ever moves on; no lease is due before its time. Never: a clock, an
//! entry of the log, a change of what was granted because time has passed: that is a revoke, which the leader proposes.
//! Start at `Grants`, then [`Lessor`].

mod attached;
mod grants;
mod lessor;
mod wheel;

pub use attached::Attached;
pub use grants::{Change, Grants, GrantsImage, Lease, Slot};
pub use lessor::{Due, Lessor, Renewal};
