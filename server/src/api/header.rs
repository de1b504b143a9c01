//! The header of answers that are made here. Answers to what went through the log carry the
//! engine's.

use basalt_engine::replica::Published;
use basalt_engine::types::{ClusterId, MemberId};
use basalt_pb::hot;

/// Who answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) cluster: ClusterId,
    pub(super) member: MemberId,
}

impl Identity {
    /// The header of an answer at `revision`; 0 leaves the revision out, as answers about members
    /// do.
    #[inline]
    pub(super) fn header(self, published: &Published, revision: i64) -> hot::Header {
        hot::Header {
            cluster_id: self.cluster.0,
            member_id: self.member.0,
            revision,
            raft_term: published.applied_term().0,
        }
    }
}
