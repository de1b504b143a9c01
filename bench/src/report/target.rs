//! The targets of workloads.md section 5 for the workloads that are built, and whether a measurement holds them.

mod list;

use std::collections::BTreeMap;

use self::list::TARGETS;
use super::measured::{Measured, is_etcd};
use super::quantity::{Quantity, digits, quantity, samples, values};
use crate::plan::Cell;
use crate::record::Placement;
use crate::statistics::{self, Ratio, Sample, median};

/// One row of the list.
pub(super) struct Target {
    pub workload: &'static str,
    /// What is compared, as a reader would say it.
    pub title: &'static str,
    /// A quantity's id.
    pub figure: &'static str,
    /// Whether a cell of the workload is the one that is meant.
    applies: fn(&Cell) -> bool,
    /// Release gate.
    pub must: f64,
    pub moon: Option<f64>,
    /// The words after `12.3x`, for the headline figures of page and README; none for the others.
    pub headline: Option<&'static str>,
    aim: Aim,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Aim {
    /// So many times better than the better of default and tuned etcd.
    TimesBetter,
    /// The figure itself, a share, of the subject alone.
    Itself,
    /// At most so much, of the subject alone: bounds are one by the figure, so that more is better here too.
    AtMost,
    /// The subject's figure among the fewest keys as a share of the one among the most: 0.5 is twice the cost.
    Growth,
}

/// A target beside what was measured for it.
pub(super) struct Outcome<'a> {
    pub target: &'static Target,
    pub cell: &'a Cell,
    pub placement: Placement,
    /// The subject's median of the figure.
    pub own: f64,
    /// The best rival and its median; none where the target is about the subject alone.
    pub rival: Option<(&'a str, f64)>,
    /// Times better, or the figure itself.
    pub reached: Ratio,
    pub verdict: Verdict,
}

impl Outcome<'_> {
    /// The ends of the interval, as they are written, the smaller one first.
    pub(super) fn ends(&self) -> [String; 2] {
        let Ratio { low, high, .. } = self.reached;
        let ends = match self.target.aim {
            Aim::TimesBetter | Aim::Itself => [low, high],
            Aim::Growth | Aim::AtMost => [high, low],
        };
        ends.map(|end| self.target.reached_text(end))
    }
}

/// What the measurement says about the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The whole interval lies above moon.
    Moon,
    /// The whole interval lies above must.
    Must,
    /// The median does, the interval does not.
    Unproven,
    Missed,
}

impl Verdict {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Moon => "moon holds",
            Self::Must => "must holds",
            Self::Unproven => "must reached, not proven",
            Self::Missed => "must missed",
        }
    }
}

impl Target {
    /// The figure that it is about.
    pub(super) fn quantity(&self) -> &'static Quantity {
        quantity(self.figure).expect("a test holds that every target names a quantity")
    }

    /// A bound as it is written: `6x`, or `90 %`.
    pub(super) fn bound_text(&self, bound: f64) -> String {
        match self.aim {
            Aim::TimesBetter => format!("{}×", trimmed(bound)),
            Aim::Itself => format!("{} %", trimmed((bound * 1000.0).round() / 10.0)),
            Aim::Growth => format!("at most {}×", digits(1.0 / bound)),
            Aim::AtMost => format!("at most {}", self.quantity().unit.text(1.0 / bound)),
        }
    }

    /// What was reached, as it is written.
    pub(super) fn reached_text(&self, reached: f64) -> String {
        match self.aim {
            Aim::TimesBetter => format!("{}×", digits(reached)),
            Aim::Itself => self.quantity().unit.text(reached),
            Aim::AtMost => self.quantity().unit.text(1.0 / reached),
            Aim::Growth => format!("{}×", digits(1.0 / reached)),
        }
    }
}

/// A bound without a fraction that is zero.
pub(super) fn trimmed(bound: f64) -> String {
    if bound.fract() == 0.0 {
        format!("{bound:.0}")
    } else {
        format!("{bound}")
    }
}

/// All of them.
pub(super) fn all() -> &'static [Target] {
    TARGETS
}

/// The targets of the first screen, in its order.
pub(super) fn headlines() -> impl Iterator<Item = &'static Target> {
    TARGETS.iter().filter(|target| target.headline.is_some())
}

/// Every target that one of these measurements is meant for, in the list's order; a target has as many outcomes as there are such cells.
pub(super) fn outcomes<'a, 'm>(
    measured: impl IntoIterator<Item = &'m Measured<'a>> + Clone,
) -> Vec<Outcome<'a>>
where
    'a: 'm,
{
    let mut all = Vec::new();
    for target in TARGETS {
        if target.aim == Aim::Growth {
            all.extend(growth(target, measured.clone()));
            continue;
        }
        all.extend(
            measured
                .clone()
                .into_iter()
                .filter_map(|measured| outcome(target, measured)),
        );
    }
    all
}

