//! The benchmark as a user starts it: what a comparison leaves behind, also when it is stopped, and what it says when something is wrong.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use basalt_tests::tools;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test fails; far above what it needs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A place for one comparison: its plan, its results and its servers' data.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new(plan: &str) -> Self {
        let folder = TempDir::new().expect("a temporary directory");
        fs::write(folder.path().join("plan.json"), plan).expect("a file");
        fs::create_dir(folder.path().join("data")).expect("a directory");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn compare(&self, more: &[&str]) -> Command {
        let mut command = Command::new(tools::bench());
        command
            .arg("compare")
            .arg(self.path("plan.json"))
            .arg("--basalt")
            .arg(tools::basalt())
            .arg("--results")
            .arg(self.path("results"))
            .arg("--data-root")
            .arg(self.path("data"))
            .args(more);
        command
    }

    /// Both sides are the server under test, the second under another name.
    fn against_self(&self, more: &[&str]) -> Command {
        let other = format!("self={}", tools::basalt().display());
        let mut command = self.compare(&["--servers", "basalt,self", "--other", &other]);
        command.args(more);
        command
    }

    /// The only folder of results.
    fn result(&self) -> PathBuf {
        let mut folders = fs::read_dir(self.path("results")).expect("results were written");
        let folder = folders
            .next()
            .expect("one folder")
            .expect("readable")
            .path();
        assert!(folders.next().is_none(), "more than one folder of results");
        folder
    }

    fn slices(&self) -> Vec<Value> {
        slices(&self.result())
    }

    /// No server and no data of one are left.
    fn assert_clean(&self) {
        let left = fs::read_dir(self.path("data"))
            .expect("a directory")
            .count();
        assert_eq!(left, 0, "data of servers were left behind");
        let data = self.path("data");
        let data = data.to_str().expect("a path of letters");
        for process in fs::read_dir("/proc").expect("procfs").flatten() {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            assert!(
                !line.contains(data),
                "a server outlived the comparison: {line}"
            );
        }
    }
}

fn slices(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("slices.jsonl")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

fn plan(servers: &str) -> String {
    format!(
        r#"{{
  "name": "tiny", "note": "A test.",
  "methods": {{"tiny": {{"servers": {servers}, "placements": ["unpinned"], "rounds": 1, "seconds": 0.3, "warmup": 0.1, "repeats_max": 1}}}},
  "cells": [{{"name": "W02-put", "title": "put", "method": "tiny", "load": {{"conns": 2, "streams": 4}}, "shape": {{"keys": 200}}}}]
}}"#
    )
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output();
    output.expect("the benchmark starts")
}

