//! The figures that a report shows: what each is called, its unit, which direction is good, and how it is written for people.

use crate::record::{Beside, Figures, Part, Slice};
use crate::statistics::{self, Sample};

/// One figure of a slice.
pub(super) struct Quantity {
    /// The same in every release: targets and histories name it.
    pub id: &'static str,
    pub label: &'static str,
    pub unit: Unit,
    /// None where neither direction is a merit of the server.
    pub better: Option<Better>,
    /// None where the slice has no such figure.
    pub of: fn(&Figures) -> Option<f64>,
}

/// Which direction is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Better {
    Lower,
    Higher,
}

/// What a number counts, so that it can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Microseconds,
    Seconds,
    Bytes,
    PerSecond,
    BytesPerSecond,
    Count,
    /// 0.5 is 50 %.
    Share,
}

impl Unit {
    /// With three significant digits and the unit that suits its size.
    pub(super) fn text(self, value: f64) -> String {
        if !value.is_finite() {
            return "—".to_owned();
        }
        match self {
            Self::Microseconds if value >= 999_500.0 => format!("{} s", digits(value / 1e6)),
            Self::Microseconds if value >= 999.5 => format!("{} ms", digits(value / 1e3)),
            Self::Microseconds => format!("{} µs", digits(value)),
            Self::Seconds => format!("{} s", digits(value)),
            Self::Bytes if value >= MIB * 1024.0 => format!("{} GiB", digits(value / MIB / 1024.0)),
            Self::Bytes if value >= MIB => format!("{} MiB", digits(value / MIB)),
            Self::Bytes if value >= 10_240.0 => format!("{} KiB", digits(value / 1024.0)),
            Self::Bytes => format!("{} B", digits(value)),
            Self::BytesPerSecond => format!("{}/s", Self::Bytes.text(value)),
            Self::PerSecond => format!("{}/s", digits(value)),
            Self::Count if value.fract() == 0.0 && value.abs() < 1000.0 => format!("{value:.0}"),
            Self::Count => digits(value),
            Self::Share => format!("{} %", digits(value * 100.0)),
        }
    }
}

/// Three significant digits, and a blank between thousands that does not break.
pub(super) fn digits(value: f64) -> String {
    let size = value.abs();
    if size >= 999.5 {
        return thousands(value);
    }
    let places = match size {
        _ if size >= 99.95 => 0,
        _ if size >= 9.995 => 1,
        _ if size >= 0.9995 => 2,
        _ if size >= 0.09995 => 3,
        _ if size >= 0.000_05 => 4,
        _ => return "0".to_owned(),
    };
    format!("{value:.places$}")
}

fn thousands(value: f64) -> String {
    // Beyond three digits the rest is noise.
    let step = 10f64.powf((value.abs().log10().floor() - 2.0).max(0.0));
    let whole = format!("{:.0}", (value / step).round() * step);
    let (sign, number) = whole
        .strip_prefix('-')
        .map_or(("", &*whole), |number| ("-", number));
    let mut out = sign.to_owned();
    for (at, digit) in number.chars().enumerate() {
        if at > 0 && (number.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// The quantity of that name.
pub(super) fn quantity(id: &str) -> Option<&'static Quantity> {
    QUANTITIES.iter().find(|quantity| quantity.id == id)
}

/// The figures of some slices, those without this one left out.
pub(super) fn samples(quantity: &Quantity, slices: &[&Slice]) -> Vec<Sample> {
    slices
        .iter()
        .filter_map(|slice| {
            let value = (quantity.of)(&slice.figures)?;
            let round = slice.round;
            value.is_finite().then_some(Sample { round, value })
        })
        .collect()
}

/// As `samples`, without the rounds.
pub(super) fn values(quantity: &Quantity, slices: &[&Slice]) -> Vec<f64> {
    statistics::values(&samples(quantity, slices))
}

fn part<'f>(figures: &'f Figures, name: &str) -> Option<&'f Part> {
    figures.parts.iter().find(|part| part.name == name)
}

/// What was done beside the operations, and did not fail.
fn done_beside(figures: &Figures) -> impl Iterator<Item = &Beside> {
    let beside = figures.beside.iter();
    beside.filter(|beside| beside.failure.is_none())
}

const MIB: f64 = 1024.0 * 1024.0;

