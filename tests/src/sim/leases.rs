//! Clients with leases: they grant, attach keys, keep alive, ask and revoke. No lease may end before what its owner was promised is over.
//!
//! Which leases there are is the committed log's to say (`witness.rs`); here is what clients heard, and when.

use std::collections::BTreeMap;

use basalt_engine::apply::Outcome as Applied;
use basalt_engine::command::field;
use basalt_engine::replica::{Ask as LeaseQuestion, Proposals};
use basalt_engine::types::{LeaseId, ReplyTo};
use basalt_pb::etcdserverpb as pb;
use prost::Message;

use super::clients::{refusal, settled};
use super::witness::{Answer, Ended};
use super::workload::Ask;
use super::world::{At, Event, World};
use crate::check::history::{Call, Outcome, Refusal, Request, Violation};
use pb::request_op::Request as Op;

/// What clients have asked about leases.
#[derive(Debug, Default)]
pub(super) struct Leases {
    calls: Vec<LeaseCall>,
    /// Until when each lease lives at least, by id and generation.
    promised: BTreeMap<(i64, u64), u64>,
    /// When the time of each was over.
    expired: BTreeMap<(i64, u64), u64>,
}

/// A question about a lease.
#[derive(Debug)]
struct LeaseCall {
    client: usize,
    at: At,
    ask: Ask,
    called_us: u64,
    /// The newest lease of that id when it was asked, and whether it was there.
    known: (u64, bool),
    /// The id of its proposal, if it is one.
    request: u64,
}

