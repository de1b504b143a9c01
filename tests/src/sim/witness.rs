//! What is true of a cluster at every moment, checked after every turn of every member.
//!
//! The witness reads the members' logs as they are, replays what is committed on the plain model, and holds every answer, every
//! leader and every published state against it. It believes no mark that a member has of itself without the entries behind it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use basalt_engine::command::{Command, Fence, LeaseRevoke};
use basalt_engine::raft::message::{Ballot, Body, Message as BetweenMembers};
use basalt_engine::replica::Replica;
use basalt_engine::types::{Index, RunKind};
use basalt_pb::etcdserverpb as pb;
use basalt_pb::mvccpb::KeyValue;
use bytes::Bytes;
use pb::alarm_request::AlarmAction;
use pb::request_op::Request as Op;
use pb::response_op::Response;
use prost::Message;

use super::reads::read_range;
use crate::check::history::{Refusal, Violation, without_headers};
use crate::check::model::Model;
use crate::check::order::Written;

/// All that was ever seen.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// Who led which term.
    leaders: BTreeMap<u64, usize>,
    /// What each entry and all before it are, by index and term.
    chains: BTreeMap<(u64, u64), u64>,
    /// Whom each member gave its vote in each term.
    votes: BTreeMap<(usize, u64), usize>,
    committed: Vec<Entry>,
    members: Vec<Known>,
    model: Model,
    compacted: i64,
    /// From which index on what is compacted.
    compactions: BTreeMap<u64, i64>,
    /// The leases there are, and the entries that granted them.
    leases: BTreeMap<i64, u64>,
    /// The entry that last granted a lease of each id.
    granted: BTreeMap<i64, u64>,
    /// Those that have ended since the last time that somebody asked.
    ended: Vec<Ended>,
    /// Members without space.
    alarms: BTreeSet<(i32, u64)>,
    answers: BTreeMap<u64, (u64, Answer)>,
    /// What the state adds up to at each index, on whoever came there first.
    digests: BTreeMap<u64, u64>,
    written: Written,
}

/// What the log answers to a request: revision and body, `None` for a compaction's.
pub(super) type Answer = Result<(i64, Option<Response>), Refusal>;

/// A lease that the log has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Which.
    pub id: i64,
    /// The entry that granted it.
    pub generation: u64,
    /// Whether its time was over; else a client has revoked it.
    pub is_expiry: bool,
    /// The keys that went with it, ascending.
    pub keys: Vec<Bytes>,
}

/// A committed entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its position.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Of its own bytes.
    pub digest: u64,
    chain: u64,
}

/// What is known of a member's process.
#[derive(Debug, Default)]
struct Known {
    life: u64,
    /// Entries that it holds and that it has not said to be committed.
    held: VecDeque<(Entry, RunKind, Vec<u8>)>,
    /// The entry before them.
    base: u64,
    marks: Marks,
    /// The term in which it was seen to lead.
    led: u64,
}

/// What only grows while a process lives.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    term: u64,
    committed: u64,
    applied: u64,
    revision: i64,
    compacted: i64,
}

impl Witness {
    /// Nothing has happened yet.
    #[must_use]
    pub(super) fn new(members: usize) -> Self {
        let mut witness = Self::default();
        witness.members.resize_with(members, Known::default);
        witness
    }

    /// What each revision wrote, by the committed log.
    #[must_use]
    pub(super) fn written(&self) -> &Written {
        &self.written
    }

    /// The entry of a request and what it answers, once it is committed.
    #[must_use]
    pub(super) fn answer_of(&self, request: u64) -> Option<(Entry, &Answer)> {
        let (index, answer) = self.answers.get(&request)?;
        Some((self.entry(*index)?, answer))
    }

    /// The record of a key at a revision.
    #[must_use]
    pub(super) fn record(&self, key: &[u8], at: i64) -> Option<&KeyValue> {
        self.model.get(key, at)
    }

