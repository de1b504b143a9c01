//! The highest rate that is served as demanded: a closed loop shows where to search, then the rate is halved in between.

use std::time::Duration;

use anyhow::Result;

use super::Time;
use super::recorder::Recorder;
use super::run::{Outcome, Session, Start, Stretch};
use crate::record::Capacity;

/// Halves the interval between a rate that was kept and one that was not. Operations per second.
struct Bisection {
    kept: f64,
    missed: f64,
}

impl Bisection {
    fn next(&self) -> f64 {
        (self.kept + self.missed) / 2.0
    }

    fn on(&mut self, rate: f64, is_kept: bool) {
        if is_kept {
            self.kept = rate;
        } else {
            self.missed = rate;
        }
    }
}

/// Searches, and measures the best rate for the whole of `time`.
///
/// # Errors
/// When the connection fails or the server stops answering.
pub(crate) fn find(
    session: &mut Session<'_>,
    p99_ms_max: f64,
    time: Time,
) -> Result<(Capacity, Outcome, Recorder)> {
    let mut saturated = session.stretch(Stretch {
        name: "saturation",
        start: Start::Closed,
        time: TRIAL,
        by_window: false,
    })?;
    let rate = session.drain(&mut saturated)?.done() as f64 / TRIAL.measured.as_secs_f64();
    let mut capacity = Capacity {
        p99_ms_max,
        per_second: 0.0,
        trials: Vec::new(),
        saturation_per_second: rate,
    };
    let mut search = Bisection {
        kept: 0.0,
        missed: rate * BEYOND_SATURATION,
    };
    for _ in 0..TRIALS {
        let rate = search.next();
        // A miss is looked at twice: a hiccup of the disk is not the server's limit.
        let is_kept = trial(session, &mut capacity, rate, TRIAL)?.2
            || trial(session, &mut capacity, rate, TRIAL)?.2;
        search.on(rate, is_kept);
    }
    // A longer look at the best rate may find it too high; then a little less is looked at.
    let mut rate = if search.kept > 0.0 {
        search.kept
    } else {
        search.missed
    };
    for confirmation in 1.. {
        let (outcome, recorder, is_kept) = trial(session, &mut capacity, rate, time)?;
        if is_kept {
            capacity.per_second = rate;
        }
        if is_kept || confirmation == CONFIRMATIONS_MAX {
            return Ok((capacity, outcome, recorder));
        }
        rate *= STEP_DOWN;
    }
    unreachable!("the last confirmation returns")
}

fn trial(
    session: &mut Session<'_>,
    capacity: &mut Capacity,
    per_second: f64,
    time: Time,
) -> Result<(Outcome, Recorder, bool)> {
    let mut outcome = session.stretch(Stretch {
        name: "capacity",
        start: Start::Open { per_second },
        time,
        by_window: false,
    })?;
    let recorder = session.drain(&mut outcome)?;
    let p99_us = recorder.p99_us();
    let is_kept = p99_us <= capacity.p99_ms_max * 1000.0
        && outcome.tally.failed() == 0
        && outcome.tally.over_limit == 0;
    capacity.trials.push((per_second, p99_us, is_kept));
    Ok((outcome, recorder, is_kept))
}

/// Long enough for a p99, short enough for many.
const TRIAL: Time = Time {
    warmup: Duration::from_millis(500),
    measured: Duration::from_secs(2),
};

/// Leave an uncertainty of less than a hundredth of the saturation rate.
const TRIALS: u32 = 7;
const CONFIRMATIONS_MAX: u32 = 5;
const STEP_DOWN: f64 = 0.95;

/// No open loop is served faster than this multiple of what the closed one reached.
const BEYOND_SATURATION: f64 = 1.1;

/// What the search takes before its confirmation, roughly: a part of the trials is repeated.
pub(crate) const SECONDS: f64 = 2.5 * (TRIALS as f64 * 1.5 + 1.0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_halvings_find_any_rate_to_a_hundredth_of_the_range() {
        for truth in [100.0, 12_345.0, 54_999.0, 99_000.0] {
            let mut search = Bisection {
                kept: 0.0,
                missed: 110_000.0,
            };
            for _ in 0..TRIALS {
                let rate = search.next();
                search.on(rate, rate <= truth);
            }
            assert!(search.kept <= truth, "{truth}");
            assert!(truth - search.kept < 1_100.0, "{truth}");
        }
    }
}
