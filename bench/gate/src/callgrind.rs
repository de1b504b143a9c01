//! Runs a program under valgrind's callgrind and reads what it counted.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::baseline::Cost;

/// What one run executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Instructions of all threads in user space.
    pub instructions: u64,
    /// Calls of the allocator that hand out memory, from outside of it.
    pub allocations: u64,
}

impl Counted {
    /// What one of `operations` costs by which `longer` did more than `self`: start and end of the process drop out.
    pub(crate) fn cost_to(self, longer: Counted, operations: u64) -> Cost {
        let each = |more: u64, less: u64| (more as f64 - less as f64) / operations as f64;
        Cost {
            instructions: each(longer.instructions, self.instructions),
            allocations: each(longer.allocations, self.allocations),
        }
    }
}

/// A command that runs `program` under callgrind, counts going to `out`. The environment is fixed and the C library told to
/// use its plain variants, so that neither user nor CPU decides which instructions run.
///
/// # Errors
/// When valgrind is not installed: says how to get it.
pub(crate) fn command(program: &Path, out: &Path) -> Result<Command> {
    let found = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if !found.is_ok_and(|status| status.success()) {
        bail!(
            "valgrind is missing; the distribution has it, for example: apt-get install valgrind"
        );
    }
    let mut command = Command::new("valgrind");
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C")
        .env("GLIBC_TUNABLES", PLAIN_LIBRARY)
        .args(["--tool=callgrind", "--quiet", "--cache-sim=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program);
    Ok(command)
}

/// Reads the file that callgrind wrote.
///
/// # Errors
/// When it is not there or is not callgrind's.
pub(crate) fn read(out: &Path) -> Result<Counted> {
    let text = std::fs::read_to_string(out)
        .with_context(|| format!("callgrind wrote nothing to {}", out.display()))?;
    parse(&text)
}

fn parse(text: &str) -> Result<Counted> {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut counted = Counted::default();
    let mut caller = "";
    let mut callee = "";
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("fn=") {
            caller = name(&mut names, value);
        } else if let Some(value) = line.strip_prefix("cfn=") {
            callee = name(&mut names, value);
        } else if let Some(value) = line.strip_prefix("calls=") {
            let calls: u64 = value
                .split(' ')
                .next()
                .and_then(|count| count.parse().ok())
                .with_context(|| format!("not a line of callgrind: {line}"))?;
            if hands_out_memory(callee) && !caller.contains("mi_") {
                counted.allocations += calls;
            }
        } else if let Some(value) = line.strip_prefix("totals:") {
            counted.instructions += value.trim().parse::<u64>()?;
        }
    }
    ensure!(counted.instructions > 0, "callgrind counted nothing");
    Ok(counted)
}

/// Names are written out once, `(12) name`, and then only named, `(12)`.
fn name<'a>(names: &mut HashMap<&'a str, &'a str>, value: &'a str) -> &'a str {
    match value.split_once(' ') {
        Some((id, name)) => {
            names.insert(id, name);
            name
        }
        None => names.get(value).copied().unwrap_or_default(),
    }
}

fn hands_out_memory(function: &str) -> bool {
    ["mi_malloc", "mi_zalloc", "mi_realloc", "mi_calloc"]
        .iter()
        .any(|prefix| function.starts_with(prefix))
}

/// Without these the C library picks its copies and compares by the CPU it finds.
const PLAIN_LIBRARY: &str = "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX_Fast_Unaligned_Load,-AVX512F,-AVX512VL,-ERMS,-FSRM,-BMI2,-LZCNT,-MOVBE,-Prefer_No_VZEROUPPER";

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "events: Ir\n\nfn=(1) main\n1 10\ncfn=(2) mi_malloc\ncalls=3 0\n1 30\n\nfn=(2)\n1 30\n\
                        cfn=(3) mi_malloc_aligned\ncalls=7 0\n1 5\n\nfn=(4) other\ncfn=(2)\ncalls=2 0\n1 20\n\ntotals: 1234\n";

    #[test]
    fn only_calls_from_outside_the_allocator_count_as_allocations() {
        let counted = parse(FILE).unwrap();
        assert_eq!(
            counted,
            Counted {
                instructions: 1234,
                allocations: 5
            }
        );
    }

    #[test]
    fn a_file_without_totals_is_refused() {
        assert!(parse("events: Ir\n").is_err());
    }
}
