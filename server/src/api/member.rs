//! The Cluster service: the list of members and its changes.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use basalt_engine::member::{Member, member_id};
use basalt_engine::raft::confchange::ConfChange;
use basalt_engine::raft::config::Step;
use basalt_engine::types::MemberId;
use basalt_net::grpc::{CallId, Calls, Metadata};
use basalt_pb::etcdserverpb as pb;
use basalt_pb::hot::{begin_nested, end_nested, write_header};
use prost::Message as _;

use super::backend::{Backend, Order};
use super::errors::Error;
use super::fields;
use super::gate::Rpc;
use super::services::Services;
use super::waiting::Then;
use crate::config::Url;

impl<B: Backend> Services<B> {
    pub(super) fn on_member_list(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let [linearizable] = fields::ints(message)?;
        self.admit(Rpc::MemberList, false, meta)?;
        if linearizable != 0 && !self.is_readable() {
            return self.park(call, Rpc::MemberList, message);
        }
        self.reply_about_members(calls, call, Then::MembersChanged);
        Ok(())
    }

    pub(super) fn on_member_add(
        &mut self,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let request = fields::message::<pb::MemberAddRequest>(message)?;
        self.admit(Rpc::MemberAdd, false, meta)?;
        let peer_urls = checked_urls(&request.peer_urls)?;
        // Two clusters that add a member with the same address at different times give it different ids.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let id = member_id(&peer_urls, &now.unwrap_or_default().as_secs().to_string());
        let is_learner = request.is_learner;
        self.may_add(&peer_urls, is_learner)?;
        let step = match is_learner {
            true => Step::AddLearner(id),
            false => Step::AddVoter(id),
        };
        let member = Member {
            id,
            peer_urls,
            is_learner,
            ..Member::default()
        };
        self.change(call, Rpc::MemberAdd, step, &member, Then::MemberAdded(id))
    }

    pub(super) fn on_member_remove(
        &mut self,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let [id] = fields::ints(message)?;
        self.admit(Rpc::MemberRemove, false, meta)?;
        let id = MemberId(id);
        self.may_remove(id)?;
        let member = Member {
            id,
            ..Member::default()
        };
        self.change(
            call,
            Rpc::MemberRemove,
            Step::Remove(id),
            &member,
            Then::MembersChanged,
        )
    }

    pub(super) fn on_member_update(
        &mut self,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let request = fields::message::<pb::MemberUpdateRequest>(message)?;
        self.admit(Rpc::MemberUpdate, false, meta)?;
        let member = Member {
            id: MemberId(request.id),
            peer_urls: request.peer_urls,
            ..Member::default()
        };
        self.change(
            call,
            Rpc::MemberUpdate,
            Step::Update,
            &member,
            Then::MembersChanged,
        )
    }

    pub(super) fn on_member_promote(
        &mut self,
        call: CallId,
        message: &[u8],
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        let [id] = fields::ints(message)?;
        self.admit(Rpc::MemberPromote, false, meta)?;
        let cluster = self.backend.published().cluster();
        let Some(learner) = cluster.members.iter().find(|it| it.id == id) else {
            return Err(Error::MemberNotFound);
        };
        if !learner.is_learner {
            return Err(Error::MemberNotLearner);
        }
        if self.config.membership.is_strict {
            // It counts as a voter that has started.
            let (voters, started) = count_voters(&cluster.members, MemberId(0));
            if started + 1 < quorum(voters + 1) {
                return Err(Error::MemberNotEnoughStarted);
            }
        }
        let member = Member {
            id: MemberId(id),
            ..Member::default()
        };
        self.change(
            call,
            Rpc::MemberPromote,
            Step::AddVoter(MemberId(id)),
            &member,
            Then::MembersChanged,
        )
    }

    /// A change has been applied, a leader has moved, or the list was asked for.
    pub(super) fn reply_about_members(&self, calls: &mut impl Calls, call: CallId, then: Then) {
        if then == Then::LeaderMoved {
            return calls.reply(call, |_| {});
        }
        let published = self.backend.published();
        let cluster = published.cluster();
        // Answers about members carry no revision.
        let header = self.identity.header(published, 0);
        let added = match then {
            Then::MemberAdded(id) => cluster.members.iter().find(|it| it.id == id.0),
            _ => None,
        };
        calls.reply(call, |out| {
            write_header(out, &header);
            let (listed, members) = match then {
                Then::MemberAdded(_) => (3, &cluster.members),
                _ => (2, &cluster.members),
            };
            let added = added.map(|member| (2, member));
            let members = members.iter().map(|member| (listed, member));
            for (field, member) in added.into_iter().chain(members) {
                let mark = begin_nested(out, field);
                member.encode_raw(out);
                end_nested(out, mark);
            }
        });
    }

