//! Ids by etcd's scheme, so that a cluster keeps its ids when basalt takes it over.

use std::sync::atomic::{AtomicU64, Ordering};

use sha1::{Digest, Sha1};

use crate::types::{ClusterId, MemberId, RequestId};

/// The id of a member that was there from the start: SHA-1 over its peer URLs, sorted, and the
/// cluster token; the first eight bytes, big-endian.
#[must_use]
pub fn member_id(peer_urls: &[String], token: &str) -> MemberId {
    let mut sorted: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut digest = Sha1::new();
    for url in sorted {
        digest.update(url.as_bytes());
    }
    digest.update(token.as_bytes());
    MemberId(first_eight(digest))
}

/// The cluster's id: SHA-1 over the ids of its first members, ascending, eight bytes big-endian each.
#[must_use]
pub fn cluster_id(members: &[MemberId]) -> ClusterId {
    let mut sorted = members.to_vec();
    sorted.sort_unstable();
    let mut digest = Sha1::new();
    for id in sorted {
        digest.update(id.0.to_be_bytes());
    }
    ClusterId(first_eight(digest))
}

fn first_eight(digest: Sha1) -> u64 {
    let bytes = digest.finalize();
    let (head, _) = bytes
        .split_first_chunk::<8>()
        .expect("a SHA-1 digest has 20 bytes");
    u64::from_be_bytes(*head)
}

/// Draws the ids of proposals: top 16 bits from the member, 48 bits count up. Shared by all threads.
#[derive(Debug)]
pub struct RequestIds {
    member_bits: u64,
    counter: AtomicU64,
}

impl RequestIds {
    /// `started_unix_ms`: wall time at the process's start, so that a restarted member repeats none.
    #[must_use]
    pub fn new(member: MemberId, started_unix_ms: u64) -> Self {
        Self {
            member_bits: member.0 << 48,
            counter: AtomicU64::new((started_unix_ms & ((1 << 40) - 1)) << 8),
        }
    }

    /// The next id.
    pub fn draw(&self) -> RequestId {
        // Only uniqueness counts, so no other memory needs to be ordered with it.
        let count = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
        RequestId(self.member_bits | (count & ((1 << 48) - 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector was seen on stock etcd.
    #[test]
    fn member_and_cluster_ids_are_etcds() {
        let member = member_id(&["http://127.0.0.1:34791".to_owned()], "etcd-cluster");
        assert_eq!(member.to_string(), "f4927a4bc576a057");
        assert_eq!(cluster_id(&[member]).to_string(), "c57554977896bf9c");
    }

    /// The order in which URLs and members were configured must not matter.
    #[test]
    fn ids_do_not_depend_on_the_order_given() {
        let (a, b) = ("http://a:1".to_owned(), "http://b:1".to_owned());
        assert_eq!(
            member_id(&[a.clone(), b.clone()], "t"),
            member_id(&[b, a], "t")
        );
        let (one, two) = (MemberId(1), MemberId(2));
        assert_eq!(cluster_id(&[one, two]), cluster_id(&[two, one]));
    }

    /// Clients see these ids in the log and in leases.
    #[test]
    fn request_ids_carry_the_member_and_count_up() {
        let ids = RequestIds::new(MemberId(0xf492_7a4b_c576_a057), 0x1_23);
        assert_eq!(ids.draw(), RequestId(0xa057_0000_0001_2301));
        assert_eq!(ids.draw(), RequestId(0xa057_0000_0001_2302));
    }
}
