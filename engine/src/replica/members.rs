//! The other members: what they say and what they are told, proposals that are forwarded to the leader, and who waits for
//! those.

use std::collections::BTreeMap;

use basalt_pb::hot;
use bytes::Bytes;

use super::snapshot_job::Piece;
use super::{Proposals, Replica, Stopping};
use crate::apply::{Outcome, Refused};
use crate::command::{Command, Unreadable};
use crate::limits::{FORWARDED_MAX, INBOX_BYTES_MAX, MEMBER_CHANGES_MAX};
use crate::mutant::{Mutant, is_on};
use crate::raft::confchange::ConfChange;
use crate::raft::config::Step;
use crate::raft::framed;
use crate::raft::message::{Body, Message};
use crate::run::split_entry;
use crate::types::{Index, MemberId, Millis, ReplyTo, RequestId, RunKind, Term};

/// Proposals that were taken over and are not in the log yet.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) proposals: Proposals,
    /// When they came.
    pub(super) since: Millis,
    /// For those that another member forwarded: the term in which they may go into the log.
    pub(super) only_in: Option<Term>,
}

/// A change of the members that is not in the log yet.
#[derive(Debug)]
pub(super) struct Change {
    id: RequestId,
    step: Step,
    /// The entry.
    entry: Vec<u8>,
    reply: Option<ReplyTo>,
    since: Millis,
    /// Of one that was forwarded: by whom, and the term in which it may go into the log.
    forwarded: Option<(MemberId, Term)>,
}

/// Who waits for entries that are known by their requests' ids: those that another member's log run carries, and changes of
/// the members.
#[derive(Debug, Default)]
pub(super) struct Forwarded {
    waiters: BTreeMap<RequestId, Waiter>,
    /// The last forwarded batch that was taken of each member, and in which term. Bounded by the members that spoke.
    taken: BTreeMap<MemberId, (Term, u64)>,
    /// Not looked at before this: a time-out need not be exact.
    look: Millis,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    to: ReplyTo,
    since: Millis,
    /// The term in which the entry can come into the log, and in no other.
    term: Term,
}

impl Change {
    pub(super) fn new(change: &ConfChange, reply: Option<ReplyTo>, since: Millis) -> Self {
        Self {
            id: change.id,
            step: change.step,
            entry: change.encode(),
            reply,
            since,
            forwarded: None,
        }
    }

    /// Who waits for it.
    pub(super) fn reply(&self) -> Option<ReplyTo> {
        self.reply
    }
}

impl Forwarded {
    /// Who waits for the request.
    pub(super) fn take(&mut self, id: RequestId) -> Option<ReplyTo> {
        self.waiters.remove(&id).map(|waiter| waiter.to)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    pub(super) fn count(&self) -> u64 {
        self.waiters.len() as u64
    }

    /// Hands out those whose request cannot come any more, as an entry of `term` is applied.
    pub(super) fn drop_before(&mut self, term: Term, each: &mut impl FnMut(ReplyTo)) {
        let lost = self.waiters.extract_if(.., |_, waiter| waiter.term < term);
        lost.for_each(|(_, waiter)| each(waiter.to));
    }

    /// Hands out everybody.
    pub(super) fn drain(&mut self, each: &mut impl FnMut(ReplyTo)) {
        let all = core::mem::take(&mut self.waiters);
        all.into_values().for_each(|waiter| each(waiter.to));
    }

    /// Whether a batch of `from` is the first of its number in `term`.
    fn admits(&mut self, from: MemberId, term: Term, sequence: u64) -> bool {
        let taken = self.taken.entry(from).or_default();
        let is_new = (term, sequence) > *taken || is_on(Mutant::ExecuteTwice);
        *taken = (term, sequence).max(*taken);
        is_new
    }
}

impl Replica {
    /// Hears what another member says; `from` is who the link says it is. Take a turn afterwards.
    pub fn on_message(&mut self, from: MemberId, message: Message, now: Millis) {
        // A member that is forced to go on alone hears nobody before the others are gone.
        let is_mute =
            self.stopping == Stopping::Sealed || self.refill.is_switching() || self.is_forced;
        if self.failure.is_some() || is_mute {
            return;
        }
        self.now = self.now.max(now);
        match message.body {
            Body::Propose {
                sequence,
                kind,
                entries,
            } => self.on_forwarded(from, message.term, sequence, kind, &entries),
            Body::Append { ref runs, .. }
                if runs
                    .iter()
                    .any(|run| run.bytes.len() > self.wal.run_bytes_max()) =>
            {
                // It does not fit this member's log, whose limits differ from the leader's: --max-request-bytes.
            }
            Body::Ask { ref questions } => self.on_questions(from, message.term, questions),
            Body::Answer { ref answers } => self.on_answers(from, message.term, answers),
            Body::Offer { .. } | Body::Fetch { .. } | Body::Part { .. } => {
                self.on_snapshot_message(from, message, now);
            }
            Body::PromotionRefused { request } => {
                if let Some(to) = self.forwarded.take(request) {
                    self.refuse_promotion(to);
                }
            }
            _ => self.raft.on_message(from, message, now),
        }
        self.look_at_leader();
    }

