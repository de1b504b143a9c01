//! io_uring: the log's writes and the reads of records from the loop's own thread, flushes in the kernel's.
// Unsafe because the kernel reads and fills the buffers after `push` returned.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use io_uring::{IoUring, Probe, opcode, types};
use rustix::event::EventfdFlags;

use super::blocking::{disk_error, short};
use super::pwrite::ring;
use super::{BlockingDisk, aligned};
use crate::disk::{Disk, DiskAnswer, DiskDone, DiskError, DiskOp, OpId, PAGE_BYTES, Pages, Site};
use crate::limits::{IO_OPS_MAX, WAL_IO_TRIES};

pub(super) struct Uring {
    ring: IoUring,
    event: OwnedFd,
    disk: BlockingDisk,
    /// By the number that the kernel carries. A `Some` is in the kernel's hands.
    slots: [Option<Flight>; IO_OPS_MAX],
    done: Vec<DiskDone>,
}

/// An operation in the kernel's hands: owns what the kernel looks at.
struct Flight {
    id: OpId,
    site: Site,
    file: Arc<OwnedFd>,
    pages: Pages,
    offset: u64,
    /// Bytes that are written, or read.
    written: usize,
    stage: Stage,
    tries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Writing. The flag says whether the write itself is durable, the last field whether a flush must follow.
    Write {
        dsync: bool,
        then_flush: bool,
    },
    Flush,
    Read,
}

/// Whether io_uring can be used here.
///
/// # Errors
/// Why not, in words for a log: seccomp and sysctl refuse with EPERM, old kernels with ENOSYS.
pub fn probe() -> Result<(), String> {
    new_ring().map(|_| ()).map_err(|error| error.to_string())
}

fn new_ring() -> io::Result<IoUring> {
    let told = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"))
    };
    let entries = u32::try_from(IO_OPS_MAX).expect("a few");
    let plain = || IoUring::builder().dontfork().build(entries);
    // Without interrupts for completions where the kernel knows that (5.19).
    let ring = IoUring::builder()
        .dontfork()
        .setup_coop_taskrun()
        .build(entries)
        .or_else(|_| plain());
    let ring = ring.map_err(told("io_uring_setup"))?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(told("io_uring_register"))?;
    let known = [opcode::Write::CODE, opcode::Fsync::CODE, opcode::Read::CODE];
    let known = known.into_iter().all(|code| probe.is_supported(code));
    if !known || !ring.params().is_feature_nodrop() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "io_uring: the kernel is too old",
        ));
    }
    Ok(ring)
}

impl Uring {
    pub(super) fn new(disk: BlockingDisk) -> io::Result<Self> {
        let ring = new_ring()?;
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        ring.submitter().register_eventfd(event.as_raw_fd())?;
        Ok(Self {
            ring,
            event,
            disk,
            slots: [const { None }; IO_OPS_MAX],
            done: Vec::new(),
        })
    }

    pub(super) fn submit(&mut self, id: OpId, op: DiskOp) {
        let site = op.site();
        let flight = |file, pages, offset, stage| Flight {
            id,
            site,
            file,
            pages,
            offset,
            written: 0,
            stage,
            tries: 0,
        };
        let shared = self.disk.shared();
        let (result, op) = match op {
            DiskOp::Write {
                file,
                offset,
                pages,
                durable,
            } => {
                let stage = Stage::Write {
                    dsync: durable && shared.dsync,
                    then_flush: durable && !shared.dsync,
                };
                (
                    shared.file(file).map(|fd| flight(fd, pages, offset, stage)),
                    None,
                )
            }
            DiskOp::Sync { file } => (
                shared
                    .file(file)
                    .map(|fd| flight(fd, Pages::default(), 0, Stage::Flush)),
                None,
            ),
            DiskOp::Read { file, offset, into } => (
                shared
                    .file(file)
                    .map(|fd| flight(fd, into, offset, Stage::Read)),
                None,
            ),
            // A running member asks for nothing else; whoever does waits for it.
            other => (Err(rustix::io::Errno::OPNOTSUPP), Some(other)),
        };
        match (result, op) {
            (Ok(flight), _) => self.launch(flight),
            (Err(_), Some(op)) => {
                let result = self.disk.perform(op);
                self.answer(id, result);
            }
            (Err(errno), None) => self.answer(id, Err(disk_error(site, errno.raw_os_error()))),
        }
    }

    pub(super) fn complete(&mut self) -> Vec<DiskDone> {
        self.reap();
        core::mem::take(&mut self.done)
    }

    pub(super) fn wait(&mut self) {
        self.reap();
        while self.done.is_empty() && self.slots.iter().any(Option::is_some) {
            // An interrupted wait is repeated; any other error shows when the operations answer.
            let _ = self.ring.submit_and_wait(1);
            self.reap();
        }
    }

    pub(super) fn event_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    fn answer(&mut self, id: OpId, result: Result<DiskAnswer, DiskError>) {
        self.done.push(DiskDone { id, result });
        ring(&self.event);
    }

