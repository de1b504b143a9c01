//! etcd's gRPC services over a [`Backend`]: decode, check, then read from a view or propose.
//!
//! Promises: etcd's code and text for each refusal, in etcd's order of checks; a read of one key
//! allocates nothing; nothing takes longer than a slice of the loop's time. Never: a change of
//! state; that is the engine's, and this room only words what it answers. Start at `Api`, then
//! `kv.rs`.

mod backend;
mod errors;
mod fields;
mod gate;
mod header;
mod health;
mod jobs;
mod kv;
mod lease;
pub mod limits;
mod maintenance;
mod member;
mod parked;
mod read_txn;
mod stream;
mod txn;
mod waiting;

use std::sync::Arc;
use std::time::Instant;

use basalt_engine::member::RequestIds;
use basalt_engine::mvcc::RevisionRefused;
use basalt_engine::replica::{Outcome, Replies};
use basalt_engine::types::{ClusterId, MemberId, ReplyTo};
use basalt_net::grpc::{CallId, Calls, Metadata, Method, Request, Service};
use basalt_net::h1;
use basalt_pb::hot::{Header, internal_raft_request_len, write_header};

pub use backend::{Backend, Busy, Step, Work};
pub use errors::Error;

use gate::Rpc;
use header::Identity;
use jobs::Jobs;
use limits::{APPLY_LAG_ENTRIES_MAX, SCRATCH_BYTES_KEPT};
use maintenance::ALARM;
use parked::Parked;
use waiting::{Then, Waiting};

/// What the API is told at its start.
#[derive(Clone, Debug)]
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
    /// Draws the ids of proposals; one for all loops of the process.
    pub ids: Arc<RequestIds>,
}

/// The services of one network loop.
pub struct Api<B> {
    config: ApiConfig,
    identity: Identity,
    backend: B,
    waiting: Waiting,
    parked: Parked,
    jobs: Jobs,
    /// Where answers of unknown length are made before they are copied out.
    scratch: Vec<u8>,
    replies: Replies,
}

impl<B: Backend> Api<B> {
    /// The services over `backend`.
    pub fn new(config: ApiConfig, backend: B) -> Self {
        Api {
            identity: Identity {
                cluster: config.cluster,
                member: config.member,
            },
            config,
            backend,
            waiting: Waiting::default(),
            parked: Parked::default(),
            jobs: Jobs::default(),
            scratch: Vec::new(),
            replies: Replies::default(),
        }
    }

    /// The member behind it.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The member behind it, to be driven by whoever owns the loop.
    pub fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    #[inline]
    fn handle(
        &mut self,
        calls: &mut impl Calls,
        call: CallId,
        rpc: Rpc,
        message: &[u8],
        meta: Option<&Metadata>,
    ) {
        let handled = match rpc {
            Rpc::Range => self.on_range(calls, call, message, meta),
            Rpc::Put => self.on_put(call, message, meta),
            Rpc::Txn => self.on_txn(calls, call, message, meta),
            Rpc::DeleteRange => self.on_delete_range(call, message, meta),
            Rpc::RangeStream => self.on_range_stream(call, message, meta),
            Rpc::Compact => self.on_compact(call, message, meta),
            Rpc::LeaseRevoke => self.on_lease_revoke(call, message, meta),
            Rpc::LeaseTimeToLive => self.on_lease_time_to_live(calls, call, message, meta),
            Rpc::LeaseLeases => self.on_lease_leases(calls, call, message, meta),
            Rpc::MemberList => self.on_member_list(calls, call, message, meta),
            Rpc::Alarm => self.on_alarm(call, message, meta),
            Rpc::Status => self.on_status(calls, call, message, meta),
            Rpc::Defragment => self.on_defragment(calls, call, message, meta),
            Rpc::Hash => self.on_hash(call, message, meta),
            Rpc::HashKv => self.on_hash_kv(call, message, meta),
            Rpc::MoveLeader => self.on_move_leader(calls, call, message, meta),
            Rpc::Downgrade => self.on_downgrade(calls, call, message, meta),
            Rpc::HealthCheck => self.on_health_check(calls, call, message, meta),
            Rpc::HealthWatch => self.on_health_watch(calls, call, message, meta),
            Rpc::HealthList => self.on_health_list(calls, call, message, meta),
        };
        if let Err(error) = handled {
            calls.fail(call, error.status());
        }
    }

    /// Lets a call in that has not waited before.
    #[inline]
    fn admit(&self, rpc: Rpc, local: bool, meta: Option<&Metadata>) -> Result<(), Error> {
        match meta {
            Some(meta) => gate::admit(rpc, local, meta, self.backend.published()),
            None => Ok(()),
        }
    }

    /// Keeps a call until linearizable reads are possible.
    fn park(&mut self, call: CallId, rpc: Rpc, message: &[u8]) -> Result<(), Error> {
        self.parked.push(call, rpc, message)
    }

