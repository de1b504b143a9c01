//! What members tell each other, and its bytes. docs/FORMAT.md shows them.

mod wire;

use bytes::Bytes;

use self::wire::{NUMBER_MAX, Reader, Writer};
use super::log::Mark;
use crate::limits::{QUESTIONS_A_MESSAGE_MAX, SNAPSHOT_PART_BYTES};
use crate::run::{self, RUN_HEAD_BYTES, count_entries, split_run};
use crate::types::{Index, LeaseId, RequestId, Run, RunKind, Term};

/// A message from one member to another.
///
/// Losing, doubling or reordering one is never unsafe, only slow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The sender's term. Who is behind catches up, what is older is answered with the newer term.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// A candidate asks for a vote.
    Vote {
        /// Whether this one counts.
        ballot: Ballot,
        /// The candidate's last entry.
        last: Mark,
        /// The leader itself wants this candidate, so that who hears it need not wait for the leader's silence.
        by_transfer: bool,
    },
    /// The answer to `Vote`, in the term of the candidate or a newer one.
    VoteAnswer {
        /// Of the question.
        ballot: Ballot,
        /// Whether it has the vote.
        granted: bool,
    },
    /// The leader is there. Asks for an answer.
    Heartbeat {
        /// What is committed of the entries that the follower is known to have.
        commit: Index,
        /// The newest round of reads that waits for a quorum's word.
        round: u64,
    },
    /// The answer to `Heartbeat`.
    HeartbeatAnswer {
        /// Of the question.
        round: u64,
        /// What this member knows to be committed.
        commit: Index,
    },
    /// The leader's entries behind `previous`, or none to find out whether the follower has `previous`.
    Append {
        /// The entry before the first of `runs`.
        previous: Mark,
        /// What the leader knows to be committed.
        commit: Index,
        /// Consecutive.
        runs: Runs,
    },
    /// This member durably holds the leader's log up to here.
    Appended {
        /// The last such entry.
        matched: Index,
    },
    /// This member does not hold `previous` of an `Append`.
    Rejected {
        /// The index of that entry.
        previous: Index,
        /// The highest entry at or below it that the leader may have too.
        hint: Mark,
    },
    /// The leader wants this member to be elected at once.
    Lead,
    /// A follower asks from where on a read of now is up to date.
    ReadIndex {
        /// Tells its questions apart.
        context: u64,
    },
    /// The answer to `ReadIndex`.
    ReadIndexAnswer {
        /// Of the question.
        context: u64,
        /// Who has applied this sees everything that was acknowledged before the question.
        index: Index,
    },
    /// A follower forwards proposals. They are taken in the message's own term only, and in the order of `sequence`
    /// without repetition, so that no proposal is ever executed twice.
    Propose {
        /// Counts the sender's forwarded batches within its process.
        sequence: u64,
        /// What the entries are.
        kind: RunKind,
        /// Framed as the entries of a run.
        entries: Bytes,
    },
    /// A follower's clients ask what only the leader knows. It is answered in the message's own term only; a question that
    /// comes twice is answered twice.
    Ask {
        /// From one up to `QUESTIONS_A_MESSAGE_MAX`.
        questions: Vec<Question>,
    },
    /// What a leader says to `Ask`, in any order.
    Answer {
        /// From one up to `QUESTIONS_A_MESSAGE_MAX`.
        answers: Vec<Answer>,
    },
    /// The leader has a snapshot for a follower whose next entries are gone.
    Offer {
        /// The last entry that the snapshot covers.
        at: Mark,
    },
    /// The follower wants a piece of a file of the snapshot.
    Fetch {
        /// Of which snapshot.
        at: Index,
        /// Which of its files: 0 is the list of them.
        file: u32,
        /// From this byte on.
        offset: u64,
    },
    /// The piece.
    Part {
        /// Of which snapshot.
        at: Index,
        /// Of which of its files.
        file: u32,
        /// Where it begins.
        offset: u64,
        /// Bytes of the whole file.
        total: u64,
        /// At most `SNAPSHOT_PART_BYTES`.
        bytes: Bytes,
    },
    /// The leader does not put a forwarded promotion into the log: the learner has too little of that.
    PromotionRefused {
        /// Of the change.
        request: RequestId,
    },
}

/// A question about a lease, whose time only the leader counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// Tells the sender's questions apart.
    pub number: u64,
    /// Whether the lease is to be renewed, or only looked at.
    pub renews: bool,
    /// Which.
    pub lease: LeaseId,
}

