//! What a server costs: its CPU clock, the machine's, the disk's counters. Read before and after, subtracted.

pub(crate) mod disk;
mod others;

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use self::disk::Disks;
use self::others::Table;
use crate::record::Cost;

pub(crate) use self::others::Busiest;

/// All counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    server_ns: u64,
    server_threads_ns: u64,
    server_switches: u64,
    server_major_faults: u64,
    client_ns: u64,
    machine_ns: u64,
    steal_ns: u64,
    disk: disk::Counters,
}

/// Whose counters to read.
pub(crate) struct Meter {
    /// All processes of the server, whose figures are added up.
    servers: Vec<u32>,
    disks: Option<Disks>,
    /// Servers that are up and should do nothing.
    idle: Vec<u32>,
    /// What everybody else had used at the first and at the last reading.
    watched: RefCell<Option<(Bystanders, Option<Bystanders>)>>,
}

/// Everybody but the server and the generator at one moment.
struct Bystanders {
    at: Instant,
    others: Table,
    /// Nanoseconds of each idle server.
    idle_ns: Vec<u64>,
}

impl Meter {
    /// `servers` are processes; `data_dir` lies on the disk to watch. Either may be left out, its figures are then 0.
    ///
    /// # Errors
    /// When a process or the directory is not there.
    pub(crate) fn new(servers: Vec<u32>, data_dir: Option<&Path>) -> Result<Self> {
        for process in &servers {
            process_clock(*process)?;
        }
        Ok(Self {
            servers,
            disks: data_dir.map(Disks::below).transpose()?,
            idle: Vec::new(),
            watched: RefCell::new(None),
        })
    }

    /// Watches servers that are up and should do nothing.
    pub(crate) fn with_idle(mut self, idle: Vec<u32>) -> Self {
        self.idle = idle;
        self
    }

    /// Reads all counters. What others do is watched from the first reading to the last.
    ///
    /// # Errors
    /// When the server is gone.
    pub(crate) fn read(&self) -> Result<Counters> {
        // Looking at everybody takes a millisecond: outside of what is measured, so first at the begin and last at the end.
        let mut watched = self.watched.borrow_mut();
        let Some((_, last)) = &mut *watched else {
            *watched = Some((self.bystanders()?, None));
            return self.counters();
        };
        let counters = self.counters()?;
        *last = Some(self.bystanders()?);
        Ok(counters)
    }

    /// Who else was busiest between the first and the last reading.
    pub(crate) fn busiest_other(&self) -> Option<Busiest> {
        let watched = self.watched.borrow();
        let (first, last) = watched.as_ref()?;
        first.others.busiest_until(&last.as_ref()?.others)
    }

    /// The largest share of one CPU that an idle server used meanwhile.
    pub(crate) fn idle_busy(&self) -> f64 {
        let watched = self.watched.borrow();
        let Some((first, Some(last))) = watched.as_ref() else {
            return 0.0;
        };
        let elapsed = (last.at - first.at).as_nanos() as f64;
        let used = first.idle_ns.iter().zip(&last.idle_ns);
        used.map(|(first, last)| last.saturating_sub(*first) as f64 / elapsed)
            .fold(0.0, f64::max)
    }

    fn bystanders(&self) -> Result<Bystanders> {
        let known: Vec<u32> = self.idle.iter().chain(&self.servers).copied().collect();
        Ok(Bystanders {
            at: Instant::now(),
            others: Table::read(&known),
            idle_ns: self
                .idle
                .iter()
                .map(|process| process_clock(*process))
                .collect::<Result<_>>()?,
        })
    }

    fn counters(&self) -> Result<Counters> {
        let (machine_ns, steal_ns) = machine_clock()?;
        let mut counters = Counters {
            client_ns: process_clock(std::process::id())?,
            machine_ns,
            steal_ns,
            disk: self
                .disks
                .as_ref()
                .map(Disks::counters)
                .transpose()?
                .unwrap_or_default(),
            ..Counters::default()
        };
        for process in &self.servers {
            let (threads_ns, switches) = threads_clock(*process)?;
            counters.server_threads_ns += threads_ns;
            counters.server_switches += switches;
            counters.server_ns += process_clock(*process)?;
            counters.server_major_faults += major_faults(*process).unwrap_or_default();
        }
        Ok(counters)
    }

