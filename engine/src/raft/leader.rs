//! What only a leader knows: how far each member has come.

use super::config::Config;
use crate::types::{Index, MemberId};

/// The progress of the members in this leader's term. Bounded by their number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    /// The empty entry that began the term. Entries before it count as committed only through it or
    /// a later one.
    pub(super) own_first: Index,
    /// Highest entry known durable on each member.
    matched: Vec<(MemberId, Index)>,
}

impl Leader {
    /// A leader whose first entry is `own_first`; nothing is known of anybody.
    #[must_use]
    pub(super) fn new(own_first: Index) -> Self {
        Self {
            own_first,
            matched: Vec::new(),
        }
    }

    /// `member` holds everything up to `index` durably.
    pub(super) fn on_matched(&mut self, member: MemberId, index: Index) {
        match self.matched.iter_mut().find(|(id, _)| *id == member) {
            Some((_, mark)) => *mark = (*mark).max(index),
            None => self.matched.push((member, index)),
        }
    }

    /// Highest index that a majority holds and that this term may call committed; 0 if none yet.
    #[must_use]
    pub(super) fn committed(&self, config: &Config) -> Index {
        let quorum = config.voters.committed(|voter| {
            let mark = self.matched.iter().find(|(id, _)| *id == voter);
            mark.map_or(Index(0), |(_, index)| *index)
        });
        // An entry of an older term may still be replaced although a majority holds it.
        if quorum >= self.own_first {
            quorum
        } else {
            Index(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::config::Step;

    /// Counting copies of an older term's entry is not commitment (Raft, figure 8).
    #[test]
    fn entries_of_older_terms_commit_only_through_an_own_one() {
        let me = MemberId(1);
        let mut config = Config::default();
        config.apply(Step::AddVoter(me));
        let mut leader = Leader::new(Index(5));
        leader.on_matched(me, Index(4));
        assert_eq!(leader.committed(&config), Index(0));
        leader.on_matched(me, Index(5));
        leader.on_matched(me, Index(3));
        assert_eq!(leader.committed(&config), Index(5));
    }
}
