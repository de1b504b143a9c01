//! Clients: each asks one thing at a time, waits for a while, and remembers what it heard.

use std::collections::VecDeque;

use basalt_engine::apply::{Outcome as Applied, Refused};
use basalt_engine::command::field;
use basalt_engine::replica::Proposals;
use basalt_engine::types::ReplyTo;
use basalt_pb::etcdserverpb as pb;
use pb::request_op::Request as Op;
use pb::response_op::Response;
use prost::Message;

use super::durable::has_durably;
use super::leases::LEASES;
use super::node::Node;
use super::reads::read_range;
use super::witness::{Answer, plain};
use super::workload::{Ask, Seen};
use super::world::{At, Event, World};
use crate::check::history::{Call, Outcome, Refusal, Request, Violation};

/// A client.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// Its questions, by their numbers in the plan.
    pub(super) steps: VecDeque<usize>,
    /// What it learnt from answers.
    seen: Seen,
    /// What it waits for.
    pub(super) waits: Option<u32>,
}

/// A question that was asked.
#[derive(Debug)]
pub(super) struct Asked {
    /// Who asked; the number after the last client's is the probe's.
    client: usize,
    /// Of whom.
    pub(super) at: At,
    /// The id of its proposal; 0 for a read.
    request: u64,
    /// Whether it is a read that may be answered now.
    is_readable: bool,
    /// The highest revision that anybody had heard of.
    floor: i64,
}

