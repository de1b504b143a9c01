//! Every bound of the engine, with its unit and its reason. Each room has a section.

// ---- raft, apply, replica ----

/// Entries of one run (one batch): a turn applies a run as a whole, and this many small Puts take about a millisecond.
pub const RUN_ENTRIES_MAX: usize = 1024;

/// Bytes of one run; a run holds at least one entry whatever its size, so the true bound is the larger of this and one request.
pub const RUN_BYTES_MAX: usize = 1 << 20;

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

/// Levels of the index. A level has at least 28 children when it is split off, so this is never reached.
pub const TREE_LEVELS_MAX: usize = 16;

/// Reads, hashes and checkpoints in flight that outlive their pin. When all places are taken the next one is refused as busy.
pub const HOLDS_MAX: usize = 1024;

/// Compaction hashes that are remembered, as in etcd.
pub const COMPACT_HASHES_MAX: usize = 10;

/// Index entries that one slice of a read examines: about 50 us.
pub const READ_SLICE_RECORDS: usize = 1024;

/// Bytes of keys and values that one slice of a read hands out.
pub const READ_SLICE_BYTES: usize = 64 << 10;

const _: () = assert!(LEAF_KEYS_MAX >= 8);
const _: () = assert!(INNER_CHILDREN_MAX >= 8);
