//! Consensus only: terms, votes, the log's order and what of it is committed.
//!
//! Promises: one leader a term; a committed entry is never replaced; what is applied is committed
//! and durable here. Commands are opaque bytes.
//! Never: I/O, time, randomness. Start at `campaign`, `propose` and `on_durable`.

pub mod confchange;
pub mod config;
mod election;
mod leader;
pub mod log;
pub mod quorum;
mod read_index;

use config::{Config, Step};
use election::Election;
use leader::Leader;
use log::{Log, Mark};
use quorum::Tally;

use crate::types::{HardState, Index, MemberId, RunKind, Term};

/// One member's part in the consensus.
#[derive(Debug)]
pub struct Raft {
    me: MemberId,
    term: Term,
    /// Whom this member voted for in `term`.
    vote: Option<MemberId>,
    role: Role,
    config: Config,
    log: Log,
}

#[derive(Debug)]
enum Role {
    /// Follows nobody yet: a member begins like this.
    Follower,
    Candidate(Election),
    Leader(Leader),
}

/// Only a leader takes proposals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this member does not lead")]
pub struct NotLeader;

impl Raft {
    /// A member as its disk left it. `hard.commit` beyond the log's end is cut to it.
    #[must_use]
    pub fn new(me: MemberId, hard: HardState, config: Config, mut log: Log) -> Self {
        log.commit_to(hard.commit.min(log.last().index));
        Self {
            me,
            term: hard.term.max(log.last().term),
            vote: hard.vote,
            role: Role::Follower,
            config,
            log,
        }
    }

    /// Begins a cluster: one configuration entry for each first member, all in term 1 and committed
    /// at once, as every first member makes the same ones. The log must be empty.
    pub fn bootstrap(&mut self, changes: &[(Step, Vec<u8>)]) {
        assert!(self.log.last() == Mark::default());
        self.term = Term(1);
        for (step, entry) in changes {
            self.config.apply(*step);
            self.log
                .append(RunKind::ConfChange, self.term, 1, framed(entry));
        }
        self.log.commit_to(self.log.last().index);
    }

    /// Asks to lead a new term. The only voter leads at once: its vote leaves nobody's hands, so the
    /// frame that makes the vote durable may be the one with the term's first entry.
    pub fn campaign(&mut self) {
        if !self.config.voters.contains(self.me) {
            return;
        }
        self.term = self.term.next();
        self.vote = Some(self.me);
        let mut election = Election::default();
        election.on_vote(self.me, true);
        self.role = match election.tally(&self.config.voters) {
            Tally::Won => Role::Leader(self.first_of_term()),
            Tally::Open => Role::Candidate(election),
            Tally::Lost => Role::Follower,
        };
    }

    /// Appends a run of `count` framed entries of this term.
    ///
    /// # Errors
    /// This member does not lead; the bytes come back.
    pub fn propose(
        &mut self,
        kind: RunKind,
        count: u32,
        bytes: Vec<u8>,
    ) -> Result<Index, (NotLeader, Vec<u8>)> {
        if !self.is_leader() {
            return Err((NotLeader, bytes));
        }
        // One at a time, so that old and new majorities always overlap.
        assert!(kind == RunKind::Normal || count == 1);
        Ok(self.log.append(kind, self.term, count, bytes))
    }

    /// Everything up to `last` is durable here.
    pub fn on_durable(&mut self, last: Index) {
        self.log.on_durable(last);
        if let Role::Leader(leader) = &mut self.role {
            leader.on_matched(self.me, last);
            self.log.commit_to(leader.committed(&self.config));
        }
    }

    /// A voter's answer to this member's request for votes of `term`; answers of other terms are late.
    pub fn on_vote(&mut self, voter: MemberId, term: Term, granted: bool) {
        let Role::Candidate(election) = &mut self.role else {
            return;
        };
        if term != self.term {
            return;
        }
        election.on_vote(voter, granted);
        self.role = match election.tally(&self.config.voters) {
            Tally::Won => Role::Leader(self.first_of_term()),
            Tally::Lost => Role::Follower,
            Tally::Open => return,
        };
    }

    /// A configuration entry is applied.
    pub fn on_config_applied(&mut self, step: Step) {
        self.config.apply(step);
    }

    /// Terms, vote and commit as they go to disk beside the next run.
    #[must_use]
    pub fn hard(&self) -> HardState {
        HardState {
            term: self.term,
            vote: self.vote,
            commit: self.log.committed(),
        }
    }

