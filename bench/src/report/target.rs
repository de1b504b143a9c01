//! The targets of workloads.md section 5 for the workloads that are built, and whether a measurement holds them.

use super::measured::{Measured, is_etcd};
use super::quantity::{Quantity, digits, quantity, samples, values};
use crate::plan::{Cell, Kind};
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
        }
    }

    /// What was reached, as it is written.
    pub(super) fn reached_text(&self, reached: f64) -> String {
        match self.aim {
            Aim::TimesBetter => format!("{}×", digits(reached)),
            Aim::Itself => self.quantity().unit.text(reached),
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
    if !is_meant || measured.is_growth() {
        return None;
    }
    let figure = target.quantity();
    let subject = measured.subject();
    let own = samples(figure, &subject.slices);
    let (rival, reached) = match target.aim {
        Aim::Itself => {
            let one = |sample: &Sample| Sample {
                value: 1.0,
                ..*sample
            };
            let ones: Vec<Sample> = own.iter().map(one).collect();
            (None, Ratio::of(&own, &ones)?)
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

fn any(_: &Cell) -> bool {
    true
}

/// Not the cells with one call in flight: those are bound by the wake-ups of two processes (workloads.md, honest limits).
fn is_busy(cell: &Cell) -> bool {
    cell.load.rate.is_none() && u32::from(cell.load.conns) * u32::from(cell.load.streams) > 1
}

fn is_busy_get(cell: &Cell) -> bool {
    is_busy(cell) && !cell.shape.serializable
}

fn is_busy_serializable_get(cell: &Cell) -> bool {
    is_busy(cell) && cell.shape.serializable
}

/// A static, not a constant: outcomes are told apart by the address of their target.
static TARGETS: &[Target] = &[
    Target {
        workload: "W03",
        title: "server CPU per put, 1000 in flight",
        figure: "cpu",
        applies: any,
        must: 6.0,
        moon: Some(12.0),
        headline: Some("less CPU per put, 1000 in flight"),
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W07",
        title: "server CPU per linearizable get",
        figure: "cpu",
        applies: is_busy_get,
        must: 7.0,
        moon: Some(12.0),
        headline: Some("less CPU per linearizable get"),
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W13",
        title: "server CPU per Kubernetes txn",
        figure: "cpu",
        applies: is_busy,
        must: 7.0,
        moon: Some(14.0),
        headline: Some("less CPU per Kubernetes txn"),
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W02",
        title: "p99 of puts, 100 in flight",
        figure: "p99",
        applies: any,
        must: 8.0,
        moon: Some(20.0),
        headline: Some("lower p99 of puts, 100 in flight"),
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W01",
        title: "p50 of a lone put",
        figure: "p50",
        applies: any,
        must: 1.6,
        moon: Some(2.2),
        headline: Some("lower p50 of a lone put"),
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W01",
        title: "disk bytes of a lone put",
        figure: "bytes",
        applies: any,
        must: 2.5,
        moon: Some(3.5),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W02",
        title: "server CPU per put, 100 in flight (issue 4)",
        figure: "cpu",
        applies: any,
        must: 10.0,
        moon: None,
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W03",
        title: "puts per second",
        figure: "rate",
        applies: any,
        must: 5.0,
        moon: Some(8.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W03",
        title: "disk bytes per put",
        figure: "bytes",
        applies: any,
        must: 1.2,
        moon: Some(1.4),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W04",
        title: "p99.9 of puts at 10 000/s, open loop",
        figure: "p999",
        applies: |cell| {
            cell.load
                .rate
                .is_some_and(|rate| (rate - 10_000.0).abs() < 1.0)
        },
        must: 8.0,
        moon: Some(20.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W07",
        title: "server CPU per serializable get",
        figure: "cpu",
        applies: is_busy_serializable_get,
        must: 7.0,
        moon: Some(12.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W07",
        title: "gets per second",
        figure: "rate",
        applies: is_busy,
        must: 4.0,
        moon: Some(6.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W12",
        title: "reads per second, one read to a write",
        figure: "reads",
        applies: |cell| (cell.shape.read_ratio - 1.0).abs() < 1e-9,
        must: 8.0,
        moon: Some(20.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W12",
        title: "writes per second, one read to a write",
        figure: "writes",
        applies: |cell| (cell.shape.read_ratio - 1.0).abs() < 1e-9,
        must: 8.0,
        moon: Some(20.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W14",
        title: "server CPU per txn of 10 puts",
        figure: "cpu",
        applies: |cell| cell.shape.workload == Kind::TxnPuts && cell.shape.batch == 10,
        must: 8.0,
        moon: Some(14.0),
        headline: None,
        aim: Aim::TimesBetter,
    },
    Target {
        workload: "W35",
        title: "goodput at twice the capacity, share of capacity",
        figure: "goodput-share",
        applies: any,
        must: 0.9,
        moon: Some(0.95),
        headline: None,
        aim: Aim::Itself,
    },
];

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
