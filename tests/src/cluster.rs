//! Several basalt processes as one cluster, on loopback addresses of their own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::server::{PATIENCE, await_answer, free_address, spawn_logged};
use crate::tools;

/// Members that stop with their handle; their data goes with it.
pub struct Cluster {
    folder: TempDir,
    members: Vec<Node>,
    flags: Vec<String>,
    /// Where each member is reached by the others: its own address, or a proxy's in front of it.
    advertised: Vec<SocketAddr>,
}

/// One member's process.
struct Node {
    client: SocketAddr,
    peer: SocketAddr,
    /// What it is started with besides the cluster's flags.
    bootstrap: Vec<String>,
    child: Option<Child>,
}

impl Cluster {
    /// Starts `count` members and waits until each is ready.
    ///
    /// # Panics
    /// When one ends or is not ready in time; its log is printed.
    pub fn start(count: usize, flags: &[&str]) -> Self {
        Self::start_behind(count, flags, |_, peer| peer)
    }

    /// As [`Cluster::start`], each member advertising what `front` makes of its peer address; it is given the folder of the member's data
    /// too, which is empty yet.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub fn start_behind(
        count: usize,
        flags: &[&str],
        mut front: impl FnMut(&Path, SocketAddr) -> SocketAddr,
    ) -> Self {
        let peers: Vec<SocketAddr> = (0..count).map(|_| free_address()).collect();
        let mut cluster = Self {
            folder: TempDir::new().expect("a temporary directory"),
            members: Vec::new(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            advertised: Vec::new(),
        };
        for (at, peer) in peers.iter().enumerate() {
            let folder = cluster.folder_of(at);
            cluster.advertised.push(front(&folder, *peer));
        }
        let named: Vec<String> = (0..count).map(|at| cluster.named(at)).collect();
        let bootstrap = vec![format!("--initial-cluster={}", named.join(","))];
        for peer in peers {
            cluster.members.push(Node {
                client: free_address(),
                peer,
                bootstrap: bootstrap.clone(),
                child: None,
            });
        }
        (0..count).for_each(|at| cluster.spawn(at, &[]));
        (0..count).for_each(|at| cluster.await_ready(at));
        cluster
    }

    /// A further member's place and peer URL, for `member add`; [`Cluster::join`] starts it.
    pub fn prepare(&mut self) -> (usize, String) {
        let peer = free_address();
        self.advertised.push(peer);
        self.members.push(Node {
            client: free_address(),
            peer,
            bootstrap: Vec::new(),
            child: None,
        });
        (self.members.len() - 1, format!("http://{peer}"))
    }

    /// Starts a prepared member, which joins the others named.
    pub fn join(&mut self, at: usize, others: &[usize]) {
        let named: Vec<String> = others
            .iter()
            .chain([&at])
            .map(|at| self.named(*at))
            .collect();
        self.members[at].bootstrap = vec![
            format!("--initial-cluster={}", named.join(",")),
            "--initial-cluster-state=existing".to_owned(),
        ];
        self.spawn(at, &[]);
    }

    /// How many members there ever were.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// Where clients of a member connect.
    pub fn client(&self, at: usize) -> SocketAddr {
        self.members[at].client
    }

    /// Where a member listens for the others.
    pub fn peer(&self, at: usize) -> SocketAddr {
        self.members[at].peer
    }

    /// Client URLs of the members named, as `--endpoints` takes them.
    pub fn endpoints(&self, of: &[usize]) -> String {
        let urls: Vec<String> = of
            .iter()
            .map(|at| format!("http://{}", self.client(*at)))
            .collect();
        urls.join(",")
    }

    /// A member's process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn process_id(&self, at: usize) -> u32 {
        self.members[at].child.as_ref().expect("it runs").id()
    }

    /// Ends the process at once.
    ///
    /// # Panics
    /// When the process cannot be waited for.
    pub fn kill(&mut self, at: usize) {
        if let Some(mut child) = self.members[at].child.take() {
            // An error means that the process has ended already, which the wait tells as well.
            let _ = child.kill();
            child.wait().expect("a child of ours");
        }
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process does not run.
    pub fn signal(&self, at: usize, signal: Signal) {
        let id = i32::try_from(self.process_id(at)).expect("a process id");
        kill_process(Pid::from_raw(id).expect("not 0"), signal).expect("it runs");
    }

    /// Starts the process again on the same data; does not wait for it to be ready.
    pub fn start_again(&mut self, at: usize) {
        self.spawn(at, &[]);
    }

    /// As [`Cluster::start_again`], with further flags this once.
    pub fn start_again_with(&mut self, at: usize, flags: &[&str]) {
        self.spawn(at, flags);
    }

    /// Waits for the process to end by itself.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`].
    pub fn await_end(&mut self, at: usize) -> ExitStatus {
        let began = Instant::now();
        loop {
            let child = self.members[at].child.as_mut().expect("it was started");
            if let Some(status) = child.try_wait().expect("a child of ours") {
                self.members[at].child = None;
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it goes on:\n{}", self.log(at));
            thread::sleep(POLL);
        }
    }

    /// Waits until a member answers linearizable reads.
    ///
    /// # Panics
    /// When it ends, or is not ready within [`PATIENCE`].
    pub fn await_ready(&mut self, at: usize) {
        let (client, log) = (self.client(at), self.log_path(at));
        let child = self.members[at].child.as_mut().expect("it was started");
        await_answer(child, client, "/health", &log);
    }

    /// What a member wrote to its log.
    pub fn log(&self, at: usize) -> String {
        std::fs::read_to_string(self.log_path(at)).unwrap_or_default()
    }

    fn log_path(&self, at: usize) -> PathBuf {
        self.folder.path().join(format!("log-{at}"))
    }

    /// A member's data directory.
    pub fn data_dir(&self, at: usize) -> PathBuf {
        self.folder_of(at).join("data")
    }

    fn folder_of(&self, at: usize) -> PathBuf {
        let folder = self.folder.path().join(format!("m{at}"));
        std::fs::create_dir_all(&folder).expect("a member's folder");
        folder
    }

    fn named(&self, at: usize) -> String {
        format!("m{at}=http://{}", self.advertised[at])
    }

    fn spawn(&mut self, at: usize, more: &[&str]) {
        let node = &self.members[at];
        let mut command = Command::new(tools::basalt());
        command
            .arg(format!("--name=m{at}"))
            .arg("--data-dir")
            .arg(self.data_dir(at))
            .arg(format!("--listen-client-urls=http://{}", node.client))
            .arg(format!("--advertise-client-urls=http://{}", node.client))
            .arg(format!("--listen-peer-urls=http://{}", node.peer))
            .arg(format!(
                "--initial-advertise-peer-urls=http://{}",
                self.advertised[at]
            ))
            .args(&node.bootstrap)
            .args(&self.flags)
            .args(more);
        let child = spawn_logged(command, &self.log_path(at));
        self.members[at].child = Some(child);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for at in 0..self.members.len() {
            self.kill(at);
        }
    }
}

const POLL: Duration = Duration::from_millis(10);
