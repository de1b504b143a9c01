//! What clients ask: drawn as small numbers before the run, made into etcd's messages when they are asked.

use std::collections::BTreeMap;

use basalt_pb::etcdserverpb as pb;
use basalt_pb::mvccpb::KeyValue;
use bytes::Bytes;
use fastrand::Rng;
use pb::compare::TargetUnion;
use pb::request_op::Request as Op;
use pb::response_op::Response;
use serde::{Deserialize, Serialize};

use super::plan::Settings;
use crate::check::history::Request;

/// One question of one client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// Who asks.
    pub client: u8,
    /// How long it waits after its last answer.
    pub pause_us: u64,
    /// The member that it asks.
    pub member: u8,
    /// What it asks.
    pub ask: Ask,
}

/// A question with keys by number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Put.
    Put {
        /// Which key.
        key: u8,
        /// The value's length at least.
        bytes: u16,
        /// Whether the previous record is wanted.
        previous: bool,
        /// Whether the value is kept.
        keep: bool,
        /// The lease that the key is attached to; 0: none.
        #[serde(default)]
        lease: u8,
    },
    /// Range.
    Range {
        /// The first key.
        from: u8,
        /// The key behind the last; `None`: one key.
        to: Option<u8>,
        /// How many at most, 0 for all.
        limit: u8,
        /// Order and target.
        order: (u8, u8),
        /// Keys only (1) or only their number (2).
        part: u8,
        /// Whether an old state may answer.
        serializable: bool,
        /// At so many revisions below the newest one that the client knows; 0: the newest there is.
        back: u8,
    },
    /// DeleteRange.
    Delete {
        /// The first key.
        from: u8,
        /// The key behind the last; `None`: one key.
        to: Option<u8>,
        /// Whether previous records are wanted.
        previous: bool,
    },
    /// Txn: compares the first key with what the client knows of it.
    Txn {
        /// Compared keys, target and result of each.
        compare: Vec<(u8, u8, u8)>,
        /// If it holds.
        then: Vec<Ask>,
        /// Else.
        otherwise: Vec<Ask>,
    },
    /// LeaseGrant.
    Grant {
        /// Its id.
        lease: u8,
        /// Its time to live.
        seconds: u8,
    },
    /// LeaseRevoke.
    Revoke {
        /// Its id.
        lease: u8,
    },
    /// LeaseKeepAlive, once.
    KeepAlive {
        /// Its id.
        lease: u8,
    },
    /// LeaseTimeToLive with keys.
    TimeToLive {
        /// Its id.
        lease: u8,
    },
    /// Compact so many revisions below the newest one that the client knows.
    Compact {
        /// How many.
        back: u8,
        /// Whether the answer waits for the space.
        physical: bool,
    },
}

/// What a client has seen: the newest record of each key, and the newest revision.
#[derive(Debug, Default)]
pub struct Seen {
    records: BTreeMap<Bytes, KeyValue>,
    /// The highest revision of any answer.
    pub revision: i64,
}

/// Draws `count` questions; each seed has its own weights.
pub fn draw_steps(rng: &mut Rng, settings: &Settings, count: usize) -> Vec<Step> {
    let mut mix = Mix {
        keys: 1 + rng.u8(0..KEYS_MAX),
        weights: [0; 6].map(|_| rng.u32(0..10)),
        bytes_max: [16, 200, 2_000][rng.usize(0..3)],
        leases: 0,
    };
    // Every other seed has no leases.
    mix.leases = mix.weights[5] / 5;
    mix.weights[5] *= 4 * mix.leases;
    // Nothing is learnt without writes.
    mix.weights[0] += 5;
    let pause_us = settings.safety_ms * 1000 * u64::from(settings.clients) / count as u64;
    let mut step = || Step {
        client: rng.u8(0..settings.clients),
        pause_us: rng.u64(0..pause_us),
        member: rng.u8(0..settings.members),
        ask: mix.draw(rng),
    };
    (0..count).map(|_| step()).collect()
}

struct Mix {
    keys: u8,
    /// Of put, range, delete, transaction, compaction, lease.
    weights: [u32; 6],
    bytes_max: u16,
    /// Whether there are leases; 0: none.
    leases: u32,
}

