//! Every bound of the API, with unit and reason.

use std::time::Duration;

/// How long a proposal or a read waits for the cluster before the client hears `request timed out`:
/// 5 s and two election time-outs of 1 s, as in etcd.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);

/// Entries committed but not yet applied above which writes are refused, as in etcd.
pub const APPLY_LAG_ENTRIES_MAX: u64 = 5000;

/// Reads of one loop that wait for a leader; more are refused. A client's connection holds a few
/// hundred at most.
pub const PARKED_CALLS_MAX: usize = 10_000;

/// Bytes of the requests of parked calls, which are copied out of the connection's buffer.
pub const PARKED_BYTES_MAX: usize = 16 << 20;

/// Reads of one loop that go on over several turns, streams included; more are refused. Each holds
/// the answer it has made so far.
pub const JOBS_MAX: usize = 1024;

/// Of them, those of one connection: it cannot take the places of all others.
pub const JOBS_PER_CONNECTION_MAX: usize = 256;

/// Unfinished reads that are worked on at a time. The others wait with at most one slice made, so
/// that memory is bounded by the answers of a few.
pub const JOBS_RUNNING_MAX: usize = 8;

/// How often reads whose client does not take what it has are looked at again.
pub const STALLED_LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Calls of Lock and Election of one loop that wait; more are refused. Each has a key, a lease or a watcher.
pub const CLAIMS_MAX: usize = 65_536;

/// Slices of their reads in one turn.
pub const CLAIM_SLICES_PER_TURN: usize = 16;

/// Seconds that a lease lives which such a call makes for itself, as in etcd. Nobody renews it.
pub const SESSION_TTL_SECONDS: i64 = 60;

/// Slices that unfinished reads may do in one turn: a few hundred microseconds, so that short
/// requests of other clients do not wait longer.
pub const JOB_SLICES_PER_TURN: usize = 4;

/// How long an unfinished read may hold up the giving back of compacted space.
pub const HOLD_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of room that the loop's scratch buffer keeps between requests.
pub const SCRATCH_BYTES_KEPT: usize = 1 << 20;

/// Keys in the first piece of a streamed range, as in etcd.
pub const STREAM_FIRST_KEYS: i64 = 10;

/// Snapshots of one loop that are on their way; more are refused. Each has a piece in memory and holds
/// up the giving back of compacted space.
pub const SNAPSHOTS_MAX: usize = 4;

/// Bytes of a snapshot in one message, as in etcd.
pub const SNAPSHOT_BLOB_BYTES: usize = 32 << 10;

/// Bytes of a snapshot that the worker makes before it waits for the client: copied and queued in a
/// fraction of a millisecond.
pub const SNAPSHOT_PIECE_BYTES: usize = 256 << 10;

/// How long a client may read nothing of its snapshot, which holds up compaction meanwhile.
pub const SNAPSHOT_STALL_MAX: Duration = Duration::from_secs(60);

const _: () = assert!(SNAPSHOT_PIECE_BYTES.is_multiple_of(SNAPSHOT_BLOB_BYTES));

/// Records that one step of a hash reads: about a millisecond.
pub const HASH_STEP_RECORDS: usize = 4096;

/// What etcd allows a message above a request; watch messages are cut from the sum on.
pub const GRPC_OVERHEAD_BYTES: usize = 512 << 10;

/// How long a watch that asks for a leader goes on without one: three elections of 1 s, as in etcd.
pub const LEADER_LOSS_MAX: Duration = Duration::from_secs(3);

/// Between two progress messages when the flag says nothing, as in etcd.
pub const WATCH_PROGRESS_INTERVAL: Duration = Duration::from_secs(600);

/// A shorter interval is raised to this, as in etcd.
pub const WATCH_PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// When a part of the log is missing, watchers that catch up ask for it again after this long.
pub const WATCH_READ_RETRY: Duration = Duration::from_millis(1);
