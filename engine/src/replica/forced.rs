//! A member that is told to go on alone with what it holds, as the others are lost for good: etcd's `--force-new-cluster`.
//!
//! It is the only voter from the first moment on, whatever its log says of the members, and removes the others by entries of its log,
//! one after the other. Until the last of these is applied it hears nobody and takes no other change. What was in its log stays, also what
//! was not known to be committed: nobody is left who could say otherwise, and it may have been acknowledged.

use super::Replica;
use super::members::Change;
use crate::member::Member;
use crate::raft::confchange::ConfChange;
use crate::raft::config::Step;

impl Replica {
    /// Proposes the next removal, or ends with the last.
    pub(super) fn remove_others(&mut self) {
        if !self.is_forced || !self.changes.is_empty() || !self.raft.takes_changes() {
            return;
        }
        let me = self.config.me;
        let members = self.machine.members();
        let mut context = String::new();
        let step = match members.iter().find(|member| member.id != me) {
            Some(other) => Step::Remove(other.id),
            None if members.get(me).is_some_and(|own| own.is_learner) => {
                let own = Member {
                    id: me,
                    ..Member::default()
                };
                own.write_json(&mut context, true);
                Step::AddVoter(me)
            }
            None => {
                self.is_forced = false;
                return;
            }
        };
        let change = ConfChange {
            id: self.config.request_ids.draw(),
            step,
            member: match step {
                Step::Remove(other) => other,
                _ => me,
            },
            context: context.into(),
        };
        let change = Change::new(&change, None, self.now);
        self.changes.push_back(change);
    }
}
