//! The server of basalt as a library.
//!
//! Joins `net`, which knows bytes, and `engine`, which knows meaning. Start at `main.rs`, then `boot.rs` and `threads/`.

pub mod api;
pub mod boot;
mod bootstrap;
pub mod config;
pub mod dev;
pub mod doctor;
pub mod http;
pub mod inspect;
pub mod log;
mod memory;
pub mod metrics;
pub mod peers;
pub mod restore;
pub mod shutdown;
pub mod systemd;
pub mod threads;
mod tools;
pub mod version;