/// All figures, most stable first (workloads.md section 3).
pub(super) const QUANTITIES: &[Quantity] = &[
    Quantity {
        id: "cpu",
        label: "server CPU per operation",
        unit: Unit::Microseconds,
        better: Some(Better::Lower),
        of: |f| Some(f.per_operation.server_cpu_us),
    },
    Quantity {
        id: "cpu-inner",
        label: "server CPU per inner operation",
        unit: Unit::Microseconds,
        better: Some(Better::Lower),
        of: |f| {
            (f.inner_operations != f.operations && f.inner_operations > 0)
                .then(|| f.cost.server_cpu_ns as f64 / 1e3 / f.inner_operations as f64)
        },
    },
    Quantity {
        id: "machine",
        label: "machine less generator per operation",
        unit: Unit::Microseconds,
        better: Some(Better::Lower),
        of: |f| Some(f.per_operation.machine_less_client_us),
    },
    Quantity {
        id: "switches",
        label: "context switches per operation",
        unit: Unit::Count,
        better: Some(Better::Lower),
        of: |f| Some(f.per_operation.server_switches),
    },
    Quantity {
        id: "major-faults",
        label: "major faults per operation",
        unit: Unit::Count,
        better: Some(Better::Lower),
        of: |f| {
            let faults = f.cost.server_major_faults;
            (faults > 0).then(|| faults as f64 / f.answered.max(1) as f64)
        },
    },
    Quantity {
        id: "flushes",
        label: "flushes per operation",
        unit: Unit::Count,
        better: None,
        of: |f| Some(f.per_operation.disk_flushes),
    },
    Quantity {
        id: "bytes",
        label: "disk bytes per operation",
        unit: Unit::Bytes,
        better: Some(Better::Lower),
        of: |f| Some(f.per_operation.disk_bytes),
    },
    Quantity {
        id: "resident",
        label: "resident memory at the end",
        unit: Unit::Bytes,
        better: Some(Better::Lower),
        of: |f| Some(f.server_resident_bytes as f64),
    },
    Quantity {
        id: "resident-max",
        label: "resident memory at most",
        unit: Unit::Bytes,
        better: Some(Better::Lower),
        of: |f| Some(f.server_resident_bytes_max as f64),
    },
    Quantity {
        id: "proportional",
        label: "proportional memory at the end",
        unit: Unit::Bytes,
        better: Some(Better::Lower),
        of: |f| (f.server_proportional_bytes > 0).then_some(f.server_proportional_bytes as f64),
    },
    Quantity {
        id: "p50",
        label: "latency p50",
        unit: Unit::Microseconds,
        better: Some(Better::Lower),
        of: |f| Some(f.latency.p50_us),
    },
    Quantity {
        id: "p99",
        label: "latency p99",
        unit: Unit::Microseconds,
        better: Some(Better::Lower),
        of: |f| Some(f.latency.p99_us),
    },
    Quantity {
        id: "p999",
        label: "latency p99.9",
        unit: Unit::Microseconds,
        better: Some(Better::Lower),
        of: |f| Some(f.latency.p999_us),
    },
    Quantity {
        id: "p9999",
        label: "latency p99.99",
        unit: Unit::Microseconds,
        better: Some(Better::Lower),
        of: |f| Some(f.latency.p9999_us),
    },
    Quantity {
        id: "max",
        label: "latency, worst",
        unit: Unit::Microseconds,
        better: Some(Better::Lower),
        of: |f| Some(f.latency.max_us),
    },
    Quantity {
        id: "stall",
        label: "longest stall",
        unit: Unit::Microseconds,
        better: Some(Better::Lower),
        of: |f| Some(f.latency.longest_stall_us),
    },
    Quantity {
        id: "pauses",
        label: "pauses (tenths of a second with 10 times the p50)",
        unit: Unit::Count,
        better: Some(Better::Lower),
        of: |f| Some(f.latency.pauses as f64),
    },
    Quantity {
        id: "rate",
        label: "operations per second",
        unit: Unit::PerSecond,
        better: Some(Better::Higher),
        of: |f| Some(f.per_second),
    },
    Quantity {
        id: "value-rate",
        label: "bytes of values",
        unit: Unit::BytesPerSecond,
        better: Some(Better::Higher),
        of: |f| (f.value_bytes_per_second > 0.0).then_some(f.value_bytes_per_second),
    },
    Quantity {
        id: "walk",
        label: "time of a walk over all keys",
        unit: Unit::Seconds,
        better: Some(Better::Lower),
        of: |f| f.walk_seconds,
    },
    Quantity {
        id: "reads",
        label: "reads per second",
        unit: Unit::PerSecond,
        better: Some(Better::Higher),
        of: |f| Some(part(f, "reads")?.per_second),
    },
    Quantity {
        id: "reads-p99",
        label: "latency p99 of reads",
        unit: Unit::Microseconds,
        better: Some(Better::Lower),
        of: |f| Some(part(f, "reads")?.p99_us),
    },
    Quantity {
        id: "writes",
        label: "writes per second",
        unit: Unit::PerSecond,
        better: Some(Better::Higher),
        of: |f| Some(part(f, "writes")?.per_second),
    },
    Quantity {
        id: "writes-p99",
        label: "latency p99 of writes",
        unit: Unit::Microseconds,
        better: Some(Better::Lower),
        of: |f| Some(part(f, "writes")?.p99_us),
    },
    Quantity {
        id: "capacity",
        label: "capacity within the demanded p99",
        unit: Unit::PerSecond,
        better: Some(Better::Higher),
        of: |f| Some(f.capacity.as_ref()?.per_second),
    },
    Quantity {
        id: "goodput",
        label: "goodput in overload",
        unit: Unit::PerSecond,
        better: Some(Better::Higher),
        of: |f| Some(f.overload.as_ref()?.goodput_per_second),
    },
    Quantity {
        id: "goodput-share",
        label: "goodput share of capacity",
        unit: Unit::Share,
        better: Some(Better::Higher),
        of: |f| {
            let overload = f.overload.as_ref()?;
            Some(overload.goodput_per_second / overload.capacity_per_second)
        },
    },
    Quantity {
        id: "recovery",
        label: "recovery afterwards",
        unit: Unit::Seconds,
        better: Some(Better::Lower),
        of: |f| f.overload.as_ref()?.recovery_seconds,
    },
    Quantity {
        id: "beside",
        label: "time of what was done beside",
        unit: Unit::Seconds,
        better: Some(Better::Lower),
        of: |f| {
            let seconds: Vec<f64> = done_beside(f).map(|beside| beside.seconds).collect();
            (!seconds.is_empty()).then(|| seconds.iter().sum::<f64>() / seconds.len() as f64)
        },
    },
    Quantity {
        id: "beside-rate",
        label: "bytes that came beside",
        unit: Unit::BytesPerSecond,
        better: Some(Better::Higher),
        of: |f| {
            let bytes = done_beside(f).map(|beside| beside.bytes).sum::<u64>();
            let began = done_beside(f).map(|beside| beside.began).reduce(f64::min)?;
            let ended = done_beside(f)
                .map(|beside| beside.began + beside.seconds)
                .reduce(f64::max)?;
            (bytes > 0 && ended > began).then(|| bytes as f64 / (ended - began))
        },
    },
    Quantity {
        id: "leases-gone",
        label: "all leases gone after their time",
        unit: Unit::Seconds,
        better: Some(Better::Lower),
        of: |f| Some(f.expiry?.gone_seconds),
    },
    Quantity {
        id: "restart",
        label: "restart to the first linearizable get",
        unit: Unit::Seconds,
        better: Some(Better::Lower),
        of: |f| Some(f.restart?.seconds),
    },
    Quantity {
        id: "restart-cpu",
        label: "server CPU of a restart",
        unit: Unit::Seconds,
        better: Some(Better::Lower),
        of: |f| Some(f.restart?.cpu_seconds),
    },
    Quantity {
        id: "restart-resident",
        label: "resident memory after a restart",
        unit: Unit::Bytes,
        better: Some(Better::Lower),
        of: |f| Some(f.restart?.resident_bytes as f64),
    },
    Quantity {
        id: "failover-p50",
        label: "leader killed to the next acknowledged write, p50",
        unit: Unit::Seconds,
        better: Some(Better::Lower),
        of: |f| Some(f.failover.as_ref()?.quantile(0.5)),
    },
    Quantity {
        id: "failover-p99",
        label: "leader killed to the next acknowledged write, p99",
        unit: Unit::Seconds,
        better: Some(Better::Lower),
        of: |f| Some(f.failover.as_ref()?.quantile(0.99)),
    },
    Quantity {
        id: "connects",
        label: "connections opened per second",
        unit: Unit::PerSecond,
        better: Some(Better::Higher),
        of: |f| Some(f.idle?.connects_per_second),
    },
    Quantity {
        id: "idle-bytes",
        label: "memory of an idle connection",
        unit: Unit::Bytes,
        better: Some(Better::Lower),
        of: |f| Some(f.idle?.bytes_each),
    },
    Quantity {
        id: "used-bytes",
        label: "memory of a connection after its first put",
        unit: Unit::Bytes,
        better: Some(Better::Lower),
        of: |f| Some(f.idle?.bytes_each_used),
    },
    Quantity {
        id: "event-cpu",
        label: "server CPU per event",
        unit: Unit::Microseconds,
        better: Some(Better::Lower),
        of: |f| Some(f.watch?.cpu_us_per_event),
    },
    Quantity {
        id: "events",
        label: "events per second",
        unit: Unit::PerSecond,
        better: Some(Better::Higher),
        of: |f| Some(f.watch?.events_per_second),
    },
    Quantity {
        id: "event-p50",
        label: "last event of a put, p50",
        unit: Unit::Microseconds,
        better: Some(Better::Lower),
        of: |f| Some(f.watch?.delay_p50_us),
    },
    Quantity {
        id: "event-p99",
        label: "last event of a put, p99",
        unit: Unit::Microseconds,
        better: Some(Better::Lower),
        of: |f| Some(f.watch?.delay_p99_us),
    },
    Quantity {
        id: "event-after-p99",
        label: "last event behind the acknowledgement, p99",
        unit: Unit::Microseconds,
        better: Some(Better::Lower),
        of: |f| Some(f.watch?.after_acknowledged_p99_us),
    },
    Quantity {
        id: "watch-bytes",
        label: "memory of a watcher",
        unit: Unit::Bytes,
        better: Some(Better::Lower),
        of: |f| f.watch?.bytes_each,
    },
    Quantity {
        id: "watch-creations",
        label: "watchers created per second",
        unit: Unit::PerSecond,
        better: Some(Better::Higher),
        of: |f| f.watch?.creations_per_second,
    },
    Quantity {
        id: "watch-p99-times",
        label: "p99 of puts, times that without watchers",
        unit: Unit::Count,
        better: Some(Better::Lower),
        of: |f| Some(f.watch?.p99_times),
    },
    Quantity {
        id: "watch-cpu-times",
        label: "CPU per put, times that without watchers",
        unit: Unit::Count,
        better: Some(Better::Lower),
        of: |f| Some(f.watch?.cpu_times),
    },
    Quantity {
        id: "catch-up",
        label: "time until all watchers had caught up",
        unit: Unit::Seconds,
        better: Some(Better::Lower),
        of: |f| f.watch?.catch_up_seconds,
    },
    Quantity {
        id: "client",
        label: "generator CPU per operation",
        unit: Unit::Microseconds,
        better: None,
        of: |f| Some(f.client_us_per_operation),
    },
    Quantity {
        id: "client-busy",
        label: "generator busy, share of one CPU",
        unit: Unit::Share,
        better: None,
        of: |f| Some(f.client_busy),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_the_unit_that_suits_them() {
        for (unit, value, text) in [
            (Unit::Microseconds, 8.4912, "8.49 µs"),
            (Unit::Microseconds, 999.4, "999 µs"),
            (Unit::Microseconds, 999.6, "1.00 ms"),
            (Unit::Microseconds, 14_700.0, "14.7 ms"),
            (Unit::Microseconds, 2_500_000.0, "2.50 s"),
            (Unit::Bytes, 800.0, "800 B"),
            (Unit::Bytes, 6003.0, "6\u{202f}000 B"),
            (Unit::Bytes, 131.0 * MIB, "131 MiB"),
            (Unit::PerSecond, 385_502.0, "386\u{202f}000/s"),
            (Unit::PerSecond, 9999.6, "10\u{202f}000/s"),
            (Unit::Share, 0.95, "95.0 %"),
            (Unit::Count, 0.0, "0"),
            (Unit::Count, 3.0, "3"),
            (Unit::Count, 2.5, "2.50"),
            (Unit::Count, 0.0123, "0.0123"),
            (Unit::Count, f64::NAN, "—"),
        ] {
            assert_eq!(unit.text(value), text);
        }
    }

    #[test]
    fn ids_are_unique() {
        let ids: std::collections::BTreeSet<_> = QUANTITIES.iter().map(|q| q.id).collect();
        assert_eq!(ids.len(), QUANTITIES.len());
    }
}
