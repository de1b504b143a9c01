//! What bytes cost before they mean anything: HPACK, protobuf, and whole gRPC calls through both ends of a connection without a socket.

mod cpu;

use std::hint::black_box;
use std::time::{Duration, Instant};

use basalt_net::grpc::client::{Answered, Client, Template};
use basalt_net::grpc::{
    Answers, Connection, Metadata, Method, Request, ServerConfig, Sink, Status,
};
use basalt_net::hpack::{Decoder, Encoder, Fields};
use basalt_pb::hot::{PutRequest, RangeRequest};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use crate::cpu::{CpuTime, cpu_time};

/// Calls that reach a server in one read when it is busy.
const CALLS: u64 = 100;
const LIST_BYTES_MAX: usize = 16 << 10;
const FIELDS_MAX: usize = 100;
const VALUE: [u8; 256] = [b'v'; 256];

/// The header block that a Go client sends for its first and for every later call.
fn hpack(c: &mut Criterion<CpuTime>) {
    let fields: [(&[u8], &[u8]); 8] = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/etcdserverpb.KV/Range"),
        (b":authority", b"127.0.0.1:2379"),
        (b"content-type", b"application/grpc"),
        (b"user-agent", b"grpc-go/1.83.2"),
        (b"te", b"trailers"),
        (b"grpc-accept-encoding", b"gzip"),
    ];
    let mut encoder = Encoder::new(4096, true);
    let (mut first, mut later) = (Vec::new(), Vec::new());
    fields
        .iter()
        .for_each(|(name, value)| encoder.field(&mut first, name, value));
    fields
        .iter()
        .for_each(|(name, value)| encoder.field(&mut later, name, value));
    let mut group = c.benchmark_group("hpack");
    group.bench_function("decode_first_block", |b| {
        b.iter(|| {
            let mut decoder = Decoder::new(4096);
            let mut fields = Fields::default();
            decoder
                .decode(black_box(&first), &mut fields, LIST_BYTES_MAX, FIELDS_MAX)
                .expect("a good block");
            black_box(fields.len())
        });
    });
    let mut decoder = Decoder::new(4096);
    let mut fields = Fields::default();
    decoder
        .decode(&first, &mut fields, LIST_BYTES_MAX, FIELDS_MAX)
        .expect("a good block");
    group.bench_function("decode_later_block", |b| {
        b.iter(|| {
            decoder
                .decode(black_box(&later), &mut fields, LIST_BYTES_MAX, FIELDS_MAX)
                .expect("a good block");
            black_box(fields.len())
        });
    });
    group.finish();
}

fn messages(c: &mut Criterion<CpuTime>) {
    let put = PutRequest {
        key: b"01234567",
        value: &VALUE,
        ..PutRequest::default()
    };
    let range = RangeRequest {
        key: b"01234567",
        serializable: true,
        ..RangeRequest::default()
    };
    let (mut put_bytes, mut range_bytes) = (Vec::new(), Vec::new());
    put.write(&mut put_bytes);
    range.write(&mut range_bytes);
    let mut group = c.benchmark_group("protobuf");
    group.bench_function("read_put", |b| {
        b.iter(|| {
            PutRequest::read(black_box(&put_bytes))
                .expect("a good message")
                .value
                .len()
        });
    });
    group.bench_function("read_range", |b| {
        b.iter(|| {
            RangeRequest::read(black_box(&range_bytes))
                .expect("a good message")
                .key
                .len()
        });
    });
    group.finish();
}

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
struct Pair {
    server: Connection,
    client: Client,
    template: Template,
    request: Vec<u8>,
    ended: Ended,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
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

    /// One turn of a busy server: the time that its end took, and that the client's end took.
    fn turn(&mut self) -> (Duration, Duration) {
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

fn calls(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("grpc_100_calls");
    group.throughput(Throughput::Elements(CALLS));
    for side in ["server", "client"] {
        group.bench_function(side, |b| {
            let mut pair = Pair::new();
            pair.turn();
            b.iter_custom(|rounds| {
                let before = pair.ended.calls;
                let spent = (0..rounds)
                    .map(|_| pair.turn())
                    .map(|(server, client)| if side == "server" { server } else { client })
                    .sum();
                assert!(pair.ended.calls - before == rounds * CALLS);
                spent
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = hpack, messages, calls
}
criterion_main!(benches);
