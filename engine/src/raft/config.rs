//! Who votes and who only listens.

use super::quorum::Voters;
use crate::types::MemberId;

/// The configuration that the log has decided so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Config {
    /// Members whose word counts.
    pub voters: Voters,
    /// Members that receive the log and have no vote, ascending; disjoint from `voters`.
    pub learners: Vec<MemberId>,
}

impl Config {
    /// Everybody: the voters, then the learners.
    pub fn members(&self) -> impl Iterator<Item = MemberId> {
        self.voters.ids().iter().chain(&self.learners).copied()
    }

    /// What the configuration is after `step`.
    pub fn apply(&mut self, step: Step) {
        let without = |list: &mut Vec<MemberId>, id| list.retain(|other| *other != id);
        match step {
            Step::AddVoter(id) => {
                without(&mut self.learners, id);
                self.voters.insert(id);
            }
            Step::AddLearner(id) => {
                self.voters.remove(id);
                without(&mut self.learners, id);
                let slot = self.learners.partition_point(|other| *other < id);
                self.learners.insert(slot, id);
            }
            Step::Remove(id) => {
                self.voters.remove(id);
                without(&mut self.learners, id);
            }
            Step::Update => {}
        }
    }
}

/// One change of the configuration: one member at a time, so that old and new majorities overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new voter, or a learner that becomes one.
    AddVoter(MemberId),
    /// A member without a vote.
    AddLearner(MemberId),
    /// A member goes.
    Remove(MemberId),
    /// Addresses only: nothing changes for Raft.
    Update,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member must never be voter and learner at once.
    #[test]
    fn a_promoted_learner_is_a_voter_only() {
        let (a, b) = (MemberId(1), MemberId(2));
        let mut config = Config::default();
        config.apply(Step::AddVoter(a));
        config.apply(Step::AddLearner(b));
        assert_eq!(config.learners, [b]);
        assert!(config.voters.is_only(a));
        config.apply(Step::AddVoter(b));
        assert!(config.learners.is_empty());
        assert_eq!(config.voters.ids(), [a, b]);
        config.apply(Step::Remove(a));
        config.apply(Step::Update);
        assert!(config.voters.is_only(b));
    }
}
