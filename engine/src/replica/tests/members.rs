//! Members that come, are promoted, or go on alone.

use super::cluster::*;
use super::*;
use crate::raft::config::Step;

/// A fourth member joins as a learner with an empty directory, catches up, and is promoted; then it counts.
#[test]
fn a_member_joins_and_is_promoted() {
    let (mut cluster, leader) = Cluster::led(3);
    cluster.put(leader, "a", "1");
    cluster.settle();
    // Through a follower, which forwards.
    let follower = cluster.follower();
    let stream = cluster.change(follower, Step::AddLearner(id(4)), 4);
    cluster.settle();
    assert_eq!(
        cluster.answer(follower, stream),
        Some(Outcome::MembersChanged)
    );
    cluster.start(4, MemDisk::default(), Vec::new());
    cluster.pass(1_000);
    assert_eq!(cluster.revision(4), 2);
    let status = cluster.at(4).replica.published().status();
    assert!(status.is_learner);
    assert!(status.is_ready);
    let stream = cluster.change(leader, Step::AddVoter(id(4)), 4);
    cluster.pass(500);
    assert_eq!(
        cluster.answer(leader, stream),
        Some(Outcome::MembersChanged)
    );
    assert!(!cluster.at(4).replica.published().status().is_learner);
    let known: Vec<Index> = cluster.at(leader).replica.peers().map(|it| it.1).collect();
    let last = cluster.at(leader).replica.raft.log().last().index;
    assert_eq!(known, [last; 3]);
    cluster.restart(4);
    cluster.pass(500);
    assert_eq!(cluster.revision(4), 2);
}

/// Only the leader knows how much of the log a learner has: a follower that is asked to promote it hears the leader's no.
#[test]
fn a_learner_that_lags_is_not_promoted_through_any_member() {
    let (mut cluster, leader) = Cluster::led(3);
    for number in 0..20 {
        cluster.put(leader, "a", &number.to_string());
    }
    cluster.change(leader, Step::AddLearner(id(4)), 4);
    cluster.settle();
    for asked in [leader, cluster.follower()] {
        let stream = cluster.change(asked, Step::AddVoter(id(4)), 4);
        cluster.pass(500);
        assert_eq!(
            cluster.answer(asked, stream),
            Some(Outcome::Refused(Refused::LearnerNotReady))
        );
    }
    let follower = cluster.follower();
    cluster.start(4, MemDisk::default(), Vec::new());
    cluster.pass(1_000);
    let stream = cluster.change(follower, Step::AddVoter(id(4)), 4);
    cluster.pass(500);
    assert_eq!(
        cluster.answer(follower, stream),
        Some(Outcome::MembersChanged)
    );
}

/// The majority is gone for good: one member goes on alone with all that it holds, and others may be added again.
#[test]
fn a_member_that_is_forced_goes_on_alone_with_its_data() {
    let (mut cluster, leader) = Cluster::led(3);
    cluster.put(leader, "a", "1");
    cluster.settle();
    let kept = cluster.follower();
    cluster.members.retain(|number, _| *number == kept);
    cluster.restart_alone(kept);
    cluster.pass(100);
    let seen = cluster.at(kept).replica.published().cluster();
    let ids: Vec<u64> = seen.members.iter().map(|member| member.id).collect();
    assert_eq!(ids, [id(kept).0]);
    assert_eq!(seen.removed.len(), 2);
    assert_eq!(cluster.revision(kept), 2);
    let stream = cluster.put(kept, "b", "2");
    cluster.pass(100);
    assert!(is_put(cluster.answer(kept, stream)));
    let stream = cluster.change(kept, Step::AddLearner(id(4)), 4);
    cluster.pass(100);
    assert_eq!(cluster.answer(kept, stream), Some(Outcome::MembersChanged));
    // It stays so without being forced again.
    cluster.restart(kept);
    cluster.pass(2_000);
    assert_eq!(cluster.leader(), kept);
    let stream = cluster.put(kept, "c", "3");
    cluster.pass(100);
    assert!(is_put(cluster.answer(kept, stream)));
    assert_eq!(cluster.revision(kept), 4);
}