/// The answer to a `Question`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// Of the question.
    pub number: u64,
    /// Seconds that the lease has now; if there is none, 0 for a renewal and -1 for a look.
    pub ttl: i64,
    /// Seconds that it was granted for; 0 if there is none.
    pub granted: i64,
    /// What the leader had applied: there the lease is, or is not.
    pub index: Index,
}

/// Whether a vote is asked for to see how it would go, or to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Ballot {
    /// Would there be a majority? Nobody's term or vote changes.
    Pre = 0,
    /// The election.
    Real = 1,
}

/// How urgent a message is. The transport sends urgent ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Small, and late is as bad as lost.
    Urgent,
    /// Entries and snapshots: large.
    Bulk,
}

/// Consecutive runs of entries with their heads, as they stand in a frame of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Runs(Bytes);

/// Collects the runs of a message.
#[derive(Debug, Default)]
pub struct RunsBuilder(Vec<u8>);

/// The bytes are no message of a member that keeps to the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// They are not what was sent.
    #[error("a message of a peer does not match its checksum")]
    Checksum,
    /// They end too early, or too late, or mean nothing.
    #[error("a message of a peer cannot be read")]
    Malformed,
    /// A term or an index that no cluster ever reaches.
    #[error("a message of a peer carries an absurd term or index")]
    Absurd,
}

/// The longest encoded message, if the log takes runs of `run_bytes_max`.
#[must_use]
pub fn message_bytes_max(run_bytes_max: usize) -> usize {
    HEAD_BYTES_MAX + RUN_HEAD_BYTES + run_bytes_max.max(crate::limits::APPEND_BYTES_MAX)
}

