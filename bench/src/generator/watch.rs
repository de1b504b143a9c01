//! A run with watchers: first the load without them, then with them, on the same server.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use super::Time;
use super::recorder::Recorder;
use super::run::{Outcome, Session, Start, Stretch};
use crate::cost::Meter;
use crate::plan::Watching;
use crate::record::Watched;

/// The run; what it found of the watchers comes beside what it found of the puts.
///
/// # Errors
/// As of [`Session::stretch`], and when a watcher heard what it should not, or not what it should.
pub(crate) fn run(
    session: &mut Session<'_>,
    to: SocketAddr,
    meter: &Meter,
    (watching, start): (&Watching, Start),
    time: Time,
) -> Result<(Watched, Outcome, Recorder)> {
    let half = time.measured.div_f64(2.0).min(ALONE_MAX);
    let mut alone = session.stretch(Stretch {
        name: "without watchers",
        start,
        time: Time {
            measured: half,
            ..time
        },
        by_window: false,
    })?;
    let p99_us_alone = session.drain(&mut alone)?.p99_us();
    let cpu_us_alone = alone.cost.server_cpu_ns as f64 / alone.answered.max(1) as f64 / 1e3;

    session.tell(watching)?;
    session.write_history(watching.watch_behind)?;
    let resident = || meter.memory().map_or(0, |(now, _)| now);
    let before = resident();
    session.connect_watchers(to)?;
    let (mut creations_per_second, mut bytes_each) = (None, None);
    if watching.watch_behind == 0 {
        let seconds = session.create_watchers()?;
        creations_per_second = Some(f64::from(watching.watchers) / seconds);
        session.rest(QUIET)?;
        let grown = resident().saturating_sub(before);
        bytes_each = Some(grown as f64 / f64::from(watching.watchers));
    }
    let mut outcome = session.stretch(Stretch {
        name: "with watchers",
        start,
        time,
        by_window: false,
    })?;
    let recorder = session.drain(&mut outcome)?;
    let (told, catch_up_seconds) = session.take_watched()?;
    let delays = told.delays();
    let seconds = outcome.elapsed.as_secs_f64();
    let cpu_us = outcome.cost.server_cpu_ns as f64 / 1e3;
    let events = told.events_measured();
    let figures = Watched {
        watchers: watching.watchers,
        creations_per_second,
        bytes_each,
        events,
        events_per_second: events as f64 / seconds,
        cpu_us_per_event: cpu_us / events.max(1) as f64,
        delay_p50_us: delays.p50_us,
        delay_p99_us: delays.p99_us,
        delay_max_us: delays.max_us,
        after_acknowledged_p99_us: delays.after_acknowledged_p99_us,
        catch_up_seconds,
        p99_us_alone,
        p99_times: recorder.p99_us() / p99_us_alone,
        cpu_us_alone,
        cpu_times: cpu_us / outcome.answered.max(1) as f64 / cpu_us_alone,
    };
    Ok((figures, outcome, recorder))
}

/// Long enough for the figures of a load without watchers.
const ALONE_MAX: Duration = Duration::from_secs(15);

/// Long enough for what a server does after so many creations.
const QUIET: Duration = Duration::from_secs(1);
