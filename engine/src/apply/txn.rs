//! Transactions: compare, check, then run, so that a refusal leaves no trace.

use core::ops::ControlFlow;

use basalt_pb::etcdserverpb::range_request::SortTarget;
use basalt_pb::hot::{
    self, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, RequestOps, TxnRequest,
};

use super::kv::{delete_range, is_plain, put_with_previous};
use super::reply::empty;
use super::{Applied, Counts, Halt, Machine, Refused};
use crate::mvcc::{KeyRange, NeedRead, Record, Resume, SliceBound, View, Want, Write};
use crate::query::{Progress, RangeQuery, holds};
use crate::types::{LeaseId, Term};

/// Buffers that are used again for every transaction.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Which branch each transaction takes, outermost first, inner ones in the order of the ops.
    path: Vec<bool>,
    /// The answer behind its header.
    pub(super) body: Vec<u8>,
    /// A value that is kept (`ignore_value`).
    pub(super) value: Vec<u8>,
}

impl Machine {
    pub(super) fn txn(
        &mut self,
        request: &TxnRequest<'_>,
        term: Term,
        out: &mut Vec<u8>,
    ) -> Result<Applied, Halt> {
        if request.may_span() && (self.job.is_some() || !self.is_short(request)?) {
            return self.long_txn(request, term, out);
        }
        let mut scratch = core::mem::take(&mut self.txn);
        let applied = self.txn_with(request, term, &mut scratch, out);
        empty(&mut scratch.body);
        self.txn = scratch;
        Ok(applied?)
    }

    fn txn_with(
        &mut self,
        request: &TxnRequest<'_>,
        term: Term,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<Applied, NeedRead> {
        scratch.path.clear();
        choose(&self.store.view(), request, &mut scratch.path)?;
        if let Err(refused) = self.check(request, &mut scratch.path.iter())? {
            return Ok(refused.into());
        }
        if self.store.has_cold() {
            prefetch(&self.store.view(), request, &mut scratch.path.iter())?;
        }
        let size = self.store.sizes().in_use;
        let has_space = self.quota.allows_txn(request, size);
        let mut run = Run {
            before: self.store.revision(),
            write: self.store.write(),
            path: scratch.path.iter(),
            value: &mut scratch.value,
            counts: &mut self.counts,
            ops: 0,
        };
        run.txn(request, &mut scratch.body)
            .expect("everything that is read was read or fetched before the first change");
        run.counts.txns += u64::from(run.ops > 1);
        let revision = run.write.finish();
        if !has_space {
            return Ok(Applied::WrittenWithoutSpace);
        }
        let outcome = self.answer(revision, term, out, |out| {
            out.extend_from_slice(&scratch.body);
        });
        Ok(Applied::Done(outcome))
    }

    /// What can be refused on the taken path, in the order of the ops.
    pub(super) fn check(
        &self,
        request: &TxnRequest<'_>,
        path: &mut core::slice::Iter<'_, bool>,
    ) -> Result<Result<(), Refused>, NeedRead> {
        for op in taken(request, path) {
            let checked = match op {
                RequestOp::Range(range) => self.check_range(&range),
                RequestOp::Put(put) => self.check_put(&put)?,
                RequestOp::Txn(inner) => self.check(&inner, path)?,
                RequestOp::DeleteRange(_) | RequestOp::None => Ok(()),
            };
            if checked.is_err() {
                return Ok(checked);
            }
        }
        Ok(Ok(()))
    }

    /// Unlike outside a transaction a negative revision is compared too (etcd-facts 1, K5).
    fn check_range(&self, request: &RangeRequest<'_>) -> Result<(), Refused> {
        if request.revision == 0 {
            Ok(())
        } else if request.revision > self.store.revision() {
            Err(Refused::FutureRevision)
        } else if request.revision < self.store.compacted() {
            Err(Refused::Compacted)
        } else {
            Ok(())
        }
    }

    fn check_put(&self, request: &PutRequest<'_>) -> Result<Result<(), Refused>, NeedRead> {
        if !self.has_lease(LeaseId(request.lease)) {
            return Ok(Err(Refused::LeaseNotFound));
        }
        if request.ignore_value || request.ignore_lease {
            let view = self.store.view();
            if view.meta_at(request.key, view.revision())?.is_none() {
                return Ok(Err(Refused::KeyNotFound));
            }
        }
        Ok(Ok(()))
    }
}

/// A transaction that runs; all its branches are chosen.
pub(super) struct Run<'r> {
    /// The store's revision at the start.
    pub(super) before: i64,
    pub(super) write: Write<'r>,
    pub(super) path: core::slice::Iter<'r, bool>,
    pub(super) value: &'r mut Vec<u8>,
    pub(super) counts: &'r mut Counts,
    /// Operations so far, inner transactions opened up.
    pub(super) ops: u64,
}

