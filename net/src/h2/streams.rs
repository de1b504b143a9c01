use super::Protocol;
use super::error::ErrorCode;
use super::flow::{ReceiveWindow, SendWindow};
use super::frame::{self, HEADER_BYTES, flag, kind};
use super::schedule::{Backlog, Tail};
use super::settings::Settings;
use super::shared::Shared;
use super::slots::Slots;
use super::stream::Stream;
use crate::limits::{
    KEPT_BUFFER_BYTES_MAX, SPARE_HEAD_BYTES_MAX, SPARE_HEADS_MAX, TOLERATED_STREAMS_MAX,
    UNSENT_BYTES_MAX, WAITING_ANSWERS_BYTES_MAX,
};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

/// Which side of the connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The peer opens streams.
    Server,
    /// We open streams.
    Client,
}

/// One stream of one connection. Outlives the stream: then it leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamKey {
    /// HTTP/2 stream id.
    pub id: u32,
    pub(super) slot: u32,
}

/// The sending half of a connection: the streams and what is said on them.
///
/// Every method ignores a stream that is gone. What is said goes to `out` at once where windows allow, else to the stream's queue.
#[derive(Debug)]
pub struct Streams<P: Protocol> {
    pub(super) role: Role,
    pub(super) slots: Slots<P>,
    pub(super) out: Vec<u8>,
    /// `out[..written]` is with the socket.
    pub(super) written: usize,
    pub(super) send: SendWindow,
    pub(super) peer: Settings,
    pub(super) ours: Settings,
    /// Streams with work that no window of their own holds back, in turn.
    pub(super) ready: VecDeque<StreamKey>,
    /// Sum of all streams' queues, bytes.
    pub(super) queued_bytes: usize,
    /// Streams whose queue has drained enough for a sender that was told to wait.
    pub(super) writable: Vec<StreamKey>,
    /// Counts HEADERS and DATA frames sent, ever: such traffic excuses pings and other frames that move nothing.
    pub(super) sent_frames: u64,
    /// Counts bytes of DATA framed and bytes written, ever: progress.
    pub(super) moved: u64,
    /// Our next header block must begin by emptying the table, which the peer has made smaller.
    pub(super) table_update_due: bool,
    /// Streams that we ended before the peer ended its side: what it still sends on them is no fault of it.
    tolerated: VecDeque<u32>,
    spare_heads: Vec<Arc<P::Head>>,
}

impl<P: Protocol> Streams<P> {
    pub(super) fn new(role: Role, ours: Settings) -> Streams<P> {
        let peer = Settings::default();
        Streams {
            role,
            slots: Slots::new(),
            out: Vec::new(),
            written: 0,
            send: SendWindow::new(peer.initial_window),
            peer,
            ours,
            ready: VecDeque::new(),
            queued_bytes: 0,
            writable: Vec::new(),
            sent_frames: 0,
            moved: 0,
            table_update_due: false,
            tolerated: VecDeque::new(),
            spare_heads: Vec::new(),
        }
    }

    /// The open stream of this id.
    pub fn find(&self, id: u32) -> Option<StreamKey> {
        self.slots.find(id)
    }

    /// The state that the protocol keeps for a stream.
    pub fn state(&mut self, key: StreamKey) -> Option<&mut P::Stream> {
        self.slots.get_mut(key).map(|stream| &mut stream.state)
    }

    /// The header block that opened a stream.
    pub fn head(&self, key: StreamKey) -> Option<&Arc<P::Head>> {
        self.slots.get(key)?.head.as_ref()
    }

    /// The open streams, in no order.
    pub fn keys(&self) -> impl Iterator<Item = StreamKey> {
        self.slots.keys()
    }

    /// Number of open streams.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// No stream is open.
    pub fn is_empty(&self) -> bool {
        self.slots.len() == 0
    }

    /// Has the peer ended its side?
    pub fn is_remote_closed(&self, key: StreamKey) -> bool {
        self.slots
            .get(key)
            .is_none_or(|stream| stream.remote_closed)
    }

    /// A whole answer in one go: header block, the data that `write` appends, trailers. Nothing may have been sent before.
    pub fn answer(
        &mut self,
        key: StreamKey,
        headers: &[u8],
        write: impl FnOnce(&mut Vec<u8>),
        trailers: &'static [u8],
    ) {
        self.headers(key, headers, false);
        self.data(key, write);
        self.end(key, Some(Cow::Borrowed(trailers)));
    }

