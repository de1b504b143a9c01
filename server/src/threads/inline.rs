use std::sync::Arc;
use std::time::Instant;

use basalt_engine::mvcc::Reader;
use basalt_engine::replica::{Ask, Proposals, Published, Replies};
use basalt_engine::types::{ReplyTo, RequestId};
use basalt_net::h1;
use basalt_net::peer::Peers;

use super::machine::Machine;
use super::outbox::{Outbox, merge};
use super::watchman::Watchman;
use super::worker::Worker;
use crate::api::{Backend, Busy, Order, Work};
use crate::http::Http;

/// The member on the network's own thread: nothing is handed over.
///
/// Order of a turn: the loop reads and calls the API, which pushes proposals here; then [`Backend::turn`] takes what the disk
/// finished, lets the replica run and gives the disk its next group; only then does the loop write answers to its sockets.
pub(super) struct Inline {
    pub(super) machine: Machine,
    pub(super) reader: Reader,
    pub(super) published: Arc<Published>,
    pub(super) worker: Arc<Worker>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) http: Http,
    pub(super) watchman: Watchman,
    /// This turn's proposals.
    pub(super) batch: Proposals,
}

impl Backend for Inline {
    fn reader(&self) -> &Reader {
        &self.reader
    }

    fn published(&self) -> &Published {
        &self.published
    }

    fn propose(&mut self, to: ReplyTo, id: RequestId, field: u32, body: &[u8]) -> Result<(), Busy> {
        if !self.batch.fits(body.len()) && !self.machine.propose(&mut self.batch) {
            return Err(Busy);
        }
        self.batch.push(Some(to), id, field, body);
        Ok(())
    }

    fn ask(&mut self, to: ReplyTo, ask: Ask) -> Result<(), Busy> {
        match self.batch.ask(to, ask) {
            true => Ok(()),
            false => Err(Busy),
        }
    }

    fn order(&mut self, to: ReplyTo, order: Order) -> Result<(), Busy> {
        self.machine.order(to, order);
        Ok(())
    }

    fn submit(&mut self, to: ReplyTo, work: Work) -> Result<(), Busy> {
        self.worker.give_work(to, work)
    }

    fn turn(&mut self, now: Instant, replies: &mut Replies) -> Option<Instant> {
        if !self.batch.is_empty() || self.batch.has_asks() {
            // A batch that is not taken stays for the next turn; the disk's answer brings it.
            self.machine.propose(&mut self.batch);
        }
        let wake = self.machine.turn(now);
        merge(replies, self.machine.replies());
        self.outbox.drain_into(replies);
        self.watchman.look(&self.machine, now);
        wake.into_iter().chain(self.watchman.wake()).min()
    }

    fn on_ready(&mut self, _token: usize) {
        // The ring's eventfd: completions are taken in every turn.
    }

    fn http(&mut self, request: &h1::Request<'_>) -> h1::Response {
        self.http.answer(request)
    }

    fn on_stop(&mut self) {
        self.machine.hand_over();
    }

    fn is_ending(&self) -> bool {
        self.machine.is_handing_over()
    }

    fn peers(&mut self) -> Option<&mut Peers> {
        Some(self.machine.peers())
    }
}
