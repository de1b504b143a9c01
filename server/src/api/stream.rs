//! A range streamed in pieces at one revision, cut as etcd cuts it.

use std::ops::ControlFlow;

use basalt_engine::mvcc::{
    Counting, KeyRange, NeedRead, Record, Resume, SliceBound, View, Visited, Want,
};
use basalt_engine::query::write_record;
use basalt_net::grpc::{CallId, Calls, Flow, Status};
use basalt_pb::hot::{
    Header, RangeRequest, WireType, put_bool_field, put_int_field, put_tag, put_varint, varint_len,
    write_header,
};

use super::jobs::Turn;
use super::limits::STREAM_FIRST_KEYS;

/// `RangeResponse.kvs`.
const KVS: u32 = 2;

/// A streamed range on its way.
#[derive(Debug)]
pub(super) struct StreamWork {
    /// Read at; the requested one, else the newest when the stream began.
    revision: i64,
    /// The answer's header: the newest revision when the stream began.
    header: Header,
    resume: Resume,
    /// Of the look for a key behind the piece, where it stopped.
    ahead: Option<Resume>,
    counting: Counting,
    /// Keys still wanted; `i64::MAX` if there is no limit.
    left: i64,
    /// Keys wanted in this piece.
    piece_max: i64,
    piece_keys: i64,
    /// The last key of the range is in the piece.
    is_at_end: bool,
    /// The piece's results so far: `kvs` fields.
    piece: Vec<u8>,
    /// etcd's aim for the bytes of a piece: the largest request.
    piece_bytes: usize,
}

impl StreamWork {
    pub(super) fn new(
        request: &RangeRequest<'_>,
        revision: i64,
        header: Header,
        piece_bytes: usize,
    ) -> Self {
        let left = if request.limit > 0 {
            request.limit
        } else {
            i64::MAX
        };
        StreamWork {
            revision,
            header,
            resume: Resume::default(),
            ahead: None,
            counting: Counting::default(),
            left,
            piece_max: STREAM_FIRST_KEYS.min(left),
            piece_keys: 0,
            is_at_end: false,
            piece: Vec::new(),
            piece_bytes,
        }
    }

    /// Goes on by one slice and sends a piece if one is whole.
    /// The caller has seen that the revision is still readable.
    pub(super) fn poll(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        view: View<'_>,
        request: &RangeRequest<'_>,
    ) -> Turn {
        let range = KeyRange::new(request.key, request.range_end);
        if request.count_only {
            return self.finish(calls, call, view, &range, false);
        }
        // A piece that is full already waits only for what follows it to be read.
        if !self.is_at_end && self.piece_keys < self.piece_max {
            let StreamWork {
                piece,
                piece_keys,
                piece_max,
                ..
            } = self;
            let want = if request.keys_only {
                Want::Keys
            } else {
                Want::Values
            };
            let visit = |record: &Record<'_>| {
                write_record(piece, KVS, record, request.keys_only);
                *piece_keys += 1;
                match *piece_keys < *piece_max {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            };
            let bound = SliceBound::SLICE;
            let visited = view.visit(&range, self.revision, want, &mut self.resume, bound, visit);
            match visited {
                Err(need) => return Turn::Reads(need),
                Ok(Visited::More) => return Turn::Runs,
                Ok(visited) => self.is_at_end = visited == Visited::End,
            }
        }
        let more = match self.is_at_end {
            true => false,
            false => match self.has_more(view, &range) {
                Err(need) => return Turn::Reads(need),
                Ok(None) => return Turn::Runs,
                Ok(Some(more)) => more,
            },
        };
        if more && self.piece_keys < self.left {
            return self.send_piece(calls, call);
        }
        self.finish(calls, call, view, &range, more)
    }

    /// Whether the range has a key behind those that were visited; `None` if it must look on.
    fn has_more(&mut self, view: View<'_>, range: &KeyRange<'_>) -> Result<Option<bool>, NeedRead> {
        let ahead = self.ahead.get_or_insert_with(|| self.resume.clone());
        let (want, bound) = (Want::Keys, SliceBound::SLICE);
        let first = |_: &Record<'_>| ControlFlow::Break(());
        let visited = view.visit(range, self.revision, want, ahead, bound, first)?;
        if visited == Visited::More {
            return Ok(None);
        }
        self.ahead = None;
        Ok(Some(visited == Visited::Stopped))
    }

    /// Counts the keys of the range and sends the last piece.
    fn finish(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        view: View<'_>,
        range: &KeyRange<'_>,
        more: bool,
    ) -> Turn {
        let (counting, records) = (&mut self.counting, SliceBound::SLICE.records);
        match view.count(range, self.revision, counting, records) {
            Err(need) => Turn::Reads(need),
            Ok(None) => Turn::Runs,
            Ok(Some(count)) => {
                self.send_last(calls, call, more, count);
                Turn::Done
            }
        }
    }

    fn send_piece(&mut self, calls: &mut impl Calls, call: CallId) -> Turn {
        let flow = calls.send(call, |out| {
            put_tag(out, 1, WireType::Len);
            put_varint(out, self.piece.len() as u64);
            out.extend_from_slice(&self.piece);
        });
        // What etcd measures is the answer before its header is left out of the piece.
        let revision_bytes = 3 + varint_len(self.header.revision as u64);
        let bytes = self.piece.len() + revision_bytes + 2;
        if self.left != i64::MAX {
            self.left -= self.piece_keys;
        }
        if bytes < self.piece_bytes / 2 {
            self.piece_max = self.piece_max.saturating_mul(2);
        } else if bytes > self.piece_bytes * 2 {
            self.piece_max = (self.piece_max / 2).max(1);
        }
        self.piece_max = self.piece_max.min(self.left);
        self.piece_keys = 0;
        self.piece.clear();
        match flow {
            Flow::Ready => Turn::Runs,
            Flow::Full => Turn::Full,
        }
    }

    fn send_last(&mut self, calls: &mut impl Calls, call: CallId, more: bool, count: u64) {
        // The client reads no more after it, so that there is nothing to wait for.
        let _ = calls.send(call, |out| {
            let mut head = Vec::with_capacity(64);
            write_header(&mut head, &self.header);
            let mut tail = Vec::with_capacity(16);
            put_bool_field(&mut tail, 3, more);
            put_int_field(&mut tail, 4, count as i64);
            put_tag(out, 1, WireType::Len);
            put_varint(out, (head.len() + self.piece.len() + tail.len()) as u64);
            out.extend_from_slice(&head);
            out.extend_from_slice(&self.piece);
            out.extend_from_slice(&tail);
        });
        calls.finish(call, Status::OK);
    }
}
