//! How a comparison is made: servers of our own, slices by turns, what a result must carry to be believed.
//!
//! Promises: a slice that counts was quiet, verified and durable, or says what it was not; a run ends in bounded time; no
//! server outlives it. Never: judges what a figure means, that is `report`'s. Start at `compare.rs`.

mod cgroup;
mod compare;
mod group;
mod host;
mod interrupt;
mod judge;
mod lone;
mod options;
mod place;
mod process;
mod programs;
mod progress;
mod results;
mod verdict;

use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::cost::Meter;
use crate::record::Figures;

pub(crate) use compare::Ended;
pub(crate) use compare::run as compare;
pub(crate) use lone::{Lone, run};
pub(crate) use options::Options;
pub(crate) use progress::minutes;

/// Fills in what the generator cannot know: who else ran, and the server's memory as the kernel divides it.
fn complete(figures: &mut Figures, meter: &Meter) {
    figures.others_busy = meter.busiest_other().map_or(0.0, |busiest| busiest.share);
    figures.server_proportional_bytes = meter.proportional_memory().unwrap_or_default();
}

/// Lets this program, and the servers that inherit it, open as many files as the system allows: ten thousand connections have two ends.
pub(crate) fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What is refused here shows when connections are opened.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Writes back what earlier slices left, so that no slice pays for another's data.
fn settle() -> Result<()> {
    rustix::fs::sync();
    let began = Instant::now();
    while dirty_bytes()? > DIRTY_BYTES_MAX && began.elapsed() < SETTLE_MAX {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn dirty_bytes() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find(|line| line.starts_with("Dirty:"));
    let kib: Option<u64> = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    Ok(kib.unwrap_or(0) * 1024)
}

const DIRTY_BYTES_MAX: u64 = 2 << 20;

/// Another program may write all the time: the slice then runs all the same.
const SETTLE_MAX: Duration = Duration::from_secs(10);
