//! Every bound of the engine, with its unit and its reason. Each room has a section.

// ---- raft, apply, replica ----

/// Entries of one run (one batch): a turn applies a run as a whole, and this many small Puts take about a millisecond.
pub const RUN_ENTRIES_MAX: usize = 1024;

/// Bytes of one run; a run holds at least one entry whatever its size, so the true bound is the larger of this and one request.
pub const RUN_BYTES_MAX: usize = 1 << 20;

/// Bytes of accepted proposals that the log has no room for yet; beyond it proposals are refused and sockets not read.
pub const INBOX_BYTES_MAX: usize = 16 << 20;

/// Buffers of finished runs kept for the next ones; each holds at most about one run.
pub const SPENT_RUNS_MAX: usize = 8;

/// Bytes of entries of one message to a follower, but for a single longer run: small enough that heartbeats pass in between.
pub const APPEND_BYTES_MAX: usize = 1 << 20;

/// Bytes of entries on the way to one follower that it has not acknowledged: a flush of the follower and a round trip at full speed.
pub const APPEND_WINDOW_BYTES: usize = 4 << 20;

/// Messages with entries on the way to one follower.
pub const APPEND_WINDOW_MESSAGES: usize = 256;

/// Bytes of applied entries that are kept for members who lag: about a second of log.
pub const CATCH_UP_BYTES: usize = 32 << 20;

/// Bytes of entries that are in the log and not applied, beyond which a cluster's member takes no more: followers that do not answer
/// must not cost the leader its memory, nor a peer that does not stop sending a follower's.
pub const UNAPPLIED_BYTES_MAX: usize = 64 << 20;

/// Messages that wait for the disk before they may leave; more are dropped, as the network may do.
pub const OUTBOX_MESSAGES_MAX: usize = 4096;

/// Requests that were forwarded to the leader and are not applied here; beyond it proposals are refused and sockets not read.
pub const FORWARDED_MAX: u64 = 1 << 16;

/// Changes of the members that are not in the log yet.
pub const MEMBER_CHANGES_MAX: usize = 16;

/// How soon a question for a read's index is asked again: as etcd.
pub const READ_RETRY_MS: u64 = 500;

/// How long a leader that stops waits for another one.
pub const HANDOVER_MS: u64 = 1_500;

/// Questions of members that wait for one round of reads; each member asks one at a time.
pub const READ_QUESTIONS_MAX: usize = 256;

/// Bytes of one piece of a snapshot: a follower has one on the way, and heartbeats pass in between.
pub const SNAPSHOT_PART_BYTES: usize = 512 << 10;

/// Bytes of the list of a snapshot's files: a million of them.
pub const SNAPSHOT_LIST_BYTES_MAX: u64 = 16 << 20;

/// Bytes of log that a leader keeps beside what it always does while a member receives a snapshot. Whoever takes longer is sent a
/// newer one.
pub const SNAPSHOT_LOG_BYTES_MAX: usize = 256 << 20;

/// A member that asks for no piece of its snapshot for so many elections' times is not waited for any more.
pub const SNAPSHOT_PATIENCE_ELECTIONS: u64 = 10;

/// How soon a follower begins again whose disk had no room for a snapshot, or whose snapshot was not what it should be.
pub const SNAPSHOT_RETRY_MS: u64 = 5_000;

const _: () = assert!(APPEND_WINDOW_BYTES >= APPEND_BYTES_MAX);
const _: () = assert!(APPEND_BYTES_MAX >= SNAPSHOT_PART_BYTES);
const _: () = assert!(UNAPPLIED_BYTES_MAX >= 2 * APPEND_WINDOW_BYTES);

/// Records that compaction looks at in one turn: well under a millisecond.
pub const SPACE_RECORDS_A_TURN: usize = 2048;

/// Index entries that the ranges of the entries applied in one turn examine: about 400 us.
pub const APPLY_SLICE_RECORDS: usize = 8 * READ_SLICE_RECORDS;

/// Bytes of keys and values that they hand out.
pub const APPLY_SLICE_BYTES: usize = 8 * READ_SLICE_BYTES;

/// What deleting a key counts among them: a record and a change of the index, about 1 us.
pub const APPLY_RECORDS_A_DELETE: usize = 16;

const _: () = assert!(APPLY_SLICE_RECORDS >= APPLY_RECORDS_A_DELETE);

/// Pause between two such pieces, so that compaction leaves most of a core to requests.
pub const SPACE_PAUSE_MS: u64 = 1;

/// Bytes of one chunk of a checkpoint: large enough for the disk, small enough to pin the store only shortly.
pub const CHECKPOINT_CHUNK_BYTES: usize = 256 << 10;

