//! The benchmark of basalt: measures server processes from outside and never links one.

mod cost;
mod generator;
mod method;
mod plan;
mod record;
mod report;
mod statistics;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::method::Ended;
use crate::plan::{COMMITTED, Plan};

/// Measures servers that speak etcd's API
#[derive(Parser)]
#[command(name = "basalt-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure one workload against one server
    ///
    /// Times are seconds, sizes bytes, rates operations per second.
    Run(Box<method::Lone>),
    /// Measure a plan's servers by turns, and write a folder of results
    ///
    /// Each slice has a fresh server. A round is all servers there and back (A B B A). Ctrl-C keeps and summarises what was measured; twice
    /// ends at once.
    Compare(Box<method::Options>),
    /// List and check plans
    #[command(subcommand)]
    Plan(Plans),
    /// Make results/index.html, and summaries and pictures that are missing
    Report(report::Arguments),
}

#[derive(Subcommand)]
enum Plans {
    /// The plans that are part of this program
    List,
    /// Say whether plans keep the rules, what their cells are, and how long they take
    Check {
        /// Files, or names of committed plans
        #[arg(required = true, value_name = "FILE")]
        plans: Vec<String>,
    },
}

fn main() -> Result<ExitCode> {
    method::raise_open_files();
    Ok(match Arguments::parse().command {
        Command::Run(lone) => method::run(&lone)?.map_or(ExitCode::SUCCESS, ExitCode::from),
        Command::Compare(options) => match method::compare(&options)? {
            Ended::Whole { failures: 0 } => ExitCode::SUCCESS,
            Ended::Whole { .. } => ExitCode::FAILURE,
            Ended::Interrupted(code) => ExitCode::from(code),
        },
        Command::Plan(Plans::List) => {
            for (name, _) in COMMITTED {
                let plan = Plan::load(name)?;
                println!("{name}: {}\n    {}", size(&plan), plan.note);
            }
            ExitCode::SUCCESS
        }
        Command::Plan(Plans::Check { plans }) => check(&plans),
        Command::Report(arguments) => {
            report::run(&arguments)?;
            ExitCode::SUCCESS
        }
    })
}

fn check(plans: &[String]) -> ExitCode {
    let mut all_good = true;
    for name in plans {
        match Plan::load(name) {
            Ok(plan) => {
                println!("{name}: good, {}", size(&plan));
                print!("{}", plan.table());
            }
            Err(error) => {
                all_good = false;
                eprintln!("{error:#}");
            }
        }
    }
    if all_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn size(plan: &Plan) -> String {
    let (least, most) = plan.estimate();
    let minutes = |seconds| method::minutes(Duration::from_secs_f64(seconds));
    format!(
        "{} cells, {} slices, about {}, at most {} with all repeats",
        plan.cells.len(),
        plan.slices(),
        minutes(least),
        minutes(most)
    )
}