impl World<'_> {
    /// Schedules the next question of a client.
    pub(super) fn ask_later(&mut self, client: usize) {
        if let Some(step) = self.clients[client].steps.front() {
            let pause = self.plan.steps[*step].pause_us;
            self.schedule(pause, Event::Ask(client));
        }
    }

    pub(super) fn ask(&mut self, client: usize) {
        let Some(step) = self.clients[client].steps.pop_front() else {
            return;
        };
        let step = self.plan.steps[step].clone();
        let number = u32::try_from(self.asked.len()).expect("few");
        let is_physical = matches!(step.ask, Ask::Compact { physical: true, .. });
        let member = usize::from(step.member);
        if self.nodes[member].running.is_none() {
            // Nobody listens: nothing was asked.
            self.ask_later(client);
            return;
        }
        if step.ask.lease() > 0 {
            return self.ask_lease(client, member, step.ask);
        }
        let request = self.clients[client].seen.request(&step.ask, number);
        self.clients[client].waits = Some(number);
        self.send(client, member, request, is_physical);
    }

    /// Asks a running member.
    pub(super) fn send(
        &mut self,
        client: usize,
        member: usize,
        request: Request,
        is_physical: bool,
    ) {
        let number = u32::try_from(self.asked.len()).expect("few");
        let at = At {
            member,
            life: self.nodes[member].life,
        };
        self.asked.push(Asked {
            client,
            at,
            request: 0,
            is_readable: false,
            floor: self.heard(),
        });
        self.history.push(Call {
            client: u32::try_from(client).expect("few"),
            called: self.now_us,
            returned: u64::MAX,
            request,
            outcome: Outcome::Unknown,
        });
        let patience = self.plan.settings.patience_ms * 1000;
        self.schedule(patience, Event::GiveUp(number));
        self.schedule(0, Event::Arrive(at, number, is_physical));
    }

    /// A member reads a question from its socket.
    pub(super) fn arrive(
        &mut self,
        member: usize,
        number: u32,
        is_physical: bool,
    ) -> Result<(), Violation> {
        let Some(process) = &mut self.nodes[member].running else {
            return Ok(());
        };
        let request = &self.history[number as usize].request;
        let mut batch = Proposals::new();
        let mut id = 0;
        if let Some((field, body)) = encode(request, is_physical) {
            let drawn = process.request_ids.draw();
            id = drawn.0;
            let to = ReplyTo {
                stream: number,
                ..ReplyTo::default()
            };
            batch.push(Some(to), drawn, field, &body);
        }
        let is_full = process.replica.propose(&mut batch).is_err();
        let is_read = id == 0;
        let is_serializable =
            matches!(request, Request::Op(Op::RequestRange(it)) if it.serializable);
        let is_free = is_serializable || process.replica.published().read_gate().is_free();
        if is_read && !is_free {
            process.replica.read_index(ReplyTo {
                stream: number,
                ..ReplyTo::default()
            });
        }
        let asked = &mut self.asked[number as usize];
        asked.request = id;
        asked.is_readable = is_read && is_free;
        if is_full {
            self.hear(number, Outcome::Refused(Refusal::Unavailable));
        }
        self.drive(member)
    }

    /// The highest revision of any answer.
    pub(super) fn heard(&self) -> i64 {
        let heard = self.clients.iter().map(|client| client.seen.revision);
        heard.max().unwrap_or(0)
    }

    /// Lifts all alarms that a member knows, as an operator would.
    pub(super) fn disarm(&mut self, member: usize) -> Result<(), Violation> {
        let Some(process) = &mut self.nodes[member].running else {
            return Ok(());
        };
        let alarms = process.replica.published().cluster().alarms.clone();
        let mut batch = Proposals::new();
        for (member, alarm) in alarms {
            let request = pb::AlarmRequest {
                action: pb::alarm_request::AlarmAction::Deactivate.into(),
                member_id: member.0,
                alarm,
            };
            let id = process.request_ids.draw();
            batch.push(None, id, field::ALARM, &request.encode_to_vec());
        }
        // If there is no room for it now there will be at the next look.
        let _ = process.replica.propose(&mut batch);
        self.drive(member)
    }

    /// A client stops waiting for an answer; what it asked may still happen.
    pub(super) fn give_up(&mut self, number: u32) {
        if number & LEASES != 0 {
            return self.lease_heard(number);
        }
        let client = self.asked[number as usize].client;
        if self.history[number as usize].returned != u64::MAX {
            return;
        }
        self.asked[number as usize].is_readable = false;
        if let Some(client) = self.clients.get_mut(client)
            && client.waits.take_if(|it| *it == number).is_some()
        {
            self.tally.add("given up", 1);
            let client = self.asked[number as usize].client;
            self.ask_later(client);
        }
    }

    /// A process is gone: whoever waited for it finds its connection closed.
    pub(super) fn hang_up(&mut self, member: usize) {
        let lost = |(number, asked): (usize, &Asked)| {
            let waits = self
                .clients
                .get(asked.client)
                .is_some_and(|it| it.waits == Some(number as u32));
            (asked.at.member == member && waits).then_some(number as u32)
        };
        let lost: Vec<u32> = self.asked.iter().enumerate().filter_map(lost).collect();
        for number in lost.into_iter().chain(self.leases_asked_of(member)) {
            self.schedule(0, Event::GiveUp(number));
        }
        self.break_streams(member);
    }

    /// Takes the answers of a turn, and answers the reads that may be answered now.
    pub(super) fn take_answers(&mut self, member: usize) -> Result<(), Violation> {
        let Some(process) = &mut self.nodes[member].running else {
            return Ok(());
        };
        let replies = process.replica.replies();
        let items = std::mem::take(&mut replies.items);
        let bytes = std::mem::take(&mut replies.bytes);
        replies.clear();
        for (to, applied) in items {
            match to.stream {
                NOBODY => {}
                number if number & LEASES != 0 => {
                    self.answer_lease(number, applied, &bytes)?;
                }
                number => self.answer(number, applied, &bytes)?,
            }
        }
        self.answer_reads(member)
    }

    fn answer(&mut self, number: u32, applied: Applied, bytes: &[u8]) -> Result<(), Violation> {
        let call = &self.history[number as usize];
        let answer: Answer = match applied {
            Applied::Readable => {
                // Nobody may wait any more.
                let waits = self.clients.get(self.asked[number as usize].client);
                self.asked[number as usize].is_readable =
                    waits.is_some_and(|it| it.waits == Some(number));
                return Ok(());
            }
            Applied::MembersChanged | Applied::Transferred => {
                return Err(format!("answered {applied:?} to {call:?}"));
            }
            Applied::Put { revision, .. } => {
                let put = Response::ResponsePut(pb::PutResponse::default());
                plain(revision, Some(put))
            }
            Applied::Encoded { start, end } => {
                let (revision, body) = decode(&call.request, &bytes[start..end]);
                plain(revision, body)
            }
            Applied::Refused(refused) => match refusal(refused) {
                Some(refusal) => Err(refusal),
                None => {
                    // It may have happened: as good as no answer.
                    self.tally.add("unsure answers", 1);
                    self.schedule(0, Event::GiveUp(number));
                    return Ok(());
                }
            },
        };
        if answer != Err(Refusal::Unavailable) {
            let asked = &self.asked[number as usize];
            let entry = self.witness.check_answer(asked.request, &answer)?;
            self.answers += 1;
            let one_in = self.plan.settings.durable_check_one_in;
            if self.answers.is_multiple_of(one_in) {
                self.tally.add("durable checks", 1);
                // What a disk has lost since, it had.
                let has_it = |node: &&Node| node.is_rotten || has_durably(node, entry);
                let holders = self.nodes.iter().filter(has_it);
                let (holders, members) = (holders.count(), self.nodes.len());
                if 2 * holders <= members {
                    return Err(format!(
                        "entry {} is answered and durable on {holders} of {members} members",
                        entry.index
                    ));
                }
            }
        }
        self.hear(
            number,
            match answer {
                Ok((revision, body)) => Outcome::Done { revision, body },
                Err(refusal) => Outcome::Refused(refusal),
            },
        );
        Ok(())
    }

    fn answer_reads(&mut self, member: usize) -> Result<(), Violation> {
        let node = &self.nodes[member];
        let at = At {
            member,
            life: node.life,
        };
        let waits = |asked: &Asked| asked.is_readable && asked.at == at;
        let waiting = (0..self.asked.len()).filter(|it| waits(&self.asked[*it]));
        for number in waiting.collect::<Vec<_>>() {
            let Some(process) = &self.nodes[member].running else {
                return Ok(());
            };
            let replica = &process.replica;
            let call = &self.history[number];
            let Request::Op(Op::RequestRange(range)) = &call.request else {
                unreachable!("only ranges are reads");
            };
            let Some(found) = read_range(replica, range) else {
                continue;
            };
            let floor = self.asked[number].floor;
            let outcome = match found {
                Ok((revision, _)) if revision < floor && !range.serializable => {
                    return Err(format!(
                        "read revision {revision} after {floor} was heard of"
                    ));
                }
                Ok((revision, body)) => Outcome::Done {
                    revision,
                    body: Some(body),
                },
                Err(refusal) => Outcome::Refused(refusal),
            };
            self.asked[number].is_readable = false;
            self.hear(number as u32, outcome);
        }
        Ok(())
    }

    /// A client hears an answer, if it still waits for it.
    fn hear(&mut self, number: u32, outcome: Outcome) {
        let asked = &self.asked[number as usize];
        let client = asked.client;
        let is_probe = client == self.clients.len();
        let waits = is_probe || self.clients[client].waits == Some(number);
        if !waits || self.history[number as usize].returned != u64::MAX {
            return;
        }
        self.tally.add(
            match &outcome {
                Outcome::Done { .. } => "answers",
                _ => "refusals",
            },
            1,
        );
        let call = &mut self.history[number as usize];
        call.returned = self.now_us;
        if let Outcome::Done { revision, body } = &outcome
            && !is_probe
        {
            self.clients[client].seen.learn(*revision, body.as_ref());
        }
        call.outcome = outcome;
        if is_probe {
            self.on_probe(number);
        } else {
            self.clients[client].waits = None;
            self.ask_later(client);
        }
    }
}

