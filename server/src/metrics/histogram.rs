use std::time::Duration;

use basalt_net::reactor::Counter;

/// How often something took how long. One thread writes.
#[derive(Debug)]
pub struct Histogram {
    first_ns: u64,
    /// By bucket, not cumulative; the last is for what no bound holds.
    counts: Box<[Counter]>,
    sum_ns: Counter,
}

impl Histogram {
    /// Bounds `first_ns`, twice that, and so on, `bounds` of them.
    pub(super) fn new((first_ns, bounds): (u64, usize)) -> Histogram {
        assert!(first_ns > 0);
        Histogram {
            first_ns,
            counts: (0..=bounds).map(|_| Counter::default()).collect(),
            sum_ns: Counter::default(),
        }
    }

    /// Counts one.
    pub fn observe(&self, duration: Duration) {
        self.observe_many(duration, 1);
    }

    /// Counts `times` that took `each`: a batch whose parts were not measured singly.
    pub fn observe_many(&self, each: Duration, times: u64) {
        let ns = u64::try_from(each.as_nanos()).unwrap_or(u64::MAX);
        // The smallest power of two by which the first bound must be multiplied.
        let bucket = ns
            .div_ceil(self.first_ns)
            .max(1)
            .next_power_of_two()
            .trailing_zeros() as usize;
        self.counts[bucket.min(self.counts.len() - 1)].add(times);
        self.sum_ns.add(ns.saturating_mul(times));
    }

    /// Adds this one's values to `sum`, which has the same bounds.
    pub(super) fn add_to(&self, sum: &mut Sum) {
        sum.counts.resize(self.counts.len(), 0);
        for (total, count) in sum.counts.iter_mut().zip(&self.counts) {
            *total += count.get();
        }
        sum.seconds += self.sum_ns.get() as f64 / 1e9;
    }
}

/// Histograms of several threads added up.
#[derive(Debug, Default)]
pub(super) struct Sum {
    /// By bucket, not cumulative; empty stands for all zero.
    pub(super) counts: Vec<u64>,
    /// Of all that was observed; in milliseconds after [`Sum::in_millis`].
    pub(super) seconds: f64,
}

impl Sum {
    pub(super) fn of<'a>(histograms: impl IntoIterator<Item = &'a Histogram>) -> Sum {
        let mut sum = Sum::default();
        histograms
            .into_iter()
            .for_each(|histogram| histogram.add_to(&mut sum));
        sum
    }

    /// So many that took no time; `bounds` as the family has them.
    pub(super) fn at_once(times: u64, bounds: usize) -> Sum {
        let mut counts = vec![0; bounds + 1];
        counts[0] = times;
        Sum {
            counts,
            seconds: 0.0,
        }
    }

    /// For a family in milliseconds, whose bounds are the same.
    pub(super) fn in_millis(mut self) -> Sum {
        self.seconds *= 1000.0;
        self
    }

    pub(super) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}
