use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use basalt_engine::replica::Published;
use basalt_engine::types::MemberId;
use basalt_net::reactor::Handle;

use super::machine::Machine;
use crate::log::log_contract::{PUBLISHED, READY, SERVING_INSECURELY};
use crate::systemd;

/// Says when the member is ready, and ends the loops when it cannot go on. Asked once a turn by the thread that has the replica.
pub(super) struct Watchman {
    pub(super) is_ready: bool,
    pub(super) published: Arc<Published>,
    pub(super) member: MemberId,
    /// Printed.
    pub(super) cluster: String,
    /// Bound client addresses, for the log.
    pub(super) addresses: Vec<String>,
    /// All network loops; the first has the listeners.
    pub(super) loops: Vec<Handle>,
    /// Why the member stopped itself.
    pub(super) failure: Arc<Mutex<Option<String>>>,
    /// When it ends because it was removed from the cluster.
    pub(super) removed_end: Option<Instant>,
    pub(super) is_ending: bool,
}

impl Watchman {
    pub(super) fn look(&mut self, machine: &Machine, now: Instant) {
        if !self.is_ready && self.serves() {
            self.is_ready = true;
            self.say_ready();
            self.loops[0].accept();
        }
        self.end_if_removed(machine, now);
        if machine.replica().is_refilled() && !self.is_ending {
            self.is_ending = true;
            self.loops.iter().for_each(|own| own.stop(REFILLED_DRAIN));
        }
        if let Some(failure) = machine.replica().failure() {
            let mut told = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            if told.is_none() {
                *told = Some(failure.to_string());
                self.loops.iter().for_each(|own| own.stop(FAILURE_DRAIN));
            }
        }
    }

    /// There is a leader, and this start's name and client URLs are applied.
    fn serves(&self) -> bool {
        let status = self.published.status();
        status.is_ready && status.leader.is_some()
    }

    /// A while after it heard that it was removed, so that others hear it too; then the process ends, as asked.
    fn end_if_removed(&mut self, machine: &Machine, now: Instant) {
        match self.removed_end {
            None => {
                let cluster = self.published.cluster();
                let is_removed =
                    machine.links().is_removed() || cluster.removed.contains(&self.member);
                if is_removed {
                    self.removed_end = Some(now + REMOVED_DELAY);
                }
            }
            Some(end) if end <= now && !self.is_ending => {
                self.is_ending = true;
                tracing::warn!(
                    error = "the member has been permanently removed from the cluster",
                    "server error"
                );
                tracing::warn!("data-dir used by this member must be removed");
                self.loops.iter().for_each(|own| own.stop(FAILURE_DRAIN));
            }
            Some(_) => {}
        }
    }

    /// When to be asked at the latest.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.removed_end.filter(|_| !self.is_ending)
    }

    fn say_ready(&self) {
        let member = format!("{:x}", self.member.0);
        tracing::info!(
            "local-member-id" = member,
            "cluster-id" = self.cluster,
            "{PUBLISHED}"
        );
        tracing::info!("{READY}");
        for address in &self.addresses {
            tracing::info!(traffic = "grpc+http", address, "{SERVING_INSECURELY}");
        }
        systemd::ready();
    }
}

/// As long as etcd waits before a removed member ends.
const REMOVED_DELAY: Duration = Duration::from_secs(1);
/// Clients of a member that took over a snapshot go to another, or come back at once.
const REFILLED_DRAIN: Duration = Duration::from_millis(100);
/// Who waits hears of the failure within this time.
const FAILURE_DRAIN: Duration = Duration::from_millis(500);
