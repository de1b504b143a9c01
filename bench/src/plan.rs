//! What is measured, and how: the committed plans (`bench/plans/*.json`), and the same words as flags of `run`.

mod check;
mod estimate;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::record::Placement;

/// A file of `bench/plans/`, kept as `plan.json` beside what it led to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// Last part of the results folder's name: lower case letters, digits, `-`.
    pub name: String,
    /// What the plan is for, in one or two sentences.
    pub note: String,
    pub methods: BTreeMap<String, Method>,
    pub cells: Vec<Cell>,
}

impl Plan {
    /// A committed plan by its name, or one of a file.
    ///
    /// # Errors
    /// When it is not there, is no plan, or breaks a rule; the error names each of them.
    pub(crate) fn load(name_or_path: &str) -> Result<Self> {
        if let Some((_, text)) = COMMITTED.iter().find(|(name, _)| *name == name_or_path) {
            return Self::parse(text).with_context(|| format!("the plan {name_or_path}"));
        }
        let text = std::fs::read_to_string(Path::new(name_or_path)).with_context(|| {
            let names: Vec<&str> = COMMITTED.iter().map(|(name, _)| *name).collect();
            format!(
                "{name_or_path} is neither a file nor one of the plans {}",
                names.join(", ")
            )
        })?;
        Self::parse(&text).with_context(|| name_or_path.to_owned())
    }

    /// Every list of servers in it, to be changed: the methods', and those of cells that have their own.
    pub(crate) fn server_lists(&mut self) -> impl Iterator<Item = &mut Vec<String>> {
        let methods = self.methods.values_mut().map(|method| &mut method.servers);
        let cells = self.cells.iter_mut();
        methods.chain(cells.filter_map(|cell| cell.servers.as_mut()))
    }

    fn parse(text: &str) -> Result<Self> {
        let plan: Self = serde_json::from_str(text)?;
        let problems = plan.problems(SERVERS);
        if problems.is_empty() {
            Ok(plan)
        } else {
            bail!("{}", problems.join("\n"))
        }
    }

    /// The method of a cell.
    ///
    /// # Errors
    /// When the plan does not hold it; a checked plan does.
    pub(crate) fn method(&self, cell: &Cell) -> Result<&Method> {
        self.methods
            .get(&cell.method)
            .with_context(|| format!("no method {}", cell.method))
    }
}

impl Cell {
    /// Who takes part.
    pub(crate) fn servers<'a>(&'a self, method: &'a Method) -> &'a [String] {
        self.servers.as_deref().unwrap_or(&method.servers)
    }
}

impl Method {
    /// One round over these servers: there and back, so that what drifts hits all alike.
    pub(crate) fn round(servers: &[String]) -> impl Iterator<Item = &String> {
        servers.iter().chain(servers.iter().rev())
    }
}

/// Lower case letters, digits and `-`: safe in names of files, tags and anchors.
pub(crate) fn is_file_name(text: &str) -> bool {
    let is_safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.len() <= 60 && text.chars().all(is_safe) && !text.starts_with('-')
}

pub(crate) const BASALT: &str = "basalt";
/// The same program once more, for runs that show the noise.
pub(crate) const BASALT_AGAIN: &str = "basalt-again";
pub(crate) const ETCD_TUNED: &str = "etcd-tuned";
pub(crate) const ETCD_DEFAULT: &str = "etcd-default";
/// The servers that a plan may name; others come from the command line.
pub(crate) const SERVERS: &[&str] = &[BASALT, BASALT_AGAIN, ETCD_TUNED, ETCD_DEFAULT];

/// The plans that are part of this program.
pub(crate) const COMMITTED: &[(&str, &str)] = &[
    ("full", include_str!("../plans/full.json")),
    ("quick", include_str!("../plans/quick.json")),
    ("a-a", include_str!("../plans/a-a.json")),
    ("storage", include_str!("../plans/storage.json")),
    ("cluster", include_str!("../plans/cluster.json")),
    ("watch", include_str!("../plans/watch.json")),
    ("lease", include_str!("../plans/lease.json")),
];

/// How much effort a cell gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Method {
    /// `basalt`, `etcd-tuned`, `etcd-default`; a round is all of them in this order, then all in the opposite order (A B B A for two).
    pub servers: Vec<String>,
    pub placements: Vec<Placement>,
    pub rounds: u32,
    /// Rounds of the unpinned placement, where it gets fewer; `rounds` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpinned_rounds: Option<u32>,
    /// Measured seconds of a slice.
    pub seconds: f64,
    /// Seconds before them.
    pub warmup: f64,
    /// Slices of one cell and placement that may be run again because they were discarded.
    pub repeats_max: u32,
}

