use std::sync::Arc;
use std::time::{Duration, Instant};

use basalt_engine::disk::{DiskOp, OpId};
use basalt_engine::io::WalIo;
use basalt_engine::replica::{Job, Notice, Proposals, Replica, Replies};
use basalt_engine::types::{Millis, ReplyTo};
use basalt_engine::watch::{Dispatcher, Left};
use basalt_net::peer::Peers;
use basalt_net::reactor::Handle;

use super::links::Links;
use super::notices::tell;
use super::worker::Worker;
use crate::api::Order;
use crate::api::limits::WATCH_READ_RETRY;
use crate::metrics::EngineMetrics;

/// The member with its disk and its background worker: what the thread that writes the log drives.
pub(super) struct Machine {
    replica: Replica,
    wal: WalIo,
    worker: Arc<Worker>,
    links: Links,
    metrics: Arc<EngineMetrics>,
    events: Events,
    /// The replica's clock counts from here.
    started: Instant,
    /// Durable writes that the disk has not answered, and when they were submitted. One or two at a time.
    in_flight: Vec<(OpId, Instant)>,
    jobs: Vec<Job>,
    notices: Vec<Notice>,
    is_handing_over: bool,
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
        links: Links,
        metrics: Arc<EngineMetrics>,
        events: Events,
        now: Instant,
    ) -> Machine {
        Machine {
            replica,
            wal,
            worker,
            links,
            metrics,
            events,
            started: now,
            in_flight: Vec::new(),
            jobs: Vec::new(),
            notices: Vec::new(),
            is_handing_over: false,
        }
    }

    pub(super) fn replica(&self) -> &Replica {
        &self.replica
    }

    pub(super) fn links(&self) -> &Links {
        &self.links
    }

    pub(super) fn peers(&mut self) -> &mut Peers {
        self.links.peers()
    }

    /// Takes the batch; false leaves it untouched because too much is on its way already.
    pub(super) fn propose(&mut self, batch: &mut Proposals) -> bool {
        self.replica.propose(batch).is_ok()
    }

    /// Takes an order; its answer is among the replies of a turn.
    pub(super) fn order(&mut self, to: ReplyTo, order: Order) {
        match order {
            Order::ConfirmReads => self.replica.read_index(to),
            Order::Stop => self.hand_over(),
            Order::MoveLeader(target) => self.replica.transfer(target, to),
            Order::Change(change) => self.replica.propose_change(Some(to), &change),
        }
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
        let millis = self.millis(now);
        self.links.receive(&mut self.replica, now, millis);
        let turn = self.replica.turn(millis);
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
        self.links.send(&mut self.replica, now);
        let wake = turn.wake.map(|at| self.instant(at));
        let again = self.dispatch(now);
        [wake, again, self.links.wake()].into_iter().flatten().min()
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

    /// Begins to stop while the other members can still be spoken to: a leader hands over before it is missed.
    pub(super) fn hand_over(&mut self) {
        if self.replica.peers().next().is_some() {
            self.is_handing_over = true;
            self.replica.stop();
        }
    }

    pub(super) fn is_handing_over(&self) -> bool {
        self.is_handing_over && !self.replica.is_stopped()
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
