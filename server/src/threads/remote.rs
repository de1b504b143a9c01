use std::sync::Arc;
use std::time::Instant;

use basalt_engine::mvcc::Reader;
use basalt_engine::replica::{Ask, Proposals, Published, Replies};
use basalt_engine::types::{ReplyTo, RequestId};
use basalt_net::h1;

use super::outbox::{Outbox, merge};
use super::rings::Rings;
use super::worker::Worker;
use crate::api::{Backend, Busy, Order, Work};
use crate::http::Http;

/// A network loop's end of the rings to the engine.
pub(super) struct Remote {
    pub(super) reader: Reader,
    pub(super) published: Arc<Published>,
    pub(super) rings: Arc<Rings>,
    pub(super) worker: Arc<Worker>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) http: Http,
    /// This turn's proposals.
    pub(super) batch: Proposals,
}

impl Remote {
    /// Puts the batch into the ring; false keeps it because the ring is full.
    fn hand_over(&mut self) -> bool {
        if self.batch.is_empty() && !self.batch.has_asks() {
            return true;
        }
        let spare = self.rings.spare_proposals.pop().unwrap_or_default();
        let batch = std::mem::replace(&mut self.batch, spare);
        if let Err(batch) = self.rings.proposals.push(batch) {
            let spare = std::mem::replace(&mut self.batch, batch);
            // A full ring of spares only costs an allocation later.
            let _ = self.rings.spare_proposals.push(spare);
            return false;
        }
        self.rings.engine.wake();
        true
    }
}

impl Backend for Remote {
    fn reader(&self) -> &Reader {
        &self.reader
    }

    fn published(&self) -> &Published {
        &self.published
    }

    fn propose(&mut self, to: ReplyTo, id: RequestId, field: u32, body: &[u8]) -> Result<(), Busy> {
        if !self.batch.fits(body.len()) && !self.hand_over() {
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
        self.rings.orders.push((to, order)).map_err(|_| Busy)?;
        self.rings.engine.wake();
        Ok(())
    }

    fn on_stop(&mut self) {
        // A ring that is full of orders is not worth waiting for: the others then elect a leader by themselves.
        let _ = self.order(ReplyTo::default(), Order::Stop);
    }

    fn submit(&mut self, to: ReplyTo, work: Work) -> Result<(), Busy> {
        self.worker.give_work(to, work)
    }

    fn turn(&mut self, _now: Instant, replies: &mut Replies) -> Option<Instant> {
        // A ring that is full stays so until the engine answers, which wakes this loop.
        self.hand_over();
        while let Some(mut answered) = self.rings.replies.pop() {
            merge(replies, &mut answered);
            // A full ring of spares only costs an allocation later.
            let _ = self.rings.spare_replies.push(answered);
        }
        self.outbox.drain_into(replies);
        None
    }

    fn on_ready(&mut self, token: usize) {
        unreachable!("a network loop watches no foreign descriptor, but {token} was ready");
    }

    fn http(&mut self, request: &h1::Request<'_>) -> h1::Response {
        self.http.answer(request)
    }
}
