//! The members of one server under measurement: a lone one, or a cluster of which one member is driven.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::cgroup::Cgroup;
use super::place::Cpus;
use super::process::{PATIENCE, Process, Seat};
use super::programs::Program;
use crate::generator::{Cluster, Started};
use crate::plan::{Ending, Load, Role};
use crate::record::Placement;

/// Ended and removed with the handle.
pub(crate) struct Group {
    members: Vec<Process>,
    /// The place of the one that clients connect to.
    driven: usize,
    role: Role,
}

impl Group {
    /// Starts as many members as the load wants, with their data beside `folder`, and waits until all serve.
    ///
    /// # Errors
    /// When one cannot be started, or they are not ready in time.
    pub(crate) fn start(
        program: &Program,
        folder: &Path,
        load: &Load,
        cgroup: Option<Cgroup>,
    ) -> Result<Self> {
        let mut cgroup = cgroup;
        let mut members = Vec::new();
        for seat in Seat::all(load.members, program)? {
            let folder = match load.members {
                1 => folder.to_owned(),
                _ => folder.with_added_extension(seat.name()),
            };
            // A group is for a lone member: the plan's check says so.
            members.push(Process::launch(program, &folder, seat, cgroup.take())?);
        }
        for member in &mut members {
            member.await_ready()?;
        }
        let mut group = Self {
            members,
            driven: 0,
            role: load.to,
        };
        if group.members.len() > 1 {
            let leader = group.await_leader()?;
            group.driven = match load.to {
                Role::Leader => leader,
                Role::Follower => (leader + 1) % group.members.len(),
            };
        }
        Ok(group)
    }

    /// Where clients connect.
    pub(crate) fn client(&self) -> SocketAddr {
        self.members[self.driven].client()
    }

    /// The numbers of all processes.
    pub(crate) fn ids(&self) -> Vec<u32> {
        self.members.iter().map(Process::id).collect()
    }

    /// Of the member that is driven; all lie on one disk.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.members[self.driven].data_dir()
    }

    /// The ends of what they wrote to their logs.
    pub(crate) fn log_end(&self) -> String {
        let ends = self.members.iter().map(Process::log_end);
        let ends: Vec<String> = ends.filter(|end| !end.is_empty()).collect();
        ends.join("\n--- the next member:\n")
    }

    /// Ends a lone member and starts it again.
    ///
    /// # Errors
    /// As of [`Process::end`] and [`Process::start_again`].
    pub(crate) fn restart(&mut self, ending: Ending) -> Result<Started> {
        let driven = &mut self.members[self.driven];
        driven.end(ending)?;
        driven.start_again()
    }

    /// Whether the member that is driven has the role that it was chosen for. Others may be elected at any time.
    pub(crate) fn is_in_role(&self) -> bool {
        let wants_leader = self.role == Role::Leader;
        self.members.len() == 1 || self.members[self.driven].is_leader() == wants_leader
    }

    /// The place of the one that leads, once there is one.
    fn await_leader(&self) -> Result<usize> {
        let began = Instant::now();
        loop {
            if let Some(leader) = self.members.iter().position(Process::is_leader) {
                return Ok(leader);
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "nobody leads; the logs end with:\n{}",
                self.log_end()
            );
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

/// A group whose leader may be killed, and the CPUs on which it is started again.
pub(crate) struct Killable<'a> {
    group: &'a mut Group,
    cpus: &'a Cpus,
    placement: Placement,
    leader: Option<usize>,
}

impl<'a> Killable<'a> {
    /// Nobody is chosen yet.
    pub(crate) fn new(group: &'a mut Group, cpus: &'a Cpus, placement: Placement) -> Self {
        Self {
            group,
            cpus,
            placement,
            leader: None,
        }
    }
}

impl Cluster for Killable<'_> {
    fn followers(&mut self) -> Result<Vec<SocketAddr>> {
        let leader = self.group.await_leader()?;
        self.leader = Some(leader);
        let members = self.group.members.iter().enumerate();
        let others = members.filter(|(place, _)| *place != leader);
        Ok(others.map(|(_, member)| member.client()).collect())
    }

    fn kill_leader(&mut self) -> Result<Instant> {
        let leader = self.leader.context("asked for the followers before")?;
        let at = Instant::now();
        self.group.members[leader].end(Ending::Kill)?;
        Ok(at)
    }

    fn start_again(&mut self) -> Result<()> {
        let leader = self.leader.take().context("killed before")?;
        let member = &mut self.group.members[leader];
        self.cpus.start_server(self.placement, || {
            member.start_again()?;
            member.await_ready()
        })?;
        // It is to be no stranger to the others when the next leader is killed.
        thread::sleep(REST);
        Ok(())
    }
}

const LOOK_INTERVAL: Duration = Duration::from_millis(5);
const REST: Duration = Duration::from_secs(1);
