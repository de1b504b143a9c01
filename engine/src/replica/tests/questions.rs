//! Leases of a cluster: questions that only the leader answers, on every member and across leaders.

use super::cluster::*;
use super::*;
use crate::types::LeaseId;

impl Cluster {
    fn grant(&mut self, number: u64, ttl: i64) {
        let grant = pb::LeaseGrantRequest { ttl, id: 7 };
        self.propose(number, field::LEASE_GRANT, &grant);
        let put = pb::PutRequest {
            lease: 7,
            ..put("key", "v")
        };
        self.propose(number, field::PUT, &put);
        self.settle();
    }

    /// The answer's stream.
    fn ask(&mut self, number: u64, ask: Ask) -> u32 {
        let to = self.next_stream();
        let mut batch = Proposals::new();
        assert!(batch.ask(to, ask));
        let replica = &mut self.at(number).replica;
        replica.propose(&mut batch).expect("room");
        to.stream
    }

    fn renew(&mut self, number: u64) -> u32 {
        self.ask(number, Ask::KeepAlive(LeaseId(7)))
    }

    fn look(&mut self, number: u64) -> u32 {
        let id = LeaseId(7);
        self.ask(number, Ask::TimeToLive { id, keys: true })
    }

    /// Seconds that the renewal was answered with, if it was.
    fn renewed(&mut self, number: u64, stream: u32) -> Option<i64> {
        let bytes = self.at(number).encoded.remove(&stream)?;
        let answer = pb::LeaseKeepAliveResponse::decode(&bytes[..]).expect("an answer");
        assert_eq!(answer.id, 7);
        Some(answer.ttl)
    }

    /// Seconds left and granted, and how many keys; of the member that was asked.
    fn looked(&mut self, number: u64, stream: u32) -> Option<(i64, i64, usize)> {
        let bytes = self.at(number).encoded.remove(&stream)?;
        let answer = pb::LeaseTimeToLiveResponse::decode(&bytes[..]).expect("an answer");
        assert_eq!(answer.header.expect("a header").member_id, id(number).0);
        Some((answer.ttl, answer.granted_ttl, answer.keys.len()))
    }

    fn is_there(&mut self, number: u64) -> bool {
        let grants = self.at(number).replica.machine.store().grants();
        grants.get(LeaseId(7)).is_some()
    }

    fn log_end(&mut self, number: u64) -> Index {
        self.at(number).replica.raft.log().last().index
    }
}

/// Whoever is asked, the leader's clock answers, and it costs no entry.
#[test]
fn leases_are_renewed_and_looked_at_through_any_member() {
    let (mut cluster, leader) = Cluster::led(3);
    cluster.grant(cluster.members.len() as u64, 10);
    let end = cluster.log_end(leader);
    for number in (1..=3).cycle().take(6) {
        cluster.pass(6_000);
        let looked = cluster.look(number);
        let renewed = cluster.renew(number);
        cluster.settle();
        let (left, granted, keys) = cluster.looked(number, looked).expect("answered");
        assert!((3..=4).contains(&left));
        assert_eq!((granted, keys), (10, 1));
        assert_eq!(cluster.renewed(number, renewed), Some(10));
    }
    assert_eq!(cluster.log_end(leader), end);
    cluster.pass(11_000);
    for number in 1..=3 {
        assert!(!cluster.is_there(number));
        let looked = cluster.look(number);
        let renewed = cluster.renew(number);
        cluster.settle();
        assert_eq!(cluster.looked(number, looked), Some((-1, 0, 0)));
        assert_eq!(cluster.renewed(number, renewed), Some(0));
    }
}

/// C3, M18: a leader that was stopped, and does not know that there is another one, renews nothing and ends nothing.
#[test]
fn a_leader_that_was_stopped_neither_renews_nor_ends_leases() {
    let (mut cluster, leader) = Cluster::led(3);
    cluster.grant(leader, 10);
    let early = cluster.renew(leader);
    cluster.paused.insert(leader);
    cluster.cut.insert(id(leader));
    cluster.pass(5_000);
    let next = cluster.leader();
    assert_ne!(next, leader);
    let end = cluster.log_end(leader);
    cluster.paused.clear();
    // All that it was asked before and after is confirmed by nobody.
    let late = cluster.renew(leader);
    cluster.settle();
    cluster.pass(15_000);
    assert_eq!(cluster.log_end(leader), end);
    assert!(cluster.is_there(leader));
    assert!(!cluster.is_there(next));
    assert_eq!(cluster.renewed(leader, early), None);
    assert_eq!(cluster.renewed(leader, late), None);
    let waiting = cluster.renew(leader);
    cluster.cut.clear();
    cluster.pass(2_000);
    assert_eq!(cluster.renewed(leader, waiting), Some(0));
}

