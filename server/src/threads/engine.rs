use std::sync::Arc;
use std::time::Instant;

use basalt_engine::replica::{Proposals, Replies};
use basalt_net::grpc::{CallId, Calls, Method, Request, Service, Status};
use basalt_net::h1;

use super::machine::Machine;
use super::outbox::{merge, moved};
use super::rings::Rings;
use super::watchman::Watchman;

/// The engine's own loop: no sockets, only rings, the disk and the worker.
pub(super) struct EngineLoop {
    pub(super) machine: Machine,
    pub(super) watchman: Watchman,
    pub(super) links: Vec<Link>,
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

    /// Answers that find the ring full stay and go with the next; requests in flight bound them.
    fn give_replies(&mut self) {
        if self.replies.items.is_empty() {
            return;
        }
        let spare = self.rings.spare_replies.pop().unwrap_or_default();
        let replies = std::mem::replace(&mut self.replies, spare);
        if let Err(mut kept) = self.rings.replies.push(replies) {
            merge(&mut kept, &mut self.replies);
            self.replies = kept;
        }
        self.rings.net_loop.wake();
    }
}

impl EngineLoop {
    pub(super) fn give_replies(&mut self) {
        let replies = self.machine.replies();
        for (to, outcome) in replies.items.drain(..) {
            let own = &mut self.links[to.net_loop as usize].replies;
            let outcome = moved(own, &replies.bytes, outcome);
            own.items.push((to, outcome));
        }
        replies.clear();
        self.links.iter_mut().for_each(Link::give_replies);
    }
}

impl Service for EngineLoop {
    fn on_turn(&mut self, _calls: &mut impl Calls, now: Instant) -> Option<Instant> {
        for link in &mut self.links {
            link.take_proposals(&mut self.machine);
        }
        let wake = self.machine.turn(now);
        self.give_replies();
        self.watchman.look(self.machine.replica());
        wake
    }

    fn on_ready(&mut self, _token: usize) {
        // The ring's eventfd: completions are taken in every turn.
    }

    fn method(&self, _path: &[u8]) -> Method {
        Method::Unknown(Status::OK)
    }

    // This loop has no listener, so nothing of the following is ever called.
    fn on_request(&mut self, _calls: &mut impl Calls, _call: CallId, _request: Request<'_>) {}
    fn on_end(&mut self, _calls: &mut impl Calls, _call: CallId) {}
    fn on_cancel(&mut self, _call: CallId) {}
    fn on_writable(&mut self, _calls: &mut impl Calls, _call: CallId) {}
    fn on_http(&mut self, _calls: &mut impl Calls, _call: CallId, _request: h1::Request<'_>) {}
}
