//! The API against a store that the test fills and a log that the test answers for.

use std::collections::BTreeMap;
use std::time::Duration;

use basalt_engine::disk::{Disk, DiskAnswer, DiskError, DiskOp};
use basalt_engine::io::DataDir;
use basalt_engine::mvcc::{Reader, Store, StoreConfig};
use basalt_engine::replica::{Ask, ClusterView, Outcome, Published, Refused, Replies, Status};
use basalt_engine::types::{Index, LeaseId, ReplyTo, RequestId, Term};
use basalt_engine::watch::Dispatcher;
use basalt_net::grpc::{Code, Flow, Metadata, Shared, Status as Ended};
use basalt_pb::etcdserverpb as pb;
use basalt_pb::paths::{cluster, health, kv, lease, maintenance};
use pb::range_request::{SortOrder, SortTarget};
use prost::Message as _;

use super::*;
use crate::config::Membership;

mod elections;
mod leases;
mod members;
mod reads;
mod services;
mod snapshots;
mod watches;
mod writes;

/// What became of each call, by its stream.
#[derive(Default)]
struct FakeCalls {
    messages: BTreeMap<u32, Vec<Vec<u8>>>,
    ended: BTreeMap<u32, Ended>,
    /// What `send` answers.
    is_full: bool,
    /// The connection's client takes nothing.
    has_no_room: bool,
}

impl Calls for FakeCalls {
    fn reply(&mut self, call: CallId, write: impl FnOnce(&mut Vec<u8>)) {
        let _ = self.send(call, write);
        self.finish(call, Ended::OK);
    }

    fn fail(&mut self, call: CallId, status: Ended) {
        self.finish(call, status);
    }

    fn send(&mut self, call: CallId, write: impl FnOnce(&mut Vec<u8>)) -> Flow {
        let mut message = Vec::new();
        write(&mut message);
        if !self.ended.contains_key(&call.stream) {
            self.messages.entry(call.stream).or_default().push(message);
        }
        if self.is_full {
            Flow::Full
        } else {
            Flow::Ready
        }
    }

    fn send_shared(
        &mut self,
        call: CallId,
        write: impl FnOnce(&mut Vec<u8>),
        shared: Shared,
    ) -> Flow {
        self.send(call, |out| {
            write(out);
            out.extend_from_slice(shared.bytes());
        })
    }

    fn finish(&mut self, call: CallId, status: Ended) {
        self.ended.entry(call.stream).or_insert(status);
    }

    fn has_room(&mut self, _: CallId) -> bool {
        !self.has_no_room
    }

    fn reply_http(&mut self, _: CallId, _: h1::Response) {
        panic!("no HTTP/1.1 here");
    }
}

struct FakeBackend {
    store: Store,
    dispatcher: Dispatcher,
    reader: Reader,
    published: Published,
    proposed: Vec<(ReplyTo, u32, Vec<u8>)>,
    asked: Vec<(ReplyTo, Ask)>,
    answers: Vec<(ReplyTo, Outcome)>,
    orders: Vec<(ReplyTo, Order)>,
    works: Vec<(ReplyTo, Work)>,
    is_busy: bool,
    disk: Box<dyn Disk>,
}

/// All records are in memory.
struct NoDisk;

impl Disk for NoDisk {
    fn perform(&mut self, op: DiskOp) -> Result<DiskAnswer, DiskError> {
        panic!("{op:?}");
    }
}

impl Backend for FakeBackend {
    fn reader(&self) -> &Reader {
        &self.reader
    }

    fn published(&self) -> &Published {
        &self.published
    }

    fn propose(&mut self, to: ReplyTo, _: RequestId, field: u32, body: &[u8]) -> Result<(), Busy> {
        if self.is_busy {
            return Err(Busy);
        }
        self.proposed.push((to, field, body.to_vec()));
        Ok(())
    }

    fn ask(&mut self, to: ReplyTo, ask: Ask) -> Result<(), Busy> {
        if self.is_busy {
            return Err(Busy);
        }
        self.asked.push((to, ask));
        Ok(())
    }

    fn order(&mut self, to: ReplyTo, order: Order) -> Result<(), Busy> {
        if self.is_busy {
            return Err(Busy);
        }
        self.orders.push((to, order));
        Ok(())
    }

    fn submit(&mut self, to: ReplyTo, work: Work) -> Result<(), Busy> {
        self.works.push((to, work));
        Ok(())
    }

    fn turn(&mut self, _: Instant, replies: &mut Replies) -> Option<Instant> {
        assert!(replies.items.is_empty());
        let newest = self.store.published_revision();
        self.dispatcher.dispatch(newest, Term(TERM), |_| {});
        for (to, outcome) in self.answers.drain(..) {
            replies.push(to, outcome);
        }
        for (to, mut work) in self.works.drain(..) {
            let mut answer = Vec::new();
            let outcome = loop {
                match work(&mut *self.disk, &mut answer) {
                    Step::Again => {}
                    Step::Refused(refused) => break Outcome::Refused(refused),
                    Step::Done => {
                        let start = replies.bytes.len();
                        replies.bytes.extend_from_slice(&answer);
                        let end = replies.bytes.len();
                        break Outcome::Encoded { start, end };
                    }
                }
            };
            replies.push(to, outcome);
        }
        None
    }

