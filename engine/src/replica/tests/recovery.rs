//! From the disk and back: checkpoints, replays, crashes.

use super::*;

/// Every kind of command, driven by a small generator: the same seed makes the same history.
pub(super) fn history(rig: &mut Rig, seed: u64, steps: u32) {
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..steps {
        let key = format!("k{:02}", random.u32(..40));
        match random.u32(..20) {
            0..=9 => {
                rig.put(&key, &"v".repeat(random.usize(..300)));
            }
            10..=12 => {
                let range_end = if random.bool() { "k20" } else { "" };
                let request = pb::DeleteRangeRequest {
                    key: key.into(),
                    range_end: range_end.into(),
                    prev_kv: random.bool(),
                };
                rig.propose(field::DELETE_RANGE, &request);
            }
            13..=17 => {
                rig.propose(field::TXN, &txn(&mut random, &key));
            }
            18 => {
                let view_revision = rig.replica.reader().pin().view().revision();
                let revision = view_revision - random.i64(..20);
                let physical = random.bool();
                rig.propose(
                    field::COMPACTION,
                    &pb::CompactionRequest { revision, physical },
                );
            }
            _ => {
                let (action, member_id) = (1 + random.i32(..2), random.u64(..3));
                rig.propose(
                    field::ALARM,
                    &pb::AlarmRequest {
                        action,
                        member_id,
                        alarm: 7,
                    },
                );
            }
        }
        if random.u32(..4) == 0 {
            rig.settle();
        }
    }
    rig.settle();
}

fn txn(random: &mut fastrand::Rng, key: &str) -> pb::TxnRequest {
    use pb::{compare::TargetUnion, request_op::Request};
    let op = |request| pb::RequestOp {
        request: Some(request),
    };
    let ignoring = pb::PutRequest {
        ignore_value: true,
        ..put(key, "")
    };
    let compare = pb::Compare {
        result: random.i32(..4),
        key: key.to_owned().into(),
        target_union: Some(TargetUnion::Version(random.i64(..3))),
        ..Default::default()
    };
    let range = pb::RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..Default::default()
    };
    pb::TxnRequest {
        compare: vec![compare],
        success: vec![
            op(Request::RequestPut(put(key, "txn"))),
            op(Request::RequestRange(range)),
        ],
        failure: vec![
            op(Request::RequestPut(ignoring)),
            op(Request::RequestPut(put("other", key))),
        ],
    }
}

/// What must be equal wherever the same entries were applied.
fn state(rig: &mut Rig) -> (HashAnswer, crate::apply::Meta, i64, Vec<u8>) {
    let meta = rig.replica.machine.meta();
    let store = rig.replica.machine.store();
    let (revision, compacted) = (store.revision(), store.compacted());
    (rig.hash(), meta, compacted, rig.range_at(revision))
}

/// The same log twice is the same state: nothing but the entries decides.
#[test]
fn replaying_a_log_twice_gives_equal_states() {
    for seed in 0..10 {
        let mut rig = Rig::new(config());
        history(&mut rig, seed, 200);
        let (hash, _, compacted, keys) = state(&mut rig);
        let mut first = Rig::on(rig.disk.clone(), config());
        let mut second = Rig::on(rig.disk.clone(), config());
        assert_eq!(state(&mut first), state(&mut second), "seed {seed}");
        assert_eq!(state(&mut first).0, hash, "seed {seed}");
        assert_eq!(
            (state(&mut first).2, state(&mut first).3),
            (compacted, keys),
            "seed {seed}"
        );
    }
}

/// [DUR-5] A checkpoint stands for the log below it: the state is the same, and the log's segments are free again.
#[test]
fn a_checkpoint_stands_for_the_log_it_covers() {
    for seed in 0..10 {
        let often = ReplicaConfig {
            checkpoint_entries: 30,
            ..config()
        };
        let mut rig = Rig::new(often);
        history(&mut rig, seed, 300);
        let mut twin = {
            let mut twin = Rig::new(config());
            history(&mut twin, seed, 300);
            twin
        };
        assert!(rig.replica.checkpoint.last > Index(200), "seed {seed}");
        assert_eq!(state(&mut rig), state(&mut twin), "seed {seed}");
        let before = state(&mut rig);
        let mut rig = rig.restart();
        assert_eq!(state(&mut rig).0, before.0, "seed {seed}");
        assert_eq!(
            (state(&mut rig).2, state(&mut rig).3),
            (before.2, before.3),
            "seed {seed}"
        );
        assert_eq!(
            rig.replica.machine.members(),
            twin.replica.machine.members()
        );
        assert_eq!(rig.replica.machine.alarms(), twin.replica.machine.alarms());
    }
}

