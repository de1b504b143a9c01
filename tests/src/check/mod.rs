//! Checkers of histories: what clients asked and heard, held against a plain model of etcd's key space.
//!
//! Promises: nothing in here knows how the server works or whether it was simulated; a history of real processes is checked by
//! the same code. Never: tolerance. A violation names the two facts that contradict each other. Start at `history.rs`, then
//! `order.rs`, which uses revisions, and `linear.rs`, which ignores them.

pub mod history;
pub mod linear;
pub mod model;
pub mod order;
