//! Faults on real processes: a proxy between members that cuts, delays and garbles, and clients whose every call is recorded.
//!
//! Promises: what was recorded is judged by the checkers that judge simulations; after the faults all members must be equal and serve.
//! Never: a fault on a machine that is not ours: only loopback, only processes that were started here. Start at `run.rs`.

mod disk;
mod load;
mod proxy;
mod run;

pub use run::{Plan, Report, run};
