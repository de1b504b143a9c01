//! When the operations of an open loop are due, whatever becomes of those before them.

/// Due times, rising. Nanoseconds on the driver's clock.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    began: u64,
    interval_ns: f64,
    /// Draws the gaps of random arrivals; without it they are even.
    random: Option<fastrand::Rng>,
    /// Operations whose time has been taken.
    count: u64,
    /// Nanoseconds after `began` at which the next is due.
    next: f64,
}

impl Pace {
    /// Operation i is due at `began` + i / `per_second`.
    pub(crate) fn even(per_second: f64, began: u64) -> Self {
        assert!(per_second > 0.0);
        Self {
            began,
            interval_ns: 1e9 / per_second,
            random: None,
            count: 0,
            next: 0.0,
        }
    }

    /// Independent of each other, `per_second` on average (Poisson). The same seed gives the same times.
    pub(crate) fn poisson(per_second: f64, began: u64, seed: u64) -> Self {
        let mut pace = Self::even(per_second, began);
        pace.random = Some(fastrand::Rng::with_seed(seed));
        pace.next = pace.gap();
        pace
    }

    /// When the next operation is due.
    pub(crate) fn due(&self) -> u64 {
        self.began + self.next as u64
    }

    /// The next operation has been taken care of.
    pub(crate) fn advance(&mut self) {
        self.count += 1;
        self.next = match self.random {
            // Multiplied anew each time: a sum would drift.
            None => self.count as f64 * self.interval_ns,
            Some(_) => self.next + self.gap(),
        };
    }

    /// Operations taken care of.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    fn gap(&mut self) -> f64 {
        let uniform = self.random.as_mut().map_or(0.0, fastrand::Rng::f64);
        -(1.0 - uniform).ln() * self.interval_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(mut pace: Pace, count: usize) -> Vec<u64> {
        (0..count)
            .map(|_| {
                let due = pace.due();
                pace.advance();
                due
            })
            .collect()
    }

    #[test]
    fn even_arrivals_never_drift() {
        let due = times(Pace::even(3000.0, 1_000), 3_000_001);
        assert_eq!(due[..3], [1_000, 334_333, 667_666]);
        assert_eq!(due[3_000_000], 1_000_000_001_000);
    }

    #[test]
    fn poisson_arrivals_keep_rate_and_spread_and_are_drawn_by_seed() {
        let due = times(Pace::poisson(10_000.0, 0, 7), 100_001);
        let gaps: Vec<f64> = due
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) as f64)
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Of exponential gaps, the deviation is the mean; 100,000 of them show both to 2 %.
        assert!((mean / 100_000.0 - 1.0).abs() < 0.02, "{mean}");
        assert!((variance.sqrt() / 100_000.0 - 1.0).abs() < 0.02);
        assert_eq!(due, times(Pace::poisson(10_000.0, 0, 7), 100_001));
        assert_ne!(due, times(Pace::poisson(10_000.0, 0, 8), 100_001));
    }
}
