//! Lease.LeaseKeepAlive: a two-way call of renewals. Each is a question to the leader, and no entry of the log.

use std::collections::HashMap;
use std::time::Instant;

use basalt_engine::replica::{Ask, Outcome, Replies};
use basalt_engine::types::LeaseId;
use basalt_net::grpc::{CallId, Calls, Code, Metadata, Status};

use super::backend::Backend;
use super::errors::Error;
use super::fields;
use super::gate::{LeaderLoss, Led, Rpc, needs_leader};
use super::meter::Meter;
use super::services::Services;

/// The keep-alive calls of one loop.
#[derive(Default)]
pub(super) struct KeepAlives {
    streams: HashMap<CallId, Stream>,
    leader_loss: LeaderLoss,
}

struct Stream {
    /// Renewals that have no answer yet.
    waiting: usize,
    /// The client has asked for all that it wants.
    is_closed: bool,
    /// `hasleader: true` came with the call.
    needs_leader: bool,
}

impl KeepAlives {
    #[inline]
    pub(super) fn has(&self, call: CallId) -> bool {
        !self.streams.is_empty() && self.streams.contains_key(&call)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// The call is gone; false if it was no keep-alive. Answers that are on their way are dropped.
    pub(super) fn on_cancel(&mut self, call: CallId) -> bool {
        self.streams.remove(&call).is_some()
    }

    /// The client has asked for all that it wants.
    pub(super) fn on_end(&mut self, calls: &mut impl Calls, call: CallId) {
        if let Some(stream) = self.streams.get_mut(&call) {
            stream.is_closed = true;
            self.finish_closed(calls, call);
        }
    }

    /// A renewal is answered.
    pub(super) fn on_answer(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        (outcome, replies): (Outcome, &Replies),
    ) {
        let Some(stream) = self.streams.get_mut(&call) else {
            return;
        };
        stream.waiting -= 1;
        match outcome {
            Outcome::Encoded { start, end } => {
                let message = replies.encoded(start, end);
                // A connection that does not take its answers is not read either, so they are bounded.
                let _ = calls.send(call, |out| out.extend_from_slice(message));
                self.finish_closed(calls, call);
            }
            Outcome::Refused(refused) => self.end(calls, call, Error::from(refused)),
            _ => unreachable!("a renewal is no other entry"),
        }
    }

    fn finish_closed(&mut self, calls: &mut impl Calls, call: CallId) {
        let is_done = |stream: &Stream| stream.is_closed && stream.waiting == 0;
        if self.streams.get(&call).is_some_and(is_done) {
            self.streams.remove(&call);
            calls.finish(call, Status::OK);
        }
    }

    fn end(&mut self, calls: &mut impl Calls, call: CallId, error: Error) {
        self.streams.remove(&call);
        calls.finish(call, error.status());
    }

    fn end_all(
        &mut self,
        calls: &mut impl Calls,
        error: Error,
        is_meant: impl Fn(&Stream) -> bool,
    ) {
        let meant = self.streams.iter().filter(|(_, stream)| is_meant(stream));
        let meant: Vec<CallId> = meant.map(|(call, _)| *call).collect();
        for call in meant {
            self.end(calls, call, error);
        }
    }
}

impl<B: Backend> Services<B> {
    pub(super) fn on_keep_alive_open(
        &mut self,
        call: CallId,
        meta: &Metadata,
    ) -> Result<(), Error> {
        self.admit(Rpc::LeaseKeepAlive, false, Some(meta))?;
        let stream = Stream {
            waiting: 0,
            is_closed: false,
            needs_leader: needs_leader(meta),
        };
        self.keep_alives.streams.insert(call, stream);
        Ok(())
    }

    /// One renewal.
    pub(super) fn on_keep_alive(&mut self, calls: &mut impl Calls, call: CallId, message: &[u8]) {
        let to = self.reply_to(call);
        let Some(stream) = self.keep_alives.streams.get_mut(&call) else {
            return;
        };
        match fields::ints(message) {
            Ok([id]) => {
                let ask = Ask::KeepAlive(LeaseId(id.cast_signed()));
                match self.backend.ask(to, ask) {
                    Ok(()) => stream.waiting += 1,
                    Err(busy) => self.keep_alives.end(calls, call, busy.into()),
                }
            }
            Err(why) => {
                self.keep_alives.streams.remove(&call);
                let text = format!("grpc: failed to unmarshal the received message: proto: {why}");
                calls.finish(call, Status::new(Code::Internal, text));
            }
        }
    }

    /// Ends what asked for a leader when there is none for long. Returns when to look again.
    pub(super) fn poll_keep_alives(
        &mut self,
        calls: &mut impl Calls,
        meter: &Meter,
        now: Instant,
    ) -> Option<Instant> {
        let keep_alives = &mut self.keep_alives;
        if keep_alives.streams.is_empty() {
            keep_alives.leader_loss.forget();
            return None;
        }
        match keep_alives.leader_loss.look(self.backend.published(), now) {
            Led::Yes => return None,
            Led::Until(end) => return Some(end),
            Led::No => {}
        }
        let calls = &mut meter.count(Rpc::LeaseKeepAlive, calls);
        keep_alives.end_all(calls, Error::NoLeader, |stream| stream.needs_leader);
        None
    }

    /// The loop is to stop.
    pub(super) fn stop_keep_alives(&mut self, calls: &mut impl Calls, meter: &Meter) {
        let calls = &mut meter.count(Rpc::LeaseKeepAlive, calls);
        self.keep_alives.end_all(calls, Error::Stopped, |_| true);
    }
}
