//! Servers with less memory than the machine has: a control group of the kernel's, version 1 or 2.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A group of its own for one server; removed with its handle, after the server.
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes a group below `parent` whose members use at most so many bytes, the page cache of their files included, and no swap.
    ///
    /// # Errors
    /// When the directory is no control group with memory, or no group may be made there.
    pub(crate) fn create(parent: &Path, name: &str, bytes_max: u64) -> Result<Self> {
        let path = parent.join(name);
        fs::create_dir(&path)
            .with_context(|| format!("making the control group {}", path.display()))?;
        let group = Self { path };
        let set = |file: &str, text: &str| {
            let path = group.path.join(file);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        let has = |file: &str| group.path.join(file).exists();
        // Each version has a bound for memory and swap together or for swap alone, where the kernel counts swap.
        if has("memory.max") {
            set("memory.max", &bytes_max.to_string())?;
            if has("memory.swap.max") {
                set("memory.swap.max", "0")?;
            }
        } else if has("memory.limit_in_bytes") {
            set("memory.limit_in_bytes", &bytes_max.to_string())?;
            if has("memory.memsw.limit_in_bytes") {
                set("memory.memsw.limit_in_bytes", &bytes_max.to_string())?;
            }
        } else {
            bail!(
                "{} gives its groups no bound of memory: it is no control group, or the memory controller is not enabled for what is below it",
                parent.display()
            );
        }
        Ok(group)
    }

    /// The file to which a process writes its number to become a member.
    pub(crate) fn members(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// How often the kernel killed a member for lack of memory.
    pub(crate) fn kills(&self) -> u64 {
        let read = |file: &str| fs::read_to_string(self.path.join(file)).ok();
        let text = read("memory.events").or_else(|| read("memory.oom_control"));
        let count = text.as_deref().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("oom_kill "))?;
            line.split_whitespace().nth(1)?.parse().ok()
        });
        count.unwrap_or(0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A killed member leaves a moment after it was waited for.
        for _ in 0..REMOVE_TRIES {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        eprintln!(
            "WARNING: the control group {} is left behind",
            self.path.display()
        );
    }
}

const REMOVE_TRIES: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_no_control_group_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Cgroup::create(folder.path(), "bench", 1 << 29)
            .err()
            .unwrap();
        let expected = format!(
            "{} gives its groups no bound of memory",
            folder.path().display()
        );
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(!folder.path().join("bench").exists());
    }

    #[test]
    fn kills_are_read_of_both_versions() {
        let folder = tempfile::tempdir().unwrap();
        let group = Cgroup {
            path: folder.path().join("group"),
        };
        fs::create_dir(&group.path).unwrap();
        assert_eq!(group.kills(), 0);
        let old = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
        fs::write(group.path.join("memory.oom_control"), old).unwrap();
        assert_eq!(group.kills(), 2);
        let new = "low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n";
        fs::write(group.path.join("memory.events"), new).unwrap();
        assert_eq!(group.kills(), 1);
        fs::remove_dir_all(&group.path).unwrap();
        fs::create_dir(&group.path).unwrap();
    }
}
