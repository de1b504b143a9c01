//! A whole cluster in one thread, from one seed: real members on simulated disks, links and clocks, with clients that remember what they heard.
//!
//! Promises: the same plan gives the same run, to the last bit of its trace; every fault heals before the end, and then the cluster
//! must serve. Never: a clock, a thread, a random number that does not come from the seed. Start at `plan.rs`, then [`run`].

mod clients;
mod durable;
mod faults;
mod finish;
pub mod kept;
mod leases;
pub mod network;
pub mod node;
pub mod plan;
mod reads;
pub mod shrink;
mod trace;
pub mod watch;
mod witness;
pub mod workload;
mod world;

pub use world::{Report, Tally, run};
