use basalt_pb::etcdserverpb::{self as pb, compare, request_op, response_op};
use prost::Message;

use super::*;
use crate::command::field;
use crate::disk::mem::MemDisk;
use crate::mvcc::{Reader, StoreConfig, rebuild};

/// A machine that applies requests as the log would carry them.
struct Rig {
    machine: Machine,
    reader: Reader,
    out: Vec<u8>,
    disk: MemDisk,
}

impl Rig {
    fn new() -> Self {
        Self::with_quota(-1)
    }

    fn with_quota(bytes: i64) -> Self {
        let (store, reader) = Store::new(StoreConfig {
            cache_bytes: 0,
            ..StoreConfig::default()
        });
        let quota = Quota::from_flag(bytes);
        let machine = Machine::new(ClusterId(0xc), MemberId(0xa), quota, store);
        Self {
            machine,
            reader,
            out: Vec::new(),
            disk: MemDisk::default(),
        }
    }

    /// Puts all records into files and out of memory.
    fn chill(&mut self) {
        rebuild::chill(self.machine.store_mut(), &mut self.disk);
    }

    /// Reads what was missed; how many parts of files that were.
    fn load(&mut self) -> usize {
        rebuild::load(self.machine.store_mut(), &mut self.disk)
    }

    fn apply_bytes(&mut self, field: u32, body: &[u8]) -> Result<Applied, Halt> {
        let mut entry = Vec::new();
        hot::write_internal_raft_request(&mut entry, 7, field, body);
        let index = self.machine.applied().0.next();
        self.machine.apply(index, Term(2), &entry, &mut self.out)
    }

    fn apply(&mut self, field: u32, request: &impl Message) -> Applied {
        self.apply_bytes(field, &request.encode_to_vec())
            .expect("applied")
    }

    /// The decoded answer, or the refusal.
    fn ask<A: Message + Default>(
        &mut self,
        field: u32,
        request: &impl Message,
    ) -> Result<A, Refused> {
        match self.apply(field, request) {
            Applied::Done(Outcome::Encoded { start, end }) => {
                Ok(A::decode(&self.out[start..end]).expect("an answer"))
            }
            Applied::Done(Outcome::Refused(refused)) => Err(refused),
            other => panic!("unexpected {other:?}"),
        }
    }

    fn put(&mut self, key: &str, value: &str) -> Applied {
        self.apply(field::PUT, &put(key, value))
    }

    fn txn(&mut self, txn: &pb::TxnRequest) -> Result<pb::TxnResponse, Refused> {
        self.ask(field::TXN, txn)
    }

    /// Whether a transaction with this comparison alone succeeds.
    fn holds(&mut self, compare: pb::Compare) -> bool {
        let txn = pb::TxnRequest {
            compare: vec![compare],
            ..Default::default()
        };
        self.txn(&txn).expect("a transaction").succeeded
    }

    fn value(&self, key: &str) -> Option<Vec<u8>> {
        let view = self.machine.store().view();
        let found = view
            .get_at(key.as_bytes(), view.revision())
            .expect("in memory");
        found.map(|record| record.value.to_vec())
    }

    fn revision(&self) -> i64 {
        self.machine.store().revision()
    }
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

fn delete(key: &str, end: &'static str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: end.into(),
        prev_kv: true,
    }
}

