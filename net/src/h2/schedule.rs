use super::Protocol;
use super::frame::{self, flag, kind};
use super::streams::{StreamKey, Streams};
use crate::limits::{OUT_FILL_BYTES, STALE_KEYS_MAX, STREAM_QUEUE_FULL_BYTES};
use std::borrow::Cow;

/// What ends our side once the queue is empty.
#[derive(Debug, Clone)]
pub(super) enum Tail {
    /// Not ended yet.
    Open,
    /// An empty DATA frame, or the flag on the last one.
    End,
    /// A header block.
    Trailers(Cow<'static, [u8]>),
}

/// How much of what was sent on a stream still waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backlog {
    /// All is in `out`.
    None,
    /// A little: more is welcome.
    Some,
    /// Much: `Events::on_writable` tells when more is welcome.
    Full,
}

impl Backlog {
    pub(super) fn of(queued_bytes: usize) -> Backlog {
        match queued_bytes {
            0 => Backlog::None,
            bytes if bytes < STREAM_QUEUE_FULL_BYTES => Backlog::Some,
            _ => Backlog::Full,
        }
    }
}

impl<P: Protocol> Streams<P> {
    pub(super) fn schedule(&mut self, key: StreamKey) {
        let Some(stream) = self
            .slots
            .get_mut(key)
            .filter(|stream| !stream.is_scheduled)
        else {
            return;
        };
        stream.is_scheduled = true;
        // A stream that was reset leaves its key behind, and none is taken out while the connection's window is empty.
        if self.ready.len() >= 2 * self.slots.len() + STALE_KEYS_MAX {
            let slots = &self.slots;
            self.ready.retain(|&key| slots.get(key).is_some());
        }
        self.ready.push_back(key);
    }

