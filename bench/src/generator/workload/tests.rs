use basalt_pb::etcdserverpb::{
    Compare, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, ResponseHeader,
    ResponseOp, TxnRequest, TxnResponse, compare::TargetUnion, request_op::Request,
    response_op::Response,
};
use basalt_pb::mvccpb::KeyValue;
use prost::{Message, bytes::Bytes};

use super::super::requests::{CREATE, GREATER, MOD};
use super::*;

fn workload(change: impl FnOnce(&mut Shape)) -> Workload {
    let mut shape = Shape {
        keys: 1_000,
        key_size: 48,
        value_size: 20,
        ..Shape::default()
    };
    change(&mut shape);
    Workload::new(&shape)
}

fn name(workload: &Workload, number: u64) -> Bytes {
    let mut name = Vec::new();
    workload.keys.push(number, &mut name);
    name.into()
}

fn value(workload: &Workload, number: u64) -> Bytes {
    let mut value = workload.value.clone();
    value[..8].copy_from_slice(&number.to_be_bytes());
    value.into()
}

/// What the server decodes.
fn sent<M: Message + Default>(workload: &mut Workload, ask: Ask, key: u32) -> (Question, M) {
    let mut bytes = Vec::new();
    let question = workload.write(ask, key, &mut bytes);
    (question, M::decode(&*bytes).unwrap())
}

fn put_of(workload: &Workload, number: u64) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestPut(PutRequest {
            key: name(workload, number),
            value: value(workload, number),
            ..PutRequest::default()
        })),
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: u64::MAX,
        member_id: 1 << 60,
        revision,
        raft_term: 3,
    })
}

fn kv(workload: &Workload, number: u64, mod_revision: i64) -> KeyValue {
    KeyValue {
        key: name(workload, number),
        value: value(workload, number),
        create_revision: 2,
        mod_revision,
        version: 7,
        lease: 0,
    }
}

fn range_answer(workload: &Workload, numbers: std::ops::Range<u64>) -> RangeResponse {
    let kvs: Vec<_> = numbers.map(|number| kv(workload, number, 5)).collect();
    RangeResponse {
        header: header(9),
        count: kvs.len() as i64,
        more: true,
        kvs,
    }
}

fn txn_answer(succeeded: bool, responses: Vec<Response>, revision: i64) -> TxnResponse {
    let responses = responses.into_iter().map(|response| ResponseOp {
        response: Some(response),
    });
    TxnResponse {
        header: header(revision),
        succeeded,
        responses: responses.collect(),
    }
}

fn puts_answer(count: usize, revision: i64) -> TxnResponse {
    let put = Response::ResponsePut(PutResponse {
        header: header(revision),
        prev_kv: None,
    });
    txn_answer(true, vec![put; count], revision)
}

fn judged(workload: &mut Workload, question: Question, answer: &impl Message) -> Verdict {
    Answer::read(&answer.encode_to_vec())
        .map_or(Verdict::Wrong, |answer| workload.judge(question, &answer))
}

const CHANGED: Verdict = Verdict::Good { changes: true };

#[test]
fn a_put_is_the_one_that_prost_knows() {
    for key_size in [8, 20, 48] {
        let mut workload = workload(|shape| shape.key_size = key_size);
        let (question, put) = sent::<PutRequest>(&mut workload, Ask::Put, 742);
        let expected = put_of(&workload, 742).request.unwrap();
        assert_eq!(Request::RequestPut(put), expected);
        let mut answer = PutResponse {
            header: header(12),
            prev_kv: None,
        };
        assert_eq!(judged(&mut workload, question, &answer), CHANGED);
        assert_eq!(workload.seen[742], 12);
        answer.header = header(1);
        assert_eq!(judged(&mut workload, question, &answer), Verdict::Wrong);
        answer.header = None;
        assert_eq!(judged(&mut workload, question, &answer), Verdict::Wrong);
    }
}

#[test]
fn a_get_wants_its_own_key_with_its_own_value() {
    for serializable in [false, true] {
        let mut workload = workload(|shape| shape.serializable = serializable);
        let (question, get) = sent::<RangeRequest>(&mut workload, Ask::Get, 3);
        let expected = RangeRequest {
            key: name(&workload, 3),
            serializable,
            ..RangeRequest::default()
        };
        assert_eq!(get, expected);
        let right = range_answer(&workload, 3..4);
        assert_eq!(judged(&mut workload, question, &right), UNCHANGED);
        for wrong in [4..5, 3..3, 3..5] {
            let wrong = range_answer(&workload, wrong);
            assert_eq!(judged(&mut workload, question, &wrong), Verdict::Wrong);
        }
        let mut cut = right.clone();
        cut.kvs[0].value.truncate(19);
        assert_eq!(judged(&mut workload, question, &cut), Verdict::Wrong);
        let mut from_the_future = right;
        from_the_future.kvs[0].mod_revision = 10;
        let verdict = judged(&mut workload, question, &from_the_future);
        assert_eq!(verdict, Verdict::Wrong);
    }
    // What is read back must be the newest.
    let mut workload = workload(|shape| shape.serializable = true);
    let (_, get) = sent::<RangeRequest>(&mut workload, Ask::ReadBack, 3);
    assert!(!get.serializable);
}

