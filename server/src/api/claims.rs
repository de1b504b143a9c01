//! What Lock and Election share: a claim is a key under a name, made by a transaction, that holds once no older key is left beside it.
//! They are clients of the other services on this very loop, so that each step costs what it would cost a client.

use std::collections::HashMap;
use std::time::Instant;

use basalt_engine::command::field::{DELETE_RANGE, LEASE_GRANT, TXN};
use basalt_engine::mvcc::{KeyRange, SliceBound};
use basalt_engine::query::{Progress, RangeQuery};
use basalt_engine::replica::{Outcome, Replies};
use basalt_engine::watch::CreateRequest;
use basalt_net::grpc::{CallId, Calls, Code, Status};
use basalt_pb::etcdserverpb as pb;
use basalt_pb::hot::{RangeRequest, put_int_field};
use basalt_pb::mvccpb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request;
use prost::Message as _;
use prost::bytes::Bytes;

use super::backend::Backend;
use super::errors::Error;
use super::gate::Rpc;
use super::limits::{CLAIM_SLICES_PER_TURN, CLAIMS_MAX, SESSION_TTL_SECONDS, WATCH_READ_RETRY};
use super::meter::Meter;
use super::services::Services;
use super::waiting::Then;

/// The calls of Lock and Election on one loop that are not answered.
#[derive(Default)]
pub(super) struct Claims {
    calls: HashMap<CallId, Claim>,
    /// Those that look, in the order of their coming.
    looking: Vec<CallId>,
    /// Keys of claims that were given up: what deletes them is not proposed yet.
    leftovers: Vec<(CallId, Claim)>,
}

/// One of them.
pub(super) struct Claim {
    pub(super) rpc: Rpc,
    pub(super) name: Bytes,
    pub(super) value: Bytes,
    /// 0: one is to be granted.
    pub(super) lease: i64,
    pub(super) key: Bytes,
    /// The create revision of `key`.
    pub(super) rev: i64,
    /// Of the answer.
    pub(super) header: Option<pb::ResponseHeader>,
    pub(super) step: Step,
    /// The client is gone; what was proposed for it may still take effect.
    pub(super) is_gone: bool,
}

/// What a claim waits for.
pub(super) enum Step {
    /// Its lease.
    Granting,
    /// Its first entry.
    Writing,
    /// The entry that gives a key that was there before the new value.
    Proclaiming,
    /// What the keys beside it are.
    Looking(Option<Box<Look>>),
    /// Another key's end, or what an observer is told.
    Listening,
}

/// A read that is not finished.
pub(super) struct Look {
    query: RangeQuery,
    revision: i64,
    out: Vec<u8>,
}

/// Why a claim ends. etcd's services are clients inside the server, which lose the code of what they are told.
pub(super) enum Failed {
    Refused(Error),
    Said(&'static str),
}

impl Claim {
    pub(super) fn new(rpc: Rpc, name: Bytes, lease: i64) -> Self {
        Claim {
            rpc,
            name,
            value: Bytes::new(),
            lease,
            key: Bytes::new(),
            rev: 0,
            header: None,
            step: Step::Granting,
            is_gone: false,
        }
    }

    /// The name and a slash: all claims on it begin with that.
    pub(super) fn prefix(&self) -> Vec<u8> {
        [&self.name[..], b"/"].concat()
    }

    /// A condition: the key was made at `rev`, or is not there (0).
    pub(super) fn made_at(&self, rev: i64) -> Vec<pb::Compare> {
        vec![pb::Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Create as i32,
            key: self.key.clone(),
            target_union: Some(TargetUnion::CreateRevision(rev)),
            range_end: Bytes::new(),
        }]
    }

    pub(super) fn put(&self) -> pb::RequestOp {
        op(Request::RequestPut(pb::PutRequest {
            key: self.key.clone(),
            value: self.value.clone(),
            lease: self.lease,
            ..pb::PutRequest::default()
        }))
    }

    pub(super) fn get(&self) -> pb::RequestOp {
        op(Request::RequestRange(pb::RangeRequest {
            key: self.key.clone(),
            ..pb::RangeRequest::default()
        }))
    }

    /// Deletes the key, whoever made it.
    pub(super) fn delete(&self) -> pb::DeleteRangeRequest {
        pb::DeleteRangeRequest {
            key: self.key.clone(),
            ..pb::DeleteRangeRequest::default()
        }
    }

