//! Backups with stock etcdctl and etcdutl: what one server saves the other serves, with the same revisions and hashes.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use basalt_pb::etcdserverpb::{
    AuthUserAddRequest, AuthUserAddResponse, CompactionRequest, CompactionResponse,
    DeleteRangeRequest, DeleteRangeResponse, HashKvRequest, HashKvResponse, LeaseGrantRequest,
    LeaseGrantResponse, LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest,
    LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse,
};
use basalt_pb::mvccpb::KeyValue;
use basalt_pb::paths::{auth, kv, lease, maintenance};
use basalt_tests::grpc::Client;
use basalt_tests::server::{ADVERTISED_PEER, Kind, Server};
use basalt_tests::tools;
use prost::bytes::Bytes;
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

/// [RESTORE-1] [RESTORE-2] There and back again: etcd to basalt with `basalt restore`, and to etcd with stock tools.
#[test]
fn an_etcd_moves_to_basalt_and_back() {
    move_there_and_back(&[]);
}

/// [RESTORE-2] Clients that saw revisions of the lost cluster must not be told an old state by the same number.
#[test]
fn a_raised_revision_is_the_same_on_both() {
    move_there_and_back(&["--bump-revision", "100000", "--mark-compacted"]);
}

fn move_there_and_back(raise: &[&str]) {
    let (Some(tools), Some(server)) = (Tools::find(), Server::start(Kind::Etcd, QUIET)) else {
        return;
    };
    fill(&mut connect(&server));
    let folder = TempDir::new().expect("a temporary directory");
    let (there, back) = (
        folder.path().join("there.db"),
        folder.path().join("back.db"),
    );
    tools.save(server.address(), &there);
    drop(server);

    let reference = tools.restored(Kind::Etcd, &there, raise);
    let reference = reference.expect("etcd is there with its tools");
    let mut basalt = tools
        .restored(Kind::Basalt, &there, raise)
        .expect("our own");
    let (mut etcd, mut ours) = (connect(&reference), connect(&basalt));
    let revision = hash(&mut ours, 0).2;
    assert_eq!(all(&mut ours, 0), all(&mut etcd, 0));
    assert_eq!(hash(&mut ours, 0), hash(&mut etcd, 0));
    assert_eq!(ids(&basalt), ids(&reference));
    assert_eq!(leases(&mut ours), leases(&mut etcd));
    assert_eq!(leases(&mut ours).len(), 2);
    if raise.is_empty() {
        assert_eq!(all(&mut ours, 1_500), all(&mut etcd, 1_500));
        assert_eq!(hash(&mut ours, 1_500), hash(&mut etcd, 1_500));
    }
    // A deletion and a put on both: what comes next is the same too.
    for client in [&mut ours, &mut etcd] {
        assert_eq!(put(client, "after", vec![b'a']), revision + 1);
    }
    basalt.kill();
    basalt.start_again();
    let mut ours = connect(&basalt);
    assert_eq!(hash(&mut ours, 0), hash(&mut etcd, 0));

    tools.save(basalt.address(), &back);
    let again = tools
        .restored(Kind::Etcd, &back, &[])
        .expect("etcd is there");
    assert_eq!(all(&mut connect(&again), 0), all(&mut ours, 0));
    assert_eq!(hash(&mut connect(&again), 0), hash(&mut ours, 0));
    assert_eq!(leases(&mut connect(&again)), leases(&mut ours));
}

/// [RESTORE-3] What etcdutl refuses is refused in its words, nothing is made and nothing is touched.
#[test]
fn bad_files_and_used_directories_are_refused_in_etcdutls_words() {
    let (Some(tools), Some(server)) = (Tools::find(), Server::start(Kind::Etcd, QUIET)) else {
        return;
    };
    put(&mut connect(&server), "a", vec![b'v'; 10_000]);
    let folder = TempDir::new().expect("a temporary directory");
    let path = |name: &str| folder.path().join(name).display().to_string();
    tools.save(server.address(), Path::new(&path("good")));
    let good = fs::read(path("good")).expect("just saved");
    fs::write(path("cut"), &good[..good.len() / 2 + 1]).expect("room");
    let mut damaged = good.clone();
    damaged[good.len() / 2] ^= 1;
    fs::write(path("damaged"), &damaged).expect("room");
    fs::create_dir(path("used")).expect("room");
    fs::write(path("used") + "/kept", "kept").expect("room");
    let data = path("data");
    for line in [
        "",
        "good good",
        "absent --data-dir data",
        "cut --data-dir data",
        "damaged --data-dir data",
        "good --data-dir used",
        "good --data-dir cut",
        "good --data-dir data --bump-revision 5",
        "good --data-dir data --mark-compacted",
        "good --data-dir data --name other",
    ] {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let theirs = run(Command::new(&tools.utl)
            .args(["snapshot", "restore"])
            .args(&arguments)
            .current_dir(folder.path()));
        // It leaves what it began.
        let _ = fs::remove_dir_all(&data);
        let ours = run(Command::new(tools::basalt())
            .arg("restore")
            .args(&arguments)
            .current_dir(folder.path()));
        assert_eq!(ours.status.code(), theirs.status.code(), "{line}");
        assert_eq!(last_line(&ours), last_line(&theirs), "{line}");
        assert!(!Path::new(&data).exists(), "{line}");
    }
    let kept = fs::read_dir(path("used")).expect("still there").count();
    assert_eq!(kept, 1);
    assert_eq!(fs::read(path("good")).expect("still there"), good);
}

