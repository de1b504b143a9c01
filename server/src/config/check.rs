//! What must fit together, in etcd's order and words. The first misfit stops the start.

use super::Warning;
use super::cluster::DEFAULT_NAME;
use super::compaction::auto_compaction;
use super::settings::Settings;
use super::url::Url;

/// Flags that ask another service for the members.
pub(super) const DISCOVERY: &[&str] = &[
    "discovery",
    "discovery-endpoints",
    "discovery-token",
    "discovery-srv",
];

/// Election time-outs above this make a dead leader go unnoticed for too long.
const ELECTION_MS_MAX: u64 = 50_000;

/// What etcd recommends; larger requests hold up all others.
const REQUEST_BYTES_RECOMMENDED: u64 = 10 << 20;

/// A request is one record of the log, and two of the largest must fit into a segment.
const REQUEST_BYTES_MAX: u64 = 256 << 20;

pub(super) fn run(settings: &Settings, warnings: &mut Vec<Warning>) -> Result<(), String> {
    listen_urls(settings)?;
    advertised_urls(settings)?;
    one_bootstrap_method(settings)?;
    timers(settings)?;
    if settings.is_set("listen-client-urls") && !settings.is_set("advertise-client-urls") {
        return Err(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly"
                .to_owned(),
        );
    }
    let request_bytes = settings.uint("max-request-bytes");
    if request_bytes > REQUEST_BYTES_MAX {
        return Err(format!(
            "--max-request-bytes {request_bytes} is above {REQUEST_BYTES_MAX}, the most that one log record holds"
        ));
    }
    if request_bytes > REQUEST_BYTES_RECOMMENDED {
        warnings.push(
            Warning::new("exceeded recommended request limit").with("flag", "max-request-bytes"),
        );
    }
    auto_compaction(
        &settings.text("auto-compaction-mode"),
        &settings.text("auto-compaction-retention"),
    )?;
    if settings.gate("LeaseCheckpointPersist") && !settings.gate("LeaseCheckpoint") {
        return Err("enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint".to_owned());
    }
    if settings.duration("compact-hash-check-time").is_zero() {
        return Err("--compact-hash-check-time must be >0 (set to 0s)".to_owned());
    }
    if settings.text("name") == DEFAULT_NAME {
        warnings.push(
            Warning::new(
                "the default name is used; members of one cluster need different names, set --name",
            )
            .with("name", DEFAULT_NAME),
        );
    }
    tls(settings)
}

fn listen_urls(settings: &Settings) -> Result<(), String> {
    for name in [
        "listen-peer-urls",
        "listen-client-urls",
        "listen-client-http-urls",
        "listen-metrics-urls",
    ] {
        if let Some(url) = settings.urls(name).iter().find(|url| !url.is_bindable()) {
            return Err(format!("expected IP in URL for binding ({url})"));
        }
    }
    Ok(())
}

fn advertised_urls(settings: &Settings) -> Result<(), String> {
    for (name, form) in [
        ("initial-advertise-peer-urls", "\"host:port\""),
        (
            "advertise-client-urls",
            "in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\"",
        ),
    ] {
        let urls = settings.urls(name);
        if let Some(url) = urls.iter().find(|url| !url.has_host()) {
            return Err(format!(
                "--{name} \"{}\" must be {form} (unexpected empty host ({url}))",
                joined(&urls)
            ));
        }
    }
    Ok(())
}

fn one_bootstrap_method(settings: &Settings) -> Result<(), String> {
    let endpoints = settings.list("discovery-endpoints");
    let methods = [
        settings.is_set("initial-cluster") && !settings.text("initial-cluster").is_empty(),
        !settings.text("discovery-srv").is_empty(),
        !endpoints.is_empty(),
    ];
    if methods.iter().filter(|set| **set).count() > 1 {
        return Err(
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
                    \"discovery-endpoints\" or \"discovery-srv\""
                .to_owned(),
        );
    }
    if settings.text("discovery-token").is_empty() != endpoints.is_empty() {
        return Err("both --discovery-token and --discovery-endpoints must be set".to_owned());
    }
    Ok(())
}

fn timers(settings: &Settings) -> Result<(), String> {
    let heartbeat = settings.uint("heartbeat-interval");
    let election = settings.uint("election-timeout");
    if heartbeat == 0 {
        return Err("--heartbeat-interval must be >0 (set to 0ms)".to_owned());
    }
    if election == 0 {
        return Err("--election-timeout must be >0 (set to 0ms)".to_owned());
    }
    if heartbeat.saturating_mul(5) > election {
        return Err(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
        ));
    }
    if election > ELECTION_MS_MAX {
        return Err(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms"
        ));
    }
    Ok(())
}

/// TLS is not built yet, so a listener that asks for it is refused rather than opened in plain text.
fn tls(settings: &Settings) -> Result<(), String> {
    let version = |name: &str| {
        let text = settings.text(name);
        match text.as_str() {
            "" => Ok(None),
            "TLS1.2" | "TLS1.3" => Ok(Some(text)),
            _ => Err(format!(
                "unexpected TLS version \"{text}\" (must be one of: TLS1.2, TLS1.3)"
            )),
        }
    };
    let (min, max) = (version("tls-min-version")?, version("tls-max-version")?);
    if let (Some(min), Some(max)) = (&min, &max)
        && min > max
    {
        return Err(format!(
            "min version ({min}) is greater than max version ({max})"
        ));
    }
    if min.as_deref() == Some("TLS1.3") && !settings.list("cipher-suites").is_empty() {
        return Err("cipher suites cannot be configured when only TLS1.3 is enabled".to_owned());
    }
    let has_certificate =
        !settings.text("cert-file").is_empty() && !settings.text("key-file").is_empty();
    let has_peer_certificate =
        !settings.text("peer-cert-file").is_empty() && !settings.text("peer-key-file").is_empty();
    if let Some(url) = settings
        .urls("listen-peer-urls")
        .iter()
        .find(|url| url.is_secure())
    {
        if !has_peer_certificate && !settings.bool("peer-auto-tls") {
            return Err(format!(
                "TLS key/cert (--peer-cert-file, --peer-key-file) must be provided for peer url {url} with HTTPS scheme"
            ));
        }
        return Err(format!(
            "--listen-peer-urls: {url} asks for TLS, which basalt does not serve yet; use http or unix"
        ));
    }
    for name in ["listen-client-urls", "listen-client-http-urls"] {
        if let Some(url) = settings.urls(name).iter().find(|url| url.is_secure()) {
            if !has_certificate && !settings.bool("auto-tls") {
                return Err(format!(
                    "TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with HTTPS scheme"
                ));
            }
            return Err(format!(
                "--{name}: {url} asks for TLS, which basalt does not serve yet; use http or unix"
            ));
        }
    }
    if let Some(url) = settings
        .urls("listen-metrics-urls")
        .iter()
        .find(|url| url.is_secure())
    {
        if !has_certificate {
            return Err(
                "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url".to_owned()
            );
        }
        return Err(format!(
            "--listen-metrics-urls: {url} asks for TLS, which basalt does not serve yet; use http"
        ));
    }
    Ok(())
}

pub(super) fn joined(urls: &[Url]) -> String {
    urls.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}