    /// Deletes the key, if it is still the one that was made.
    pub(super) fn resign(&self) -> pb::TxnRequest {
        let delete = op(Request::RequestDeleteRange(self.delete()));
        pb::TxnRequest {
            compare: self.made_at(self.rev),
            success: vec![delete],
            failure: Vec::new(),
        }
    }

    /// Whether it waits for the keys before its own.
    fn waits(&self) -> bool {
        matches!(self.rpc, Rpc::Lock | Rpc::Campaign)
    }

    /// Whether it leaves a key that nobody holds when it is given up.
    fn has_key(&self) -> bool {
        self.waits() && self.rev > 0
    }

    /// What it looks for: the first key under the name, or the last that was made before its own.
    fn question<'q>(&self, prefix: &'q [u8], end: &'q [u8]) -> RangeRequest<'q> {
        let waits = self.waits();
        let order = if waits {
            SortOrder::Descend
        } else {
            SortOrder::Ascend
        };
        RangeRequest {
            key: prefix,
            range_end: end,
            limit: 1,
            sort_order: order as i32,
            sort_target: SortTarget::Create as i32,
            max_create_revision: if waits { self.rev - 1 } else { 0 },
            ..RangeRequest::default()
        }
    }
}

pub(super) fn is_delete(event: &mvccpb::Event) -> bool {
    event.r#type == mvccpb::event::EventType::Delete as i32
}

pub(super) fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

/// The first key above all that begin with a prefix, which ends with a slash.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    *end.last_mut().expect("it has a slash") += 1;
    end
}

impl<B: Backend> Services<B> {
    /// Begins a claim: with its lease, if it needs one and has none.
    pub(super) fn begin_claim(&mut self, calls: &mut impl Calls, call: CallId, claim: Claim) {
        if self.claims.calls.len() >= CLAIMS_MAX {
            return fail(calls, call, &claim, Failed::Refused(Error::TooManyRequests));
        }
        let needs_session = !matches!(claim.rpc, Rpc::Unlock | Rpc::Leader | Rpc::Observe);
        if !needs_session || claim.lease != 0 {
            return self.start_claim(calls, call, claim);
        }
        let id = self.draw_lease_id();
        let mut body = Vec::with_capacity(16);
        put_int_field(
            &mut body,
            1,
            SESSION_TTL_SECONDS.max(self.config.lease_ttl_min),
        );
        put_int_field(&mut body, 2, id);
        let claim = Claim { lease: id, ..claim };
        self.write_claim(calls, call, claim, (LEASE_GRANT, &body), Step::Granting);
    }

    /// Proposes an entry of a claim, or ends it.
    pub(super) fn write_claim(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        mut claim: Claim,
        (field, body): (u32, &[u8]),
        step: Step,
    ) {
        match self.propose(call, (claim.rpc, field), body, Then::Claim) {
            Ok(()) => {
                claim.step = step;
                self.claims.calls.insert(call, claim);
            }
            Err(error) => self.fail_claim(calls, call, claim, Failed::Refused(error)),
        }
    }

    pub(super) fn write_claim_txn(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        claim: Claim,
        txn: &pb::TxnRequest,
        step: Step,
    ) {
        self.write_claim(calls, call, claim, (TXN, &txn.encode_to_vec()), step);
    }

    /// Lets it look at the keys under its name, from this turn on.
    pub(super) fn look(&mut self, call: CallId, mut claim: Claim) {
        claim.step = Step::Looking(None);
        self.claims.calls.insert(call, claim);
        self.claims.looking.push(call);
    }

    /// Lets it hear of `keys` from `start` on.
    pub(super) fn listen(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        mut claim: Claim,
        (key, range_end, start): (&[u8], &[u8], i64),
    ) {
        claim.step = Step::Listening;
        let request = CreateRequest {
            key,
            range_end,
            start_revision: start,
            ..CreateRequest::default()
        };
        let term = self.backend.published().applied_term();
        let reader = self.backend.reader();
        self.watches.listen(calls, call, &request, reader, term);
        self.claims.calls.insert(call, claim);
    }

    /// Keeps a claim as it is.
    pub(super) fn put_back(&mut self, call: CallId, claim: Claim) {
        self.claims.calls.insert(call, claim);
    }

    /// Ends a claim with an answer.
    pub(super) fn answer_claim(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &impl prost::Message,
    ) {
        self.claims.calls.remove(&call);
        calls.reply(call, |out| message.encode_raw(out));
    }

