//! Reads as the server does them: from a published view, in slices.

use basalt_engine::mvcc::{KeyRange, RevisionRefused, SliceBound};
use basalt_engine::query::{Progress, RangeQuery};
use basalt_engine::replica::Replica;
use basalt_pb::etcdserverpb as pb;
use basalt_pb::hot;
use pb::response_op::Response;
use prost::Message;

use crate::check::history::Refusal;

/// Reads a range from a member's newest published state; `None`: something must be read from its disk first.
pub(super) fn read_range(
    replica: &Replica,
    range: &pb::RangeRequest,
) -> Option<Result<(i64, Response), Refusal>> {
    let bytes = range.encode_to_vec();
    let request = hot::RangeRequest::read(&bytes).expect("just encoded");
    let pin = replica.reader().pin();
    let view = pin.view();
    let revision = match view.check(request.revision) {
        Ok(revision) => revision,
        Err(RevisionRefused::Compacted) => return Some(Err(Refusal::Compacted)),
        Err(RevisionRefused::Future) => return Some(Err(Refusal::Future)),
    };
    let keys = KeyRange::new(request.key, request.range_end);
    let mut query = RangeQuery::new(&request, revision);
    let mut out = Vec::new();
    loop {
        match query.poll(&keys, view, SLICE, &mut out) {
            Ok(Progress::Done { .. }) => break,
            Ok(Progress::More) => {}
            Err(_) => return None,
        }
    }
    let answer = pb::RangeResponse::decode(&out[..]).expect("what the engine encodes");
    Some(Ok((view.revision(), Response::ResponseRange(answer))))
}

/// So small that most ranges take several slices.
const SLICE: SliceBound = SliceBound {
    records: 3,
    bytes: 100,
};
