use basalt_engine::types::ReplyTo;

use super::*;
use crate::api::Order;

fn member(id: u64, name: &str, is_learner: bool) -> pb::Member {
    pb::Member {
        id,
        name: name.to_owned(),
        peer_urls: vec![format!("http://127.0.0.1:{id}")],
        is_learner,
        ..pb::Member::default()
    }
}

/// Members 9 (this one), 10 and 11, all started and connected since long ago.
fn three() -> Bench {
    let mut bench = Bench::new();
    set_members(
        &mut bench,
        vec![
            member(9, "a", false),
            member(10, "b", false),
            member(11, "c", false),
        ],
    );
    let long_ago = Instant::now() - Duration::from_secs(60);
    for id in [10, 11] {
        bench
            .api
            .services
            .config
            .connectivity
            .set(MemberId(id), Some(long_ago));
    }
    bench
}

fn set_members(bench: &mut Bench, members: Vec<pb::Member>) {
    bench
        .api
        .services
        .backend
        .published
        .set_cluster(ClusterView {
            members,
            ..ClusterView::default()
        });
}

fn add(bench: &mut Bench, urls: &[&str], is_learner: bool) -> u32 {
    let request = pb::MemberAddRequest {
        peer_urls: urls.iter().map(|url| (*url).to_owned()).collect(),
        is_learner,
    };
    bench.ask(cluster::MEMBER_ADD, &request)
}

fn ordered(bench: &mut Bench) -> (ReplyTo, Order) {
    let mut orders = std::mem::take(&mut bench.api.services.backend.orders);
    assert_eq!(orders.len(), 1);
    orders.remove(0)
}

