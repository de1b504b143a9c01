//! What a scenario may cost: the committed counts, and the verdict on new ones.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One scenario's cost per operation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// Instructions in user space.
    pub instructions: f64,
    /// Pieces of memory asked of the allocator.
    pub allocations: f64,
}

/// The committed file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// The compiler that built what was counted; another one makes other instructions.
    pub rustc: String,
    pub scenarios: BTreeMap<String, Cost>,
}

/// How a scenario did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Same,
    /// Cheaper by more than the tolerance: the baseline should follow, or the gain can be lost again unnoticed.
    Better,
    Worse,
    /// Not in the baseline.
    New,
}

impl Baseline {
    /// Reads a file that `write` wrote.
    ///
    /// # Errors
    /// When it is missing or not a baseline; names it.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("no baseline at {}; make one with --bless", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Writes it.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        Ok(std::fs::write(
            path,
            serde_json::to_string_pretty(self)? + "\n",
        )?)
    }

    /// The verdict on one scenario.
    pub(crate) fn judge(&self, scenario: &str, now: Cost) -> Verdict {
        let Some(was) = self.scenarios.get(scenario) else {
            return Verdict::New;
        };
        let change = now.instructions / was.instructions - 1.0;
        if change > TOLERANCE || now.allocations > was.allocations + ALLOCATIONS_TOLERANCE {
            Verdict::Worse
        } else if change < -TOLERANCE || now.allocations < was.allocations - ALLOCATIONS_TOLERANCE {
            Verdict::Better
        } else {
            Verdict::Same
        }
    }

    /// A table of all scenarios of `now`, and whether none is worse.
    pub(crate) fn compare(&self, now: &Baseline) -> (String, bool) {
        let mut out = format!(
            "{:<18} {:>12} {:>12} {:>8} {:>8} {:>8}\n",
            "scenario", "baseline", "now", "change", "allocs", "now"
        );
        let mut is_good = true;
        for (name, cost) in &now.scenarios {
            let verdict = self.judge(name, *cost);
            is_good &= verdict != Verdict::Worse;
            let was = self.scenarios.get(name).copied();
            let was = was.unwrap_or(*cost);
            // Writing to a string cannot fail.
            let _ = writeln!(
                out,
                "{name:<18} {:>12.1} {:>12.1} {:>+7.2}% {:>8.3} {:>8.3}  {}",
                was.instructions,
                cost.instructions,
                (cost.instructions / was.instructions - 1.0) * 100.0,
                was.allocations,
                cost.allocations,
                match verdict {
                    Verdict::Same => "",
                    Verdict::Better => "better: keep it with --bless",
                    Verdict::Worse => "WORSE",
                    Verdict::New => "new: add it with --bless",
                }
            );
        }
        (out, is_good)
    }
}

/// A larger rise in instructions fails.
const TOLERANCE: f64 = 0.03;

/// A larger rise in allocations per operation fails: they are counted exactly, but for what timers do.
const ALLOCATIONS_TOLERANCE: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(instructions: f64, allocations: f64) -> Cost {
        Cost {
            instructions,
            allocations,
        }
    }

    fn baseline() -> Baseline {
        Baseline {
            rustc: "rustc".to_owned(),
            scenarios: BTreeMap::from([("get".to_owned(), cost(1000.0, 0.0))]),
        }
    }

    #[test]
    fn four_percent_more_instructions_are_worse_and_two_are_not() {
        assert_eq!(baseline().judge("get", cost(1040.0, 0.0)), Verdict::Worse);
        assert_eq!(baseline().judge("get", cost(1020.0, 0.0)), Verdict::Same);
    }

    #[test]
    fn one_allocation_more_is_worse_however_few_instructions_it_takes() {
        assert_eq!(baseline().judge("get", cost(1005.0, 1.0)), Verdict::Worse);
    }

    #[test]
    fn a_gain_asks_to_be_kept_and_an_unknown_scenario_to_be_added() {
        assert_eq!(baseline().judge("get", cost(900.0, 0.0)), Verdict::Better);
        assert_eq!(baseline().judge("put", cost(900.0, 0.0)), Verdict::New);
    }

    #[test]
    fn one_worse_scenario_fails_the_whole() {
        let mut now = baseline();
        assert!(baseline().compare(&now).1);
        now.scenarios.insert("get".to_owned(), cost(2000.0, 0.0));
        assert!(!baseline().compare(&now).1);
    }
}
