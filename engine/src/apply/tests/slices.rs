//! Entries of many records, applied in slices.

use super::*;
use crate::limits::APPLY_RECORDS_A_DELETE;
use crate::mvcc::{Counting, HashAnswer, HashJob, KeyRange};

impl Rig {
    /// Applies in slices of `bound`, each as a turn of its own; answers how many it took. Checks that
    /// readers see nothing of it before the end.
    pub(super) fn apply_sliced(
        &mut self,
        bound: SliceBound,
        field: u32,
        body: &[u8],
    ) -> (Applied, u32) {
        let shown = |rig: &Self| {
            let pin = rig.reader.pin();
            let view = pin.view();
            let revision = view.revision();
            (revision, view.count_newest(&KeyRange::All))
        };
        self.machine.store_mut().publish();
        let (before, start) = (shown(self), self.out.len());
        for slices in 1.. {
            self.machine.begin_slice(bound);
            match self.apply_bytes(field, body) {
                Ok(applied) => return (applied, slices),
                Err(halt) => assert_eq!(halt, Halt::More),
            }
            assert_eq!(self.out.len(), start);
            if !self.machine.is_mid_entry() {
                self.machine.store_mut().publish();
            }
            assert_eq!(shown(self), before);
            // It stops for want of room alone.
            let left = self.machine.slice;
            assert!(left.records < APPLY_RECORDS_A_DELETE || left.bytes == 0);
        }
        unreachable!("it ends")
    }

    fn fill(&mut self, keys: u32) {
        for n in 0..keys {
            self.put(&format!("key{n:06}"), &format!("value{n}"));
        }
    }

    fn hash(&mut self) -> HashAnswer {
        self.machine.store_mut().publish();
        let mut job = HashJob::start(&self.reader, 0).expect("a job");
        loop {
            if let Some(answer) = job.poll(1000, &mut self.disk).expect("in memory") {
                return answer;
            }
        }
    }

    fn answer(&self, applied: Applied) -> Result<&[u8], Applied> {
        match applied {
            Applied::Done(Outcome::Encoded { start, end }) => Ok(&self.out[start..end]),
            other => Err(other),
        }
    }
}

fn slice(records: usize) -> SliceBound {
    SliceBound {
        records,
        bytes: usize::MAX,
    }
}

/// [DEL-1] [DEL-5] A deletion of fifty thousand keys takes as many slices as its keys need, none of them more than
/// its bound, and nobody sees a part of it.
#[test]
fn a_large_deletion_is_done_in_bounded_slices_and_appears_at_once() {
    let mut rig = Rig::new();
    let keys = 50_000;
    rig.fill(keys);
    let request = pb::DeleteRangeRequest {
        key: "key".into(),
        range_end: "kez".into(),
        prev_kv: false,
    };
    let a_slice = 500;
    let bound = slice(a_slice * APPLY_RECORDS_A_DELETE);
    let body = request.encode_to_vec();
    let (applied, slices) = rig.apply_sliced(bound, field::DELETE_RANGE, &body);
    assert!(slices >= keys / a_slice as u32);
    assert!(slices <= keys / a_slice as u32 + 2);
    let answer = rig.answer(applied).expect("an answer");
    let answer = pb::DeleteRangeResponse::decode(answer).expect("an answer");
    assert_eq!(answer.deleted, i64::from(keys));
    let revision = i64::from(keys) + 2;
    assert_eq!(answer.header.expect("a header").revision, revision);
    rig.machine.store_mut().publish();
    let pin = rig.reader.pin();
    let view = pin.view();
    assert_eq!(view.revision(), revision);
    assert_eq!(view.count_newest(&KeyRange::All), Ok(0));
    let before = view.count(
        &KeyRange::All,
        revision - 1,
        &mut Counting::default(),
        usize::MAX,
    );
    assert_eq!(before, Ok(Some(u64::from(keys))));
}

/// What is applied in the same turn before a deletion is answered in that turn, so readers must see it
/// although the deletion has begun.
#[test]
fn what_was_applied_before_a_large_deletion_is_published_first() {
    let mut rig = Rig::new();
    rig.fill(100);
    rig.machine.begin_slice(slice(10 * APPLY_RECORDS_A_DELETE));
    rig.put("other", "1");
    let request = delete("key", "kez").encode_to_vec();
    let halted = rig.apply_bytes(field::DELETE_RANGE, &request);
    assert_eq!(halted, Err(Halt::More));
    while !rig.machine.is_mid_entry() {
        rig.machine.begin_slice(slice(10 * APPLY_RECORDS_A_DELETE));
        let halted = rig.apply_bytes(field::DELETE_RANGE, &request);
        assert_eq!(halted, Err(Halt::More));
    }
    let pin = rig.reader.pin();
    let found = pin.view().get_at(b"other", 102).expect("in memory");
    assert!(found.is_some());
    assert_eq!(pin.view().count_newest(&KeyRange::All), Ok(101));
}

/// R9: however an entry is sliced, members come to one state and one answer.
#[test]
fn slices_change_nothing_about_states_and_answers() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut whole, mut sliced) = (Rig::new(), Rig::new());
        for _ in 0..150 {
            let (field, body) = request(&mut random);
            let bound = SliceBound {
                records: random.usize(APPLY_RECORDS_A_DELETE..100),
                bytes: random.usize(1..300),
            };
            let expected = whole.apply_bytes(field, &body).expect("applied");
            let (applied, _) = sliced.apply_sliced(bound, field, &body);
            assert_eq!(sliced.answer(applied), whole.answer(expected));
            whole.out.clear();
            sliced.out.clear();
            assert_eq!(sliced.machine.counts(), whole.machine.counts());
        }
        assert_eq!(sliced.hash(), whole.hash());
        assert_eq!(sliced.machine.meta(), whole.machine.meta());
    }
}

