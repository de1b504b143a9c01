//! What a handful of slices says: medians, and how far the ratio of two servers can be trusted.

use std::collections::BTreeSet;

/// The middle value, or the mean of the two in the middle; not a number when there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    middle(&sorted)
}

/// What the slices of one server say about one figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    /// None without a value.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: middle(&sorted),
            least: *sorted.first()?,
            most: *sorted.last()?,
        })
    }
}

/// One slice's figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    /// The slice's round: a machine's speed drifts, and slices of one round saw about the same of it.
    pub round: u32,
    pub value: f64,
}

/// How many times as much one server's figure is, and where 95 % of the bootstrap's answers lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio {
    pub median: f64,
    pub low: f64,
    pub high: f64,
    /// Slices of the server that has fewer. One has no spread, so it proves nothing.
    pub slices: usize,
}

impl Ratio {
    /// `ours` over `theirs`; none when a side has no value or the ratio is zero.
    ///
    /// From two rounds on that both took part in, each round gives one ratio of means; the answer is their median, and the bootstrap draws
    /// rounds. So what slows a machine down for longer than a round hits both servers alike and falls out, where a ratio of medians over all
    /// slices would keep it. With a single round it is the ratio of medians, and its interval the range of the slices' ratios.
    pub(crate) fn of(ours: &[Sample], theirs: &[Sample]) -> Option<Self> {
        let rounds = paired(ours, theirs);
        let (median, (low, high)) = if rounds.len() >= 2 {
            (median(&rounds), interval_of_median(&rounds))
        } else {
            let (ours, theirs) = (values(ours), values(theirs));
            (median(&ours) / median(&theirs), range(&ours, &theirs))
        };
        (median.is_finite() && median > 0.0).then_some(Self {
            median,
            low,
            high,
            slices: ours.len().min(theirs.len()),
        })
    }

    /// The quotient the other way round.
    pub(crate) fn inverted(self) -> Self {
        Self {
            median: 1.0 / self.median,
            low: 1.0 / self.high,
            high: 1.0 / self.low,
            slices: self.slices,
        }
    }

    /// Whether it says that the servers differ: from two slices a side on, and only when the interval leaves out 1.
    pub(crate) fn is_claim(&self) -> bool {
        self.slices >= 2 && (self.low > 1.0 || self.high < 1.0)
    }

    /// Whether at least `bound` is proven.
    pub(crate) fn proves(&self, bound: f64) -> bool {
        self.slices >= 2 && self.low >= bound
    }
}

/// One ratio for each round in which both have a slice.
fn paired(ours: &[Sample], theirs: &[Sample]) -> Vec<f64> {
    let rounds: BTreeSet<u32> = ours.iter().map(|sample| sample.round).collect();
    let mean = |samples: &[Sample], round: u32| {
        let here = samples.iter().filter(|sample| sample.round == round);
        let (sum, count) = here.fold((0.0, 0.0), |(sum, count), sample| {
            (sum + sample.value, count + 1.0)
        });
        sum / count
    };
    let ratios = rounds
        .into_iter()
        .map(|round| mean(ours, round) / mean(theirs, round));
    ratios.filter(|ratio| ratio.is_finite()).collect()
}

/// Bootstrap (Efron 1979, percentile method): the 2.5th and 97.5th percentile of the median of ratios drawn again with replacement.
fn interval_of_median(ratios: &[f64]) -> (f64, f64) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut drawn = Vec::with_capacity(ratios.len());
    let mut medians: Vec<f64> = (0..DRAWS)
        .map(|_| {
            drawn.clear();
            drawn.extend(ratios.iter().map(|_| ratios[random.usize(0..ratios.len())]));
            drawn.sort_unstable_by(f64::total_cmp);
            middle(&drawn)
        })
        .collect();
    let mut at = |place| *medians.select_nth_unstable_by(place, f64::total_cmp).1;
    (at(DRAWS / 40), at(DRAWS - DRAWS / 40 - 1))
}

/// The least and the greatest ratio of any two slices.
fn range(ours: &[f64], theirs: &[f64]) -> (f64, f64) {
    let (ours, theirs) = (ends(ours), ends(theirs));
    (ours.0 / theirs.1, ours.1 / theirs.0)
}

