//! The calls of one network loop and what becomes of them.

use std::time::{Duration, Instant};

use basalt_engine::apply::Quota;
use basalt_engine::mvcc::NeedRead;
use basalt_engine::replica::{Ask, Outcome, Replies};
use basalt_engine::types::ReplyTo;
use basalt_net::grpc::{CallId, Calls, Metadata};
use basalt_pb::hot::{Header, internal_raft_request_len, write_header};

use super::ApiConfig;
use super::backend::{Backend, Order, Work};
use super::claims::Claims;
use super::errors::Error;
use super::gate::{self, Rpc};
use super::header::Identity;
use super::jobs::Jobs;
use super::keep_alive::KeepAlives;
use super::limits::{APPLY_LAG_ENTRIES_MAX, SCRATCH_BYTES_KEPT};
use super::maintenance::{self, ALARM};
use super::meter::Meter;
use super::parked::Parked;
use super::snapshot::Snapshots;
use super::waiting::{Then, Wait, Waiting};
use super::watch::Watches;

/// Everything of an [`super::Api`] but its counters. Each service adds its methods in its own file.
pub(super) struct Services<B> {
    pub(super) config: ApiConfig,
    pub(super) identity: Identity,
    pub(super) backend: B,
    pub(super) quota: Quota,
    waiting: Waiting,
    /// Questions, which are not answered in the order of the log.
    asked: Waiting,
    /// Linearizable reads, by round.
    parked: Parked<u64>,
    /// The round that calls join now.
    round: u64,
    /// Reads that wait for what is not in memory.
    pub(super) cold: Parked<NeedRead>,
    /// When what they and unfinished reads wait for is asked for again.
    ask_again: Option<Instant>,
    pub(super) jobs: Jobs,
    pub(super) snapshots: Snapshots,
    pub(super) watches: Watches,
    pub(super) keep_alives: KeepAlives,
    pub(super) claims: Claims,
    /// Where answers of unknown length are made before they are copied out.
    pub(super) scratch: Vec<u8>,
    replies: Replies,
    /// The call that is handled was told that it may read the newest view.
    is_confirmed: bool,
}

impl<B: Backend> Services<B> {
    pub(super) fn new(config: ApiConfig, backend: B) -> Self {
        Services {
            identity: Identity {
                cluster: config.cluster,
                member: config.member,
            },
            quota: Quota::from_flag(config.quota_bytes),
            watches: Watches::new(&config),
            keep_alives: KeepAlives::default(),
            claims: Claims::default(),
            config,
            backend,
            waiting: Waiting::default(),
            asked: Waiting::default(),
            parked: Parked::default(),
            round: 0,
            cold: Parked::default(),
            ask_again: None,
            jobs: Jobs::default(),
            snapshots: Snapshots::default(),
            scratch: Vec::new(),
            replies: Replies::default(),
            is_confirmed: false,
        }
    }

    /// A call begins whose requests follow.
    pub(super) fn open(&mut self, calls: &mut impl Calls, call: CallId, rpc: Rpc, meta: &Metadata) {
        let opened = match rpc {
            Rpc::Watch => self.on_watch_open(call, meta),
            Rpc::LeaseKeepAlive => self.on_keep_alive_open(call, meta),
            _ => Ok(()),
        };
        if let Err(error) = opened {
            calls.fail(call, error.status());
        }
    }

