//! The report over made-up results. To look at the page of a test in a browser, name a directory in `BASALT_REPORT_LOOK`.

use std::fs;
use std::path::{Path, PathBuf};

use super::folder::read_all;
use super::measured::measured;
use super::quantity::quantity;
use super::{Arguments, fixture, page, pictures, run, summary};
use crate::plan::Plan;

/// Two days of every cell, an early folder, and two that cannot be read in full.
fn results(root: &Path, plan: &crate::plan::Plan) {
    fixture::write(
        root,
        "2026-11-22-aaaaaaa-standard",
        plan,
        &fixture::slices(plan, 0.7),
    );
    fixture::write(
        root,
        "2026-11-23-bbbbbbb-standard",
        plan,
        &fixture::slices(plan, 1.0),
    );
    let mut quick = plan.clone();
    quick.name = "quick".to_owned();
    fixture::write(
        root,
        "2026-11-24-ccccccc-quick",
        &quick,
        &fixture::slices(plan, 3.0),
    );
    let early = root.join("2026-11-21-a5d902a-spine-put");
    fs::create_dir_all(&early).unwrap();
    fs::write(early.join("plan.json"), EARLY_PLAN).unwrap();
    fs::write(early.join("slices.jsonl"), EARLY_SLICES).unwrap();
    fs::write(early.join("summary.md"), "as it was").unwrap();
    let torn = root.join("2026-11-20-ddddddd-torn");
    fixture::write(
        root,
        "2026-11-20-ddddddd-torn",
        plan,
        &fixture::slices(plan, 0.5)[..2],
    );
    let mut lines = fs::read_to_string(torn.join("slices.jsonl")).unwrap();
    lines.push_str("{\"cell\": \"W02");
    fs::write(torn.join("slices.jsonl"), lines).unwrap();
    let broken = root.join("2026-11-20-eeeeeee-<b>");
    fs::create_dir_all(&broken).unwrap();
    fs::write(broken.join("plan.json"), "{\n\"name\": 1\n}").unwrap();
}

fn page_of(root: &Path) -> String {
    page::text(&read_all(root).unwrap()).unwrap()
}

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = std::env::var_os("BASALT_REPORT_LOOK")
        .map_or_else(|| folder.path().to_owned(), PathBuf::from);
    (folder, path)
}

/// `<!DOCTYPE html>` is the only thing that XML knows otherwise.
fn is_well_formed(markup: &str) {
    let options = roxmltree::ParsingOptions {
        allow_dtd: true,
        ..Default::default()
    };
    if let Err(error) = roxmltree::Document::parse_with_options(markup, options) {
        panic!("{error}");
    }
}

#[test]
fn the_page_shows_every_cell_and_is_whole_by_itself() {
    let (_guard, root) = temporary();
    results(&root, &fixture::plan());
    run(&Arguments {
        results: root.clone(),
        folder: None,
    })
    .unwrap();
    let page = fs::read_to_string(root.join("index.html")).unwrap();
    is_well_formed(&page);
    for cell in fixture::plan().cells {
        assert!(page.contains(&cell.name), "{}", cell.name);
    }
    assert!(page.contains("prefers-color-scheme:dark"));
    for foreign in [
        "src=",
        "url(",
        "@import",
        "href=\"http",
        "href=\"//",
        "<script",
        "<link",
    ] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let namespaces = page.matches("http://www.w3.org/2000/svg").count();
    // Host facts may name URLs; nothing is fetched from them.
    assert!(namespaces > 20);
    assert!(page.contains("&lt;script&gt;alert"));
    assert!(page.contains("2026-11-21-a5d902a-spine-put/summary.md"));
}

#[test]
fn what_cannot_be_read_is_named_with_file_and_line_and_hides_nothing() {
    let (guard, _) = temporary();
    results(guard.path(), &fixture::small());
    let folders = read_all(guard.path()).unwrap();
    assert_eq!(folders.readable.len(), 5);
    let torn = folders
        .readable
        .iter()
        .find(|folder| folder.name.ends_with("torn"))
        .unwrap();
    assert_eq!(torn.slices.len(), 2);
    assert_eq!(folders.problems.len(), 2);
    assert!(folders.problems[0].starts_with("2026-11-20-ddddddd-torn/slices.jsonl line 3: EOF"));
    assert!(folders.problems[1].starts_with("2026-11-20-eeeeeee-<b>/plan.json: "));
    assert!(folders.problems[1].contains("line 2"));
    let page = page_of(guard.path());
    assert!(page.contains("2026-11-20-eeeeeee-&lt;b&gt;/plan.json"));
}

