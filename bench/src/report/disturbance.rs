//! What stood in the way of a measurement, so that a reader can judge it: discarded slices, thieves of time, a generator at its limit.

use super::measured::Measured;
use crate::record::Slice;

/// Everything of a folder, in words.
#[derive(Default)]
pub(super) struct Disturbances {
    pub slices: usize,
    /// Slice and reason; they are not counted in any figure.
    pub discarded: Vec<String>,
    /// Slices that count although they would have been discarded, had there been repeats left.
    pub counted: Vec<String>,
    /// What the method found odd about slices that count.
    pub odd: Vec<String>,
    /// Cell, placement and server where the generator was the limit.
    pub client_bound: Vec<String>,
    /// Slices with failed operations, and which.
    pub failures: Vec<String>,
}

impl Disturbances {
    /// `242 slices, 6 of them discarded.`
    pub(super) fn count(&self) -> String {
        format!(
            "{} slices, {} of them discarded.",
            self.slices,
            self.discarded.len()
        )
    }

    /// Each kind that happened: a heading with how many, and the first of them.
    pub(super) fn groups(&self) -> impl Iterator<Item = (String, Vec<String>)> {
        let all: [(&str, &[String]); 5] = [
            ("discarded and not counted in any figure", &self.discarded),
            (
                "disturbed, but counted because the repeats were used up",
                &self.counted,
            ),
            (
                "where the generator was the limit, so that the rate is a lower bound",
                &self.client_bound,
            ),
            ("with failed operations", &self.failures),
            ("odd, but counted", &self.odd),
        ];
        all.into_iter()
            .filter(|(_, slices)| !slices.is_empty())
            .map(|(title, slices)| {
                let more = slices.len().saturating_sub(LISTED_MAX);
                let more = (more > 0).then(|| format!("and {more} more, in slices.jsonl"));
                let listed = slices.iter().take(LISTED_MAX).cloned();
                let heading = format!("{} {title}", slices.len());
                (heading, listed.chain(more).collect())
            })
    }
}

/// Lines of one kind; an A/A run on a shared host has a thousand.
const LISTED_MAX: usize = 20;

/// Looks through a folder.
pub(super) fn disturbances(measured: &[Measured<'_>], slices: &[Slice]) -> Disturbances {
    let mut found = Disturbances {
        slices: slices.len(),
        ..Disturbances::default()
    };
    for slice in slices {
        if let Some(reason) = &slice.discarded {
            found.discarded.push(format!("{}: {reason}", name(slice)));
        } else if let Some(reason) = &slice.disturbed {
            found.counted.push(format!("{}: {reason}", name(slice)));
        }
        for warning in &slice.warnings {
            found.odd.push(format!("{}: {warning}", name(slice)));
        }
        let verified = &slice.figures.verified;
        if !verified.failures.is_empty() || verified.over_limit > 0 {
            let kinds: Vec<String> = verified
                .failures
                .iter()
                .map(|(kind, count)| format!("{count} × {kind}"))
                .chain(
                    (verified.over_limit > 0)
                        .then(|| format!("{} × too many in flight", verified.over_limit)),
                )
                .collect();
            found
                .failures
                .push(format!("{}: {}", name(slice), kinds.join(", ")));
        }
    }
    for measured in measured {
        for side in &measured.sides {
            if side.is_client_bound() {
                let name = format!("{} {}", measured.name(), side.server);
                found.client_bound.push(name);
            }
        }
    }
    found
}

fn name(slice: &Slice) -> String {
    format!(
        "{} {} {}, slice {}",
        slice.cell,
        slice.placement.name(),
        slice.server,
        slice.place
    )
}