    /// Could `pump` move something, were there room in `out`?
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty() && (self.send.available() > 0 || self.queued_bytes == 0)
    }

    /// Moves queued data into `out`, a frame of each stream in turn, until `out` is full or the windows are empty.
    pub(super) fn pump(&mut self) {
        while self.out.len() - self.written < OUT_FILL_BYTES {
            let Some(key) = self.ready.pop_front() else {
                return;
            };
            let Some(stream) = self.slots.get_mut(key) else {
                continue;
            };
            stream.is_scheduled = false;
            let queued = stream.queued_bytes();
            if queued > 0 {
                let window = stream.send.available().min(self.send.available());
                let front = stream.front_bytes();
                let bytes = front.min(window).min(self.peer.frame_bytes_max as usize);
                if bytes == 0 {
                    if self.send.available() == 0 {
                        stream.is_scheduled = true;
                        self.ready.push_front(key);
                        return;
                    }
                    // Its own window is empty: the update that opens it schedules it again.
                    continue;
                }
                self.frame(key, bytes);
            }
            self.after_frame(key);
        }
    }

    fn frame(&mut self, key: StreamKey, bytes: usize) {
        let Some(stream) = self.slots.get_mut(key) else {
            return;
        };
        let is_end = bytes == stream.queued_bytes() && matches!(stream.tail, Tail::End);
        let flags = if is_end { flag::END_STREAM } else { 0 };
        if is_end {
            stream.tail = Tail::Open;
        }
        frame::put_header(&mut self.out, bytes, kind::DATA, flags, key.id);
        let from = stream.queue_from;
        self.out
            .extend_from_slice(&stream.queue[from..from + bytes]);
        stream.pop(bytes);
        stream.send.take(bytes);
        self.send.take(bytes);
        self.queued_bytes -= bytes;
        self.moved += bytes as u64;
        self.sent_frames += 1;
        if is_end {
            self.close_local(key);
        }
    }

    fn after_frame(&mut self, key: StreamKey) {
        let Some(stream) = self.slots.get_mut(key) else {
            return;
        };
        if stream.wants_writable && stream.queued_bytes() < STREAM_QUEUE_FULL_BYTES / 2 {
            stream.wants_writable = false;
            self.writable.push(key);
        }
        if stream.queued_bytes() > 0 {
            self.schedule(key);
            return;
        }
        match std::mem::replace(&mut stream.tail, Tail::Open) {
            Tail::Open => {}
            Tail::End => {
                frame::put_header(&mut self.out, 0, kind::DATA, flag::END_STREAM, key.id);
                self.close_local(key);
            }
            Tail::Trailers(block) => {
                self.put_block(key.id, &block, true);
                self.close_local(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h2::slots::tests::Nothing;
    use crate::h2::{ErrorCode, Role, Settings, Shared};
    use crate::limits::SHARED_STEP_BYTES;
    use std::sync::Arc;

    /// A large message that every stream copied for itself would take as much memory as there are streams.
    #[test]
    fn shared_data_are_sent_in_order_and_copied_in_steps() {
        let mut streams = Streams::<Nothing>::new(Role::Server, Settings::default());
        streams.send.change(1 << 30).unwrap();
        let bytes: Arc<Vec<u8>> = Arc::new((0..1_000_000u32).map(|at| (at % 251) as u8).collect());
        let mut expected = Vec::new();
        let keys: Vec<StreamKey> = (0..3).map(|id| streams.open(1 + 2 * id, None)).collect();
        for (at, key) in keys.iter().enumerate() {
            streams.stream(*key).unwrap().send.change(1 << 30).unwrap();
            let shared = Shared::new(Arc::clone(&bytes), at..bytes.len());
            let backlog = streams.shared_data(*key, |out| out.push(7), shared.clone());
            assert_eq!(backlog, Backlog::Full);
            streams.data(*key, |out| out.extend_from_slice(b"behind"));
            streams.shared_data(*key, |_| {}, Shared::new(Arc::clone(&bytes), 5..6));
            expected.push([&[7], shared.bytes(), b"behind", &bytes[5..6]].concat());
        }
        assert_eq!(
            streams.queued_bytes,
            expected.iter().map(Vec::len).sum::<usize>()
        );
        let mut sent = vec![Vec::new(); 3];
        while streams.has_ready() {
            streams.pump();
            let out = streams.unsent().to_vec();
            let mut rest = &out[..];
            while let Some((header, body)) = rest.split_first_chunk::<9>() {
                let [_, l2, l1, l0, kind, _, i3, i2, i1, i0] = [
                    0, header[0], header[1], header[2], header[3], 0, header[5], header[6],
                    header[7], header[8],
                ];
                assert_eq!(kind, kind::DATA);
                let length = u32::from_be_bytes([0, l2, l1, l0]) as usize;
                let id = u32::from_be_bytes([i3, i2, i1, i0]);
                sent[(id as usize - 1) / 2].extend_from_slice(&body[..length]);
                rest = &body[length..];
            }
            streams.advance(out.len());
            for key in &keys {
                let stream = streams.stream(*key).unwrap();
                assert!(stream.queue.capacity() <= 2 * SHARED_STEP_BYTES);
            }
        }
        assert_eq!(sent, expected);
        assert_eq!((streams.queued_bytes, Arc::strong_count(&bytes)), (0, 1));
    }

    /// A client that closes its window and resets what it asked for would otherwise grow the schedule for ever.
    #[test]
    fn streams_reset_behind_a_closed_window_leave_nothing_in_the_schedule() {
        let mut streams = Streams::<Nothing>::new(Role::Server, Settings::default());
        let first = streams.open(1, None);
        streams.data(first, |out| out.resize(out.len() + 100_000, 0));
        streams.pump();
        for id in (3..100_000).step_by(2) {
            let key = streams.open(id, None);
            streams.data(key, |out| out.push(0));
            streams.reset(key, ErrorCode::Cancel);
            assert!(streams.ready.len() <= STALE_KEYS_MAX + 4);
            streams.advance(streams.unsent().len());
        }
        let window = 1 << 20;
        streams.send.change(window).unwrap();
        streams.stream(first).unwrap().send.change(window).unwrap();
        streams.pump();
        assert_eq!(streams.queued_bytes, 0);
        assert!(streams.ready.is_empty());
    }
}
