//! Counts and times calls for the metrics, at a few nanoseconds each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use basalt_net::grpc::{CallId, Calls, Code, Flow, Metadata, Request, Shared, Status};
use basalt_net::h1;

use super::gate::Rpc;
use crate::metrics::{self, ClientVersions, LoopMetrics, MethodId, RequestKind};

/// The counters of one loop's calls.
pub(super) struct Meter {
    metrics: Arc<LoopMetrics>,
    /// By `Rpc`.
    methods: [MethodId; Rpc::ALL.len()],
    versions: ClientVersions,
    /// Ranges answered since the last one that was timed, and how long that took. Two looks at the
    /// clock would cost a third of what the read costs.
    ranges: u32,
    range_took: Duration,
}

/// Ranges that share the time of the first of them.
const RANGES_PER_SAMPLE: u32 = 8;

impl Meter {
    pub(super) fn new(metrics: Arc<LoopMetrics>) -> Self {
        let method =
            |rpc: Rpc| metrics::method(rpc.path()).expect("every served method is counted");
        Meter {
            metrics,
            methods: Rpc::ALL.map(method),
            versions: ClientVersions::default(),
            ranges: 0,
            range_took: Duration::ZERO,
        }
    }

    /// A call has come. Returns the time if it is to be timed.
    #[inline]
    pub(super) fn on_request(&mut self, rpc: Rpc, request: &Request<'_>) -> Option<Instant> {
        let method = self.methods[rpc as usize];
        self.metrics.message_received(method, request.message.len());
        if rpc.is_two_way() {
            return None;
        }
        self.on_open(rpc, request.meta);
        (rpc == Rpc::Range && self.ranges == 0).then(Instant::now)
    }

    /// A call has begun.
    #[inline]
    pub(super) fn on_open(&mut self, rpc: Rpc, meta: &Metadata) {
        self.metrics.started(self.methods[rpc as usize]);
        let version = meta.get("client-api-version");
        let version = version.and_then(|version| std::str::from_utf8(version).ok());
        let is_stream = rpc.is_two_way() || rpc.is_server_streaming();
        self.metrics
            .client_request(&mut self.versions, is_stream, version);
    }

    /// A two-way call is gone without an answer.
    pub(super) fn on_cancel(&self, rpc: Rpc) {
        let method = self.methods[rpc as usize];
        self.metrics.handled(method, Code::Cancelled);
    }

    /// What a call with this beginning came to, if it has ended.
    #[inline]
    pub(super) fn on_handled(&mut self, rpc: Rpc, began: Option<Instant>, ended: Option<Code>) {
        if rpc != Rpc::Range {
            return;
        }
        match ended {
            Some(Code::Ok) => {
                if let Some(began) = began {
                    self.range_took = began.elapsed();
                }
                self.ranges += 1;
                if self.ranges == RANGES_PER_SAMPLE {
                    self.on_turn();
                }
            }
            Some(_) => self.range_took(self.range_took, false),
            None => {}
        }
    }

    /// Books the ranges that have no time of their own yet.
    #[inline]
    pub(super) fn on_turn(&mut self) {
        for _ in 0..self.ranges {
            self.range_took(self.range_took, true);
        }
        self.ranges = 0;
    }

    /// A range has been answered or refused.
    pub(super) fn range_took(&self, took: Duration, is_ok: bool) {
        self.metrics.range(took, is_ok);
        self.metrics.request(RequestKind::Range, took, is_ok);
    }

    /// What went through the log has been answered.
    pub(super) fn proposal_took(&self, rpc: Rpc, took: Duration, is_ok: bool) {
        let kind = match rpc {
            Rpc::Put => RequestKind::Put,
            Rpc::DeleteRange => RequestKind::DeleteRange,
            Rpc::Txn => RequestKind::Txn,
            Rpc::Compact => RequestKind::Compaction,
            Rpc::LeaseRevoke => RequestKind::LeaseRevoke,
            Rpc::Alarm => RequestKind::Alarm,
            _ => return,
        };
        self.metrics.request(kind, took, is_ok);
    }

    /// `calls` for one call of `rpc`, whose answer is counted.
    #[inline]
    pub(super) fn count<'a, C: Calls>(&'a self, rpc: Rpc, calls: &'a mut C) -> Counted<'a, C> {
        Counted {
            calls,
            metrics: &self.metrics,
            method: self.methods[rpc as usize],
            ended: None,
        }
    }
}

/// Passes everything on and counts it.
pub(super) struct Counted<'a, C> {
    calls: &'a mut C,
    metrics: &'a LoopMetrics,
    method: MethodId,
    ended: Option<Code>,
}

impl<C> Counted<'_, C> {
    /// How the call has ended, if it has.
    pub(super) fn ended(&self) -> Option<Code> {
        self.ended
    }

    fn end(&mut self, code: Code) {
        self.metrics.handled(self.method, code);
        self.ended = Some(code);
    }
}

impl<C: Calls> Calls for Counted<'_, C> {
    #[inline]
    fn reply(&mut self, call: CallId, write: impl FnOnce(&mut Vec<u8>)) {
        let (metrics, method) = (self.metrics, self.method);
        self.calls.reply(call, |out| {
            let before = out.len();
            write(out);
            metrics.message_sent(method, out.len() - before);
        });
        self.end(Code::Ok);
    }

    fn fail(&mut self, call: CallId, status: Status) {
        self.end(status.code);
        self.calls.fail(call, status);
    }

    fn send(&mut self, call: CallId, write: impl FnOnce(&mut Vec<u8>)) -> Flow {
        let (metrics, method) = (self.metrics, self.method);
        self.calls.send(call, |out| {
            let before = out.len();
            write(out);
            metrics.message_sent(method, out.len() - before);
        })
    }

    fn send_shared(
        &mut self,
        call: CallId,
        write: impl FnOnce(&mut Vec<u8>),
        shared: Shared,
    ) -> Flow {
        let (metrics, method, rest) = (self.metrics, self.method, shared.len());
        let write = |out: &mut Vec<u8>| {
            let before = out.len();
            write(out);
            metrics.message_sent(method, out.len() - before + rest);
        };
        self.calls.send_shared(call, write, shared)
    }

    fn finish(&mut self, call: CallId, status: Status) {
        self.end(status.code);
        self.calls.finish(call, status);
    }

    fn has_room(&mut self, call: CallId) -> bool {
        self.calls.has_room(call)
    }

    fn reply_http(&mut self, call: CallId, response: h1::Response) {
        self.calls.reply_http(call, response);
    }
}
