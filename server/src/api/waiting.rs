//! The proposals of this loop that have no answer yet, in the order proposed.

use std::collections::VecDeque;
use std::time::Instant;

use basalt_engine::types::MemberId;
use basalt_net::grpc::CallId;

use super::gate::Rpc;
use super::limits::REQUEST_TIMEOUT;

/// A queue and no map: answers come in the order of the log, so the front is nearly always the one.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queue: VecDeque<Wait>,
    /// How many at the back were pushed since the last turn and have no deadline yet.
    fresh: usize,
}

/// One proposal or piece of work. It stays until its answer comes.
#[derive(Debug)]
pub(super) struct Wait {
    call: CallId,
    pub(super) rpc: Rpc,
    pub(super) then: Then,
    /// The turn that took it up; `None` before.
    pub(super) began: Option<Instant>,
    /// Whether the client has heard that it took too long.
    is_told: bool,
}

/// What to do with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Pass it on.
    Answer,
    /// As `Answer`, without a deadline: a compaction that waits for its space, or the worker's
    /// work.
    AnswerLate,
    /// As `AnswerLate`; it is a piece of the snapshot that the call streams.
    Piece,
    /// The members as they are then, behind the one that was added.
    MemberAdded(MemberId),
    /// The members as they are then.
    MembersChanged,
    /// Nothing: the other member leads.
    LeaderMoved,
    /// It is of a claim of Lock or Election, which keep their own time.
    Claim,
    /// It is the alarm's; the call itself was refused for want of space.
    NoSpace,
}

impl Waiting {
    pub(super) fn push(&mut self, call: CallId, rpc: Rpc, then: Then) {
        self.queue.push_back(Wait {
            call,
            rpc,
            then,
            began: None,
            is_told: false,
        });
        self.fresh += 1;
    }

    /// Gives what came in this turn its time. Requests do not carry it, turns do.
    pub(super) fn stamp(&mut self, now: Instant) {
        let old = self.queue.len() - self.fresh;
        for wait in self.queue.range_mut(old..) {
            wait.began = Some(now);
        }
        self.fresh = 0;
    }

    /// Whether the first of the queue is `call`'s.
    pub(super) fn is_next(&self, call: CallId) -> bool {
        self.queue.front().is_some_and(|wait| wait.call == call)
    }

    /// The answer for `call` is there. `None` if nothing of it is waiting.
    pub(super) fn take(&mut self, call: CallId) -> Option<Wait> {
        assert!(self.fresh == 0);
        if self.is_next(call) {
            return self.queue.pop_front();
        }
        let at = self.queue.iter().position(|wait| wait.call == call)?;
        self.queue.remove(at)
    }

    /// Tells of each call whose time is over, once.
    pub(super) fn expire(&mut self, now: Instant, mut expired: impl FnMut(CallId, Rpc)) {
        for wait in &mut self.queue {
            match wait.deadline() {
                Some(deadline) if deadline <= now => {
                    wait.is_told = true;
                    expired(wait.call, wait.rpc);
                }
                // Deadlines grow along the queue.
                Some(_) => break,
                None => {}
            }
        }
    }

    /// When [`Waiting::expire`] has something to tell at the earliest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.queue.iter().find_map(Wait::deadline)
    }
}

impl Wait {
    /// When its client hears that it took too long, unless that has happened or never does.
    fn deadline(&self) -> Option<Instant> {
        let is_bounded =
            !matches!(self.then, Then::AnswerLate | Then::Piece | Then::Claim) && !self.is_told;
        self.began
            .filter(|_| is_bounded)
            .map(|began| began + REQUEST_TIMEOUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn call(stream: u32) -> CallId {
        CallId {
            conn: 0,
            generation: 0,
            stream,
        }
    }

    /// A client must hear of a time-out once, and a late answer must still find its entry.
    #[test]
    fn expired_proposals_are_told_once_and_leave_with_their_answer() {
        let start = Instant::now();
        let mut waiting = Waiting::default();
        waiting.push(call(1), Rpc::Put, Then::Answer);
        waiting.push(call(3), Rpc::Put, Then::AnswerLate);
        waiting.stamp(start);
        waiting.push(call(5), Rpc::Put, Then::NoSpace);
        waiting.stamp(start + Duration::from_secs(1));
        assert_eq!(waiting.next_deadline(), Some(start + REQUEST_TIMEOUT));

        let mut told = Vec::new();
        waiting.expire(start + REQUEST_TIMEOUT, |call, _| told.push(call.stream));
        waiting.expire(start + REQUEST_TIMEOUT, |call, _| told.push(call.stream));
        assert_eq!(told, [1]);
        waiting.expire(start + REQUEST_TIMEOUT * 2, |call, _| {
            told.push(call.stream)
        });
        assert_eq!(told, [1, 5]);
        assert_eq!(waiting.next_deadline(), None);

        let mut taken = |stream| waiting.take(call(stream)).map(|wait| wait.then);
        assert_eq!(taken(5), Some(Then::NoSpace));
        assert_eq!(taken(1), Some(Then::Answer));
        assert_eq!(taken(1), None);
        assert_eq!(taken(3), Some(Then::AnswerLate));
    }
}