    /// The keys of a lease at a revision.
    #[must_use]
    pub(super) fn leased(&self, lease: i64, at: i64) -> Vec<Bytes> {
        self.model.leased(lease, at)
    }

    /// Whether there was a compaction at that revision.
    #[must_use]
    pub(super) fn has_compacted(&self, at: i64) -> bool {
        self.compactions.values().any(|revision| *revision == at)
    }

    /// The entry that granted the newest lease of this id, and whether that is still there.
    #[must_use]
    pub(super) fn newest_lease(&self, lease: u8) -> (u64, bool) {
        let id = i64::from(lease);
        let newest = self.granted.get(&id).copied();
        (newest.unwrap_or_default(), self.leases.contains_key(&id))
    }

    /// Whether there is any lease.
    #[must_use]
    pub(super) fn has_leases(&self) -> bool {
        !self.leases.is_empty()
    }

    /// The leases that have ended since the last time.
    pub(super) fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    /// How many entries are committed.
    #[must_use]
    pub(super) fn committed(&self) -> u64 {
        self.committed.len() as u64
    }

    /// Looks at a member after its turn. `life` tells its processes apart. Whether it has just been elected.
    ///
    /// # Errors
    /// What it must not be.
    pub(super) fn observe(
        &mut self,
        member: usize,
        life: u64,
        replica: &Replica,
    ) -> Result<bool, Violation> {
        let mut judge = || -> Result<bool, Violation> {
            self.read_log(member, life, replica)?;
            let is_elected = self.check_leader(member, replica)?;
            self.commit(member, replica)?;
            self.check_marks(member, replica)?;
            self.check_digest(replica)?;
            Ok(is_elected)
        };
        judge().map_err(|wrong| format!("member {member}: {wrong}"))
    }

