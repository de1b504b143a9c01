//! What operators watch: etcd's metric names, fed by counters that cost a load and a store.
//!
//! Promises: every name of `table.txt` without labels is there from the first scrape, in etcd's types, labels and buckets; a
//! counter has one writing thread and is summed only when somebody scrapes. Never: a lock on the request path.
//! Start at `Registry`; `table.txt` is the list of names.

mod calls;
mod histogram;
mod peers;
mod process;
mod scrape;
mod table;
mod text;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use basalt_engine::mvcc::Reader;
use basalt_engine::replica::Published;
use basalt_engine::watch::Hub;
use basalt_net::grpc::Code;
use basalt_net::reactor::{Counter, Stats};

use crate::peers::Connectivity;
use calls::Calls;
pub use calls::{MethodId, method};
pub use histogram::Histogram;
pub use peers::PeerMetrics;

/// What one network loop counts. Only its own thread writes.
#[derive(Debug)]
pub struct LoopMetrics {
    calls: Calls,
    /// Ranges answered from this loop's views: not refused, then refused.
    ranges: [Histogram; 2],
    requests: [[Histogram; 2]; RequestKind::ALL.len()],
    client_versions: Mutex<Vec<(String, bool, Arc<Counter>)>>,
    /// Health checks that passed.
    pub health_success: Counter,
    /// Health checks that failed.
    pub health_failures: Counter,
    /// Scrapes answered.
    pub scrapes: Counter,
    healthchecks: Mutex<BTreeMap<(&'static str, &'static str), CheckCount>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct CheckCount {
    passed: u64,
    failed: u64,
    last_passed: bool,
}

impl Default for LoopMetrics {
    fn default() -> LoopMetrics {
        LoopMetrics {
            calls: Calls::default(),
            ranges: std::array::from_fn(|_| Histogram::new(RANGE_BUCKETS)),
            requests: std::array::from_fn(|_| {
                std::array::from_fn(|_| Histogram::new(REQUEST_BUCKETS))
            }),
            client_versions: Mutex::default(),
            health_success: Counter::default(),
            health_failures: Counter::default(),
            scrapes: Counter::default(),
            healthchecks: Mutex::default(),
        }
    }
}

impl LoopMetrics {
    /// A call began.
    pub fn started(&self, method: MethodId) {
        self.calls.started[method.index()].add(1);
    }

    /// A call ended.
    pub fn handled(&self, method: MethodId, code: Code) {
        self.calls.handled[method.index()][code as usize].add(1);
    }

    /// A message of `bytes` bytes came in.
    pub fn message_received(&self, method: MethodId, bytes: usize) {
        self.calls.messages_received[method.index()].add(1);
        self.calls.received_bytes.add(bytes as u64);
    }

    /// A message of `bytes` bytes was sent.
    pub fn message_sent(&self, method: MethodId, bytes: usize) {
        self.calls.messages_sent[method.index()].add(1);
        self.calls.sent_bytes.add(bytes as u64);
    }

    /// A range was answered from a view of this loop; `ok` is false when it was refused.
    pub fn range(&self, duration: Duration, ok: bool) {
        self.ranges[usize::from(!ok)].observe(duration);
    }

    /// A request was answered; `ok` is false when it was refused.
    pub fn request(&self, kind: RequestKind, duration: Duration, ok: bool) {
        self.requests[kind as usize][usize::from(!ok)].observe(duration);
    }

    /// One check of `/livez`, `/readyz` or `/health` ran.
    pub fn health_check(&self, kind: &'static str, name: &'static str, passed: bool) {
        let mut checks = self.health_checks();
        let count = checks.entry((kind, name)).or_default();
        *if passed {
            &mut count.passed
        } else {
            &mut count.failed
        } += 1;
        count.last_passed = passed;
    }

