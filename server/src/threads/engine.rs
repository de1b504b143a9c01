use std::sync::Arc;
use std::time::{Duration, Instant};

use basalt_engine::replica::{Proposals, Replies};
use basalt_net::grpc::{CallId, Calls, Method, Request, Service, Status};
use basalt_net::h1;
use basalt_net::peer::Peers;

use super::machine::Machine;
use super::outbox::{merge, moved};
use super::rings::Rings;
use super::watchman::Watchman;
use crate::http::Http;

/// The engine's own loop: rings, the disk, the worker and the other members; no clients.
pub(super) struct EngineLoop {
    pub(super) machine: Machine,
    pub(super) watchman: Watchman,
    pub(super) links: Vec<Link>,
    /// Parts of files that had come into memory when the network loops last heard of any.
    pub(super) parts_read: u64,
    /// Answers what comes by the peers' port.
    pub(super) http: Http,
}

/// The engine's end of one network loop's rings.
pub(super) struct Link {
    rings: Arc<Rings>,
    /// A batch that the replica had no room for; nothing more is taken from the ring before it.
    held: Option<Proposals>,
    /// Answers on their way to the ring.
    replies: Replies,
}

impl Link {
    pub(super) fn new(rings: Arc<Rings>) -> Link {
        Link {
            rings,
            held: None,
            replies: Replies::default(),
        }
    }

    fn take_proposals(&mut self, machine: &mut Machine) {
        while let Some(mut batch) = self.held.take().or_else(|| self.rings.proposals.pop()) {
            if !machine.propose(&mut batch) {
                self.held = Some(batch);
                return;
            }
            // A full ring of spares only costs an allocation later.
            let _ = self.rings.spare_proposals.push(batch);
        }
    }

    fn take_orders(&mut self, machine: &mut Machine) {
        while let Some((to, order)) = self.rings.orders.pop() {
            machine.order(to, order);
        }
    }

    /// False if answers stay because the ring is full; requests in flight bound them. The network loop does not wake this one
    /// when it has made room, so the caller must come again.
    fn give_replies(&mut self) -> bool {
        if self.replies.items.is_empty() {
            return true;
        }
        let spare = self.rings.spare_replies.pop().unwrap_or_default();
        let replies = std::mem::replace(&mut self.replies, spare);
        if let Err(mut kept) = self.rings.replies.push(replies) {
            merge(&mut kept, &mut self.replies);
            self.replies = kept;
        }
        self.rings.net_loop.wake();
        self.replies.items.is_empty()
    }
}

impl EngineLoop {
    /// Whether all answers are on their way.
    fn give_replies(&mut self) -> bool {
        let replies = self.machine.replies();
        for (to, outcome) in replies.items.drain(..) {
            let own = &mut self.links[to.net_loop as usize].replies;
            let outcome = moved(own, &replies.bytes, outcome);
            own.items.push((to, outcome));
        }
        replies.clear();
        let mut is_all_given = true;
        for link in &mut self.links {
            is_all_given &= link.give_replies();
        }
        is_all_given
    }
}

impl Service for EngineLoop {
    fn on_turn(&mut self, _calls: &mut impl Calls, now: Instant) -> Option<Instant> {
        for link in &mut self.links {
            link.take_proposals(&mut self.machine);
            link.take_orders(&mut self.machine);
        }
        let wake = self.machine.turn(now);
        let is_all_given = self.give_replies();
        let parts_read = self.machine.replica().parts_read();
        if parts_read > self.parts_read {
            self.parts_read = parts_read;
            for link in &self.links {
                link.rings.net_loop.wake();
            }
        }
        self.watchman.look(&self.machine, now);
        let wake = wake.into_iter().chain(self.watchman.wake()).min();
        if is_all_given {
            return wake;
        }
        let again = now + FULL_RING_RETRY;
        Some(wake.map_or(again, |wake| wake.min(again)))
    }

    fn on_ready(&mut self, _token: usize) {
        // The ring's eventfd: completions are taken in every turn.
    }

    fn method(&self, _path: &[u8]) -> Method {
        Method::Unknown(Status::OK)
    }

    fn on_http(&mut self, calls: &mut impl Calls, call: CallId, request: h1::Request<'_>) {
        calls.reply_http(call, self.http.answer(&request));
    }

    fn is_ending(&self) -> bool {
        self.machine.is_handing_over()
    }

    fn peers(&mut self) -> Option<&mut Peers> {
        Some(self.machine.peers())
    }

    // This loop has no listener for clients, so nothing of the following is ever called.
    fn on_request(&mut self, _calls: &mut impl Calls, _call: CallId, _request: Request<'_>) {}
    fn on_end(&mut self, _calls: &mut impl Calls, _call: CallId) {}
    fn on_cancel(&mut self, _call: CallId) {}
    fn on_writable(&mut self, _calls: &mut impl Calls, _call: CallId) {}
}

/// How soon a full ring of answers is tried again: its loop has been busy for eight turns of this one.
const FULL_RING_RETRY: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use basalt_engine::replica::Outcome;
    use basalt_engine::types::{ReplyTo, Term};
    use basalt_net::grpc::ServerConfig;
    use basalt_net::reactor::{Config, Reactor};

    use super::*;

    fn reactor() -> Reactor {
        let config = Config {
            grpc: ServerConfig::default(),
            h1_body_bytes_max: 0,
            connections_max: 1,
            spin: None,
        };
        Reactor::new(config, Vec::new()).expect("a loop")
    }

    /// The last answers to a busy network loop would otherwise wait for the next request of anybody.
    #[test]
    fn answers_that_find_the_ring_full_are_told_of_and_follow_in_order() {
        let (engine, net_loop) = (reactor(), reactor());
        let rings = Rings::new(engine.handle(), net_loop.handle());
        let mut link = Link::new(Arc::clone(&rings));
        let mut revision = 0;
        let mut answer = |link: &mut Link| {
            revision += 1;
            let outcome = Outcome::Put {
                revision,
                term: Term(1),
            };
            link.replies.items.push((ReplyTo::default(), outcome));
            link.give_replies()
        };
        while !rings.replies.is_full() {
            assert!(answer(&mut link));
        }
        assert!(!answer(&mut link));
        assert!(!answer(&mut link));
        let mut seen = Vec::new();
        while let Some(batch) = rings.replies.pop() {
            seen.extend(batch.items.iter().map(|(_, outcome)| *outcome));
            assert!(link.give_replies());
        }
        let revisions = seen.iter().map(|outcome| match outcome {
            Outcome::Put { revision, .. } => *revision,
            other => panic!("{other:?}"),
        });
        assert!(revisions.eq(1..=revision));
    }
}
