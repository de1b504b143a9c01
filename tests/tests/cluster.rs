//! Three real processes as one cluster, asked by stock etcdctl and by curl's kind of client.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use basalt_pb::etcdserverpb::alarm_request::AlarmAction;
use basalt_pb::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, PutRequest, PutResponse, RangeRequest, RangeResponse,
};
use basalt_tests::cluster::Cluster;
use basalt_tests::grpc::Client;
use basalt_tests::server::PATIENCE;
use basalt_tests::{http, tools};
use serde_json::Value;

/// [MEM-4] Members that do not hear each other, or a follower that does not forward, would show here first.
#[test]
fn three_members_serve_writes_and_linearizable_reads_from_each() {
    let Some(ctl) = tools::find("etcdctl") else {
        return;
    };
    let cluster = Cluster::start(3, QUIET);
    for at in 0..3 {
        let from = Etcdctl::at(&ctl, &cluster, &[at]);
        from.ok(&["put", &format!("key{at}"), &format!("value{at}")]);
        for read in 0..3 {
            let found = Etcdctl::at(&ctl, &cluster, &[read]).ok(&[
                "get",
                &format!("key{at}"),
                "--print-value-only",
            ]);
            assert_eq!(
                found.trim(),
                format!("value{at}"),
                "written at {at}, read at {read}"
            );
        }
    }
    let ctl = Etcdctl::at(&ctl, &cluster, &[1]);
    let health = ctl.json(&["endpoint", "health", "--cluster"]);
    let health = health.as_array().expect("a list");
    assert_eq!(health.len(), 3);
    assert!(health.iter().all(|it| it["health"] == true), "{health:?}");
    let statuses = ctl.json(&["endpoint", "status", "--cluster"]);
    let statuses = statuses.as_array().expect("a list");
    assert_eq!(statuses.len(), 3);
    let leader = &statuses[0]["Status"]["leader"];
    assert!(leader.as_u64().is_some_and(|id| id != 0));
    for status in statuses {
        assert_eq!(status["Status"]["leader"], *leader);
        assert_eq!(
            status["Status"]["raftTerm"],
            statuses[0]["Status"]["raftTerm"]
        );
    }
    let members = ctl.json(&["member", "list"]);
    let members = members["members"].as_array().expect("a list").clone();
    let names: Vec<&str> = members
        .iter()
        .filter_map(|it| it["name"].as_str())
        .collect();
    assert_eq!(names.len(), 3);
    assert!(
        members.iter().all(|it| it["clientURLs"].is_array()),
        "{members:?}"
    );
    all_equal(&ctl);
}

/// [DUR-6] An acknowledged write is lost with the leader, or the others take too long to go on.
#[test]
fn killed_leaders_take_no_acknowledged_write_with_them() {
    let Some(ctl) = tools::find("etcdctl") else {
        return;
    };
    let mut cluster = Cluster::start(3, QUIET);
    let kills = tools::count("BASALT_LEADER_KILLS", 3);
    let mut acked = BTreeMap::new();
    let mut gaps = Vec::new();
    for round in 0..kills {
        let leader = leader(&ctl, &cluster, &[0, 1, 2]);
        let load = Load::default();
        let addresses: Vec<SocketAddr> = (0..3).map(|at| cluster.client(at)).collect();
        let gap = thread::scope(|scope| {
            let _end = load.end_with_scope();
            for place in 0..3 {
                let (load, addresses) = (&load, &addresses);
                scope.spawn(move || load.run(addresses, place, round));
            }
            wait_until("some writes", || load.count() > 300);
            cluster.kill(leader);
            let killed = Instant::now();
            let before = load.count();
            // What was on its way from the others may still be answered; a new leader answers more than that.
            wait_until("writes after the kill", || load.count() > before + 200);
            killed.elapsed()
        });
        gaps.push(gap);
        acked.extend(load.acked.into_inner().expect("no panic under load"));
        cluster.start_again(leader);
        cluster.await_ready(leader);
        for at in 0..3 {
            let found = read_all(cluster.client(at));
            for (key, value) in &acked {
                assert_eq!(
                    found.get(key),
                    Some(value),
                    "{key} is lost at member {at} in round {round}"
                );
            }
        }
    }
    println!(
        "{kills} leaders killed, {} acknowledged writes, none lost, gaps {gaps:?}",
        acked.len()
    );
    all_equal(&Etcdctl::at(&ctl, &cluster, &[0, 1, 2]));
}

