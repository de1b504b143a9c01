//! The load: one thread drives all connections of one run and judges every answer.
//!
//! Promises: latency runs from the moment an operation was due; every acknowledged change is counted and looked for at the
//! end. Never: knows how a server was started, or which other it is compared with. Start at `measure`.

mod alarm;
mod answer;
mod beside;
mod capacity;
mod driver;
mod failover;
mod figures;
mod idle;
mod intervals;
mod judge;
mod keys;
mod leases;
mod link;
mod overload;
mod pace;
mod recorder;
mod requests;
mod restart;
mod run;
mod template;
mod told;
mod watch;
mod watchers;
mod workload;
mod zipf;

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::cost::Meter;
use crate::plan::{Ending, Kind, Load, Shape};
use crate::record::Figures;

use figures::Found;
use run::{Session, Start, Stretch};

pub(crate) use failover::Cluster;
pub(crate) use intervals::Intervals;
pub(crate) use restart::Started;

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

/// Ends the server and starts it again with the same data.
pub(crate) type Restarter<'a> = &'a mut dyn FnMut(Ending) -> Result<Started>;

/// The server to drive.
pub(crate) struct Server<'a> {
    pub endpoint: SocketAddr,
    pub meter: &'a Meter,
    /// None where it is not ours to end.
    pub restart: Option<Restarter<'a>>,
    /// None where there is no leader of ours to be killed.
    pub cluster: Option<&'a mut dyn Cluster>,
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
    mut server: Server<'_>,
    load: &Load,
    shape: &Shape,
    data: Data,
    time: Time,
    progress: Progress<'_>,
) -> Result<Run> {
    ensure!(
        shape.workload != Kind::TxnPuts || shape.keys >= u32::from(shape.batch),
        "a txn cannot put a key twice: {} keys for {} puts",
        shape.keys,
        shape.batch
    );
    let seconds = match load.overload {
        true => overload::seconds(time),
        false => (time.warmup + time.measured).as_secs_f64(),
    };
    let kills = f64::from(load.leader_kills.unwrap_or(0)) * failover::SECONDS;
    let foretold = seconds + load.capacity_p99_ms.map_or(0.0, |_| capacity::SECONDS) + kills;
    let mut session = Session::new(
        server.endpoint,
        server.meter,
        load,
        shape,
        foretold,
        progress,
    )?;
    session.begin(data)?;
    let opened = match load.idle {
        true => Some(idle::open(&mut session, server.endpoint, server.meter)?),
        false => None,
    };
    let (mut capacity, mut overload, mut restart, mut failover) = (None, None, None, None);
    let (mut memory, mut watched) = (None, None);
    let start = match load.rate {
        Some(per_second) => Start::Open { per_second },
        None => Start::Closed,
    };
    let (outcome, recorder) = if let Some(watching) = load.watchers() {
        let (found, outcome, recorder) = watch::run(
            &mut session,
            server.endpoint,
            server.meter,
            (watching, start),
            time,
        )?;
        watched = Some(found);
        (outcome, recorder)
    } else if let Some(p99_ms_max) = load.capacity_p99_ms {
        let (found, outcome, recorder) = capacity::find(&mut session, p99_ms_max, time)?;
        capacity = Some(found);
        (outcome, recorder)
    } else if load.overload {
        let (found, outcome, recorder) = overload::run(&mut session, time)?;
        overload = Some(found);
        (outcome, recorder)
    } else {
        let name = match start {
            Start::Open { .. } => "open loop",
            Start::Closed => "closed loop",
        };
        let mut outcome = session.stretch(Stretch {
            name,
            start,
            time,
            by_window: false,
        })?;
        memory = server.meter.memory();
        let recorder = match load.restart {
            Some(ending) => {
                let (found, recorder) =
                    restart::run(&mut session, &mut server, ending, &mut outcome)?;
                restart = Some(found);
                recorder
            }
            None => session.drain(&mut outcome)?,
        };
        if let (Some(kills), Some(cluster)) = (load.leader_kills, server.cluster) {
            let per_second = load.rate.unwrap_or_default();
            failover = Some(failover::run(&mut session, cluster, kills, per_second)?);
            session.connect_to(server.endpoint)?;
        }
        (outcome, recorder)
    };
    // After draining, unless the server is another by now.
    let memory = if restart.is_some() || failover.is_some() {
        memory
    } else {
        server.meter.memory()
    };
    let beside = session.take_beside();
    let expiry = session.expiry(&beside)?;
    let idle = opened.map(|opened| opened.figures(server.meter));
    let (figures, intervals) = Found {
        outcome,
        recorder,
        verified: session.verify()?,
        inner: session.inner(),
        walk_pages: session.walk_pages(),
        capacity,
        overload,
        restart,
        failover,
        idle,
        watched,
        beside,
        expiry,
        memory,
    }
    .figures();
    Ok(Run { figures, intervals })
}

/// Writes the shape's keys and nothing else: for data that outlive a run.
///
/// # Errors
/// As of [`measure`].
pub(crate) fn prepare(endpoint: SocketAddr, shape: &Shape, progress: Progress<'_>) -> Result<()> {
    let load = Load {
        conns: LOAD_CONNECTIONS,
        ..Load::default()
    };
    let meter = Meter::new(Vec::new(), None)?;
    Session::new(endpoint, &meter, &load, shape, 0.0, progress)?.begin(Data::Load)
}

/// Connections that only load.
const LOAD_CONNECTIONS: u16 = 4;
