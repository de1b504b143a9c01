//! Compaction with and without being asked, and the space it gives back.

use super::*;
use crate::limits::{APPLY_RECORDS_A_DELETE, APPLY_SLICE_RECORDS};
use crate::mvcc::KeyRange;

impl Rig {
    /// One turn at `now`, with everything that the disk has to do.
    fn turn_at(&mut self, now: u64) {
        self.now = Millis(now);
        self.settle_but_jobs();
        for job in self.jobs.drain(..) {
            let done = job.run(&mut self.disk);
            self.replica.on_job(done, self.now);
        }
        self.replica.turn(self.now);
    }

    fn notices(&mut self) -> Vec<Notice> {
        let mut notices = Vec::new();
        self.replica.take_notices(&mut notices);
        notices
    }

    fn marks(&self) -> (i64, i64) {
        let pin = self.replica.reader().pin();
        (pin.view().compacted(), pin.view().finished())
    }
}

fn compaction(revision: i64, physical: bool) -> pb::CompactionRequest {
    pb::CompactionRequest { revision, physical }
}

/// A leader compacts by its rule through the log, tells when it begins and ends, and takes no time of its own:
/// the clock is the caller's.
#[test]
fn a_leader_compacts_by_itself() {
    let rule = AutoCompaction::Revision { retention: 3 };
    let config = ReplicaConfig {
        auto_compaction: Some(rule),
        ..config()
    };
    let mut rig = Rig::booted(MemDisk::default(), config);
    rig.turn_at(0);
    for n in 0..9 {
        rig.put("a", &n.to_string());
    }
    rig.turn_at(1);
    let turn = rig.replica.turn(Millis(2));
    assert_eq!(turn.wake, Some(Millis(300_000)));
    rig.turn_at(299_999);
    assert_eq!(rig.marks(), (-1, -1));
    rig.turn_at(300_000);
    rig.turn_at(300_010);
    assert_eq!(rig.marks(), (7, 7));
    let notices = rig.notices();
    let revision = 7;
    assert_eq!(notices[0], Notice::AutoCompactionBegan { rule, revision });
    assert!(
        notices[1..]
            .iter()
            .any(|notice| matches!(notice, Notice::AutoCompactionDone { revision: 7, .. }))
    );
    assert!(notices[1..].iter().any(|notice| matches!(
        notice,
        Notice::CompactionFinished {
            revision: 7,
            records: 5,
            hash: Some(_),
            ..
        }
    )));
    // Nothing was written since: it would be the same again.
    rig.turn_at(700_000);
    assert_eq!(rig.notices(), []);
}

/// [DUR-5] [COMPACT-6] A compaction whose space was not given back when the process ended goes on after the start: from the log, and
/// from a checkpoint that was written in the middle of it.
#[test]
fn an_unfinished_compaction_goes_on_after_a_restart() {
    for with_checkpoint in [false, true] {
        let config = ReplicaConfig {
            store: StoreConfig {
                segment_bytes: 4096,
                ..StoreConfig::default()
            },
            checkpoint_entries: if with_checkpoint { 150 } else { u64::MAX },
            ..config()
        };
        let mut rig = Rig::new(config);
        for n in 0..200 {
            rig.put(&format!("key{}", n % 10), &n.to_string());
        }
        rig.settle();
        let before = rig.status().db_size_in_use;
        let hold = rig.replica.reader().hold(20).expect("a hold");
        rig.propose(field::COMPACTION, &compaction(190, false));
        for _ in 0..50 {
            rig.settle_but_jobs();
            rig.now = rig.now.plus(Millis(SPACE_TEST_STEP_MS));
        }
        assert_eq!(rig.marks(), (190, -1));
        for job in rig.jobs.drain(..) {
            let done = job.run(&mut rig.disk);
            rig.replica.on_job(done, rig.now);
        }
        rig.settle_but_jobs();
        assert_eq!(with_checkpoint, rig.replica.checkpoint.last > Index(0));
        drop(hold);
        let mut rig = rig.restart();
        assert_eq!(rig.marks(), (190, 190));
        assert!(rig.status().db_size_in_use < before);
        assert_eq!(rig.replica.reader().pin().view().revision(), 201);
        let refused = rig.propose(field::COMPACTION, &compaction(190, true));
        rig.settle();
        let told = Outcome::Refused(Refused::Compacted);
        assert_eq!(rig.outcomes(), [(refused.stream, told)]);
    }
}

