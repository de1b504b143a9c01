use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use basalt_pb::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request as Op;
use pb::response_op::Response;

use crate::check::history::{Call, Outcome, Request};
use crate::grpc::Client;

/// Clients that put, get and compare-and-put a few keys, one call at a time each, and remember every one.
pub(super) struct Load {
    began: Instant,
    calls: Mutex<Vec<Call>>,
    /// Calls that were answered.
    pub(super) answered: AtomicU64,
    /// Those of them that may change something.
    pub(super) written: AtomicU64,
    next_client: AtomicU32,
    pub(super) stop: AtomicBool,
}

impl Load {
    pub(super) fn new() -> Load {
        Load {
            began: Instant::now(),
            calls: Mutex::default(),
            answered: AtomicU64::new(0),
            written: AtomicU64::new(0),
            next_client: AtomicU32::new(0),
            stop: AtomicBool::new(false),
        }
    }

    pub(super) fn calls(self) -> Vec<Call> {
        self.calls.into_inner().expect("no panic while it is held")
    }

    /// One client until it is stopped; after a call that is not answered it is another one, at the next member.
    pub(super) fn run(&self, members: &[SocketAddr], seed: u64, pause: Duration) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut at = random.usize(..members.len());
        while !self.stop.load(Ordering::Relaxed) {
            at = (at + 1) % members.len();
            let Ok(mut connection) = Client::connect_within(members[at], PATIENCE) else {
                thread::sleep(RETRY);
                continue;
            };
            let client = self.next_client.fetch_add(1, Ordering::Relaxed);
            while !self.stop.load(Ordering::Relaxed) {
                let number = self.next_client.load(Ordering::Relaxed);
                let op = op(&mut random, client, number);
                if !self.ask(&mut connection, client, op) {
                    break;
                }
                thread::sleep(pause);
            }
        }
    }

    /// Whether it was answered.
    fn ask(&self, connection: &mut Client, client: u32, op: Op) -> bool {
        let called = self.now();
        let answer = match &op {
            Op::RequestPut(put) => connection
                .ask::<pb::PutResponse>("/etcdserverpb.KV/Put", put)
                .map(|answer| (answer.header, Response::ResponsePut(answer))),
            Op::RequestRange(range) => connection
                .ask::<pb::RangeResponse>("/etcdserverpb.KV/Range", range)
                .map(|answer| (answer.header, Response::ResponseRange(answer))),
            Op::RequestTxn(txn) => connection
                .ask::<pb::TxnResponse>("/etcdserverpb.KV/Txn", txn)
                .map(|answer| (answer.header, Response::ResponseTxn(answer))),
            Op::RequestDeleteRange(_) => unreachable!("deletions are not among these calls"),
        };
        let is_answered = answer.is_ok();
        let (returned, outcome) = match answer {
            Ok((header, body)) => {
                let revision = header.map_or(0, |header| header.revision);
                let body = Some(body);
                (self.now(), Outcome::Done { revision, body })
            }
            Err(_) => (u64::MAX, Outcome::Unknown),
        };
        let is_written = is_answered && !matches!(op, Op::RequestRange(_));
        for (counter, counts) in [(&self.answered, is_answered), (&self.written, is_written)] {
            counter.fetch_add(u64::from(counts), Ordering::Relaxed);
        }
        self.calls
            .lock()
            .expect("no panic while it is held")
            .push(Call {
                client,
                called,
                returned,
                request: Request::Op(op),
                outcome,
            });
        is_answered
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("no run takes centuries")
    }
}

/// Values are told apart by who wrote them, and when.
fn op(random: &mut fastrand::Rng, client: u32, number: u32) -> Op {
    let key = |random: &mut fastrand::Rng| format!("chaos/{:02}", random.u8(..KEYS));
    let value = format!("{client}.{number}.{}", random.u32(..));
    let put = |key: String, value: &str| pb::PutRequest {
        key: key.into(),
        value: value.to_owned().into(),
        ..pb::PutRequest::default()
    };
    let get = |key: String| pb::RangeRequest {
        key: key.into(),
        ..pb::RangeRequest::default()
    };
    match random.u8(..10) {
        0..4 => Op::RequestPut(put(key(random), &value)),
        4..7 => Op::RequestRange(get(key(random))),
        7 => Op::RequestRange(pb::RangeRequest {
            serializable: true,
            ..get(key(random))
        }),
        _ => {
            let (first, second) = (key(random), key(random));
            let op = |request| pb::RequestOp {
                request: Some(request),
            };
            let version = random.i64(0..4);
            let mut success = vec![op(Op::RequestPut(put(first.clone(), &value)))];
            if second != first {
                success.push(op(Op::RequestPut(put(second, &value))));
            }
            Op::RequestTxn(pb::TxnRequest {
                compare: vec![pb::Compare {
                    result: CompareResult::Greater.into(),
                    target: CompareTarget::Version.into(),
                    key: first.clone().into(),
                    target_union: Some(TargetUnion::Version(version)),
                    ..pb::Compare::default()
                }],
                success,
                failure: vec![op(Op::RequestRange(get(first)))],
            })
        }
    }
}

/// Few, so that calls meet.
const KEYS: u8 = 24;
/// Longer than an election; a call that takes longer counts as not answered.
const PATIENCE: Duration = Duration::from_secs(4);
const RETRY: Duration = Duration::from_millis(50);
