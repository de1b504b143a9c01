use super::*;
use basalt_engine::apply::Quota;

/// [PUT-1] [PUT-5] A Put's bytes go into the log as they came; its answer is the header.
#[test]
fn puts_are_proposed_and_answered() {
    let mut bench = Bench::new();
    let put = pb::PutRequest {
        key: "a".into(),
        value: "1".into(),
        ..Default::default()
    };
    let stream = bench.ask(kv::PUT, &put);
    let proposed = bench.proposed();
    assert_eq!((proposed[0].1, &proposed[0].2), (4, &put.encode_to_vec()));
    bench.turn();
    assert!(!bench.calls.ended.contains_key(&stream));
    let outcome = Outcome::Put {
        revision: 2,
        term: Term(TERM),
    };
    bench
        .api
        .services
        .backend
        .answers
        .push((proposed[0].0, outcome));
    bench.turn();
    let response: pb::PutResponse = bench.answer(stream);
    assert_eq!(response.header.unwrap().revision, 2);

    let stream = bench.ask(kv::PUT, &put);
    let to = bench.proposed()[0].0;
    let refused = Outcome::Refused(Refused::LeaseNotFound);
    bench.api.services.backend.answers.push((to, refused));
    bench.turn();
    assert_eq!(bench.error(stream), Error::LeaseNotFound.status());
}

/// [PUT-7] [PUT-8] [DEL-4] In etcd's order of checks.
#[test]
fn bad_writes_are_refused_before_the_log() {
    let mut bench = Bench::new();
    let put = pb::PutRequest {
        key: "a".into(),
        value: "1".into(),
        lease: 5,
        ignore_value: true,
        ignore_lease: true,
        ..Default::default()
    };
    let cases = [
        (
            pb::PutRequest {
                key: "".into(),
                ..put.clone()
            },
            Error::EmptyKey,
        ),
        (put.clone(), Error::ValueProvided),
        (
            pb::PutRequest {
                value: "".into(),
                ..put.clone()
            },
            Error::LeaseProvided,
        ),
        (
            pb::PutRequest {
                value: vec![0; 1_572_860].into(),
                ignore_value: false,
                ignore_lease: false,
                ..put
            },
            Error::RequestTooLarge,
        ),
    ];
    for (put, error) in cases {
        let stream = bench.ask(kv::PUT, &put);
        assert_eq!(bench.error(stream), error.status());
    }
    let stream = bench.ask(kv::DELETE_RANGE, &pb::DeleteRangeRequest::default());
    assert_eq!(bench.error(stream), Error::EmptyKey.status());
    assert!(bench.proposed().is_empty());
}

/// The backlog answers at once instead of waiting.
#[test]
fn a_backlog_is_told() {
    let mut bench = Bench::new();
    let put = pb::PutRequest {
        key: "a".into(),
        ..Default::default()
    };
    bench.api.services.backend.is_busy = true;
    let stream = bench.ask(kv::PUT, &put);
    assert_eq!(bench.error(stream), Error::TooManyRequests.status());
    bench.api.services.backend.is_busy = false;
    let committed = Index(leading().applied.0 + 5001);
    bench.api.services.backend.published.set_status(Status {
        committed,
        ..leading()
    });
    let stream = bench.ask(kv::PUT, &put);
    assert_eq!(bench.error(stream), Error::TooManyRequests.status());
}

#[test]
fn proposals_without_an_answer_time_out() {
    let mut bench = Bench::new();
    let put = pb::PutRequest {
        key: "a".into(),
        ..Default::default()
    };
    let stream = bench.ask(kv::PUT, &put);
    assert_eq!(bench.turn(), Some(bench.now + Duration::from_secs(7)));
    bench.now += Duration::from_secs(7);
    assert_eq!(bench.turn(), None);
    assert_eq!(bench.error(stream), Error::Timeout.status());
    // The answer that comes after all finds nobody.
    let to = bench.proposed()[0].0;
    bench
        .api
        .services
        .backend
        .answers
        .push((to, Outcome::Refused(Refused::Stopped)));
    bench.turn();
    assert_eq!(bench.error(stream), Error::Timeout.status());
}

/// [MNT-9] Before anything else of the request is looked at, and with the alarm raised first.
#[test]
fn puts_above_the_quota_raise_the_alarm() {
    let mut bench = Bench::new();
    bench.api.services.quota = Quota::from_flag(16_384 + 256);
    let stream = bench.ask(kv::PUT, &pb::PutRequest::default());
    let (to, field, body) = bench.proposed().remove(0);
    assert_eq!(field, 10);
    let alarm = pb::AlarmRequest::decode(&body[..]).unwrap();
    assert_eq!((alarm.action, alarm.member_id, alarm.alarm), (1, MEMBER, 1));
    bench.turn();
    assert!(!bench.calls.ended.contains_key(&stream));
    bench
        .api
        .services
        .backend
        .answers
        .push((to, Outcome::Encoded { start: 0, end: 0 }));
    bench.turn();
    assert_eq!(bench.error(stream), Error::NoSpace.status());

    bench.api.services.quota = Quota::from_flag(-1);
    let put = pb::PutRequest {
        key: "a".into(),
        ..Default::default()
    };
    bench.ask(kv::PUT, &put);
    assert_eq!(bench.proposed()[0].1, 4);
    bench.api.services.quota = Quota::from_flag(20_480);
    bench.ask(
        kv::DELETE_RANGE,
        &pb::DeleteRangeRequest {
            key: "a".into(),
            ..Default::default()
        },
    );
    assert_eq!(bench.proposed()[0].1, 5);
}