fn outcome<'a>(target: &'static Target, measured: &Measured<'a>) -> Option<Outcome<'a>> {
    let is_meant = measured.workload() == target.workload && (target.applies)(measured.cell);
    if !is_meant {
        return None;
    }
    let figure = target.quantity();
    let subject = measured.subject();
    let own = samples(figure, &subject.slices);
    let (rival, reached) = match target.aim {
        Aim::Growth => return None,
        Aim::Itself | Aim::AtMost => {
            let one = |sample: &Sample| Sample {
                value: 1.0,
                ..*sample
            };
            let ones: Vec<Sample> = own.iter().map(one).collect();
            let ratio = Ratio::of(&own, &ones)?;
            let is_bounded_above = target.aim == Aim::AtMost;
            (
                None,
                if is_bounded_above {
                    ratio.inverted()
                } else {
                    ratio
                },
            )
        }
        Aim::TimesBetter => {
            let advantage = measured.advantage_over_best(figure)?;
            let side = measured
                .sides
                .iter()
                .find(|side| side.server == advantage.rival && is_etcd(side.server))?;
            (
                Some((side.server, median(&values(figure, &side.slices)))),
                advantage.times,
            )
        }
    };
    Some(Outcome {
        target,
        cell: measured.cell,
        placement: measured.placement,
        own: median(&statistics::values(&own)),
        rival,
        reached,
        verdict: verdict(target, &reached),
    })
}

/// One for each placement in which the subject was measured among several numbers of keys.
fn growth<'a, 'm>(
    target: &'static Target,
    measured: impl IntoIterator<Item = &'m Measured<'a>>,
) -> Vec<Outcome<'a>>
where
    'a: 'm,
{
    let mut families: BTreeMap<Placement, Vec<&Measured<'a>>> = BTreeMap::new();
    for measured in measured {
        if measured.workload() == target.workload && (target.applies)(measured.cell) {
            families
                .entry(measured.placement)
                .or_default()
                .push(measured);
        }
    }
    let outcome = |(placement, mut family): (Placement, Vec<&Measured<'a>>)| {
        family.sort_by_key(|measured| measured.cell.shape.keys);
        let (fewest, most) = (family.first()?, family.last()?);
        if fewest.cell.shape.keys == most.cell.shape.keys {
            return None;
        }
        let of = |measured: &Measured<'a>| samples(target.quantity(), &measured.subject().slices);
        let reached = Ratio::of(&of(fewest), &of(most))?;
        Some(Outcome {
            target,
            cell: most.cell,
            placement,
            own: median(&statistics::values(&of(most))),
            rival: None,
            reached,
            verdict: verdict(target, &reached),
        })
    };
    families.into_iter().filter_map(outcome).collect()
}

fn verdict(target: &Target, reached: &Ratio) -> Verdict {
    if target.moon.is_some_and(|moon| reached.proves(moon)) {
        Verdict::Moon
    } else if reached.proves(target.must) {
        Verdict::Must
    } else if reached.median >= target.must {
        Verdict::Unproven
    } else {
        Verdict::Missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_names_a_quantity_that_has_a_good_direction() {
        for target in TARGETS {
            assert!(target.quantity().better.is_some(), "{}", target.title);
            assert!(target.moon.is_none_or(|moon| moon > target.must));
        }
    }

    #[test]
    fn a_bound_from_above_is_held_by_less_and_written_as_it_is() {
        let stall = all().iter().find(|target| target.workload == "W27");
        let target = stall.unwrap();
        assert_eq!(target.bound_text(target.must), "at most 50.0 ms");
        let reached = |low_us: f64, high_us: f64| Ratio {
            median: 1.0 / high_us,
            low: 1.0 / high_us,
            high: 1.0 / low_us,
            slices: 2,
        };
        assert_eq!(verdict(target, &reached(2e3, 4e3)), Verdict::Moon);
        assert_eq!(verdict(target, &reached(2e3, 40e3)), Verdict::Must);
        assert_eq!(verdict(target, &reached(2e3, 60e3)), Verdict::Missed);
    }

    #[test]
    fn a_verdict_needs_the_whole_interval() {
        let target = &TARGETS[0];
        let ratio = |low, median, slices| Ratio {
            median,
            low,
            high: 20.0,
            slices,
        };
        assert_eq!(verdict(target, &ratio(12.5, 13.0, 4)), Verdict::Moon);
        assert_eq!(verdict(target, &ratio(11.0, 13.0, 4)), Verdict::Must);
        assert_eq!(verdict(target, &ratio(5.0, 13.0, 4)), Verdict::Unproven);
        assert_eq!(verdict(target, &ratio(12.5, 13.0, 1)), Verdict::Unproven);
        assert_eq!(verdict(target, &ratio(5.0, 5.5, 4)), Verdict::Missed);
    }
}