impl Mix {
    fn draw(&self, rng: &mut Rng) -> Ask {
        let mut luck = rng.u32(0..self.weights.iter().sum());
        for (kind, weight) in self.weights.iter().enumerate() {
            if luck < *weight {
                return match kind {
                    0 => self.put(rng),
                    1 => self.range(rng, true),
                    2 => self.delete(rng),
                    3 => self.txn(rng, 2),
                    4 => Ask::Compact {
                        back: rng.u8(0..20),
                        physical: rng.bool(),
                    },
                    _ => lease(rng),
                };
            }
            luck -= weight;
        }
        unreachable!("the weights add up")
    }

    fn put(&self, rng: &mut Rng) -> Ask {
        let keep = rng.u8(0..10) == 0;
        let is_leased = self.leases > 0 && !keep && rng.bool();
        Ask::Put {
            key: rng.u8(0..self.keys),
            bytes: rng.u16(0..self.bytes_max),
            previous: rng.u8(0..4) == 0,
            keep,
            lease: if is_leased { rng.u8(1..=LEASES) } else { 0 },
        }
    }

    fn range(&self, rng: &mut Rng, outside: bool) -> Ask {
        Ask::Range {
            from: rng.u8(0..self.keys),
            to: (rng.u8(0..3) == 0).then(|| rng.u8(0..=self.keys)),
            limit: if rng.bool() { 0 } else { rng.u8(0..5) },
            order: match rng.u8(0..4) {
                0 => (rng.u8(0..3), rng.u8(0..5)),
                _ => (0, 0),
            },
            part: rng.u8(0..6),
            serializable: outside && rng.u8(0..3) == 0,
            back: if outside && rng.u8(0..4) == 0 {
                rng.u8(0..30)
            } else {
                0
            },
        }
    }

    fn delete(&self, rng: &mut Rng) -> Ask {
        Ask::Delete {
            from: rng.u8(0..self.keys),
            to: (rng.u8(0..3) == 0).then(|| rng.u8(0..=self.keys)),
            previous: rng.bool(),
        }
    }

    /// No key is put twice or put and deleted by one transaction: etcd refuses those before the log.
    fn txn(&self, rng: &mut Rng, depth: u8) -> Ask {
        let compare = (0..rng.u8(1..3))
            .map(|_| (rng.u8(0..self.keys), rng.u8(0..4), rng.u8(0..4)))
            .collect();
        let mut free: Vec<u8> = (0..self.keys).collect();
        let branch = |rng: &mut Rng, free: &mut Vec<u8>| {
            let mut asks = Vec::new();
            for _ in 0..rng.u8(0..4) {
                asks.push(match rng.u8(0..8) {
                    0..4 if !free.is_empty() => {
                        let key = free.swap_remove(rng.usize(..free.len()));
                        let Ask::Put {
                            bytes, previous, ..
                        } = self.put(rng)
                        else {
                            unreachable!("a put")
                        };
                        Ask::Put {
                            key,
                            bytes,
                            previous,
                            keep: false,
                            lease: 0,
                        }
                    }
                    4 if !free.is_empty() => Ask::Delete {
                        from: free.swap_remove(rng.usize(..free.len())),
                        to: None,
                        previous: rng.bool(),
                    },
                    5 if depth > 0 => Ask::Txn {
                        compare: vec![(rng.u8(0..self.keys), rng.u8(0..4), rng.u8(0..4))],
                        then: vec![self.range(rng, false)],
                        otherwise: Vec::new(),
                    },
                    _ => self.range(rng, false),
                });
            }
            asks
        };
        Ask::Txn {
            compare,
            then: branch(rng, &mut free),
            otherwise: branch(rng, &mut free),
        }
    }
}

/// Few ids, so that they come again after they have ended.
fn lease(rng: &mut Rng) -> Ask {
    let lease = rng.u8(1..=LEASES);
    match rng.u8(0..8) {
        0..3 => Ask::Grant {
            lease,
            seconds: rng.u8(1..7),
        },
        3..6 => Ask::KeepAlive { lease },
        6 => Ask::TimeToLive { lease },
        _ => Ask::Revoke { lease },
    }
}

impl Ask {
    /// The lease that it is about; 0: it is about keys.
    #[must_use]
    pub fn lease(&self) -> u8 {
        match self {
            Self::Grant { lease, .. }
            | Self::Revoke { lease }
            | Self::KeepAlive { lease }
            | Self::TimeToLive { lease } => *lease,
            _ => 0,
        }
    }
}

