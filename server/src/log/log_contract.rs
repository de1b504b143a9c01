//! The texts that etcd's users match in logs (etcd-behaviour 1.16). Changing one breaks somebody's script.

/// Clients are served from here on; tools wait for it.
pub const READY: &str = "ready to serve client requests";
/// Per plain-text listener; fields `traffic` and `address`.
pub const SERVING_INSECURELY: &str =
    "serving client traffic insecurely; this is strongly discouraged!";
/// This member's name and client URLs are in the log.
pub const PUBLISHED: &str = "published local member to cluster through raft";
/// A member is part of the cluster; field `added-peer-id`.
pub const ADDED_MEMBER: &str = "added member";
/// The first of the lines of a stop; field `signal`.
pub const RECEIVED_SIGNAL: &str = "received signal; shutting down";
/// The space of a compaction is given back; fields `compact-revision`, `took` and `number-of-keys-compacted`.
pub const FINISHED_COMPACTION: &str = "finished scheduled compaction";
/// A state image is on disk; field `snapshot-index`.
pub const SAVED_SNAPSHOT: &str = "saved snapshot";
/// Defragment was asked for and answered; fields `current-db-size-bytes` and `current-db-size-in-use-bytes`.
pub const FINISHED_DEFRAG: &str = "finished defragmenting directory";

/// Set and ignored, as in etcd.
pub const MAX_SNAPSHOTS_DEPRECATED: &str =
    "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.";
/// Set and ignored, as in etcd.
pub const V2_DEPRECATION_DEPRECATED: &str = "--v2-deprecation is deprecated and scheduled for removal in v3.8. \
     The default value is enforced, ignoring user input.";

/// What each run from start to SIGTERM writes, in this order.
pub const EVERY_RUN: &[&str] = &[
    ADDED_MEMBER,
    PUBLISHED,
    READY,
    SERVING_INSECURELY,
    RECEIVED_SIGNAL,
];