impl World<'_> {
    /// A client asks something about a lease.
    pub(super) fn ask_lease(&mut self, client: usize, member: usize, ask: Ask) {
        let number = self.leases.calls.len() as u32;
        let at = At {
            member,
            life: self.nodes[member].life,
        };
        let known = self.witness.newest_lease(ask.lease());
        self.leases.calls.push(LeaseCall {
            client,
            at,
            ask,
            called_us: self.now_us,
            known,
            request: 0,
        });
        self.clients[client].waits = Some(number | LEASES);
        let patience = self.plan.settings.patience_ms * 1000;
        self.schedule(patience, Event::GiveUp(number | LEASES));
        self.schedule(0, Event::Arrive(at, number | LEASES, false));
    }

    /// A member reads a question about a lease from its socket.
    pub(super) fn lease_arrives(&mut self, member: usize, number: u32) -> Result<(), Violation> {
        let Some(process) = &mut self.nodes[member].running else {
            return Ok(());
        };
        let call = &mut self.leases.calls[(number & !LEASES) as usize];
        let to = ReplyTo {
            stream: number,
            ..ReplyTo::default()
        };
        let mut batch = Proposals::new();
        let is_taken = match call.ask {
            Ask::Grant { lease, seconds } => {
                let request = pb::LeaseGrantRequest {
                    id: i64::from(lease),
                    ttl: i64::from(seconds),
                };
                let id = process.request_ids.draw();
                call.request = id.0;
                batch.push(Some(to), id, field::LEASE_GRANT, &request.encode_to_vec());
                true
            }
            Ask::Revoke { lease } => {
                let request = pb::LeaseRevokeRequest {
                    id: i64::from(lease),
                };
                let id = process.request_ids.draw();
                call.request = id.0;
                batch.push(Some(to), id, field::LEASE_REVOKE, &request.encode_to_vec());
                true
            }
            Ask::KeepAlive { lease } => {
                let id = LeaseId(i64::from(lease));
                batch.ask(to, LeaseQuestion::KeepAlive(id))
            }
            Ask::TimeToLive { lease } => {
                let id = LeaseId(i64::from(lease));
                batch.ask(to, LeaseQuestion::TimeToLive { id, keys: true })
            }
            ref other => unreachable!("{other:?} is about no lease"),
        };
        if process.replica.propose(&mut batch).is_err() || !is_taken {
            self.lease_heard(number);
        }
        self.drive(member)
    }

    /// A member answers a question about a lease.
    pub(super) fn answer_lease(
        &mut self,
        number: u32,
        applied: Applied,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let call = &self.leases.calls[(number & !LEASES) as usize];
        let (ask, called_us, request) = (call.ask.clone(), call.called_us, call.request);
        let known = call.known;
        let waits = self.clients[call.client].waits == Some(number);
        let encoded = match applied {
            Applied::Encoded { start, end } => Ok(&bytes[start..end]),
            Applied::Refused(refused) => match refusal(refused) {
                Some(refusal) => Err(refusal),
                None => {
                    self.schedule(0, Event::GiveUp(number));
                    return Ok(());
                }
            },
            other => return Err(format!("answered {other:?} to {ask:?}")),
        };
        const ENCODED: &str = "what the engine encodes";
        let header = |header: Option<pb::ResponseHeader>| header.map_or(0, |it| it.revision);
        match ask {
            Ask::Grant { lease, seconds } => {
                let answer: Answer = encoded.map(|bytes| {
                    let it = pb::LeaseGrantResponse::decode(bytes).expect(ENCODED);
                    (header(it.header), None)
                });
                if answer != Err(Refusal::Unavailable) {
                    let entry = self.witness.check_answer(request, &answer)?;
                    if answer.is_ok() && waits {
                        self.promise(lease, entry.index, called_us, i64::from(seconds))?;
                    }
                }
            }
            Ask::Revoke { .. } => {
                let answer: Answer = encoded.map(|bytes| {
                    let it = pb::LeaseRevokeResponse::decode(bytes).expect(ENCODED);
                    (header(it.header), None)
                });
                if answer != Err(Refusal::Unavailable) {
                    self.witness.check_answer(request, &answer)?;
                }
            }
            Ask::KeepAlive { lease } => {
                if let Ok(bytes) = encoded {
                    let it = pb::LeaseKeepAliveResponse::decode(bytes).expect(ENCODED);
                    self.renewed(lease, it.ttl, known, called_us, waits)?;
                }
            }
            Ask::TimeToLive { lease } => {
                if let Ok(bytes) = encoded {
                    let it = pb::LeaseTimeToLiveResponse::decode(bytes).expect(ENCODED);
                    self.has_left(lease, known, &it)?;
                }
            }
            _ => unreachable!("it is about a lease"),
        }
        self.lease_heard(number);
        Ok(())
    }

    /// A lease was kept alive at some moment since it was asked, when `known` was the newest of its id; with `ttl` 0 there was none.
    fn renewed(
        &mut self,
        lease: u8,
        ttl: i64,
        known: (u64, bool),
        called_us: u64,
        waits: bool,
    ) -> Result<(), Violation> {
        if ttl <= 0 {
            return self.is_gone(lease, known);
        }
        self.tally.add("leases kept alive", 1);
        let (generation, was_there) = known;
        let (newest, _) = self.witness.newest_lease(lease);
        if newest != generation {
            // It may have been the one after it.
            return Ok(());
        }
        if !was_there {
            return Err(format!("lease {lease} is renewed and was gone before"));
        }
        match waits {
            true => self.promise(lease, generation, called_us, ttl),
            false => Ok(()),
        }
    }

    fn has_left(
        &mut self,
        lease: u8,
        known: (u64, bool),
        answer: &pb::LeaseTimeToLiveResponse,
    ) -> Result<(), Violation> {
        if answer.ttl < 0 {
            return self.is_gone(lease, known);
        }
        let revision = answer.header.as_ref().map_or(0, |it| it.revision);
        let keys = self.witness.leased(i64::from(lease), revision);
        // A new leader adds an election's time to every lease.
        let added = self.plan.settings.election_ms.div_ceil(1000) as i64;
        if answer.ttl > answer.granted_ttl + added || answer.keys != keys {
            return Err(format!(
                "lease {lease}: {answer:?}, by the log it has {keys:?}"
            ));
        }
        self.tally.add("leases looked at", 1);
        Ok(())
    }

    /// It was said that there is no such lease: then there was none at some moment since `known` was the newest.
    fn is_gone(&mut self, lease: u8, known: (u64, bool)) -> Result<(), Violation> {
        self.tally.add("leases said to be gone", 1);
        match known.1 && self.witness.newest_lease(lease) == known {
            true => Err(format!("lease {lease} is said to be gone before it is")),
            false => Ok(()),
        }
    }

    /// A client was told that its lease lives `ttl` seconds from when it asked, by a clock that may be too fast.
    fn promise(
        &mut self,
        lease: u8,
        generation: u64,
        called_us: u64,
        ttl: i64,
    ) -> Result<(), Violation> {
        let fastest = 1000 + u64::from(self.plan.settings.drift_permille);
        let us = ttl.unsigned_abs() * 1_000_000 * 1000 / fastest;
        let until = called_us + us.saturating_sub(CLOCK_US);
        let id = (i64::from(lease), generation);
        if let Some(ended) = self.leases.expired.get(&id).filter(|it| **it < until) {
            return Err(format!(
                "lease {lease} had ended {} ms before it may",
                (until - ended).div_ceil(1000)
            ));
        }
        let known = self.leases.promised.entry(id).or_default();
        *known = until.max(*known);
        Ok(())
    }

    /// Leases ended. Those whose time is over must have had it, and what went with them is in the history as nobody's call.
    pub(super) fn on_ended(&mut self, ended: Vec<Ended>) -> Result<(), Violation> {
        for Ended {
            id,
            generation,
            is_expiry,
            keys,
        } in ended
        {
            let promised = self.leases.promised.remove(&(id, generation));
            if is_expiry && let Some(until) = promised.filter(|until| *until > self.now_us) {
                return Err(format!(
                    "lease {id} ends {} ms early",
                    (until - self.now_us).div_ceil(1000)
                ));
            }
            if is_expiry {
                self.leases.expired.insert((id, generation), self.now_us);
                self.tally.add("leases expired", 1);
            }
            self.tally.add("keys of ended leases", keys.len() as u64);
            if keys.is_empty() {
                continue;
            }
            let delete = |key| pb::RequestOp {
                request: Some(Op::RequestDeleteRange(pb::DeleteRangeRequest {
                    key,
                    ..Default::default()
                })),
            };
            let request = Request::Op(Op::RequestTxn(pb::TxnRequest {
                success: keys.into_iter().map(delete).collect(),
                ..Default::default()
            }));
            let number = self.asked.len();
            self.asked.push(settled());
            self.history.push(Call {
                client: NOBODYS + number as u32,
                called: self.now_us,
                returned: u64::MAX,
                request,
                outcome: Outcome::Unknown,
            });
        }
        Ok(())
    }

    /// Questions about leases that wait for a process.
    pub(super) fn leases_asked_of(&self, member: usize) -> Vec<u32> {
        let numbered = (0..).zip(&self.leases.calls);
        let waits = |(number, call): (u32, &LeaseCall)| {
            let number = number | LEASES;
            let waits = self.clients[call.client].waits == Some(number);
            (call.at.member == member && waits).then_some(number)
        };
        numbered.filter_map(waits).collect()
    }

    /// A client goes on, with an answer or without.
    pub(super) fn lease_heard(&mut self, number: u32) {
        let client = self.leases.calls[(number & !LEASES) as usize].client;
        let waits = &mut self.clients[client].waits;
        if waits.take_if(|it| *it == number).is_some() {
            self.ask_later(client);
        }
    }
}

/// A bit of the numbers of questions about leases.
pub(super) const LEASES: u32 = 1 << 30;

/// Clients with such numbers do not exist.
const NOBODYS: u32 = 1 << 16;

/// Two roundings of clocks to milliseconds.
const CLOCK_US: u64 = 2_000;
