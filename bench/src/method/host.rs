//! What a figure depends on besides the code: the machine, the kernel, the disk and the programs with their flags.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde::Serialize;

use super::programs::Program;
use super::results;
use crate::cost::disk::{self, Disks, Proof};

/// As far as the kernel tells; what it does not tell is empty.
#[derive(Debug, Serialize)]
pub(crate) struct Host {
    /// When the run began, UTC.
    started: String,
    kernel: String,
    cpu: String,
    cpus: usize,
    microcode: String,
    /// How the CPUs' clock is governed; empty in most virtual machines.
    frequency_governor: String,
    clock_source: String,
    memory: String,
    transparent_huge_pages: String,
    tcp_congestion_control: String,
    data_root: PathBuf,
    filesystem: String,
    mount: String,
    /// The disks below the data root, with scheduler and cache.
    disks: Vec<String>,
    /// `flush` when nothing is durable without a flush of the disk, `write` when a write request alone can be, `none` when nothing is known.
    durability_seen_by: &'static str,
    load_average: String,
    pressure_cpu: String,
    pressure_io: String,
    /// Of the working directory, `dirty` when it holds changes.
    commit: String,
    bench: Version,
    servers: Vec<Server>,
    /// What makes the figures doubtful.
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Server {
    name: String,
    /// Besides those of addresses and data directory.
    arguments: Vec<String>,
    environment: Vec<String>,
    #[serde(flatten)]
    version: Version,
    /// Of the folder that the program lies in, when that is a working copy.
    program_commit: String,
}

#[derive(Debug, Serialize)]
struct Version {
    program: PathBuf,
    sha256: String,
    version: String,
}

impl Host {
    /// What makes the figures doubtful.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Asks.
///
/// # Errors
/// When the data root is not there.
pub(crate) fn describe(programs: &[Program], data_root: &Path) -> Result<Host> {
    let disks = Disks::below(data_root)?;
    let mount = disk::mount_of(data_root);
    let mut host = Host {
        started: results::now(),
        kernel: line("/proc/version", ""),
        cpu: value("/proc/cpuinfo", "model name"),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        microcode: value("/proc/cpuinfo", "microcode"),
        frequency_governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", ""),
        clock_source: line(
            "/sys/devices/system/clocksource/clocksource0/current_clocksource",
            "",
        ),
        memory: value("/proc/meminfo", "MemTotal"),
        transparent_huge_pages: line("/sys/kernel/mm/transparent_hugepage/enabled", ""),
        tcp_congestion_control: line("/proc/sys/net/ipv4/tcp_congestion_control", ""),
        data_root: data_root.to_owned(),
        filesystem: mount.as_ref().map_or_else(String::new, |mount| {
            format!("{} on {}", mount.kind, mount.source)
        }),
        mount: mount.map_or_else(String::new, |mount| mount.options),
        disks: disks.describe(),
        durability_seen_by: match disks.proof() {
            Proof::Flush => "flush",
            Proof::Write => "write",
            Proof::None => "none",
        },
        load_average: line("/proc/loadavg", ""),
        pressure_cpu: line("/proc/pressure/cpu", "some"),
        pressure_io: line("/proc/pressure/io", "some"),
        commit: results::commit(None),
        bench: Version {
            program: std::env::current_exe().unwrap_or_default(),
            sha256: sha256(Path::new("/proc/self/exe")),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        servers: programs.iter().map(server).collect(),
        warnings: Vec::new(),
    };
    host.warnings = warnings(&host, disks.proof());
    Ok(host)
}

fn warnings(host: &Host, proof: Proof) -> Vec<String> {
    let mut warnings = Vec::new();
    if host.tcp_congestion_control.starts_with("bbr") {
        warnings.push(
            "TCP's congestion control is bbr, which paces also on loopback: latencies are its, not the servers'. \
             Set another before comparing: sysctl -w net.ipv4.tcp_congestion_control=cubic"
                .to_owned(),
        );
    }
    if proof == Proof::None {
        warnings.push(format!(
            "{} lies on {}, below which no disk is known: NOTHING THERE IS DURABLE AS FAR AS CAN BE SEEN, and writes cost too little. \
             Choose a folder on a disk: --data-root DIR",
            host.data_root.display(),
            host.filesystem
        ));
    }
    if host.cpus < 2 {
        warnings.push("there is one CPU: server and generator take it from each other".to_owned());
    }
    warnings
}

fn server(program: &Program) -> Server {
    let pair = |(name, value): &(String, String)| format!("{name}={value}");
    let mut arguments = program.arguments.clone();
    if program.http_apart {
        arguments.push("--listen-client-http-urls=<its own address>".to_owned());
    }
    Server {
        name: program.name.clone(),
        arguments,
        environment: program.environment.iter().map(pair).collect(),
        version: Version {
            program: program.binary.clone(),
            sha256: sha256(&program.binary),
            version: output(&program.binary, &["--version"]),
        },
        program_commit: results::commit(program.binary.parent()),
    }
}

fn sha256(path: &Path) -> String {
    output(Path::new("sha256sum"), &[&path.to_string_lossy()])
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The first line of a file that begins so.
fn line(file: &str, begins: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let found = text.lines().find(|line| line.starts_with(begins));
    found.unwrap_or_default().trim().to_owned()
}

/// What follows the colon.
fn value(file: &str, name: &str) -> String {
    let line = line(file, name);
    let value = line.split_once(':').map_or("", |(_, value)| value);
    value.trim().to_owned()
}

fn output(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
