//! Bodies of hot paths, one file a room.

pub mod calls;
pub mod log;
pub mod store;
