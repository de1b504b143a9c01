//! Leases: the requests that make, renew and end them, which keys hang on which, and when those that nobody renews were gone.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use basalt_pb::hot::{PutRequest, RangeRequest, Wire, WireType, put_int_field};
use basalt_pb::hot::{begin_nested, end_nested};

use super::answer::Answer;
use crate::plan::Shape;
use crate::record::{Beside, Expiry};

/// The leases of a run, and their keys. Ids count from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leases {
    pub count: u32,
    /// Seconds.
    pub ttl: u32,
    /// On each lease.
    keys: u32,
}

impl Leases {
    pub(crate) fn of(shape: &Shape) -> Self {
        Self {
            count: shape.leases,
            ttl: shape.lease_ttl,
            keys: shape.leased_keys,
        }
    }

    /// Keys on all leases.
    pub(crate) fn keys(self) -> u32 {
        self.count * self.keys
    }

    /// How many of them the request of [`Leases::attach`] that begins at `key` writes.
    pub(crate) fn attached_by(self, key: u32) -> u32 {
        ATTACHED_AT_ONCE.min(self.keys() - key)
    }

    /// The lease of that number.
    pub(crate) fn grant(self, number: u32, out: &mut Vec<u8>) {
        put_int_field(out, 1, i64::from(self.ttl));
        put_int_field(out, 2, id(number));
    }

    /// A renewal, a revoke, or anything else that only names a lease.
    pub(crate) fn name(number: u32, out: &mut Vec<u8>) {
        put_int_field(out, 1, id(number));
    }

    /// Puts keys from that one on, each with its lease.
    pub(crate) fn attach(self, key: u32, out: &mut Vec<u8>) {
        for key in key..key + self.attached_by(key) {
            // TxnRequest.success, RequestOp.request_put.
            let operation = begin_nested(out, 2);
            let put = begin_nested(out, 2);
            PutRequest {
                key: &[PREFIX, &key.to_be_bytes()].concat(),
                value: VALUE,
                lease: id(key / self.keys),
                ..PutRequest::default()
            }
            .write(out);
            end_nested(out, put);
            end_nested(out, operation);
        }
    }

    /// How many keys are left.
    pub(crate) fn count_keys(out: &mut Vec<u8>) {
        let mut end = PREFIX.to_vec();
        *end.last_mut().expect("it is not empty") += 1;
        RangeRequest {
            key: PREFIX,
            range_end: &end,
            count_only: true,
            ..RangeRequest::default()
        }
        .write(out);
    }

    /// Whether a lease of that number was granted, or renewed, for its time.
    pub(crate) fn is_granted(self, number: u32, answer: &Answer) -> bool {
        answer.count as i64 == id(number) && answer.mod_revision == i64::from(self.ttl)
    }

    /// When all were gone, of the counts of keys that were asked for beside; `renewed` are the seconds, since the measured time began,
    /// of the first renewal and the last.
    ///
    /// # Errors
    /// One ended early, or they never were gone.
    pub(crate) fn expiry(self, renewed: Range<f64>, counts: &[Beside]) -> Result<Expiry> {
        let ttl = f64::from(self.ttl);
        let all = u64::from(self.keys());
        let left = |beside: &Beside| beside.left.unwrap_or(all);
        for count in counts {
            let at = count.began + count.seconds;
            ensure!(
                left(count) == all || at >= renewed.start + ttl,
                "{} keys are gone {:.3} s before the first lease's time",
                all - left(count),
                renewed.start + ttl - at
            );
        }
        let gone = counts.iter().find(|count| left(count) == 0);
        let gone = gone.context("leases are left at the end of the measured time")?;
        Ok(Expiry {
            leases: self.count,
            renewed_seconds: renewed.end - renewed.start,
            gone_seconds: gone.began + gone.seconds - renewed.end - ttl,
        })
    }
}

/// A LeaseGrantResponse or a LeaseKeepAliveResponse: `count` is the id, `mod_revision` the seconds.
pub(crate) fn read_lease(message: &[u8]) -> Option<Answer> {
    let mut answer = Answer::default();
    let mut wire = Wire::new(message);
    while let Some(field) = wire.tag().ok()? {
        match field {
            (2, WireType::Varint) => answer.count = wire.varint().ok()?,
            (3, WireType::Varint) => answer.mod_revision = wire.varint().ok()? as i64,
            _ => wire.skip(field).ok()?,
        }
    }
    Some(answer)
}

fn id(number: u32) -> i64 {
    i64::from(number) + 1
}

/// Behind all keys of the workload.
const PREFIX: &[u8] = b"\xFEleased/";
const VALUE: &[u8] = b"0123456789abcdef";

/// Below etcd's bound of 128 requests in a txn.
const ATTACHED_AT_ONCE: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use basalt_pb::etcdserverpb::TxnRequest;
    use basalt_pb::etcdserverpb::request_op::Request;
    use prost::Message;

    const LEASES: Leases = Leases {
        count: 250,
        ttl: 10,
        keys: 1,
    };

    fn counted(at: f64, left: u64) -> Beside {
        Beside {
            began: at,
            seconds: 0.0,
            bytes: 0,
            left: Some(left),
            failure: None,
        }
    }

    #[test]
    fn each_key_hangs_on_its_lease() {
        let mut message = Vec::new();
        LEASES.attach(200, &mut message);
        let txn = TxnRequest::decode(&message[..]).unwrap();
        assert_eq!(txn.success.len(), 50);
        let Some(Request::RequestPut(put)) = &txn.success[49].request else {
            panic!("no put");
        };
        assert_eq!(put.lease, 250);
    }

    #[test]
    fn a_lease_that_ends_early_is_an_error() {
        let renewed = -2.0..-1.0;
        let counts = [counted(7.9, 250), counted(8.1, 240), counted(9.5, 0)];
        let expiry = LEASES.expiry(renewed.clone(), &counts).unwrap();
        assert!((expiry.gone_seconds - 0.5).abs() < 1e-9);
        let counts = [counted(7.9, 249), counted(9.5, 0)];
        assert!(LEASES.expiry(renewed.clone(), &counts).is_err());
        assert!(LEASES.expiry(renewed, &[counted(9.5, 1)]).is_err());
    }
}
