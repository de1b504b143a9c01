use std::time::Duration;

use basalt_net::peer::HEAD_BYTES;
use basalt_net::reactor::Counter;

use super::histogram::Histogram;

/// What goes to and comes from one other member. Only the thread that has the links writes.
#[derive(Debug)]
pub struct PeerMetrics {
    pub(super) sent: Traffic,
    pub(super) received: Traffic,
    pub(super) round_trips: Histogram,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) messages: Counter,
    /// With the heads of their frames.
    pub(super) bytes: Counter,
    /// Messages that were lost: there was no connection or no room, or they could not be read.
    pub(super) failures: Counter,
}

impl Default for PeerMetrics {
    fn default() -> PeerMetrics {
        PeerMetrics {
            sent: Traffic::default(),
            received: Traffic::default(),
            round_trips: Histogram::new(ROUND_TRIP_BUCKETS),
        }
    }
}

impl PeerMetrics {
    /// A message of so many bytes is on its way; `None`: it was lost.
    pub fn sent(&self, bytes: Option<usize>) {
        self.sent.count(bytes);
    }

    /// A message of so many bytes has come; `None`: something that cannot be read.
    pub fn received(&self, bytes: Option<usize>) {
        self.received.count(bytes);
    }

    /// A ping was answered.
    pub fn round_trip(&self, took: Duration) {
        self.round_trips.observe(took);
    }
}

impl Traffic {
    fn count(&self, bytes: Option<usize>) {
        match bytes {
            None => self.failures.add(1),
            Some(bytes) => {
                self.messages.add(1);
                self.bytes.add((HEAD_BYTES + bytes) as u64);
            }
        }
    }
}

/// First bound in nanoseconds, and how many, each twice the one before.
const ROUND_TRIP_BUCKETS: (u64, usize) = (100_000, 16);
