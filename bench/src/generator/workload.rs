//! What is asked of the server: keys, values and requests from a seed, and what every answer must show.

use basalt_pb::hot::{self, PutRequest, RangeRequest, WireType};

use super::answer::Answer;
use super::keys::Keys;
use super::template::{Builder, Template, longest_alike};
use crate::plan::{Kind, Shape};

/// The method that a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Method {
    Range,
    Put,
    Txn,
}

impl Method {
    /// All methods, in the order of their numbers.
    pub(crate) const ALL: [Method; 3] = [Method::Range, Method::Put, Method::Txn];

    /// The HTTP/2 path.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Method::Range => "/etcdserverpb.KV/Range",
            Method::Put => "/etcdserverpb.KV/Put",
            Method::Txn => "/etcdserverpb.KV/Txn",
        }
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Many keys at once, before the run.
    Load,
    Put,
    Get,
    /// `limit` keys.
    Range,
    /// Put if the mod revision is the one seen last, else read.
    Txn,
    /// The same with a revision that was overtaken.
    OutdatedTxn,
    TxnPuts,
    TxnCompares,
    /// The store's revision, by a get.
    Revision,
    /// A key, linearizable, at the end of a run.
    ReadBack,
    /// Some keys in order, serializable.
    Page,
}

impl Ask {
    pub(crate) fn method(self) -> Method {
        match self {
            Ask::Put => Method::Put,
            Ask::Get | Ask::Range | Ask::Revision | Ask::ReadBack | Ask::Page => Method::Range,
            Ask::Load | Ask::Txn | Ask::OutdatedTxn | Ask::TxnPuts | Ask::TxnCompares => {
                Method::Txn
            }
        }
    }

    /// Whether the operation is one of the workload's, and counts.
    pub(crate) fn is_counted(self) -> bool {
        !matches!(self, Ask::Load | Ask::Revision | Ask::ReadBack | Ask::Page)
    }
}

/// A request drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub ask: Ask,
    /// The key, or the first of several.
    pub key: u32,
    /// The mod revision that a txn compares with.
    pub compared: i64,
}

/// What an answer told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it must be. `changes` is whether the store's revision went up by one.
    Good { changes: bool },
    /// The compare of a txn did not hold: it was meant not to, or another in-flight txn had changed the key.
    Conflict,
    /// Not an answer to this request.
    Wrong,
}

/// Draws requests and judges answers.
pub(crate) struct Workload {
    shape: Shape,
    keys: Keys,
    random: fastrand::Rng,
    value: Vec<u8>,
    /// By key: the newest revision of a change that was acknowledged or read; 0 when none was.
    seen: Vec<i64>,
    templates: Templates,
}

struct Templates {
    put: Template,
    get: Template,
    read_back: Template,
    range: Template,
    page: Template,
    load: Template,
    /// By bytes of the revision's varint.
    txn: [Option<Template>; REVISION_BYTES_MAX],
    batch: Template,
}

impl Workload {
    /// The same shape gives the same requests.
    pub(crate) fn new(shape: &Shape) -> Self {
        let mut random = fastrand::Rng::with_seed(shape.seed);
        let value: Vec<u8> = (0..shape.value_size)
            .map(|_| random.alphanumeric() as u8)
            .collect();
        let keys = Keys {
            bytes: usize::from(shape.key_size),
            count: shape.keys,
        };
        Self {
            templates: Templates::new(shape, keys, &value),
            shape: shape.clone(),
            keys,
            random,
            value,
            seen: vec![0; shape.keys as usize],
        }
    }

    /// Number of keys.
    pub(crate) fn keys(&self) -> u32 {
        self.keys.count
    }

    /// Whether operations rest on what was seen of the keys before.
    pub(crate) fn needs_revisions(&self) -> bool {
        self.shape.workload == Kind::Txn
    }

    /// Puts or compares in one operation.
    pub(crate) fn inner(&self) -> u64 {
        match self.shape.workload {
            Kind::TxnPuts | Kind::TxnCompares => u64::from(self.shape.batch),
            _ => 1,
        }
    }

