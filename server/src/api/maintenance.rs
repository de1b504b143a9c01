//! The Maintenance service, as far as one member can answer it.

use basalt_engine::apply::QUOTA_BYTES_DEFAULT;
use basalt_engine::mvcc::{HashJob, HashRefused, Reader};
use basalt_engine::replica::Refused;
use basalt_engine::types::MemberId;
use basalt_net::grpc::{CallId, Calls, Metadata};
use basalt_pb::etcdserverpb as pb;
use basalt_pb::hot::{put_bytes_field, put_int_field, put_uint_field, write_header};
use prost::Message as _;

use super::backend::{Backend, Order, Step, Work};
use super::errors::Error;
use super::fields;
use super::gate::Rpc;
use super::limits::HASH_STEP_RECORDS;
use super::services::Services;
use super::waiting::Then;
use crate::log::log_contract::FINISHED_DEFRAG;
use crate::version;

/// Number of `InternalRaftRequest`'s field.
pub(super) const ALARM: u32 = 10;

impl<B: Backend> Services<B> {
    /// GET too goes through the log, as in etcd.
    pub(super) fn on_alarm(
        &mut self,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let [action, member, alarm] = fields::ints(message)?;
        self.admit(Rpc::Alarm, false, meta)?;
        let (action, alarm) = (action as i32, alarm as i32);
        if pb::alarm_request::AlarmAction::try_from(action).is_err() {
            return Err(Error::UnknownAlarmAction);
        }
        self.propose(
            call,
            (Rpc::Alarm, ALARM),
            &alarm_body(action, member, alarm),
            Then::Answer,
        )
    }

    pub(super) fn on_status(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let [] = fields::ints(message)?;
        self.admit(Rpc::Status, false, meta)?;
        let status = self.backend.published().status();
        let cluster = self.backend.published().cluster();
        let mut errors = Vec::new();
        if status.leader.is_none() {
            errors.push(Error::NoLeader.status().message.into_owned());
        }
        for (member, alarm) in &cluster.alarms {
            let alarm = pb::AlarmType::try_from(*alarm).map_or("", pb::AlarmType::as_str_name);
            // Two blanks: Go's printer draws one or two for each build, and 3.7.3 has two.
            errors.push(format!("memberID:{}  alarm:{alarm}", member.0));
        }
        let answer = pb::StatusResponse {
            header: None,
            version: version::ETCD.to_owned(),
            db_size: status.db_size as i64,
            leader: status.leader.map_or(0, |leader| leader.0),
            raft_index: status.committed.0,
            raft_term: status.applied_term.0,
            raft_applied_index: status.applied.0,
            errors,
            db_size_in_use: status.db_size_in_use as i64,
            is_learner: status.is_learner,
            storage_version: version::CLUSTER.to_owned(),
            db_size_quota: match self.config.quota_bytes {
                0 => QUOTA_BYTES_DEFAULT,
                bytes => bytes,
            },
            downgrade_info: Some(pb::DowngradeInfo::default()),
        };
        let header = self.header_now();
        calls.reply(call, |out| {
            write_header(out, &header);
            answer.encode_raw(out);
        });
        Ok(())
    }

    /// Space comes back by itself, in the background and never below what is in use, so there is nothing
    /// to wait for: the answer comes at once and holds up nobody. It has no header, as etcd's.
    pub(super) fn on_defragment(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let [] = fields::ints(message)?;
        self.admit(Rpc::Defragment, false, meta)?;
        let status = self.backend.published().status();
        tracing::info!("starting defragment");
        tracing::info!(
            "current-db-size-bytes" = status.db_size,
            "current-db-size-in-use-bytes" = status.db_size_in_use,
            took = "0s",
            "{FINISHED_DEFRAG}"
        );
        tracing::info!("finished defragment");
        calls.reply(call, |_| {});
        Ok(())
    }

    pub(super) fn on_hash_kv(
        &mut self,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let [revision] = fields::ints(message)?;
        self.admit(Rpc::HashKv, false, meta)?;
        let work = self.hash_work(revision as i64, true);
        self.submit(call, Rpc::HashKv, work, Then::AnswerLate)
    }

    /// etcd hashes its file here, for its own tests; this is the hash of all records instead.
    /// Members with one history agree, an etcd and a basalt do not.
    pub(super) fn on_hash(
        &mut self,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let [] = fields::ints(message)?;
        self.admit(Rpc::Hash, false, meta)?;
        let work = self.hash_work(0, false);
        self.submit(call, Rpc::Hash, work, Then::AnswerLate)
    }

