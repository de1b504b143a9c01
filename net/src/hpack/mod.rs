//! HPACK (RFC 7541): header blocks to fields and back.
//!
//! Promises: arbitrary bytes give fields or an error in time linear in their length; the dynamic table stays within the
//! size we announced; a list over the caller's bound is counted, not stored, and the table stays in step all the same.
//! Never: what a field means. Start at `Decoder::decode`; the server's own answers are constants made with `encode`.

mod decode;
pub mod encode;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod huffman;
mod table;

pub use decode::{Decoded, Decoder, Fields, HpackError};
pub use encode::Encoder;
pub use huffman::{decode as huffman_decode, encode as huffman_encode};

/// Size of the dynamic table that both sides start with (RFC 9113, 6.5.2), bytes.
pub const DEFAULT_TABLE_BYTES: usize = 4096;

#[cfg(test)]
mod tests;
