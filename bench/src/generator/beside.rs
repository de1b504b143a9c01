//! What runs beside the measured operations: when it is due, on which connections, what became of it.

use std::ops::Range;

use basalt_pb::hot::{Wire, WireType};

use super::answer::Answer;
use super::workload::Ask;
use crate::plan::{Action, Load};
use crate::record::Beside;

/// When the next calls beside are due. Nothing is, until a measured time begins.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub ask: Ask,
    /// Places of the connections that only these calls use; each carries one of them at a time that is due.
    pub connections: Range<usize>,
    every_ns: Option<u64>,
    /// On the driver's clock.
    due: u64,
}

/// A call beside that ended. Times are nanoseconds on the driver's clock.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub began: u64,
    pub ended: u64,
    /// Of keys and values, or of the snapshot, that came.
    pub bytes: u64,
    /// Keys that leases have not taken with them, where those are counted.
    pub left: Option<u64>,
    pub failure: Option<String>,
}

impl Schedule {
    /// What a load asks for beside its operations, on the connections behind those.
    pub(crate) fn new(load: &Load) -> Option<Self> {
        let first = usize::from(load.conns);
        Some(Self {
            ask: match load.beside? {
                Action::Compact => Ask::Compact,
                Action::Defragment => Ask::Defragment,
                Action::Snapshot => Ask::Snapshot,
                Action::List => Ask::List,
                Action::ListStream => Ask::ListStream,
                Action::Expire => Ask::CountLeased,
                Action::Revoke => Ask::Revoke,
            },
            connections: first..first + usize::from(load.beside_conns),
            every_ns: load.beside_every.map(|seconds| (seconds * 1e9) as u64),
            due: u64::MAX,
        })
    }

    /// A measured time begins.
    pub(crate) fn begin(&mut self, now: u64) {
        self.due = now;
    }

    /// It is over: what runs may end, nothing more begins.
    pub(crate) fn end(&mut self) {
        self.due = u64::MAX;
    }

    /// When the next calls are due.
    pub(crate) fn due(&self) -> u64 {
        self.due
    }

    /// Those that were due have begun.
    pub(crate) fn advance(&mut self) {
        self.due = self.every_ns.map_or(u64::MAX, |every| self.due + every);
    }
}

impl Ended {
    /// As it is kept, with times in seconds since the measured time began.
    pub(crate) fn record(self, measured_from: u64) -> Beside {
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        Beside {
            began: seconds(self.began.saturating_sub(measured_from)),
            seconds: seconds(self.ended - self.began),
            bytes: self.bytes,
            left: self.left,
            failure: self.failure,
        }
    }
}

/// Adds a message of a snapshot to those before it. At the end `count` is what remains to be sent: nothing of a whole one.
pub(crate) fn add_snapshot(earlier: Option<Answer>, message: &[u8]) -> Option<Answer> {
    let mut answer = earlier.unwrap_or_default();
    answer.count = 0;
    let mut wire = Wire::new(message);
    while let Some(field) = wire.tag().ok()? {
        match field {
            (2, WireType::Varint) => answer.count = wire.varint().ok()?,
            (3, WireType::Len) => answer.value_bytes += wire.bytes().ok()?.len() as u64,
            _ => wire.skip(field).ok()?,
        }
    }
    Some(answer)
}

/// Adds a message of a RangeStream to those before it, so that the sum can be judged as the answer of a Range.
pub(crate) fn add_streamed(earlier: Option<Answer>, message: &[u8]) -> Option<Answer> {
    let mut wire = Wire::new(message);
    let mut part = None;
    while let Some(field) = wire.tag().ok()? {
        match field {
            (1, WireType::Len) => part = Some(Answer::read_part(wire.bytes().ok()?)?),
            _ => wire.skip(field).ok()?,
        }
    }
    let part = part?;
    let Some(mut sum) = earlier else {
        return Some(part);
    };
    let follows = part.kvs == 0 || sum.marker + u64::from(sum.kvs) == part.marker;
    sum.is_consecutive &= part.is_consecutive && follows;
    sum.kvs += part.kvs;
    sum.value_bytes += part.value_bytes;
    sum.revision = sum.revision.max(part.revision);
    sum.mod_revision = sum.mod_revision.max(part.mod_revision);
    Some(sum)
}

#[cfg(test)]
mod tests {
    use basalt_pb::etcdserverpb::{
        RangeResponse, RangeStreamResponse, ResponseHeader, SnapshotResponse,
    };
    use basalt_pb::mvccpb::KeyValue;
    use prost::Message;

    use super::*;

    #[test]
    fn a_snapshot_is_whole_when_nothing_remains() {
        let message = |remaining_bytes, bytes: usize| {
            let part = SnapshotResponse {
                remaining_bytes,
                blob: vec![7; bytes].into(),
                ..SnapshotResponse::default()
            };
            part.encode_to_vec()
        };
        let first = add_snapshot(None, &message(100, 300)).unwrap();
        assert_eq!((first.count, first.value_bytes), (100, 300));
        let last = add_snapshot(Some(first), &message(0, 132)).unwrap();
        assert_eq!((last.count, last.value_bytes), (0, 432));
    }

    #[test]
    fn a_stream_of_ranges_adds_up_and_a_gap_is_seen() {
        let message = |numbers: Range<u64>| {
            let kv = |number: u64| KeyValue {
                value: number.to_be_bytes().to_vec().into(),
                mod_revision: 5,
                ..KeyValue::default()
            };
            let part = RangeStreamResponse {
                range_response: Some(RangeResponse {
                    header: (numbers.start == 0).then(|| ResponseHeader {
                        revision: 9,
                        ..ResponseHeader::default()
                    }),
                    kvs: numbers.map(kv).collect(),
                    ..RangeResponse::default()
                }),
            };
            part.encode_to_vec()
        };
        let first = add_streamed(None, &message(0..3)).unwrap();
        let whole = add_streamed(Some(first), &message(3..5)).unwrap();
        assert_eq!((whole.kvs, whole.value_bytes, whole.revision), (5, 40, 9));
        assert!(whole.is_consecutive);
        assert!(
            !add_streamed(Some(first), &message(4..5))
                .unwrap()
                .is_consecutive
        );
    }

    #[test]
    fn calls_are_due_from_the_measured_time_on_and_again_after_a_while() {
        let mut schedule = Schedule::new(&Load {
            beside: Some(Action::Compact),
            beside_every: Some(2.0),
            ..Load::default()
        })
        .unwrap();
        assert_eq!(schedule.due(), u64::MAX);
        schedule.begin(7);
        assert_eq!(schedule.due(), 7);
        schedule.advance();
        assert_eq!(schedule.due(), 2_000_000_007);
        schedule.end();
        assert_eq!(schedule.due(), u64::MAX);
    }
}
