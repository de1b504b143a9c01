//! Who is in the cluster: ids, addresses, names, versions. Plain data and pure functions.
//!
//! Promises: the same changes in the same order make the same list; a removed id never comes back.
//! Never: reachability, or what Raft thinks of a member. Start at [`Members`].

mod ids;
mod json;
mod release;

use std::collections::{BTreeMap, BTreeSet};

use basalt_pb::etcdserverpb;

pub use ids::{RequestIds, cluster_id, member_id};
pub use json::BadJson;
pub use release::{BadRelease, Release};

use crate::types::MemberId;

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Never 0.
    pub id: MemberId,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Whether it has no vote yet.
    pub is_learner: bool,
    /// Empty until the member started for the first time and published it.
    pub name: String,
    /// Where clients reach it; published with the name.
    pub client_urls: Vec<String>,
}

impl Member {
    /// The member as the Cluster service shows it.
    #[must_use]
    pub fn to_proto(&self) -> etcdserverpb::Member {
        etcdserverpb::Member {
            id: self.id.0,
            name: self.name.clone(),
            peer_urls: self.peer_urls.clone(),
            client_urls: self.client_urls.clone(),
            is_learner: self.is_learner,
        }
    }

    /// The member that the Cluster service shows as `listed`.
    #[must_use]
    pub fn from_proto(listed: &etcdserverpb::Member) -> Self {
        Self {
            id: MemberId(listed.id),
            peer_urls: listed.peer_urls.clone(),
            is_learner: listed.is_learner,
            name: listed.name.clone(),
            client_urls: listed.client_urls.clone(),
        }
    }
}

/// The members that the log has decided, and those that are gone for good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    list: BTreeMap<MemberId, Member>,
    removed: BTreeSet<MemberId>,
}

impl Members {
    /// By ascending id.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.list.values()
    }

    /// One member.
    #[must_use]
    pub fn get(&self, id: MemberId) -> Option<&Member> {
        self.list.get(&id)
    }

    /// Ids that were members once, ascending.
    pub fn removed(&self) -> impl Iterator<Item = MemberId> {
        self.removed.iter().copied()
    }

    /// Whether nobody was ever added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.removed.is_empty()
    }

    /// Adds a member, or takes over role and addresses of one that is there; what it published stays,
    /// and so do its addresses if none are given (a promotion gives none). A removed id stays removed.
    pub fn set(&mut self, member: Member) {
        assert!(member.id != MemberId(0));
        if self.removed.contains(&member.id) {
            return;
        }
        match self.list.get_mut(&member.id) {
            Some(known) => {
                known.is_learner = member.is_learner;
                if !member.peer_urls.is_empty() {
                    known.peer_urls = member.peer_urls;
                }
            }
            None => {
                self.list.insert(member.id, member);
            }
        }
    }

    /// A member moves; its role stays. Of one that is not there nothing is kept.
    pub fn set_peer_urls(&mut self, id: MemberId, peer_urls: Vec<String>) {
        if let Some(known) = self.list.get_mut(&id) {
            known.peer_urls = peer_urls;
        }
    }

    /// A member goes for good.
    pub fn remove(&mut self, id: MemberId) {
        self.list.remove(&id);
        self.removed.insert(id);
    }

    /// What a member says of itself. Of one that is not there nothing is kept.
    pub fn publish(&mut self, id: MemberId, name: String, client_urls: Vec<String>) {
        if let Some(member) = self.list.get_mut(&id) {
            member.name = name;
            member.client_urls = client_urls;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, url: &str) -> Member {
        Member {
            id: MemberId(id),
            peer_urls: vec![url.to_owned()],
            ..Member::default()
        }
    }

    /// A removed id never comes back, whatever the log says later.
    #[test]
    fn a_removed_member_stays_removed() {
        let mut members = Members::default();
        members.set(member(2, "http://b:1"));
        members.set(member(1, "http://a:1"));
        members.remove(MemberId(2));
        members.set(member(2, "http://b:1"));
        let ids: Vec<u64> = members.iter().map(|member| member.id.0).collect();
        assert_eq!(ids, [1]);
        assert_eq!(members.removed().collect::<Vec<_>>(), [MemberId(2)]);
    }

    /// Clients find members by what they published; a change of peer URLs must not lose it.
    #[test]
    fn an_update_keeps_what_the_member_published() {
        let mut members = Members::default();
        members.set(member(1, "http://a:1"));
        members.publish(MemberId(1), "one".to_owned(), vec!["http://c:1".to_owned()]);
        members.publish(MemberId(9), "ghost".to_owned(), Vec::new());
        members.set_peer_urls(MemberId(1), vec!["http://a:2".to_owned()]);
        members.set(Member {
            id: MemberId(1),
            ..Member::default()
        });
        let one = members.get(MemberId(1)).expect("there");
        assert_eq!(one.name, "one");
        assert_eq!(one.peer_urls, ["http://a:2"]);
        assert_eq!(members.iter().count(), 1);
    }
}
