//! The flags of `compare`, and the plan that comes of them.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use super::programs::{EtcdMissing, Paths, Program};
use crate::plan::{BASALT, BASALT_AGAIN, Plan, SERVERS};
use crate::record::Placement;

/// How to compare.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// A committed plan (full, quick, a-a) or a file
    #[arg(value_name = "PLAN", default_value = "full")]
    pub plan: String,
    /// The same as PLAN
    #[arg(long = "plan", value_name = "FILE", conflicts_with = "plan")]
    pub plan_flag: Option<String>,
    /// The plan `quick`: the five headline cells in under 5 minutes
    #[arg(long, conflicts_with_all = ["plan", "plan_flag", "aa"])]
    pub quick: bool,
    /// basalt against itself, to see the noise: the plan `a-a`, or PLAN with its servers replaced. Fails unless every interval of the ratio
    /// of CPU per operation holds 1 and is narrower than 5 %
    #[arg(long, conflicts_with = "servers")]
    pub aa: bool,
    #[command(flatten)]
    pub paths: Paths,
    /// These servers instead of the plan's: basalt, basalt-again, etcd-tuned, etcd-default and names given with --other
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub servers: Vec<String>,
    /// Only cells whose names begin with one of these, such as W02,W07-get-lin
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub cells: Vec<String>,
    /// These placements instead of the plan's: pinned (server on the first CPU, generator on the second), unpinned
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub placements: Vec<Placement>,
    /// Rounds instead of the plan's; a round is all servers there and back
    #[arg(long, value_name = "N")]
    pub rounds: Option<u32>,
    /// Measured seconds of a slice instead of the plan's
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,
    /// Seconds before them instead of the plan's
    #[arg(long, value_name = "S")]
    pub warmup: Option<f64>,
    /// Slices of a cell and placement that may be run again when they were disturbed, instead of the plan's
    #[arg(long, value_name = "N")]
    pub repeats: Option<u32>,
    /// Last part of the results folder's name instead of the plan's
    #[arg(long)]
    pub name: Option<String>,
    /// Where results are kept
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub results: PathBuf,
    /// Where the servers' data lie while they run: decides which disk is measured
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub data_root: PathBuf,
    /// A control group of the kernel's with memory, below which servers of cells with little memory get groups of their own, such as
    /// /sys/fs/cgroup/bench. Needs the right to make them
    #[arg(long, value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
    /// Plain lines also on a terminal
    #[arg(long)]
    pub no_progress: bool,
}

impl Options {
    /// The plan as it will be run, its programs, and what had to be left out.
    ///
    /// # Errors
    /// When the flags lead to no valid plan, or a program that was asked for is not there.
    pub(crate) fn resolve(&self) -> Result<(Plan, Vec<Program>, Option<EtcdMissing>)> {
        let mut plan = Plan::load(self.plan_name())?;
        self.change(&mut plan)?;
        let mut known: Vec<&str> = SERVERS.to_vec();
        known.extend(self.paths.other.iter().map(|(name, _)| name.as_str()));
        let problems = plan.problems(&known);
        ensure!(problems.is_empty(), "{}", problems.join("\n"));
        let (programs, missing) = self.programs(&mut plan)?;
        Ok((plan, programs, missing))
    }

    fn plan_name(&self) -> &str {
        match &self.plan_flag {
            Some(plan) => plan,
            None if self.quick => "quick",
            None if self.aa && self.plan == "full" => "a-a",
            None => &self.plan,
        }
    }

    fn change(&self, plan: &mut Plan) -> Result<()> {
        if !self.cells.is_empty() {
            for wanted in &self.cells {
                let is_there = plan.cells.iter().any(|cell| cell.name.starts_with(wanted));
                ensure!(is_there, "no cell of {} begins with {wanted}", plan.name);
            }
            plan.cells.retain(|cell| {
                self.cells
                    .iter()
                    .any(|wanted| cell.name.starts_with(wanted))
            });
            let cells = &plan.cells;
            plan.methods
                .retain(|name, _| cells.iter().any(|cell| cell.method == *name));
        }
        if let Some(name) = &self.name {
            plan.name.clone_from(name);
        } else if self.aa && !plan.name.starts_with("a-a") {
            // The page tells runs of a server beside itself by their names.
            plan.name.insert_str(0, "a-a-");
        }
        for method in plan.methods.values_mut() {
            if !self.placements.is_empty() {
                method.placements.clone_from(&self.placements);
            }
            if let Some(rounds) = self.rounds {
                method.rounds = rounds;
                method.unpinned_rounds = None;
            }
            method.seconds = self.seconds.unwrap_or(method.seconds);
            method.warmup = self.warmup.unwrap_or(method.warmup);
            method.repeats_max = self.repeats.unwrap_or(method.repeats_max);
        }
        for servers in plan.server_lists() {
            if self.aa {
                *servers = vec![BASALT.to_owned(), BASALT_AGAIN.to_owned()];
            } else if self.servers.is_empty() {
                servers.extend(self.paths.other.iter().map(|(name, _)| name.clone()));
            } else {
                servers.clone_from(&self.servers);
            }
        }
        if !self.servers.is_empty() {
            for (name, _) in &self.paths.other {
                ensure!(
                    self.servers.contains(name),
                    "--other {name} is not among --servers {}",
                    self.servers.join(",")
                );
            }
        }
        Ok(())
    }

    /// All programs of the plan. Stock etcd may be missing unless it was asked for by name; it is then taken out of the plan.
    fn programs(&self, plan: &mut Plan) -> Result<(Vec<Program>, Option<EtcdMissing>)> {
        let mut names: Vec<String> = Vec::new();
        for cell in &plan.cells {
            for name in cell.servers(plan.method(cell)?) {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
        }
        let mut programs = Vec::new();
        let mut missing = None;
        for name in names {
            match self.paths.find(&name) {
                Ok(program) => programs.push(program),
                Err(error) => match error.downcast::<EtcdMissing>() {
                    Ok(etcd) if self.servers.is_empty() => {
                        missing = Some(etcd);
                        leave_out(plan, &name);
                    }
                    Ok(_) => bail!("{name} was asked for, but there is {EtcdMissing}"),
                    Err(error) => return Err(error).with_context(|| format!("the server {name}")),
                },
            }
        }
        ensure!(!plan.cells.is_empty(), "no cell has a server that is there");
        Ok((programs, missing))
    }
}

/// Takes a server out of a plan, and cells that are then without any.
fn leave_out(plan: &mut Plan, name: &str) {
    for servers in plan.server_lists() {
        servers.retain(|server| server != name);
    }
    let methods = &plan.methods;
    plan.cells.retain(|cell| {
        let method = methods.get(&cell.method);
        method.is_some_and(|method| !cell.servers(method).is_empty())
    });
}
