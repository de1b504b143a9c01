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
    let mut rig = Rig {
        disk: MemDisk::default(),
        replica: boot(&mut MemDisk::default(), config()),
        now: Millis(0),
        jobs: Vec::new(),
        asked: 0,
    };
    rig.replica = boot(
        &mut rig.disk,
        ReplicaConfig {
            auto_compaction: Some(rule),
            ..config()
        },
    );
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
        let now_left = store.count(&range, store.revision()).unwrap();
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
            assert_eq!(pin.view().count(&range, seen), Ok(keys + 1));
            assert!(rig.replica.published().read_gate().is_free());
        }
    }
    assert!(turns as u64 > keys / a_turn);
    assert_eq!(told[1..], [deletion.stream, after.stream]);
    rig.settle();
    let hash = rig.hash();
    assert_eq!(rig.restart().hash(), hash);
}

/// Longer than the pause between two pieces of a compaction.
const SPACE_TEST_STEP_MS: u64 = 5;
