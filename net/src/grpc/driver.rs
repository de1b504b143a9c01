use super::call::{Answers, Call, Grpc, Phase};
use super::connection::Sink;
use super::framing::{self, Next, PREFIX_BYTES};
use super::head::{Head, Verdict};
use super::{Code, Opening, Request, Status};
use crate::h2::{self, ErrorCode, Events, StreamKey};
use crate::hpack::Fields;
use crate::limits::{KEPT_BUFFER_BYTES_MAX, PARTIAL_REQUEST_BYTES_MAX};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What all calls of a connection share.
#[derive(Debug)]
pub(super) struct CallState {
    message_bytes_max: usize,
    pub(super) now: Instant,
    /// No open call has an earlier deadline. It may be too early, never too late.
    pub(super) earliest_deadline: Option<Instant>,
    /// At least the bytes of all partial messages; counted anew when it reaches its bound.
    partial_bytes: usize,
    /// Lent to a call whose message came in pieces while the service reads it.
    whole: Vec<u8>,
    inflated: Vec<u8>,
}

impl CallState {
    pub(super) fn new(message_bytes_max: usize, now: Instant) -> CallState {
        CallState {
            message_bytes_max,
            now,
            earliest_deadline: None,
            partial_bytes: 0,
            whole: Vec::new(),
            inflated: Vec::new(),
        }
    }

    pub(super) fn trim(&mut self) {
        self.whole = Vec::new();
        self.inflated = Vec::new();
    }

    pub(super) fn expect_deadline(&mut self, deadline: Instant) {
        self.earliest_deadline = Some(
            self.earliest_deadline
                .map_or(deadline, |known| known.min(deadline)),
        );
    }
}

/// Hears the events of HTTP/2 and makes calls of them.
pub(super) struct Driver<'a, S> {
    pub(super) calls: &'a mut CallState,
    pub(super) sink: &'a mut S,
}

impl<S: Sink> Events<Grpc> for Driver<'_, S> {
    fn read_head(&mut self, fields: &Fields, head: &mut Head) {
        head.read(fields, |path| self.sink.method(path));
    }

    fn on_headers(
        &mut self,
        answers: &mut Answers,
        key: StreamKey,
        head: &Arc<Head>,
        is_end: bool,
    ) {
        let Some(call) = answers.state(key) else {
            return;
        };
        match &head.verdict {
            Verdict::OneRequest | Verdict::ServerStreaming | Verdict::ManyRequests => {}
            Verdict::Refuse(http_status, status) => {
                answers.refuse_call(key, *http_status, status);
                return;
            }
            Verdict::NotGrpc(status) if is_end => {
                answers.refuse_call(key, NOT_GRPC_HTTP_STATUS, status);
                return;
            }
            Verdict::NotGrpc(_) => {
                call.phase = Phase::NotGrpc;
                return;
            }
        }
        call.has_own_headers = head.answer.is_some();
        call.is_gzip = head.is_gzip;
        if let Some(timeout) = head.timeout {
            if timeout <= TIMEOUT_OVER {
                let status = Status::new(Code::DeadlineExceeded, "context deadline exceeded");
                answers.refuse_call(key, 200, &status);
                return;
            }
            // A deadline beyond the end of the clock is none.
            call.deadline = self.calls.now.checked_add(timeout);
            if let Some(deadline) = call.deadline {
                self.calls.expect_deadline(deadline);
            }
        }
        if head.verdict == Verdict::ManyRequests {
            call.phase = Phase::Receiving;
            let opening = Opening {
                path: &head.path,
                meta: &head.meta,
            };
            self.sink.on_open(answers, key.id, opening);
        }
        if is_end {
            self.end(answers, key, b"");
        }
    }

    fn on_data(&mut self, answers: &mut Answers, key: StreamKey, data: &[u8], is_end: bool) {
        let Some(call) = answers.state(key) else {
            return;
        };
        match call.phase {
            Phase::Waiting | Phase::Receiving => {}
            Phase::Received | Phase::Over => return,
            Phase::NotGrpc => {
                if let (true, Some(head)) = (is_end, answers.head(key).cloned())
                    && let Verdict::NotGrpc(status) = &head.verdict
                {
                    answers.refuse_call(key, NOT_GRPC_HTTP_STATUS, status);
                }
                return;
            }
        }
        if call.partial.is_empty() {
            self.take_messages(answers, key, data, is_end);
            return;
        }
        call.partial.extend_from_slice(data);
        self.calls.partial_bytes += data.len();
        if is_end || matches!(self.next(&call.partial), Ok(Next::Message { .. }) | Err(_)) {
            // The service reads from our buffer, the call keeps an empty one.
            let mut whole =
                std::mem::replace(&mut call.partial, std::mem::take(&mut self.calls.whole));
            self.calls.partial_bytes = self.calls.partial_bytes.saturating_sub(whole.len());
            self.take_messages(answers, key, &whole, is_end);
            h2::reuse(&mut whole);
            self.calls.whole = whole;
        } else {
            self.check_partial_bytes(answers, key);
        }
    }

    fn on_reset(&mut self, answers: &mut Answers, key: StreamKey, _: ErrorCode) {
        let is_known = answers.state(key).is_some_and(|call| call.is_known());
        if is_known {
            self.sink.on_cancel(answers, key.id);
        }
    }

    fn on_writable(&mut self, answers: &mut Answers, key: StreamKey) {
        self.sink.on_writable(answers, key.id);
    }
}

