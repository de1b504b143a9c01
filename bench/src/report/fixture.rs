//! Made-up results for tests and for looking at the page: every cell of the issue, with figures of a plausible size. None was measured.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::plan::{Action, Cell, Kind, Method, Plan};
use crate::record::{
    Beside, Capacity, Cost, Expiry, Failover, Figures, Idle, Latency, Overload, Part, PerOperation,
    Restart, Second, Slice, Verified, Watched,
};

/// What a cell's slices are scattered around, for the server that takes longest.
struct Level {
    cpu_us: f64,
    p50_us: f64,
    per_second: f64,
    /// How many times better basalt is, in all three.
    times: f64,
}

/// The committed plan, with a title that means harm.
pub(super) fn plan() -> Plan {
    let mut plan = Plan::load("full").unwrap();
    for method in plan.methods.values_mut() {
        method.rounds = method.rounds.min(2);
    }
    for cell in &mut plan.cells {
        if cell.load.overload {
            cell.title = HOSTILE.to_owned();
        }
    }
    plan
}

/// Three cells of it, for tests that need no more.
pub(super) fn small() -> Plan {
    let mut plan = plan();
    plan.cells.retain(|cell| {
        ["W01-put-lone", "W03-put-1000", "W35-overload"].contains(&cell.name.as_str())
    });
    plan
}

/// All slices of the plan. `skill` scales basalt's advantage, so that a history has a direction.
pub(super) fn slices(plan: &Plan, skill: f64) -> Vec<Slice> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut all: Vec<Slice> = Vec::new();
    for cell in &plan.cells {
        let level = level(cell);
        let method = plan.method(cell).unwrap();
        let level = Level {
            times: 1.0 + (level.times - 1.0) * skill,
            ..level
        };
        for placement in &method.placements {
            for round in 1..=method.rounds(*placement) {
                for server in Method::round(cell.servers(method)) {
                    let place = all.len() as u32 + 1;
                    let figures = figures(cell, server, &level, method.seconds, &mut random);
                    all.push(Slice {
                        cell: cell.name.clone(),
                        placement: *placement,
                        server: server.clone(),
                        round,
                        place,
                        discarded: (place % 41 == 7)
                            .then(|| "2.3 % of the time was stolen".to_owned()),
                        disturbed: (place % 41 == 8)
                            .then(|| "`chromium` used 4.1 % of a CPU".to_owned()),
                        began: 1_795_000_000 + u64::from(place) * 14,
                        busiest_other: None,
                        idle_busy: 0.0,
                        warnings: Vec::new(),
                        figures,
                    });
                }
            }
        }
    }
    all
}

/// Writes a folder.
pub(super) fn write(results: &Path, name: &str, plan: &Plan, slices: &[Slice]) {
    let folder = results.join(name);
    fs::create_dir_all(&folder).unwrap();
    let lines: String = slices
        .iter()
        .map(|slice| serde_json::to_string(slice).unwrap() + "\n")
        .collect();
    fs::write(folder.join("slices.jsonl"), lines).unwrap();
    fs::write(
        folder.join("plan.json"),
        serde_json::to_string_pretty(plan).unwrap(),
    )
    .unwrap();
    fs::write(folder.join("host.json"), HOST).unwrap();
}

