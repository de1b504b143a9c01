//! What a run tells: JSON for machines, a few lines for people, the same figures in both.

use std::fmt::Write as _;
use std::time::Duration;

use super::Intervals;
use super::recorder::Recorder;
use super::run::Outcome;
use crate::record::{
    Beside, CLIENT_BUSY_MAX, Capacity, Expiry, Failover, Figures, Idle, Overload, PerOperation,
    Restart, Verified, Watched,
};

/// Everything that figures are made of.
pub(crate) struct Found {
    pub outcome: Outcome,
    pub recorder: Recorder,
    pub verified: Verified,
    /// Puts or compares in one operation.
    pub inner: u64,
    /// Operations that walk once over all keys.
    pub walk_pages: Option<u32>,
    pub capacity: Option<Capacity>,
    pub overload: Option<Overload>,
    pub restart: Option<Restart>,
    pub failover: Option<Failover>,
    pub idle: Option<Idle>,
    pub watched: Option<Watched>,
    pub beside: Vec<Beside>,
    pub expiry: Option<Expiry>,
    /// Bytes of the server's memory, now and at most.
    pub memory: Option<(u64, u64)>,
}

impl Found {
    /// Divides.
    pub(crate) fn figures(self) -> (Figures, Intervals) {
        let Outcome {
            began,
            elapsed,
            cost,
            answered,
            value_bytes,
            ..
        } = self.outcome;
        let operations = self.recorder.done();
        let each = |sum: u64| sum as f64 / answered.max(1) as f64;
        let seconds = elapsed.as_secs_f64();
        let parts = self.recorder.parts(seconds);
        let (latency, by_second, histograms) = self.recorder.finish(elapsed.as_nanos() as u64);
        let cpus = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let (now, most) = self.memory.unwrap_or_default();
        let figures = Figures {
            operations,
            answered,
            inner_operations: operations * self.inner,
            seconds,
            per_second: answered as f64 / seconds,
            value_bytes_per_second: value_bytes as f64 / seconds,
            walk_seconds: self
                .walk_pages
                .map(|pages| f64::from(pages) * latency.mean_us / 1e6),
            latency,
            parts,
            per_operation: PerOperation {
                server_cpu_us: each(cost.server_cpu_ns) / 1e3,
                machine_less_client_us: each(cost.machine_less_client_ns) / 1e3,
                server_switches: each(cost.server_switches),
                disk_flushes: each(cost.disk_flushes),
                disk_writes: each(cost.disk_writes),
                disk_bytes: each(cost.disk_bytes),
            },
            client_busy: share(cost.client_cpu_ns, elapsed, 1.0),
            client_us_per_operation: each(cost.client_cpu_ns) / 1e3,
            steal: share(cost.steal_ns, elapsed, cpus),
            cost,
            others_busy: 0.0,
            server_resident_bytes: now,
            server_resident_bytes_max: most,
            server_proportional_bytes: 0,
            verified: self.verified,
            by_second,
            capacity: self.capacity,
            overload: self.overload,
            beside: self.beside,
            expiry: self.expiry,
            restart: self.restart,
            failover: self.failover,
            idle: self.idle,
            watch: self.watched,
        };
        let intervals = Intervals {
            began,
            measured: elapsed,
            seconds: histograms,
        };
        (figures, intervals)
    }
}

