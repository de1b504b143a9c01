//! Bytes in, bytes out: reactor, HTTP/2, HPACK, gRPC framing, HTTP/1.1. Knows no etcd semantics.
#![forbid(unsafe_code)]

pub mod grpc;
pub mod h1;
pub mod h2;
pub mod hpack;
pub mod limits;
pub mod peer;
pub mod reactor;
pub mod sniff;
