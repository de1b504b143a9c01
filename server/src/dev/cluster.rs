use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::ClusterFlags;

/// The processes. Dropped, they are ended.
pub(super) struct Members {
    members: Vec<Member>,
}

struct Member {
    name: String,
    client: SocketAddr,
    log: PathBuf,
    child: Child,
    /// As seen last: a member that has ended stays so.
    state: State,
}

/// How far a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Starting,
    Serving,
    Ended,
}

impl State {
    pub(super) fn mark(&self) -> char {
        match self {
            State::Starting => '.',
            State::Serving => '#',
            State::Ended => 'x',
        }
    }
}

impl Members {
    pub(super) fn start(flags: &ClusterFlags) -> io::Result<Members> {
        let places = 0..flags.members;
        let named: Vec<String> = places
            .clone()
            .map(|at| format!("m{at}=http://{}", address(flags, at, 1)))
            .collect();
        let cluster = named.join(",");
        let mut members = Members {
            members: Vec::new(),
        };
        for at in places {
            members.members.push(Member::start(flags, at, &cluster)?);
        }
        Ok(members)
    }

    /// Asks each once.
    pub(super) fn look(&mut self) -> Vec<State> {
        for member in &mut self.members {
            if matches!(member.child.try_wait(), Ok(Some(_))) {
                member.state = State::Ended;
            } else if member.state == State::Starting && is_healthy(member.client) {
                member.state = State::Serving;
            }
        }
        self.members.iter().map(|member| member.state).collect()
    }

    pub(super) fn name(&self, at: usize) -> &str {
        &self.members[at].name
    }

    pub(super) fn log(&self, at: usize) -> &PathBuf {
        &self.members[at].log
    }

    pub(super) fn endpoints(&self) -> String {
        let urls = self
            .members
            .iter()
            .map(|member| format!("http://{}", member.client));
        urls.collect::<Vec<_>>().join(",")
    }

    /// Asks all to end and waits for them.
    pub(super) fn stop(&mut self) {
        for member in &self.members {
            if let Some(id) = i32::try_from(member.child.id())
                .ok()
                .and_then(Pid::from_raw)
            {
                // It may have ended by itself, or by the same interrupt.
                let _ = kill_process(id, Signal::TERM);
            }
        }
        for member in &mut self.members {
            // One that cannot be waited for is nobody's child any more.
            let _ = member.child.wait();
        }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Member {
    fn start(flags: &ClusterFlags, at: u16, cluster: &str) -> io::Result<Member> {
        let name = format!("m{at}");
        let (client, peer) = (address(flags, at, 0), address(flags, at, 1));
        let log = flags.data_dir.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(std::env::current_exe()?)
            .arg(format!("--name={name}"))
            .arg("--data-dir")
            .arg(flags.data_dir.join(format!("{name}.etcd")))
            .arg(format!("--listen-client-urls=http://{client}"))
            .arg(format!("--advertise-client-urls=http://{client}"))
            .arg(format!("--listen-peer-urls=http://{peer}"))
            .arg(format!("--initial-advertise-peer-urls=http://{peer}"))
            .arg(format!("--initial-cluster={cluster}"))
            .arg("--initial-cluster-token=basalt-dev")
            .args(&flags.flags)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Member {
            name,
            client,
            log,
            child,
            state: State::Starting,
        })
    }
}

/// `offset` 0 is for clients, 1 for peers.
fn address(flags: &ClusterFlags, at: u16, offset: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, flags.base_port + 10 * at + offset).into()
}

/// Whether it answers linearizable reads. A member that does not answer in time is asked again anyway.
fn is_healthy(client: SocketAddr) -> bool {
    let ask = || -> io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&client, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream
            .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head == *b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}

const PATIENCE: Duration = Duration::from_millis(200);
