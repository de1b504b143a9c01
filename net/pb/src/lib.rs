//! Messages of etcd's public API and of the log, and fast readers and writers of the hot ones.
//!
//! The modules named after packages hold prost structs made from `api.txt` (see
//! `tests/generated.rs`); `hot` reads and writes the same bytes borrowed and without allocation.
//! Never: etcd's semantics; those live in the engine and the server.

#[rustfmt::skip]
#[allow(missing_docs, reason = "made from a table of facts that carries no texts")]
#[allow(clippy::large_enum_variant, reason = "prost's shape of a oneof")]
mod generated;

pub use generated::{
    authpb, etcdserverpb, grpc_health_v1, leasepb, membershippb, mvccpb, paths, raftpb,
    v3electionpb, v3lockpb,
};

pub mod hot;
