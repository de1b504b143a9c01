use std::ops::Range;
use std::sync::Arc;

use basalt_pb::hot::{
    self, Header, Malformed, Wire, begin_nested, end_nested, put_bool_field, put_bytes_field,
    put_int_field, write_header, write_key_value_field,
};

use crate::limits::WATCH_SHARED_BYTES_MIN;
use crate::mvcc::{Change, Record};
use crate::query::write_record;

/// One `WatchResponse`. What all receivers share is encoded once.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The encoded header, its tag included.
    pub(super) header: &'a [u8],
    pub(super) watch_id: i64,
    pub(super) kind: Kind<'a>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<'a> {
    /// Encoded `events` fields.
    Events {
        events: &'a Events<'a>,
        is_fragment: bool,
    },
    /// The watcher is there.
    Created,
    /// It is over, because the client said so.
    Canceled,
    /// It never began, for this reason.
    Refused(&'static str),
    /// It is over because what it wants to see next is compacted.
    Compacted { compact_revision: i64 },
    /// All events up to the header's revision were sent.
    Progress,
}

/// Encoded `events` fields, a part of what a group is to see.
#[derive(Clone, Debug)]
pub(super) struct Events<'a> {
    pub(super) whole: &'a Arc<Vec<u8>>,
    pub(super) range: Range<usize>,
    /// Events in it.
    pub(super) count: u32,
}

impl<'a> Events<'a> {
    pub(super) fn bytes(&self) -> &'a [u8] {
        &self.whole[self.range.clone()]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.range.is_empty()
    }
}

impl Message<'_> {
    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_own(out);
        if let Kind::Events { events, .. } = self.kind {
            out.extend_from_slice(events.bytes());
        }
    }

    /// What all receivers of the message share, at its end, if that is so much that it should not be copied for each.
    pub fn shared(&self) -> Option<(&Arc<Vec<u8>>, Range<usize>)> {
        match self.kind {
            Kind::Events { events, .. } if events.range.len() >= WATCH_SHARED_BYTES_MIN => {
                Some((events.whole, events.range.clone()))
            }
            _ => None,
        }
    }

    /// Appends what comes before the events.
    pub fn write_own(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.header);
        put_int_field(out, 2, self.watch_id);
        match self.kind {
            Kind::Events { is_fragment, .. } => put_bool_field(out, 7, is_fragment),
            Kind::Created => put_bool_field(out, 3, true),
            Kind::Canceled => put_bool_field(out, 4, true),
            Kind::Refused(reason) => {
                put_bool_field(out, 3, true);
                put_bool_field(out, 4, true);
                put_bytes_field(out, 6, reason.as_bytes());
            }
            Kind::Compacted { compact_revision } => {
                put_bool_field(out, 4, true);
                put_int_field(out, 5, compact_revision);
            }
            Kind::Progress => {}
        }
    }

    /// Bytes that `write` appends, for events; a little more for anything else.
    pub(super) fn bytes(&self) -> usize {
        let id = 1 + hot::varint_len(self.watch_id as u64);
        match self.kind {
            Kind::Events {
                events,
                is_fragment,
            } => {
                let id = if self.watch_id == 0 { 0 } else { id };
                self.header.len() + id + 2 * usize::from(is_fragment) + events.range.len()
            }
            Kind::Refused(reason) => self.header.len() + id + 8 + reason.len(),
            _ => self.header.len() + id + 16,
        }
    }
}

/// A header as all messages of one revision have it.
pub(super) fn header(cluster_id: u64, member_id: u64, revision: i64, raft_term: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(40);
    let header = Header {
        cluster_id,
        member_id,
        revision,
        raft_term,
    };
    write_header(&mut bytes, &header);
    bytes
}

/// Appends an event as one of the `events` of a response.
pub(super) fn write_event(out: &mut Vec<u8>, change: &Change<'_>, before: Option<&Record<'_>>) {
    let record = change.record();
    let event = begin_nested(out, EVENTS);
    if change.is_delete() {
        put_int_field(out, 1, 1);
        let kv = hot::KeyValue {
            key: record.key,
            mod_revision: record.mod_revision.main,
            ..hot::KeyValue::default()
        };
        write_key_value_field(out, 2, &kv);
    } else {
        write_record(out, 2, &record, false);
    }
    if let Some(before) = before {
        write_record(out, 3, before, false);
    }
    end_nested(out, event);
}

/// Cuts encoded events into pieces that are below `bytes_max` with `base_bytes` of other fields, or hold
/// one event; as etcd cuts them.
pub(super) fn fragments<'a>(
    events: &Events<'a>,
    base_bytes: usize,
    bytes_max: usize,
) -> Result<Vec<Events<'a>>, Malformed> {
    let mut pieces = Vec::new();
    let (
        whole,
        Range {
            start: from,
            end: to,
        },
    ) = (events.whole, events.range.clone());
    let (mut start, mut end, mut count) = (from, from, 0);
    let mut wire = Wire::new(events.bytes());
    let piece = |range, count| Events {
        whole,
        range,
        count,
    };
    while wire.tag()?.is_some() {
        wire.bytes()?;
        let next = to - wire.remaining();
        if end > start && base_bytes + (next - start) >= bytes_max {
            pieces.push(piece(start..end, count));
            (start, count) = (end, 0);
        }
        end = next;
        count += 1;
    }
    pieces.push(piece(start..end, count));
    Ok(pieces)
}

/// `WatchResponse.events`.
const EVENTS: u32 = 11;
