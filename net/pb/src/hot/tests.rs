use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::etcdserverpb as pb;
use crate::mvccpb;

fn bytes() -> impl Strategy<Value = bytes::Bytes> {
    prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..12),
        1 => prop::collection::vec(any::<u8>(), 120..300),
    ]
    .prop_map(bytes::Bytes::from)
}

fn int() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), -3..300i64, any::<i64>()]
}

prop_compose! {
    fn range()(key in bytes(), range_end in bytes(), ints in prop::array::uniform6(int()), enums in any::<(i8, i8)>(),
               flags in any::<(bool, bool, bool)>()) -> pb::RangeRequest {
        pb::RangeRequest {
            key, range_end, limit: ints[0], revision: ints[1], min_mod_revision: ints[2], max_mod_revision: ints[3],
            min_create_revision: ints[4], max_create_revision: ints[5], sort_order: i32::from(enums.0),
            sort_target: i32::from(enums.1), serializable: flags.0, keys_only: flags.1, count_only: flags.2,
        }
    }
}

prop_compose! {
    fn put()(key in bytes(), value in bytes(), lease in int(), flags in any::<(bool, bool, bool)>()) -> pb::PutRequest {
        pb::PutRequest { key, value, lease, prev_kv: flags.0, ignore_value: flags.1, ignore_lease: flags.2 }
    }
}

prop_compose! {
    fn delete()(key in bytes(), range_end in bytes(), prev_kv in any::<bool>()) -> pb::DeleteRangeRequest {
        pb::DeleteRangeRequest { key, range_end, prev_kv }
    }
}

fn compare() -> impl Strategy<Value = pb::Compare> {
    use pb::compare::TargetUnion as T;
    let union = prop_oneof![
        Just(None),
        int().prop_map(|v| Some(T::Version(v))),
        int().prop_map(|v| Some(T::CreateRevision(v))),
        int().prop_map(|v| Some(T::ModRevision(v))),
        bytes().prop_map(|v| Some(T::Value(v))),
        int().prop_map(|v| Some(T::Lease(v))),
    ];
    (any::<(i8, i8)>(), bytes(), bytes(), union).prop_map(
        |(enums, key, range_end, target_union)| pb::Compare {
            result: i32::from(enums.0),
            target: i32::from(enums.1),
            key,
            range_end,
            target_union,
        },
    )
}

fn txn() -> impl Strategy<Value = pb::TxnRequest> {
    use pb::request_op::Request as R;
    let leaf = prop_oneof![
        Just(None),
        range().prop_map(|r| Some(R::RequestRange(r))),
        put().prop_map(|r| Some(R::RequestPut(r))),
        delete().prop_map(|r| Some(R::RequestDeleteRange(r))),
    ];
    let op = leaf.prop_recursive(3, 16, 3, |op| {
        let ops = || {
            prop::collection::vec(
                op.clone().prop_map(|request| pb::RequestOp { request }),
                0..3,
            )
        };
        (prop::collection::vec(compare(), 0..3), ops(), ops()).prop_map(
            |(compare, success, failure)| {
                Some(R::RequestTxn(pb::TxnRequest {
                    compare,
                    success,
                    failure,
                }))
            },
        )
    });
    let ops = prop::collection::vec(op.prop_map(|request| pb::RequestOp { request }), 0..4);
    (prop::collection::vec(compare(), 0..3), ops.clone(), ops).prop_map(
        |(compare, success, failure)| pb::TxnRequest {
            compare,
            success,
            failure,
        },
    )
}

