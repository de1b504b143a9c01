//! Consensus only: terms, votes, the log's order and what of it is committed.
//!
//! Promises: one leader a term; a committed entry is never replaced; what is applied is committed
//! and durable here; no message leaves before the term and vote that it tells of are durable, and none
//! acknowledges what is not. Commands are opaque bytes.
//! Never: I/O, a clock, randomness of its own. Start at `on_message`, `tick`, `propose`, `on_durable` and
//! `flush`; `leader.rs` and `follower.rs` are the two ends of replication.

pub mod confchange;
pub mod config;
mod election;
mod follower;
mod inflights;
mod leader;
pub mod log;
pub mod message;
mod outbox;
mod progress;
pub mod quorum;
mod read_index;
mod settings;

pub use outbox::Outbox;
pub use settings::Settings;

use config::{Config, Step};
use election::Election;
use follower::Follower;
use leader::Leader;
use log::{Log, Mark};
use message::{Body, Message};
use settings::Random;

use crate::mutant::{Mutant, is_on};
use crate::run::ENTRY_LENGTH_BYTES;
use crate::types::{HardState, Index, MemberId, Millis, RunKind, Term};

/// One member's part in the consensus.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Raft {
    me: MemberId,
    term: Term,
    /// Whom this member voted for in `term`.
    vote: Option<MemberId>,
    /// The leader of `term`, if known.
    leader: Option<MemberId>,
    role: Role,
    config: Config,
    /// The last entry that `config` knows of.
    config_index: Index,
    log: Log,
    settings: Settings,
    random: Random,
    /// The newest time that was told.
    now: Millis,
    /// When a member that does not lead asks for votes. `None` before its first tick.
    deadline: Option<Millis>,
    outbox: Outbox,
    /// Answers of leaders to this member's questions.
    reads: Vec<(u64, Index)>,
    /// The first entry of the log that was replaced since `take_replaced`.
    replaced: Option<Index>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Role {
    /// Follows the leader, or nobody yet: a member begins like this.
    Follower(Follower),
    /// Asks whether it would win an election.
    PreCandidate(Election),
    Candidate(Election),
    Leader(Box<Leader>),
}

/// Only a leader takes proposals, and none while it hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this member does not lead")]
pub struct NotLeader;

impl Raft {
    /// A member as its disk left it. `hard.commit` beyond the log's end is cut to it.
    #[must_use]
    pub fn new(
        me: MemberId,
        hard: HardState,
        config: Config,
        mut log: Log,
        settings: Settings,
    ) -> Self {
        log.commit_to(hard.commit.min(log.last().index));
        let mut raft = Self {
            me,
            term: hard.term.max(log.last().term),
            vote: hard.vote,
            leader: None,
            role: Role::Follower(Follower::new(log.committed(), Millis(0))),
            config,
            config_index: log.applied().index,
            log,
            settings,
            random: Random::new(settings.seed),
            now: Millis(0),
            deadline: None,
            outbox: Outbox::default(),
            reads: Vec::new(),
            replaced: None,
        };
        if is_on(Mutant::ForgetTerm) {
            raft.term = raft.log.last().term;
        }
        if raft.term > hard.term || is_on(Mutant::ForgetVote) {
            raft.vote = None;
        }
        raft.keep_for_others();
        raft
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
        self.config_index = self.log.last().index;
        self.log.commit_to(self.config_index);
        self.keep_for_others();
    }

    /// Does what is due: an election, heartbeats, the look for a majority.
    pub fn tick(&mut self, now: Millis) {
        self.now = self.now.max(now);
        match (&self.role, self.deadline) {
            (Role::Leader(_), _) => self.tick_leader(),
            (Role::Follower(follower), _) if follower.is_called && self.is_promotable() => {
                self.elect(true);
            }
            (_, Some(deadline)) if self.now >= deadline => self.campaign(),
            (_, Some(_)) => {}
            // The first election comes sooner: at a start there is seldom a leader to wait for.
            (_, None) => {
                let Settings {
                    heartbeat,
                    election,
                    ..
                } = self.settings;
                let span = heartbeat.plus(self.random.below(election));
                self.wait(span);
            }
        }
    }

