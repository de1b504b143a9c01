use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use basalt_engine::disk::Disk;
use basalt_engine::replica::{Job, JobDone, Refused};
use basalt_engine::types::ReplyTo;
use basalt_net::reactor::Handle;

use super::outbox::Outbox;
use crate::api::{Busy, Step, Work};

/// The one background worker: fills segments, writes checkpoints, hashes. Its tasks take turns, a step each, so that a long one
/// holds up neither the others nor, as it has a thread of its own, anybody's request.
pub(super) struct Worker {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Heard by the thread that owns the replica.
    done: Mutex<Vec<JobDone>>,
    engine: OnceLock<Handle>,
    /// By network loop.
    outboxes: Vec<Arc<Outbox>>,
}

#[derive(Default)]
struct Queue {
    given: VecDeque<Task>,
    works: usize,
    is_stopping: bool,
}

enum Task {
    Job(Job),
    Work {
        to: ReplyTo,
        work: Work,
        answer: Vec<u8>,
    },
}

impl Worker {
    pub(super) fn new(outboxes: Vec<Arc<Outbox>>) -> Arc<Worker> {
        Arc::new(Worker {
            queue: Mutex::default(),
            wake: Condvar::new(),
            done: Mutex::default(),
            engine: OnceLock::new(),
            outboxes,
        })
    }

    /// Starts the thread. `engine` is woken when a job is done.
    pub(super) fn start(
        self: &Arc<Self>,
        mut disk: impl Disk + Send + 'static,
        engine: Handle,
    ) -> io::Result<JoinHandle<()>> {
        // Set once: there is one worker and it is started once.
        let _ = self.engine.set(engine);
        let worker = Arc::clone(self);
        std::thread::Builder::new()
            .name("worker".to_owned())
            .spawn(move || worker.run(&mut disk))
    }

    /// The replica bounds how many jobs it has out.
    pub(super) fn give_job(&self, job: Job) {
        self.lock().given.push_back(Task::Job(job));
        self.wake.notify_one();
    }

    /// Queues a client's computation.
    pub(super) fn give_work(&self, to: ReplyTo, work: Work) -> Result<(), Busy> {
        let mut queue = self.lock();
        if queue.works >= WORKS_MAX {
            return Err(Busy);
        }
        queue.works += 1;
        queue.given.push_back(Task::Work {
            to,
            work,
            answer: Vec::new(),
        });
        drop(queue);
        self.wake.notify_one();
        Ok(())
    }

    pub(super) fn take_done(&self) -> Vec<JobDone> {
        std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// No further step is begun; what is half done is left as a crash would leave it.
    pub(super) fn stop(&self) {
        self.lock().is_stopping = true;
        self.wake.notify_one();
    }

    fn run(&self, disk: &mut dyn Disk) {
        while let Some(task) = self.next() {
            if let Some(again) = self.step(task, disk) {
                self.lock().given.push_back(again);
            }
        }
    }

    fn next(&self) -> Option<Task> {
        let mut queue = self.lock();
        loop {
            if queue.is_stopping {
                return None;
            }
            if let Some(task) = queue.given.pop_front() {
                return Some(task);
            }
            queue = self
                .wake
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// One step; gives the task back if it is not at its end.
    fn step(&self, task: Task, disk: &mut dyn Disk) -> Option<Task> {
        match task {
            Task::Job(mut job) => {
                let Some(done) = job.step(disk) else {
                    return Some(Task::Job(job));
                };
                self.done
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(done);
                if let Some(engine) = self.engine.get() {
                    engine.wake();
                }
            }
            Task::Work {
                to,
                mut work,
                mut answer,
            } => match work(disk, &mut answer) {
                Step::Again => return Some(Task::Work { to, work, answer }),
                Step::Done => self.answer(to, Ok(answer)),
                Step::Refused(refused) => self.answer(to, Err(refused)),
            },
        }
        None
    }

    fn answer(&self, to: ReplyTo, answer: Result<Vec<u8>, Refused>) {
        self.lock().works -= 1;
        self.outboxes[to.net_loop as usize].answer(to, answer);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Computations of clients that wait or run; each holds a view or a hold back.
const WORKS_MAX: usize = 64;
