//! What is served, and what stands before every handler.

use basalt_net::grpc::{Code, Metadata, Method, Status};
use basalt_pb::paths::{cluster, health, kv, lease, maintenance};

use basalt_engine::replica::Published;

use super::errors::Error;

/// The methods that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "etcd's names")]
pub(super) enum Rpc {
    Range,
    RangeStream,
    Put,
    DeleteRange,
    Txn,
    Compact,
    LeaseRevoke,
    LeaseTimeToLive,
    LeaseLeases,
    MemberList,
    Alarm,
    Status,
    Defragment,
    Hash,
    HashKv,
    MoveLeader,
    Downgrade,
    HealthCheck,
    HealthWatch,
    HealthList,
}

const SERVED: [(&str, Rpc); 20] = [
    (kv::RANGE, Rpc::Range),
    (kv::PUT, Rpc::Put),
    (kv::TXN, Rpc::Txn),
    (kv::DELETE_RANGE, Rpc::DeleteRange),
    (kv::RANGE_STREAM, Rpc::RangeStream),
    (kv::COMPACT, Rpc::Compact),
    (lease::LEASE_REVOKE, Rpc::LeaseRevoke),
    (lease::LEASE_TIME_TO_LIVE, Rpc::LeaseTimeToLive),
    (lease::LEASE_LEASES, Rpc::LeaseLeases),
    (cluster::MEMBER_LIST, Rpc::MemberList),
    (maintenance::ALARM, Rpc::Alarm),
    (maintenance::STATUS, Rpc::Status),
    (maintenance::DEFRAGMENT, Rpc::Defragment),
    (maintenance::HASH, Rpc::Hash),
    (maintenance::HASH_KV, Rpc::HashKv),
    (maintenance::MOVE_LEADER, Rpc::MoveLeader),
    (maintenance::DOWNGRADE, Rpc::Downgrade),
    (health::CHECK, Rpc::HealthCheck),
    (health::WATCH, Rpc::HealthWatch),
    (health::LIST, Rpc::HealthList),
];

const SERVICES: [&str; 5] = [
    kv::SERVICE,
    lease::SERVICE,
    cluster::SERVICE,
    maintenance::SERVICE,
    health::SERVICE,
];

impl Rpc {
    #[inline]
    pub(super) fn of(path: &[u8]) -> Option<Rpc> {
        // Ordered by how often each is called; comparing lengths settles most.
        let found = SERVED.iter().find(|(served, _)| served.as_bytes() == path);
        found.map(|(_, rpc)| *rpc)
    }

    /// What a learner answers, as it may lag behind.
    fn is_for_learners(self) -> bool {
        matches!(
            self,
            Rpc::Status | Rpc::HealthCheck | Rpc::HealthWatch | Rpc::HealthList
        )
    }
}

/// How the transport is to treat calls of `path`.
pub(super) fn method(path: &[u8]) -> Method {
    if Rpc::of(path).is_some() {
        return Method::OneRequest;
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
        let text = "unknown method LeaseGrant for service etcdserverpb.Lease";
        assert_eq!(refusal("/etcdserverpb.Lease/LeaseGrant"), text);
    }

    #[test]
    fn every_served_method_is_found_by_its_path() {
        for (path, rpc) in SERVED {
            assert_eq!(Rpc::of(path.as_bytes()), Some(rpc));
            assert_eq!(method(path.as_bytes()), Method::OneRequest);
        }
    }
}
