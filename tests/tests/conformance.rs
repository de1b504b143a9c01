//! Clients that people use, unchanged, against basalt and against stock etcd: what holds for one must hold for the other.
//!
//! Each check runs twice. Rows of single requests are the differential test's; here a client's own logic takes part.

use std::net::SocketAddr;
use std::process::{Command, Output};

use basalt_tests::server::{Kind, Server};
use basalt_tests::{clients, http, tools};

macro_rules! both {
    ($($test:ident;)*) => {
        mod etcd {
            $(#[test]
            fn $test() {
                super::$test(super::Kind::Etcd);
            })*
        }
        mod basalt {
            $(#[test]
            fn $test() {
                super::$test(super::Kind::Basalt);
            })*
        }
    };
}

both! {
    go_client;
    python_client;
    node_client;
    etcdctl_puts_gets_and_deletes;
    etcdctl_txn_reads_its_script_from_standard_input;
    etcdctl_watches_keys_and_prefixes_from_a_revision;
    etcdctl_grants_keeps_alive_and_revokes_leases;
    etcdctl_locks_and_elects;
    etcdctl_status_table_has_all_columns;
    etcdctl_health_hashkv_members_and_defrag;
    a_full_store_says_so_everywhere;
    quota_raises_an_alarm_that_space_and_disarm_end;
    curl_reads_the_http_paths;
    metrics_carry_etcd_names;
    restart_keeps_keys_revisions_alarms_and_compaction;
}

/// [CLIENT-1] [DUR-4] A Go program with clientv3 must not notice which server it talks to.
fn go_client(kind: Kind) {
    let Some(program) = clients::go_program("clientv3") else {
        return;
    };
    let Some(server) = Server::start(kind, QUIET) else {
        return;
    };
    succeeds(
        Command::new(program)
            .arg("-endpoint")
            .arg(server.address().to_string()),
    );
}

/// [CLIENT-2] Nor a Python program over grpcio, whose HTTP/2 is another one than Go's.
fn python_client(kind: Kind) {
    let Some(python) = clients::python() else {
        return;
    };
    let Some(server) = Server::start(kind, QUIET) else {
        return;
    };
    let script = clients::conformance().join("python/check.py");
    let (host, port) = (
        server.address().ip().to_string(),
        server.address().port().to_string(),
    );
    succeeds(Command::new(python).arg(script).args([host, port]));
}

/// [CLIENT-4] Nor a Node program over grpc-js.
fn node_client(kind: Kind) {
    let Some((node, folder)) = clients::node() else {
        return;
    };
    let Some(server) = Server::start(kind, QUIET) else {
        return;
    };
    succeeds(
        Command::new(node)
            .arg("check.js")
            .arg(server.address().to_string())
            .current_dir(folder),
    );
}

/// [CTL-1] The first three commands anybody tries.
fn etcdctl_puts_gets_and_deletes(kind: Kind) {
    let Some((_server, ctl)) = start(kind, &[]) else {
        return;
    };
    assert_eq!(ctl.says(&["put", "foo", "bar"]), "OK\n");
    assert_eq!(ctl.says(&["get", "foo"]), "foo\nbar\n");
    assert_eq!(ctl.says(&["get", "foo", "--print-value-only"]), "bar\n");
    assert_eq!(ctl.says(&["del", "foo", "--prev-kv"]), "1\nfoo\nbar\n");
    assert_eq!(ctl.says(&["get", "foo"]), "");
    assert_eq!(ctl.says(&["compaction", "3"]), "compacted revision 3\n");
    let refused = ctl.run(&["get", "foo", "--rev", "2"], "");
    assert!(text(&refused.stderr).contains("mvcc: required revision has been compacted"));
    assert_eq!(refused.status.code(), Some(1));
}

/// [CTL-1] Scripts feed txns through a pipe.
fn etcdctl_txn_reads_its_script_from_standard_input(kind: Kind) {
    let Some((_server, ctl)) = start(kind, &[]) else {
        return;
    };
    let script = "version(\"t\") = \"0\"\n\nput t made\nget t\n\nget t\n\n";
    assert_eq!(
        text(&ctl.run(&["txn"], script).stdout),
        "SUCCESS\n\nOK\n\nt\nmade\n"
    );
    assert_eq!(
        text(&ctl.run(&["txn"], script).stdout),
        "FAILURE\n\nt\nmade\n"
    );
}

