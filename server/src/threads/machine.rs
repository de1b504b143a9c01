use std::sync::Arc;
use std::time::{Duration, Instant};

use basalt_engine::disk::{DiskOp, OpId};
use basalt_engine::io::WalIo;
use basalt_engine::replica::{Job, Notice, Proposals, Replica, Replies};
use basalt_engine::types::Millis;
use basalt_engine::watch::{Dispatcher, Left};
use basalt_net::reactor::Handle;

use super::notices::tell;
use super::worker::Worker;
use crate::api::limits::WATCH_READ_RETRY;
use crate::metrics::EngineMetrics;

/// The member with its disk and its background worker: what the thread that writes the log drives.
pub(super) struct Machine {
    replica: Replica,
    wal: WalIo,
    worker: Arc<Worker>,
    metrics: Arc<EngineMetrics>,
    events: Events,
    /// The replica's clock counts from here.
    started: Instant,
    /// Durable writes that the disk has not answered, and when they were submitted. One or two at a time.
    in_flight: Vec<(OpId, Instant)>,
    jobs: Vec<Job>,
    notices: Vec<Notice>,
}

/// Takes the events of what was published to the watchers.
pub(super) struct Events {
    pub(super) dispatcher: Dispatcher,
    /// The network loops that run on other threads, by number.
    pub(super) net_loops: Vec<Handle>,
}

impl Machine {
    pub(super) fn new(
        replica: Replica,
        wal: WalIo,
        worker: Arc<Worker>,
        metrics: Arc<EngineMetrics>,
        events: Events,
        now: Instant,
    ) -> Machine {
        Machine {
            replica,
            wal,
            worker,
            metrics,
            events,
            started: now,
            in_flight: Vec::new(),
            jobs: Vec::new(),
            notices: Vec::new(),
        }
    }

    pub(super) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Takes the batch; false leaves it untouched because too much is on its way already.
    pub(super) fn propose(&mut self, batch: &mut Proposals) -> bool {
        self.replica.propose(batch).is_ok()
    }

    /// Lets the member run as far as it can without waiting. The disk has its work before this returns, so that whatever the
    /// caller writes to its sockets afterwards is sent while the disk is busy. Returns when to call again at the latest.
    pub(super) fn turn(&mut self, now: Instant) -> Option<Instant> {
        for done in self.wal.complete() {
            if let Some(at) = self.in_flight.iter().position(|(id, _)| *id == done.id) {
                let (_, submitted) = self.in_flight.swap_remove(at);
                self.metrics
                    .wal_sync
                    .observe(now.saturating_duration_since(submitted));
            }
            self.replica.on_disk(done);
        }
        for done in self.worker.take_done() {
            self.replica.on_job(done, self.millis(now));
        }
        let turn = self.replica.turn(self.millis(now));
        while let Some((id, op)) = self.replica.poll_op() {
            self.submit(id, op);
        }
        self.replica.take_jobs(&mut self.jobs);
        for job in self.jobs.drain(..) {
            self.worker.give_job(job);
        }
        self.replica.take_notices(&mut self.notices);
        for notice in self.notices.drain(..) {
            tell(notice, &self.metrics);
        }
        let wake = turn.wake.map(|at| self.instant(at));
        match self.dispatch(now) {
            Some(again) => Some(wake.map_or(again, |wake| wake.min(again))),
            None => wake,
        }
    }

    /// Hands events on. Returns when to go on with that.
    fn dispatch(&mut self, now: Instant) -> Option<Instant> {
        let Events {
            dispatcher,
            net_loops,
        } = &mut self.events;
        let term = self.replica.published().applied_term();
        let wake = |net_loop: usize| {
            if let Some(net_loop) = net_loops.get(net_loop) {
                net_loop.wake();
            }
        };
        match dispatcher.dispatch(self.replica.revision(), term, wake) {
            Left::Nothing | Left::Room => None,
            Left::More => Some(now),
            Left::Reads => Some(now + WATCH_READ_RETRY),
        }
    }

    /// Everything answered since the last time.
    pub(super) fn replies(&mut self) -> &mut Replies {
        self.replica.replies()
    }

    /// Seals the log and waits for the disk, at most until `until`. Whoever still waits is refused; the refusals are left in
    /// `replies`.
    pub(super) fn stop(&mut self, until: Instant) {
        self.replica.stop();
        loop {
            let now = Instant::now();
            self.turn(now);
            if self.replica.is_stopped() || now >= until {
                return;
            }
            self.wal.wait();
        }
    }

    fn submit(&mut self, id: OpId, op: DiskOp) {
        let durable_bytes = match &op {
            DiskOp::Write {
                pages,
                durable: true,
                ..
            } => Some(pages.bytes()),
            _ => None,
        };
        let before = Instant::now();
        self.wal.submit(id, op);
        if let Some(bytes) = durable_bytes {
            self.in_flight.push((id, before));
            self.metrics.wal_write.observe(before.elapsed());
            self.metrics.wal_bytes.add(bytes as u64);
        }
    }

    fn millis(&self, now: Instant) -> Millis {
        let since = now.saturating_duration_since(self.started).as_millis();
        Millis(u64::try_from(since).expect("a process does not run for half a billion years"))
    }

    fn instant(&self, at: Millis) -> Instant {
        self.started + Duration::from_millis(at.0)
    }
}