/// Bytes of a checkpoint's description: a thousand members with long URLs, and all leases.
pub const CHECKPOINT_META_BYTES_MAX: usize = (4 << 20) + LEASES_MAX * LEASE_META_BYTES_MAX;

/// Bytes of a lease there: four numbers of ten bytes each, with their tags and the message's head.
pub const LEASE_META_BYTES_MAX: usize = 46;

/// Room for answers that is kept for the next ones: a run of Puts with previous values of a kilobyte each.
pub const REPLY_BYTES_KEPT_MAX: usize = 2 << 20;

/// Alarms that no member of the cluster raised for itself: anybody may raise them for any id, each stands in every checkpoint's
/// description, and every change copies the list.
pub const ALARMS_MAX: usize = 1024;

/// Entries of log after which a checkpoint is due by default: etcd's default of `--snapshot-count` up to 3.5 and far above 3.6's, as
/// a checkpoint here is due by bytes.
pub const CHECKPOINT_ENTRIES: u64 = 10_000_000;

/// Bytes of log after which a checkpoint is due by default, unless the changed leaves of the index take more: a tenth of a
/// second of reading at a start.
pub const CHECKPOINT_BYTES: u64 = 32 << 20;

/// Bytes of log after which a checkpoint is due however much of the index has changed: some seconds of replay.
pub const CHECKPOINT_BYTES_MAX: u64 = 512 << 20;

/// How long nothing is applied until a checkpoint is due for little log too: until a client that paused is likely gone.
pub const CHECKPOINT_QUIET_MS: u64 = 5_000;

/// It is due then for this part of the log after which one is due anyway.
pub const CHECKPOINT_QUIET_SHARE: u64 = 32;

/// Bytes of records that one turn gives back: the system takes well under a millisecond to free them.
pub const EVICT_BYTES_A_TURN: u64 = 8 << 20;

/// Bytes that the scrub reads in one go: with the pause, 4 MB a second, which no disk minds.
pub const SCRUB_STEP_BYTES: u64 = 1 << 20;

/// Its pause after each.
pub const SCRUB_PAUSE_MS: u64 = 250;

/// How long a member runs before its first scrub: a restart has other things to read.
pub const SCRUB_FIRST_MS: u64 = 600_000;

/// From the end of a scrub to the next one: a disk that rots does so over weeks.
pub const SCRUB_INTERVAL_MS: u64 = 24 * 3_600_000;

/// Bytes without a file, of records and of changed leaves where the index does not fit into memory, after which a checkpoint is
/// due however short the log is: compaction makes such bytes without writing to the log.
pub const CHECKPOINT_UNFILED_BYTES: u64 = 256 << 20;

/// How long a checkpoint waits after a start for the member to serve: longer than an election.
pub const CHECKPOINT_AFTER_START_MS: u64 = 2_000;

/// How long a failed checkpoint is not tried again.
pub const CHECKPOINT_RETRY_MS: u64 = 10_000;

/// How long an automatic compaction may be on its way through the log before it is given up: etcd's 5 s and two elections.
pub const AUTO_COMPACTION_TIMEOUT_MS: u64 = 7_000;

/// What happened and is told at the next turn's end; one more is dropped. A turn makes three at most.
pub const NOTICES_MAX: usize = 64;

/// How often a log that is short of space tries to get some.
pub const SPACE_RETRY_MS: u64 = 1_000;

const _: () = assert!(INBOX_BYTES_MAX >= 2 * RUN_BYTES_MAX);

// ---- lease ----

/// Seconds that a lease may be asked to live, as in etcd: 285 years.
pub const LEASE_TTL_MAX: i64 = 9_000_000_000;

/// Leases of a cluster; more are refused. etcd has no bound but its quota; each is part of every checkpoint's description and
/// takes some hundred bytes of memory, so this is a gigabyte.
pub const LEASES_MAX: usize = 4 << 20;

/// What a lease counts of the quota, as in etcd.
pub const LEASE_BYTES: u64 = 64;

/// Leases whose time is over and that are on their way through the log at once: applying that many, of one key each, takes about a
/// millisecond, so a thousand that end together hold up nobody's write.
pub const LEASE_REVOKES_MAX: usize = 1024;

/// A revoke that has not come back from the log is proposed again after this long.
pub const LEASE_REVOKE_RETRY_MS: u64 = 10_000;

/// How often the rest of a long lease goes into the log, as in etcd: what a leader change may add to it at most. Leases that
/// end within this time are not worth an entry.
pub const LEASE_CHECKPOINT_MS: u64 = 300_000;

/// Leases whose rest goes into the log in one entry, as in etcd.
pub const LEASE_CHECKPOINTS_MAX: usize = 1000;

/// Timers that are looked at in one turn: about 100 us.
pub const LEASE_TIMERS_A_TURN: usize = 4096;