/// [CTL-1] [WATCH-4] What scripts read: one block an event, the previous one before it when asked for.
fn etcdctl_watches_keys_and_prefixes_from_a_revision(kind: Kind) {
    let Some((_server, ctl)) = start(kind, &[]) else {
        return;
    };
    ctl.says(&["put", "foo", "1"]);
    ctl.says(&["put", "foo", "2"]);
    ctl.says(&["del", "foo"]);
    ctl.says(&["put", "food", "3"]);
    assert_eq!(
        ctl.watches(&["foo", "--rev", "1"], 8, || {}),
        "PUT\nfoo\n1\nPUT\nfoo\n2\nDELETE\nfoo\n"
    );
    let prefix = ["foo", "--prefix", "--prev-kv", "--rev", "3"];
    let expected =
        "PUT\nfoo\n1\nfoo\n2\nDELETE\nfoo\n2\nfoo\n\nPUT\nfood\n3\nPUT\nfood\n3\nfood\n4\n";
    let put = || drop(ctl.says(&["put", "food", "4"]));
    assert_eq!(ctl.watches(&prefix, 18, put), expected);
}

/// [LEASE-12] Scripts take the id out of the first line, and the seconds out of the others.
fn etcdctl_grants_keeps_alive_and_revokes_leases(kind: Kind) {
    let Some((_server, ctl)) = start(kind, &[]) else {
        return;
    };
    let granted = ctl.says(&["lease", "grant", "100"]);
    let id = granted
        .strip_prefix("lease ")
        .and_then(|rest| rest.strip_suffix(" granted with TTL(100s)\n"))
        .expect("as etcdctl says it");
    assert_eq!(id.len(), 16);
    assert_eq!(ctl.says(&["put", "b", "1", "--lease", id]), "OK\n");
    assert_eq!(ctl.says(&["put", "a", "1", "--lease", id]), "OK\n");
    let renewed = format!("lease {id} keepalived with TTL(100)\n");
    let alive = ["lease", "keep-alive", id];
    assert_eq!(ctl.says(&[&alive[..], &["--once"]].concat()), renewed);
    assert_eq!(ctl.prints(&alive, 1, || {}), renewed);
    let left = ctl.says(&["lease", "timetolive", id, "--keys"]);
    let left = left.replace("99s", "98s");
    // etcd lists the keys in any order.
    let expected = format!("lease {id} granted with TTL(100s), remaining(98s), attached keys(");
    let keys = left.strip_prefix(&expected).expect("the rest of its time");
    assert!(["[a b])\n", "[b a])\n"].contains(&keys), "{left}");
    let listed = format!("found 1 leases\n{id}\n");
    assert_eq!(ctl.says(&["lease", "list"]), listed);
    assert_eq!(
        ctl.says(&["lease", "revoke", id]),
        format!("lease {id} revoked\n")
    );
    assert_eq!(ctl.says(&["get", "", "--from-key"]), "");
    let gone = format!("lease {id} already expired\n");
    assert_eq!(ctl.says(&["lease", "timetolive", id]), gone);
    assert_eq!(ctl.says(&["lease", "list"]), "found 0 leases\n");
    let refused = ctl.run(&["put", "a", "1", "--lease", id], "");
    assert!(text(&refused.stderr).contains("requested lease not found"));
    for arguments in [
        ["lease", "revoke", id, ""],
        ["lease", "keep-alive", "--once", id],
    ] {
        let arguments: Vec<&str> = arguments.into_iter().filter(|it| !it.is_empty()).collect();
        let refused = ctl.run(&arguments, "");
        assert!(text(&refused.stderr).contains("requested lease not found"));
    }
}