fn op(request: request_op::Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

fn op_put(key: &str, value: &str) -> pb::RequestOp {
    op(request_op::Request::RequestPut(put(key, value)))
}

fn op_delete(key: &str, end: &'static str) -> pb::RequestOp {
    op(request_op::Request::RequestDeleteRange(delete(key, end)))
}

fn op_range(key: &str, revision: i64) -> pb::RequestOp {
    op(request_op::Request::RequestRange(pb::RangeRequest {
        key: key.to_owned().into(),
        revision,
        ..Default::default()
    }))
}

fn success(ops: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest {
        success: ops,
        ..Default::default()
    }
}

fn compare(key: &str, target: i32, result: i32, union: compare::TargetUnion) -> pb::Compare {
    pb::Compare {
        key: key.to_owned().into(),
        target,
        result,
        target_union: Some(union),
        ..Default::default()
    }
}

const REFUSED: fn(Refused) -> Applied = |refused| Applied::Done(Outcome::Refused(refused));

/// [KV-1] [PUT-1] The first write of a fresh store makes revision 2, and the plain answer says so.
#[test]
fn a_put_answers_its_revision() {
    let mut rig = Rig::new();
    let outcome = Outcome::Put {
        revision: 2,
        term: Term(2),
    };
    assert_eq!(rig.put("a", "1"), Applied::Done(outcome));
    assert_eq!(rig.value("a").as_deref(), Some(&b"1"[..]));
    assert_eq!(rig.machine.applied(), (Index(1), Term(2)));
}

/// [PUT-2] [HDR-1] prev_kv is the record before; on a new key it is absent.
#[test]
fn a_put_returns_the_record_before() {
    let mut rig = Rig::new();
    let mut request = put("a", "1");
    request.prev_kv = true;
    let first: pb::PutResponse = rig.ask(field::PUT, &request).expect("put");
    assert_eq!(first.prev_kv, None);
    let second: pb::PutResponse = rig.ask(field::PUT, &request).expect("put");
    let header = second.header.expect("a header");
    assert_eq!(
        (
            header.cluster_id,
            header.member_id,
            header.revision,
            header.raft_term
        ),
        (0xc, 0xa, 3, 2)
    );
    let previous = second.prev_kv.expect("there was one");
    assert_eq!(
        (previous.mod_revision, previous.version, &previous.value[..]),
        (2, 1, &b"1"[..])
    );
}

/// [PUT-3] ignore_value keeps the value; on a missing key it is refused and nothing is written.
#[test]
fn a_put_that_ignores_the_value_needs_a_key() {
    let mut rig = Rig::new();
    let mut request = put("a", "");
    request.ignore_value = true;
    request.prev_kv = true;
    assert_eq!(
        rig.apply(field::PUT, &request),
        REFUSED(Refused::KeyNotFound)
    );
    assert_eq!((rig.revision(), rig.out.len()), (1, 0));
    rig.put("a", "1");
    let answer: pb::PutResponse = rig.ask(field::PUT, &request).expect("put");
    assert_eq!(answer.header.expect("a header").revision, 3);
    assert_eq!(rig.value("a").as_deref(), Some(&b"1"[..]));
}

/// [PUT-5] [PUT-7] [LEASE-1] An unknown lease is told before the missing key, and keeps the revision.
#[test]
fn a_put_with_unknown_lease_is_refused_and_keeps_the_revision() {
    let mut rig = Rig::new();
    let mut request = put("a", "1");
    request.lease = 5;
    request.ignore_value = true;
    assert_eq!(
        rig.apply(field::PUT, &request),
        REFUSED(Refused::LeaseNotFound)
    );
    let revoke = pb::LeaseRevokeRequest { id: 5 };
    assert_eq!(
        rig.apply(field::LEASE_REVOKE, &revoke),
        REFUSED(Refused::LeaseNotFound)
    );
    assert_eq!(rig.revision(), 1);
}

/// [DEL-1] [DEL-2] [DEL-3] A delete answers what was there, in key order, and takes a revision only if it changed something.
#[test]
fn a_delete_of_nothing_takes_no_revision() {
    let mut rig = Rig::new();
    let none: pb::DeleteRangeResponse = rig
        .ask(field::DELETE_RANGE, &delete("a", "z"))
        .expect("delete");
    assert_eq!(
        (none.deleted, none.header.expect("a header").revision),
        (0, 1)
    );
    rig.put("b", "2");
    rig.put("a", "1");
    let both: pb::DeleteRangeResponse = rig
        .ask(field::DELETE_RANGE, &delete("a", "z"))
        .expect("delete");
    assert_eq!(
        (both.deleted, both.header.expect("a header").revision),
        (2, 4)
    );
    let keys: Vec<&[u8]> = both.prev_kvs.iter().map(|kv| &kv.key[..]).collect();
    assert_eq!(keys, [b"a", b"b"]);
    assert_eq!(rig.value("a"), None);
}

/// [HDR-3] Headers inside a transaction: the revision alone, an inner transaction's empty; ops see each other.
#[test]
fn headers_inside_a_transaction_are_etcds() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    let inner = op(request_op::Request::RequestTxn(success(vec![op_put(
        "c", "3",
    )])));
    let ops = vec![
        op_range("a", 0),
        op_delete("none", ""),
        op_put("a", "2"),
        op_range("a", 0),
        op_delete("none", ""),
        inner,
    ];
    let answer = rig.txn(&success(ops)).expect("a transaction");
    assert_eq!(answer.header.expect("a header").revision, 3);
    let mut revisions = Vec::new();
    for response in &answer.responses {
        let header = match response.response.as_ref().expect("an answer") {
            response_op::Response::ResponseRange(range) => range.header,
            response_op::Response::ResponsePut(put) => put.header,
            response_op::Response::ResponseDeleteRange(delete) => delete.header,
            response_op::Response::ResponseTxn(txn) => {
                assert_eq!(txn.responses.len(), 1);
                txn.header
            }
        };
        let header = header.expect("a header");
        assert_eq!(
            (header.cluster_id, header.member_id, header.raft_term),
            (0, 0, 0)
        );
        revisions.push(header.revision);
    }
    assert_eq!(revisions, [2, 2, 3, 3, 3, 0]);
    let Some(response_op::Response::ResponseRange(seen)) = &answer.responses[3].response else {
        panic!("a range");
    };
    assert_eq!(&seen.kvs[0].value[..], b"2");
    assert_eq!(seen.count, 1);
}