/// [RESTORE-3] Files that are no database at all, and what this release could not keep.
#[test]
fn foreign_files_and_what_cannot_be_kept_are_refused_with_the_reason() {
    let (Some(tools), Some(server)) = (Tools::find(), Server::start(Kind::Etcd, QUIET)) else {
        return;
    };
    let folder = TempDir::new().expect("a temporary directory");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let refused = |file: &str, reason: &str| {
        let arguments = [
            "restore",
            "--skip-hash-check",
            file,
            "--data-dir",
            &path("data"),
        ];
        let ours = run(Command::new(tools::basalt()).args(arguments));
        assert_eq!(ours.status.code(), Some(1));
        assert_eq!(last_line(&ours), format!("Error: {reason}"));
        assert!(!Path::new(&path("data")).exists());
    };
    fs::write(path("text"), "no database\n".repeat(1_000)).expect("room");
    refused(&path("text"), "invalid database");
    fs::write(path("empty"), "").expect("room");
    refused(&path("empty"), "invalid database");
    let folder_text = path("");
    refused(
        &folder_text,
        &format!("open {folder_text}: not a regular file"),
    );
    let added: AuthUserAddResponse = connect(&server)
        .ask(
            auth::USER_ADD,
            &AuthUserAddRequest {
                name: "somebody".to_owned(),
                password: "secret".to_owned(),
                ..AuthUserAddRequest::default()
            },
        )
        .expect("an answer");
    assert!(added.header.is_some());
    tools.save(server.address(), Path::new(&path("users")));
    refused(
        &path("users"),
        "the snapshot has users, which this release of basalt does not support yet",
    );
}

/// Leases as clients see them: id, granted time to live, keys.
fn leases(client: &mut Client) -> Vec<(i64, i64, Vec<Bytes>)> {
    let list: LeaseLeasesResponse = client
        .ask(lease::LEASE_LEASES, &LeaseLeasesRequest {})
        .expect("an answer");
    let mut leases: Vec<_> = list
        .leases
        .iter()
        .map(|status| {
            let asked = LeaseTimeToLiveRequest {
                id: status.id,
                keys: true,
            };
            let left: LeaseTimeToLiveResponse = client
                .ask(lease::LEASE_TIME_TO_LIVE, &asked)
                .expect("an answer");
            assert!(left.granted_ttl - 30 <= left.ttl && left.ttl <= left.granted_ttl + 1);
            let mut keys = left.keys;
            keys.sort_unstable();
            (left.id, left.granted_ttl, keys)
        })
        .collect();
    leases.sort_unstable();
    leases
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
    assert_eq!(leases(&mut other), leases(&mut client));
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
    for id in [7, -8, 9] {
        let grant = LeaseGrantRequest { ttl: 10_000, id };
        let granted: LeaseGrantResponse =
            client.ask(lease::LEASE_GRANT, &grant).expect("an answer");
        assert_eq!(granted.id, id);
        for place in 0..20 {
            let put = PutRequest {
                key: format!("leased-{id}-{place}").into(),
                lease: id,
                ..PutRequest::default()
            };
            let _: PutResponse = client.ask(kv::PUT, &put).expect("an answer");
        }
    }
    let revoke = LeaseRevokeRequest { id: 9 };
    let _: LeaseRevokeResponse = client.ask(lease::LEASE_REVOKE, &revoke).expect("an answer");
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
        self.restored(Kind::Etcd, file, &[])
    }

    /// A server on what its own tool makes of `file`.
    fn restored(&self, kind: Kind, file: &Path, more: &[&str]) -> Option<Server> {
        Server::start_on(kind, QUIET, |data| {
            let data = data.to_str().expect("a plain path");
            let cluster = format!("m={ADVERTISED_PEER}");
            let mut restore = match kind {
                Kind::Etcd => Command::new(&self.utl),
                Kind::Basalt => Command::new(tools::basalt()),
            };
            if kind == Kind::Etcd {
                restore.arg("snapshot");
            }
            let cluster = [
                "restore",
                "--data-dir",
                data,
                "--name",
                "m",
                "--initial-cluster",
                &cluster,
                "--initial-advertise-peer-urls",
                ADVERTISED_PEER,
            ];
            succeeds(restore.args(cluster).args(more).arg(file));
        })
    }
}

/// Cluster and member.
fn ids(server: &Server) -> (u64, u64) {
    let answer: RangeResponse = connect(server)
        .ask(
            kv::RANGE,
            &RangeRequest {
                key: vec![1].into(),
                ..RangeRequest::default()
            },
        )
        .expect("an answer");
    let header = answer.header.expect("a header");
    (header.cluster_id, header.member_id)
}

fn run(command: &mut Command) -> Output {
    command.output().expect("a program that was found or built")
}

fn last_line(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines().last().unwrap_or_default().to_owned()
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
