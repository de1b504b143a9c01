//! Many connections that do nothing: how fast they are taken, and what each costs.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use super::run::Session;
use crate::cost::Meter;
use crate::record::Idle;

/// What was found before the load began.
pub(crate) struct Opened {
    connections: u32,
    connects_per_second: f64,
    resident_before: u64,
    resident_idle: u64,
}

/// Opens the connections of the load beside those that loaded, and leaves them alone for a while.
///
/// # Errors
/// When the server does not take or greet them all.
pub(crate) fn open(session: &mut Session<'_>, to: SocketAddr, meter: &Meter) -> Result<Opened> {
    let resident_before = resident(meter);
    let (connections, seconds) = session.open_rest(to)?;
    session.rest(QUIET)?;
    Ok(Opened {
        connections,
        connects_per_second: f64::from(connections) / seconds,
        resident_before,
        resident_idle: resident(meter),
    })
}

impl Opened {
    /// The figures, after the load.
    pub(crate) fn figures(&self, meter: &Meter) -> Idle {
        let each = |now: u64| {
            now.saturating_sub(self.resident_before) as f64 / f64::from(self.connections.max(1))
        };
        Idle {
            connections: self.connections,
            connects_per_second: self.connects_per_second,
            bytes_each: each(self.resident_idle),
            bytes_each_used: each(resident(meter)),
        }
    }
}

fn resident(meter: &Meter) -> u64 {
    meter.memory().map_or(0, |(now, _)| now)
}

/// Long enough for what a server does after a greeting.
const QUIET: Duration = Duration::from_secs(2);

/// Connections that load before the others are opened.
pub(crate) const FIRST: u16 = 4;