/// A deletion of many keys takes turns, and each deletes a bounded number: reads go on, later writes wait, and the
/// loop is asked to come back at once.
#[test]
fn a_large_deletion_leaves_the_loop_after_each_slice() {
    let mut rig = Rig::new(config());
    let keys = 5_000;
    for n in 0..keys {
        rig.put(&format!("key{n:05}"), "value");
    }
    rig.settle();
    rig.outcomes();
    let request = pb::DeleteRangeRequest {
        key: "key".into(),
        range_end: "kez".into(),
        prev_kv: false,
    };
    rig.put("before", "1");
    let deletion = rig.propose(field::DELETE_RANGE, &request);
    let after = rig.put("after", "1");
    let a_turn = (APPLY_SLICE_RECORDS / APPLY_RECORDS_A_DELETE) as u64;
    let range = KeyRange::All;
    let (mut left, mut turns) = (keys + 1, 0);
    let mut told = Vec::new();
    while told.len() < 3 {
        let turn = rig.replica.turn(rig.now);
        while let Some((id, op)) = rig.replica.poll_op() {
            let result = rig.disk.perform(op);
            rig.replica.on_disk(DiskDone { id, result });
        }
        turns += 1;
        assert!(turns < 100, "it never ends");
        told.extend(rig.outcomes().into_iter().map(|(stream, _)| stream));
        let store = rig.replica.machine.store().view();
        let now_left = store.count_newest(&range).unwrap();
        assert!(
            left <= now_left + a_turn,
            "{left} to {now_left} in one turn"
        );
        left = now_left.max(1);
        if rig.replica.machine.is_mid_entry() {
            assert_eq!(turn.wake, Some(rig.now));
            assert_eq!(told, [deletion.stream - 1]);
            let pin = rig.replica.reader().pin();
            let seen = pin.view().revision();
            assert_eq!(seen, keys as i64 + 2);
            assert_eq!(pin.view().revision(), seen);
            assert_eq!(pin.view().count_newest(&range), Ok(keys + 1));
            assert!(rig.replica.published().read_gate().is_free());
        }
    }
    assert!(turns as u64 > keys / a_turn);
    assert_eq!(told[1..], [deletion.stream, after.stream]);
    rig.settle();
    let hash = rig.hash();
    assert_eq!(rig.restart().hash(), hash);
}

/// A store at its quota: the revision that the last put made before the alarm.
fn full(auto_disarm: bool) -> (Rig, i64) {
    let mut rig = Rig::new(ReplicaConfig {
        quota_bytes: 200_000,
        auto_disarm,
        store: StoreConfig {
            segment_bytes: 64 << 10,
            ..StoreConfig::default()
        },
        ..config()
    });
    for n in 0..40 {
        rig.put(&format!("key{n:02}"), &"x".repeat(8 << 10));
        rig.settle();
    }
    let told = rig.outcomes();
    let refused = Outcome::Refused(Refused::NoSpace);
    assert_eq!(told.last().map(|(_, outcome)| *outcome), Some(refused));
    assert_eq!(rig.alarms(), 1);
    let revision = rig.replica.reader().pin().view().revision();
    (rig, revision)
}

impl Rig {
    fn alarms(&self) -> usize {
        self.replica.published().cluster().alarms.len()
    }

    fn delete(&mut self, key: &str, end: &str) {
        let request = pb::DeleteRangeRequest {
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
            prev_kv: false,
        };
        self.propose(field::DELETE_RANGE, &request);
        self.settle();
    }

    fn compact_at(&mut self, revision: i64) {
        self.propose(field::COMPACTION, &compaction(revision, true));
        self.settle();
        let finished = self.marks().1;
        assert_eq!(finished, revision);
        self.outcomes();
    }

    fn put_works(&mut self) -> bool {
        self.put("another", "1");
        self.settle();
        matches!(self.outcomes()[..], [(_, Outcome::Put { .. })])
    }
}

/// [MNT-9] [MNT-11] Deletes and compactions find room in a full store. What they drop no longer counts, also where its segment
/// is not worth rewriting; but the alarm is the operator's to lift, as in etcd.
#[test]
fn a_full_store_gives_space_back_and_waits_for_the_operator() {
    let (mut rig, revision) = full(false);
    let before = rig.status().db_size_in_use;
    rig.delete("key00", "key09");
    rig.compact_at(revision + 1);
    let status = rig.status();
    assert!(status.db_size_in_use < before - 8 * 8192);
    assert!(status.db_size_in_use < status.db_size);
    assert_eq!(rig.alarms(), 1);
    assert!(!rig.put_works());
    let lift = pb::AlarmRequest {
        action: 2,
        member_id: rig.replica.config.me.0,
        alarm: 1,
    };
    rig.propose(field::ALARM, &lift);
    rig.settle();
    rig.outcomes();
    assert!(rig.put_works());
}

/// [MNT-11] `--auto-disarm`: room alone does not lift the alarm, a deletion alone makes none; the compaction does, below nine
/// tenths of the quota, and through the log: after a restart the alarm is gone.
#[test]
fn an_alarm_ends_by_itself_once_there_is_room_again() {
    let (mut rig, revision) = full(true);
    rig.delete("key00", "");
    rig.compact_at(revision + 1);
    // One value of 8 KiB less is not enough.
    assert_eq!(rig.alarms(), 1);
    rig.delete("key01", "key09");
    assert_eq!(rig.alarms(), 1);
    rig.compact_at(revision + 2);
    assert_eq!(rig.alarms(), 0);
    let lifted =
        |notice: &Notice| matches!(notice, Notice::AlarmLifted { used } if *used < 180_000);
    assert_eq!(rig.notices().iter().filter(|it| lifted(it)).count(), 1);
    assert!(rig.put_works());
    let rig = rig.restart();
    assert_eq!(rig.alarms(), 0);
}

/// [MNT-11] An alarm that is raised where there is room, as a client may, is not lifted before something was deleted or
/// compacted.
#[test]
fn an_alarm_without_a_deletion_since_stays() {
    let mut rig = Rig::new(ReplicaConfig {
        auto_disarm: true,
        ..config()
    });
    rig.put("a", "1");
    rig.delete("a", "");
    let raise = pb::AlarmRequest {
        action: 1,
        member_id: rig.replica.config.me.0,
        alarm: 1,
    };
    rig.propose(field::ALARM, &raise);
    rig.settle();
    assert_eq!(rig.alarms(), 1);
    rig.delete("b", "");
    assert_eq!(rig.alarms(), 0);
}

/// Longer than the pause between two pieces of a compaction.
const SPACE_TEST_STEP_MS: u64 = 5;