    #[inline]
    pub(super) fn handle(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        rpc: Rpc,
        message: &[u8],
        meta: Option<&Metadata>,
    ) {
        let handled = match rpc {
            Rpc::Range => self.on_range(calls, call, message, meta),
            Rpc::Put => self.on_put(call, message, meta),
            Rpc::Txn => self.on_txn(calls, call, message, meta),
            Rpc::DeleteRange => self.on_delete_range(call, message, meta),
            Rpc::RangeStream => self.on_range_stream(call, message, meta),
            Rpc::Compact => self.on_compact(call, message, meta),
            Rpc::LeaseGrant => self.on_lease_grant(call, message, meta),
            Rpc::LeaseRevoke => self.on_lease_revoke(call, message, meta),
            Rpc::LeaseTimeToLive => self.on_lease_time_to_live(call, message, meta),
            Rpc::LeaseLeases => self.on_lease_leases(call, message, meta),
            Rpc::MemberAdd => self.on_member_add(call, message, meta),
            Rpc::MemberRemove => self.on_member_remove(call, message, meta),
            Rpc::MemberUpdate => self.on_member_update(call, message, meta),
            Rpc::MemberPromote => self.on_member_promote(call, message, meta),
            Rpc::MemberList => self.on_member_list(calls, call, message, meta),
            Rpc::Alarm => self.on_alarm(call, message, meta),
            Rpc::Status => self.on_status(calls, call, message, meta),
            Rpc::Defragment => self.on_defragment(calls, call, message, meta),
            Rpc::Hash => self.on_hash(call, message, meta),
            Rpc::HashKv => self.on_hash_kv(call, message, meta),
            Rpc::Snapshot => self.on_snapshot(call, message, meta),
            Rpc::MoveLeader => self.on_move_leader(calls, call, message, meta),
            Rpc::Downgrade => self.on_downgrade(calls, call, message, meta),
            Rpc::HealthCheck => self.on_health_check(calls, call, message, meta),
            Rpc::HealthWatch => self.on_health_watch(calls, call, message, meta),
            Rpc::HealthList => self.on_health_list(calls, call, message, meta),
            Rpc::Watch => {
                self.on_watch_request(calls, call, message);
                Ok(())
            }
            Rpc::LeaseKeepAlive => {
                self.on_keep_alive(calls, call, message);
                Ok(())
            }
            Rpc::Lock => self.on_lock(calls, call, message, meta),
            Rpc::Unlock => self.on_unlock(calls, call, message, meta),
            Rpc::Campaign => self.on_campaign(calls, call, message, meta),
            Rpc::Proclaim => self.on_proclaim(calls, call, message, meta),
            Rpc::Resign => self.on_resign(calls, call, message, meta),
            Rpc::Leader | Rpc::Observe => self.on_leader(calls, call, (rpc, message), meta),
        };
        if let Err(error) = handled {
            calls.fail(call, error.status());
        }
    }

    /// Lets a call in that has not waited before.
    #[inline]
    pub(super) fn admit(
        &self,
        rpc: Rpc,
        local: bool,
        meta: Option<&Metadata>,
    ) -> Result<(), Error> {
        match meta {
            Some(meta) => gate::admit(rpc, local, meta, self.backend.published()),
            None => Ok(()),
        }
    }

    /// Whether a linearizable read may use the newest view now.
    #[inline]
    pub(super) fn is_readable(&self) -> bool {
        self.is_confirmed || self.backend.published().read_gate().is_free()
    }

    /// Asks the replica, once for all calls that wait since the last time. It is asked again next turn if it is busy.
    fn confirm_reads(&mut self) {
        let round = self.round;
        if self.parked.last_round() != Some(round) {
            return;
        }
        let to = ReplyTo {
            net_loop: self.config.net_loop,
            conn: ROUND,
            generation: (round >> 32) as u32,
            stream: round as u32,
        };
        if self.backend.order(to, Order::ConfirmReads).is_ok() {
            self.round += 1;
        }
    }

    /// The replica's word on a round of reads, and on those before it.
    fn on_round(&mut self, calls: &mut impl Calls, meter: &Meter, round: u64, outcome: Outcome) {
        while let Some(parked) = self.parked.pop_of(round) {
            let calls = &mut meter.count(parked.rpc, calls);
            if let Outcome::Refused(refused) = outcome {
                calls.fail(parked.call, Error::from(refused).status());
                continue;
            }
            self.is_confirmed = true;
            self.handle(calls, parked.call, parked.rpc, &parked.message, None);
            self.is_confirmed = false;
        }
    }

    /// Keeps a call until linearizable reads are possible.
    pub(super) fn park(&mut self, call: CallId, rpc: Rpc, message: &[u8]) -> Result<(), Error> {
        self.parked.push(call, rpc, message, self.round)
    }

    /// Sends a checked request into the log. `field` is its number in `InternalRaftRequest`.
    pub(super) fn propose(
        &mut self,
        call: CallId,
        (rpc, field): (Rpc, u32),
        body: &[u8],
        then: Then,
    ) -> Result<(), Error> {
        let status = self.backend.published().status();
        if status.committed.0 > status.applied.0 + APPLY_LAG_ENTRIES_MAX {
            return Err(Error::TooManyRequests);
        }
        let id = self.config.ids.draw();
        if internal_raft_request_len(id.0, field, body.len()) > self.config.max_request_bytes {
            return Err(Error::RequestTooLarge);
        }
        let to = self.reply_to(call);
        self.backend.propose(to, id, field, body)?;
        self.waiting.push(call, rpc, then);
        Ok(())
    }

