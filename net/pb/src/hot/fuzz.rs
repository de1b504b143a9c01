//! The body of the fuzz target `proto_request`: prost as the oracle.

use prost::Message;

use super::{
    CompactionRequest, Compare, DeleteRangeRequest, InternalRaftRequest, Malformed, PutRequest,
    RangeRequest, RequestOp, RequestOps, TXN_DEPTH_MAX, Target, TxnRequest, Wire,
};
use crate::etcdserverpb as pb;
use pb::compare::TargetUnion;
use pb::request_op::Request;

/// Reads arbitrary bytes as each hot message.
///
/// # Panics
/// If a reader and prost differ in what they accept or read.
pub fn fuzz_one(data: &[u8]) {
    let wire = Wire::strict(data);
    let strict = RangeRequest::read_from(wire);
    compare(data, strict, RangeRequest::read(data), range);
    let strict = PutRequest::read_from(wire);
    compare(data, strict, PutRequest::read(data), put);
    let strict = DeleteRangeRequest::read_from(wire);
    compare(data, strict, DeleteRangeRequest::read(data), delete_range);
    let strict = TxnRequest::read_from(wire, data, TXN_DEPTH_MAX, true);
    compare(data, strict, TxnRequest::read(data), txn);
    let strict = CompactionRequest::read_from(wire);
    compare(data, strict, CompactionRequest::read(data), |r| {
        pb::CompactionRequest {
            revision: r.revision,
            physical: r.physical,
        }
    });
    internal(data);
}

/// `strict` refuses wrong wire types as prost does; `ours` skips them, and else reads the same.
fn compare<R: Copy + PartialEq + std::fmt::Debug, M: Message + Default + PartialEq>(
    data: &[u8],
    strict: Result<R, Malformed>,
    ours: Result<R, Malformed>,
    own: impl Fn(R) -> M,
) {
    match (strict, M::decode(data)) {
        (Ok(strict), Ok(theirs)) => assert!(own(strict) == theirs, "values differ: {strict:?}"),
        (Err(_), Err(_)) | (Err(Malformed::Split | Malformed::TooDeep), Ok(_)) => {}
        (Ok(_), Err(e)) => panic!("accepted what prost refuses: {e}"),
        (Err(e), Ok(_)) => panic!("refused what prost accepts: {e}"),
    }
    match (strict, ours) {
        // Walking it shows that what was accepted can be iterated.
        (Err(Malformed::WireType { .. }), Ok(ours)) => drop(own(ours)),
        (Err(Malformed::WireType { .. }), Err(e)) => {
            assert!(!matches!(e, Malformed::WireType { .. }));
        }
        (strict, ours) => assert!(strict == ours),
    }
}

/// The log's framing does not look into the body, so only what surrounds it can be compared.
fn internal(data: &[u8]) {
    let Ok(theirs) = pb::InternalRaftRequest::decode(data) else {
        return;
    };
    match InternalRaftRequest::read(data) {
        Ok(ours) => {
            assert!(ours.id == theirs.id);
            let header = ours.header.map(|h| pb::RequestHeader {
                id: h.id,
                username: h.username.to_owned(),
                auth_revision: h.auth_revision,
            });
            assert!(header == theirs.header);
            assert!((ours.field == 4) == theirs.put.is_some());
            assert!((ours.field == 6) == theirs.txn.is_some());
        }
        Err(e) => assert!(
            e == Malformed::Split,
            "refused what prost accepts: {e}, {theirs:?}"
        ),
    }
}

fn range(r: RangeRequest<'_>) -> pb::RangeRequest {
    pb::RangeRequest {
        key: r.key.to_vec().into(),
        range_end: r.range_end.to_vec().into(),
        limit: r.limit,
        revision: r.revision,
        sort_order: r.sort_order,
        sort_target: r.sort_target,
        serializable: r.serializable,
        keys_only: r.keys_only,
        count_only: r.count_only,
        min_mod_revision: r.min_mod_revision,
        max_mod_revision: r.max_mod_revision,
        min_create_revision: r.min_create_revision,
        max_create_revision: r.max_create_revision,
    }
}

fn put(r: PutRequest<'_>) -> pb::PutRequest {
    pb::PutRequest {
        key: r.key.to_vec().into(),
        value: r.value.to_vec().into(),
        lease: r.lease,
        prev_kv: r.prev_kv,
        ignore_value: r.ignore_value,
        ignore_lease: r.ignore_lease,
    }
}

fn delete_range(r: DeleteRangeRequest<'_>) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: r.key.to_vec().into(),
        range_end: r.range_end.to_vec().into(),
        prev_kv: r.prev_kv,
    }
}

fn txn(r: TxnRequest<'_>) -> pb::TxnRequest {
    txn_within(r, r.may_span())
}

/// `may_span`: of the outermost one, which knows of all.
fn txn_within(r: TxnRequest<'_>, may_span: bool) -> pb::TxnRequest {
    assert!(may_span || r.compares().all(|it| it.range_end.is_empty()));
    pb::TxnRequest {
        compare: r.compares().map(compare_op).collect(),
        success: ops(r.success(), may_span),
        failure: ops(r.failure(), may_span),
    }
}

fn compare_op(c: Compare<'_>) -> pb::Compare {
    let target_union = match c.operand {
        Target::None => None,
        Target::Version(v) => Some(TargetUnion::Version(v)),
        Target::CreateRevision(v) => Some(TargetUnion::CreateRevision(v)),
        Target::ModRevision(v) => Some(TargetUnion::ModRevision(v)),
        Target::Value(v) => Some(TargetUnion::Value(v.to_vec().into())),
        Target::Lease(v) => Some(TargetUnion::Lease(v)),
    };
    pb::Compare {
        result: c.result,
        target: c.target,
        key: c.key.to_vec().into(),
        range_end: c.range_end.to_vec().into(),
        target_union,
    }
}

fn ops(ops: RequestOps<'_>, may_span: bool) -> Vec<pb::RequestOp> {
    let request = |op| match op {
        RequestOp::None => None,
        RequestOp::Range(r) => Some(Request::RequestRange(range(r))),
        RequestOp::Put(r) => Some(Request::RequestPut(put(r))),
        RequestOp::DeleteRange(r) => Some(Request::RequestDeleteRange(delete_range(r))),
        RequestOp::Txn(r) => Some(Request::RequestTxn(txn_within(r, may_span))),
    };
    let kinds = ops.kinds();
    ops.map(|op| {
        let names_one_key = match op {
            RequestOp::None | RequestOp::Put(_) => true,
            RequestOp::Range(r) => r.range_end.is_empty(),
            RequestOp::DeleteRange(r) => r.range_end.is_empty(),
            // Its operations are asked.
            RequestOp::Txn(_) => true,
        };
        assert!(may_span || names_one_key);
        assert!(kinds.may_have_txn() || !matches!(op, RequestOp::Txn(_)));
        assert!(kinds.may_have_delete_range() || !matches!(op, RequestOp::DeleteRange(_)));
        assert!(kinds.may_have_other_than_range() || matches!(op, RequestOp::Range(_)));
        pb::RequestOp {
            request: request(op),
        }
    })
    .collect()
}
