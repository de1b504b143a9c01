//! Every bound of the network side, with unit and reason.

use std::time::Duration;

/// Bytes of an HTTP/1.1 request head. Go's default is 1 MiB; no probe, scraper or gateway client comes near 64 KiB.
pub const H1_HEAD_BYTES_MAX: usize = 64 << 10;
/// Header fields of an HTTP/1.1 request; the same bound as for a decoded HTTP/2 header list (128 fields).
pub const H1_HEADERS_MAX: usize = 128;
/// Bytes of a chunk-size or trailer line, its end included.
pub const H1_CHUNK_LINE_BYTES_MAX: usize = 4 << 10;

/// Unsent bytes of a connection above which it is read no more until they are written (design: backpressure).
pub const UNSENT_BYTES_MAX: usize = 1 << 20;
/// Bytes that wait for one client, in queues and in the output buffer, above which no further long answer is made for it.
pub const WAITING_ANSWERS_BYTES_MAX: usize = 4 << 20;
/// Queued answers are moved to the output buffer up to this many bytes at a time, so that a small answer never waits
/// behind more than that.
pub const OUT_FILL_BYTES: usize = 256 << 10;
/// Bytes of data that streams share that a stream copies at a time.
pub const SHARED_STEP_BYTES: usize = 64 << 10;
/// Queued bytes of one stream above which its sender is told to wait.
pub const STREAM_QUEUE_FULL_BYTES: usize = 64 << 10;
/// Keys of streams that are gone which the schedule of a connection may hold beside those of open ones.
pub const STALE_KEYS_MAX: usize = 1024;
/// A buffer that has grown beyond this is given back instead of being kept for the next user.
pub const KEPT_BUFFER_BYTES_MAX: usize = 64 << 10;
/// Header blocks a connection remembers with their meaning; clients use one for each method.
pub const BLOCK_CACHE_ENTRIES_MAX: usize = 8;
/// Bytes of a remembered header block. Longer ones are rare and not worth comparing.
pub const CACHED_BLOCK_BYTES_MAX: usize = 1024;
/// Decoded header blocks kept for reuse; as many as calls are usually open.
pub const SPARE_HEADS_MAX: usize = 64;
/// Bytes of a decoded header block above which it is not kept for reuse.
pub const SPARE_HEAD_BYTES_MAX: usize = 8 << 10;
/// Streams we ended first of which late frames are still taken in silence: several round trips' worth.
pub const TOLERATED_STREAMS_MAX: usize = 256;
/// What the peer may send on a connection ahead of our updates. Message sizes are bounded on their own.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Ceiling of a stream's receive window, bytes; below it the window holds two largest messages, so that a unary call
/// never needs an update.
pub const STREAM_WINDOW_BYTES_MAX: u32 = 16 << 20;
/// Bytes of requests that have begun and not ended, over all calls of a connection. The call that exceeds it is refused.
pub const PARTIAL_REQUEST_BYTES_MAX: usize = 64 << 20;
/// Bytes of debug data of the peer's GOAWAY that are kept.
pub const GOAWAY_TEXT_BYTES_MAX: usize = 128;

/// What one HTTP/2 connection may ask of us. `default` is as tolerant as etcd, yet bounded; `hardened` may hurt odd clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a header block as sent, continuations included. Beyond: the connection ends.
    pub header_block_bytes_max: usize,
    /// Bytes of a decoded header list by RFC 9113's count. Beyond: the stream is reset.
    pub header_list_bytes_max: usize,
    /// Fields of a header list. Beyond: the stream is reset.
    pub header_fields_max: usize,
    /// CONTINUATION frames of one block. Beyond: the connection ends.
    pub continuations_max: u32,
    /// From the first byte to the end of the first SETTINGS.
    pub preface_timeout: Duration,
    /// From the first frame of a header block, or the first bytes of any frame, to its end.
    pub frame_timeout: Duration,
    /// Streams open at a time, whatever was advertised. Beyond: refused.
    pub streams_open_max: u32,
    /// Bytes of answers that wait for the client's windows. Beyond: new streams are refused.
    pub queued_bytes_max: usize,
    /// Streams that we had to reset because of what the client sent. Beyond: the connection ends.
    pub peer_faults_max: u32,
    /// Resets by the client within a second. Beyond: the connection ends.
    pub resets_per_second_max: u32,
    /// Of a thousand streams, those that the client resets before their answer. Beyond: the connection ends.
    pub early_resets_per_mille_max: u32,
    /// SETTINGS frames within a second. Beyond: the connection ends.
    pub settings_per_second_max: u32,
    /// Frames in a row that move nothing: empty DATA, PRIORITY, WINDOW_UPDATE, unknown ones. Beyond: the connection ends.
    pub idle_frames_max: u32,
    /// A client that takes nothing of what waits for it for so long is cut off.
    pub stall_timeout: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            header_block_bytes_max: 16 << 20,
            header_list_bytes_max: 16 << 20,
            header_fields_max: 100_000,
            continuations_max: 2_048,
            preface_timeout: Duration::from_secs(120),
            frame_timeout: Duration::from_secs(300),
            streams_open_max: 1 << 16,
            queued_bytes_max: 256 << 20,
            peer_faults_max: 10_000,
            resets_per_second_max: u32::MAX,
            early_resets_per_mille_max: u32::MAX,
            settings_per_second_max: 1_000,
            idle_frames_max: 100_000,
            stall_timeout: None,
        }
    }
}

