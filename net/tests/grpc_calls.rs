//! A server connection against our own client, their bytes cut at random places.

use basalt_net::grpc::client::{Answered, Client, Template};
use basalt_net::grpc::{
    Answers, Code, Connection, Flow, Metadata, Method, Opening, Request, ServerConfig, Sink, Status,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Answers as the path says.
#[derive(Default)]
struct Echo {
    requests: usize,
    cancelled: Vec<u32>,
    opened: Vec<u32>,
    ended: Vec<u32>,
    /// Streaming answers that wait for room: bytes still to send in messages of 10,000.
    streaming: BTreeMap<u32, usize>,
}

impl Echo {
    fn go_on(&mut self, answers: &mut Answers, stream: u32) {
        while let Some(left) = self.streaming.get_mut(&stream) {
            if *left == 0 {
                self.streaming.remove(&stream);
                answers.finish(stream, Status::OK);
                return;
            }
            let bytes = (*left).min(10_000);
            *left -= bytes;
            if answers.send(stream, |out| out.resize(out.len() + bytes, 7)) == Flow::Full {
                return;
            }
        }
    }
}

impl Sink for Echo {
    fn method(&self, path: &[u8]) -> Method {
        match path {
            b"/t.T/Echo" | b"/t.T/Fail" | b"/t.T/Never" => Method::OneRequest,
            b"/t.T/Stream" => Method::ServerStreaming,
            b"/t.T/Each" | b"/t.T/Push" | b"/t.T/Shut" => Method::ManyRequests,
            _ => Method::Unknown(Status::new(Code::Unimplemented, "unknown service t.X")),
        }
    }

    fn on_request(&mut self, answers: &mut Answers, stream: u32, request: Request<'_>) {
        self.requests += 1;
        match request.path {
            b"/t.T/Echo" => answers.reply(stream, |out| out.extend_from_slice(request.message)),
            b"/t.T/Fail" => answers.fail(
                stream,
                Status::new(Code::NotFound, "no\nsuch key \u{e9} 100%"),
            ),
            b"/t.T/Each" => {
                answers.send(stream, |out| out.extend_from_slice(request.message));
            }
            b"/t.T/Stream" => {
                let bytes = request.message.len() * 100;
                self.streaming.insert(stream, bytes);
                self.go_on(answers, stream);
            }
            _ => {}
        }
    }

    fn on_open(&mut self, answers: &mut Answers, stream: u32, opening: Opening<'_>) {
        assert_eq!(opening.meta.get("token"), Some(&b"t"[..]));
        self.opened.push(stream);
        match opening.path {
            b"/t.T/Shut" => answers.fail(stream, Status::new(Code::Unavailable, "no leader")),
            // The answer may begin before the first request.
            b"/t.T/Push" => {
                answers.send(stream, |out| out.extend_from_slice(b"open"));
            }
            _ => {}
        }
    }

    fn on_end(&mut self, answers: &mut Answers, stream: u32) {
        self.ended.push(stream);
        answers.finish(stream, Status::OK);
    }

    fn on_cancel(&mut self, _: &mut Answers, stream: u32) {
        self.streaming.remove(&stream);
        self.cancelled.push(stream);
    }

    fn on_writable(&mut self, answers: &mut Answers, stream: u32) {
        self.go_on(answers, stream);
    }
}

#[derive(Default)]
struct Heard {
    bytes: BTreeMap<u32, Vec<u8>>,
    messages: BTreeMap<u32, usize>,
    ended: BTreeMap<u32, Status>,
}

impl Answered for Heard {
    fn on_message(&mut self, stream: u32, message: &[u8]) {
        self.bytes
            .entry(stream)
            .or_default()
            .extend_from_slice(message);
        *self.messages.entry(stream).or_default() += 1;
    }

    fn on_status(&mut self, stream: u32, status: &Status, _: &Metadata) {
        assert!(self.ended.insert(stream, status.clone()).is_none());
    }
}

struct Pair {
    server: Connection,
    client: Client,
    echo: Echo,
    heard: Heard,
    now: Instant,
    random: fastrand::Rng,
    piece_max: usize,
}

impl Pair {
    fn new(seed: u64, piece_max: usize) -> Pair {
        let now = Instant::now();
        Pair {
            server: Connection::new(&ServerConfig::default(), now),
            client: Client::new(64 << 20, now),
            echo: Echo::default(),
            heard: Heard::default(),
            now,
            random: fastrand::Rng::with_seed(seed),
            piece_max,
        }
    }

    /// Carries bytes both ways until nothing moves.
    fn settle(&mut self) {
        loop {
            self.client.flush(self.now, &mut self.heard);
            self.server.flush(self.now, &mut self.echo);
            if self.client.out().is_empty() && self.server.out().is_empty() {
                assert!(!self.client.has_more());
                assert!(!self.server.has_more());
                return;
            }
            let bytes = self
                .client
                .out()
                .len()
                .min(self.random.usize(1..=self.piece_max));
            let piece = self.client.out()[..bytes].to_vec();
            self.client.advance(bytes);
            self.server.recv(&piece, self.now, &mut self.echo);
            let bytes = self
                .server
                .out()
                .len()
                .min(self.random.usize(1..=self.piece_max));
            let piece = self.server.out()[..bytes].to_vec();
            self.server.advance(bytes);
            self.client.recv(&piece, self.now, &mut self.heard);
            assert_eq!(self.server.failure(), None);
            assert_eq!(self.client.failure(), None);
        }
    }

    fn template(path: &str) -> Template {
        Template::new(path, "h:1", &[("token", b"t"), ("x-bin", &[0, 255])], None)
    }
}

fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n % 251) as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_call_gets_its_own_answer_however_bytes_are_split(
        seed in any::<u64>(),
        piece_max in prop_oneof![Just(3usize), Just(100), Just(70_000)],
        calls in proptest::collection::vec((0..5usize, prop_oneof![0..50usize, 0..5_000usize]), 1..40),
    ) {
        let mut pair = Pair::new(seed, piece_max);
        let paths = ["/t.T/Echo", "/t.T/Fail", "/t.T/Stream", "/t.T/Each", "/t.X/Unknown"];
        let mut expected = Vec::new();
        for (kind, bytes) in calls {
            let template = Pair::template(paths[kind]);
            let message = payload(bytes);
            let stream = pair.client.call(&template, |out| out.extend_from_slice(&message)).unwrap();
            expected.push((stream, kind, message));
            if pair.random.bool() {
                pair.settle();
            }
        }
        pair.settle();
        for (stream, kind, message) in expected {
            let status = &pair.heard.ended[&stream];
            let bytes = pair.heard.bytes.get(&stream).cloned().unwrap_or_default();
            match kind {
                1 => prop_assert_eq!(status, &Status::new(Code::NotFound, "no\nsuch key \u{e9} 100%")),
                4 => prop_assert_eq!(status.code, Code::Unimplemented),
                _ => prop_assert_eq!(status, &Status::OK),
            }
            match kind {
                0 | 3 => prop_assert_eq!(bytes, message),
                2 => prop_assert_eq!(bytes.len(), message.len() * 100),
                _ => prop_assert_eq!(bytes.len(), 0),
            }
        }
        prop_assert_eq!(pair.server.open_calls(), 0);
        prop_assert_eq!(pair.client.open_calls(), 0);
        prop_assert!(pair.echo.cancelled.is_empty());
    }
}