/// [TXN-3] [TXN-4] One revision for the whole, sub-revisions in the order of the ops.
#[test]
fn a_transaction_takes_one_revision() {
    let mut rig = Rig::new();
    rig.txn(&success(vec![op_put("a", "1"), op_put("b", "2")]))
        .expect("a transaction");
    let view = rig.machine.store().view();
    let b = view.get_at(b"b", 2).expect("in memory").expect("there");
    assert_eq!((b.mod_revision.main, b.mod_revision.sub), (2, 1));
    let empty = rig
        .txn(&success(vec![op_delete("x", "")]))
        .expect("a transaction");
    assert_eq!(empty.header.expect("a header").revision, 2);
}

/// [TXN-9] [TXN-10] A refusal in the taken branch leaves no trace of the ops before it; the other branch is not checked.
#[test]
fn a_refused_transaction_leaves_no_trace() {
    let mut rig = Rig::new();
    let mut leased = put("b", "");
    // Stock etcd 3.7.3 tells the lease before the missing key.
    leased.ignore_value = true;
    leased.lease = 9;
    let leased = op(request_op::Request::RequestPut(leased));
    let refused = rig.txn(&success(vec![op_put("a", "1"), leased.clone()]));
    assert_eq!(refused, Err(Refused::LeaseNotFound));
    assert_eq!(
        rig.txn(&success(vec![op_put("a", "1"), op_range("a", 2)])),
        Err(Refused::FutureRevision)
    );
    assert_eq!(
        rig.txn(&success(vec![op_range("a", -2)])),
        Err(Refused::Compacted)
    );
    let mut keep = put("a", "");
    keep.ignore_value = true;
    let keep = op(request_op::Request::RequestPut(keep));
    assert_eq!(
        rig.txn(&success(vec![op_put("z", ""), keep])),
        Err(Refused::KeyNotFound)
    );
    assert_eq!(
        (rig.revision(), rig.value("a"), rig.value("z")),
        (1, None, None)
    );
    let other = pb::TxnRequest {
        success: vec![op_put("a", "1"), op_range("a", -1)],
        failure: vec![leased],
        ..Default::default()
    };
    assert!(rig.txn(&other).is_ok());
}

/// [CMP-4] All comparisons, also of inner transactions, look at the state before the transaction.
#[test]
fn comparisons_see_the_state_at_the_start() {
    let mut rig = Rig::new();
    let absent = compare("a", 0, 0, compare::TargetUnion::Version(0));
    let inner = pb::TxnRequest {
        compare: vec![absent],
        success: vec![op_put("seen", "absent")],
        failure: vec![op_put("seen", "present")],
    };
    let inner = op(request_op::Request::RequestTxn(inner));
    rig.txn(&success(vec![op_put("a", "1"), inner]))
        .expect("a transaction");
    assert_eq!(rig.value("seen").as_deref(), Some(&b"absent"[..]));
}

