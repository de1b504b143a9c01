//! Linearizable reads that need a quorum's word, in batches: one question is under way at a time, what is asked meanwhile
//! is the next one.

use super::{Replica, Stopping};
use crate::apply::{Outcome, Refused};
use crate::limits::READ_RETRY_MS;
use crate::mutant::{Mutant, is_on};
use crate::types::{Index, MemberId, Millis, ReplyTo, Term};

/// The reads of this member that are not answered.
#[derive(Debug, Default)]
pub(super) struct ReadQueue {
    /// Not asked for yet, with the time at which they came.
    waiting: Vec<Reader>,
    asked: Option<Asked>,
    /// Confirmed: they go once this much is applied and published.
    confirmed: Vec<(Index, Vec<Reader>)>,
    /// The last question's number. Begins where the seed says, so that an answer to this member's former life is none of
    /// this one's.
    context: u64,
}

#[derive(Clone, Copy, Debug)]
struct Reader {
    to: Waiter,
    since: Millis,
}

#[derive(Clone, Copy, Debug)]
enum Waiter {
    Read(ReplyTo),
    /// A batch of questions to this member as the leader, by its number.
    Asks(u64),
}

#[derive(Debug)]
struct Asked {
    context: u64,
    /// Whom, and when.
    of: (Option<MemberId>, Term),
    at: Millis,
    readers: Vec<Reader>,
}

impl ReadQueue {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            context: seed,
            ..Self::default()
        }
    }

    /// Has a quorum asked whether this member leads, for the batch `number` of questions.
    pub(super) fn confirm(&mut self, number: u64, since: Millis) {
        let to = Waiter::Asks(number);
        self.waiting.push(Reader { to, since });
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_none() && self.confirmed.is_empty()
    }

    /// Hands out everybody who reads.
    pub(super) fn drain(&mut self, each: &mut impl FnMut(ReplyTo)) {
        let asked = self.asked.take().into_iter().flat_map(|it| it.readers);
        let confirmed = self.confirmed.drain(..).flat_map(|(_, readers)| readers);
        let all = self.waiting.drain(..).chain(asked).chain(confirmed);
        for reader in all {
            if let Waiter::Read(to) = reader.to {
                each(to);
            }
        }
    }

    /// Takes out those who came too long ago.
    fn take_late(&mut self, is_late: impl Fn(Millis) -> bool, late: &mut Vec<Reader>) {
        let lists = self.asked.iter_mut().map(|it| &mut it.readers);
        let lists = lists.chain(self.confirmed.iter_mut().map(|(_, readers)| readers));
        for list in lists.chain([&mut self.waiting]) {
            late.extend(list.extract_if(.., |reader| is_late(reader.since)));
        }
    }
}

impl Replica {
    /// A linearizable read that found the read gate shut. Answered by [`Outcome::Readable`]: the newest published view is
    /// new enough then.
    pub fn read_index(&mut self, reply: ReplyTo) {
        if let Some(refused) = self.refuses() {
            return self.replies.push(reply, Outcome::Refused(refused));
        }
        self.reads.waiting.push(Reader {
            to: Waiter::Read(reply),
            since: self.now,
        });
    }

    /// Asks, hears, and lets reads go whose index is published by this turn's end. When to look again.
    pub(super) fn answer_reads(&mut self, now: Millis) -> Option<Millis> {
        if self.reads.is_empty() {
            return None;
        }
        for (context, index) in self.raft.take_reads() {
            let reads = &mut self.reads;
            if let Some(asked) = reads.asked.take_if(|asked| asked.context == context) {
                reads.confirmed.push((index, asked.readers));
            }
        }
        // In the middle of an entry nothing of it, nor what is before it in this turn, is going to be published.
        let applied = match self.machine.is_mid_entry() || self.stopping == Stopping::Sealed {
            true => Index(0),
            false => self.raft.log().applied().index,
        };
        let ready = self
            .reads
            .confirmed
            .extract_if(.., |it| it.0 <= applied || is_on(Mutant::ReadUnapplied));
        for (index, readers) in ready {
            for reader in readers {
                match reader.to {
                    Waiter::Read(to) => self.replies.push(to, Outcome::Readable),
                    Waiter::Asks(number) => self.asks.on_confirmed(number, index),
                }
            }
        }
        let timeout = self.raft.settings().request_timeout();
        let mut late = Vec::new();
        let is_late = |since: Millis| now.since(since) >= timeout;
        self.reads.take_late(is_late, &mut late);
        for reader in late {
            let Waiter::Read(to) = reader.to else {
                continue;
            };
            let refused = match self.too_late(reader.since) {
                Refused::TimeoutLeaderFailed => Refused::LeaderChanged,
                other => other,
            };
            self.replies.push(to, Outcome::Refused(refused));
        }
        self.ask_again(now);
        self.reads
            .asked
            .as_ref()
            .map(|asked| asked.at.plus(Millis(READ_RETRY_MS)))
    }

    /// Asks for the reads that wait, or once more if the question or its answer may be lost.
    fn ask_again(&mut self, now: Millis) {
        let of = (self.raft.leader(), self.raft.term());
        let readers = match self.reads.asked.take() {
            Some(asked) if asked.of == of && now.since(asked.at) < Millis(READ_RETRY_MS) => {
                self.reads.asked = Some(asked);
                return;
            }
            // Nothing is confirmed yet, so whoever came meanwhile may join.
            Some(mut asked) => {
                asked.readers.append(&mut self.reads.waiting);
                asked.readers
            }
            None => core::mem::take(&mut self.reads.waiting),
        };
        if readers.is_empty() {
            return;
        }
        self.reads.context = self.reads.context.wrapping_add(1);
        let context = self.reads.context;
        self.raft.ask_read(context);
        self.reads.asked = Some(Asked {
            context,
            of,
            at: now,
            readers,
        });
    }
}
