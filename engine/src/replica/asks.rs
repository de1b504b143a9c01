//! Questions about leases that only a leader answers: whom they are put to, and what becomes of them.
//!
//! A leader answers what came before a majority last said that it leads (C3): the questions of a turn, its own clients' and other
//! members', share a round with that turn's reads. Every other member puts its clients' questions to the leader, all of a turn in
//! one message, and repeats what may be lost; to renew twice is to renew. With another leader each question begins anew.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use super::Replica;
use super::lease::Ask;
use crate::apply::{Outcome, Refused};
use crate::limits::{LEASE_ASKS_MAX, QUESTIONS_A_MESSAGE_MAX, READ_RETRY_MS};
use crate::raft::message::{Answer, Body, Question};
use crate::types::{Index, LeaseId, MemberId, Millis, ReplyTo, Term};

/// The questions that are not answered, but for renewals that wait for an entry. At most `LEASE_ASKS_MAX` with those.
#[derive(Debug, Default)]
pub(super) struct Asks {
    /// There is no leader yet, or it is this member and they came since the last turn.
    waiting: VecDeque<Asked>,
    /// This member leads, and waits for a majority's word, which `ReadQueue` asks for in batches; by the batch's number.
    unconfirmed: BTreeMap<u64, Vec<Asked>>,
    /// To be answered here once so much is applied.
    pub(super) confirmed: VecDeque<(Index, Asked)>,
    /// Put to the leader, by their numbers.
    forwarded: BTreeMap<u64, Forwarded>,
    /// What other members are told at this turn's end.
    answers: BTreeMap<MemberId, Vec<Answer>>,
    /// The last batch's or question's. Begins where the seed says, so that an answer to this member's former life is none of this
    /// one's.
    number: u64,
    /// The leader and term in which all this holds.
    of: (Option<MemberId>, Term),
    /// When to look for what is late or lost.
    look: Millis,
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) from: Asker,
    pub(super) id: LeaseId,
    pub(super) wants: Wants,
    /// The first turn that saw it.
    since: Option<Millis>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    Client(ReplyTo),
    /// With its number for the question.
    Member(MemberId, u64),
}

/// What is wanted of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    Renewal,
    Look { keys: bool },
}

#[derive(Debug)]
struct Forwarded {
    asked: Asked,
    sent: Millis,
}

impl Asks {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            number: seed,
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        let unconfirmed = self.unconfirmed.values().map(Vec::len).sum::<usize>();
        self.waiting.len() + unconfirmed + self.confirmed.len() + self.forwarded.len()
    }

    /// A majority has said that this member leads, since the batch `number` came; it goes once `index` is applied.
    pub(super) fn on_confirmed(&mut self, number: u64, index: Index) {
        let batch = self.unconfirmed.remove(&number).unwrap_or_default();
        self.confirmed
            .extend(batch.into_iter().map(|asked| (index, asked)));
    }

    /// Hands out everything.
    pub(super) fn drain(&mut self, each: &mut impl FnMut(Asked)) {
        let unconfirmed = mem::take(&mut self.unconfirmed).into_values().flatten();
        let confirmed = self.confirmed.drain(..).map(|(_, asked)| asked);
        let forwarded = mem::take(&mut self.forwarded).into_values();
        let all = self.waiting.drain(..).chain(unconfirmed).chain(confirmed);
        all.chain(forwarded.map(|it| it.asked)).for_each(each);
        self.answers.clear();
    }

    /// Hands out what is late; its answer may still come.
    fn take_late(&mut self, is_late: impl Fn(&Asked) -> bool, late: &mut Vec<Asked>) {
        late.extend(extract(&mut self.waiting, &is_late));
        for batch in self.unconfirmed.values_mut() {
            late.extend(batch.extract_if(.., |asked| is_late(asked)));
        }
        self.unconfirmed.retain(|_, batch| !batch.is_empty());
        let confirmed = extract(&mut self.confirmed, |(_, asked)| is_late(asked));
        late.extend(confirmed.into_iter().map(|(_, asked)| asked));
        let forwarded = self.forwarded.extract_if(.., |_, it| is_late(&it.asked));
        late.extend(forwarded.map(|(_, it)| it.asked));
    }

    fn draw(&mut self) -> u64 {
        self.number = self.number.wrapping_add(1);
        self.number
    }
}

