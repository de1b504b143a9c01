//! DeleteRange. A range is deleted in slices that nobody sees before the last one is done.

use core::ops::ControlFlow;

use basalt_pb::hot::{self, DeleteRangeRequest};

use super::kv::{DELETED, PREV_KVS, delete_range};
use super::reply::empty;
use super::{Applied, Halt, Machine};
use crate::limits::APPLY_RECORDS_A_DELETE;
use crate::mvcc::{KeyRange, Resume, SliceBound, Store, Visited, Want};
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
        let mut job = self.job.take().unwrap_or_default();
        if let Err(halt) = job.poll(&mut self.store, request, &range, &mut self.slice) {
            self.job = Some(job);
            return Err(halt);
        }
        let outcome = self.answer(self.store.revision(), term, out, |out| {
            hot::put_uint_field(out, DELETED, u64::from(job.deleted));
            out.extend_from_slice(&job.previous);
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
    /// `More`, or a segment must be read first; nothing is deleted before everything that is wanted
    /// was read.
    fn poll(
        &mut self,
        store: &mut Store,
        request: &DeleteRangeRequest<'_>,
        range: &KeyRange<'_>,
        slice: &mut SliceBound,
    ) -> Result<(), Halt> {
        if !self.is_read && request.prev_kv {
            let Self {
                resume, previous, ..
            } = self;
            let view = store.view();
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
        let most = SliceBound {
            records: slice.records / APPLY_RECORDS_A_DELETE,
            bytes: slice.bytes,
        };
        if most.records == 0 || most.bytes == 0 {
            return Err(Halt::More);
        }
        if !self.has_changed() {
            // What is applied already is answered at the end of this turn, so readers must see it now:
            // nothing can be published between here and the last deletion.
            store.publish();
        }
        let mut left = most;
        let mut write = store.resume(self.deleted);
        let deleted = &mut self.deleted;
        let visited = write.delete_range(range, &mut self.resume, &mut left, |_| *deleted += 1);
        slice.records -= (most.records - left.records) * APPLY_RECORDS_A_DELETE;
        slice.bytes = left.bytes;
        match visited {
            Visited::End => {
                write.finish();
                Ok(())
            }
            Visited::More | Visited::Stopped => {
                assert!(write.pause() == self.deleted);
                Err(Halt::More)
            }
        }
    }
}
