//! Watchers: who wants which changes, and how each gets all of them, once, in order.
//!
//! Promises: a watcher sees every change of its keys from the revision it asked for, whole revisions in
//! ascending order, or is told that its next one is compacted; who does not read costs a cursor and holds up
//! nobody. Never: a queue of events for a watcher, a clock, a socket. Start at `Watchers` (a loop's end),
//! then `Dispatcher` (the publisher's).

mod dispatch;
mod event;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod gather;
mod group;
mod ids;
mod index;
#[cfg(any(test, feature = "fuzzing"))]
pub mod model;
mod pass;
#[allow(
    unsafe_code,
    reason = "a lock-free set over the epoch; see the file's head"
)]
mod skiplist;
mod slab;
mod watchers;

pub use dispatch::{Dispatcher, Hub, Left, WatchCounts};
pub use event::Message;
pub use watchers::{CreateRequest, Outlet, StreamId, Watchers};