    /// Ends a claim without one; its key goes.
    pub(super) fn fail_claim(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        claim: Claim,
        failed: Failed,
    ) {
        fail(calls, call, &claim, failed);
        self.leave_claim(call, claim);
    }

    fn leave_claim(&mut self, call: CallId, claim: Claim) {
        self.watches.unlisten(call);
        if claim.has_key() {
            self.claims.leftovers.push((call, claim));
        }
    }

    /// The client is gone.
    pub(super) fn cancel_claim(&mut self, call: CallId) {
        let Some(mut claim) = self.claims.calls.remove(&call) else {
            return;
        };
        match claim.step {
            Step::Granting | Step::Writing | Step::Proclaiming => {
                claim.is_gone = true;
                self.claims.calls.insert(call, claim);
            }
            Step::Looking(_) | Step::Listening => self.leave_claim(call, claim),
        }
    }

    /// An entry of a claim was applied, or was not.
    pub(super) fn on_claim_answer(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        (outcome, replies): (Outcome, &Replies),
    ) {
        let Some(claim) = self.claims.calls.remove(&call) else {
            return;
        };
        let message = match outcome {
            Outcome::Refused(refused) => {
                let failed = Failed::Refused(refused.into());
                return self.fail_claim(calls, call, claim, failed);
            }
            Outcome::Encoded { start, end } => replies.encoded(start, end),
            _ => unreachable!("a claim writes transactions, deletions and grants"),
        };
        match claim.step {
            Step::Granting if claim.is_gone => {}
            Step::Granting => self.start_claim(calls, call, claim),
            Step::Looking(_) | Step::Listening => unreachable!("nothing was proposed"),
            Step::Writing | Step::Proclaiming => {
                // Field 1, the header, is the same in all of them.
                let answer = pb::TxnResponse::decode(message).unwrap_or_default();
                if claim.rpc == Rpc::Unlock {
                    self.on_unlocked(calls, call, answer.header);
                } else {
                    self.on_claim_txn(calls, call, claim, answer);
                }
            }
        }
    }

    fn on_claim_txn(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        claim: Claim,
        answer: pb::TxnResponse,
    ) {
        let is_first = matches!(claim.step, Step::Writing);
        let claim = match claim.rpc {
            _ if is_first && claim.waits() => {
                let revision = answer.header.as_ref().map_or(0, |header| header.revision);
                let rev = match kvs(&answer, 0).first() {
                    Some(kv) if !answer.succeeded => kv.create_revision,
                    _ => revision,
                };
                Claim { rev, ..claim }
            }
            _ => claim,
        };
        if claim.is_gone {
            return self.leave_claim(call, claim);
        }
        match claim.rpc {
            Rpc::Lock => self.on_locked(calls, call, claim, answer),
            _ => self.on_election_txn(calls, call, claim, answer),
        }
    }

    /// Goes on with what was heard and looked for. Returns when to look again.
    pub(super) fn poll_claims(
        &mut self,
        calls: &mut impl Calls,
        meter: &Meter,
        now: Instant,
    ) -> Option<Instant> {
        for heard in self.watches.take_heard() {
            if self.watches.is_current(&heard) {
                self.on_heard(calls, meter, heard.call, &heard.message);
            }
        }
        self.delete_leftovers();
        if self.claims.looking.is_empty() {
            return None;
        }
        let mut wake = None;
        let waiting = std::mem::take(&mut self.claims.looking);
        for (number, call) in waiting.into_iter().enumerate() {
            let Some(claim) = self.claims.calls.remove(&call) else {
                continue;
            };
            let look_again = match number < CLAIM_SLICES_PER_TURN {
                true => {
                    let calls = &mut meter.count(claim.rpc, calls);
                    self.look_on(calls, call, claim, now)
                }
                false => {
                    self.claims.calls.insert(call, claim);
                    Some(now)
                }
            };
            if let Some(at) = look_again {
                self.claims.looking.push(call);
                wake = Some(wake.map_or(at, |wake: Instant| wake.min(at)));
            }
        }
        wake
    }

