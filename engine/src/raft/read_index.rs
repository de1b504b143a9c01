//! When a linearizable read may go.
//!
//! A read is confirmed by a majority that answered after it was asked for: no leader's clock is trusted (C2).

use core::mem;

use super::message::Body;
use super::{Raft, Role};
use crate::limits::READ_QUESTIONS_MAX;
use crate::mutant::{Mutant, is_on};
use crate::types::{Index, MemberId};

/// The questions that a leader has not answered. One round is under way at a time; what is asked meanwhile is the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Reads {
    /// Counts rounds within the term.
    round: u64,
    /// What the round under way answers, and the index to tell.
    under_way: Option<(Index, Vec<Question>)>,
    asked: Vec<Question>,
}

/// Who asked, and which of its questions it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Question {
    from: MemberId,
    context: u64,
}

impl Reads {
    /// The round that waits for a majority, or the last one.
    pub(super) fn round(&self) -> u64 {
        self.round
    }
}

impl Raft {
    /// The index that must be applied before a read that is asked for now may be answered, if this
    /// member can say so without asking anybody: it leads as the only voter, and an entry of its own
    /// term is committed (before that it may not know what an earlier leader had acknowledged). It is
    /// that entry's index, as the only voter acknowledges alone: what it has not applied, nobody was
    /// told of, so reads need not wait for an entry that takes long.
    #[must_use]
    pub fn free_read_index(&self) -> Option<Index> {
        let alone = self.config.voters.is_only(self.me);
        self.led_from().filter(|_| alone)
    }

    /// The first entry of the term that this member leads, once it is committed.
    #[must_use]
    pub fn led_from(&self) -> Option<Index> {
        match &self.role {
            Role::Leader(leader) if self.log.committed() >= leader.own_first => {
                Some(leader.own_first)
            }
            _ => None,
        }
    }

    /// Asks from where on a read of now is up to date; `take_reads` tells. The answer, or the question, may be lost: ask
    /// again after a while with another `context`.
    pub fn ask_read(&mut self, context: u64) {
        let me = self.me;
        match (&self.role, self.leader) {
            (Role::Leader(_), _) => self.on_read_asked(me, context),
            (_, Some(leader)) => self.send(leader, Body::ReadIndex { context }),
            (_, None) => {}
        }
    }

    pub(super) fn on_read_asked(&mut self, from: MemberId, context: u64) {
        if let Role::Leader(leader) = &mut self.role
            && leader.reads.asked.len() < READ_QUESTIONS_MAX
        {
            leader.reads.asked.push(Question { from, context });
        }
    }

    /// A leader's answer to this member's question.
    pub(super) fn on_read_answered(&mut self, from: MemberId, context: u64, index: Index) {
        if self.leader == Some(from) {
            self.reads.push((context, index));
        }
    }

    /// The answers that came: the question's context, and the index that must be applied.
    pub fn take_reads(&mut self) -> Vec<(u64, Index)> {
        mem::take(&mut self.reads)
    }

    /// Begins a round for the questions that wait.
    pub(super) fn begin_reads(&mut self) {
        let committed = self.log.committed();
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let reads = &mut leader.reads;
        // Before an own entry is committed this member may not know what an earlier leader had acknowledged.
        let may_begin = reads.under_way.is_none()
            && (committed >= leader.own_first || is_on(Mutant::ReadTooEarly));
        if reads.asked.is_empty() || !may_begin {
            return;
        }
        reads.round += 1;
        reads.under_way = Some((committed, mem::take(&mut reads.asked)));
        self.send_heartbeats();
        self.confirm_reads();
    }

    /// Answers the round under way once a majority has answered it.
    pub(super) fn confirm_reads(&mut self) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let round = leader.reads.round;
        let me = self.me;
        let answered = |id| id == me || leader.peer(id).is_some_and(|peer| peer.round >= round);
        let voters = self.config.voters.ids().iter();
        let count = voters.filter(|id| answered(**id)).count();
        if count < self.config.voters.majority() && !is_on(Mutant::ReadAlone) {
            return;
        }
        let Some((index, questions)) = leader.reads.under_way.take() else {
            return;
        };
        for Question { from, context } in questions {
            match from == me {
                true => self.reads.push((context, index)),
                false => self.send(from, Body::ReadIndexAnswer { context, index }),
            }
        }
    }
}