    /// What is said of snapshots counts in the leader's own term only.
    fn on_snapshot_message(&mut self, from: MemberId, message: Message, now: Millis) {
        let Message { term, body } = message.clone();
        self.raft.on_message(from, message, now);
        if self.raft.term() != term {
            return;
        }
        let is_leader = self.raft.is_leader();
        let follows = !is_leader && self.raft.leader() == Some(from);
        match body {
            Body::Fetch { at, file, offset } if is_leader => self.on_fetch(from, at, file, offset),
            Body::Offer { at } if follows => self.on_offer(from, at),
            Body::Part {
                at,
                file,
                offset,
                total,
                bytes,
            } if follows => {
                let piece = Piece {
                    at,
                    file,
                    offset,
                    total,
                };
                self.on_part(from, piece, bytes);
            }
            _ => {}
        }
    }

    /// Hears that a connection to `member` was refused or reset: its process is gone. Take a turn afterwards.
    pub fn on_unreachable(&mut self, member: MemberId, now: Millis) {
        self.raft.on_unreachable(member, now);
        self.look_at_leader();
    }

    /// Takes the messages that may leave. Call after each turn, when the disk has its operations.
    pub fn take_messages(&mut self, into: &mut Vec<(MemberId, Message)>) {
        if self.failure.is_some() {
            return self.raft.outbox().clear();
        }
        let durable = self.wal.durable_hard();
        self.raft.outbox().take(durable, into);
    }

    /// Asks for a change of the members; `change.id` is a new one of [`super::ReplicaConfig::request_ids`]. Whether the
    /// change is wise has been judged before, but for one thing that only the leader knows: it refuses a promotion with
    /// [`Refused::LearnerNotReady`].
    pub fn propose_change(&mut self, reply: Option<ReplyTo>, change: &ConfChange) {
        let refused = match self.refuses() {
            None if self.is_forced => Some(Refused::NoLeader),
            None if self.changes.len() >= MEMBER_CHANGES_MAX => Some(Refused::TooManyRequests),
            refused => refused,
        };
        match (refused, reply) {
            (None, _) => self.changes.push_back(Change::new(change, reply, self.now)),
            (Some(refused), Some(to)) => self.replies.push(to, Outcome::Refused(refused)),
            (Some(_), None) => {}
        }
    }

    /// How far each other member is, if this one leads.
    pub fn peers(&self) -> impl Iterator<Item = (MemberId, Index)> {
        self.raft.peers()
    }

    /// Another member's proposals.
    fn on_forwarded(
        &mut self,
        from: MemberId,
        term: Term,
        sequence: u64,
        kind: RunKind,
        entries: &Bytes,
    ) {
        // In its own term only, in order, and once: else a doubled message would be executed twice.
        let is_mine = self.raft.takes_proposals() && self.raft.term() == term;
        if !is_mine || self.refuses().is_some() || !self.forwarded.admits(from, term, sequence) {
            return;
        }
        let since = self.now;
        if kind == RunKind::ConfChange {
            let entry = split_entry(entries).map(|(entry, _)| entry);
            if let Some(Ok(change)) = entry.map(ConfChange::read)
                && self.changes.len() < MEMBER_CHANGES_MAX
            {
                self.changes.push_back(Change {
                    forwarded: Some((from, term)),
                    ..Change::new(&change, None, since)
                });
            }
            return;
        }
        let fits = entries.len() <= self.wal.run_bytes_max();
        let Some(count) = readable(entries).filter(|_| fits) else {
            return;
        };
        if !self.inbox.is_empty() && self.inbox_bytes + entries.len() > INBOX_BYTES_MAX {
            return;
        }
        self.inbox_bytes += entries.len();
        let proposals = Proposals {
            bytes: entries.to_vec(),
            waiters: vec![None; count],
            asks: Vec::new(),
        };
        self.inbox.push_back(Batch {
            proposals,
            since,
            only_in: Some(term),
        });
    }

