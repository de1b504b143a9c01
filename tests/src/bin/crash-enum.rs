//! The full crash enumeration: `cargo run --release -p basalt-tests --bin crash-enum [loads] [first seed]`.

use std::process::ExitCode;
use std::time::Instant;

use basalt_tests::enumerate::{Depth, crashes};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>());
    let mut next = |default| args.next().and_then(Result::ok).unwrap_or(default);
    let depth = Depth {
        loads: next(24),
        seed: next(1),
        steps: 150,
        all_subsets_units: 8,
        random_subsets: 64,
        second_one_in: 40,
    };
    let start = Instant::now();
    match crashes(depth) {
        Ok(tally) => {
            println!(
                "{tally:?} in {:.1} s, 0 violations",
                start.elapsed().as_secs_f64()
            );
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("{violation}");
            ExitCode::FAILURE
        }
    }
}