    /// Lets others lead for so long.
    fn wait(&mut self, span: Millis) {
        self.deadline = Some(self.now.plus(span));
    }

    /// When to `tick` although nothing happens.
    #[must_use]
    pub fn wake(&self) -> Option<Millis> {
        match &self.role {
            Role::Leader(_) => self.leader_wake(),
            _ if self.config.voters.contains(self.me) => self.deadline,
            _ => None,
        }
    }

    /// Hears a message of `from`, who is who it says it is.
    pub fn on_message(&mut self, from: MemberId, message: Message, now: Millis) {
        self.now = self.now.max(now);
        let Message { term, body } = message;
        if from == self.me {
            return;
        }
        if let Body::Vote {
            by_transfer: false, ..
        } = body
            && self.has_live_leader()
            && self.leader != Some(from)
        {
            // A member that was cut off, or removed, does not disturb a cluster that has a leader.
            return;
        }
        if term < self.term {
            return self.on_older(from, &body);
        }
        let stays = is_on(Mutant::LeadForEver) && self.is_leader();
        if term > self.term && !stays {
            self.follow(term, None);
        }
        match body {
            Body::Vote { ballot, last, .. } => self.on_vote_asked(from, ballot, last),
            Body::VoteAnswer { ballot, granted } => self.on_vote_answered(from, ballot, granted),
            Body::Heartbeat { commit, round } => self.on_heartbeat(from, commit, round),
            Body::HeartbeatAnswer { round, commit } => {
                self.on_heartbeat_answer(from, round, commit);
            }
            Body::Append {
                previous,
                commit,
                runs,
            } => self.on_append(from, previous, commit, &runs),
            Body::Appended { matched } => self.on_appended(from, matched),
            Body::Rejected { previous, hint } => self.on_rejected(from, previous, hint),
            Body::Lead if self.leader == Some(from) => {
                if let Role::Follower(follower) = &mut self.role {
                    follower.is_called = true;
                }
            }
            Body::ReadIndex { context } => self.on_read_asked(from, context),
            Body::ReadIndexAnswer { context, index } => {
                self.on_read_answered(from, context, index);
            }
            // What else they say is the replica's.
            Body::Offer { .. } | Body::Part { .. } => self.on_leader_word(from),
            Body::Fetch { .. } => self.on_follower_word(from),
            // The replica takes forwarded proposals, what is said of them, and questions itself.
            Body::Lead
            | Body::Propose { .. }
            | Body::Ask { .. }
            | Body::Answer { .. }
            | Body::PromotionRefused { .. } => {}
        }
    }

    /// A message of an older term: who leads or asks for votes there hears of the newer one.
    fn on_older(&mut self, from: MemberId, body: &Body) {
        let answer = match body {
            Body::Vote { ballot, .. } => Body::VoteAnswer {
                ballot: *ballot,
                granted: false,
            },
            Body::Heartbeat { .. } | Body::Append { .. } => Body::HeartbeatAnswer {
                round: 0,
                commit: self.log.committed(),
            },
            _ => return,
        };
        self.send(from, answer);
    }

    /// Appends a run of `count` framed entries of this term.
    ///
    /// # Errors
    /// This member does not lead, or hands over.
    pub fn propose(
        &mut self,
        kind: RunKind,
        count: u32,
        bytes: Vec<u8>,
    ) -> Result<Index, NotLeader> {
        match &mut self.role {
            Role::Leader(leader) if !leader.is_transferring() => {
                if kind == RunKind::ConfChange {
                    // One at a time, so that old and new majorities always overlap.
                    assert!(count == 1);
                    assert!(leader.last_change <= self.log.applied().index);
                    leader.last_change = self.log.last().index.next();
                }
            }
            _ => return Err(NotLeader),
        }
        Ok(self.log.append(kind, self.term, count, bytes))
    }

