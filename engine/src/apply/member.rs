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
    ///
    /// # Errors
    /// It asks for what the list cannot become; then it changes nothing, here and in Raft.
    pub fn apply_member_change(
        &mut self,
        index: Index,
        term: Term,
        change: MemberChange,
    ) -> Result<(), Refused> {
        assert!(index == self.applied.0.next());
        assert!(term >= self.applied.1);
        self.applied = (index, term);
        if let Some(refused) = self.refuses(&change) {
            return Err(refused);
        }
        match change {
            MemberChange::Set(member) => self.members.set(member),
            MemberChange::PeerUrls(member) => {
                self.members.set_peer_urls(member.id, member.peer_urls);
            }
            MemberChange::Remove(id) => self.members.remove(id),
        }
        self.cluster_changes += 1;
        Ok(())
    }

    /// etcd's checks: each member makes them on the same list, so they are as good as part of the log.
    fn refuses(&self, change: &MemberChange) -> Option<Refused> {
        let (id, peer_urls) = match change {
            MemberChange::Set(member) | MemberChange::PeerUrls(member) => {
                (member.id, &member.peer_urls[..])
            }
            MemberChange::Remove(id) => (*id, &[][..]),
        };
        if self.members.removed().any(|removed| removed == id) {
            return Some(Refused::MemberNotFound);
        }
        let known = self.members.get(id);
        // A promotion is of the member that it names, and names no address.
        let is_promotion = matches!(change, MemberChange::Set(_)) && peer_urls.is_empty();
        match (change, known) {
            (MemberChange::Set(_), Some(known)) if is_promotion => {
                return (!known.is_learner).then_some(Refused::MemberNotLearner);
            }
            (MemberChange::Set(_), Some(_)) => return Some(Refused::MemberExists),
            (MemberChange::Set(_), None) if !is_promotion => {}
            (_, None) => return Some(Refused::MemberNotFound),
            (_, Some(_)) => {}
        }
        let others = self.members.iter().filter(|member| member.id != id);
        let mut taken = others.flat_map(|member| &member.peer_urls);
        taken
            .any(|url| peer_urls.contains(url))
            .then_some(Refused::PeerUrlExists)
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