#[test]
fn large_messages_pass_both_ways_under_flow_control() {
    let mut pair = Pair::new(1, 100_000);
    let message = payload(2 << 20);
    for _ in 0..10 {
        let template = Pair::template("/t.T/Echo");
        pair.client
            .call(&template, |out| out.extend_from_slice(&message))
            .unwrap();
    }
    pair.settle();
    assert_eq!(pair.heard.ended.len(), 10);
    assert!(pair.heard.bytes.values().all(|bytes| *bytes == message));
}

#[test]
fn message_over_the_bound_is_refused_with_the_text_of_grpc_go() {
    let mut pair = Pair::new(1, 100_000);
    let message = payload((2 << 20) + 1);
    let template = Pair::template("/t.T/Echo");
    let stream = pair
        .client
        .call(&template, |out| out.extend_from_slice(&message))
        .unwrap();
    pair.settle();
    let expected = "grpc: received message larger than max (2097153 vs. 2097152)";
    assert_eq!(
        pair.heard.ended[&stream],
        Status::new(Code::ResourceExhausted, expected)
    );
    assert_eq!(pair.echo.requests, 0);
}

#[test]
fn client_stream_is_heard_message_by_message_and_then_ends() {
    let mut pair = Pair::new(3, 10);
    let stream = pair.client.open(&Pair::template("/t.T/Each")).unwrap();
    for number in 0..100u8 {
        pair.client.send(stream, |out| out.push(number));
        if number % 7 == 0 {
            pair.settle();
        }
    }
    pair.settle();
    assert_eq!(pair.heard.messages[&stream], 100);
    assert_eq!(pair.server.open_calls(), 1);
    pair.client.end(stream);
    pair.settle();
    assert_eq!(pair.echo.ended, [stream]);
    assert_eq!(pair.heard.ended[&stream], Status::OK);
}

