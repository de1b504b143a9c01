//! The comparisons of transactions.

use core::cmp::Ordering;
use core::ops::ControlFlow;

use basalt_pb::etcdserverpb::compare::{CompareResult, CompareTarget};
use basalt_pb::hot::{Compare, Target};

use crate::mvcc::{KeyRange, NeedRead, Record, Resume, SliceBound, View, Visited, Want};
use crate::types::{LeaseId, Revision};

/// Whether a comparison holds for every key that it names, at the view's revision.
///
/// # Errors
/// A value must be read from disk first.
pub fn holds(view: View<'_>, compare: &Compare<'_>) -> Result<bool, NeedRead> {
    let (revision, mut unbounded) = (view.revision(), SliceBound::NONE);
    let held = Comparison::default().poll(view, revision, compare, &mut unbounded)?;
    Ok(held.expect("a walk without a bound ends"))
}

/// One comparison with the keys of a range, under way in slices.
#[derive(Debug, Default)]
pub struct Comparison {
    resume: Resume,
    /// Whether a key was met.
    met: bool,
}

impl Comparison {
    /// Goes on at `revision` within `left`, which is less by what this used: whether `compare`, the same at every call, holds for
    /// every key that it names. `None`: the slice is used up.
    ///
    /// # Errors
    /// A value must be read from disk first; call again then.
    pub fn poll(
        &mut self,
        view: View<'_>,
        revision: i64,
        compare: &Compare<'_>,
        left: &mut SliceBound,
    ) -> Result<Option<bool>, NeedRead> {
        let range = KeyRange::new(compare.key, compare.range_end);
        let want = match compare.target == CompareTarget::Value as i32 {
            true => Want::Values,
            false => Want::Keys,
        };
        let Self { resume, met } = self;
        let mut all = true;
        let each = |record: &Record<'_>| {
            *met = true;
            all = record_holds(compare, Some(record));
            match all {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        };
        let visited = view.visit_within(&range, revision, want, resume, left, each)?;
        Ok(match (all, visited) {
            (false, _) => Some(false),
            (true, Visited::More) => None,
            (true, _) => Some(self.met || record_holds(compare, None)),
        })
    }
}

/// Whether a comparison holds for one key; `None`: the key is not there. It has no value to compare
/// then, and its numbers are 0.
fn record_holds(compare: &Compare<'_>, record: Option<&Record<'_>>) -> bool {
    let target = CompareTarget::try_from(compare.target);
    let record = match (record, target) {
        (Some(record), _) => record,
        (None, Ok(CompareTarget::Value)) => return false,
        (None, _) => &ABSENT,
    };
    // An operand of another kind than the target counts as 0 or empty.
    let order = match (target, compare.operand) {
        (Ok(CompareTarget::Version), Target::Version(wanted)) => record.version.cmp(&wanted),
        (Ok(CompareTarget::Version), _) => record.version.cmp(&0),
        (Ok(CompareTarget::Create), Target::CreateRevision(wanted)) => {
            record.create_revision.cmp(&wanted)
        }
        (Ok(CompareTarget::Create), _) => record.create_revision.cmp(&0),
        (Ok(CompareTarget::Mod), Target::ModRevision(wanted)) => {
            record.mod_revision.main.cmp(&wanted)
        }
        (Ok(CompareTarget::Mod), _) => record.mod_revision.main.cmp(&0),
        (Ok(CompareTarget::Value), Target::Value(wanted)) => record.value.cmp(wanted),
        (Ok(CompareTarget::Value), _) => record.value.cmp(&[]),
        (Ok(CompareTarget::Lease), Target::Lease(wanted)) => record.lease.0.cmp(&wanted),
        (Ok(CompareTarget::Lease), _) => record.lease.0.cmp(&0),
        // etcd compares nothing then and goes on as if equal.
        (Err(_), _) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}

/// What a key that is not there compares as.
const ABSENT: Record<'static> = Record {
    key: &[],
    value: &[],
    create_revision: 0,
    mod_revision: Revision::new(0, 0),
    version: 0,
    lease: LeaseId(0),
};
