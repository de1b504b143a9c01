//! A server that ends and comes back: the time until it serves, and what must still be there.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::recorder::Recorder;
use super::run::{Outcome, Session};
use super::{Interrupted, Server};
use crate::cost::{Counters, Meter};
use crate::plan::Ending;
use crate::record::Restart;

/// A process that was started again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    pub at: Instant,
    pub process: u32,
}

/// Ends the server after a stretch, starts it again, and waits for its first answer. What was acknowledged before is verified later, as ever.
///
/// # Errors
/// When it does not end, does not start, or does not answer in time.
pub(crate) fn run(
    session: &mut Session<'_>,
    server: &mut Server<'_>,
    ending: Ending,
    outcome: &mut Outcome,
) -> Result<(Restart, Recorder)> {
    let Some(restart) = &mut server.restart else {
        anyhow::bail!("only a server of our own can be restarted");
    };
    let (started, recorder, unanswered) = match ending {
        Ending::Stop => {
            let recorder = session.drain(outcome)?;
            (restart(ending)?, recorder, 0)
        }
        Ending::Kill => {
            let started = restart(ending)?;
            let (recorder, unanswered) = session.abandon(outcome);
            (started, recorder, unanswered)
        }
    };
    let seconds = loop {
        ensure!(
            started.at.elapsed() < PATIENCE,
            "no answer {} s after the start",
            PATIENCE.as_secs()
        );
        if TcpStream::connect(server.endpoint).is_ok() {
            match session.reconnect(server.endpoint) {
                Ok(true) => break started.at.elapsed().as_secs_f64(),
                Err(error) if error.is::<Interrupted>() => return Err(error),
                // It listens but does not serve yet.
                Ok(false) | Err(_) => {}
            }
        }
        std::thread::sleep(BETWEEN_TRIES);
    };
    let meter = Meter::new(vec![started.process], None)?;
    let used = Counters::default().until(&meter.read()?);
    let restart = Restart {
        seconds,
        cpu_seconds: used.server_cpu_ns as f64 / 1e9,
        resident_bytes: meter.memory().map_or(0, |(now, _)| now),
        unanswered,
    };
    Ok((restart, recorder))
}

/// Stock etcd reads ten million keys in about a minute.
const PATIENCE: Duration = Duration::from_secs(300);
const BETWEEN_TRIES: Duration = Duration::from_millis(1);
