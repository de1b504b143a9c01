//! A Wing-Gong-Lowe checker that ignores revisions: is there any order at all in which the answers make sense?
//!
//! It guards against a mistake in the revisions themselves, on which `order.rs` relies. Keys that no request joins are checked apart.
//! Reads of old revisions, serializable reads, filters and comparisons by revision are left out or taken as answered. Exponential in the worst case:
//! bounded by a number of steps, beyond which the answer is "do not know".

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use basalt_pb::etcdserverpb as pb;
use basalt_pb::mvccpb::KeyValue;
use bytes::Bytes;
use pb::compare::CompareTarget;
use pb::request_op::Request as Op;
use pb::response_op::Response;

use super::history::{Call, Outcome, Request, Violation, without_headers};
use super::model::Model;

/// Whether an order was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Each part has one; so many calls were put in order.
    Linearizable(usize),
    /// Given up.
    TooHard,
}

/// Looks for an order of the calls on a key space that was empty when the history began.
///
/// # Errors
/// There is none.
pub fn check(calls: &[Call], steps_max: usize) -> Result<Verdict, Violation> {
    let mut count = 0;
    for part in parts(calls) {
        if part.iter().any(|call| is_undecided(call)) {
            return Ok(Verdict::TooHard);
        }
        let mut search = Search::new(&part);
        match search.run(steps_max) {
            Some(true) => count += part.len(),
            Some(false) => return Err(search.complain()),
            None => return Ok(Verdict::TooHard),
        }
    }
    Ok(Verdict::Linearizable(count))
}

/// The calls that can be checked without revisions, apart for keys that have nothing to do with each other.
fn parts(calls: &[Call]) -> Vec<Vec<&Call>> {
    let usable: Vec<&Call> = calls.iter().filter(|call| is_usable(call)).collect();
    let mut known = BTreeSet::new();
    for call in &usable {
        keys_of(call, &mut |key, _| {
            known.insert(key.clone());
        });
    }
    let known: Vec<Bytes> = known.into_iter().collect();
    let mut root: Vec<usize> = (0..known.len()).collect();
    let mut homes = Vec::with_capacity(usable.len());
    for call in &usable {
        let mut home = None;
        keys_of(call, &mut |key, end| {
            let (from, to) = span(&known, key, end);
            for at in from..to {
                let other = find(&mut root, at);
                let own = home.map_or(other, |it| find(&mut root, it));
                root[other] = own;
                home = Some(own);
            }
        });
        homes.push(home);
    }
    let mut parts: BTreeMap<usize, Vec<&Call>> = BTreeMap::new();
    for (call, home) in usable.into_iter().zip(homes) {
        if let Some(home) = home {
            parts.entry(find(&mut root, home)).or_default().push(call);
        }
    }
    parts.into_values().collect()
}

fn find(root: &mut [usize], mut at: usize) -> usize {
    while root[at] != at {
        root[at] = root[root[at]];
        at = root[at];
    }
    at
}

fn span(known: &[Bytes], key: &Bytes, end: &Bytes) -> (usize, usize) {
    let from = known.partition_point(|it| it < key);
    let to = match &end[..] {
        [] => known.partition_point(|it| it <= key),
        [0] => known.len(),
        _ => known.partition_point(|it| it < end),
    };
    (from, to)
}

fn is_usable(call: &Call) -> bool {
    let Request::Op(op) = &call.request else {
        return false;
    };
    match call.outcome {
        Outcome::Refused(_) => false,
        Outcome::Unknown => call.may_write(),
        Outcome::Done { .. } => {
            let is_told = !matches!(op, Op::RequestRange(range) if !is_plain(range));
            !call.is_serializable() && is_told
        }
    }
}

/// Whether an answer to it can be told without knowing revisions.
fn is_plain(range: &pb::RangeRequest) -> bool {
    let filters = range.max_mod_revision
        | range.min_mod_revision
        | range.max_create_revision
        | range.min_create_revision;
    range.revision == 0 && filters == 0 && range.sort_order == 0 && range.sort_target == 0
}

fn keys_of(call: &Call, each: &mut dyn FnMut(&Bytes, &Bytes)) {
    fn of(op: &Op, each: &mut dyn FnMut(&Bytes, &Bytes)) {
        match op {
            Op::RequestRange(it) => each(&it.key, &it.range_end),
            Op::RequestPut(it) => each(&it.key, &Bytes::new()),
            Op::RequestDeleteRange(it) => each(&it.key, &it.range_end),
            Op::RequestTxn(it) => {
                for compare in &it.compare {
                    each(&compare.key, &compare.range_end);
                }
                let ops = it.success.iter().chain(&it.failure);
                ops.filter_map(|op| op.request.as_ref())
                    .for_each(|op| of(op, each));
            }
        }
    }
    if let Request::Op(op) = &call.request {
        of(op, each);
    }
}

