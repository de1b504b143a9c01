use super::*;

/// [WIRE-9] etcd's interceptors stand between decoding and the handler.
#[test]
fn metadata_is_checked_before_the_request() {
    let mut bench = Bench::new();
    bench.api.services.backend.published.set_status(Status {
        leader: None,
        ..leading()
    });
    let mut meta = Metadata::default();
    meta.push(b"hasleader", b"true");
    let message = pb::RangeRequest {
        serializable: true,
        ..get("a")
    }
    .encode_to_vec();
    let stream = bench.ask_bytes(kv::RANGE, &message, &meta);
    assert_eq!(bench.error(stream), Error::NoLeader.status());
    meta.push(b"client-api-version", b"\xff");
    let stream = bench.ask_bytes(kv::RANGE, &message, &meta);
    assert_eq!(bench.error(stream), Error::InvalidClientApiVersion.status());
    let is_learner = true;
    bench.api.services.backend.published.set_status(Status {
        is_learner,
        ..leading()
    });
    assert_eq!(
        bench
            .range(&pb::RangeRequest {
                serializable: true,
                ..get("a")
            })
            .count,
        0
    );
    let stream = bench.ask(kv::RANGE, &get("a"));
    assert_eq!(bench.error(stream), Error::NotSupportedForLearner.status());
}

/// [MNT-1] [MNT-2] etcdctl prints these columns; a missing downgradeInfo crashes it.
#[test]
fn status_tells_of_the_member_and_its_alarms() {
    let mut bench = Bench::new();
    let alarms = vec![(MemberId(7), 1)];
    let view = ClusterView {
        alarms,
        ..Default::default()
    };
    bench.api.services.backend.published.set_cluster(view);
    let stream = bench.ask(maintenance::STATUS, &pb::StatusRequest {});
    let status: pb::StatusResponse = bench.answer(stream);
    assert_eq!(status.header.unwrap().revision, 1);
    assert_eq!(status.version, "3.7.3");
    assert_eq!(status.storage_version, "3.7.0");
    assert_eq!((status.raft_index, status.raft_applied_index), (4, 4));
    assert_eq!((status.raft_term, status.leader), (TERM, MEMBER));
    assert_eq!((status.db_size, status.db_size_in_use), (20_480, 16_384));
    assert_eq!(status.db_size_quota, 2 << 30);
    assert_eq!(status.errors, ["memberID:7  alarm:NOSPACE"]);
    assert!(status.downgrade_info.is_some());
}

/// [HASH-1] [HASH-3] Off the network loop, as they may take long.
#[test]
fn hashes_are_made_by_the_worker() {
    let mut bench = Bench::new();
    let asked = pb::HashKvRequest { revision: -5 };
    let stream = bench.ask(maintenance::HASH_KV, &asked);
    bench.turn();
    let hash: pb::HashKvResponse = bench.answer(stream);
    // No record: the CRC of the bucket's name alone (etcd-facts 10.4).
    assert_eq!(hash.hash, 1_084_519_789);
    assert_eq!((hash.compact_revision, hash.hash_revision), (-1, -5));
    let stream = bench.ask(maintenance::HASH_KV, &pb::HashKvRequest { revision: 9 });
    bench.turn();
    assert_eq!(bench.error(stream), Error::FutureRev.status());
}

#[test]
fn alarms_go_through_the_log_and_unknown_actions_do_not() {
    let mut bench = Bench::new();
    bench.ask(maintenance::ALARM, &pb::AlarmRequest::default());
    assert_eq!(bench.proposed()[0].1, 10);
    let unknown = pb::AlarmRequest {
        action: 3,
        ..Default::default()
    };
    let stream = bench.ask(maintenance::ALARM, &unknown);
    assert_eq!(bench.error(stream), Error::UnknownAlarmAction.status());
}

/// [LEASE-4] What would differ from member to member is decided before the log; what a client sends beside etcd's fields is
/// dropped, or it could forge a leader's fence.
#[test]
fn grants_and_revokes_are_proposed_with_all_that_is_drawn() {
    let mut bench = Bench::new();
    let mut granted = |ttl, id| {
        bench.ask(lease::LEASE_GRANT, &pb::LeaseGrantRequest { ttl, id });
        let (_, field, body) = bench.proposed().remove(0);
        assert_eq!(field, 8);
        let grant = pb::LeaseGrantRequest::decode(&body[..]).unwrap();
        (grant.ttl, grant.id)
    };
    assert_eq!(granted(-1, -5), (2, -5));
    let (ttl, id) = granted(i64::MAX, 0);
    assert_eq!(ttl, i64::MAX);
    assert_eq!(id >> 48, MEMBER as i64);
    assert_ne!(granted(60, 0), (60, id));
    let forged = [8, 5, 0xa0, 6, 2, 0xa8, 6, 1];
    bench.ask_bytes(lease::LEASE_REVOKE, &forged, &Metadata::default());
    let (_, field, body) = bench.proposed().remove(0);
    assert_eq!((field, body), (9, vec![8, 5]));
}

