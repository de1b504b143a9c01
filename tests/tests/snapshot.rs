//! Backups with stock etcdctl and etcdutl: what one server saves the other serves, with the same revisions and hashes.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use basalt_pb::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, HashKvRequest,
    HashKvResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
};
use basalt_pb::mvccpb::KeyValue;
use basalt_pb::paths::{kv, maintenance};
use basalt_tests::grpc::Client;
use basalt_tests::server::{ADVERTISED_PEER, Kind, Server};
use basalt_tests::tools;
use tempfile::TempDir;

/// [SNAP-1] [SNAP-2] A backup that a stock etcd cannot serve is none.
#[test]
fn basalt_is_saved_under_load_and_stock_etcd_serves_the_same() {
    save_and_serve(Kind::Basalt);
}

/// What is asked of basalt holds for etcd.
#[test]
fn etcd_is_saved_under_load_and_stock_etcd_serves_the_same() {
    save_and_serve(Kind::Etcd);
}

/// [SNAP-1] A fresh member's backup has no record at all.
#[test]
fn an_empty_store_can_be_saved_and_restored() {
    let (Some(tools), Some(server)) = (Tools::find(), Server::start(Kind::Basalt, QUIET)) else {
        return;
    };
    let folder = TempDir::new().expect("a temporary directory");
    let file = folder.path().join("s.db");
    tools.save(server.address(), &file);
    let restored = tools.etcd_on(&file).expect("etcd is there with its tools");
    assert_eq!(all(&mut connect(&restored), 0), []);
    assert_eq!(
        hash(&mut connect(&restored), 0),
        hash(&mut connect(&server), 0)
    );
}

fn save_and_serve(kind: Kind) {
    let Some(tools) = Tools::find() else { return };
    let Some(server) = Server::start(kind, QUIET) else {
        return;
    };
    let mut client = connect(&server);
    fill(&mut client);
    let folder = TempDir::new().expect("a temporary directory");
    let file = folder.path().join("s.db");
    let newest = put(&mut client, "newest", "acknowledged before the save".into());
    under_load(server.address(), || tools.save(server.address(), &file));
    let status = said(&tools.utl(&["snapshot", "status", "-w", "json"], &file));
    let saved = revision_of(&status);
    assert!(saved >= newest, "{status}");

    let restored = tools.etcd_on(&file).expect("etcd is there with its tools");
    let mut other = connect(&restored);
    assert_eq!(all(&mut other, saved), all(&mut client, saved));
    assert_eq!(all(&mut other, newest), all(&mut client, newest));
    assert_eq!(hash(&mut other, saved), hash(&mut client, saved));
    // The restored member goes on where the saved one was.
    assert_eq!(put(&mut other, "after", Vec::new()), saved + 1);
}

/// Overwritten, deleted and compacted keys, values above a page, and enough keys for three levels of pages.
fn fill(client: &mut Client) {
    for place in 0..2_500 {
        let value = vec![b'v'; place % 1_000];
        put(client, &format!("key-{:04}", place % 2_000), value);
    }
    // Ten pages, and less than a stock etcd's window: our client does not wait for more.
    put(client, "large", vec![b'l'; 40_000]);
    let deleted: DeleteRangeResponse = client
        .ask(
            kv::DELETE_RANGE,
            &DeleteRangeRequest {
                key: "key-01".into(),
                range_end: "key-02".into(),
                prev_kv: false,
            },
        )
        .expect("an answer");
    assert_eq!(deleted.deleted, 100);
    let compaction = CompactionRequest {
        revision: 1_000,
        physical: true,
    };
    let _: CompactionResponse = client.ask(kv::COMPACT, &compaction).expect("an answer");
    put(client, "key-0150", b"again".to_vec());
}

/// Runs `work` while another connection writes without end.
fn under_load(to: SocketAddr, work: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::connect(to).expect("a server");
            while !is_over.load(Ordering::Relaxed) {
                put(&mut client, "load", vec![b'x'; 100]);
            }
        });
        work();
        is_over.store(true, Ordering::Relaxed);
    });
}

fn connect(server: &Server) -> Client {
    Client::connect(server.address()).expect("a server")
}

fn put(client: &mut Client, key: &str, value: Vec<u8>) -> i64 {
    let request = PutRequest {
        key: key.to_owned().into(),
        value: value.into(),
        ..PutRequest::default()
    };
    let answer: PutResponse = client.ask(kv::PUT, &request).expect("an answer");
    answer.header.expect("a header").revision
}

/// All keys at `revision`, with all their numbers.
fn all(client: &mut Client, revision: i64) -> Vec<KeyValue> {
    let request = RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        revision,
        ..RangeRequest::default()
    };
    let answer: RangeResponse = client.ask(kv::RANGE, &request).expect("an answer");
    answer.kvs
}

fn hash(client: &mut Client, revision: i64) -> (u32, i64, i64) {
    let request = HashKvRequest { revision };
    let answer: HashKvResponse = client
        .ask(maintenance::HASH_KV, &request)
        .expect("an answer");
    (answer.hash, answer.compact_revision, answer.hash_revision)
}

/// Stock etcdctl and etcdutl.
struct Tools {
    ctl: std::path::PathBuf,
    utl: std::path::PathBuf,
}

impl Tools {
    fn find() -> Option<Self> {
        // So that no test saves what nobody can serve.
        tools::find("etcd")?;
        Some(Self {
            ctl: tools::find("etcdctl")?,
            utl: tools::find("etcdutl")?,
        })
    }

    fn save(&self, from: SocketAddr, to: &Path) {
        let save = ["--endpoints", &from.to_string(), "snapshot", "save"];
        succeeds(Command::new(&self.ctl).args(save).arg(to));
    }

    fn utl(&self, arguments: &[&str], file: &Path) -> Output {
        succeeds(Command::new(&self.utl).args(arguments).arg(file))
    }

    /// A stock etcd on what stock etcdutl makes of `file`.
    fn etcd_on(&self, file: &Path) -> Option<Server> {
        Server::start_on(Kind::Etcd, QUIET, |data| {
            let data = data.to_str().expect("a plain path");
            let cluster = format!("m={ADVERTISED_PEER}");
            let restore = ["snapshot", "restore", "--data-dir", data];
            let cluster = [
                "--name",
                "m",
                "--initial-cluster",
                &cluster,
                "--initial-advertise-peer-urls",
                ADVERTISED_PEER,
            ];
            self.utl(&[&restore[..], &cluster].concat(), file);
        })
    }
}

fn revision_of(status: &str) -> i64 {
    let status: serde_json::Value = serde_json::from_str(status).expect("JSON");
    status["revision"].as_i64().expect("a number")
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().expect("a program that was found");
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}\n{}{complained}",
        said(&output)
    );
    output
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const QUIET: &[&str] = &["--log-level", "error"];
