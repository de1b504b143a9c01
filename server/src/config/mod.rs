//! What the operator asked for: flags, `ETCD_*` variables or one file, checked before anything is opened.
//!
//! Promises: every flag of etcd 3.4 to 3.7 is accepted; whatever is ignored, or without effect yet, is named in one warning; a
//! configuration that etcd refuses is refused with its words. Never: touches the data directory or a socket.
//! Start at [`load`]; the flags are data in `table.rs`.

mod args;
mod check;
mod cluster;
mod compaction;
mod file;
mod flag;
mod settings;
mod table;
mod url;
mod value;

use std::path::PathBuf;
use std::time::Duration;

pub use cluster::InitialMember;
pub(crate) use cluster::same_places;
pub(crate) use url::open_first;
pub use url::{Address, Scheme, Url};

use basalt_engine::replica::AutoCompaction;

use crate::log;
use settings::{Settings, Source};

/// Everything that a member is told from outside. Sizes are bytes.
#[derive(Clone, Debug)]
pub struct Config {
    /// `--name`.
    pub name: String,
    /// `--data-dir`; `<name>.etcd` where none was given.
    pub data_dir: PathBuf,
    /// Time between two heartbeats; at least 1 ms.
    pub heartbeat: Duration,
    /// At least five heartbeats, at most 50 s.
    pub election: Duration,
    /// Where the other members connect to. Sorted.
    pub listen_peer: Vec<Url>,
    /// Sorted; may be empty, then clients have no way in.
    pub listen_client: Vec<Url>,
    /// Listeners for HTTP/1.1 only; where there are any, `listen_client` serves gRPC only.
    pub listen_client_http: Vec<Url>,
    /// Listeners for metrics and health only.
    pub listen_metrics: Vec<Url>,
    /// What clients are told; never empty while `listen_client` is not.
    pub advertise_client: Vec<Url>,
    /// What ids are made from.
    pub advertise_peer: Vec<Url>,
    /// How the first start comes to a cluster.
    pub bootstrap: Bootstrap,
    /// What the cluster's members may be changed to.
    pub membership: Membership,
    /// What one request, connection or member may use.
    pub limits: Limits,
    /// Which history goes by itself, if any.
    pub auto_compaction: Option<AutoCompaction>,
    /// Pings of clients and to clients.
    pub keep_alive: KeepAlive,
    /// Options of listening sockets.
    pub sockets: SocketOptions,
    /// Origins that browsers may come from; `*` is all.
    pub cors: Vec<String>,
    /// Host names accepted in plain HTTP requests; `*` or none is all.
    pub host_whitelist: Vec<String>,
    /// Shape and place of log lines.
    pub log: log::Config,
    /// How the log is written.
    pub wal_io: WalIo,
    /// Who does the network's work.
    pub threads: Threads,
    /// `--hardened`.
    pub hardened: bool,
    /// `--auto-disarm`.
    pub auto_disarm: bool,
    /// `--force-new-cluster`.
    pub force_new_cluster: bool,
    /// `--accept-data-loss`.
    pub accept_data_loss: bool,
    /// `--watch-progress-notify-interval`; 0 is the default.
    pub watch_progress_interval: Duration,
}

/// The first start. Read only where the data directory holds no member yet.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// `--initial-cluster` as written, or made from the name and the advertised peer URLs.
    pub initial_cluster: String,
    /// `--initial-cluster-token`.
    pub token: String,
    /// `--initial-cluster-state=existing`.
    pub joins_existing: bool,
    /// The discovery flag that was set, if one was.
    pub discovery: Option<&'static str>,
}

/// Rules for changes of the membership.
#[derive(Clone, Copy, Debug)]
pub struct Membership {
    /// `--strict-reconfig-check`: changes that would lose the quorum are refused.
    pub is_strict: bool,
    /// `--max-learners`.
    pub learners_max: usize,
}

/// Bounds that the operator sets.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `--quota-backend-bytes` as given: 0 is the default of 2 GiB, negative is none.
    pub quota_bytes: i64,
    /// Operations in one transaction.
    pub txn_ops: u64,
    /// One client request.
    pub request_bytes: u64,
    /// `--cache-bytes`: bytes of records in memory that files hold too; `None` leaves it to the host's
    /// memory.
    pub cache_bytes: Option<u64>,
    /// `--snapshot-catchup-entries`: entries of the log kept for followers; `None` leaves it to their bytes.
    pub catch_up_entries: Option<u64>,
    /// Streams open at once on one connection.
    pub concurrent_streams: u32,
}

/// etcd's default is about its own entries; basalt's is a number of bytes.
const CATCH_UP_ENTRIES_OF_ETCD: u64 = 5000;

/// A few transactions may need as much at once.
const CACHE_BYTES_MIN: u64 = 16 << 20;

