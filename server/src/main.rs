//! The `basalt` binary; under the name `etcd` it is the same.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use basalt::boot::boot;
use basalt::config::{self, Config, Exit, Warning};
use basalt::shutdown::{self, Shutdown};
use basalt::threads::Ended;
use basalt::{dev, doctor, inspect, log, restore, systemd, threads, version};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut words = env::args_os().skip(1).peekable();
    let command = words.peek().cloned().map(text);
    match command.as_deref() {
        Some("restore") => return restore::main(words.skip(1)),
        Some("inspect") => return inspect::main(words.skip(1)),
        Some("doctor") => return doctor::main(words.skip(1)),
        Some("dev") => return dev::main(words.skip(1)),
        _ => {}
    }
    let args: Vec<String> = words.map(text).collect();
    let variables = env::vars_os().map(|(name, value)| (text(name), text(value)));
    let mut warnings = Vec::new();
    let code = match config::load(&args, variables, &mut warnings) {
        Ok(config) => run(&config, &warnings),
        Err(Exit::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(Exit::Usage(text)) => {
            eprint!("{text}");
            ExitCode::from(2)
        }
        Err(Exit::Refused(error)) => refuse(&error, &warnings),
    };
    log::flush();
    code
}

fn refuse(error: &str, warnings: &[Warning]) -> ExitCode {
    // The configuration is what is wrong, so its log settings do not count.
    if let Err(reason) = log::init(&log::Config::default()) {
        eprintln!("{reason}");
    }
    report(warnings);
    tracing::warn!(error, "failed to verify flags");
    ExitCode::FAILURE
}

fn run(config: &Config, warnings: &[Warning]) -> ExitCode {
    if let Err(reason) = log::init(&config.log) {
        return refuse(&reason, warnings);
    }
    report(warnings);
    let shutdown = Shutdown::default();
    if let Err(error) = shutdown.listen() {
        return fatal(config, "failed to listen for signals", &error);
    }
    raise_descriptor_limit();
    refuse_huge_pages();
    tracing::info!(
        "etcd-version" = version::ETCD,
        "basalt-version" = version::BASALT,
        name = config.name,
        "data-dir" = %config.data_dir.display(),
        "listen-client-urls" = ?log::list(&config.listen_client),
        "advertise-client-urls" = ?log::list(&config.advertise_client),
        "initial-advertise-peer-urls" = ?log::list(&config.advertise_peer),
        "heartbeat-interval" = ?config.heartbeat,
        "election-timeout" = ?config.election,
        "quota-backend-bytes" = config.limits.quota_bytes,
        "max-request-bytes" = config.limits.request_bytes,
        "starting an etcd server"
    );
    let mut start = config.clone();
    loop {
        let booted = match boot(&start) {
            Ok(booted) => booted,
            Err(error) => return fatal(config, "discovery failed", &error),
        };
        match threads::serve(config, booted, &shutdown) {
            Ok(Ended::Refilled) if !shutdown.is_requested() => {
                tracing::info!("took over the leader's snapshot; starting from it");
                // Whoever is in its cluster now stays.
                start.force_new_cluster = false;
            }
            Ok(Ended::Asked | Ended::Refilled) => break,
            Err(error) => return fatal(config, "the member stopped", &error),
        }
    }
    tracing::info!(name = config.name, "data-dir" = %config.data_dir.display(), "closed etcd server");
    match shutdown.signal() {
        Some(signal) => shutdown::end_by(signal),
        None => ExitCode::SUCCESS,
    }
}

fn fatal(config: &Config, what: &str, error: &dyn std::error::Error) -> ExitCode {
    systemd::stopping();
    tracing::error!(
        target: log::FATAL,
        name = config.name,
        "data-dir" = %config.data_dir.display(),
        error = %error,
        "{what}"
    );
    ExitCode::FAILURE
}

/// Each connection is a descriptor, and the soft limit is often 1024: takes what the hard limit allows, as Go programs do.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "failed to raise the limit of open files");
    }
}

/// The first touch of a huge page clears two megabytes at once, on the thread that answers requests: 10 ms where the machine's own
/// memory comes page by page, as on many virtual machines. Small pages spread the same work over all requests.
fn refuse_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay on");
    }
}

fn report(warnings: &[Warning]) {
    for warning in warnings {
        tracing::warn!(
            flag = warning.field("flag"),
            reason = warning.field("reason"),
            "use" = warning.field("use"),
            "environment-variable" = warning.field("environment-variable"),
            key = warning.field("key"),
            line = warning.field("line"),
            nearest = warning.field("nearest"),
            name = warning.field("name"),
            "{}",
            warning.message,
        );
    }
}

/// Go reads bytes; what is no UTF-8 is in no value that a flag can have, so replacing it ends in the same refusal.
fn text(word: OsString) -> String {
    word.to_string_lossy().into_owned()
}