/// The number of a question that nobody waits for.
pub(super) const NOBODY: u32 = u32::MAX;

/// What stands in the place of a question that no client has asked.
pub(super) fn settled() -> Asked {
    Asked {
        client: usize::MAX,
        at: At {
            member: usize::MAX,
            life: 0,
        },
        request: 0,
        is_readable: false,
        floor: 0,
    }
}

/// A question as a proposal; `None`: it is a read.
fn encode(request: &Request, is_physical: bool) -> Option<(u32, Vec<u8>)> {
    match request {
        Request::Op(Op::RequestRange(_)) => None,
        Request::Op(Op::RequestPut(it)) => Some((field::PUT, it.encode_to_vec())),
        Request::Op(Op::RequestDeleteRange(it)) => Some((field::DELETE_RANGE, it.encode_to_vec())),
        Request::Op(Op::RequestTxn(it)) => Some((field::TXN, it.encode_to_vec())),
        Request::Compact(revision) => {
            let request = pb::CompactionRequest {
                revision: *revision,
                physical: is_physical,
            };
            Some((field::COMPACTION, request.encode_to_vec()))
        }
    }
}

fn decode(request: &Request, bytes: &[u8]) -> (i64, Option<Response>) {
    const ENCODED: &str = "what the engine encodes";
    let (header, body) = match request {
        Request::Op(Op::RequestPut(_)) => {
            let it = pb::PutResponse::decode(bytes).expect(ENCODED);
            (it.header, Some(Response::ResponsePut(it)))
        }
        Request::Op(Op::RequestDeleteRange(_)) => {
            let it = pb::DeleteRangeResponse::decode(bytes).expect(ENCODED);
            (it.header, Some(Response::ResponseDeleteRange(it)))
        }
        Request::Op(Op::RequestTxn(_)) => {
            let it = pb::TxnResponse::decode(bytes).expect(ENCODED);
            (it.header, Some(Response::ResponseTxn(it)))
        }
        Request::Op(Op::RequestRange(_)) => unreachable!("reads are not proposed"),
        Request::Compact(_) => {
            let it = pb::CompactionResponse::decode(bytes).expect(ENCODED);
            (it.header, None)
        }
    };
    (header.map_or(0, |it| it.revision), body)
}

/// What a refusal says about the state; `None`: it leaves open what happened.
pub(super) fn refusal(refused: Refused) -> Option<Refusal> {
    match refused {
        Refused::Compacted => Some(Refusal::Compacted),
        Refused::FutureRevision => Some(Refusal::Future),
        Refused::KeyNotFound => Some(Refusal::KeyNotFound),
        Refused::LeaseNotFound => Some(Refusal::LeaseNotFound),
        Refused::LeaseExists => Some(Refusal::LeaseExists),
        // There is no quota: what does not fit is refused before it is done.
        Refused::NoSpace => Some(Refusal::NoSpace),
        Refused::TooManyRequests => Some(Refusal::Unavailable),
        _ => None,
    }
}