#[test]
fn two_way_call_is_told_of_before_any_message_and_may_push_until_it_is_cancelled() {
    let mut pair = Pair::new(3, 10);
    let stream = pair.client.open(&Pair::template("/t.T/Push")).unwrap();
    pair.settle();
    assert_eq!(pair.echo.opened, [stream]);
    assert_eq!(pair.heard.bytes[&stream], b"open");
    pair.server
        .answers()
        .send(stream, |out| out.extend_from_slice(b", pushed"));
    pair.settle();
    assert_eq!(pair.heard.bytes[&stream], b"open, pushed");
    pair.client.cancel(stream);
    pair.settle();
    assert_eq!(pair.echo.cancelled, [stream]);
    assert_eq!(pair.server.open_calls(), 0);
}

#[test]
fn two_way_call_refused_at_its_opening_hears_nothing_more() {
    let mut pair = Pair::new(3, 10);
    for is_ended in [false, true] {
        let stream = pair.client.open(&Pair::template("/t.T/Shut")).unwrap();
        if is_ended {
            pair.client.end(stream);
        } else {
            pair.client.send(stream, |out| out.push(1));
        }
        pair.settle();
        let expected = Status::new(Code::Unavailable, "no leader");
        assert_eq!(pair.heard.ended[&stream], expected);
    }
    assert_eq!(pair.echo.opened.len(), 2);
    assert_eq!((pair.echo.requests, pair.echo.ended.len()), (0, 0));
    assert!(pair.echo.cancelled.is_empty());
}

#[test]
fn unary_and_streaming_methods_want_their_messages_as_grpc_go_does() {
    let mut pair = Pair::new(17, 10);
    let mut outcome = |path: &str, messages: usize, is_cut: bool| {
        let stream = pair.client.open(&Pair::template(path)).unwrap();
        for _ in 0..messages {
            pair.client.send(stream, |out| out.push(1));
        }
        if is_cut {
            pair.client.send_raw(stream, &[0, 0, 0, 0, 9, 1]);
        }
        pair.client.end(stream);
        pair.settle();
        let status = pair.heard.ended[&stream].clone();
        (status.code, status.message.into_owned())
    };
    let expected = |code, text: &str| (code, text.to_string());
    assert_eq!(
        outcome("/t.T/Echo", 0, false),
        expected(Code::Unknown, "EOF")
    );
    assert_eq!(
        outcome("/t.T/Echo", 0, true),
        expected(Code::Unknown, "unexpected EOF")
    );
    assert_eq!(outcome("/t.T/Echo", 2, false), expected(Code::Ok, ""));
    let none = "cardinality violation: received no request message from non-client-streaming RPC";
    assert_eq!(
        outcome("/t.T/Stream", 0, false),
        expected(Code::Internal, none)
    );
    let many =
        "cardinality violation: received multiple request messages for non-client-streaming RPC";
    assert_eq!(
        outcome("/t.T/Stream", 2, false),
        expected(Code::Internal, many)
    );
    assert_eq!(
        outcome("/t.T/Stream", 1, true),
        expected(Code::Internal, "unexpected EOF")
    );
    assert_eq!(outcome("/t.T/Stream", 1, false), expected(Code::Ok, ""));
    assert_eq!(
        outcome("/t.T/Each", 3, true),
        expected(Code::Internal, "unexpected EOF")
    );
    assert_eq!(outcome("/t.T/Each", 0, false), expected(Code::Ok, ""));
}

