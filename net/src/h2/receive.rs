//! One frame at a time: what the RFC demands of it, and what it changes. An `Err` ends the connection.

use super::Protocol;
use super::block::OpenBlock;
use super::connection::{Connection, DRAIN_PING, Drain, Events, Phase};
use super::error::{ErrorCode, Reason};
use super::frame::{self, FrameHeader, flag, kind};
use super::message::{self, BlockKind, Facts};
use super::streams::{Role, StreamKey};
use std::sync::Arc;

/// A header block's meaning; the error is one of its stream.
type Block<P> = Result<(Arc<<P as Protocol>::Head>, Facts), ErrorCode>;

impl<P: Protocol> Connection<P> {
    pub(super) fn on_frame(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        events: &mut impl Events<P>,
    ) -> Result<(), Reason> {
        if self.block.is_some() && header.kind != kind::CONTINUATION {
            return Err(Reason::protocol("header block interrupted"));
        }
        if matches!(self.phase, Phase::FirstFrame { .. }) {
            if header.kind != kind::SETTINGS || header.has(flag::ACK) {
                return Err(Reason::protocol("first frame is not SETTINGS"));
            }
            self.phase = Phase::Open;
        }
        match header.kind {
            kind::DATA => self.on_data(header, payload, events),
            kind::HEADERS => self.on_headers(header, payload, events),
            kind::CONTINUATION => self.on_continuation(header, payload, events),
            kind::PRIORITY => self.on_priority(header, payload, events),
            kind::RST_STREAM => self.on_reset(header, payload, events),
            kind::SETTINGS => self.on_settings(header, payload),
            kind::PUSH_PROMISE => Err(Reason::protocol("PUSH_PROMISE is not allowed")),
            kind::PING => self.on_ping(header, payload),
            kind::GOAWAY => self.on_goaway(header, payload, events),
            kind::WINDOW_UPDATE => self.on_window_update(header, payload, events),
            _ => self.on_idle_frame(),
        }
    }

    fn on_data(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        events: &mut impl Events<P>,
    ) -> Result<(), Reason> {
        if header.stream == 0 {
            return Err(Reason::protocol("DATA on stream 0"));
        }
        self.receive
            .take(payload.len())
            .map_err(|_| Reason::new(ErrorCode::FlowControlError, "connection window exceeded"))?;
        if let Some(update) = self.receive.take_update() {
            frame::put_window_update(&mut self.streams.out, 0, update);
        }
        let data = unpad(header, payload)?;
        let is_end = header.has(flag::END_STREAM);
        if data.is_empty() && !is_end {
            self.on_idle_frame()?;
        } else {
            self.guard.on_progress();
        }
        let Some(key) = self.streams.find(header.stream) else {
            return self.on_late_frame(header.stream, "DATA on an idle stream");
        };
        let Some(stream) = self.streams.stream(key) else {
            return Ok(());
        };
        if stream.remote_closed {
            return self.stream_error(key, ErrorCode::StreamClosed, events);
        }
        if stream.receive.take(payload.len()).is_err() {
            return self.stream_error(key, ErrorCode::FlowControlError, events);
        }
        if stream.count_body(data.len(), is_end).is_none() {
            return self.stream_error(key, ErrorCode::ProtocolError, events);
        }
        stream.remote_closed = is_end;
        if !is_end && let Some(update) = stream.receive.take_update() {
            frame::put_window_update(&mut self.streams.out, key.id, update);
        }
        events.on_data(&mut self.streams, key, data, is_end);
        self.release_if_over(key);
        Ok(())
    }

