//! Results gathered in key order and put out in another, in slices: sorted in runs of bounded
//! length as they come, which are merged at the end.

use core::cmp::Ordering;
use core::ops::Range;

use basalt_pb::etcdserverpb::range_request::SortTarget;
use basalt_pb::hot::int_field_len;

use super::{KVS, SortBy, write_record};
use crate::limits::SORT_RUN_RECORDS;
use crate::mvcc::{Record, SliceBound};

/// Results on their way from one order to another. Equal ones keep their key order, descending too.
#[derive(Debug)]
pub(super) struct Sorter {
    by: SortBy,
    keys_only: bool,
    /// The results as they will go out. A value that is sorted by and does not go out stands before
    /// its result.
    bytes: Vec<u8>,
    items: Vec<Item>,
    /// Items before this one are in sorted runs.
    sorted: usize,
    /// What is left of each run; from the first merge on a binary heap, the run that goes on at 0.
    runs: Vec<Range<usize>>,
    is_heap: bool,
    /// Results put out so far.
    put_out: usize,
}

#[derive(Clone, Debug)]
struct Item {
    result: Range<usize>,
    rank: Rank,
}

/// What an item is sorted by.
#[derive(Clone, Debug)]
enum Rank {
    Number(i64),
    /// A place in `Sorter::bytes`.
    Value(Range<usize>),
}

impl Sorter {
    pub(super) fn new(by: SortBy, keys_only: bool) -> Self {
        Self {
            by,
            keys_only,
            bytes: Vec::new(),
            items: Vec::new(),
            sorted: 0,
            runs: Vec::new(),
            is_heap: false,
            put_out: 0,
        }
    }

    /// Whether values are sorted by.
    pub(super) fn needs_values(&self) -> bool {
        self.by.target == SortTarget::Value
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Takes the next record in key order.
    pub(super) fn push(&mut self, record: &Record<'_>) {
        assert!(!self.is_heap);
        let rank = match self.by.target {
            SortTarget::Version => Rank::Number(record.version),
            SortTarget::Create => Rank::Number(record.create_revision),
            SortTarget::Mod => Rank::Number(record.mod_revision.main),
            SortTarget::Value | SortTarget::Key if self.keys_only => {
                let start = self.bytes.len();
                self.bytes.extend_from_slice(record.value);
                Rank::Value(start..self.bytes.len())
            }
            // Where it goes out, which is not known yet.
            SortTarget::Value | SortTarget::Key => Rank::Value(0..0),
        };
        let start = self.bytes.len();
        write_record(&mut self.bytes, KVS, record, self.keys_only);
        let end = self.bytes.len();
        let rank = match rank {
            Rank::Value(_) if !self.keys_only => {
                // Behind the value stands the lease alone.
                let value_end = end - int_field_len(record.lease.0);
                Rank::Value(value_end - record.value.len()..value_end)
            }
            rank => rank,
        };
        let result = start..end;
        self.items.push(Item { result, rank });
        if self.items.len() - self.sorted == SORT_RUN_RECORDS {
            self.sort_run();
        }
    }

    /// Puts out what fits `bound`, one result at least, and none beyond the first `wanted`. Says
    /// whether that is all.
    pub(super) fn merge(&mut self, wanted: usize, bound: SliceBound, out: &mut Vec<u8>) -> bool {
        assert!(wanted <= self.items.len());
        if !self.is_heap {
            if self.sorted < self.items.len() {
                self.sort_run();
            }
            for parent in (0..self.runs.len() / 2).rev() {
                self.sift_down(parent);
            }
            self.is_heap = true;
        }
        let until = wanted.min(self.put_out.saturating_add(bound.records.max(1)));
        let bytes_max = out.len().saturating_add(bound.bytes);
        while self.put_out < until {
            let item = &self.items[self.runs[0].start];
            out.extend_from_slice(&self.bytes[item.result.clone()]);
            self.put_out += 1;
            self.runs[0].start += 1;
            if self.runs[0].is_empty() {
                self.runs.swap_remove(0);
            }
            self.sift_down(0);
            if out.len() > bytes_max {
                break;
            }
        }
        self.put_out == wanted
    }

    fn sort_run(&mut self) {
        let Self {
            by, bytes, items, ..
        } = self;
        items[self.sorted..].sort_by(|a, b| compare(*by, bytes, a, b));
        self.runs.push(self.sorted..items.len());
        self.sorted = items.len();
    }

    fn sift_down(&mut self, mut parent: usize) {
        loop {
            let mut first = parent;
            for child in [2 * parent + 1, 2 * parent + 2] {
                if child < self.runs.len() && self.goes_before(child, first) {
                    first = child;
                }
            }
            if first == parent {
                return;
            }
            self.runs.swap(first, parent);
            parent = first;
        }
    }

    /// Runs were gathered one after the other, so among equals the earlier run goes first.
    fn goes_before(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.runs[a].start, self.runs[b].start);
        let order = compare(self.by, &self.bytes, &self.items[a], &self.items[b]);
        order.then(a.cmp(&b)).is_lt()
    }
}

fn compare(by: SortBy, bytes: &[u8], a: &Item, b: &Item) -> Ordering {
    let order = match (&a.rank, &b.rank) {
        (Rank::Number(a), Rank::Number(b)) => a.cmp(b),
        (Rank::Value(a), Rank::Value(b)) => bytes[a.clone()].cmp(&bytes[b.clone()]),
        _ => unreachable!("one sorter sorts by one target"),
    };
    if by.descending {
        order.reverse()
    } else {
        order
    }
}
