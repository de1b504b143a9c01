//! What a log entry can mean: a borrowed view of `InternalRaftRequest`. Whatever is random or timed is already inside.

use basalt_pb::hot::{self, CompactionRequest, DeleteRangeRequest, PutRequest, TxnRequest};
use basalt_pb::{etcdserverpb, membershippb};
use prost::Message;

use crate::types::{LeaseId, RequestId};

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
    /// Lease.LeaseRevoke.
    LeaseRevoke(LeaseId),
    /// Maintenance.Alarm, also to list alarms.
    Alarm(etcdserverpb::AlarmRequest),
    /// The leader decides the cluster version.
    ClusterVersionSet(membershippb::ClusterVersionSetRequest),
    /// A member publishes its name and client URLs.
    ClusterMemberAttrSet(membershippb::ClusterMemberAttrSetRequest),
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
            field::LEASE_REVOKE => {
                let revoke: etcdserverpb::LeaseRevokeRequest = decode(body)?;
                Self::LeaseRevoke(LeaseId(revoke.id))
            }
            field::ALARM => Self::Alarm(decode(body)?),
            field::CLUSTER_VERSION_SET => Self::ClusterVersionSet(decode(body)?),
            field::CLUSTER_MEMBER_ATTR_SET => Self::ClusterMemberAttrSet(decode(body)?),
            field => return Err(Unreadable::Unknown { field }),
        };
        Ok((id, command))
    }
}

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
    pub const LEASE_REVOKE: u32 = 9;
    pub const ALARM: u32 = 10;
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
        let grant = entry(8, b"");
        assert_eq!(Command::read(&grant), Err(Unreadable::Unknown { field: 8 }));
        // Field 5000, empty.
        let newer = [0xc2, 0xb8, 0x02, 0x00];
        assert_eq!(Command::read(&newer), Err(Unreadable::Unknown { field: 0 }));
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
