//! What is asked of the server: keys, values and requests from a seed, and what every answer must show.

use basalt_pb::hot::{self, PutRequest, RangeRequest, Wire, WireType};

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

/// What an answer told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it must be. `changes` is whether the store's revision went up by one.
    Good { changes: bool },
    /// The compare of a txn did not hold, as another in-flight txn had changed the key.
    Conflict,
    /// Not an answer to this request.
    Wrong,
}

/// Draws requests and judges answers.
pub(crate) struct Workload {
    shape: Shape,
    random: fastrand::Rng,
    key: Vec<u8>,
    end: Vec<u8>,
    value: Vec<u8>,
    /// By key: the mod revision seen last; for txn only.
    seen: Vec<i64>,
}

impl Workload {
    /// The same shape gives the same requests.
    pub(crate) fn new(shape: &Shape) -> Self {
        let mut random = fastrand::Rng::with_seed(shape.seed);
        let value = (0..shape.value_size)
            .map(|_| random.alphanumeric() as u8)
            .collect();
        let seen = if shape.workload == Kind::Txn {
            vec![0; shape.keys as usize]
        } else {
            Vec::new()
        };
        Self {
            shape: shape.clone(),
            random,
            key: Vec::new(),
            end: Vec::new(),
            value,
            seen,
        }
    }

    /// Writes the next request and says where it goes and which key it is about.
    pub(crate) fn next(&mut self, out: &mut Vec<u8>) -> (Method, u32) {
        let key = self.random.u32(0..self.shape.keys);
        let method = match self.shape.workload {
            Kind::Put => Method::Put,
            Kind::Get | Kind::Range => Method::Range,
            Kind::Txn => Method::Txn,
            Kind::Mixed if self.random.f64() * (self.shape.read_ratio + 1.0) >= 1.0 => {
                Method::Range
            }
            Kind::Mixed => Method::Put,
            Kind::TxnPuts | Kind::TxnCompares => Method::Txn,
        };
        match method {
            Method::Put => self.write_put(key, out),
            Method::Range if self.shape.workload == Kind::Range => self.write_range(key, out),
            Method::Range => self.write_get(key, out),
            Method::Txn => self.write_txn(key, out),
        }
        (method, key)
    }

    /// Writes the put that loads a key.
    pub(crate) fn write_put(&mut self, key: u32, out: &mut Vec<u8>) {
        self.name(key);
        let (head, _) = self.value.split_at_mut(8);
        head.copy_from_slice(&u64::from(key).to_be_bytes());
        PutRequest {
            key: &self.key,
            value: &self.value,
            ..PutRequest::default()
        }
        .write(out);
    }

    /// Writes the get of a key.
    pub(crate) fn write_get(&mut self, key: u32, out: &mut Vec<u8>) {
        self.name(key);
        RangeRequest {
            key: &self.key,
            serializable: self.shape.serializable,
            ..RangeRequest::default()
        }
        .write(out);
    }

    fn write_range(&mut self, key: u32, out: &mut Vec<u8>) {
        self.name(self.shape.keys - 1);
        self.end.clone_from(&self.key);
        self.end.push(0);
        self.name(key);
        RangeRequest {
            key: &self.key,
            range_end: &self.end,
            limit: i64::from(self.shape.limit),
            serializable: self.shape.serializable,
            ..RangeRequest::default()
        }
        .write(out);
    }

    fn write_txn(&mut self, key: u32, out: &mut Vec<u8>) {
        const MOD: i64 = 2;
        self.name(key);
        let compare = hot::begin_nested(out, 1);
        hot::put_int_field(out, 2, MOD);
        hot::put_bytes_field(out, 3, &self.key);
        // A member of a oneof is written even when it is zero.
        hot::put_tag(out, 6, WireType::Varint);
        hot::put_varint(out, self.seen[key as usize] as u64);
        hot::end_nested(out, compare);
        let success = hot::begin_nested(out, 2);
        let put = hot::begin_nested(out, 2);
        let (head, _) = self.value.split_at_mut(8);
        head.copy_from_slice(&u64::from(key).to_be_bytes());
        PutRequest {
            key: &self.key,
            value: &self.value,
            ..PutRequest::default()
        }
        .write(out);
        hot::end_nested(out, put);
        hot::end_nested(out, success);
        let failure = hot::begin_nested(out, 3);
        let range = hot::begin_nested(out, 1);
        RangeRequest {
            key: &self.key,
            ..RangeRequest::default()
        }
        .write(out);
        hot::end_nested(out, range);
        hot::end_nested(out, failure);
    }

