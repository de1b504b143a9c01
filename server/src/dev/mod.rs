//! `basalt dev cluster`: members of one cluster on this machine, each a process, for trying things out.
//!
//! Promises: says which member is how far until all serve; what it has started ends with it. Never: a cluster for anything that must
//! be kept; all members share one machine. Start at [`main`].

mod cluster;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

use crate::shutdown::Shutdown;
use crate::tools::{BAD_LINE, parse};
use cluster::{Members, State};

/// Helps with developing against basalt.
#[derive(Debug, Parser)]
#[command(name = "basalt dev", disable_version_flag = true)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts the members of a cluster on this machine and stays until it is interrupted, which ends them.
    Cluster(ClusterFlags),
}

/// What `basalt dev cluster` is told.
#[derive(Debug, Parser)]
struct ClusterFlags {
    /// How many members.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=7))]
    members: u16,
    /// Where their data directories and logs are; they start with what they find there.
    #[arg(long, default_value = "basalt-dev")]
    data_dir: PathBuf,
    /// The first member's client port; its peer port is the next one, and each further member's are ten above.
    #[arg(long, default_value_t = 2379, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    base_port: u16,
    /// Further flags for each member, behind `--`.
    #[arg(last = true)]
    flags: Vec<String>,
}

/// Runs the command; its status.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let flags: Flags = match parse("basalt dev", args, BAD_LINE) {
        Ok(flags) => flags,
        Err(code) => return code,
    };
    let Command::Cluster(flags) = flags.command;
    match run(&flags) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("basalt dev cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &ClusterFlags) -> io::Result<ExitCode> {
    let shutdown = Shutdown::default();
    shutdown.listen()?;
    std::fs::create_dir_all(&flags.data_dir)?;
    let mut members = Members::start(flags)?;
    let mut progress = Progress::new();
    let began = Instant::now();
    let mut is_told = false;
    while !shutdown.is_requested() {
        let states = members.look();
        progress.show(&states, began.elapsed());
        if let Some(ended) = states.iter().position(|state| *state == State::Ended) {
            progress.end();
            eprintln!(
                "{} ended; its log: {}",
                members.name(ended),
                members.log(ended).display()
            );
            return Ok(ExitCode::FAILURE);
        }
        if !is_told && states.iter().all(|state| *state == State::Serving) {
            is_told = true;
            progress.end();
            println!(
                "all members serve after {:.1} s",
                began.elapsed().as_secs_f64()
            );
            println!("export ETCDCTL_ENDPOINTS={}", members.endpoints());
            println!(
                "logs and data are in {}; interrupt to end",
                flags.data_dir.display()
            );
        }
        thread::sleep(LOOK_INTERVAL);
    }
    progress.end();
    members.stop();
    Ok(ExitCode::SUCCESS)
}

/// How far the members are: one line that is written over on a terminal, else a line for each change.
struct Progress {
    is_terminal: bool,
    shown: String,
}

impl Progress {
    fn new() -> Progress {
        Progress {
            is_terminal: io::stderr().is_terminal(),
            shown: String::new(),
        }
    }

    fn show(&mut self, states: &[State], elapsed: Duration) {
        let serving = states
            .iter()
            .filter(|state| **state == State::Serving)
            .count();
        let text = format!("{serving} of {} members serve", states.len());
        if self.is_terminal {
            let bar: String = states.iter().map(State::mark).collect();
            // Nobody can act on a terminal that is gone.
            let _ = write!(
                io::stderr(),
                "\r[{bar}] {text}, {:.1} s ",
                elapsed.as_secs_f64()
            );
        } else if text != self.shown {
            eprintln!("{text}");
        }
        self.shown = text;
    }

    /// Leaves the line.
    fn end(&mut self) {
        if self.is_terminal && !self.shown.is_empty() {
            eprintln!();
        }
        self.is_terminal = false;
    }
}

const LOOK_INTERVAL: Duration = Duration::from_millis(200);
