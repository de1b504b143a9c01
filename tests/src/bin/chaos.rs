//! Faults on real processes: `cargo run -p basalt-tests --bin chaos -- --minutes 30`. `BASALT_BASALT` names the server, which should
//! be a release build. Prints each fault; status 1 is a violation.

use std::process::ExitCode;
use std::time::Duration;

use basalt_tests::chaos::{Plan, run};
use clap::Parser;

/// Kills, stops and cuts off members under load, and checks what clients saw.
#[derive(Parser, Debug)]
struct Args {
    /// How long faults are made.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Members.
    #[arg(long, default_value_t = 3)]
    members: usize,
    /// Clients that work all the time.
    #[arg(long, default_value_t = 6)]
    clients: u64,
    /// Milliseconds between two calls of a client.
    #[arg(long, default_value_t = 10)]
    pause_ms: u64,
    /// Seconds from one fault to the next, at least.
    #[arg(long, default_value_t = 2)]
    rest_min: u64,
    /// Seconds from one fault to the next, at most.
    #[arg(long, default_value_t = 9)]
    rest_max: u64,
    /// Decides what happens.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let plan = Plan {
        members: args.members.clamp(2, 7),
        clients: args.clients,
        pause: Duration::from_millis(args.pause_ms),
        time: Duration::from_secs_f64(args.minutes.max(0.0) * 60.0),
        rest: (
            Duration::from_secs(args.rest_min),
            Duration::from_secs(args.rest_max.max(args.rest_min)),
        ),
        seed: args.seed,
    };
    match run(&plan) {
        Ok(report) => {
            println!("{report:#?}\nno violation");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("VIOLATION: {violation}");
            ExitCode::FAILURE
        }
    }
}