    fn on_headers(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        events: &mut impl Events<P>,
    ) -> Result<(), Reason> {
        if header.stream == 0 {
            return Err(Reason::protocol("HEADERS on stream 0"));
        }
        let mut block = unpad(header, payload)?;
        let mut depends_on_itself = false;
        if header.has(flag::PRIORITY) {
            let (priority, rest) = block
                .split_first_chunk::<5>()
                .ok_or(Reason::frame_size("HEADERS too short for its priority"))?;
            depends_on_itself = dependency(priority) == header.stream;
            block = rest;
        }
        let end_stream = header.has(flag::END_STREAM);
        if header.has(flag::END_HEADERS) {
            return self.on_block(header.stream, end_stream, depends_on_itself, block, events);
        }
        self.check_block_size(block.len())?;
        self.block = Some(OpenBlock {
            stream: header.stream,
            end_stream,
            depends_on_itself,
            bytes: block.to_vec(),
            continuations: 0,
            since: self.now,
        });
        Ok(())
    }

    fn on_continuation(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        events: &mut impl Events<P>,
    ) -> Result<(), Reason> {
        let mut open = self
            .block
            .take()
            .filter(|open| open.stream == header.stream)
            .ok_or(Reason::protocol("CONTINUATION of no header block"))?;
        self.check_block_size(open.bytes.len() + payload.len())?;
        open.continuations += 1;
        if open.continuations > self.limits.continuations_max {
            return Err(Reason::calm("too many CONTINUATIONs"));
        }
        open.bytes.extend_from_slice(payload);
        if header.has(flag::END_HEADERS) {
            return self.on_block(
                open.stream,
                open.end_stream,
                open.depends_on_itself,
                &open.bytes,
                events,
            );
        }
        self.block = Some(open);
        Ok(())
    }

    fn check_block_size(&self, bytes: usize) -> Result<(), Reason> {
        if bytes > self.limits.header_block_bytes_max {
            return Err(Reason::calm("header block too large"));
        }
        Ok(())
    }

    /// A whole header block. It must be read even when its stream is refused: the dynamic table depends on it.
    fn on_block(
        &mut self,
        id: u32,
        end_stream: bool,
        depends_on_itself: bool,
        block: &[u8],
        events: &mut impl Events<P>,
    ) -> Result<(), Reason> {
        let is_server = self.streams.role == Role::Server;
        if is_server && id.is_multiple_of(2) {
            return Err(Reason::protocol("stream id of a client must be odd"));
        }
        let existing = self.streams.find(id);
        let kind = match existing.and_then(|key| self.streams.stream(key)) {
            None if !is_server => BlockKind::Response,
            None => BlockKind::Request,
            Some(stream) if is_server || stream.has_headers => BlockKind::Trailers,
            Some(_) => BlockKind::Response,
        };
        let read = self.read_block(block, kind, events)?;
        let Some(key) = existing else {
            if is_server && id > self.last_stream {
                self.last_stream = id;
                return self.on_new_stream(id, end_stream, depends_on_itself, read, events);
            }
            return self.on_late_headers(id);
        };
        let Ok((head, facts)) = read else {
            return self.stream_error(key, ErrorCode::ProtocolError, events);
        };
        self.on_more_headers(key, end_stream, kind, &head, facts, events)
    }

    /// The meaning of a block: from the cache, or read and put there. `Ok(Err)` is a stream error.
    fn read_block(
        &mut self,
        block: &[u8],
        kind: BlockKind,
        events: &mut impl Events<P>,
    ) -> Result<Block<P>, Reason> {
        if let Some(known) = self.cache.find(block, kind) {
            return Ok(Ok(known));
        }
        let decoded = self
            .decoder
            .decode(
                block,
                &mut self.fields,
                self.limits.header_list_bytes_max,
                self.limits.header_fields_max,
            )
            .map_err(|_| Reason::new(ErrorCode::CompressionError, "header block is not HPACK"))?;
        if decoded.table_changed {
            self.cache.on_table_change();
        }
        if self.fields.is_truncated() {
            return Ok(Err(ErrorCode::FrameSizeError));
        }
        let Ok(facts) = message::check(&self.fields, kind) else {
            return Ok(Err(ErrorCode::ProtocolError));
        };
        let mut head = self.streams.spare_head();
        events.read_head(
            &self.fields,
            Arc::get_mut(&mut head).expect("a spare head has one owner"),
        );
        if !decoded.table_changed {
            let forgotten = self
                .cache
                .insert(block, kind, decoded.table_used, &head, facts);
            if let Some(forgotten) = forgotten {
                self.streams.keep_head(forgotten);
            }
        }
        Ok(Ok((head, facts)))
    }

