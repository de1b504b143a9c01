//! The blocking disk: one syscall an operation, on the caller's thread.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FallocateFlags, FileType};
use rustix::io::{Errno, ReadWriteFlags};

use super::aligned;
use super::dir::Shared;
use crate::disk::{
    Disk, DiskAnswer, DiskError, DiskErrorKind, DiskOp, File, Name, PAGE_BYTES, Pages, Site,
};
use crate::limits::WAL_IO_TRIES;

/// Boot's and the background worker's disk. Clones share the directory and its open files.
#[derive(Clone, Debug)]
pub struct BlockingDisk {
    shared: Arc<Shared>,
}

impl BlockingDisk {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    fn list(&self) -> Result<Vec<Name>, Errno> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.shared.dir)? {
            let entry = entry?;
            let text = entry.file_name().to_string_lossy().into_owned();
            if text == "." || text == ".." {
                continue;
            }
            let stat = rustix::fs::statat(
                &self.shared.dir,
                entry.file_name(),
                AtFlags::SYMLINK_NOFOLLOW,
            )?;
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let file = File::parse(&text).filter(|_| !is_dir);
            names.push(Name {
                text,
                file,
                bytes: u64::try_from(stat.st_size).unwrap_or(0),
                is_dir,
            });
        }
        // The order of a directory is the filesystem's; the core must not see it.
        names.sort_by(|a, b| a.text.cmp(&b.text));
        Ok(names)
    }

    fn create(&self, file: File, bytes: u64) -> Result<(), Errno> {
        let fd = self.shared.create(file)?;
        if bytes == 0 {
            return Ok(());
        }
        match again(|| rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, bytes)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => rustix::fs::ftruncate(&fd, bytes),
            other => other,
        }
    }

    fn read(&self, file: File, offset: u64, into: &mut Pages) -> Result<usize, Errno> {
        let fd = self.shared.file(file)?;
        let bytes = aligned::bytes_mut(into.as_mut_slice());
        let mut done = 0;
        while done < bytes.len() {
            let read = again(|| rustix::io::pread(&fd, &mut bytes[done..], offset + done as u64))?;
            done += read;
            // Past the page cache a piece that is no whole page can only be the end of the file.
            if read == 0 || !read.is_multiple_of(PAGE_BYTES) {
                break;
            }
        }
        if !self.shared.direct {
            // What is read again after a crash should come from the disk, not from memory.
            let _ = rustix::fs::fadvise(&fd, offset, None, rustix::fs::Advice::DontNeed);
        }
        Ok(done)
    }

    fn write(
        &self,
        file: File,
        offset: u64,
        pages: &Pages,
        durable: bool,
    ) -> Result<(), WriteFailed> {
        let fd = self.shared.file(file).map_err(WriteFailed::System)?;
        let how = match durable && self.shared.dsync {
            true => ReadWriteFlags::DSYNC,
            false => ReadWriteFlags::empty(),
        };
        write_all(fd.as_fd(), aligned::bytes(pages.as_slice()), offset, how)?;
        if durable && !self.shared.dsync {
            rustix::fs::fdatasync(&fd).map_err(WriteFailed::System)?;
        }
        Ok(())
    }
}

impl Disk for BlockingDisk {
    fn perform(&mut self, op: DiskOp) -> Result<DiskAnswer, DiskError> {
        let site = op.site();
        if self.shared.read_only && !matches!(op, DiskOp::List | DiskOp::Read { .. }) {
            return Err(disk_error(site, libc::EROFS));
        }
        let done = |result: Result<(), Errno>| result.map(|()| DiskAnswer::Done);
        let result = match op {
            DiskOp::List => self.list().map(DiskAnswer::Names),
            DiskOp::Create { file, bytes } => done(self.create(file, bytes)),
            DiskOp::Read {
                file,
                offset,
                mut into,
            } => self
                .read(file, offset, &mut into)
                .map(|bytes| DiskAnswer::Read { pages: into, bytes }),
            DiskOp::Write {
                file,
                offset,
                pages,
                durable,
            } => match self.write(file, offset, &pages, durable) {
                Ok(()) => return Ok(DiskAnswer::Written(pages)),
                Err(WriteFailed::Short) => return Err(short(site)),
                Err(WriteFailed::System(errno)) => Err(errno),
            },
            DiskOp::Sync { file } => done(
                self.shared
                    .file(file)
                    .and_then(|fd| rustix::fs::fdatasync(&fd)),
            ),
            DiskOp::Rename { from, to } => done(self.shared.rename(from, to)),
            DiskOp::Remove { file } => done(self.shared.remove(file)),
            DiskOp::SyncDir => done(rustix::fs::fsync(&self.shared.dir)),
        };
        result.map_err(|errno| disk_error(site, errno.raw_os_error()))
    }
}

enum WriteFailed {
    Short,
    System(Errno),
}

/// Writes all of it; a write that stops early goes on where it stopped.
fn write_all(
    fd: BorrowedFd<'_>,
    mut bytes: &[u8],
    mut offset: u64,
    how: ReadWriteFlags,
) -> Result<(), WriteFailed> {
    let mut tries = WAL_IO_TRIES;
    while !bytes.is_empty() {
        let wrote = again(|| rustix::io::pwritev2(fd, &[IoSlice::new(bytes)], offset, how));
        // O_DIRECT goes on at whole pages only.
        let wrote = wrote.map_err(WriteFailed::System)? / PAGE_BYTES * PAGE_BYTES;
        if wrote == 0 {
            tries -= 1;
            if tries == 0 {
                return Err(WriteFailed::Short);
            }
        }
        bytes = &bytes[wrote..];
        offset += wrote as u64;
    }
    Ok(())
}

/// Repeats what a signal interrupted or the kernel put off, within a bound.
fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 1..WAL_IO_TRIES {
        match call() {
            Err(Errno::INTR | Errno::AGAIN) => {}
            other => return other,
        }
    }
    call()
}

pub(super) fn short(site: Site) -> DiskError {
    DiskError {
        site,
        kind: DiskErrorKind::Short,
        errno: None,
    }
}

pub(super) fn disk_error(site: Site, errno: i32) -> DiskError {
    let kind = match errno {
        libc::ENOSPC | libc::EDQUOT => DiskErrorKind::NoSpace,
        libc::EROFS => DiskErrorKind::ReadOnly,
        libc::ENOENT => DiskErrorKind::NotFound,
        libc::EEXIST => DiskErrorKind::Exists,
        libc::EPERM | libc::EACCES | libc::ELOOP => DiskErrorKind::Denied,
        _ => DiskErrorKind::Failed,
    };
    DiskError {
        site,
        kind,
        errno: Some(errno),
    }
}
