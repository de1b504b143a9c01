//! Crash enumeration of the log, small enough for every test run. `crash-enum` is the full one.

use basalt_tests::enumerate::{Depth, crashes};

#[test]
fn no_crash_loses_an_acknowledged_run_or_shows_half_of_another() {
    let depth = Depth {
        loads: 4,
        seed: 1,
        steps: 90,
        all_subsets_units: 4,
        random_subsets: 4,
        second_one_in: 30,
    };
    let tally = crashes(depth).unwrap_or_else(|violation| panic!("{violation}"));
    assert!(tally.states > 5_000, "{tally:?}");
    assert!(tally.second > 500, "{tally:?}");
    println!("{tally:?}");
}