impl<S: Sink> Driver<'_, S> {
    fn next<'b>(&self, bytes: &'b [u8]) -> Result<Next<'b>, Status> {
        framing::next_message(bytes, self.calls.message_bytes_max)
    }

    /// Hands out every whole message of `bytes` and keeps what is left.
    fn take_messages(&mut self, answers: &mut Answers, key: StreamKey, bytes: &[u8], is_end: bool) {
        let Some(head) = answers.head(key).cloned() else {
            return;
        };
        if head.verdict == Verdict::ServerStreaming {
            return self.take_only_message(answers, key, &head, bytes, is_end);
        }
        let is_single = head.verdict == Verdict::OneRequest;
        let mut rest = bytes;
        loop {
            let (flag, message, after) = match self.next(rest) {
                Ok(Next::Message {
                    flag,
                    message,
                    rest,
                }) => (flag, message, rest),
                Ok(Next::Partial { .. }) => break,
                Err(status) => return self.refuse(answers, key, status),
            };
            rest = after;
            let is_last = is_end && (is_single || rest.is_empty());
            if let Err(status) = self.hand_out(answers, key, &head, flag, message, is_last) {
                return self.refuse(answers, key, status);
            }
            let Some(call) = answers.state(key) else {
                return;
            };
            if !matches!(call.phase, Phase::Waiting | Phase::Receiving) {
                return;
            }
        }
        if is_end {
            self.end(answers, key, rest);
        } else {
            self.keep(answers, key, rest);
        }
    }

    /// A server-streaming method is handed its request when the client has ended, and only then, as grpc-go does.
    fn take_only_message(
        &mut self,
        answers: &mut Answers,
        key: StreamKey,
        head: &Head,
        bytes: &[u8],
        is_end: bool,
    ) {
        let (flag, message, rest) = match self.next(bytes) {
            Ok(Next::Message {
                flag,
                message,
                rest,
            }) => (flag, message, rest),
            Ok(Next::Partial { .. }) if is_end => return self.end(answers, key, bytes),
            Ok(Next::Partial { .. }) => return self.keep(answers, key, bytes),
            Err(status) => return self.refuse(answers, key, status),
        };
        let result = match self.next(rest) {
            Err(status) => Err(status),
            Ok(Next::Message { .. }) => {
                let text = "cardinality violation: received multiple request messages for non-client-streaming RPC";
                Err(Status::new(Code::Internal, text))
            }
            Ok(Next::Partial { .. }) if is_end && rest.len() >= PREFIX_BYTES => {
                Err(Status::new(Code::Internal, "unexpected EOF"))
            }
            Ok(Next::Partial { .. }) if is_end => {
                self.hand_out(answers, key, head, flag, message, true)
            }
            Ok(Next::Partial { .. }) => return self.keep(answers, key, bytes),
        };
        if let Err(status) = result {
            self.refuse(answers, key, status);
        }
    }

    /// The beginning of a message waits for its end.
    fn keep(&mut self, answers: &mut Answers, key: StreamKey, rest: &[u8]) {
        if let Some(call) = answers.state(key).filter(|_| !rest.is_empty()) {
            call.partial.extend_from_slice(rest);
            self.calls.partial_bytes += rest.len();
            self.check_partial_bytes(answers, key);
        }
    }

    fn hand_out(
        &mut self,
        answers: &mut Answers,
        key: StreamKey,
        head: &Head,
        flag: u8,
        message: &[u8],
        is_last: bool,
    ) -> Result<(), Status> {
        let is_single = head.verdict != Verdict::ManyRequests;
        let mut request = Request {
            path: &head.path,
            message,
            meta: &head.meta,
            timeout: head.timeout,
            last: is_last,
        };
        match flag {
            0 => {}
            1 if head.is_gzip => {
                framing::inflate(
                    message,
                    &mut self.calls.inflated,
                    self.calls.message_bytes_max,
                )?;
                request.message = &self.calls.inflated;
            }
            1 => {
                let text = "grpc: compressed flag set with identity or empty encoding";
                return Err(Status::new(Code::Internal, text));
            }
            other => {
                let text = format!("grpc: received unexpected payload format {other}");
                return Err(Status::new(Code::Internal, text));
            }
        }
        if let Some(call) = answers.state(key) {
            call.phase = if is_single {
                Phase::Received
            } else {
                Phase::Receiving
            };
        }
        self.sink.on_request(answers, key.id, request);
        if self.calls.inflated.capacity() > KEPT_BUFFER_BYTES_MAX {
            self.calls.inflated = Vec::new();
        }
        Ok(())
    }

    /// The client has ended its side; `rest` is what it left of a message.
    fn end(&mut self, answers: &mut Answers, key: StreamKey, rest: &[u8]) {
        let Some(head) = answers.head(key).cloned() else {
            return;
        };
        // What grpc-go makes of an end where a message should be. A prefix that is cut counts as nothing.
        let is_cut = rest.len() >= PREFIX_BYTES;
        let status = match head.verdict {
            Verdict::OneRequest if is_cut => Status::new(Code::Unknown, "unexpected EOF"),
            Verdict::OneRequest => Status::new(Code::Unknown, "EOF"),
            _ if is_cut => Status::new(Code::Internal, "unexpected EOF"),
            Verdict::ServerStreaming => {
                let text = "cardinality violation: received no request message from non-client-streaming RPC";
                Status::new(Code::Internal, text)
            }
            _ => {
                if let Some(call) = answers.state(key) {
                    call.phase = Phase::Received;
                }
                self.sink.on_end(answers, key.id);
                return;
            }
        };
        self.refuse(answers, key, status);
    }

    /// Ends a call that the client has spoilt; the service hears of it if it knew the call.
    fn refuse(&mut self, answers: &mut Answers, key: StreamKey, status: Status) {
        let is_known = answers.state(key).is_some_and(|call| call.is_known());
        if is_known {
            self.sink.on_cancel(answers, key.id);
        }
        answers.finish(key.id, status);
    }

    fn check_partial_bytes(&mut self, answers: &mut Answers, key: StreamKey) {
        if self.calls.partial_bytes <= PARTIAL_REQUEST_BYTES_MAX {
            return;
        }
        let keys: Vec<StreamKey> = answers.keys().collect();
        let held = |answers: &mut Answers, key| {
            answers
                .state(key)
                .map_or(0, |call: &mut Call| call.partial.len())
        };
        self.calls.partial_bytes = keys.into_iter().map(|key| held(answers, key)).sum();
        if self.calls.partial_bytes > PARTIAL_REQUEST_BYTES_MAX {
            let text = "grpc: too many bytes in unfinished requests of one connection";
            self.refuse(answers, key, Status::new(Code::ResourceExhausted, text));
        }
    }
}

/// What the client sent is not gRPC: Unsupported Media Type.
const NOT_GRPC_HTTP_STATUS: u16 = 415;

/// A call that grants no more than this is over before it is looked at.
const TIMEOUT_OVER: Duration = Duration::from_micros(1);