/// [LOCK-1] [ELECT-1] What stands in front of a command in a script.
fn etcdctl_locks_and_elects(kind: Kind) {
    let Some((_server, ctl)) = start(kind, &[]) else {
        return;
    };
    let key = ctl.prints(&["lock", "name"], 1, || {});
    assert!(key.starts_with("name/"), "{key}");
    let ran = ctl.says(&["lock", "other", "echo", "held"]);
    assert_eq!(ran, "held\n");
    let won = ctl.prints(&["elect", "race", "me"], 2, || {});
    let (key, value) = won.split_once('\n').expect("two lines");
    assert!(key.starts_with("race/"), "{won}");
    assert_eq!(value, "me\n");
    // It was killed, so its key is there until its lease ends.
    assert_eq!(ctl.prints(&["elect", "-l", "race"], 2, || {}), won);
}

/// [CTL-2] [MNT-1] Operators read this table; it is the one output whose widths follow the sizes.
fn etcdctl_status_table_has_all_columns(kind: Kind) {
    let Some((server, ctl)) = start(kind, &[]) else {
        return;
    };
    let table = ctl.says(&["endpoint", "status", "-w", "table"]);
    let heads = [
        "ENDPOINT",
        "ID",
        "VERSION",
        "STORAGE VERSION",
        "DB SIZE",
        "IN USE",
        "PERCENTAGE NOT IN USE",
        "QUOTA",
        "IS LEADER",
        "IS LEARNER",
        "RAFT TERM",
        "RAFT INDEX",
        "RAFT APPLIED INDEX",
        "ERRORS",
        "DOWNGRADE TARGET VERSION",
        "DOWNGRADE ENABLED",
    ];
    for head in heads {
        assert!(table.contains(head), "{head} is missing in\n{table}");
    }
    assert!(table.contains(&server.address().to_string()));
    assert!(table.contains(" 3.7."), "{table}");
    assert!(table.contains(" true "), "a single member leads:\n{table}");
}

/// [CTL-2] [CTL-3] What operators run from time to time.
fn etcdctl_health_hashkv_members_and_defrag(kind: Kind) {
    let Some((server, ctl)) = start(kind, &[]) else {
        return;
    };
    let health = ctl.run(&["endpoint", "health"], "");
    let said = text(&health.stdout) + &text(&health.stderr);
    assert!(
        said.contains("is healthy: successfully committed proposal: took"),
        "{said}"
    );
    assert!(
        ctl.says(&["endpoint", "hashkv"])
            .starts_with(&format!("{}, ", server.address()))
    );
    assert!(ctl.says(&["member", "list"]).contains(", started, m, "));
    assert!(
        ctl.says(&["member", "list", "-w", "table"])
            .contains("IS LEARNER")
    );
    assert!(
        ctl.says(&["defrag"])
            .starts_with("Finished defragmenting etcd member[")
    );
    assert_eq!(ctl.says(&["alarm", "list"]), "");
}

/// [CTL-3] [MNT-2] [MNT-6] A full store says so everywhere that people look.
fn a_full_store_says_so_everywhere(kind: Kind) {
    let Some((server, ctl)) = start(kind, &["--quota-backend-bytes", "70000"]) else {
        return;
    };
    fill(&ctl);
    assert!(ctl.says(&["alarm", "list"]).contains("alarm:NOSPACE"));
    assert!(
        text(&ctl.run(&["put", "x", "y"], "").stderr).contains("mvcc: database space exceeded")
    );
    assert!(
        ctl.says(&["endpoint", "status", "-w", "json"])
            .contains("NOSPACE")
    );
    let health = http::get(server.address(), "/health").expect("an answer");
    assert_eq!(
        (health.status, health.body.contains("ALARM NOSPACE")),
        (503, true)
    );
    assert_eq!(
        ctl.says(&["get", "filler-0", "--count-only", "-w", "fields"])
            .matches("\"Count\" : 1")
            .count(),
        1
    );
}

/// [MNT-9] The way out of a full store: delete, compact, defragment, disarm.
fn quota_raises_an_alarm_that_space_and_disarm_end(kind: Kind) {
    let Some((_server, ctl)) = start(kind, &["--quota-backend-bytes", "70000"]) else {
        return;
    };
    let revision = fill(&ctl);
    ctl.says(&["del", "filler-", "--prefix"]);
    ctl.says(&["compaction", "--physical", &(revision + 1).to_string()]);
    ctl.says(&["defrag"]);
    ctl.says(&["alarm", "disarm"]);
    assert_eq!(ctl.says(&["put", "after", "all"]), "OK\n");
}

