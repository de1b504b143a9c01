//! What entries will read, told before they are applied.

use std::collections::BTreeSet;

use basalt_pb::hot::{RequestOp, RequestOps, TxnRequest};

use super::Machine;
use crate::command::Command;
use crate::mvcc::{PageRef, View};

impl Machine {
    /// Adds to `wanted` pages of the index that `entry` will read, by what it says of single keys. It may read more, and where
    /// entries before it change much, others.
    pub fn pages_ahead(&self, entry: &[u8], wanted: &mut BTreeSet<PageRef>) {
        let view = self.store.view();
        match Command::read(entry) {
            Ok((_, Command::Put(put))) => wanted.extend(view.page_of(put.key)),
            Ok((_, Command::DeleteRange(delete))) if delete.range_end.is_empty() => {
                wanted.extend(view.page_of(delete.key));
            }
            Ok((_, Command::Txn(txn))) => of_txn(&view, &txn, wanted),
            // Others are few, and what cannot be read is told when it is applied.
            _ => {}
        }
    }
}

/// Of both branches: which one is taken is not known yet, and mostly they are about the same keys.
fn of_txn(view: &View<'_>, txn: &TxnRequest<'_>, wanted: &mut BTreeSet<PageRef>) {
    for compare in txn.compares() {
        wanted.extend(view.page_of(compare.key));
    }
    for ops in [txn.success(), txn.failure()] {
        of_ops(view, ops, wanted);
    }
}

fn of_ops(view: &View<'_>, ops: RequestOps<'_>, wanted: &mut BTreeSet<PageRef>) {
    for op in ops {
        match op {
            RequestOp::Put(put) => wanted.extend(view.page_of(put.key)),
            RequestOp::Range(range) => wanted.extend(view.page_of(range.key)),
            RequestOp::DeleteRange(delete) => wanted.extend(view.page_of(delete.key)),
            RequestOp::Txn(inner) => of_txn(view, &inner, wanted),
            RequestOp::None => {}
        }
    }
}