/// [CMP-1] [CMP-2] [CMP-3] [CMP-5] Every target and result, on keys that are there, are not, and on ranges.
#[test]
fn comparisons_are_etcds() {
    use compare::TargetUnion::{CreateRevision, Lease, ModRevision, Value, Version};
    let mut rig = Rig::new();
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        rig.put(key, value);
    }
    let value = |text: &'static str| Value(text.into());
    let cases = [
        ("a", 0, 0, Version(2), true),
        ("a", 0, 1, Version(1), true),
        ("a", 0, 2, Version(2), false),
        ("a", 0, 3, Version(1), true),
        ("a", 1, 0, CreateRevision(2), true),
        ("a", 2, 0, ModRevision(4), true),
        ("a", 3, 0, value("3"), true),
        ("a", 3, 2, value("4"), true),
        ("a", 4, 0, Lease(0), true),
        // A missing key has no value to compare, and 0 for everything else.
        ("x", 3, 3, value("1"), false),
        ("x", 3, 9, value(""), false),
        ("x", 0, 0, Version(0), true),
        ("x", 2, 1, ModRevision(-1), true),
        // An operand of another kind counts as 0 or empty.
        ("a", 0, 1, ModRevision(100), true),
        ("a", 3, 1, Version(9), true),
        // Unknown targets are equal, unknown results true.
        ("a", 9, 0, Version(7), true),
        ("a", 9, 1, Version(7), false),
        ("a", 0, 9, Version(7), true),
    ];
    for (slot, (key, target, result, union, expected)) in cases.into_iter().enumerate() {
        assert_eq!(
            rig.holds(compare(key, target, result, union)),
            expected,
            "case {slot}"
        );
    }
    let range = |result, version, end: &'static str| pb::Compare {
        range_end: end.into(),
        ..compare("a", 0, result, Version(version))
    };
    assert!(rig.holds(range(1, 0, "\0")));
    assert!(!rig.holds(range(1, 1, "\0")));
    assert!(rig.holds(range(1, -1, "a")));
}

/// [TXN-7] etcd dies on this: a key deleted and put with ignore_value in one transaction, through a hole of the overlap check.
#[test]
fn a_put_behind_a_delete_of_its_key_keeps_the_value_at_the_start() {
    let mut rig = Rig::new();
    rig.put("k", "old");
    let mut keep = put("k", "");
    keep.ignore_value = true;
    let keep = op(request_op::Request::RequestPut(keep));
    rig.txn(&success(vec![op_delete("a", "\0"), keep]))
        .expect("a transaction");
    assert_eq!(rig.value("k").as_deref(), Some(&b"old"[..]));
    let view = rig.machine.store().view();
    let record = view.get_at(b"k", 3).expect("in memory").expect("there");
    assert_eq!((record.create_revision, record.version), (3, 1));
}

/// [COMPACT-2] [COMPACT-3] The compacted revision moves up only, and never beyond the current one.
#[test]
fn compaction_is_refused_outside_its_bounds() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    rig.put("a", "2");
    let compact = |revision, physical| pb::CompactionRequest { revision, physical };
    let mut ask = |request| rig.ask::<pb::CompactionResponse>(field::COMPACTION, &request);
    assert_eq!(ask(compact(-1, false)), Err(Refused::Compacted));
    assert!(ask(compact(0, false)).is_ok());
    assert_eq!(ask(compact(0, false)), Err(Refused::Compacted));
    assert_eq!(ask(compact(4, false)), Err(Refused::FutureRevision));
    let header = ask(compact(2, false)).expect("compacted").header;
    assert_eq!(header.expect("a header").revision, 3);
    assert_eq!(ask(compact(2, false)), Err(Refused::Compacted));
    let applied = rig.apply(field::COMPACTION, &compact(3, true));
    assert!(matches!(applied, Applied::Compacting { revision: 3, .. }));
}