/// A depth-first search over orders, with the states seen so far.
struct Search<'a> {
    /// By time of the question.
    calls: Vec<&'a Call>,
    done: Vec<bool>,
    seen: HashSet<(Vec<u64>, u64)>,
    /// The longest order found.
    best: usize,
}

impl<'a> Search<'a> {
    fn new(calls: &[&'a Call]) -> Self {
        let mut calls = calls.to_vec();
        calls.sort_by_key(|call| call.called);
        Self {
            done: vec![false; calls.len()],
            calls,
            seen: HashSet::new(),
            best: 0,
        }
    }

    /// `None`: given up.
    fn run(&mut self, steps_max: usize) -> Option<bool> {
        // What was placed last: the call, the state before it, and the candidates not tried yet.
        let mut stack: Vec<(usize, Model, Vec<usize>)> = Vec::new();
        let mut state = Model::default();
        let mut open = self.candidates();
        for _ in 0..steps_max {
            if self.is_finished() {
                return Some(true);
            }
            let Some(next) = open.pop() else {
                let Some((last, before, rest)) = stack.pop() else {
                    return Some(false);
                };
                self.done[last] = false;
                (state, open) = (before, rest);
                continue;
            };
            let mut after = state.clone();
            if !fits(self.calls[next], &mut after) {
                continue;
            }
            after.forget_history();
            self.done[next] = true;
            if !self.seen.insert((self.bits(), digest(&after))) {
                self.done[next] = false;
                continue;
            }
            stack.push((next, state, open));
            self.best = self.best.max(stack.len());
            state = after;
            open = self.candidates();
        }
        None
    }

    /// Calls that may come next: no other one had its answer before they were asked. The one with the earliest answer is tried first.
    fn candidates(&self) -> Vec<usize> {
        let left = || (0..self.calls.len()).filter(|at| !self.done[*at]);
        let first_end = left().map(|at| self.calls[at].returned).min();
        let first_end = first_end.unwrap_or(u64::MAX);
        let mut open: Vec<usize> = left()
            .filter(|at| self.calls[*at].called <= first_end)
            .collect();
        open.sort_by_key(|at| std::cmp::Reverse(self.calls[*at].returned));
        open
    }

    /// What was never answered need not have happened.
    fn is_finished(&self) -> bool {
        let mut left = (0..self.calls.len()).filter(|at| !self.done[*at]);
        left.all(|at| self.calls[at].outcome == Outcome::Unknown)
    }

    fn bits(&self) -> Vec<u64> {
        let mut bits = vec![0; self.done.len().div_ceil(64)];
        for at in (0..self.done.len()).filter(|at| self.done[*at]) {
            bits[at / 64] |= 1 << (at % 64);
        }
        bits
    }

    fn complain(&self) -> Violation {
        let key = &self.calls.first().map(|call| &call.request);
        format!(
            "no order of {} calls explains their answers, at most {} of them; the first is {key:?}",
            self.calls.len(),
            self.best
        )
    }
}

/// Does the call on `state`; whether its answer can be that one.
fn fits(call: &Call, state: &mut Model) -> bool {
    let Request::Op(op) = &call.request else {
        unreachable!("left out before");
    };
    match &call.outcome {
        Outcome::Done {
            body: Some(body), ..
        } => {
            let (op, body) = as_answered(op, body);
            let made = state.apply(&op);
            made.is_ok_and(|(_, made)| numberless(&op, made) == numberless(&op, body))
        }
        _ => {
            // Refused then, and refused in any order: it did nothing.
            let _ = state.apply(op);
            true
        }
    }
}

/// Whether nobody knows which branch a transaction took: it compares by revision, and its answer was lost.
fn is_undecided(call: &Call) -> bool {
    call.outcome == Outcome::Unknown
        && matches!(&call.request, Request::Op(op) if compares_revisions(op))
}

fn compares_revisions(op: &Op) -> bool {
    let Op::RequestTxn(txn) = op else {
        return false;
    };
    let inner = txn.success.iter().chain(&txn.failure);
    let mut inner = inner.filter_map(|op| op.request.as_ref());
    txn.compare.iter().any(by_revision) || inner.any(compares_revisions)
}

fn by_revision(compare: &pb::Compare) -> bool {
    let target = compare.target();
    matches!(target, CompareTarget::Create | CompareTarget::Mod)
}

/// Comparisons by revision cannot be decided here: the branch that the answer shows is the only one then.
fn as_answered(op: &Op, body: &Response) -> (Op, Response) {
    let (Op::RequestTxn(txn), Response::ResponseTxn(answer)) = (op, body) else {
        return (op.clone(), body.clone());
    };
    let (mut txn, mut answer) = (txn.clone(), answer.clone());
    if txn.compare.iter().any(by_revision) {
        if !answer.succeeded {
            txn.success.clone_from(&txn.failure);
        }
        txn.compare.clear();
        answer.succeeded = true;
    }
    let taken = if answer.succeeded {
        &mut txn.success
    } else {
        &mut txn.failure
    };
    for (op, body) in taken.iter_mut().zip(&mut answer.responses) {
        if let (Some(inner), Some(said)) = (&op.request, &body.response) {
            let (inner, said) = as_answered(inner, said);
            (op.request, body.response) = (Some(inner), Some(said));
        }
    }
    (Op::RequestTxn(txn), Response::ResponseTxn(answer))
}

/// The answer without revisions, and without ranges that depend on them.
fn numberless(op: &Op, body: Response) -> Response {
    let strip = |kvs: &mut dyn Iterator<Item = &mut KeyValue>| {
        kvs.for_each(|kv| (kv.create_revision, kv.mod_revision) = (0, 0));
    };
    let mut body = without_headers(body);
    match (&mut body, op) {
        (Response::ResponseRange(it), Op::RequestRange(range)) if !is_plain(range) => {
            *it = pb::RangeResponse::default();
        }
        (Response::ResponseRange(it), _) => strip(&mut it.kvs.iter_mut()),
        (Response::ResponsePut(it), _) => strip(&mut it.prev_kv.iter_mut()),
        (Response::ResponseDeleteRange(it), _) => strip(&mut it.prev_kvs.iter_mut()),
        (Response::ResponseTxn(it), Op::RequestTxn(txn)) => {
            let taken = if it.succeeded {
                &txn.success
            } else {
                &txn.failure
            };
            for (body, op) in it.responses.iter_mut().zip(taken) {
                if let (Some(said), Some(op)) = (body.response.take(), &op.request) {
                    body.response = Some(numberless(op, said));
                }
            }
        }
        (Response::ResponseTxn(_), _) => {}
    }
    body
}

fn digest(state: &Model) -> u64 {
    let mut hasher = DefaultHasher::new();
    for kv in state.live() {
        (&kv.key, &kv.value, kv.version, kv.lease).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(times: (u64, u64), key: &'static str, value: &'static str, is_put: bool) -> Call {
        let (request, body) = if is_put {
            let put = pb::PutRequest {
                key: key.into(),
                value: value.into(),
                ..Default::default()
            };
            let body = Response::ResponsePut(pb::PutResponse::default());
            (Op::RequestPut(put), body)
        } else {
            let kv = KeyValue {
                key: key.into(),
                value: value.into(),
                version: 1,
                ..Default::default()
            };
            let range = pb::RangeRequest {
                key: key.into(),
                ..Default::default()
            };
            let found = !value.is_empty();
            let body = Response::ResponseRange(pb::RangeResponse {
                kvs: if found { vec![kv] } else { Vec::new() },
                count: i64::from(found),
                ..Default::default()
            });
            (Op::RequestRange(range), body)
        };
        Call {
            client: 0,
            called: times.0,
            returned: times.1,
            request: Request::Op(request),
            outcome: Outcome::Done {
                revision: 0,
                body: Some(body),
            },
        }
    }

    /// The revisions in these answers are all wrong and must not matter.
    #[test]
    fn concurrent_answers_may_come_in_any_order() {
        let calls = [
            call((1, 9), "a", "1", true),
            call((2, 3), "a", "", false),
            call((4, 5), "a", "1", false),
        ];
        assert_eq!(check(&calls, 1000), Ok(Verdict::Linearizable(3)));
    }

    #[test]
    fn a_value_that_comes_and_goes_is_found() {
        let calls = [
            call((1, 9), "a", "1", true),
            call((2, 3), "a", "1", false),
            call((4, 5), "a", "", false),
            call((1, 2), "b", "7", true),
        ];
        check(&calls, 1000).expect_err("the second read is stale");
    }

    /// A write that nobody heard of may have happened, at any time after it was asked for.
    #[test]
    fn an_unknown_write_may_happen_late_or_never() {
        let mut lost = call((1, u64::MAX), "a", "1", true);
        lost.outcome = Outcome::Unknown;
        let never = [lost.clone(), call((4, 5), "a", "", false)];
        assert_eq!(check(&never, 1000), Ok(Verdict::Linearizable(2)));
        let late = [
            lost,
            call((4, 5), "a", "", false),
            call((6, 7), "a", "1", false),
        ];
        assert_eq!(check(&late, 1000), Ok(Verdict::Linearizable(3)));
    }
}