/// [LEASE-13] A follower that does not ask the leader would let leases end that their owners renew.
#[test]
fn leases_are_kept_alive_through_every_member() {
    let Some(ctl) = tools::find("etcdctl") else {
        return;
    };
    let cluster = Cluster::start(3, QUIET);
    let mut ids = Vec::new();
    for at in 0..3 {
        let ctl = Etcdctl::at(&ctl, &cluster, &[at]);
        let granted = ctl.ok(&["lease", "grant", "60"]);
        let (id, said) = granted["lease ".len()..].split_once(' ').expect("an id");
        assert_eq!(said, "granted with TTL(60s)\n");
        let key = format!("key{at}");
        ctl.ok(&["put", &key, "value", "--lease", id]);
        let said = ctl.ok(&["lease", "keep-alive", "--once", id]);
        assert_eq!(said, format!("lease {id} keepalived with TTL(60)\n"));
        let said = ctl.ok(&["lease", "timetolive", "--keys", id]);
        let keys = format!("attached keys([{key}])\n");
        let left = said.strip_suffix(&keys).expect("its keys");
        assert!(
            left.contains("granted with TTL(60s), remaining(5"),
            "{said}"
        );
        ids.push(id.to_owned());
    }
    let ctl = Etcdctl::at(&ctl, &cluster, &[2]);
    assert_eq!(ctl.ok(&["lease", "list"]).lines().count(), 4);
    ctl.ok(&["lease", "revoke", &ids[0]]);
    let said = ctl.ok(&["lease", "timetolive", &ids[0]]);
    assert_eq!(said, format!("lease {} already expired\n", ids[0]));
}

/// [MEM-5]
#[test]
fn leadership_moves_to_whom_it_is_given() {
    let Some(ctl) = tools::find("etcdctl") else {
        return;
    };
    let cluster = Cluster::start(3, QUIET);
    let old = leader(&ctl, &cluster, &[0, 1, 2]);
    let new = (old + 1) % 3;
    let target = format!("{:x}", id(&ctl, &cluster, new));
    let refused = Etcdctl::at(&ctl, &cluster, &[new]).run(&["move-leader", &target]);
    assert!(!refused.status.success(), "a follower moved the leader");
    let asked = Etcdctl::at(&ctl, &cluster, &[old]);
    asked.refused(&["move-leader", "1f"], "bad leader transferee");
    asked.ok(&["move-leader", &target]);
    assert_eq!(leader(&ctl, &cluster, &[0, 1, 2]), new);
}