fn request(random: &mut fastrand::Rng) -> (u32, Vec<u8>) {
    let key = format!("key{:02}", random.u32(..60));
    match random.u32(..14) {
        0..=6 => {
            let value = "v".repeat(random.usize(..40));
            (field::PUT, put(&key, &value).encode_to_vec())
        }
        7..=10 => (field::TXN, transaction(random, 2).encode_to_vec()),
        _ => {
            let mut request = delete(&key, ["", "key30", "kez", "\0"][random.usize(..4)]);
            request.prev_kv = random.bool();
            (field::DELETE_RANGE, request.encode_to_vec())
        }
    }
}

/// A transaction over ranges, of any shape that passes the API's checks, and some that do not.
fn transaction(random: &mut fastrand::Rng, depth: u32) -> pb::TxnRequest {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let compares = (0..random.usize(..3)).map(|_| {
        let bound = TargetUnion::Version(random.i64(0..3));
        let target = [CompareTarget::Version, CompareTarget::Create][random.usize(..2)];
        let result = [CompareResult::Greater, CompareResult::Less][random.usize(..2)];
        let mut compare = compare(&key(random), target as i32, result as i32, bound);
        compare.range_end = end(random).into();
        compare
    });
    let compare = compares.collect();
    let mut branch = || -> Vec<pb::RequestOp> {
        let ops = (0..random.usize(..4)).map(|_| match random.u32(..8) {
            0..=2 => {
                let limit = [0, 0, 3][random.usize(..3)];
                let revision = random.i64(0..3) * random.i64(0..20);
                op(request_op::Request::RequestRange(pb::RangeRequest {
                    key: key(random).into(),
                    range_end: end(random).into(),
                    sort_order: random.i32(0..3),
                    sort_target: random.i32(0..5),
                    keys_only: random.bool(),
                    limit,
                    revision,
                    ..Default::default()
                }))
            }
            3 | 4 => {
                let mut request = delete(&key(random), end(random));
                request.prev_kv = random.bool();
                op(request_op::Request::RequestDeleteRange(request))
            }
            5 if depth > 0 => {
                let inner = transaction(random, depth - 1);
                op(request_op::Request::RequestTxn(inner))
            }
            6 => pb::RequestOp { request: None },
            _ => {
                let mut put = put(&key(random), "inside");
                put.prev_kv = random.bool();
                put.ignore_value = random.u32(..8) == 0;
                op(request_op::Request::RequestPut(put))
            }
        });
        ops.collect()
    };
    let (success, failure) = (branch(), branch());
    pb::TxnRequest {
        compare,
        success,
        failure,
    }
}

fn key(random: &mut fastrand::Rng) -> String {
    format!("key{:02}", random.u32(..60))
}

fn end(random: &mut fastrand::Rng) -> &'static str {
    ["", "key30", "kez", "\0"][random.usize(..4)]
}

/// [TXN-11] A transaction that compares, sorts and deletes many keys is done in slices, too.
#[test]
fn a_large_transaction_is_done_in_bounded_slices_and_appears_at_once() {
    let mut rig = Rig::new();
    let keys = 5_000;
    rig.fill(keys);
    let mut all = compare(
        "key",
        pb::compare::CompareTarget::Version as i32,
        pb::compare::CompareResult::Equal as i32,
        compare::TargetUnion::Version(1),
    );
    all.range_end = "kez".into();
    let sorted = pb::RangeRequest {
        key: "key".into(),
        range_end: "kez".into(),
        sort_order: 2,
        sort_target: 4,
        ..Default::default()
    };
    let mut txn = success(vec![
        op_put("before", "1"),
        op(request_op::Request::RequestRange(sorted)),
        op_delete("key", "kez"),
        op_put("key", "2"),
    ]);
    txn.compare.push(all);
    let a_slice = 100;
    let bound = slice(a_slice * APPLY_RECORDS_A_DELETE);
    let (applied, slices) = rig.apply_sliced(bound, field::TXN, &txn.encode_to_vec());
    // Each key is compared, gathered, put out, read and deleted.
    assert!(slices >= keys * (4 + 16) / (a_slice * 16) as u32);
    let answer = rig.answer(applied).expect("an answer");
    let answer = pb::TxnResponse::decode(answer).expect("an answer");
    assert!(answer.succeeded);
    let Some(response_op::Response::ResponseRange(range)) = &answer.responses[1].response else {
        panic!("a range");
    };
    assert_eq!(range.count, i64::from(keys));
    assert!(range.kvs.is_sorted_by(|a, b| a.value >= b.value));
    let Some(response_op::Response::ResponseDeleteRange(deleted)) = &answer.responses[2].response
    else {
        panic!("a deletion");
    };
    assert_eq!(deleted.prev_kvs.len(), keys as usize);
    let view = rig.machine.store().view();
    assert_eq!(view.revision(), i64::from(keys) + 2);
    assert_eq!(view.count_newest(&KeyRange::All), Ok(2));
}
