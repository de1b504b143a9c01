//! A plan from its first slice to its summary. One cell at a time, rounds of servers there and back, each slice as `slice.rs` runs it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Error, Result};

use super::cgroup::Cgroup;
use super::group::{Group, Killable};
use super::host;
use super::interrupt::Interrupt;
use super::judge::{self, Disturbance};
use super::options::Options;
use super::place::Cpus;
use super::programs::Program;
use super::progress::{self, Progress};
use super::results::Folder;
use super::verdict::{self, Digests};
use crate::cost::{Meter, disk};
use crate::generator::{self, Cluster, Data, Intervals, Restarter, Server, Time};
use crate::plan::{Cell, Method, Plan};
use crate::record::{Placement, Slice};
use crate::report::{pictures, summary};

/// How a comparison ended.
pub(crate) enum Ended {
    /// All was measured; what failed is in the summary.
    Whole { failures: usize },
    /// A signal ended it; the program's exit code.
    Interrupted(u8),
}

/// Runs a plan and writes its folder.
///
/// # Errors
/// When the flags make no valid plan, or the folder cannot be written. A cell that fails is a line of the summary, and the others go on.
pub(crate) fn run(options: &Options) -> Result<Ended> {
    let (plan, programs, missing) = options.resolve()?;
    if let Some(missing) = missing {
        eprintln!("{missing}\n");
    }
    let cpus = Cpus::of_this_thread()?;
    let interrupt = Interrupt::listen()?;
    let host = host::describe(&programs, &options.data_root)?;
    for warning in host.warnings() {
        eprintln!("WARNING: {warning}");
    }
    let mut folder = Folder::create(&options.results, &plan.name)?;
    folder.write("plan.json", &plan)?;
    folder.write("host.json", &host)?;
    let (least, most) = plan.estimate();
    eprintln!(
        "{}: {} slices, about {}, at most {} with all repeats; {}",
        plan.name,
        plan.slices(),
        progress::minutes(Duration::from_secs_f64(least)),
        progress::minutes(Duration::from_secs_f64(most)),
        folder.path().display()
    );
    let mut run = Run {
        options,
        programs: &programs,
        cpus,
        interrupt,
        progress: Progress::new(!options.no_progress, plan.slices(), least)?,
        folder,
        slices: Vec::new(),
        failures: Vec::new(),
        place: 0,
        starts: 0,
    };
    run.all(&plan)?;
    run.progress.finish();
    run.summarise(&plan, host.warnings())?;
    println!("{}", run.folder.path().display());
    Ok(match run.interrupt.exit_code() {
        Some(code) => Ended::Interrupted(code),
        None => Ended::Whole {
            failures: run.failures.len(),
        },
    })
}

struct Run<'a> {
    options: &'a Options,
    programs: &'a [Program],
    cpus: Cpus,
    interrupt: Interrupt,
    progress: Progress,
    folder: Folder,
    /// All that were measured, discarded ones too.
    slices: Vec<Slice>,
    /// What makes the whole comparison fail, a line each.
    failures: Vec<String>,
    /// Of the last slice, counted from 1.
    place: u32,
    /// Servers started so far: each has a folder of its own.
    starts: u32,
}

/// A cell at one placement.
#[derive(Clone, Copy)]
struct Stage<'a> {
    cell: &'a Cell,
    method: &'a Method,
    placement: Placement,
}

/// A server that is up.
struct Up {
    group: Group,
    data: Data,
}

/// A measured slice that is not written yet.
struct Measured {
    slice: Slice,
    intervals: Intervals,
    disturbance: Option<Disturbance>,
}

