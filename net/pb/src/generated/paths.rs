// Made from net/pb/api.txt by net/pb/tests/generated.rs; do not edit.

pub mod kv {
    pub const SERVICE: &str = "etcdserverpb.KV";
    pub const RANGE: &str = "/etcdserverpb.KV/Range";
    pub const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";
    pub const PUT: &str = "/etcdserverpb.KV/Put";
    pub const DELETE_RANGE: &str = "/etcdserverpb.KV/DeleteRange";
    pub const TXN: &str = "/etcdserverpb.KV/Txn";
    pub const COMPACT: &str = "/etcdserverpb.KV/Compact";
}

pub mod watch {
    pub const SERVICE: &str = "etcdserverpb.Watch";
    pub const WATCH: &str = "/etcdserverpb.Watch/Watch";
}

pub mod lease {
    pub const SERVICE: &str = "etcdserverpb.Lease";
    pub const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
    pub const LEASE_REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
    pub const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
    pub const LEASE_TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";
    pub const LEASE_LEASES: &str = "/etcdserverpb.Lease/LeaseLeases";
}

pub mod cluster {
    pub const SERVICE: &str = "etcdserverpb.Cluster";
    pub const MEMBER_ADD: &str = "/etcdserverpb.Cluster/MemberAdd";
    pub const MEMBER_REMOVE: &str = "/etcdserverpb.Cluster/MemberRemove";
    pub const MEMBER_UPDATE: &str = "/etcdserverpb.Cluster/MemberUpdate";
    pub const MEMBER_LIST: &str = "/etcdserverpb.Cluster/MemberList";
    pub const MEMBER_PROMOTE: &str = "/etcdserverpb.Cluster/MemberPromote";
}

pub mod maintenance {
    pub const SERVICE: &str = "etcdserverpb.Maintenance";
    pub const ALARM: &str = "/etcdserverpb.Maintenance/Alarm";
    pub const STATUS: &str = "/etcdserverpb.Maintenance/Status";
    pub const DEFRAGMENT: &str = "/etcdserverpb.Maintenance/Defragment";
    pub const HASH: &str = "/etcdserverpb.Maintenance/Hash";
    pub const HASH_KV: &str = "/etcdserverpb.Maintenance/HashKV";
    pub const SNAPSHOT: &str = "/etcdserverpb.Maintenance/Snapshot";
    pub const MOVE_LEADER: &str = "/etcdserverpb.Maintenance/MoveLeader";
    pub const DOWNGRADE: &str = "/etcdserverpb.Maintenance/Downgrade";
}

pub mod auth {
    pub const SERVICE: &str = "etcdserverpb.Auth";
    pub const AUTH_ENABLE: &str = "/etcdserverpb.Auth/AuthEnable";
    pub const AUTH_DISABLE: &str = "/etcdserverpb.Auth/AuthDisable";
    pub const AUTH_STATUS: &str = "/etcdserverpb.Auth/AuthStatus";
    pub const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";
    pub const USER_ADD: &str = "/etcdserverpb.Auth/UserAdd";
    pub const USER_GET: &str = "/etcdserverpb.Auth/UserGet";
    pub const USER_LIST: &str = "/etcdserverpb.Auth/UserList";
    pub const USER_DELETE: &str = "/etcdserverpb.Auth/UserDelete";
    pub const USER_CHANGE_PASSWORD: &str = "/etcdserverpb.Auth/UserChangePassword";
    pub const USER_GRANT_ROLE: &str = "/etcdserverpb.Auth/UserGrantRole";
    pub const USER_REVOKE_ROLE: &str = "/etcdserverpb.Auth/UserRevokeRole";
    pub const ROLE_ADD: &str = "/etcdserverpb.Auth/RoleAdd";
    pub const ROLE_GET: &str = "/etcdserverpb.Auth/RoleGet";
    pub const ROLE_LIST: &str = "/etcdserverpb.Auth/RoleList";
    pub const ROLE_DELETE: &str = "/etcdserverpb.Auth/RoleDelete";
    pub const ROLE_GRANT_PERMISSION: &str = "/etcdserverpb.Auth/RoleGrantPermission";
    pub const ROLE_REVOKE_PERMISSION: &str = "/etcdserverpb.Auth/RoleRevokePermission";
}

pub mod lock {
    pub const SERVICE: &str = "v3lockpb.Lock";
    pub const LOCK: &str = "/v3lockpb.Lock/Lock";
    pub const UNLOCK: &str = "/v3lockpb.Lock/Unlock";
}

pub mod election {
    pub const SERVICE: &str = "v3electionpb.Election";
    pub const CAMPAIGN: &str = "/v3electionpb.Election/Campaign";
    pub const PROCLAIM: &str = "/v3electionpb.Election/Proclaim";
    pub const LEADER: &str = "/v3electionpb.Election/Leader";
    pub const OBSERVE: &str = "/v3electionpb.Election/Observe";
    pub const RESIGN: &str = "/v3electionpb.Election/Resign";
}

pub mod health {
    pub const SERVICE: &str = "grpc.health.v1.Health";
    pub const CHECK: &str = "/grpc.health.v1.Health/Check";
    pub const WATCH: &str = "/grpc.health.v1.Health/Watch";
    pub const LIST: &str = "/grpc.health.v1.Health/List";
}