#[test]
fn writing_transactions_are_proposed() {
    let mut bench = Bench::new();
    let nested = pb::request_op::Request::RequestTxn(pb::TxnRequest::default());
    let request = pb::TxnRequest {
        success: vec![pb::RequestOp {
            request: Some(nested),
        }],
        ..Default::default()
    };
    bench.ask(kv::TXN, &request);
    assert_eq!(bench.proposed()[0].1, 6);
}

/// [TXN-1] [TXN-2] Transactions of ranges are answered without the log.
#[test]
fn read_only_transactions_are_answered_from_a_view() {
    let mut bench = Bench::new();
    bench.put("a", "1");
    let request = pb::TxnRequest {
        compare: vec![compare_version("a", 1), compare_version("b", 0)],
        success: vec![ranged(get("a")), ranged(prefix("a", "z"))],
        failure: vec![ranged(get("b"))],
    };
    let stream = bench.ask(kv::TXN, &request);
    let response: pb::TxnResponse = bench.answer(stream);
    assert!(response.succeeded);
    assert_eq!(response.header.unwrap().revision, 2);
    assert_eq!(response.responses.len(), 2);
    let Some(pb::response_op::Response::ResponseRange(range)) = &response.responses[0].response
    else {
        panic!("{response:?}");
    };
    // The header of an operation's answer has the revision alone.
    let header = pb::ResponseHeader {
        revision: 2,
        ..Default::default()
    };
    assert_eq!((range.header, range.count), (Some(header), 1));
    assert!(bench.proposed().is_empty());

    let mut other = request.clone();
    other.compare.push(compare_version("a", 7));
    let stream = bench.ask(kv::TXN, &other);
    let response: pb::TxnResponse = bench.answer(stream);
    assert_eq!((response.succeeded, response.responses.len()), (false, 1));
}

/// [TXN-9] Negative revisions are compared with the compacted one.
#[test]
fn revisions_inside_transactions_have_bounds_of_their_own() {
    let mut bench = Bench::new();
    bench.put("a", "1");
    let ended = |bench: &mut Bench, revision| {
        let range = pb::RangeRequest {
            revision,
            ..get("a")
        };
        let request = pb::TxnRequest {
            success: vec![ranged(range)],
            ..Default::default()
        };
        let stream = bench.ask(kv::TXN, &request);
        bench.calls.ended[&stream].clone()
    };
    assert_eq!(ended(&mut bench, -1), Ended::OK);
    assert_eq!(ended(&mut bench, -2), Error::Compacted.status());
    assert_eq!(ended(&mut bench, 3), Error::FutureRev.status());
}

/// [CMP-2] [CMP-3] Of a range and of nothing.
#[test]
fn comparisons_over_a_range_must_hold_for_every_key() {
    let mut bench = Bench::new();
    bench.put("a", "1");
    bench.put("b", "2");
    let succeeded = |bench: &mut Bench, end: &str, result: i32, value: &str| {
        let compare = pb::Compare {
            result,
            target: 3,
            key: "a".into(),
            range_end: end.to_owned().into(),
            target_union: Some(pb::compare::TargetUnion::Value(value.to_owned().into())),
        };
        let request = pb::TxnRequest {
            compare: vec![compare],
            ..Default::default()
        };
        let stream = bench.ask(kv::TXN, &request);
        bench.answer::<pb::TxnResponse>(stream).succeeded
    };
    assert!(succeeded(&mut bench, "c", 1, "0"));
    assert!(!succeeded(&mut bench, "c", 0, "1"));
    assert!(succeeded(&mut bench, "b", 0, "1"));
    // Ends before it begins: no key, and no key has no value.
    assert!(!succeeded(&mut bench, "A", 3, "1"));
}

/// [WIRE-3] A message that proto allows and the readers do not.
#[test]
fn transactions_with_split_operations_are_put_together() {
    let mut bench = Bench::new();
    bench.put("k", "1");
    // success { request_range { key: "x" } request_range { key: "k" } }: merged, the last key wins.
    let op = [0x0a, 3, 0x0a, 1, b'x', 0x0a, 3, 0x0a, 1, b'k'];
    let message = [&[0x12, 10][..], &op].concat();
    let stream = bench.ask_bytes(kv::TXN, &message, &Metadata::default());
    let response: pb::TxnResponse = bench.answer(stream);
    assert!(matches!(
        &response.responses[0].response,
        Some(pb::response_op::Response::ResponseRange(range)) if range.count == 1
    ));
}

fn compare_version(key: &str, version: i64) -> pb::Compare {
    pb::Compare {
        key: key.to_owned().into(),
        target_union: Some(pb::compare::TargetUnion::Version(version)),
        ..Default::default()
    }
}

fn ranged(request: pb::RangeRequest) -> pb::RequestOp {
    let request = Some(pb::request_op::Request::RequestRange(request));
    pb::RequestOp { request }
}