    /// Does a slice of a read of this member's newest state. `Some`: it goes on then. That state has the claim's own entry, and
    /// so every key that was made before it: a key that is gone elsewhere already is only waited for a little longer.
    fn look_on(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        mut claim: Claim,
        now: Instant,
    ) -> Option<Instant> {
        let prefix = claim.prefix();
        let end = end_of(&prefix);
        let question = claim.question(&prefix, &end);
        let pin = self.backend.reader().pin();
        let view = pin.view();
        let Step::Looking(look) = &mut claim.step else {
            unreachable!("it is listed as looking");
        };
        let begin = || {
            Box::new(Look {
                query: RangeQuery::new(&question, view.revision()),
                revision: view.revision(),
                out: Vec::new(),
            })
        };
        let look = look.get_or_insert_with(begin);
        if look.revision < view.compacted() {
            *look = begin();
        }
        let range = KeyRange::new(&prefix, &end);
        let polled = look
            .query
            .poll(&range, view, SliceBound::SLICE, &mut look.out);
        let again = match polled {
            Ok(Progress::Done { .. }) => None,
            Ok(Progress::More) => Some(now),
            Err(_) => Some(now + WATCH_READ_RETRY),
        };
        if again.is_some() {
            drop(pin);
            self.claims.calls.insert(call, claim);
            return again;
        }
        let found = pb::RangeResponse::decode(&look.out[..]).unwrap_or_default();
        let revision = look.revision;
        drop(pin);
        let header = self.identity.header(self.backend.published(), revision);
        let header = pb::ResponseHeader {
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            revision,
            raft_term: header.raft_term,
        };
        let found = found.kvs.into_iter().next();
        match (claim.rpc, found) {
            (Rpc::Lock | Rpc::Campaign, Some(kv)) => {
                self.listen(calls, call, claim, (&kv.key, &[], revision));
            }
            (Rpc::Lock, None) => self.on_lock_free(calls, call, claim, header),
            (Rpc::Campaign, None) => self.on_elected(calls, call, claim),
            (_, found) => self.on_leader_found(calls, call, claim, (header, found)),
        }
        None
    }

    /// A watcher of a claim was told something.
    fn on_heard(&mut self, calls: &mut impl Calls, meter: &Meter, call: CallId, message: &[u8]) {
        let Some(claim) = self.claims.calls.remove(&call) else {
            return;
        };
        if !matches!(claim.step, Step::Listening) {
            self.claims.calls.insert(call, claim);
            return;
        }
        let calls = &mut meter.count(claim.rpc, calls);
        let told = pb::WatchResponse::decode(message).unwrap_or_default();
        if claim.rpc == Rpc::Observe && !told.canceled {
            return self.on_observed(calls, call, claim, told);
        }
        if told.canceled || told.events.iter().any(is_delete) {
            self.watches.unlisten(call);
            return self.look(call, claim);
        }
        self.claims.calls.insert(call, claim);
        self.watches.hear_more(call);
    }

    /// The keys of claims that were given up go, as soon as that can be proposed.
    fn delete_leftovers(&mut self) {
        for (call, claim) in std::mem::take(&mut self.claims.leftovers) {
            let (field, body) = match claim.rpc {
                Rpc::Lock => (DELETE_RANGE, claim.delete().encode_to_vec()),
                _ => (TXN, claim.resign().encode_to_vec()),
            };
            let (to, id) = (self.reply_to(call), self.config.ids.draw());
            // Nobody waits for the answer. What is refused later goes with its lease.
            if self.backend.propose(to, id, field, &body).is_err() {
                self.claims.leftovers.push((call, claim));
            }
        }
    }

    /// The loop is to stop.
    pub(super) fn stop_claims(&mut self, calls: &mut impl Calls, meter: &Meter) {
        for (call, claim) in std::mem::take(&mut self.claims.calls) {
            self.watches.unlisten(call);
            let calls = &mut meter.count(claim.rpc, calls);
            fail(calls, call, &claim, Failed::Refused(Error::Stopped));
        }
    }
}

/// The keys of one answer inside a transaction's.
pub(super) fn kvs(answer: &pb::TxnResponse, number: usize) -> &[mvccpb::KeyValue] {
    use pb::response_op::Response;
    match answer
        .responses
        .get(number)
        .and_then(|it| it.response.as_ref())
    {
        Some(Response::ResponseRange(range)) => &range.kvs,
        _ => &[],
    }
}

fn fail(calls: &mut impl Calls, call: CallId, claim: &Claim, failed: Failed) {
    let status = match failed {
        Failed::Refused(error) => Status::new(Code::Unknown, error.status().message),
        Failed::Said(text) => Status::new(Code::Unknown, text),
    };
    match claim.rpc {
        Rpc::Observe => calls.finish(call, status),
        _ => calls.fail(call, status),
    }
}
