//! What a slice must keep to count: quiet surroundings, writes that were flushed, clocks that agree.

use crate::cost::disk::Proof;
use crate::plan::Load;
use crate::record::{CLIENT_BUSY_MAX, Figures, Slice};

/// What disturbed a slice, and how much: 1 and more is reason to discard it.
pub(crate) struct Disturbance {
    pub reason: String,
    /// The worst of all, as a multiple of what is tolerated.
    pub weight: f64,
}

/// The worst disturbance of a slice; `None` when all were tolerable.
pub(crate) fn disturbance(slice: &Slice) -> Option<Disturbance> {
    let percent = |share: f64| share * 100.0;
    if slice.figures.answered == 0 {
        return Some(Disturbance {
            reason: "no answer came in the measured time".to_owned(),
            weight: f64::INFINITY,
        });
    }
    let other = slice.busiest_other.as_deref().unwrap_or("a process");
    let (steal, busy) = (slice.figures.steal, slice.figures.others_busy);
    [
        (
            steal / STEAL_MAX,
            format!("{:.1} % of the CPUs' time was stolen", percent(steal)),
        ),
        (
            busy / OTHERS_BUSY_MAX,
            format!("{other} used {:.1} % of a CPU", percent(busy)),
        ),
        (
            slice.idle_busy / IDLE_BUSY_MAX,
            format!(
                "an idle server used {:.1} % of a CPU",
                percent(slice.idle_busy)
            ),
        ),
    ]
    .into_iter()
    .filter(|(weight, _)| *weight > 1.0)
    .max_by(|(one, _), (other, _)| one.total_cmp(other))
    .map(|(weight, reason)| Disturbance { reason, weight })
}

/// Why a server is disqualified: it acknowledged writes that it cannot have made durable.
///
/// A write is durable once a flush ended that began after the write came. So one flush covers at most what was in flight when it
/// began, and there are at least as many flushes as acknowledged writes divided by the most that can have been in flight: connections times
/// streams of a closed loop, and of an open one twice what comes on average during the longest latency. That bound is never too high, and a server
/// that flushes by a timer misses it.
pub(crate) fn disqualification(figures: &Figures, load: &Load, proof: Proof) -> Option<String> {
    let seen = match proof {
        Proof::None => return None,
        Proof::Flush => figures.cost.disk_flushes,
        Proof::Write => figures.cost.disk_flushes + figures.cost.disk_writes,
    };
    // Bisections and overloads are many runs in one; their counters belong to no single load.
    if load.capacity_p99_ms.is_some() || load.overload {
        return None;
    }
    let verified = &figures.verified;
    let writes = verified.acknowledged_changes as f64 / verified.answered_right.max(1) as f64
        * figures.answered as f64;
    let in_flight_max = match load.rate {
        None => f64::from(load.conns) * f64::from(load.streams),
        Some(rate) => 2.0 * rate * figures.latency.max_us / 1e6 + 10.0,
    };
    // Both ends of the measured time cut through a group, and the share of writes is that of the whole run.
    let needed = (writes / in_flight_max.max(1.0) * 0.9 - 2.0).max(0.0);
    ((seen as f64) < needed).then(|| {
        format!(
            "disqualified: {seen} flushes for {writes:.0} acknowledged writes of which at most {in_flight_max:.0} were in flight; \
             at least {needed:.0} were needed"
        )
    })
}

/// What is odd but does not make a slice worthless.
pub(crate) fn warnings(figures: &Figures, load: &Load) -> Vec<String> {
    let mut warnings = Vec::new();
    let (process, threads) = (
        figures.cost.server_cpu_ns as f64,
        figures.cost.server_threads_ns as f64,
    );
    if process > CLOCK_NS_MIN && (process - threads).abs() / process > CLOCKS_DIFFER_MAX {
        warnings.push(format!(
            "the server's CPU clock says {:.3} s, its threads' add up to {:.3} s",
            process / 1e9,
            threads / 1e9
        ));
    }
    if load.rate.is_none() && !load.overload && figures.client_busy > CLIENT_BUSY_MAX {
        warnings.push("the generator was the limit: the rate is a floor".to_owned());
    }
    if !load.overload
        && load.capacity_p99_ms.is_none()
        && figures.answered * 10 < figures.operations * 9
    {
        warnings.push(format!(
            "the server fell behind: {} of {} operations were answered in time",
            figures.answered, figures.operations
        ));
    }
    // Killing a server leaves some unanswered: that is no oddity.
    let unanswered = figures.restart.map_or(0, |restart| restart.unanswered);
    let failures = figures.verified.failures.values().sum::<u64>() - unanswered;
    let loses_some = load.overload || load.leader_kills.is_some();
    if !loses_some && (failures > 0 || figures.verified.over_limit > 0) {
        warnings.push(format!(
            "{failures} operations failed, {} were due while too many were unanswered",
            figures.verified.over_limit
        ));
    }
    let failed = figures.beside.iter().filter_map(|one| one.failure.as_ref());
    if let Some(failure) = failed.clone().next() {
        let count = failed.count();
        warnings.push(format!(
            "{count} times what was done beside failed: {failure}"
        ));
    }
    warnings
}

/// Share of all CPUs' time.
const STEAL_MAX: f64 = 0.01;
/// Share of one CPU, of one process.
const OTHERS_BUSY_MAX: f64 = 0.03;
const IDLE_BUSY_MAX: f64 = 0.01;
const CLOCKS_DIFFER_MAX: f64 = 0.02;
/// Below this the steps of the clocks are seen.
const CLOCK_NS_MIN: f64 = 50e6;