    /// Resident bytes of the server now, and at most so far.
    pub(crate) fn memory(&self) -> Option<(u64, u64)> {
        let each = self.servers.iter().map(|process| resident(*process));
        each.reduce(|sum, one| {
            let ((now, most), (more, most_more)) = (sum?, one?);
            Some((now + more, most + most_more))
        })?
    }

    /// The server's memory with shared pages divided among those who share them, in bytes.
    pub(crate) fn proportional_memory(&self) -> Option<u64> {
        let each = self.servers.iter().map(|process| proportional(*process));
        each.reduce(|sum, one| Some(sum? + one?))?
    }

    /// The disks below the data directory.
    pub(crate) fn disks(&self) -> Option<&Disks> {
        self.disks.as_ref()
    }
}

impl Counters {
    /// What was spent from `self` to `later`.
    pub(crate) fn until(&self, later: &Counters) -> Cost {
        let client = later.client_ns - self.client_ns;
        Cost {
            server_cpu_ns: later.server_ns - self.server_ns,
            // Threads that ended in between take their time with them: never below zero.
            server_threads_ns: later
                .server_threads_ns
                .saturating_sub(self.server_threads_ns),
            server_switches: later.server_switches.saturating_sub(self.server_switches),
            server_major_faults: later
                .server_major_faults
                .saturating_sub(self.server_major_faults),
            client_cpu_ns: client,
            machine_less_client_ns: (later.machine_ns - self.machine_ns).saturating_sub(client),
            steal_ns: later.steal_ns - self.steal_ns,
            disk_writes: later.disk.writes - self.disk.writes,
            disk_bytes: later.disk.bytes - self.disk.bytes,
            disk_flushes: later.disk.flushes - self.disk.flushes,
        }
    }
}

/// Nanoseconds that a process has run, by its own clock; threads that ended are in it.
fn process_clock(process: u32) -> Result<u64> {
    let id = Pid::from_raw(i32::try_from(process)?);
    let now = clock_getcpuclockid(id)
        .and_then(nix::time::clock_gettime)
        .with_context(|| format!("no process {process}"))?;
    Ok(now.tv_sec() as u64 * SECOND_NS + now.tv_nsec() as u64)
}

/// Nanoseconds on a CPU and number of time slices, summed over the threads of a process.
fn threads_clock(process: u32) -> Result<(u64, u64)> {
    let mut sum = (0, 0);
    let tasks = fs::read_dir(format!("/proc/{process}/task"))
        .with_context(|| format!("no process {process}"))?;
    for task in tasks {
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        let mut words = text
            .split_whitespace()
            .map(|word| word.parse::<u64>().unwrap_or(0));
        sum.0 += words.next().unwrap_or(0);
        sum.1 += words.nth(1).unwrap_or(0);
    }
    Ok(sum)
}

/// Of a process since it began, its threads' included.
fn major_faults(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before it may hold anything; the state is the first word behind it, the count the tenth.
    let (_, behind) = text.rsplit_once(')')?;
    behind.split_whitespace().nth(9)?.parse().ok()
}

/// Resident bytes now, and at most so far.
fn resident(process: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    Some((field(&status, "VmRSS:")?, field(&status, "VmHWM:")?))
}

fn proportional(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    field(&text, "Pss:")
}

/// The bytes behind a name in the kernel's lists, which count kibibytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Busy and stolen nanoseconds of all CPUs together.
fn machine_clock() -> Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .map(|word| word.parse().unwrap_or(0))
        .collect();
    // user nice system idle iowait irq softirq steal
    let at = |place: usize| ticks.get(place).copied().unwrap_or(0) * TICK_NS;
    Ok((at(0) + at(1) + at(2) + at(5) + at(6), at(7)))
}

const SECOND_NS: u64 = 1_000_000_000;

/// The kernel shows /proc/stat to programs in hundredths of a second on every platform that matters here.
const TICK_NS: u64 = 10_000_000;
