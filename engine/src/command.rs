//! What a log entry can mean: a borrowed view of `InternalRaftRequest`. Whatever is random or timed is already inside.

use basalt_pb::hot::{
    self, CompactionRequest, DeleteRangeRequest, PutRequest, TxnRequest, Wire, WireType,
};
use basalt_pb::{etcdserverpb, membershippb};
use prost::Message;

use crate::types::{LeaseId, RequestId, Term};

/// One command. Requests are the client's own bytes, decoded in place.
#[derive(Clone, Debug, PartialEq)]
pub enum Command<'a> {
    /// The entry with which a leader begins its term.
    Empty,
    /// KV.Put.
    Put(PutRequest<'a>),
    /// KV.DeleteRange.
    DeleteRange(DeleteRangeRequest<'a>),
    /// KV.Txn.
    Txn(TxnRequest<'a>),
    /// KV.Compact.
    Compaction(CompactionRequest),
    /// Lease.LeaseGrant.
    LeaseGrant(etcdserverpb::LeaseGrantRequest),
    /// Lease.LeaseRevoke, or a leader's because its time is over.
    LeaseRevoke(LeaseRevoke),
    /// A leader says what is left of leases.
    LeaseCheckpoint(etcdserverpb::LeaseCheckpointRequest),
    /// Maintenance.Alarm, also to list alarms.
    Alarm(etcdserverpb::AlarmRequest),
    /// The leader decides the cluster version.
    ClusterVersionSet(membershippb::ClusterVersionSetRequest),
    /// A member publishes its name and client URLs.
    ClusterMemberAttrSet(membershippb::ClusterMemberAttrSetRequest),
}

/// Ends a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRevoke {
    /// Which.
    pub id: LeaseId,
    /// Of a revoke that a leader proposed by itself.
    pub fence: Option<Fence>,
}

/// What a leader knew when it found that a lease is over. If the log has it otherwise, it is not over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    /// The term it led.
    pub term: Term,
    /// Of the lease.
    pub generation: u64,
}

/// Why an entry is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A request that this release does not know: skipping it would make members differ.
    #[error("the log holds a command of a newer release (field {field})")]
    Unknown {
        /// The request's field in `InternalRaftRequest`; 0 if even that is new.
        field: u32,
    },
    /// The frame around the request is damaged.
    #[error("a log entry is not an InternalRaftRequest")]
    Frame,
    /// The request is not what it is said to be. Every member sees it so: it is refused.
    #[error("a request in the log cannot be decoded")]
    Body,
}

impl<'a> Command<'a> {
    /// Reads an entry.
    ///
    /// # Errors
    /// See [`Unreadable`].
    #[inline]
    pub fn read(entry: &'a [u8]) -> Result<(RequestId, Self), Unreadable> {
        if entry.is_empty() {
            return Ok((RequestId(0), Self::Empty));
        }
        let request = hot::InternalRaftRequest::read(entry).map_err(|_| Unreadable::Frame)?;
        let id = RequestId(request.header.map_or(request.id, |header| header.id));
        let body = request.body;
        let bad = |_| Unreadable::Body;
        let command = match request.field {
            field::PUT => Self::Put(PutRequest::read(body).map_err(bad)?),
            field::DELETE_RANGE => Self::DeleteRange(DeleteRangeRequest::read(body).map_err(bad)?),
            field::TXN => Self::Txn(TxnRequest::read(body).map_err(bad)?),
            field::COMPACTION => Self::Compaction(CompactionRequest::read(body).map_err(bad)?),
            field::LEASE_GRANT => Self::LeaseGrant(decode(body)?),
            field::LEASE_REVOKE => {
                let revoke = LeaseRevoke::read(Wire::new(body));
                Self::LeaseRevoke(revoke.ok_or(Unreadable::Body)?)
            }
            field::LEASE_CHECKPOINT => Self::LeaseCheckpoint(decode(body)?),
            field::ALARM => Self::Alarm(decode(body)?),
            field::CLUSTER_VERSION_SET => Self::ClusterVersionSet(decode(body)?),
            field::CLUSTER_MEMBER_ATTR_SET => Self::ClusterMemberAttrSet(decode(body)?),
            field => return Err(Unreadable::Unknown { field }),
        };
        Ok((id, command))
    }
}

