//! What is kept of a call, and how a service's answer becomes frames.

use super::framing::{put_beginning, put_gzip_message, put_message};
use super::head::{ANSWER_HEADERS, Head, OK_TRAILERS, put_status, trailers_only};
use super::{Flow, Status};
use crate::h2::{self, Backlog, Shared, StreamKey, Streams};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

/// gRPC's server side of HTTP/2.
#[derive(Debug)]
pub struct Grpc;

/// One call of a server.
#[derive(Debug, Default)]
pub struct Call {
    pub(super) phase: Phase,
    /// The beginning of a message whose end has not come, its prefix included.
    pub(super) partial: Vec<u8>,
    pub(super) deadline: Option<Instant>,
    /// The answer's header block is not the plain one.
    pub(super) has_own_headers: bool,
    pub(super) is_gzip: bool,
    /// The answer's header block is sent.
    has_answered: bool,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    /// The service has heard nothing of it.
    #[default]
    Waiting,
    /// A method with many requests: the service knows of it.
    Receiving,
    /// The service has all it will get; what may still come is ignored.
    Received,
    /// Its answer has ended, though some of it may still be queued: the service hears nothing more of it.
    Over,
    /// Not gRPC: refused once the client has ended its side, as a server of plain HTTP would.
    NotGrpc,
}

impl Call {
    /// Has the service heard of it?
    pub(super) fn is_known(&self) -> bool {
        matches!(self.phase, Phase::Receiving | Phase::Received)
    }
}

impl h2::Protocol for Grpc {
    type Head = Head;
    type Stream = Call;

    fn head_bytes(head: &Head) -> usize {
        head.bytes()
    }

    fn recycle(call: &mut Call) {
        call.phase = Phase::Waiting;
        h2::reuse(&mut call.partial);
        call.deadline = None;
        call.has_own_headers = false;
        call.is_gzip = false;
        call.has_answered = false;
    }
}

/// The answering half of a server's connection. A stream that is gone or ended is ignored.
pub type Answers = Streams<Grpc>;

impl Streams<Grpc> {
    /// Ends a call with status OK and the one message that `write` appends; it must only append.
    pub fn reply(&mut self, stream: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(key) = self.find(stream) else { return };
        let Some(call) = self.state(key) else { return };
        if call.has_own_headers || call.has_answered {
            self.send(stream, write);
            self.finish(stream, Status::OK);
            return;
        }
        call.has_answered = true;
        call.phase = Phase::Over;
        self.answer(
            key,
            ANSWER_HEADERS,
            |out| put_message(out, write),
            OK_TRAILERS,
        );
    }

    /// Ends a call without a message.
    pub fn fail(&mut self, stream: u32, status: Status) {
        self.finish(stream, status);
    }

    /// Sends one message of a streaming answer. It is accepted even when `Flow::Full` is returned.
    pub fn send(&mut self, stream: u32, write: impl FnOnce(&mut Vec<u8>)) -> Flow {
        let Some(key) = self.find(stream) else {
            return Flow::Ready;
        };
        self.begin_answer(key);
        let is_gzip = self.state(key).is_some_and(|call| call.is_gzip);
        let backlog = if is_gzip {
            self.data(key, |out| put_gzip_message(out, write))
        } else {
            self.data(key, |out| put_message(out, write))
        };
        match backlog {
            Backlog::Full => Flow::Full,
            Backlog::None | Backlog::Some => Flow::Ready,
        }
    }

    /// The same for a message that ends with `shared`, which many calls are sent.
    pub fn send_shared(
        &mut self,
        stream: u32,
        write: impl FnOnce(&mut Vec<u8>),
        shared: Shared,
    ) -> Flow {
        let Some(key) = self.find(stream) else {
            return Flow::Ready;
        };
        if self.state(key).is_some_and(|call| call.is_gzip) {
            return self.send(stream, |out| {
                write(out);
                out.extend_from_slice(shared.bytes());
            });
        }
        self.begin_answer(key);
        let rest = shared.len();
        match self.shared_data(key, |out| put_beginning(out, write, rest), shared) {
            Backlog::Full => Flow::Full,
            Backlog::None | Backlog::Some => Flow::Ready,
        }
    }

    /// Ends an answer, after all that was sent.
    pub fn finish(&mut self, stream: u32, status: Status) {
        let Some(key) = self.find(stream) else { return };
        let Some(call) = self.state(key) else { return };
        call.phase = Phase::Over;
        let has_answered = call.has_answered;
        if !has_answered {
            self.refuse_call(key, 200, &status);
        } else if status == Status::OK {
            self.end(key, Some(Cow::Borrowed(OK_TRAILERS)));
        } else {
            let mut block = Vec::new();
            put_status(&mut block, &status);
            self.end(key, Some(Cow::Owned(block)));
        }
    }

    /// An answer of trailers only.
    pub(super) fn refuse_call(&mut self, key: StreamKey, http_status: u16, status: &Status) {
        self.headers(key, &trailers_only(http_status, status), true);
    }

    fn begin_answer(&mut self, key: StreamKey) {
        let Some(call) = self.state(key).filter(|call| !call.has_answered) else {
            return;
        };
        call.has_answered = true;
        let head: Option<Arc<Head>> = call
            .has_own_headers
            .then(|| self.head(key).cloned())
            .flatten();
        match head.as_ref().and_then(|head| head.answer.as_deref()) {
            Some(block) => self.headers(key, block, false),
            None => self.headers(key, ANSWER_HEADERS, false),
        }
    }
}
