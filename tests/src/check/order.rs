//! The revision-order checker: every answer names a revision, so the order is known; all answers are replayed in it.
//!
//! It holds that a linearizable answer is never older than what had been answered before it was asked, that nothing is seen before
//! it was asked for, that each revision was made once, and that every answer equals the model's at its revision. O(n log n).

use std::collections::BTreeMap;

use basalt_pb::mvccpb::KeyValue;
use bytes::Bytes;

use super::history::{Call, Outcome, Refusal, Request, Violation, without_headers};
use super::model::Model;

/// What a witness saw each revision write, keys ascending, `None` for a deletion: a watch from the first revision, or the log.
/// Needed for revisions that no answer names.
pub type Written = BTreeMap<i64, Vec<(Bytes, Option<KeyValue>)>>;

/// What was checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Answers that were compared with the model.
    pub answers: u64,
    /// Calls without an answer that turned out to have taken effect.
    pub settled: u64,
}

/// Checks the history of a key space that was empty when it began.
///
/// # Errors
/// The first contradiction.
pub fn check(calls: &[Call], written: &Written) -> Result<Tally, Violation> {
    let mut checker = Checker {
        calls,
        floors: floors(calls),
        model: Model::default(),
        latest_call: vec![0, 0],
        tally: Tally::default(),
    };
    checker.fresh()?;
    checker.replay(written)?;
    checker.reads()?;
    checker.compactions()?;
    checker.refusals()?;
    Ok(checker.tally)
}

struct Checker<'a> {
    calls: &'a [Call],
    /// For each call: the highest revision that had been answered before it was asked.
    floors: Vec<i64>,
    model: Model,
    /// For each revision: when the last of the writes up to it was asked for.
    latest_call: Vec<u64>,
    tally: Tally,
}

/// What was answered at the very moment of a call is concurrent with it.
fn floors(calls: &[Call]) -> Vec<i64> {
    let mut answered: Vec<(u64, i64)> = calls
        .iter()
        .filter_map(|call| Some((call.returned, call.revision()?)))
        .collect();
    answered.sort_unstable();
    let mut highest = 0;
    for (_, revision) in &mut answered {
        highest = highest.max(*revision);
        *revision = highest;
    }
    let floor = |call: &Call| {
        let before = answered.partition_point(|(returned, _)| *returned < call.called);
        before.checked_sub(1).map_or(0, |last| answered[last].1)
    };
    calls.iter().map(floor).collect()
}