/// [MEM-2] [MEM-3] The runbook of replacing a member: a learner joins under load, catches up, is promoted, and another one goes for good.
#[test]
fn members_are_added_promoted_updated_and_removed() {
    let Some(ctl) = tools::find("etcdctl") else {
        return;
    };
    let mut cluster = Cluster::start(3, QUIET);
    let load = Load::default();
    let addresses: Vec<SocketAddr> = (0..3).map(|at| cluster.client(at)).collect();
    thread::scope(|scope| {
        let _end = load.end_with_scope();
        let (loaded, to) = (&load, &addresses[..1]);
        scope.spawn(move || loaded.run(to, 0, 0));
        let (added, url) = cluster.prepare();
        let (of, name) = ([0, 1, 2], format!("m{added}"));
        let add = [
            "member",
            "add",
            &name,
            "--learner",
            &format!("--peer-urls={url}"),
        ];
        wait_until("5 s of connection", || {
            Etcdctl::at(&ctl, &cluster, &of).run(&add).status.success()
        });
        let again = Etcdctl::at(&ctl, &cluster, &of);
        again.refused(&add, "Peer URLs already exists");
        again.refused(
            &[
                "member",
                "add",
                "other",
                "--learner",
                "--peer-urls=http://127.0.0.1:1",
            ],
            "too many learner members",
        );
        let learner = id_by_url(&ctl, &cluster, &url);
        let learner = format!("{learner:x}");
        let leader = leader(&ctl, &cluster, &of);
        let asked = Etcdctl::at(&ctl, &cluster, &[leader]);
        asked.refused(&["member", "promote", &learner], "in sync with leader");
        cluster.join(added, &of);
        wait_until("the learner's catching up", || {
            asked.run(&["member", "promote", &learner]).status.success()
        });
        asked.refused(
            &["member", "promote", &learner],
            "can only promote a learner member",
        );
        cluster.await_ready(added);
    });
    let all = [0, 1, 2, 3];
    all_equal(&Etcdctl::at(&ctl, &cluster, &all));
    let gone = 2;
    let removed = format!("{:x}", id(&ctl, &cluster, gone));
    let left = [0, 1, 3];
    let asked = Etcdctl::at(&ctl, &cluster, &left);
    wait_until("5 s of connection", || {
        asked.run(&["member", "remove", &removed]).status.success()
    });
    asked.refused(&["member", "remove", &removed], "member not found");
    cluster.await_end(gone);
    assert!(
        cluster
            .log(gone)
            .contains("permanently removed from the cluster")
    );
    // Its data is still there; it must not come back with it.
    cluster.start_again(gone);
    cluster.await_end(gone);
    asked.ok(&["put", "after", "removal"]);
    let moved = format!("{:x}", id(&ctl, &cluster, 3));
    asked.ok(&[
        "member",
        "update",
        &moved,
        "--peer-urls=http://127.0.0.1:9,http://localhost:10",
    ]);
    let members = asked.json(&["member", "list"]);
    let urls = members["members"].as_array().expect("a list").iter();
    assert!(
        urls.flat_map(|it| it["peerURLs"].as_array())
            .any(|urls| urls.len() == 2)
    );
    all_equal(&asked);
}

/// [MEM-6] The log that a newcomer needs, or who was away, is gone: without a snapshot both would wait for ever.
#[test]
fn members_that_lag_behind_the_log_get_a_snapshot_under_load() {
    let Some(ctl) = tools::find("etcdctl") else {
        return;
    };
    let mut cluster = Cluster::start(3, &["--log-level=info", "--snapshot-catchup-entries=50"]);
    let load = Load::default();
    let addresses: Vec<SocketAddr> = (0..3).map(|at| cluster.client(at)).collect();
    let of = [0, 1, 2];
    let leader = leader(&ctl, &cluster, &of);
    let away = (leader + 1) % 3;
    thread::scope(|scope| {
        let _end = load.end_with_scope();
        let (loaded, to) = (&load, &addresses[leader..=leader]);
        scope.spawn(move || loaded.run(to, 0, 0));
        wait_until("some writes", || load.count() > 200);
        let (added, url) = cluster.prepare();
        let name = format!("m{added}");
        let urls = format!("--peer-urls={url}");
        let add = ["member", "add", &name, "--learner", &urls];
        wait_until("5 s of connection", || {
            Etcdctl::at(&ctl, &cluster, &of).run(&add).status.success()
        });
        let learner = format!("{:x}", id_by_url(&ctl, &cluster, &url));
        cluster.kill(away);
        let before = load.count();
        wait_until("writes that nobody keeps", || load.count() > before + 200);
        cluster.join(added, &of);
        let asked = Etcdctl::at(&ctl, &cluster, &[leader]);
        wait_until("the learner's catching up", || {
            asked.run(&["member", "promote", &learner]).status.success()
        });
        cluster.start_again(away);
        cluster.await_ready(added);
        cluster.await_ready(away);
        for at in [added, away] {
            wait_until("a snapshot", || {
                cluster.log(at).contains("took over the leader's snapshot")
            });
        }
    });
    let all = [0, 1, 2, 3];
    all_equal(&Etcdctl::at(&ctl, &cluster, &all));
    let acked = load.acked.into_inner().expect("no panic under load");
    for at in all {
        let found = read_all(cluster.client(at));
        for (key, value) in &acked {
            assert_eq!(found.get(key), Some(value), "{key} at member {at}");
        }
    }
}

