//! Helpers of the suites that run real processes: find tools, start servers, ask over HTTP/1.1, build the Go clients.
//!
//! Promises: only loopback addresses, every process ends with its handle, a missing tool is said loudly and never passes for a success.
//! Never: a sleep that hopes. Waiting means asking again until a deadline. Start at `server.rs`.

pub mod chaos;
pub mod check;
pub mod clients;
pub mod cluster;
pub mod crash;
pub mod enumerate;
pub mod frame;
pub mod grpc;
pub mod http;
pub mod raft_model;
pub mod server;
pub mod sim;
pub mod sim_disk;
pub mod tools;
