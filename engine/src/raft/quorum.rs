//! The arithmetic of majorities. Pure: no roles, no time.

use crate::mutant::{Mutant, is_on};
use crate::types::{Index, MemberId};

/// The members that vote, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Voters {
    ids: Vec<MemberId>,
}

impl Voters {
    /// The voters of `ids`, in any order.
    #[must_use]
    pub fn new(mut ids: Vec<MemberId>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        Self { ids }
    }

    /// Ascending.
    #[must_use]
    pub fn ids(&self) -> &[MemberId] {
        &self.ids
    }

    /// Whether `id` votes.
    #[must_use]
    pub fn contains(&self, id: MemberId) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    /// Whether `id` is the only voter, so that its own word is a quorum's.
    #[must_use]
    pub fn is_only(&self, id: MemberId) -> bool {
        self.ids == [id]
    }

    /// Votes that decide: more than half. 1 without voters, so that nobody ever wins then.
    #[must_use]
    pub fn majority(&self) -> usize {
        if is_on(Mutant::HalfIsMajority) {
            return (self.ids.len() / 2).max(1);
        }
        self.ids.len() / 2 + 1
    }

    /// Highest index that a majority holds, `matched` telling what each voter holds durably.
    /// 0 without voters.
    #[must_use]
    pub fn committed(&self, matched: impl Fn(MemberId) -> Index) -> Index {
        // The answer is one voter's own mark, and there are few voters: try each one's.
        let holds = |index: Index| self.ids.iter().filter(|id| matched(**id) >= index).count();
        let marks = self.ids.iter().map(|id| matched(*id));
        marks
            .filter(|mark| holds(*mark) >= self.majority())
            .max()
            .unwrap_or_default()
    }

    /// What the votes so far decide; `granted` is `None` for who has not answered.
    #[must_use]
    pub fn tally(&self, granted: impl Fn(MemberId) -> Option<bool>) -> Tally {
        let (mut yes, mut no) = (0, 0);
        for id in &self.ids {
            match granted(*id) {
                Some(true) => yes += 1,
                Some(false) => no += 1,
                None => {}
            }
        }
        if yes >= self.majority() {
            Tally::Won
        } else if self.ids.len() - no < self.majority() {
            Tally::Lost
        } else {
            Tally::Open
        }
    }

    /// Adds a voter; one that is there already stays once.
    pub fn insert(&mut self, id: MemberId) {
        if let Err(slot) = self.ids.binary_search(&id) {
            self.ids.insert(slot, id);
        }
    }

    /// Takes a voter out; one that is not there changes nothing.
    pub fn remove(&mut self, id: MemberId) {
        if let Ok(slot) = self.ids.binary_search(&id) {
            self.ids.remove(slot);
        }
    }
}

/// Where an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// A majority said yes.
    Won,
    /// A majority can no longer say yes.
    Lost,
    /// Neither yet.
    Open,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(count: u64) -> Voters {
        Voters::new((1..=count).map(MemberId).collect())
    }

    fn committed(marks: &[u64]) -> Index {
        let set = voters(marks.len() as u64);
        set.committed(|id| Index(marks[id.0 as usize - 1]))
    }

    /// An index counts as committed only if a majority holds it, whoever they are.
    #[test]
    fn committed_is_the_highest_index_of_a_majority() {
        assert_eq!(committed(&[7]), Index(7));
        assert_eq!(committed(&[7, 3]), Index(3));
        assert_eq!(committed(&[7, 3, 5]), Index(5));
        assert_eq!(committed(&[1, 9, 9, 2]), Index(2));
        assert_eq!(committed(&[5, 5, 1, 1, 9]), Index(5));
        assert_eq!(committed(&[]), Index(0));
    }

    /// Half of an even number must not win, and a lost election must be seen as lost.
    #[test]
    fn an_election_needs_more_than_half() {
        let four = voters(4);
        assert_eq!(four.tally(|id| (id.0 <= 2).then_some(true)), Tally::Open);
        assert_eq!(four.tally(|id| (id.0 <= 3).then_some(true)), Tally::Won);
        assert_eq!(four.tally(|id| (id.0 <= 2).then_some(false)), Tally::Lost);
        assert_eq!(voters(1).tally(|_| Some(true)), Tally::Won);
        assert_eq!(voters(0).tally(|_| Some(true)), Tally::Lost);
    }

    /// Configuration entries may repeat after a crash; the set must not.
    #[test]
    fn voters_are_a_set() {
        let mut set = voters(2);
        set.insert(MemberId(2));
        set.insert(MemberId(9));
        set.remove(MemberId(7));
        set.remove(MemberId(1));
        assert_eq!(set.ids(), [MemberId(2), MemberId(9)]);
        assert!(!set.is_only(MemberId(2)));
        assert!(voters(1).is_only(MemberId(1)));
    }
}
