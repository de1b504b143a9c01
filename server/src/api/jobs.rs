//! Reads that did not finish in their first slice, streams included: a few slices of them a turn.

use std::collections::VecDeque;
use std::time::Instant;

use basalt_engine::limits::READ_SLICE_BYTES;
use basalt_engine::mvcc::{Hold, HoldRefused, KeyRange, NeedRead, Reader, SliceBound};
use basalt_engine::query::{Progress, RangeQuery};
use basalt_net::grpc::{CallId, Calls, Status};
use basalt_pb::hot::{RangeRequest, TxnRequest};

use super::errors::Error;
use super::gate::Rpc;
use super::limits::{
    HOLD_TIME_MAX, JOB_SLICES_PER_TURN, JOBS_MAX, JOBS_PER_CONNECTION_MAX, JOBS_RUNNING_MAX,
    STALLED_LOOK_INTERVAL,
};
use super::meter::Meter;
use super::read_txn::{ReadTxn, Stop};
use super::stream::StreamWork;

/// The unfinished reads of one loop.
#[derive(Default)]
pub(super) struct Jobs {
    /// Worked on by turns; those that `queued` gave are [`JOBS_RUNNING_MAX`] at most.
    running: VecDeque<Job>,
    /// In the order in which they came.
    queued: VecDeque<Job>,
    /// Reads for whose answer the connection has no room.
    stalled: Vec<Job>,
    /// When `stalled` is looked at again.
    next_look: Option<Instant>,
    /// Streams whose client does not read fast enough.
    paused: Vec<Job>,
    /// Reads that wait for what is not in memory, in the order in which they missed it.
    reading: Vec<(NeedRead, Job)>,
}

/// One unfinished read.
pub(super) struct Job {
    call: CallId,
    /// The request's bytes, copied out of the connection's buffer.
    message: Vec<u8>,
    work: JobWork,
    /// The answer so far; empty for streams.
    out: Vec<u8>,
    /// Lowest revision that it reads.
    floor: i64,
    /// While it is there `floor` stays readable, compacted or not.
    hold: Option<Hold>,
    /// Set at its first turn.
    held_since: Option<Instant>,
}

/// What kind of read it is.
#[derive(Debug)]
pub(super) enum JobWork {
    Range(RangeQuery),
    Txn(ReadTxn),
    Stream(StreamWork),
}

/// How one slice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Go on at the next turn.
    Runs,
    /// Go on when the client has read.
    Full,
    /// Go on when this has been read in.
    Reads(NeedRead),
    /// Answered.
    Done,
}

impl Jobs {
    /// Adds a read that is to go on at the next turn. A stream does not hold its revision: the
    /// client may take its time, and etcd too ends it when the revision is compacted.
    ///
    /// # Errors
    /// `TooManyRequests` if there is no room, `Compacted` if `floor` is gone already.
    pub(super) fn push(
        &mut self,
        reader: &Reader,
        call: CallId,
        message: &[u8],
        floor: i64,
        (work, mut out): (JobWork, Vec<u8>),
    ) -> Result<(), Error> {
        let is_mine =
            |job: &Job| job.call.conn == call.conn && job.call.generation == call.generation;
        if self.iter().count() >= JOBS_MAX
            || self.iter().filter(|job| is_mine(job)).count() >= JOBS_PER_CONNECTION_MAX
        {
            return Err(Error::TooManyRequests);
        }
        let hold = match work {
            JobWork::Stream(_) => None,
            _ => match reader.hold(floor) {
                Ok(hold) => Some(hold),
                Err(HoldRefused::Swept) => return Err(Error::Compacted),
                // It goes on as long as nobody compacts.
                Err(HoldRefused::Full) => None,
            },
        };
        if self.running.len() + self.queued.len() + self.stalled.len() >= JOBS_RUNNING_MAX {
            // It will wait, and not with room for a whole answer.
            out.shrink_to_fit();
        }
        self.queued.push_back(Job {
            call,
            message: message.to_vec(),
            work,
            out,
            floor,
            hold,
            held_since: None,
        });
        Ok(())
    }

    /// Does a turn's share of slices. Returns when there is more to do.
    pub(super) fn on_turn(
        &mut self,
        calls: &mut impl Calls,
        meter: &Meter,
        reader: &Reader,
        now: Instant,
    ) -> Option<Instant> {
        self.start_holding(now);
        self.look_at_stalled(calls, now);
        for _ in 0..JOB_SLICES_PER_TURN {
            self.fill_running(calls, now);
            let Some(mut job) = self.running.pop_front() else {
                break;
            };
            let rpc = job.work.rpc();
            let calls = &mut meter.count(rpc, calls);
            match job.poll(calls, reader, now) {
                Ok(Turn::Runs) => self.running.push_back(job),
                Ok(Turn::Full) => self.paused.push(job),
                Ok(Turn::Done) => {}
                Ok(Turn::Reads(need)) => self.reading.push((need, job)),
                Err(error) => job.fail(calls, error.status()),
            }
        }
        let has_work = !self.running.is_empty() || !self.queued.is_empty();
        if has_work { Some(now) } else { self.next_look }
    }