    /// Asks the leader what is not in the log.
    pub(super) fn ask(&mut self, call: CallId, rpc: Rpc, ask: Ask) -> Result<(), Error> {
        let to = self.reply_to(call);
        self.backend.ask(to, ask)?;
        self.asked.push(call, rpc, Then::Answer);
        Ok(())
    }

    /// Asks the replica for something that is no proposal.
    pub(super) fn order(
        &mut self,
        call: CallId,
        rpc: Rpc,
        order: Order,
        then: Then,
    ) -> Result<(), Error> {
        let to = self.reply_to(call);
        self.backend.order(to, order)?;
        self.waiting.push(call, rpc, then);
        Ok(())
    }

    /// Gives work to the background worker.
    pub(super) fn submit(
        &mut self,
        call: CallId,
        rpc: Rpc,
        work: Work,
        then: Then,
    ) -> Result<(), Error> {
        let to = self.reply_to(call);
        self.backend.submit(to, work)?;
        self.waiting.push(call, rpc, then);
        Ok(())
    }

    /// Bytes of the store, as the quota counts them.
    #[inline]
    pub(super) fn used_bytes(&self) -> u64 {
        self.backend.published().status().db_size_in_use
    }

    /// Raises this member's alarm; when that is done the client hears why.
    pub(super) fn refuse_for_space(&mut self, call: CallId, rpc: Rpc) -> Result<(), Error> {
        // Action 1 is ACTIVATE, alarm 1 NOSPACE.
        let body = maintenance::alarm_body(1, self.identity.member.0, 1);
        self.propose(call, (rpc, ALARM), &body, Then::NoSpace)
            .map_err(|_| Error::NoSpace)
    }

    pub(super) fn header_now(&self) -> Header {
        let revision = self.backend.reader().pin().view().revision();
        self.identity.header(self.backend.published(), revision)
    }

    pub(super) fn reply_to(&self, call: CallId) -> ReplyTo {
        ReplyTo {
            net_loop: self.config.net_loop,
            conn: call.conn,
            generation: call.generation,
            stream: call.stream,
        }
    }

    fn answer_all(&mut self, calls: &mut impl Calls, meter: &Meter, now: Instant) {
        let mut replies = std::mem::take(&mut self.replies);
        for (to, outcome) in &replies.items {
            if to.conn == ROUND {
                let round = u64::from(to.generation) << 32 | u64::from(to.stream);
                self.on_round(calls, meter, round, *outcome);
                continue;
            }
            let call = CallId {
                conn: to.conn,
                generation: to.generation,
                stream: to.stream,
            };
            if !self.waiting.is_next(call) && self.keep_alives.has(call) {
                let calls = &mut meter.count(Rpc::LeaseKeepAlive, calls);
                self.keep_alives
                    .on_answer(calls, call, (*outcome, &replies));
                continue;
            }
            // Whoever is not waiting any more has been answered.
            let Some(Wait {
                rpc, then, began, ..
            }) = self.take_waiting(call)
            else {
                continue;
            };
            let took = began.map_or(Duration::ZERO, |began| now.duration_since(began));
            let is_ok = then != Then::NoSpace && !matches!(outcome, Outcome::Refused(_));
            meter.proposal_took(rpc, took, is_ok);
            let calls = &mut meter.count(rpc, calls);
            if then == Then::NoSpace {
                calls.fail(call, Error::NoSpace.status());
                continue;
            }
            if then == Then::Claim {
                self.on_claim_answer(calls, call, (*outcome, &replies));
                continue;
            }
            if then == Then::Piece {
                self.on_piece(calls, call, *outcome, now);
                continue;
            }
            match *outcome {
                Outcome::Put { revision, term } => {
                    let header = Header {
                        cluster_id: self.identity.cluster.0,
                        member_id: self.identity.member.0,
                        revision,
                        raft_term: term.0,
                    };
                    calls.reply(call, |out| write_header(out, &header));
                }
                Outcome::Encoded { start, end } => {
                    let bytes = replies.encoded(start, end);
                    calls.reply(call, |out| out.extend_from_slice(bytes));
                }
                Outcome::Refused(refused) => calls.fail(call, Error::from(refused).status()),
                Outcome::MembersChanged | Outcome::Transferred | Outcome::Readable => {
                    self.reply_about_members(calls, call, then);
                }
            }
        }
        replies.clear();
        self.replies = replies;
    }