/// The log does not grow for ever: checkpoints give its segments back, and an older checkpoint goes.
#[test]
fn checkpoints_keep_the_log_short() {
    let bounded = ReplicaConfig {
        checkpoint_bytes: 512 << 10,
        ..config()
    };
    let mut rig = Rig::new(bounded);
    let value = "x".repeat(20 << 10);
    for round in 0..20 {
        for _ in 0..5 {
            rig.put(&format!("k{}", round % 3), &value);
            rig.settle();
        }
        rig.compact_all();
        rig.settle();
    }
    assert!(rig.replica.wal.live_bytes() < 1 << 20);
    let files = rig.disk.files.keys();
    let checkpoints = files.filter(|file| matches!(file, crate::disk::File::Checkpoint(_)));
    assert_eq!(checkpoints.count(), 1);
    let before = state(&mut rig);
    assert_eq!(state(&mut rig.restart()).0, before.0);
}

/// A checkpoint costs what is new: segments that have a file are not written again, and a restart finds them all.
#[test]
fn a_second_checkpoint_writes_only_what_has_no_file() {
    let mut rig = Rig::new(ReplicaConfig {
        checkpoint_entries: 50,
        ..config()
    });
    let segments = |rig: &Rig| -> Vec<File> {
        let files = rig.disk.files.keys().copied();
        files
            .filter(|file| matches!(file, File::Segment(_)))
            .collect()
    };
    let mut seen = Vec::new();
    for round in 0..4 {
        for key in 0..50 {
            rig.put(&format!("k{round}-{key}"), "v");
        }
        rig.settle();
        let now = segments(&rig);
        // Files of pages are copied together; those of segments stay.
        let new = now.iter().filter(|file| !seen.contains(*file)).count();
        assert_eq!(new, 2, "one of records and one of pages: {now:?}");
        seen = now;
    }
    let before = state(&mut rig);
    let mut rig = rig.restart();
    assert_eq!(state(&mut rig).0, before.0);
    assert_eq!(state(&mut rig).3, before.3);
    // All but the newest of the 200 keys go, and with them the files of their segments.
    for round in 0..4 {
        for key in 0..50 {
            let request = pb::DeleteRangeRequest {
                key: format!("k{round}-{key}").into(),
                ..Default::default()
            };
            rig.propose(field::DELETE_RANGE, &request);
        }
    }
    rig.settle();
    rig.compact_all();
    for key in 0..100 {
        rig.put(&format!("n{key}"), "v");
    }
    rig.settle();
    let left = segments(&rig);
    let left = left.iter().filter(|file| seen.contains(*file)).count();
    assert!(left <= 1, "pages go one checkpoint later");
    let before = state(&mut rig);
    assert_eq!(state(&mut rig.restart()).0, before.0);
}

/// What compaction rewrites has no file any more and writes next to nothing to the log: it must not pile up.
#[test]
fn records_without_a_file_make_a_checkpoint_due() {
    const UNFILED: u64 = 40 << 10;
    let mut rig = Rig::new(ReplicaConfig {
        checkpoint_unfiled_bytes: UNFILED,
        store: StoreConfig {
            segment_bytes: 16 << 10,
            ..StoreConfig::default()
        },
        ..config()
    });
    let value = "v".repeat(900);
    for key in 0..300 {
        rig.put(&format!("k{}", key % 150), &value);
        rig.settle();
    }
    assert!(rig.replica.checkpoint.last > Index(200));
    // Two of three keys go: the rest is rewritten.
    for key in (0..150).filter(|key| key % 3 > 0) {
        rig.put(&format!("k{key}"), "");
    }
    while rig.replica.machine.store().unfiled_bytes() > 2_000 {
        rig.put("k1", "");
        rig.settle();
    }
    let written = rig.replica.checkpoint.last;
    rig.compact_all();
    rig.settle();
    rig.put("a", "1");
    rig.settle();
    assert!(rig.replica.checkpoint.last > written);
    assert!(rig.replica.machine.store().unfiled_bytes() < UNFILED);
    let before = state(&mut rig);
    assert_eq!(state(&mut rig.restart()).0, before.0);
}

