//! Leaders that go, and who leads after them.

use super::cluster::*;
use super::*;

/// P9: a leader that stops hands over first, so that nobody waits for its silence, and everything taken over is answered.
#[test]
fn a_leader_that_stops_hands_over() {
    let (mut cluster, leader) = Cluster::led(3);
    let stream = cluster.put(leader, "a", "1");
    cluster.at(leader).replica.stop();
    cluster.pass(100);
    assert!(is_put(cluster.answer(leader, stream)));
    assert!(cluster.at(leader).replica.is_stopped());
    let member = cluster.members.remove(&leader).expect("a member");
    let next = cluster.leader();
    assert_ne!(next, leader);
    let initial = member.replica.config.initial.clone();
    cluster.start(leader, member.disk, initial);
    cluster.pass(1_000);
    assert_eq!(cluster.leader(), next);
    assert_eq!(cluster.revision(leader), 2);
}

/// A leader that nobody can follow stops all the same.
#[test]
fn a_leader_without_followers_stops() {
    let (mut cluster, leader) = Cluster::led(3);
    cluster.cut.insert(id(leader));
    cluster.at(leader).replica.stop();
    cluster.pass(2_000);
    assert!(cluster.at(leader).replica.is_stopped());
}

/// D12: a leader whose disk hangs lets another lead; its clients are told.
#[test]
fn a_leader_whose_disk_hangs_hands_over() {
    let (mut cluster, leader) = Cluster::led(3);
    cluster.at(leader).held = Some(Vec::new());
    let stream = cluster.put(leader, "a", "1");
    cluster.pass(1_500);
    let next = cluster.leader();
    assert_ne!(next, leader);
    let other = cluster.put(next, "b", "1");
    cluster.settle();
    assert!(is_put(cluster.answer(next, other)));
    cluster.at(leader).release_disk();
    cluster.pass(500);
    // Two disks had it: it was not lost.
    assert!(is_put(cluster.answer(leader, stream)));
    assert_eq!(cluster.revision(leader), 3);
}

/// R2: a member whose disk fails says nothing more; the others go on.
#[test]
fn a_member_with_a_failed_disk_is_silent() {
    let (mut cluster, leader) = Cluster::led(3);
    cluster.at(leader).held = Some(Vec::new());
    cluster.put(leader, "a", "1");
    cluster.settle();
    let member = cluster.at(leader);
    for (id, op) in member.held.take().expect("hangs") {
        let error = DiskError {
            site: op.site(),
            kind: DiskErrorKind::Failed,
            errno: Some(5),
        };
        let result = Err(error);
        member.replica.on_disk(DiskDone { id, result });
    }
    cluster.pass(500);
    let mut out = Vec::new();
    cluster.at(leader).replica.take_messages(&mut out);
    assert!(out.is_empty());
    cluster.pass(4_000);
    assert_ne!(cluster.leader(), leader);
}