    /// Whether operations are of two kinds that are to be told apart.
    pub(crate) fn is_mixed(&self) -> bool {
        self.shape.workload == Kind::Mixed
    }

    /// Writes the next request.
    pub(crate) fn draw(&mut self, out: &mut Vec<u8>) -> Question {
        let key = self.random.u32(0..self.keys.count);
        let ask = match self.shape.workload {
            Kind::Put => Ask::Put,
            Kind::Get => Ask::Get,
            Kind::Range => Ask::Range,
            Kind::Txn if self.shape.conflict_percent == 0 => Ask::Txn,
            Kind::Txn if self.random.u8(0..100) < self.shape.conflict_percent => Ask::OutdatedTxn,
            Kind::Txn => Ask::Txn,
            Kind::Mixed if self.random.f64() * (self.shape.read_ratio + 1.0) >= 1.0 => Ask::Range,
            Kind::Mixed => Ask::Put,
            Kind::TxnPuts => Ask::TxnPuts,
            Kind::TxnCompares => Ask::TxnCompares,
        };
        self.write(ask, key, out)
    }

    /// Writes a request about `key`.
    pub(crate) fn write(&mut self, ask: Ask, key: u32, out: &mut Vec<u8>) -> Question {
        let compared = match ask {
            Ask::Txn => self.seen[key as usize],
            // Revisions of a key only grow: this one does not come back.
            Ask::OutdatedTxn => self.seen[key as usize] - 1,
            _ => 0,
        };
        let keys = self.keys;
        match ask {
            Ask::Put => self.templates.put.write(keys, key, out),
            Ask::Get => self.templates.get.write(keys, key, out),
            Ask::Revision | Ask::ReadBack => self.templates.read_back.write(keys, key, out),
            Ask::Range => self.templates.range.write(keys, key, out),
            Ask::Page => self.templates.page.write(keys, key, out),
            Ask::TxnPuts | Ask::TxnCompares => self.templates.batch.write(keys, key, out),
            Ask::Load if self.loaded_by(key) == self.load_batch() => {
                self.templates.load.write(keys, key, out);
            }
            Ask::Load => {
                txn_of_puts(keys, &self.value, self.loaded_by(key)).write(keys, key, out);
            }
            Ask::Txn | Ask::OutdatedTxn => {
                let revision = compared as u64;
                let place = hot::varint_len(revision) - 1;
                let txn = self.templates.txn[place].get_or_insert_with(|| {
                    txn_of_compare(keys, &self.value, longest_alike(revision))
                });
                txn.write_compared(keys, key, revision, out);
            }
        }
        Question { ask, key, compared }
    }

    /// Keys that the load request beginning at `key` writes.
    pub(crate) fn loaded_by(&self, key: u32) -> u32 {
        self.load_batch().min(self.keys.count - key)
    }

    /// Keys that the page beginning at `key` holds.
    pub(crate) fn paged_by(&self, key: u32) -> u32 {
        page(&self.shape).min(self.keys.count - key)
    }

    fn load_batch(&self) -> u32 {
        load_batch(&self.shape)
    }

    /// Checks an answer with status OK against the request it belongs to.
    pub(crate) fn judge(&mut self, question: Question, answer: &Answer) -> Verdict {
        let Question { ask, key, compared } = question;
        let limit = self.shape.limit;
        match ask {
            Ask::Put => self.changed(key, 1, answer, answer.revision > 1),
            Ask::Get | Ask::ReadBack | Ask::Revision => self.found(key, 1, answer),
            Ask::Range if limit == 0 => self.found(key, self.keys.count - key, answer),
            Ask::Range => self.found(key, limit.min(self.keys.count - key), answer),
            Ask::Page => self.found(key, self.paged_by(key), answer),
            Ask::Load => {
                let count = self.loaded_by(key);
                let is_right = answer.succeeded && answer.responses == count;
                self.changed(key, count, answer, is_right)
            }
            Ask::Txn if answer.succeeded => {
                self.changed(key, 1, answer, answer.responses == 1 && answer.kvs == 0)
            }
            Ask::Txn | Ask::OutdatedTxn => {
                let is_right = !answer.succeeded
                    && answer.responses == 1
                    && answer.mod_revision != compared
                    && self.found(key, 1, answer) == UNCHANGED;
                if !is_right {
                    return Verdict::Wrong;
                }
                self.see(key, answer.mod_revision);
                Verdict::Conflict
            }
            Ask::TxnPuts => {
                let count = u32::from(self.shape.batch);
                let is_right = answer.succeeded && answer.responses == count;
                self.changed(key, count, answer, is_right)
            }
            Ask::TxnCompares => {
                self.changed(key, 1, answer, answer.succeeded && answer.responses == 1)
            }
        }
    }

