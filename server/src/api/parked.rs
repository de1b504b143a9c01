//! Calls that wait to be begun anew: until linearizable reads are possible, as there is no leader
//! yet or it has to make sure that it leads (one question to it is for all calls of a turn: a round);
//! or until records are in memory.

use std::collections::VecDeque;
use std::time::Instant;

use basalt_net::grpc::CallId;

use super::errors::Error;
use super::gate::Rpc;
use super::limits::{PARKED_BYTES_MAX, PARKED_CALLS_MAX, REQUEST_TIMEOUT};

/// In the order of their coming, and so of their deadlines. `N` says what each waits for.
#[derive(Debug)]
pub(super) struct Parked<N> {
    calls: VecDeque<ParkedCall<N>>,
    /// Sum of the messages' lengths.
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct ParkedCall<N> {
    pub(super) need: N,
    pub(super) call: CallId,
    pub(super) rpc: Rpc,
    pub(super) message: Vec<u8>,
    /// Set at the first turn after its coming.
    deadline: Option<Instant>,
}

impl<N> Default for Parked<N> {
    fn default() -> Self {
        Self {
            calls: VecDeque::new(),
            bytes: 0,
        }
    }
}

impl Parked<u64> {
    /// The newest round that a call has joined.
    pub(super) fn last_round(&self) -> Option<u64> {
        self.calls.back().map(|parked| parked.need)
    }

    /// The first call, if it is of that round or of an earlier one.
    pub(super) fn pop_of(&mut self, round: u64) -> Option<ParkedCall<u64>> {
        let is_of = self.calls.front().is_some_and(|it| it.need <= round);
        is_of.then(|| self.pop()).flatten()
    }
}

impl<N> Parked<N> {
    /// # Errors
    /// `TooManyRequests` if there is no room.
    pub(super) fn push(
        &mut self,
        call: CallId,
        rpc: Rpc,
        message: &[u8],
        need: N,
    ) -> Result<(), Error> {
        let bytes = self.bytes + message.len();
        if self.calls.len() >= PARKED_CALLS_MAX || bytes > PARKED_BYTES_MAX {
            return Err(Error::TooManyRequests);
        }
        self.bytes = bytes;
        self.calls.push_back(ParkedCall {
            need,
            call,
            rpc,
            message: message.to_vec(),
            deadline: None,
        });
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub(super) fn pop(&mut self) -> Option<ParkedCall<N>> {
        let parked = self.calls.pop_front()?;
        self.bytes -= parked.message.len();
        Some(parked)
    }

    /// Takes out all whose need is met.
    pub(super) fn take_met(&mut self, mut is_met: impl FnMut(&N) -> bool) -> Vec<ParkedCall<N>> {
        let mut met = Vec::new();
        for _ in 0..self.calls.len() {
            let Some(parked) = self.calls.pop_front() else {
                break;
            };
            if is_met(&parked.need) {
                self.bytes -= parked.message.len();
                met.push(parked);
            } else {
                self.calls.push_back(parked);
            }
        }
        met
    }

    /// Stamps what is new and tells of each call whose time is over. Returns the next deadline.
    pub(super) fn on_turn(
        &mut self,
        now: Instant,
        mut expired: impl FnMut(CallId, Rpc),
    ) -> Option<Instant> {
        let fresh = self.calls.iter_mut().rev();
        for parked in fresh.take_while(|parked| parked.deadline.is_none()) {
            parked.deadline = Some(now + REQUEST_TIMEOUT);
        }
        while let Some(deadline) = self.calls.front().and_then(|parked| parked.deadline) {
            if deadline > now {
                return Some(deadline);
            }
            if let Some(parked) = self.pop() {
                expired(parked.call, parked.rpc);
            }
        }
        None
    }
}
