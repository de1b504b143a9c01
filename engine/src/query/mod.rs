//! What a RangeRequest answers, the same for reads of clients and for reads inside transactions.
//!
//! Promises: etcd's order of work (filter, sort, cut), counts and `more`; resumable in slices, so
//! that a reader pins nothing for long; no allocation in key order.
//! Never: checks of the request or of its revision, which differ inside and outside transactions.
//! Start at `RangeQuery::poll`.

mod compare;
mod sorter;

use core::ops::ControlFlow;

use basalt_pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use basalt_pb::hot::{self, RangeRequest};

use crate::mvcc::{Counting, KeyRange, NeedRead, Record, Resume, SliceBound, View, Visited, Want};
use sorter::Sorter;

pub use compare::{Comparison, holds};

/// One RangeRequest under way at a fixed revision.
#[derive(Debug)]
pub struct RangeQuery {
    /// The revision that is read.
    revision: i64,
    /// Answers wanted; 0 is all.
    limit: u64,
    /// Whether values are left out of the answer.
    keys_only: bool,
    filter: Filter,
    stage: Stage,
    resume: Resume,
    /// Of the keys of the range, where not all are met.
    counting: Counting,
    /// Records met in the range, before any filter.
    met: u64,
    /// Records in the answer so far.
    sent: u64,
    more: bool,
    /// For answers that are not in key order.
    sorter: Option<Box<Sorter>>,
}

/// Whether a query is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// The answer is whole.
    Done {
        /// Live keys of the range, whatever limit and filters say.
        count: u64,
    },
    /// The slice is used up: poll again, with any newer pin.
    More,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Writes records as they come, in key order or backwards.
    Stream { descending: bool },
    /// Gathers records to sort them. `first`: how many to take at most, 0 is all.
    Collect { first: u64 },
    /// Writes what was gathered, in its new order; `whole` as below.
    Merge { whole: bool },
    /// Everything is written but `more` and the count; `whole`: every record of the range was met.
    Total { whole: bool },
}

/// The order of an answer that is not in key order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SortBy {
    target: SortTarget,
    descending: bool,
}

/// The revision filters; 0 is unset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Filter {
    min_mod: i64,
    max_mod: i64,
    min_create: i64,
    max_create: i64,
}

impl RangeQuery {
    /// A query of `request` at `revision`, which the caller has checked and which is above 0.
    #[must_use]
    pub fn new(request: &RangeRequest<'_>, revision: i64) -> Self {
        let filter = Filter {
            min_mod: request.min_mod_revision,
            max_mod: request.max_mod_revision,
            min_create: request.min_create_revision,
            max_create: request.max_create_revision,
        };
        let limit = u64::try_from(request.limit).unwrap_or(0);
        let (stage, by) = Stage::of(request, filter, limit);
        Self {
            revision,
            limit,
            keys_only: request.keys_only,
            filter,
            stage,
            resume: Resume::default(),
            counting: Counting::default(),
            met: 0,
            sent: 0,
            more: false,
            sorter: by.map(|by| Box::new(Sorter::new(by, request.keys_only))),
        }
    }

    /// The revision that `request` asks for where `newest` is the newest one.
    #[must_use]
    pub fn revision_of(request: &RangeRequest<'_>, newest: i64) -> i64 {
        match request.revision {
            ..=0 => newest,
            asked => asked,
        }
    }

    /// Goes on within `bound` and appends fields of `RangeResponse` behind the header: `kvs`, at the
    /// end `more` and `count`. `range` is the same at every call.
    ///
    /// # Errors
    /// Something must be read from disk first. The query and `out` are ready to be polled again.
    pub fn poll(
        &mut self,
        range: &KeyRange<'_>,
        view: View<'_>,
        bound: SliceBound,
        out: &mut Vec<u8>,
    ) -> Result<Progress, NeedRead> {
        let visited = match self.stage {
            Stage::Merge { .. } | Stage::Total { .. } => None,
            Stage::Stream { descending } => Some(match range {
                KeyRange::Single(key) => self.single(key, view, out)?,
                _ => self.stream(range, view, bound, descending, out)?,
            }),
            Stage::Collect { first } => Some(self.collect(range, view, bound, first)?),
        };
        match visited {
            Some(Visited::More) => return Ok(Progress::More),
            Some(visited) => {
                let whole = visited == Visited::End;
                self.stage = Stage::Merge { whole };
            }
            None => {}
        }
        if let Stage::Merge { whole } = self.stage {
            if !self.merge(bound, out) {
                return Ok(Progress::More);
            }
            self.stage = Stage::Total { whole };
        }
        let count = match self.stage {
            Stage::Total { whole: true } => self.met,
            _ if self.revision == view.revision() => view.count_newest(range)?,
            _ => {
                let counting = &mut self.counting;
                let Some(count) = view.count(range, self.revision, counting, bound.records)? else {
                    return Ok(Progress::More);
                };
                count
            }
        };
        hot::put_bool_field(out, 3, self.more);
        hot::put_uint_field(out, 4, count);
        Ok(Progress::Done { count })
    }

