//! What the configuration means for loops, sockets and the log.

use std::time::Duration;

use basalt_engine::apply::QUOTA_BYTES_DEFAULT;
use basalt_engine::io::WalIoKind;
use basalt_engine::types::{ClusterId, MemberId};
use basalt_net::grpc::ServerConfig;
use basalt_net::limits::{self, CONNECTIONS_MAX};
use basalt_net::reactor;

use crate::config::{Config, Threads, WalIo};
use crate::metrics::Facts;

/// Network threads beside the engine's; 0 is one thread for all.
pub(super) fn net_loops(threads: Threads) -> usize {
    match threads {
        Threads::Inline => 0,
        Threads::Network(count) => count as usize,
        // A hand-over between threads costs more than it gives before a third core is there to take it.
        Threads::Auto => match cores() {
            0..=2 => 0,
            cores => (cores - 1).min(NET_LOOPS_AUTO_MAX),
        },
    }
}

pub(super) fn reactor_config(config: &Config, loops: usize) -> reactor::Config {
    let keep_alive = &config.keep_alive;
    let grpc = ServerConfig {
        message_bytes_max: size(config.limits.request_bytes).saturating_add(GRPC_OVERHEAD_BYTES),
        limits: if config.hardened {
            limits::Limits::hardened()
        } else {
            limits::Limits::default()
        },
        streams_max: config.limits.concurrent_streams,
        ping_min_interval: keep_alive.min_time,
        ping_interval: keep_alive.interval,
        ping_timeout: keep_alive.timeout,
    };
    let fds = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(u64::MAX);
    // The rest is for the log, checkpoints, listeners and rings.
    let connections = size(fds)
        .saturating_sub(FDS_RESERVED)
        .clamp(FDS_RESERVED, CONNECTIONS_MAX);
    reactor::Config {
        h1_body_bytes_max: HTTP_BODY_BYTES_MAX,
        grpc,
        connections_max: connections.div_ceil(loops),
        spin: (cores() > loops + SPARE_CORES_TO_SPIN).then_some(SPIN),
    }
}

pub(super) fn wal_io_kind(config: &Config) -> WalIoKind {
    match config.wal_io {
        WalIo::Auto => WalIoKind::Auto,
        WalIo::Uring => WalIoKind::Uring,
        WalIo::Pwrite => WalIoKind::Pwrite,
    }
}

pub(super) fn facts(config: &Config, cluster: ClusterId, member: MemberId) -> Facts {
    let quota_bytes = if config.limits.quota_bytes == 0 {
        QUOTA_BYTES_DEFAULT
    } else {
        config.limits.quota_bytes
    };
    Facts {
        member_id: format!("{:x}", member.0),
        member: member.0,
        cluster: cluster.0,
        quota_bytes,
        features: FEATURES.to_vec(),
    }
}

/// The least time to live of a lease, in seconds: one and a half elections of whole heartbeats, rounded up as etcd does.
pub(super) fn lease_ttl_min(heartbeat: Duration, election: Duration) -> i64 {
    let ticks = election.as_millis() / heartbeat.as_millis();
    let least = (3 * ticks / 2 * heartbeat.as_millis()).div_ceil(1000);
    i64::try_from(least).expect("an election is 50 s at most")
}

/// A configured size as one of memory; what does not fit means no bound.
pub(super) fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What etcd allows a message above a request.
const GRPC_OVERHEAD_BYTES: usize = 512 << 10;
/// No path of HTTP/1.1 reads a body yet; this only lets the answer say what is wrong with the request.
const HTTP_BODY_BYTES_MAX: usize = 64 << 10;
const NET_LOOPS_AUTO_MAX: usize = 8;
const FDS_RESERVED: usize = 256;
/// Cores beyond all loops before a loop may burn one while it waits.
const SPARE_CORES_TO_SPIN: usize = 2;
const SPIN: Duration = Duration::from_micros(50);

/// etcd's feature gates with their stages; basalt has none of the optional ones and does always what the two that are on do.
const FEATURES: [(&str, &str, bool); 11] = [
    ("AllAlpha", "ALPHA", false),
    ("AllBeta", "BETA", false),
    ("CompactHashCheck", "ALPHA", false),
    ("FastLeaseKeepAlive", "BETA", true),
    ("InitialCorruptCheck", "ALPHA", false),
    ("LeaseCheckpoint", "ALPHA", false),
    ("LeaseCheckpointPersist", "ALPHA", false),
    ("PriorityRequest", "ALPHA", false),
    ("SetMemberLocalAddr", "ALPHA", false),
    ("StopGRPCServiceOnDefrag", "ALPHA", false),
    ("TxnModeWriteWithSharedBuffer", "BETA", true),
];