impl Asked {
    /// Whether it came too long ago at `now`.
    pub(super) fn is_late(&self, now: Millis, timeout: Millis) -> bool {
        self.since.is_some_and(|since| now.since(since) >= timeout)
    }
}

impl Replica {
    /// Takes over questions; they are answered at this turn's end at the earliest.
    pub(super) fn take_asks(&mut self, asks: &mut Vec<(ReplyTo, Ask)>) {
        if asks.is_empty() {
            return;
        }
        let refused = self.refuses();
        let mut room = LEASE_ASKS_MAX.saturating_sub(self.asks_count());
        for (to, ask) in asks.drain(..) {
            if let Some(refused) = refused {
                self.replies.push(to, Outcome::Refused(refused));
                continue;
            }
            let (id, wants) = match ask {
                Ask::Leases => {
                    self.list_leases(to);
                    continue;
                }
                Ask::KeepAlive(id) => (id, Wants::Renewal),
                Ask::TimeToLive { id, keys } => (id, Wants::Look { keys }),
            };
            if room == 0 {
                let refused = Refused::TooManyRequests;
                self.replies.push(to, Outcome::Refused(refused));
                continue;
            }
            room -= 1;
            self.asks.waiting.push_back(Asked {
                from: Asker::Client(to),
                id,
                wants,
                since: None,
            });
        }
    }

    /// Another member's questions. They are taken in this leader's term only; what finds no room is asked again.
    pub(super) fn on_questions(&mut self, from: MemberId, term: Term, questions: &[Question]) {
        let is_mine = self.raft.is_leader() && self.raft.term() == term;
        if !is_mine || self.refuses().is_some() {
            return;
        }
        let room = LEASE_ASKS_MAX.saturating_sub(self.asks_count());
        let asked = questions.iter().take(room).map(|question| Asked {
            from: Asker::Member(from, question.number),
            id: question.lease,
            wants: match question.renews {
                true => Wants::Renewal,
                false => Wants::Look { keys: false },
            },
            since: None,
        });
        self.asks.waiting.extend(asked);
    }

    /// The leader's answers to this member's questions.
    pub(super) fn on_answers(&mut self, from: MemberId, term: Term, answers: &[Answer]) {
        if (self.raft.leader(), self.raft.term()) != (Some(from), term) {
            return;
        }
        for answer in answers {
            if let Some(Forwarded { asked, .. }) = self.asks.forwarded.remove(&answer.number) {
                self.tell(asked, answer);
            }
        }
    }

    /// Puts what has come since the last turn to whoever may answer it; what is confirmed stays for `answer_asks`. When to look
    /// again.
    pub(super) fn put_asks(&mut self, now: Millis) -> Option<Millis> {
        let of = (self.raft.leader(), self.raft.term());
        if self.asks.of != of {
            self.asks.of = of;
            self.begin_asks_again();
        }
        if self.asks_count() == 0 {
            return None;
        }
        if let Some(refused) = self.refuses() {
            self.fail_asks(refused);
            return None;
        }
        for asked in &mut self.asks.waiting {
            asked.since.get_or_insert(now);
        }
        if now >= self.asks.look {
            self.asks.look = now.plus(Millis(READ_RETRY_MS));
            self.refuse_late_asks(now);
            self.forward_again(now);
        }
        let waiting = &mut self.asks.waiting;
        if waiting.is_empty() {
            return Some(self.asks.look);
        }
        if let Some(index) = self.raft.free_read_index() {
            let confirmed = waiting.drain(..).map(|asked| (index, asked));
            self.asks.confirmed.extend(confirmed);
        } else if self.raft.is_leader() {
            let batch = Vec::from(mem::take(waiting));
            let number = self.asks.draw();
            self.asks.unconfirmed.insert(number, batch);
            self.reads.confirm(number, now);
        } else if let Some(leader) = self.raft.leader() {
            let asked = mem::take(waiting);
            self.forward_asks(leader, now, asked);
        }
        Some(self.asks.look)
    }

