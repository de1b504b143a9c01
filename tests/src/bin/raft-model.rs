//! `raft-model [TIMEOUTS PROPOSALS CRASHES DOUBLES STATES]`: every order of events of three members on the real core.

use std::process::ExitCode;
use std::time::Instant;

use basalt_tests::raft_model::{Bounds, search};

fn main() -> ExitCode {
    let given: Vec<u64> = std::env::args()
        .skip(1)
        .filter_map(|it| it.parse().ok())
        .collect();
    let at = |slot: usize, default| given.get(slot).copied().unwrap_or(default);
    let small = |slot, default| u8::try_from(at(slot, default)).unwrap_or(u8::MAX);
    let bounds = Bounds {
        timeouts: small(0, 2),
        proposals: small(1, 1),
        crashes: small(2, 1),
        doubles: small(3, 0),
        states_max: at(4, 5_000_000),
    };
    println!("{bounds:?}");
    let began = Instant::now();
    match search(bounds) {
        Ok(found) => {
            println!("{found:#?}");
            println!("0 violations, {:.0} s", began.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(broken) => {
            println!("{broken}");
            ExitCode::FAILURE
        }
    }
}
