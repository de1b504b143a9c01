//! The only syscalls of the engine: a data directory, its blocking disk, and the log's asynchronous one.
//!
//! Promises: a name never leaves the directory it was opened in; an answer to a durable write means that the device was told
//! to keep it; files of the log are opened before they are written to. Never: a decision about the log.
//! Start at [`DataDir`], then [`WalIo`].

mod ahead;
mod aligned;
mod blocking;
mod dir;
mod pwrite;
mod uring;

use std::io;
use std::os::fd::BorrowedFd;

use crate::disk::{DiskDone, DiskOp, OpId};

pub use ahead::AheadDisk;
pub use blocking::BlockingDisk;
pub use dir::{DataDir, DirRefused};
pub use uring::probe;

/// Which way the log's writes take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WalIoKind {
    /// io_uring if the system lets us, else a thread.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// A thread with pwritev2.
    Pwrite,
}

/// Performs operations without blocking the caller. At most [`crate::limits::WAL_IO_OPS_MAX`] in flight.
#[derive(Debug)]
pub struct WalIo {
    backend: Backend,
    why_not_uring: Option<String>,
}

#[derive(Debug)]
enum Backend {
    Uring(Box<uring::Uring>),
    Pwrite(pwrite::Pwrite),
}

impl WalIo {
    pub(super) fn open(disk: BlockingDisk, kind: WalIoKind) -> io::Result<Self> {
        let pwrite = |disk| pwrite::Pwrite::start(disk).map(Backend::Pwrite);
        let uring = |disk| uring::Uring::new(disk).map(|uring| Backend::Uring(Box::new(uring)));
        let (backend, why_not_uring) = match kind {
            WalIoKind::Pwrite => (pwrite(disk)?, None),
            WalIoKind::Uring => (uring(disk)?, None),
            WalIoKind::Auto => match uring(disk.clone()) {
                Ok(backend) => (backend, None),
                Err(error) => (pwrite(disk)?, Some(error.to_string())),
            },
        };
        Ok(Self {
            backend,
            why_not_uring,
        })
    }

    /// Starts an operation. Its answer comes from `complete`.
    ///
    /// # Panics
    /// If too many are in flight: the log never has that many.
    pub fn submit(&mut self, id: OpId, op: DiskOp) {
        match &mut self.backend {
            Backend::Uring(uring) => uring.submit(id, op),
            Backend::Pwrite(pwrite) => pwrite.submit(id, op),
        }
    }

    /// What has ended since the last call.
    pub fn complete(&mut self) -> impl Iterator<Item = DiskDone> + use<> {
        match &mut self.backend {
            Backend::Uring(uring) => uring.complete(),
            Backend::Pwrite(pwrite) => pwrite.complete(),
        }
        .into_iter()
    }

    /// Waits until something has ended, if anything is in flight. For shutdown, tests and measurements.
    pub fn wait(&mut self) {
        match &mut self.backend {
            Backend::Uring(uring) => uring.wait(),
            Backend::Pwrite(pwrite) => pwrite.wait(),
        }
    }

    /// Becomes readable when something has ended. To be registered edge-triggered; nobody need read it.
    #[must_use]
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        match &self.backend {
            Backend::Uring(uring) => uring.event_fd(),
            Backend::Pwrite(pwrite) => pwrite.event_fd(),
        }
    }

    /// The way that was taken; never `Auto`.
    #[must_use]
    pub fn kind(&self) -> WalIoKind {
        match self.backend {
            Backend::Uring(_) => WalIoKind::Uring,
            Backend::Pwrite(_) => WalIoKind::Pwrite,
        }
    }

    /// Why `Auto` did not take io_uring.
    #[must_use]
    pub fn why_not_uring(&self) -> Option<&str> {
        self.why_not_uring.as_deref()
    }
}

#[cfg(test)]
mod tests;
