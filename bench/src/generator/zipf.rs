//! Keys of which few are asked for often: Zipf's law, drawn as YCSB does (Gray et al., "Quickly generating billion-record synthetic
//! databases", 1994).

/// Draws ranks: 0 is the most frequent.
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    count: f64,
    /// Sum of 1 / rank^THETA over all ranks.
    zeta: f64,
    eta: f64,
}

impl Zipf {
    /// Of `count` ranks, at least one; takes a time proportional to it.
    pub(crate) fn new(count: u32) -> Self {
        let zeta = |count: u32| {
            (1..=count)
                .map(|rank| f64::from(rank).powf(-THETA))
                .sum::<f64>()
        };
        let all = zeta(count);
        let count = f64::from(count);
        Self {
            count,
            zeta: all,
            eta: (1.0 - (2.0 / count).powf(1.0 - THETA)) / (1.0 - zeta(2) / all),
        }
    }

    /// The rank for a number drawn evenly from 0 to 1.
    pub(crate) fn rank(&self, drawn: f64) -> u32 {
        let share = drawn * self.zeta;
        if share < 1.0 {
            return 0;
        }
        if share < 1.0 + 0.5f64.powf(THETA) {
            return 1;
        }
        let rank = self.count * (self.eta * drawn - self.eta + 1.0).powf(1.0 / (1.0 - THETA));
        rank.clamp(0.0, self.count - 1.0) as u32
    }
}

/// YCSB's: of a million keys, a hundredth gets about two thirds of the requests.
const THETA: f64 = 0.99;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_ranks_get_most_and_each_is_in_range() {
        const COUNT: u32 = 100_000;
        const DRAWS: u32 = 200_000;
        let zipf = Zipf::new(COUNT);
        let mut random = fastrand::Rng::with_seed(1);
        let (mut first, mut hundredth) = (0, 0);
        for _ in 0..DRAWS {
            let rank = zipf.rank(random.f64());
            assert!(rank < COUNT);
            first += u32::from(rank == 0);
            hundredth += u32::from(rank < COUNT / 100);
        }
        let share = |count: u32| f64::from(count) / f64::from(DRAWS);
        assert!((share(first) - 1.0 / zipf.zeta).abs() < 0.01);
        assert!(
            (0.55..0.75).contains(&share(hundredth)),
            "{}",
            share(hundredth)
        );
        assert_eq!(zipf.rank(1.0), COUNT - 1);
        assert_eq!(Zipf::new(1).rank(0.999), 0);
    }
}
