//! The requests of a workload as templates, and how large those are that load and check.

use basalt_pb::hot::{self, PutRequest, RangeRequest, WireType};

use super::keys::Keys;
use super::template::{Builder, Template};
use crate::plan::{Kind, Shape};

/// Every request of a workload, encoded once.
pub(crate) struct Templates {
    pub put: Template,
    pub get: Template,
    pub read_back: Template,
    /// All keys: their number, or their names.
    pub whole: Template,
    pub range: Template,
    pub page: Template,
    pub load: Template,
    /// By bytes of the revision's varint.
    pub txn: [Option<Template>; REVISION_BYTES_MAX],
    pub batch: Template,
}

impl Templates {
    /// Encodes them.
    pub(crate) fn new(shape: &Shape, keys: Keys, value: &[u8]) -> Self {
        let own = |_| (0, false);
        let get = |serializable| {
            let encode = |builder: &mut Builder<'_>| {
                RangeRequest {
                    key: builder.key,
                    serializable,
                    ..RangeRequest::default()
                }
                .write(&mut builder.out);
            };
            Template::new(keys, value, encode, own)
        };
        let mut last = Vec::new();
        keys.push(u64::from(keys.count - 1), &mut last);
        last.push(0);
        let whole = |builder: &mut Builder<'_>| {
            RangeRequest {
                key: builder.key,
                range_end: &last,
                serializable: shape.serializable,
                count_only: shape.workload == Kind::Count,
                keys_only: shape.workload == Kind::KeysOnly,
                ..RangeRequest::default()
            }
            .write(&mut builder.out);
        };
        let range = |builder: &mut Builder<'_>| {
            RangeRequest {
                key: builder.key,
                range_end: match (shape.spans, shape.limit) {
                    (false, _) => &last,
                    // A get.
                    (true, 1) => &[],
                    (true, _) => builder.key,
                },
                limit: if shape.spans {
                    0
                } else {
                    i64::from(shape.limit)
                },
                serializable: shape.serializable,
                ..RangeRequest::default()
            }
            .write(&mut builder.out);
        };
        // Without a limit: a server may count what is beyond it, key by key.
        let paged = |builder: &mut Builder<'_>| {
            RangeRequest {
                key: builder.key,
                range_end: builder.key,
                serializable: true,
                ..RangeRequest::default()
            }
            .write(&mut builder.out);
        };
        let batch = u32::from(shape.batch);
        Self {
            put: Template::new(keys, value, put, own),
            get: get(shape.serializable),
            read_back: get(false),
            whole: Template::new(keys, value, whole, own),
            range: Template::new(keys, value, range, |place| match place {
                0 => (0, false),
                _ => (shape.limit, true),
            }),
            page: Template::new(keys, value, paged, |place| match place {
                0 => (0, false),
                _ => (page(shape), true),
            }),
            load: txn_of_puts(keys, value, load_batch(shape)),
            txn: [const { None }; REVISION_BYTES_MAX],
            batch: match shape.workload {
                Kind::TxnCompares => txn_of_compares(keys, value, batch),
                _ => txn_of_puts(keys, value, batch),
            },
        }
    }
}

fn put(builder: &mut Builder<'_>) {
    PutRequest {
        key: builder.key,
        value: builder.value,
        ..PutRequest::default()
    }
    .write(&mut builder.out);
}

/// A request of a list of a txn, inside a RequestOp.
fn operation(
    builder: &mut Builder<'_>,
    list: u32,
    kind: u32,
    encode: impl FnOnce(&mut Builder<'_>),
) {
    let operation = hot::begin_nested(&mut builder.out, list);
    let request = hot::begin_nested(&mut builder.out, kind);
    encode(builder);
    hot::end_nested(&mut builder.out, request);
    hot::end_nested(&mut builder.out, operation);
}

/// A txn that puts `count` keys in a row.
pub(crate) fn txn_of_puts(keys: Keys, value: &[u8], count: u32) -> Template {
    let encode = |builder: &mut Builder<'_>| {
        (0..count).for_each(|_| operation(builder, SUCCESS, PUT, put));
    };
    Template::new(keys, value, encode, |place| (place as u32, false))
}