    /// Whether this member takes proposals.
    #[must_use]
    pub fn takes_proposals(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if !leader.is_transferring())
    }

    /// Whether it takes a configuration entry: the one before it must be applied, and the term's first entry too, so that
    /// this member knows of every change that an earlier leader has made.
    #[must_use]
    pub fn takes_changes(&self) -> bool {
        let applied = self.log.applied().index;
        let Role::Leader(leader) = &self.role else {
            return false;
        };
        !leader.is_transferring() && leader.last_change <= applied
    }

    /// Everything up to `last` is durable here.
    pub fn on_durable(&mut self, last: Index) {
        self.log.on_durable(last);
        self.advance_commit();
    }

    /// Makes the messages for what has happened since the last time: entries and commit for followers, acknowledgements
    /// for the leader, a round of reads.
    pub fn flush(&mut self) {
        match &self.role {
            Role::Leader(leader) if leader.peers.is_empty() => self.begin_reads(),
            Role::Leader(_) => {
                self.begin_reads();
                self.send_entries();
            }
            Role::Follower(_) => self.acknowledge(),
            Role::PreCandidate(_) | Role::Candidate(_) => {}
        }
    }

    /// The messages, of which only those may leave that the disk allows.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// The configuration entry at `index` is applied.
    pub fn on_config_applied(&mut self, index: Index, step: Step) {
        // The first members' entries are in it from the start.
        if index <= self.config_index {
            return;
        }
        self.config_index = index;
        self.config.apply(step);
        self.keep_for_others();
        self.follow_config();
    }

    /// The first entry that a newer leader has replaced since the last time: whoever waits for it or a later one waits
    /// in vain.
    pub fn take_replaced(&mut self) -> Option<Index> {
        self.replaced.take()
    }

    /// Term, vote and commit as they go to disk beside a log that ends at `last`.
    #[must_use]
    pub fn hard_at(&self, last: Index) -> HardState {
        let HardState { commit, .. } = self.hard();
        HardState {
            commit: commit.min(last),
            ..self.hard()
        }
    }

    /// Term, vote and commit.
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
        self.leader
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Times and sizes.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
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

    /// Sends `body` in this member's term.
    pub fn send(&mut self, to: MemberId, body: Body) {
        let hard = self.hard();
        self.outbox.push(to, body.of(hard.term), hard);
    }

    /// Follows `leader`, or nobody yet, in `term`.
    fn follow(&mut self, term: Term, leader: Option<MemberId>) {
        assert!(term >= self.term);
        if term > self.term {
            self.term = term;
            self.vote = None;
        }
        self.leader = leader;
        self.role = Role::Follower(Follower::new(self.log.committed(), self.now));
        self.wait_for_election();
    }

    /// Leads no more, as a member of a cluster whose disk failed.
    pub fn resign(&mut self) {
        if self.is_leader() && !self.config.voters.is_only(self.me) {
            self.follow(self.term, None);
        }
    }

    /// Leads the term that was won. Its empty entry commits what earlier terms left.
    fn lead(&mut self) {
        let own_first = self.log.append(RunKind::Normal, self.term, 1, framed(&[]));
        self.leader = Some(self.me);
        let election = self.settings.election;
        let leader = Leader::new(own_first, self.me, &self.config, self.now, election);
        self.role = Role::Leader(Box::new(leader));
        self.send_heartbeats();
    }

    fn keep_for_others(&mut self) {
        let bytes = self.settings.kept_bytes(self.me, &self.config);
        self.log.keep(bytes, self.settings.catch_up_entries);
    }
}

impl Body {
    /// The message that says this in `term`.
    fn of(self, term: Term) -> Message {
        Message { term, body: self }
    }
}

/// One entry as the bytes of a run.
#[must_use]
pub fn framed(entry: &[u8]) -> Vec<u8> {
    let len = u32::try_from(entry.len()).expect("entries are far below 4 GiB");
    let mut bytes = Vec::with_capacity(ENTRY_LENGTH_BYTES + entry.len());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(entry);
    bytes
}

#[cfg(test)]
mod tests;
