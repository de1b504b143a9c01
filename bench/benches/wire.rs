//! What bytes cost before they mean anything: HPACK, protobuf, and whole gRPC calls through both ends of a connection without a socket.

mod cpu;

use std::hint::black_box;

use basalt_gate::paths::calls::{CALLS, Pair};
use basalt_net::hpack::{Decoder, Encoder, Fields};
use basalt_pb::hot::{PutRequest, RangeRequest};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use crate::cpu::CpuTime;

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
    targets = hpack, messages, calls
}
criterion_main!(benches);