impl Run<'_> {
    /// Appends fields 2 and 3 of the answer.
    fn txn(&mut self, request: &TxnRequest<'_>, out: &mut Vec<u8>) -> Result<(), NeedRead> {
        let succeeded = *self.path.next().expect(CHOSEN);
        hot::put_bool_field(out, SUCCEEDED, succeeded);
        for op in branch(request, succeeded) {
            let answer = hot::begin_nested(out, RESPONSES);
            self.op(&op, out)?;
            hot::end_nested(out, answer);
        }
        Ok(())
    }

    fn op(&mut self, op: &RequestOp<'_>, out: &mut Vec<u8>) -> Result<(), NeedRead> {
        let field = match op {
            RequestOp::Range(_) => 1,
            RequestOp::Put(_) => 2,
            RequestOp::DeleteRange(_) => 3,
            RequestOp::Txn(_) => 4,
            RequestOp::None => return Ok(()),
        };
        self.ops += u64::from(field != 4);
        let answer = hot::begin_nested(out, field);
        match op {
            RequestOp::Range(request) => {
                self.counts.ranges += 1;
                self.range(request, out)?;
            }
            RequestOp::Put(request) => {
                self.counts.add_put(request);
                self.put(request, out)?;
            }
            RequestOp::DeleteRange(request) => {
                self.counts.deletes += 1;
                self.delete_range(request, out)?;
            }
            RequestOp::Txn(request) => {
                // An inner transaction's header is there and empty (etcd-facts 1, K2).
                hot::write_header(out, &hot::Header::default());
                self.txn(request, out)?;
            }
            RequestOp::None => {}
        }
        hot::end_nested(out, answer);
        Ok(())
    }

    fn range(&mut self, request: &RangeRequest<'_>, out: &mut Vec<u8>) -> Result<(), NeedRead> {
        let view = self.write.view();
        write_revision(out, view.revision());
        let revision = RangeQuery::revision_of(request, view.revision());
        let range = KeyRange::new(request.key, request.range_end);
        let mut query = RangeQuery::new(request, revision);
        let progress = query.poll(&range, view, SliceBound::NONE, out)?;
        assert!(matches!(progress, Progress::Done { .. }));
        Ok(())
    }

    pub(super) fn put(
        &mut self,
        request: &PutRequest<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), NeedRead> {
        // A put always makes this transaction's revision, if nothing before it has.
        write_revision(out, self.before + 1);
        let Self { write, value, .. } = self;
        if is_plain(request) {
            write.put(request.key, request.value, LeaseId(request.lease))?;
            return Ok(());
        }
        if put_with_previous(write, request, value, out)?.is_some() {
            return Ok(());
        }
        // The key was there at the start and an earlier op of this transaction has deleted it (the
        // overlap check has holes, etcd-facts 7.3): keep what it had at the start.
        let at_start = write.view().get_at(request.key, self.before)?;
        let record = at_start.expect("checked before the transaction ran");
        let lease = match request.ignore_lease {
            true => record.lease,
            false => LeaseId(request.lease),
        };
        value.clear();
        value.extend_from_slice(match request.ignore_value {
            true => record.value,
            false => request.value,
        });
        write.put(request.key, value, lease)?;
        Ok(())
    }

    /// The store's revision once `range` is deleted: the header of a deletion comes before it and depends on whether there is
    /// anything.
    pub(super) fn revision_after(&self, range: &KeyRange<'_>) -> Result<i64, NeedRead> {
        let view = self.write.view();
        Ok(match view.count_newest(range)? > 0 {
            true => self.before + 1,
            false => view.revision(),
        })
    }

    fn delete_range(
        &mut self,
        request: &DeleteRangeRequest<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), NeedRead> {
        let range = KeyRange::new(request.key, request.range_end);
        let revision = self.revision_after(&range)?;
        write_revision(out, revision);
        delete_range(&mut self.write, request, out)?;
        assert!(self.write.view().revision() == revision);
        Ok(())
    }
}