/// [LEASE-2] [LEASE-3] Questions go to the leader, and their answers overtake proposals.
#[test]
fn questions_about_leases_are_asked_outside_of_the_log() {
    let mut bench = Bench::new();
    let put = bench.ask(
        kv::PUT,
        &pb::PutRequest {
            key: "a".into(),
            ..Default::default()
        },
    );
    let asked = pb::LeaseTimeToLiveRequest { id: 5, keys: true };
    let first = bench.ask(lease::LEASE_TIME_TO_LIVE, &asked);
    let second = bench.ask(lease::LEASE_LEASES, &pb::LeaseLeasesRequest {});
    let backend = &mut bench.api.services.backend;
    let asked = std::mem::take(&mut backend.asked);
    let time_to_live = Ask::TimeToLive {
        id: LeaseId(5),
        keys: true,
    };
    assert_eq!((asked[0].1, asked[1].1), (time_to_live, Ask::Leases));
    let none = Outcome::Encoded { start: 0, end: 0 };
    for (to, _) in asked.iter().rev() {
        backend.answers.push((*to, none));
    }
    bench.turn();
    for stream in [first, second] {
        assert_eq!(bench.calls.ended[&stream], Ended::OK);
    }
    assert!(!bench.calls.ended.contains_key(&put));
    bench.api.services.backend.is_busy = true;
    let busy = bench.ask(lease::LEASE_LEASES, &pb::LeaseLeasesRequest {});
    assert_eq!(bench.error(busy), Error::TooManyRequests.status());
}

/// [HDR-2] [MEM-1] Clients take the endpoints from this list.
#[test]
fn members_are_listed_without_a_revision() {
    let mut bench = Bench::new();
    let member = pb::Member {
        id: MEMBER,
        name: "default".to_owned(),
        peer_urls: vec!["http://localhost:2380".to_owned()],
        client_urls: vec!["http://localhost:2379".to_owned()],
        is_learner: false,
    };
    let members = vec![member.clone()];
    let view = ClusterView {
        members,
        ..Default::default()
    };
    bench.api.services.backend.published.set_cluster(view);
    let asked = pb::MemberListRequest { linearizable: true };
    let stream = bench.ask(cluster::MEMBER_LIST, &asked);
    let list: pb::MemberListResponse = bench.answer(stream);
    assert_eq!(
        (list.header.unwrap().revision, list.members),
        (0, vec![member])
    );
}

/// [MNT-3] [MNT-8] One member can only hand over to itself.
#[test]
fn leadership_moves_to_nobody_else() {
    let mut bench = Bench::new();
    let to = |target_id| pb::MoveLeaderRequest { target_id };
    let stream = bench.ask(maintenance::MOVE_LEADER, &to(5));
    assert_eq!(bench.error(stream), Error::BadLeaderTransferee.status());
    let stream = bench.ask(maintenance::MOVE_LEADER, &to(MEMBER));
    assert_eq!(bench.answer::<pb::MoveLeaderResponse>(stream).header, None);
    let stream = bench.ask(maintenance::DEFRAGMENT, &pb::DefragmentRequest {});
    assert_eq!(bench.answer::<pb::DefragmentResponse>(stream).header, None);
}

/// [MNT-3] A defragmentation is answered from where it came in: nothing is proposed, nothing given to the worker.
#[test]
fn a_defragmentation_is_answered_at_once() {
    let mut bench = Bench::new();
    let stream = bench.ask(maintenance::DEFRAGMENT, &pb::DefragmentRequest {});
    assert_eq!(bench.answer::<pb::DefragmentResponse>(stream).header, None);
    let backend = bench.api.backend_mut();
    assert!(backend.proposed.is_empty());
    assert!(backend.works.is_empty());
}

/// [HEALTH-1] What load balancers ask.
#[test]
fn health_is_serving_and_other_services_are_unknown() {
    use basalt_pb::grpc_health_v1::{HealthCheckRequest, HealthCheckResponse, HealthListResponse};
    let mut bench = Bench::new();
    let of = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let stream = bench.ask(health::CHECK, &of(""));
    assert_eq!(bench.answer::<HealthCheckResponse>(stream).status, 1);
    let stream = bench.ask(health::CHECK, &of("x"));
    assert_eq!(
        bench.error(stream),
        Ended::new(Code::NotFound, "unknown service")
    );
    let stream = bench.ask(health::WATCH, &of("x"));
    assert!(!bench.calls.ended.contains_key(&stream));
    let status = HealthCheckResponse::decode(&bench.calls.messages[&stream][0][..]).unwrap();
    assert_eq!(status.status, 3);
    let stream = bench.ask(health::LIST, &of(""));
    let list: HealthListResponse = bench.answer(stream);
    assert_eq!(list.statuses[""].status, 1);
}
