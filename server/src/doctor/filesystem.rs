use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a directory lies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filesystem {
    /// The system's word for it, such as ext4.
    pub(super) kind: String,
    /// What is mounted.
    pub(super) device: String,
    /// Where.
    pub(super) mount: PathBuf,
    /// Bytes that a user without privileges may still write.
    pub(super) free_bytes: u64,
    /// Bytes in all.
    pub(super) total_bytes: u64,
}

impl Filesystem {
    pub(super) fn of(dir: &Path) -> io::Result<Self> {
        let whole = dir.canonicalize()?;
        let space = rustix::fs::statvfs(&whole)?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let (mount, kind, device) = mount_of(&whole, &mounts).unwrap_or_else(|| {
            let unknown = || "unknown".to_owned();
            (PathBuf::from("/"), unknown(), unknown())
        });
        Ok(Self {
            kind,
            device,
            mount,
            free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
            total_bytes: space.f_blocks.saturating_mul(space.f_frsize),
        })
    }
}

/// Mount point, filesystem and device of the innermost mount above `path`; of several at one place the last holds.
fn mount_of(path: &Path, mounts: &str) -> Option<(PathBuf, String, String)> {
    let mut best: Option<(PathBuf, String, String)> = None;
    for line in mounts.lines() {
        let Some((front, back)) = line.split_once(" - ") else {
            continue;
        };
        let Some(mount) = front.split(' ').nth(4) else {
            continue;
        };
        let mount = PathBuf::from(unescape(mount));
        let mut back = back.split(' ');
        let (Some(kind), Some(device)) = (back.next(), back.next()) else {
            continue;
        };
        let depth = mount.components().count();
        let is_inner = best
            .as_ref()
            .is_none_or(|(known, ..)| known.components().count() <= depth);
        if path.starts_with(&mount) && is_inner {
            best = Some((mount, kind.to_owned(), unescape(device)));
        }
    }
    best
}

/// The kernel writes blanks and backslashes as octal numbers.
fn unescape(text: &str) -> String {
    [
        (r"\040", " "),
        (r"\011", "\t"),
        (r"\012", "\n"),
        (r"\134", r"\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_holds() {
        let mounts = "21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
                      30 21 0:27 / /data rw - tmpfs tmpfs rw\n\
                      31 21 8:17 / /data rw - xfs /dev/sdb1 rw\n\
                      32 21 8:33 / /data/with\\040blank rw - btrfs /dev/sdc rw\n\
                      nonsense\n";
        let kind = |path: &str| mount_of(Path::new(path), mounts).expect("a mount").1;
        assert_eq!(kind("/home"), "ext4");
        assert_eq!(kind("/database"), "ext4");
        assert_eq!(kind("/data/x"), "xfs");
        assert_eq!(kind("/data/with blank/x"), "btrfs");
        assert_eq!(mount_of(Path::new("/x"), ""), None);
    }
}
