//! When a linearizable read may go.

use super::{Raft, Role};
use crate::types::Index;

impl Raft {
    /// The index that must be applied before a read that is asked for now may be answered, if this
    /// member can say so without asking anybody: it leads as the only voter, and an entry of its own
    /// term is committed (before that it may not know what an earlier leader had acknowledged). It is
    /// that entry's index, as the only voter acknowledges alone: what it has not applied, nobody was
    /// told of, so reads need not wait for an entry that takes long.
    #[must_use]
    pub fn free_read_index(&self) -> Option<Index> {
        let Role::Leader(leader) = &self.role else {
            return None;
        };
        let alone = self.config.voters.is_only(self.me);
        let committed = self.log.committed();
        (alone && committed >= leader.own_first).then_some(leader.own_first)
    }
}