/// [PEER-1] Whoever speaks another protocol, or is of another cluster, must hear it in words.
#[test]
fn peer_ports_answer_http_and_refuse_etcd_and_strangers() {
    let cluster = Cluster::start(2, QUIET);
    let peer = cluster.peer(0);
    let members = http::get(peer, "/members").expect("an answer");
    assert_eq!(members.status, 200);
    assert!(members.header("x-etcd-cluster-id").is_some());
    let listed: Value = serde_json::from_str(&members.body).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    assert_eq!(http::get(peer, "/health").expect("an answer").status, 200);
    let version = http::get(peer, "/version").expect("an answer");
    assert!(
        version.body.contains("\"etcdcluster\":\"3.7.0\""),
        "{}",
        version.body
    );
    let id = members.header("x-etcd-cluster-id").expect("above");
    for (header, expected) in [("1f", "cluster ID mismatch"), (id, "another peer protocol")] {
        let request = format!(
            "GET /raft/stream/msgapp/1 HTTP/1.1\r\nHost: x\r\nX-Etcd-Cluster-ID: {header}\r\nConnection: close\r\n\r\n"
        );
        let refused = http::ask(peer, &request).expect("an answer");
        assert_eq!(refused.status, 412);
        assert!(refused.body.contains(expected), "{}", refused.body);
    }
    assert_eq!(http::get(peer, "/nothing").expect("an answer").status, 404);
}

/// Its data is gone, and with it its votes: under the same id it could undo what it acknowledged.
#[test]
fn a_member_with_an_empty_directory_does_not_come_back_under_its_id() {
    let mut cluster = Cluster::start(3, QUIET);
    cluster.kill(1);
    std::fs::remove_dir_all(cluster.data_dir(1)).expect("its data");
    cluster.start_again(1);
    let status = cluster.await_end(1);
    assert_eq!(status.code(), Some(1));
    assert!(
        cluster.log(1).contains("has already been bootstrapped"),
        "{}",
        cluster.log(1)
    );
}

/// [MEM-8] The runbook for a lost majority: what one member holds goes on with it alone, and the others do not come back with theirs.
#[test]
fn a_forced_member_goes_on_alone_and_others_stay_out() {
    let Some(ctl) = tools::find("etcdctl") else {
        return;
    };
    let mut cluster = Cluster::start(3, QUIET);
    Etcdctl::at(&ctl, &cluster, &[0]).ok(&["put", "kept", "value"]);
    all_equal(&Etcdctl::at(&ctl, &cluster, &[0, 1, 2]));
    (0..3).for_each(|at| cluster.kill(at));
    cluster.start_again_with(2, &["--force-new-cluster"]);
    cluster.await_ready(2);
    assert!(cluster.log(2).contains("forcing restart member"));
    let alone = Etcdctl::at(&ctl, &cluster, &[2]);
    assert_eq!(
        alone.ok(&["get", "kept", "--print-value-only"]).trim(),
        "value"
    );
    let members = alone.json(&["member", "list"]);
    assert_eq!(members["members"].as_array().map(Vec::len), Some(1));
    alone.ok(&["put", "after", "force"]);
    cluster.kill(2);
    cluster.start_again(2);
    cluster.await_ready(2);
    assert_eq!(
        alone.ok(&["get", "after", "--print-value-only"]).trim(),
        "force"
    );
    cluster.start_again(0);
    cluster.await_end(0);
    assert!(
        cluster
            .log(0)
            .contains("permanently removed from the cluster")
    );
}

