use super::*;
use basalt_net::grpc::Opening;

impl Bench {
    fn open_keep_alive(&mut self, meta: &Metadata) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let opening = Opening {
            path: lease::LEASE_KEEP_ALIVE.as_bytes(),
            meta,
        };
        self.api.on_open(&mut self.calls, call(stream), opening);
        stream
    }

    fn keep_alive(&mut self, stream: u32, message: &[u8]) {
        let request = Request {
            path: lease::LEASE_KEEP_ALIVE.as_bytes(),
            message,
            meta: &Metadata::default(),
            timeout: None,
            last: false,
        };
        self.api.on_request(&mut self.calls, call(stream), request);
    }

    /// What was asked since the last time.
    fn asked(&mut self) -> Vec<(ReplyTo, Ask)> {
        std::mem::take(&mut self.api.services.backend.asked)
    }

    fn answer_with(&mut self, to: ReplyTo, outcome: Outcome) {
        self.api.services.backend.answers.push((to, outcome));
        self.turn();
    }
}

const EMPTY: Outcome = Outcome::Encoded { start: 0, end: 0 };

/// [LEASE-11] Many renewals on one call, each answered when its answer comes, the call ended after the last of them.
#[test]
fn a_keep_alive_answers_each_renewal_and_ends_with_its_client() {
    let mut bench = Bench::new();
    let stream = bench.open_keep_alive(&Metadata::default());
    bench.keep_alive(stream, &[8, 7]);
    bench.keep_alive(stream, &[8, 9]);
    let asked = bench.asked();
    let ids: Vec<Ask> = asked.iter().map(|(_, ask)| *ask).collect();
    let renewals = [7, 9].map(|id| Ask::KeepAlive(LeaseId(id)));
    assert_eq!(ids, renewals);
    bench.answer_with(asked[0].0, EMPTY);
    assert_eq!(bench.calls.messages[&stream].len(), 1);
    bench.api.on_end(&mut bench.calls, call(stream));
    assert!(!bench.calls.ended.contains_key(&stream));
    bench.answer_with(asked[1].0, EMPTY);
    assert_eq!(bench.calls.messages[&stream].len(), 2);
    assert_eq!(bench.calls.ended[&stream], Ended::OK);
    // Nothing is asked: it ends at once.
    let stream = bench.open_keep_alive(&Metadata::default());
    bench.api.on_end(&mut bench.calls, call(stream));
    assert_eq!(bench.calls.ended[&stream], Ended::OK);
    assert!(bench.api.services.keep_alives.is_empty());
}

/// [LEASE-11] A call ends with its first failure, and late answers to what is gone reach nobody.
#[test]
fn a_keep_alive_ends_with_what_refuses_a_renewal() {
    let mut bench = Bench::new();
    let stream = bench.open_keep_alive(&Metadata::default());
    bench.keep_alive(stream, &[8, 7]);
    bench.keep_alive(stream, &[8, 7]);
    let asked = bench.asked();
    bench.answer_with(asked[0].0, Outcome::Refused(Refused::NoLeader));
    assert_eq!(bench.error(stream), Error::NoLeader.status());
    bench.answer_with(asked[1].0, EMPTY);
    assert!(!bench.calls.messages.contains_key(&stream));

    let stream = bench.open_keep_alive(&Metadata::default());
    bench.keep_alive(stream, &[8]);
    assert_eq!(bench.calls.ended[&stream].code, Code::Internal);

    let stream = bench.open_keep_alive(&Metadata::default());
    bench.api.services.backend.is_busy = true;
    bench.keep_alive(stream, &[8, 7]);
    assert_eq!(bench.error(stream), Error::TooManyRequests.status());

    let stream = bench.open_keep_alive(&Metadata::default());
    bench.api.on_cancel(call(stream));
    let stopped = bench.open_keep_alive(&Metadata::default());
    bench.api.on_stop(&mut bench.calls);
    assert_eq!(bench.error(stopped), Error::Stopped.status());
    assert!(!bench.calls.ended.contains_key(&stream));
    assert!(bench.api.services.keep_alives.is_empty());
}

/// [WIRE-9] A session that asked for a leader hears when there is none for long, though it renews nothing just then.
#[test]
fn a_keep_alive_that_needs_a_leader_ends_without_one() {
    let mut bench = Bench::new();
    let mut meta = Metadata::default();
    meta.push(b"hasleader", b"true");
    let picky = bench.open_keep_alive(&meta);
    let patient = bench.open_keep_alive(&Metadata::default());
    let leaderless = Status {
        leader: None,
        ..leading()
    };
    bench.api.services.backend.published.set_status(leaderless);
    let wake = bench.turn();
    assert_eq!(wake, Some(bench.now + limits::LEADER_LOSS_MAX));
    assert!(bench.calls.ended.is_empty());
    bench.now += limits::LEADER_LOSS_MAX;
    bench.turn();
    assert_eq!(bench.error(picky), Error::NoLeader.status());
    assert!(!bench.calls.ended.contains_key(&patient));
}