/// C3: a leader that was stopped proposes no end before it has heard of a majority again.
#[test]
fn a_leader_that_resumes_asks_before_it_ends_leases() {
    let (mut cluster, leader) = Cluster::led(3);
    cluster.grant(leader, 2);
    let end = cluster.log_end(leader);
    // Everybody is stopped at once, so nobody takes over.
    cluster.now = cluster.now.plus(Millis(5_000));
    let now = cluster.now;
    cluster.at(leader).replica.turn(now);
    assert!(cluster.at(leader).replica.raft.is_leader());
    assert_eq!(cluster.log_end(leader), end);
    cluster.pass(3_000);
    cluster.leader();
    cluster.pass(5_000);
    assert!(!cluster.is_there(leader));
}

/// C3: the renewal may be unknown to the next leader, so each lease lives its whole time again, and an election; no longer.
#[test]
fn no_lease_ends_early_over_a_change_of_leaders() {
    let (mut cluster, leader) = Cluster::led(3);
    cluster.grant(leader, 10);
    cluster.pass(9_000);
    let stream = cluster.renew(leader);
    cluster.settle();
    assert_eq!(cluster.renewed(leader, stream), Some(10));
    let renewed = cluster.now;
    cluster.cut.insert(id(leader));
    let next = cluster.leader();
    let elected = cluster.now;
    while cluster.is_there(next) {
        cluster.pass(20);
    }
    assert!(cluster.now.since(renewed) >= Millis(10_000));
    let election = cluster.at(next).replica.config.raft.election;
    let longest = Millis(10_000).plus(election).plus(Millis(500));
    assert!(cluster.now.since(elected) <= longest);
}

/// N1: a question, or its answer, may be lost; it is asked again.
#[test]
fn a_lost_question_is_asked_again() {
    let (mut cluster, leader) = Cluster::led(3);
    cluster.grant(leader, 60);
    let follower = cluster.follower();
    let stream = cluster.renew(follower);
    cluster.cut.insert(id(follower));
    cluster.settle();
    cluster.cut.clear();
    cluster.settle();
    assert_eq!(cluster.renewed(follower, stream), None);
    cluster.pass(1_200);
    assert_eq!(cluster.renewed(follower, stream), Some(60));
}

/// As etcd: who finds no leader is told so after the time of a request; with a new leader the question is answered.
#[test]
fn questions_wait_for_a_leader() {
    let (mut cluster, leader) = Cluster::led(3);
    cluster.grant(leader, 60);
    let follower = cluster.follower();
    cluster.cut.insert(id(follower));
    cluster.pass(3_000);
    let lost = cluster.renew(follower);
    cluster.pass(6_000);
    assert_eq!(cluster.answer(follower, lost), None);
    cluster.pass(2_000);
    let refused = Outcome::Refused(Refused::NoLeader);
    assert_eq!(cluster.answer(follower, lost), Some(refused));
    let stream = cluster.look(follower);
    cluster.pass(3_000);
    cluster.cut.clear();
    cluster.pass(3_000);
    assert_eq!(cluster.looked(follower, stream).map(|it| it.2), Some(1));
}

/// Nobody waits for ever on a member that stops.
#[test]
fn a_follower_that_stops_refuses_what_it_has_asked() {
    let (mut cluster, leader) = Cluster::led(3);
    cluster.grant(leader, 60);
    let follower = cluster.follower();
    cluster.cut.insert(id(follower));
    let stream = cluster.renew(follower);
    cluster.settle();
    cluster.at(follower).replica.stop();
    cluster.settle();
    let refused = Outcome::Refused(Refused::Stopped);
    assert_eq!(cluster.answer(follower, stream), Some(refused));
}
