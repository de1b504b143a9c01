//! A folder of results/: written once, never changed afterwards.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// One measurement's folder.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes `<date>-<short commit>-<name>` below `root`, with a number behind it when that is taken: results are never overwritten.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn create(root: &Path, name: &str) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("making {}", root.display()))?;
        let stem = format!("{}-{}-{name}", today(), commit(None));
        for number in 1..=SAME_DAY_MAX {
            let path = match number {
                1 => root.join(&stem),
                _ => root.join(format!("{stem}-{number}")),
            };
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("making {}", path.display()));
                }
            }
        }
        bail!("{stem} is there {SAME_DAY_MAX} times: choose another --name")
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn write(&mut self, file: &str, value: &impl Serialize) -> Result<()> {
        self.write_text(file, &(serde_json::to_string_pretty(value)? + "\n"))
    }

    /// Writes a text.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn write_text(&mut self, file: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.path.join(file), text)?)
    }

    /// Adds one line of JSON, so that an aborted comparison leaves what it had measured.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn append(&mut self, file: &str, value: &impl Serialize) -> Result<()> {
        let mut to = File::options()
            .create(true)
            .append(true)
            .open(self.path.join(file))?;
        writeln!(to, "{}", serde_json::to_string(value)?)?;
        Ok(())
    }
}

/// The short commit of a folder or of the working directory, with `dirty` when it holds changes.
pub(crate) fn commit(folder: Option<&Path>) -> String {
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        if let Some(folder) = folder {
            git.current_dir(folder);
        }
        let output = git.args(arguments).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else {
        return "nocommit".to_owned();
    };
    let clean = git(&["status", "--porcelain", "--untracked-files=no"])
        .is_some_and(|changes| changes.is_empty());
    if clean { commit } else { commit + "dirty" }
}

fn today() -> String {
    date(seconds() / DAY_SECONDS)
}

/// This moment in UTC, such as `2026-11-21T12:35:07Z`.
pub(crate) fn now() -> String {
    let seconds = seconds();
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!(
        "{}T{hours:02}:{minutes:02}:{:02}Z",
        date(seconds / DAY_SECONDS),
        seconds % 60
    )
}

fn seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The proleptic Gregorian date of a day since 1970-01-01.
fn date(days: u64) -> String {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut rest = days;
    let mut year = 1970;
    while rest >= 365 + u64::from(is_leap(year)) {
        rest -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", rest + 1)
}

const DAY_SECONDS: u64 = 86_400;

/// Runs of one plan and commit on one day.
const SAME_DAY_MAX: u32 = 99;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_know_leap_years_and_ends_of_months() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(11_017), "2000-03-01");
        assert_eq!(date(20_818), "2026-12-31");
        assert_eq!(date(20_819), "2027-01-01");
    }
}