    /// Sends what this member cannot put into the log itself to the leader, if there is one.
    pub(super) fn forward_inbox(&mut self) {
        let leader = self.raft.leader().filter(|id| *id != self.config.me);
        let term = self.raft.term();
        // What was forwarded to this member in a term that is over was not executed, and never will be.
        let is_leader = self.raft.is_leader();
        let is_now = |only: Term| is_leader && only == term;
        let held = &mut self.inbox_bytes;
        self.inbox.retain(|batch| {
            let keep = batch.only_in.is_none_or(is_now);
            *held -= if keep { 0 } else { batch.proposals.bytes_len() };
            keep
        });
        let changes = &mut self.changes;
        changes.retain(|change| change.forwarded.is_none_or(|(_, term)| is_now(term)));
        let Some(leader) = leader else {
            return;
        };
        while self.forwarded.count() < FORWARDED_MAX
            && let Some(batch) = self.inbox.pop_front()
        {
            let Proposals { bytes, waiters, .. } = batch.proposals;
            self.inbox_bytes -= bytes.len();
            let mut rest = &bytes[..];
            for waiter in waiters {
                let (entry, after) = split_entry(rest).expect("proposals are framed");
                rest = after;
                if let (Some(to), Some(id)) = (waiter, request_id(entry)) {
                    let since = batch.since;
                    self.forwarded
                        .waiters
                        .insert(id, Waiter { to, since, term });
                }
            }
            self.forward(leader, RunKind::Normal, bytes);
        }
        while let Some(change) = self.changes.pop_front() {
            self.wait_for_change(&change);
            self.forward(leader, RunKind::ConfChange, framed(&change.entry));
        }
    }

    fn forward(&mut self, leader: MemberId, kind: RunKind, entries: Vec<u8>) {
        // Higher than any before it, also than those before a restart.
        let sequence = self.config.request_ids.draw().0;
        let body = Body::Propose {
            sequence,
            kind,
            entries: entries.into(),
        };
        self.raft.send(leader, body);
    }

    fn wait_for_change(&mut self, change: &Change) {
        if let Some(to) = change.reply {
            let (since, term) = (change.since, self.raft.term());
            let waiter = Waiter { to, since, term };
            self.forwarded.waiters.insert(change.id, waiter);
        }
    }

    /// Puts the next change of the members into the log, once the one before it is applied.
    pub(super) fn log_change(&mut self) {
        while self.raft.takes_changes()
            && let Some(change) = self.changes.pop_front()
        {
            let is_over = |(_, term)| term != self.raft.term();
            if change.forwarded.is_some_and(is_over) {
                continue;
            }
            if self.is_too_early(change.step) {
                if let Some((from, _)) = change.forwarded {
                    let request = change.id;
                    self.raft.send(from, Body::PromotionRefused { request });
                }
                change
                    .reply
                    .into_iter()
                    .for_each(|to| self.refuse_promotion(to));
                continue;
            }
            self.wait_for_change(&change);
            let entry = framed(&change.entry);
            let proposed = self.raft.propose(RunKind::ConfChange, 1, entry);
            assert!(proposed.is_ok());
            self.stage();
        }
    }

    /// Whether a learner that is to become a voter has less than nine tenths of the log, as in etcd.
    fn is_too_early(&self, step: Step) -> bool {
        let Step::AddVoter(id) = step else {
            return false;
        };
        let known = self.machine.members().get(id);
        if id == self.config.me || !known.is_some_and(|member| member.is_learner) {
            return false;
        }
        let mut peers = self.raft.peers();
        let matched = peers.find(|(peer, _)| *peer == id);
        let matched = matched.map_or(Index(0), |(_, matched)| matched);
        matched.0 * 10 < self.raft.log().committed().0 * 9
    }

