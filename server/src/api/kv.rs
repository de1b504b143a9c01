//! The KV service: what is checked before the log, and reads, which do not pass through it.

use basalt_engine::apply::put_cost;
use basalt_engine::mvcc::{KeyRange, SliceBound};
use basalt_engine::query::{Progress, RangeQuery, write_record};
use basalt_net::grpc::{CallId, Calls, Metadata};
use basalt_pb::etcdserverpb as pb;
use basalt_pb::hot::{
    CompactionRequest, DeleteRangeRequest, Malformed, PutRequest, RangeRequest, RequestOp,
    TxnRequest, canonical, put_int_field, write_header,
};

use super::backend::Backend;
use super::errors::Error;
use super::gate::Rpc;
use super::jobs::JobWork;
use super::read_txn::{ReadTxn, Stop};
use super::services::Services;
use super::stream::StreamWork;
use super::txn;
use super::waiting::Then;

/// Numbers of `InternalRaftRequest`'s fields.
const PUT: u32 = 4;
const DELETE_RANGE: u32 = 5;
const TXN: u32 = 6;
const COMPACTION: u32 = 7;

/// Numbers of `RangeResponse`'s fields.
const KVS: u32 = 2;
const COUNT: u32 = 4;

/// The checks of a range, before anything is read.
pub(super) fn check_range(request: &RangeRequest<'_>) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    let known = (0..=2).contains(&request.sort_order) && (0..=4).contains(&request.sort_target);
    if known {
        Ok(())
    } else {
        Err(Error::InvalidSortOption)
    }
}

