use std::sync::Arc;

use basalt_engine::replica::{Proposals, Replies};
use basalt_engine::types::ReplyTo;
use basalt_net::reactor::Handle;
use crossbeam_queue::ArrayQueue;

use crate::api::Order;

/// The rings between one network loop and the engine's loop: whole batches one way, whole answers the other, and the emptied
/// ones back, so that their room is used again. Each end is one thread's.
pub(super) struct Rings {
    pub(super) proposals: ArrayQueue<Proposals>,
    pub(super) spare_proposals: ArrayQueue<Proposals>,
    pub(super) orders: ArrayQueue<(ReplyTo, Order)>,
    pub(super) replies: ArrayQueue<Replies>,
    pub(super) spare_replies: ArrayQueue<Replies>,
    /// The engine's loop, to be woken after a batch was put in.
    pub(super) engine: Handle,
    /// The network loop, to be woken after answers were put in.
    pub(super) net_loop: Handle,
}

impl Rings {
    pub(super) fn new(engine: Handle, net_loop: Handle) -> Arc<Rings> {
        Arc::new(Rings {
            proposals: ArrayQueue::new(BATCHES_MAX),
            spare_proposals: ArrayQueue::new(BATCHES_MAX),
            orders: ArrayQueue::new(ORDERS_MAX),
            replies: ArrayQueue::new(BATCHES_MAX),
            spare_replies: ArrayQueue::new(BATCHES_MAX),
            engine,
            net_loop,
        })
    }
}

/// Batches of one loop on their way. A batch is a turn's requests, at most a run's bytes (1 MiB, or one larger request); when
/// the ring is full the loop keeps its batch, and when that is full it answers `too many requests`.
const BATCHES_MAX: usize = 8;
/// Orders of one loop on their way: one for the reads of a turn, and changes that operators ask for.
const ORDERS_MAX: usize = 64;