/// [MEM-7] Whichever member an operator asks, the leader's word on a learner is what counts.
#[test]
fn a_learner_is_promoted_through_a_follower() {
    let Some(ctl) = tools::find("etcdctl") else {
        return;
    };
    let mut cluster = Cluster::start(3, QUIET);
    let all = [0, 1, 2];
    let follower = (leader(&ctl, &cluster, &all) + 1) % 3;
    let asked = Etcdctl::at(&ctl, &cluster, &[follower]);
    asked.ok(&["put", "a", "1"]);
    let (added, url) = cluster.prepare();
    let name = format!("m{added}");
    let url_flag = format!("--peer-urls={url}");
    wait_until("5 s of connection", || {
        let add = ["member", "add", &name, "--learner", &url_flag];
        asked.run(&add).status.success()
    });
    let learner = format!("{:x}", id_by_url(&ctl, &cluster, &url));
    asked.refused(&["member", "promote", &learner], "in sync with leader");
    cluster.join(added, &all);
    wait_until("the learner's catching up", || {
        asked.run(&["member", "promote", &learner]).status.success()
    });
    asked.refused(&["member", "promote", "1f"], "member not found");
    cluster.await_ready(added);
    all_equal(&Etcdctl::at(&ctl, &cluster, &[0, 1, 2, added]));
}

