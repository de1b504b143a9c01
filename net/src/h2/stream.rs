use super::Protocol;
use super::flow::{ReceiveWindow, SendWindow};
use super::schedule::Tail;
use super::shared::Shared;
use crate::limits::SHARED_STEP_BYTES;
use std::collections::VecDeque;
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
    /// Data not yet in a frame: `queue[queue_from..]`. Empty only if `behind` is too.
    pub(super) queue: Vec<u8>,
    pub(super) queue_from: usize,
    /// What comes after it, in order; and the bytes of that.
    behind: VecDeque<Part>,
    behind_bytes: usize,
    /// What follows all data.
    pub(super) tail: Tail,
    /// It stands in the schedule; a stream that waits for its own window does not.
    pub(super) is_scheduled: bool,
    /// Its sender was told to wait.
    pub(super) wants_writable: bool,
    pub(super) head: Option<Arc<P::Head>>,
    pub(super) state: P::Stream,
}

/// A part of what is queued.
#[derive(Debug)]
enum Part {
    Own(Vec<u8>),
    Shared(Shared),
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
            behind: VecDeque::new(),
            behind_bytes: 0,
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
        self.front_bytes() + self.behind_bytes
    }

    /// Those that a frame may take.
    pub(super) fn front_bytes(&self) -> usize {
        self.queue.len() - self.queue_from
    }

    /// Queues data.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        match self.behind.back_mut() {
            None => self.queue.extend_from_slice(bytes),
            Some(Part::Own(last)) => {
                last.extend_from_slice(bytes);
                self.behind_bytes += bytes.len();
            }
            Some(Part::Shared(_)) => {
                self.behind.push_back(Part::Own(bytes.to_vec()));
                self.behind_bytes += bytes.len();
            }
        }
    }

    /// Queues data that other streams send too; it is copied a step at a time.
    pub(super) fn push_shared(&mut self, shared: Shared) {
        self.behind_bytes += shared.len();
        self.behind.push_back(Part::Shared(shared));
        self.refill();
    }

    /// Frames have taken so many bytes of the queue.
    pub(super) fn pop(&mut self, bytes: usize) {
        self.queue_from += bytes;
        self.refill();
    }

    fn refill(&mut self) {
        while self.front_bytes() == 0 {
            reuse(&mut self.queue);
            self.queue_from = 0;
            match self.behind.front_mut() {
                None => return,
                Some(Part::Own(own)) => self.queue = std::mem::take(own),
                Some(Part::Shared(shared)) => {
                    self.queue.extend_from_slice(shared.take(SHARED_STEP_BYTES));
                    if shared.len() > 0 {
                        self.behind_bytes -= self.queue.len();
                        return;
                    }
                }
            }
            self.behind_bytes -= self.queue.len();
            self.behind.pop_front();
        }
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
        self.behind = VecDeque::new();
        self.behind_bytes = 0;
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
