//! Kills the real process again and again under load; whatever it had answered must be there when it comes back.
//!
//! `BASALT_KILLS` says how often (a few by default). The page cache survives a kill: what a power cut does is the crash enumeration's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use basalt_pb::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse, request_op,
};
use basalt_tests::grpc::Client;
use basalt_tests::server::{Kind, Server};
use basalt_tests::tools;
use prost::Message;

/// [DUR-1] [DUR-2] [DUR-3] An acknowledged write is lost, half a txn is found, or a revision is given twice.
#[test]
fn killed_under_load_basalt_loses_nothing_it_answered() {
    kill_again_and_again(Kind::Basalt, tools::count("BASALT_KILLS", 5));
}

/// The checks above hold for stock etcd: they ask for nothing that nobody can give.
#[test]
fn killed_under_load_etcd_loses_nothing_it_answered() {
    kill_again_and_again(Kind::Etcd, 2);
}

fn kill_again_and_again(kind: Kind, kills: u64) {
    let Some(mut server) = Server::start(kind, &["--log-level", "error"]) else {
        return;
    };
    let mut random = fastrand::Rng::with_seed(kills);
    let mut known = Known::default();
    for round in 0..kills {
        let acks = random.u64(ACKS_BEFORE_KILL);
        known.add(load_until_killed(&mut server, round, acks));
        server.start_again();
        let found = Found::read(server.address());
        known.check(&found, round);
        known.seen_revision = found.revision;
        if known.acked.len() > FORGET_ABOVE {
            known.forget(server.address());
        }
    }
    println!(
        "{kills} kills, {} acknowledged writes, none lost, revision {}",
        known.writes, known.seen_revision
    );
}

/// Runs the load threads, kills the server after so many acknowledgements, and returns what each thread was told.
fn load_until_killed(server: &mut Server, round: u64, acks: u64) -> Vec<Load> {
    let acked = AtomicU64::new(0);
    let to = server.address();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..LOAD_THREADS)
            .map(|place| {
                let acked = &acked;
                scope.spawn(move || Load::run(to, round, place, acked))
            })
            .collect();
        while acked.load(Ordering::Relaxed) < acks
            && threads.iter().any(|thread| !thread.is_finished())
        {
            thread::yield_now();
        }
        server.kill();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic under load"))
            .collect()
    })
}

/// What one connection was told until it broke.
#[derive(Default)]
struct Load {
    /// Key, its value and the revision that was answered.
    acked: Vec<(String, String, i64)>,
    /// Pairs of keys that one txn put, answered or not.
    pairs: Vec<(String, String)>,
}

enum Sent {
    Put { key: String },
    Pair { left: String, right: String },
}

impl Load {
    fn run(to: SocketAddr, round: u64, place: usize, acked: &AtomicU64) -> Self {
        let mut load = Load::default();
        let Ok(mut client) = Client::connect(to) else {
            return load;
        };
        let mut open = BTreeMap::new();
        for number in 0..WRITES_MAX {
            while open.len() < IN_FLIGHT {
                let name = format!("kill/{round:04}/{place}/{number:06}/{}", open.len());
                let (stream, sent) = if number % 8 == 0 {
                    send_pair(&mut client, &name)
                } else {
                    send_put(&mut client, &name)
                };
                if let Sent::Pair { left, right } = &sent {
                    load.pairs.push((left.clone(), right.clone()));
                }
                open.insert(stream, sent);
            }
            let Ok(answer) = client.answer() else {
                return load;
            };
            let sent = open
                .remove(&answer.stream)
                .expect("an answer to a call of ours");
            let message = answer.message.expect("nothing is refused here");
            load.note(sent, &message);
            acked.fetch_add(1, Ordering::Relaxed);
        }
        load
    }

    fn note(&mut self, sent: Sent, message: &[u8]) {
        match sent {
            Sent::Put { key } => {
                let answer = PutResponse::decode(message).expect("a PutResponse");
                self.acked
                    .push((key.clone(), key, answer.header.expect("a header").revision));
            }
            Sent::Pair { left, right } => {
                let answer = TxnResponse::decode(message).expect("a TxnResponse");
                let revision = answer.header.expect("a header").revision;
                self.acked.push((left.clone(), left, revision));
                self.acked.push((right.clone(), right, revision));
            }
        }
    }
}

fn send_put(client: &mut Client, key: &str) -> (u32, Sent) {
    (
        client.call("/etcdserverpb.KV/Put", &put(key)),
        Sent::Put {
            key: key.to_owned(),
        },
    )
}

