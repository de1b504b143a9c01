//! The load: one thread drives all connections of one run and judges every answer.
//!
//! Promises: latency runs from the moment an operation was due; every acknowledged change is counted and looked for at the
//! end. Never: knows how a server was started, or which other it is compared with. Start at `measure`.

mod alarm;
mod driver;
mod figures;
mod intervals;
mod link;
mod recorder;
mod workload;

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::Result;

use crate::cost::Meter;
use crate::plan::{Load, Shape};
use crate::record::Figures;

use driver::{Driver, Pace, Plan};
use workload::Workload;

pub(crate) use intervals::Intervals;

/// How long a run warms up and measures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    pub warmup: Duration,
    pub measured: Duration,
}

/// What the server holds when a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// Not the shape's keys: the run writes them first.
    Load,
    /// The shape's keys, from [`prepare`] or an earlier run of the same shape.
    Loaded,
}

/// What a run found.
pub(crate) struct Run {
    pub figures: Figures,
    pub intervals: Intervals,
}

/// The listener of a run asked it to end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

/// Hears, a few times a second, the phase, the operations done so far in it, and the share (0 to 1) of the whole run that is done.
/// A break ends the run with the error [`Interrupted`].
pub(crate) type Progress<'a> = &'a mut dyn FnMut(&str, f64, f64) -> ControlFlow<()>;

/// One run: loads the shape's keys, warms up, measures, reads back.
///
/// # Errors
/// When a connection ends, the server stops answering, or something acknowledged is missing; [`Interrupted`].
pub(crate) fn measure(
    endpoint: SocketAddr,
    meter: &Meter,
    load: &Load,
    shape: &Shape,
    data: Data,
    time: Time,
    progress: Progress<'_>,
) -> Result<Run> {
    let plan = Plan {
        connections: usize::from(load.conns),
        pace: match load.rate {
            Some(per_second) => Pace::Open { per_second },
            None => Pace::Closed {
                streams: usize::from(load.streams),
            },
        },
        warmup: time.warmup,
        duration: time.measured,
    };
    let mut driver = Driver::new(endpoint, Workload::new(shape), shape.keys, plan)?;
    if data == Data::Load {
        driver.load(progress)?;
    }
    let (figures, intervals) = Figures::new(driver.run(meter, progress)?, meter.memory());
    Ok(Run { figures, intervals })
}

/// Writes the shape's keys and nothing else: for data that outlive a run.
///
/// # Errors
/// As of [`measure`].
pub(crate) fn prepare(endpoint: SocketAddr, shape: &Shape, progress: Progress<'_>) -> Result<()> {
    let plan = Plan {
        connections: LOAD_CONNECTIONS,
        pace: Pace::Closed { streams: 1 },
        warmup: Duration::ZERO,
        duration: Duration::ZERO,
    };
    Driver::new(endpoint, Workload::new(shape), shape.keys, plan)?.load(progress)
}

/// Connections that only load.
const LOAD_CONNECTIONS: usize = 4;
