//! Clients that cost much and want nothing: what the strict limits end, and what stays bounded without them.

use basalt_net::grpc::{
    Answers, Code, Connection, Flow, Method, Request, ServerConfig, Sink, Status,
};
use basalt_net::h2::ErrorCode;
use basalt_net::h2::frame::{flag, kind, put_header};
use basalt_net::hpack::encode;
use basalt_net::limits::Limits;
use basalt_net::sniff::PREFACE;
use std::time::{Duration, Instant};

/// Answers `/t/Big` with 100,000 bytes, `/t/Each` message by message, never anything else.
#[derive(Default)]
struct Busy {
    requests: usize,
    cancelled: usize,
}

impl Sink for Busy {
    fn method(&self, path: &[u8]) -> Method {
        match path {
            b"/t/Each" => Method::ManyRequests,
            _ => Method::OneRequest,
        }
    }
    fn on_request(&mut self, answers: &mut Answers, stream: u32, request: Request<'_>) {
        self.requests += 1;
        match request.path {
            b"/t/Big" => answers.reply(stream, |out| out.resize(out.len() + 100_000, 0)),
            b"/t/Each" => {
                let flow = answers.send(stream, |out| out.extend_from_slice(request.message));
                assert_eq!(flow, Flow::Ready);
            }
            _ => {}
        }
    }
    fn on_end(&mut self, answers: &mut Answers, stream: u32) {
        answers.finish(stream, Status::new(Code::Ok, ""));
    }
    fn on_cancel(&mut self, _: &mut Answers, _: u32) {
        self.cancelled += 1;
    }
    fn on_writable(&mut self, _: &mut Answers, _: u32) {}
}

struct Peer {
    server: Connection,
    busy: Busy,
    now: Instant,
}

impl Peer {
    fn new(limits: Limits) -> Peer {
        let now = Instant::now();
        let config = ServerConfig {
            limits,
            ..ServerConfig::default()
        };
        let mut peer = Peer {
            server: Connection::new(&config, now),
            busy: Busy::default(),
            now,
        };
        let greeting = [PREFACE.to_vec(), frame(kind::SETTINGS, 0, 0, &[])].concat();
        peer.say(&greeting);
        peer.read();
        peer
    }

    fn say(&mut self, bytes: &[u8]) {
        self.server.recv(bytes, self.now, &mut self.busy);
        self.server.flush(self.now, &mut self.busy);
    }

    /// Takes what the server wants to send.
    fn read(&mut self) -> Vec<u8> {
        let out = self.server.out().to_vec();
        self.server.advance(out.len());
        out
    }

    /// Says it again and again, reading nothing, until the server ends the connection. Returns how often.
    fn rounds_until_calm(
        &mut self,
        rounds_max: u32,
        mut bytes: impl FnMut(u32) -> Vec<u8>,
    ) -> Option<u32> {
        for round in 0..rounds_max {
            self.say(&bytes(round));
            self.read();
            if let Some(reason) = self.server.failure() {
                assert_eq!(reason.code, ErrorCode::EnhanceYourCalm, "{reason:?}");
                return Some(round);
            }
        }
        None
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(&mut out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
    out
}

fn block(path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "h"),
        ("content-type", "application/grpc"),
    ] {
        encode::literal(&mut block, name.as_bytes(), value.as_bytes());
    }
    block
}

fn open(stream: u32, path: &str) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS, stream, &block(path))
}

fn call(stream: u32, path: &str) -> Vec<u8> {
    [
        open(stream, path),
        frame(kind::DATA, flag::END_STREAM, stream, &[0; 5]),
    ]
    .concat()
}

fn reset(stream: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &8u32.to_be_bytes())
}

#[test]
fn rapid_resets_end_the_connection_when_hardened() {
    let rapid = |round: u32| [call(round * 2 + 1, "/t/Slow"), reset(round * 2 + 1)].concat();
    assert_eq!(
        Peer::new(Limits::hardened()).rounds_until_calm(10_000, rapid),
        Some(200)
    );
    let mut tolerant = Peer::new(Limits::default());
    assert_eq!(tolerant.rounds_until_calm(10_000, rapid), None);
    assert_eq!(
        (tolerant.busy.cancelled, tolerant.server.open_calls()),
        (10_000, 0)
    );
}

