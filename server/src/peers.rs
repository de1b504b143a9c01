//! What the API may know of the links to the other members without asking the thread that has them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use basalt_engine::types::MemberId;

/// Since when there has been a connection to each member without a gap. Changes rarely: a lock will do.
#[derive(Debug, Default)]
pub struct Connectivity(Mutex<BTreeMap<MemberId, Instant>>);

impl Connectivity {
    /// A connection is there since then, or gone.
    pub fn set(&self, member: MemberId, since: Option<Instant>) {
        let mut up = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match since {
            Some(since) => _ = up.insert(member, since),
            None => _ = up.remove(&member),
        }
    }

    /// How long it has been there; `None` without one.
    #[must_use]
    pub fn up_for(&self, member: MemberId, now: Instant) -> Option<Duration> {
        let up = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        up.get(&member)
            .map(|since| now.saturating_duration_since(*since))
    }
}
