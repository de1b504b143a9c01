use super::Protocol;
use super::flow::{ReceiveWindow, SendWindow};
use super::schedule::Tail;
use std::sync::Arc;

/// One stream. The slot of a stream that is over is used again with its buffers.
#[derive(Debug)]
pub(super) struct Stream<P: Protocol> {
    /// 0 while the slot is free.
    pub(super) id: u32,
    /// The peer has ended its side.
    pub(super) remote_closed: bool,
    /// We have queued the end of our side; nothing may be queued after it.
    pub(super) local_closed: bool,
    /// A first header block has come from the peer (a client's stream: the response).
    pub(super) has_headers: bool,
    pub(super) send: SendWindow,
    pub(super) receive: ReceiveWindow,
    /// What `content-length` promises and has not come yet.
    pub(super) body_left: Option<u64>,
    /// Data not yet in a frame: `queue[queue_from..]`.
    pub(super) queue: Vec<u8>,
    pub(super) queue_from: usize,
    /// What follows the queue.
    pub(super) tail: Tail,
    /// It stands in the schedule; a stream that waits for its own window does not.
    pub(super) is_scheduled: bool,
    /// Its sender was told to wait.
    pub(super) wants_writable: bool,
    pub(super) head: Option<Arc<P::Head>>,
    pub(super) state: P::Stream,
}

impl<P: Protocol> Default for Stream<P> {
    fn default() -> Stream<P> {
        Stream {
            id: 0,
            remote_closed: false,
            local_closed: false,
            has_headers: false,
            send: SendWindow::new(0),
            receive: ReceiveWindow::new(0),
            body_left: None,
            queue: Vec::new(),
            queue_from: 0,
            tail: Tail::Open,
            is_scheduled: false,
            wants_writable: false,
            head: None,
            state: P::Stream::default(),
        }
    }
}

impl<P: Protocol> Stream<P> {
    pub(super) fn queued_bytes(&self) -> usize {
        self.queue.len() - self.queue_from
    }

    /// Something waits for its turn: data, or the end behind it.
    pub(super) fn has_work(&self) -> bool {
        self.queued_bytes() > 0 || matches!(self.tail, Tail::End | Tail::Trailers(_))
    }

    /// Takes `bytes` of a body into account; `None` when there is more or less of it than promised.
    pub(super) fn count_body(&mut self, bytes: usize, is_end: bool) -> Option<()> {
        if let Some(left) = &mut self.body_left {
            *left = left.checked_sub(bytes as u64)?;
            if is_end && *left > 0 {
                return None;
            }
        }
        Some(())
    }

    /// Makes the slot as good as new, but for the buffers.
    pub(super) fn recycle(&mut self) {
        self.remote_closed = false;
        self.local_closed = false;
        self.has_headers = false;
        self.body_left = None;
        reuse(&mut self.queue);
        self.queue_from = 0;
        self.tail = Tail::Open;
        self.is_scheduled = false;
        self.wants_writable = false;
        P::recycle(&mut self.state);
    }
}

/// Empties a buffer that is kept for the next stream; one that has become large is given back.
pub(crate) fn reuse(buffer: &mut Vec<u8>) {
    if buffer.capacity() > crate::limits::KEPT_BUFFER_BYTES_MAX {
        *buffer = Vec::new();
    } else {
        buffer.clear();
    }
}
