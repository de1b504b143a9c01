//! What is checked of a transaction before it is proposed or run.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use basalt_pb::hot::{PutRequest, RequestOp, RequestOps, TxnRequest};

use super::errors::Error;
use super::kv::{check_delete_range, check_put, check_range};

/// The checks on the whole request: number of operations, then each as if it came alone, then what
/// would touch one key twice.
///
/// # Errors
/// The first that fails, in etcd's order.
pub(super) fn check(txn: &TxnRequest<'_>, ops_max: usize) -> Result<(), Error> {
    check_ops(txn, ops_max)?;
    check_overlaps(txn.success())?;
    check_overlaps(txn.failure())
}

/// `ops_max` is what the levels above have left.
fn check_ops(txn: &TxnRequest<'_>, ops_max: usize) -> Result<(), Error> {
    let branches = [txn.success().len(), txn.failure().len()];
    let ops = txn.compares().len().max(branches[0]).max(branches[1]);
    let left = ops_max.checked_sub(ops).ok_or(Error::TooManyOps)?;
    if txn.compares().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for op in txn.success().chain(txn.failure()) {
        match op {
            RequestOp::Range(range) => check_range(&range)?,
            RequestOp::Put(put) => check_put(&put)?,
            RequestOp::DeleteRange(delete) => check_delete_range(&delete)?,
            RequestOp::Txn(inner) => check_ops(&inner, left)?,
            RequestOp::None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// Whether it can be answered from a view: all operations of both branches are ranges. A nested
/// transaction makes it a write whatever it holds.
pub(super) fn is_read_only(txn: &TxnRequest<'_>) -> bool {
    let kinds = [txn.success().kinds(), txn.failure().kinds()];
    !kinds.iter().any(|kinds| kinds.may_have_other_than_range())
}

/// Whether a read-only transaction may read what this member has. One without operations may not:
/// its comparisons are its answer (etcd lets it, see etcd-facts 22.3).
pub(super) fn is_serializable(txn: &TxnRequest<'_>) -> bool {
    let mut ops = txn.success().chain(txn.failure());
    let some = txn.success().len() + txn.failure().len() > 0;
    some && ops.all(|op| matches!(op, RequestOp::Range(range) if range.serializable))
}

/// Keys that one branch puts, and intervals that it deletes.
#[derive(Default)]
struct Touched<'a> {
    puts: HashSet<&'a [u8]>,
    deletes: Deletes<'a>,
}

/// Refuses a branch that would put one key twice, or put and delete it; with etcd's own order of
/// work and so with its gaps (etcd-facts 7.3).
fn check_overlaps(ops: RequestOps<'_>) -> Result<(), Error> {
    let kinds = ops.kinds();
    if kinds.may_have_txn() || kinds.may_have_delete_range() {
        return touched(ops).map(drop);
    }
    if ops.len() <= 1 {
        return Ok(());
    }
    let mut keys: Vec<&[u8]> = ops
        .filter_map(|op| match op {
            RequestOp::Put(put) => Some(put.key),
            _ => None,
        })
        .collect();
    keys.sort_unstable();
    match keys.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err(Error::DuplicateKey),
        false => Ok(()),
    }
}

fn touched<'a>(ops: RequestOps<'a>) -> Result<Touched<'a>, Error> {
    let mut all = Touched::default();
    for op in ops {
        if let RequestOp::DeleteRange(delete) = op {
            all.deletes.add(delete.key, delete.range_end);
        }
    }
    for op in ops {
        let RequestOp::Txn(inner) = op else {
            continue;
        };
        let then = touched(inner.success())?;
        let or_else = touched(inner.failure())?;
        for key in &then.puts {
            all.put(key, |_| false)?;
        }
        // Only one of the two branches runs, so they may put the same key.
        for key in &or_else.puts {
            all.put(key, |key| then.puts.contains(key))?;
        }
        all.deletes.merge(then.deletes);
        all.deletes.merge(or_else.deletes);
    }
    for op in ops {
        if let RequestOp::Put(PutRequest { key, .. }) = op {
            all.put(key, |_| false)?;
        }
    }
    Ok(all)
}

impl<'a> Touched<'a> {
    fn put(&mut self, key: &'a [u8], may_repeat: impl Fn(&[u8]) -> bool) -> Result<(), Error> {
        let is_new = self.puts.insert(key);
        if self.deletes.contains(key) || !(is_new || may_repeat(key)) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }
}

/// The end of an interval of keys, exclusive: right before the key, or right after it.
type End<'a> = (&'a [u8], bool);

/// A union of intervals of keys: disjoint, by their starts.
#[derive(Default)]
struct Deletes<'a>(BTreeMap<&'a [u8], End<'a>>);

impl<'a> Deletes<'a> {
    fn add(&mut self, key: &'a [u8], range_end: &'a [u8]) {
        if range_end.is_empty() {
            self.insert(key, (key, true));
        } else {
            self.insert(key, (range_end, false));
        }
    }

    fn insert(&mut self, mut start: &'a [u8], mut end: End<'a>) {
        // Ends before it begins: a range of nothing, or one to the last key, written with one zero
        // byte, which etcd stores so that it meets nothing.
        if end <= (start, false) {
            return;
        }
        if let Some((&before, &before_end)) = self.0.range(..=start).next_back()
            && before_end >= (start, false)
        {
            start = before;
            end = end.max(before_end);
        }
        while let Some((&after, &after_end)) = self.0.range(start..).next()
            && (after, false) <= end
        {
            end = end.max(after_end);
            self.0.remove(after);
        }
        self.0.insert(start, end);
    }

    fn merge(&mut self, other: Deletes<'a>) {
        for (start, end) in other.0 {
            self.insert(start, end);
        }
    }