    /// Whether this member leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// The leader of the current term, if known.
    #[must_use]
    pub fn leader(&self) -> Option<MemberId> {
        self.is_leader().then_some(self.me)
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Who votes and who listens.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The log, to move its marks.
    pub fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Appends the new term's empty entry: it commits what earlier terms left.
    fn first_of_term(&mut self) -> Leader {
        let bytes = framed(&[]);
        Leader::new(self.log.append(RunKind::Normal, self.term, 1, bytes))
    }
}

/// One entry as the bytes of a run.
fn framed(entry: &[u8]) -> Vec<u8> {
    let len = u32::try_from(entry.len()).expect("entries are far below 4 GiB");
    let mut bytes = Vec::with_capacity(4 + entry.len());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(entry);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(voters: u64) -> Raft {
        let empty = Log::new(Mark::default());
        let mut raft = Raft::new(MemberId(1), HardState::default(), Config::default(), empty);
        let add = |id| (Step::AddVoter(MemberId(id)), vec![id as u8]);
        raft.bootstrap(&(1..=voters).map(add).collect::<Vec<_>>());
        raft
    }

    fn make_durable(raft: &mut Raft) {
        while let Some(last) = raft.log().next_to_stage().map(|run| run.last()) {
            raft.log_mut().on_staged(last);
        }
        raft.on_durable(raft.log().last().index);
    }

    /// The first start's terms and indexes are visible to clients (etcd-facts 3).
    #[test]
    fn a_single_member_leads_term_two_at_once() {
        let mut raft = started(1);
        assert_eq!(raft.hard().commit, Index(1));
        assert_eq!(raft.term(), Term(1));
        raft.campaign();
        assert!(raft.is_leader());
        assert_eq!(
            raft.log().last(),
            Mark {
                index: Index(2),
                term: Term(2)
            }
        );
        assert_eq!(raft.hard().vote, Some(MemberId(1)));
    }

    /// A read before the own empty entry is committed might miss what was acknowledged earlier.
    #[test]
    fn reads_are_free_only_behind_an_own_committed_entry() {
        let mut raft = started(1);
        raft.campaign();
        assert_eq!(raft.free_read_index(), None);
        make_durable(&mut raft);
        assert_eq!(raft.free_read_index(), Some(Index(2)));
    }

    /// With several voters one durable copy and one vote decide nothing.
    #[test]
    fn several_voters_need_more_than_this_member() {
        let mut raft = started(3);
        raft.campaign();
        assert!(!raft.is_leader());
        assert!(raft.propose(RunKind::Normal, 1, framed(b"x")).is_err());
        raft.on_vote(MemberId(2), Term(1), true);
        assert_eq!(raft.leader(), None);
        raft.on_vote(MemberId(2), Term(2), true);
        assert_eq!(raft.leader(), Some(MemberId(1)));
        make_durable(&mut raft);
        assert_eq!(raft.hard().commit, Index(3));
        assert_eq!(raft.free_read_index(), None);
    }

    /// Nothing counts as committed before the disk said so.
    #[test]
    fn a_proposal_commits_when_it_is_durable() {
        let mut raft = started(1);
        raft.campaign();
        make_durable(&mut raft);
        let index = raft
            .propose(RunKind::Normal, 1, framed(b"x"))
            .expect("leads");
        assert_eq!(index, Index(3));
        assert_eq!(raft.log().committed(), Index(2));
        make_durable(&mut raft);
        assert_eq!(raft.log().committed(), Index(3));
    }

    /// A restarted member begins above every term it has seen.
    #[test]
    fn a_restarted_member_takes_a_new_term() {
        let base = Mark {
            index: Index(9),
            term: Term(4),
        };
        let mut config = Config::default();
        config.apply(Step::AddVoter(MemberId(1)));
        let hard = HardState {
            term: Term(4),
            vote: Some(MemberId(1)),
            commit: Index(9),
        };
        let mut raft = Raft::new(MemberId(1), hard, config, Log::new(base));
        raft.campaign();
        assert_eq!(
            raft.log().last(),
            Mark {
                index: Index(10),
                term: Term(5)
            }
        );
    }

    /// A learner, or a member that was removed, must not start elections.
    #[test]
    fn who_has_no_vote_does_not_campaign() {
        let mut raft = started(1);
        raft.on_config_applied(Step::Remove(MemberId(1)));
        raft.campaign();
        assert_eq!(raft.term(), Term(1));
        assert!(!raft.is_leader());
    }
}
