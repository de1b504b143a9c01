//! The raw data: what one slice measured, as a line of `slices.jsonl`. Written by `method`, read by `report`.
//!
//! Promises: a folder of today can be read by every later release; a field is added with a default, never renamed.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// One measured slice of a plan: one cell, one placement, one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Slice {
    /// The cell's name in the plan, such as `W02-put-100`.
    pub cell: String,
    pub placement: Placement,
    /// `basalt`, `etcd-tuned`, `etcd-default`, or the name given with `--other`.
    pub server: String,
    /// Counted from 1 within cell and placement; a repeated slice keeps the round of the one it replaces.
    pub round: u32,
    /// Place in the whole run, counted from 1.
    pub place: u32,
    /// Why the slice counts for nothing; it is kept to be looked at.
    pub discarded: Option<String>,
    /// Why it would have been discarded, had the repeats not been used up: it counts, and the summary says so.
    #[serde(default)]
    pub disturbed: Option<String>,
    /// Seconds since 1970 at which the slice began.
    #[serde(default)]
    pub began: u64,
    /// The process behind `Figures::others_busy`: its name and number.
    #[serde(default)]
    pub busiest_other: Option<String>,
    /// The largest share of one CPU of a server of this cell that stayed up and was not driven.
    #[serde(default)]
    pub idle_busy: f64,
    /// What is odd about the figures although they count.
    #[serde(default)]
    pub warnings: Vec<String>,
    pub figures: Figures,
}

/// Where the server and the generator run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Placement {
    /// Server on CPU 0, generator on CPU 1 (P1 of the method).
    Pinned,
    /// The kernel decides (P2).
    Unpinned,
}

impl Placement {
    /// As in the records and in file names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Unpinned => "unpinned",
        }
    }
}

/// All figures of one run against one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Operations that became due in the measured time and were answered right, if only later; latencies are theirs.
    pub operations: u64,
    /// Right answers that came in the measured time, whenever they were due: what rate and cost belong to. A server that falls behind
    /// an open loop has less of them than operations.
    #[serde(default)]
    pub answered: u64,
    /// What the operations hold in all: puts or compares of a txn counted one by one. Equal to `operations` for single ones.
    pub inner_operations: u64,
    pub seconds: f64,
    pub per_second: f64,
    /// Bytes of values that were acknowledged or returned, by the second.
    #[serde(default)]
    pub value_bytes_per_second: f64,
    /// Pages of one walk over all keys times the mean of their latencies, for workloads that walk.
    #[serde(default)]
    pub walk_seconds: Option<f64>,
    pub latency: Latency,
    /// Reads and writes apart, for workloads that have both.
    #[serde(default)]
    pub parts: Vec<Part>,
    pub per_operation: PerOperation,
    pub cost: Cost,
    /// The generator's share of one CPU: near 1 it was the limit, and the rate says nothing about the server.
    pub client_busy: f64,
    pub client_us_per_operation: f64,
    /// Stolen time as a share of all CPU time.
    pub steal: f64,
    /// The largest share of one CPU that a process other than server and generator used.
    pub others_busy: f64,
    pub server_resident_bytes: u64,
    pub server_resident_bytes_max: u64,
    /// Proportional share of the server's memory.
    pub server_proportional_bytes: u64,
    /// Warm-up and measured time together.
    pub verified: Verified,
    pub by_second: Vec<Second>,
    /// Found by bisection, when the cell asks for it.
    pub capacity: Option<Capacity>,
    /// What an overload did, when the cell is one.
    pub overload: Option<Overload>,
    /// What was done beside the operations, in the order in which it ended.
    #[serde(default)]
    pub beside: Vec<Beside>,
    /// How leases that nobody renewed ended, when that was waited for.
    #[serde(default)]
    pub expiry: Option<Expiry>,
    /// How the server came back, when it was ended.
    #[serde(default)]
    pub restart: Option<Restart>,
    /// How the cluster went on without its leader, when that was killed.
    #[serde(default)]
    pub failover: Option<Failover>,
    /// What idle connections cost, when that was asked for.
    #[serde(default)]
    pub idle: Option<Idle>,
    /// What watchers heard and cost, when there were any.
    #[serde(default)]
    pub watch: Option<Watched>,
}

/// Latencies of the whole measured time, in microseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub p9999_us: f64,
    pub max_us: f64,
    /// The longest time in which nothing at all completed.
    pub longest_stall_us: f64,
    /// Tenths of a second whose worst latency was above ten times the median: pauses.
    pub pauses: u64,
    /// Quantile and latency, rising, dense towards 1; for pictures.
    pub curve: Vec<(f64, f64)>,
}

/// One kind of operation of a mixed workload. Their cost cannot be told apart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    /// `reads` or `writes`.
    pub name: String,
    pub operations: u64,
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

/// One second of the measured time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Second {
    pub done: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    #[serde(default)]
    pub p999_us: f64,
    pub max_us: f64,
}

/// What one operation cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PerOperation {
    pub server_cpu_us: f64,
    pub machine_less_client_us: f64,
    pub server_switches: f64,
    pub disk_flushes: f64,
    pub disk_writes: f64,
    pub disk_bytes: f64,
}