    /// Checks one key of a page: name, value, and that no acknowledged change is missing.
    pub(crate) fn judge_whole(
        &mut self,
        number: u32,
        key: &[u8],
        value: &[u8],
        revision: i64,
    ) -> bool {
        let mut name = Vec::with_capacity(self.keys.bytes);
        self.keys.push(u64::from(number), &mut name);
        let is_right = name == key
            && value.len() == self.value.len()
            && value[8..] == self.value[8..]
            && value[..8] == u64::from(number).to_be_bytes()
            && revision >= self.seen[number as usize];
        self.see(number, revision);
        is_right
    }

    fn found(&self, key: u32, count: u32, answer: &Answer) -> Verdict {
        let is_right = answer.kvs == count
            && answer.marker == u64::from(key)
            && answer.is_consecutive
            && answer.value_bytes == u64::from(count) * u64::from(self.shape.value_size)
            && answer.mod_revision <= answer.revision;
        if is_right { UNCHANGED } else { Verdict::Wrong }
    }

    fn changed(&mut self, key: u32, count: u32, answer: &Answer, is_right: bool) -> Verdict {
        if !is_right {
            return Verdict::Wrong;
        }
        for ahead in 0..count {
            self.see((key + ahead) % self.keys.count, answer.revision);
        }
        Verdict::Good { changes: true }
    }

    /// Answers may come in another order than the changes were made in.
    fn see(&mut self, key: u32, revision: i64) {
        let seen = &mut self.seen[key as usize];
        *seen = (*seen).max(revision);
    }
}

impl Templates {
    fn new(shape: &Shape, keys: Keys, value: &[u8]) -> Self {
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
        let range = |builder: &mut Builder<'_>| {
            RangeRequest {
                key: builder.key,
                range_end: &last,
                limit: i64::from(shape.limit),
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
            range: Template::new(keys, value, range, own),
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

fn txn_of_puts(keys: Keys, value: &[u8], count: u32) -> Template {
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

fn txn_of_compare(keys: Keys, value: &[u8], revision: u64) -> Template {
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

/// Puts of a loading txn: as many as etcd takes, in a request that it takes.
fn load_batch(shape: &Shape) -> u32 {
    (LOAD_BYTES_MAX / key_value_bytes(shape)).clamp(1, LOAD_PUTS_MAX.min(shape.keys))
}

/// Keys of a page.
fn page(shape: &Shape) -> u32 {
    (PAGE_BYTES_MAX / key_value_bytes(shape)).clamp(1, PAGE_KEYS_MAX)
}

fn key_value_bytes(shape: &Shape) -> u32 {
    const FRAME_BYTES: u32 = 32;
    u32::from(shape.key_size) + shape.value_size + FRAME_BYTES
}

const UNCHANGED: Verdict = Verdict::Good { changes: false };

/// Fields of TxnRequest, of RequestOp, and values of Compare.
const COMPARE: u32 = 1;
const SUCCESS: u32 = 2;
const FAILURE: u32 = 3;
const RANGE: u32 = 1;
const PUT: u32 = 2;
const CREATE: i64 = 1;
const MOD: i64 = 2;
const GREATER: i64 = 1;

const REVISION_BYTES_MAX: usize = 10;

/// etcd's --max-txn-ops, and two thirds of its --max-request-bytes.
const LOAD_PUTS_MAX: u32 = 128;
const LOAD_BYTES_MAX: u32 = 1 << 20;

const PAGE_KEYS_MAX: u32 = 1000;
const PAGE_BYTES_MAX: u32 = 1 << 20;

#[cfg(test)]
mod tests;