impl Checker<'_> {
    /// No linearizable answer is older than what was known when it was asked for.
    fn fresh(&self) -> Result<(), Violation> {
        for (call, floor) in self.calls.iter().zip(&self.floors) {
            let Some(revision) = call.revision() else {
                continue;
            };
            if call.is_serializable() {
                continue;
            }
            let lowest = floor + i64::from(call.wrote());
            if revision < lowest {
                return Err(format!(
                    "stale: revision {floor} had been answered before this was asked, {call:?}"
                ));
            }
        }
        Ok(())
    }

    /// Makes each revision by the one write that made it.
    fn replay(&mut self, written: &Written) -> Result<(), Violation> {
        let mut writers: BTreeMap<i64, &Call> = BTreeMap::new();
        let mut last = written.keys().next_back().copied().unwrap_or(1);
        for call in self.calls {
            let Some(revision) = call.revision() else {
                continue;
            };
            last = last.max(revision);
            if call.wrote()
                && let Some(other) = writers.insert(revision, call)
            {
                return Err(format!(
                    "two writes made one revision: {other:?} and {call:?}"
                ));
            }
        }
        let mut unsettled: Vec<usize> = (0..self.calls.len())
            .filter(|at| self.calls[*at].outcome == Outcome::Unknown && self.calls[*at].may_write())
            .collect();
        for revision in 2..=last {
            let called = match writers.get(&revision) {
                Some(call) => {
                    self.make(call, revision)?;
                    call.called
                }
                None => {
                    let at = self.settle(revision, written.get(&revision), &mut unsettled)?;
                    self.calls[at].called
                }
            };
            if let Some(seen) = written.get(&revision)
                && *seen != self.model.written_at(revision)
            {
                return Err(format!(
                    "revision {revision} wrote {seen:?}, by the answers it should be {:?}",
                    self.model.written_at(revision)
                ));
            }
            let before = self.latest_call[self.latest_call.len() - 1];
            self.latest_call.push(called.max(before));
        }
        Ok(())
    }

    fn make(&mut self, call: &Call, revision: i64) -> Result<(), Violation> {
        let Request::Op(op) = &call.request else {
            unreachable!("a compaction writes nothing");
        };
        let made = self.model.apply(op);
        let Outcome::Done {
            body: Some(body), ..
        } = &call.outcome
        else {
            unreachable!("it wrote");
        };
        self.tally.answers += 1;
        let expected = Ok((revision, without_headers(body.clone())));
        if made != expected {
            return Err(format!("the model answers {made:?} to {call:?}"));
        }
        Ok(())
    }

    /// Finds the unanswered write that made a revision.
    fn settle(
        &mut self,
        revision: i64,
        seen: Option<&Vec<(Bytes, Option<KeyValue>)>>,
        unsettled: &mut Vec<usize>,
    ) -> Result<usize, Violation> {
        let Some(seen) = seen else {
            return Err(format!(
                "no answer and no witness says who made revision {revision}"
            ));
        };
        for slot in 0..unsettled.len() {
            let at = unsettled[slot];
            let (Request::Op(op), true) = (&self.calls[at].request, self.floors[at] < revision)
            else {
                continue;
            };
            match self.model.apply(op) {
                Ok((made, _)) if made == revision => {
                    if self.model.written_at(revision) == *seen {
                        unsettled.remove(slot);
                        self.tally.settled += 1;
                        return Ok(at);
                    }
                    self.model.revert();
                }
                _ => {}
            }
        }
        Err(format!(
            "nobody asked for what revision {revision} wrote: {seen:?}"
        ))
    }

    /// Answers that changed nothing equal the model's at their revision, which somebody had asked for by then.
    fn reads(&mut self) -> Result<(), Violation> {
        for call in self.calls {
            let Outcome::Done { revision, body } = &call.outcome else {
                continue;
            };
            let asked = usize::try_from(*revision)
                .ok()
                .and_then(|at| self.latest_call.get(at));
            if asked.is_none_or(|asked| *asked > call.returned) {
                return Err(format!("answered before it was asked for: {call:?}"));
            }
            let (Request::Op(op), Some(body), false) = (&call.request, body, call.wrote()) else {
                continue;
            };
            self.tally.answers += 1;
            let expected = self.model.read(op, *revision);
            if expected.as_ref() != Ok(&without_headers(body.clone())) {
                return Err(format!("the model answers {expected:?} to {call:?}"));
            }
        }
        Ok(())
    }

    /// What had been compacted is not answered.
    fn compactions(&self) -> Result<(), Violation> {
        let done = self.calls.iter().filter_map(|call| match call.request {
            Request::Compact(at) if call.revision().is_some() => Some((call.returned, at)),
            _ => None,
        });
        let done: Vec<(u64, i64)> = done.collect();
        for call in self.calls.iter().filter(|call| call.revision().is_some()) {
            let before = done.iter().filter(|(returned, _)| *returned < call.called);
            let compacted = before.map(|(_, at)| *at).max().unwrap_or(-1);
            let wrong = match read_revision(&call.request) {
                Some(at) => at < compacted && !call.is_serializable(),
                None => matches!(call.request, Request::Compact(at) if at <= compacted),
            };
            if wrong {
                return Err(format!(
                    "revision {compacted} was compacted before {call:?}"
                ));
            }
        }
        Ok(())
    }

    /// Each refusal was right at some moment between question and answer.
    fn refusals(&mut self) -> Result<(), Violation> {
        for at in 0..self.calls.len() {
            let call = &self.calls[at];
            let Outcome::Refused(refusal) = call.outcome else {
                continue;
            };
            let right = match refusal {
                // What is known of leases and of space is not in the history.
                Refusal::Unavailable
                | Refusal::NoSpace
                | Refusal::LeaseNotFound
                | Refusal::LeaseExists => true,
                Refusal::Compacted => self.may_be_compacted(call),
                Refusal::Future => {
                    let at_most = read_revision(&call.request).or(match call.request {
                        Request::Compact(at) => Some(at),
                        Request::Op(_) => None,
                    });
                    call.is_serializable() || at_most.is_none_or(|asked| asked > self.floors[at])
                }
                Refusal::KeyNotFound => {
                    let Request::Op(basalt_pb::etcdserverpb::request_op::Request::RequestPut(put)) =
                        &call.request
                    else {
                        continue;
                    };
                    let first = self.floors[at].max(1);
                    let asked = |main: i64| {
                        let main = usize::try_from(main).expect("positive");
                        self.latest_call
                            .get(main)
                            .is_some_and(|it| *it <= call.returned)
                    };
                    let mut possible = (first..).take_while(|main| asked(*main));
                    possible.any(|main| !self.model.has(&put.key, main))
                }
            };
            if !right {
                return Err(format!("refused without a reason: {call:?}"));
            }
        }
        Ok(())
    }

    fn may_be_compacted(&self, call: &Call) -> bool {
        let asked = self.calls.iter().filter(|it| it.called <= call.returned);
        let highest = asked.filter_map(|it| match it.request {
            Request::Compact(at) if !matches!(it.outcome, Outcome::Refused(_)) => Some(at),
            _ => None,
        });
        let highest = highest.max().unwrap_or(-1);
        match (&call.request, read_revision(&call.request)) {
            (Request::Compact(at), _) => *at <= highest,
            (_, Some(at)) => at < highest,
            // A transaction's.
            (_, None) => highest > 0,
        }
    }
}

