//! Records that lie in files only: whatever needs one waits until it is read back, and answers as if it had been there.

use super::recovery::history;
use super::*;
use crate::mvcc::{KeyRange, SliceBound};
use crate::query::{Progress, RangeQuery};

/// So little that a dozen frames fits: what one step of a read needs at once, and not more.
fn little_memory() -> ReplicaConfig {
    ReplicaConfig {
        checkpoint_entries: 20,
        store: StoreConfig {
            segment_bytes: 3 << 10,
            cache_bytes: 64 << 10,
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
