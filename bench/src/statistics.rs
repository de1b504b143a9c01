//! What a handful of slices says: medians, and how far the ratio of two servers can be trusted.

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

/// The quotient of two servers' medians, and where 95 % of the bootstrap's quotients lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio {
    pub median: f64,
    pub low: f64,
    pub high: f64,
    /// Slices of the server that has fewer. One has no spread, so it proves nothing; two have no interval but their range.
    pub slices: usize,
}

impl Ratio {
    /// `ours` over `theirs`; none when a side has no value or a median is zero.
    pub(crate) fn of(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        let quotient = median(ours) / median(theirs);
        let (low, high) = interval(ours, theirs);
        (quotient.is_finite() && quotient > 0.0).then_some(Self {
            median: quotient,
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

/// Bootstrap: the ratio of medians of slices drawn again with replacement, its 2.5th and 97.5th percentile. From two slices a server on;
/// with exactly two it is the range of the ratios, as one draw of sixteen is an extreme one, and needs no draws.
pub(crate) fn interval(a: &[f64], b: &[f64]) -> (f64, f64) {
    if a.is_empty() || b.is_empty() {
        return (f64::NAN, f64::NAN);
    }
    if a.len() <= 2 && b.len() <= 2 {
        let (a, b) = (ends(a), ends(b));
        return (a.0 / b.1, a.1 / b.0);
    }
    let mut random = fastrand::Rng::with_seed(1);
    let mut drawn = Vec::with_capacity(a.len().max(b.len()));
    let mut again = |values: &[f64]| {
        drawn.clear();
        drawn.extend(values.iter().map(|_| values[random.usize(0..values.len())]));
        drawn.sort_unstable_by(f64::total_cmp);
        middle(&drawn)
    };
    let mut ratios: Vec<f64> = (0..DRAWS).map(|_| again(a) / again(b)).collect();
    let mut at = |place| *ratios.select_nth_unstable_by(place, f64::total_cmp).1;
    (at(DRAWS / 40), at(DRAWS - DRAWS / 40 - 1))
}

fn ends(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    (
        least,
        values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    )
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

    #[test]
    fn equal_servers_have_an_interval_around_one_and_claim_nothing() {
        let values = [9.0, 10.0, 11.0, 10.5];
        let ratio = Ratio::of(&values, &values).unwrap();
        assert!(ratio.low < 1.0);
        assert!(ratio.high > 1.0);
        assert!(!ratio.is_claim());
    }

    #[test]
    fn a_tenfold_difference_excludes_one() {
        let ratio = Ratio::of(&[1.0, 1.1, 0.9], &[10.0, 11.0, 9.5]).unwrap();
        assert!(ratio.low > 0.05);
        assert!(ratio.high < 0.2);
        assert!(ratio.is_claim());
        assert!(ratio.inverted().proves(5.0));
        assert!(!ratio.inverted().proves(11.0));
    }

    #[test]
    fn two_slices_a_server_give_the_range_of_the_ratios() {
        assert_eq!(interval(&[1.0, 2.0], &[10.0, 20.0]), (0.05, 0.2));
        // Drawn, it is the same.
        let (low, high) = interval(&[1.0, 2.0], &[10.0, 20.0, 15.0]);
        assert!(low >= 0.05);
        assert!(high <= 0.2);
    }

    #[test]
    fn one_slice_proves_nothing() {
        let ratio = Ratio::of(&[1.0], &[10.0]).unwrap();
        assert_eq!((ratio.low, ratio.high), (0.1, 0.1));
        assert!(!ratio.is_claim());
        assert!(!ratio.inverted().proves(2.0));
    }

    #[test]
    fn the_same_slices_give_the_same_interval_every_time() {
        let (a, b) = ([1.0, 1.3, 0.9, 1.1], [3.0, 2.8, 3.3, 3.1]);
        assert_eq!(interval(&a, &b), interval(&a, &b));
    }

    #[test]
    fn nothing_and_zero_have_no_ratio() {
        assert_eq!(Ratio::of(&[], &[1.0]), None);
        assert_eq!(Ratio::of(&[1.0], &[0.0]), None);
        assert_eq!(Ratio::of(&[0.0], &[1.0]), None);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_spread_holds_its_ends() {
        let spread = Spread::of(&[3.0, 1.0, 2.0, 10.0]).unwrap();
        assert_eq!((spread.median, spread.least, spread.most), (2.5, 1.0, 10.0));
    }
}
