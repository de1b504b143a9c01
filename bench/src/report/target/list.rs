//! workloads.md section 5 as data: which figure of which cell, and its bounds.

use super::{Aim, Target};
use crate::plan::{Cell, Kind};

/// Families that differ in the number of keys have targets of their own.
fn any(cell: &Cell) -> bool {
    !is_growth(cell)
}

fn is_growth(cell: &Cell) -> bool {
    cell.name.contains("-grow-")
}

/// Not the cells with one call in flight: those are bound by the wake-ups of two processes (workloads.md, honest limits).
fn is_busy(cell: &Cell) -> bool {
    any(cell)
        && cell.load.rate.is_none()
        && u32::from(cell.load.conns) * u32::from(cell.load.streams) > 1
}

fn is_busy_get(cell: &Cell) -> bool {
    is_busy(cell) && !cell.shape.serializable
}

fn is_busy_serializable_get(cell: &Cell) -> bool {
    is_busy(cell) && cell.shape.serializable
}

/// A static, not a constant: outcomes are told apart by the address of their target.
pub(super) static TARGETS: &[Target] = &[
    Target {
        workload: "W03",
        title: "server CPU per put, 1000 in flight",
        figure: "cpu",
        applies: any,
        must: 6.0,
        moon: Some(12.0),
        headline: Some("less CPU per put, 1000 in flight"),
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W07",
        title: "server CPU per linearizable get",
        figure: "cpu",
        applies: is_busy_get,
        must: 7.0,
        moon: Some(12.0),
        headline: Some("less CPU per linearizable get"),
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W13",
        title: "server CPU per Kubernetes txn",
        figure: "cpu",
        applies: is_busy,
        must: 7.0,
        moon: Some(14.0),
        headline: Some("less CPU per Kubernetes txn"),
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W02",
        title: "p99 of puts, 100 in flight",
        figure: "p99",
        applies: any,
        must: 8.0,
        moon: Some(20.0),
        headline: Some("lower p99 of puts, 100 in flight"),
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W01",
        title: "p50 of a lone put",
        figure: "p50",
        applies: any,
        must: 1.6,
        moon: Some(2.2),
        headline: Some("lower p50 of a lone put"),
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W01",
        title: "disk bytes of a lone put",
        figure: "bytes",
        applies: any,
        must: 2.5,
        moon: Some(3.5),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W02",
        title: "server CPU per put, 100 in flight (issue 4)",
        figure: "cpu",
        applies: any,
        must: 10.0,
        moon: None,
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W03",
        title: "puts per second",
        figure: "rate",
        applies: any,
        must: 5.0,
        moon: Some(8.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W03",
        title: "disk bytes per put",
        figure: "bytes",
        applies: any,
        must: 1.2,
        moon: Some(1.4),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W04",
        title: "p99.9 of puts at 10 000/s, open loop",
        figure: "p999",
        applies: |cell| {
            cell.load
                .rate
                .is_some_and(|rate| (rate - 10_000.0).abs() < 1.0)
        },
        must: 8.0,
        moon: Some(20.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W07",
        title: "server CPU per serializable get",
        figure: "cpu",
        applies: is_busy_serializable_get,
        must: 7.0,
        moon: Some(12.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W07",
        title: "gets per second",
        figure: "rate",
        applies: is_busy,
        must: 4.0,
        moon: Some(6.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W12",
        title: "reads per second, one read to a write",
        figure: "reads",
        applies: |cell| (cell.shape.read_ratio - 1.0).abs() < 1e-9,
        must: 8.0,
        moon: Some(20.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W12",
        title: "writes per second, one read to a write",
        figure: "writes",
        applies: |cell| (cell.shape.read_ratio - 1.0).abs() < 1e-9,
        must: 8.0,
        moon: Some(20.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W14",
        title: "server CPU per txn of 10 puts",
        figure: "cpu",
        applies: |cell| cell.shape.workload == Kind::TxnPuts && cell.shape.batch == 10,
        must: 8.0,
        moon: Some(14.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W06",
        title: "server CPU per put among the most keys beside the fewest, basalt alone",
        figure: "cpu",
        applies: is_growth,
        must: 1.0 / 2.0,
        moon: Some(1.0 / 1.5),
        headline: None,
        aim: Aim::Growth,
    },
    Target {
        workload: "W06",
        title: "resident memory with a million keys of 64 B and values of 256 B",
        figure: "resident",
        applies: |cell| cell.shape.keys == 1_000_000,
        must: 2.5,
        moon: Some(4.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W08",
        title: "server CPU per range of 1000 keys",
        figure: "cpu",
        applies: |cell| cell.shape.workload == Kind::Range,
        must: 6.0,
        moon: Some(10.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W09",
        title: "server CPU per page of 500 of a million keys",
        figure: "cpu",
        applies: any,
        must: 50.0,
        moon: Some(300.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W10",
        title: "server CPU per count of a million keys",
        figure: "cpu",
        applies: |cell| cell.shape.workload == Kind::Count,
        must: 500.0,
        moon: Some(10_000.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W25",
        title: "p99.9 of puts beside a compaction",
        figure: "p999",
        applies: any,
        must: 10.0,
        moon: Some(50.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W25",
        title: "longest stall of puts beside a compaction",
        figure: "stall",
        applies: any,
        must: 10.0,
        moon: Some(50.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W25",
        title: "longest stall of puts beside a compaction, basalt alone (issue 5)",
        figure: "stall",
        applies: any,
        must: 1.0 / 20e3,
        moon: None,
        headline: None,
        aim: Aim::AtMost,
    },
    Target {
        workload: "W27",
        title: "longest stall beside a defragmentation, basalt alone",
        figure: "stall",
        applies: any,
        must: 1.0 / 50e3,
        moon: Some(1.0 / 5e3),
        headline: None,
        aim: Aim::AtMost,
    },
    Target {
        workload: "W28",
        title: "p99.9 of puts beside a snapshot (issue 5)",
        figure: "p999",
        applies: any,
        must: 10.0,
        moon: None,
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W29",
        title: "time from a start to the first linearizable get, a million keys",
        figure: "restart",
        applies: |cell| cell.shape.keys == 1_000_000,
        must: 10.0,
        moon: Some(60.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W29",
        title: "time from a start to the first linearizable get, a million keys, basalt alone (issue 5)",
        figure: "restart",
        applies: |cell| cell.shape.keys == 1_000_000,
        must: 1.0,
        moon: None,
        headline: None,
        aim: Aim::AtMost,
    },
    Target {
        workload: "W29",
        title: "time from a start to the first linearizable get, ten million keys, basalt alone (issue 5)",
        figure: "restart",
        applies: |cell| cell.shape.keys == 10_000_000,
        must: 1.0 / 2.0,
        moon: Some(1.0 / 0.8),
        headline: None,
        aim: Aim::AtMost,
    },
    Target {
        workload: "W35",
        title: "goodput at twice the capacity, share of capacity",
        figure: "goodput-share",
        applies: any,
        must: 0.9,
        moon: Some(0.95),
        headline: None,
        aim: Aim::Itself,
    },
];
