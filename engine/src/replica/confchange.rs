//! What a configuration entry means to Raft and to the member list.

use crate::apply::MemberChange;
use crate::member::{BadJson, Member, Members};
use crate::raft::confchange::{BadConfChange, ConfChange};
use crate::raft::config::Step;
use crate::types::{MemberId, RequestId};

/// A configuration entry that cannot be understood: the member must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChange {
    /// The entry itself.
    #[error(transparent)]
    Entry(#[from] BadConfChange),
    /// The member it carries.
    #[error(transparent)]
    Member(#[from] BadJson),
    /// The member it carries is another than the one it is about.
    #[error("a configuration entry for member {entry} carries member {member}")]
    Mixed {
        /// Whom the entry is about.
        entry: MemberId,
        /// Whom its context describes.
        member: MemberId,
    },
}

/// Reads a configuration entry that is applied to `members`: who proposed it, and what it means.
///
/// # Errors
/// See [`BadChange`].
pub(super) fn read_change(
    entry: &[u8],
    members: &Members,
) -> Result<(RequestId, Step, MemberChange), BadChange> {
    let change = ConfChange::read(entry)?;
    let (request, step) = (change.id, change.step);
    if let Step::Remove(id) = step {
        return Ok((request, step, MemberChange::Remove(id)));
    }
    let text = core::str::from_utf8(&change.context).map_err(|_| BadJson { at: 0 })?;
    let mut member = Member::read_json(text)?;
    if member.id != change.member {
        return Err(BadChange::Mixed {
            entry: change.member,
            member: member.id,
        });
    }
    // A removed id never comes back: neither as a member nor as a voter.
    if members.removed().any(|id| id == member.id) {
        return Ok((request, Step::Update, MemberChange::PeerUrls(member)));
    }
    let change = match step {
        Step::Update => MemberChange::PeerUrls(member),
        _ => {
            member.is_learner = matches!(step, Step::AddLearner(_));
            MemberChange::Set(member)
        }
    };
    Ok((request, step, change))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(step: Step, member: u64, json: &str) -> Vec<u8> {
        let change = ConfChange {
            id: RequestId(1),
            step,
            member: MemberId(member),
            context: json.to_owned().into(),
        };
        change.encode()
    }

    /// A learner that is promoted keeps its addresses, which the entry does not repeat.
    #[test]
    fn a_promotion_makes_a_voter_of_a_learner() {
        let mut members = Members::default();
        let id = MemberId(7);
        let add = entry(
            Step::AddLearner(id),
            7,
            r#"{"id":7,"peerURLs":["http://a:1"]}"#,
        );
        let (_, step, change) = read_change(&add, &members).expect("a change");
        assert_eq!(step, Step::AddLearner(id));
        let MemberChange::Set(member) = change else {
            panic!("a member");
        };
        assert!(member.is_learner);
        members.set(member);
        let promote = entry(
            Step::AddVoter(id),
            7,
            r#"{"id":7,"peerURLs":null,"isPromote":true}"#,
        );
        let Ok((_, Step::AddVoter(_), MemberChange::Set(member))) = read_change(&promote, &members)
        else {
            panic!("a promotion");
        };
        members.set(member);
        let member = members.get(id).expect("there");
        assert!(!member.is_learner);
        assert_eq!(member.peer_urls, ["http://a:1"]);
    }

    /// A removed id never comes back, neither in the list nor among the voters.
    #[test]
    fn a_removed_member_does_not_vote_again() {
        let mut members = Members::default();
        members.remove(MemberId(7));
        let add = entry(Step::AddVoter(MemberId(7)), 7, r#"{"id":7,"peerURLs":[]}"#);
        let (_, step, _) = read_change(&add, &members).expect("a change");
        assert_eq!(step, Step::Update);
    }

    /// Members must not differ by how they guess at a damaged entry.
    #[test]
    fn entries_that_contradict_themselves_are_named() {
        let members = Members::default();
        let mixed = entry(Step::AddVoter(MemberId(7)), 7, r#"{"id":8}"#);
        let expected = BadChange::Mixed {
            entry: MemberId(7),
            member: MemberId(8),
        };
        assert_eq!(read_change(&mixed, &members), Err(expected));
        let broken = entry(Step::AddVoter(MemberId(7)), 7, "{");
        assert!(matches!(
            read_change(&broken, &members),
            Err(BadChange::Member(_))
        ));
        assert!(matches!(
            read_change(b"\xff", &members),
            Err(BadChange::Entry(_))
        ));
    }
}