    fn on_new_stream(
        &mut self,
        id: u32,
        end_stream: bool,
        depends_on_itself: bool,
        read: Block<P>,
        events: &mut impl Events<P>,
    ) -> Result<(), Reason> {
        self.guard.on_open();
        let streams_max = self
            .streams
            .ours
            .streams_max
            .min(self.limits.streams_open_max);
        let is_full = self.streams.len() >= streams_max as usize
            || self.streams.queued_bytes > self.limits.queued_bytes_max;
        if is_full || matches!(self.drain, Drain::Final) {
            self.refuse(id, end_stream, ErrorCode::RefusedStream);
            return Ok(());
        }
        let (head, facts) = match read {
            Ok(_) if depends_on_itself => {
                return self.fault(id, end_stream, ErrorCode::ProtocolError);
            }
            Ok((_, facts)) if end_stream && facts.content_length.is_some_and(|bytes| bytes > 0) => {
                return self.fault(id, end_stream, ErrorCode::ProtocolError);
            }
            Ok(read) => read,
            Err(code) => return self.fault(id, end_stream, code),
        };
        let key = self.streams.open(id, Some(head.clone()));
        if let Some(stream) = self.streams.stream(key) {
            stream.remote_closed = end_stream;
            stream.body_left = facts.content_length;
            stream.has_headers = true;
        }
        events.on_headers(&mut self.streams, key, &head, end_stream);
        Ok(())
    }

    /// Trailers for a server; the response or its trailers for a client.
    fn on_more_headers(
        &mut self,
        key: StreamKey,
        end_stream: bool,
        kind: BlockKind,
        head: &Arc<P::Head>,
        facts: Facts,
        events: &mut impl Events<P>,
    ) -> Result<(), Reason> {
        let Some(stream) = self.streams.stream(key) else {
            return Ok(());
        };
        if stream.remote_closed {
            return self.stream_error(key, ErrorCode::StreamClosed, events);
        }
        if kind == BlockKind::Response && facts.is_interim && !end_stream {
            return Ok(());
        }
        let is_valid = end_stream || kind == BlockKind::Response;
        if !is_valid || end_stream && stream.count_body(0, true).is_none() {
            return self.stream_error(key, ErrorCode::ProtocolError, events);
        }
        stream.remote_closed = end_stream;
        stream.has_headers = true;
        if kind == BlockKind::Response {
            stream.body_left = facts.content_length;
        }
        match self.streams.role {
            Role::Server => events.on_data(&mut self.streams, key, &[], true),
            Role::Client => events.on_headers(&mut self.streams, key, head, end_stream),
        }
        self.release_if_over(key);
        Ok(())
    }

    /// HEADERS on a stream that is over for us.
    fn on_late_headers(&mut self, id: u32) -> Result<(), Reason> {
        if self.streams.is_tolerated(id) {
            return self.on_idle_frame();
        }
        if self.streams.role == Role::Client && id <= self.last_stream && !id.is_multiple_of(2) {
            return Ok(());
        }
        Err(Reason::new(
            ErrorCode::StreamClosed,
            "HEADERS on a closed stream",
        ))
    }

    /// Another frame on a stream that is not open: over for us, or never begun.
    fn on_late_frame(&mut self, id: u32, idle: &'static str) -> Result<(), Reason> {
        if id > self.last_stream || id.is_multiple_of(2) {
            return Err(Reason::protocol(idle));
        }
        if self.streams.is_tolerated(id) {
            return self.on_idle_frame();
        }
        self.fault(id, true, ErrorCode::StreamClosed)
    }