    /// Records of the range and of the answer that it has handled so far.
    #[must_use]
    pub(crate) fn handled(&self) -> u64 {
        self.met + self.sent
    }

    fn single(
        &mut self,
        key: &[u8],
        view: View<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Visited, NeedRead> {
        let want = match self.keys_only {
            true => Want::Keys,
            false => Want::Values,
        };
        let found = view.get_on(key, self.revision, want, &mut self.resume)?;
        if let Some(record) = found {
            self.met = 1;
            if self.filter.passes(&record) {
                write_record(out, KVS, &record, self.keys_only);
            }
        }
        Ok(Visited::End)
    }

    fn stream(
        &mut self,
        range: &KeyRange<'_>,
        view: View<'_>,
        bound: SliceBound,
        descending: bool,
        out: &mut Vec<u8>,
    ) -> Result<Visited, NeedRead> {
        let Self {
            revision,
            limit,
            keys_only,
            filter,
            resume,
            met,
            sent,
            more,
            ..
        } = self;
        let want = if *keys_only { Want::Keys } else { Want::Values };
        let each = |record: &Record<'_>| {
            *met += 1;
            if !filter.passes(record) {
                return ControlFlow::Continue(());
            }
            if *limit > 0 && *sent == *limit {
                *more = true;
                return ControlFlow::Break(());
            }
            *sent += 1;
            write_record(out, KVS, record, *keys_only);
            ControlFlow::Continue(())
        };
        if descending {
            view.visit_back(range, *revision, want, resume, bound, each)
        } else {
            view.visit(range, *revision, want, resume, bound, each)
        }
    }

    fn collect(
        &mut self,
        range: &KeyRange<'_>,
        view: View<'_>,
        bound: SliceBound,
        first: u64,
    ) -> Result<Visited, NeedRead> {
        let Some(sorter) = &mut self.sorter else {
            unreachable!("what is collected is sorted");
        };
        let want = match self.keys_only && !sorter.needs_values() {
            true => Want::Keys,
            false => Want::Values,
        };
        let each = |record: &Record<'_>| {
            self.met += 1;
            if self.filter.passes(record) {
                sorter.push(record);
            }
            if first > 0 && sorter.len() as u64 == first {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        view.visit(range, self.revision, want, &mut self.resume, bound, each)
    }

    /// Whether everything that was gathered is written; at once if nothing was.
    fn merge(&mut self, bound: SliceBound, out: &mut Vec<u8>) -> bool {
        let Some(sorter) = &mut self.sorter else {
            return true;
        };
        let total = sorter.len() as u64;
        self.more = self.limit > 0 && total > self.limit;
        self.sent = if self.more { self.limit } else { total };
        let wanted = usize::try_from(self.sent).expect("no more than were gathered");
        sorter.merge(wanted, bound, out)
    }
}

impl Stage {
    /// The first stage, and the order if it is not that of the keys.
    fn of(request: &RangeRequest<'_>, filter: Filter, limit: u64) -> (Self, Option<SortBy>) {
        if request.count_only {
            return (Self::Total { whole: false }, None);
        }
        let order = SortOrder::try_from(request.sort_order).unwrap_or(SortOrder::None);
        let target = SortTarget::try_from(request.sort_target).unwrap_or(SortTarget::Key);
        let descending = order == SortOrder::Descend;
        let single = request.range_end.is_empty();
        if target == SortTarget::Key || single {
            return (Self::Stream { descending }, None);
        }
        // Without an order and filters etcd's storage cuts before anything is sorted.
        let cut_first = order == SortOrder::None && filter == Filter::default() && limit > 0;
        let first = if cut_first {
            limit.saturating_add(1)
        } else {
            0
        };
        let by = SortBy { target, descending };
        (Self::Collect { first }, Some(by))
    }
}

impl Filter {
    fn passes(&self, record: &Record<'_>) -> bool {
        let (modified, created) = (record.mod_revision.main, record.create_revision);
        (self.max_mod == 0 || modified <= self.max_mod)
            && (self.min_mod == 0 || modified >= self.min_mod)
            && (self.max_create == 0 || created <= self.max_create)
            && (self.min_create == 0 || created >= self.min_create)
    }
}

/// Appends a record as field `field` of an answer.
#[inline]
pub fn write_record(out: &mut Vec<u8>, field: u32, record: &Record<'_>, keys_only: bool) {
    let value = if keys_only { &[][..] } else { record.value };
    let kv = hot::KeyValue {
        key: record.key,
        create_revision: record.create_revision,
        mod_revision: record.mod_revision.main,
        version: record.version,
        value,
        lease: record.lease.0,
    };
    hot::write_key_value_field(out, field, &kv);
}

/// `RangeResponse.kvs`.
const KVS: u32 = 2;

#[cfg(test)]
mod tests;