    fn contains(&self, key: &[u8]) -> bool {
        let upto = (Bound::Unbounded, Bound::Included(key));
        let before = self.0.range::<[u8], _>(upto).next_back();
        before.is_some_and(|(_, end)| *end > (key, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use basalt_pb::etcdserverpb as pb;
    use pb::request_op::Request;
    use prost::Message as _;

    fn put(key: &str) -> pb::RequestOp {
        let put = pb::PutRequest {
            key: key.to_owned().into(),
            ..Default::default()
        };
        op(Request::RequestPut(put))
    }

    fn delete(key: &str, range_end: &str) -> pb::RequestOp {
        let delete = pb::DeleteRangeRequest {
            key: key.to_owned().into(),
            range_end: range_end.to_owned().into(),
            prev_kv: false,
        };
        op(Request::RequestDeleteRange(delete))
    }

    fn nested(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::RequestOp {
        op(Request::RequestTxn(txn(success, failure)))
    }

    fn txn(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::TxnRequest {
        pb::TxnRequest {
            compare: Vec::new(),
            success,
            failure,
        }
    }

    fn op(request: Request) -> pb::RequestOp {
        pb::RequestOp {
            request: Some(request),
        }
    }

    fn check_success(success: Vec<pb::RequestOp>) -> Result<(), Error> {
        let bytes = txn(success, Vec::new()).encode_to_vec();
        check(&TxnRequest::read(&bytes).unwrap(), 128)
    }

    const DUPLICATE: Result<(), Error> = Err(Error::DuplicateKey);

    /// [TXN-7] One key may be written once on a path through the transaction.
    #[test]
    fn a_key_put_twice_or_put_and_deleted_is_refused() {
        assert_eq!(check_success(vec![put("a"), put("b")]), Ok(()));
        assert_eq!(check_success(vec![put("a"), put("a")]), DUPLICATE);
        assert_eq!(check_success(vec![put("b"), delete("a", "c")]), DUPLICATE);
        assert_eq!(check_success(vec![delete("b", ""), put("b")]), DUPLICATE);
        assert_eq!(check_success(vec![delete("b", ""), put("b\0")]), Ok(()));
        assert_eq!(check_success(vec![delete("a", "b"), put("b")]), Ok(()));
        let deletes = vec![delete("a", "c"), delete("b", "d")];
        assert_eq!(check_success(deletes), Ok(()));
        let deletes = vec![delete("a", "c"), delete("b", "d"), put("c")];
        assert_eq!(check_success(deletes), DUPLICATE);
    }

    /// [TXN-7] The branches of one transaction exclude each other, siblings do not.
    #[test]
    fn branches_may_repeat_a_key_and_siblings_may_not() {
        let both = || nested(vec![put("a")], vec![put("a")]);
        assert_eq!(check_success(vec![both()]), Ok(()));
        assert_eq!(check_success(vec![both(), both()]), DUPLICATE);
        assert_eq!(check_success(vec![both(), put("a")]), DUPLICATE);
        assert_eq!(check_success(vec![delete("a", ""), both()]), DUPLICATE);
    }

    /// [TXN-7] What stock etcd lets pass, clients may rely on.
    #[test]
    fn etcds_gaps_are_kept() {
        let puts = || nested(vec![put("a")], vec![]);
        let deletes = || nested(vec![delete("a", "")], vec![]);
        assert_eq!(check_success(vec![puts(), deletes()]), Ok(()));
        assert_eq!(check_success(vec![deletes(), puts()]), DUPLICATE);
        assert_eq!(check_success(vec![put("b"), delete("a", "\0")]), Ok(()));
        assert_eq!(check_success(vec![delete("a", "\0"), put("b")]), Ok(()));
    }

    /// [TXN-8] The bound is one for a path through all levels.
    #[test]
    fn nested_operations_share_what_the_level_above_has_left() {
        let keys: Vec<String> = (0..126).map(|i| format!("k{i}")).collect();
        let mut ops: Vec<_> = keys.iter().map(|key| put(key)).collect();
        ops.push(nested(vec![put("x")], vec![]));
        assert_eq!(check_success(ops.clone()), Ok(()));
        ops.pop();
        ops.push(nested(vec![put("x"), put("y")], vec![]));
        assert_eq!(check_success(ops), Err(Error::TooManyOps));
    }

    /// [TXN-6] [CMP-5] Each operation is checked as if it came alone.
    #[test]
    fn empty_operations_and_keys_are_refused() {
        assert_eq!(
            check_success(vec![pb::RequestOp { request: None }]),
            Err(Error::KeyNotFound)
        );
        assert_eq!(check_success(vec![put("")]), Err(Error::EmptyKey));
        let bytes = pb::TxnRequest {
            compare: vec![pb::Compare::default()],
            ..Default::default()
        }
        .encode_to_vec();
        let txn = TxnRequest::read(&bytes).unwrap();
        assert_eq!(check(&txn, 128), Err(Error::EmptyKey));
    }

    #[test]
    fn transactions_of_ranges_are_read_only_and_nested_ones_are_not() {
        let range = |serializable| {
            op(Request::RequestRange(pb::RangeRequest {
                key: "a".into(),
                serializable,
                ..Default::default()
            }))
        };
        let of = |success, failure| {
            let bytes = txn(success, failure).encode_to_vec();
            let txn = TxnRequest::read(&bytes).unwrap();
            (is_read_only(&txn), is_serializable(&txn))
        };
        assert_eq!(of(vec![range(true)], vec![range(true)]), (true, true));
        assert_eq!(of(vec![range(true)], vec![range(false)]), (true, false));
        assert_eq!(of(vec![], vec![]), (true, false));
        let inner = nested(vec![range(true)], vec![]);
        assert_eq!(of(vec![inner], vec![]), (false, false));
    }
}