/// Questions about leases that are not answered; more are refused.
pub const LEASE_ASKS_MAX: usize = 65_536;

/// Questions of a follower's clients, and answers to them, in one message.
pub const QUESTIONS_A_MESSAGE_MAX: usize = 4096;

/// Keys of leases that are listed in one turn: some 100 us.
pub const LEASE_KEYS_A_TURN: usize = 1024;

/// Lists of a lease's keys, and lists of leases, that are made at a time; more are refused. Each holds its answer.
pub const LEASE_LISTINGS_MAX: usize = 64;

// ---- mvcc ----

/// Bytes of one segment of the revision log. Compaction rewrites segment by segment, so this is also its largest single copy;
/// a record that is larger gets a segment of its own.
pub const MVCC_SEGMENT_BYTES: usize = 1 << 20;

/// Keys of one leaf of the index: with a head and an entry for each, a leaf is 2 KiB and is copied in well under 100 ns.
pub const LEAF_KEYS_MAX: usize = 32;

/// Children of one inner node: chosen so that an inner node is as large as a leaf and one allocation size serves both.
pub const INNER_CHILDREN_MAX: usize = 56;

/// Bytes of keys of one node, unless it holds a single key: what an insert may have to copy besides the node.
pub const NODE_KEY_BYTES_MAX: usize = 16 << 10;

/// Bytes of a file of pages of the index that are read at once where the neighbours of a page are of use too: about 30 of them.
pub const INDEX_READ_BYTES: u64 = 64 << 10;

/// Bytes between two wanted pages of the index that a start reads over rather than begin another read: the disk takes as long.
pub const INDEX_GAP_BYTES: u64 = 32 << 10;

/// Bytes of one read of a start for several pages.
pub const INDEX_STRETCH_BYTES_MAX: u64 = 1 << 20;

/// Bytes that a leaf of short keys takes in memory, with them.
pub const LEAF_BYTES: u64 = 4 << 10;

/// Bytes of leaves that may be in memory however little is allowed: what one slice of work needs at once, so that it gets on.
pub const INDEX_BYTES_MIN: u64 = 4 << 20;

/// Leaves that a checkpoint names under one pin where it has nothing to write.
pub const INDEX_SLICE_LEAVES: usize = 2048;

/// Leaves of which the tree hears in one turn where a checkpoint has written them.
pub const INDEX_SETTLE_A_TURN: usize = 256;

/// Leaves that are looked at in one turn to give memory back.
pub const INDEX_LOOKS_A_TURN: usize = 1024;

/// Reads, hashes and checkpoints in flight that outlive their pin. When all places are taken the next one is refused as busy.
pub const HOLDS_MAX: usize = 1024;

/// Parts of files that reads found missing and the loop has not heard of yet; a read that is not noted asks again.
pub const PARTS_WANTED_MAX: usize = 1024;

/// Such parts that are read at a time: enough to keep a fast disk busy, and 2 MiB of buffers.
pub const PART_READS_MAX: usize = 32;

/// A part that cannot be read is read so often in all; then what it holds is lost.
pub const PART_READ_TRIES: u32 = 3;

/// Frames that a background job keeps beside the cache: what one step of it needs at once, and a little more.
pub const ASIDE_FRAMES_MAX: usize = 8;

/// Compaction hashes that are remembered, as in etcd.
pub const COMPACT_HASHES_MAX: usize = 10;

/// Index entries that one slice of a read examines: about 50 us.
pub const READ_SLICE_RECORDS: usize = 1024;

/// Bytes of keys and values that one slice of a read hands out.
pub const READ_SLICE_BYTES: usize = 64 << 10;

/// Records that a query sorts in one piece: about a third of a millisecond. Longer answers are merged
/// from such pieces, in slices.
pub const SORT_RUN_RECORDS: usize = 2048;

// ---- snapshot ----

/// Bytes of file that one step of a snapshot makes, but for one record that is longer: under a millisecond of copying and SHA-256.
pub const SNAPSHOT_STEP_BYTES: usize = 256 << 10;

/// Records that one step of a snapshot looks at: under a millisecond.
pub const SNAPSHOT_LAYOUT_RECORDS: usize = 8192;

/// Bytes of one leaf of a database that is read: bbolt keeps up to four entries together, however large, and no request is larger
/// than 256 MiB.
pub const SNAPSHOT_LEAF_BYTES_MAX: u64 = (1 << 30) + (1 << 20);

/// Bytes of one branch of a database that is read. All branches on a path are in memory at a time.
pub const SNAPSHOT_BRANCH_BYTES_MAX: u64 = 16 << 20;

/// Alarms of a snapshot that is read: more than a member keeps, and they fit into a checkpoint's description.
pub const SNAPSHOT_ALARMS_MAX: usize = 2 * ALARMS_MAX;