#[test]
fn the_newest_figures_are_those_of_record_not_of_a_quick_look() {
    let (guard, _) = temporary();
    results(guard.path(), &fixture::small());
    let page = page_of(guard.path());
    let headline = page.split("</nav>").next().unwrap();
    assert!(headline.contains("2026-11-23-bbbbbbb-standard"));
    assert!(!headline.contains("2026-11-24-ccccccc-quick"));
}

#[test]
fn better_is_above_one_for_less_cpu_and_for_a_higher_rate() {
    let plan = fixture::small();
    let slices = fixture::slices(&plan, 1.0);
    let measured = measured(&plan, &slices);
    let put = measured
        .iter()
        .find(|m| m.cell.name == "W03-put-1000")
        .unwrap();
    for id in ["cpu", "p99", "rate"] {
        let advantage = put.advantage_over_best(quantity(id).unwrap()).unwrap();
        assert!(advantage.times.low > 5.0, "{id}");
        assert_eq!(advantage.rival, "etcd-tuned");
    }
    let flushes = quantity("flushes").unwrap();
    assert!(put.advantage_over_best(flushes).is_none());
}

#[test]
fn an_older_basalt_is_neither_the_etcd_of_a_target_nor_of_record() {
    let (guard, _) = temporary();
    let plan = fixture::small();
    let mut slices = fixture::slices(&plan, 1.0);
    slices.retain(|slice| slice.server != "etcd-default");
    for slice in &mut slices {
        if slice.server == "etcd-tuned" {
            slice.server = "old".to_owned();
        }
    }
    fixture::write(guard.path(), "2026-11-22-aaaaaaa-change", &plan, &slices);
    let text = summary::text(&plan, &slices);
    assert!(text.contains("times better than old"));
    assert!(!text.contains("p50 of a lone put"));
    assert!(page_of(guard.path()).contains("None of the headline workloads"));
}

#[test]
fn a_discarded_slice_counts_nowhere_but_is_named() {
    let plan = fixture::small();
    let mut slices = fixture::slices(&plan, 1.0);
    for slice in &mut slices {
        slice.discarded = None;
    }
    slices[0].discarded = Some("a | reason".to_owned());
    slices[0].figures.per_operation.server_cpu_us = 1e9;
    let measured = measured(&plan, &slices);
    let cpu = measured[0]
        .subject()
        .spread(quantity("cpu").unwrap())
        .unwrap();
    assert!(cpu.most < 1e6);
    let text = summary::text(&plan, &slices);
    assert!(text.contains("- 1 discarded and not counted"));
    assert!(text.contains("W01-put-lone pinned basalt, slice 1: a \\| reason"));
}

#[test]
fn the_summary_has_every_cell_and_no_markup_of_others() {
    let plan = fixture::plan();
    let text = summary::text(&plan, &fixture::slices(&plan, 1.0));
    for cell in &plan.cells {
        assert!(text.contains(&format!("## {}, pinned", cell.name)));
    }
    assert!(text.contains("goodput at twice the capacity"));
    assert!(text.contains("capacity within the demanded p99"));
    assert!(text.contains("\\<script"));
    assert!(!text.replace("\\<", "").contains('<'));
    for line in text.lines().filter(|line| line.starts_with('|')) {
        assert!(line.ends_with('|'), "{line}");
    }
}

#[test]
fn the_storage_plan_has_a_line_for_each_of_its_targets() {
    let plan = Plan::load("storage").unwrap();
    let text = summary::text(&plan, &fixture::slices(&plan, 1.0));
    for line in [
        "| W06 | server CPU per put among the most keys beside the fewest, basalt alone | W06-grow-put-10m | pinned | at most 2.00× |",
        "| W06 | resident memory with a million keys of 64 B and values of 256 B | W06-grow-put-1m |",
        "| W08 | server CPU per range of 1000 keys | W08-range-1000 |",
        "| W09 | server CPU per page of 500 of a million keys | W09-list-500 |",
        "| W10 | server CPU per count of a million keys | W10-count |",
        "| W25 | longest stall of puts beside a compaction, basalt alone (issue 5) | W25-compact | pinned | at most 20.0 ms |",
        "| W27 | longest stall beside a defragmentation, basalt alone | W27-defragment | pinned | at most 50.0 ms | at most 5.00 ms |",
        "; beside it a physical compaction every 4 s;",
        "; beside it a list of everything in one answer on each of 8 more connections;",
        "| W29 | time from a start to the first linearizable get, ten million keys, basalt alone (issue 5) | W29-grow-kill-10m | pinned | at most 2.00 s | at most 0.800 s |",
        "; then SIGKILL under this load and a restart;",
        "| restart to the first linearizable get |",
        "| W31 | memory of an idle connection | W31-idle-10k |",
        "| W30 | p99 of gets with eight times more data than memory | W30-more-than-memory |",
        "by Zipf's law; 512 MiB of memory;",
        "| time of a walk over all keys |",
        "| time of what was done beside |",
    ] {
        assert!(text.contains(line), "{line}");
    }
    let folder = tempfile::tempdir().unwrap();
    pictures::write(folder.path(), &plan, &fixture::slices(&plan, 1.0)).unwrap();
    let restart = folder
        .path()
        .join("W29-grow-kill.pinned.growth.restart.svg");
    is_well_formed(&fs::read_to_string(restart).unwrap());
    let tail = folder.path().join("W26-auto-compact.pinned.tail.svg");
    is_well_formed(&fs::read_to_string(tail).unwrap());
}

