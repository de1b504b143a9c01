//! See docs/ARCHITECTURE.md.

pub mod limits;
pub mod types;