fn figures(
    cell: &Cell,
    server: &str,
    level: &Level,
    seconds: f64,
    random: &mut fastrand::Rng,
) -> Figures {
    let times = match server {
        "basalt" => level.times,
        "etcd-tuned" => 1.0,
        _ => 0.86,
    };
    let mut about =
        |value: f64, percent: f64| value * (1.0 + (random.f64() - 0.5) * percent / 50.0);
    let cpu = about(level.cpu_us / times, 4.0);
    let p50 = about(level.p50_us / times, 6.0);
    let per_second = match cell.load.rate {
        Some(rate) => rate,
        None => about(level.per_second * times, 5.0),
    };
    let operations = (per_second * seconds) as u64;
    let writes = cell.shape.workload != Kind::Get;
    let tail = if server == "basalt" { 1.6 } else { 3.5 };
    let at = |nines: f64| p50 * f64::powf(tail, nines);
    let by_second = (0..seconds as u32)
        .map(|_| Second {
            done: about(per_second, 9.0) as u64,
            p50_us: p50,
            p99_us: at(2.0),
            p999_us: at(3.0),
            max_us: at(4.0),
        })
        .collect();
    let inner = match cell.shape.workload {
        Kind::TxnPuts | Kind::TxnCompares => u64::from(cell.shape.batch),
        _ => 1,
    };
    let resident = about(if server == "basalt" { 62e6 } else { 131e6 }, 3.0)
        * (f64::from(cell.shape.keys) / 1e5).max(0.3).powf(0.9);
    Figures {
        operations,
        answered: operations,
        inner_operations: operations * inner,
        seconds,
        per_second,
        value_bytes_per_second: per_second * f64::from(cell.shape.value_size),
        walk_seconds: (cell.shape.workload == Kind::ListPage).then_some(p50 / 500.0),
        latency: Latency {
            mean_us: p50 * 1.1,
            p50_us: p50,
            p90_us: at(1.0),
            p99_us: at(2.0),
            p999_us: at(3.0),
            p9999_us: at(4.0),
            max_us: at(4.5),
            longest_stall_us: at(4.2),
            pauses: if server == "basalt" { 0 } else { 3 },
            curve: (0..=24)
                .map(|n| {
                    let nines = f64::from(n) / 5.0;
                    let bend = about(1.0, 3.0);
                    (
                        1.0 - 10f64.powf(-nines),
                        p50 * 0.6 * bend + at(nines) - p50 * 0.5,
                    )
                })
                .chain([(1.0, at(5.0))])
                .collect(),
        },
        parts: match cell.shape.workload {
            Kind::Mixed => ["reads", "writes"]
                .map(|name| part(name, per_second / 2.0, p50))
                .to_vec(),
            _ => Vec::new(),
        },
        per_operation: PerOperation {
            server_cpu_us: cpu,
            machine_less_client_us: cpu * 1.12,
            server_switches: 0.01,
            disk_flushes: if writes { about(0.02, 5.0) } else { 0.0 },
            disk_writes: if writes { 0.03 } else { 0.0 },
            disk_bytes: if writes {
                about(900.0 / times.sqrt(), 3.0)
            } else {
                0.0
            },
        },
        cost: Cost {
            server_cpu_ns: (cpu * 1e3 * operations as f64) as u64,
            server_threads_ns: (cpu * 1e3 * operations as f64) as u64,
            server_switches: 100,
            server_major_faults: u64::from(cell.memory_max_mib.is_some()) * operations / 9,
            client_cpu_ns: 1_700 * operations,
            machine_less_client_ns: (cpu * 1.12e3 * operations as f64) as u64,
            steal_ns: 0,
            disk_writes: 1,
            disk_bytes: 1,
            disk_flushes: 1,
        },
        client_busy: (1.7e-6 * per_second).min(1.0),
        client_us_per_operation: about(1.7, 4.0),
        steal: 0.002,
        others_busy: 0.004,
        server_resident_bytes: resident as u64,
        server_resident_bytes_max: (resident * 1.1) as u64,
        server_proportional_bytes: (resident * 0.97) as u64,
        verified: Verified {
            answered_right: operations,
            failures: if cell.load.overload && server != "basalt" {
                BTreeMap::from([(HOSTILE.to_owned(), 412)])
            } else {
                BTreeMap::new()
            },
            ..Verified::default()
        },
        by_second,
        beside: cell.load.beside.map_or_else(Vec::new, |_| {
            vec![Beside {
                began: 0.0,
                seconds: 30.0 / times,
                bytes: 1 << 30,
                left: None,
                failure: None,
            }]
        }),
        expiry: (cell.load.beside == Some(Action::Expire)).then(|| Expiry {
            leases: cell.shape.leases,
            renewed_seconds: 0.5,
            gone_seconds: 20.0 / times,
        }),
        idle: cell.load.idle.then(|| Idle {
            connections: u32::from(cell.load.conns),
            connects_per_second: 3000.0 * times,
            bytes_each: 35e3 / times,
            bytes_each_used: 40e3 / times,
        }),
        watch: cell.load.watchers().map(|watching| Watched {
            watchers: watching.watchers,
            creations_per_second: Some(50e3 * times),
            bytes_each: Some(1500.0 / times),
            events: 1_000_000,
            events_per_second: 100e3,
            cpu_us_per_event: 10.0 / times,
            delay_p50_us: at(1.0),
            delay_p99_us: at(2.0),
            delay_max_us: at(4.0),
            after_acknowledged_p99_us: at(0.5),
            catch_up_seconds: (watching.watch_behind > 0).then_some(20.0 / times),
            p99_us_alone: at(1.0),
            p99_times: 1.2,
            cpu_us_alone: level.cpu_us,
            cpu_times: 1.4,
        }),
        restart: cell.load.restart.map(|_| Restart {
            seconds: f64::from(cell.shape.keys) * 5e-6 / times,
            cpu_seconds: f64::from(cell.shape.keys) * 4e-6 / times,
            resident_bytes: resident as u64,
            unanswered: 12,
        }),
        failover: cell.load.leader_kills.map(|kills| Failover {
            gaps_seconds: vec![1.5 / times; usize::from(kills)],
            unanswered: 40,
        }),
        capacity: cell.load.capacity_p99_ms.map(|p99_ms_max| Capacity {
            p99_ms_max,
            per_second,
            saturation_per_second: per_second * 1.2,
            trials: vec![
                (per_second, at(2.0), true),
                (per_second * 2.0, 30_000.0, false),
            ],
        }),
        overload: cell.load.overload.then(|| Overload {
            capacity_per_second: per_second,
            demanded_per_second: per_second * 2.0,
            offered_per_second: per_second * 2.0,
            client_busy: 0.9,
            half_p99_us: at(2.0),
            goodput_per_second: per_second * if server == "basalt" { 0.97 } else { 0.41 },
            failures: BTreeMap::new(),
            recovery_seconds: Some(if server == "basalt" { 0.4 } else { 7.0 }),
        }),
    }
}