#[test]
fn a_range_wants_consecutive_keys_and_no_more_than_its_limit() {
    let mut workload = workload(|shape| {
        shape.limit = 10;
        shape.key_size = 8;
    });
    let (question, range) = sent::<RangeRequest>(&mut workload, Ask::Range, 500);
    assert_eq!(range.key, name(&workload, 500));
    let mut end = name(&workload, 999).to_vec();
    end.push(0);
    assert_eq!((range.range_end, range.limit), (end.into(), 10));
    let right = range_answer(&workload, 500..510);
    assert_eq!(judged(&mut workload, question, &right), UNCHANGED);
    let short = range_answer(&workload, 500..509);
    assert_eq!(judged(&mut workload, question, &short), Verdict::Wrong);
    let mut gap = right;
    gap.kvs[4] = kv(&workload, 700, 5);
    assert_eq!(judged(&mut workload, question, &gap), Verdict::Wrong);

    let (question, _) = sent::<RangeRequest>(&mut workload, Ask::Range, 997);
    let last = range_answer(&workload, 997..1000);
    assert_eq!(judged(&mut workload, question, &last), UNCHANGED);
}

#[test]
fn a_page_ends_where_the_next_begins() {
    let mut workload = workload(|shape| shape.keys = 2_500);
    let (question, page) = sent::<RangeRequest>(&mut workload, Ask::Page, 1_000);
    let expected = RangeRequest {
        key: name(&workload, 1_000),
        range_end: name(&workload, 2_000),
        serializable: true,
        ..RangeRequest::default()
    };
    assert_eq!(page, expected);
    let right = range_answer(&workload, 1_000..2_000);
    assert_eq!(judged(&mut workload, question, &right), UNCHANGED);
    // Other keys of the server are none of the workload's.
    let (_, page) = sent::<RangeRequest>(&mut workload, Ask::Page, 2_000);
    assert_eq!(page.range_end, name(&workload, 2_500));
    assert_eq!(workload.paged_by(2_000), 500);

    let whole = value(&workload, 1_000);
    let own = name(&workload, 1_000);
    assert!(workload.judge_whole(1_000, &own, &whole, 5));
    assert!(
        !workload.judge_whole(1_000, &own, &whole, 4),
        "an older revision"
    );
    assert!(!workload.judge_whole(1_001, &own, &whole, 5), "another key");
    let mut changed = whole.to_vec();
    changed[19] ^= 1;
    assert!(!workload.judge_whole(1_000, &own, &changed, 5));
}

#[test]
fn a_kubernetes_txn_compares_with_the_revision_seen_last() {
    let mut workload = workload(|shape| shape.workload = Kind::Txn);
    // Revisions of one to five bytes.
    for (place, revision) in [2, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 1 << 33]
        .into_iter()
        .enumerate()
    {
        let key = place as u32;
        workload.seen[place] = revision;
        for (ask, compared) in [(Ask::Txn, revision), (Ask::OutdatedTxn, revision - 1)] {
            let (question, txn) = sent::<TxnRequest>(&mut workload, ask, key);
            assert_eq!(question.compared, compared);
            let expected = TxnRequest {
                compare: vec![Compare {
                    result: 0,
                    target: MOD as i32,
                    key: name(&workload, u64::from(key)),
                    target_union: Some(TargetUnion::ModRevision(compared)),
                    ..Compare::default()
                }],
                success: vec![put_of(&workload, u64::from(key))],
                failure: vec![RequestOp {
                    request: Some(Request::RequestRange(RangeRequest {
                        key: name(&workload, u64::from(key)),
                        ..RangeRequest::default()
                    })),
                }],
            };
            assert_eq!(txn, expected);
        }
    }
}