    fn refuse_promotion(&mut self, to: ReplyTo) {
        self.counts.proposals_failed += 1;
        let refused = Outcome::Refused(Refused::LearnerNotReady);
        self.replies.push(to, refused);
    }

    /// Whoever waits for an entry that a newer leader has replaced hears that it is lost.
    pub(super) fn refuse_replaced(&mut self) {
        let Some(first) = self.raft.take_replaced() else {
            return;
        };
        let Self {
            waiting,
            replies,
            counts,
            ..
        } = self;
        waiting.cut_from(first, &mut |to| {
            counts.proposals_failed += 1;
            replies.push(to, Outcome::Refused(Refused::TimeoutLeaderFailed));
        });
    }

    /// Whoever waits too long hears it. When to look again.
    pub(super) fn refuse_late(&mut self, now: Millis) -> Option<Millis> {
        let waits = self.forwarded.count() > 0 || self.waiting.count() > 0;
        if !waits && self.inbox.is_empty() && self.changes.is_empty() {
            return None;
        }
        if now < self.forwarded.look {
            return Some(self.forwarded.look);
        }
        let next = now.plus(self.raft.settings().election);
        self.forwarded.look = next;
        let timeout = self.raft.settings().request_timeout();
        let is_late = |since: Millis| now.since(since) >= timeout;
        let mut late: Vec<(ReplyTo, Millis)> = Vec::new();
        let mut each = |to, since| late.push((to, since));
        self.waiting.take_late(is_late, &mut each);
        let waiters = &mut self.forwarded.waiters;
        for (_, waiter) in waiters.extract_if(.., |_, waiter| is_late(waiter.since)) {
            each(waiter.to, waiter.since);
        }
        while let Some(batch) = self.inbox.pop_front_if(|batch| is_late(batch.since)) {
            self.inbox_bytes -= batch.proposals.bytes_len();
            let waiters = batch.proposals.waiters.into_iter().flatten();
            waiters.for_each(|to| each(to, batch.since));
        }
        while let Some(change) = self.changes.pop_front_if(|change| is_late(change.since)) {
            change
                .reply
                .into_iter()
                .for_each(|to| each(to, change.since));
        }
        for (to, since) in late {
            self.counts.proposals_failed += 1;
            let refused = self.too_late(since);
            self.replies.push(to, Outcome::Refused(refused));
        }
        Some(next)
    }

    /// What somebody hears who has waited since `since`.
    pub(super) fn too_late(&self, since: Millis) -> Refused {
        match self.raft.leader().is_none() || self.leader_since >= since {
            true => Refused::TimeoutLeaderFailed,
            false => Refused::Timeout,
        }
    }

    /// Notices that another member leads, or none.
    pub(super) fn look_at_leader(&mut self) {
        let seen = (self.raft.leader(), self.raft.term());
        if seen == self.leader_seen {
            return;
        }
        self.leader_seen = seen;
        self.leader_since = self.now;
        self.counts.leader_changes += u64::from(seen.0.is_some());
        // What this member has asked of the cluster may be lost.
        self.alarm = super::alarm::Alarm::Silent;
    }
}

/// The id of the request in an entry; `None` if it has none.
pub(super) fn request_id(entry: &[u8]) -> Option<RequestId> {
    let request = hot::InternalRaftRequest::read(entry).ok()?;
    Some(RequestId(request.header?.id))
}

/// How many entries there are, if every member can apply them. An entry that cannot be read would stop them all.
fn readable(entries: &[u8]) -> Option<usize> {
    let (mut rest, mut count) = (entries, 0);
    while !rest.is_empty() {
        let (entry, after) = split_entry(rest)?;
        match Command::read(entry) {
            Ok(_) | Err(Unreadable::Body) => {}
            Err(Unreadable::Unknown { .. } | Unreadable::Frame) => return None,
        }
        rest = after;
        count += 1;
    }
    Some(count)
}
