//! What a command costs in space, and whether there is that much.

use basalt_pb::hot::{PutRequest, RequestOp, TxnRequest};

/// The bound of what the store holds and has not compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Bytes; `None` is no bound.
    bytes: Option<u64>,
}

impl Quota {
    /// The quota of etcd's flag: 0 is 2 GiB, negative is none.
    #[must_use]
    pub fn from_flag(bytes: i64) -> Self {
        let bytes = match u64::try_from(bytes) {
            Ok(0) => Some(QUOTA_BYTES_DEFAULT as u64),
            Ok(bytes) => Some(bytes),
            Err(_) => None,
        };
        Self { bytes }
    }

    /// As `allows` with the transaction's cost, which is not added up where even the most that so many bytes can cost
    /// leaves room.
    #[must_use]
    pub fn allows_txn(self, request: &TxnRequest<'_>, size: u64) -> bool {
        let most = request.as_bytes().len() as u64 * COST_OF_A_BYTE_MAX;
        self.allows(most, size) || self.allows(txn_cost(request), size)
    }

    /// Whether a command of `cost` may be added to a store of `size` bytes.
    #[must_use]
    pub fn allows(self, cost: u64, size: u64) -> bool {
        match self.bytes {
            Some(bytes) => cost == 0 || size.saturating_add(cost) < bytes,
            None => true,
        }
    }
}

impl Quota {
    /// Whether `size` is so far below the bound that the alarm may end.
    #[must_use]
    pub fn is_relaxed(self, size: u64) -> bool {
        self.bytes
            .is_none_or(|bytes| size < bytes / 10 * RELAXED_TENTHS)
    }
}

/// What a Put may take: its bytes and what is kept beside them.
#[must_use]
pub fn put_cost(request: &PutRequest<'_>) -> u64 {
    let bytes = request.key.len() + request.value.len();
    PUT_OVERHEAD + bytes as u64
}

/// What a transaction may take: its dearer branch, inner transactions included.
#[must_use]
pub(super) fn txn_cost(request: &TxnRequest<'_>) -> u64 {
    let branch = |ops: &mut dyn Iterator<Item = RequestOp<'_>>| -> u64 {
        ops.map(|op| match op {
            RequestOp::Put(put) => put_cost(&put),
            RequestOp::Txn(inner) => txn_cost(&inner),
            RequestOp::None | RequestOp::Range(_) | RequestOp::DeleteRange(_) => 0,
        })
        .sum()
    };
    branch(&mut request.success()).max(branch(&mut request.failure()))
}

/// The quota where the flag says 0.
pub const QUOTA_BYTES_DEFAULT: i64 = 2 << 30;
const RELAXED_TENTHS: u64 = 9;
const PUT_OVERHEAD: u64 = 256;
/// A put takes four bytes of a message beside its key and value: two tags and two lengths.
const COST_OF_A_BYTE_MAX: u64 = PUT_OVERHEAD / 4 + 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// [MNT-9] The bound itself is already too much; deletes are always allowed.
    #[test]
    fn a_quota_is_reached_when_size_and_cost_fill_it() {
        let quota = Quota::from_flag(1000);
        assert!(quota.allows(399, 600));
        assert!(!quota.allows(400, 600));
        assert!(quota.allows(0, 5000));
        assert!(Quota::from_flag(-1).allows(u64::MAX, u64::MAX));
        assert!(Quota::from_flag(0).allows(1, (2 << 30) - 2));
        assert!(!Quota::from_flag(0).allows(1, (2 << 30) - 1));
    }

    /// The bound that spares the sum is never below it, not even for the shortest puts.
    #[test]
    fn a_transaction_is_let_in_exactly_as_its_cost_says() {
        use basalt_pb::etcdserverpb as pb;
        use prost::Message;
        let put = pb::PutRequest {
            key: b"k".to_vec().into(),
            ..Default::default()
        };
        let put = pb::RequestOp {
            request: Some(pb::request_op::Request::RequestPut(put)),
        };
        let txn = pb::TxnRequest {
            success: vec![put; 100],
            ..Default::default()
        };
        let bytes = txn.encode_to_vec();
        let request = TxnRequest::read(&bytes).unwrap();
        let cost = txn_cost(&request);
        assert!(cost <= bytes.len() as u64 * COST_OF_A_BYTE_MAX);
        let quota = Quota::from_flag(1_000_000);
        assert!(quota.allows_txn(&request, 1_000_000 - cost - 1));
        assert!(!quota.allows_txn(&request, 1_000_000 - cost));
    }

    /// Only the dearer branch counts.
    #[test]
    fn a_transaction_costs_its_dearer_branch() {
        use basalt_pb::etcdserverpb::{RequestOp, TxnRequest, request_op};
        use prost::Message;
        let put = |value: usize| RequestOp {
            request: Some(request_op::Request::RequestPut(
                basalt_pb::etcdserverpb::PutRequest {
                    key: vec![b'k'; 4].into(),
                    value: vec![0; value].into(),
                    ..Default::default()
                },
            )),
        };
        let inner = RequestOp {
            request: Some(request_op::Request::RequestTxn(TxnRequest {
                success: vec![put(0)],
                failure: vec![put(50)],
                ..Default::default()
            })),
        };
        let txn = TxnRequest {
            success: vec![put(10), inner],
            failure: vec![put(100)],
            ..Default::default()
        };
        let bytes = txn.encode_to_vec();
        let txn = basalt_pb::hot::TxnRequest::read(&bytes).expect("a transaction");
        assert_eq!(txn_cost(&txn), (256 + 14) + (256 + 54));
    }
}