/// gRPC keep-alive.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// Least time between two pings of a client.
    pub min_time: Duration,
    /// Silence before the server pings; zero is never.
    pub interval: Duration,
    /// Time for the answer; zero is no limit.
    pub timeout: Duration,
}

/// Options of listening sockets.
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    /// SO_REUSEPORT.
    pub reuse_port: bool,
    /// SO_REUSEADDR.
    pub reuse_address: bool,
}

/// How the log reaches the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalIo {
    /// io_uring where the system allows it, else `Pwrite`.
    Auto,
    /// io_uring or no start.
    Uring,
    /// pwritev2 and fdatasync on a thread.
    Pwrite,
}

/// Who does the network's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// What fits the host.
    Auto,
    /// One thread does everything.
    Inline,
    /// This many network threads beside the engine's; 1 to [`MAX_THREADS`].
    Network(u32),
}

/// More network threads than any host has use for.
pub const MAX_THREADS: u32 = 256;

/// A line for the operator that does not stop the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The message.
    pub message: &'static str,
    /// What it is about, as key and value; keys are those that `main.rs` reports.
    fields: Vec<(&'static str, String)>,
}

impl Warning {
    pub(crate) fn new(message: &'static str) -> Warning {
        Warning {
            message,
            fields: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, key: &'static str, value: &str) -> Warning {
        self.fields.push((key, value.to_owned()));
        self
    }

    /// The value of a field, if the warning has it.
    pub fn field(&self, key: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.as_str())
    }
}

/// Why the process ends before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Help or versions were asked for: print to standard output, status 0.
    Print(String),
    /// The command line cannot be read: print to standard error, status 2.
    Usage(String),
    /// It can be read, but not be run: one log line, status 1.
    Refused(String),
}

/// Reads the command line (without the program's name), then the file or the environment. `warnings` is filled even where the start is refused.
pub fn load(
    args: &[String],
    env: impl Iterator<Item = (String, String)>,
    warnings: &mut Vec<Warning>,
) -> Result<Config, Exit> {
    let line = args::parse(args)?;
    let mut env: Vec<(String, String)> = env
        .filter(|(name, value)| name.starts_with("ETCD_") && !value.is_empty())
        .collect();
    env.sort();
    let file_from_env = env
        .iter()
        .find(|(name, _)| name == "ETCD_CONFIG_FILE")
        .map(|(_, path)| path.clone());
    let mut settings = match line.config_file.or(file_from_env) {
        Some(path) => read_file(&path, &line.settings, &env, warnings)?,
        None => read_env(line.settings, &env, warnings)?,
    };
    settings.resolve_legacy(warnings);
    settings.warn_without_effect(warnings);
    check::run(&settings, warnings).map_err(Exit::Refused)?;
    from_settings(&settings).map_err(Exit::Refused)
}

/// The file rules alone, as in etcd: what else was said is named and dropped.
fn read_file(
    path: &str,
    flags: &Settings,
    env: &[(String, String)],
    warnings: &mut Vec<Warning>,
) -> Result<Settings, Exit> {
    for name in flags.names() {
        warnings.push(
            Warning::new("flag is ignored because a configuration file is used").with("flag", name),
        );
    }
    for (name, _) in env.iter().filter(|(name, _)| name != "ETCD_CONFIG_FILE") {
        warnings.push(
            Warning::new("environment variable is ignored because a configuration file is used")
                .with("environment-variable", name),
        );
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| Exit::Refused(format!("open {path}: {error}")))?;
    file::parse(&text, warnings).map_err(|error| Exit::Refused(format!("{path}: {error}")))
}

/// Flags win over variables. Values of unknown variables are not logged: images keep passwords under such names.
fn read_env(
    mut settings: Settings,
    env: &[(String, String)],
    warnings: &mut Vec<Warning>,
) -> Result<Settings, Exit> {
    for (name, value) in env {
        let Some(flag) = table::FLAGS.iter().find(|flag| flag.env() == *name) else {
            warnings.push(
                Warning::new("unrecognized environment variable")
                    .with("environment-variable", name),
            );
            continue;
        };
        if settings.is_set(flag.name) {
            warnings.push(
                Warning::new("environment variable is shadowed by the command-line flag")
                    .with("environment-variable", name),
            );
            continue;
        }
        settings.set(flag, value, Source::Env).map_err(|reason| {
            Exit::Refused(format!("invalid value \"{value}\" for {name}: {reason}"))
        })?;
    }
    Ok(settings)
}

