//! A short campaign, what it rests on, and the plans that failed once. Long ones: `cargo run --profile sim -p basalt-tests --bin campaign`.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests.

use std::path::Path;

use basalt_tests::sim::kept::Kept;
use basalt_tests::sim::plan::{Fault, FaultKind, Plan, Wish};
use basalt_tests::sim::{Tally, run};
use basalt_tests::tools;

fn seeds() -> u64 {
    tools::count("BASALT_SIM_SEEDS", 60)
}

#[test]
fn a_short_campaign_finds_nothing() {
    let mut tally = Tally::default();
    for seed in 1..=seeds() {
        let report = run(&Plan::draw(seed, Wish::default()), false);
        assert_eq!(report.violation, None, "seed {seed}");
        tally.merge(&report.tally);
    }
    println!("{tally:#?}");
    // What never happens is not tested.
    for what in [
        "answers replayed",
        "checkpoints",
        "crashes in recovery",
        "durable checks",
        "failed writes",
        "histories linearizable",
        "served after faults",
        "unknown outcomes settled",
    ] {
        assert!(tally.0.get(what).is_some_and(|it| *it > 0), "no {what}");
    }
}

/// A failing seed that cannot be repeated is worth nothing.
#[test]
fn a_seed_leaves_the_same_trace_again() {
    for seed in 1..=15 {
        let plan = Plan::draw(seed, Wish::default());
        let first = run(&plan, false).trace;
        // Other addresses, another stack, and lines kept.
        let ballast = vec![seed; 10_000];
        let again = std::thread::spawn(move || run(&plan, true).trace);
        assert_eq!(first, again.join().unwrap(), "seed {seed}");
        drop(ballast);
    }
    let [one, other] = [1, 2].map(|seed| run(&Plan::draw(seed, Wish::default()), false).trace);
    assert_ne!(one, other);
}

/// The checkers must see what they are there for: here a disk that answers and does not write.
#[test]
fn a_lying_disk_is_noticed() {
    let mut noticed = 0;
    for seed in 1..=40 {
        let mut plan = Plan::draw(seed, Wish { members: 1 });
        plan.settings.safety_ms = 4000;
        plan.faults = [2_000_000, 2_400_000, 2_800_000]
            .map(lie_and_crash)
            .concat();
        noticed += u32::from(run(&plan, false).violation.is_some());
    }
    assert!(noticed > 3, "{noticed} of 40");
}

fn lie_and_crash(at_us: u64) -> Vec<Fault> {
    let lie = FaultKind::DiskLies {
        member: 0,
        shift_pages: at_us / 400_000 % 2,
    };
    let crash = FaultKind::Crash {
        member: 0,
        power: true,
        chances: 8,
        down_ms: 5,
        in_recovery: false,
    };
    let fault = |at_us, kind| Fault { at_us, kind };
    vec![fault(at_us, lie), fault(at_us + 300_000, crash)]
}

#[test]
fn plans_that_failed_once_pass() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("bugs");
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "json"))
        .collect();
    paths.sort();
    for path in paths {
        let kept = Kept::read(&path).unwrap();
        let report = run(&kept.plan, false);
        assert_eq!(report.violation, None, "{}", path.display());
    }
}
