//! Every bound of the network side, with unit and reason.

/// Bytes of an HTTP/1.1 request head. Go's default is 1 MiB; no probe, scraper or gateway client comes near 64 KiB.
pub const H1_HEAD_BYTES_MAX: usize = 64 << 10;
/// Header fields of an HTTP/1.1 request; the same bound as for a decoded HTTP/2 header list (128 fields).
pub const H1_HEADERS_MAX: usize = 128;
/// Bytes of a chunk-size or trailer line, its end included.
pub const H1_CHUNK_LINE_BYTES_MAX: usize = 4 << 10;