/// [MEM-2] A change goes to the replica and its answer lists the members as they are then.
#[test]
fn an_added_member_is_answered_with_the_whole_list() {
    let mut bench = three();
    let stream = add(&mut bench, &[" http://b:2", "http://a:1"], true);
    let (to, order) = ordered(&mut bench);
    let Order::Change(change) = order else {
        panic!("{order:?}")
    };
    let id = change.member.0;
    let json = format!(r#"{{"id":{id},"peerURLs":["http://a:1","http://b:2"],"isLearner":true}}"#);
    assert_eq!(change.context, json);
    let added = pb::Member {
        id,
        is_learner: true,
        ..pb::Member::default()
    };
    set_members(&mut bench, vec![member(9, "a", false), added.clone()]);
    bench
        .api
        .services
        .backend
        .answers
        .push((to, Outcome::MembersChanged));
    bench.turn();
    let answer: pb::MemberAddResponse = bench.answer(stream);
    assert_eq!(answer.member, Some(added));
    assert_eq!(answer.members.len(), 2);
    assert_eq!(answer.header.expect("one").revision, 0);
}

/// [MEM-2] etcd-facts 16.1: a change that would lose the quorum is refused before it is proposed.
#[test]
fn changes_that_endanger_the_quorum_are_refused() {
    let mut bench = three();
    let bad = add(&mut bench, &[], false);
    assert_eq!(bench.error(bad), Error::MemberBadUrls.status());
    let bad = add(&mut bench, &["ftp://x:1"], false);
    assert_eq!(bench.error(bad), Error::MemberBadUrls.status());
    // Of four voters three are a quorum: with one just connected there are only two.
    bench
        .api
        .services
        .config
        .connectivity
        .set(MemberId(10), Some(Instant::now()));
    let unhealthy = add(&mut bench, &["http://d:1"], false);
    assert_eq!(bench.error(unhealthy), Error::Unhealthy.status());
    let remove = |id: u64| pb::MemberRemoveRequest { id };
    let unhealthy = bench.ask(cluster::MEMBER_REMOVE, &remove(11));
    assert_eq!(bench.error(unhealthy), Error::Unhealthy.status());
    // One that is down may go.
    bench
        .api
        .services
        .config
        .connectivity
        .set(MemberId(10), None);
    bench.ask(cluster::MEMBER_REMOVE, &remove(10));
    let (_, order) = ordered(&mut bench);
    assert!(matches!(order, Order::Change(change) if change.member == MemberId(10)));

    let mut bench = three();
    let members = vec![
        member(9, "a", false),
        member(10, "", false),
        member(11, "", true),
    ];
    set_members(&mut bench, members);
    let refused = add(&mut bench, &["http://d:1"], false);
    assert_eq!(bench.error(refused), Error::MemberNotEnoughStarted.status());
    let refused = add(&mut bench, &["http://d:1"], true);
    assert_eq!(bench.error(refused), Error::TooManyLearners.status());
    let refused = bench.ask(cluster::MEMBER_REMOVE, &remove(9));
    assert_eq!(bench.error(refused), Error::MemberNotEnoughStarted.status());
    let promote = |id: u64| pb::MemberPromoteRequest { id };
    for (id, error) in [(12, Error::MemberNotFound), (10, Error::MemberNotLearner)] {
        let refused = bench.ask(cluster::MEMBER_PROMOTE, &promote(id));
        assert_eq!(bench.error(refused), error.status());
    }
    bench.ask(cluster::MEMBER_PROMOTE, &promote(11));
    let (to, order) = ordered(&mut bench);
    let Order::Change(change) = order else {
        panic!("{order:?}")
    };
    assert_eq!(
        change.context,
        r#"{"id":11,"peerURLs":[],"isPromote":true}"#
    );
    let refused = Outcome::Refused(Refused::LearnerNotReady);
    bench.api.services.backend.answers.push((to, refused));
    bench.turn();
    let stream = bench.next_stream - 2;
    assert_eq!(bench.error(stream), Error::LearnerNotReady.status());
}

/// [MEM-4] All reads of a turn share one question, and its answer is theirs alone.
#[test]
fn reads_that_came_before_the_question_are_answered_with_it() {
    let mut bench = three();
    bench.put("a", "1");
    bench.api.services.backend.published.read_gate().set(false);
    let (first, second) = (
        bench.ask(kv::RANGE, &get("a")),
        bench.ask(kv::RANGE, &get("a")),
    );
    bench.turn();
    let (round, order) = ordered(&mut bench);
    assert!(matches!(order, Order::ConfirmReads));
    let later = bench.ask(kv::RANGE, &get("a"));
    bench.put("a", "2");
    bench
        .api
        .services
        .backend
        .answers
        .push((round, Outcome::Readable));
    bench.turn();
    for stream in [first, second] {
        let answer: pb::RangeResponse = bench.answer(stream);
        assert_eq!(answer.kvs[0].value, "2");
    }
    assert!(!bench.calls.ended.contains_key(&later));
    let (round, _) = ordered(&mut bench);
    let lost = Outcome::Refused(Refused::LeaderChanged);
    bench.api.services.backend.answers.push((round, lost));
    bench.turn();
    assert_eq!(bench.error(later), Error::LeaderChanged.status());
}

/// [MEM-5]
#[test]
fn the_leader_hands_over_to_voters_only() {
    let mut bench = three();
    let mut members = vec![
        member(9, "a", false),
        member(10, "b", false),
        member(11, "c", true),
    ];
    members[2].is_learner = true;
    set_members(&mut bench, members);
    let ask = |bench: &mut Bench, target_id| {
        bench.ask(
            maintenance::MOVE_LEADER,
            &pb::MoveLeaderRequest { target_id },
        )
    };
    for target in [11, 12] {
        let refused = ask(&mut bench, target);
        assert_eq!(bench.error(refused), Error::BadLeaderTransferee.status());
    }
    let stream = ask(&mut bench, 10);
    let (to, order) = ordered(&mut bench);
    assert!(matches!(order, Order::MoveLeader(MemberId(10))));
    bench
        .api
        .services
        .backend
        .answers
        .push((to, Outcome::Transferred));
    bench.turn();
    let _: pb::MoveLeaderResponse = bench.answer(stream);
}