/// Segments that a checkpoint covers in part stay; they must not make the next one due at once.
#[test]
fn a_checkpoint_does_not_follow_on_the_heels_of_another() {
    let bounded = ReplicaConfig {
        checkpoint_bytes: 200 << 10,
        ..config()
    };
    let mut rig = Rig::new(bounded);
    let mut taken = Vec::new();
    for _ in 0..400 {
        // A frame of one page each, and no time passes.
        rig.put("a", "1");
        while rig.step().1 {}
        taken.push(rig.replica.checkpoint.last);
    }
    taken.dedup();
    // 1.6 MB of log.
    assert!((5..=9).contains(&taken.len()), "{taken:?}");
}

/// A start after a quiet time replays next to nothing: what would be is covered while nobody wants anything.
#[test]
fn a_member_that_is_left_alone_writes_a_checkpoint_and_only_one() {
    let mut rig = Rig::new(ReplicaConfig {
        checkpoint_bytes: 640 << 10,
        ..config()
    });
    for _ in 0..10 {
        rig.put("a", "1");
        while rig.step().1 {}
    }
    assert_eq!(rig.replica.checkpoint.last, Index(0));
    let began = rig.now;
    rig.settle();
    assert!(rig.now.0 - began.0 >= crate::limits::CHECKPOINT_QUIET_MS);
    let (applied, _) = rig.replica.machine.applied();
    assert_eq!(rig.replica.checkpoint.last, applied);
    // Less than what is worth it.
    rig.put("a", "1");
    rig.settle();
    assert_eq!(rig.replica.checkpoint.last, applied);
}

/// A checkpoint that cannot be written costs nothing but itself: the member goes on and tries again later.
#[test]
fn a_failed_checkpoint_is_tried_again() {
    let mut rig = Rig::new(ReplicaConfig {
        checkpoint_entries: 10,
        ..config()
    });
    for _ in 0..20 {
        rig.put("a", "1");
        rig.settle_but_jobs();
    }
    let job = rig
        .jobs
        .iter()
        .position(|job| matches!(job, Job::Checkpoint(_)))
        .expect("due");
    drop(rig.jobs.remove(job));
    let error = DiskError {
        site: DiskOp::SyncDir.site(),
        kind: DiskErrorKind::NoSpace,
        errno: None,
    };
    let result = Err(CheckpointFailed::Disk(error));
    rig.replica.on_job(
        JobDone::Checkpoint {
            index: Index(12),
            result,
        },
        rig.now,
    );
    rig.put("a", "2");
    rig.settle();
    assert_eq!(rig.replica.checkpoint.last, Index(0));
    rig.now = rig.now.plus(Millis(crate::limits::CHECKPOINT_RETRY_MS));
    rig.settle();
    assert!(rig.replica.checkpoint.last > Index(20));
    assert!(rig.replica.failure().is_none());
}

/// [R8] A checkpoint that fails at its very end gives its space back: the next try has another name, and
/// the disk that was too full for one checkpoint would otherwise fill with halves of them.
#[test]
fn a_checkpoint_that_fails_at_any_step_leaves_no_file() {
    for fail_at in 0.. {
        let mut rig = Rig::new(ReplicaConfig {
            checkpoint_entries: 10,
            ..config()
        });
        for _ in 0..20 {
            rig.put("a", "1");
            rig.settle_but_jobs();
        }
        let is_checkpoint = |job: &mut Job| matches!(job, Job::Checkpoint(_));
        let mut job = rig.jobs.extract_if(.., is_checkpoint).next().expect("due");
        let before: Vec<File> = rig.disk.files.keys().copied().collect();
        let mut disk = FailsOnce(&mut rig.disk, fail_at);
        let result = loop {
            if let Some(JobDone::Checkpoint { result, .. }) = job.step(&mut disk) {
                break result;
            }
        };
        let files = rig.disk.files.keys().copied();
        match result {
            Ok(_) => {
                // A segment: begin, frame and table, flush, name. Then begin, one chunk, trailer, flush, name, flush of the names.
                assert!(fail_at >= 10, "{fail_at}");
                return;
            }
            Err(_) => assert_eq!(files.collect::<Vec<_>>(), before, "step {fail_at}"),
        }
    }
}

/// A disk whose operation of this number fails, removals not counted.
struct FailsOnce<'d>(&'d mut MemDisk, u32);

impl Disk for FailsOnce<'_> {
    fn perform(&mut self, op: DiskOp) -> Result<DiskAnswer, DiskError> {
        if matches!(op, DiskOp::Remove { .. }) {
            return self.0.perform(op);
        }
        let Some(left) = self.1.checked_sub(1) else {
            self.1 = u32::MAX;
            return Err(DiskError {
                site: op.site(),
                kind: DiskErrorKind::NoSpace,
                errno: None,
            });
        };
        self.1 = left;
        self.0.perform(op)
    }
}

