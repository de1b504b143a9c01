//! What bytes cost before they mean anything: frames, HPACK, protobuf, and whole gRPC calls through both ends of a connection without a socket.

mod cpu;

use std::hint::black_box;
use std::time::Instant;

use basalt_gate::paths::calls::{CALLS, Pair};
use basalt_net::grpc::client::{Answered, Client, Template};
use basalt_net::grpc::{Metadata, Status};
use basalt_net::h2::frame::{FrameHeader, HEADER_BYTES};
use basalt_net::hpack::{Decoder, Encoder, Fields};
use basalt_net::sniff::PREFACE;
use basalt_pb::hot::{
    Header, KeyValue, PutRequest, RangeRequest, put_int_field, write_header, write_key_value_field,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use crate::cpu::CpuTime;

const LIST_BYTES_MAX: usize = 16 << 10;
const FIELDS_MAX: usize = 100;
const VALUE: [u8; 256] = [b'v'; 256];

/// Keys of one answer: a get and a list.
const ANSWER_KEYS: [u64; 2] = [1, 1_000];

/// Numbers of `RangeResponse`'s fields.
const KVS: u32 = 2;
const COUNT: u32 = 4;

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

/// A `RangeResponse` as the server writes it: field by field from borrowed records, with no message between.
fn answers(c: &mut Criterion<CpuTime>) {
    let header = Header {
        cluster_id: 0xcdf8_181e_3227_7545,
        member_id: 0x8e9e_05c5_2164_694d,
        revision: 1_000_000,
        raft_term: 2,
    };
    let kv = KeyValue {
        key: b"01234567",
        create_revision: 900_000,
        mod_revision: 999_999,
        version: 7,
        value: &VALUE,
        lease: 0,
    };
    let mut group = c.benchmark_group("write_range_response");
    for keys in ANSWER_KEYS {
        group.throughput(Throughput::Elements(keys));
        let mut out = Vec::new();
        group.bench_function(BenchmarkId::from_parameter(keys), |b| {
            b.iter(|| {
                out.clear();
                write_header(&mut out, black_box(&header));
                for _ in 0..keys {
                    write_key_value_field(&mut out, KVS, black_box(&kv));
                }
                put_int_field(&mut out, COUNT, keys as i64);
                black_box(out.len())
            });
        });
    }
    group.finish();
}

/// The frame headers of what a busy server reads at once, without looking at what the frames carry.
fn frames(c: &mut Criterion<CpuTime>) {
    let mut client = Client::new(1 << 20, Instant::now());
    let template = Template::new("/etcdserverpb.KV/Put", "127.0.0.1:2379", &[], None);
    for _ in 0..CALLS {
        client
            .call(&template, |out| out.extend_from_slice(&VALUE))
            .expect("streams are not limited");
    }
    client.flush(Instant::now(), &mut Unheard);
    let bytes = &client.out()[PREFACE.len()..];
    let found = walk(bytes);
    assert!(found.0 > 2 * CALLS);
    assert!(found.1 == bytes.len());
    let mut group = c.benchmark_group("frame");
    group.throughput(Throughput::Elements(found.0));
    group.bench_function("read_header", |b| b.iter(|| walk(black_box(bytes))));
    group.finish();
}

/// How many whole frames there are, and the bytes that they take.
fn walk(bytes: &[u8]) -> (u64, usize) {
    let (mut frames, mut at) = (0, 0);
    while let Some((header, rest)) = bytes[at..].split_first_chunk::<HEADER_BYTES>() {
        let payload_bytes = black_box(FrameHeader::read(header)).payload_bytes;
        if rest.len() < payload_bytes {
            break;
        }
        frames += 1;
        at += HEADER_BYTES + payload_bytes;
    }
    (frames, at)
}

/// Hears nothing: nobody answers.
struct Unheard;

impl Answered for Unheard {
    fn on_message(&mut self, _stream: u32, _message: &[u8]) {}

    fn on_status(&mut self, _stream: u32, _status: &Status, _trailers: &Metadata) {}
}

fn calls(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("grpc_100_calls");
    group.throughput(Throughput::Elements(CALLS));
    for side in ["server", "client"] {
        group.bench_function(side, |b| {
            let mut pair = Pair::new();
            pair.turn();
            b.iter_custom(|rounds| {
                let before = pair.answered();
                let spent = (0..rounds)
                    .map(|_| pair.turn())
                    .map(|(server, client)| if side == "server" { server } else { client })
                    .sum();
                assert!(pair.answered() - before == rounds * CALLS);
                spent
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = frames, hpack, messages, answers, calls
}
criterion_main!(benches);
