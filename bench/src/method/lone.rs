//! One workload against one server, which may be started for it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use super::group::{Group, Killable};
use super::interrupt::Interrupt;
use super::place::Cpus;
use super::programs::Paths;
use crate::cost::Meter;
use crate::generator::{self, Cluster, Data, Restarter, Server, Time};
use crate::plan::{BASALT, Load, Shape};
use crate::record::Placement;

/// The flags of `run`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Lone {
    /// Where a running server listens for clients; without it a temporary server is started and removed afterwards
    #[arg(long, value_name = "ADDRESS")]
    pub endpoint: Option<SocketAddr>,
    /// The running server's process, for its CPU and memory
    #[arg(long, requires = "endpoint")]
    pub pid: Option<u32>,
    /// The running server's data directory, for the counters of its disk
    #[arg(long, value_name = "DIR", requires = "endpoint")]
    pub data_dir: Option<PathBuf>,
    /// The temporary server: basalt, etcd-tuned, etcd-default or a name given with --other
    #[arg(long, value_name = "NAME", default_value = BASALT, conflicts_with = "endpoint")]
    pub server: String,
    /// Temporary server on the first CPU, generator on the second; without it the kernel places both
    #[arg(long, conflicts_with = "endpoint")]
    pub pin: bool,
    #[command(flatten)]
    pub paths: Paths,
    /// Where the temporary server's data lie: decides which disk is measured
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub data_root: PathBuf,
    /// Measured seconds
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub seconds: f64,
    /// Seconds before them
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    pub warmup: f64,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub load: Load,
    #[command(flatten)]
    pub shape: Shape,
}

impl Lone {
    fn placement(&self) -> Placement {
        if self.pin {
            Placement::Pinned
        } else {
            Placement::Unpinned
        }
    }
}

/// Runs it and prints what it found. The result is the exit code of a run that a signal ended.
///
/// # Errors
/// Those of the server and of the generator.
pub(crate) fn run(lone: &Lone) -> Result<Option<u8>> {
    let interrupt = Interrupt::listen()?;
    let cpus = Cpus::of_this_thread()?;
    ensure!(
        lone.endpoint.is_none() || lone.load.members == 1,
        "a running server is one member: --members is for temporary ones"
    );
    let mut group = match lone.endpoint {
        Some(_) => None,
        None => Some(start(lone, &cpus)?),
    };
    let endpoint = match (&group, lone.endpoint) {
        (Some(group), _) => group.client(),
        (None, endpoint) => endpoint.context("an endpoint, or a server of our own")?,
    };
    let data_dir = group
        .as_ref()
        .map(Group::data_dir)
        .or_else(|| lone.data_dir.clone());
    let own = lone.pid.into_iter().collect();
    let ids = group.as_ref().map_or(own, Group::ids);
    let meter = Meter::new(ids, data_dir.as_deref())?;
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).context("bad seconds");
    let time = Time {
        warmup: seconds(lone.warmup)?,
        measured: seconds(lone.seconds)?,
    };
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:24.cyan/blue} {msg}")?;
    let bar = ProgressBar::new(BAR_STEPS).with_style(style);
    let placement = lone.placement();
    let (mut restart, mut cluster) = (None, None);
    match (&mut group, lone.load.leader_kills) {
        (Some(group), Some(_)) => cluster = Some(Killable::new(group, &cpus, placement)),
        (Some(group), None) => {
            restart = Some(|ending| cpus.start_server(placement, || group.restart(ending)));
        }
        (None, _) => {}
    }
    let server = Server {
        endpoint,
        meter: &meter,
        restart: restart.as_mut().map(|restart| restart as Restarter<'_>),
        cluster: cluster.as_mut().map(|cluster| cluster as &mut dyn Cluster),
    };
    let run = generator::measure(
        server,
        &lone.load,
        &lone.shape,
        Data::Load,
        time,
        &mut |phase, done, share| {
            bar.set_position((share * BAR_STEPS as f64) as u64);
            bar.set_message(format!("{phase}: {done} operations"));
            interrupt.flow()
        },
    );
    bar.finish_and_clear();
    if let (Some(code), true) = (interrupt.exit_code(), run.is_err()) {
        return Ok(Some(code));
    }
    let mut figures = run?.figures;
    super::complete(&mut figures, &meter);
    if lone.json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    } else {
        print!("{}", figures.text());
        if let Some(busiest) = meter.busiest_other() {
            println!(
                "others      {} used {:.1} % of one CPU; {:.1} % of all CPUs' time was stolen",
                busiest.process,
                busiest.share * 100.0,
                figures.steal * 100.0
            );
        }
    }
    Ok(interrupt.exit_code())
}

fn start(lone: &Lone, cpus: &Cpus) -> Result<Group> {
    let program = lone.paths.find(&lone.server)?;
    let folder = format!("basalt-bench-{}", std::process::id());
    let folder = lone.data_root.join(folder);
    cpus.start_server(lone.placement(), || {
        Group::start(&program, &folder, &lone.load, None)
    })
}

const BAR_STEPS: u64 = 1000;
