//! `cargo xtask`: checks of the repository that are more than a test.

mod baseline;
mod callgrind;
mod lockstep;
mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::baseline::{Baseline, Cost};
use crate::server::Request;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Checks of the repository that are more than a test"
)]
enum Arguments {
    /// Count the instructions of the hot paths under valgrind; more than 3 % above the baseline, or an allocation more, fails
    PerfGate(PerfGate),
}

#[derive(clap::Args)]
struct PerfGate {
    /// Write what was counted to the baseline
    #[arg(long, conflicts_with = "against")]
    bless: bool,
    /// Instead of the baseline: build this revision and count it on this machine too
    #[arg(long, value_name = "REVISION")]
    against: Option<String>,
    /// Only scenarios whose name begins so
    #[arg(long, default_value = "", conflicts_with = "bless")]
    only: String,
}

/// In-process paths and how often the short run takes them: enough that start-up's noise is nothing beside them.
const PATHS: [(&str, u64); 6] = [
    ("grpc-calls-100", 200),
    ("store-get", 20_000),
    ("store-put-100", 200),
    ("store-scan-100", 2_000),
    ("wal-group-1", 500),
    ("wal-group-100", 200),
];

fn main() -> Result<ExitCode> {
    let Arguments::PerfGate(gate) = Arguments::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = root.join("bench/gate/baseline.json");
    let now = count(&root, &gate.only)?;
    if gate.bless {
        now.write(&file)?;
        println!("{} scenarios in {}", now.scenarios.len(), file.display());
        return Ok(ExitCode::SUCCESS);
    }
    let was = match &gate.against {
        Some(revision) => count_revision(&root, revision, &gate.only)?,
        None => Baseline::read(&file)?,
    };
    if was.rustc != now.rustc {
        println!(
            "The baseline was counted with {}, this is {}: if more differs than you changed, use --against REVISION.",
            was.rustc, now.rustc
        );
    }
    let (table, is_good) = was.compare(&now);
    print!("{table}");
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        println!(
            "Slower than the baseline. If that is the price of something, say so in docs/DECISIONS.md and use --bless."
        );
        ExitCode::FAILURE
    })
}

/// Builds the checkout at `root` and counts.
fn count(root: &Path, only: &str) -> Result<Baseline> {
    let target = build(root)?;
    let mut scenarios = BTreeMap::new();
    for (name, times) in PATHS {
        if name.starts_with(only) {
            eprintln!("counting {name}");
            scenarios.insert(
                name.to_owned(),
                path_cost(&target.join("hot-paths"), name, times)?,
            );
        }
    }
    for (name, request) in Request::ALL {
        if name.starts_with(only) {
            eprintln!("counting {name}");
            scenarios.insert(
                name.to_owned(),
                server::cost(&target.join("basalt"), request)?,
            );
        }
    }
    ensure!(!scenarios.is_empty(), "no scenario begins with {only:?}");
    Ok(Baseline {
        rustc: rustc()?,
        scenarios,
    })
}

/// The same in a temporary checkout of `revision`.
fn count_revision(root: &Path, revision: &str, only: &str) -> Result<Baseline> {
    let folder = tempfile::tempdir()?;
    let checkout = folder.path().join("checkout");
    let git = |arguments: &[&str]| {
        let status = Command::new("git")
            .current_dir(root)
            .args(arguments)
            .status()?;
        ensure!(status.success(), "git {} failed", arguments.join(" "));
        Ok(())
    };
    let path = checkout.to_string_lossy();
    git(&["worktree", "add", "--detach", &path, revision])?;
    let counted = count(&checkout, only);
    git(&["worktree", "remove", "--force", &path])?;
    counted
}

/// The folder of the released binaries.
fn build(root: &Path) -> Result<PathBuf> {
    let target = root.join("target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(target, PathBuf::from);
    let status = Command::new("cargo")
        .current_dir(root)
        .args(["build", "--release", "--locked", "--quiet"])
        .args(["--package", "basalt", "--package", "basalt-gate", "--bins"])
        .status()
        .context("cargo is missing")?;
    ensure!(status.success(), "the release build failed");
    Ok(target.join("release"))
}

fn path_cost(program: &Path, name: &str, times: u64) -> Result<Cost> {
    let run = |times: u64| {
        let folder = tempfile::tempdir()?;
        let out = folder.path().join("callgrind.out");
        let status = callgrind::command(program, &out)?
            .args([name, &times.to_string()])
            .stdin(Stdio::null())
            .status()?;
        ensure!(status.success(), "{name} failed under valgrind");
        callgrind::read(&out)
    };
    Ok(run(times)?.cost_to(run(2 * times)?, times))
}

fn rustc() -> Result<String> {
    let output = Command::new("rustc").arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
