//! The votes of one term.

use super::quorum::{Tally, Voters};
use crate::types::MemberId;

/// Who answered this member's request for votes. Bounded by the number of voters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Election {
    answers: Vec<(MemberId, bool)>,
}

impl Election {
    /// A voter's answer; only its first one counts.
    pub(super) fn on_vote(&mut self, voter: MemberId, granted: bool) {
        if self.answers.iter().all(|(id, _)| *id != voter) {
            self.answers.push((voter, granted));
        }
    }

    /// Where the election stands among `voters`.
    #[must_use]
    pub(super) fn tally(&self, voters: &Voters) -> Tally {
        voters.tally(|voter| {
            let answer = self.answers.iter().find(|(id, _)| *id == voter)?;
            Some(answer.1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One voter must not be counted twice, nor one that has no vote.
    #[test]
    fn each_voter_counts_once() {
        let voters = Voters::new(vec![MemberId(1), MemberId(2), MemberId(3)]);
        let mut election = Election::default();
        election.on_vote(MemberId(1), true);
        election.on_vote(MemberId(1), true);
        election.on_vote(MemberId(9), true);
        assert_eq!(election.tally(&voters), Tally::Open);
        election.on_vote(MemberId(2), true);
        assert_eq!(election.tally(&voters), Tally::Won);
    }
}
