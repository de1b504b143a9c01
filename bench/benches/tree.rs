//! What the store costs per operation: put, get, scan and count at 1k to 1M keys, batches of 1 to 1,000 puts, pins.
//! `cargo bench -p basalt-bench --bench tree`; one size only: append e.g. `100000`.

mod cpu;

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::Duration;

use basalt_engine::mvcc::{KeyRange, Reader, Resume, SliceBound, Store, Want};
use basalt_engine::types::LeaseId;
use basalt_gate::paths::store::{BATCH, VALUE, filled, key};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use crate::cpu::{CpuTime, cpu_time};

/// The server's allocator: a put is to a good part the copying and freeing of nodes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
const NONE: LeaseId = LeaseId(0);

/// Puts of one batch where the batch is what varies: each node on their ways is copied once a batch.
const BATCHES: [u64; 4] = [1, 10, 100, 1_000];

/// Keys where the size is not what varies.
const KEYS: u64 = 100_000;

/// The store under test, and puts of random keys into it.
struct Puts {
    store: Store,
    reader: Reader,
    random: fastrand::Rng,
    keys: u64,
    /// Since the history was given back.
    done: u64,
}

impl Puts {
    fn new(keys: u64) -> Puts {
        let (store, reader) = filled(keys);
        Puts {
            store,
            reader,
            random: fastrand::Rng::with_seed(1),
            keys,
            done: 0,
        }
    }

    /// The CPU time of so many puts and of publishing them at once.
    fn batch(&mut self, puts: u64) -> Duration {
        let start = cpu_time();
        for _ in 0..puts {
            let key = key(self.random.u64(..self.keys));
            self.store
                .write()
                .put(&key, &VALUE, NONE)
                .expect("in memory");
        }
        self.store.publish();
        let spent = cpu_time() - start;
        self.done += puts;
        // The history must not eat the machine; giving it back is not what is measured here.
        if self.done >= 200_000 {
            self.done = 0;
            let newest = self.store.revision();
            if self.store.compact(newest).is_ok() {
                while self.store.poll_space(100_000).is_ok_and(|more| more) {}
                self.store.publish();
            }
        }
        spent
    }
}

fn put(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("tree_put_batch");
    group.throughput(Throughput::Elements(BATCH));
    for keys in SIZES {
        let mut state = None;
        group.bench_function(BenchmarkId::from_parameter(keys), |bencher| {
            let puts = state.get_or_insert_with(|| Puts::new(keys));
            bencher.iter_custom(|batches| (0..batches).map(|_| puts.batch(BATCH)).sum());
        });
    }
    group.finish();
}

/// What a larger batch saves: the copies of the nodes near the root, and the publishing.
fn copy_on_write(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("tree_cow_batch");
    let mut state = None;
    for batch in BATCHES {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            let puts = state.get_or_insert_with(|| Puts::new(KEYS));
            bencher.iter_custom(|batches| (0..batches).map(|_| puts.batch(batch)).sum());
        });
    }
    group.finish();
}

/// What every read pays before it reads.
fn pin(criterion: &mut Criterion<CpuTime>) {
    let puts = Puts::new(1);
    criterion.bench_function("epoch_pin", |bencher| {
        bencher.iter(|| {
            let pin = puts.reader.pin();
            black_box(pin.view().revision())
        });
    });
}

fn insert(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("tree_insert");
    for keys in SIZES {
        group.throughput(Throughput::Elements(keys)).sample_size(10);
        group.bench_function(BenchmarkId::from_parameter(keys), |bencher| {
            bencher.iter_with_large_drop(|| filled(keys));
        });
    }
    group.finish();
}

fn get(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("tree_get");
    for keys in SIZES {
        let mut state = None;
        let mut random = fastrand::Rng::with_seed(2);
        group.bench_function(BenchmarkId::from_parameter(keys), |bencher| {
            let (_store, reader) = state.get_or_insert_with(|| filled(keys));
            bencher.iter(|| {
                let pin = reader.pin();
                let view = pin.view();
                let record = view.get_at(&key(random.u64(..keys)), view.revision());
                black_box(record.ok().flatten().map(|record| record.value[0]))
            });
        });
    }
    group.finish();
}

fn scan(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("tree_scan_1000");
    for keys in SIZES {
        let mut state = None;
        let mut random = fastrand::Rng::with_seed(3);
        let mut out = Vec::with_capacity(1 << 20);
        group.bench_function(BenchmarkId::from_parameter(keys), |bencher| {
            let (_store, reader) = state.get_or_insert_with(|| filled(keys));
            bencher.iter(|| {
                out.clear();
                let pin = reader.pin();
                let view = pin.view();
                let start = key(random.u64(..=keys - 1000));
                let range = KeyRange::From(&start);
                let mut left = 1000;
                let (want, mut resume) = (Want::Values, Resume::default());
                let visited = view.visit(
                    &range,
                    view.revision(),
                    want,
                    &mut resume,
                    SliceBound::NONE,
                    |record| {
                        out.extend_from_slice(record.key);
                        out.extend_from_slice(record.value);
                        left -= 1;
                        if left == 0 {
                            ControlFlow::Break(())
                        } else {
                            ControlFlow::Continue(())
                        }
                    },
                );
                black_box((visited, out.len()))
            });
        });
    }
    group.finish();
}

fn count(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("tree_count");
    for keys in SIZES {
        let mut state = None;
        let mut random = fastrand::Rng::with_seed(4);
        group.bench_function(BenchmarkId::from_parameter(keys), |bencher| {
            let (_store, reader) = state.get_or_insert_with(|| filled(keys));
            bencher.iter(|| {
                let pin = reader.pin();
                let view = pin.view();
                let start = key(random.u64(..keys / 2));
                let end = key(random.u64(keys / 2..keys));
                let range = KeyRange::Range {
                    start: &start,
                    end: &end,
                };
                black_box(view.count_newest(&range))
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .with_measurement(CpuTime)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots();
    targets = put, copy_on_write, pin, insert, get, scan, count
}
criterion_main!(benches);
