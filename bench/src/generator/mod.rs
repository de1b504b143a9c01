//! The load: one thread drives all connections of one run and judges every answer.
//!
//! Promises: latency runs from the moment an operation was due; every acknowledged change is counted and looked for at the
//! end. Never: knows how a server was started, or which other it is compared with. Start at `measure`.

mod alarm;
mod driver;
mod figures;
mod link;
mod recorder;
mod workload;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use crate::cost::Meter;
use crate::plan::{Load, Shape};
use crate::record::Figures;

use driver::{Driver, Pace, Plan};
use workload::Workload;

/// How long a run warms up and measures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    pub warmup: Duration,
    pub measured: Duration,
}

/// One run: loads what the workload needs, warms up, measures, reads back. `progress` hears of the phase and of the operations done
/// in it a few times a second.
///
/// # Errors
/// When a connection ends, the server stops answering, or something acknowledged is missing.
pub(crate) fn measure(
    endpoint: SocketAddr,
    meter: &Meter,
    load: &Load,
    shape: &Shape,
    time: Time,
    progress: &mut dyn FnMut(&str, f64),
) -> Result<Figures> {
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
    let driver = Driver::new(endpoint, Workload::new(shape), shape.keys, plan)?;
    Ok(Figures::new(driver.run(meter, progress)?, meter.memory()))
}