    fn on_priority(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        events: &mut impl Events<P>,
    ) -> Result<(), Reason> {
        self.on_idle_frame()?;
        if header.stream == 0 {
            return Err(Reason::protocol("PRIORITY on stream 0"));
        }
        let code = match <&[u8; 5]>::try_from(payload) {
            Err(_) => ErrorCode::FrameSizeError,
            Ok(priority) if dependency(priority) == header.stream => ErrorCode::ProtocolError,
            Ok(_) => return Ok(()),
        };
        match self.streams.find(header.stream) {
            Some(key) => self.stream_error(key, code, events),
            None => self.fault(header.stream, true, code),
        }
    }

    fn on_reset(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        events: &mut impl Events<P>,
    ) -> Result<(), Reason> {
        let Ok(code) = <[u8; 4]>::try_from(payload) else {
            return Err(Reason::frame_size("RST_STREAM is not of four bytes"));
        };
        if self.is_idle(header.stream) {
            return Err(Reason::protocol("RST_STREAM on an idle stream"));
        }
        let Some(key) = self.streams.find(header.stream) else {
            return self.on_idle_frame();
        };
        let code = ErrorCode::from_wire(u32::from_be_bytes(code));
        events.on_reset(&mut self.streams, key, code);
        self.streams.release(key);
        self.guard.on_reset(self.now)
    }

    fn on_settings(&mut self, header: FrameHeader, payload: &[u8]) -> Result<(), Reason> {
        if header.stream != 0 {
            return Err(Reason::protocol("SETTINGS on a stream"));
        }
        if header.has(flag::ACK) {
            return match payload {
                [] => self.on_idle_frame(),
                _ => Err(Reason::frame_size(
                    "acknowledgement of SETTINGS with content",
                )),
            };
        }
        self.guard.on_settings(self.now)?;
        let before = self.streams.peer;
        self.streams.peer.read(payload)?;
        let after = self.streams.peer;
        if after.header_table_bytes < before.header_table_bytes {
            self.streams.table_update_due = true;
        }
        let change = i64::from(after.initial_window) - i64::from(before.initial_window);
        if change != 0 {
            self.change_windows(change)?;
        }
        frame::put_header(&mut self.streams.out, 0, kind::SETTINGS, flag::ACK, 0);
        Ok(())
    }

    fn change_windows(&mut self, change: i64) -> Result<(), Reason> {
        for stream in self.streams.slots.iter_mut() {
            stream.send.change(change).map_err(|_| {
                Reason::new(
                    ErrorCode::FlowControlError,
                    "INITIAL_WINDOW_SIZE overflows a window",
                )
            })?;
        }
        let keys: Vec<StreamKey> = self.streams.keys().collect();
        for key in keys {
            self.reschedule(key);
        }
        Ok(())
    }

    fn on_ping(&mut self, header: FrameHeader, payload: &[u8]) -> Result<(), Reason> {
        let Ok(payload) = <[u8; 8]>::try_from(payload) else {
            return Err(Reason::frame_size("PING is not of eight bytes"));
        };
        if header.stream != 0 {
            return Err(Reason::protocol("PING on a stream"));
        }
        if header.has(flag::ACK) {
            if payload == DRAIN_PING {
                self.finish_drain();
            }
            return self.on_idle_frame();
        }
        frame::put_ping(&mut self.streams.out, true, payload);
        if self.streams.role == Role::Client {
            return Ok(());
        }
        self.pings
            .on_peer_ping(self.now, !self.streams.is_empty(), self.streams.sent_frames)
    }

    fn on_goaway(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        events: &mut impl Events<P>,
    ) -> Result<(), Reason> {
        if header.stream != 0 {
            return Err(Reason::protocol("GOAWAY on a stream"));
        }
        let Some((fixed, _)) = payload.split_first_chunk::<8>() else {
            return Err(Reason::frame_size("GOAWAY is too short"));
        };
        self.on_idle_frame()?;
        self.drain = Drain::ByPeer;
        if self.streams.role == Role::Client {
            let last = u32::from_be_bytes([fixed[0], fixed[1], fixed[2], fixed[3]]);
            let unseen: Vec<StreamKey> = self.streams.keys().filter(|key| key.id > last).collect();
            for key in unseen {
                events.on_reset(&mut self.streams, key, ErrorCode::RefusedStream);
                self.streams.release(key);
            }
        }
        Ok(())
    }

