//! What a figure depends on besides the code: the machine, the kernel and the two programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

/// As far as the kernel tells; what it does not tell is empty.
#[derive(Serialize)]
pub(crate) struct Host {
    kernel: String,
    cpu: String,
    cpus: usize,
    memory: String,
    tcp_congestion_control: String,
    /// The line of the mount that the data lie on.
    data_mount: String,
    pressure_cpu: String,
    commit: String,
    /// By the names of the records.
    servers: BTreeMap<String, Program>,
}

#[derive(Serialize)]
struct Program {
    command: String,
    sha256: String,
    version: String,
}

/// Asks. `servers` are names and commands.
pub(crate) fn describe<'a>(
    servers: impl Iterator<Item = (&'a str, &'a str)>,
    data_root: &Path,
) -> Host {
    let line = |file: &str, begins: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines()
            .find(|line| line.starts_with(begins))
            .unwrap_or_default()
            .to_owned()
    };
    Host {
        kernel: line("/proc/version", ""),
        cpu: line("/proc/cpuinfo", "model name"),
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        memory: line("/proc/meminfo", "MemTotal"),
        tcp_congestion_control: line("/proc/sys/net/ipv4/tcp_congestion_control", ""),
        data_mount: output(
            "findmnt",
            &[
                "-n",
                "-o",
                "SOURCE,FSTYPE,OPTIONS",
                "-T",
                &data_root.to_string_lossy(),
            ],
        ),
        pressure_cpu: line("/proc/pressure/cpu", "some"),
        commit: super::results::commit(),
        servers: servers
            .map(|(name, command)| (name.to_owned(), program(command)))
            .collect(),
    }
}

fn program(command: &str) -> Program {
    let path = command.split_whitespace().next().unwrap_or_default();
    Program {
        command: command.to_owned(),
        sha256: output("sha256sum", &[path])
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned(),
        version: output(path, &["--version"]),
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
