use std::collections::VecDeque;
use std::io::IoSlice;

use super::frame::{self, Kind};
use crate::limits::{
    PEER_BULK_BYTES_MAX, PEER_CHUNK_BYTES, PEER_SLICES_MAX, PEER_URGENT_BYTES_MAX, PEER_WRITE_BYTES,
};

/// What waits for one connection's socket: urgent frames before bulk, except those that are at the socket already.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    urgent: Queue,
    bulk: Queue,
    /// At the socket, in this order; the first `written` bytes of the first are gone.
    writing: VecDeque<Vec<u8>>,
    written: usize,
    writing_bytes: usize,
    /// A chunk that was written and is small enough to be used again.
    spare: Vec<u8>,
}

/// Chunks of whole frames.
#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Outbox {
    /// Adds a frame; false drops it because too much waits. A frame larger than the bound goes when nothing else does.
    pub(super) fn push(&mut self, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let (queue, bytes_max) = match kind {
            Kind::Urgent | Kind::Ping | Kind::Pong => (&mut self.urgent, PEER_URGENT_BYTES_MAX),
            Kind::Bulk => (&mut self.bulk, PEER_BULK_BYTES_MAX),
        };
        if queue.bytes >= bytes_max {
            return false;
        }
        if queue
            .chunks
            .back()
            .is_none_or(|last| last.len() >= PEER_CHUNK_BYTES)
        {
            queue.chunks.push_back(std::mem::take(&mut self.spare));
        }
        let chunk = queue.chunks.back_mut().expect("pushed above");
        let before = chunk.len();
        frame::append(chunk, kind, write);
        queue.bytes += chunk.len() - before;
        true
    }

    /// Puts bytes that are no frame before all that follows: the hello.
    pub(super) fn push_raw(&mut self, bytes: &[u8]) {
        self.writing.push_back(bytes.to_vec());
        self.writing_bytes += bytes.len();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writing.is_empty() && self.urgent.chunks.is_empty() && self.bulk.chunks.is_empty()
    }

    /// What the next write takes. What is shown here is overtaken by nothing any more, so it is little.
    pub(super) fn gather(&mut self) -> ([IoSlice<'_>; PEER_SLICES_MAX], usize) {
        while self.writing_bytes < PEER_WRITE_BYTES && self.writing.len() < PEER_SLICES_MAX {
            let Some(chunk) = self.urgent.pop().or_else(|| self.bulk.pop()) else {
                break;
            };
            self.writing_bytes += chunk.len();
            self.writing.push_back(chunk);
        }
        let mut slices = [IoSlice::new(&[]); PEER_SLICES_MAX];
        let mut count = 0;
        let mut skip = self.written;
        for (slice, chunk) in slices.iter_mut().zip(&self.writing) {
            *slice = IoSlice::new(&chunk[skip..]);
            skip = 0;
            count += 1;
        }
        (slices, count)
    }

    /// So many of the bytes that `gather` showed are at the kernel.
    pub(super) fn advance(&mut self, count: usize) {
        assert!(count <= self.writing_bytes - self.written);
        self.written += count;
        while let Some(first) = self.writing.front()
            && self.written >= first.len()
        {
            self.written -= first.len();
            self.writing_bytes -= first.len();
            if let Some(mut chunk) = self.writing.pop_front()
                && chunk.capacity() <= 2 * PEER_CHUNK_BYTES
            {
                chunk.clear();
                self.spare = chunk;
            }
        }
    }
}

impl Queue {
    fn pop(&mut self) -> Option<Vec<u8>> {
        let chunk = self.chunks.pop_front()?;
        self.bytes -= chunk.len();
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outbox: &mut Outbox) -> Vec<u8> {
        let mut all = Vec::new();
        while !outbox.is_empty() {
            let (slices, count) = outbox.gather();
            for slice in &slices[..count] {
                all.extend_from_slice(slice);
            }
            let shown = slices[..count].iter().map(|slice| slice.len()).sum();
            outbox.advance(shown);
        }
        all
    }

    fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame::append(&mut out, kind, |out| out.extend_from_slice(body));
        out
    }

    /// Heartbeats that wait behind megabytes of entries would lose elections.
    #[test]
    fn urgent_frames_pass_bulk_that_is_not_at_the_socket() {
        let mut outbox = Outbox::default();
        let big = vec![1; PEER_CHUNK_BYTES];
        for _ in 0..32 {
            assert!(outbox.push(Kind::Bulk, |out| out.extend_from_slice(&big)));
        }
        let (slices, _) = outbox.gather();
        let first = slices[0].len();
        outbox.advance(first / 2);
        let at_socket = outbox.writing_bytes - outbox.written;
        assert!(outbox.push(Kind::Urgent, |out| out.extend_from_slice(b"beat")));
        let all = drain(&mut outbox);
        let beat = frame(Kind::Urgent, b"beat");
        let at = all.windows(beat.len()).position(|part| part == beat);
        assert_eq!(at, Some(at_socket));
        assert!(at_socket <= PEER_WRITE_BYTES + first);
    }

    /// A peer that takes nothing must not fill the memory of this member.
    #[test]
    fn what_waits_for_a_slow_peer_is_bounded() {
        let mut outbox = Outbox::default();
        let body = vec![1; 1 << 20];
        let mut taken = 0;
        while outbox.push(Kind::Bulk, |out| out.extend_from_slice(&body)) {
            taken += 1;
            assert!(taken * body.len() <= PEER_BULK_BYTES_MAX + body.len());
        }
        while outbox.push(Kind::Urgent, |out| out.extend_from_slice(&body)) {
            assert!(outbox.urgent.bytes <= PEER_URGENT_BYTES_MAX + body.len() + 64);
        }
        assert_eq!(
            outbox.bulk.bytes / body.len(),
            PEER_BULK_BYTES_MAX / body.len()
        );
        drain(&mut outbox);
        assert!(outbox.push(Kind::Bulk, |out| out.extend_from_slice(&body)));
    }

    /// The kernel takes any number of bytes of what is offered.
    #[test]
    fn bytes_leave_in_order_however_few_are_taken_at_a_time() {
        let mut outbox = Outbox::default();
        let mut expected = b"hello".to_vec();
        outbox.push_raw(b"hello");
        for number in 0..50_u8 {
            let body = vec![number; 700];
            outbox.push(Kind::Bulk, |out| out.extend_from_slice(&body));
            expected.extend(frame(Kind::Bulk, &body));
        }
        let mut all = Vec::new();
        while !outbox.is_empty() {
            let (slices, count) = outbox.gather();
            let offered: Vec<u8> = slices[..count]
                .iter()
                .flat_map(|slice| slice.to_vec())
                .collect();
            let taken = offered.len().min(333);
            all.extend_from_slice(&offered[..taken]);
            outbox.advance(taken);
        }
        assert_eq!(all, expected);
    }
}
