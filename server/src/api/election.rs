//! The Election service: whoever made the oldest key under a name leads, and the key's value is what it proclaims.

use basalt_net::grpc::{CallId, Calls, Flow, Metadata};
use basalt_pb::etcdserverpb as pb;
use basalt_pb::mvccpb::KeyValue;
use basalt_pb::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use prost::Message as _;

use super::backend::Backend;
use super::claims::{Claim, Failed, Step, end_of, is_delete, kvs};
use super::errors::Error;
use super::fields;
use super::gate::Rpc;
use super::lock::key_of;
use super::services::Services;

impl<B: Backend> Services<B> {
    pub(super) fn on_campaign(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let request = fields::message::<CampaignRequest>(message)?;
        self.admit(Rpc::Campaign, false, meta)?;
        let mut claim = Claim::new(Rpc::Campaign, request.name, request.lease);
        claim.value = request.value;
        self.begin_claim(calls, call, claim);
        Ok(())
    }

    pub(super) fn on_proclaim(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let request = fields::message::<ProclaimRequest>(message)?;
        self.admit(Rpc::Proclaim, false, meta)?;
        let mut claim = of_leader(Rpc::Proclaim, request.leader.as_ref());
        claim.value = request.value;
        self.begin_for(calls, call, claim, request.leader);
        Ok(())
    }

    pub(super) fn on_resign(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let request = fields::message::<ResignRequest>(message)?;
        self.admit(Rpc::Resign, false, meta)?;
        let claim = of_leader(Rpc::Resign, request.leader.as_ref());
        self.begin_for(calls, call, claim, request.leader);
        Ok(())
    }

    /// Leader and Observe.
    pub(super) fn on_leader(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        (rpc, message): (Rpc, &[u8]),
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let request = fields::message::<LeaderRequest>(message)?;
        self.admit(rpc, false, meta)?;
        if !self.is_readable() {
            return self.park(call, rpc, message);
        }
        self.begin_claim(calls, call, Claim::new(rpc, request.name, 0));
        Ok(())
    }

    fn begin_for(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        claim: Claim,
        leader: Option<LeaderKey>,
    ) {
        match leader {
            Some(_) => self.begin_claim(calls, call, claim),
            None => {
                let failed = Failed::Said("\"leader\" field must be provided");
                self.fail_claim(calls, call, claim, failed);
            }
        }
    }

    /// The claim has its lease, or needs none.
    pub(super) fn start_claim(&mut self, calls: &mut impl Calls, call: CallId, mut claim: Claim) {
        let txn = match claim.rpc {
            Rpc::Lock => return self.start_lock(calls, call, claim),
            Rpc::Unlock => return self.start_unlock(calls, call, claim),
            Rpc::Campaign => {
                claim.key = key_of(&claim.prefix(), claim.lease);
                pb::TxnRequest {
                    compare: claim.made_at(0),
                    success: vec![claim.put()],
                    failure: vec![claim.get()],
                }
            }
            Rpc::Proclaim => proclaim(&claim),
            Rpc::Resign => claim.resign(),
            _ => return self.look(call, claim),
        };
        self.write_claim_txn(calls, call, claim, &txn, Step::Writing);
    }

    /// A transaction of a campaign, a proclamation or a resignation was applied.
    pub(super) fn on_election_txn(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        mut claim: Claim,
        answer: pb::TxnResponse,
    ) {
        let is_first = matches!(claim.step, Step::Writing);
        match claim.rpc {
            Rpc::Campaign if is_first => {
                let before = kvs(&answer, 0).first().filter(|_| !answer.succeeded);
                let differs = before.is_some_and(|kv| kv.value != claim.value);
                claim.header = answer.header;
                if differs {
                    let txn = proclaim(&claim);
                    return self.write_claim_txn(calls, call, claim, &txn, Step::Proclaiming);
                }
                self.look(call, claim);
            }
            Rpc::Campaign if answer.succeeded => self.look(call, claim),
            Rpc::Campaign => self.fail_claim(calls, call, claim, NOT_LEADER),
            Rpc::Proclaim if !answer.succeeded => self.fail_claim(calls, call, claim, NOT_LEADER),
            Rpc::Proclaim => {
                let header = answer.header;
                self.answer_claim(calls, call, &ProclaimResponse { header });
            }
            _ => {
                let header = answer.header;
                self.answer_claim(calls, call, &ResignResponse { header });
            }
        }
    }

