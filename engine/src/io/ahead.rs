//! The disk of a start: what was announced is read by threads of its own while the caller works on what it has.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::BlockingDisk;
use crate::disk::{Disk, DiskAnswer, DiskError, DiskOp, Pages, ReadAhead};
use crate::limits::{READ_AHEAD_BYTES, READ_AHEAD_MAX, READ_AHEAD_THREADS};

/// A blocking disk that begins announced reads at once. Its threads end with it.
#[derive(Debug)]
pub struct AheadDisk {
    disk: BlockingDisk,
    shared: Arc<Shared>,
    /// None until something is announced.
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is work for a thread, or none will come.
    work: Condvar,
    /// A read has ended.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// In the order of the announcements; those that are not in `reads` any more are passed over.
    queue: VecDeque<ReadAhead>,
    /// At most `READ_AHEAD_MAX`.
    reads: BTreeMap<ReadAhead, Stage>,
    /// Of reads in flight and done; a thread begins none at `READ_AHEAD_BYTES`.
    bytes: usize,
    flying: usize,
    /// Buffers to be filled again.
    spare: Vec<Pages>,
    is_over: bool,
}

#[derive(Debug)]
enum Stage {
    Waiting,
    Flying,
    Done(Pages, usize),
}

impl AheadDisk {
    pub(super) fn new(disk: BlockingDisk) -> Self {
        Self {
            disk,
            shared: Arc::default(),
            threads: Vec::new(),
        }
    }

    /// What was read ahead for `read`, if it was announced just so and came; waits for one in flight.
    fn take(&self, read: ReadAhead) -> Option<(Pages, usize)> {
        let mut state = self.shared.lock();
        while let Some(Stage::Flying) = state.reads.get(&read) {
            state = wait(&self.shared.ended, state);
        }
        match state.reads.remove(&read)? {
            Stage::Done(pages, bytes) => {
                state.bytes -= pages.bytes();
                self.shared.work.notify_one();
                Some((pages, bytes))
            }
            // Nobody has begun it: the caller is as quick.
            Stage::Waiting | Stage::Flying => None,
        }
    }

    /// Gives up all that was announced: the files are about to change.
    fn forget(&self) {
        let mut state = self.shared.lock();
        state.queue.clear();
        while state.flying > 0 {
            state = wait(&self.shared.ended, state);
        }
        state.reads.clear();
        state.bytes = 0;
    }

    fn start_threads(&mut self) {
        for _ in 0..READ_AHEAD_THREADS {
            let (disk, shared) = (self.disk.clone(), Arc::clone(&self.shared));
            let run = move || read_all(disk, &shared);
            let Ok(thread) = thread::Builder::new().name("ahead".into()).spawn(run) else {
                // Whoever asks for what nobody has begun reads it.
                return;
            };
            self.threads.push(thread);
        }
    }
}

impl Disk for AheadDisk {
    fn perform(&mut self, op: DiskOp) -> Result<DiskAnswer, DiskError> {
        match op {
            DiskOp::Read { file, offset, into } => {
                let pages = into.count();
                let read = ReadAhead {
                    file,
                    offset,
                    pages,
                };
                let Some((pages, bytes)) = self.take(read) else {
                    return self.disk.perform(DiskOp::Read { file, offset, into });
                };
                let mut state = self.shared.lock();
                if state.spare.len() < READ_AHEAD_THREADS {
                    state.spare.push(into);
                }
                Ok(DiskAnswer::Read { pages, bytes })
            }
            DiskOp::List | DiskOp::Sync { .. } | DiskOp::SyncDir => self.disk.perform(op),
            DiskOp::Create { .. }
            | DiskOp::Write { .. }
            | DiskOp::Rename { .. }
            | DiskOp::Remove { .. } => {
                self.forget();
                self.disk.perform(op)
            }
        }
    }

    fn read_ahead(&mut self, reads: &[ReadAhead]) {
        if self.threads.is_empty() {
            self.start_threads();
        }
        let mut state = self.shared.lock();
        for read in reads {
            if state.reads.len() < READ_AHEAD_MAX && !state.reads.contains_key(read) {
                state.reads.insert(*read, Stage::Waiting);
                state.queue.push_back(*read);
            }
        }
        drop(state);
        self.shared.work.notify_all();
    }
}

impl Drop for AheadDisk {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // One that panicked has read nothing that anybody waits for.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next announced read that nobody has asked for yet, if there is room for it.
    fn next(&mut self) -> Option<ReadAhead> {
        while self.bytes < READ_AHEAD_BYTES
            && let Some(read) = self.queue.pop_front()
        {
            if let Some(stage @ Stage::Waiting) = self.reads.get_mut(&read) {
                *stage = Stage::Flying;
                self.flying += 1;
                self.bytes += read.bytes();
                return Some(read);
            }
        }
        None
    }
}

/// One thread: reads until the disk is dropped.
fn read_all(mut disk: BlockingDisk, shared: &Shared) {
    let mut state = shared.lock();
    while !state.is_over {
        let Some(read) = state.next() else {
            state = wait(&shared.work, state);
            continue;
        };
        let mut into = state.spare.pop().unwrap_or_default();
        drop(state);
        into.resize(read.pages);
        let (file, offset) = (read.file, read.offset);
        let answer = disk.perform(DiskOp::Read { file, offset, into });
        state = shared.lock();
        state.flying -= 1;
        if let Ok(DiskAnswer::Read { pages, bytes }) = answer {
            state.reads.insert(read, Stage::Done(pages, bytes));
        } else {
            // Whoever asks reads it again, and hears of the failure.
            state.reads.remove(&read);
            state.bytes -= read.bytes();
        }
        shared.ended.notify_all();
    }
}

fn wait<'a>(on: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    on.wait(state).unwrap_or_else(PoisonError::into_inner)
}
