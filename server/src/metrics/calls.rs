use basalt_net::reactor::Counter;
use basalt_pb::paths::{auth, cluster, election, health, kv, lease, lock, maintenance, watch};

/// Counters of gRPC calls, each list indexed by method.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) started: Box<[Counter]>,
    /// By method, then by code.
    pub(super) handled: Box<[[Counter; CODES.len()]]>,
    pub(super) messages_received: Box<[Counter]>,
    pub(super) messages_sent: Box<[Counter]>,
    pub(super) received_bytes: Counter,
    pub(super) sent_bytes: Counter,
}

impl Default for Calls {
    fn default() -> Calls {
        let counters = || METHODS.iter().map(|_| Counter::default()).collect();
        Calls {
            started: counters(),
            handled: METHODS.iter().map(|_| Default::default()).collect(),
            messages_received: counters(),
            messages_sent: counters(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
        }
    }
}

/// A method that is counted by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodId(usize);

impl MethodId {
    pub(super) fn index(self) -> usize {
        self.0
    }
}

/// The id of the method with this `:path`; ask once, not for every call.
pub fn method(path: &str) -> Option<MethodId> {
    METHODS
        .iter()
        .position(|&known| known == path)
        .map(MethodId)
}

/// Service, method and kind of a path, as the labels name them.
pub(super) fn labels(path: &'static str) -> (&'static str, &'static str, &'static str) {
    let (service, method) = path[1..]
        .split_once('/')
        .expect("every path of the table has two parts");
    let kind = match path {
        watch::WATCH | lease::LEASE_KEEP_ALIVE => "bidi_stream",
        kv::RANGE_STREAM | maintenance::SNAPSHOT | health::WATCH | election::OBSERVE => {
            "server_stream"
        }
        _ => "unary",
    };
    (service, method, kind)
}

/// All methods of etcd's client port. From `SHOWN_WHEN_CALLED` on they are shown once they were called, as etcd does with what it
/// registers late.
pub(super) const METHODS: [&str; 52] = [
    kv::RANGE,
    kv::RANGE_STREAM,
    kv::PUT,
    kv::DELETE_RANGE,
    kv::TXN,
    kv::COMPACT,
    watch::WATCH,
    lease::LEASE_GRANT,
    lease::LEASE_REVOKE,
    lease::LEASE_KEEP_ALIVE,
    lease::LEASE_TIME_TO_LIVE,
    lease::LEASE_LEASES,
    cluster::MEMBER_ADD,
    cluster::MEMBER_REMOVE,
    cluster::MEMBER_UPDATE,
    cluster::MEMBER_LIST,
    cluster::MEMBER_PROMOTE,
    maintenance::ALARM,
    maintenance::STATUS,
    maintenance::DEFRAGMENT,
    maintenance::HASH,
    maintenance::HASH_KV,
    maintenance::SNAPSHOT,
    maintenance::MOVE_LEADER,
    maintenance::DOWNGRADE,
    auth::AUTH_ENABLE,
    auth::AUTH_DISABLE,
    auth::AUTH_STATUS,
    auth::AUTHENTICATE,
    auth::USER_ADD,
    auth::USER_GET,
    auth::USER_LIST,
    auth::USER_DELETE,
    auth::USER_CHANGE_PASSWORD,
    auth::USER_GRANT_ROLE,
    auth::USER_REVOKE_ROLE,
    auth::ROLE_ADD,
    auth::ROLE_GET,
    auth::ROLE_LIST,
    auth::ROLE_DELETE,
    auth::ROLE_GRANT_PERMISSION,
    auth::ROLE_REVOKE_PERMISSION,
    health::CHECK,
    health::WATCH,
    health::LIST,
    lock::LOCK,
    lock::UNLOCK,
    election::CAMPAIGN,
    election::PROCLAIM,
    election::LEADER,
    election::OBSERVE,
    election::RESIGN,
];
pub(super) const SHOWN_WHEN_CALLED: usize = 45;

/// Go's names of the codes, by number.
pub(super) const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