/// One workload at one load.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cell {
    /// Begins with the workload's number: `W02-put-100`. Lower case letters, digits, `-` after it; also a file name.
    pub name: String,
    /// A few words for people.
    pub title: String,
    /// A name in `Plan::methods`.
    pub method: String,
    /// Instead of the method's: for cells that only one server takes part in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<Vec<String>>,
    /// All servers are loaded once and stay up, one at a time is driven: for large data sets, whose loading would take most of the time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stay_up: bool,
    /// Mebibytes that each server may use, its files in the page cache included; the machine's without it. Needs --cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max_mib: Option<u32>,
    #[serde(default)]
    pub load: Load,
    #[serde(default)]
    pub shape: Shape,
}

/// How hard.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Load {
    /// Connections
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub conns: u16,
    /// Calls in flight on each connection of a closed loop
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub streams: u16,
    /// Operations per second of an open loop, on all connections together; without it the loop is closed
    #[arg(long)]
    pub rate: Option<f64>,
    /// An open loop's operations come at random times (Poisson) instead of evenly
    #[arg(long, requires = "rate")]
    pub poisson: bool,
    /// Find the highest rate of an open loop whose p99 stays below so many milliseconds
    #[arg(long, conflicts_with = "rate")]
    pub capacity_p99_ms: Option<f64>,
    /// Twice the capacity, then half of it: what an overload does
    #[arg(long, conflicts_with_all = ["rate", "capacity_p99_ms"])]
    pub overload: bool,
    /// What is done beside the operations, on connections of its own, from the begin of the measured time on
    #[arg(long, value_enum, conflicts_with_all = ["capacity_p99_ms", "overload"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beside: Option<Action>,
    /// Seconds after which it is done again; without it once
    #[arg(long, value_name = "S", requires = "beside")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beside_every: Option<f64>,
    /// Connections that do it at the same time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    #[serde(skip_serializing_if = "is_one")]
    pub beside_conns: u16,
    /// The server is ended after the measured time and started again; how long its first answer takes is measured
    #[arg(long, value_enum, conflicts_with_all = ["capacity_p99_ms", "overload", "beside"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Ending>,
    /// The connections are opened after the loading, and what each costs the server before its first operation is measured
    #[arg(long, requires = "rate")]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
    /// Members of the cluster, all on this machine
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=7))]
    #[serde(skip_serializing_if = "is_one")]
    pub members: u16,
    /// The member of a cluster that the operations go to
    #[arg(long, value_enum, default_value = "leader")]
    #[serde(skip_serializing_if = "Role::is_leader")]
    pub to: Role,
    /// Times that the leader is killed after the measured time, under the open loop on the others; how long it takes until an
    /// operation is acknowledged again is measured
    #[arg(long, value_name = "N", requires = "rate", conflicts_with_all = ["beside", "restart", "idle"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader_kills: Option<u16>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "Watching::is_none")]
    pub watching: Watching,
}

/// Who watches beside puts, which then run once without them and once with them.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Watching {
    /// Watchers of all keys, or with --watch-own of one key each; 0 for none
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub watchers: u32,
    /// Connections that carry them, beside those of the puts
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    #[serde(skip_serializing_if = "is_one")]
    pub watch_conns: u16,
    /// Streams of each of these
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    #[serde(skip_serializing_if = "is_one")]
    pub watch_streams: u16,
    /// Each watches a key of its own: as many as there are keys
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub watch_own: bool,
    /// Events show the value before
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub watch_prev_kv: bool,
    /// Seconds in the middle of the measured time in which no watcher reads
    #[arg(long, default_value_t = 0.0, value_name = "S")]
    pub watch_pause: f64,
    /// Revisions that are written before watchers are created from there on, at the begin of the measured time
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub watch_behind: u32,
}

impl Default for Watching {
    fn default() -> Self {
        Self {
            watchers: 0,
            watch_conns: 1,
            watch_streams: 1,
            watch_own: false,
            watch_prev_kv: false,
            watch_pause: 0.0,
            watch_behind: 0,
        }
    }
}

impl Watching {
    fn is_none(&self) -> bool {
        self.watchers == 0
    }
}

impl Load {
    /// Who watches, if anybody does.
    pub(crate) fn watchers(&self) -> Option<&Watching> {
        (self.watching.watchers > 0).then_some(&self.watching)
    }
}

