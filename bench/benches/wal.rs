//! What a group of the log costs to frame, stamp and check, without the disk: the loop's own share of a durable write.

mod cpu;

use basalt_gate::paths::log::{Log, entries};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use crate::cpu::CpuTime;

/// Entries of one group.
const ENTRIES: [u32; 4] = [1, 10, 100, 1_000];

fn group(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("wal_group");
    for count in ENTRIES {
        let bytes = entries(count);
        let mut log = Log::new();
        group.throughput(Throughput::Elements(u64::from(count)));
        group.bench_with_input(BenchmarkId::from_parameter(count), &count, |b, count| {
            b.iter_custom(|rounds| (0..rounds).map(|_| log.group(*count, &bytes)).sum());
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = group
}
criterion_main!(benches);