    /// Hands an operation, or the rest of one, to the kernel.
    fn launch(&mut self, flight: Flight) {
        let slot = self
            .slots
            .iter()
            .position(Option::is_none)
            .expect("as many as may be in flight");
        let flight = self.slots[slot].insert(flight);
        let fd = types::Fd(flight.file.as_raw_fd());
        let entry = match flight.stage {
            Stage::Write { dsync, .. } => {
                let rest = &aligned::bytes(flight.pages.as_slice())[flight.written..];
                let length = u32::try_from(rest.len()).expect("a frame is shorter than a segment");
                let flags = if dsync { libc::RWF_DSYNC } else { 0 };
                let write = opcode::Write::new(fd, rest.as_ptr(), length);
                write
                    .offset(flight.offset + flight.written as u64)
                    .rw_flags(flags)
                    .build()
            }
            Stage::Flush => opcode::Fsync::new(fd)
                .flags(types::FsyncFlags::DATASYNC)
                .build(),
            Stage::Read => {
                let pages = flight.pages.as_mut_slice();
                let rest = &mut aligned::bytes_mut(pages)[flight.written..];
                let length = u32::try_from(rest.len()).expect("a frame has less than 4 GiB");
                opcode::Read::new(fd, rest.as_mut_ptr(), length)
                    .offset(flight.offset + flight.written as u64)
                    .build()
            }
        };
        let entry = entry.user_data(slot as u64);
        // SAFETY: the buffer and the descriptor belong to the flight, which stays in its slot, unmoved and unchanged on the
        // heap, until `reap` took the completion; `drop` waits for completions and leaks the buffers if there is none.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        assert!(pushed.is_ok(), "the ring has a place for each slot");
        self.enter(slot);
    }

    /// Tells the kernel. If it will not listen, the operation has failed.
    fn enter(&mut self, slot: usize) {
        let mut tries = WAL_IO_TRIES;
        loop {
            let error = match self.ring.submit() {
                Ok(_) => return,
                Err(error) => error,
            };
            tries -= 1;
            match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) if tries > 0 => {
                    // Busy means that completions wait to be taken.
                    self.reap();
                    if self.slots[slot].is_none() {
                        return;
                    }
                }
                errno => {
                    // The entry may still be in the ring: its buffer is never given back.
                    if let Some(flight) = self.slots[slot].take() {
                        self.answer(
                            flight.id,
                            Err(disk_error(flight.site, errno.unwrap_or(libc::EIO))),
                        );
                        core::mem::forget(flight);
                    }
                    return;
                }
            }
        }
    }

    fn reap(&mut self) {
        loop {
            let next = self.ring.completion().next();
            let Some(entry) = next else { return };
            let slot = usize::try_from(entry.user_data()).unwrap_or(usize::MAX);
            let flight = self.slots.get_mut(slot).and_then(Option::take);
            if let Some(flight) = flight {
                self.land(flight, entry.result());
            }
        }
    }

    /// One completion: the end of an operation, or the reason to go on with it.
    fn land(&mut self, mut flight: Flight, result: i32) {
        let Ok(bytes) = usize::try_from(result) else {
            flight.tries += 1;
            match -result {
                libc::EINTR | libc::EAGAIN if flight.tries < WAL_IO_TRIES => self.launch(flight),
                errno => self.answer(flight.id, Err(disk_error(flight.site, errno))),
            }
            return;
        };
        if flight.stage == Stage::Read {
            flight.written += bytes;
            // Past the page cache a piece that is no whole page can only be the end of the file.
            let is_end = bytes == 0 || !bytes.is_multiple_of(PAGE_BYTES);
            if !is_end && flight.written < flight.pages.bytes() {
                self.launch(flight);
            } else {
                let (id, pages, bytes) = (flight.id, flight.pages, flight.written);
                let result = Ok(DiskAnswer::Read { pages, bytes });
                self.done.push(DiskDone { id, result });
            }
            return;
        }
        let Stage::Write { then_flush, .. } = flight.stage else {
            let is_write = !flight.pages.is_empty();
            let answer = if is_write {
                DiskAnswer::Written(flight.pages)
            } else {
                DiskAnswer::Done
            };
            self.done.push(DiskDone {
                id: flight.id,
                result: Ok(answer),
            });
            return;
        };
        // O_DIRECT goes on at whole pages only.
        let step = bytes / PAGE_BYTES * PAGE_BYTES;
        flight.written += step;
        flight.tries += u32::from(step == 0);
        if flight.written >= flight.pages.bytes() {
            if then_flush {
                flight.stage = Stage::Flush;
                self.launch(flight);
            } else {
                self.done.push(DiskDone {
                    id: flight.id,
                    result: Ok(DiskAnswer::Written(flight.pages)),
                });
            }
        } else if flight.tries < WAL_IO_TRIES {
            self.launch(flight);
        } else {
            self.answer(flight.id, Err(short(flight.site)));
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        for _ in 0..WAL_IO_TRIES {
            self.reap();
            if self.slots.iter().all(Option::is_none) {
                return;
            }
            let _ = self.ring.submit_and_wait(1);
        }
        for flight in self.slots.iter_mut().filter_map(Option::take) {
            // The kernel may still use it.
            core::mem::forget(flight);
        }
    }
}

impl core::fmt::Debug for Uring {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let in_flight = self.slots.iter().flatten().count();
        f.debug_struct("Uring")
            .field("in_flight", &in_flight)
            .finish_non_exhaustive()
    }
}