proptest! {
    /// Whatever prost writes is read with the same values (fuzz_one compares), and written back
    /// byte for byte.
    #[test]
    fn requests_survive_the_round_trip(range in range(), put in put(), delete in delete(), txn in txn()) {
        let mut out = Vec::new();
        let wire = range.encode_to_vec();
        fuzz_one(&wire);
        RangeRequest::read(&wire).unwrap().write(&mut out);
        prop_assert_eq!(&out, &wire);

        out.clear();
        let wire = put.encode_to_vec();
        fuzz_one(&wire);
        PutRequest::read(&wire).unwrap().write(&mut out);
        prop_assert_eq!(&out, &wire);

        out.clear();
        let wire = delete.encode_to_vec();
        fuzz_one(&wire);
        DeleteRangeRequest::read(&wire).unwrap().write(&mut out);
        prop_assert_eq!(&out, &wire);

        let wire = txn.encode_to_vec();
        TxnRequest::read(&wire).unwrap();
        fuzz_one(&wire);
    }

    /// Damaged, cut and doubled messages: accepted or refused as prost does.
    #[test]
    fn damaged_requests_are_read_as_prost_reads_them(
        txn in txn(), cut in any::<prop::sample::Index>(), flip in any::<prop::sample::Index>(), bit in 0..8u8, twice in any::<bool>()
    ) {
        let mut wire = txn.encode_to_vec();
        if twice {
            wire.extend_from_within(..);
        }
        if !wire.is_empty() {
            fuzz_one(&wire[..cut.index(wire.len())]);
            let at = flip.index(wire.len());
            wire[at] ^= 1 << bit;
        }
        fuzz_one(&wire);
    }

    #[test]
    fn arbitrary_bytes_are_read_as_prost_reads_them(data in prop::collection::vec(any::<u8>(), 0..64)) {
        fuzz_one(&data);
    }

    /// Small tags and lengths, so that the bytes often are messages.
    #[test]
    fn arbitrary_small_bytes_are_read_as_prost_reads_them(data in prop::collection::vec(0..0x30u8, 0..40)) {
        fuzz_one(&data);
    }

    #[test]
    fn headers_and_key_values_are_written_as_prost_writes_them(
        ids in any::<(u64, u64, u64)>(), revision in int(), key in bytes(), value in bytes(), ints in prop::array::uniform4(int())
    ) {
        let header = pb::ResponseHeader { cluster_id: ids.0, member_id: ids.1, revision, raft_term: ids.2 };
        let kv = mvccpb::KeyValue {
            key: key.clone(), create_revision: ints[0], mod_revision: ints[1], version: ints[2], value: value.clone(), lease: ints[3],
        };
        let oracle = pb::RangeResponse { header: Some(header), kvs: vec![kv.clone()], more: true, count: revision };
        let mut out = Vec::new();
        write_header(&mut out, &Header { cluster_id: ids.0, member_id: ids.1, revision, raft_term: ids.2 });
        let own = KeyValue {
            key: &key, create_revision: ints[0], mod_revision: ints[1], version: ints[2], value: &value, lease: ints[3],
        };
        prop_assert_eq!(key_value_len(&own), kv.encoded_len());
        write_key_value_field(&mut out, 2, &own);
        put_bool_field(&mut out, 3, true);
        put_int_field(&mut out, 4, revision);
        prop_assert_eq!(out, oracle.encode_to_vec());
    }

    /// Any length of a body: the length's own bytes are moved in without harm to what is around.
    #[test]
    fn nested_messages_of_unknown_length_are_closed(body in prop::collection::vec(any::<u8>(), 0..20_000), before in 0..200usize) {
        let mut out = vec![7; before];
        let outer = begin_nested(&mut out, 1);
        let inner = begin_nested(&mut out, 20);
        out.extend_from_slice(&body);
        end_nested(&mut out, inner);
        put_int_field(&mut out, 2, 5);
        end_nested(&mut out, outer);

        let mut expected = Vec::new();
        put_nested(&mut expected, 20, &body);
        put_int_field(&mut expected, 2, 5);
        let inner = std::mem::take(&mut expected);
        expected.resize(before, 7);
        put_nested(&mut expected, 1, &inner);
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn log_payloads_are_framed_as_prost_frames_them(id in any::<u64>(), put in put()) {
        let body = put.encode_to_vec();
        let mut out = Vec::new();
        write_internal_raft_request(&mut out, id, 4, &body);
        prop_assert_eq!(out.len(), internal_raft_request_len(id, 4, body.len()));
        let header = Some(pb::RequestHeader { id, ..Default::default() });
        let oracle = pb::InternalRaftRequest { header, put: Some(put), ..Default::default() };
        prop_assert_eq!(&out, &oracle.encode_to_vec());
        let read = InternalRaftRequest::read(&out).unwrap();
        prop_assert_eq!((read.field, read.body), (4, &body[..]));
        fuzz_one(&out);
    }

    #[test]
    fn varints_are_minimal(value in any::<u64>(), shift in 0..64u32) {
        let value = value >> shift;
        let mut out = Vec::new();
        put_varint(&mut out, value);
        prop_assert_eq!(out.len(), varint_len(value));
        prop_assert_eq!(out.len(), prost::length_delimiter_len(usize::try_from(value).unwrap()));
        let mut wire = Wire::new(&out);
        prop_assert_eq!(wire.varint(), Ok(value));
    }
}

#[test]
fn payloads_of_late_fields_stand_after_the_header() {
    let mut out = Vec::new();
    write_internal_raft_request(&mut out, 300, 1301, &[]);
    assert_eq!(out.len(), internal_raft_request_len(300, 1301, 0));
    let oracle = pb::InternalRaftRequest {
        header: Some(pb::RequestHeader {
            id: 300,
            ..Default::default()
        }),
        cluster_member_attr_set: Some(Default::default()),
        ..Default::default()
    };
    assert_eq!(out, oracle.encode_to_vec());
}

#[test]
fn known_fields_of_a_wrong_wire_type_are_skipped() {
    let wire = [0x08, 1, 0x12, 1, b'v', 0x1a, 1, 7];
    let put = PutRequest {
        value: b"v",
        ..Default::default()
    };
    assert_eq!(PutRequest::read(&wire), Ok(put));
    fuzz_one(&wire);
}

#[test]
fn broken_tags_lengths_and_varints_are_refused() {
    assert_eq!(PutRequest::read(&[0x0a, 2, 1]), Err(Malformed::Truncated));
    assert_eq!(PutRequest::read(&[0x0a]), Err(Malformed::Truncated));
    assert_eq!(PutRequest::read(&[0x02, 0]), Err(Malformed::IllegalTag));
    assert_eq!(PutRequest::read(&[0x0e, 0]), Err(Malformed::IllegalTag));
    assert_eq!(PutRequest::read(&[0x3c]), Err(Malformed::Group));
    let long = [0x18, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2];
    assert_eq!(PutRequest::read(&long), Err(Malformed::Overflow));
}

#[test]
fn unknown_fields_are_skipped_groups_included() {
    // 15: group { 1: varint 5, 2: group {} }, 14: fixed32, 13: fixed64; then the key.
    let wire = [
        0x7b, 0x08, 5, 0x13, 0x14, 0x7c, 0x75, 1, 2, 3, 4, 0x69, 1, 2, 3, 4, 5, 6, 7, 8, 0x0a, 1,
        b'k',
    ];
    assert_eq!(PutRequest::read(&wire).unwrap().key, b"k");
    fuzz_one(&wire);
    // One group deeper than prost goes.
    for depth in [99, 100, 101, 5000] {
        fuzz_one(&[vec![0x7b; depth], vec![0x7c; depth]].concat());
    }
}

#[test]
fn split_operations_are_told_and_can_be_made_whole() {
    let key = [0x12, 3, 0x0a, 1, b'k'];
    let value = [0x12, 3, 0x12, 1, b'v'];
    let op = [&key[..], &value].concat();
    let mut wire = Vec::new();
    put_nested(&mut wire, 2, &op);
    assert_eq!(TxnRequest::read(&wire), Err(Malformed::Split));
    let whole = canonical::<pb::TxnRequest>(&wire).unwrap();
    let put = PutRequest {
        key: b"k",
        value: b"v",
        ..Default::default()
    };
    assert_eq!(
        TxnRequest::read(&whole).unwrap().success().next(),
        Some(RequestOp::Put(put))
    );
}

#[test]
fn transactions_nest_as_deep_as_the_limit_and_no_deeper() {
    let nest = |levels: u32| {
        let mut wire = Vec::new();
        for _ in 1..levels {
            let mut op = Vec::new();
            put_nested(&mut op, 4, &wire);
            wire.clear();
            put_nested(&mut wire, 2, &op);
        }
        wire
    };
    let wire = nest(TXN_DEPTH_MAX);
    let mut txn = TxnRequest::read(&wire).unwrap();
    let mut levels = 1;
    while let Some(RequestOp::Txn(inner)) = txn.success().next() {
        txn = inner;
        levels += 1;
    }
    assert_eq!(levels, TXN_DEPTH_MAX);
    assert_eq!(
        TxnRequest::read(&nest(TXN_DEPTH_MAX + 1)),
        Err(Malformed::TooDeep)
    );
    assert_eq!(TxnRequest::read(&nest(2000)), Err(Malformed::TooDeep));
}

/// The branches do not share what is known of them, and of an inner transaction nothing is.
#[test]
fn a_branch_knows_which_operations_it_may_hold() {
    let wire = |inner: &[u8]| {
        let mut wire = Vec::new();
        for (branch, kind) in [(2, 1), (3, 3), (3, 1)] {
            let mut op = Vec::new();
            put_nested(&mut op, kind, &[]);
            put_nested(&mut wire, branch, &op);
        }
        if !inner.is_empty() {
            let mut op = Vec::new();
            put_nested(&mut op, 4, inner);
            put_nested(&mut wire, 2, &op);
        }
        wire
    };
    let flat = wire(&[]);
    let txn = TxnRequest::read(&flat).unwrap();
    assert!(!txn.success().kinds().may_have_other_than_range());
    assert!(txn.failure().kinds().may_have_delete_range());
    assert!(!txn.failure().kinds().may_have_txn());
    let nested = wire(&flat);
    let txn = TxnRequest::read(&nested).unwrap();
    assert!(txn.success().kinds().may_have_txn());
    assert!(!txn.success().kinds().may_have_delete_range());
    let Some(RequestOp::Txn(inner)) = txn.success().nth(1) else {
        panic!("the second operation is a transaction");
    };
    assert!(inner.success().kinds().may_have_delete_range());
}

/// Whoever works on one key only is told so, wherever in the transaction the range stands.
#[test]
fn a_transaction_knows_whether_anything_in_it_names_more_than_a_key() {
    let op = |end: &'static [u8]| {
        let mut body = Vec::new();
        put_bytes_field(&mut body, 1, b"a");
        put_bytes_field(&mut body, 2, end);
        let mut op = Vec::new();
        put_nested(&mut op, 1, &body);
        op
    };
    let mut wire = Vec::new();
    put_nested(&mut wire, 3, &op(b""));
    assert!(!TxnRequest::read(&wire).unwrap().may_span());
    let mut compare = wire.clone();
    let mut body = Vec::new();
    put_bytes_field(&mut body, 64, b"b");
    put_nested(&mut compare, 1, &body);
    assert!(TxnRequest::read(&compare).unwrap().may_span());
    put_nested(&mut wire, 3, &op(b"b"));
    assert!(TxnRequest::read(&wire).unwrap().may_span());
    let mut inner = Vec::new();
    put_nested(&mut inner, 4, &wire);
    let mut outer = Vec::new();
    put_nested(&mut outer, 2, &inner);
    assert!(TxnRequest::read(&outer).unwrap().may_span());
}

/// Lists may stand interleaved; each keeps its own order.
#[test]
fn interleaved_lists_are_told_apart() {
    let put = |key: &'static [u8]| {
        let mut body = Vec::new();
        PutRequest {
            key,
            ..Default::default()
        }
        .write(&mut body);
        let mut op = Vec::new();
        put_nested(&mut op, 2, &body);
        op
    };
    let mut wire = Vec::new();
    for (field, key) in [(3, b"a"), (2, b"b"), (3, b"c"), (2, b"d")] {
        put_nested(&mut wire, field, &put(key));
    }
    let txn = TxnRequest::read(&wire).unwrap();
    let keys = |ops: RequestOps<'_>| -> Vec<u8> {
        let key = |op| match op {
            RequestOp::Put(put) => put.key[0],
            other => panic!("{other:?}"),
        };
        ops.map(key).collect()
    };
    assert_eq!(txn.success().len(), 2);
    assert_eq!(keys(txn.success()), b"bd");
    assert_eq!(keys(txn.failure()), b"ac");
    assert_eq!(txn.compares().count(), 0);
}
