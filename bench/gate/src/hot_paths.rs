//! One hot path, so many times, for callgrind to count: `hot-paths NAME TIMES`.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::process::ExitCode;

use basalt_engine::mvcc::{KeyRange, Reader, Resume, SliceBound, Store, Want};
use basalt_engine::types::LeaseId;
use basalt_gate::paths::calls::Pair;
use basalt_gate::paths::log::{Log, entries};
use basalt_gate::paths::store::{BATCH, VALUE, filled, key};

/// The server's allocator: a put is to a good part the copying and freeing of nodes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let times = arguments.next().and_then(|times| times.parse().ok());
    match (name.as_str(), times) {
        ("grpc-calls-100", Some(times)) => calls(times),
        ("wal-group-1", Some(times)) => group(times, 1),
        ("wal-group-100", Some(times)) => group(times, 100),
        ("store-put-100", Some(times)) => put(times),
        ("store-get", Some(times)) => get(times),
        ("store-scan-100", Some(times)) => scan(times),
        _ => {
            eprintln!("usage: hot-paths NAME TIMES; the names are those of the gate's baseline");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn calls(times: u64) {
    let mut pair = Pair::new();
    for _ in 0..times {
        black_box(pair.turn());
    }
}

fn group(times: u64, count: u32) {
    let (mut log, bytes) = (Log::new(), entries(count));
    for _ in 0..times {
        black_box(log.group(count, &bytes));
    }
}

fn put(times: u64) {
    let (mut store, _reader) = filled(KEYS);
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..times {
        for _ in 0..BATCH {
            let key = key(random.u64(..KEYS));
            black_box(store.write().put(&key, &VALUE, LeaseId(0))).expect("in memory");
        }
        store.publish();
    }
}

fn get(times: u64) {
    let (_store, reader): (Store, Reader) = filled(KEYS);
    let mut random = fastrand::Rng::with_seed(2);
    for _ in 0..times {
        let pin = reader.pin();
        let view = pin.view();
        let record = view.get_at(&key(random.u64(..KEYS)), view.revision());
        black_box(record.ok().flatten().map(|record| record.value[0]));
    }
}

fn scan(times: u64) {
    let (_store, reader): (Store, Reader) = filled(KEYS);
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..times {
        let pin = reader.pin();
        let view = pin.view();
        let start = key(random.u64(..KEYS - 100));
        let (mut resume, mut left) = (Resume::default(), 100);
        let visited = view.visit(
            &KeyRange::From(&start),
            view.revision(),
            Want::Values,
            &mut resume,
            SliceBound::NONE,
            |record| {
                black_box(record.value.len());
                left -= 1;
                if left == 0 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
        );
        black_box(visited.is_ok());
    }
}

const KEYS: u64 = 10_000;
