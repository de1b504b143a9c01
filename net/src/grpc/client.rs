//! The asking side: what the load generator, the tests and the control program need of gRPC.

use super::framing::{self, Next, put_message};
use super::metadata::encode_base64;
use super::{Code, Metadata, Status, percent_decode, timeout};
use crate::h2::{self, Backlog, ErrorCode, Events, KeepAlive, Role, Settings, StreamKey, Streams};
use crate::hpack::{Fields, encode};
use crate::limits::{Limits, STREAM_WINDOW_BYTES_MAX};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request's header block, made once and sent for every call of a method. It touches no table.
#[derive(Debug, Clone)]
pub struct Template {
    block: Vec<u8>,
}

impl Template {
    /// Calls `path`, such as `/etcdserverpb.KV/Put`, at `authority`. Values of names that end in `-bin` are coded here.
    pub fn new(
        path: &str,
        authority: &str,
        meta: &[(&str, &[u8])],
        timeout: Option<Duration>,
    ) -> Template {
        let mut block = Vec::new();
        let mut put =
            |name: &str, value: &[u8]| encode::literal_huffman(&mut block, name.as_bytes(), value);
        put(":method", b"POST");
        put(":scheme", b"http");
        put(":path", path.as_bytes());
        put(":authority", authority.as_bytes());
        put("content-type", b"application/grpc");
        put("te", b"trailers");
        if let Some(timeout) = timeout {
            let mut value = Vec::new();
            timeout::put(&mut value, timeout);
            put("grpc-timeout", &value);
        }
        for &(name, value) in meta {
            if name.ends_with("-bin") {
                let mut coded = Vec::new();
                encode_base64(value, &mut coded);
                put(name, &coded);
            } else {
                put(name, value);
            }
        }
        Template { block }
    }
}

impl Template {
    /// A block that the caller has coded. It may use and change the connection's table; then it has to be sent where the
    /// caller's encoder stands, once if it changes the table.
    pub fn coded(block: Vec<u8>) -> Template {
        Template { block }
    }
}

/// Who hears of answers.
pub trait Answered {
    /// One message of the answer to the call on this stream.
    fn on_message(&mut self, stream: u32, message: &[u8]);

    /// The call is over. Also when the stream was reset or the connection lost; then the code says which.
    fn on_status(&mut self, stream: u32, status: &Status, trailers: &Metadata);
}

/// A client's side of one gRPC connection, without its socket.
#[derive(Debug)]
pub struct Client {
    h2: h2::Connection<Asking>,
    message_bytes_max: usize,
}

impl Client {
    /// The preface and our settings wait in `out`.
    pub fn new(message_bytes_max: usize, now: Instant) -> Client {
        let config = h2::Config {
            role: Role::Client,
            settings: Settings {
                initial_window: STREAM_WINDOW_BYTES_MAX,
                ..Settings::default()
            },
            limits: Limits::default(),
            keep_alive: KeepAlive {
                interval: None,
                ..KeepAlive::default()
            },
        };
        Client {
            h2: h2::Connection::new(&config, now),
            message_bytes_max,
        }
    }

    /// Sends a call with one message. `None`: no more streams are allowed now.
    pub fn call(&mut self, template: &Template, write: impl FnOnce(&mut Vec<u8>)) -> Option<u32> {
        let key = self.h2.open(&template.block, false)?;
        self.h2
            .streams()
            .last_data(key, |out| put_message(out, write));
        Some(key.id)
    }

    /// Opens a call with any number of messages, which `send` and `end` complete.
    pub fn open(&mut self, template: &Template) -> Option<u32> {
        self.h2.open(&template.block, false).map(|key| key.id)
    }

    /// Sends one message; true when more is welcome at once.
    pub fn send(&mut self, stream: u32, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let streams = self.h2.streams();
        let Some(key) = streams.find(stream) else {
            return true;
        };
        streams.data(key, |out| put_message(out, write)) != Backlog::Full
    }

    /// Sends bytes as they are, without a prefix: for tests of what a server makes of them.
    pub fn send_raw(&mut self, stream: u32, bytes: &[u8]) {
        let streams = self.h2.streams();
        if let Some(key) = streams.find(stream) {
            streams.data(key, |out| out.extend_from_slice(bytes));
        }
    }

    /// Ends our side of a call.
    pub fn end(&mut self, stream: u32) {
        let streams = self.h2.streams();
        if let Some(key) = streams.find(stream) {
            streams.end(key, None);
        }
    }

    /// Gives a call up. Its end is not reported.
    pub fn cancel(&mut self, stream: u32) {
        let streams = self.h2.streams();
        if let Some(key) = streams.find(stream) {
            streams.reset(key, ErrorCode::Cancel);
        }
    }

    /// Takes all of `bytes`; whole messages reach `answered` before it returns.
    pub fn recv(&mut self, bytes: &[u8], now: Instant, answered: &mut impl Answered) {
        let message_bytes_max = self.message_bytes_max;
        self.h2.recv(
            bytes,
            now,
            &mut Hearing {
                answered,
                message_bytes_max,
            },
        );
    }

    /// Moves queued messages into `out`. Before each write.
    pub fn flush(&mut self, now: Instant, answered: &mut impl Answered) {
        let message_bytes_max = self.message_bytes_max;
        self.h2.flush(
            now,
            &mut Hearing {
                answered,
                message_bytes_max,
            },
        );
    }

    /// Bytes for the socket.
    pub fn out(&self) -> &[u8] {
        self.h2.out()
    }

    /// So many of them are written.
    pub fn advance(&mut self, bytes: usize) {
        self.h2.advance(bytes);
    }

