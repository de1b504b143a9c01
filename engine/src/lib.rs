//! See docs/ARCHITECTURE.md.

pub mod apply;
pub mod disk;
pub mod limits;
pub mod member;
pub mod replica;
pub mod types;
