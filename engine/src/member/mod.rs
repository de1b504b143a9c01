//! Who is in the cluster: ids, addresses, names, versions. Plain data and pure functions.

mod ids;

pub use ids::{RequestIds, cluster_id, member_id};
