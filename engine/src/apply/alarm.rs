//! Alarms: raised and lifted through the log, kept until somebody lifts them.

use std::collections::BTreeSet;

use basalt_pb::etcdserverpb::alarm_request::AlarmAction;
use basalt_pb::etcdserverpb::{AlarmRequest, AlarmType};
use basalt_pb::hot;

use super::{Applied, Machine, Refused};
use crate::limits::ALARMS_MAX;
use crate::types::{MemberId, Term};

/// The active alarms, each of one member. Ids of members that do not exist are legal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    /// Type first, so that one type is one range.
    active: BTreeSet<(i32, MemberId)>,
}

impl Alarms {
    /// Whether none is active.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Whether any member ran out of space.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        self.of_type(AlarmType::Nospace as i32).next().is_some()
    }

    /// Whether `member` has the alarm `kind`.
    #[must_use]
    pub fn is_on(&self, member: MemberId, kind: i32) -> bool {
        self.active.contains(&(kind, member))
    }

    /// Whether any member was found to differ.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        self.of_type(AlarmType::Corrupt as i32).next().is_some()
    }

    /// All of them, by type, then by member.
    pub fn iter(&self) -> impl Iterator<Item = (MemberId, i32)> {
        self.active.iter().map(|(kind, member)| (*member, *kind))
    }

    /// Raises an alarm. Whether it was not active before.
    pub fn raise(&mut self, member: MemberId, kind: i32) -> bool {
        self.active.insert((kind, member))
    }

    fn of_type(&self, kind: i32) -> impl Iterator<Item = (MemberId, i32)> {
        let range = (kind, MemberId(0))..=(kind, MemberId(u64::MAX));
        self.active
            .range(range)
            .map(|(kind, member)| (*member, *kind))
    }
}

impl Machine {
    /// Whether there is room for an alarm: always for one that is active already, and for what members
    /// raise for themselves.
    fn may_raise(&self, (member, kind): (MemberId, i32)) -> bool {
        let is_known = AlarmType::try_from(kind).is_ok() && self.members.get(member).is_some();
        let active = &self.alarms.active;
        is_known || active.len() < ALARMS_MAX || active.contains(&(kind, member))
    }

    pub(super) fn alarm(
        &mut self,
        request: &AlarmRequest,
        term: Term,
        out: &mut Vec<u8>,
    ) -> Applied {
        let Ok(action) = AlarmAction::try_from(request.action) else {
            // etcd's process dies here (etcd-facts 22).
            return Refused::UnknownAlarmAction.into();
        };
        let none = AlarmType::None as i32;
        let this = (MemberId(request.member_id), request.alarm);
        let mut changed = false;
        let mut listed = Vec::new();
        match action {
            AlarmAction::Get if request.alarm == none => listed.extend(self.alarms.iter()),
            AlarmAction::Get => listed.extend(self.alarms.of_type(request.alarm)),
            AlarmAction::Activate if request.alarm == none => {}
            AlarmAction::Activate if !self.may_raise(this) => {
                return Refused::TooManyRequests.into();
            }
            AlarmAction::Activate => {
                changed = self.alarms.raise(this.0, this.1);
                listed.push(this);
            }
            AlarmAction::Deactivate => {
                changed = self.alarms.active.remove(&(this.1, this.0));
                listed.extend(changed.then_some(this));
            }
        }
        self.cluster_changes += u64::from(changed);
        let outcome = self.answer(self.store.revision(), term, out, |out| {
            for (member, kind) in listed {
                let alarm = hot::begin_nested(out, 2);
                hot::put_uint_field(out, 1, member.0);
                hot::put_int_field(out, 2, i64::from(kind));
                hot::end_nested(out, alarm);
            }
        });
        Applied::Done(outcome)
    }
}
