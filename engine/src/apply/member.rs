//! Changes of the member list, of what members publish, and of the cluster version.

use basalt_pb::membershippb::{ClusterMemberAttrSetRequest, ClusterVersionSetRequest};

use super::{Applied, Machine, NOTHING, Refused};
use crate::member::Member;
use crate::types::{Index, MemberId, Term};

/// What a configuration entry means to the member list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A new member, or another role of one that is there.
    Set(Member),
    /// Other peer URLs.
    PeerUrls(Member),
    /// It goes for good.
    Remove(MemberId),
}

impl Machine {
    /// Applies the configuration entry at `index`, the one after the last.
    pub fn apply_member_change(&mut self, index: Index, term: Term, change: MemberChange) {
        assert!(index == self.applied.0.next());
        assert!(term >= self.applied.1);
        match change {
            MemberChange::Set(member) => self.members.set(member),
            MemberChange::PeerUrls(member) => {
                self.members.set_peer_urls(member.id, member.peer_urls);
            }
            MemberChange::Remove(id) => self.members.remove(id),
        }
        self.cluster_changes += 1;
        self.applied = (index, term);
    }

    pub(super) fn set_member_attributes(
        &mut self,
        request: &ClusterMemberAttrSetRequest,
    ) -> Applied {
        let attributes = request.member_attributes.clone().unwrap_or_default();
        let id = MemberId(request.member_id);
        self.members
            .publish(id, attributes.name, attributes.client_urls);
        self.cluster_changes += 1;
        NOTHING
    }

    pub(super) fn set_cluster_version(&mut self, request: &ClusterVersionSetRequest) -> Applied {
        let Ok(release) = request.ver.parse() else {
            return Refused::Malformed.into();
        };
        self.cluster_version = Some(release);
        self.cluster_changes += 1;
        NOTHING
    }
}
