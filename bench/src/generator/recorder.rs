//! Latencies as they were: one histogram for the whole, one for each second, and the worst of every tenth of a second.

use hdrhistogram::Histogram;

use crate::record::{Latency, Part, Second};

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
    /// Reads and writes apart, for loads that have both.
    parts: Option<[Histogram<u64>; 2]>,
    /// By tenth of a second in which they were due: the latencies, in microseconds.
    windows: Option<Vec<Vec<u32>>>,
}

/// One operation that was answered right. Times are nanoseconds since the measurement began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    /// When the answer came. Never falls.
    pub at: u64,
    pub due: u64,
    pub latency_ns: u64,
    pub is_read: bool,
}

impl Recorder {
    /// Nothing recorded yet. `is_mixed`: reads and writes are told apart; `by_window`: latencies are kept by when they were due.
    ///
    /// # Panics
    /// Never: the bounds are constant and valid.
    pub(crate) fn new(is_mixed: bool, by_window: bool) -> Self {
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
            parts: is_mixed.then(|| [empty(), empty()]),
            windows: by_window.then(Vec::new),
        }
    }

    /// Takes note of one.
    pub(crate) fn record(&mut self, completion: &Completion) {
        let Completion { at, latency_ns, .. } = *completion;
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
        if let Some(parts) = &mut self.parts {
            parts[usize::from(!completion.is_read)].saturating_record(latency_ns);
        }
        if let Some(windows) = &mut self.windows {
            let window = (completion.due / WINDOW_NS) as usize;
            if window >= windows.len() {
                windows.resize_with(window + 1, Vec::new);
            }
            windows[window].push(u32::try_from(latency_ns / 1000).unwrap_or(u32::MAX));
        }
    }

    /// Reads and writes apart, if they were told apart.
    pub(crate) fn parts(&self, seconds: f64) -> Vec<Part> {
        let part = |name: &str, latencies: &Histogram<u64>| {
            let at = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1000.0;
            Part {
                name: name.to_owned(),
                operations: latencies.len(),
                per_second: latencies.len() as f64 / seconds,
                p50_us: at(0.5),
                p99_us: at(0.99),
                p999_us: at(0.999),
                max_us: latencies.max() as f64 / 1000.0,
            }
        };
        self.parts.as_ref().map_or(Vec::new(), |[reads, writes]| {
            vec![part("reads", reads), part("writes", writes)]
        })
    }

    /// The 99th percentile of all so far, in microseconds.
    pub(crate) fn p99_us(&self) -> f64 {
        let mut all = self.whole.clone();
        all.add(&self.second).expect("equal bounds");
        all.value_at_quantile(0.99) as f64 / 1000.0
    }

    /// The same by tenth of a second in which operations were due; 0 where none was.
    pub(crate) fn p99_us_by_window(&mut self) -> Vec<f64> {
        let p99 = |window: &mut Vec<u32>| {
            let place = window.len() * 99 / 100;
            let empty = window.is_empty();
            if empty {
                0.0
            } else {
                f64::from(*window.select_nth_unstable(place).1)
            }
        };
        self.windows.iter_mut().flatten().map(p99).collect()
    }

    /// Completions so far.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// The figures, after `elapsed_ns` of measuring, and the histogram of each second.
    pub(crate) fn finish(mut self, elapsed_ns: u64) -> (Latency, Vec<Second>, Vec<Histogram<u64>>) {
        self.longest_stall = self.longest_stall.max(elapsed_ns.saturating_sub(self.last));
        // Seconds at the end in which nothing was answered are seconds too.
        while self.second_end < elapsed_ns {
            self.close_second();
        }
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
            p999_us: at(0.999),
            max_us: self.second.max() as f64 / 1000.0,
        });
        self.whole.add(&self.second).expect("equal bounds");
        self.kept.push(self.second.clone());
        self.second.reset();
        self.second_end += SECOND_NS;
    }
}

const SECOND_NS: u64 = 1_000_000_000;
/// A tenth of a second: of the pauses, and of what is kept by when it was due.
pub(crate) const WINDOW_NS: u64 = 100_000_000;
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

    fn record(recorder: &mut Recorder, at: u64, latency_ns: u64) {
        recorder.record(&Completion {
            at,
            due: at.saturating_sub(latency_ns),
            latency_ns,
            is_read: at.is_multiple_of(2),
        });
    }

    #[test]
    fn a_silent_second_is_kept_and_counts_as_a_stall() {
        let mut recorder = Recorder::new(false, false);
        record(&mut recorder, 100, 50_000);
        record(&mut recorder, 2 * SECOND_NS + 100, 50_000);
        let (latency, seconds, kept) = recorder.finish(5 * SECOND_NS);
        assert_eq!(
            seconds.iter().map(|second| second.done).collect::<Vec<_>>(),
            [1, 0, 1, 0, 0]
        );
        assert_eq!(kept.len(), 5);
        assert!(latency.longest_stall_us > 2_999_000.0);
    }

    #[test]
    fn a_pause_is_a_window_ten_times_worse_than_the_median() {
        let mut recorder = Recorder::new(false, false);
        for tenth in 0..10 {
            for _ in 0..100 {
                record(&mut recorder, tenth * WINDOW_NS, 100_000);
            }
        }
        record(&mut recorder, 9 * WINDOW_NS, 5_000_000);
        let (latency, _, _) = recorder.finish(SECOND_NS);
        assert_eq!(latency.pauses, 1);
        assert!((latency.p50_us - 100.0).abs() < 1.0);
    }

    #[test]
    fn percentiles_are_exact_to_three_digits_up_to_a_minute() {
        let mut recorder = Recorder::new(false, false);
        for microsecond in 1..=10_000_000u64 / 100 {
            record(&mut recorder, microsecond, microsecond * 100_000);
        }
        assert!((recorder.p99_us() / 9_900_000.0 - 1.0).abs() < 0.001);
        let (latency, _, _) = recorder.finish(SECOND_NS);
        for (measured, expected) in [
            (latency.p50_us, 5_000_000.0),
            (latency.p90_us, 9_000_000.0),
            (latency.p999_us, 9_990_000.0),
            (latency.p9999_us, 9_999_000.0),
            (latency.max_us, 10_000_000.0),
        ] {
            assert!((measured / expected - 1.0).abs() < 0.001, "{measured}");
        }
        let mut recorder = Recorder::new(false, false);
        record(&mut recorder, 1, 90 * SECOND_NS);
        // What is longer than the histogram's end is not lost.
        assert!(recorder.finish(SECOND_NS).0.max_us >= 60_000_000.0);
    }

    #[test]
    fn reads_and_writes_are_told_apart_and_windows_go_by_the_due_time() {
        let mut recorder = Recorder::new(true, true);
        for at in 0..100 {
            record(&mut recorder, 3 * WINDOW_NS + at, 2 * WINDOW_NS);
        }
        let parts = recorder.parts(2.0);
        assert_eq!(
            parts.iter().map(|part| part.operations).collect::<Vec<_>>(),
            [50, 50]
        );
        assert_eq!(parts[0].per_second, 25.0);
        assert_eq!(recorder.p99_us_by_window(), [0.0, 200_000.0]);
    }
}