    fn on_ready(&mut self, _: usize) {}

    fn http(&mut self, _: &h1::Request<'_>) -> h1::Response {
        panic!("no HTTP/1.1 here");
    }
}

struct Bench {
    api: Api<FakeBackend>,
    calls: FakeCalls,
    now: Instant,
    next_stream: u32,
}

const CLUSTER: u64 = 7;
const MEMBER: u64 = 9;
const TERM: u64 = 2;

impl Bench {
    /// A leader that is sure of itself, with an empty store.
    fn new() -> Bench {
        let (store, reader) = Store::new(StoreConfig {
            // For who asks the store to evict.
            cache_bytes: 0,
            ..StoreConfig::default()
        });
        let published = Published::default();
        published.read_gate().set(true);
        published.set_status(leading());
        let hub = Hub::new(ClusterId(CLUSTER), MemberId(MEMBER), 1);
        let dispatcher = Dispatcher::new(Arc::clone(&hub), &reader).expect("nothing is held");
        let config = ApiConfig {
            net_loop: 0,
            cluster: ClusterId(CLUSTER),
            member: MemberId(MEMBER),
            quota_bytes: 0,
            max_request_bytes: 1_572_864,
            max_txn_ops: 128,
            lease_ttl_min: 2,
            ids: Arc::new(RequestIds::new(MemberId(MEMBER), 1)),
            hub,
            watch_progress_interval: Duration::ZERO,
            membership: Membership {
                is_strict: true,
                learners_max: 1,
            },
            connectivity: Arc::default(),
        };
        let backend = FakeBackend {
            store,
            dispatcher,
            reader,
            published,
            proposed: Vec::new(),
            asked: Vec::new(),
            answers: Vec::new(),
            orders: Vec::new(),
            works: Vec::new(),
            is_busy: false,
            disk: Box::new(NoDisk),
        };
        Bench {
            api: Api::new(config, Arc::default(), backend),
            calls: FakeCalls::default(),
            now: Instant::now(),
            next_stream: 1,
        }
    }

    fn put(&mut self, key: &str, value: &str) {
        self.put_all([(key, value.as_bytes())]);
    }

    /// One revision for all.
    fn put_all<'a>(&mut self, records: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
        let store = &mut self.api.services.backend.store;
        let mut write = store.write();
        for (key, value) in records {
            write.put(key.as_bytes(), value, LeaseId(0)).unwrap();
        }
        write.finish();
        store.publish();
    }

    fn ask(&mut self, path: &str, message: &impl prost::Message) -> u32 {
        self.ask_bytes(path, &message.encode_to_vec(), &Metadata::default())
    }

    fn ask_bytes(&mut self, path: &str, message: &[u8], meta: &Metadata) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let request = Request {
            path: path.as_bytes(),
            message,
            meta,
            timeout: None,
            last: true,
        };
        self.api.on_request(&mut self.calls, call(stream), request);
        stream
    }

    fn turn(&mut self) -> Option<Instant> {
        self.api.on_turn(&mut self.calls, self.now)
    }

    /// The answer of a unary call that has ended well.
    fn answer<M: prost::Message + Default>(&self, stream: u32) -> M {
        assert_eq!(self.calls.ended.get(&stream), Some(&Ended::OK));
        let messages = &self.calls.messages[&stream];
        assert_eq!(messages.len(), 1);
        M::decode(&messages[0][..]).unwrap()
    }

    fn error(&self, stream: u32) -> Ended {
        assert!(!self.calls.messages.contains_key(&stream));
        self.calls.ended[&stream].clone()
    }

    fn range(&mut self, request: &pb::RangeRequest) -> pb::RangeResponse {
        let stream = self.ask(kv::RANGE, request);
        while !self.calls.ended.contains_key(&stream) {
            self.turn();
        }
        self.answer(stream)
    }

    /// The proposals so far, none of which is answered by this.
    fn proposed(&mut self) -> Vec<(ReplyTo, u32, Vec<u8>)> {
        std::mem::take(&mut self.api.services.backend.proposed)
    }
}

fn call(stream: u32) -> CallId {
    CallId {
        conn: 3,
        generation: 1,
        stream,
    }
}

fn leading() -> Status {
    Status {
        leader: Some(MemberId(MEMBER)),
        raft_term: Term(TERM),
        committed: Index(4),
        applied: Index(4),
        applied_term: Term(TERM),
        db_size: 20_480,
        db_size_in_use: 16_384,
        is_ready: true,
        is_learner: false,
        failed: None,
    }
}

fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

fn prefix(start: &str, end: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        range_end: end.to_owned().into(),
        ..get(start)
    }
}

fn keys(response: &pb::RangeResponse) -> Vec<&str> {
    let keys = response.kvs.iter().map(|kv| &kv.key);
    keys.map(|key| std::str::from_utf8(key).unwrap()).collect()
}
