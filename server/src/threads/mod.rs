//! Who runs on which thread: one for everything, or network loops beside an engine loop, and always one background worker.
//!
//! Promises: the parts are the same either way; between threads go whole batches over bounded rings, never single requests; a
//! stop answers what is in flight, seals the log and ends within five seconds. Never: an etcd rule. Start at `serve`;
//! `machine.rs` is what the thread with the log does each turn.

mod engine;
mod inline;
mod links;
mod listen;
mod machine;
mod notices;
mod outbox;
mod plan;
mod remote;
mod resolver;
mod rings;
mod serve;
mod watchman;
mod worker;

pub use serve::{Ended, ServeError, serve};
