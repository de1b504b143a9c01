//! Configuration entries in etcd's own form: `raftpb.ConfChange`.

use basalt_pb::raftpb;
use prost::Message;
use prost::bytes::Bytes;

use super::config::Step;
use crate::types::{MemberId, RequestId};

/// One configuration entry. Raft reads `step`, the member list reads `context`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfChange {
    /// The proposal that made it; 0 for the first members.
    pub id: RequestId,
    /// What changes.
    pub step: Step,
    /// Whom it is about.
    pub member: MemberId,
    /// The member as JSON; empty for a removal.
    pub context: Bytes,
}

/// The bytes are no configuration change that this release knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a configuration entry cannot be read")]
pub struct BadConfChange;

impl ConfChange {
    /// Reads an entry.
    ///
    /// # Errors
    /// The bytes are damaged, name no member, or use a kind of change that etcd does not define.
    pub fn read(entry: &[u8]) -> Result<Self, BadConfChange> {
        let wire = raftpb::ConfChange::decode(entry).map_err(|_| BadConfChange)?;
        let kind = raftpb::ConfChangeType::try_from(wire.r#type.unwrap_or_default());
        let member = MemberId(wire.node_id.unwrap_or_default());
        if member == MemberId(0) {
            return Err(BadConfChange);
        }
        let step = match kind.map_err(|_| BadConfChange)? {
            raftpb::ConfChangeType::AddNode => Step::AddVoter(member),
            raftpb::ConfChangeType::AddLearnerNode => Step::AddLearner(member),
            raftpb::ConfChangeType::RemoveNode => Step::Remove(member),
            raftpb::ConfChangeType::UpdateNode => Step::Update,
        };
        Ok(Self {
            id: RequestId(wire.id.unwrap_or_default()),
            step,
            member,
            context: wire.context.unwrap_or_default(),
        })
    }

    /// The entry's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let kind = match self.step {
            Step::AddVoter(_) => raftpb::ConfChangeType::AddNode,
            Step::AddLearner(_) => raftpb::ConfChangeType::AddLearnerNode,
            Step::Remove(_) => raftpb::ConfChangeType::RemoveNode,
            Step::Update => raftpb::ConfChangeType::UpdateNode,
        };
        let wire = raftpb::ConfChange {
            id: Some(self.id.0),
            r#type: Some(kind as i32),
            node_id: Some(self.member.0),
            context: Some(self.context.clone()),
        };
        wire.encode_to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind of change must survive the log.
    #[test]
    fn changes_survive_a_round_trip() {
        let member = MemberId(7);
        for step in [
            Step::AddVoter(member),
            Step::AddLearner(member),
            Step::Remove(member),
            Step::Update,
        ] {
            let change = ConfChange {
                id: RequestId(9),
                step,
                member,
                context: Bytes::from_static(b"{}"),
            };
            assert_eq!(ConfChange::read(&change.encode()), Ok(change));
        }
    }

    /// A member 0 or an unknown kind must stop the reader and not change the quorum by guess.
    #[test]
    fn foreign_changes_are_refused() {
        let wire = |kind, node_id| raftpb::ConfChange {
            id: None,
            r#type: Some(kind),
            node_id: Some(node_id),
            context: None,
        };
        assert_eq!(
            ConfChange::read(&wire(0, 0).encode_to_vec()),
            Err(BadConfChange)
        );
        assert_eq!(
            ConfChange::read(&wire(9, 1).encode_to_vec()),
            Err(BadConfChange)
        );
        assert_eq!(ConfChange::read(&[0xff]), Err(BadConfChange));
    }
}
