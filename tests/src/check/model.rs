//! A key space as plain as it can be: every version of every key in a sorted map, and etcd's rules written down once more.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use basalt_pb::etcdserverpb as pb;
use basalt_pb::mvccpb::KeyValue;
use bytes::Bytes;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request as Op;
use pb::response_op::Response;

use super::history::Refusal;

/// The state after some revision, with all states before it.
#[derive(Clone, Debug)]
pub struct Model {
    keys: BTreeMap<Bytes, Vec<Version>>,
    revision: i64,
}

/// One version of a key; no `kv`: deleted.
#[derive(Clone, Debug)]
struct Version {
    main: i64,
    kv: Option<KeyValue>,
}

/// One request at work.
struct Run<'m> {
    model: &'m mut Model,
    /// The state that comparisons look at, and all there is until something is written.
    base: i64,
    /// Keys that were written, in order.
    touched: Vec<Bytes>,
}

impl Default for Model {
    /// A fresh store is at revision 1.
    fn default() -> Self {
        Self {
            keys: BTreeMap::new(),
            revision: 1,
        }
    }
}

impl Model {
    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Does `op` at the newest state. What is answered, and at which revision.
    ///
    /// # Errors
    /// It is refused and nothing is changed.
    pub fn apply(&mut self, op: &Op) -> Result<(i64, Response), Refusal> {
        let base = self.revision;
        let mut run = Run {
            model: self,
            base,
            touched: Vec::new(),
        };
        let answer = run.op(op);
        let touched = std::mem::take(&mut run.touched);
        if answer.is_err() {
            self.undo(&touched);
        } else if !touched.is_empty() {
            self.revision += 1;
        }
        answer.map(|body| (self.revision, body))
    }

    /// What `op` answers at the state of revision `at`, if it writes nothing there.
    ///
    /// # Errors
    /// It is refused, or it would write: then `None`.
    pub fn read(&mut self, op: &Op, at: i64) -> Result<Response, Option<Refusal>> {
        let mut run = Run {
            model: self,
            base: at,
            touched: Vec::new(),
        };
        let answer = run.op(op);
        let touched = std::mem::take(&mut run.touched);
        self.undo(&touched);
        match answer {
            _ if !touched.is_empty() => Err(None),
            answer => answer.map_err(Some),
        }
    }

    /// Takes the newest revision back.
    pub fn revert(&mut self) {
        let main = self.revision;
        self.keys.retain(|_, versions| {
            versions.retain(|it| it.main < main);
            !versions.is_empty()
        });
        self.revision -= 1;
    }

    /// What was written at revision `main`: keys with their new state, `None` for a deletion.
    #[must_use]
    pub fn written_at(&self, main: i64) -> Vec<(Bytes, Option<KeyValue>)> {
        let at = |(key, versions): (&Bytes, &Vec<Version>)| {
            let version = versions.iter().rev().find(|it| it.main == main)?;
            Some((key.clone(), version.kv.clone()))
        };
        self.keys.iter().filter_map(at).collect()
    }

    /// Whether `key` is there at revision `at`.
    #[must_use]
    pub fn has(&self, key: &[u8], at: i64) -> bool {
        self.get(key, at).is_some()
    }

    /// Forgets all versions but the newest of each key: for checkers that never look back.
    pub fn forget_history(&mut self) {
        self.keys.retain(|_, versions| {
            let newest = versions.pop().filter(|it| it.kv.is_some());
            versions.clear();
            versions.extend(newest);
            !versions.is_empty()
        });
    }

    /// The live keys of the newest state.
    pub fn live(&self) -> impl Iterator<Item = &KeyValue> {
        let newest = |versions: &'_ Vec<Version>| versions.last().is_some_and(|it| it.kv.is_some());
        let live = self.keys.values().filter(move |it| newest(it));
        live.filter_map(|versions| versions.last()?.kv.as_ref())
    }

    /// The keys that hang on a lease at revision `at`, ascending.
    #[must_use]
    pub fn leased(&self, lease: i64, at: i64) -> Vec<Bytes> {
        let newest = self.keys.keys().filter_map(|key| self.get(key, at));
        let leased = newest.filter(|kv| kv.lease == lease);
        leased.map(|kv| kv.key.clone()).collect()
    }

    /// The record of `key` at revision `at`, if it is there.
    #[must_use]
    pub fn get(&self, key: &[u8], at: i64) -> Option<&KeyValue> {
        let versions = self.keys.get(key)?;
        versions.iter().rev().find(|it| it.main <= at)?.kv.as_ref()
    }

    fn range(&self, key: &Bytes, end: &Bytes, at: i64) -> Vec<&KeyValue> {
        match (&key[..], &end[..]) {
            (_, []) => self.get(key, at).into_iter().collect(),
            (key, [0]) => self.between(key, None, at),
            (key, end) if key < end => self.between(key, Some(end), at),
            _ => Vec::new(),
        }
    }

