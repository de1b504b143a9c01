//! The data directory: made, locked, and the only door to its files.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::{AheadDisk, BlockingDisk, WalIo, WalIoKind};
use crate::disk::{File, Page};

/// Why a directory is not used.
#[derive(Debug, thiserror::Error)]
pub enum DirRefused {
    /// Another process holds it.
    #[error("{} is in use by another process; stop that one, or give another --data-dir", .0.display())]
    InUse(PathBuf),
    /// The system refused something.
    #[error("cannot {what} {}: {error}; check --data-dir, its owner and its mode", path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
}

/// A data directory that this process holds alone for as long as any part of it lives.
#[derive(Debug)]
pub struct DataDir {
    shared: Arc<Shared>,
    notices: Vec<String>,
}

/// What the disks of one directory share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Holds the lock too.
    pub(super) dir: OwnedFd,
    /// Files are opened past the page cache.
    pub(super) direct: bool,
    /// The kernel knows RWF_DSYNC here; else a write is followed by fdatasync.
    pub(super) dsync: bool,
    /// Nothing is written, made, renamed or removed through it.
    pub(super) read_only: bool,
    /// A file of the log is opened once: by the background worker that makes it, before the log is told of it. Segments of the
    /// revision log are too many to be kept open.
    files: Mutex<BTreeMap<File, Arc<OwnedFd>>>,
}

impl DataDir {
    /// Opens `path/member`, making both with mode 0700 if they are missing, and takes the lock. Writes no file.
    ///
    /// # Errors
    /// Another process has it, or the system refuses.
    pub fn open(path: &Path) -> Result<Self, DirRefused> {
        let member = path.join("member");
        let system = |what, path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| DirRefused::System { what, path, error }
        };
        let to_flush = directories_to_flush(path).map_err(system("find", path))?;
        let is_fresh = !member.exists();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&member)
            .map_err(system("make", &member))?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let open =
            |path: &Path| rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from);
        let dir = open(&member).map_err(system("open", &member))?;
        match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(DirRefused::InUse(member)),
            other => other
                .map_err(io::Error::from)
                .map_err(system("lock", &member))?,
        }
        // The names of new directories must outlive a power cut as the files in them do.
        for directory in to_flush {
            let flushed = open_followed(&directory).and_then(|fd| Ok(rustix::fs::fsync(fd)?));
            // An earlier start may have been killed before it came here; but what lies above a
            // directory that was there is not always ours to open.
            if is_fresh {
                flushed.map_err(system("flush", &directory))?;
            }
        }
        let mut notices = Vec::new();
        let mode = rustix::fs::fstat(&dir)
            .map_err(io::Error::from)
            .map_err(system("stat", &member))?
            .st_mode
            & 0o777;
        if mode & 0o077 != 0 {
            notices.push(format!(
                "{} has mode {mode:04o}; 0700 keeps others out",
                member.display()
            ));
        }
        let (direct, dsync) = probe(&dir, &mut notices);
        let shared = Arc::new(Shared {
            dir,
            direct,
            dsync,
            read_only: false,
            files: Mutex::default(),
        });
        Ok(Self { shared, notices })
    }

    /// Opens `path/member` to be read and nothing else, and says whether another process holds it now. The lock is not
    /// taken: a server may start meanwhile.
    ///
    /// # Errors
    /// It is not there, or the system refuses.
    pub fn open_read_only(path: &Path) -> Result<(Self, bool), DirRefused> {
        let member = path.join("member");
        let refused = |what| {
            let path = member.clone();
            move |error: Errno| DirRefused::System {
                what,
                path,
                error: error.into(),
            }
        };
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let dir = rustix::fs::open(&member, flags, Mode::empty()).map_err(refused("open"))?;
        let is_held = match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => true,
            other => {
                other.map_err(refused("ask for the lock of"))?;
                rustix::fs::flock(&dir, FlockOperation::Unlock)
                    .map_err(refused("give back the lock of"))?;
                false
            }
        };
        let shared = Arc::new(Shared {
            dir,
            direct: true,
            dsync: false,
            read_only: true,
            files: Mutex::default(),
        });
        let notices = Vec::new();
        Ok((Self { shared, notices }, is_held))
    }

    /// What an operator should hear: an open mode, or a filesystem without O_DIRECT.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Whether reads and writes go past the page cache.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.shared.direct
    }

    /// Whether a write can be durable by itself; else a flush follows it.
    #[must_use]
    pub fn has_dsync(&self) -> bool {
        self.shared.dsync
    }

    /// The disk of a start, which reads ahead.
    #[must_use]
    pub fn ahead_disk(&self) -> AheadDisk {
        AheadDisk::new(self.disk())
    }

    /// A blocking disk on this directory, for a worker. All disks of a directory share their open files.
    #[must_use]
    pub fn disk(&self) -> BlockingDisk {
        BlockingDisk::new(Arc::clone(&self.shared))
    }

    /// The running log's disk.
    ///
    /// # Errors
    /// The way asked for is not open to us: io_uring refused, or no thread to be had.
    pub fn wal_io(&self, kind: WalIoKind) -> io::Result<WalIo> {
        WalIo::open(self.disk(), kind)
    }
}

