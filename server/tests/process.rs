//! The process as its operator meets it: exit codes, the lines that tools wait for, locks, foreign directories.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use basalt::log::log_contract::{
    ADDED_MEMBER, EVERY_RUN, FINISHED_COMPACTION, PUBLISHED, READY, RECEIVED_SIGNAL,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A running server. Dropped, it is killed.
struct Server {
    child: Child,
    /// Dropped with the server, which ends the watchdog.
    _watchdog: Sender<()>,
    stderr: Lines<BufReader<ChildStderr>>,
    lines: Vec<Value>,
}

impl Server {
    fn start(data_dir: &Path) -> Server {
        Server::start_with(data_dir, &[])
    }

    fn start_with(data_dir: &Path, flags: &[&str]) -> Server {
        let mut child = command(data_dir)
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let _watchdog = kill_after_patience(Pid::from_child(&child));
        Server {
            child,
            _watchdog,
            stderr,
            lines: Vec::new(),
        }
    }

    /// Reads until the line with this message; panics with all lines if the process ends before.
    fn wait_for(&mut self, message: &str) -> Value {
        while let Some(line) = self.next_line() {
            if line["msg"] == message {
                return line;
            }
        }
        panic!("ended without `{message}`: {:#?}", self.lines);
    }

    fn next_line(&mut self) -> Option<Value> {
        let text = self.stderr.next()?.expect("lines are text");
        let line: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        self.lines.push(line.clone());
        Some(line)
    }

    fn terminate(mut self) -> (ExitStatus, Vec<Value>) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("it runs");
        while self.next_line().is_some() {}
        let status = self.child.wait().expect("it ends");
        (status, std::mem::take(&mut self.lines))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that hangs ends its log, and with it the wait for a line.
fn kill_after_patience(pid: Pid) -> Sender<()> {
    let (alive, over) = channel();
    thread::spawn(move || {
        if over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            // It may have ended just now.
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    alive
}

fn command(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_basalt"));
    command.env_clear();
    command
        .arg("--name=a")
        .arg("--data-dir")
        .arg(data_dir)
        .args([
            "--listen-client-urls=http://127.0.0.1:0",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:0",
        ]);
    command
}

fn run(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

fn messages(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .filter_map(|line| line["msg"].as_str())
        .collect()
}

/// [PROC-1] [PROC-3] Scripts wait for these texts; monitoring counts lines of level error.
#[test]
fn a_run_from_start_to_sigterm_writes_each_line_of_the_contract_and_no_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut server = Server::start(&dir.path().join("data"));
    server.wait_for(READY);
    let (status, lines) = server.terminate();
    assert_eq!(
        status.signal(),
        Some(15),
        "it ends by the signal that asked"
    );
    for text in EVERY_RUN {
        assert!(
            messages(&lines).contains(text),
            "`{text}` is missing: {lines:#?}"
        );
    }
    for line in &lines {
        assert!(line["level"] == "info" || line["level"] == "warn", "{line}");
        for key in ["ts", "caller", "msg"] {
            assert!(line[key].is_string(), "{line}");
        }
    }
}

/// [COMPACT-5] The lines are etcd 3.7.3's, in its order and with its fields.
#[test]
fn a_member_compacts_by_itself_and_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let flags = ["--auto-compaction-retention=500ms"];
    let mut server = Server::start_with(&dir.path().join("data"), &flags);
    let line = server.wait_for("starting auto periodic compaction");
    assert_eq!(line["revision"], 1);
    assert_eq!(line["compact-period"], "500ms");
    let line = server.wait_for("completed auto periodic compaction");
    assert_eq!(line["revision"], 1);
    assert!(line["took"].is_string(), "{line}");
    let line = server.wait_for(FINISHED_COMPACTION);
    assert_eq!(line["compact-revision"], 1);
    assert_eq!(line["number-of-keys-compacted"], 0);
    assert_eq!(line["hash"], 1_084_519_789);
}

/// [PROC-6]
#[test]
fn a_restarted_member_keeps_its_ids() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut server = Server::start(&data);
        let line = server.wait_for(PUBLISHED);
        ids.push((line["local-member-id"].clone(), line["cluster-id"].clone()));
        server.wait_for(READY);
        server.terminate();
    }
    assert!(ids[0].0.is_string());
    assert_eq!(ids[0], ids[1]);
}

/// [PROC-4]
#[test]
fn a_second_process_on_a_directory_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut first = Server::start(&data);
    first.wait_for(READY);
    let second = run(&mut command(&data));
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8_lossy(&second.stderr);
    assert!(text.contains("in use") || text.contains("locked"), "{text}");
    first.terminate();
}

/// [PROC-5] An operator who points basalt at etcd's directory must lose nothing.
#[test]
fn a_directory_of_etcd_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    fs::create_dir_all(data.join("member/snap")).expect("made");
    fs::write(data.join("member/snap/db"), b"bbolt").expect("written");
    let refused = run(&mut command(&data));
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("belongs to etcd"), "{text}");
    let left: Vec<_> = fs::read_dir(data.join("member"))
        .expect("there")
        .map(|entry| entry.expect("read").file_name())
        .collect();
    assert_eq!(left, ["snap"]);
}

/// [PROC-2]
#[test]
fn flags_that_cannot_be_read_exit_with_2_and_refused_ones_with_1() {
    let code = |args: &[&str]| {
        let output = run(Command::new(env!("CARGO_BIN_EXE_basalt"))
            .env_clear()
            .args(args));
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (status, text) = code(&["--data-dri=x"]);
    assert_eq!(status, Some(2));
    assert!(text.contains("--data-dir"), "{text}");
    let (status, text) = code(&["stray"]);
    assert_eq!(status, Some(1));
    assert!(
        text.contains(r#""msg":"failed to verify flags","error":"\"stray\" is not a valid flag""#),
        "{text}"
    );
}

/// [PROC-7]
#[test]
fn help_and_version_are_printed_to_standard_output() {
    for (flag, start) in [
        ("--version", "etcd Version: 3.7.3\n"),
        ("-version", "etcd Version: 3.7.3\n"),
        ("-h", "A drop-in"),
    ] {
        let output = run(Command::new(env!("CARGO_BIN_EXE_basalt"))
            .env_clear()
            .arg(flag));
        assert_eq!(output.status.code(), Some(0), "{flag}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.starts_with(start), "{text}");
    }
}

/// [PROC-3]
#[test]
fn a_second_signal_ends_the_process_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut server = Server::start(&dir.path().join("data"));
    server.wait_for(ADDED_MEMBER);
    let pid = Pid::from_child(&server.child);
    kill_process(pid, Signal::INT).expect("it runs");
    server.wait_for(RECEIVED_SIGNAL);
    // It may have ended in order by now, which is as good.
    let _ = kill_process(pid, Signal::INT);
    let mut rest = String::new();
    while let Some(Ok(line)) = server.stderr.next() {
        rest += &line;
    }
    let status = server.child.wait().expect("it ends");
    assert_eq!(status.signal(), Some(2), "{rest}");
}

/// Far more than any start or stop takes.
const PATIENCE: Duration = Duration::from_secs(60);
