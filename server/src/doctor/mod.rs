//! `basalt doctor DIR`: whether the disk below a directory is fit for a member.
//!
//! Promises: measures with the log's own writes, in a file that has no name while it is measured, so that nothing stays behind
//! whatever ends the process. Never: a look at, or a write to, anything that was there before. Start at [`main`].

mod disk;
mod filesystem;
mod verdict;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use basalt_engine::io::{DirRefused, WalIoKind, probe};
use clap::Parser;
use serde_json::{Value, json};

use crate::tools::{BAD_LINE, parse};
use disk::{Bench, Latency};
use filesystem::Filesystem;
use verdict::{Advice, Fit};

/// Measures the disk below a directory for some seconds and says whether it is fit for a member.
#[derive(Debug, Parser)]
#[command(name = "basalt doctor", disable_version_flag = true)]
struct Flags {
    /// Where the data directory is or will be; it must exist.
    dir: PathBuf,
    /// How long to measure.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// All that was found out.
#[derive(Debug)]
struct Findings {
    filesystem: Filesystem,
    /// Writes go past the page cache.
    is_direct: bool,
    /// A write can be durable by itself.
    has_dsync: bool,
    /// Why io_uring cannot be used, if it cannot.
    no_uring: Option<String>,
    /// What `--wal-io auto` takes here.
    wal_io: WalIoKind,
    /// A durable write of 4 KiB as the log does it.
    write: Latency,
    /// A write of 4 KiB, then fdatasync: what etcd's guidance is about.
    fdatasync: Latency,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
enum DoctorFailed {
    #[error("{} is no directory that can be used: {error}", path.display())]
    Directory { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Refused(#[from] DirRefused),
    #[error("the disk failed while it was measured: {0}")]
    Disk(#[from] basalt_engine::disk::DiskError),
    #[error("cannot measure in {}: {error}", path.display())]
    System { path: PathBuf, error: io::Error },
}

/// The command, without its name: 0 if the disk is fit, 1 if not or if it cannot be measured, 2 for a wrong command line.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let flags: Flags = match parse("basalt doctor", args, BAD_LINE) {
        Ok(flags) => flags,
        Err(code) => return code,
    };
    let findings = match examine(&flags.dir, Duration::from_secs(flags.seconds)) {
        Ok(findings) => findings,
        Err(failed) => {
            eprintln!("Error: {failed}");
            return ExitCode::FAILURE;
        }
    };
    let advice = verdict::judge(&findings);
    let text = match flags.json {
        true => format!("{:#}\n", json_of(&findings, &advice)),
        false => text_of(&flags.dir, &findings, &advice),
    };
    // Whoever does not read it does not need it.
    let _ = io::stdout().write_all(text.as_bytes());
    match advice.fit {
        Fit::Unfit => ExitCode::FAILURE,
        Fit::Good | Fit::Usable => ExitCode::SUCCESS,
    }
}

fn examine(dir: &Path, time: Duration) -> Result<Findings, DoctorFailed> {
    let filesystem = Filesystem::of(dir).map_err(|error| DoctorFailed::Directory {
        path: dir.to_owned(),
        error,
    })?;
    let mut bench = Bench::make(dir)?;
    let is_terminal = io::stderr().is_terminal();
    let report = |what: &str, done: Duration, so_far: &Latency| {
        let (before, after) = if is_terminal {
            ("\r", "\x1b[K")
        } else {
            ("", "\n")
        };
        let (done, p99) = (done.as_secs_f64(), so_far.text());
        eprint!(
            "{before}{what}: {done:.1} of {:.1} s, {p99}{after}",
            time.as_secs_f64() / 2.0
        );
    };
    let write = bench.durable_writes(time / 2, &mut |done, so_far| {
        report("durable writes", done, so_far);
    });
    let fdatasync = bench.writes_and_syncs(time / 2, &mut |done, so_far| {
        report("writes and fdatasync", done, so_far);
    });
    if is_terminal {
        eprint!("\r\x1b[K");
    }
    Ok(Findings {
        filesystem,
        is_direct: bench.is_direct(),
        has_dsync: bench.has_dsync(),
        no_uring: probe().err(),
        wal_io: bench.wal_io(),
        write: write?,
        fdatasync: fdatasync?,
    })
}

fn text_of(dir: &Path, found: &Findings, advice: &Advice) -> String {
    let yes_no = |is: bool| if is { "yes" } else { "no" };
    let uring = match &found.no_uring {
        None => "yes".to_owned(),
        Some(why) => format!("no ({why})"),
    };
    let filesystem = &found.filesystem;
    let mut text = format!(
        "directory             {}\n\
         filesystem            {} on {} (mounted at {})\n\
         free space            {} of {}\n\
         io_uring              {uring}\n\
         O_DIRECT              {}\n\
         RWF_DSYNC             {}\n\
         durable 4 KiB write   {}\n\
         4 KiB and fdatasync   {}\n\
         basalt would choose   --wal-io {}, {}\n\n",
        dir.display(),
        filesystem.kind,
        filesystem.device,
        filesystem.mount.display(),
        gib(filesystem.free_bytes),
        gib(filesystem.total_bytes),
        yes_no(found.is_direct),
        yes_no(found.has_dsync),
        found.write.text(),
        found.fdatasync.text(),
        name_of(found.wal_io),
        verdict::way(found),
    );
    for line in &advice.reasons {
        text += &format!("- {line}\n");
    }
    text + &format!("verdict: {}\n", advice.fit.text())
}

fn json_of(found: &Findings, advice: &Advice) -> Value {
    let latency = |latency: &Latency| {
        json!({
            "count": latency.count,
            "p50_us": latency.p50_us,
            "p99_us": latency.p99_us,
            "max_us": latency.max_us,
        })
    };
    let filesystem = &found.filesystem;
    json!({
        "filesystem": filesystem.kind,
        "device": filesystem.device,
        "mount": filesystem.mount.display().to_string(),
        "free_bytes": filesystem.free_bytes,
        "total_bytes": filesystem.total_bytes,
        "io_uring": found.no_uring.is_none(),
        "why_not_io_uring": found.no_uring,
        "o_direct": found.is_direct,
        "rwf_dsync": found.has_dsync,
        "durable_write": latency(&found.write),
        "fdatasync": latency(&found.fdatasync),
        "wal_io": name_of(found.wal_io),
        "verdict": advice.fit.name(),
        "reasons": advice.reasons,
    })
}

fn name_of(kind: WalIoKind) -> &'static str {
    match kind {
        WalIoKind::Uring => "uring",
        WalIoKind::Pwrite | WalIoKind::Auto => "pwrite",
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}
