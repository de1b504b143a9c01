//! The load generator of basalt: measures server processes from outside and never links one.

mod cost;
mod generator;
mod method;
mod plan;
mod record;
mod report;
mod statistics;

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cost::Meter;
use crate::generator::{Data, Time};
use crate::plan::{Load, Shape};

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
        /// Measured seconds
        #[arg(long, default_value_t = 10.0)]
        duration: f64,
        /// Seconds before them
        #[arg(long, default_value_t = 3.0)]
        warmup: f64,
        #[command(flatten)]
        load: Load,
        #[command(flatten)]
        shape: Shape,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Run {
            endpoint,
            pid,
            data_dir,
            json,
            duration,
            warmup,
            load,
            shape,
        } => {
            let meter = Meter::new(pid, data_dir.as_deref())?;
            let time = Time {
                warmup: Duration::from_secs_f64(warmup),
                measured: Duration::from_secs_f64(duration),
            };
            let bar = ProgressBar::new_spinner()
                .with_style(ProgressStyle::with_template("{elapsed_precise} {msg}")?);
            let run = generator::measure(
                endpoint,
                &meter,
                &load,
                &shape,
                Data::Load,
                time,
                &mut |phase, done, share| {
                    let percent = share * 100.0;
                    bar.set_message(format!("{phase}: {done} operations, {percent:.0} %"));
                    bar.tick();
                    ControlFlow::Continue(())
                },
            )?;
            bar.finish_and_clear();
            if json {
                println!("{}", serde_json::to_string_pretty(&run.figures)?);
            } else {
                print!("{}", run.figures.text());
            }
            Ok(())
        }
    }
}