    fn change(
        &mut self,
        call: CallId,
        rpc: Rpc,
        step: Step,
        member: &Member,
        then: Then,
    ) -> Result<(), Error> {
        if member.id == MemberId(0) {
            return Err(Error::MemberNotFound);
        }
        let mut context = String::new();
        if !matches!(step, Step::Remove(_)) {
            member.write_json(&mut context, rpc == Rpc::MemberPromote);
        }
        let change = ConfChange {
            id: self.config.ids.draw(),
            step,
            member: member.id,
            context: context.into(),
        };
        self.order(call, rpc, Order::Change(change), then)
    }

    /// etcd-facts 16.1.
    fn may_add(&self, peer_urls: &[String], is_learner: bool) -> Result<(), Error> {
        let cluster = self.backend.published().cluster();
        let rules = &self.config.membership;
        if rules.is_strict {
            let (voters, started) = count_voters(&cluster.members, MemberId(0));
            let is_second = started == 1 && voters == 1;
            if !is_learner && !is_second && started < quorum(voters + 1) {
                return Err(Error::MemberNotEnoughStarted);
            }
            // The new one counts as not connected.
            if voters > 1 && self.connected(&cluster.members) < quorum(voters + 1) {
                return Err(Error::Unhealthy);
            }
        }
        let learners = cluster.members.iter().filter(|it| it.is_learner).count();
        if is_learner && learners >= rules.learners_max {
            // The log would say so first.
            let mut taken = cluster.members.iter().flat_map(|it| &it.peer_urls);
            return Err(match taken.any(|url| peer_urls.contains(url)) {
                true => Error::PeerUrlExists,
                false => Error::TooManyLearners,
            });
        }
        Ok(())
    }

    fn may_remove(&self, id: MemberId) -> Result<(), Error> {
        let cluster = self.backend.published().cluster();
        let is_learner = |it: &pb::Member| it.id == id.0 && it.is_learner;
        if !self.config.membership.is_strict || cluster.members.iter().any(is_learner) {
            return Ok(());
        }
        let (others, started) = count_voters(&cluster.members, id);
        if started < quorum(others) {
            return Err(Error::MemberNotEnoughStarted);
        }
        let now = Instant::now();
        let is_down =
            id != self.identity.member && self.config.connectivity.up_for(id, now).is_none();
        let (voters, _) = count_voters(&cluster.members, MemberId(0));
        // One that is down takes no part in the quorum that there is.
        if !is_down && self.connected(&cluster.members) < 2 + (voters - 1) / 2 {
            return Err(Error::Unhealthy);
        }
        Ok(())
    }

    /// Voters that have been connected for long enough, this member included.
    fn connected(&self, members: &[pb::Member]) -> usize {
        let now = Instant::now();
        let is_connected = |id: MemberId| {
            let up_for = self.config.connectivity.up_for(id, now);
            id == self.identity.member || up_for.is_some_and(|time| time > HEALTH_INTERVAL)
        };
        let voters = members.iter().filter(|it| !it.is_learner);
        voters.filter(|it| is_connected(MemberId(it.id))).count()
    }
}

/// How many voters there are but for `without`, and how many of them have started.
fn count_voters(members: &[pb::Member], without: MemberId) -> (usize, usize) {
    let voters = members
        .iter()
        .filter(|it| !it.is_learner && it.id != without.0);
    let started = voters.clone().filter(|it| !it.name.is_empty()).count();
    (voters.count(), started)
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Sorted, as ids are made of them; etcd refuses a list that is empty or holds what is no URL.
fn checked_urls(texts: &[String]) -> Result<Vec<String>, Error> {
    let urls: Result<Vec<Url>, String> = texts.iter().map(|text| Url::parse(text)).collect();
    let mut urls = urls.map_err(|_| Error::MemberBadUrls)?;
    if urls.is_empty() {
        return Err(Error::MemberBadUrls);
    }
    urls.sort();
    Ok(urls.iter().map(Url::to_string).collect())
}

/// As etcd: a connection counts once it has stood this long.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
