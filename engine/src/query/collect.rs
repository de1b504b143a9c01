//! Records gathered to be sorted: copied, because the view they come from is not kept.

use core::cmp::Ordering;
use core::ops::Range;

use basalt_pb::etcdserverpb::range_request::SortTarget;
use basalt_pb::hot;

use super::{SortBy, key_value};
use crate::mvcc::Record;

/// Records in one buffer, in the order they came or sorted.
#[derive(Debug, Default)]
pub(super) struct Collected {
    items: Vec<Item>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Item {
    key: Range<usize>,
    value: Range<usize>,
    create_revision: i64,
    mod_revision: i64,
    version: i64,
    lease: i64,
}

impl Collected {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn push(&mut self, record: &Record<'_>) {
        let kv = key_value(record, record.value);
        let item = Item {
            key: self.copy(kv.key),
            value: self.copy(kv.value),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        };
        self.items.push(item);
    }

    /// Sorts by what the request asked for. Equals keep their order, also when descending.
    pub(super) fn sort(&mut self, by: SortBy) {
        let Self { items, bytes } = self;
        let compare = |a: &Item, b: &Item| match by.target {
            SortTarget::Key => bytes[a.key.clone()].cmp(&bytes[b.key.clone()]),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => bytes[a.value.clone()].cmp(&bytes[b.value.clone()]),
        };
        items.sort_by(|a, b| {
            let order: Ordering = compare(a, b);
            if by.descending {
                order.reverse()
            } else {
                order
            }
        });
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = hot::KeyValue<'_>> {
        self.items.iter().map(|item| hot::KeyValue {
            key: &self.bytes[item.key.clone()],
            create_revision: item.create_revision,
            mod_revision: item.mod_revision,
            version: item.version,
            value: &self.bytes[item.value.clone()],
            lease: item.lease,
        })
    }

    fn copy(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }
}