fn from_settings(settings: &Settings) -> Result<Config, String> {
    let name = settings.text("name");
    let data_dir = match settings.text("data-dir") {
        dir if dir.is_empty() => format!("{name}.etcd"),
        dir => dir,
    };
    let advertise_peer = settings.urls("initial-advertise-peer-urls");
    let discovery = check::DISCOVERY
        .iter()
        .copied()
        .find(|flag| settings.is_set(flag));
    let initial_cluster = match settings.text("initial-cluster") {
        written if !written.is_empty() || discovery.is_some() => written,
        _ => cluster::alone(&name, &advertise_peer),
    };
    Ok(Config {
        data_dir: data_dir.into(),
        heartbeat: Duration::from_millis(settings.uint("heartbeat-interval")),
        election: Duration::from_millis(settings.uint("election-timeout")),
        listen_peer: settings.urls("listen-peer-urls"),
        listen_client: settings.urls("listen-client-urls"),
        listen_client_http: settings.urls("listen-client-http-urls"),
        listen_metrics: settings.urls("listen-metrics-urls"),
        advertise_client: settings.urls("advertise-client-urls"),
        bootstrap: Bootstrap {
            initial_cluster,
            token: settings.text("initial-cluster-token"),
            joins_existing: settings.text("initial-cluster-state") == "existing",
            discovery,
        },
        membership: Membership {
            is_strict: settings.bool("strict-reconfig-check"),
            learners_max: usize::try_from(settings.int("max-learners")).unwrap_or(0),
        },
        limits: Limits {
            quota_bytes: settings.int("quota-backend-bytes"),
            txn_ops: settings.uint("max-txn-ops"),
            request_bytes: settings.uint("max-request-bytes"),
            cache_bytes: match settings.uint("cache-bytes") {
                0 => None,
                bytes => Some(bytes.max(CACHE_BYTES_MIN)),
            },
            catch_up_entries: Some(settings.uint("snapshot-catchup-entries"))
                .filter(|entries| *entries != CATCH_UP_ENTRIES_OF_ETCD),
            concurrent_streams: u32::try_from(settings.uint("max-concurrent-streams"))
                .expect("its kind is Uint32"),
        },
        auto_compaction: compaction::auto_compaction(
            &settings.text("auto-compaction-mode"),
            &settings.text("auto-compaction-retention"),
        )?,
        keep_alive: KeepAlive {
            min_time: settings.duration("grpc-keepalive-min-time"),
            interval: settings.duration("grpc-keepalive-interval"),
            timeout: settings.duration("grpc-keepalive-timeout"),
        },
        sockets: SocketOptions {
            reuse_port: settings.bool("socket-reuse-port"),
            reuse_address: settings.bool("socket-reuse-address"),
        },
        cors: settings.list("cors"),
        host_whitelist: settings.list("host-whitelist"),
        log: log_config(settings)?,
        wal_io: match settings.text("wal-io").as_str() {
            "uring" => WalIo::Uring,
            "pwrite" => WalIo::Pwrite,
            _ => WalIo::Auto,
        },
        threads: threads(&settings.text("threads"))?,
        hardened: settings.bool("hardened"),
        auto_disarm: settings.bool("auto-disarm"),
        force_new_cluster: settings.bool("force-new-cluster"),
        accept_data_loss: settings.bool("accept-data-loss"),
        watch_progress_interval: settings.duration("watch-progress-notify-interval"),
        name,
        advertise_peer,
    })
}

fn threads(text: &str) -> Result<Threads, String> {
    match text {
        "auto" => Ok(Threads::Auto),
        "inline" => Ok(Threads::Inline),
        number => match number.parse() {
            Ok(count @ 1..=MAX_THREADS) => Ok(Threads::Network(count)),
            _ => Err(format!(
                "--threads must be auto, inline or 1 to {MAX_THREADS}, not \"{number}\""
            )),
        },
    }
}

fn log_config(settings: &Settings) -> Result<log::Config, String> {
    let logger = settings.text("logger");
    if logger != "zap" {
        return Err(format!("unknown logger option \"{logger}\""));
    }
    let format = match settings.text("log-format").as_str() {
        "json" => log::Format::Json,
        "console" => log::Format::Console,
        other => {
            return Err(format!(
                "unknown log format: {other}, supported values json, console"
            ));
        }
    };
    let outputs = settings.list("log-outputs");
    if outputs.len() > 1 && outputs.iter().any(|output| output == "default") {
        return Err("multi logoutput for \"default\" is not supported yet".to_owned());
    }
    let outputs: Vec<log::Output> = outputs
        .iter()
        .map(|output| log::Output::parse(output))
        .collect();
    let rotation = if settings.bool("enable-log-rotation") {
        if !matches!(outputs[..], [log::Output::File(_)]) {
            return Err("--log-outputs requires a single file path when --log-rotate-config-json is defined".to_owned());
        }
        Some(log::Rotation::parse(
            &settings.text("log-rotation-config-json"),
        )?)
    } else {
        None
    };
    let level = log::Level::parse(&settings.text("log-level")).expect("the table lists the levels");
    Ok(log::Config {
        level,
        format,
        outputs,
        rotation,
    })
}

#[cfg(test)]
mod tests;