    /// No older key is left.
    pub(super) fn on_elected(&mut self, calls: &mut impl Calls, call: CallId, claim: Claim) {
        let response = CampaignResponse {
            header: claim.header,
            leader: Some(LeaderKey {
                name: claim.name,
                key: claim.key,
                rev: claim.rev,
                lease: claim.lease,
            }),
        };
        self.answer_claim(calls, call, &response);
    }

    /// What a Leader or Observe has read.
    pub(super) fn on_leader_found(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        mut claim: Claim,
        (header, found): (pb::ResponseHeader, Option<KeyValue>),
    ) {
        let revision = header.revision;
        match (claim.rpc, found) {
            (Rpc::Observe, Some(kv)) => {
                claim.key = kv.key.clone();
                self.tell(calls, call, header, kv);
                let key = claim.key.clone();
                self.listen(calls, call, claim, (&key, &[], revision + 1));
            }
            (Rpc::Observe, None) => {
                claim.key.clear();
                let prefix = claim.prefix();
                let end = end_of(&prefix);
                self.listen(calls, call, claim, (&prefix, &end, revision));
            }
            (_, Some(kv)) => {
                let response = LeaderResponse {
                    header: Some(header),
                    kv: Some(kv),
                };
                self.answer_claim(calls, call, &response);
            }
            (_, None) => {
                let failed = Failed::Said("election: no leader");
                self.fail_claim(calls, call, claim, failed);
            }
        }
    }

    /// An observer's watcher was told of changes: of the leader's key, or of any while there is no leader.
    pub(super) fn on_observed(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        mut claim: Claim,
        told: pb::WatchResponse,
    ) {
        let mut is_full = false;
        let header = told.header.unwrap_or_default();
        for event in told.events {
            let is_delete = is_delete(&event);
            let Some(kv) = event.kv else { continue };
            if claim.key.is_empty() {
                if is_delete {
                    continue;
                }
                let revision = kv.mod_revision;
                claim.key = kv.key.clone();
                self.tell(calls, call, pb::ResponseHeader { revision, ..header }, kv);
                self.watches.unlisten(call);
                let key = claim.key.clone();
                return self.listen(calls, call, claim, (&key, &[], revision + 1));
            }
            if is_delete {
                self.watches.unlisten(call);
                return self.look(call, claim);
            }
            is_full |= self.tell(calls, call, header, kv) == Flow::Full;
        }
        self.put_back(call, claim);
        if !is_full {
            self.watches.hear_more(call);
        }
    }

    fn tell(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        header: pb::ResponseHeader,
        kv: KeyValue,
    ) -> Flow {
        let response = LeaderResponse {
            header: Some(header),
            kv: Some(kv),
        };
        calls.send(call, |out| response.encode_raw(out))
    }
}

/// The claim of somebody who says that it leads.
fn of_leader(rpc: Rpc, leader: Option<&LeaderKey>) -> Claim {
    let leader = leader.cloned().unwrap_or_default();
    let mut claim = Claim::new(rpc, leader.name, leader.lease);
    claim.key = leader.key;
    claim.rev = leader.rev;
    claim
}

/// Sets the value of the claim's key, if it is still the one that was made.
fn proclaim(claim: &Claim) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: claim.made_at(claim.rev),
        success: vec![claim.put()],
        failure: Vec::new(),
    }
}

const NOT_LEADER: Failed = Failed::Said("election: not leader");
