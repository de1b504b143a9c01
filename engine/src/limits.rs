//! Every bound of the engine, with its unit and its reason. Each room has a section.

// ---- raft, apply, replica ----

/// Entries of one run (one batch): a turn applies a run as a whole, and this many small Puts take about a millisecond.
pub const RUN_ENTRIES_MAX: usize = 1024;

/// Bytes of one run; a run holds at least one entry whatever its size, so the true bound is the larger of this and one request.
pub const RUN_BYTES_MAX: usize = 1 << 20;