#[test]
fn a_txn_conflicts_only_with_a_newer_revision() {
    let mut workload = workload(|shape| shape.workload = Kind::Txn);
    workload.seen[1] = 5;
    let (question, _) = sent::<TxnRequest>(&mut workload, Ask::Txn, 1);
    let (outdated, _) = sent::<TxnRequest>(&mut workload, Ask::OutdatedTxn, 1);
    let read = |workload: &Workload, mod_revision| {
        let mut range = range_answer(workload, 1..2);
        range.kvs[0].mod_revision = mod_revision;
        txn_answer(false, vec![Response::ResponseRange(range)], 20)
    };
    let unchanged = read(&workload, 5);
    assert_eq!(judged(&mut workload, question, &unchanged), Verdict::Wrong);
    assert_eq!(
        judged(&mut workload, outdated, &unchanged),
        Verdict::Conflict
    );
    let newer = read(&workload, 8);
    assert_eq!(judged(&mut workload, question, &newer), Verdict::Conflict);
    assert_eq!(workload.seen[1], 8);
    let done = puts_answer(1, 21);
    assert_eq!(judged(&mut workload, question, &done), CHANGED);
    assert_eq!(judged(&mut workload, outdated, &done), Verdict::Wrong);
    assert_eq!(workload.seen[1], 21);
}

#[test]
fn outdated_txns_come_as_often_as_demanded() {
    let mut workload = workload(|shape| {
        shape.workload = Kind::Txn;
        shape.conflict_percent = 5;
    });
    workload.seen.fill(2);
    let outdated = (0..20_000)
        .filter(|_| workload.draw(&mut Vec::new()).ask == Ask::OutdatedTxn)
        .count();
    assert!((800..1_200).contains(&outdated), "{outdated}");
}

#[test]
fn a_txn_of_puts_takes_neighbours_and_begins_anew_after_the_last() {
    let mut workload = workload(|shape| {
        shape.workload = Kind::TxnPuts;
        shape.batch = 4;
    });
    assert_eq!(workload.inner(), 4);
    let (question, txn) = sent::<TxnRequest>(&mut workload, Ask::TxnPuts, 998);
    let puts: Vec<_> = [998, 999, 0, 1]
        .into_iter()
        .map(|number| put_of(&workload, number))
        .collect();
    assert_eq!((txn.compare.len(), txn.success), (0, puts));
    let answer = puts_answer(4, 30);
    assert_eq!(judged(&mut workload, question, &answer), CHANGED);
    assert_eq!((workload.seen[1], workload.seen[2]), (30, 0));
    let answer = puts_answer(3, 30);
    assert_eq!(judged(&mut workload, question, &answer), Verdict::Wrong);
}

#[test]
fn a_txn_of_compares_puts_one_key() {
    let mut workload = workload(|shape| {
        shape.workload = Kind::TxnCompares;
        shape.batch = 128;
    });
    let (question, txn) = sent::<TxnRequest>(&mut workload, Ask::TxnCompares, 990);
    assert_eq!(txn.compare.len(), 128);
    for (place, compare) in txn.compare.iter().enumerate() {
        assert_eq!(compare.key, name(&workload, (990 + place as u64) % 1000));
        assert_eq!(compare.target_union, Some(TargetUnion::CreateRevision(0)));
        assert_eq!(
            (compare.result, compare.target),
            (GREATER as i32, CREATE as i32)
        );
    }
    assert_eq!(txn.success, [put_of(&workload, 990)]);
    let answer = puts_answer(1, 30);
    assert_eq!(judged(&mut workload, question, &answer), CHANGED);
}

#[test]
fn loading_writes_every_key_once() {
    for (keys, value_size) in [(1, 8), (127, 64), (128, 64), (1_000, 300), (3, 1_000_000)] {
        let mut workload = workload(|shape| {
            shape.keys = keys;
            shape.value_size = value_size;
        });
        let mut next = 0;
        while next < keys {
            let mut bytes = Vec::new();
            let question = workload.write(Ask::Load, next, &mut bytes);
            assert!(bytes.len() < 1_500_000);
            let txn = TxnRequest::decode(&*bytes).unwrap();
            for put in &txn.success {
                assert_eq!(*put, put_of(&workload, u64::from(next)));
                next += 1;
            }
            let answer = puts_answer(txn.success.len(), i64::from(next) + 1);
            assert_eq!(judged(&mut workload, question, &answer), CHANGED);
        }
        assert!(workload.seen.iter().all(|seen| *seen > 0));
    }
}

#[test]
fn reads_and_writes_come_in_the_wanted_ratio() {
    for (ratio, expected) in [(1.0 / 128.0, 155), (1.0, 10_000), (128.0, 19_845)] {
        let mut workload = workload(|shape| {
            shape.workload = Kind::Mixed;
            shape.read_ratio = ratio;
        });
        let reads = (0..20_000)
            .filter(|_| workload.draw(&mut Vec::new()).ask == Ask::Range)
            .count() as i64;
        assert!((reads - expected).abs() < 300, "{reads} of {expected}");
    }
}

#[test]
fn the_same_seed_draws_the_same_requests() {
    let draws = |seed| {
        let mut workload = workload(|shape| shape.seed = seed);
        let mut bytes = Vec::new();
        (0..100).for_each(|_| {
            workload.draw(&mut bytes);
        });
        bytes
    };
    assert_eq!(draws(1), draws(1));
    assert_ne!(draws(1), draws(2));
}

