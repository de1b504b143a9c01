//! A server's process of our own: started fresh on free loopback ports, stopped and removed with its handle.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

use super::cgroup::Cgroup;
use super::programs::Program;
use crate::generator::Started;
use crate::plan::Ending;

/// The process and its data.
pub(crate) struct Process {
    program: Program,
    /// Of the child.
    cgroup: Option<Cgroup>,
    child: Child,
    folder: PathBuf,
    seat: Seat,
}

/// A member's name, its cluster, and where it listens.
pub(crate) struct Seat {
    name: String,
    /// All members with their peer URLs, as `--initial-cluster` takes them.
    cluster: String,
    client: SocketAddr,
    peer: SocketAddr,
    /// Where plain HTTP is answered; the same as `client` unless the program has it apart.
    http: SocketAddr,
}

impl Seat {
    /// Of a cluster of so many members, on free addresses.
    ///
    /// # Errors
    /// When the system has none.
    pub(crate) fn all(members: u16, program: &Program) -> Result<Vec<Self>> {
        // All at once: an address that is given back may be given out again.
        let held: Vec<TcpListener> = (0..3 * members)
            .map(|_| TcpListener::bind("127.0.0.1:0"))
            .collect::<std::io::Result<_>>()?;
        let mut seats = Vec::new();
        for (place, held) in held.chunks(3).enumerate() {
            let [client, peer, http] = [&held[0], &held[1], &held[2]].map(TcpListener::local_addr);
            let client = client?;
            seats.push(Self {
                name: format!("m{place}"),
                cluster: String::new(),
                client,
                peer: peer?,
                http: if program.http_apart { http? } else { client },
            });
        }
        let named = seats
            .iter()
            .map(|seat| format!("{}=http://{}", seat.name, seat.peer));
        let cluster = named.collect::<Vec<_>>().join(",");
        seats
            .iter_mut()
            .for_each(|seat| seat.cluster.clone_from(&cluster));
        Ok(seats)
    }

    /// The member's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Process {
    /// Starts a member with its data below `folder`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn launch(
        program: &Program,
        folder: &Path,
        seat: Seat,
        cgroup: Option<Cgroup>,
    ) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let child = spawn(program, folder, &seat, cgroup.as_ref())?;
        Ok(Self {
            program: program.clone(),
            cgroup,
            child,
            folder: folder.to_owned(),
            seat,
        })
    }

    /// Ends the process.
    ///
    /// # Errors
    /// When it does not end in time after SIGTERM.
    pub(crate) fn end(&mut self, ending: Ending) -> Result<()> {
        signal(
            self.child.id(),
            match ending {
                Ending::Stop => Signal::TERM,
                Ending::Kill => Signal::KILL,
            },
        );
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(
                began.elapsed() < PATIENCE,
                "{} runs on {} s after SIGTERM",
                self.program.name,
                PATIENCE.as_secs()
            );
            thread::sleep(Duration::from_millis(1));
        }
        self.forget();
        Ok(())
    }

    /// Starts another process on the same data and addresses. Does not wait until that one answers: the time says when it was started.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start_again(&mut self) -> Result<Started> {
        let at = Instant::now();
        self.child = spawn(
            &self.program,
            &self.folder,
            &self.seat,
            self.cgroup.as_ref(),
        )?;
        let process = self.child.id();
        Ok(Started { at, process })
    }

    /// Where clients connect.
    pub(crate) fn client(&self) -> SocketAddr {
        self.seat.client
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its data.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The end of what it wrote to its log, for the error that it led to.
    pub(crate) fn log_end(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
        // A server may log whole requests.
        let cut = |line: &&str| line.chars().take(LOG_LINE_CHARS).collect::<String>();
        let mut text = last.iter().map(cut).collect::<Vec<_>>().join("\n");
        if self.cgroup.as_ref().is_some_and(|group| group.kills() > 0) {
            text.push_str("\nthe kernel killed it: it used more memory than its group may");
        }
        text
    }

    /// It has ended: its number may become another's.
    fn forget(&self) {
        let own = self.child.id();
        living().retain(|(process, _)| *process != own);
    }

    /// Whether it says that it leads.
    pub(crate) fn is_leader(&self) -> bool {
        let metrics = get(self.seat.http, "/metrics").unwrap_or_default();
        metrics
            .lines()
            .any(|line| line == "etcd_server_is_leader 1")
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// When it is not ready in time; its log's end is part of the error.
    pub(crate) fn await_ready(&mut self) -> Result<()> {
        let began = Instant::now();
        let name = &self.program.name;
        while !get(self.seat.http, "/readyz").is_ok_and(|answer| answer.starts_with(SERVES)) {
            if self.child.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                bail!(
                    "{name} is not ready after {:.1} s; its log ends with:\n{}",
                    began.elapsed().as_secs_f64(),
                    self.log_end()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(self.child.id(), &self.folder);
        // It was killed; an error means that somebody else has waited for it.
        let _ = self.child.wait();
        // What it wrote while it died is removed with the rest.
        let _ = fs::remove_dir_all(&self.folder);
        self.forget();
    }
}

fn spawn(program: &Program, folder: &Path, seat: &Seat, cgroup: Option<&Cgroup>) -> Result<Child> {
    let Seat {
        name,
        cluster,
        client,
        peer,
        http,
    } = seat;
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))?;
    let mut command = match cgroup {
        None => Command::new(&program.binary),
        Some(cgroup) => {
            // The shell becomes a member and then the server, so that no page of that is another group's.
            let mut shell = Command::new("/bin/sh");
            shell
                .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
                .arg(cgroup.members())
                .arg(&program.binary);
            shell
        }
    };
    command
        .args(&program.arguments)
        .args(["--name", name, "--data-dir"])
        .arg(folder.join("data"))
        .args(["--listen-client-urls", &format!("http://{client}")])
        .args(["--advertise-client-urls", &format!("http://{client}")])
        .args(["--listen-peer-urls", &format!("http://{peer}")])
        .args(["--initial-advertise-peer-urls", &format!("http://{peer}")])
        .args(["--initial-cluster", cluster]);
    if program.http_apart {
        command.args(["--listen-client-http-urls", &format!("http://{http}")]);
    }
    let mut living = living();
    let child = command
        .envs(program.environment.iter().cloned())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A terminal sends Ctrl-C to the whole group of its program: the server must outlive the slice that it stops.
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting {}", program.binary.display()))?;
    living.push((child.id(), folder.to_owned()));
    Ok(child)
}

/// Ends every server that was started and removes its data: for exits that run no destructor.
pub(crate) fn end_all() {
    for (process, folder) in living().iter() {
        end(*process, folder);
    }
}

fn end(process: u32, folder: &Path) {
    signal(process, Signal::KILL);
    let _ = fs::remove_dir_all(folder);
}

fn signal(process: u32, signal: Signal) {
    if let Some(group) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        // Fails when it has ended already, which is what is wanted.
        let _ = kill_process_group(group, signal);
    }
}

/// Servers that run, and their folders.
static LIVING: Mutex<Vec<(u32, PathBuf)>> = Mutex::new(Vec::new());

fn living() -> MutexGuard<'static, Vec<(u32, PathBuf)>> {
    LIVING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The whole answer, with its head.
fn get(at: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

const SERVES: &str = "HTTP/1.1 200";
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const LOG_LINES: usize = 8;
const LOG_LINE_CHARS: usize = 300;