#[test]
fn slow_resets_of_most_streams_end_the_connection_when_hardened() {
    let mut peer = Peer::new(Limits::hardened());
    let mut ended = None;
    for round in 0..2_000 {
        peer.now += Duration::from_millis(50);
        let stream = round * 2 + 1;
        peer.say(&[call(stream, "/t/Slow"), reset(stream)].concat());
        if peer.server.failure().is_some() {
            ended = Some(round);
            break;
        }
    }
    assert_eq!(ended, Some(500));
}

#[test]
fn making_the_server_reset_ends_the_connection() {
    // MadeYouReset: each stream is opened and then broken by a window update of zero.
    let broken = |round: u32| {
        let stream = round * 2 + 1;
        [
            call(stream, "/t/Slow"),
            frame(kind::WINDOW_UPDATE, 0, stream, &[0; 4]),
        ]
        .concat()
    };
    assert_eq!(
        Peer::new(Limits::hardened()).rounds_until_calm(20_000, broken),
        Some(100)
    );
    assert_eq!(
        Peer::new(Limits::default()).rounds_until_calm(20_000, broken),
        Some(10_000)
    );
}

#[test]
fn continuation_flood_ends_the_connection() {
    let empty = |round: u32| match round {
        0 => frame(kind::HEADERS, 0, 1, &block("/t/Slow")),
        _ => frame(kind::CONTINUATION, 0, 1, &[]),
    };
    assert_eq!(
        Peer::new(Limits::hardened()).rounds_until_calm(5_000, empty),
        Some(9)
    );
    assert_eq!(
        Peer::new(Limits::default()).rounds_until_calm(5_000, empty),
        Some(2_049)
    );
    let full = |round: u32| match round {
        0 => frame(kind::HEADERS, 0, 1, &[]),
        _ => frame(kind::CONTINUATION, 0, 1, &[0; 16_384]),
    };
    assert_eq!(
        Peer::new(Limits::hardened()).rounds_until_calm(5_000, full),
        Some(3)
    );
    assert_eq!(
        Peer::new(Limits::default()).rounds_until_calm(5_000, full),
        Some(1_025)
    );
}

#[test]
fn hpack_bomb_resets_the_stream_and_keeps_little() {
    let mut peer = Peer::new(Limits::hardened());
    let mut bomb = block("/t/Slow");
    bomb.extend(b"\x40\x01a\x7f\xa1\x1e");
    bomb.extend([b'x'; 4000]);
    bomb.extend([0xbe; 10_000]);
    peer.say(&frame(kind::HEADERS, flag::END_HEADERS, 1, &bomb));
    let expected = frame(
        kind::RST_STREAM,
        0,
        1,
        &ErrorCode::FrameSizeError.to_wire().to_be_bytes(),
    );
    assert_eq!(peer.read(), expected);
    peer.say(&call(3, "/t/Big"));
    assert!(peer.read().len() > 60_000);
}

#[test]
fn header_block_that_never_ends_is_given_up() {
    let mut peer = Peer::new(Limits::hardened());
    peer.say(&frame(kind::HEADERS, 0, 1, &block("/t/Slow")));
    let deadline = peer.server.next_deadline().unwrap();
    assert_eq!(deadline, peer.now + Duration::from_secs(5));
    peer.server.on_deadline(deadline, &mut peer.busy);
    assert!(peer.server.failure().is_some());
}

#[test]
fn silent_or_slow_greeting_is_given_up() {
    let now = Instant::now();
    let config = ServerConfig {
        limits: Limits::hardened(),
        ..ServerConfig::default()
    };
    let mut server = Connection::new(&config, now);
    let mut busy = Busy::default();
    for (second, byte) in PREFACE[..4].iter().enumerate() {
        server.recv(
            &[*byte],
            now + Duration::from_secs(second as u64),
            &mut busy,
        );
    }
    assert_eq!(server.next_deadline(), Some(now + Duration::from_secs(5)));
    server.on_deadline(now + Duration::from_secs(5), &mut busy);
    assert!(server.is_finished());
}

