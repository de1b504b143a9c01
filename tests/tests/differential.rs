//! One script, two servers: stock etcd and basalt must answer every request alike, ids included; only times and sizes are left out.
//!
//! The scripts under `tests/conformance/scripts` name the clause of `docs/CONTRACT.md` that each of their rows holds.

use std::collections::BTreeSet;
use std::process::Command;

use basalt_tests::server::{Kind, Server};
use basalt_tests::{clients, tools};

/// Holds what the others rest on: what is normalised is enough, and a difference is never an accident of the harness.
#[test]
fn stock_etcd_differs_from_itself_in_nothing() {
    for script in SCRIPTS {
        compare(script, Kind::Etcd);
    }
}

/// No script is forgotten.
#[test]
fn every_script_is_run() {
    let folder = clients::conformance().join("scripts");
    let there: BTreeSet<String> = std::fs::read_dir(folder)
        .expect("the scripts are part of the repository")
        .map(|entry| {
            entry
                .expect("a readable folder")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name != "prelude.script")
        .collect();
    let run: BTreeSet<String> = SCRIPTS
        .iter()
        .map(|name| format!("{name}.script"))
        .collect();
    assert_eq!(there, run);
}

/// What nobody thought of: requests drawn from a seed, small key space, all options. `BASALT_ROLLS` says how many.
#[test]
fn drawn_requests_are_answered_as_etcd_answers_them() {
    let rolls = tools::count("BASALT_ROLLS", 3_000);
    for seed in 1..=tools::count("BASALT_SEEDS", 2) {
        let more = [
            "-seed".to_owned(),
            seed.to_string(),
            "-rolls".to_owned(),
            rolls.to_string(),
        ];
        compare_with(&format!("seed {seed}"), Kind::Basalt, &more);
    }
}

macro_rules! basalt_answers_as_etcd {
    ($($test:ident: $script:literal;)*) => {
        const SCRIPTS: &[&str] = &[$($script),*];
        $(
            #[test]
            fn $test() {
                compare($script, Kind::Basalt);
            }
        )*
    };
}

basalt_answers_as_etcd! {
    fresh_member_hashes_and_compaction: "fresh-compact";
    compaction_at_revision_zero: "compact-zero";
    range_and_range_stream: "range";
    put_and_delete_range: "put";
    txn: "txn";
    maintenance_and_alarms: "maintenance";
    leases: "lease";
    locks_and_elections: "lock";
    bytes_on_the_wire: "wire";
    http_1_1: "http";
    command_line_client: "etcdctl";
}

fn compare(script: &str, with: Kind) {
    let path = clients::conformance()
        .join("scripts")
        .join(format!("{script}.script"));
    let more = ["-script".to_owned(), path.display().to_string()];
    compare_with(script, with, &more);
}

fn compare_with(what: &str, with: Kind, more: &[String]) {
    let Some(etcdctl) = tools::find("etcdctl") else {
        return;
    };
    let Some(program) = clients::go_program("differential") else {
        return;
    };
    let Some(reference) = Server::start(Kind::Etcd, &["--log-level", "error"]) else {
        return;
    };
    let Some(other) = Server::start(with, &["--log-level", "error"]) else {
        return;
    };
    let output = Command::new(program)
        .args([
            "-a",
            &reference.address().to_string(),
            "-b",
            &other.address().to_string(),
        ])
        .arg("-etcdctl")
        .arg(etcdctl)
        .args(more)
        .output()
        .expect("the program was just built");
    let differences = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{what}: answers differ (a is etcd)\n{differences}{complaints}"
    );
    println!("{what}: {}", differences.trim());
}