/// [MNT-11] basalt's own: nobody needs to disarm, and `defrag` is not needed either.
#[test]
fn with_auto_disarm_a_compaction_ends_the_alarm() {
    let flags = ["--quota-backend-bytes", "70000", "--auto-disarm"];
    let Some((server, ctl)) = start(Kind::Basalt, &flags) else {
        return;
    };
    let revision = fill(&ctl);
    ctl.says(&["del", "filler-", "--prefix"]);
    assert!(ctl.says(&["alarm", "list"]).contains("alarm:NOSPACE"));
    ctl.says(&["compaction", "--physical", &(revision + 1).to_string()]);
    // The alarm's end is on its way through the log: behind the next answer it is there.
    ctl.says(&["get", "filler-0"]);
    assert_eq!(ctl.says(&["alarm", "list"]), "");
    assert_eq!(ctl.says(&["put", "after", "all"]), "OK\n");
    let metrics = http::get(server.address(), "/metrics").expect("an answer");
    let value = |name: &str| -> f64 {
        let line = metrics.body.lines().find(|line| line.starts_with(name));
        let text = line.and_then(|line| line.rsplit(' ').next());
        text.expect(name).parse().expect("a number")
    };
    let (total, in_use) = (
        value("etcd_mvcc_db_total_size_in_bytes "),
        value("etcd_mvcc_db_total_size_in_use_in_bytes "),
    );
    assert!(in_use <= total && total < 70_000.0);
    assert!(value("etcd_debugging_mvcc_db_compaction_keys_total ") > 0.0);
    assert!(value("etcd_debugging_mvcc_db_compaction_last ") > 1e9);
    let finished = "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count ";
    assert!(value(finished) >= 1.0);
}

/// [CLIENT-3] [HTTP-1] [HTTP-2] [HTTP-3] [HTTP-4] [WIRE-10] Load balancers and people with curl.
fn curl_reads_the_http_paths(kind: Kind) {
    let Some(curl) = tools::find("curl") else {
        return;
    };
    let Some(server) = Server::start(kind, QUIET) else {
        return;
    };
    let get = |path: &str, more: &[&str]| {
        let url = format!("http://{}{path}", server.address());
        text(
            &succeeds(
                Command::new(&curl)
                    .args(["-sS", "--max-time", "20"])
                    .args(more)
                    .arg(url),
            )
            .stdout,
        )
    };
    assert_eq!(get("/health", &[]), "{\"health\":\"true\",\"reason\":\"\"}");
    assert_eq!(get("/livez", &[]), "ok\n");
    assert!(get("/readyz?verbose", &[]).contains("[+]linearizable_read ok\n"));
    assert!(get("/version", &[]).starts_with("{\"etcdserver\":\"3.7."));
    assert_eq!(
        get("/nope", &["-o", "/dev/null", "-w", "%{http_code}"]),
        "404"
    );
    assert_eq!(
        get(
            "/version",
            &["-X", "POST", "-o", "/dev/null", "-w", "%{http_code}"]
        ),
        "405"
    );
    let status = [
        "--http2-prior-knowledge",
        "-o",
        "/dev/null",
        "-w",
        "%{http_version} %{http_code}",
    ];
    assert_eq!(
        get("/health", &status),
        "2 415",
        "HTTP/2 belongs to gRPC on this port"
    );
}

/// [HTTP-7] Dashboards and alerts are written against these names.
fn metrics_carry_etcd_names(kind: Kind) {
    let Some(server) = Server::start(kind, QUIET) else {
        return;
    };
    let metrics = http::get(server.address(), "/metrics").expect("an answer");
    assert_eq!(metrics.status, 200);
    assert!(
        metrics
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4"))
    );
    let names = [
        "etcd_server_has_leader",
        "etcd_server_leader_changes_seen_total",
        "etcd_server_proposals_committed_total",
        "etcd_server_proposals_applied_total",
        "etcd_disk_wal_fsync_duration_seconds_bucket",
        "etcd_disk_backend_commit_duration_seconds_bucket",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_server_quota_backend_bytes",
        "etcd_network_client_grpc_received_bytes_total",
        "grpc_server_handled_total",
        "process_resident_memory_bytes",
    ];
    for name in names {
        assert!(
            metrics.body.lines().any(|line| line.starts_with(name)),
            "{name} is missing"
        );
    }
    assert!(metrics.body.contains("\netcd_server_has_leader 1\n"));
}

