//! Messages on their way out. None leaves before what it promises is durable here.

use std::collections::VecDeque;

use super::message::Message;
use crate::limits::OUTBOX_MESSAGES_MAX;
use crate::mutant::{Mutant, is_on};
use crate::types::{HardState, MemberId, Term};

/// Messages in the order in which they were made.
///
/// The only way to a message leads through [`Outbox::take`], which asks for what the disk holds. Entries need no such
/// check: what a message says of them is read from the log's durable mark.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Outbox {
    held: VecDeque<Held>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Held {
    to: MemberId,
    message: Message,
    /// What must be durable: the term in which it was made, and the vote of that time, if there was one. Only grows along
    /// the queue.
    term: Term,
    vote: Option<MemberId>,
}

impl Outbox {
    /// Adds a message that was made under `hard`. One too many is dropped, as the network may do.
    pub(super) fn push(&mut self, to: MemberId, message: Message, hard: HardState) {
        if self.held.len() >= OUTBOX_MESSAGES_MAX {
            return;
        }
        self.held.push_back(Held {
            to,
            message,
            term: hard.term,
            vote: hard.vote,
        });
    }

    /// Hands out what may leave now that `durable` is on the disk.
    pub fn take(&mut self, durable: HardState, into: &mut Vec<(MemberId, Message)>) {
        while let Some(held) = self.held.pop_front_if(|held| held.may_leave(durable)) {
            into.push((held.to, held.message));
        }
    }

    /// Drops everything: this member says nothing more.
    pub fn clear(&mut self) {
        self.held.clear();
    }
}

impl Held {
    fn may_leave(&self, durable: HardState) -> bool {
        if is_on(Mutant::SpeakBeforeDurable) {
            return true;
        }
        let has_vote = self.vote.is_none() || self.vote == durable.vote;
        durable.term > self.term || (durable.term == self.term && has_vote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::message::Body;

    fn hard(term: u64, vote: Option<u64>) -> HardState {
        HardState {
            term: Term(term),
            vote: vote.map(MemberId),
            ..HardState::default()
        }
    }

    fn taken(outbox: &mut Outbox, durable: HardState) -> usize {
        let mut out = Vec::new();
        outbox.take(durable, &mut out);
        out.len()
    }

    /// R1 and C6: a vote that leaves before it is durable could be given twice.
    #[test]
    fn nothing_leaves_before_its_term_and_vote_are_durable() {
        let mut outbox = Outbox::default();
        let message = Message {
            term: Term(3),
            body: Body::Lead,
        };
        outbox.push(MemberId(2), message.clone(), hard(3, None));
        outbox.push(MemberId(2), message.clone(), hard(3, Some(9)));
        assert_eq!(taken(&mut outbox, hard(2, Some(9))), 0);
        assert_eq!(taken(&mut outbox, hard(3, None)), 1);
        assert_eq!(taken(&mut outbox, hard(3, Some(9))), 1);
        outbox.push(MemberId(2), message, hard(3, Some(9)));
        assert_eq!(taken(&mut outbox, hard(4, None)), 1);
    }

    /// Bounded: while a disk hangs, heartbeats must not pile up.
    #[test]
    fn what_does_not_fit_is_dropped() {
        let mut outbox = Outbox::default();
        for _ in 0..2 * OUTBOX_MESSAGES_MAX {
            let (term, body) = (Term(1), Body::Lead);
            outbox.push(MemberId(2), Message { term, body }, hard(1, None));
        }
        assert_eq!(taken(&mut outbox, hard(1, None)), OUTBOX_MESSAGES_MAX);
    }
}