impl Limits {
    /// The strict set of `--hardened`.
    pub fn hardened() -> Limits {
        Limits {
            header_block_bytes_max: 32 << 10,
            header_list_bytes_max: 64 << 10,
            header_fields_max: 128,
            continuations_max: 8,
            preface_timeout: Duration::from_secs(5),
            frame_timeout: Duration::from_secs(5),
            streams_open_max: 4_096,
            queued_bytes_max: 4 << 20,
            peer_faults_max: 100,
            resets_per_second_max: 200,
            early_resets_per_mille_max: 500,
            settings_per_second_max: 10,
            idle_frames_max: 1_000,
            stall_timeout: Some(Duration::from_secs(60)),
        }
    }
}

/// A connection's timer fires at most this late. Deadlines of clients are tens of milliseconds at least.
pub const TIMER_TICK: Duration = Duration::from_millis(16);
/// Slots of the timer ring: with `TIMER_TICK` a span of 8 seconds, longer deadlines are looked at that often.
pub const TIMER_SLOTS: usize = 512;
/// Bytes of the receive buffer that all connections of a loop share. Larger saves calls when large values come in,
/// smaller stays in the second-level cache.
pub const RECEIVE_BYTES: usize = 64 << 10;
/// Bytes read from one connection in one turn before the others have theirs.
pub const READ_BYTES_PER_TURN_MAX: usize = 256 << 10;
/// Connections accepted by one listener in one turn; the rest waits in the kernel's queue for the next.
pub const ACCEPTS_PER_TURN_MAX: usize = 500;
/// Connections of a process when the configuration names no other bound; what is above waits in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 50_000;
/// How long accepting rests after the process ran out of descriptors or memory.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Readiness events taken from the kernel at once.
pub const EVENTS_PER_TURN_MAX: usize = 1024;
/// From the first to the last byte of an HTTP/1.1 request.
pub const H1_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// An HTTP/1.1 connection without a request is closed after this long.
pub const H1_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Silence after which an idle HTTP/2 connection gives its buffers back: long against the gaps between the requests of a busy
/// client, which would otherwise allocate anew for each.
pub const TRIM_AFTER: Duration = Duration::from_secs(2);
/// How long what a refused client still sends is read and thrown away, so that the refusal reaches it before a reset does.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections waiting to be taken over by another loop; more are closed at once.
pub const ADOPT_QUEUE_MAX: usize = 4096;

/// Bytes of a ping or a pong between members.
pub const PEER_CONTROL_BYTES_MAX: usize = 16;
/// Bytes of urgent frames that wait for one peer; a heartbeat has a few dozen. Beyond: dropped, as the network might.
pub const PEER_URGENT_BYTES_MAX: usize = 1 << 20;
/// Bytes of bulk frames that wait for one peer, more than Raft's own window. Beyond: dropped, and Raft probes.
pub const PEER_BULK_BYTES_MAX: usize = 32 << 20;
/// Small frames are gathered into chunks of this size.
pub const PEER_CHUNK_BYTES: usize = 16 << 10;
/// Bytes that one write offers a peer's socket: what an urgent frame can still wait behind.
pub const PEER_WRITE_BYTES: usize = 256 << 10;
/// Chunks of one write.
pub const PEER_SLICES_MAX: usize = 32;
/// Accepted peer connections that have not said who they are.
pub const PEER_STRANGERS_MAX: usize = 64;
/// Peers at a time that are in no list of members: those whose joining this member has not heard of yet.
pub const PEER_UNLISTED_MAX: usize = 8;
/// First pause after a failed dial; it doubles.
pub const PEER_BACKOFF_MIN: Duration = Duration::from_millis(20);
/// Longest pause between two dials of a peer that does not answer.
pub const PEER_BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Pause after a peer has answered and refused.
pub const PEER_REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// Events that wait for the owner, who takes them every turn. Beyond: dropped.
pub const PEER_EVENTS_MAX: usize = 1024;
/// Bytes of the inbox's memory that are kept between two turns.
pub const PEER_INBOX_BYTES_KEPT: usize = 4 << 20;
