//! What is asked of the server: keys, values and requests from a seed, and what every answer must show.

use basalt_pb::hot::{self, CompactionRequest};

use super::answer::Answer;
use super::keys::Keys;
use super::leases::Leases;
use super::requests::{Templates, list_page, load_batch, page, txn_of_compare, txn_of_puts};
use super::template::longest_alike;
use super::zipf::Zipf;
use crate::plan::{Kind, Shape};

/// The method that a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Method {
    Range,
    Put,
    Txn,
    RangeStream,
    Compact,
    Defragment,
    Snapshot,
    LeaseGrant,
    LeaseKeepAlive,
    LeaseRevoke,
}

impl Method {
    /// All methods, in the order of their numbers.
    pub(crate) const ALL: [Method; 10] = [
        Method::Range,
        Method::Put,
        Method::Txn,
        Method::RangeStream,
        Method::Compact,
        Method::Defragment,
        Method::Snapshot,
        Method::LeaseGrant,
        Method::LeaseKeepAlive,
        Method::LeaseRevoke,
    ];

    /// The HTTP/2 path.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Method::Range => "/etcdserverpb.KV/Range",
            Method::Put => "/etcdserverpb.KV/Put",
            Method::Txn => "/etcdserverpb.KV/Txn",
            Method::RangeStream => "/etcdserverpb.KV/RangeStream",
            Method::Compact => "/etcdserverpb.KV/Compact",
            Method::Defragment => "/etcdserverpb.Maintenance/Defragment",
            Method::Snapshot => "/etcdserverpb.Maintenance/Snapshot",
            Method::LeaseGrant => "/etcdserverpb.Lease/LeaseGrant",
            Method::LeaseKeepAlive => "/etcdserverpb.Lease/LeaseKeepAlive",
            Method::LeaseRevoke => "/etcdserverpb.Lease/LeaseRevoke",
        }
    }

    /// Whether one call of a connection carries all its requests; they are answered in order.
    pub(crate) fn is_two_way(self) -> bool {
        self == Method::LeaseKeepAlive
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
    /// `limit` keys of a walk over all, at one revision.
    ListPage,
    /// The number of all keys.
    Count,
    /// The names of all keys.
    KeysOnly,
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
    /// All but the newest revisions go, physically.
    Compact,
    Defragment,
    Snapshot,
    /// All keys and values in one answer, linearizable unless the shape says otherwise.
    List,
    /// The same in many.
    ListStream,
    /// A lease, before the run.
    Grant,
    /// Keys with their leases, before the run.
    Attach,
    /// A renewal that counts.
    KeepAlive,
    /// One before the measured time, after which leases end.
    Renew,
    /// Keys that leases have not taken with them.
    CountLeased,
    /// The first lease ends, with its keys.
    Revoke,
}

impl Ask {
    pub(crate) fn method(self) -> Method {
        match self {
            Ask::Put => Method::Put,
            Ask::List
            | Ask::Get
            | Ask::Range
            | Ask::ListPage
            | Ask::Count
            | Ask::KeysOnly
            | Ask::Revision
            | Ask::ReadBack
            | Ask::CountLeased
            | Ask::Page => Method::Range,
            Ask::Attach
            | Ask::Load
            | Ask::Txn
            | Ask::OutdatedTxn
            | Ask::TxnPuts
            | Ask::TxnCompares => Method::Txn,
            Ask::ListStream => Method::RangeStream,
            Ask::Compact => Method::Compact,
            Ask::Defragment => Method::Defragment,
            Ask::Snapshot => Method::Snapshot,
            Ask::Grant => Method::LeaseGrant,
            Ask::KeepAlive | Ask::Renew => Method::LeaseKeepAlive,
            Ask::Revoke => Method::LeaseRevoke,
        }
    }

    /// Whether the operation is one of the workload's, and counts.
    pub(crate) fn is_counted(self) -> bool {
        let is_checking = matches!(
            self,
            Ask::Load
                | Ask::Grant
                | Ask::Attach
                | Ask::Renew
                | Ask::Revision
                | Ask::ReadBack
                | Ask::Page
        );
        !is_checking && !self.is_beside()
    }