    fn on_window_update(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        events: &mut impl Events<P>,
    ) -> Result<(), Reason> {
        let Ok(update) = <[u8; 4]>::try_from(payload) else {
            return Err(Reason::frame_size("WINDOW_UPDATE is not of four bytes"));
        };
        let update = i64::from(u32::from_be_bytes(update) & frame::ID_MAX);
        if self.streams.queued_bytes == 0 {
            self.on_idle_frame()?;
        }
        if header.stream == 0 {
            if update == 0 {
                return Err(Reason::protocol("WINDOW_UPDATE of 0"));
            }
            return self.streams.send.change(update).map_err(|_| {
                Reason::new(ErrorCode::FlowControlError, "connection window overflows")
            });
        }
        if self.is_idle(header.stream) {
            return Err(Reason::protocol("WINDOW_UPDATE on an idle stream"));
        }
        let Some(key) = self.streams.find(header.stream) else {
            return Ok(());
        };
        if update == 0 {
            return self.stream_error(key, ErrorCode::ProtocolError, events);
        }
        let changed = self
            .streams
            .stream(key)
            .map(|stream| stream.send.change(update));
        if let Some(Err(_)) = changed {
            return self.stream_error(key, ErrorCode::FlowControlError, events);
        }
        self.reschedule(key);
        Ok(())
    }

    fn on_idle_frame(&mut self) -> Result<(), Reason> {
        self.guard.on_idle_frame(self.streams.sent_frames)
    }

    fn reschedule(&mut self, key: StreamKey) {
        if self
            .streams
            .stream(key)
            .is_some_and(|stream| stream.has_work())
        {
            self.streams.schedule(key);
        }
    }

    fn is_idle(&self, id: u32) -> bool {
        id == 0 || id > self.last_stream || id.is_multiple_of(2)
    }

    /// Both sides have ended: nothing keeps the slot. A server's answer may still be due.
    fn release_if_over(&mut self, key: StreamKey) {
        let is_over = self.streams.stream(key).is_some_and(|stream| {
            stream.remote_closed && stream.local_closed && !stream.has_work()
        });
        if is_over {
            self.streams.release(key);
        }
    }

    /// An open stream ends by the peer's fault.
    fn stream_error(
        &mut self,
        key: StreamKey,
        code: ErrorCode,
        events: &mut impl Events<P>,
    ) -> Result<(), Reason> {
        events.on_reset(&mut self.streams, key, code);
        self.streams.reset(key, code);
        self.guard.on_fault()
    }

    /// A stream that never opened, or is over, is answered with a reset, by the peer's fault.
    fn fault(&mut self, id: u32, is_ended: bool, code: ErrorCode) -> Result<(), Reason> {
        self.refuse(id, is_ended, code);
        self.guard.on_fault()
    }

    fn refuse(&mut self, id: u32, is_ended: bool, code: ErrorCode) {
        frame::put_reset(&mut self.streams.out, id, code);
        if !is_ended {
            self.streams.tolerate(id);
        }
    }
}

/// The payload without padding (RFC 9113, 6.1).
fn unpad(header: FrameHeader, payload: &[u8]) -> Result<&[u8], Reason> {
    if !header.has(flag::PADDED) {
        return Ok(payload);
    }
    let (&padding, rest) = payload
        .split_first()
        .ok_or(Reason::frame_size("padded frame without its length"))?;
    let kept = rest
        .len()
        .checked_sub(usize::from(padding))
        .ok_or(Reason::protocol("padding longer than the frame"))?;
    Ok(&rest[..kept])
}

fn dependency(priority: &[u8; 5]) -> u32 {
    u32::from_be_bytes([priority[0], priority[1], priority[2], priority[3]]) & frame::ID_MAX
}
