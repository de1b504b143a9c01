//! One server process, stock etcd or basalt, with a data directory of its own.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{http, tools};

/// Which program to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Stock etcd, the reference.
    Etcd,
    /// The server under test.
    Basalt,
}

/// Every server of these suites says these URLs of itself, so that member and cluster ids are equal and can be compared. Nobody dials them.
pub const ADVERTISED_CLIENT: &str = "http://127.0.0.1:43001";
/// See [`ADVERTISED_CLIENT`].
pub const ADVERTISED_PEER: &str = "http://127.0.0.1:43002";

/// How long a start, a stop or one answer may take before a test fails. Far above what any of them needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; dropping it kills the process and removes its data.
pub struct Server {
    kind: Kind,
    program: PathBuf,
    folder: TempDir,
    flags: Vec<String>,
    client: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts a fresh member and waits until it says that it is ready. `None`, said loudly, when stock etcd is not there.
    ///
    /// # Panics
    /// When the process ends or is not ready within [`PATIENCE`]; its log is printed.
    pub fn start(kind: Kind, flags: &[&str]) -> Option<Self> {
        Self::start_on(kind, flags, |_| {})
    }

    /// As [`Server::start`], on the data directory that `prepare` makes; it is given the path.
    ///
    /// # Panics
    /// As [`Server::start`].
    pub fn start_on(kind: Kind, flags: &[&str], prepare: impl FnOnce(&Path)) -> Option<Self> {
        let program = match kind {
            Kind::Etcd => tools::find("etcd")?,
            Kind::Basalt => tools::basalt(),
        };
        let folder = TempDir::new().expect("a temporary directory");
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        prepare(&folder.path().join("data"));
        let client = free_address();
        let child = spawn(&program, folder.path(), client, &flags);
        let mut server = Self {
            kind,
            program,
            folder,
            flags,
            client,
            child,
        };
        server.await_ready();
        Some(server)
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.client
    }

    /// Which program this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The process, for CPU clocks, memory and signals.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Ends the process at once, as a power cut would end it, but with the page cache kept.
    ///
    /// # Panics
    /// When the process cannot be waited for.
    pub fn kill(&mut self) {
        // An error means that the process has ended already, which the wait tells as well.
        let _ = self.child.kill();
        self.child.wait().expect("a child of ours");
    }

    /// Starts the process again on the same data, after [`Server::kill`].
    ///
    /// # Panics
    /// When it is not ready within [`PATIENCE`].
    pub fn start_again(&mut self) {
        self.child = spawn(&self.program, self.folder.path(), self.client, &self.flags);
        self.await_ready();
    }

    /// Bytes of memory that the process holds.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("the process lives");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("a process has memory");
        let kib: u64 = line
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.parse().ok())
            .expect("VmRSS is a number");
        kib * 1024
    }

    /// What the process wrote to standard output and standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Whether the process has not ended.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn await_ready(&mut self) {
        let log = self.folder.path().join("log");
        await_answer(&mut self.child, self.client, "/readyz", &log);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(program: &Path, folder: &Path, client: SocketAddr, flags: &[String]) -> Child {
    let mut command = Command::new(program);
    command
        .args(["--name", "m", "--data-dir"])
        .arg(folder.join("data"))
        .args([
            "--listen-client-urls",
            &format!("http://{client}"),
            "--advertise-client-urls",
            ADVERTISED_CLIENT,
        ])
        .args(["--listen-peer-urls", &format!("http://{}", free_address())])
        .args(["--initial-advertise-peer-urls", ADVERTISED_PEER])
        .args(["--initial-cluster", &format!("m={ADVERTISED_PEER}")])
        .args(flags);
    spawn_logged(command, &folder.join("log"))
}

/// Starts a process whose output goes behind what `log` holds.
pub(crate) fn spawn_logged(mut command: Command, log: &Path) -> Child {
    let file = File::options()
        .create(true)
        .append(true)
        .open(log)
        .expect("a log file");
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("a second handle"))
        .stderr(file)
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()))
}

/// Waits until a process answers a GET of `path` with 200.
///
/// # Panics
/// When it ends or does not within [`PATIENCE`]; its log is printed.
pub(crate) fn await_answer(child: &mut Child, client: SocketAddr, path: &str, log: &Path) {
    let began = Instant::now();
    let said = || std::fs::read_to_string(log).unwrap_or_default();
    while !http::get(client, path).is_ok_and(|answer| answer.status == 200) {
        let ended = child.try_wait().expect("a child of ours");
        assert!(ended.is_none(), "it ended with {ended:?}:\n{}", said());
        assert!(began.elapsed() < PATIENCE, "it is not ready:\n{}", said());
        thread::sleep(POLL);
    }
}

/// A loopback address that was free a moment ago.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket")
}

const POLL: Duration = Duration::from_millis(10);
