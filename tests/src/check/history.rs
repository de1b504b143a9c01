//! What clients asked, when, and what they heard: the one form that all history checkers read.
//!
//! A recorder notes `called` before the first byte of a request leaves and `returned` after the last byte of its answer came, from
//! one clock that never goes back. Times of different clients must be comparable; their unit is the recorder's own. Whatever is
//! not an answer in etcd's sense (a broken connection, a time-out, "leader changed") is [`Outcome::Unknown`]: it may
//! have taken effect, at once, later or never.

use basalt_pb::etcdserverpb as pb;
use pb::request_op::Request as Op;
use pb::response_op::Response;

/// One request with what became of it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who asked. A client asks one thing at a time.
    pub client: u32,
    /// When it was asked.
    pub called: u64,
    /// When the answer was there; `u64::MAX` for [`Outcome::Unknown`].
    pub returned: u64,
    /// What was asked.
    pub request: Request,
    /// What was heard.
    pub outcome: Outcome,
}

/// What can be asked.
#[derive(Clone, Debug)]
pub enum Request {
    /// A range, a put, a deletion or a transaction.
    Op(Op),
    /// A compaction at that revision.
    Compact(i64),
}

/// What was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer. Headers inside `body` are ignored.
    Done {
        /// The revision of the answer's header.
        revision: i64,
        /// The answer, `None` for a compaction's.
        body: Option<Response>,
    },
    /// A refusal that promises that nothing was done.
    Refused(Refusal),
    /// Nothing that says what happened.
    Unknown,
}

/// Refusals that follow from the state, so that a model can tell whether they are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// "required revision has been compacted".
    Compacted,
    /// "required revision is a future revision".
    Future,
    /// "key not found", of a put that keeps value or lease.
    KeyNotFound,
    /// "requested lease not found".
    LeaseNotFound,
    /// "lease already exists".
    LeaseExists,
    /// "database space exceeded" while the alarm was on already: nothing was done. With a quota the write that raises the alarm is
    /// done and answered like this too, so a recorder that cannot tell the two apart notes [`Outcome::Unknown`].
    NoSpace,
    /// One that follows from no state: too many requests, a stopped server that took nothing.
    Unavailable,
}

/// What contradicts what.
pub type Violation = String;

impl Call {
    /// The answer's revision, if there was one.
    #[must_use]
    pub fn revision(&self) -> Option<i64> {
        match self.outcome {
            Outcome::Done { revision, .. } => Some(revision),
            _ => None,
        }
    }

    /// Whether its answer shows that it made a revision: exactly then it is alone at that revision.
    #[must_use]
    pub fn wrote(&self) -> bool {
        match &self.outcome {
            Outcome::Done {
                body: Some(body), ..
            } => writes(body),
            _ => false,
        }
    }

    /// Whether it may be answered from an old state.
    #[must_use]
    pub fn is_serializable(&self) -> bool {
        matches!(&self.request, Request::Op(op) if serializable(op))
    }

    /// Whether it can change the key space.
    #[must_use]
    pub fn may_write(&self) -> bool {
        matches!(&self.request, Request::Op(op) if may_write(op))
    }
}

fn writes(body: &Response) -> bool {
    match body {
        Response::ResponseRange(_) => false,
        Response::ResponsePut(_) => true,
        Response::ResponseDeleteRange(deleted) => deleted.deleted > 0,
        Response::ResponseTxn(txn) => {
            let bodies = txn.responses.iter().filter_map(|op| op.response.as_ref());
            bodies.into_iter().any(writes)
        }
    }
}

fn serializable(op: &Op) -> bool {
    match op {
        Op::RequestRange(range) => range.serializable,
        Op::RequestPut(_) | Op::RequestDeleteRange(_) => false,
        // etcd reads a read-only transaction from any state if all its ranges allow it, and looks at the comparisons there.
        Op::RequestTxn(txn) => {
            let mut ops = txn.success.iter().chain(&txn.failure).peekable();
            ops.peek().is_some()
                && ops
                    .filter_map(|op| op.request.as_ref())
                    .all(|op| matches!(op, Op::RequestRange(range) if range.serializable))
        }
    }
}

fn may_write(op: &Op) -> bool {
    match op {
        Op::RequestRange(_) => false,
        Op::RequestPut(_) | Op::RequestDeleteRange(_) => true,
        Op::RequestTxn(txn) => {
            let ops = txn.success.iter().chain(&txn.failure);
            ops.filter_map(|op| op.request.as_ref()).any(may_write)
        }
    }
}

/// The answer without the headers, which repeat what the outermost one says.
#[must_use]
pub fn without_headers(mut body: Response) -> Response {
    match &mut body {
        Response::ResponseRange(it) => it.header = None,
        Response::ResponsePut(it) => it.header = None,
        Response::ResponseDeleteRange(it) => it.header = None,
        Response::ResponseTxn(it) => {
            it.header = None;
            for op in &mut it.responses {
                op.response = op.response.take().map(without_headers);
            }
        }
    }
    body
}