    /// `of_revision`: the answer is HashKV's, which says what was hashed.
    fn hash_work(&self, revision: i64, of_revision: bool) -> Work {
        let reader: Reader = self.backend.reader().clone();
        let mut header = self.header_now();
        let mut job = None;
        Box::new(move |disk, out| {
            let running = match &mut job {
                Some(running) => running,
                None => match HashJob::start(&reader, revision) {
                    Ok(started) => job.insert(started),
                    Err(refused) => return Step::Refused(refused.into_refused()),
                },
            };
            let answer = match running.poll(HASH_STEP_RECORDS, disk) {
                Ok(Some(answer)) => answer,
                Ok(None) => return Step::Again,
                Err(_) => return Step::Refused(Refused::CorruptCluster),
            };
            header.revision = answer.revision;
            write_header(out, &header);
            put_uint_field(out, 2, u64::from(answer.hash));
            if of_revision {
                put_int_field(out, 3, answer.compact_revision);
                put_int_field(out, 4, answer.hash_revision);
            }
            Step::Done
        })
    }

    /// Answered once the other one leads.
    pub(super) fn on_move_leader(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let [target] = fields::ints(message)?;
        self.admit(Rpc::MoveLeader, false, meta)?;
        if self.backend.published().status().leader != Some(self.identity.member) {
            return Err(Error::NotLeader);
        }
        if target == self.identity.member.0 {
            calls.reply(call, |_| {});
            return Ok(());
        }
        let cluster = self.backend.published().cluster();
        let is_voter = |member: &pb::Member| member.id == target && !member.is_learner;
        if !cluster.members.iter().any(is_voter) {
            return Err(Error::BadLeaderTransferee);
        }
        let order = Order::MoveLeader(MemberId(target));
        self.order(call, Rpc::MoveLeader, order, Then::LeaderMoved)
    }

    pub(super) fn on_downgrade(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        use pb::downgrade_request::DowngradeAction;
        let [action] = fields::ints(message)?;
        let target = fields::text(message, 2)?;
        self.admit(Rpc::Downgrade, false, meta)?;
        let cluster = self.backend.published().cluster();
        let Some(current) = cluster.cluster_version.as_deref().and_then(minor_release) else {
            return Err(Error::ClusterVersionUnavailable);
        };
        match DowngradeAction::try_from(action as i32) {
            Ok(DowngradeAction::Validate) => check_target(target, current)?,
            Ok(DowngradeAction::Enable) => {
                check_target(target, current)?;
                return Err(Error::DowngradeUnsupported);
            }
            // None can be in progress.
            Ok(DowngradeAction::Cancel) => {}
            Err(_) => return Err(Error::UnknownMethod),
        }
        let header = self.header_now();
        calls.reply(call, |out| {
            write_header(out, &header);
            put_bytes_field(out, 2, format!("{}.{}", current.0, current.1).as_bytes());
        });
        Ok(())
    }
}

/// An `AlarmRequest` of its own bytes.
pub(super) fn alarm_body(action: i32, member: u64, alarm: i32) -> Vec<u8> {
    let mut body = Vec::with_capacity(16);
    put_int_field(&mut body, 1, i64::from(action));
    put_uint_field(&mut body, 2, member);
    put_int_field(&mut body, 3, i64::from(alarm));
    body
}

/// A downgrade goes exactly one minor release back.
fn check_target(target: &str, current: (u64, u64)) -> Result<(), Error> {
    let target = minor_release(target).ok_or(Error::WrongDowngradeVersionFormat)?;
    if target.0 == current.0 && target.1 + 1 == current.1 {
        Ok(())
    } else {
        Err(Error::InvalidDowngradeTargetVersion)
    }
}

/// `3.6` and `3.6.0` to (3, 6).
fn minor_release(text: &str) -> Option<(u64, u64)> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    let major = parts.next()??;
    let minor = parts.next()??;
    match (parts.next(), parts.next()) {
        (None | Some(Some(_)), None) => Some((major, minor)),
        _ => None,
    }
}

trait IntoRefused {
    fn into_refused(self) -> Refused;
}

impl IntoRefused for HashRefused {
    fn into_refused(self) -> Refused {
        match self {
            HashRefused::Compacted => Refused::Compacted,
            HashRefused::Future => Refused::FutureRevision,
            HashRefused::Busy => Refused::TooManyRequests,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [MNT-10] Tools send both forms of a version.
    #[test]
    fn downgrade_targets_are_one_minor_release_back() {
        let current = (3, 7);
        assert_eq!(check_target("3.6", current), Ok(()));
        assert_eq!(check_target("3.6.0", current), Ok(()));
        let invalid = Err(Error::InvalidDowngradeTargetVersion);
        assert_eq!(check_target("3.7.0", current), invalid);
        assert_eq!(check_target("3.5", current), invalid);
        let malformed = Err(Error::WrongDowngradeVersionFormat);
        assert_eq!(check_target("", current), malformed);
        assert_eq!(check_target("x", current), malformed);
        assert_eq!(check_target("3.6.0.1", current), malformed);
    }
}