    /// The time for which a read may hold its revision counts from its first turn, worked on or not.
    fn start_holding(&mut self, now: Instant) {
        for job in self.queued.iter_mut().rev() {
            if job.held_since.is_some() {
                break;
            }
            job.held_since = Some(now);
        }
    }

    fn fill_running(&mut self, calls: &mut impl Calls, now: Instant) {
        let large = self.reading.iter().filter(|(_, job)| job.is_large());
        let room = JOBS_RUNNING_MAX.saturating_sub(large.count());
        while self.running.len() < room {
            let Some(job) = self.queued.pop_front() else {
                return;
            };
            if calls.has_room(job.call) {
                self.running.push_back(job);
            } else {
                self.next_look.get_or_insert(now + STALLED_LOOK_INTERVAL);
                self.stalled.push(job);
            }
        }
    }

    fn look_at_stalled(&mut self, calls: &mut impl Calls, now: Instant) {
        if self.next_look.is_none_or(|at| now < at) {
            return;
        }
        for job in std::mem::take(&mut self.stalled) {
            if calls.has_room(job.call) {
                self.queued.push_back(job);
            } else {
                self.stalled.push(job);
            }
        }
        self.next_look = (!self.stalled.is_empty()).then_some(now + STALLED_LOOK_INTERVAL);
    }

    pub(super) fn is_reading(&self) -> bool {
        !self.reading.is_empty()
    }

    /// Those that miss nothing any more go on, before others.
    pub(super) fn resume_reading(&mut self, is_met: impl Fn(&NeedRead) -> bool) {
        let met = self.reading.extract_if(.., |(need, _)| is_met(need));
        for (at, (_, job)) in met.enumerate() {
            self.running.insert(at, job);
        }
    }

    /// What they wait for never comes.
    pub(super) fn fail_reading(&mut self, calls: &mut impl Calls, meter: &Meter, error: Error) {
        for (_, job) in self.reading.drain(..) {
            let calls = &mut meter.count(job.work.rpc(), calls);
            job.fail(calls, error.status());
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Job> {
        let reading = self.reading.iter().map(|(_, job)| job);
        let waiting = self.queued.iter().chain(&self.stalled).chain(reading);
        self.running.iter().chain(&self.paused).chain(waiting)
    }

    pub(super) fn on_writable(&mut self, call: CallId) {
        if let Some(at) = self.paused.iter().position(|job| job.call == call) {
            self.running.push_back(self.paused.swap_remove(at));
        }
    }

    pub(super) fn on_cancel(&mut self, call: CallId) {
        self.paused.retain(|job| job.call != call);
        self.reading.retain(|(_, job)| job.call != call);
        self.stalled.retain(|job| job.call != call);
        self.running.retain(|job| job.call != call);
        self.queued.retain(|job| job.call != call);
    }
}

impl JobWork {
    fn rpc(&self) -> Rpc {
        match self {
            JobWork::Range(_) => Rpc::Range,
            JobWork::Txn(_) => Rpc::Txn,
            JobWork::Stream(_) => Rpc::RangeStream,
        }
    }
}

impl Job {
    /// What it has made takes more than a slice's room.
    fn is_large(&self) -> bool {
        self.out.len() > READ_SLICE_BYTES
    }

    fn fail(&self, calls: &mut impl Calls, status: Status) {
        match self.work {
            JobWork::Stream(_) => calls.finish(self.call, status),
            _ => calls.fail(self.call, status),
        }
    }

    fn poll(
        &mut self,
        calls: &mut impl Calls,
        reader: &Reader,
        now: Instant,
    ) -> Result<Turn, Error> {
        let held_since = *self.held_since.get_or_insert(now);
        if now.duration_since(held_since) > HOLD_TIME_MAX {
            self.hold = None;
        }
        let pin = reader.pin();
        let view = pin.view();
        if self.hold.is_none() && self.floor < view.compacted() {
            return Err(Error::Compacted);
        }
        let polled = match &mut self.work {
            JobWork::Stream(work) => {
                let request = RangeRequest::read(&self.message)?;
                return Ok(work.poll(calls, self.call, view, &request));
            }
            JobWork::Range(work) => {
                let request = RangeRequest::read(&self.message)?;
                let keys = KeyRange::new(request.key, request.range_end);
                let polled = work.poll(&keys, view, SliceBound::SLICE, &mut self.out);
                let done = polled.map(|progress| matches!(progress, Progress::Done { .. }));
                done.map_err(Stop::from)
            }
            JobWork::Txn(work) => {
                let txn = TxnRequest::read(&self.message)?;
                work.poll(view, &txn, &mut self.out)
            }
        };
        match polled {
            Ok(false) => Ok(Turn::Runs),
            Ok(true) => {
                calls.reply(self.call, |out| out.extend_from_slice(&self.out));
                Ok(Turn::Done)
            }
            Err(Stop::NeedRead(need)) => Ok(Turn::Reads(need)),
            Err(Stop::Refused(error)) => Err(error),
        }
    }
}