    /// After a flush and a write: would another flush find something?
    pub fn has_more(&self) -> bool {
        self.h2.has_more()
    }

    /// Why the connection ended, if it did so by an error.
    pub fn failure(&self) -> Option<h2::Reason> {
        self.h2.failure()
    }

    /// Calls that have not ended.
    pub fn open_calls(&self) -> usize {
        self.h2.open_streams()
    }

    /// The socket is gone: every open call ends as Unavailable.
    pub fn on_closed(&mut self, answered: &mut impl Answered) {
        let message_bytes_max = self.message_bytes_max;
        self.h2.on_closed(&mut Hearing {
            answered,
            message_bytes_max,
        });
    }
}

#[derive(Debug)]
struct Asking;

/// What a response's header block or its trailers say.
#[derive(Debug, Default)]
struct Answer {
    http_status: Option<u16>,
    code: Option<Code>,
    message: String,
    meta: Metadata,
}

#[derive(Debug, Default)]
struct Pending {
    partial: Vec<u8>,
    http_status: u16,
    is_over: bool,
}

impl h2::Protocol for Asking {
    type Head = Answer;
    type Stream = Pending;

    fn head_bytes(head: &Answer) -> usize {
        head.message.capacity() + head.meta.bytes()
    }

    fn recycle(pending: &mut Pending) {
        h2::reuse(&mut pending.partial);
        pending.http_status = 0;
        pending.is_over = false;
    }
}

struct Hearing<'a, A> {
    answered: &'a mut A,
    message_bytes_max: usize,
}

impl<A: Answered> Events<Asking> for Hearing<'_, A> {
    fn read_head(&mut self, fields: &Fields, answer: &mut Answer) {
        answer.http_status = None;
        answer.code = None;
        answer.message.clear();
        answer.meta.clear();
        for (name, value) in fields.iter() {
            match name {
                b":status" => {
                    answer.http_status = std::str::from_utf8(value)
                        .ok()
                        .and_then(|text| text.parse().ok())
                }
                b"grpc-status" => answer.code = Some(Code::from_wire(value)),
                b"grpc-message" => answer.message = percent_decode(value),
                _ => answer.meta.push(name, value),
            }
        }
    }

    fn on_headers(
        &mut self,
        streams: &mut Streams<Asking>,
        key: StreamKey,
        answer: &Arc<Answer>,
        is_end: bool,
    ) {
        let Some(pending) = streams.state(key) else {
            return;
        };
        if let Some(http_status) = answer.http_status {
            pending.http_status = http_status;
        }
        if !is_end {
            return;
        }
        let http_status = pending.http_status;
        let is_cut = !pending.partial.is_empty();
        let status = match answer.code {
            _ if is_cut => Status::new(Code::Internal, "answer ends inside a message"),
            Some(code) => Status::new(code, answer.message.clone()),
            None => Status::new(
                Code::Unknown,
                format!("answer without grpc-status, HTTP status {http_status}"),
            ),
        };
        self.over(streams, key, &status, &answer.meta);
    }

    fn on_data(
        &mut self,
        streams: &mut Streams<Asking>,
        key: StreamKey,
        data: &[u8],
        is_end: bool,
    ) {
        let Some(pending) = streams.state(key).filter(|pending| !pending.is_over) else {
            return;
        };
        let mut gathered = std::mem::take(&mut pending.partial);
        let mut rest = data;
        if !gathered.is_empty() {
            gathered.extend_from_slice(data);
            rest = &gathered;
        }
        loop {
            match framing::next_message(rest, self.message_bytes_max) {
                Ok(Next::Message {
                    message,
                    rest: after,
                    ..
                }) => {
                    self.answered.on_message(key.id, message);
                    rest = after;
                }
                Ok(Next::Partial { .. }) => break,
                Err(status) => {
                    self.over(streams, key, &status, &Metadata::default());
                    streams.reset(key, ErrorCode::Cancel);
                    return;
                }
            }
        }
        let left = rest.len();
        if gathered.is_empty() {
            gathered.extend_from_slice(&data[data.len() - left..]);
        } else if left == 0 {
            h2::reuse(&mut gathered);
        } else {
            // Nothing moves while one message is gathered: a long one comes in thousands of frames.
            gathered.drain(..gathered.len() - left);
        }
        if let Some(pending) = streams.state(key) {
            pending.partial = gathered;
        }
        if is_end {
            let status = Status::new(Code::Internal, "answer ends without trailers");
            self.over(streams, key, &status, &Metadata::default());
        }
    }

    fn on_reset(&mut self, streams: &mut Streams<Asking>, key: StreamKey, code: ErrorCode) {
        let code_of_call = match code {
            ErrorCode::NoError | ErrorCode::RefusedStream => Code::Unavailable,
            ErrorCode::Cancel => Code::Cancelled,
            ErrorCode::EnhanceYourCalm => Code::ResourceExhausted,
            _ => Code::Internal,
        };
        let status = Status::new(code_of_call, format!("stream reset: {code:?}"));
        self.over(streams, key, &status, &Metadata::default());
    }

    fn on_writable(&mut self, _: &mut Streams<Asking>, _: StreamKey) {}
}

impl<A: Answered> Hearing<'_, A> {
    /// Reports the end of a call, once.
    fn over(
        &mut self,
        streams: &mut Streams<Asking>,
        key: StreamKey,
        status: &Status,
        trailers: &Metadata,
    ) {
        let Some(pending) = streams.state(key) else {
            return;
        };
        if !std::mem::replace(&mut pending.is_over, true) {
            self.answered.on_status(key.id, status, trailers);
        }
        // The server may have answered before all was sent: nothing more is.
        if streams.is_remote_closed(key) {
            streams.stop(key);
        }
    }
}
