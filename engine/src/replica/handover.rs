//! Leadership that moves on purpose: because somebody asks, because this member stops, because its disk hangs.

use super::{Replica, Stopping};
use crate::apply::{Outcome, Refused};
use crate::disk::OpId;
use crate::limits::HANDOVER_MS;
use crate::types::{MemberId, Millis, ReplyTo};

/// A transfer that a client waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    to: MemberId,
    reply: ReplyTo,
    since: Millis,
}

/// The operation of the log that has been under way for longest, and since when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stall {
    op: OpId,
    since: Millis,
}

impl Transfer {
    /// Who waits for it.
    pub(super) fn reply(self) -> ReplyTo {
        self.reply
    }
}

impl Replica {
    /// Hands leadership to another voter. Answered by [`Outcome::Transferred`] once that member leads.
    pub fn transfer(&mut self, to: MemberId, reply: ReplyTo) {
        let refused = match self.refuses() {
            None if !self.raft.is_leader() => Some(Refused::NotLeader),
            // etcd is content at once.
            None if to == self.config.me => {
                return self.replies.push(reply, Outcome::Transferred);
            }
            None if self.transfer.is_some() => Some(Refused::TooManyRequests),
            None if !self.raft.transfer(to) => Some(Refused::BadTransferee),
            refused => refused,
        };
        match refused {
            Some(refused) => self.replies.push(reply, Outcome::Refused(refused)),
            None => {
                let since = self.now;
                self.transfer = Some(Transfer { to, reply, since });
            }
        }
    }

    /// Tells who asked for a transfer how it went. When to look again.
    pub(super) fn answer_transfer(&mut self, now: Millis) -> Option<Millis> {
        let Transfer { to, reply, since } = self.transfer?;
        let until = since.plus(self.raft.settings().request_timeout());
        let outcome = if self.raft.leader() == Some(to) {
            Outcome::Transferred
        } else if now >= until {
            Outcome::Refused(Refused::TimeoutTransfer)
        } else {
            return Some(until);
        };
        self.transfer = None;
        self.replies.push(reply, outcome);
        None
    }

    /// A leader whose disk has not answered for an election's time lets another member lead: a majority of disks may be well.
    pub(super) fn yield_if_stalled(&mut self, now: Millis) {
        let op = self.wal.in_flight();
        let stall = self.stall.filter(|stall| Some(stall.op) == op);
        self.stall = op.map(|op| stall.unwrap_or(Stall { op, since: now }));
        let election = self.raft.settings().election;
        let is_stalled = stall.is_some_and(|stall| now.since(stall.since) >= election);
        if is_stalled && let Some(to) = self.raft.best_successor() {
            self.raft.transfer(to);
        }
    }

    /// A leader that stops hands over first. False: it still waits for that.
    pub(super) fn has_handed_over(&mut self, now: Millis) -> bool {
        let until = match self.stopping {
            Stopping::Wanted => now.plus(Millis(HANDOVER_MS)),
            Stopping::HandingOver { until } => until,
            Stopping::No | Stopping::Sealed => return true,
        };
        let successor = self.raft.best_successor();
        let Some(to) = successor.filter(|_| now < until) else {
            return true;
        };
        self.raft.transfer(to);
        self.stopping = Stopping::HandingOver { until };
        false
    }
}