/// [DUR-1] [DUR-3] A member that crashes at any write, whole, lost or torn, keeps every acknowledged Put and comes back.
#[test]
fn no_acknowledged_write_is_lost_at_any_crash() {
    let often = ReplicaConfig {
        checkpoint_entries: 12,
        ..config()
    };
    let mut crashes = 0;
    for crash_at in 0.. {
        for tear in [Tear::Lost, Tear::Half, Tear::Whole] {
            let (disk, acknowledged, is_over) = run_until(crash_at, tear, &often);
            if is_over {
                assert!(crashes > 100, "{crashes}");
                return;
            }
            crashes += 1;
            let mut rig = Rig::on(disk, often.clone());
            let reader = rig.replica.reader().clone();
            for n in 0..acknowledged {
                let key = format!("k{n}");
                let found = loop {
                    let pin = reader.pin();
                    let found = pin.view().meta_at(key.as_bytes(), i64::MAX);
                    let found = found.map(|record| record.is_some());
                    drop(pin);
                    match found {
                        Ok(found) => break found,
                        Err(_) => rig.settle(),
                    }
                };
                assert!(found, "op {crash_at} {tear:?}: {key} of {acknowledged}");
            }
            let pin = reader.pin();
            // What was not acknowledged may be there, but only in order.
            let revision = pin.view().revision();
            let count = pin
                .view()
                .count_newest(&crate::mvcc::KeyRange::All)
                .unwrap();
            assert_eq!(revision, 1 + count as i64, "op {crash_at} {tear:?}");
            assert!(count >= u64::from(acknowledged) && count <= u64::from(acknowledged) + 3);
            assert!(rig.status().is_ready);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Tear {
    Lost,
    Half,
    Whole,
}

/// Puts k0, k1, .. three at a time until disk operation `crash_at`, which happens as `tear` says.
/// The disk then, how many Puts were acknowledged, and whether the workload ended before.
fn run_until(crash_at: u32, tear: Tear, config: &ReplicaConfig) -> (MemDisk, u32, bool) {
    let mut rig = Rig::booted(MemDisk::default(), config.clone());
    let (mut ops, mut acknowledged) = (0, 0);
    let mut jobs: VecDeque<Job> = VecDeque::new();
    while acknowledged < 120 {
        if rig.asked == acknowledged {
            for _ in 0..3 {
                let key = format!("k{}", rig.asked);
                rig.put(&key, "1");
            }
        }
        rig.replica.turn(rig.now);
        acknowledged += rig.outcomes().len() as u32;
        rig.replica.take_jobs(&mut rig.jobs);
        jobs.extend(rig.jobs.drain(..));
        // One step of background work between any two writes of the log.
        if let Some(job) = jobs.front_mut()
            && let Some(done) = job.step(&mut rig.disk)
        {
            jobs.pop_front();
            rig.replica.on_job(done, rig.now);
        }
        let Some((id, op)) = rig.replica.poll_op() else {
            continue;
        };
        if ops == crash_at {
            tear_op(&mut rig.disk, op, tear);
            return (rig.disk, acknowledged, false);
        }
        ops += 1;
        let result = rig.disk.perform(op);
        rig.replica.on_disk(DiskDone { id, result });
    }
    (rig.disk, acknowledged, true)
}

fn tear_op(disk: &mut MemDisk, op: DiskOp, tear: Tear) {
    let op = match (tear, op) {
        (Tear::Lost, _) => return,
        (
            Tear::Half,
            DiskOp::Write {
                file,
                offset,
                mut pages,
                durable,
            },
        ) => {
            // A superblock is one sector, written whole or not at all.
            if matches!(file, crate::disk::File::Superblock(_)) {
                return;
            }
            let sectors = pages.count() * crate::disk::PAGE_SECTORS;
            let old = disk.files[&file].clone();
            for number in sectors / 2..sectors {
                let at = offset as usize + number * crate::disk::SECTOR_BYTES;
                let kept = &old[at..at + crate::disk::SECTOR_BYTES];
                pages.sector_mut(number).copy_from_slice(kept);
            }
            DiskOp::Write {
                file,
                offset,
                pages,
                durable,
            }
        }
        (_, op) => op,
    };
    let done = disk.perform(op);
    assert!(matches!(done, Ok(DiskAnswer::Written(_))));
}