/// [MEM-9] An alarm is the whole cluster's, whoever raises and whoever lifts it.
#[test]
fn alarms_name_their_member_and_hold_for_all() {
    let Some(ctl) = tools::find("etcdctl") else {
        return;
    };
    let cluster = Cluster::start(3, QUIET);
    let leader = leader(&ctl, &cluster, &[0, 1, 2]);
    let (raiser, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let (at_raiser, at_other) = (
        Etcdctl::at(&ctl, &cluster, &[raiser]),
        Etcdctl::at(&ctl, &cluster, &[other]),
    );
    let member = id(&ctl, &cluster, raiser);
    for (alarm, refusal) in [
        (AlarmType::Nospace, "database space exceeded"),
        (AlarmType::Corrupt, "corrupt cluster"),
    ] {
        let mut client = Client::connect(cluster.client(raiser)).expect("it serves");
        let request = AlarmRequest {
            action: AlarmAction::Activate.into(),
            member_id: member,
            alarm: alarm.into(),
        };
        client
            .ask::<AlarmResponse>("/etcdserverpb.Maintenance/Alarm", &request)
            .expect("it is raised");
        let line = format!("memberID:{member} alarm:{}", alarm.as_str_name());
        wait_until("the alarm at all members", || {
            (0..3).all(|at| {
                let listed = Etcdctl::at(&ctl, &cluster, &[at]).ok(&["alarm", "list"]);
                // Protobuf's text has one space or two between fields, by the build of the program that prints it.
                let words: Vec<&str> = listed.split_whitespace().collect();
                words.join(" ") == line
            })
        });
        for at in 0..3 {
            Etcdctl::at(&ctl, &cluster, &[at]).refused(&["put", "a", "1"], refusal);
        }
        at_other.ok(&["alarm", "disarm"]);
        assert_eq!(at_raiser.ok(&["alarm", "list"]).trim(), "");
        at_raiser.ok(&["put", "a", alarm.as_str_name()]);
    }
    all_equal(&Etcdctl::at(&ctl, &cluster, &[0, 1, 2]));
}

/// The stock dashboard shows traffic between members by these.
#[test]
fn traffic_between_members_is_counted() {
    let cluster = Cluster::start(3, QUIET);
    let sums = |at: usize, name: &str| -> f64 {
        let text = http::get(cluster.client(at), "/metrics")
            .expect("an answer")
            .body;
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    wait_until("pings to all", || {
        (0..3).all(|at| sums(at, "etcd_network_peer_round_trip_time_seconds_count{") >= 2.0)
    });
    for at in 0..3 {
        assert!(sums(at, "etcd_network_active_peers{") == 2.0);
        assert!(sums(at, "etcd_network_peer_sent_bytes_total{") > 0.0);
        assert!(sums(at, "etcd_network_peer_received_bytes_total{") > 0.0);
        assert!(sums(at, "etcd_network_peer_received_failures_total{") == 0.0);
    }
}

struct Etcdctl {
    program: PathBuf,
    endpoints: String,
}

impl Etcdctl {
    fn at(program: &Path, cluster: &Cluster, of: &[usize]) -> Self {
        Self {
            program: program.to_owned(),
            endpoints: cluster.endpoints(of),
        }
    }

    fn run(&self, words: &[&str]) -> Output {
        Command::new(&self.program)
            .arg(format!("--endpoints={}", self.endpoints))
            .args(words)
            .output()
            .expect("etcdctl runs")
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{words:?} at {}: {errors}",
            self.endpoints
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn json(&self, words: &[&str]) -> Value {
        let words: Vec<&str> = words.iter().copied().chain(["-w=json"]).collect();
        let text = self.ok(&words);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    fn refused(&self, words: &[&str], expected: &str) {
        let output = self.run(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{words:?} was taken");
        assert!(errors.contains(expected), "{words:?}: {errors}");
    }
}

/// The place of the member that leads.
fn leader(ctl: &Path, cluster: &Cluster, of: &[usize]) -> usize {
    let mut found = None;
    wait_until("a leader", || {
        found = of.iter().copied().find(|at| {
            let output = Etcdctl::at(ctl, cluster, &[*at]).run(&["endpoint", "status", "-w=json"]);
            let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let status = &status[0]["Status"];
            status["leader"].is_u64() && status["leader"] == status["header"]["member_id"]
        });
        found.is_some()
    });
    found.expect("waited for")
}

fn id(ctl: &Path, cluster: &Cluster, at: usize) -> u64 {
    id_by_url(ctl, cluster, &format!("http://{}", cluster.peer(at)))
}

fn id_by_url(ctl: &Path, cluster: &Cluster, url: &str) -> u64 {
    let members = Etcdctl::at(ctl, cluster, &[0]).json(&["member", "list"]);
    let members = members["members"].as_array().expect("a list").clone();
    let found = members.iter().find(|it| it["peerURLs"][0] == url);
    found
        .and_then(|it| it["ID"].as_u64())
        .expect("it is listed")
}

/// Members at one revision hold the same.
fn all_equal(ctl: &Etcdctl) {
    let mut seen = Vec::new();
    wait_until("equal hashes", || {
        let hashes = ctl.json(&["endpoint", "hashkv"]);
        let hashes = hashes.as_array().expect("a list").iter();
        seen = hashes
            .map(|it| {
                (
                    it["HashKV"]["hash"].clone(),
                    it["HashKV"]["header"]["revision"].clone(),
                )
            })
            .collect();
        seen.windows(2).all(|pair| pair[0] == pair[1])
    });
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what} took too long");
        thread::sleep(POLL);
    }
}

/// Puts one after the other, at another member where one does not answer.
#[derive(Default)]
struct Load {
    acked: Mutex<BTreeMap<String, String>>,
    stop: AtomicBool,
}

impl Load {
    fn run(&self, to: &[SocketAddr], place: usize, round: u64) {
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(mut client) = Client::connect(to[(place + number) % to.len()]) else {
                number += 1;
                continue;
            };
            while !self.stop.load(Ordering::Relaxed) {
                number += 1;
                let key = format!("load/{round}/{place}/{number}");
                let value = format!("{number}");
                let put = PutRequest {
                    key: key.clone().into(),
                    value: value.clone().into(),
                    ..PutRequest::default()
                };
                if client
                    .ask::<PutResponse>("/etcdserverpb.KV/Put", &put)
                    .is_err()
                {
                    break;
                }
                self.acked.lock().expect("no panic").insert(key, value);
            }
        }
    }

    /// The threads end when this goes, also by a failed check: else the scope waits for them for ever.
    fn end_with_scope(&self) -> impl Drop {
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        End(&self.stop)
    }

    fn count(&self) -> usize {
        self.acked.lock().expect("no panic").len()
    }
}

fn read_all(from: SocketAddr) -> BTreeMap<String, String> {
    let mut client = Client::connect(from).expect("it serves");
    let range = RangeRequest {
        key: b"load/".to_vec().into(),
        range_end: b"load0".to_vec().into(),
        ..RangeRequest::default()
    };
    let found: RangeResponse = client
        .ask("/etcdserverpb.KV/Range", &range)
        .expect("a range is not refused");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    found
        .kvs
        .iter()
        .map(|kv| (text(&kv.key), text(&kv.value)))
        .collect()
}

const QUIET: &[&str] = &["--log-level=info"];
const POLL: Duration = Duration::from_millis(50);