/// What a member of a cluster does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    Leader,
    Follower,
}

impl Role {
    fn is_leader(&self) -> bool {
        *self == Self::Leader
    }
}

/// How a server is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ending {
    /// By SIGTERM, when nothing is left to answer.
    Stop,
    /// By SIGKILL, in the middle of the load.
    Kill,
}

fn is_one(number: &u16) -> bool {
    *number == 1
}

fn is_none(number: &u32) -> bool {
    *number == 0
}

fn is_hour(seconds: &u32) -> bool {
    *seconds == 3600
}

/// What may be done beside the measured operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    /// A physical compaction of all but the newest revisions.
    Compact,
    /// A defragmentation.
    Defragment,
    /// A snapshot, to nowhere.
    Snapshot,
    /// All keys and values in one answer.
    List,
    /// The same in many (RangeStream).
    ListStream,
    /// All leases end, renewed together before the warm-up; their keys are counted.
    Expire,
    /// The first lease is revoked.
    Revoke,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            conns: 10,
            streams: 10,
            rate: None,
            poisson: false,
            capacity_p99_ms: None,
            overload: false,
            beside: None,
            beside_every: None,
            beside_conns: 1,
            restart: None,
            idle: false,
            members: 1,
            to: Role::Leader,
            leader_kills: None,
            watching: Watching::default(),
        }
    }
}

/// What one operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Put of a random key.
    Put,
    /// Range of one random key.
    Get,
    /// Range of `limit` keys from a random one on.
    Range,
    /// What Kubernetes sends: compare the mod revision of a key with the one seen last, put it, else read it.
    Txn,
    /// Ranges of `limit` keys and puts, by `read_ratio`.
    Mixed,
    /// One txn of `batch` puts.
    TxnPuts,
    /// One txn of `batch` compares that hold, and one put.
    TxnCompares,
    /// One page of `limit` keys of a walk over all keys, at a fixed revision, as Kubernetes lists.
    ListPage,
    /// The number of all keys.
    Count,
    /// The names of all keys.
    KeysOnly,
    /// A renewal of one of the leases, on one stream a connection.
    KeepAlive,
}

/// The shape of a run's data and requests.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Shape {
    /// What one operation is
    #[arg(long, value_enum, default_value = "put")]
    pub workload: Kind,
    /// How many keys there are
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub keys: u32,
    /// Bytes of a key; 8 is a binary number, more begins with /registry/
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(8..4096))]
    pub key_size: u16,
    /// Bytes of a value
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(8..1_500_000))]
    pub value_size: u32,
    /// Times that the loading writes each key
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    #[serde(skip_serializing_if = "is_one")]
    pub revisions: u16,
    /// The loading ends with a physical compaction of all but the newest revisions
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub compacted: bool,
    /// Reads are serializable instead of linearizable
    #[arg(long)]
    pub serializable: bool,
    /// Keys of one answer of the range and mixed workloads
    #[arg(long, default_value_t = 1000)]
    pub limit: u32,
    /// Ranges end behind their last key instead of carrying a limit, so that no server counts what lies beyond
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub spans: bool,
    /// Few keys are asked for often, by Zipf's law, instead of all alike
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub zipf: bool,
    /// Reads for each write of the mixed workload
    #[arg(long, default_value_t = 1.0)]
    pub read_ratio: f64,
    /// Txns of a hundred that compare with an outdated revision
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub conflict_percent: u8,
    /// Puts or compares of one txn
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=128))]
    pub batch: u16,
    /// Leases that are granted before the run
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=4_000_000))]
    #[serde(skip_serializing_if = "is_none")]
    pub leases: u32,
    /// Seconds that each lives
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u32).range(2..=86_400))]
    #[serde(skip_serializing_if = "is_hour")]
    pub lease_ttl: u32,
    /// Keys on each lease, beside the others
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    #[serde(skip_serializing_if = "is_none")]
    pub leased_keys: u32,
    /// The same seed draws the same keys and values
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            workload: Kind::Put,
            keys: 100_000,
            key_size: 8,
            value_size: 256,
            revisions: 1,
            compacted: false,
            serializable: false,
            limit: 1000,
            spans: false,
            zipf: false,
            read_ratio: 1.0,
            conflict_percent: 0,
            batch: 10,
            leases: 0,
            lease_ttl: 3600,
            leased_keys: 0,
            seed: 1,
        }
    }
}