fn ends(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    (
        least,
        values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    )
}

/// The figures without their rounds.
pub(crate) fn values(samples: &[Sample]) -> Vec<f64> {
    samples.iter().map(|sample| sample.value).collect()
}

fn middle(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Enough that the interval's ends move by less than a tenth of its width between seeds. Tests run unoptimised and draw less.
const DRAWS: usize = if cfg!(test) { 1_000 } else { 10_000 };

#[cfg(test)]
mod tests {
    use super::*;

    /// Slices of two a round.
    fn samples(values: &[f64]) -> Vec<Sample> {
        let rounds = (0..).flat_map(|round| [round, round]);
        let pairs = rounds.zip(values);
        pairs
            .map(|(round, value)| Sample {
                round,
                value: *value,
            })
            .collect()
    }

    fn ratio(ours: &[f64], theirs: &[f64]) -> Ratio {
        Ratio::of(&samples(ours), &samples(theirs)).unwrap()
    }

    #[test]
    fn equal_servers_have_an_interval_around_one_and_claim_nothing() {
        let ratio = ratio(&[9.0, 10.0, 11.0, 10.5], &[9.5, 10.0, 10.5, 10.0]);
        assert!(ratio.low < 1.0);
        assert!(ratio.high > 1.0);
        assert!(!ratio.is_claim());
    }

    #[test]
    fn a_tenfold_difference_excludes_one() {
        let ratio = ratio(&[1.0, 1.1, 0.9, 1.0], &[10.0, 11.0, 9.5, 10.0]);
        assert!(ratio.low > 0.05);
        assert!(ratio.high < 0.2);
        assert!(ratio.is_claim());
        assert!(ratio.inverted().proves(5.0));
        assert!(!ratio.inverted().proves(11.0));
    }

    #[test]
    fn a_slow_hour_that_hits_both_falls_out() {
        let ours = [1.0, 1.0, 5.0, 5.0, 3.0, 3.0];
        let theirs = ours.map(|value| value * 10.0);
        let ratio = ratio(&ours, &theirs);
        assert_eq!((ratio.low, ratio.median, ratio.high), (0.1, 0.1, 0.1));
    }

    #[test]
    fn only_rounds_that_both_took_part_in_are_compared() {
        let at = |round, value| Sample { round, value };
        let ours = [at(1, 1.0), at(2, 2.0), at(3, 100.0)];
        let theirs = [at(1, 10.0), at(2, 20.0), at(4, 1.0)];
        let ratio = Ratio::of(&ours, &theirs).unwrap();
        assert_eq!((ratio.low, ratio.median, ratio.high), (0.1, 0.1, 0.1));
    }

    #[test]
    fn one_round_gives_the_range_of_the_ratios() {
        let ratio = ratio(&[1.0, 2.0], &[10.0, 20.0]);
        assert_eq!((ratio.low, ratio.high), (0.05, 0.2));
    }

    #[test]
    fn one_slice_proves_nothing() {
        let ratio = ratio(&[1.0], &[10.0]);
        assert_eq!((ratio.low, ratio.high), (0.1, 0.1));
        assert!(!ratio.is_claim());
        assert!(!ratio.inverted().proves(2.0));
    }

    #[test]
    fn the_same_slices_give_the_same_interval_every_time() {
        let (a, b) = ([1.0, 1.3, 0.9, 1.1], [3.0, 2.8, 3.3, 3.1]);
        assert_eq!(ratio(&a, &b), ratio(&a, &b));
    }

    #[test]
    fn nothing_and_zero_have_no_ratio() {
        let one = samples(&[1.0]);
        assert_eq!(Ratio::of(&[], &one), None);
        assert_eq!(Ratio::of(&one, &samples(&[0.0])), None);
        assert_eq!(Ratio::of(&samples(&[0.0]), &one), None);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_spread_holds_its_ends() {
        let spread = Spread::of(&[3.0, 1.0, 2.0, 10.0]).unwrap();
        assert_eq!((spread.median, spread.least, spread.most), (2.5, 1.0, 10.0));
    }
}