    /// Sends a header block at once; for trailers behind queued data use `end`.
    pub fn headers(&mut self, key: StreamKey, block: &[u8], is_end: bool) {
        let Some(stream) = self.slots.get(key).filter(|stream| !stream.local_closed) else {
            return;
        };
        assert!(stream.queued_bytes() == 0);
        self.put_block(key.id, block, is_end);
        if is_end {
            self.close_local(key);
        }
    }

    /// Sends the data that `write` appends, as one frame at once if windows and frame size allow, else through the queue.
    pub fn data(&mut self, key: StreamKey, write: impl FnOnce(&mut Vec<u8>)) -> Backlog {
        self.put_data(key, false, write)
    }

    /// The same, and ends our side with it.
    pub fn last_data(&mut self, key: StreamKey, write: impl FnOnce(&mut Vec<u8>)) {
        self.put_data(key, true, write);
    }

    /// Sends the data that `write` appends, and behind it shared data, which is not copied before its turn.
    pub fn shared_data(
        &mut self,
        key: StreamKey,
        write: impl FnOnce(&mut Vec<u8>),
        shared: Shared,
    ) -> Backlog {
        let stream = self.slots.get_mut(key);
        let Some(stream) = stream.filter(|stream| !stream.local_closed) else {
            return Backlog::None;
        };
        let mut own = Vec::new();
        write(&mut own);
        self.queued_bytes += own.len() + shared.len();
        stream.push(&own);
        stream.push_shared(shared);
        let backlog = Backlog::of(stream.queued_bytes());
        stream.wants_writable = backlog == Backlog::Full;
        self.schedule(key);
        backlog
    }