    /// Sends a checked request into the log. `field` is its number in `InternalRaftRequest`.
    fn propose(&mut self, call: CallId, field: u32, body: &[u8], then: Then) -> Result<(), Error> {
        let status = self.backend.published().status();
        if status.committed.0 > status.applied.0 + APPLY_LAG_ENTRIES_MAX {
            return Err(Error::TooManyRequests);
        }
        let id = self.config.ids.draw();
        if internal_raft_request_len(id.0, field, body.len()) > self.config.max_request_bytes {
            return Err(Error::RequestTooLarge);
        }
        let to = self.reply_to(call);
        self.backend.propose(to, id, field, body)?;
        self.waiting.push(call, then);
        Ok(())
    }

    /// Gives work to the background worker.
    fn submit(&mut self, call: CallId, work: Work) -> Result<(), Error> {
        let to = self.reply_to(call);
        self.backend.submit(to, work)?;
        Ok(())
    }

    /// Whether the quota lets a request through that may add `cost` bytes.
    #[inline]
    fn has_room(&self, cost: u64) -> bool {
        let quota = match self.config.quota_bytes {
            ..0 => return true,
            0 => maintenance::QUOTA_BYTES_DEFAULT,
            bytes => bytes,
        };
        cost == 0 || self.backend.published().status().db_size + cost < quota as u64
    }

    /// Raises this member's alarm; when that is done the client hears why.
    fn refuse_for_space(&mut self, call: CallId) -> Result<(), Error> {
        // Action 1 is ACTIVATE, alarm 1 NOSPACE.
        let body = maintenance::alarm_body(1, self.identity.member.0, 1);
        self.propose(call, ALARM, &body, Then::NoSpace)
            .map_err(|_| Error::NoSpace)
    }

    fn header_now(&self) -> Header {
        let revision = self.backend.reader().pin().view().revision();
        self.identity.header(self.backend.published(), revision)
    }

    fn reply_to(&self, call: CallId) -> ReplyTo {
        ReplyTo {
            net_loop: self.config.net_loop,
            conn: call.conn,
            generation: call.generation,
            stream: call.stream,
        }
    }

    fn answer_all(&mut self, calls: &mut impl Calls) {
        for (to, outcome) in &self.replies.items {
            let call = CallId {
                conn: to.conn,
                generation: to.generation,
                stream: to.stream,
            };
            if self.waiting.take(call) == Some(Then::NoSpace) {
                calls.fail(call, Error::NoSpace.status());
                continue;
            }
            match *outcome {
                Outcome::Put { revision, term } => {
                    let header = Header {
                        cluster_id: self.identity.cluster.0,
                        member_id: self.identity.member.0,
                        revision,
                        raft_term: term.0,
                    };
                    calls.reply(call, |out| write_header(out, &header));
                }
                Outcome::Encoded { start, end } => {
                    let bytes = self.replies.encoded(start, end);
                    calls.reply(call, |out| out.extend_from_slice(bytes));
                }
                Outcome::Refused(refused) => calls.fail(call, Error::from(refused).status()),
            }
        }
        self.replies.clear();
    }
}

impl<B: Backend> Service for Api<B> {
    fn method(&self, path: &[u8]) -> Method {
        gate::method(path)
    }

    fn on_request(&mut self, calls: &mut impl Calls, call: CallId, request: Request<'_>) {
        match Rpc::of(request.path) {
            Some(rpc) => self.handle(calls, call, rpc, request.message, Some(request.meta)),
            // The transport has asked `method` and refuses these itself.
            None => {
                if let Method::Unknown(status) = gate::method(request.path) {
                    calls.fail(call, status);
                }
            }
        }
    }

    /// No method takes more than one request.
    fn on_end(&mut self, _: &mut impl Calls, _: CallId) {}

    fn on_cancel(&mut self, call: CallId) {
        // A proposal cannot be taken back and a parked call costs one read; answers to calls that
        // are gone are dropped. Only what would go on working is ended.
        self.jobs.on_cancel(call);
    }

    fn on_writable(&mut self, _: &mut impl Calls, call: CallId) {
        self.jobs.on_writable(call);
    }

    fn on_http(&mut self, calls: &mut impl Calls, call: CallId, request: h1::Request<'_>) {
        let response = self.backend.http(&request);
        calls.reply_http(call, response);
    }

    fn on_turn(&mut self, calls: &mut impl Calls, now: Instant) -> Option<Instant> {
        self.waiting.stamp(now);
        let mut wake = self.backend.turn(now, &mut self.replies);
        self.answer_all(calls);
        if !self.parked.is_empty() {
            // Each is looked at once, should the gate close again meanwhile.
            let mut left = self.parked.len();
            while left > 0 && self.backend.published().read_gate().is_free() {
                left -= 1;
                if let Some(parked) = self.parked.pop() {
                    self.handle(calls, parked.call, parked.rpc, &parked.message, None);
                }
            }
            let timed_out = |call| calls.fail(call, Error::Timeout.status());
            wake = earlier(wake, self.parked.on_turn(now, timed_out));
        }
        wake = earlier(wake, self.jobs.on_turn(calls, self.backend.reader(), now));
        let timed_out = |call| calls.fail(call, Error::Timeout.status());
        self.waiting.expire(now, timed_out);
        if self.scratch.capacity() > SCRATCH_BYTES_KEPT {
            self.scratch = Vec::new();
        }
        earlier(wake, self.waiting.next_deadline())
    }

    fn on_ready(&mut self, token: usize) {
        self.backend.on_ready(token);
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
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