    /// A question's answer is mostly the first of them: a long queue of proposals is not searched for it.
    #[inline]
    fn take_waiting(&mut self, call: CallId) -> Option<Wait> {
        if self.asked.is_next(call) {
            return self.asked.take(call);
        }
        self.waiting.take(call).or_else(|| self.asked.take(call))
    }

    pub(super) fn on_turn(
        &mut self,
        calls: &mut impl Calls,
        meter: &Meter,
        now: Instant,
    ) -> Option<Instant> {
        self.confirm_reads();
        self.waiting.stamp(now);
        self.asked.stamp(now);
        let mut wake = self.backend.turn(now, &mut self.replies);
        self.answer_all(calls, meter, now);
        if !self.parked.is_empty() {
            // Each is looked at once, should the gate close again meanwhile.
            let mut left = self.parked.len();
            while left > 0 && self.backend.published().read_gate().is_free() {
                left -= 1;
                if let Some(parked) = self.parked.pop() {
                    let calls = &mut meter.count(parked.rpc, calls);
                    self.handle(calls, parked.call, parked.rpc, &parked.message, None);
                }
            }
            let next = self.parked.on_turn(now, |call, rpc| {
                meter.count(rpc, calls).fail(call, Error::Timeout.status());
            });
            wake = earlier(wake, next);
        }
        wake = earlier(wake, self.look_for_records(calls, meter, now));
        let next = self.jobs.on_turn(calls, meter, self.backend.reader(), now);
        wake = earlier(wake, next);
        let next = self.poll_snapshots(calls, meter, now);
        wake = earlier(wake, next);
        let next = self.poll_watches(calls, meter, now);
        wake = earlier(wake, next);
        let next = self.poll_keep_alives(calls, meter, now);
        wake = earlier(wake, next);
        let next = self.poll_claims(calls, meter, now);
        wake = earlier(wake, next);
        for waiting in [&mut self.waiting, &mut self.asked] {
            waiting.expire(now, |call, rpc| {
                meter.count(rpc, calls).fail(call, Error::Timeout.status());
            });
            wake = earlier(wake, waiting.next_deadline());
        }
        if self.scratch.capacity() > SCRATCH_BYTES_KEPT {
            self.scratch = Vec::new();
        }
        wake
    }
}

impl<B: Backend> Services<B> {
    /// Lets reads go on whose records have come into memory. Returns when to look again.
    fn look_for_records(
        &mut self,
        calls: &mut impl Calls,
        meter: &Meter,
        now: Instant,
    ) -> Option<Instant> {
        if self.cold.is_empty() && !self.jobs.is_reading() {
            self.ask_again = None;
            return None;
        }
        // Whoever reads them has stopped for good: they never come.
        if let Some(refused) = self.backend.published().status().failed {
            let error = Error::from(refused);
            while let Some(parked) = self.cold.pop() {
                meter
                    .count(parked.rpc, calls)
                    .fail(parked.call, error.status());
            }
            self.jobs.fail_reading(calls, meter, error);
            return None;
        }
        // The member hears of each once; it may have had no room, or have given the records back again.
        let asks = self.ask_again.is_some_and(|at| at <= now);
        let pin = self.backend.reader().pin();
        let view = pin.view();
        let is_met = |need: &NeedRead| {
            let has = view.has(*need);
            if asks && !has {
                view.ask(*need);
            }
            has
        };
        let met = self.cold.take_met(is_met);
        self.jobs.resume_reading(is_met);
        drop(pin);
        for parked in met {
            let calls = &mut meter.count(parked.rpc, calls);
            self.handle(calls, parked.call, parked.rpc, &parked.message, None);
        }
        if asks || self.ask_again.is_none() {
            self.ask_again = Some(now + ASK_AGAIN);
        }
        let next = self.cold.on_turn(now, |call, rpc| {
            meter.count(rpc, calls).fail(call, Error::Timeout.status());
        });
        earlier(self.ask_again, next)
    }
}

/// A part of a file is read in much less.
const ASK_AGAIN: Duration = Duration::from_millis(10);
/// The connection, which none has, of answers to a round of reads.
const ROUND: u32 = u32::MAX;

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
