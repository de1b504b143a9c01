//! A batch of commands on its way into the log.

use basalt_pb::hot;

use super::lease::Ask;
use crate::limits::{LEASE_ASKS_MAX, RUN_BYTES_MAX, RUN_ENTRIES_MAX};
use crate::types::{ReplyTo, RequestId};

/// Commands in the framing of a run, and who waits for each. Filled by a network loop, taken whole
/// by [`super::Replica::propose`], which gives back an empty one with its room kept.
#[derive(Debug, Default)]
pub struct Proposals {
    /// For each command: length as u32 little-endian, then the `InternalRaftRequest`.
    pub(super) bytes: Vec<u8>,
    /// One for each command; `None`: nobody waits.
    pub(super) waiters: Vec<Option<ReplyTo>>,
    /// Questions that go along and not into the log.
    pub(super) asks: Vec<(ReplyTo, Ask)>,
}

impl Proposals {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a request of `body_len` bytes may still be pushed. An empty batch takes any one request.
    #[must_use]
    pub fn fits(&self, body_len: usize) -> bool {
        let more = body_len + FRAMING_BYTES_MAX;
        self.waiters.is_empty()
            || (self.waiters.len() < RUN_ENTRIES_MAX && self.bytes.len() + more <= RUN_BYTES_MAX)
    }

    /// Adds the request `body`, which is field `field` of an `InternalRaftRequest`, exactly as the
    /// client sent it. It must fit.
    pub fn push(&mut self, reply: Option<ReplyTo>, id: RequestId, field: u32, body: &[u8]) {
        assert!(self.fits(body.len()));
        let len = hot::internal_raft_request_len(id.0, field, body.len());
        let prefix = u32::try_from(len).expect("the API's size limit is far below 4 GiB");
        self.bytes.reserve(4 + len);
        self.bytes.extend_from_slice(&prefix.to_le_bytes());
        let start = self.bytes.len();
        hot::write_internal_raft_request(&mut self.bytes, id.0, field, body);
        assert!(self.bytes.len() - start == len);
        self.waiters.push(reply);
    }

    /// Adds a question. It is taken over even if the commands are not; `false`: there are too many.
    #[must_use]
    pub fn ask(&mut self, to: ReplyTo, ask: Ask) -> bool {
        let has_room = self.asks.len() < LEASE_ASKS_MAX;
        if has_room {
            self.asks.push((to, ask));
        }
        has_room
    }

    /// Whether it holds questions.
    #[must_use]
    pub fn has_asks(&self) -> bool {
        !self.asks.is_empty()
    }

    /// How many commands it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Whether it holds no command.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Bytes of the run it will become.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets all commands and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.waiters.clear();
    }
}

/// Bytes of the largest run that proposals make when no request is longer than `request_bytes_max`:
/// what the log must take at once (`WalLimits::run_bytes_max`).
#[must_use]
pub fn run_bytes_max(request_bytes_max: usize) -> usize {
    RUN_BYTES_MAX.max(request_bytes_max + FRAMING_BYTES_MAX)
}

/// Length prefix, header with a ten-byte id, and the request's own tag and length.
const FRAMING_BYTES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// A run is bounded by entries and bytes, but for a single request however large.
    #[test]
    fn a_batch_takes_what_one_run_may_hold() {
        let mut batch = Proposals::new();
        assert!(batch.fits(10 * RUN_BYTES_MAX));
        batch.push(None, RequestId(1), 4, &vec![0; RUN_BYTES_MAX + 1]);
        assert!(!batch.fits(0));
        assert!(batch.bytes_len() <= run_bytes_max(RUN_BYTES_MAX + 1));
        batch.clear();
        for _ in 0..RUN_ENTRIES_MAX {
            assert!(batch.fits(1));
            batch.push(None, RequestId(u64::MAX), 4, &[0]);
        }
        assert!(!batch.fits(1));
        assert_eq!(batch.len(), RUN_ENTRIES_MAX);
    }
}
