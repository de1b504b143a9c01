//! A cluster whose leader is killed under load: how long until writes are acknowledged again.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Result;

use super::run::Session;
use crate::record::Failover;

/// Several members, of whom the one that leads may be killed.
pub(crate) trait Cluster {
    /// Waits for a leader. Where clients of everybody else connect.
    fn followers(&mut self) -> Result<Vec<SocketAddr>>;

    /// Kills that leader, by SIGKILL; the moment just before.
    fn kill_leader(&mut self) -> Result<Instant>;

    /// Starts it again and waits until it serves.
    fn start_again(&mut self) -> Result<()>;
}

/// Kills one leader after the other, each under an open loop on the members that stay.
///
/// # Errors
/// When nobody leads, or nothing is answered in time.
pub(super) fn run(
    session: &mut Session<'_>,
    cluster: &mut dyn Cluster,
    kills: u16,
    per_second: f64,
) -> Result<Failover> {
    let mut found = Failover::default();
    for _ in 0..kills {
        let followers = cluster.followers()?;
        let (seconds, unanswered) =
            session.fail_over(&followers, per_second, &mut || cluster.kill_leader())?;
        found.gaps_seconds.push(seconds);
        found.unanswered += unanswered;
        cluster.start_again()?;
    }
    Ok(found)
}

/// From one kill to the next, roughly; for the progress only.
pub(super) const SECONDS: f64 = 3.5;
