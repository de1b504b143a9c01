//! Latencies as they were: one histogram for the whole, one for each second, and the worst of every tenth of a second.

use hdrhistogram::Histogram;

use crate::record::{Latency, Second};

/// Collects completions of the measured time.
pub(crate) struct Recorder {
    whole: Histogram<u64>,
    second: Histogram<u64>,
    /// Nanoseconds since the measurement began at which `second` ends.
    second_end: u64,
    seconds: Vec<Second>,
    kept: Vec<Histogram<u64>>,
    /// By tenth of a second: the longest latency in it.
    worst: Vec<u64>,
    /// When the last completion came, and the longest time without one.
    last: u64,
    longest_stall: u64,
    done: u64,
}

impl Recorder {
    /// Nothing recorded yet.
    ///
    /// # Panics
    /// Never: the bounds are constant and valid.
    pub(crate) fn new() -> Self {
        let empty = || {
            Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, DIGITS)
                .expect("constant bounds")
        };
        Self {
            whole: empty(),
            second: empty(),
            second_end: SECOND_NS,
            seconds: Vec::new(),
            kept: Vec::new(),
            worst: Vec::new(),
            last: 0,
            longest_stall: 0,
            done: 0,
        }
    }

    /// One completion, `at` nanoseconds after the measurement began. `at` never falls.
    pub(crate) fn record(&mut self, at: u64, latency_ns: u64) {
        while at >= self.second_end {
            self.close_second();
        }
        self.second.saturating_record(latency_ns);
        self.done += 1;
        self.longest_stall = self.longest_stall.max(at - self.last);
        self.last = at;
        let window = (at / WINDOW_NS) as usize;
        if window >= self.worst.len() {
            self.worst.resize(window + 1, 0);
        }
        self.worst[window] = self.worst[window].max(latency_ns);
    }

    /// Completions so far.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// The figures, after `elapsed_ns` of measuring, and the histogram of each second.
    pub(crate) fn finish(mut self, elapsed_ns: u64) -> (Latency, Vec<Second>, Vec<Histogram<u64>>) {
        self.longest_stall = self.longest_stall.max(elapsed_ns.saturating_sub(self.last));
        self.close_second();
        let at = |quantile: f64| self.whole.value_at_quantile(quantile) as f64 / 1000.0;
        let pause_ns = self.whole.value_at_quantile(0.5) * 10;
        let latency = Latency {
            mean_us: self.whole.mean() / 1000.0,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            p9999_us: at(0.9999),
            max_us: self.whole.max() as f64 / 1000.0,
            longest_stall_us: self.longest_stall as f64 / 1000.0,
            pauses: self.worst.iter().filter(|worst| **worst > pause_ns).count() as u64,
            curve: CURVE
                .iter()
                .map(|quantile| (*quantile, at(*quantile)))
                .collect(),
        };
        (latency, self.seconds, self.kept)
    }

    fn close_second(&mut self) {
        let at = |quantile: f64| self.second.value_at_quantile(quantile) as f64 / 1000.0;
        self.seconds.push(Second {
            done: self.second.len(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            max_us: self.second.max() as f64 / 1000.0,
        });
        self.whole.add(&self.second).expect("equal bounds");
        self.kept.push(self.second.clone());
        self.second.reset();
        self.second_end += SECOND_NS;
    }
}

const SECOND_NS: u64 = 1_000_000_000;
const WINDOW_NS: u64 = 100_000_000;
const LATENCY_NS_MIN: u64 = 1_000;
const LATENCY_NS_MAX: u64 = 60 * SECOND_NS;
const DIGITS: u8 = 3;

/// Where the latency curve of a picture has its points.
const CURVE: &[f64] = &[
    0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99,
    0.993, 0.995, 0.997, 0.998, 0.999, 0.9995, 0.9998, 0.9999, 0.99995, 0.99999, 1.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_second_is_kept_and_counts_as_a_stall() {
        let mut recorder = Recorder::new();
        recorder.record(100, 50_000);
        recorder.record(2 * SECOND_NS + 100, 50_000);
        let (latency, seconds, kept) = recorder.finish(3 * SECOND_NS);
        assert_eq!(
            seconds.iter().map(|second| second.done).collect::<Vec<_>>(),
            [1, 0, 1]
        );
        assert_eq!(kept.len(), 3);
        assert!(latency.longest_stall_us > 1_999_000.0);
    }

    #[test]
    fn a_pause_is_a_window_ten_times_worse_than_the_median() {
        let mut recorder = Recorder::new();
        for tenth in 0..10 {
            for _ in 0..100 {
                recorder.record(tenth * WINDOW_NS, 100_000);
            }
        }
        recorder.record(9 * WINDOW_NS, 5_000_000);
        let (latency, _, _) = recorder.finish(SECOND_NS);
        assert_eq!(latency.pauses, 1);
        assert!((latency.p50_us - 100.0).abs() < 1.0);
    }
}
