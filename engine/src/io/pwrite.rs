//! The fallback: one thread performs the log's operations with blocking calls and rings an eventfd, another one reads, so that
//! no write waits for a read.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use rustix::event::EventfdFlags;

use super::BlockingDisk;
use crate::disk::{Disk, DiskDone, DiskOp, OpId};
use crate::limits::IO_OPS_MAX;

#[derive(Debug)]
pub(super) struct Pwrite {
    writer: Asked,
    reader: Asked,
    answers: Arc<Answers>,
    in_flight: usize,
}

/// One of the threads.
#[derive(Debug)]
struct Asked {
    /// `None` only while dropping: the thread ends when it is gone.
    questions: Option<SyncSender<(OpId, DiskOp)>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Answers {
    done: Mutex<Vec<DiskDone>>,
    some: Condvar,
    event: OwnedFd,
}

impl Pwrite {
    pub(super) fn start(disk: BlockingDisk) -> io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let answers = Arc::new(Answers {
            done: Mutex::default(),
            some: Condvar::new(),
            event,
        });
        let writer = Asked::start("wal-io", disk.clone(), &answers)?;
        let reader = Asked::start("read-io", disk, &answers)?;
        Ok(Self {
            writer,
            reader,
            answers,
            in_flight: 0,
        })
    }

    pub(super) fn submit(&mut self, id: OpId, op: DiskOp) {
        assert!(self.in_flight < IO_OPS_MAX);
        self.in_flight += 1;
        let thread = match op {
            DiskOp::Read { .. } => &self.reader,
            _ => &self.writer,
        };
        let questions = thread.questions.as_ref().expect("there until dropped");
        questions
            .send((id, op))
            .expect("the thread lives as long as this");
    }

    pub(super) fn complete(&mut self) -> Vec<DiskDone> {
        let done = core::mem::take(
            &mut *self
                .answers
                .done
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        self.in_flight -= done.len();
        done
    }

    pub(super) fn wait(&mut self) {
        if self.in_flight == 0 {
            return;
        }
        let done = self
            .answers
            .done
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        drop(self.answers.some.wait_while(done, |done| done.is_empty()));
    }

    pub(super) fn event_fd(&self) -> BorrowedFd<'_> {
        self.answers.event.as_fd()
    }
}

impl Asked {
    fn start(name: &str, disk: BlockingDisk, answers: &Arc<Answers>) -> io::Result<Self> {
        let (questions, from) = sync_channel(IO_OPS_MAX);
        let to = Arc::clone(answers);
        let thread = Builder::new()
            .name(name.to_owned())
            .spawn(move || work(disk, &from, &to))?;
        Ok(Self {
            questions: Some(questions),
            thread: Some(thread),
        })
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.questions = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }
}

fn work(mut disk: BlockingDisk, from: &Receiver<(OpId, DiskOp)>, to: &Answers) {
    for (id, op) in from {
        let result = disk.perform(op);
        to.done
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(DiskDone { id, result });
        to.some.notify_one();
        ring(&to.event);
    }
}

/// Makes the eventfd readable. It can only fail when it is so already.
pub(super) fn ring(event: &OwnedFd) {
    let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
}
