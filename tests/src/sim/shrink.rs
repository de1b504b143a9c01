//! Smaller plans that fail in the same way: first without most faults, then without most questions.

use super::plan::Plan;

/// Leaves out whatever can be left out while `fails` still says so. `tries` bounds the work.
#[must_use]
pub fn shrink(plan: &Plan, mut tries: usize, fails: &mut dyn FnMut(&Plan) -> bool) -> Plan {
    let mut best = plan.clone();
    loop {
        let before = (best.faults.len(), best.steps.len());
        let faults = |plan: &Plan| plan.faults.len();
        best = without_parts(best, &mut tries, fails, faults, |plan, from, to| {
            plan.faults.drain(from..to);
        });
        let steps = |plan: &Plan| plan.steps.len();
        best = without_parts(best, &mut tries, fails, steps, |plan, from, to| {
            plan.steps.drain(from..to);
        });
        let watches = |plan: &Plan| plan.watches.len();
        best = without_parts(best, &mut tries, fails, watches, |plan, from, to| {
            plan.watches.drain(from..to);
        });
        if tries == 0 || before == (best.faults.len(), best.steps.len()) {
            return best;
        }
    }
}

/// Halves first, then quarters, down to single ones.
fn without_parts(
    mut best: Plan,
    tries: &mut usize,
    fails: &mut dyn FnMut(&Plan) -> bool,
    length: impl Fn(&Plan) -> usize,
    remove: impl Fn(&mut Plan, usize, usize),
) -> Plan {
    let mut size = length(&best).div_ceil(2);
    while size > 0 {
        let mut from = 0;
        while from < length(&best) && *tries > 0 {
            *tries -= 1;
            let mut smaller = best.clone();
            let to = (from + size).min(length(&smaller));
            remove(&mut smaller, from, to);
            if fails(&smaller) {
                best = smaller;
            } else {
                from = to;
            }
        }
        size /= 2;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::super::plan::{FaultKind, Wish};
    use super::*;

    /// What does not matter must go, what matters must stay.
    #[test]
    fn only_what_is_needed_is_left() {
        let pauses = |plan: &Plan| {
            let faults = plan.faults.iter();
            faults
                .filter(|it| matches!(it.kind, FaultKind::Crash { .. }))
                .count()
        };
        let plan = (0..100)
            .map(|seed| Plan::draw(seed, Wish::default()))
            .find(|plan| pauses(plan) > 3)
            .expect("one of a hundred");
        let mut fails = |plan: &Plan| pauses(plan) >= 2 && !plan.steps.is_empty();
        let small = shrink(&plan, 10_000, &mut fails);
        assert_eq!((small.faults.len(), small.steps.len()), (2, 1));
    }
}