impl Message {
    /// How urgent it is.
    #[must_use]
    pub fn class(&self) -> Class {
        match &self.body {
            Body::Append { .. } | Body::Propose { .. } | Body::Part { .. } => Class::Bulk,
            Body::Vote { .. }
            | Body::VoteAnswer { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatAnswer { .. }
            | Body::Appended { .. }
            | Body::Rejected { .. }
            | Body::Lead
            | Body::ReadIndex { .. }
            | Body::ReadIndexAnswer { .. }
            | Body::Ask { .. }
            | Body::Answer { .. }
            | Body::Offer { .. }
            | Body::Fetch { .. }
            | Body::PromotionRefused { .. } => Class::Urgent,
        }
    }

    /// Appends its bytes.
    pub fn encode(&self, into: &mut Vec<u8>) {
        let start = into.len();
        let mut out = Writer(into);
        // The checksum of everything behind it.
        out.u32(0);
        match &self.body {
            Body::Vote {
                ballot,
                last,
                by_transfer,
            } => {
                out.head(kind::VOTE, self.term);
                out.0.push(*ballot as u8);
                out.mark(*last);
                out.0.push(u8::from(*by_transfer));
            }
            Body::VoteAnswer { ballot, granted } => {
                out.head(kind::VOTE_ANSWER, self.term);
                out.0.push(*ballot as u8);
                out.0.push(u8::from(*granted));
            }
            Body::Heartbeat { commit, round } => {
                out.head(kind::HEARTBEAT, self.term);
                out.u64(commit.0);
                out.u64(*round);
            }
            Body::HeartbeatAnswer { round, commit } => {
                out.head(kind::HEARTBEAT_ANSWER, self.term);
                out.u64(*round);
                out.u64(commit.0);
            }
            Body::Append {
                previous,
                commit,
                runs,
            } => {
                out.head(kind::APPEND, self.term);
                out.mark(*previous);
                out.u64(commit.0);
                out.0.extend_from_slice(&runs.0);
            }
            Body::Appended { matched } => {
                out.head(kind::APPENDED, self.term);
                out.u64(matched.0);
            }
            Body::Rejected { previous, hint } => {
                out.head(kind::REJECTED, self.term);
                out.u64(previous.0);
                out.mark(*hint);
            }
            Body::Lead => out.head(kind::LEAD, self.term),
            Body::ReadIndex { context } => {
                out.head(kind::READ_INDEX, self.term);
                out.u64(*context);
            }
            Body::ReadIndexAnswer { context, index } => {
                out.head(kind::READ_INDEX_ANSWER, self.term);
                out.u64(*context);
                out.u64(index.0);
            }
            Body::Propose {
                sequence,
                kind: run_kind,
                entries,
            } => {
                out.head(kind::PROPOSE, self.term);
                out.u64(*sequence);
                out.0.push(*run_kind as u8);
                out.0.extend_from_slice(entries);
            }
            Body::Ask { questions } => {
                out.head(kind::ASK, self.term);
                for question in questions {
                    out.u64(question.number);
                    out.0.push(u8::from(question.renews));
                    out.u64(question.lease.0.cast_unsigned());
                }
            }
            Body::Answer { answers } => {
                out.head(kind::ANSWER, self.term);
                for answer in answers {
                    out.u64(answer.number);
                    out.u64(answer.ttl.cast_unsigned());
                    out.u64(answer.granted.cast_unsigned());
                    out.u64(answer.index.0);
                }
            }
            Body::Offer { at } => {
                out.head(kind::OFFER, self.term);
                out.mark(*at);
            }
            Body::Fetch { at, file, offset } => {
                out.head(kind::FETCH, self.term);
                out.u64(at.0);
                out.u32(*file);
                out.u64(*offset);
            }
            Body::Part {
                at,
                file,
                offset,
                total,
                bytes,
            } => {
                out.head(kind::PART, self.term);
                out.u64(at.0);
                out.u32(*file);
                out.u64(*offset);
                out.u64(*total);
                out.0.extend_from_slice(bytes);
            }
            Body::PromotionRefused { request } => {
                out.head(kind::PROMOTION_REFUSED, self.term);
                out.u64(request.0);
            }
        }
        let checksum = crc32c::crc32c(&into[start + 4..]);
        into[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Reads what a peer sent.
    ///
    /// # Errors
    /// See [`BadMessage`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BadMessage> {
        let (checksum, rest) = bytes.split_first_chunk().ok_or(BadMessage::Malformed)?;
        if crc32c::crc32c(rest) != u32::from_le_bytes(*checksum) {
            return Err(BadMessage::Checksum);
        }
        let mut from = Reader(rest);
        let kind = from.u8()?;
        let term = Term(from.number()?);
        let body = match kind {
            kind::VOTE => Body::Vote {
                ballot: from.ballot()?,
                last: from.mark()?,
                by_transfer: from.bool()?,
            },
            kind::VOTE_ANSWER => Body::VoteAnswer {
                ballot: from.ballot()?,
                granted: from.bool()?,
            },
            kind::HEARTBEAT => Body::Heartbeat {
                commit: Index(from.number()?),
                round: from.u64()?,
            },
            kind::HEARTBEAT_ANSWER => Body::HeartbeatAnswer {
                round: from.u64()?,
                commit: Index(from.number()?),
            },
            kind::APPEND => {
                let previous = from.mark()?;
                let commit = Index(from.number()?);
                let runs = Runs::read(from.rest(), previous, term)?;
                Body::Append {
                    previous,
                    commit,
                    runs,
                }
            }
            kind::APPENDED => Body::Appended {
                matched: Index(from.number()?),
            },
            kind::REJECTED => Body::Rejected {
                previous: Index(from.number()?),
                hint: from.mark()?,
            },
            kind::LEAD => Body::Lead,
            kind::READ_INDEX => Body::ReadIndex {
                context: from.u64()?,
            },
            kind::READ_INDEX_ANSWER => Body::ReadIndexAnswer {
                context: from.u64()?,
                index: Index(from.number()?),
            },
            kind::PROPOSE => {
                let sequence = from.u64()?;
                let kind = match from.u8()? {
                    0 => RunKind::Normal,
                    1 => RunKind::ConfChange,
                    _ => return Err(BadMessage::Malformed),
                };
                let entries = from.rest();
                match (kind, count_entries(entries)) {
                    (_, None | Some(0)) => return Err(BadMessage::Malformed),
                    (RunKind::ConfChange, Some(2..)) => return Err(BadMessage::Malformed),
                    _ => {}
                }
                Body::Propose {
                    sequence,
                    kind,
                    entries: Bytes::copy_from_slice(entries),
                }
            }
            kind::ASK => Body::Ask {
                questions: from.all(Reader::question)?,
            },
            kind::ANSWER => Body::Answer {
                answers: from.all(Reader::answer)?,
            },
            kind::OFFER => Body::Offer { at: from.mark()? },
            kind::FETCH => Body::Fetch {
                at: Index(from.number()?),
                file: u32::from_le_bytes(from.take()?),
                offset: from.number()?,
            },
            kind::PART => {
                let at = Index(from.number()?);
                let file = u32::from_le_bytes(from.take()?);
                let (offset, total) = (from.number()?, from.number()?);
                let bytes = from.rest();
                if bytes.len() > SNAPSHOT_PART_BYTES || offset + bytes.len() as u64 > total {
                    return Err(BadMessage::Malformed);
                }
                Body::Part {
                    at,
                    file,
                    offset,
                    total,
                    bytes: Bytes::copy_from_slice(bytes),
                }
            }
            kind::PROMOTION_REFUSED => Body::PromotionRefused {
                request: RequestId(from.u64()?),
            },
            _ => return Err(BadMessage::Malformed),
        };
        if !from.0.is_empty() {
            return Err(BadMessage::Malformed);
        }
        Ok(Self { term, body })
    }
}

impl Runs {
    /// Takes runs one after the other.
    #[must_use]
    pub fn builder() -> RunsBuilder {
        RunsBuilder::default()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all runs with their heads.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.0.len()
    }

    /// The runs, in order.
    pub fn iter(&self) -> impl Iterator<Item = Run<'_>> {
        let mut rest = &self.0[..];
        core::iter::from_fn(move || {
            let (run, after) = split_run(rest)?;
            rest = after;
            Some(run)
        })
    }

    /// Checks that `bytes` are what a leader of `term` may send behind `previous`.
    fn read(bytes: &[u8], previous: Mark, term: Term) -> Result<Self, BadMessage> {
        let mut rest = bytes;
        let mut before = previous;
        while !rest.is_empty() {
            let (run, after) = split_run(rest).ok_or(BadMessage::Malformed)?;
            let follows = run.first == before.index.next() && run.term >= before.term;
            let alone = run.kind == RunKind::Normal || run.count == 1;
            if !follows || !alone || run.term > term {
                return Err(BadMessage::Malformed);
            }
            before = Mark {
                index: run.last(),
                term: run.term,
            };
            rest = after;
        }
        if before.index.0 > NUMBER_MAX || previous.term > term {
            return Err(BadMessage::Absurd);
        }
        Ok(Self(Bytes::copy_from_slice(bytes)))
    }
}

impl RunsBuilder {
    /// Adds a run, which follows the last one.
    pub fn push(&mut self, run: &Run<'_>) {
        self.0.extend_from_slice(&run::head(run));
        self.0.extend_from_slice(run.bytes);
    }