/// The old revision that a range asks for.
fn read_revision(request: &Request) -> Option<i64> {
    use basalt_pb::etcdserverpb::request_op::Request as Op;
    match request {
        Request::Op(Op::RequestRange(range)) if range.revision > 0 => Some(range.revision),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use basalt_pb::etcdserverpb as pb;
    use pb::request_op::Request as Op;
    use pb::response_op::Response;

    use super::*;

    fn put(value: &'static str) -> Request {
        Request::Op(Op::RequestPut(pb::PutRequest {
            key: "k".into(),
            value: value.into(),
            ..Default::default()
        }))
    }

    fn get(serializable: bool) -> Request {
        Request::Op(Op::RequestRange(pb::RangeRequest {
            key: "k".into(),
            serializable,
            ..Default::default()
        }))
    }

    fn call(times: (u64, u64), request: Request, outcome: Outcome) -> Call {
        Call {
            client: 0,
            called: times.0,
            returned: times.1,
            request,
            outcome,
        }
    }

    fn done(revision: i64) -> Outcome {
        Outcome::Done {
            revision,
            body: Some(Response::ResponsePut(pb::PutResponse::default())),
        }
    }

    fn read(revision: i64, value: &'static str, main: i64) -> Outcome {
        let kv = KeyValue {
            key: "k".into(),
            value: value.into(),
            create_revision: 2,
            mod_revision: main,
            version: main - 1,
            lease: 0,
        };
        Outcome::Done {
            revision,
            body: Some(Response::ResponseRange(pb::RangeResponse {
                kvs: vec![kv],
                count: 1,
                ..Default::default()
            })),
        }
    }

    fn two_puts() -> Vec<Call> {
        vec![
            call((1, 3), put("1"), done(2)),
            call((4, 6), put("2"), done(3)),
        ]
    }

    fn with(more: Call) -> Result<Tally, Violation> {
        let mut calls = two_puts();
        calls.push(more);
        check(&calls, &Written::new())
    }

    #[test]
    fn answers_of_the_newest_state_pass() {
        let tally = with(call((7, 8), get(false), read(3, "2", 3))).expect("right");
        assert_eq!(tally.answers, 3);
    }

    /// M17: a read that began after an acknowledged write must see it.
    #[test]
    fn a_stale_read_is_found_unless_it_may_be_stale() {
        with(call((7, 8), get(false), read(2, "1", 2))).expect_err("stale");
        with(call((7, 8), get(true), read(2, "1", 2))).expect("serializable");
        with(call((5, 8), get(false), read(2, "1", 2))).expect("concurrent");
    }

    #[test]
    fn a_wrong_value_a_second_writer_and_foresight_are_found() {
        with(call((7, 8), get(false), read(3, "1", 3))).expect_err("another value");
        with(call((5, 8), put("3"), done(3))).expect_err("two at one revision");
        with(call((1, 2), get(false), read(3, "2", 3))).expect_err("not asked for yet");
        with(call((7, 8), get(false), read(5, "2", 3))).expect_err("a revision of nobody");
    }

    /// A write without an answer counts from the moment that a witness saw it, and only if it was asked for.
    #[test]
    fn unknown_outcomes_are_settled_by_the_witness() {
        let mut calls = two_puts();
        calls.push(call((5, u64::MAX), put("3"), Outcome::Unknown));
        calls.push(call((7, 8), get(false), read(4, "3", 4)));
        check(&calls, &Written::new()).expect_err("no witness");
        let mut model = Model::default();
        for value in ["1", "2", "3"] {
            let Request::Op(op) = put(value) else {
                unreachable!()
            };
            model.apply(&op).expect("done");
        }
        let seen = |from: i64| {
            (from..=4)
                .map(|main| (main, model.written_at(main)))
                .collect()
        };
        assert_eq!(check(&calls, &seen(2)).expect("settled").settled, 1);
        calls[2].request = put("4");
        check(&calls, &seen(4)).expect_err("nobody asked for it");
    }

    #[test]
    fn reads_below_a_compaction_are_refused_and_only_those() {
        let old = || {
            Request::Op(Op::RequestRange(pb::RangeRequest {
                key: "k".into(),
                revision: 2,
                ..Default::default()
            }))
        };
        let refused = Outcome::Refused(Refusal::Compacted);
        with(call((7, 8), old(), refused.clone())).expect_err("nothing was compacted");
        with(call((7, 8), old(), read(3, "1", 2))).expect("history");
        let mut calls = two_puts();
        let compacted = Outcome::Done {
            revision: 3,
            body: None,
        };
        calls.push(call((7, 8), Request::Compact(3), compacted));
        calls.push(call((9, 10), old(), refused));
        check(&calls, &Written::new()).expect("compacted");
        calls[3].outcome = read(3, "1", 2);
        check(&calls, &Written::new()).expect_err("compacted before");
    }
}
