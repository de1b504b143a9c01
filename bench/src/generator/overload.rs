//! Twice what a server can do, then half of it: what is still answered, with which errors the rest fails, how soon it is over.

use std::time::Duration;

use anyhow::Result;

use super::Time;
use super::driver::OUTSTANDING_MAX;
use super::figures::share;
use super::recorder::{Recorder, WINDOW_NS};
use super::run::{Outcome, Session, Start, Stretch};
use crate::record::Overload;

/// How `time`, of which the measured part is the overload's, is shared out.
struct Times {
    capacity: Time,
    half: Time,
    overload: Time,
    recovery: Time,
}

impl Times {
    fn new(time: Time) -> Self {
        let before = (time.measured / 6).clamp(BEFORE_MIN, BEFORE_MAX);
        let measured = |warmup, measured| Time { warmup, measured };
        Self {
            capacity: measured(time.warmup, before),
            half: measured(Duration::ZERO, before),
            // Its beginning is part of it.
            overload: measured(Duration::ZERO, time.measured),
            recovery: measured(Duration::ZERO, (time.measured / 2).max(RECOVERY_MIN)),
        }
    }
}

/// Seconds that it takes.
pub(crate) fn seconds(time: Time) -> f64 {
    let times = Times::new(time);
    [times.capacity, times.half, times.overload, times.recovery]
        .iter()
        .map(|time| (time.warmup + time.measured).as_secs_f64())
        .sum()
}

/// Finds the capacity by a closed loop, looks at half of it, overloads, and looks at half of it again. The outcome is that of the
/// overload, its late answers included.
///
/// # Errors
/// When the connection fails or the server stops answering altogether.
pub(crate) fn run(session: &mut Session<'_>, time: Time) -> Result<(Overload, Outcome, Recorder)> {
    let times = Times::new(time);
    let stretch = |name, start, time| Stretch {
        name,
        start,
        time,
        by_window: true,
    };
    let rate = |per_second| Start::Open { per_second };

    let mut closed = session.stretch(stretch("capacity", Start::Closed, times.capacity))?;
    let capacity = closed.answered as f64 / closed.elapsed.as_secs_f64();
    session.drain(&mut closed)?;

    let mut half = session.stretch(stretch("half load", rate(capacity / 2.0), times.half))?;
    let half_p99_us = session.drain(&mut half)?.p99_us();

    let demanded = capacity * 2.0;
    let overload = session.stretch(stretch("overload", rate(demanded), times.overload))?;
    // No drain: the half load meets what the overload has left.
    let mut after = session.stretch(stretch("recovery", rate(capacity / 2.0), times.recovery))?;
    let mut recovery = session.drain(&mut after)?;
    let recorder = session
        .take_earlier()
        .unwrap_or_else(|| Recorder::new(false, false));

    let mut failures = overload.tally.failures.clone();
    if overload.tally.over_limit > 0 {
        let text = format!("more than {OUTSTANDING_MAX} unanswered");
        failures.insert(text, overload.tally.over_limit);
    }
    let each_second = |count: u64| count as f64 / overload.elapsed.as_secs_f64();
    let found = Overload {
        capacity_per_second: capacity,
        demanded_per_second: demanded,
        offered_per_second: each_second(overload.offered),
        goodput_per_second: each_second(overload.answered),
        failures,
        client_busy: share(overload.cost.client_cpu_ns, overload.elapsed, 1.0),
        half_p99_us,
        recovery_seconds: recovered(&recovery.p99_us_by_window(), half_p99_us * RECOVERED_FACTOR),
    };
    Ok((found, overload, recorder))
}

/// Seconds until `RECOVERED_WINDOWS` windows in a row were at most so slow. A window in which nothing was answered is not.
fn recovered(p99_us: &[f64], p99_us_max: f64) -> Option<f64> {
    p99_us
        .windows(RECOVERED_WINDOWS)
        .position(|row| row.iter().all(|p99| *p99 > 0.0 && *p99 <= p99_us_max))
        .map(|window| window as f64 * WINDOW_NS as f64 / 1e9)
}

const BEFORE_MIN: Duration = Duration::from_secs(2);
const BEFORE_MAX: Duration = Duration::from_secs(5);
const RECOVERY_MIN: Duration = Duration::from_secs(3);

const RECOVERED_WINDOWS: usize = 3;
const RECOVERED_FACTOR: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_recovered_when_three_tenths_in_a_row_are_as_before() {
        let p99 = [900.0, 9.0, 9.0, 500.0, 8.0, 0.0, 9.0, 10.0, 7.0, 100.0];
        assert_eq!(recovered(&p99, 10.0), Some(0.6));
        assert_eq!(recovered(&p99, 8.0), None);
        assert_eq!(recovered(&p99[..2], 10.0), None);
        assert_eq!(recovered(&[5.0; 3], 10.0), Some(0.0));
    }
}