#[test]
fn slow_reader_holds_back_its_stream_and_nobody_else() {
    let mut pair = Pair::new(5, 100_000);
    pair.settle();
    let long = pair
        .client
        .call(&Pair::template("/t.T/Stream"), |out| {
            out.resize(out.len() + 16_000, 0)
        })
        .unwrap();
    // Carry only requests: the answers pile up at the server, but not in memory without end.
    let bytes = pair.client.out().to_vec();
    pair.client.advance(bytes.len());
    pair.server.recv(&bytes, pair.now, &mut pair.echo);
    pair.server.flush(pair.now, &mut pair.echo);
    assert!(pair.server.out().len() < (1 << 20) + 20_000);
    assert!(pair.echo.streaming.contains_key(&long));
    let short = pair
        .client
        .call(&Pair::template("/t.T/Echo"), |out| out.push(1))
        .unwrap();
    pair.settle();
    assert_eq!(pair.heard.bytes[&short], [1]);
    assert_eq!(pair.heard.bytes[&long].len(), 1_600_000);
}

#[test]
fn cancelled_call_is_told_to_the_service_once_and_its_answer_is_ignored() {
    let mut pair = Pair::new(7, 1_000);
    let stream = pair
        .client
        .call(&Pair::template("/t.T/Never"), |_| {})
        .unwrap();
    pair.settle();
    assert_eq!(pair.server.open_calls(), 1);
    pair.client.cancel(stream);
    pair.settle();
    assert_eq!(pair.echo.cancelled, [stream]);
    pair.server.answers().reply(stream, |out| out.push(1));
    assert_eq!(pair.server.out(), b"");
    pair.server.on_closed(&mut pair.echo);
    assert_eq!(pair.echo.cancelled, [stream]);
}

#[test]
fn deadline_cancels_the_call() {
    let mut pair = Pair::new(9, 1_000);
    let template = Template::new("/t.T/Never", "h", &[], Some(Duration::from_secs(3)));
    let stream = pair.client.call(&template, |_| {}).unwrap();
    pair.settle();
    let deadline = pair.server.next_deadline().unwrap();
    assert_eq!(deadline, pair.now + Duration::from_secs(3));
    pair.server
        .on_deadline(deadline - Duration::from_nanos(1), &mut pair.echo);
    assert!(pair.echo.cancelled.is_empty());
    pair.server.on_deadline(deadline, &mut pair.echo);
    assert_eq!(pair.echo.cancelled, [stream]);
    pair.settle();
    assert_eq!(pair.heard.ended[&stream].code, Code::Cancelled);
}

#[test]
fn orderly_end_lets_open_calls_finish_and_refuses_new_ones() {
    let mut pair = Pair::new(11, 1_000);
    let stream = pair
        .client
        .call(&Pair::template("/t.T/Never"), |_| {})
        .unwrap();
    pair.settle();
    pair.server.go_away(pair.now);
    pair.settle();
    assert!(!pair.server.is_finished());
    assert_eq!(pair.client.call(&Pair::template("/t.T/Echo"), |_| {}), None);
    pair.server.answers().reply(stream, |out| out.push(1));
    pair.settle();
    assert_eq!(pair.heard.ended[&stream], Status::OK);
    assert!(pair.server.is_finished());
}

#[test]
fn lost_connection_ends_calls_on_both_sides() {
    let mut pair = Pair::new(13, 1_000);
    let stream = pair
        .client
        .call(&Pair::template("/t.T/Never"), |_| {})
        .unwrap();
    pair.settle();
    pair.server.on_closed(&mut pair.echo);
    pair.client.on_closed(&mut pair.heard);
    assert_eq!(pair.echo.cancelled, [stream]);
    assert_eq!(pair.heard.ended[&stream].code, Code::Cancelled);
    assert_eq!((pair.server.open_calls(), pair.client.open_calls()), (0, 0));
}
