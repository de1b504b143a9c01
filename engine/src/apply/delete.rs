//! DeleteRange. A range is deleted in slices that nobody sees before the last one is done.

use core::ops::ControlFlow;

use basalt_pb::hot::{self, DeleteRangeRequest};

use super::kv::{DELETED, PREV_KVS, delete_range};
use super::reply::empty;
use super::{Applied, Halt, Job, Machine};
use crate::limits::APPLY_RECORDS_A_DELETE;
use crate::mvcc::{KeyRange, Resume, SliceBound, Store, View, Visited, Want, Write};
use crate::query::write_record;
use crate::types::Term;

/// A DeleteRange that is not finished.
#[derive(Debug, Default)]
pub(super) struct DeleteJob {
    /// Whether all previous records that are wanted are in `previous`.
    is_read: bool,
    /// Of the reading, then of the deleting.
    resume: Resume,
    /// Field 3 of the answer.
    previous: Vec<u8>,
    /// Keys deleted so far, which are the changes of its transaction.
    deleted: u32,
}

impl Machine {
    pub(super) fn delete_range(
        &mut self,
        request: &DeleteRangeRequest<'_>,
        term: Term,
        out: &mut Vec<u8>,
    ) -> Result<Applied, Halt> {
        let range = KeyRange::new(request.key, request.range_end);
        if let KeyRange::Single(_) = range {
            return self.delete_key(request, term, out);
        }
        let mut job = match self.job.take() {
            Some(Job::Delete(job)) => job,
            None => DeleteJob::default(),
            Some(Job::Txn(_) | Job::Revoke(_)) => unreachable!("the entry is the same"),
        };
        if let Err(halt) = job.poll(&mut self.store, request, &range, &mut self.slice) {
            self.job = Some(Job::Delete(job));
            return Err(halt);
        }
        let outcome = self.answer(self.store.revision(), term, out, |out| {
            job.write_answer(out)
        });
        self.counts.deletes += 1;
        Ok(Applied::Done(outcome))
    }

    fn delete_key(
        &mut self,
        request: &DeleteRangeRequest<'_>,
        term: Term,
        out: &mut Vec<u8>,
    ) -> Result<Applied, Halt> {
        // The header says the revision after the deletion, so that is written behind a gap first.
        let mut body = core::mem::take(&mut self.txn.body);
        let mut write = self.store.write();
        let deleted = delete_range(&mut write, request, &mut body);
        let revision = write.finish();
        let outcome =
            deleted.map(|_| self.answer(revision, term, out, |out| out.extend_from_slice(&body)));
        empty(&mut body);
        self.txn.body = body;
        self.counts.deletes += u64::from(outcome.is_ok());
        Ok(Applied::Done(outcome?))
    }
}

impl DeleteJob {
    /// Whether the store holds a part of it, which must not be published.
    pub(super) fn has_changed(&self) -> bool {
        self.deleted > 0
    }

    /// Goes on within `slice`, which is less by what it used; `Ok` when everything is deleted.
    ///
    /// # Errors
    /// `More`, or a segment must be read first.
    fn poll(
        &mut self,
        store: &mut Store,
        request: &DeleteRangeRequest<'_>,
        range: &KeyRange<'_>,
        slice: &mut SliceBound,
    ) -> Result<(), Halt> {
        self.read(&store.view(), request, range, slice)?;
        if !self.has_changed() {
            // What is applied already is answered at the end of this turn, so readers must see it now:
            // nothing can be published between here and the last deletion.
            store.publish();
        }
        let mut write = store.resume(self.deleted);
        let done = self.delete(&mut write, range, slice);
        match done {
            Ok(()) => _ = write.finish(),
            Err(_) => assert!(write.pause() == self.deleted),
        }
        done
    }

    /// Gathers the records before, if they are wanted; nothing is deleted before that is done.
    ///
    /// # Errors
    /// As `poll`.
    pub(super) fn read(
        &mut self,
        view: &View<'_>,
        request: &DeleteRangeRequest<'_>,
        range: &KeyRange<'_>,
        slice: &mut SliceBound,
    ) -> Result<(), Halt> {
        if !self.is_read && request.prev_kv {
            let Self {
                resume, previous, ..
            } = self;
            let newest = view.revision();
            let visited =
                view.visit_within(range, newest, Want::Values, resume, slice, |record| {
                    write_record(previous, PREV_KVS, record, false);
                    ControlFlow::Continue(())
                })?;
            if visited == Visited::More {
                return Err(Halt::More);
            }
            *resume = Resume::default();
        }
        self.is_read = true;
        Ok(())
    }

    /// Deletes within `slice`.
    ///
    /// # Errors
    /// `More`, or a page must be read first; what was deleted so far is counted.
    pub(super) fn delete(
        &mut self,
        write: &mut Write<'_>,
        range: &KeyRange<'_>,
        slice: &mut SliceBound,
    ) -> Result<(), Halt> {
        let most = SliceBound {
            records: slice.records / APPLY_RECORDS_A_DELETE,
            bytes: slice.bytes,
        };
        if most.records == 0 || most.bytes == 0 {
            return Err(Halt::More);
        }
        let mut left = most;
        let deleted = &mut self.deleted;
        let visited = write.delete_range(range, &mut self.resume, &mut left, |_| *deleted += 1);
        slice.records -= (most.records - left.records) * APPLY_RECORDS_A_DELETE;
        slice.bytes = left.bytes;
        match visited? {
            Visited::End => Ok(()),
            Visited::More | Visited::Stopped => Err(Halt::More),
        }
    }

    /// Appends fields 2 and 3 of the answer, at the end.
    pub(super) fn write_answer(&self, out: &mut Vec<u8>) {
        hot::put_uint_field(out, DELETED, u64::from(self.deleted));
        out.extend_from_slice(&self.previous);
    }
}
