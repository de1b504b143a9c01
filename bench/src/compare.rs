//! Two servers by turns on the same host: slices A B B A, each on a fresh server, so that what drifts hits both alike.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::cost::Meter;
use crate::process::{self, Process};
use crate::report::{CLIENT_BUSY_MAX, Report};
use crate::results::Folder;
use crate::workload::Shape;
use crate::{Load, host, measure};

/// What to compare and where to keep it.
#[derive(Clone, Debug, clap::Args, Serialize)]
pub(crate) struct Comparison {
    /// The first server: program and flags; data directory and addresses are added
    #[arg(long)]
    pub a: String,
    /// The second server
    #[arg(long)]
    pub b: String,
    /// What the results folder is called after date and commit
    #[arg(long)]
    pub name: String,
    /// Rounds of the slices A B B A
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub rounds: u8,
    /// Server on CPU 0, generator on CPU 1; without it the kernel places both
    #[arg(long)]
    pub pin: bool,
    /// Where results are kept
    #[arg(long, default_value = "results")]
    pub results: PathBuf,
    /// Where the servers' data lie while they run; decides which disk is measured
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub data_root: PathBuf,
}

/// One slice.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Slice {
    pub server: char,
    /// More than 1 % of the CPUs' time was stolen; the figures are kept, and the summary says how many there were.
    pub stolen: bool,
    /// The generator was the limit: the rate is a floor.
    pub client_bound: bool,
    pub report: Report,
}

/// The committed plan.
#[derive(Serialize)]
struct Committed<'a> {
    comparison: &'a Comparison,
    load: &'a Load,
    shape: &'a Shape,
    order: &'a str,
}

/// Runs all slices and writes the folder.
///
/// # Errors
/// When a server fails, loses something acknowledged, or the results cannot be written.
pub(crate) fn run(comparison: &Comparison, load: &Load, shape: &Shape) -> Result<()> {
    let order = "ABBA".repeat(usize::from(comparison.rounds));
    let mut folder = Folder::create(&comparison.results, &comparison.name)?;
    folder.write(
        "plan.json",
        &Committed {
            comparison,
            load,
            shape,
            order: &order,
        },
    )?;
    folder.write("host.json", &host::describe(comparison))?;
    let mut slices = Vec::new();
    for (place, server) in order.chars().enumerate() {
        eprint!("{}/{} {server}: ", place + 1, order.len());
        let slice = run_slice(comparison, load, shape, server, place)?;
        eprintln!(
            "{:.0}/s, {:.2} µs CPU/op, p50 {:.0} µs, p99 {:.0} µs",
            slice.report.per_second,
            slice.report.per_operation.server_cpu_us,
            slice.report.latency.p50_us,
            slice.report.latency.p99_us
        );
        folder.append("slices.jsonl", &slice)?;
        slices.push(slice);
    }
    let summary = crate::summary::text(comparison, load, shape, &slices);
    folder.write_text("summary.md", &summary)?;
    print!("{summary}");
    println!("\n{}", folder.path().display());
    Ok(())
}

fn run_slice(
    comparison: &Comparison,
    load: &Load,
    shape: &Shape,
    server: char,
    place: usize,
) -> Result<Slice> {
    settle()?;
    let command = if server == 'A' {
        &comparison.a
    } else {
        &comparison.b
    };
    let data = comparison
        .data_root
        .join(format!("basalt-bench-{}-{place}", std::process::id()));
    let start = || Process::start(command, &data);
    let process = if comparison.pin {
        process::pinned(0, 1, start)?
    } else {
        start()?
    };
    let meter = Meter::new(Some(process.id()), Some(&process.data_dir()))?;
    let report = measure(process.client(), &meter, load, shape)?;
    ensure!(report.operations > 0, "no operation was measured");
    Ok(Slice {
        server,
        stolen: report.steal > STEAL_MAX,
        client_bound: load.rate.is_none() && report.client_busy > CLIENT_BUSY_MAX,
        report,
    })
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
    let line = text
        .lines()
        .find(|line| line.starts_with("Dirty:"))
        .unwrap_or_default();
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok())
        .unwrap_or(0);
    Ok(kib * 1024)
}

const DIRTY_BYTES_MAX: u64 = 2 << 20;
const STEAL_MAX: f64 = 0.01;

/// Another program may write all the time: the slice then runs all the same.
const SETTLE_MAX: Duration = Duration::from_secs(10);
