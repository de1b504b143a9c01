//! What the slices say together: equal data, noise, and the lines that people read.

use std::fmt::Write as _;

use anyhow::{Result, ensure};

use crate::plan::{BASALT, BASALT_AGAIN};
use crate::record::Slice;
use crate::statistics::{Ratio, Sample};

/// The data that each slice of a cell left: the same on all servers.
#[derive(Default)]
pub(crate) struct Digests {
    first: Option<(String, u64)>,
}

impl Digests {
    /// Hears one more.
    ///
    /// # Errors
    /// When it differs from the first.
    pub(crate) fn compare(&mut self, server: &str, digest: u64) -> Result<()> {
        let (first, expected) = self
            .first
            .get_or_insert_with(|| (server.to_owned(), digest));
        ensure!(
            *expected == digest,
            "the servers do not hold the same data: digest {expected:016x} of {first}, {digest:016x} of {server}"
        );
        Ok(())
    }
}

/// One slice in one line.
pub(crate) fn slice_line(slice: &Slice) -> String {
    let figures = &slice.figures;
    let mut line = format!(
        "{} {} {}: {:.0}/s, {:.2} µs CPU/op, p50 {:.0} µs, p99 {:.0} µs, steal {:.1} %",
        slice.cell,
        slice.placement.name(),
        slice.server,
        figures.per_second,
        figures.per_operation.server_cpu_us,
        figures.latency.p50_us,
        figures.latency.p99_us,
        figures.steal * 100.0,
    );
    // Writing to a string cannot fail.
    if let Some(capacity) = &figures.capacity {
        let _ = write!(line, ", capacity {:.0}/s", capacity.per_second);
    }
    if let Some(overload) = &figures.overload {
        let _ = write!(
            line,
            ", goodput {:.0}/s of {:.0}/s",
            overload.goodput_per_second, overload.capacity_per_second
        );
    }
    if let Some(why) = &slice.discarded {
        let _ = write!(line, ", DISCARDED: {why}");
    }
    if let Some(why) = &slice.disturbed {
        let _ = write!(line, ", kept though disturbed: {why}");
    }
    line
}

/// Why an A/A run does not show what it must: per cell and placement, the interval of the ratio of CPU per operation.
pub(crate) fn noise(slices: &[Slice]) -> Vec<String> {
    let mut failures = Vec::new();
    let mut stages: Vec<_> = slices
        .iter()
        .map(|slice| (slice.cell.as_str(), slice.placement))
        .collect();
    stages.dedup();
    for (cell, placement) in stages {
        let of = |server: &str| -> Vec<Sample> {
            let counts = |slice: &&Slice| {
                slice.cell == cell
                    && slice.placement == placement
                    && slice.server == server
                    && slice.discarded.is_none()
            };
            let kept = slices.iter().filter(counts);
            kept.map(|slice| Sample {
                round: slice.round,
                value: slice.figures.per_operation.server_cpu_us,
            })
            .collect()
        };
        let problem = match Ratio::of(&of(BASALT), &of(BASALT_AGAIN)) {
            None => "one of the two has no slice that counts".to_owned(),
            Some(Ratio { low, high, .. }) if low > 1.0 || high < 1.0 => {
                format!(
                    "the ratio of a program to itself is {low:.4} to {high:.4}: it does not hold 1"
                )
            }
            Some(Ratio { low, high, .. }) if high - low >= WIDTH_MAX => format!(
                "the ratio of a program to itself is {low:.4} to {high:.4}: too wide, more rounds or a quieter machine are needed"
            ),
            Some(_) => continue,
        };
        failures.push(format!("{cell} {}: {problem}", placement.name()));
    }
    failures
}

/// The part of the summary that says what failed and what to mistrust; empty when there is nothing.
pub(crate) fn failures(failures: &[String], warnings: &[String]) -> String {
    let mut text = String::new();
    for (title, lines) in [("Failed", failures), ("Warnings", warnings)] {
        if !lines.is_empty() {
            let _ = writeln!(text, "\n## {title}\n");
            for line in lines {
                let _ = writeln!(text, "- {}", line.trim_end().replace('\n', "\n  "));
            }
        }
    }
    text
}

/// What the interval of an A/A run may span.
const WIDTH_MAX: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_with_other_data_are_named() {
        let mut digests = Digests::default();
        digests.compare("basalt", 1).unwrap();
        digests.compare("basalt", 1).unwrap();
        let error = digests.compare("etcd-tuned", 2).unwrap_err().to_string();
        assert_eq!(
            error,
            "the servers do not hold the same data: digest 0000000000000001 of basalt, 0000000000000002 of etcd-tuned"
        );
    }
}