impl LeaseRevoke {
    /// Appends it as an etcd member would read it; the fence is in fields that etcd has not.
    pub fn write(&self, out: &mut Vec<u8>) {
        hot::put_int_field(out, 1, self.id.0);
        if let Some(fence) = self.fence {
            hot::put_uint_field(out, FENCE_TERM, fence.term.0);
            hot::put_uint_field(out, FENCE_GENERATION, fence.generation);
        }
    }

    fn read(mut wire: Wire<'_>) -> Option<Self> {
        let (mut id, mut fence) = (LeaseId(0), None);
        while let Some(field) = wire.tag().ok()? {
            match field {
                (1, WireType::Varint) => id = LeaseId(wire.varint().ok()?.cast_signed()),
                (FENCE_TERM, WireType::Varint) => {
                    fence.get_or_insert_with(Fence::default).term = Term(wire.varint().ok()?);
                }
                (FENCE_GENERATION, WireType::Varint) => {
                    fence.get_or_insert_with(Fence::default).generation = wire.varint().ok()?;
                }
                other => wire.skip(other).ok()?,
            }
        }
        Some(Self { id, fence })
    }
}

const FENCE_TERM: u32 = 100;
const FENCE_GENERATION: u32 = 101;

fn decode<M: Message + Default>(body: &[u8]) -> Result<M, Unreadable> {
    M::decode(body).map_err(|_| Unreadable::Body)
}

/// The requests' fields in `InternalRaftRequest`.
pub mod field {
    #![allow(missing_docs, reason = "etcd's fields by etcd's names")]
    pub const PUT: u32 = 4;
    pub const DELETE_RANGE: u32 = 5;
    pub const TXN: u32 = 6;
    pub const COMPACTION: u32 = 7;
    pub const LEASE_GRANT: u32 = 8;
    pub const LEASE_REVOKE: u32 = 9;
    pub const ALARM: u32 = 10;
    pub const LEASE_CHECKPOINT: u32 = 11;
    pub const CLUSTER_VERSION_SET: u32 = 1300;
    pub const CLUSTER_MEMBER_ATTR_SET: u32 = 1301;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(field: u32, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        hot::write_internal_raft_request(&mut out, 7, field, body);
        out
    }

    /// The client's own bytes are what is applied.
    #[test]
    fn a_put_is_read_in_place() {
        let mut body = Vec::new();
        let put = PutRequest {
            key: b"k",
            value: b"v",
            ..PutRequest::default()
        };
        put.write(&mut body);
        let entry = entry(field::PUT, &body);
        assert_eq!(Command::read(&entry), Ok((RequestId(7), Command::Put(put))));
    }

    /// A member that skips what it does not understand would silently differ from the others.
    #[test]
    fn commands_of_newer_releases_are_named() {
        let enable = entry(1000, b"");
        let unknown = Unreadable::Unknown { field: 1000 };
        assert_eq!(Command::read(&enable), Err(unknown));
        // Field 5000, empty.
        let newer = [0xc2, 0xb8, 0x02, 0x00];
        assert_eq!(Command::read(&newer), Err(Unreadable::Unknown { field: 0 }));
    }

    /// A revoke without a fence is a client's: it must hold whoever leads.
    #[test]
    fn a_revoke_is_read_with_its_fence_and_without() {
        let fence = Fence {
            term: Term(3),
            generation: 0,
        };
        for fence in [None, Some(fence)] {
            let revoke = LeaseRevoke {
                id: LeaseId(-5),
                fence,
            };
            let mut body = Vec::new();
            revoke.write(&mut body);
            let entry = entry(field::LEASE_REVOKE, &body);
            let read = Command::read(&entry).unwrap().1;
            assert_eq!(read, Command::LeaseRevoke(revoke));
        }
    }

    /// Damage in the frame is the disk's, damage in the request a client's.
    #[test]
    fn damage_in_frame_and_request_are_told_apart() {
        assert_eq!(Command::read(&[0x22, 0x05]), Err(Unreadable::Frame));
        let body = entry(field::PUT, &[0x0a, 0x05]);
        assert_eq!(Command::read(&body), Err(Unreadable::Body));
        assert_eq!(Command::read(&[]), Ok((RequestId(0), Command::Empty)));
    }
}