/// The highest revision that a snapshot may have or be raised to: half of what there are, so that none is ever used up.
pub const SNAPSHOT_REVISION_MAX: i64 = i64::MAX >> 1;

const _: () = assert!(LEAF_KEYS_MAX >= 8);
const _: () = assert!(INNER_CHILDREN_MAX >= 8);

// ---- wal, checkpoint files, io ----

/// A group closes at this size, or at one run if that is larger: 1 MiB costs the disk under 2 ms and keeps memory small.
pub const WAL_GROUP_BYTES: usize = 1 << 20;

/// The first segment, and the smallest: small enough that making it does not delay the first start.
pub const WAL_SEGMENT_BYTES_MIN: u64 = 4 << 20;

/// Segment sizes double up to here: large enough that changing segments (two superblocks) costs nothing, small enough that little is
/// filled ahead of what is used, and that a fill ends well within the time in which one is written full.
pub const WAL_SEGMENT_BYTES_MAX: u64 = 16 << 20;

/// Kept back for a full disk: one smallest segment.
pub const WAL_BALLAST_BYTES: u64 = WAL_SEGMENT_BYTES_MIN;

/// One write of the background filling: long enough for the disk, short enough that a flush does not wait long behind it.
pub const WAL_FILL_BYTES: usize = 256 << 10;

/// One read of recovery.
pub const WAL_READ_BYTES: usize = 1 << 20;

/// Reads of recovery that are announced before they are asked for: with half as many a disk is as fast as it gets.
pub const WAL_READS_AHEAD: usize = 8;

/// Threads of a start that read what was announced: a disk in a cloud answers ten times as many at once as one by one.
pub const READ_AHEAD_THREADS: usize = 16;

/// Reads announced and not asked for yet; more are read when they are asked for.
pub const READ_AHEAD_MAX: usize = 1 << 16;

/// Bytes read ahead and not asked for yet, but for one read a thread.
pub const READ_AHEAD_BYTES: usize = 32 << 20;

/// Bytes of log that a start gathers before it applies them: the pages of the index that they need are read together.
pub const REPLAY_BATCH_BYTES: usize = 16 << 20;

/// Free segments kept beside the next one; more are removed, smallest first.
pub const WAL_SPARE_SEGMENTS_MAX: usize = 16;

/// One read of a segment that a server writes to: the shorter, the less is written meanwhile.
pub const INSPECT_CHUNK_BYTES: usize = 64 << 10;

/// Bytes of a segment that an inspection keeps in memory; none is longer but by damage.
pub const INSPECT_KEPT_BYTES_MAX: u64 = 1 << 30;

/// Harmless changes that an inspection lists; a disk that made more of them is known well enough.
pub const BLEMISHES_MAX: usize = 1000;

/// One chunk of a checkpoint file.
pub const CHECKPOINT_CHUNK_BYTES_MAX: usize = 1 << 20;

/// Log operations in flight: one frame and one superblock, with some room.
pub const WAL_IO_OPS_MAX: usize = 8;

/// All operations in flight.
pub const IO_OPS_MAX: usize = WAL_IO_OPS_MAX + PART_READS_MAX;

/// A submission that the kernel asks to repeat is repeated this often, then it is an error.
pub const WAL_IO_TRIES: u32 = 1000;

const _: () = assert!(WAL_GROUP_BYTES as u64 * 2 <= WAL_SEGMENT_BYTES_MIN);
const _: () = assert!(WAL_BALLAST_BYTES >= WAL_SEGMENT_BYTES_MIN);

// ---- watch ----

/// Records that the dispatcher, or one slice of catching up, looks at in one turn: well under a millisecond beside the events themselves.
pub const WATCH_SLICE_RECORDS: usize = 1000;

/// Bytes of events that one slice of catching up encodes before it delivers them; passed by one revision at most.
pub const WATCH_SLICE_BYTES: usize = 256 << 10;

/// Bytes of events on their way from the dispatcher to one network loop. A loop that leaves more unread finds the rest in the log.
pub const WATCH_MAIL_BYTES_MAX: usize = 16 << 20;

/// Bytes that a stream is sent after it said that no more are welcome, so that an event reaches the many watchers of a
/// stream in few pieces; passed by one message.
pub const WATCH_STREAM_OVER_BYTES: usize = 256 << 10;

/// Events of one message from which on all receivers share their bytes: smaller ones cost less to copy than to share.
pub const WATCH_SHARED_BYTES_MIN: usize = 128 << 10;

/// Places in the log from which watchers of one loop catch up at a time; further ones share the nearest place before them.
pub const WATCH_PASSES_MAX: usize = 32;

/// A watcher joins a pass that is no more than so many revisions before what it wants: a few slices.
pub const WATCH_PASS_SPAN: i64 = 4096;
