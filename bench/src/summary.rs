//! Medians, spread and the ratio of the two servers, with an interval that says what the ratio is worth.

use std::fmt::Write as _;

use crate::Load;
use crate::compare::{Comparison, Slice};
use crate::report::Report;
use crate::workload::Shape;

type Figure = (&'static str, fn(&Report) -> f64);

/// The figures of the table, most stable first.
const FIGURES: &[Figure] = &[
    ("server CPU µs/op", |r| r.per_operation.server_cpu_us),
    ("machine less generator µs/op", |r| {
        r.per_operation.machine_less_client_us
    }),
    ("flushes/op", |r| r.per_operation.disk_flushes),
    ("disk bytes/op", |r| r.per_operation.disk_bytes),
    ("p50 µs", |r| r.latency.p50_us),
    ("p99 µs", |r| r.latency.p99_us),
    ("p99.9 µs", |r| r.latency.p999_us),
    ("longest stall µs", |r| r.latency.longest_stall_us),
    ("operations/s", |r| r.per_second),
    ("resident MiB", |r| (r.server_resident_bytes >> 20) as f64),
    ("generator µs/op", |r| r.client_us_per_operation),
];

/// The whole page.
pub(crate) fn text(
    comparison: &Comparison,
    load: &Load,
    shape: &Shape,
    slices: &[Slice],
) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# {}\n", comparison.name);
    let _ = writeln!(out, "A: `{}`\nB: `{}`\n", comparison.a, comparison.b);
    let pace = match load.rate {
        Some(rate) => format!("open loop, {rate}/s"),
        None => format!("closed loop, {} streams", load.streams),
    };
    let _ = writeln!(
        out,
        "{:?}{}: {} connections, {pace}, {} keys of {} bytes, values of {} bytes, {} s after {} s warm-up, {}.\n",
        shape.workload,
        if shape.serializable {
            " serializable"
        } else {
            ""
        },
        load.conns,
        shape.keys,
        shape.key_size,
        shape.value_size,
        load.duration,
        load.warmup,
        if comparison.pin {
            "server on CPU 0, generator on CPU 1"
        } else {
            "not pinned"
        },
    );
    let _ = writeln!(
        out,
        "| median (least to most) | A | B | A / B | 95 % of the ratio |\n|---|---|---|---|---|"
    );
    for (name, figure) in FIGURES {
        let of = |server| {
            slices
                .iter()
                .filter(|s| s.server == server)
                .map(|s| figure(&s.report))
                .collect::<Vec<_>>()
        };
        let (a, b) = (of('A'), of('B'));
        let (low, high) = interval(&a, &b);
        let _ = writeln!(
            out,
            "| {name} | {} | {} | {} | {} to {} |",
            spread(&a),
            spread(&b),
            number(median(&a) / median(&b)),
            number(low),
            number(high)
        );
    }
    let count = |test: fn(&Slice) -> bool| slices.iter().filter(|slice| test(slice)).count();
    let _ = writeln!(
        out,
        "\n{} slices A B B A; {} with more than 1 % stolen time, {} with the generator as the limit. Every slice verified: acknowledged \
         changes equal revisions, acknowledged keys read back. An interval that holds 1 claims nothing.",
        slices.len(),
        count(|slice| slice.stolen),
        count(|slice| slice.client_bound),
    );
    out
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Bootstrap: the ratio of medians of slices drawn again with replacement, its 2.5th and 97.5th percentile.
fn interval(a: &[f64], b: &[f64]) -> (f64, f64) {
    const DRAWS: usize = 10_000;
    let mut random = fastrand::Rng::with_seed(1);
    let mut again = |values: &[f64]| {
        let drawn: Vec<f64> = values
            .iter()
            .map(|_| values[random.usize(0..values.len())])
            .collect();
        median(&drawn)
    };
    if a.is_empty() || b.is_empty() {
        return (f64::NAN, f64::NAN);
    }
    let mut ratios: Vec<f64> = (0..DRAWS).map(|_| again(a) / again(b)).collect();
    ratios.sort_by(f64::total_cmp);
    (ratios[DRAWS / 40], ratios[DRAWS - DRAWS / 40])
}

fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!(
        "{} ({} to {})",
        number(median(values)),
        number(least),
        number(most)
    )
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_servers_have_an_interval_around_one() {
        let values = [9.0, 10.0, 11.0, 10.5];
        let (low, high) = interval(&values, &values);
        assert!(low < 1.0);
        assert!(high > 1.0);
    }

    #[test]
    fn a_tenfold_difference_excludes_one() {
        let (low, high) = interval(&[1.0, 1.1, 0.9], &[10.0, 11.0, 9.5]);
        assert!(low > 0.05);
        assert!(high < 0.2);
    }
}