    /// Whether it is something that is done beside the workload's operations.
    pub(crate) fn is_beside(self) -> bool {
        matches!(
            self,
            Ask::Compact
                | Ask::Defragment
                | Ask::Snapshot
                | Ask::List
                | Ask::ListStream
                | Ask::CountLeased
                | Ask::Revoke
        )
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
    pub leases: Leases,
    keys: Keys,
    random: fastrand::Rng,
    /// Draws keys when they are not to be asked for alike.
    zipf: Option<Zipf>,
    value: Vec<u8>,
    /// By key: the newest revision of a change that was acknowledged or read; 0 when none was.
    seen: Vec<i64>,
    /// The store's revision when it was asked last: walks go on at it.
    revision: i64,
    /// The newest revision heard of.
    newest: i64,
    /// Pages of the walk that were drawn.
    pages: u32,
    templates: Templates,
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
            leases: Leases::of(shape),
            keys,
            random,
            zipf: shape.zipf.then(|| Zipf::new(shape.keys)),
            value,
            seen: vec![0; shape.keys as usize],
            revision: 0,
            newest: 0,
            pages: 0,
        }
    }

    /// Number of keys.
    pub(crate) fn keys(&self) -> u32 {
        self.keys.count
    }

    /// The names of the keys.
    pub(crate) fn key_names(&self) -> Keys {
        self.keys
    }

    /// The newest revision of a key that was acknowledged or read; 0 when none was.
    pub(crate) fn seen(&self, key: u32) -> i64 {
        self.seen[key as usize]
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

    /// Requests of one walk over all keys, when that is the workload.
    pub(crate) fn walk_pages(&self) -> Option<u32> {
        (self.shape.workload == Kind::ListPage).then(|| self.keys.count.div_ceil(self.shape.limit))
    }

    /// Bytes of the values that a right answer acknowledged or returned.
    pub(crate) fn value_bytes(&self, ask: Ask, answer: &Answer, changes: bool) -> u64 {
        let puts = match ask {
            Ask::Attach => return 0,
            _ if !changes => return answer.value_bytes,
            Ask::TxnPuts => u64::from(self.shape.batch),
            _ => 1,
        };
        puts * u64::from(self.shape.value_size)
    }

    /// Writes the next request.
    pub(crate) fn draw(&mut self, out: &mut Vec<u8>) -> Question {
        let mut key = match &self.zipf {
            None => self.random.u32(0..self.keys.count),
            // Frequent keys lie anywhere, not side by side.
            Some(zipf) => spread(zipf.rank(self.random.f64()), self.keys.count),
        };
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
            Kind::KeepAlive => {
                key = self.random.u32(0..self.leases.count);
                Ask::KeepAlive
            }
            Kind::ListPage => {
                key = self.next_page();
                Ask::ListPage
            }
            Kind::Count | Kind::KeysOnly => {
                key = 0;
                if self.shape.workload == Kind::Count {
                    Ask::Count
                } else {
                    Ask::KeysOnly
                }
            }
        };
        self.write(ask, key, out)
    }

    /// The first key of the next page. What pages cost differs along the walk, so they are taken in an order of which every part is a fair
    /// sample: a slow server ends a slice long before the walk.
    fn next_page(&mut self) -> u32 {
        let pages = self.keys.count.div_ceil(self.shape.limit);
        let page = spread(self.pages % pages, pages);
        self.pages += 1;
        page * self.shape.limit
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
            Ask::ListPage => list_page(keys, key, self.shape.limit, self.revision, out),
            Ask::Compact => CompactionRequest {
                revision: self.newest,
                physical: true,
            }
            .write(out),
            Ask::Grant => self.leases.grant(key, out),
            Ask::Attach => self.leases.attach(key, out),
            Ask::KeepAlive | Ask::Renew | Ask::Revoke => Leases::name(key, out),
            Ask::CountLeased => Leases::count_keys(out),
            // Messages without a field.
            Ask::Defragment | Ask::Snapshot => {}
            Ask::Count | Ask::KeysOnly | Ask::List | Ask::ListStream => {
                self.templates.whole.write(keys, key, out)
            }
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
            Ask::Get | Ask::ReadBack => self.found(key, 1, answer),
            Ask::Revision => {
                self.revision = answer.revision;
                self.newest = self.newest.max(answer.revision);
                self.found(key, 1, answer)
            }
            Ask::Range if limit == 0 => self.found(key, self.keys.count - key, answer),
            Ask::Range => self.found(key, limit.min(self.keys.count - key), answer),
            Ask::ListPage => {
                let rest = self.keys.count - key;
                let is_right = answer.count == u64::from(rest) && answer.more == (limit < rest);
                match self.found(key, limit.min(rest), answer) {
                    UNCHANGED if is_right => UNCHANGED,
                    _ => Verdict::Wrong,
                }
            }
            Ask::Count | Ask::KeysOnly => {
                let keys = if ask == Ask::Count {
                    0
                } else {
                    self.keys.count
                };
                let is_right = answer.count == u64::from(self.keys.count)
                    && answer.kvs == keys
                    && answer.value_bytes == 0;
                if is_right { UNCHANGED } else { Verdict::Wrong }
            }
            Ask::Compact | Ask::Defragment | Ask::CountLeased | Ask::Revoke => UNCHANGED,
            Ask::Grant | Ask::KeepAlive | Ask::Renew if self.leases.is_granted(key, answer) => {
                UNCHANGED
            }
            Ask::Grant | Ask::KeepAlive | Ask::Renew => Verdict::Wrong,
            Ask::Attach if answer.succeeded => UNCHANGED,
            Ask::Attach => Verdict::Wrong,
            Ask::Snapshot if answer.count == 0 && answer.value_bytes > 0 => UNCHANGED,
            Ask::Snapshot => Verdict::Wrong,
            Ask::List | Ask::ListStream => self.found(0, self.keys.count, answer),
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

    /// Whether a key has the name of that number.
    pub(crate) fn is_named(&self, number: u32, key: &[u8]) -> bool {
        let mut name = Vec::with_capacity(self.keys.bytes);
        self.keys.push(u64::from(number), &mut name);
        name == key
    }

    /// Checks one key of a page: name, value, and that no acknowledged change is missing.
    pub(crate) fn judge_whole(
        &mut self,
        number: u32,
        key: &[u8],
        value: &[u8],
        revision: i64,
    ) -> bool {
        let is_right = self.is_named(number, key)
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
        self.newest = self.newest.max(revision);
    }
}

/// The `place`-th of a walk over `count` in steps that share no factor with most counts.
pub(crate) fn spread(place: u32, count: u32) -> u32 {
    const STEP: u64 = 0x9E37_79B1;
    (u64::from(place) * STEP % u64::from(count)) as u32
}

const UNCHANGED: Verdict = Verdict::Good { changes: false };

#[cfg(test)]
mod tests;
