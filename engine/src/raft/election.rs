//! Elections: who asks, who grants, who wins.

use super::log::Mark;
use super::message::{Ballot, Body};
use super::quorum::{Tally, Voters};
use super::{Raft, Role};
use crate::mutant::{Mutant, is_on};
use crate::types::{MemberId, Millis};

/// Who answered this member's request for votes. Bounded by the number of voters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Election {
    answers: Vec<(MemberId, bool)>,
}

impl Election {
    /// An election of `me`.
    fn of(me: MemberId) -> Self {
        Self {
            answers: vec![(me, true)],
        }
    }

    /// A voter's answer; only its first one counts.
    fn on_vote(&mut self, voter: MemberId, granted: bool) {
        if self.answers.iter().all(|(id, _)| *id != voter) {
            self.answers.push((voter, granted));
        }
    }

    /// Where the election stands among `voters`.
    fn tally(&self, voters: &Voters) -> Tally {
        voters.tally(|voter| {
            let answer = self.answers.iter().find(|(id, _)| *id == voter)?;
            Some(answer.1)
        })
    }
}

impl Raft {
    /// Asks whether there would be a majority for this member, and leads if it is the only voter: its vote leaves nobody's
    /// hands, so the frame that makes the vote durable may be the one with the term's first entry.
    pub fn campaign(&mut self) {
        self.wait_for_election();
        if !self.is_promotable() {
            return;
        }
        self.leader = None;
        let election = Election::of(self.me);
        if election.tally(&self.config.voters) == Tally::Won {
            return self.elect(false);
        }
        self.role = Role::PreCandidate(election);
        self.ask_for_votes(Ballot::Pre, false);
    }

    /// Asks to lead a new term.
    pub(super) fn elect(&mut self, by_transfer: bool) {
        self.wait_for_election();
        self.term = self.term.next();
        self.vote = Some(self.me);
        self.leader = None;
        let election = Election::of(self.me);
        if election.tally(&self.config.voters) == Tally::Won {
            return self.lead();
        }
        self.role = Role::Candidate(election);
        self.ask_for_votes(Ballot::Real, by_transfer);
    }

    /// Whether this member may lead: it votes, and no change of the configuration is committed that it has not applied.
    /// Without the latter two leaders could count majorities of configurations that are two changes apart.
    pub(super) fn is_promotable(&self) -> bool {
        self.config.voters.contains(self.me) && !self.log.has_change(self.config_index)
    }

    fn ask_for_votes(&mut self, ballot: Ballot, by_transfer: bool) {
        let last = self.log.last();
        for at in 0..self.config.voters.ids().len() {
            let voter = self.config.voters.ids()[at];
            if voter != self.me {
                let body = Body::Vote {
                    ballot,
                    last,
                    by_transfer,
                };
                self.send(voter, body);
            }
        }
    }

    /// Whether a leader was heard of so lately that nobody else need be elected.
    pub(super) fn has_live_leader(&self) -> bool {
        match &self.role {
            // It steps down by itself when it has no majority.
            Role::Leader(_) => true,
            Role::Follower(follower) => {
                let silence = self.now.since(follower.contact);
                self.leader.is_some() && silence < self.settings.election
            }
            Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    pub(super) fn on_vote_asked(&mut self, from: MemberId, ballot: Ballot, last: Mark) {
        let is_current = last.covers(self.log.last());
        let is_free = match ballot {
            Ballot::Pre => !matches!(self.role, Role::Leader(_)),
            Ballot::Real => self.vote.is_none_or(|id| id == from) && self.leader.is_none(),
        };
        let is_current = is_current || is_on(Mutant::VoteForOlderLog);
        let is_free = is_free || is_on(Mutant::VoteTwice);
        let granted = is_current && is_free;
        if granted && ballot == Ballot::Real {
            self.vote = Some(from);
            self.wait_for_election();
        }
        if !is_current && !self.has_live_leader() {
            // This member's log is the better one: it need not wait until the other has given up.
            let soon = self.now.plus(self.random.below(self.settings.heartbeat));
            self.deadline = self.deadline.map(|deadline| deadline.min(soon));
        }
        self.send(from, Body::VoteAnswer { ballot, granted });
    }

    pub(super) fn on_vote_answered(&mut self, from: MemberId, ballot: Ballot, granted: bool) {
        let election = match (&mut self.role, ballot) {
            (Role::PreCandidate(election), Ballot::Pre) => election,
            (Role::Candidate(election), Ballot::Real) => election,
            _ => return,
        };
        election.on_vote(from, granted);
        match (election.tally(&self.config.voters), ballot) {
            (Tally::Won, Ballot::Pre) if is_on(Mutant::PreVoteElects) => {
                self.term = self.term.next();
                self.lead();
            }
            (Tally::Won, Ballot::Pre) => self.elect(false),
            (Tally::Won, Ballot::Real) => self.lead(),
            (Tally::Lost, _) => self.give_up(),
            (Tally::Open, _) => {}
        }
    }

    /// A majority is against this member; it goes on waiting in its term.
    fn give_up(&mut self) {
        let deadline = self.deadline;
        self.follow(self.term, None);
        self.deadline = deadline;
    }

    /// A connection to `member` was refused: its process is gone. If it led, nobody need wait for its silence.
    pub fn on_unreachable(&mut self, member: MemberId, now: Millis) {
        self.now = self.now.max(now);
        if self.leader == Some(member) {
            self.follow(self.term, None);
            let span = self.random.below(self.settings.heartbeat);
            self.wait(span);
        } else if let Role::Leader(leader) = &mut self.role
            && let Some(peer) = leader.peer_mut(member)
        {
            peer.on_unreachable();
        }
    }

    /// Lets others lead for a random time between one and two election time-outs.
    pub(super) fn wait_for_election(&mut self) {
        let election = self.settings.election;
        let span = election.plus(self.random.below(election));
        self.wait(span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One voter must not be counted twice, nor one that has no vote.
    #[test]
    fn each_voter_counts_once() {
        let voters = Voters::new(vec![MemberId(1), MemberId(2), MemberId(3)]);
        let mut election = Election::of(MemberId(1));
        election.on_vote(MemberId(1), true);
        election.on_vote(MemberId(9), true);
        assert_eq!(election.tally(&voters), Tally::Open);
        election.on_vote(MemberId(2), true);
        assert_eq!(election.tally(&voters), Tally::Won);
    }
}