/// [DUR-1] [DUR-3] [DUR-5] [MNT-5] What an operator takes for granted after a crash.
fn restart_keeps_keys_revisions_alarms_and_compaction(kind: Kind) {
    let Some((mut server, ctl)) = start(kind, &[]) else {
        return;
    };
    for value in ["1", "2", "3"] {
        ctl.says(&["put", "kept", value]);
    }
    ctl.says(&["compaction", "3"]);
    let before = ctl.says(&["get", "", "--from-key", "-w", "json"]);
    let members = ctl.says(&["member", "list"]);
    server.kill();
    server.start_again();
    let after = ctl.says(&["get", "", "--from-key", "-w", "json"]);
    let without_term = |json: &str| {
        json.split("\"raft_term\"")
            .map(|part| part.split_once('}').map_or(part, |x| x.1).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(without_term(&before), without_term(&after));
    assert_eq!(ctl.says(&["member", "list"]), members);
    assert!(
        text(&ctl.run(&["get", "kept", "--rev", "2"], "").stderr).contains("has been compacted")
    );
    assert!(
        ctl.says(&["put", "kept", "4", "-w", "json"])
            .contains("\"revision\":5")
    );
}

/// Puts until the quota stops it; the revision that was reached.
fn fill(ctl: &Ctl) -> u64 {
    const PUTS_MAX: u64 = 200;
    for place in 0..PUTS_MAX {
        let put = ctl.run(&["put", &format!("filler-{place}")], &"x".repeat(4096));
        if !put.status.success() {
            assert!(
                text(&put.stderr).contains("mvcc: database space exceeded"),
                "{}",
                text(&put.stderr)
            );
            let status = ctl.says(&["endpoint", "status", "-w", "json"]);
            let (_, rest) = status.split_once("\"revision\":").expect("a header");
            return rest
                .split(|c: char| !c.is_ascii_digit())
                .next()
                .and_then(|n| n.parse().ok())
                .expect("a number");
        }
    }
    panic!("the quota never filled");
}

/// Stock etcdctl and where it connects to.
struct Ctl {
    program: std::path::PathBuf,
    endpoint: SocketAddr,
}

impl Ctl {
    fn run(&self, arguments: &[&str], input: &str) -> Output {
        use std::io::Write;
        let mut child = Command::new(&self.program)
            .args(["--endpoints", &self.endpoint.to_string()])
            .args(arguments)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("etcdctl was found");
        let mut stdin = child.stdin.take().expect("piped");
        // A command that does not read its input may have ended by now.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("a child of ours")
    }

    /// The first lines that `etcdctl watch` prints, with `act` done after it has begun.
    fn watches(&self, arguments: &[&str], lines: usize, act: impl FnOnce()) -> String {
        self.prints(&[&["watch"], arguments].concat(), lines, act)
    }

    /// The first lines of a command that goes on until it is killed, with `act` done after it has begun.
    fn prints(&self, arguments: &[&str], lines: usize, act: impl FnOnce()) -> String {
        use std::io::{BufRead, BufReader};
        let mut child = Command::new(&self.program)
            .args(["--endpoints", &self.endpoint.to_string()])
            .args(arguments)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("etcdctl was found");
        act();
        let printed = BufReader::new(child.stdout.take().expect("piped"));
        let heard: Result<Vec<String>, _> = printed.lines().take(lines).collect();
        child.kill().expect("it goes on until it is killed");
        child.wait().expect("a child of ours");
        heard.expect("text").join("\n") + "\n"
    }

    fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments, "");
        assert!(
            output.status.success(),
            "etcdctl {arguments:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }
}

fn start(kind: Kind, flags: &[&str]) -> Option<(Server, Ctl)> {
    let program = tools::find("etcdctl")?;
    let server = Server::start(kind, &[QUIET, flags].concat())?;
    let ctl = Ctl {
        program,
        endpoint: server.address(),
    };
    Some((server, ctl))
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().expect("a program that was found or built");
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{said}{complained}");
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const QUIET: &[&str] = &["--log-level", "error"];
