//! Network loops beside an engine loop: the same promises as with one thread for all.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use basalt_pb::etcdserverpb::{PutRequest, PutResponse, RangeRequest, RangeResponse};
use basalt_tests::clients;
use basalt_tests::grpc::Client;
use basalt_tests::server::{Kind, PATIENCE, Server};
use prost::Message;
use rustix::process::{Pid, Signal, kill_process};

/// [DUR-1] Answers that got lost or mixed up between the loops, or a stop that forgets what it answered.
#[test]
fn two_network_loops_answer_everybody_and_a_stop_in_mid_load_loses_nothing() {
    let flags = ["--threads", "2", "--log-level", "error"];
    let mut server = Server::start(Kind::Basalt, &flags).expect("basalt is built");
    let to = server.address();
    let acked = AtomicU64::new(0);
    let loads: Vec<BTreeMap<String, i64>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let acked = &acked;
                scope.spawn(move || load(to, number, acked))
            })
            .collect();
        let began = Instant::now();
        while acked.load(Ordering::Relaxed) < ACKS_BEFORE_STOP {
            assert!(began.elapsed() < PATIENCE, "the load stands still");
            assert!(!clients.iter().all(|client| client.is_finished()));
            thread::sleep(POLL);
        }
        terminate(&mut server);
        clients
            .into_iter()
            .map(|client| client.join().expect("no wrong answer"))
            .collect()
    });
    server.start_again();
    let mut client = Client::connect(to).expect("it says that it is ready");
    let mut revisions = BTreeMap::new();
    for (key, revision) in loads.iter().flatten() {
        let (value, found) = get(&mut client, key).unwrap_or_else(|| panic!("{key} is lost"));
        assert_eq!((value, found), (key.clone(), *revision));
        let other = revisions.insert(revision, key);
        assert_eq!(other, None, "two writes were given revision {revision}");
    }
    assert!(revisions.len() as u64 >= ACKS_BEFORE_STOP);
}

/// [CLIENT-1] Events are made on one thread and sent by others: Go's client must not notice.
#[test]
fn two_network_loops_serve_a_go_client_and_its_watches() {
    let Some(program) = clients::go_program("clientv3") else {
        return;
    };
    let flags = ["--threads", "2", "--log-level", "error"];
    let server = Server::start(Kind::Basalt, &flags).expect("basalt is built");
    let mut check = Command::new(program);
    check.args(["-endpoint", &server.address().to_string()]);
    let output = check.output().expect("just built");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// Puts new keys and reads acknowledged ones, many at a time, until the server ends the connection. Returns what it was told.
fn load(to: SocketAddr, number: usize, acked: &AtomicU64) -> BTreeMap<String, i64> {
    let mut client = Client::connect(to).expect("the server is ready");
    let mut known: BTreeMap<String, i64> = BTreeMap::new();
    let mut open = BTreeMap::new();
    for round in 0.. {
        while open.len() < IN_FLIGHT {
            let key = format!("threads/{number}/{round:06}/{}", open.len());
            open.insert(client.call(PUT, &put(&key)), (key, None));
            if let Some((key, revision)) = known.last_key_value() {
                let stream = client.call(RANGE, &range(key));
                open.insert(stream, (key.clone(), Some(*revision)));
            }
        }
        let Ok(answer) = client.answer() else { break };
        let (key, read) = open.remove(&answer.stream).expect("a call of ours");
        // Without a message it was refused, which only a stop may do.
        let Some(message) = answer.message else { break };
        if let Some(revision) = read {
            let answer = RangeResponse::decode(&message[..]).expect("a RangeResponse");
            let found: Vec<_> = answer.kvs.iter().map(|kv| kv.mod_revision).collect();
            assert_eq!(found, [revision], "{key}");
        } else {
            let answer = PutResponse::decode(&message[..]).expect("a PutResponse");
            known.insert(key, answer.header.expect("a header").revision);
            acked.fetch_add(1, Ordering::Relaxed);
        }
    }
    known
}

/// Asks for an orderly end and waits for it.
fn terminate(server: &mut Server) {
    let process = i32::try_from(server.process_id()).expect("a process id");
    let process = Pid::from_raw(process).expect("not 0");
    kill_process(process, Signal::TERM).expect("a child of ours");
    let began = Instant::now();
    while server.is_alive() {
        assert!(began.elapsed() < STOP_MAX, "the stop takes too long");
        thread::sleep(POLL);
    }
}

fn get(client: &mut Client, key: &str) -> Option<(String, i64)> {
    let answer: RangeResponse = client.ask(RANGE, &range(key)).expect("a read");
    let kv = answer.kvs.first()?;
    let value = String::from_utf8_lossy(&kv.value).into_owned();
    Some((value, kv.mod_revision))
}

fn put(key: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: key.to_owned().into(),
        ..PutRequest::default()
    }
}

fn range(key: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        ..RangeRequest::default()
    }
}

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
/// More than there are loops, so that each has several.
const CLIENTS: usize = 6;
const IN_FLIGHT: usize = 32;
const ACKS_BEFORE_STOP: u64 = 3_000;
/// Twice what a stop may take, as the machine may be busy.
const STOP_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