    /// Whether there is none yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.0.len()
    }

    /// All of them.
    #[must_use]
    pub fn finish(self) -> Runs {
        Runs(self.0.into())
    }
}

/// The first byte behind the checksum.
mod kind {
    pub(super) const VOTE: u8 = 1;
    pub(super) const VOTE_ANSWER: u8 = 2;
    pub(super) const HEARTBEAT: u8 = 3;
    pub(super) const HEARTBEAT_ANSWER: u8 = 4;
    pub(super) const APPEND: u8 = 5;
    pub(super) const APPENDED: u8 = 6;
    pub(super) const REJECTED: u8 = 7;
    pub(super) const LEAD: u8 = 8;
    pub(super) const READ_INDEX: u8 = 9;
    pub(super) const READ_INDEX_ANSWER: u8 = 10;
    pub(super) const PROPOSE: u8 = 11;
    pub(super) const ASK: u8 = 12;
    pub(super) const ANSWER: u8 = 13;
    pub(super) const OFFER: u8 = 14;
    pub(super) const FETCH: u8 = 15;
    pub(super) const PART: u8 = 16;
    pub(super) const PROMOTION_REFUSED: u8 = 17;
}

/// Bytes before the runs or entries of the longest kind.
const HEAD_BYTES_MAX: usize = 64;

/// Bytes of one answer, which is longer than a question.
const ANSWER_BYTES: usize = 32;

const _: () = assert!(QUESTIONS_A_MESSAGE_MAX * ANSWER_BYTES <= crate::limits::APPEND_BYTES_MAX);

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz {
    //! What fuzzing asks of messages: what is read is written again as it was, and nothing panics.

    use super::Message;

    /// The body of the fuzz target `raft_message`. The checksum is made to fit, or nothing behind it would be reached.
    pub fn raft_message(data: &[u8]) {
        let mut bytes = crc32c::crc32c(data).to_le_bytes().to_vec();
        bytes.extend_from_slice(data);
        if let Ok(message) = Message::decode(&bytes) {
            let mut again = Vec::new();
            message.encode(&mut again);
            assert_eq!(again, bytes);
        }
        // What a peer sends without a fitting checksum.
        let _ = Message::decode(data);
    }
}

#[cfg(test)]
mod tests;
