//! THE place where state changes.
//!
//! Promises: the same entries make the same state and the same answers on every member.
//! Never: a clock, a random number, a file, or a word about terms and logs beyond the entry's own.

mod reply;

pub use reply::{Outcome, Refused, Replies};
