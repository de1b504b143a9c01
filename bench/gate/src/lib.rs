//! What is worth counting: the bodies of hot paths, shared by the instruction gate and the criterion benches.

pub mod paths;

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// CPU time of the calling thread; nothing where the kernel keeps no such clock. By the C library: rustix's own search for the clock
/// ends a program under valgrind.
#[must_use]
pub fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
