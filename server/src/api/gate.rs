//! What is served, and what stands before every handler.

use std::time::Instant;

use basalt_net::grpc::{Code, Metadata, Method, Status};
use basalt_pb::paths::{cluster, election, health, kv, lease, lock, maintenance, watch};

use basalt_engine::replica::Published;

use super::errors::Error;
use super::limits::LEADER_LOSS_MAX;

/// The methods that are served, in the order of how often they are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "etcd's names")]
pub(super) enum Rpc {
    Range,
    Put,
    Txn,
    DeleteRange,
    RangeStream,
    Compact,
    LeaseGrant,
    LeaseRevoke,
    LeaseTimeToLive,
    LeaseLeases,
    MemberAdd,
    MemberRemove,
    MemberUpdate,
    MemberPromote,
    MemberList,
    Alarm,
    Status,
    Defragment,
    Hash,
    HashKv,
    Snapshot,
    MoveLeader,
    Downgrade,
    HealthCheck,
    HealthWatch,
    HealthList,
    Watch,
    LeaseKeepAlive,
    Lock,
    Unlock,
    Campaign,
    Proclaim,
    Leader,
    Observe,
    Resign,
}

const SERVICES: [&str; 8] = [
    kv::SERVICE,
    watch::SERVICE,
    lease::SERVICE,
    cluster::SERVICE,
    maintenance::SERVICE,
    health::SERVICE,
    lock::SERVICE,
    election::SERVICE,
];

impl Rpc {
    pub(super) const ALL: [Rpc; 35] = [
        Rpc::Range,
        Rpc::Put,
        Rpc::Txn,
        Rpc::DeleteRange,
        Rpc::RangeStream,
        Rpc::Compact,
        Rpc::LeaseGrant,
        Rpc::LeaseRevoke,
        Rpc::LeaseTimeToLive,
        Rpc::LeaseLeases,
        Rpc::MemberAdd,
        Rpc::MemberRemove,
        Rpc::MemberUpdate,
        Rpc::MemberPromote,
        Rpc::MemberList,
        Rpc::Alarm,
        Rpc::Status,
        Rpc::Defragment,
        Rpc::Hash,
        Rpc::HashKv,
        Rpc::Snapshot,
        Rpc::MoveLeader,
        Rpc::Downgrade,
        Rpc::HealthCheck,
        Rpc::HealthWatch,
        Rpc::HealthList,
        Rpc::Watch,
        Rpc::LeaseKeepAlive,
        Rpc::Lock,
        Rpc::Unlock,
        Rpc::Campaign,
        Rpc::Proclaim,
        Rpc::Leader,
        Rpc::Observe,
        Rpc::Resign,
    ];

    #[inline]
    pub(super) fn of(path: &[u8]) -> Option<Rpc> {
        // Comparing lengths settles most.
        let mut all = Rpc::ALL.into_iter();
        all.find(|rpc| rpc.path().as_bytes() == path)
    }

    /// Its `:path`.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Rpc::Range => kv::RANGE,
            Rpc::Put => kv::PUT,
            Rpc::Txn => kv::TXN,
            Rpc::DeleteRange => kv::DELETE_RANGE,
            Rpc::RangeStream => kv::RANGE_STREAM,
            Rpc::Compact => kv::COMPACT,
            Rpc::LeaseGrant => lease::LEASE_GRANT,
            Rpc::LeaseRevoke => lease::LEASE_REVOKE,
            Rpc::LeaseTimeToLive => lease::LEASE_TIME_TO_LIVE,
            Rpc::LeaseLeases => lease::LEASE_LEASES,
            Rpc::MemberAdd => cluster::MEMBER_ADD,
            Rpc::MemberRemove => cluster::MEMBER_REMOVE,
            Rpc::MemberUpdate => cluster::MEMBER_UPDATE,
            Rpc::MemberPromote => cluster::MEMBER_PROMOTE,
            Rpc::MemberList => cluster::MEMBER_LIST,
            Rpc::Alarm => maintenance::ALARM,
            Rpc::Status => maintenance::STATUS,
            Rpc::Defragment => maintenance::DEFRAGMENT,
            Rpc::Hash => maintenance::HASH,
            Rpc::HashKv => maintenance::HASH_KV,
            Rpc::Snapshot => maintenance::SNAPSHOT,
            Rpc::MoveLeader => maintenance::MOVE_LEADER,
            Rpc::Downgrade => maintenance::DOWNGRADE,
            Rpc::HealthCheck => health::CHECK,
            Rpc::HealthWatch => health::WATCH,
            Rpc::HealthList => health::LIST,
            Rpc::Watch => watch::WATCH,
            Rpc::LeaseKeepAlive => lease::LEASE_KEEP_ALIVE,
            Rpc::Lock => lock::LOCK,
            Rpc::Unlock => lock::UNLOCK,
            Rpc::Campaign => election::CAMPAIGN,
            Rpc::Proclaim => election::PROCLAIM,
            Rpc::Leader => election::LEADER,
            Rpc::Observe => election::OBSERVE,
            Rpc::Resign => election::RESIGN,
        }
    }

    /// Whether its call carries many requests, which come while it is answered.
    #[inline]
    pub(super) fn is_two_way(self) -> bool {
        matches!(self, Rpc::Watch | Rpc::LeaseKeepAlive)
    }

    /// Whether one request is answered by any number of messages.
    pub(super) fn is_server_streaming(self) -> bool {
        matches!(
            self,
            Rpc::RangeStream | Rpc::Snapshot | Rpc::HealthWatch | Rpc::Observe
        )
    }

    /// What a learner answers, as it may lag behind.
    fn is_for_learners(self) -> bool {
        matches!(
            self,
            Rpc::Status | Rpc::Snapshot | Rpc::HealthCheck | Rpc::HealthWatch | Rpc::HealthList
        )
    }
}