#[test]
fn pictures_are_well_formed_and_know_both_themes() {
    let folder = tempfile::tempdir().unwrap();
    let plan = fixture::plan();
    pictures::write(folder.path(), &plan, &fixture::slices(&plan, 1.0)).unwrap();
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let svg = fs::read_to_string(&path).unwrap();
        is_well_formed(&svg);
        assert!(svg.contains("prefers-color-scheme:dark"));
        assert!(
            !svg.contains("#0000"),
            "a colour of plotters is left in {}",
            path.display()
        );
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    for name in [
        "W02-put-100.pinned.latency.svg",
        "W02-put-100.unpinned.throughput.svg",
        "W07.cpu.svg",
        "W02-grow-put.pinned.growth.resident.svg",
    ] {
        assert!(
            names.iter().any(|known| known == name),
            "{name} of {names:?}"
        );
    }
}

#[test]
fn the_lease_plan_has_a_line_for_each_of_its_targets() {
    let plan = Plan::load("lease").unwrap();
    let text = summary::text(&plan, &fixture::slices(&plan, 1.0));
    for line in [
        "| W22 | server CPU per renewal | W22-keep-alive-10k | pinned |",
        "| W23 | time until 20 thousand leases are gone, basalt alone (issue 7) | W23-lease-storm | pinned | at most 2.00 s |",
        "| W23 | p99 of puts while 20 thousand leases end, basalt alone (issue 7) | W23-lease-storm | pinned | at most 5.00 ms |",
        "renewals, on one stream a connection; 100 connections,",
        "; beside it all leases end, and their keys are counted every 0.1 s;",
        "; 1 leases of 3600 s with 100000 keys each",
        "| all leases gone after their time |",
    ] {
        assert!(text.contains(line), "{line}");
    }
}

#[test]
fn an_empty_run_is_reported_without_figures() {
    let (guard, _) = temporary();
    let plan = fixture::plan();
    fixture::write(guard.path(), "2026-11-22-aaaaaaa-standard", &plan, &[]);
    let page = page_of(guard.path());
    is_well_formed(&page);
    assert!(page.contains("None of the headline workloads has been measured yet."));
    assert!(summary::text(&plan, &[]).contains("0 slices, 0 of them discarded."));
}

#[test]
fn only_what_is_missing_is_made() {
    let (guard, _) = temporary();
    results(guard.path(), &fixture::small());
    let root = guard.path().to_owned();
    let folder = root.join("2026-11-22-aaaaaaa-standard");
    let kept = "kept\n## Failed\n\n- a cell\n";
    fs::write(folder.join("summary.md"), kept).unwrap();
    run(&Arguments {
        results: root.clone(),
        folder: None,
    })
    .unwrap();
    assert_eq!(fs::read_to_string(folder.join("summary.md")).unwrap(), kept);
    let early = root.join("2026-11-21-a5d902a-spine-put/summary.md");
    assert_eq!(fs::read_to_string(early).unwrap(), "as it was");
    let name = "2026-11-22-aaaaaaa-standard".to_owned();
    run(&Arguments {
        results: root,
        folder: Some(name),
    })
    .unwrap();
    let made = fs::read_to_string(folder.join("summary.md")).unwrap();
    assert!(made.starts_with("# full"));
    // Only the run knew what failed.
    assert!(made.ends_with("\n## Failed\n\n- a cell\n"));
}

const EARLY_PLAN: &str = r#"{"comparison": {"a": "basalt", "b": "etcd", "name": "spine-put", "rounds": 1, "pin": true, "results": "results", "data_root": "/tmp"},
"load": {"conns": 10, "streams": 10, "rate": null, "duration": 5.0, "warmup": 2.0},
"shape": {"workload": "put", "keys": 100000, "key_size": 8, "value_size": 256, "serializable": false, "limit": 1000, "read_percent": 50, "seed": 1}, "order": "ABBA"}"#;

const EARLY_SLICES: &str =
    include_str!("../../../results/2026-11-21-a5d902a-spine-put/slices.jsonl");