impl Figures {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let (l, p, v) = (&self.latency, &self.per_operation, &self.verified);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "operations  {} in {:.2} s, {:.0}/s",
            self.operations, self.seconds, self.per_second
        );
        let _ = writeln!(
            out,
            "latency µs  mean {:.0}  p50 {:.0}  p90 {:.0}  p99 {:.0}  p99.9 {:.0}  p99.99 {:.0}  max {:.0}  stall {:.0}  pauses {}",
            l.mean_us,
            l.p50_us,
            l.p90_us,
            l.p99_us,
            l.p999_us,
            l.p9999_us,
            l.max_us,
            l.longest_stall_us,
            l.pauses
        );
        for part in &self.parts {
            let _ = writeln!(
                out,
                "{:<11} {:.0}/s, p50 {:.0} µs, p99 {:.0}, p99.9 {:.0}, max {:.0}",
                part.name, part.per_second, part.p50_us, part.p99_us, part.p999_us, part.max_us
            );
        }
        let _ = writeln!(
            out,
            "server      {:.2} µs CPU/op, {:.2} µs machine less client, {:.3} switches/op, {} MiB resident",
            p.server_cpu_us,
            p.machine_less_client_us,
            p.server_switches,
            self.server_resident_bytes >> 20
        );
        let _ = writeln!(
            out,
            "disk        {:.4} flushes/op, {:.4} writes/op, {:.0} bytes/op",
            p.disk_flushes, p.disk_writes, p.disk_bytes
        );
        let _ = writeln!(
            out,
            "generator   {:.2} µs CPU/op, {:.0} % of one CPU{}",
            self.client_us_per_operation,
            self.client_busy * 100.0,
            if self.client_busy > CLIENT_BUSY_MAX {
                ": IT WAS THE LIMIT"
            } else {
                ""
            }
        );
        let _ = writeln!(
            out,
            "verified    {} right, {} changes acknowledged, {} revisions, {} read back, {} conflicts, {} over the limit, failures {:?}",
            v.answered_right,
            v.acknowledged_changes,
            v.revisions,
            v.read_back,
            v.txn_conflicts,
            v.over_limit,
            v.failures
        );
        if let Some(capacity) = &self.capacity {
            let _ = writeln!(
                out,
                "capacity    {:.0}/s with p99 at most {} ms; tried {}",
                capacity.per_second,
                capacity.p99_ms_max,
                capacity
                    .trials
                    .iter()
                    .map(|(rate, p99_us, is_kept)| format!(
                        "{rate:.0}: {p99_us:.0} µs {}",
                        if *is_kept { "kept" } else { "not kept" }
                    ))
                    .collect::<Vec<_>>()
                    .join(", ")
            );
        }
        if let Some(watch) = &self.watch {
            watch.text(&mut out);
        }
        if let Some(overload) = &self.overload {
            let _ = writeln!(
                out,
                "overload    capacity {:.0}/s, {:.0}/s offered{}, {:.0}/s answered ({:.0} % of capacity), recovery {}, failures {:?}",
                overload.capacity_per_second,
                overload.offered_per_second,
                if overload.offered_per_second < overload.demanded_per_second * OFFERED_MIN {
                    ": THE GENERATOR WAS THE LIMIT"
                } else {
                    ""
                },
                overload.goodput_per_second,
                overload.goodput_per_second / overload.capacity_per_second * 100.0,
                overload
                    .recovery_seconds
                    .map_or("never".to_owned(), |seconds| format!("{seconds:.1} s")),
                overload.failures
            );
        }
        if let Some(idle) = &self.idle {
            let _ = writeln!(
                out,
                "idle        {} connections, {:.0}/s opened, {:.0} bytes each, {:.0} after use",
                idle.connections, idle.connects_per_second, idle.bytes_each, idle.bytes_each_used
            );
        }
        if let Some(restart) = &self.restart {
            let _ = writeln!(
                out,
                "restart     first linearizable get after {:.3} s, {:.3} s of CPU, {} MiB resident, {} operations were unanswered",
                restart.seconds,
                restart.cpu_seconds,
                restart.resident_bytes >> 20,
                restart.unanswered
            );
        }
        if let Some(failover) = &self.failover {
            let _ = writeln!(
                out,
                "failover    acknowledged again after {:.3} s by the median of {} killed leaders, {:.3} s by p99; {} operations were unanswered",
                failover.quantile(0.5),
                failover.gaps_seconds.len(),
                failover.quantile(0.99),
                failover.unanswered
            );
        }
        if let Some(expiry) = &self.expiry {
            let _ = writeln!(
                out,
                "leases      {} renewed in {:.2} s, gone {:.2} s after their time, none early",
                expiry.leases, expiry.renewed_seconds, expiry.gone_seconds
            );
        }
        for beside in self.beside.iter().filter(|beside| beside.left.is_none()) {
            let _ = writeln!(
                out,
                "beside      at {:.2} s for {:.3} s, {} bytes{}",
                beside.began,
                beside.seconds,
                beside.bytes,
                beside
                    .failure
                    .as_ref()
                    .map_or_else(String::new, |failure| format!(", FAILED: {failure}"))
            );
        }
        out
    }
}

/// Of so many CPUs.
pub(crate) fn share(nanoseconds: u64, of: Duration, cpus: f64) -> f64 {
    nanoseconds as f64 / (of.as_nanos() as f64 * cpus)
}

/// Below this share of what an overload demands, the generator did not produce one.
const OFFERED_MIN: f64 = 0.98;

impl Watched {
    fn text(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "watchers    {}, {:.0} events/s, {:.2} µs server CPU/event, last event after p50 {:.0} µs, p99 {:.0}, max {:.0}; {:.0} behind the acknowledgement by p99",
            self.watchers,
            self.events_per_second,
            self.cpu_us_per_event,
            self.delay_p50_us,
            self.delay_p99_us,
            self.delay_max_us,
            self.after_acknowledged_p99_us
        );
        let _ = writeln!(
            out,
            "without     p99 {:.0} µs ({:.2} times with watchers), {:.2} µs CPU/put ({:.2} times)",
            self.p99_us_alone, self.p99_times, self.cpu_us_alone, self.cpu_times
        );
        if let (Some(rate), Some(bytes)) = (self.creations_per_second, self.bytes_each) {
            let _ = writeln!(out, "created     {rate:.0}/s, {bytes:.0} bytes each");
        }
        if let Some(seconds) = self.catch_up_seconds {
            let _ = writeln!(out, "caught up   after {seconds:.2} s");
        }
    }
}