    fn between(&self, from: &[u8], end: Option<&[u8]>, at: i64) -> Vec<&KeyValue> {
        // Everything from a zero byte on is everything, the empty key being none.
        let keys = self.keys.keys();
        let inside = keys.filter(|key| &key[..] >= from && end.is_none_or(|end| &key[..] < end));
        inside.filter_map(|key| self.get(key, at)).collect()
    }

    fn undo(&mut self, touched: &[Bytes]) {
        for key in touched.iter().rev() {
            let versions = self.keys.get_mut(key).expect("it was written");
            versions.pop();
            if versions.is_empty() {
                self.keys.remove(key);
            }
        }
    }
}

impl Run<'_> {
    /// What this request sees now: its own writes too.
    fn now(&self) -> i64 {
        if self.touched.is_empty() {
            self.base
        } else {
            i64::MAX
        }
    }

    fn op(&mut self, op: &Op) -> Result<Response, Refusal> {
        Ok(match op {
            Op::RequestRange(range) => Response::ResponseRange(self.range(range)?),
            Op::RequestPut(put) => Response::ResponsePut(self.put(put)?),
            Op::RequestDeleteRange(delete) => Response::ResponseDeleteRange(self.delete(delete)),
            Op::RequestTxn(txn) => Response::ResponseTxn(self.txn(txn)?),
        })
    }

    fn write(&mut self, key: Bytes, kv: Option<KeyValue>) {
        let main = self.base + 1;
        self.touched.push(key.clone());
        let versions = self.model.keys.entry(key).or_default();
        versions.push(Version { main, kv });
    }

    fn put(&mut self, put: &pb::PutRequest) -> Result<pb::PutResponse, Refusal> {
        let before = self.model.get(&put.key, self.now()).cloned();
        if before.is_none() && (put.ignore_value || put.ignore_lease) {
            return Err(Refusal::KeyNotFound);
        }
        let main = self.base + 1;
        let kept = before.clone().unwrap_or_default();
        let kv = KeyValue {
            key: put.key.clone(),
            create_revision: before.as_ref().map_or(main, |it| it.create_revision),
            mod_revision: main,
            version: kept.version + 1,
            value: match put.ignore_value {
                true => kept.value,
                false => put.value.clone(),
            },
            lease: match put.ignore_lease {
                true => kept.lease,
                false => put.lease,
            },
        };
        self.write(put.key.clone(), Some(kv));
        Ok(pb::PutResponse {
            header: None,
            prev_kv: before.filter(|_| put.prev_kv),
        })
    }

    fn delete(&mut self, delete: &pb::DeleteRangeRequest) -> pb::DeleteRangeResponse {
        let found = self.model.range(&delete.key, &delete.range_end, self.now());
        let found: Vec<KeyValue> = found.into_iter().cloned().collect();
        for kv in &found {
            self.write(kv.key.clone(), None);
        }
        pb::DeleteRangeResponse {
            header: None,
            deleted: i64::try_from(found.len()).expect("small"),
            prev_kvs: if delete.prev_kv { found } else { Vec::new() },
        }
    }

    /// Comparisons of inner transactions look at the state before the outermost one.
    fn txn(&mut self, txn: &pb::TxnRequest) -> Result<pb::TxnResponse, Refusal> {
        let succeeded = txn.compare.iter().all(|it| self.holds(it));
        let taken = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        let mut responses = Vec::new();
        for op in taken {
            let response = op.request.as_ref().map(|op| self.op(op)).transpose()?;
            responses.push(pb::ResponseOp { response });
        }
        Ok(pb::TxnResponse {
            header: None,
            succeeded,
            responses,
        })
    }

    fn holds(&self, compare: &pb::Compare) -> bool {
        let found = self
            .model
            .range(&compare.key, &compare.range_end, self.base);
        if found.is_empty() {
            return compare.target() != CompareTarget::Value
                && holds_for(compare, &KeyValue::default());
        }
        found.into_iter().all(|kv| holds_for(compare, kv))
    }

    fn range(&self, range: &pb::RangeRequest) -> Result<pb::RangeResponse, Refusal> {
        if range.revision > self.base {
            return Err(Refusal::Future);
        }
        let at = match range.revision {
            ..=0 => self.now(),
            revision => revision,
        };
        let found = self.model.range(&range.key, &range.range_end, at);
        let count = i64::try_from(found.len()).expect("small");
        if range.count_only {
            return Ok(pb::RangeResponse {
                count,
                ..Default::default()
            });
        }
        let passes = |kv: &&KeyValue| {
            let below = |value, bound| bound == 0 || value <= bound;
            below(kv.mod_revision, range.max_mod_revision)
                && kv.mod_revision >= range.min_mod_revision
                && below(kv.create_revision, range.max_create_revision)
                && kv.create_revision >= range.min_create_revision
        };
        let mut kvs: Vec<KeyValue> = found.into_iter().filter(passes).cloned().collect();
        let limit = usize::try_from(range.limit).unwrap_or(0);
        // Without an order etcd reads no further than it needs to know whether there is more, and sorts only that.
        let is_filtered = range.max_mod_revision
            | range.min_mod_revision
            | range.max_create_revision
            | range.min_create_revision;
        if limit > 0 && range.sort_order() == SortOrder::None && is_filtered == 0 {
            kvs.truncate(limit + 1);
        }
        sort(&mut kvs, range);
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        if range.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        Ok(pb::RangeResponse {
            header: None,
            kvs,
            more,
            count,
        })
    }
}

