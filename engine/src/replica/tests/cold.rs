//! Records that lie in files only: whatever needs one waits until it is read back, and answers as if it had been there.

use super::recovery::history;
use super::*;
use crate::disk::{DiskError, DiskErrorKind};
use crate::mvcc::{BadSegment, KeyRange, SliceBound};
use crate::query::{Progress, RangeQuery};

/// So little that a dozen frames fits: what one step of a read needs at once, and not more.
fn little_memory() -> ReplicaConfig {
    ReplicaConfig {
        checkpoint_entries: 20,
        store: StoreConfig {
            segment_bytes: 3 << 10,
            cache_bytes: 64 << 10,
            ..StoreConfig::default()
        },
        ..config()
    }
}

impl Rig {
    /// All keys at `revision`, as a client reads them in slices.
    pub(super) fn range_at(&mut self, revision: i64) -> Vec<u8> {
        let reader = self.replica.reader().clone();
        let request = basalt_pb::hot::RangeRequest {
            key: b"\0",
            range_end: b"\0",
            revision,
            ..Default::default()
        };
        let range = KeyRange::new(request.key, request.range_end);
        let mut query = RangeQuery::new(&request, revision);
        let mut out = Vec::new();
        for _ in 0..10_000 {
            let polled = {
                let pin = reader.pin();
                query.poll(&range, pin.view(), SliceBound::SLICE, &mut out)
            };
            match polled {
                Ok(Progress::Done { .. }) => return out,
                Ok(_) => {}
                Err(_) => self.settle(),
            }
        }
        panic!("a read never ends");
    }

    /// What clients see: the hash and every revision that can be read.
    fn seen(&mut self) -> (HashAnswer, Vec<Vec<u8>>) {
        let hash = self.hash();
        let (from, to) = {
            let reader = self.replica.reader().clone();
            let pin = reader.pin();
            (pin.view().compacted().max(1), pin.view().revision())
        };
        let all = (from..=to)
            .step_by(9)
            .map(|revision| self.range_at(revision));
        (hash, all.collect())
    }
}

/// A member with memory for a few frames and one that has everything in memory are the same member: puts, compares,
/// previous values, ranges in transactions and at old revisions, deletions, compactions, checkpoints, restarts.
#[test]
fn a_member_with_little_memory_answers_as_one_with_much() {
    let mut misses = 0;
    for seed in 0..2 {
        let mut rig = Rig::new(little_memory());
        let mut twin = Rig::new(config());
        for part in 0..3 {
            history(&mut rig, seed * 3 + part, 300);
            history(&mut twin, seed * 3 + part, 300);
            assert_eq!(rig.outcomes().len(), twin.outcomes().len());
            assert_eq!(rig.seen(), twin.seen(), "seed {seed}, part {part}");
            misses += rig.replica.parts_read();
            rig = rig.restart();
            assert_eq!(rig.seen().1, twin.seen().1, "seed {seed}, part {part}");
        }
        assert!(rig.replica.failure().is_none());
    }
    assert!(misses > 100, "{misses}");
}

/// A member whose one key lies in a file only, and a put that needs its value.
fn with_a_cold_value() -> Rig {
    let mut rig = Rig::new(ReplicaConfig {
        checkpoint_entries: 1,
        ..config()
    });
    rig.put("a", "1");
    rig.settle();
    let mut rig = rig.restart();
    rig.outcomes();
    // Its leaf comes into memory; the record does not.
    rig.put("b", "1");
    rig.settle();
    rig.outcomes();
    let mut request = put("a", "2");
    request.prev_kv = true;
    rig.propose(field::PUT, &request);
    rig
}

/// The operations that the next turns ask for, up to the first read.
fn first_read(rig: &mut Rig) -> (OpId, DiskOp) {
    for _ in 0..100 {
        rig.replica.turn(rig.now);
        while let Some((id, op)) = rig.replica.poll_op() {
            if matches!(op, DiskOp::Read { .. }) {
                return (id, op);
            }
            let result = rig.disk.perform(op);
            rig.replica.on_disk(DiskDone { id, result });
        }
    }
    panic!("nothing is read");
}

fn failed(op: &DiskOp) -> DiskError {
    DiskError {
        site: op.site(),
        kind: DiskErrorKind::Failed,
        errno: Some(5),
    }
}

/// D8: a read that fails is made again, and the entry that waits for it is applied when it comes.
#[test]
fn a_read_that_fails_once_delays_its_entry_only() {
    let mut rig = with_a_cold_value();
    let before = rig.replica.parts_read();
    let (id, op) = first_read(&mut rig);
    assert!(rig.replica.parked.is_some());
    let result = Err(failed(&op));
    rig.replica.on_disk(DiskDone { id, result });
    assert!(rig.replica.failure().is_none());
    rig.settle();
    assert!(matches!(rig.outcomes()[..], [(_, Outcome::Encoded { .. })]));
    assert_eq!(rig.replica.parts_read(), before + 1);
    assert_eq!(rig.replica.parked, None);
}

/// D8: what cannot be read is never answered for; the member stops and says where, clients hear of corruption.
#[test]
fn a_read_that_fails_for_good_stops_the_member() {
    let mut rig = with_a_cold_value();
    for _ in 0..3 {
        let (id, op) = first_read(&mut rig);
        let result = Err(failed(&op));
        assert!(rig.replica.failure().is_none());
        rig.replica.on_disk(DiskDone { id, result });
    }
    let told = rig.replica.failure().expect("stopped").to_string();
    assert!(told.contains("Read of segment-"), "{told}");
    let refused = Outcome::Refused(Refused::CorruptCluster);
    assert!(
        rig.outcomes()
            .iter()
            .all(|(_, outcome)| *outcome == refused)
    );
    assert_eq!(rig.status().failed, Some(Refused::CorruptCluster));
    assert!(!rig.replica.published().read_gate().is_free());
}

/// D5: one changed bit of a record stops whoever reads it.
#[test]
fn a_rotten_record_stops_the_member_when_it_is_read() {
    let mut rig = with_a_cold_value();
    let (id, op) = first_read(&mut rig);
    let read = op.site().file.expect("of a file");
    rig.disk.files.get_mut(&read).expect("written")[100] ^= 1;
    let result = rig.disk.perform(op);
    rig.replica.on_disk(DiskDone { id, result });
    rig.settle();
    let failure = rig.replica.failure().copied();
    assert!(matches!(
        failure,
        Some(Failure::Records(BadSegment::Rotten { file, offset: 0, .. })) if file == read
    ));
}
