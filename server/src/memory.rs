//! How much memory there is for this process.

use std::fs;
use std::path::{Path, PathBuf};

/// `--cache-bytes` where it is not given: a quarter of the memory, of the machine or of the control
/// group, whichever has less.
pub(crate) fn cache_bytes() -> u64 {
    (memory_bytes().unwrap_or(0) / 4).max(CACHE_BYTES_MIN)
}

/// `None` where the system does not say.
fn memory_bytes() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(machine_bytes);
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = limit_files(&own).into_iter();
    let groups = groups.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    groups.chain(machine).min()
}

fn machine_bytes(meminfo: &str) -> Option<u64> {
    let rest = meminfo
        .lines()
        .find_map(|it| it.strip_prefix("MemTotal:"))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The files that may hold a limit: of the own group and of those above it, in version 2 and in
/// version 1. A container may see its own group as the root.
fn limit_files(own: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (root, name) = match parts.next() {
            Some("") => (ROOT, "memory.max"),
            Some(kinds) if kinds.split(',').any(|kind| kind == "memory") => {
                (ROOT_1, "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(parts.next().unwrap_or("/").trim_start_matches('/'));
        files.extend(
            group
                .ancestors()
                .map(|group| Path::new(root).join(group).join(name)),
        );
    }
    files
}

const ROOT: &str = "/sys/fs/cgroup";
const ROOT_1: &str = "/sys/fs/cgroup/memory";

/// On a small machine too the hot part of a usual store fits.
const CACHE_BYTES_MIN: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        let meminfo = "MemTotal:       24676352 kB\nMemFree: 1 kB\n";
        assert_eq!(machine_bytes(meminfo), Some(24_676_352 * 1024));
        assert_eq!(machine_bytes("MemFree: 1 kB\n"), None);
        assert!(cache_bytes() >= CACHE_BYTES_MIN);
    }

    /// A limit on any group above counts too.
    #[test]
    fn limits_are_looked_for_from_the_own_group_up() {
        let own = "4:memory:/a/b\n1:name=systemd:/x\n0::/u\n";
        let files: Vec<String> = limit_files(own)
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        let expected = [
            "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/u/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(files, expected);
    }
}
