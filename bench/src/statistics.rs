//! What a handful of slices says: medians, and how far the ratio of two servers can be trusted.

/// The middle value, or the mean of the two in the middle; not a number when there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Bootstrap: the ratio of medians of slices drawn again with replacement, its 2.5th and 97.5th percentile.
pub(crate) fn interval(a: &[f64], b: &[f64]) -> (f64, f64) {
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
