//! A transaction of ranges only, answered from one view as work in slices.

use basalt_engine::mvcc::{KeyRange, NeedRead, SliceBound, View};
use basalt_engine::query::{Comparison, Progress, RangeQuery};
use basalt_pb::hot::{
    Header, Mark, RangeRequest, RequestOp, TxnRequest, begin_nested, end_nested, put_bool_field,
    write_header,
};

use super::errors::Error;

/// A read-only transaction at a fixed revision. `poll` appends all of the answer behind its header.
#[derive(Debug)]
pub(super) struct ReadTxn {
    revision: i64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Compare {
        index: usize,
        /// The one at `index`.
        comparison: Comparison,
    },
    Ranges {
        held: bool,
        index: usize,
        work: Option<(RangeQuery, Mark, Mark)>,
    },
}

/// Why a poll did not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Refused(Error),
    NeedRead(NeedRead),
}

impl From<NeedRead> for Stop {
    fn from(need: NeedRead) -> Self {
        Stop::NeedRead(need)
    }
}

impl ReadTxn {
    pub(super) fn new(revision: i64) -> Self {
        ReadTxn {
            revision,
            stage: Stage::Compare {
                index: 0,
                comparison: Comparison::default(),
            },
        }
    }

    /// Goes on by one slice and says whether the answer is whole. `txn` is the same at every poll
    /// and `out` what the last one left.
    ///
    /// # Errors
    /// `Refused` for a range of the taken branch at a revision that cannot be read; `NeedRead` if a
    /// segment is not in memory.
    pub(super) fn poll(
        &mut self,
        view: View<'_>,
        txn: &TxnRequest<'_>,
        out: &mut Vec<u8>,
    ) -> Result<bool, Stop> {
        if let Stage::Compare { .. } = self.stage {
            let Some(held) = self.compare(view, txn)? else {
                return Ok(false);
            };
            self.check_revisions(view, txn, held)?;
            put_bool_field(out, 2, held);
            self.stage = Stage::Ranges {
                held,
                index: 0,
                work: None,
            };
        }
        let Stage::Ranges { held, index, work } = &mut self.stage else {
            unreachable!("the comparisons have been left above");
        };
        while let Some(range) = ranges(txn, *held).nth(*index) {
            let (part, ..) = match work {
                Some(begun) => begun,
                None => {
                    // Field `responses`, then `response_range`, whose header has the revision
                    // alone.
                    let op_mark = begin_nested(out, 3);
                    let range_mark = begin_nested(out, 1);
                    let header = Header {
                        revision: self.revision,
                        ..Header::default()
                    };
                    write_header(out, &header);
                    let read_at = RangeQuery::revision_of(&range, self.revision);
                    work.insert((RangeQuery::new(&range, read_at), op_mark, range_mark))
                }
            };
            let keys = KeyRange::new(range.key, range.range_end);
            if part.poll(&keys, view, SliceBound::SLICE, out)? == Progress::More {
                return Ok(false);
            }
            if let Some((_, op_mark, range_mark)) = work.take() {
                end_nested(out, range_mark);
                end_nested(out, op_mark);
            }
            *index += 1;
        }
        Ok(true)
    }

    /// Whether all comparisons hold; `None` if there are more to make.
    fn compare(&mut self, view: View<'_>, txn: &TxnRequest<'_>) -> Result<Option<bool>, NeedRead> {
        let Stage::Compare { index, comparison } = &mut self.stage else {
            return Ok(None);
        };
        for compare in txn.compares().skip(*index) {
            let mut slice = SliceBound::SLICE;
            let held = comparison.poll(view, self.revision, &compare, &mut slice)?;
            if held != Some(true) {
                return Ok(held);
            }
            *index += 1;
            *comparison = Comparison::default();
        }
        Ok(Some(true))
    }

    /// Before anything runs. Not the check of a range that comes alone: any revision but 0 is
    /// compared with the compacted one, negative ones too.
    fn check_revisions(
        &self,
        view: View<'_>,
        txn: &TxnRequest<'_>,
        held: bool,
    ) -> Result<(), Stop> {
        for range in ranges(txn, held) {
            if range.revision > self.revision {
                return Err(Stop::Refused(Error::FutureRev));
            }
            if range.revision != 0 && range.revision < view.compacted() {
                return Err(Stop::Refused(Error::Compacted));
            }
        }
        Ok(())
    }
}

/// The ranges of the taken branch.
fn ranges<'a>(txn: &TxnRequest<'a>, held: bool) -> impl Iterator<Item = RangeRequest<'a>> {
    let ops = if held { txn.success() } else { txn.failure() };
    ops.filter_map(|op| match op {
        RequestOp::Range(range) => Some(range),
        _ => None,
    })
}