#[test]
fn no_bytes_of_a_server_end_the_generator() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut workload = workload(|shape| shape.workload = Kind::Txn);
    let range = range_answer(&workload, 0..3).encode_to_vec();
    let inner = Response::ResponseRange(range_answer(&workload, 0..1));
    let txn = txn_answer(false, vec![inner], 4).encode_to_vec();
    for round in 0..20_000 {
        let mut bytes = if round % 2 == 0 {
            range.clone()
        } else {
            txn.clone()
        };
        for _ in 0..random.usize(1..6) {
            let at = random.usize(0..bytes.len());
            bytes[at] = random.u8(..);
        }
        bytes.truncate(random.usize(0..=bytes.len()));
        let Some(answer) = Answer::read_with(&bytes, &mut |_| {}) else {
            continue;
        };
        for ask in [
            Ask::Get,
            Ask::Put,
            Ask::Txn,
            Ask::Page,
            Ask::Load,
            Ask::Range,
        ] {
            let question = Question {
                ask,
                key: 999,
                compared: 0,
            };
            workload.judge(question, &answer);
        }
    }
}

#[test]
fn a_list_goes_on_behind_the_last_key_at_the_revision_it_began_with() {
    let mut workload = workload(|shape| {
        shape.workload = Kind::ListPage;
        shape.limit = 300;
    });
    let (asked, _) = sent::<RangeRequest>(&mut workload, Ask::Revision, 0);
    let revision = range_answer(&workload, 0..1);
    assert_eq!(judged(&mut workload, asked, &revision), UNCHANGED);
    let (_, first) = sent::<RangeRequest>(&mut workload, Ask::ListPage, 0);
    assert_eq!(first.key, name(&workload, 0));
    let (question, later) = sent::<RangeRequest>(&mut workload, Ask::ListPage, 900);
    let behind = |number| [&name(&workload, number)[..], b"\0"].concat();
    assert_eq!(
        later,
        RangeRequest {
            key: behind(899).into(),
            range_end: behind(999).into(),
            limit: 300,
            revision: 9,
            ..RangeRequest::default()
        }
    );
    let mut answer = range_answer(&workload, 900..1000);
    assert_eq!(judged(&mut workload, question, &answer), Verdict::Wrong);
    answer.more = false;
    assert_eq!(judged(&mut workload, question, &answer), UNCHANGED);
    answer.count = 101;
    assert_eq!(judged(&mut workload, question, &answer), Verdict::Wrong);
}

#[test]
fn a_walk_draws_each_page_once() {
    let mut workload = workload(|shape| {
        shape.workload = Kind::ListPage;
        shape.limit = 300;
    });
    let mut pages: Vec<u32> = (0..4).map(|_| workload.draw(&mut Vec::new()).key).collect();
    pages.sort_unstable();
    assert_eq!(pages, [0, 300, 600, 900]);
    assert_eq!(workload.walk_pages(), Some(4));
}

#[test]
fn a_span_has_an_end_and_no_limit() {
    let mut workload = workload(|shape| {
        shape.limit = 100;
        shape.spans = true;
    });
    let (_, range) = sent::<RangeRequest>(&mut workload, Ask::Range, 200);
    assert_eq!(range.limit, 0);
    assert_eq!(range.range_end, name(&workload, 300));
    let (question, range) = sent::<RangeRequest>(&mut workload, Ask::Range, 950);
    assert_eq!(range.range_end, name(&workload, 1000));
    let answer = range_answer(&workload, 950..1000);
    assert_eq!(judged(&mut workload, question, &answer), UNCHANGED);
}

#[test]
fn counts_and_names_are_of_all_keys_and_carry_no_values() {
    for (kind, ask) in [(Kind::Count, Ask::Count), (Kind::KeysOnly, Ask::KeysOnly)] {
        let mut workload = workload(|shape| shape.workload = kind);
        let (question, range) = sent::<RangeRequest>(&mut workload, ask, 0);
        assert_eq!(question.ask, ask);
        assert_eq!(range.count_only, ask == Ask::Count);
        assert_eq!(range.keys_only, ask == Ask::KeysOnly);
        let mut answer = range_answer(&workload, 0..1000);
        assert_eq!(judged(&mut workload, question, &answer), Verdict::Wrong);
        if ask == Ask::Count {
            answer.kvs.clear();
        }
        answer.kvs.iter_mut().for_each(|kv| kv.value.clear());
        assert_eq!(judged(&mut workload, question, &answer), UNCHANGED);
        answer.count = 999;
        assert_eq!(judged(&mut workload, question, &answer), Verdict::Wrong);
    }
}