/// Evaluates the comparisons of a transaction and of the inner ones on its path, all at the state at
/// the start.
fn choose(view: &View<'_>, request: &TxnRequest<'_>, path: &mut Vec<bool>) -> Result<(), NeedRead> {
    let mut succeeded = true;
    for compare in request.compares() {
        if !holds(*view, &compare)? {
            succeeded = false;
            break;
        }
    }
    path.push(succeeded);
    let ops = branch(request, succeeded);
    if !ops.kinds().may_have_txn() {
        return Ok(());
    }
    for op in ops {
        if let RequestOp::Txn(inner) = op {
            choose(view, &inner, path)?;
        }
    }
    Ok(())
}

/// Reads what the ops on the path will read or change, so that running them cannot meet a page or a
/// segment on disk.
fn prefetch(
    view: &View<'_>,
    request: &TxnRequest<'_>,
    path: &mut core::slice::Iter<'_, bool>,
) -> Result<(), NeedRead> {
    let read = |key, end, revision, want| {
        let range = KeyRange::new(key, end);
        let mut resume = Resume::default();
        let each = |_: &Record<'_>| ControlFlow::Continue(());
        view.visit(&range, revision, want, &mut resume, SliceBound::NONE, each)
    };
    let newest = view.revision();
    for op in taken(request, path) {
        match op {
            RequestOp::Range(request) => {
                // At an older revision a key that an op before it changes is looked for by its records.
                let by_index = request.revision <= 0
                    && (request.keys_only || request.count_only)
                    && request.sort_target != SortTarget::Value as i32;
                let want = match by_index {
                    true => Want::Keys,
                    false => Want::Values,
                };
                let revision = RangeQuery::revision_of(&request, newest);
                read(request.key, request.range_end, revision, want)?;
            }
            RequestOp::Put(request) => {
                let want = match is_plain(&request) {
                    true => Want::Keys,
                    false => Want::Values,
                };
                read(request.key, &[], newest, want)?;
            }
            RequestOp::DeleteRange(request) => {
                let want = match request.prev_kv {
                    true => Want::Values,
                    false => Want::Keys,
                };
                read(request.key, request.range_end, newest, want)?;
            }
            RequestOp::Txn(inner) => prefetch(view, &inner, path)?,
            RequestOp::None => {}
        }
    }
    Ok(())
}

/// The ops of the branch that the next step of the path takes.
fn taken<'a>(request: &TxnRequest<'a>, path: &mut core::slice::Iter<'_, bool>) -> RequestOps<'a> {
    branch(request, *path.next().expect(CHOSEN))
}

pub(super) fn branch<'a>(request: &TxnRequest<'a>, succeeded: bool) -> RequestOps<'a> {
    match succeeded {
        true => request.success(),
        false => request.failure(),
    }
}

/// The header of an op's answer carries the revision alone.
pub(super) fn write_revision(out: &mut Vec<u8>, revision: i64) {
    let header = hot::Header {
        revision,
        ..hot::Header::default()
    };
    hot::write_header(out, &header);
}

/// `TxnResponse.succeeded`.
pub(super) const SUCCEEDED: u32 = 2;
/// `TxnResponse.responses`.
pub(super) const RESPONSES: u32 = 3;
pub(super) const CHOSEN: &str = "every transaction on the path was given a branch";
