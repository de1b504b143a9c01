use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use basalt_engine::replica::{Published, Replica};
use basalt_engine::types::MemberId;
use basalt_net::reactor::Handle;

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
}

impl Watchman {
    pub(super) fn look(&mut self, replica: &Replica) {
        if !self.is_ready && self.serves() {
            self.is_ready = true;
            self.say_ready();
            self.loops[0].accept();
        }
        if let Some(failure) = replica.failure() {
            let mut told = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            if told.is_none() {
                *told = Some(failure.to_string());
                self.loops.iter().for_each(|own| own.stop(FAILURE_DRAIN));
            }
        }
    }

    /// Linearizable reads are answered and the member's name is in the log.
    fn serves(&self) -> bool {
        let is_named = |member: &_| {
            let member: &basalt_pb::etcdserverpb::Member = member;
            member.id == self.member.0 && !member.client_urls.is_empty() | !member.name.is_empty()
        };
        self.published.read_gate().is_free()
            && self.published.cluster().members.iter().any(is_named)
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

/// Who waits hears of the failure within this time.
const FAILURE_DRAIN: Duration = Duration::from_millis(500);
