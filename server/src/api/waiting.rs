//! The proposals of this loop that have no answer yet, in the order proposed.

use std::collections::VecDeque;
use std::time::Instant;

use basalt_net::grpc::CallId;

use super::limits::REQUEST_TIMEOUT;

/// A queue and no map: answers come in the order of the log, so the front is nearly always the one.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queue: VecDeque<Wait>,
    /// How many at the back were pushed since the last turn and have no deadline yet.
    fresh: usize,
}

#[derive(Debug)]
struct Wait {
    call: CallId,
    then: Then,
    /// `None`: fresh, told already, or without a deadline. The entry stays until its answer comes.
    deadline: Option<Instant>,
}

/// What to do with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Pass it on.
    Answer,
    /// As `Answer`, without a deadline: a compaction that waits for its space.
    AnswerLate,
    /// It is the alarm's; the call itself was refused for want of space.
    NoSpace,
}

impl Waiting {
    pub(super) fn push(&mut self, call: CallId, then: Then) {
        self.queue.push_back(Wait {
            call,
            then,
            deadline: None,
        });
        self.fresh += 1;
    }

    /// Gives what came in this turn its deadline. Requests do not carry the time, turns do.
    pub(super) fn stamp(&mut self, now: Instant) {
        let old = self.queue.len() - self.fresh;
        for wait in self.queue.range_mut(old..) {
            if wait.then != Then::AnswerLate {
                wait.deadline = Some(now + REQUEST_TIMEOUT);
            }
        }
        self.fresh = 0;
    }

    /// The answer for `call` is there. `None` if nothing of it is waiting.
    pub(super) fn take(&mut self, call: CallId) -> Option<Then> {
        assert!(self.fresh == 0);
        if self.queue.front().is_some_and(|wait| wait.call == call) {
            return self.queue.pop_front().map(|wait| wait.then);
        }
        let at = self.queue.iter().position(|wait| wait.call == call)?;
        self.queue.remove(at).map(|wait| wait.then)
    }

    /// Tells of each call whose time is over, once.
    pub(super) fn expire(&mut self, now: Instant, mut expired: impl FnMut(CallId)) {
        for wait in &mut self.queue {
            match wait.deadline {
                Some(deadline) if deadline <= now => {
                    wait.deadline = None;
                    expired(wait.call);
                }
                // Deadlines grow along the queue.
                Some(_) => break,
                None => {}
            }
        }
    }

    /// When [`Waiting::expire`] has something to tell at the earliest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.queue.iter().find_map(|wait| wait.deadline)
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
        waiting.push(call(1), Then::Answer);
        waiting.push(call(3), Then::AnswerLate);
        waiting.stamp(start);
        waiting.push(call(5), Then::NoSpace);
        waiting.stamp(start + Duration::from_secs(1));
        assert_eq!(waiting.next_deadline(), Some(start + REQUEST_TIMEOUT));

        let mut told = Vec::new();
        waiting.expire(start + REQUEST_TIMEOUT, |call| told.push(call.stream));
        waiting.expire(start + REQUEST_TIMEOUT, |call| told.push(call.stream));
        assert_eq!(told, [1]);
        waiting.expire(start + REQUEST_TIMEOUT * 2, |call| told.push(call.stream));
        assert_eq!(told, [1, 5]);
        assert_eq!(waiting.next_deadline(), None);

        assert_eq!(waiting.take(call(5)), Some(Then::NoSpace));
        assert_eq!(waiting.take(call(1)), Some(Then::Answer));
        assert_eq!(waiting.take(call(1)), None);
        assert_eq!(waiting.take(call(3)), Some(Then::AnswerLate));
    }
}
