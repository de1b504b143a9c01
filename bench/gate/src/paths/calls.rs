//! Both ends of a gRPC connection without a socket.

use std::hint::black_box;
use std::time::{Duration, Instant};

use basalt_net::grpc::client::{Answered, Client, Template};
use basalt_net::grpc::{
    Answers, Connection, Metadata, Method, Request, ServerConfig, Sink, Status,
};
use basalt_pb::hot::RangeRequest;

use crate::cpu_time;

/// Calls that reach a server in one read when it is busy.
pub const CALLS: u64 = 100;

const VALUE: [u8; 256] = [b'v'; 256];

/// Answers every call with as many bytes as a get of a 256-byte value.
struct Echo;

impl Sink for Echo {
    fn method(&self, _path: &[u8]) -> Method {
        Method::OneRequest
    }

    fn on_request(&mut self, answers: &mut Answers, stream: u32, request: Request<'_>) {
        black_box(request.message.len());
        answers.reply(stream, |out| {
            out.extend_from_slice(&[1; 60]);
            out.extend_from_slice(&VALUE);
        });
    }

    fn on_end(&mut self, _answers: &mut Answers, _stream: u32) {}

    fn on_cancel(&mut self, _answers: &mut Answers, _stream: u32) {}

    fn on_writable(&mut self, _answers: &mut Answers, _stream: u32) {}
}

#[derive(Default)]
struct Ended {
    calls: u64,
}

impl Answered for Ended {
    fn on_message(&mut self, _stream: u32, message: &[u8]) {
        black_box(message.len());
    }

    fn on_status(&mut self, _stream: u32, status: &Status, _trailers: &Metadata) {
        assert!(*status == Status::OK);
        self.calls += 1;
    }
}

/// Both ends of one connection; what one has to say is handed to the other.
pub struct Pair {
    server: Connection,
    client: Client,
    template: Template,
    request: Vec<u8>,
    ended: Ended,
    now: Instant,
}

impl Pair {
    /// Connected; nothing was said yet.
    #[must_use]
    pub fn new() -> Self {
        let now = Instant::now();
        let mut request = Vec::new();
        RangeRequest {
            key: b"01234567",
            ..RangeRequest::default()
        }
        .write(&mut request);
        Self {
            server: Connection::new(&ServerConfig::default(), now),
            client: Client::new(1 << 20, now),
            template: Template::new("/etcdserverpb.KV/Range", "127.0.0.1:2379", &[], None),
            request,
            ended: Ended::default(),
            now,
        }
    }

    /// Calls that were answered so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.ended.calls
    }

    /// One turn of a busy server, `CALLS` calls: the CPU time that its end took, and that the client's end took.
    ///
    /// # Panics
    /// When the two do not understand each other.
    pub fn turn(&mut self) -> (Duration, Duration) {
        let began = cpu_time();
        for _ in 0..CALLS {
            self.client
                .call(&self.template, |out| out.extend_from_slice(&self.request))
                .expect("streams are not limited");
        }
        self.client.flush(self.now, &mut self.ended);
        let sent = cpu_time();
        self.server.recv(self.client.out(), self.now, &mut Echo);
        self.server.flush(self.now, &mut Echo);
        let answered = cpu_time();
        let bytes = self.client.out().len();
        self.client.advance(bytes);
        self.client
            .recv(self.server.out(), self.now, &mut self.ended);
        let bytes = self.server.out().len();
        self.server.advance(bytes);
        let heard = cpu_time();
        (answered - sent, (sent - began) + (heard - answered))
    }
}

impl Default for Pair {
    fn default() -> Self {
        Self::new()
    }
}
