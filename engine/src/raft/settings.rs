//! What a member is told about its part in the consensus, and where its randomness comes from.

use super::config::Config;
use crate::types::{MemberId, Millis};

/// Times and sizes of one member's Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Where randomness starts: another one for each member and at each of its starts.
    pub seed: u64,
    /// How often a leader says that it is there.
    pub heartbeat: Millis,
    /// How long a leader is waited for before an election, at least; up to twice as long.
    pub election: Millis,
    /// Bytes of applied entries that are kept for members who lag; who lags more needs a snapshot.
    pub catch_up_bytes: usize,
    /// And so many entries at most.
    pub catch_up_entries: u64,
    /// Bytes of entries in one message, but for a run that is larger by itself.
    pub append_bytes: usize,
}

impl Default for Settings {
    /// etcd's times.
    fn default() -> Self {
        Self {
            seed: 0,
            heartbeat: Millis(100),
            election: Millis(1000),
            catch_up_bytes: crate::limits::CATCH_UP_BYTES,
            catch_up_entries: u64::MAX,
            append_bytes: crate::limits::APPEND_BYTES_MAX,
        }
    }
}

impl Settings {
    /// How long a proposal or read is waited for: as etcd, five seconds and two elections.
    #[must_use]
    pub fn request_timeout(&self) -> Millis {
        Millis(5000 + 2 * self.election.0)
    }

    /// Bytes of applied entries that `me` keeps: whoever may have to bring others up to date keeps some.
    #[must_use]
    pub fn kept_bytes(&self, me: MemberId, config: &Config) -> usize {
        match config.members().all(|id| id == me) {
            true => 0,
            false => self.catch_up_bytes,
        }
    }
}

/// The generator SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A span below `bound`; 0 if that is 0.
    pub(super) fn below(&mut self, bound: Millis) -> Millis {
        if bound.0 == 0 {
            return bound;
        }
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Millis((mixed ^ (mixed >> 31)) % bound.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two members that draw the same times would split their votes for ever.
    #[test]
    fn seeds_make_different_spans_within_the_bound() {
        let draws = |seed| {
            let mut random = Random::new(seed);
            [(); 8].map(|()| random.below(Millis(1000)))
        };
        assert_ne!(draws(1), draws(2));
        assert_eq!(draws(1), draws(1));
        assert!(draws(3).iter().all(|span| *span < Millis(1000)));
    }
}
