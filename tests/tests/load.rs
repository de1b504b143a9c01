//! The load generator against a real server: every workload ends with its work verified. Counts only, never a time.

use std::process::{Command, Stdio};

use basalt_tests::tools;
use serde_json::Value;

/// Runs the generator against a temporary server and gives back its figures. It exits with a failure when an answer was wrong, an
/// acknowledged change is missing, or a key does not hold what was written.
fn run(load: &str) -> Value {
    let data = tempfile::TempDir::new().expect("a temporary directory");
    let output = Command::new(tools::bench())
        .args(["run", "--json", "--warmup", "0.1", "--seconds", "0.4"])
        .arg("--basalt")
        .arg(tools::basalt())
        .arg("--data-root")
        .arg(data.path())
        .args(load.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .expect("the benchmark starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{load}: {errors}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn count(figures: &Value, path: &str) -> u64 {
    let value = figures.pointer(path).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("no {path} in {figures}"))
}

/// Something was measured, all of it was right, and every acknowledged change raised the revision by one.
fn assert_verified(load: &str, figures: &Value) {
    assert!(count(figures, "/operations") > 0, "{load}: {figures}");
    assert_eq!(
        count(figures, "/verified/acknowledged_changes"),
        count(figures, "/verified/revisions"),
        "{load}"
    );
    assert!(count(figures, "/verified/answered_right") >= count(figures, "/operations"));
    assert!(count(figures, "/verified/read_back") > 0, "{load}");
    assert_eq!(
        figures.pointer("/verified/failures"),
        Some(&serde_json::json!({}))
    );
}

#[test]
fn every_workload_is_verified_and_leaves_the_same_data() {
    // Keys of both kinds; a txn of 128 puts; loads of one and of several requests.
    let mut digests = Vec::new();
    for load in [
        "--workload put",
        "--workload get",
        "--workload get --serializable",
        "--workload range --limit 50",
        "--workload txn --conflict-percent 5",
        "--workload mixed --limit 20 --read-ratio 4",
        "--workload txn-puts --batch 128",
        "--workload txn-compares --batch 128",
        "--workload put --conns 1 --streams 1",
        "--workload put --rate 500",
        "--workload get --rate 500 --poisson",
    ] {
        let figures = run(&format!("{load} --keys 1000 --key-size 48 --value-size 64"));
        assert_verified(load, &figures);
        digests.push(count(&figures, "/verified/digest"));
    }
    // Values depend on the key only, so the data do not tell which workload ran.
    digests.dedup();
    assert_eq!(digests.len(), 1);
}

#[test]
fn a_txn_counts_what_it_holds() {
    let figures = run("--workload txn-puts --batch 10 --keys 100");
    assert_eq!(
        count(&figures, "/inner_operations"),
        count(&figures, "/operations") * 10
    );
}

#[test]
fn outdated_compares_are_conflicts_and_change_nothing() {
    let figures = run("--workload txn --conflict-percent 100 --keys 500");
    assert_verified("only conflicts", &figures);
    assert_eq!(count(&figures, "/verified/acknowledged_changes"), 0);
    assert_eq!(
        count(&figures, "/verified/txn_conflicts"),
        count(&figures, "/verified/answered_right")
    );
}

#[test]
fn one_hot_key_is_put_and_compared_and_swapped() {
    for kind in ["put", "txn"] {
        let load = format!("--workload {kind} --keys 1 --conns 4 --streams 50");
        assert_verified(&load, &run(&load));
    }
}

#[test]
fn a_mixed_load_tells_reads_and_writes_apart() {
    let figures = run("--workload mixed --limit 10 --keys 200");
    let parts = figures
        .pointer("/parts")
        .and_then(Value::as_array)
        .expect("parts");
    let sum: u64 = parts.iter().map(|part| count(part, "/operations")).sum();
    assert_eq!(parts.len(), 2);
    assert_eq!(sum, count(&figures, "/operations"));
}

#[test]
fn capacity_is_a_rate_that_was_tried_and_kept() {
    // So slow an answer is always fast enough: whatever the machine does, a rate is found.
    let figures = run("--workload put --keys 100 --capacity-p99-ms 20000");
    let capacity = figures.pointer("/capacity").expect("a capacity");
    let per_second = capacity.pointer("/per_second").and_then(Value::as_f64);
    let trials = capacity
        .pointer("/trials")
        .and_then(Value::as_array)
        .expect("trials");
    assert!(trials.len() >= 8);
    let kept = trials
        .iter()
        .find(|trial| trial[0].as_f64() == per_second)
        .expect("the capacity was tried");
    assert_eq!(kept[2], Value::Bool(true));
}

#[test]
fn an_overload_is_answered_or_counted() {
    let figures = run("--workload put --keys 100 --overload");
    let overload = figures.pointer("/overload").expect("an overload");
    assert!(
        overload
            .pointer("/capacity_per_second")
            .and_then(Value::as_f64)
            > Some(0.0)
    );
    assert!(
        overload
            .pointer("/goodput_per_second")
            .and_then(Value::as_f64)
            > Some(0.0)
    );
    assert_eq!(
        count(&figures, "/verified/acknowledged_changes"),
        count(&figures, "/verified/revisions")
    );
}
