//! Takes every answer: is it right, what did it change, how long did it take.

use std::collections::BTreeMap;
use std::ops::Range;

use basalt_net::grpc::Status;

use super::answer::Answer;
use super::beside::{Ended, add_snapshot, add_streamed};
use super::leases::read_lease;
use super::link::{Call, Hearing};
use super::recorder::{Completion, Recorder};
use super::told::Told;
use super::workload::{Ask, Verdict, Workload};

/// What became of the operations since the tally began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Answered OK and right, conflicts included.
    pub good: u64,
    /// Txns whose compare did not hold.
    pub conflicts: u64,
    /// Acknowledged changes of the store.
    pub changes: u64,
    /// Answers with status OK that do not belong to their request.
    pub wrong: u64,
    /// Failures by text.
    pub failures: BTreeMap<String, u64>,
    /// Operations of an open loop that were due while too many were unanswered.
    pub over_limit: u64,
    /// Of all values that were acknowledged or returned.
    pub value_bytes: u64,
}

/// All that answers are held against.
pub(crate) struct Judge {
    pub workload: Workload,
    pub tally: Tally,
    pub recorder: Recorder,
    /// Nanoseconds on the driver's clock between which the recorder listens.
    pub measured: Range<u64>,
    /// An open loop counts what was due in the measured time, however late the answer came: leaving the late ones out would
    /// flatter a server that falls behind. A closed loop counts what ended in it.
    pub by_due: bool,
    /// The recorder before this one and when it listened: answers to what was due in its time still come.
    pub earlier: Option<(Range<u64>, Recorder)>,
    /// Of the answer that is being heard.
    pub now: u64,
    /// Calls that ended, ever.
    pub ended: u64,
    /// Calls beside that ended, until they are taken, and the number of all that ever did.
    pub beside: Vec<Ended>,
    pub beside_ended: u64,
    pub first: FirstAfter,
    /// What watchers are told, if there are any.
    pub told: Option<Told>,
    /// Told by [`Ask::Revision`]; 0 before.
    pub revision: i64,
    /// Over keys and values of the pages since the last reset, in order (FNV-1a, 64 bit).
    pub digest: u64,
}

/// The first operation begun after a moment that was answered right; both on the driver's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstAfter {
    since: u64,
    pub answered: Option<u64>,
}

impl FirstAfter {
    /// None was answered yet.
    pub(crate) fn new(since: u64) -> Self {
        let answered = None;
        Self { since, answered }
    }
}

impl Tally {
    /// All failures.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// What was added since `earlier`.
    pub(crate) fn since(&self, earlier: &Tally) -> Tally {
        let mut failures = self.failures.clone();
        for (text, count) in &mut failures {
            *count -= earlier.failures.get(text).copied().unwrap_or(0);
        }
        failures.retain(|_, count| *count > 0);
        Tally {
            good: self.good - earlier.good,
            conflicts: self.conflicts - earlier.conflicts,
            changes: self.changes - earlier.changes,
            wrong: self.wrong - earlier.wrong,
            failures,
            over_limit: self.over_limit - earlier.over_limit,
            value_bytes: self.value_bytes - earlier.value_bytes,
        }
    }
}

impl Judge {
    /// Listens to nothing yet.
    pub(crate) fn new(workload: Workload) -> Self {
        Self {
            recorder: Recorder::new(false, false),
            workload,
            tally: Tally::default(),
            measured: 0..0,
            by_due: false,
            earlier: None,
            now: 0,
            ended: 0,
            beside: Vec::new(),
            beside_ended: 0,
            told: None,
            first: FirstAfter::new(u64::MAX),
            revision: 0,
            digest: DIGEST_BEGIN,
        }
    }

    /// Gives the answers of another stretch to another recorder, which hears nothing until `measured` is set.
    pub(crate) fn listen(&mut self, recorder: Recorder, by_due: bool) {
        let measured = std::mem::replace(&mut self.measured, 0..0);
        let earlier = std::mem::replace(&mut self.recorder, recorder);
        self.earlier = self.by_due.then_some((measured, earlier));
        self.by_due = by_due;
    }

    /// The recorder, with all that it heard.
    pub(crate) fn take_recorder(&mut self) -> Recorder {
        self.measured = 0..0;
        std::mem::replace(&mut self.recorder, Recorder::new(false, false))
    }

    /// Whether each key of a page is what was written; adds it to the digest.
    fn page(&mut self, call: &Call, message: &[u8]) -> Option<Answer> {
        let mut number = call.question.key;
        let end = number + self.workload.paged_by(number);
        let mut is_right = true;
        let answer = Answer::read_with(message, &mut |kv| {
            is_right &= number < end
                && self
                    .workload
                    .judge_whole(number, kv.key, kv.value, kv.mod_revision);
            number = number.saturating_add(1);
            self.digest = digest(digest(self.digest, kv.key), kv.value);
        });
        answer.filter(|_| is_right)
    }

