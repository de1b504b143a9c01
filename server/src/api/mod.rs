//! etcd's gRPC services over a [`Backend`]: decode, check, then read from a view or propose.
//!
//! Promises: etcd's code and text for each refusal, in etcd's order of checks; a read of one key
//! allocates nothing; nothing takes longer than a slice of the loop's time. Never: a change of
//! state; that is the engine's, and this room only words what it answers. Start at `Api`, then
//! `kv.rs`.

mod backend;
mod claims;
mod election;
mod errors;
mod fields;
mod gate;
mod header;
mod health;
mod jobs;
mod keep_alive;
mod kv;
mod lease;
pub mod limits;
mod lock;
mod maintenance;
mod member;
mod meter;
mod parked;
mod read_txn;
mod services;
mod snapshot;
mod stream;
mod txn;
mod waiting;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use basalt_engine::member::RequestIds;
use basalt_engine::mvcc::RevisionRefused;
use basalt_engine::types::{ClusterId, MemberId};
use basalt_engine::watch::Hub;
use basalt_net::grpc::{CallId, Calls, Method, Opening, Request, Service};
use basalt_net::h1;
use basalt_net::peer::Peers;

pub use backend::{Backend, Busy, Order, Step, Work};
pub use errors::Error;

use crate::config::Membership;
use crate::metrics::LoopMetrics;
use crate::peers::Connectivity;
use gate::Rpc;
use meter::Meter;
use services::Services;

/// What the API is told at its start.
#[derive(Clone)]
pub struct ApiConfig {
    /// The number of this network loop.
    pub net_loop: u32,
    /// The cluster's id, for headers.
    pub cluster: ClusterId,
    /// This member's id, for headers.
    pub member: MemberId,
    /// `--quota-backend-bytes`: 0 is etcd's default of 2 GiB, negative is no quota.
    pub quota_bytes: i64,
    /// `--max-request-bytes`: the largest proposal as it stands in the log.
    pub max_request_bytes: usize,
    /// `--max-txn-ops`: the most operations on one level of a transaction and those below.
    pub max_txn_ops: usize,
    /// Seconds that a lease lives at least.
    pub lease_ttl_min: i64,
    /// Draws the ids of proposals; one for all loops of the process.
    pub ids: Arc<RequestIds>,
    /// Where watchers are known; one for all loops of the process.
    pub hub: Arc<Hub>,
    /// `--watch-progress-notify-interval`: 0 is etcd's default of 10 minutes.
    pub watch_progress_interval: Duration,
    /// What the membership may be changed to.
    pub membership: Membership,
    /// Since when this member has been connected to the others.
    pub connectivity: Arc<Connectivity>,
}

/// The services of one network loop.
pub struct Api<B> {
    services: Services<B>,
    meter: Meter,
}

impl<B: Backend> Api<B> {
    /// The services over `backend`; `metrics` is where this loop counts.
    pub fn new(config: ApiConfig, metrics: Arc<LoopMetrics>, backend: B) -> Self {
        Api {
            meter: Meter::new(metrics),
            services: Services::new(config, backend),
        }
    }

    /// The member behind it.
    pub fn backend(&self) -> &B {
        &self.services.backend
    }

    /// The member behind it, to be driven by whoever owns the loop.
    pub fn backend_mut(&mut self) -> &mut B {
        &mut self.services.backend
    }
}

impl<B: Backend> Service for Api<B> {
    fn method(&self, path: &[u8]) -> Method {
        gate::method(path)
    }

    fn on_request(&mut self, calls: &mut impl Calls, call: CallId, request: Request<'_>) {
        let Some(rpc) = Rpc::of(request.path) else {
            // The transport has asked `method` and refuses these itself.
            if let Method::Unknown(status) = gate::method(request.path) {
                calls.fail(call, status);
            }
            return;
        };
        let began = self.meter.on_request(rpc, &request);
        let mut calls = self.meter.count(rpc, calls);
        let (message, meta) = (request.message, Some(request.meta));
        self.services.handle(&mut calls, call, rpc, message, meta);
        let ended = calls.ended();
        self.meter.on_handled(rpc, began, ended);
    }

    fn on_open(&mut self, calls: &mut impl Calls, call: CallId, opening: Opening<'_>) {
        let Some(rpc) = Rpc::of(opening.path) else {
            return;
        };
        self.meter.on_open(rpc, opening.meta);
        let mut calls = self.meter.count(rpc, calls);
        self.services.open(&mut calls, call, rpc, opening.meta);
    }

    /// A watch goes on when its client has asked for all that it wants.
    fn on_end(&mut self, calls: &mut impl Calls, call: CallId) {
        let calls = &mut self.meter.count(Rpc::LeaseKeepAlive, calls);
        self.services.keep_alives.on_end(calls, call);
    }

    fn on_cancel(&mut self, call: CallId) {
        // A proposal cannot be taken back and a parked call costs one read; answers to calls that
        // are gone are dropped. Only what would go on working is ended.
        self.services.jobs.on_cancel(call);
        self.services.cancel_claim(call);
        self.services.snapshots.on_cancel(call);
        if self.services.watches.on_cancel(call) {
            self.meter.on_cancel(Rpc::Watch);
        }
        if self.services.keep_alives.on_cancel(call) {
            self.meter.on_cancel(Rpc::LeaseKeepAlive);
        }
    }

    fn on_writable(&mut self, _: &mut impl Calls, call: CallId) {
        self.services.jobs.on_writable(call);
        self.services.snapshots.on_writable(call);
        self.services.watches.on_writable(call);
        // An observer that was not read has room again.
        self.services.watches.hear_more(call);
    }

    fn on_http(&mut self, calls: &mut impl Calls, call: CallId, request: h1::Request<'_>) {
        let response = self.services.backend.http(&request);
        calls.reply_http(call, response);
    }

    fn on_turn(&mut self, calls: &mut impl Calls, now: Instant) -> Option<Instant> {
        let wake = self.services.on_turn(calls, &self.meter, now);
        self.meter.on_turn();
        wake
    }

    fn on_ready(&mut self, token: usize) {
        self.services.backend.on_ready(token);
    }

    fn on_stop(&mut self, calls: &mut impl Calls) {
        self.services.stop_watches(calls, &self.meter);
        self.services.stop_keep_alives(calls, &self.meter);
        self.services.stop_claims(calls, &self.meter);
        self.services.backend.on_stop();
    }

    fn is_ending(&self) -> bool {
        self.services.backend.is_ending()
    }

    fn peers(&mut self) -> Option<&mut Peers> {
        self.services.backend.peers()
    }
}

impl From<Busy> for Error {
    fn from(_: Busy) -> Self {
        Error::TooManyRequests
    }
}

impl From<RevisionRefused> for Error {
    fn from(refused: RevisionRefused) -> Self {
        match refused {
            RevisionRefused::Compacted => Error::Compacted,
            RevisionRefused::Future => Error::FutureRev,
        }
    }
}

#[cfg(test)]
mod tests;