impl Shared {
    /// The open file, opened now if need be.
    pub(super) fn file(&self, file: File) -> Result<Arc<OwnedFd>, Errno> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fd) = files.get(&file) {
            return Ok(Arc::clone(fd));
        }
        let fd = Arc::new(self.open(file, OFlags::empty())?);
        if !matches!(file, File::Segment(_)) {
            files.insert(file, Arc::clone(&fd));
        }
        Ok(fd)
    }

    pub(super) fn create(&self, file: File) -> Result<Arc<OwnedFd>, Errno> {
        let fd = Arc::new(self.open(file, OFlags::CREATE | OFlags::EXCL)?);
        self.files
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(file, Arc::clone(&fd));
        Ok(fd)
    }

    pub(super) fn rename(&self, from: File, to: File) -> Result<(), Errno> {
        rustix::fs::renameat(&self.dir, from.to_string(), &self.dir, to.to_string())?;
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.remove(&to);
        let fd = files.remove(&from);
        if let Some(fd) = fd.filter(|_| !matches!(to, File::Segment(_))) {
            files.insert(to, fd);
        }
        Ok(())
    }

    pub(super) fn remove(&self, file: File) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.dir, file.to_string(), rustix::fs::AtFlags::empty())?;
        self.files
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&file);
        Ok(())
    }

    fn open(&self, file: File, more: OFlags) -> Result<OwnedFd, Errno> {
        let access = match self.read_only {
            true => OFlags::RDONLY,
            false => OFlags::RDWR,
        };
        let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | more;
        let open =
            |flags| rustix::fs::openat(&self.dir, file.to_string(), flags, Mode::RUSR | Mode::WUSR);
        match self.direct {
            // Nobody has tried whether the filesystem knows it.
            true if self.read_only => open(flags | OFlags::DIRECT).or_else(|_| open(flags)),
            true => open(flags | OFlags::DIRECT),
            false => open(flags),
        }
    }
}

/// The directories in which a name may be new once `path/member` is made: `path`, the one that holds it,
/// and all above whose entry on the way there is missing.
fn directories_to_flush(path: &Path) -> io::Result<Vec<PathBuf>> {
    let whole = std::path::absolute(path)?;
    let mut directories = Vec::new();
    let mut below: Option<&Path> = None;
    for directory in whole.ancestors() {
        if directories.len() >= 2 && below.is_none_or(Path::exists) {
            break;
        }
        directories.push(directory.to_owned());
        below = Some(directory);
    }
    Ok(directories)
}

fn open_followed(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        path,
        OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY,
        Mode::empty(),
    )?)
}

/// Tries a durable write past the page cache on a file without a name: (O_DIRECT works, RWF_DSYNC works).
fn probe(dir: &OwnedFd, notices: &mut Vec<String>) -> (bool, bool) {
    let page = [Page::ZERO];
    let attempt = |direct: OFlags, dsync: ReadWriteFlags| {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | direct;
        let fd = rustix::fs::openat(dir.as_fd(), ".", flags, Mode::RUSR | Mode::WUSR)?;
        rustix::io::pwritev2(
            &fd,
            &[io::IoSlice::new(super::aligned::bytes(&page))],
            0,
            dsync,
        )
    };
    for (direct, dsync) in [(true, true), (true, false), (false, true)] {
        let flags = if direct {
            OFlags::DIRECT
        } else {
            OFlags::empty()
        };
        let how = if dsync {
            ReadWriteFlags::DSYNC
        } else {
            ReadWriteFlags::empty()
        };
        match attempt(flags, how) {
            // A full disk says nothing about the ways to write to it.
            Ok(_) | Err(Errno::NOSPC | Errno::DQUOT) => {
                if !direct {
                    notices.push(NO_DIRECT.to_owned());
                }
                return (direct, dsync);
            }
            Err(_) => {}
        }
    }
    notices.push(NO_DIRECT.to_owned());
    (false, false)
}

const NO_DIRECT: &str = "the filesystem of the data directory refuses O_DIRECT: the log goes through the page cache, and \
                         recovery reads may come from memory";

#[cfg(test)]
mod tests {
    use super::*;

    /// [R12] Every directory that gets a new name on the way to the data is flushed, the current one for
    /// a relative path too: etcd's default is one.
    #[test]
    fn all_directories_with_new_names_are_flushed() {
        let temp = tempfile::tempdir().unwrap();
        let (here, above) = (temp.path(), temp.path().parent().unwrap());
        assert_eq!(directories_to_flush(here).unwrap(), [here, above]);
        let deep = here.join("a/b/c");
        let expected = [
            deep.clone(),
            here.join("a/b"),
            here.join("a"),
            here.to_owned(),
        ];
        assert_eq!(directories_to_flush(&deep).unwrap(), expected);
        let current = std::env::current_dir().unwrap();
        let relative = directories_to_flush(Path::new("default.etcd")).unwrap();
        assert_eq!(relative, [current.join("default.etcd"), current]);
    }
}
