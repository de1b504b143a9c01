//! The HTTP/1.1 side of the client ports: health, version, metrics.
//!
//! Promises: status, headers and bodies are etcd's to the byte, as probes and scripts match them. Never: waits; every answer
//! is made from published copies. Start at `Http::answer`.

mod access;
mod health;
mod peer;

use std::borrow::Cow;
use std::sync::Arc;

use basalt_net::h1::{Request, Response};

use crate::metrics::{LoopMetrics, Registry};
use crate::version;
pub use access::Access;
pub(crate) use peer::{CLUSTER_HEADER, RELEASE_HEADER};

/// Which listener a request came by: the tag given to `ListenOptions`.
pub mod tag {
    /// Client URLs: everything.
    pub const CLIENT: u32 = 0;
    /// `--listen-metrics-urls`: metrics and health only.
    pub const METRICS: u32 = 1;
    /// Peer URLs: what members ask each other over HTTP.
    pub const PEER: u32 = 2;
}

/// Answers HTTP/1.1 requests of one network loop.
pub struct Http {
    registry: Arc<Registry>,
    metrics: Arc<LoopMetrics>,
    access: Access,
}

impl Http {
    /// `metrics` are those of the loop that it answers for.
    pub fn new(registry: Arc<Registry>, metrics: Arc<LoopMetrics>, access: Access) -> Http {
        Http {
            registry,
            metrics,
            access,
        }
    }

    /// The answer to any request.
    pub fn answer(&self, request: &Request<'_>) -> Response {
        match request.tag {
            tag::METRICS => return self.route(request),
            tag::PEER => return self.route_peer(request),
            _ => {}
        }
        if let Some(refusal) = self.access.refuse_host(request) {
            return refusal;
        }
        let response = if request.method == "OPTIONS" {
            empty()
        } else {
            self.route(request)
        };
        self.access.allow_origin(request, response)
    }

    fn route(&self, request: &Request<'_>) -> Response {
        let path = percent_decoded(request.path());
        let clean = cleaned(&path);
        if clean != path {
            return redirect(request, &clean);
        }
        let path: &str = &path;
        match path {
            "/metrics" => self.metrics(),
            "/health" => get_only(request, || {
                health::health(&self.registry.published, &self.metrics, request)
            }),
            "/version" if request.tag == tag::CLIENT => get_only(request, || self.version()),
            _ => match health::Probe::of(path) {
                Some(probe) => get_only(request, || {
                    probe.answer(&self.registry.published, &self.metrics, request)
                }),
                None if path.starts_with("/v3/") => gateway_not_found(),
                None => text(404, "404 page not found\n"),
            },
        }
    }

    fn version(&self) -> Response {
        let cluster = self.registry.published.cluster();
        let decided = cluster.cluster_version.as_deref();
        let (cluster, storage) = (
            decided.unwrap_or("not_decided"),
            decided.map_or("unknown", |_| version::CLUSTER),
        );
        let server = version::ETCD;
        let body = format!(
            r#"{{"etcdserver":"{server}","etcdcluster":"{cluster}","storage":"{storage}"}}"#
        );
        Response::new(200, "application/json", body)
    }

    fn metrics(&self) -> Response {
        let mut body = String::with_capacity(SCRAPE_BYTES_TYPICAL);
        self.registry.scrape(&mut body);
        self.metrics.scrapes.add(1);
        Response::new(
            200,
            "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            body,
        )
    }
}

/// Go's plain answer: also how errors look.
fn text(status: u16, body: impl Into<Vec<u8>>) -> Response {
    Response::new(status, "text/plain; charset=utf-8", body)
        .with("X-Content-Type-Options", "nosniff")
}

fn empty() -> Response {
    Response {
        status: 200,
        headers: Vec::new(),
        body: Vec::new(),
        close: false,
    }
}

fn get_only(request: &Request<'_>, answer: impl FnOnce() -> Response) -> Response {
    if request.method == "GET" {
        answer()
    } else {
        text(405, "Method Not Allowed\n").with("Allow", "GET")
    }
}

fn gateway_not_found() -> Response {
    Response::new(
        404,
        "application/json",
        r#"{"code":5,"message":"Not Found"}"#,
    )
}

/// Where a path with empty or dotted parts is sent to.
fn redirect(request: &Request<'_>, clean: &str) -> Response {
    let query = request.target.split_once('?').map(|(_, query)| query);
    let location = query.map_or_else(|| clean.to_owned(), |query| format!("{clean}?{query}"));
    // What the client wrote must not become a header of its own.
    let location: String = location
        .chars()
        .filter(|character| !character.is_control())
        .collect();
    let body = match request.method {
        "GET" | "HEAD" => format!(
            "<a href=\"{}\">Temporary Redirect</a>.\n\n",
            escaped(&location)
        ),
        _ => String::new(),
    };
    Response::new(307, "text/html; charset=utf-8", body).with("Location", location)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

fn percent_decoded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = |at: usize| tail.get(at).and_then(|&digit| (digit as char).to_digit(16));
        match (byte, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// The path without empty, `.` and `..` parts; a last slash stays.
fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let ends_open = path.ends_with('/') && !parts.is_empty();
    format!("/{}{}", parts.join("/"), if ends_open { "/" } else { "" })
}

/// Bytes of a scrape of an idle member, so that it grows at most once.
const SCRAPE_BYTES_TYPICAL: usize = 256 << 10;

#[cfg(test)]
mod tests;