impl Seen {
    /// The message of a question. `number` makes its values its own.
    #[must_use]
    pub fn request(&self, ask: &Ask, number: u32) -> Request {
        match ask {
            Ask::Compact { back, .. } => {
                Request::Compact((self.revision - i64::from(*back)).max(1))
            }
            ask => Request::Op(self.op(ask, &mut (u64::from(number) << 8))),
        }
    }

    fn op(&self, ask: &Ask, number: &mut u64) -> Op {
        match ask {
            Ask::Put {
                key: name,
                bytes,
                previous,
                keep,
                lease,
            } => {
                *number += 1;
                Op::RequestPut(pb::PutRequest {
                    key: key(*name),
                    value: if *keep {
                        Bytes::new()
                    } else {
                        value(*number, *bytes)
                    },
                    prev_kv: *previous,
                    ignore_value: *keep,
                    lease: i64::from(*lease),
                    ..Default::default()
                })
            }
            Ask::Range {
                from,
                to,
                limit,
                order,
                part,
                serializable,
                back,
            } => Op::RequestRange(pb::RangeRequest {
                key: key(*from),
                range_end: to.map_or(Bytes::new(), key),
                limit: i64::from(*limit),
                revision: match back {
                    0 => 0,
                    back => (self.revision - i64::from(*back) + 1).max(0),
                },
                sort_order: i32::from(order.0),
                sort_target: i32::from(order.1),
                serializable: *serializable,
                keys_only: *part == 1,
                count_only: *part == 2,
                ..Default::default()
            }),
            Ask::Delete { from, to, previous } => Op::RequestDeleteRange(pb::DeleteRangeRequest {
                key: key(*from),
                range_end: to.map_or(Bytes::new(), key),
                prev_kv: *previous,
            }),
            Ask::Txn {
                compare,
                then,
                otherwise,
            } => {
                let compare = compare.iter().map(|it| self.compare(*it)).collect();
                let mut branch = |asks: &[Ask]| {
                    let each = asks.iter().map(|ask| pb::RequestOp {
                        request: Some(self.op(ask, number)),
                    });
                    each.collect()
                };
                let (success, failure) = (branch(then), branch(otherwise));
                Op::RequestTxn(pb::TxnRequest {
                    compare,
                    success,
                    failure,
                })
            }
            Ask::Compact { .. }
            | Ask::Grant { .. }
            | Ask::Revoke { .. }
            | Ask::KeepAlive { .. }
            | Ask::TimeToLive { .. } => unreachable!("never inside a transaction"),
        }
    }

    fn compare(&self, (name, target, result): (u8, u8, u8)) -> pb::Compare {
        let name = key(name);
        let known = self.records.get(&name).cloned().unwrap_or_default();
        pb::Compare {
            result: i32::from(result),
            target: i32::from(target),
            range_end: Bytes::new(),
            target_union: Some(match target {
                0 => TargetUnion::Version(known.version),
                1 => TargetUnion::CreateRevision(known.create_revision),
                2 => TargetUnion::ModRevision(known.mod_revision),
                _ => TargetUnion::Value(known.value),
            }),
            key: name,
        }
    }

    /// Learns from an answer.
    pub fn learn(&mut self, revision: i64, body: Option<&Response>) {
        self.revision = self.revision.max(revision);
        if let Some(Response::ResponseRange(range)) = body {
            for kv in &range.kvs {
                self.records.insert(kv.key.clone(), kv.clone());
            }
        }
    }
}

/// Names with common beginnings, and zero bytes in some of them.
pub(super) fn key(number: u8) -> Bytes {
    let tail: &[u8] = match number % 4 {
        0 => b"",
        1 => b"\0",
        2 => b"\0\0",
        _ => b"/x",
    };
    let mut name = format!("k{:02}", number / 4).into_bytes();
    name.extend_from_slice(tail);
    name.into()
}

fn value(number: u64, bytes: u16) -> Bytes {
    let mut value = format!("{number:x}").into_bytes();
    value.resize(value.len().max(usize::from(bytes)), b'.');
    value.into()
}

/// Keys are numbered below it.
pub(super) const KEYS_MAX: u8 = 24;

/// Leases are numbered from 1.
const LEASES: u8 = 4;