impl Run<'_> {
    fn all(&mut self, plan: &Plan) -> Result<()> {
        // Of each cell, at both placements.
        let mut digests: BTreeMap<&str, Digests> = BTreeMap::new();
        // Whoever ends the run early has every cell at the first placement.
        for placement in [Placement::Pinned, Placement::Unpinned] {
            for cell in &plan.cells {
                let method = plan.method(cell)?;
                if !method.placements.contains(&placement) {
                    continue;
                }
                let stage = Stage {
                    cell,
                    method,
                    placement,
                };
                let settled = self.slices.len();
                let ended = self.stage(stage, digests.entry(&cell.name).or_default());
                if self.interrupt.exit_code().is_some() {
                    return Ok(());
                }
                if let Err(error) = ended {
                    self.fail(format!("{}: {error:#}", stage.name()));
                }
                let counted = &self.slices[settled..];
                let done = counted.iter().filter(|slice| slice.discarded.is_none());
                let all = cell.slices(method, placement);
                let left = all - (done.count() as u32).min(all);
                self.progress
                    .skip(left, f64::from(left) * cell.slice_seconds(method));
            }
        }
        Ok(())
    }

    fn fail(&mut self, failure: String) {
        self.progress.line(&format!("FAILED {failure}"));
        self.failures.push(failure);
    }

    fn stage(&mut self, stage: Stage<'_>, digests: &mut Digests) -> Result<()> {
        let servers = stage.cell.servers(stage.method);
        let mut up = Vec::new();
        if stage.cell.stay_up {
            for name in servers {
                up.push((name.clone(), self.start_loaded(stage, name)?));
            }
            self.progress.spend(stage.cell.begin_seconds(stage.method));
        }
        let mut repeats = stage.method.repeats_max;
        let mut failed = BTreeSet::new();
        for round in 1..=stage.method.rounds(stage.placement) {
            for name in Method::round(servers) {
                if failed.contains(name) {
                    continue;
                }
                let measured = match self.settle_slice(stage, name, round, &up, &mut repeats) {
                    Ok(measured) => measured,
                    Err(error) if self.interrupt.exit_code().is_some() => return Err(error),
                    Err(error) => {
                        // What one server cannot do, the others may: they are measured all the same.
                        self.fail(format!("{}: {error:#}", stage.name()));
                        up.retain(|(up, _)| up != name);
                        failed.insert(name.clone());
                        continue;
                    }
                };
                let Some(digest) = measured.figures.verified.digest else {
                    continue;
                };
                digests.compare(name, digest)?;
            }
        }
        Ok(())
    }

    /// Starts a server that will stay up, and loads it.
    fn start_loaded(&mut self, stage: Stage<'_>, name: &str) -> Result<Up> {
        self.progress.begin(format!("{} {name}", stage.name()));
        let group = self.start(stage, name)?;
        let (progress, interrupt) = (&self.progress, &self.interrupt);
        generator::prepare(group.client(), &stage.cell.shape, &mut |phase, _, share| {
            progress.show(phase, share, 0.0);
            interrupt.flow()
        })
        .with_context(|| format!("loading {name}"))?;
        Ok(Up {
            group,
            data: Data::Loaded,
        })
    }

    fn start(&mut self, stage: Stage<'_>, name: &str) -> Result<Group> {
        self.starts += 1;
        let program = self
            .programs
            .iter()
            .find(|program| program.name == name)
            .with_context(|| format!("no program for {name}"))?;
        let folder = format!("basalt-bench-{}-{}", std::process::id(), self.starts);
        let cgroup = match stage.cell.memory_max_mib {
            None => None,
            Some(mib) => {
                let parent = self.options.cgroup.as_ref().context(CGROUP_MISSING)?;
                let bytes_max = u64::from(mib) << 20;
                Some(Cgroup::create(parent, &folder, bytes_max)?)
            }
        };
        let folder = self.options.data_root.join(folder);
        let load = &stage.cell.load;
        self.cpus.start_server(stage.placement, || {
            Group::start(program, &folder, load, cgroup)
        })
    }

    /// One slice, again and again while it is disturbed and repeats are left. What is written counts, or says why it does not.
    fn settle_slice(
        &mut self,
        stage: Stage<'_>,
        name: &str,
        round: u32,
        up: &[(String, Up)],
        repeats: &mut u32,
    ) -> Result<Slice> {
        let estimate = stage.cell.slice_seconds(stage.method);
        let mut tries: Vec<Measured> = Vec::new();
        let mut failure = loop {
            match self.slice(stage, name, round, up) {
                Ok(measured) => tries.push(measured),
                Err(error) => break Some(error),
            }
            let is_quiet = tries.last().is_some_and(|last| last.disturbance.is_none());
            let again = *repeats > 0 && tries.len() <= REPEATS_OF_ONE_MAX;
            if is_quiet || !again || self.interrupt.exit_code().is_some() {
                break None;
            }
            *repeats -= 1;
        };
        self.progress.settle(estimate);
        let weight = |measured: &Measured| {
            measured
                .disturbance
                .as_ref()
                .map_or(0.0, |disturbance| disturbance.weight)
        };
        let kept = tries
            .iter()
            .enumerate()
            .min_by(|(_, one), (_, other)| weight(one).total_cmp(&weight(other)))
            .map(|(place, _)| place);
        let mut result = None;
        for (place, mut measured) in tries.into_iter().enumerate() {
            let why = measured.disturbance.take().map(|found| found.reason);
            if measured.slice.discarded.is_some() {
                failure = failure.or_else(|| measured.slice.discarded.clone().map(Error::msg));
            } else if Some(place) == kept && measured.slice.figures.answered > 0 {
                measured.slice.disturbed = why;
            } else {
                measured.slice.discarded = why;
            }
            self.write(stage, &measured)?;
            if measured.slice.discarded.is_none() {
                result = Some(measured.slice);
            }
        }
        match (failure, result) {
            (Some(failure), _) => Err(failure.context(name.to_owned())),
            (None, Some(slice)) => Ok(slice),
            (None, None) => anyhow::bail!("{name}: no answer came in the measured time"),
        }
    }

    fn slice(
        &mut self,
        stage: Stage<'_>,
        name: &str,
        round: u32,
        up: &[(String, Up)],
    ) -> Result<Measured> {
        let Stage {
            cell,
            method,
            placement,
        } = stage;
        self.progress.begin(format!("{} {name}", stage.name()));
        super::settle()?;
        let began = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        self.place += 1;
        let staying = up.iter().find(|(up, _)| up == name);
        let mut own = match staying {
            Some(_) => None,
            None => Some(Up {
                group: self.start(stage, name)?,
                data: Data::Load,
            }),
        };
        let driven = own.as_ref().or(staying.map(|(_, driven)| driven));
        let driven = driven.context("either stays up or was started")?;
        let (client, data) = (driven.group.client(), driven.data);
        let idle = up.iter().filter(|(up, _)| up != name);
        let idle = idle.flat_map(|(_, up)| up.group.ids()).collect();
        let group = &driven.group;
        let meter = Meter::new(group.ids(), Some(&group.data_dir()))?.with_idle(idle);
        let time = Time {
            warmup: Duration::from_secs_f64(method.warmup),
            measured: Duration::from_secs_f64(method.seconds),
        };
        let (progress, interrupt) = (&self.progress, &self.interrupt);
        let estimate = cell.slice_seconds(method);
        let cpus = &self.cpus;
        let (mut restart, mut cluster) = (None, None);
        match (&mut own, cell.load.leader_kills) {
            (Some(own), Some(_)) => {
                cluster = Some(Killable::new(&mut own.group, cpus, placement));
            }
            (Some(own), None) => {
                let group = &mut own.group;
                restart = Some(|ending| cpus.start_server(placement, || group.restart(ending)));
            }
            (None, _) => {}
        }
        let server = Server {
            endpoint: client,
            meter: &meter,
            restart: restart.as_mut().map(|restart| restart as Restarter<'_>),
            cluster: cluster.as_mut().map(|cluster| cluster as &mut dyn Cluster),
        };
        let run = generator::measure(
            server,
            &cell.load,
            &cell.shape,
            data,
            time,
            &mut |phase, _, share| {
                progress.show(phase, share, estimate);
                interrupt.flow()
            },
        );
        let generator::Run {
            mut figures,
            intervals,
        } = run.map_err(
            |error| match log_of(own.as_ref().or(staying.map(|(_, up)| up))) {
                log if log.is_empty() => error,
                log => Error::msg(format!("{error:#}; its log ends with:\n{log}")),
            },
        )?;
        super::complete(&mut figures, &meter);
        let mut warnings = judge::warnings(&figures, &cell.load);
        let driven = own.as_ref().or(staying.map(|(_, up)| up));
        let has_moved = driven.is_some_and(|up| !up.group.is_in_role());
        if cell.load.leader_kills.is_none() && has_moved {
            warnings.push("the leader moved meanwhile".to_owned());
        }
        let proof = meter.disks().map_or(disk::Proof::None, disk::Disks::proof);
        let slice = Slice {
            cell: cell.name.clone(),
            placement,
            server: name.to_owned(),
            round,
            place: self.place,
            discarded: judge::disqualification(&figures, &cell.load, proof),
            disturbed: None,
            began,
            busiest_other: meter.busiest_other().map(|busiest| busiest.process),
            idle_busy: meter.idle_busy(),
            warnings,
            figures,
        };
        Ok(Measured {
            disturbance: judge::disturbance(&slice),
            slice,
            intervals,
        })
    }

    /// Writes a slice's line and, when it counts, its histograms.
    fn write(&mut self, stage: Stage<'_>, measured: &Measured) -> Result<()> {
        let slice = &measured.slice;
        self.folder.append("slices.jsonl", slice)?;
        if slice.discarded.is_none() {
            let file = format!("{}.{}.hlog", stage.cell.name, stage.placement.name());
            let path = self.folder.path().join(file);
            let is_new = !path.exists();
            let mut out =
                std::io::BufWriter::new(File::options().create(true).append(true).open(path)?);
            if is_new {
                Intervals::write_header(&mut out)?;
            }
            let tag = format!("{}-{}", slice.server, slice.place);
            measured.intervals.write(&mut out, &tag)?;
        }
        self.progress.slice_line(&verdict::slice_line(slice));
        for warning in &slice.warnings {
            self.progress.line(&format!("    {warning}"));
        }
        self.slices.push(slice.clone());
        Ok(())
    }

    /// The end: summary and pictures of whatever was measured.
    fn summarise(&mut self, plan: &Plan, warnings: &[String]) -> Result<()> {
        if self.options.aa {
            self.failures.extend(verdict::noise(&self.slices));
        }
        let mut text = verdict::failures(&self.failures, warnings);
        if self.interrupt.exit_code().is_some() {
            text.push_str("\nInterrupted: not all of the plan was measured.\n");
        }
        print!("{text}");
        let summary = summary::text(plan, &self.slices);
        self.folder.write_text("summary.md", &(summary + &text))?;
        pictures::write(self.folder.path(), plan, &self.slices)
    }
}

impl Stage<'_> {
    fn name(&self) -> String {
        format!("{} {}", self.cell.name, self.placement.name())
    }
}

const CGROUP_MISSING: &str =
    "the cell bounds its servers' memory: name a control group with --cgroup DIR";

/// The end of a server's log.
fn log_of(server: Option<&Up>) -> String {
    server.map_or_else(String::new, |up| up.group.log_end())
}

/// One restless slice must not use up the repeats of all.
const REPEATS_OF_ONE_MAX: usize = 2;
