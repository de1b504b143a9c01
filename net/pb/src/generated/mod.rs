// Made from net/pb/api.txt by net/pb/tests/generated.rs; do not edit.
pub mod authpb;
pub mod etcdserverpb;
pub mod grpc_health_v1;
pub mod leasepb;
pub mod membershippb;
pub mod mvccpb;
pub mod raftpb;
pub mod v3electionpb;
pub mod v3lockpb;
pub mod paths;
