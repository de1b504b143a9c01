//! What the API and the scrape may know of the links to the other members without asking the thread that has them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use basalt_engine::types::MemberId;

use crate::metrics::PeerMetrics;

/// Each member that there was a link to. Changes rarely: a lock will do.
#[derive(Debug, Default)]
pub struct Connectivity(Mutex<BTreeMap<MemberId, Peer>>);

#[derive(Debug, Default)]
struct Peer {
    /// Since when there has been a connection without a gap.
    since: Option<Instant>,
    lost: u64,
    metrics: Arc<PeerMetrics>,
}

/// A link at one moment, for the scrape.
pub(crate) struct Seen {
    pub(crate) is_up: bool,
    /// Times that the last connection went.
    pub(crate) lost: u64,
    pub(crate) metrics: Arc<PeerMetrics>,
}

impl Connectivity {
    /// A connection is there since then, or gone.
    pub fn set(&self, member: MemberId, since: Option<Instant>) {
        let mut peers = self.peers();
        let peer = peers.entry(member).or_default();
        peer.lost += u64::from(peer.since.is_some() && since.is_none());
        peer.since = since;
    }

    /// It is no member.
    pub(crate) fn forget(&self, member: MemberId) {
        self.peers().remove(&member);
    }

    /// How long it has been there; `None` without one.
    #[must_use]
    pub fn up_for(&self, member: MemberId, now: Instant) -> Option<Duration> {
        let peers = self.peers();
        let since = peers.get(&member).and_then(|peer| peer.since);
        since.map(|since| now.saturating_duration_since(since))
    }

    /// The counters of a member, to be kept by the thread that has the links.
    pub(crate) fn metrics(&self, member: MemberId) -> Arc<PeerMetrics> {
        Arc::clone(&self.peers().entry(member).or_default().metrics)
    }

    /// By ascending id.
    pub(crate) fn all(&self) -> Vec<(MemberId, Seen)> {
        let seen = |peer: &Peer| Seen {
            is_up: peer.since.is_some(),
            lost: peer.lost,
            metrics: Arc::clone(&peer.metrics),
        };
        let peers = self.peers();
        peers.iter().map(|(id, peer)| (*id, seen(peer))).collect()
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<MemberId, Peer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