/// How the transport is to treat calls of `path`.
pub(super) fn method(path: &[u8]) -> Method {
    match Rpc::of(path) {
        Some(rpc) if rpc.is_server_streaming() => return Method::ServerStreaming,
        Some(rpc) if rpc.is_two_way() => return Method::ManyRequests,
        Some(_) => return Method::OneRequest,
        None => {}
    }
    let unimplemented = |text: String| Method::Unknown(Status::new(Code::Unimplemented, text));
    let whole = String::from_utf8_lossy(path);
    let name = whole.strip_prefix('/').unwrap_or(&whole);
    let Some((service, method)) = name.rsplit_once('/') else {
        return unimplemented(format!("malformed method name: {whole:?}"));
    };
    if SERVICES.contains(&service) {
        unimplemented(format!("unknown method {method} for service {service}"))
    } else {
        unimplemented(format!("unknown service {service}"))
    }
}

/// The checks between decoding and the handler. `local`: a serializable read, which a learner
/// serves.
///
/// # Errors
/// The first that fails, in etcd's order.
#[inline]
pub(super) fn admit(
    rpc: Rpc,
    local: bool,
    meta: &Metadata,
    published: &Published,
) -> Result<(), Error> {
    if published.status().is_learner && !local && !rpc.is_for_learners() {
        return Err(Error::NotSupportedForLearner);
    }
    if meta.is_empty() {
        return Ok(());
    }
    let mut has_leader = false;
    let mut seen = (false, false);
    for (name, value) in meta.iter() {
        match name {
            // Only the first value of each name counts.
            b"client-api-version" if !seen.0 => {
                seen.0 = true;
                if std::str::from_utf8(value).is_err() {
                    return Err(Error::InvalidClientApiVersion);
                }
            }
            b"hasleader" if !seen.1 => {
                seen.1 = true;
                has_leader = value == b"true";
            }
            _ => {}
        }
    }
    if has_leader && published.status().leader.is_none() {
        return Err(Error::NoLeader);
    }
    Ok(())
}

/// Whether a call ends when there is no leader for long: `hasleader: true` came with it.
pub(super) fn needs_leader(meta: &Metadata) -> bool {
    meta.get("hasleader") == Some(b"true")
}

/// For how long there has been no leader, while streams are open.
#[derive(Default)]
pub(super) struct LeaderLoss {
    since: Option<Instant>,
}

/// What becomes of streams that need a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Led {
    /// There is one.
    Yes,
    /// There is none; they wait until then.
    Until(Instant),
    /// They end.
    No,
}

impl LeaderLoss {
    pub(super) fn look(&mut self, published: &Published, now: Instant) -> Led {
        if published.status().leader.is_some() {
            self.since = None;
            return Led::Yes;
        }
        let end = *self.since.get_or_insert(now) + LEADER_LOSS_MAX;
        if now < end { Led::Until(end) } else { Led::No }
    }

    /// No stream is left.
    pub(super) fn forget(&mut self) {
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &str) -> String {
        match method(path.as_bytes()) {
            Method::Unknown(status) => {
                assert_eq!(status.code, Code::Unimplemented);
                status.message.into_owned()
            }
            other => panic!("{path} is served: {other:?}"),
        }
    }

    /// [WIRE-1] Clients probe for features by these texts.
    #[test]
    fn unknown_services_and_methods_are_refused_in_grpcs_words() {
        assert_eq!(refusal("/x"), "malformed method name: \"/x\"");
        assert_eq!(refusal("/a/b/c"), "unknown service a/b");
        assert_eq!(refusal("/no.Such/Thing"), "unknown service no.Such");
        let text = "unknown method Nope for service etcdserverpb.KV";
        assert_eq!(refusal("/etcdserverpb.KV/Nope"), text);
        let text = "unknown method MemberNope for service etcdserverpb.Cluster";
        assert_eq!(refusal("/etcdserverpb.Cluster/MemberNope"), text);
    }

    #[test]
    fn every_served_method_is_found_by_its_path() {
        for rpc in Rpc::ALL {
            let path = rpc.path().as_bytes();
            assert_eq!(Rpc::of(path), Some(rpc));
            assert!(!matches!(method(path), Method::Unknown(_)));
        }
    }
}