/// The checks of a Put, but for those that need the store.
pub(super) fn check_put(request: &PutRequest<'_>) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// The checks of a deletion.
pub(super) fn check_delete_range(request: &DeleteRangeRequest<'_>) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    Ok(())
}

/// `meta` is `None` for a call that was let in before and has waited.
impl<B: Backend> Services<B> {
    pub(super) fn on_put(
        &mut self,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let request = PutRequest::read(message)?;
        self.admit(Rpc::Put, false, meta)?;
        if !self.quota.allows(put_cost(&request), self.used_bytes()) {
            return self.refuse_for_space(call, Rpc::Put);
        }
        check_put(&request)?;
        self.propose(call, (Rpc::Put, PUT), message, Then::Answer)
    }

    pub(super) fn on_delete_range(
        &mut self,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let request = DeleteRangeRequest::read(message)?;
        self.admit(Rpc::DeleteRange, false, meta)?;
        check_delete_range(&request)?;
        self.propose(
            call,
            (Rpc::DeleteRange, DELETE_RANGE),
            message,
            Then::Answer,
        )
    }

    pub(super) fn on_compact(
        &mut self,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let request = CompactionRequest::read(message)?;
        self.admit(Rpc::Compact, false, meta)?;
        let then = if request.physical {
            Then::AnswerLate
        } else {
            Then::Answer
        };
        self.propose(call, (Rpc::Compact, COMPACTION), message, then)
    }

    pub(super) fn on_range(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let request = RangeRequest::read(message)?;
        self.admit(Rpc::Range, request.serializable, meta)?;
        check_range(&request)?;
        // The gate before the view: what the gate has seen published, the view holds.
        if !request.serializable && !self.is_readable() {
            return self.park(call, Rpc::Range, message);
        }
        let reader = self.backend.reader();
        let pin = reader.pin();
        let view = pin.view();
        let revision = view.check(request.revision)?;
        let header = self
            .identity
            .header(self.backend.published(), view.revision());
        if is_plain_get(&request) {
            let found = if request.keys_only {
                view.meta_at(request.key, revision)
            } else {
                view.get_at(request.key, revision)
            };
            match found {
                Ok(found) => {
                    calls.reply(call, |out| {
                        write_header(out, &header);
                        if let Some(record) = found {
                            write_record(out, KVS, &record, request.keys_only);
                            put_int_field(out, COUNT, 1);
                        }
                    });
                    return Ok(());
                }
                // It begins anew and reads what is newest then.
                Err(need) if request.revision <= 0 => {
                    return self.cold.push(call, Rpc::Range, message, need);
                }
                Err(_) => {}
            }
        }
        self.scratch.clear();
        write_header(&mut self.scratch, &header);
        let mut work = RangeQuery::new(&request, revision);
        let keys = KeyRange::new(request.key, request.range_end);
        let polled = work.poll(&keys, view, SliceBound::SLICE, &mut self.scratch);
        if let Ok(Progress::Done { .. }) = polled {
            calls.reply(call, |out| out.extend_from_slice(&self.scratch));
            return Ok(());
        }
        let begun = (JobWork::Range(work), std::mem::take(&mut self.scratch));
        self.jobs.push(reader, call, message, revision, begun)
    }

    pub(super) fn on_range_stream(
        &mut self,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let request = RangeRequest::read(message)?;
        // Unlike a range in one piece, a learner refuses it even if it is serializable.
        self.admit(Rpc::RangeStream, false, meta)?;
        check_range(&request)?;
        // A target without an order passes, and the keys come in their own order (etcd-facts 6.1).
        if request.sort_order == 2 || (request.sort_order == 1 && request.sort_target != 0) {
            return Err(Error::StreamSortOrder);
        }
        if has_filters(&request) {
            return Err(Error::StreamFilters);
        }
        if !request.serializable && !self.is_readable() {
            return self.park(call, Rpc::RangeStream, message);
        }
        let reader = self.backend.reader();
        let pin = reader.pin();
        let view = pin.view();
        let revision = view.check(request.revision)?;
        let header = self
            .identity
            .header(self.backend.published(), view.revision());
        let work = StreamWork::new(&request, revision, header, self.config.max_request_bytes);
        let begun = (JobWork::Stream(work), Vec::new());
        self.jobs.push(reader, call, message, revision, begun)
    }

    pub(super) fn on_txn(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        match TxnRequest::read(message) {
            Ok(txn) => self.start_txn(calls, call, &txn, meta),
            Err(Malformed::Split) => {
                let whole = canonical::<pb::TxnRequest>(message)?;
                let txn = TxnRequest::read(&whole)?;
                self.start_txn(calls, call, &txn, meta)
            }
            // etcd has no bound of its own here, but that of the operations would bite soon.
            Err(Malformed::TooDeep) => Err(Error::TooManyOps),
            Err(why) => Err(why.into()),
        }
    }

    fn start_txn(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        txn: &TxnRequest<'_>,
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        self.admit(Rpc::Txn, false, meta)?;
        if !self.quota.allows_txn(txn, self.used_bytes()) {
            return self.refuse_for_space(call, Rpc::Txn);
        }
        txn::check(txn, self.config.max_txn_ops)?;
        if !txn::is_read_only(txn) {
            return self.propose(call, (Rpc::Txn, TXN), txn.as_bytes(), Then::Answer);
        }
        if !txn::is_serializable(txn) && !self.is_readable() {
            return self.park(call, Rpc::Txn, txn.as_bytes());
        }
        let reader = self.backend.reader();
        let pin = reader.pin();
        let view = pin.view();
        let revision = view.revision();
        let header = self.identity.header(self.backend.published(), revision);
        self.scratch.clear();
        write_header(&mut self.scratch, &header);
        let mut work = ReadTxn::new(revision);
        match work.poll(view, txn, &mut self.scratch) {
            Ok(true) => {
                calls.reply(call, |out| out.extend_from_slice(&self.scratch));
                return Ok(());
            }
            Err(Stop::Refused(error)) => return Err(error),
            Ok(false) | Err(Stop::NeedRead(_)) => {}
        }
        let floor = lowest_revision(txn, revision);
        let begun = (JobWork::Txn(work), std::mem::take(&mut self.scratch));
        self.jobs.push(reader, call, txn.as_bytes(), floor, begun)
    }
}

/// One key, and nothing that could leave it out of the answer: most reads of most clients.
#[inline]
fn is_plain_get(request: &RangeRequest<'_>) -> bool {
    request.range_end.is_empty() && !request.count_only && !has_filters(request)
}

fn has_filters(request: &RangeRequest<'_>) -> bool {
    let set = request.min_mod_revision
        | request.max_mod_revision
        | request.min_create_revision
        | request.max_create_revision;
    set != 0
}

/// The lowest revision that a read-only transaction may read at.
fn lowest_revision(txn: &TxnRequest<'_>, newest: i64) -> i64 {
    let asked = txn.success().chain(txn.failure()).map(|op| match op {
        RequestOp::Range(range) if range.revision > 0 => range.revision,
        _ => newest,
    });
    asked.fold(newest, i64::min)
}