    /// A client that says it speaks `version` (`unknown` without one) made a call.
    pub fn client_request(
        &self,
        known: &mut ClientVersions,
        is_stream: bool,
        version: Option<&str>,
    ) {
        let version = version.unwrap_or("unknown");
        // The label comes from outside: past the bound everything new counts as one.
        let is_known =
            known.find(version, is_stream).is_some() || known.0.len() < CLIENT_VERSIONS_MAX;
        let version = if is_known { version } else { "other" };
        if let Some(counter) = known.find(version, is_stream) {
            return counter.add(1);
        }
        let counter = Arc::new(Counter::default());
        counter.add(1);
        known
            .0
            .push((version.to_owned(), is_stream, Arc::clone(&counter)));
        self.client_versions()
            .push((version.to_owned(), is_stream, counter));
    }
}

impl LoopMetrics {
    fn client_versions(&self) -> MutexGuard<'_, Vec<(String, bool, Arc<Counter>)>> {
        self.client_versions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn health_checks(&self) -> MutexGuard<'_, BTreeMap<(&'static str, &'static str), CheckCount>> {
        self.healthchecks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The client versions that a loop has met, held by its API so that a known one costs no lock.
#[derive(Debug, Default)]
pub struct ClientVersions(Vec<(String, bool, Arc<Counter>)>);

impl ClientVersions {
    fn find(&self, version: &str, is_stream: bool) -> Option<&Counter> {
        let found = self
            .0
            .iter()
            .find(|(text, stream, _)| text == version && *stream == is_stream);
        found.map(|(_, _, counter)| &**counter)
    }
}

/// What `etcd_server_request_duration_seconds` calls a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "etcd's names")]
pub enum RequestKind {
    Range,
    Put,
    DeleteRange,
    Txn,
    Compaction,
    LeaseRevoke,
    Alarm,
}

impl RequestKind {
    const ALL: [(RequestKind, &str); 7] = [
        (RequestKind::Range, "Range"),
        (RequestKind::Put, "Put"),
        (RequestKind::DeleteRange, "DeleteRange"),
        (RequestKind::Txn, "Txn"),
        (RequestKind::Compaction, "Compaction"),
        (RequestKind::LeaseRevoke, "LeaseRevoke"),
        (RequestKind::Alarm, "Alarm"),
    ];
}

/// What the thread that writes the log counts.
#[derive(Debug)]
pub struct EngineMetrics {
    /// From submitting a durable write to hearing that it is durable.
    pub wal_sync: Histogram,
    /// To hand a write to the system.
    pub wal_write: Histogram,
    /// Bytes of the log handed to the disk, padding included.
    pub wal_bytes: Counter,
    /// From the compaction to the last of its space.
    pub compaction: Histogram,
    /// Records that compactions dropped.
    pub compaction_keys: Counter,
    /// Unix time in seconds of the last finished compaction, 0 before the first.
    pub compaction_last: Counter,
}

impl Default for EngineMetrics {
    fn default() -> EngineMetrics {
        EngineMetrics {
            wal_sync: Histogram::new(REQUEST_BUCKETS),
            wal_write: Histogram::new(REQUEST_BUCKETS),
            wal_bytes: Counter::default(),
            compaction: Histogram::new(COMPACTION_BUCKETS),
            compaction_keys: Counter::default(),
            compaction_last: Counter::default(),
        }
    }
}

/// Everything that a scrape reads.
pub struct Registry {
    /// One for each network loop: its own counters and those of its reactor.
    pub loops: Vec<(Arc<LoopMetrics>, Arc<Stats>)>,
    /// The engine's.
    pub engine: Arc<EngineMetrics>,
    /// The member's published state.
    pub published: Arc<Published>,
    /// The store's published views.
    pub reader: Reader,
    /// What does not change while the process runs.
    pub facts: Facts,
    /// Where watchers are known.
    pub hub: Arc<Hub>,
    /// The links to other members.
    pub connectivity: Arc<Connectivity>,
}

/// Labels and bounds that are known at the start.
#[derive(Debug, Clone)]
pub struct Facts {
    /// This member's id, printed.
    pub member_id: String,
    /// The same as a number, to know whether it leads.
    pub member: u64,
    /// The cluster's id.
    pub cluster: u64,
    /// Bytes; 2 GiB when the flag is 0.
    pub quota_bytes: i64,
    /// Feature gates by name and stage, and whether each is on.
    pub features: Vec<(&'static str, &'static str, bool)>,
}

impl Registry {
    /// Appends the whole exposition.
    pub fn scrape(&self, out: &mut String) {
        scrape::write(self, out);
    }
}

/// Different `client-api-version` texts that are told apart; there are some ten releases in the field.
const CLIENT_VERSIONS_MAX: usize = 32;
/// First bound in nanoseconds, and how many, each twice the one before.
const REQUEST_BUCKETS: (u64, usize) = (1_000_000, 14);
const RANGE_BUCKETS: (u64, usize) = (100_000, 20);
const COMPACTION_BUCKETS: (u64, usize) = (100_000_000, 14);

#[cfg(test)]
pub(crate) mod tests;