    /// Whether the keys are all there, in order and by their names.
    fn names(&self, message: &[u8]) -> Option<Answer> {
        let mut number = 0;
        let mut is_right = true;
        let answer = Answer::read_with(message, &mut |kv| {
            is_right &= self.workload.is_named(number, kv.key);
            number += 1;
        });
        answer.filter(|_| is_right)
    }

    /// A call beside changes nothing that is counted.
    fn on_beside_end(&mut self, call: &Call, ending: Result<Option<Answer>, &Status>) {
        let answer = ending.as_ref().ok().copied().flatten().unwrap_or_default();
        let failure = match ending {
            Err(status) => Some(status.to_string()),
            Ok(None) => Some("no such answer".to_owned()),
            Ok(Some(answer)) => match self.workload.judge(call.question, &answer) {
                Verdict::Good { .. } => None,
                _ => Some("the answer is not whole".to_owned()),
            },
        };
        self.beside_ended += 1;
        self.beside.push(Ended {
            began: call.due,
            ended: self.now,
            bytes: answer.value_bytes,
            left: (call.question.ask == Ask::CountLeased).then_some(answer.count),
            failure,
        });
    }

    fn record(&mut self, call: &Call) {
        let (measured, recorder) = match &mut self.earlier {
            Some((measured, recorder)) if measured.contains(&call.due) => (&*measured, recorder),
            _ => (&self.measured, &mut self.recorder),
        };
        let counted = if self.by_due { call.due } else { self.now };
        if measured.contains(&counted) {
            recorder.record(&Completion {
                at: self.now.clamp(measured.start, measured.end - 1) - measured.start,
                due: call.due.saturating_sub(measured.start),
                latency_ns: self.now - call.due,
                is_read: call.question.ask == Ask::Range,
            });
        }
    }
}

impl Hearing for Judge {
    fn on_message(
        &mut self,
        call: &Call,
        message: &[u8],
        earlier: Option<Answer>,
    ) -> Option<Answer> {
        match call.question.ask {
            Ask::Page => self.page(call, message),
            Ask::KeysOnly => self.names(message),
            Ask::Snapshot => add_snapshot(earlier, message),
            Ask::Grant | Ask::KeepAlive | Ask::Renew => read_lease(message),
            Ask::ListStream => add_streamed(earlier, message),
            // Its answer has nothing in it, not even a header.
            Ask::Defragment => Answer::read_part(message),
            _ => Answer::read(message),
        }
    }

    fn on_end(&mut self, call: Call, ending: Result<Option<Answer>, &Status>) {
        self.ended += 1;
        if call.question.ask.is_beside() {
            self.on_beside_end(&call, ending);
            return;
        }
        let (verdict, answer) = match ending {
            Err(status) => {
                let text = status.to_string();
                *self.tally.failures.entry(text).or_insert(0) += 1;
                return;
            }
            Ok(None) => (Verdict::Wrong, Answer::default()),
            Ok(Some(answer)) => {
                if call.question.ask == Ask::Revision {
                    self.revision = answer.revision;
                }
                (self.workload.judge(call.question, &answer), answer)
            }
        };
        let changes = match verdict {
            Verdict::Wrong => {
                self.tally.wrong += 1;
                return;
            }
            Verdict::Conflict => {
                self.tally.conflicts += 1;
                false
            }
            Verdict::Good { changes } => changes,
        };
        self.tally.changes += u64::from(changes);
        self.tally.value_bytes += self
            .workload
            .value_bytes(call.question.ask, &answer, changes);
        self.tally.good += 1;
        if let (Some(told), Ask::Put) = (&mut self.told, call.question.ask) {
            told.on_put(answer.revision, call.due, self.now);
        }
        if call.due > self.first.since {
            self.first.answered.get_or_insert(self.now);
        }
        if call.question.ask.is_counted() {
            self.record(&call);
        }
    }
}

fn digest(begin: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(begin, |digest, byte| {
        (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The digest of nothing.
pub(crate) const DIGEST_BEGIN: u64 = 0xcbf2_9ce4_8422_2325;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_published_one() {
        // Test vectors of the FNV authors.
        assert_eq!(digest(DIGEST_BEGIN, b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(digest(DIGEST_BEGIN, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(digest(DIGEST_BEGIN, b"foobar"), 0x8594_4171_f739_67e8);
    }
}
