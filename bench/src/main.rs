//! The load generator of basalt: measures server processes from outside and never links one.
//!
//! `run` drives a server that is there already; `compare` starts two by turns and writes what it found under results/.

mod alarm;
mod compare;
mod cost;
mod driver;
mod host;
mod link;
mod measure;
mod process;
mod report;
mod results;
mod summary;
mod workload;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::compare::Comparison;
use crate::cost::Meter;
use crate::driver::{Driver, Pace, Plan};
use crate::report::Report;
use crate::workload::{Shape, Workload};

#[derive(Parser)]
#[command(name = "basalt-bench", about = "Measures etcd-compatible servers")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Drive a running server
    Run {
        /// Where the server listens for clients
        #[arg(long, default_value = "127.0.0.1:2379")]
        endpoint: SocketAddr,
        /// The server's process, for its CPU and memory
        #[arg(long)]
        pid: Option<u32>,
        /// The server's data directory, for the counters of its disk
        #[arg(long)]
        data_dir: Option<PathBuf>,
        /// Print JSON instead of text
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        load: Load,
        #[command(flatten)]
        shape: Shape,
    },
    /// Start two servers by turns, drive both alike, keep what was found
    Compare {
        #[command(flatten)]
        comparison: Comparison,
        #[command(flatten)]
        load: Load,
        #[command(flatten)]
        shape: Shape,
    },
}

/// How hard and how long.
#[derive(Clone, Debug, clap::Args, Serialize)]
struct Load {
    /// Connections
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    conns: u16,
    /// Calls in flight on each connection of a closed loop
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    streams: u16,
    /// Operations per second of an open loop, on all connections together; without it the loop is closed
    #[arg(long)]
    rate: Option<f64>,
    /// Measured seconds
    #[arg(long, default_value_t = 10.0)]
    duration: f64,
    /// Seconds before them
    #[arg(long, default_value_t = 3.0)]
    warmup: f64,
}

impl Load {
    fn plan(&self) -> Plan {
        Plan {
            connections: usize::from(self.conns),
            pace: match self.rate {
                Some(per_second) => Pace::Open { per_second },
                None => Pace::Closed {
                    streams: usize::from(self.streams),
                },
            },
            warmup: Duration::from_secs_f64(self.warmup),
            duration: Duration::from_secs_f64(self.duration),
        }
    }
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Run {
            endpoint,
            pid,
            data_dir,
            json,
            load,
            shape,
        } => {
            let meter = Meter::new(pid, data_dir.as_deref())?;
            let report = measure(endpoint, &meter, &load, &shape)?;
            if json {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                print!("{}", report.text());
            }
            Ok(())
        }
        Command::Compare {
            comparison,
            load,
            shape,
        } => compare::run(&comparison, &load, &shape),
    }
}

/// One run with a progress line on standard error.
fn measure(endpoint: SocketAddr, meter: &Meter, load: &Load, shape: &Shape) -> Result<Report> {
    let bar = ProgressBar::new_spinner()
        .with_style(ProgressStyle::with_template("{elapsed_precise} {msg}")?);
    let driver = Driver::new(endpoint, Workload::new(shape), shape.keys, load.plan())?;
    let outcome = driver.run(meter, &mut |phase, done| {
        bar.set_message(format!("{phase}: {done} operations"));
        bar.tick();
    })?;
    bar.finish_and_clear();
    Ok(Report::new(outcome, meter.memory()))
}