    /// Checks an answer with status OK against the request it belongs to.
    pub(crate) fn judge(&mut self, method: Method, key: u32, message: &[u8]) -> Verdict {
        let Some(answer) = Answer::read(message) else {
            return Verdict::Wrong;
        };
        match method {
            Method::Put if answer.revision > 1 => Verdict::Good { changes: true },
            Method::Put => Verdict::Wrong,
            Method::Range if self.shape.workload == Kind::Range => {
                let expected = u64::from((self.shape.keys - key).min(self.shape.limit));
                if answer.kvs == expected {
                    Verdict::Good { changes: false }
                } else {
                    Verdict::Wrong
                }
            }
            Method::Range => answer.is_value_of(key),
            Method::Txn => self.judge_txn(key, &answer),
        }
    }

    /// Checks the answer to [`Workload::write_get`] of a key that is there.
    pub(crate) fn judge_get(&self, key: u32, message: &[u8]) -> Verdict {
        Answer::read(message).map_or(Verdict::Wrong, |answer| answer.is_value_of(key))
    }

    fn judge_txn(&mut self, key: u32, answer: &Answer) -> Verdict {
        let seen = &mut self.seen[key as usize];
        if answer.succeeded {
            *seen = (*seen).max(answer.revision);
            return Verdict::Good { changes: true };
        }
        *seen = (*seen).max(answer.mod_revision);
        Verdict::Conflict
    }

    /// Tells the workload the mod revision of a loaded key.
    pub(crate) fn loaded(&mut self, key: u32, message: &[u8]) {
        if let (Some(seen), Some(answer)) = (self.seen.get_mut(key as usize), Answer::read(message))
        {
            *seen = answer.revision;
        }
    }

    fn name(&mut self, key: u32) {
        const PREFIX: &[u8] = b"/registry/";
        self.key.clear();
        let size = usize::from(self.shape.key_size);
        if size < PREFIX.len() + 10 {
            self.key.resize(size - 8, b'k');
            self.key.extend_from_slice(&u64::from(key).to_be_bytes());
            return;
        }
        self.key.extend_from_slice(PREFIX);
        let digits = size - PREFIX.len();
        self.key.resize(size, b'0');
        let mut rest = key;
        for place in self.key[PREFIX.len()..PREFIX.len() + digits]
            .iter_mut()
            .rev()
        {
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
}

/// What the three answers have in common, read without allocation.
#[derive(Default)]
pub(crate) struct Answer {
    /// The header's revision.
    pub revision: i64,
    kvs: u64,
    /// First eight bytes of the last value.
    marker: u64,
    mod_revision: i64,
    succeeded: bool,
}

impl Answer {
    /// Reads a RangeResponse, PutResponse or TxnResponse as far as the workloads look at it.
    pub(crate) fn read(message: &[u8]) -> Option<Self> {
        let mut answer = Answer::default();
        let mut wire = Wire::new(message);
        while let Some(field) = wire.tag().ok()? {
            match field {
                (1, WireType::Len) => answer.revision = header_revision(wire.bytes().ok()?)?,
                (2, WireType::Len) => answer.key_value(wire.bytes().ok()?)?,
                (2, WireType::Varint) => answer.succeeded = wire.boolean().ok()?,
                // TxnResponse.responses; RangeResponse.more is a varint.
                (3, WireType::Len) => answer.response_op(wire.bytes().ok()?)?,
                _ => wire.skip(field).ok()?,
            }
        }
        (answer.revision > 0).then_some(answer)
    }

    fn is_value_of(&self, key: u32) -> Verdict {
        if self.kvs == 1 && self.marker == u64::from(key) {
            Verdict::Good { changes: false }
        } else {
            Verdict::Wrong
        }
    }

    fn response_op(&mut self, op: &[u8]) -> Option<()> {
        let mut wire = Wire::new(op);
        while let Some(field) = wire.tag().ok()? {
            if field != (1, WireType::Len) {
                wire.skip(field).ok()?;
                continue;
            }
            let mut range = Wire::new(wire.bytes().ok()?);
            while let Some(field) = range.tag().ok()? {
                match field {
                    (2, WireType::Len) => self.key_value(range.bytes().ok()?)?,
                    _ => range.skip(field).ok()?,
                }
            }
        }
        Some(())
    }

    fn key_value(&mut self, kv: &[u8]) -> Option<()> {
        self.kvs += 1;
        let mut wire = Wire::new(kv);
        while let Some(field) = wire.tag().ok()? {
            match field {
                (3, WireType::Varint) => self.mod_revision = wire.varint().ok()? as i64,
                (5, WireType::Len) => {
                    self.marker = u64::from_be_bytes(wire.bytes().ok()?.get(..8)?.try_into().ok()?)
                }
                _ => wire.skip(field).ok()?,
            }
        }
        Some(())
    }
}

fn header_revision(header: &[u8]) -> Option<i64> {
    let mut wire = Wire::new(header);
    while let Some(field) = wire.tag().ok()? {
        match field {
            (3, WireType::Varint) => return Some(wire.varint().ok()? as i64),
            _ => wire.skip(field).ok()?,
        }
    }
    Some(0)
}
