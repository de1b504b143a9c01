//! What a member does with its leader's entries.

use super::log::Mark;
use super::message::{Body, Runs};
use super::{Raft, Role};
use crate::limits::UNAPPLIED_BYTES_MAX;
use crate::mutant::{Mutant, is_on};
use crate::run::RUN_HEAD_BYTES;
use crate::types::{Index, MemberId, Millis};

/// What a follower remembers of its leader's term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Follower {
    /// When the leader was last heard of.
    pub(super) contact: Millis,
    /// Up to here this log is known to be the leader's.
    matched: Index,
    /// The last entry that was acknowledged. Only what is durable is.
    acknowledged: Index,
    /// Whether the leader waits for a word although nothing is new.
    is_owed: bool,
    /// Whether the leader wants this member to be elected.
    pub(super) is_called: bool,
}

impl Follower {
    /// Of what is `committed` every leader has the same.
    pub(super) fn new(committed: Index, now: Millis) -> Self {
        Self {
            contact: now,
            matched: committed,
            acknowledged: committed,
            is_owed: false,
            is_called: false,
        }
    }
}

impl Raft {
    pub(super) fn on_heartbeat(&mut self, from: MemberId, commit: Index, round: u64) {
        let Some(follower) = self.hear(from) else {
            return;
        };
        // Beyond `matched` this log may be another one than the leader believes, after a crash.
        let seen = match is_on(Mutant::CommitUnseen) {
            true => self.log.last().index,
            false => follower.matched,
        };
        let commit = commit.min(seen);
        self.log.commit_to(commit);
        let commit = self.log.committed();
        self.send(from, Body::HeartbeatAnswer { round, commit });
    }

    /// The leader says something that is not Raft's.
    pub(super) fn on_leader_word(&mut self, from: MemberId) {
        self.hear(from);
    }

    /// The leader's state at `at` is committed. Whether this log goes so far on the same way: then it needs no snapshot.
    pub fn agrees_with_snapshot(&mut self, at: Mark) -> bool {
        let agrees =
            at.index <= self.log.committed() || self.log.term_at(at.index) == Some(at.term);
        if agrees {
            self.log.commit_to(at.index);
        }
        agrees
    }

    pub(super) fn on_append(&mut self, from: MemberId, previous: Mark, commit: Index, runs: &Runs) {
        if self.hear(from).is_none() {
            return;
        }
        if !is_on(Mutant::AppendBlindly)
            && previous.index > self.log.committed()
            && self.log.term_at(previous.index) != Some(previous.term)
        {
            let hint = self.log.agrees_at_most(previous.index, previous.term);
            let previous = previous.index;
            return self.send(from, Body::Rejected { previous, hint });
        }
        let mut last = previous.index.max(self.log.committed());
        for run in runs.iter() {
            if run.last() <= last {
                continue;
            }
            let size = RUN_HEAD_BYTES + run.bytes.len();
            if self.log.unapplied_bytes() + size > UNAPPLIED_BYTES_MAX
                && self.log.unapplied_bytes() > 0
            {
                // The leader finds out and sends it again.
                break;
            }
            match self.log.adopt(run) {
                Ok(replaced) => {
                    let first = [self.replaced, replaced].into_iter().flatten().min();
                    self.replaced = first;
                }
                // No leader of this cluster sends that: nothing of it is believed.
                Err(_) => return,
            }
            last = run.last();
        }
        if is_on(Mutant::CommitUnseen) {
            last = self.log.last().index;
        }
        self.log.commit_to(commit.min(last));
        if let Role::Follower(follower) = &mut self.role {
            follower.matched = follower.matched.max(last);
            follower.is_owed = true;
        }
    }

    /// Acknowledges what has become durable.
    pub(super) fn acknowledge(&mut self) {
        let durable = match is_on(Mutant::AcknowledgeBeforeDurable) {
            true => self.log.last().index,
            false => self.log.durable(),
        };
        let (Some(leader), Role::Follower(follower)) = (self.leader, &mut self.role) else {
            return;
        };
        let matched = follower.matched.min(durable);
        let is_all = matched == follower.matched;
        if matched > follower.acknowledged || (follower.is_owed && is_all) {
            follower.acknowledged = matched;
            follower.is_owed &= !is_all;
            self.send(leader, Body::Appended { matched });
        }
    }

    /// The leader of this term speaks. `None`: it cannot be that.
    fn hear(&mut self, from: MemberId) -> Option<&Follower> {
        match &self.role {
            // Two leaders of one term: the other one breaks the protocol.
            Role::Leader(_) => return None,
            Role::Follower(_) if self.leader == Some(from) => {}
            // Nor does a term change its leader.
            Role::Follower(_) if self.leader.is_some() => return None,
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                self.follow(self.term, Some(from));
            }
        }
        self.wait_for_election();
        match &mut self.role {
            Role::Follower(follower) => {
                follower.contact = self.now;
                Some(follower)
            }
            _ => None,
        }
    }
}
