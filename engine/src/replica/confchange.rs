//! What a configuration entry means to Raft and to the member list.

use crate::apply::MemberChange;
use crate::member::{BadJson, Member, Members};
use crate::raft::confchange::{BadConfChange, ConfChange};
use crate::raft::config::Step;
use crate::types::MemberId;

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

/// Reads a configuration entry that is applied to `members`.
///
/// # Errors
/// See [`BadChange`].
pub(super) fn read_change(
    entry: &[u8],
    members: &Members,
) -> Result<(Step, MemberChange), BadChange> {
    let change = ConfChange::read(entry)?;
    let step = change.step;
    if let Step::Remove(id) = step {
        return Ok((step, MemberChange::Remove(id)));
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
        return Ok((Step::Update, MemberChange::PeerUrls(member)));
    }
    let change = match step {
        Step::Update => MemberChange::PeerUrls(member),
        _ => {
            member.is_learner = matches!(step, Step::AddLearner(_));
            MemberChange::Set(member)
        }
    };
    Ok((step, change))
}