    /// Answers `asked`, whoever asked it.
    pub(super) fn tell(&mut self, asked: Asked, answer: &Answer) {
        let to = match asked.from {
            Asker::Client(to) => to,
            Asker::Member(member, number) => {
                let answers = self.asks.answers.entry(member).or_default();
                return answers.push(Answer { number, ..*answer });
            }
        };
        match asked.wants {
            Wants::Renewal => self.answer_renewal(to, asked.id, answer.ttl),
            Wants::Look { keys: true } if answer.ttl >= 0 => {
                self.begin_listing(to, asked.id, answer);
            }
            Wants::Look { .. } => self.answer_look(to, asked.id, answer, &[]),
        }
    }

    /// Sends the answers of this turn to other members.
    pub(super) fn send_answers(&mut self) {
        while let Some((member, answers)) = self.asks.answers.pop_first() {
            for answers in answers.chunks(QUESTIONS_A_MESSAGE_MAX) {
                let answers = answers.to_vec();
                self.raft.send(member, Body::Answer { answers });
            }
        }
    }

    /// Tells everybody who waits that there will be no answer.
    pub(super) fn fail_asks(&mut self, refused: Refused) {
        let mut all = Vec::new();
        self.asks.drain(&mut |asked| all.push(asked));
        self.leases.drain_renewing(&mut |asked| all.push(asked));
        for asked in all {
            self.refuse_ask(asked, refused);
        }
        self.refuse_lists(refused);
    }

    fn asks_count(&self) -> usize {
        self.asks.len() + self.leases.renewing_count()
    }

    /// Another leader: it knows nothing of what the one before was asked.
    fn begin_asks_again(&mut self) {
        let mut all = Vec::new();
        self.asks.drain(&mut |asked| all.push(asked));
        self.leases.drain_renewing(&mut |asked| all.push(asked));
        // What other members asked of this one in an older term they ask again themselves.
        all.retain(|asked| matches!(asked.from, Asker::Client(_)));
        self.asks.waiting = all.into();
    }

    fn refuse_late_asks(&mut self, now: Millis) {
        let timeout = self.raft.settings().request_timeout();
        let is_late = |asked: &Asked| asked.is_late(now, timeout);
        let mut late = Vec::new();
        self.asks.take_late(is_late, &mut late);
        self.leases.take_late_renewing(is_late, &mut late);
        let refused = match self.raft.leader() {
            None => Refused::NoLeader,
            Some(_) => Refused::Timeout,
        };
        for asked in late {
            self.refuse_ask(asked, refused);
        }
    }

    /// Another member hears nothing, and asks again or gives up by itself.
    fn refuse_ask(&mut self, asked: Asked, refused: Refused) {
        if let Asker::Client(to) = asked.from {
            self.replies.push(to, Outcome::Refused(refused));
        }
    }

    /// Repeats what may be lost, under its old number: one answer is enough.
    fn forward_again(&mut self, now: Millis) {
        let Some(leader) = self.raft.leader() else {
            return;
        };
        let is_lost = |it: &Forwarded| now.since(it.sent) >= Millis(READ_RETRY_MS);
        let forwarded = &mut self.asks.forwarded;
        let lost = forwarded.iter_mut().filter(|(_, it)| is_lost(it));
        let questions: Vec<Question> = lost
            .map(|(number, it)| {
                it.sent = now;
                it.asked.question(*number)
            })
            .collect();
        self.send_questions(leader, &questions);
    }

    fn forward_asks(&mut self, leader: MemberId, sent: Millis, asked: VecDeque<Asked>) {
        let asks = &mut self.asks;
        let mut questions = Vec::with_capacity(asked.len());
        for asked in asked {
            let number = asks.draw();
            questions.push(asked.question(number));
            asks.forwarded.insert(number, Forwarded { asked, sent });
        }
        self.send_questions(leader, &questions);
    }

    fn send_questions(&mut self, leader: MemberId, questions: &[Question]) {
        for questions in questions.chunks(QUESTIONS_A_MESSAGE_MAX) {
            let questions = questions.to_vec();
            self.raft.send(leader, Body::Ask { questions });
        }
    }
}

impl Asked {
    fn question(&self, number: u64) -> Question {
        Question {
            number,
            renews: self.wants == Wants::Renewal,
            lease: self.id,
        }
    }
}

/// Takes out what fits; the order of the rest stays.
fn extract<T>(from: &mut VecDeque<T>, fits: impl Fn(&T) -> bool) -> Vec<T> {
    let (out, rest) = mem::take(from).into_iter().partition(|it| fits(it));
    *from = rest;
    Vec::from(out)
}
