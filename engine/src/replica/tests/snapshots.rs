//! Members whose next entries the leader does not hold any more.

use super::cluster::*;
use super::*;
use crate::raft::config::Step;

/// A checkpoint every 20 entries, and next to no log for others.
const SIZES: (u64, usize) = (20, 400);

/// Three members, one of whom misses more than the others keep.
fn lagging() -> (Cluster, u64) {
    let mut cluster = Cluster::with_sizes(3, SIZES);
    cluster.pass(3_000);
    let lost = cluster.follower();
    cluster.cut.insert(id(lost));
    write(&mut cluster, 0..150);
    (cluster, lost)
}

fn write(cluster: &mut Cluster, keys: core::ops::Range<u32>) {
    for key in keys {
        let leader = cluster.leader();
        cluster.put(leader, &format!("k{key:04}"), &"v".repeat(100));
        if key % 10 == 0 {
            cluster.pass(20);
        }
    }
    cluster.pass(200);
}

/// All members have the same state, digest and hash.
fn assert_equal(cluster: &mut Cluster) {
    let leader = cluster.leader();
    let of = |cluster: &mut Cluster, number: u64| {
        let digests = cluster.at(number).replica.machine.store().digests();
        let revision = cluster.revision(number);
        (revision, digests, cluster.hash(number))
    };
    let expected = of(cluster, leader);
    for number in cluster.members.keys().copied().collect::<Vec<_>>() {
        assert_eq!(of(cluster, number), expected, "member {number}");
    }
}

/// It would wait for ever otherwise.
#[test]
fn a_follower_behind_the_released_log_gets_a_snapshot_and_goes_on() {
    let (mut cluster, lost) = lagging();
    let before = cluster.at(lost).replica.machine.applied().0;
    cluster.cut.clear();
    cluster.pass(3_000);
    let named = cluster.at(lost).replica.checkpoint.last;
    assert!(named > before, "{named} was installed over {before}");
    assert_equal(&mut cluster);
    // Its log goes on behind the snapshot, also through a restart.
    write(&mut cluster, 150..170);
    cluster.restart(lost);
    cluster.pass(3_000);
    assert_equal(&mut cluster);
    // And it is as good as any: it makes checkpoints, leads, and can fall behind again.
    cluster.cut.insert(id(lost));
    write(&mut cluster, 170..300);
    cluster.cut.clear();
    cluster.pass(3_000);
    assert_equal(&mut cluster);
    let others: Vec<u64> = (1..=3).filter(|number| *number != lost).collect();
    cluster.cut.insert(id(others[0]));
    write(&mut cluster, 300..310);
    cluster.cut.clear();
    cluster.pass(3_000);
    assert_equal(&mut cluster);
}

/// R9: a crash leaves what it was, or the snapshot whole.
#[test]
fn a_crash_at_any_operation_of_an_install_leaves_the_old_state_or_the_new_one() {
    let (mut cluster, lost) = lagging();
    let before = cluster.at(lost).replica.machine.applied().0;
    cluster.at(lost).images = Some(Vec::new());
    let config = cluster.at(lost).replica.config.clone();
    cluster.cut.clear();
    let mut images = Vec::new();
    for _ in 0..200 {
        cluster.now = cluster.now.plus(Millis(20));
        // A restart, which ends the install, drops the record.
        if let Some(seen) = &cluster.at(lost).images {
            images.clone_from(seen);
        }
        cluster.settle_but(lost);
        if cluster.at(lost).replica.is_refilled() {
            images.clone_from(cluster.at(lost).images.as_ref().expect("recorded"));
            break;
        }
    }
    images.push(cluster.at(lost).disk.clone());
    assert!(images.len() > 15, "{} operations", images.len());
    let (mut old, mut new) = (0, 0);
    for image in images {
        let mut disk = image;
        let replica = boot(&mut disk, config.clone());
        match replica.machine.applied().0 {
            applied if applied <= before => old += 1,
            applied => {
                assert_eq!(applied, replica.checkpoint.last);
                new += 1;
            }
        }
        // Nothing of a snapshot that was not finished stays behind.
        let known = replica.checkpoint.named.len();
        let segments = disk
            .files
            .keys()
            .filter(|it| matches!(it, File::Segment(_)));
        assert_eq!(segments.count(), known);
        assert!(!disk.files.keys().any(|it| matches!(it, File::Temp(_))));
    }
    assert!(old > 10, "{old}");
    assert!(new >= 1, "{new}");
}

/// A learner that comes when the log is long released.
#[test]
fn a_new_member_gets_a_snapshot() {
    let mut cluster = Cluster::with_sizes(3, SIZES);
    cluster.pass(3_000);
    write(&mut cluster, 0..100);
    let leader = cluster.leader();
    let stream = cluster.change(leader, Step::AddLearner(id(4)), 4);
    cluster.pass(200);
    assert_eq!(
        cluster.answer(leader, stream),
        Some(Outcome::MembersChanged)
    );
    cluster.start(4, MemDisk::default(), Vec::new());
    write(&mut cluster, 100..150);
    cluster.pass(3_000);
    assert_equal(&mut cluster);
    assert!(cluster.at(4).replica.published().status().is_learner);
}

/// A spoilt file must not take the place of anything.
#[test]
fn a_snapshot_that_is_not_what_was_written_is_not_installed() {
    let (mut cluster, lost) = lagging();
    let before = cluster.at(lost).replica.machine.applied().0;
    let leader = cluster.leader();
    let named = cluster.at(leader).replica.checkpoint.named.clone();
    for number in named {
        let file = File::Segment(number);
        let bytes = cluster.at(leader).disk.files.get_mut(&file).expect("named");
        bytes[100] ^= 1;
    }
    cluster.cut.clear();
    cluster.pass(2_000);
    let member = cluster.at(lost);
    assert_eq!(member.replica.machine.applied().0, before);
    let mut notices = Vec::new();
    member.replica.take_notices(&mut notices);
    assert!(
        notices
            .iter()
            .any(|it| matches!(it, Notice::SnapshotFailed { .. })),
        "{notices:?}"
    );
}
