// Made from net/pb/api.txt by net/pb/tests/generated.rs; do not edit.

#[derive(Copy, Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct Lease {
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(int64, tag = "2")]
    pub ttl: i64,
    #[prost(int64, tag = "3")]
    pub remaining_ttl: i64,
}

#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct LeaseInternalRequest {
    #[prost(message, optional, tag = "1")]
    pub lease_time_to_live_request: Option<super::etcdserverpb::LeaseTimeToLiveRequest>,
}

#[derive(Clone, PartialEq, Eq, Hash, ::prost::Message)]
pub struct LeaseInternalResponse {
    #[prost(message, optional, tag = "1")]
    pub lease_time_to_live_response: Option<super::etcdserverpb::LeaseTimeToLiveResponse>,
}
