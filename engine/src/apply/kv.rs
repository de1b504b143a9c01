//! Put, and what puts and deletions share inside and outside of transactions.

use core::ops::ControlFlow;

use basalt_pb::hot::{self, DeleteRangeRequest, PutRequest};

use super::quota::put_cost;
use super::{Applied, Counts, Machine, Outcome, Refused};
use crate::mutant::{Mutant, is_on};
use crate::mvcc::{KeyRange, NeedRead, Resume, SliceBound, View, Want, Write};
use crate::query::write_record;
use crate::types::{LeaseId, Term};

impl Machine {
    #[inline]
    pub(super) fn put(
        &mut self,
        request: &PutRequest<'_>,
        term: Term,
        out: &mut Vec<u8>,
    ) -> Result<Applied, NeedRead> {
        if !self.has_lease(LeaseId(request.lease)) {
            return Ok(Refused::LeaseNotFound.into());
        }
        let has_space = self
            .quota
            .allows(put_cost(request), self.store.sizes().in_use);
        let revision = self.store.revision() + 1;
        let outcome = if is_plain(request) {
            let differs = is_on(Mutant::ApplyDifferently) && self.me.0.is_multiple_of(2);
            let value = if differs { &[][..] } else { request.value };
            let mut write = self.store.write();
            write.put(request.key, value, LeaseId(request.lease))?;
            assert!(write.finish() == revision);
            Outcome::Put { revision, term }
        } else {
            let start = out.len();
            if request.prev_kv {
                hot::write_header(out, &self.header(revision, term));
            }
            let mut write = self.store.write();
            let Some(()) = put_with_previous(&mut write, request, &mut self.txn.value, out)? else {
                out.truncate(start);
                return Ok(Refused::KeyNotFound.into());
            };
            assert!(write.finish() == revision);
            match request.prev_kv {
                true => Outcome::Encoded {
                    start,
                    end: out.len(),
                },
                false => Outcome::Put { revision, term },
            }
        };
        self.counts.add_put(request);
        Ok(match has_space {
            true => Applied::Done(outcome),
            false => Applied::WrittenWithoutSpace,
        })
    }
}

impl Counts {
    pub(super) fn add_put(&mut self, request: &PutRequest<'_>) {
        self.puts += 1;
        self.put_bytes += (request.key.len() + request.value.len()) as u64;
    }
}

/// Whether a Put needs nothing of the record before it.
pub(super) fn is_plain(request: &PutRequest<'_>) -> bool {
    !request.prev_kv && !request.ignore_value && !request.ignore_lease
}

/// A Put that looks at the record before it; that record is appended as field 2 if it is wanted.
/// `None`: there is none although something of it is to be kept; nothing is written then.
/// `kept` is scratch space for the value.
///
/// # Errors
/// The record must be read first; nothing is written.
pub(super) fn put_with_previous(
    write: &mut Write<'_>,
    request: &PutRequest<'_>,
    kept: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<Option<()>, NeedRead> {
    let mut lease = LeaseId(request.lease);
    let mut value = request.value;
    let previous = match request.prev_kv || request.ignore_value {
        true => write.get(request.key)?,
        false => write.meta(request.key)?,
    };
    match &previous {
        Some(previous) => {
            if request.ignore_lease {
                lease = previous.lease;
            }
            if request.ignore_value {
                kept.clear();
                kept.extend_from_slice(previous.value);
                value = kept;
            }
            if request.prev_kv {
                write_record(out, PREV_KV, previous, false);
            }
        }
        None if request.ignore_value || request.ignore_lease => return Ok(None),
        None => {}
    }
    write.put(request.key, value, lease)?;
    Ok(Some(()))
}

/// Deletes in one go and appends fields 2 and 3 of the answer: how many, and the records before, if
/// wanted.
///
/// # Errors
/// Something must be read first. Nothing is deleted, if the index of a range was read before.
pub(super) fn delete_range(
    write: &mut Write<'_>,
    request: &DeleteRangeRequest<'_>,
    out: &mut Vec<u8>,
) -> Result<u64, NeedRead> {
    let range = KeyRange::new(request.key, request.range_end);
    let deleted = if request.prev_kv {
        let view = write.view();
        let count = view.count_newest(&range)?;
        hot::put_uint_field(out, DELETED, count);
        write_previous(&view, &range, out)?;
        delete_all(write, &range)?
    } else {
        let deleted = delete_all(write, &range)?;
        hot::put_uint_field(out, DELETED, deleted);
        deleted
    };
    Ok(deleted)
}

fn delete_all(write: &mut Write<'_>, range: &KeyRange<'_>) -> Result<u64, NeedRead> {
    if let KeyRange::Single(key) = range {
        return Ok(u64::from(write.delete(key)?.is_some()));
    }
    let mut deleted = 0;
    let mut resume = Resume::default();
    let mut unbounded = SliceBound::NONE;
    write.delete_range(range, &mut resume, &mut unbounded, |_| deleted += 1)?;
    Ok(deleted)
}

fn write_previous(
    view: &View<'_>,
    range: &KeyRange<'_>,
    out: &mut Vec<u8>,
) -> Result<(), NeedRead> {
    let mut resume = Resume::default();
    let (want, bound) = (Want::Values, SliceBound::NONE);
    view.visit(range, view.revision(), want, &mut resume, bound, |record| {
        write_record(out, PREV_KVS, record, false);
        ControlFlow::Continue(())
    })?;
    Ok(())
}

/// `PutResponse.prev_kv`.
const PREV_KV: u32 = 2;
/// `DeleteRangeResponse.deleted`.
pub(super) const DELETED: u32 = 2;
/// `DeleteRangeResponse.prev_kvs`.
pub(super) const PREV_KVS: u32 = 3;