#[test]
fn a_comparison_leaves_plan_host_slices_histograms_and_summary() {
    let bench = Bench::new(&plan(r#"["basalt"]"#));
    let output = run(&mut bench.against_self(&[]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let folder = bench.result();
    for file in [
        "plan.json",
        "host.json",
        "W02-put.unpinned.hlog",
        "summary.md",
    ] {
        assert!(folder.join(file).is_file(), "{file} is missing");
    }
    let slices = bench.slices();
    let counted: Vec<&Value> = slices
        .iter()
        .filter(|slice| slice["discarded"].is_null())
        .collect();
    let servers: Vec<&str> = counted
        .iter()
        .map(|slice| slice["server"].as_str().expect("a name"))
        .collect();
    assert_eq!(servers, ["basalt", "self", "self", "basalt"]);
    let digests: BTreeSet<String> = slices
        .iter()
        .map(|slice| slice["figures"]["verified"]["digest"].to_string())
        .collect();
    assert_eq!(
        digests.len(),
        1,
        "equal servers hold equal data: {digests:?}"
    );
    let host = fs::read_to_string(folder.join("host.json")).expect("written");
    let host: Value = serde_json::from_str(&host).expect("JSON");
    assert_eq!(host["servers"][1]["name"], "self");
    assert_eq!(
        host["servers"][1]["sha256"].as_str().map(str::len),
        Some(64)
    );
    bench.assert_clean();
}

#[test]
fn ctrl_c_keeps_what_was_measured_and_leaves_no_server() {
    let bench = Bench::new(&plan(r#"["basalt"]"#));
    let mut child = bench
        .against_self(&["--rounds", "100"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the benchmark starts");
    let began = Instant::now();
    let has_slices = || {
        let results = fs::read_dir(bench.path("results")).into_iter().flatten();
        results
            .flatten()
            .any(|folder| slices(&folder.path()).len() >= 2)
    };
    while !has_slices() {
        assert!(began.elapsed() < PATIENCE, "nothing is measured");
        thread::sleep(Duration::from_millis(20));
    }
    let number = i32::try_from(child.id()).expect("a process number");
    let number = Pid::from_raw(number).expect("not zero");
    kill_process(number, Signal::INT).expect("it runs");
    let status = child.wait().expect("a child of ours");
    assert_eq!(status.code(), Some(130));
    assert!(bench.slices().len() >= 2);
    let summary = fs::read_to_string(bench.result().join("summary.md")).expect("a summary");
    assert!(
        summary.contains("not all of the plan was measured"),
        "{summary}"
    );
    bench.assert_clean();
}

#[test]
fn without_etcd_the_way_to_get_it_is_told_and_basalt_is_measured_alone() {
    let bench = Bench::new(&plan(r#"["basalt", "etcd-tuned"]"#));
    let output = run(bench.compare(&[]).env("PATH", "/nowhere"));
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("go get go.etcd.io/etcd/server/v3@v3.7"),
        "{said}"
    );
    assert!(said.contains("apt install etcd-server"), "{said}");
    let slices = bench.slices();
    assert!(slices.len() >= 2);
    assert!(slices.iter().all(|slice| slice["server"] == "basalt"));
}

#[test]
fn an_etcd_that_was_asked_for_must_be_there() {
    let bench = Bench::new(&plan(r#"["basalt"]"#));
    let output = run(bench
        .compare(&["--servers", "basalt,etcd-tuned"])
        .env("PATH", "/nowhere"));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("go get go.etcd.io/etcd/server/v3@v3.7"),
        "{said}"
    );
    assert!(!bench.path("results").exists(), "nothing was begun");
}

#[test]
fn a_server_that_does_not_start_fails_the_cell_and_shows_its_log() {
    let bench = Bench::new(&plan(r#"["basalt"]"#));
    let other = "broken=/bin/sh -c exec";
    let output = run(&mut bench.compare(&["--servers", "broken", "--other", other]));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("FAILED W02-put unpinned: broken: broken is not ready"),
        "{said}"
    );
    let summary = fs::read_to_string(bench.result().join("summary.md")).expect("a summary");
    assert!(summary.contains("## Failed"), "{summary}");
    bench.assert_clean();
}

#[test]
fn a_plan_that_breaks_rules_is_refused_with_each_of_them() {
    let bench = Bench::new(&plan(r#"["basalt", "etcd"]"#).replace("W02-put", "w2"));
    let path = bench.path("plan.json");
    let output = run(Command::new(tools::bench())
        .args(["plan", "check"])
        .arg(&path));
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "{}: method tiny: no server is called etcd: there are basalt, basalt-again, etcd-tuned, etcd-default\n\
         cell w2: a name is W, two digits, `-`, and lower case letters, digits and `-`\n",
        path.display()
    );
    assert_eq!(text(&output.stderr), expected);
}

#[test]
fn run_without_an_endpoint_starts_a_server_and_removes_it() {
    let bench = Bench::new("");
    let output = run(Command::new(tools::bench())
        .args([
            "run",
            "--seconds",
            "0.3",
            "--warmup",
            "0.1",
            "--keys",
            "100",
            "--json",
        ])
        .arg("--basalt")
        .arg(tools::basalt())
        .arg("--data-root")
        .arg(bench.path("data")));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let figures: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(figures["operations"].as_u64().is_some_and(|done| done > 0));
    bench.assert_clean();
}