fn part(name: &str, per_second: f64, p50_us: f64) -> Part {
    Part {
        name: name.to_owned(),
        operations: (per_second * 5.0) as u64,
        per_second,
        p50_us,
        p99_us: p50_us * 2.0,
        p999_us: p50_us * 3.0,
        max_us: p50_us * 4.0,
    }
}

fn level(cell: &Cell) -> Level {
    let (shape, flight) = (
        &cell.shape,
        f64::from(cell.load.conns) * f64::from(cell.load.streams),
    );
    let (cpu_us, times) = match shape.workload {
        Kind::Put => (49.0, 11.9),
        Kind::Get => (29.0, 12.1),
        Kind::KeepAlive => (18.0, 9.0),
        Kind::Range | Kind::Mixed => (260.0, 7.5),
        Kind::Txn => (62.0, 9.1),
        Kind::ListPage | Kind::Count | Kind::KeysOnly => (110_000.0, 300.0),
        Kind::TxnPuts | Kind::TxnCompares => (40.0 + 12.0 * f64::from(shape.batch), 9.5),
    };
    let lone = if flight < 2.0 { 6.0 } else { 1.0 };
    let per_second = 1e6 / (cpu_us * lone);
    Level {
        cpu_us: cpu_us * lone * (f64::from(shape.keys) / 1e5).max(0.9).powf(0.2),
        p50_us: cell
            .load
            .rate
            .map_or(flight / per_second * 1e6, |rate| 300.0 + rate / 5.0),
        per_second,
        times: if flight < 2.0 { 2.1 } else { times },
    }
}

/// As an error text of a server that means harm.
pub(super) const HOSTILE: &str = "rpc error: <script>alert(\"&'\")</script> | *too many requests*";

const HOST: &str = r#"{
  "kernel": "Linux version 6.18.44 (builder@sandboxing) #1 SMP PREEMPT_DYNAMIC",
  "cpu": "model name\t: AMD EPYC",
  "cpus": 2,
  "memory": "MemTotal:       24684092 kB",
  "tcp_congestion_control": "cubic",
  "data_mount": "/dev/vda ext4   rw,relatime,discard,resv_strict,resuid=65534,resgid=65534",
  "commit": "be5b31f",
  "servers": {
    "basalt": { "command": "target/release/basalt", "sha256": "84cec6cae99ca6c29ebeaaaa12cd86a88a24e155d2ffd42c120eee86d7535703", "version": "basalt Version: 0.1.0\netcd Version: 3.7.3" },
    "etcd-tuned": { "command": "/tmp/tools/bin/etcd --quota-backend-bytes 8589934592 --log-level error --listen-client-http-urls http://127.0.0.1:0", "sha256": "efb6d17a9c2bf3f833f193636124f007dcf45003fb613826b15f627aa73998e4", "version": "etcd Version: 3.7.3" }
  }
}"#;
