//! What a command answers, in a form that costs nothing to keep.

use crate::limits::REPLY_BYTES_KEPT_MAX;
use crate::types::{ReplyTo, Term};

/// The answer to one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A Put without `prev_kv`: its answer is the header alone.
    Put {
        /// The store's revision after the Put.
        revision: i64,
        /// The term of the Put's log entry.
        term: Term,
    },
    /// A whole protobuf answer, header included, in [`Replies::bytes`].
    Encoded {
        /// Offset of the first byte.
        start: usize,
        /// Offset behind the last byte.
        end: usize,
    },
    /// A linearizable read may use the newest published view now.
    Readable,
    /// The change of the members is applied.
    MembersChanged,
    /// The member that was asked for leads.
    Transferred,
    /// The command changed nothing, but for `NoSpace` after a write that just did not fit.
    Refused(Refused),
}

/// Why a client's command is refused. `server/api/errors.rs` words it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// The store is full, or a NOSPACE alarm is on.
    NoSpace,
    /// A CORRUPT alarm is on.
    CorruptCluster,
    /// A lease that does not exist.
    LeaseNotFound,
    /// A lease of this id exists.
    LeaseExists,
    /// More than `LEASE_TTL_MAX` seconds.
    LeaseTtlTooLarge,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    KeyNotFound,
    /// A revision below the compacted one.
    Compacted,
    /// A revision that the store has not reached.
    FutureRevision,
    /// An alarm action that etcd does not define.
    UnknownAlarmAction,
    /// Bytes that are not the message they are said to be; the API lets none through.
    Malformed,
    /// A member that does not exist, or no longer.
    MemberNotFound,
    /// A member that exists already.
    MemberExists,
    /// A peer URL that another member has.
    PeerUrlExists,
    /// A promotion of a member that votes already.
    MemberNotLearner,
    /// A promotion of a learner that lacks too much of the leader's log.
    LearnerNotReady,
    /// Too much is under way and it was not proposed; or too many alarms are active.
    TooManyRequests,
    /// There is no leader, or it is not this member and cannot be reached.
    NoLeader,
    /// Leadership moved while it was under way. It may still take effect.
    LeaderChanged,
    /// Only the leader can do that.
    NotLeader,
    /// The member that shall lead is no other voter.
    BadTransferee,
    /// It took too long. It may still take effect.
    Timeout,
    /// It took too long, and there was no leader or another one meanwhile. It may still take effect.
    TimeoutLeaderFailed,
    /// Leadership did not move in time.
    TimeoutTransfer,
    /// This member stops. It may still take effect.
    Stopped,
    /// A write of the log failed: this member acknowledges nothing more. It may still take effect.
    DiskFailed,
}

/// Answers of one turn, in the order of the log.
#[derive(Debug, Default)]
pub struct Replies {
    /// Who gets what.
    pub items: Vec<(ReplyTo, Outcome)>,
    /// The bytes that [`Outcome::Encoded`] points into.
    pub bytes: Vec<u8>,
}

impl Replies {
    /// Forgets all answers and keeps the room, unless it was an unusual one: an answer has no bound.
    pub fn clear(&mut self) {
        self.items.clear();
        empty(&mut self.bytes);
    }

    /// The bytes of an [`Outcome::Encoded`] of these replies.
    #[must_use]
    pub fn encoded(&self, start: usize, end: usize) -> &[u8] {
        &self.bytes[start..end]
    }

    /// Adds an answer.
    pub fn push(&mut self, to: ReplyTo, outcome: Outcome) {
        if let Outcome::Encoded { start, end } = outcome {
            assert!(start <= end);
            assert!(end <= self.bytes.len());
        }
        self.items.push((to, outcome));
    }

    /// Adds an answer that is encoded already.
    pub fn push_encoded(&mut self, to: ReplyTo, answer: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(answer);
        let end = self.bytes.len();
        self.push(to, Outcome::Encoded { start, end });
    }
}

/// Empties a buffer for the next answer.
pub(super) fn empty(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(REPLY_BYTES_KEPT_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One deletion of everything with its previous values must not cost its memory for ever.
    #[test]
    fn the_room_of_a_huge_answer_is_given_back() {
        let mut replies = Replies::default();
        replies.bytes.resize(10 * REPLY_BYTES_KEPT_MAX, 0);
        replies.clear();
        assert!(replies.bytes.capacity() <= REPLY_BYTES_KEPT_MAX);
        replies.bytes.resize(REPLY_BYTES_KEPT_MAX / 2, 0);
        let kept = replies.bytes.capacity();
        replies.clear();
        assert_eq!(replies.bytes.capacity(), kept);
    }
}