/// [MNT-4] [MNT-5] Alarms of unknown members are legal; repeated ones answer again; only the exact pair is lifted.
#[test]
fn alarms_are_raised_listed_and_lifted_as_in_etcd() {
    let mut rig = Rig::new();
    let mut ask = |action, member_id, alarm| {
        let request = pb::AlarmRequest {
            action,
            member_id,
            alarm,
        };
        let answer: Result<pb::AlarmResponse, Refused> = rig.ask(field::ALARM, &request);
        answer.map(|answer| {
            answer
                .alarms
                .iter()
                .map(|a| (a.member_id, a.alarm))
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(ask(1, 7, 0), Ok(vec![]));
    assert_eq!(ask(1, 7, 1), Ok(vec![(7, 1)]));
    assert_eq!(ask(1, 7, 1), Ok(vec![(7, 1)]));
    assert_eq!(ask(1, 8, 2), Ok(vec![(8, 2)]));
    assert_eq!(ask(0, 99, 0), Ok(vec![(7, 1), (8, 2)]));
    assert_eq!(ask(0, 99, 2), Ok(vec![(8, 2)]));
    assert_eq!(ask(2, 0, 1), Ok(vec![]));
    assert_eq!(ask(2, 7, 1), Ok(vec![(7, 1)]));
    assert_eq!(ask(0, 0, 0), Ok(vec![(8, 2)]));
    assert_eq!(ask(5, 0, 0), Err(Refused::UnknownAlarmAction));
}

fn raise(rig: &mut Rig, kind: i32) {
    let request = pb::AlarmRequest {
        action: 1,
        member_id: 1,
        alarm: kind,
    };
    rig.apply(field::ALARM, &request);
}

/// [MNT-6] NOSPACE stops what costs space, also in the branch not taken; deletes and compaction go on.
#[test]
fn a_full_store_refuses_what_costs_space() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    raise(&mut rig, 1);
    let revision = rig.revision();
    assert_eq!(rig.put("b", "1"), REFUSED(Refused::NoSpace));
    let txn = pb::TxnRequest {
        failure: vec![op_put("b", "1")],
        ..Default::default()
    };
    assert_eq!(rig.txn(&txn), Err(Refused::NoSpace));
    assert_eq!(rig.revision(), revision);
    assert!(rig.txn(&success(vec![op_delete("x", "")])).is_ok());
    let deleted: pb::DeleteRangeResponse = rig
        .ask(field::DELETE_RANGE, &delete("a", ""))
        .expect("delete");
    assert_eq!(deleted.deleted, 1);
}

/// [MNT-7] CORRUPT stops every write, before anything else is looked at.
#[test]
fn a_corrupt_cluster_refuses_writes() {
    let mut rig = Rig::new();
    raise(&mut rig, 1);
    raise(&mut rig, 2);
    assert_eq!(rig.put("a", "1"), REFUSED(Refused::CorruptCluster));
    assert_eq!(rig.txn(&success(vec![])), Err(Refused::CorruptCluster));
    for (field, body) in [
        (field::DELETE_RANGE, vec![]),
        (field::COMPACTION, vec![]),
        (field::LEASE_REVOKE, vec![]),
    ] {
        assert_eq!(
            rig.apply_bytes(field, &body),
            Ok(REFUSED(Refused::CorruptCluster))
        );
    }
    assert!(
        rig.ask::<pb::AlarmResponse>(field::ALARM, &pb::AlarmRequest::default())
            .is_ok()
    );
}

/// [MNT-9] At apply the write that does not fit is done all the same; its caller hears of it.
#[test]
fn a_write_that_passes_the_quota_is_done_and_told() {
    let mut rig = Rig::with_quota(1);
    assert_eq!(rig.put("a", "1"), Applied::WrittenWithoutSpace);
    assert_eq!(
        rig.apply(field::TXN, &success(vec![op_put("b", "1")])),
        Applied::WrittenWithoutSpace
    );
    assert_eq!(rig.revision(), 3);
    assert!(
        rig.ask::<pb::DeleteRangeResponse>(field::DELETE_RANGE, &delete("a", ""))
            .is_ok()
    );
}

/// What cannot be understood changes nothing: a bad request is refused by every member alike, a newer command stops the member.
#[test]
fn unreadable_entries_change_nothing() {
    let mut rig = Rig::new();
    assert_eq!(
        rig.apply_bytes(field::PUT, &[0x0a, 0x05]),
        Ok(REFUSED(Refused::Malformed))
    );
    let newer = rig.apply_bytes(1000, &[]);
    assert_eq!(
        newer,
        Err(Halt::Unreadable(Unreadable::Unknown { field: 1000 }))
    );
    assert_eq!((rig.machine.applied().0, rig.revision()), (Index(1), 1));
}

/// A value on disk is asked for before anything changes; the entry then applies as if nothing had happened.
#[test]
fn a_needed_read_leaves_no_trace_and_can_be_repeated() {
    let mut rig = Rig::new();
    for key in ["a", "b", "c"] {
        rig.put(key, "1");
    }
    let txn = success(vec![op_put("x", "1"), op_range("a", 0)]);
    let mut prev = put("b", "2");
    prev.prev_kv = true;
    let requests = [
        (field::TXN, txn.encode_to_vec()),
        (field::PUT, prev.encode_to_vec()),
        (field::DELETE_RANGE, delete("c", "").encode_to_vec()),
    ];
    for (field, body) in requests {
        rig.chill();
        let (revision, applied) = (rig.revision(), rig.machine.applied());
        rig.out.clear();
        let need = rig.apply_bytes(field, &body);
        assert!(matches!(need, Err(Halt::NeedRead(_))), "field {field}");
        assert_eq!(
            (rig.revision(), rig.machine.applied(), rig.out.len()),
            (revision, applied, 0)
        );
        assert_eq!(rig.load(), 1);
        let applied = rig.apply_bytes(field, &body).expect("applied");
        assert!(matches!(applied, Applied::Done(Outcome::Encoded { .. })));
        assert_eq!(rig.revision(), revision + 1);
    }
}

/// A transaction asks for whatever its Puts look at before it changes anything, and a Put that looks
/// at nothing asks for nothing.
#[test]
fn a_put_inside_a_transaction_asks_only_for_what_it_keeps() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    rig.chill();
    let blind = success(vec![op_put("a", "2"), op_put("b", "2")]);
    let applied = rig.apply_bytes(field::TXN, &blind.encode_to_vec());
    assert!(matches!(applied, Ok(Applied::Done(_))));
    rig.chill();
    let attached = pb::PutRequest {
        ignore_lease: true,
        ..put("a", "3")
    };
    let applied = rig.apply_bytes(field::PUT, &attached.encode_to_vec());
    assert!(matches!(applied, Ok(Applied::Done(_))));
    rig.chill();
    let keeping = pb::PutRequest {
        ignore_value: true,
        ..put("a", "")
    };
    let keeping = success(vec![
        op_put("c", "4"),
        op(request_op::Request::RequestPut(keeping)),
    ]);
    let body = keeping.encode_to_vec();
    let need = rig.apply_bytes(field::TXN, &body);
    assert!(matches!(need, Err(Halt::NeedRead(_))));
    assert_eq!(rig.load(), 1);
    assert!(rig.apply_bytes(field::TXN, &body).is_ok());
    assert_eq!(rig.value("a"), Some(b"3".to_vec()));
}

/// Members, names and the version that the log decides.
#[test]
fn what_members_publish_is_kept() {
    use basalt_pb::membershippb::{
        Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest,
    };
    let mut rig = Rig::new();
    let member = crate::member::Member {
        id: MemberId(0xa),
        peer_urls: vec!["http://p:1".to_owned()],
        ..Default::default()
    };
    let set = MemberChange::Set(member);
    let applied = rig.machine.apply_member_change(Index(1), Term(1), set);
    assert_eq!(applied, Ok(()));
    let publish = ClusterMemberAttrSetRequest {
        member_id: 0xa,
        member_attributes: Some(Attributes {
            name: "one".to_owned(),
            client_urls: vec!["http://c:1".to_owned()],
        }),
    };
    rig.apply(field::CLUSTER_MEMBER_ATTR_SET, &publish);
    let version = |text: &str| ClusterVersionSetRequest {
        ver: text.to_owned(),
    };
    rig.apply(field::CLUSTER_VERSION_SET, &version("3.7.0"));
    assert_eq!(
        rig.apply(field::CLUSTER_VERSION_SET, &version("x")),
        REFUSED(Refused::Malformed)
    );
    assert_eq!(
        rig.machine
            .members()
            .get(MemberId(0xa))
            .expect("there")
            .name,
        "one"
    );
    assert_eq!(rig.machine.cluster_version(), Some(Release::OWN.cluster()));
    assert_eq!(rig.machine.cluster_changes(), 3);
}

/// Readers see a batch once it is published and not before.
#[test]
fn applied_entries_are_seen_when_published() {
    let mut rig = Rig::new();
    rig.put("a", "1");
    assert_eq!(rig.reader.pin().view().revision(), 1);
    rig.machine.store_mut().publish();
    assert_eq!(rig.reader.pin().view().revision(), 2);
}

mod alarms;
mod leases;
mod members;
mod slices;