    /// Holds a member's published state against the model's at its revision.
    ///
    /// # Errors
    /// They differ.
    pub(super) fn check_state(
        &mut self,
        member: usize,
        replica: &Replica,
    ) -> Result<(), Violation> {
        let all = pb::RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            ..Default::default()
        };
        let Some(found) = read_range(replica, &all) else {
            return Ok(());
        };
        let (revision, found) = found.map_err(|refused| format!("{refused:?}"))?;
        let op = Op::RequestRange(all);
        let expected = self.model.read(&op, revision);
        if revision > self.model.revision() || expected.as_ref() != Ok(&found) {
            return Err(format!(
                "member {member}: the state of revision {revision} is {found:?}, by the log it is {expected:?}"
            ));
        }
        Ok(())
    }

    /// No member gives its vote twice in a term, whatever happened to it between.
    ///
    /// # Errors
    /// It does.
    pub(super) fn check_vote(
        &mut self,
        from: usize,
        to: usize,
        message: &BetweenMembers,
    ) -> Result<(), Violation> {
        let candidate = match message.body {
            Body::VoteAnswer {
                ballot: Ballot::Real,
                granted: true,
            } => to,
            Body::Vote {
                ballot: Ballot::Real,
                ..
            } => from,
            _ => return Ok(()),
        };
        let term = message.term.0;
        let given = *self.votes.entry((from, term)).or_insert(candidate);
        if given != candidate {
            return Err(format!(
                "member {from} votes for {given} and for {candidate} in term {term}"
            ));
        }
        Ok(())
    }

    /// Holds an answer against what the log says.
    ///
    /// # Errors
    /// It is not what the log says, or the log does not say anything yet.
    pub(super) fn check_answer(&self, request: u64, answer: &Answer) -> Result<Entry, Violation> {
        let Some((entry, expected)) = self.answer_of(request) else {
            return Err(format!("answered before it is committed: {answer:?}"));
        };
        if expected != answer {
            return Err(format!(
                "entry {}: answered {answer:?}, by the log it is {expected:?}",
                entry.index
            ));
        }
        Ok(entry)
    }

    fn entry(&self, index: u64) -> Option<Entry> {
        let at = usize::try_from(index.checked_sub(1)?).ok()?;
        self.committed.get(at).copied()
    }

    /// Learns the entries that the member holds now; equal index and term must be equal entries with an equal past.
    fn read_log(&mut self, member: usize, life: u64, replica: &Replica) -> Result<(), Violation> {
        let log = replica.raft().log();
        let is_alone = self.members.len() == 1;
        let known = &mut self.members[member];
        if known.life != life {
            let applied = log.applied().index.0;
            *known = Known {
                life,
                base: applied,
                ..Known::default()
            };
        }
        // What it holds no more was replaced.
        while let Some((last, ..)) = known.held.back() {
            let index = Index(last.index);
            let is_gone = index > log.last().index
                || log.term_at(index).is_some_and(|term| term.0 != last.term);
            if !is_gone {
                break;
            }
            known.held.pop_back();
        }
        let mut last = known.held.back().map_or(known.base, |it| it.0.index);
        if last < log.applied().index.0 {
            // A snapshot took the place of what it had.
            known.held.clear();
            known.base = log.applied().index.0;
            last = known.base;
        }
        let mut chain = match known.held.back() {
            Some((entry, ..)) => entry.chain,
            None if last == 0 => 0,
            None => match self.committed.get(last as usize - 1) {
                Some(entry) => entry.chain,
                None => return Err(format!("entry {last} is applied and not committed")),
            },
        };
        let mut wrong = None;
        log.visit_from(Index(last + 1), |entry| {
            if wrong.is_some() {
                return;
            }
            let (index, term) = (entry.at.index.0, entry.at.term.0);
            if index != last + 1 {
                wrong = Some(format!("entry {index} follows on {last}"));
                return;
            }
            last = index;
            let digest = digest(entry.kind, entry.bytes);
            chain = link(chain, term, digest);
            // The only voter leads before its vote is durable, as nobody hears of it: after a crash it may lead that term again.
            let seen = if is_alone {
                chain
            } else {
                *self.chains.entry((index, term)).or_insert(chain)
            };
            if seen != chain {
                wrong = Some(format!(
                    "entry {index} of term {term} has another past elsewhere"
                ));
            }
            let fresh = Entry {
                index,
                term,
                digest,
                chain,
            };
            known
                .held
                .push_back((fresh, entry.kind, entry.bytes.to_vec()));
        });
        wrong.map_or(Ok(()), Err)
    }

    /// One leader a term, and each has everything that was committed before.
    fn check_leader(&mut self, member: usize, replica: &Replica) -> Result<bool, Violation> {
        let raft = replica.raft();
        let (term, known) = (raft.term().0, &mut self.members[member]);
        if !raft.is_leader() || known.led == term {
            return Ok(false);
        }
        known.led = term;
        let leader = *self.leaders.entry(term).or_insert(member);
        if leader != member {
            return Err(format!("leads term {term}, which member {leader} leads"));
        }
        let Some(newest) = self.committed.last() else {
            return Ok(true);
        };
        let held = known.held.iter().find(|it| it.0.index == newest.index);
        let has = known.base >= newest.index || held.is_some_and(|it| it.0 == *newest);
        if !has {
            return Err(format!(
                "leads term {term} without the committed entry {}",
                newest.index
            ));
        }
        Ok(true)
    }

    /// Moves on to what the member says to be committed, replaying what is new to all.
    fn commit(&mut self, member: usize, replica: &Replica) -> Result<(), Violation> {
        let upto = replica.raft().log().committed().0;
        while self.members[member].base < upto {
            let known = &mut self.members[member];
            let Some((entry, kind, bytes)) = known.held.pop_front() else {
                return Err(format!(
                    "calls {upto} committed and has {} entries",
                    known.base
                ));
            };
            known.base = entry.index;
            match self.entry(entry.index) {
                Some(before) if before == entry => {}
                Some(before) => {
                    return Err(format!("committed {entry:?}, others committed {before:?}"));
                }
                None => {
                    self.committed.push(entry);
                    if kind == RunKind::Normal && !bytes.is_empty() {
                        self.replay(entry, &bytes)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn replay(&mut self, entry: Entry, bytes: &[u8]) -> Result<(), Violation> {
        let request = pb::InternalRaftRequest::decode(bytes)
            .map_err(|bad| format!("entry {} is no request: {bad}", entry.index))?;
        let id = request.header.as_ref().map_or(request.id, |it| it.id);
        let op = match &request {
            pb::InternalRaftRequest { put: Some(it), .. } => Op::RequestPut(it.clone()),
            pb::InternalRaftRequest {
                delete_range: Some(it),
                ..
            } => Op::RequestDeleteRange(it.clone()),
            pb::InternalRaftRequest { txn: Some(it), .. } => Op::RequestTxn(it.clone()),
            pb::InternalRaftRequest {
                compaction: Some(it),
                ..
            } => {
                let answer = self.compact(it.revision);
                self.compactions.insert(entry.index, self.compacted);
                return self.remember(id, entry, answer);
            }
            pb::InternalRaftRequest {
                lease_grant: Some(it),
                ..
            } => {
                let answer = self.grant(it.id, entry.index);
                return self.remember(id, entry, answer);
            }
            pb::InternalRaftRequest {
                lease_revoke: Some(_),
                ..
            } => {
                let answer = self.revoke(entry, bytes)?;
                return self.remember(id, entry, answer);
            }
            pb::InternalRaftRequest {
                alarm: Some(it), ..
            } => {
                self.alarm(it);
                return Ok(());
            }
            _ => return Ok(()),
        };
        if !self.alarms.is_empty() && may_put(&op) {
            return self.remember(id, entry, Err(Refusal::NoSpace));
        }
        if let Op::RequestPut(put) = &op
            && put.lease != 0
            && !self.leases.contains_key(&put.lease)
        {
            return self.remember(id, entry, Err(Refusal::LeaseNotFound));
        }
        let before = self.model.revision();
        let answer = self.model.apply(&op);
        if self.model.revision() > before {
            let main = self.model.revision();
            self.written.insert(main, self.model.written_at(main));
        }
        self.remember(
            id,
            entry,
            answer.map(|(revision, body)| (revision, Some(body))),
        )
    }

    fn grant(&mut self, id: i64, index: u64) -> Answer {
        if !self.alarms.is_empty() {
            return Err(Refusal::NoSpace);
        }
        if self.leases.contains_key(&id) {
            return Err(Refusal::LeaseExists);
        }
        self.leases.insert(id, index);
        self.granted.insert(id, index);
        Ok((self.model.revision(), None))
    }

    /// A leader's revoke means the lease that it knew, in the term that it led.
    fn revoke(&mut self, entry: Entry, bytes: &[u8]) -> Result<Answer, Violation> {
        let Ok((_, Command::LeaseRevoke(LeaseRevoke { id, fence }))) = Command::read(bytes) else {
            return Err(format!("entry {} is no revoke", entry.index));
        };
        let held = self.leases.get(&id.0).copied();
        let is_meant = |generation: &u64| {
            let holds = |it: Fence| it.term.0 == entry.term && it.generation == *generation;
            fence.is_none_or(holds)
        };
        let Some(generation) = held.filter(is_meant) else {
            return Ok(Err(Refusal::LeaseNotFound));
        };
        self.leases.remove(&id.0);
        let keys = self.model.leased(id.0, self.model.revision());
        if !keys.is_empty() {
            let delete = |key: &Bytes| pb::RequestOp {
                request: Some(Op::RequestDeleteRange(pb::DeleteRangeRequest {
                    key: key.clone(),
                    ..Default::default()
                })),
            };
            let all = Op::RequestTxn(pb::TxnRequest {
                success: keys.iter().map(delete).collect(),
                ..Default::default()
            });
            let made = self.model.apply(&all);
            let main = made.map_err(|refused| format!("{refused:?}"))?.0;
            self.written.insert(main, self.model.written_at(main));
        }
        self.ended.push(Ended {
            id: id.0,
            generation,
            is_expiry: fence.is_some(),
            keys,
        });
        Ok(Ok((self.model.revision(), None)))
    }

    fn compact(&mut self, at: i64) -> Answer {
        if at > self.model.revision() {
            return Err(Refusal::Future);
        }
        if at <= self.compacted {
            return Err(Refusal::Compacted);
        }
        self.compacted = at;
        Ok((self.model.revision(), None))
    }

    fn alarm(&mut self, request: &pb::AlarmRequest) {
        let alarm = (request.alarm, request.member_id);
        match request.action() {
            AlarmAction::Activate => {
                self.alarms.insert(alarm);
            }
            AlarmAction::Deactivate => {
                self.alarms.remove(&alarm);
            }
            AlarmAction::Get => {}
        }
    }

    /// A request that is in the log twice was executed twice.
    fn remember(&mut self, id: u64, entry: Entry, answer: Answer) -> Result<(), Violation> {
        match self.answers.insert(id, (entry.index, answer)) {
            None => Ok(()),
            Some((before, _)) => Err(format!(
                "request {id:x} is committed at {before} and at {}",
                entry.index
            )),
        }
    }

    /// Whoever has applied the same has the same.
    fn check_digest(&mut self, replica: &Replica) -> Result<(), Violation> {
        let machine = replica.machine();
        if machine.is_mid_entry() {
            return Ok(());
        }
        let (index, digest) = (machine.applied().0.0, machine.store().digests().history);
        let seen = *self.digests.entry(index).or_insert(digest);
        if seen != digest {
            return Err(format!(
                "the state at index {index} adds up to {digest:x}, elsewhere to {seen:x}"
            ));
        }
        Ok(())
    }

    /// Marks never go back while a process lives, and what is applied is committed.
    fn check_marks(&mut self, member: usize, replica: &Replica) -> Result<(), Violation> {
        let status = replica.published().status();
        let pin = replica.reader().pin();
        let now = Marks {
            term: replica.raft().term().0,
            committed: replica.raft().log().committed().0,
            applied: status.applied.0,
            revision: pin.view().revision(),
            compacted: pin.view().compacted().max(0),
        };
        let before = std::mem::replace(&mut self.members[member].marks, now);
        let grows = now.term >= before.term
            && now.committed >= before.committed
            && now.applied >= before.applied
            && now.revision >= before.revision
            && now.compacted >= before.compacted;
        if !grows {
            return Err(format!("marks went back from {before:?} to {now:?}"));
        }
        // Over restarts too: what was compacted once is never read again.
        let mut compactions = self.compactions.range(..=now.applied);
        let compacted = compactions.next_back().map_or(0, |it| *it.1);
        if now.compacted < compacted || now.compacted > self.compacted {
            return Err(format!("{now:?} where {compacted} is compacted"));
        }
        if now.applied > now.committed || now.revision > self.model.revision() {
            return Err(format!(
                "{now:?} with revision {} committed",
                self.model.revision()
            ));
        }
        Ok(())
    }
}

/// Whether it needs space on any path.
fn may_put(op: &Op) -> bool {
    match op {
        Op::RequestPut(_) => true,
        Op::RequestRange(_) | Op::RequestDeleteRange(_) => false,
        Op::RequestTxn(txn) => {
            let ops = txn.success.iter().chain(&txn.failure);
            ops.filter_map(|op| op.request.as_ref()).any(may_put)
        }
    }
}

/// An answer as the witness knows it.
pub(super) fn plain(revision: i64, body: Option<Response>) -> Answer {
    Ok((revision, body.map(without_headers)))
}

/// Of an entry's bytes.
#[must_use]
pub(super) fn digest(kind: RunKind, bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (kind, bytes).hash(&mut hasher);
    hasher.finish()
}

fn link(chain: u64, term: u64, digest: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (chain, term, digest).hash(&mut hasher);
    hasher.finish()
}