#[test]
fn frames_without_use_end_the_connection() {
    let empty = |round: u32| match round {
        0 => open(1, "/t/Each"),
        _ => frame(kind::DATA, 0, 1, &[]),
    };
    let priority = |_| frame(kind::PRIORITY, 0, 1, &[0; 5]);
    let update = |_| frame(kind::WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes());
    let unknown = |_| frame(99, 0, 0, &[]);
    for hardened in [true, false] {
        let (limits, least) = if hardened {
            (Limits::hardened(), 1_000)
        } else {
            (Limits::default(), 100_000)
        };
        for flood in [
            &empty as &dyn Fn(u32) -> Vec<u8>,
            &priority,
            &update,
            &unknown,
        ] {
            let ended = Peer::new(limits)
                .rounds_until_calm(least + 10, flood)
                .unwrap();
            assert!(ended >= least);
        }
    }
}

#[test]
fn settings_and_ping_floods_end_the_connection() {
    let settings = |_| frame(kind::SETTINGS, 0, 0, &[]);
    assert_eq!(
        Peer::new(Limits::hardened()).rounds_until_calm(2_000, settings),
        Some(9)
    );
    assert_eq!(
        Peer::new(Limits::default()).rounds_until_calm(2_000, settings),
        Some(999)
    );
    let ping = |_| frame(kind::PING, 0, 0, &[0; 8]);
    assert_eq!(
        Peer::new(Limits::default()).rounds_until_calm(10, ping),
        Some(3)
    );
}

#[test]
fn a_client_that_reads_nothing_is_read_no_more() {
    let mut peer = Peer::new(Limits::default());
    for stream in 0..100 {
        peer.say(&call(stream * 2 + 1, "/t/Big"));
    }
    // Its windows are the default ones: 65,535 bytes went out, the rest waits in the queues.
    assert!(peer.server.out().len() < 80_000);
    assert!(
        peer.server.wants_read(),
        "window updates must still be heard"
    );
    peer.say(&frame(
        kind::WINDOW_UPDATE,
        0,
        0,
        &(1u32 << 30).to_be_bytes(),
    ));
    for stream in 0..100 {
        peer.say(&frame(
            kind::WINDOW_UPDATE,
            0,
            stream * 2 + 1,
            &(1u32 << 20).to_be_bytes(),
        ));
    }
    assert!(
        peer.server.out().len() < 400_000,
        "out is filled step by step"
    );
    assert!(peer.server.has_more());
    let mut total = 0;
    while !peer.server.out().is_empty() {
        total += peer.read().len();
        peer.server.flush(peer.now, &mut peer.busy);
    }
    assert!(total > 9_900_000);
    assert!(!peer.server.has_more());
}

#[test]
fn answers_that_nobody_takes_are_bounded_when_hardened() {
    let mut peer = Peer::new(Limits::hardened());
    for stream in 0..1_000 {
        peer.say(&call(stream * 2 + 1, "/t/Big"));
        peer.read();
    }
    assert_eq!(peer.server.failure(), None);
    assert!(
        peer.busy.requests < 60,
        "beyond 4 MiB of waiting answers new calls are refused"
    );
    let stalled = peer.now + Duration::from_secs(60);
    assert_eq!(peer.server.next_deadline(), Some(stalled));
    peer.server.on_deadline(stalled, &mut peer.busy);
    assert!(peer.server.is_finished());
}

#[test]
fn many_small_messages_on_one_stream_are_no_flood() {
    let mut peer = Peer::new(Limits::hardened());
    peer.say(&open(1, "/t/Each"));
    let update = frame(kind::WINDOW_UPDATE, 0, 0, &6u32.to_be_bytes());
    let stream_update = frame(kind::WINDOW_UPDATE, 0, 1, &6u32.to_be_bytes());
    for _ in 0..100_000 {
        peer.say(&frame(kind::DATA, 0, 1, b"\0\0\0\0\x01k"));
        peer.say(&update);
        peer.say(&stream_update);
        peer.read();
    }
    assert_eq!(peer.server.failure(), None);
    assert_eq!(peer.busy.requests, 100_000);
}

#[test]
fn streams_beyond_the_bound_are_refused_however_many_were_advertised() {
    let mut peer = Peer::new(Limits::hardened());
    for stream in 0..5_000 {
        peer.say(&open(stream * 2 + 1, "/t/Slow"));
    }
    assert_eq!(peer.server.open_calls(), 4_096);
    assert_eq!(peer.server.failure(), None);
}
