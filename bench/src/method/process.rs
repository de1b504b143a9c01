//! A server of our own for one slice: started fresh on free loopback ports, stopped and removed with its handle.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_setaffinity};

/// The process and its data.
pub(crate) struct Process {
    child: Child,
    folder: PathBuf,
    client: SocketAddr,
}

impl Process {
    /// Starts `command` (a program and flags, split at blanks) with etcd's flags for one member, and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be started or is not ready in time; its log's end is part of the error.
    pub(crate) fn start(command: &str, folder: &Path) -> Result<Self> {
        let mut words = command.split_whitespace();
        let program = words.next().context("an empty server command")?;
        fs::create_dir_all(folder)?;
        let (client, peer) = (free_address()?, free_address()?);
        let log = File::create(folder.join("log"))?;
        let child = Command::new(program)
            .args(words)
            .args(["--name", "m", "--data-dir"])
            .arg(folder.join("data"))
            .args(["--listen-client-urls", &format!("http://{client}")])
            .args(["--advertise-client-urls", &format!("http://{client}")])
            .args(["--listen-peer-urls", &format!("http://{peer}")])
            .args(["--initial-advertise-peer-urls", &format!("http://{peer}")])
            .args(["--initial-cluster", &format!("m=http://{peer}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        let mut process = Self {
            child,
            folder: folder.to_owned(),
            client,
        };
        process.await_ready()?;
        Ok(process)
    }

    /// Where it listens.
    pub(crate) fn client(&self) -> SocketAddr {
        self.client
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its data.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn await_ready(&mut self) -> Result<()> {
        let began = Instant::now();
        while !is_ready(self.client) {
            if self.child.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                bail!(
                    "the server is not ready after {:?}; its log ends with:\n{}",
                    began.elapsed(),
                    tail(&log)
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when the process has ended already; what is left of its data is then removed all the same.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Runs `start` on that CPU and this thread on the other from then on; a child inherits the place it was born in.
///
/// # Errors
/// When there are not two CPUs.
pub(crate) fn pinned<T>(
    server_cpu: usize,
    client_cpu: usize,
    start: impl FnOnce() -> Result<T>,
) -> Result<T> {
    pin(server_cpu)?;
    let started = start();
    pin(client_cpu)?;
    started
}

fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("no CPU {cpu} to be pinned to"))
}

fn is_ready(at: SocketAddr) -> bool {
    use std::io::{Read, Write};
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET /readyz HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

const PATIENCE: Duration = Duration::from_secs(30);
