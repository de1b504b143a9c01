//! The disk below a directory: its counters, and how one sees that a write of it is durable.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Counters of all disks below a directory, added up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub writes: u64,
    pub bytes: u64,
    pub flushes: u64,
}

/// What the disk shows of a durable write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// A volatile cache without forced unit access: nothing is durable without a flush.
    Flush,
    /// No volatile cache, or writes that pass it by: a write request can be durable without a flush.
    Write,
    /// No block device is known below the directory: nothing can be proved.
    None,
}

/// Whole disks; a partition's flushes are counted by its disk only, a mapped device's by those below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disks {
    /// Folders below /sys/devices.
    folders: Vec<PathBuf>,
    /// Their numbers, as in /proc/diskstats.
    numbers: Vec<String>,
}

impl Disks {
    /// The disks that hold `folder`; none for memory and network file systems.
    ///
    /// # Errors
    /// When there is no such directory.
    pub(crate) fn below(folder: &Path) -> Result<Self> {
        let number = fs::metadata(folder)
            .with_context(|| format!("no directory {}", folder.display()))?
            .st_dev();
        let mut device = sysfs(number);
        if device.is_none() {
            // btrfs and overlays have numbers of their own; the mount names the device.
            let source = mount_of(folder).map(|mount| mount.source);
            device = source
                .filter(|source| source.starts_with("/dev/"))
                .and_then(|source| fs::metadata(source).ok())
                .and_then(|metadata| sysfs(metadata.st_rdev()));
        }
        let mut folders = Vec::new();
        if let Some(device) = device {
            whole_disks(&device, &mut folders, DEPTH_MAX);
        }
        let numbers = folders
            .iter()
            .filter_map(|folder| fs::read_to_string(folder.join("dev")).ok())
            .map(|number| number.trim().replace(':', " "))
            .collect();
        Ok(Self { folders, numbers })
    }

    /// What they have done since the machine started.
    ///
    /// # Errors
    /// When the kernel shows no disk counters.
    pub(crate) fn counters(&self) -> Result<Counters> {
        let mut sum = Counters::default();
        if self.numbers.is_empty() {
            return Ok(sum);
        }
        let text = fs::read_to_string("/proc/diskstats")?;
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.len() < 19 || !self.numbers.contains(&format!("{} {}", words[0], words[1])) {
                continue;
            }
            let number = |place: usize| words[place].parse::<u64>().unwrap_or(0);
            sum.writes += number(7);
            sum.bytes += number(9) * SECTOR_BYTES;
            sum.flushes += number(18);
        }
        Ok(sum)
    }

    /// How a durable write is seen.
    pub(crate) fn proof(&self) -> Proof {
        if self.folders.is_empty() {
            return Proof::None;
        }
        let is = |folder: &Path, file: &str, value: &str| {
            fs::read_to_string(folder.join("queue").join(file))
                .is_ok_and(|text| text.trim() == value)
        };
        let by_write =
            |folder: &PathBuf| is(folder, "write_cache", "write through") || is(folder, "fua", "1");
        if self.folders.iter().any(by_write) {
            Proof::Write
        } else {
            Proof::Flush
        }
    }

    /// Name, scheduler, cache and forced unit access of each.
    pub(crate) fn describe(&self) -> Vec<String> {
        let read = |folder: &Path, file: &str| {
            fs::read_to_string(folder.join(file))
                .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
        };
        let one = |folder: &PathBuf| {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            format!(
                "{name}: scheduler {}, cache {}, forced unit access {}, rotational {}",
                read(folder, "queue/scheduler"),
                read(folder, "queue/write_cache"),
                read(folder, "queue/fua"),
                read(folder, "queue/rotational"),
            )
        };
        self.folders.iter().map(one).collect()
    }
}

/// A line of /proc/self/mountinfo.
pub(crate) struct Mount {
    pub kind: String,
    pub source: String,
    pub options: String,
}

/// The mount that holds `folder`.
pub(crate) fn mount_of(folder: &Path) -> Option<Mount> {
    let folder = fs::canonicalize(folder).ok()?;
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    // Later mounts hide earlier ones of the same place, so the last of the longest counts.
    let holds = |line: &&str| {
        let place = line.split(' ').nth(4);
        place.is_some_and(|place| folder.starts_with(place))
    };
    let length = |line: &&str| line.split(' ').nth(4).map_or(0, str::len);
    let line = text.lines().filter(holds).max_by_key(length)?;
    let (before, after) = line.split_once(" - ")?;
    let mut words = after.split(' ');
    Some(Mount {
        kind: words.next()?.to_owned(),
        source: words.next()?.to_owned(),
        options: before.split(' ').nth(5)?.to_owned(),
    })
}

fn sysfs(number: u64) -> Option<PathBuf> {
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()
}

fn whole_disks(device: &Path, out: &mut Vec<PathBuf>, depth: u8) {
    if depth > 0 && device.join("partition").exists() {
        if let Some(disk) = device.parent() {
            whole_disks(disk, out, depth - 1);
        }
        return;
    }
    let below: Vec<PathBuf> = fs::read_dir(device.join("slaves"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::canonicalize(entry.path()).ok())
        .collect();
    if depth == 0 || below.is_empty() {
        if !out.iter().any(|known| known == device) {
            out.push(device.to_owned());
        }
        return;
    }
    for device in below {
        whole_disks(&device, out, depth - 1);
    }
}

const SECTOR_BYTES: u64 = 512;

/// Mapped devices lie on each other; deeper than this nobody stacks them.
const DEPTH_MAX: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_file_system_has_no_disk_and_proves_nothing() {
        let disks = Disks::below(Path::new("/proc")).unwrap();
        assert_eq!(disks.proof(), Proof::None);
        assert_eq!(disks.counters().unwrap().flushes, 0);
    }

    #[test]
    fn the_mount_of_a_folder_is_the_innermost() {
        let mount = mount_of(Path::new("/proc/self")).unwrap();
        assert_eq!(mount.kind, "proc");
    }
}