fn send_pair(client: &mut Client, name: &str) -> (u32, Sent) {
    let (left, right) = (format!("{name}/left"), format!("{name}/right"));
    let op = |key: &str| RequestOp {
        request: Some(request_op::Request::RequestPut(put(key))),
    };
    let txn = TxnRequest {
        success: vec![op(&left), op(&right)],
        ..TxnRequest::default()
    };
    (
        client.call("/etcdserverpb.KV/Txn", &txn),
        Sent::Pair { left, right },
    )
}

fn put(key: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: key.to_owned().into(),
        ..PutRequest::default()
    }
}

/// All that was ever acknowledged.
#[derive(Default)]
struct Known {
    acked: BTreeMap<String, (String, i64)>,
    pairs: Vec<(String, String)>,
    /// The revision that the last restart told.
    seen_revision: i64,
    /// Acknowledged writes, those that were deleted since too.
    writes: u64,
}

impl Known {
    fn add(&mut self, loads: Vec<Load>) {
        let mut revisions: BTreeSet<(i64, bool)> = BTreeSet::new();
        for load in loads {
            self.pairs.extend(load.pairs);
            for (key, value, revision) in load.acked {
                assert!(
                    revision > self.seen_revision,
                    "{key} was given revision {revision} again"
                );
                let is_right = key.ends_with("/right");
                assert!(
                    revisions.insert((revision, is_right)),
                    "two writes were given revision {revision}"
                );
                self.acked.insert(key, (value, revision));
                self.writes += 1;
            }
        }
    }

    fn check(&self, found: &Found, round: u64) {
        for (key, (value, revision)) in &self.acked {
            let Some((there, at)) = found.keys.get(key) else {
                panic!("round {round}: {key}, acknowledged at {revision}, is lost")
            };
            assert_eq!((there, at), (value, revision), "round {round}: {key}");
        }
        for (left, right) in &self.pairs {
            let both = (
                found.keys.contains_key(left),
                found.keys.contains_key(right),
            );
            assert_eq!(both.0, both.1, "round {round}: half of the txn of {left}");
        }
        let newest = self
            .acked
            .values()
            .map(|(_, revision)| *revision)
            .max()
            .unwrap_or(0);
        assert!(found.revision >= newest);
        assert!(found.revision >= self.seen_revision);
    }
}

impl Known {
    /// Deletes and compacts what was checked, so that a round costs the same after a thousand of them.
    fn forget(&mut self, server: SocketAddr) {
        let mut client = Client::connect(server).expect("it says that it is ready");
        let all = DeleteRangeRequest {
            key: "kill/".into(),
            range_end: "kill0".into(),
            ..DeleteRangeRequest::default()
        };
        let deleted: DeleteRangeResponse = client
            .ask("/etcdserverpb.KV/DeleteRange", &all)
            .expect("a delete is answered");
        assert!(deleted.deleted as usize >= self.acked.len());
        self.seen_revision = deleted.header.expect("a header").revision;
        let compact = CompactionRequest {
            revision: self.seen_revision,
            ..CompactionRequest::default()
        };
        let _: CompactionResponse = client
            .ask("/etcdserverpb.KV/Compact", &compact)
            .expect("a compaction is answered");
        self.acked.clear();
        self.pairs.clear();
    }
}

/// The whole key space after a restart.
struct Found {
    keys: BTreeMap<String, (String, i64)>,
    revision: i64,
}

impl Found {
    /// Pages through everything at one revision.
    fn read(from: SocketAddr) -> Self {
        let mut client = Client::connect(from).expect("it says that it is ready");
        let mut found = Found {
            keys: BTreeMap::new(),
            revision: 0,
        };
        let mut key = b"kill/".to_vec();
        loop {
            let request = RangeRequest {
                key: key.clone().into(),
                range_end: b"kill0".to_vec().into(),
                limit: PAGE,
                revision: found.revision,
                ..RangeRequest::default()
            };
            let page: RangeResponse = client
                .ask("/etcdserverpb.KV/Range", &request)
                .expect("a read after the restart");
            if found.revision == 0 {
                found.revision = page.header.as_ref().expect("a header").revision;
            }
            for kv in &page.kvs {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                found
                    .keys
                    .insert(text(&kv.key), (text(&kv.value), kv.mod_revision));
            }
            let Some(last) = page.kvs.last().filter(|_| page.more) else {
                return found;
            };
            key = [&last.key[..], b"\0"].concat();
        }
    }
}

/// The kill comes after so many acknowledgements of the round, so that it falls into start-up work, steady load and checkpoints alike.
const ACKS_BEFORE_KILL: std::ops::Range<u64> = 1..6_000;
const LOAD_THREADS: usize = 3;
const IN_FLIGHT: usize = 16;

/// A load thread ends by itself after so many writes, so that a server that cannot be killed ends the test all the same.
const WRITES_MAX: usize = 20_000;
const PAGE: i64 = 1_000;

/// Acknowledged writes that are kept before they are deleted.
const FORGET_ABOVE: usize = 20_000;