/// Each key exists: its create revision is above 0.
fn txn_of_compares(keys: Keys, value: &[u8], count: u32) -> Template {
    let encode = |builder: &mut Builder<'_>| {
        for _ in 0..count {
            let compare = hot::begin_nested(&mut builder.out, COMPARE);
            hot::put_int_field(&mut builder.out, 1, GREATER);
            hot::put_int_field(&mut builder.out, 2, CREATE);
            hot::put_bytes_field(&mut builder.out, 3, builder.key);
            // A member of a oneof is written even when it is zero.
            hot::put_tag(&mut builder.out, 5, WireType::Varint);
            hot::put_varint(&mut builder.out, 0);
            hot::end_nested(&mut builder.out, compare);
        }
        operation(builder, SUCCESS, PUT, put);
    };
    Template::new(keys, value, encode, |place| match place as u32 {
        place if place < count => (place, false),
        _ => (0, false),
    })
}

/// Put if the mod revision is this one, else read.
pub(crate) fn txn_of_compare(keys: Keys, value: &[u8], revision: u64) -> Template {
    let encode = |builder: &mut Builder<'_>| {
        let compare = hot::begin_nested(&mut builder.out, COMPARE);
        hot::put_int_field(&mut builder.out, 2, MOD);
        hot::put_bytes_field(&mut builder.out, 3, builder.key);
        hot::put_tag(&mut builder.out, 6, WireType::Varint);
        hot::put_varint(&mut builder.out, revision);
        hot::end_nested(&mut builder.out, compare);
        operation(builder, SUCCESS, PUT, put);
        operation(builder, FAILURE, RANGE, |builder| {
            RangeRequest {
                key: builder.key,
                ..RangeRequest::default()
            }
            .write(&mut builder.out);
        });
    };
    Template::new(keys, value, encode, |_| (0, false))
}

/// A page of a walk: from the first key, or behind the one before, as a client goes on that knows the last key it got.
pub(crate) fn list_page(keys: Keys, from: u32, limit: u32, revision: i64, out: &mut Vec<u8>) {
    let (mut key, mut last) = (Vec::new(), Vec::new());
    keys.push(u64::from(from.saturating_sub(1)), &mut key);
    if from > 0 {
        key.push(0);
    }
    keys.push(u64::from(keys.count - 1), &mut last);
    last.push(0);
    RangeRequest {
        key: &key,
        range_end: &last,
        limit: i64::from(limit),
        revision,
        ..RangeRequest::default()
    }
    .write(out);
}

/// Puts of a loading txn: as many as etcd takes, in a request that it takes.
pub(crate) fn load_batch(shape: &Shape) -> u32 {
    (LOAD_BYTES_MAX / key_value_bytes(shape)).clamp(1, LOAD_PUTS_MAX.min(shape.keys))
}

/// Keys of a page.
pub(crate) fn page(shape: &Shape) -> u32 {
    (PAGE_BYTES_MAX / key_value_bytes(shape)).clamp(1, PAGE_KEYS_MAX)
}

fn key_value_bytes(shape: &Shape) -> u32 {
    const FRAME_BYTES: u32 = 32;
    u32::from(shape.key_size) + shape.value_size + FRAME_BYTES
}

/// Fields of TxnRequest, of RequestOp, and values of Compare.
const COMPARE: u32 = 1;
const SUCCESS: u32 = 2;
const FAILURE: u32 = 3;
const RANGE: u32 = 1;
const PUT: u32 = 2;
pub(crate) const CREATE: i64 = 1;
pub(crate) const MOD: i64 = 2;
pub(crate) const GREATER: i64 = 1;

/// Bytes of the longest varint.
const REVISION_BYTES_MAX: usize = 10;

/// etcd's --max-txn-ops, and two thirds of its --max-request-bytes.
const LOAD_PUTS_MAX: u32 = 128;
const LOAD_BYTES_MAX: u32 = 1 << 20;

const PAGE_KEYS_MAX: u32 = 1000;
const PAGE_BYTES_MAX: u32 = 1 << 20;