fn holds_for(compare: &pb::Compare, kv: &KeyValue) -> bool {
    let number = |own: i64, wanted: Option<i64>| own.cmp(&wanted.unwrap_or(0));
    let operand = compare.target_union.as_ref();
    let order = match compare.target() {
        CompareTarget::Version => number(
            kv.version,
            operand.and_then(|it| match it {
                TargetUnion::Version(wanted) => Some(*wanted),
                _ => None,
            }),
        ),
        CompareTarget::Create => number(
            kv.create_revision,
            operand.and_then(|it| match it {
                TargetUnion::CreateRevision(wanted) => Some(*wanted),
                _ => None,
            }),
        ),
        CompareTarget::Mod => number(
            kv.mod_revision,
            operand.and_then(|it| match it {
                TargetUnion::ModRevision(wanted) => Some(*wanted),
                _ => None,
            }),
        ),
        CompareTarget::Lease => number(
            kv.lease,
            operand.and_then(|it| match it {
                TargetUnion::Lease(wanted) => Some(*wanted),
                _ => None,
            }),
        ),
        CompareTarget::Value => match operand {
            Some(TargetUnion::Value(wanted)) => kv.value.cmp(wanted),
            _ => kv.value.cmp(&Bytes::new()),
        },
    };
    match compare.result() {
        CompareResult::Equal => order == Ordering::Equal,
        CompareResult::NotEqual => order != Ordering::Equal,
        CompareResult::Greater => order == Ordering::Greater,
        CompareResult::Less => order == Ordering::Less,
    }
}

/// Keys come in their own order; a target without an order means ascending.
fn sort(kvs: &mut [KeyValue], range: &pb::RangeRequest) {
    let descending = range.sort_order() == SortOrder::Descend;
    let by = |a: &KeyValue, b: &KeyValue| {
        let order = match range.sort_target() {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        if descending { order.reverse() } else { order }
    };
    kvs.sort_by(by);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, value: &'static str) -> Op {
        Op::RequestPut(pb::PutRequest {
            key: key.into(),
            value: value.into(),
            ..Default::default()
        })
    }

    fn all(revision: i64) -> Op {
        Op::RequestRange(pb::RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            revision,
            ..Default::default()
        })
    }

    fn values(response: Response) -> Vec<Bytes> {
        let Response::ResponseRange(range) = response else {
            panic!("a range answers a range");
        };
        range.kvs.into_iter().map(|kv| kv.value).collect()
    }

    /// A model that forgot old states would call right answers wrong.
    #[test]
    fn each_revision_keeps_its_own_state() {
        let mut model = Model::default();
        assert_eq!(model.apply(&put("a", "1")).expect("done").0, 2);
        assert_eq!(model.apply(&put("a", "2")).expect("done").0, 3);
        assert_eq!(values(model.read(&all(0), 2).expect("read")), ["1"]);
        assert_eq!(values(model.read(&all(2), 3).expect("read")), ["1"]);
        assert_eq!(values(model.read(&all(0), 3).expect("read")), ["2"]);
        assert_eq!(model.read(&all(4), 3), Err(Some(Refusal::Future)));
        assert_eq!(model.read(&put("a", "3"), 3), Err(None));
    }

    /// A transaction sees its own writes, and a refused one leaves no trace.
    #[test]
    fn a_refused_transaction_leaves_no_trace() {
        let mut model = Model::default();
        let op = |request| pb::RequestOp {
            request: Some(request),
        };
        let txn = |ops| {
            Op::RequestTxn(pb::TxnRequest {
                success: ops,
                ..Default::default()
            })
        };
        let seen = model.apply(&txn(vec![op(put("a", "1")), op(all(0))]));
        let Ok((2, Response::ResponseTxn(seen))) = seen else {
            panic!("{seen:?}");
        };
        let last = seen.responses[1].response.clone().expect("answered");
        assert_eq!(values(last), ["1"]);
        let refused = model.apply(&txn(vec![op(put("b", "1")), op(all(99))]));
        assert_eq!(refused, Err(Refusal::Future));
        assert_eq!(model.revision(), 2);
        assert!(!model.has(b"b", i64::MAX));
    }
}
