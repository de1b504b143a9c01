//! The Lock service: whoever made the oldest key under a name has the lock.

use basalt_engine::command::field::DELETE_RANGE;
use basalt_net::grpc::{CallId, Calls, Metadata};
use basalt_pb::etcdserverpb as pb;
use basalt_pb::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request;
use prost::Message as _;
use prost::bytes::Bytes;

use super::backend::Backend;
use super::claims::{Claim, Failed, Step, end_of, kvs, op};
use super::errors::Error;
use super::fields;
use super::gate::Rpc;
use super::services::Services;

impl<B: Backend> Services<B> {
    pub(super) fn on_lock(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let request = fields::message::<LockRequest>(message)?;
        self.admit(Rpc::Lock, false, meta)?;
        let claim = Claim::new(Rpc::Lock, request.name, request.lease);
        self.begin_claim(calls, call, claim);
        Ok(())
    }

    pub(super) fn on_unlock(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let request = fields::message::<UnlockRequest>(message)?;
        self.admit(Rpc::Unlock, false, meta)?;
        let mut claim = Claim::new(Rpc::Unlock, Bytes::new(), 0);
        claim.key = request.key;
        if claim.key.is_empty() {
            self.fail_claim(calls, call, claim, Failed::Refused(Error::EmptyKey));
        } else {
            self.begin_claim(calls, call, claim);
        }
        Ok(())
    }

    /// Its lease is there.
    pub(super) fn start_lock(&mut self, calls: &mut impl Calls, call: CallId, mut claim: Claim) {
        let prefix = claim.prefix();
        claim.key = key_of(&prefix, claim.lease);
        let owner = op(Request::RequestRange(pb::RangeRequest {
            range_end: end_of(&prefix).into(),
            key: prefix.into(),
            limit: 1,
            sort_order: SortOrder::Ascend as i32,
            sort_target: SortTarget::Create as i32,
            ..pb::RangeRequest::default()
        }));
        let txn = pb::TxnRequest {
            compare: claim.made_at(0),
            success: vec![claim.put(), owner.clone()],
            failure: vec![claim.get(), owner],
        };
        self.write_claim_txn(calls, call, claim, &txn, Step::Writing);
    }

    pub(super) fn start_unlock(&mut self, calls: &mut impl Calls, call: CallId, claim: Claim) {
        let body = claim.delete().encode_to_vec();
        self.write_claim(calls, call, claim, (DELETE_RANGE, &body), Step::Writing);
    }

    /// Its key is there.
    pub(super) fn on_locked(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        claim: Claim,
        answer: pb::TxnResponse,
    ) {
        let owner = kvs(&answer, 1).first();
        if owner.is_some_and(|owner| owner.create_revision != claim.rev) {
            return self.look(call, claim);
        }
        let response = LockResponse {
            header: answer.header,
            key: claim.key,
        };
        self.answer_claim(calls, call, &response);
    }

    /// No older key is left. Its own may be gone too, with its lease.
    pub(super) fn on_lock_free(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        claim: Claim,
        header: pb::ResponseHeader,
    ) {
        let reader = self.backend.reader();
        let pin = reader.pin();
        let own = pin.view().meta_at(&claim.key, header.revision);
        match own {
            Ok(Some(_)) => {
                drop(pin);
                let response = LockResponse {
                    header: Some(header),
                    key: claim.key,
                };
                self.answer_claim(calls, call, &response);
            }
            Ok(None) => {
                drop(pin);
                let failed = Failed::Said("mutex: session is expired");
                self.fail_claim(calls, call, Claim { rev: 0, ..claim }, failed);
            }
            // What says so must be read first: look once more.
            Err(_) => {
                drop(pin);
                self.look(call, claim);
            }
        }
    }

    pub(super) fn on_unlocked(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        header: Option<pb::ResponseHeader>,
    ) {
        self.answer_claim(calls, call, &UnlockResponse { header });
    }
}

/// The key of a lease's claim: lower hex without leading zeros.
pub(super) fn key_of(prefix: &[u8], lease: i64) -> Bytes {
    // Go prints a negative number with its sign.
    let lease = match lease {
        ..0 => format!("-{:x}", lease.unsigned_abs()),
        _ => format!("{lease:x}"),
    };
    [prefix, lease.as_bytes()].concat().into()
}
