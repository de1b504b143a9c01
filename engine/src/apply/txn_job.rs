//! A transaction over many records, in slices: the same steps as in `txn.rs`, in the same order, with a place to go on
//! from in each.

use core::ops::ControlFlow;

use basalt_pb::etcdserverpb::range_request::SortOrder;
use basalt_pb::hot::{
    self, DeleteRangeRequest, Mark, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use super::delete::DeleteJob;
use super::txn::{CHOSEN, RESPONSES, Run, SUCCEEDED, branch, write_revision};
use super::{Applied, Halt, Job, Machine};
use crate::limits::{APPLY_RECORDS_A_DELETE, READ_SLICE_RECORDS};
use crate::mvcc::{KeyRange, NeedRead, Resume, SliceBound, View, Visited, Want};
use crate::query::{Comparison, Progress, RangeQuery};
use crate::types::Term;

/// A transaction that is not finished.
#[derive(Debug, Default)]
pub(super) struct TxnJob {
    /// Which branch each transaction takes, in the order of `txn.rs`, as far as it is known.
    path: Vec<bool>,
    comparing: Comparing,
    /// From the moment that nothing can be refused any more.
    running: Option<Running>,
}

/// Where in the comparisons of the next transaction it stands.
#[derive(Debug, Default)]
struct Comparing {
    index: usize,
    /// The one at `index`.
    comparison: Comparison,
}

#[derive(Debug)]
struct Running {
    /// The store's revision at the start.
    before: i64,
    has_space: bool,
    /// The answer behind its header.
    body: Vec<u8>,
    /// Messages of the answer that are not whole yet, outermost first.
    open: Vec<Mark>,
    /// Steps that are done.
    done: usize,
    /// The step after them, if it was begun.
    part: Option<Part>,
    /// Changes so far.
    changes: u32,
    ops: u64,
}

#[derive(Debug)]
enum Part {
    Range(Box<RangeQuery>),
    Delete(Box<DeleteJob>),
}

/// What running the transaction consists of; the path decides which steps there are.
enum Step<'a> {
    Succeeded(bool),
    Open(u32),
    InnerHeader,
    Range(RangeRequest<'a>),
    Put(PutRequest<'a>),
    DeleteRange(DeleteRangeRequest<'a>),
    Close,
}

impl Machine {
    /// Whether everything that the transaction compares, reads and deletes is so little that it is done
    /// in one go; taken from the slice then. All branches are looked at, as none is chosen yet.
    ///
    /// # Errors
    /// A segment must be read first.
    pub(super) fn is_short(&mut self, request: &TxnRequest<'_>) -> Result<bool, NeedRead> {
        let mut left = SliceBound {
            records: self.slice.records.min(READ_SLICE_RECORDS),
            bytes: self.slice.bytes,
        };
        let before = left.records;
        let is_short = fits(&self.store.view(), request, &mut left)?;
        if is_short {
            self.slice.records -= before - left.records;
        }
        Ok(is_short)
    }

    pub(super) fn long_txn(
        &mut self,
        request: &TxnRequest<'_>,
        term: Term,
        out: &mut Vec<u8>,
    ) -> Result<Applied, Halt> {
        let mut job = match self.job.take() {
            Some(Job::Txn(job)) => job,
            None => Box::default(),
            Some(Job::Delete(_) | Job::Revoke(_)) => unreachable!("the entry is the same"),
        };
        let polled = self.poll_txn(&mut job, request);
        let (applied, running) = match (polled, job.running.take()) {
            (Err(halt), running) => {
                job.running = running;
                self.job = Some(Job::Txn(job));
                return Err(halt);
            }
            (Ok(Some(refused)), _) => return Ok(refused),
            (Ok(None), running) => (Applied::WrittenWithoutSpace, running.expect("it has run")),
        };
        self.counts.txns += u64::from(running.ops > 1);
        if !running.has_space {
            return Ok(applied);
        }
        let revision = self.store.revision();
        let outcome = self.answer(revision, term, out, |out| {
            out.extend_from_slice(&running.body);
        });
        Ok(Applied::Done(outcome))
    }

    /// Goes on within the slice. `Some`: it is refused.
    fn poll_txn(
        &mut self,
        job: &mut TxnJob,
        request: &TxnRequest<'_>,
    ) -> Result<Option<Applied>, Halt> {
        if job.running.is_none() {
            let view = self.store.view();
            job.choose(&view, request, &mut 0, &mut self.slice)?;
            if let Err(refused) = self.check(request, &mut job.path.iter())? {
                return Ok(Some(refused.into()));
            }
            // As in `DeleteJob::poll`: from here on nothing is published.
            self.store.publish();
            let used = self.store.sizes().in_use;
            job.running = Some(Running {
                before: self.store.revision(),
                has_space: self.quota.allows_txn(request, used),
                body: Vec::new(),
                open: Vec::new(),
                done: 0,
                part: None,
                changes: 0,
                ops: 0,
            });
        }
        let mut steps = Vec::new();
        list(request, &mut job.path.iter(), &mut steps);
        let running = job.running.as_mut().expect("set above");
        let mut run = Run {
            before: running.before,
            write: self.store.resume(running.changes),
            path: [].iter(),
            value: &mut self.txn.value,
            counts: &mut self.counts,
            ops: running.ops,
        };
        let mut halted = Ok(None);
        for step in &steps[running.done..] {
            if let Err(halt) = running.step(step, &mut run, &mut self.slice) {
                halted = Err(halt);
                break;
            }
            running.done += 1;
        }
        running.ops = run.ops;
        match halted {
            Ok(_) => _ = run.write.finish(),
            Err(_) => running.changes = run.write.pause(),
        }
        halted
    }
}

impl TxnJob {
    /// Whether the store holds a part of it, which must not be published.
    pub(super) fn has_changed(&self) -> bool {
        self.running.as_ref().is_some_and(|it| it.changes > 0)
    }

    /// Evaluates the comparisons that are left. `at`: the number of this transaction on the path.
    fn choose(
        &mut self,
        view: &View<'_>,
        request: &TxnRequest<'_>,
        at: &mut usize,
        slice: &mut SliceBound,
    ) -> Result<(), Halt> {
        if *at == self.path.len() {
            let succeeded = self.comparing.poll(view, request, slice)?;
            self.comparing = Comparing::default();
            self.path.push(succeeded);
        }
        let succeeded = self.path[*at];
        *at += 1;
        for op in branch(request, succeeded) {
            if let RequestOp::Txn(inner) = op {
                self.choose(view, &inner, at, slice)?;
            }
        }
        Ok(())
    }
}

impl Comparing {
    /// Whether all comparisons of `request` hold.
    fn poll(
        &mut self,
        view: &View<'_>,
        request: &TxnRequest<'_>,
        slice: &mut SliceBound,
    ) -> Result<bool, Halt> {
        for compare in request.compares().skip(self.index) {
            match self
                .comparison
                .poll(*view, view.revision(), &compare, slice)?
            {
                Some(true) => {}
                Some(false) => return Ok(false),
                None => return Err(Halt::More),
            }
            *self = Self {
                index: self.index + 1,
                ..Self::default()
            };
        }
        Ok(true)
    }
}

impl Running {
    fn step(
        &mut self,
        step: &Step<'_>,
        run: &mut Run<'_>,
        slice: &mut SliceBound,
    ) -> Result<(), Halt> {
        match step {
            Step::Succeeded(succeeded) => {
                hot::put_bool_field(&mut self.body, SUCCEEDED, *succeeded);
            }
            Step::Open(field) => self.open.push(hot::begin_nested(&mut self.body, *field)),
            Step::Close => {
                let mark = self.open.pop().expect("each was opened");
                hot::end_nested(&mut self.body, mark);
            }
            Step::InnerHeader => hot::write_header(&mut self.body, &hot::Header::default()),
            Step::Put(request) => {
                let start = self.body.len();
                if let Err(need) = run.put(request, &mut self.body) {
                    self.body.truncate(start);
                    return Err(need.into());
                }
                run.counts.add_put(request);
                run.ops += 1;
            }
            Step::Range(request) => {
                self.range(request, run, slice)?;
                run.counts.ranges += 1;
                run.ops += 1;
            }
            Step::DeleteRange(request) => {
                self.delete_range(request, run, slice)?;
                run.counts.deletes += 1;
                run.ops += 1;
            }
        }
        Ok(())
    }

    fn range(
        &mut self,
        request: &RangeRequest<'_>,
        run: &mut Run<'_>,
        slice: &mut SliceBound,
    ) -> Result<(), Halt> {
        let view = run.write.view();
        let Self { part, body, .. } = self;
        let mut query = match part.take() {
            Some(Part::Range(query)) => query,
            Some(Part::Delete(_)) => unreachable!("the step is the same"),
            None => {
                write_revision(body, view.revision());
                let revision = RangeQuery::revision_of(request, view.revision());
                Box::new(RangeQuery::new(request, revision))
            }
        };
        if slice.records == 0 || slice.bytes == 0 {
            *part = Some(Part::Range(query));
            return Err(Halt::More);
        }
        let range = KeyRange::new(request.key, request.range_end);
        let (before, start) = (query.handled(), body.len());
        let polled = query.poll(&range, view, *slice, body);
        let handled = usize::try_from(query.handled() - before).unwrap_or(usize::MAX);
        slice.records = slice.records.saturating_sub(handled.max(1));
        slice.bytes = slice.bytes.saturating_sub(body.len() - start);
        let halt = match polled {
            Ok(Progress::Done { .. }) => return Ok(()),
            Ok(Progress::More) => {
                // What it examined and did not hand out counts, too.
                slice.records = 0;
                Halt::More
            }
            Err(need) => need.into(),
        };
        *part = Some(Part::Range(query));
        Err(halt)
    }

    fn delete_range(
        &mut self,
        request: &DeleteRangeRequest<'_>,
        run: &mut Run<'_>,
        slice: &mut SliceBound,
    ) -> Result<(), Halt> {
        let range = KeyRange::new(request.key, request.range_end);
        let mut job = match self.part.take() {
            Some(Part::Delete(job)) => job,
            Some(Part::Range(_)) => unreachable!("the step is the same"),
            None => {
                write_revision(&mut self.body, run.revision_after(&range)?);
                Box::default()
            }
        };
        let done = job
            .read(&run.write.view(), request, &range, slice)
            .and_then(|()| job.delete(&mut run.write, &range, slice));
        match done {
            Ok(()) => job.write_answer(&mut self.body),
            Err(_) => self.part = Some(Part::Delete(job)),
        }
        done
    }
}

/// The steps of a transaction whose branches are all chosen.
fn list<'a>(
    request: &TxnRequest<'a>,
    path: &mut core::slice::Iter<'_, bool>,
    steps: &mut Vec<Step<'a>>,
) {
    let succeeded = *path.next().expect(CHOSEN);
    steps.push(Step::Succeeded(succeeded));
    for op in branch(request, succeeded) {
        steps.push(Step::Open(RESPONSES));
        match op {
            RequestOp::Range(range) => steps.extend([Step::Open(1), Step::Range(range)]),
            RequestOp::Put(put) => steps.extend([Step::Open(2), Step::Put(put)]),
            RequestOp::DeleteRange(range) => {
                steps.extend([Step::Open(3), Step::DeleteRange(range)]);
            }
            RequestOp::Txn(inner) => {
                // An inner transaction's header is there and empty (etcd-facts 1, K2).
                steps.extend([Step::Open(4), Step::InnerHeader]);
                list(&inner, path, steps);
            }
            RequestOp::None => {}
        }
        if !matches!(op, RequestOp::None) {
            steps.push(Step::Close);
        }
        steps.push(Step::Close);
    }
}

/// Whether all ranges together fit `left`, which is less by what they take.
fn fits(
    view: &View<'_>,
    request: &TxnRequest<'_>,
    left: &mut SliceBound,
) -> Result<bool, NeedRead> {
    for compare in request.compares() {
        let range = KeyRange::new(compare.key, compare.range_end);
        if !walk_fits(view, &range, view.revision(), 0, left)? {
            return Ok(false);
        }
    }
    for op in request.success().chain(request.failure()) {
        let fits = match op {
            RequestOp::Range(request) => {
                let range = KeyRange::new(request.key, request.range_end);
                let revision = RangeQuery::revision_of(&request, view.revision());
                let is_cut = request.sort_order != SortOrder::Descend as i32
                    && request.sort_target == 0
                    && request.limit > 0;
                let first = if is_cut { request.limit } else { 0 };
                walk_fits(view, &range, revision, first, left)?
            }
            RequestOp::DeleteRange(request) => {
                let range = KeyRange::new(request.key, request.range_end);
                let before = left.records;
                let fits = walk_fits(view, &range, view.revision(), 0, left)?;
                let used = (before - left.records) * APPLY_RECORDS_A_DELETE;
                left.records = before.saturating_sub(used);
                fits && used <= before
            }
            RequestOp::Txn(inner) => fits(view, &inner, left)?,
            RequestOp::Put(_) | RequestOp::None => true,
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Walks over the keys of a range, or the `first` ones if that is above 0. A single key counts nothing.
fn walk_fits(
    view: &View<'_>,
    range: &KeyRange<'_>,
    revision: i64,
    first: i64,
    left: &mut SliceBound,
) -> Result<bool, NeedRead> {
    if let KeyRange::Single(_) = range {
        return Ok(true);
    }
    let (mut resume, mut met) = (Resume::default(), 0);
    let visited = view.visit_within(range, revision, Want::Keys, &mut resume, left, |_| {
        met += 1;
        match met == first {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    Ok(visited != Visited::More)
}
