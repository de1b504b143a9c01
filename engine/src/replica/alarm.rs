//! The NOSPACE alarm of this member: raised when a write did not fit, lifted by itself if it is told to.

use basalt_pb::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};

use super::{Notice, Replica, Stopping};
use crate::apply::{Outcome, Refused};
use crate::command::field;
use crate::wal::Space;

/// Whether this member has raised its alarm since it last had space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    Silent,
    /// Proposed when the member list and the alarms had seen this many changes; not again before
    /// there is another one.
    Asked {
        changes: u64,
    },
}

/// What `--auto-disarm` waits for while the alarm is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Relief {
    /// DeleteRange requests when this process first saw the alarm.
    deletes: u64,
    /// Compaction marks then.
    compacted: i64,
    finished: i64,
    is_asked: bool,
}

impl Replica {
    /// Tells the cluster that this member has no space, for writes that did not fit and for a log
    /// that cannot grow; answers those who waited for that.
    pub(super) fn raise_alarm(&mut self) {
        let changes = self.machine.cluster_changes();
        if self.alarm != (Alarm::Asked { changes }) {
            self.alarm = Alarm::Silent;
        }
        if self.machine.alarms().is_no_space() {
            for to in self.over_quota.drain(..) {
                self.replies.push(to, Outcome::Refused(Refused::NoSpace));
            }
            return;
        }
        let is_low = matches!(self.wal.space(), Space::Low { .. });
        let wanted = !self.over_quota.is_empty() || is_low;
        let may = self.raft.leader().is_some() && self.stopping == Stopping::No;
        if !wanted || !may || self.alarm != Alarm::Silent {
            return;
        }
        self.alarm = Alarm::Asked { changes };
        self.propose_alarm(AlarmAction::Activate);
    }

    /// With `--auto-disarm`: proposes to lift this member's alarm once a compaction or deletion since
    /// has brought usage below nine tenths of the quota. Through the log, so that all members do the same. Whether it did.
    pub(super) fn lift_alarm(&mut self) -> bool {
        let (me, kind) = (self.config.me, AlarmType::Nospace as i32);
        let is_on = self.config.auto_disarm && self.machine.alarms().is_on(me, kind);
        if !is_on || self.machine.is_mid_entry() {
            self.relief = self.relief.filter(|_| is_on);
            return false;
        }
        let store = self.machine.store();
        let now = Relief {
            deletes: self.machine.counts().deletes,
            compacted: store.compacted(),
            finished: store.finished(),
            is_asked: false,
        };
        let used = store.sizes().in_use;
        let since = *self.relief.get_or_insert(now);
        let is_relieved = now.deletes > since.deletes
            || now.compacted > since.compacted
            || now.finished > since.finished;
        let is_low = matches!(self.wal.space(), Space::Low { .. });
        let may = self.raft.is_leader() && self.stopping == Stopping::No;
        if !may {
            // Whatever was proposed may be lost with the leadership.
            self.relief = Some(Relief {
                is_asked: false,
                ..since
            });
        }
        if !is_relieved || is_low || !may || since.is_asked || !self.quota.is_relaxed(used) {
            return false;
        }
        self.relief = Some(Relief {
            is_asked: true,
            ..since
        });
        self.propose_alarm(AlarmAction::Deactivate);
        self.notice(Notice::AlarmLifted { used });
        true
    }

    fn propose_alarm(&mut self, action: AlarmAction) {
        let request = AlarmRequest {
            action: action as i32,
            member_id: self.config.me.0,
            alarm: AlarmType::Nospace as i32,
        };
        self.propose_own(field::ALARM, &request);
    }
}