    fn put_data(
        &mut self,
        key: StreamKey,
        is_end: bool,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Backlog {
        let Some(stream) = self
            .slots
            .get_mut(key)
            .filter(|stream| !stream.local_closed)
        else {
            return Backlog::None;
        };
        let frame_at = self.out.len();
        let payload_at = frame_at + HEADER_BYTES;
        self.out.resize(payload_at, 0);
        write(&mut self.out);
        let bytes = self.out.len() - payload_at;
        let fits = bytes <= self.peer.frame_bytes_max as usize
            && bytes <= stream.send.available()
            && bytes <= self.send.available()
            && frame_at - self.written < UNSENT_BYTES_MAX;
        if fits && stream.queued_bytes() == 0 {
            let header = frame::FrameHeader {
                payload_bytes: bytes,
                kind: kind::DATA,
                flags: if is_end { flag::END_STREAM } else { 0 },
                stream: key.id,
            };
            self.out[frame_at..payload_at].copy_from_slice(&header.to_bytes());
            stream.send.take(bytes);
            self.send.take(bytes);
            self.sent_frames += 1;
            self.moved += bytes as u64;
            if is_end {
                self.close_local(key);
            }
            return Backlog::None;
        }
        stream.push(&self.out[payload_at..]);
        self.out.truncate(frame_at);
        self.queued_bytes += bytes;
        let backlog = Backlog::of(stream.queued_bytes());
        stream.wants_writable = backlog == Backlog::Full;
        if is_end {
            stream.local_closed = true;
            stream.tail = Tail::End;
        }
        self.schedule(key);
        backlog
    }

    /// Ends our side after all that is queued, with trailers or with an empty DATA frame.
    pub fn end(&mut self, key: StreamKey, trailers: Option<Cow<'static, [u8]>>) {
        let Some(stream) = self
            .slots
            .get_mut(key)
            .filter(|stream| !stream.local_closed)
        else {
            return;
        };
        if stream.queued_bytes() == 0 {
            match trailers {
                Some(block) => self.put_block(key.id, &block, true),
                None => frame::put_header(&mut self.out, 0, kind::DATA, flag::END_STREAM, key.id),
            }
            self.sent_frames += 1;
            self.close_local(key);
            return;
        }
        stream.local_closed = true;
        stream.tail = trailers.map_or(Tail::End, Tail::Trailers);
        self.schedule(key);
    }

    /// Ends a stream from our side, both directions. Its queue is dropped.
    pub fn reset(&mut self, key: StreamKey, code: ErrorCode) {
        if self.slots.get(key).is_none() {
            return;
        }
        frame::put_reset(&mut self.out, key.id, code);
        if !self.is_remote_closed(key) {
            self.tolerate(key.id);
        }
        self.release(key);
    }

    /// The peer has said all and wants no more: what is queued is dropped, the stream ends if it has not.
    pub fn stop(&mut self, key: StreamKey) {
        match self.slots.get(key) {
            Some(stream) if stream.local_closed && !stream.has_work() => self.release(key),
            Some(_) => self.reset(key, ErrorCode::NoError),
            None => {}
        }
    }

    /// Our side has said all. A server is then done with the stream, whatever the peer still wanted to say.
    pub(super) fn close_local(&mut self, key: StreamKey) {
        let Some(stream) = self.slots.get_mut(key) else {
            return;
        };
        stream.local_closed = true;
        if stream.remote_closed {
            self.release(key);
        } else if self.role == Role::Server {
            self.reset(key, ErrorCode::NoError);
        }
    }

    pub(super) fn open(&mut self, id: u32, head: Option<Arc<P::Head>>) -> StreamKey {
        let key = self.slots.insert(id);
        if let Some(stream) = self.slots.get_mut(key) {
            stream.send = SendWindow::new(self.peer.initial_window);
            stream.receive = ReceiveWindow::new(self.ours.initial_window);
            stream.head = head;
        }
        key
    }

    pub(super) fn stream(&mut self, key: StreamKey) -> Option<&mut Stream<P>> {
        self.slots.get_mut(key)
    }

    /// Frees a stream's slot.
    pub(super) fn release(&mut self, key: StreamKey) {
        let Some(stream) = self.slots.get_mut(key) else {
            return;
        };
        self.queued_bytes -= stream.queued_bytes();
        stream.recycle();
        if let Some(head) = stream.head.take() {
            self.keep_head(head);
        }
        self.slots.remove(key);
    }

    pub(super) fn tolerate(&mut self, id: u32) {
        if self.tolerated.len() == TOLERATED_STREAMS_MAX {
            self.tolerated.pop_front();
        }
        self.tolerated.push_back(id);
    }

    /// May the peer still send on this stream, which is over for us?
    pub(super) fn is_tolerated(&self, id: u32) -> bool {
        self.tolerated.contains(&id)
    }

    /// A head to be overwritten, from a stream that is over if there is one.
    pub(super) fn spare_head(&mut self) -> Arc<P::Head> {
        self.spare_heads.pop().unwrap_or_default()
    }

    pub(super) fn keep_head(&mut self, mut head: Arc<P::Head>) {
        let is_kept = self.spare_heads.len() < SPARE_HEADS_MAX
            && Arc::get_mut(&mut head)
                .is_some_and(|head| P::head_bytes(head) <= SPARE_HEAD_BYTES_MAX);
        if is_kept {
            self.spare_heads.push(head);
        }
    }

    /// Whether little enough waits for the peer that a long answer may join it.
    pub fn has_room(&self) -> bool {
        self.queued_bytes + self.unsent().len() < WAITING_ANSWERS_BYTES_MAX
    }

    /// Bytes for the socket.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.out[self.written..]
    }

    pub(super) fn advance(&mut self, bytes: usize) {
        self.written += bytes;
        self.moved += bytes as u64;
        assert!(self.written <= self.out.len());
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        } else if self.written > KEPT_BUFFER_BYTES_MAX {
            self.out.drain(..self.written);
            self.written = 0;
        }
    }

    pub(super) fn put_block(&mut self, id: u32, block: &[u8], is_end: bool) {
        let frame_bytes_max = self.peer.frame_bytes_max as usize;
        self.sent_frames += 1;
        if self.table_update_due {
            self.table_update_due = false;
            let mut updated = Vec::with_capacity(block.len() + 1);
            crate::hpack::encode::size_update(&mut updated, 0);
            updated.extend_from_slice(block);
            frame::put_headers(&mut self.out, id, &updated, is_end, frame_bytes_max);
        } else {
            frame::put_headers(&mut self.out, id, block, is_end, frame_bytes_max);
        }
    }
}