/// The difference of all counters between begin and end of the measured time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// Nanoseconds of CPU of the server's process by its own clock, io_uring's workers included.
    pub server_cpu_ns: u64,
    /// The same by the sum over its threads' schedstat: a cross-check.
    pub server_threads_ns: u64,
    /// Switches of the server's threads from and to a CPU.
    pub server_switches: u64,
    /// Faults of the server for which a page was read from a disk.
    #[serde(default)]
    pub server_major_faults: u64,
    /// Nanoseconds of CPU of this generator.
    pub client_cpu_ns: u64,
    /// Busy nanoseconds of all CPUs without this generator: also the kernel's workers, and whatever else runs. Steps of 10 ms.
    pub machine_less_client_ns: u64,
    /// Nanoseconds that the hypervisor took away.
    pub steal_ns: u64,
    /// Write requests that reached the device of the data directory.
    pub disk_writes: u64,
    /// Bytes written to it.
    pub disk_bytes: u64,
    /// Cache flushes of it.
    pub disk_flushes: u64,
}

/// What was checked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Verified {
    pub answered_right: u64,
    pub txn_conflicts: u64,
    pub acknowledged_changes: u64,
    pub revisions: i64,
    pub read_back: u64,
    pub failures: BTreeMap<String, u64>,
    /// Due while too many were unanswered; counted as failed.
    pub over_limit: u64,
    /// Hash over all keys and values at the end, where the data do not depend on the order of the answers.
    pub digest: Option<u64>,
}

/// The highest rate that was served as demanded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Capacity {
    /// The demand: this percentile of latency stays below that many milliseconds.
    pub p99_ms_max: f64,
    /// Operations per second; 0 when no rate that was tried for the whole time kept to it.
    pub per_second: f64,
    /// What a closed loop reached before.
    #[serde(default)]
    pub saturation_per_second: f64,
    /// Rate tried, p99 in microseconds, kept or not; in the order of the trials.
    pub trials: Vec<(f64, f64, bool)>,
}

/// A time above capacity and the time after it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Overload {
    /// Operations per second of a closed loop before.
    pub capacity_per_second: f64,
    /// Twice that. When less was offered, the generator itself was the limit, and the overload says little.
    #[serde(default)]
    pub demanded_per_second: f64,
    pub offered_per_second: f64,
    /// Answered right per second while overloaded.
    pub goodput_per_second: f64,
    pub failures: BTreeMap<String, u64>,
    /// The generator's share of one CPU meanwhile.
    #[serde(default)]
    pub client_busy: f64,
    /// The 99th percentile of half load before the overload, microseconds.
    #[serde(default)]
    pub half_p99_us: f64,
    /// Seconds of half load until the p99 of three tenths of a second in a row was at most twice that; none when it never was.
    pub recovery_seconds: Option<f64>,
}

/// One thing done beside the measured operations.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Beside {
    /// Seconds since the measured time began.
    pub began: f64,
    /// It may have taken longer than the measured time.
    pub seconds: f64,
    /// Of keys and values, or of the snapshot, that came.
    pub bytes: u64,
    /// Keys that leases had not taken with them, where those are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<u64>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// Leases that were renewed together and then left alone. None ended before its time, or there are no figures.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Expiry {
    pub leases: u32,
    /// From the first renewal to the last.
    pub renewed_seconds: f64,
    /// Seconds from the end of the last lease's time until no key was left, by counting every tenth of a second or so.
    pub gone_seconds: f64,
}

/// A server that was ended and started again.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Restart {
    /// Seconds from starting its process to the first answer of a linearizable get.
    pub seconds: f64,
    /// Of CPU that it had used by then.
    pub cpu_seconds: f64,
    /// Its memory by then.
    pub resident_bytes: u64,
    /// Operations that were unanswered when it was killed: they may have been done or not.
    pub unanswered: u64,
}

/// A cluster whose leader was killed again and again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Failover {
    /// Seconds from each SIGKILL to the first answer to an operation that was begun after it, in the order of the kills.
    pub gaps_seconds: Vec<f64>,
    /// Operations that were unanswered when the next answer came: they may have been done or not.
    pub unanswered: u64,
}

impl Failover {
    /// The smallest gap that is not below such a share of all; 0 without a kill.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.gaps_seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let place = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(place.max(1) - 1).copied().unwrap_or(0.0)
    }
}

/// Connections that were opened and left alone before the load began.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Idle {
    pub connections: u32,
    /// Opened and greeted by the server, by the second.
    pub connects_per_second: f64,
    /// By which the server's resident memory grew for each, before its first operation and after it.
    pub bytes_each: f64,
    pub bytes_each_used: f64,
}

/// Watchers beside puts. The same load ran before on the same server without them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Watched {
    pub watchers: u32,
    /// None where they were created in the measured time.
    pub creations_per_second: Option<f64>,
    /// By which the server's resident memory grew for each, its stream's and connection's share included.
    pub bytes_each: Option<f64>,
    /// That came in the measured time. All that were owed came in the end, in order, once.
    pub events: u64,
    pub events_per_second: f64,
    /// All of the server's CPU in the measured time, puts included, by events.
    pub cpu_us_per_event: f64,
    /// From the moment a put was due until the last watcher heard of it.
    pub delay_p50_us: f64,
    pub delay_p99_us: f64,
    pub delay_max_us: f64,
    /// From the put's acknowledgement on.
    pub after_acknowledged_p99_us: f64,
    /// Until all had heard of what was there when they were asked for behind it, or read again after a pause.
    pub catch_up_seconds: Option<f64>,
    /// The puts' p99 without watchers, and that with watchers as a multiple of it.
    pub p99_us_alone: f64,
    pub p99_times: f64,
    /// The same of the server's CPU per put.
    pub cpu_us_alone: f64,
    pub cpu_times: f64,
}

/// Above this share of its CPU the generator is taken to be the limit: the rate is then a lower bound.
pub(crate) const CLIENT_BUSY_MAX: f64 = 0.95;
