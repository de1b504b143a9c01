//! What RFC 9113 and 7541 demand of a server when a client breaks the rules, and what it must bear. The cases are those
//! that h2spec knows, and some more.

use basalt_net::grpc::{Answers, Connection, Method, Request, ServerConfig, Sink};
use basalt_net::h2::ErrorCode;
use basalt_net::h2::frame::{FrameHeader, HEADER_BYTES, ID_MAX, flag, kind, put_header};
use basalt_net::hpack::encode;
use basalt_net::sniff::PREFACE;
use std::time::{Duration, Instant};

/// Answers each request with its message.
struct Echo;

impl Sink for Echo {
    fn method(&self, _: &[u8]) -> Method {
        Method::OneRequest
    }
    fn on_request(&mut self, answers: &mut Answers, stream: u32, request: Request<'_>) {
        answers.reply(stream, |out| out.extend_from_slice(request.message));
    }
    fn on_end(&mut self, _: &mut Answers, _: u32) {}
    fn on_cancel(&mut self, _: &mut Answers, _: u32) {}
    fn on_writable(&mut self, _: &mut Answers, _: u32) {}
}

type Frame = (FrameHeader, Vec<u8>);

/// A server that has had a valid greeting, and what it says to a client that only knows frames.
struct Peer {
    server: Connection,
    now: Instant,
}

impl Peer {
    fn new() -> Peer {
        Peer::with(ServerConfig::default())
    }

    fn with(config: ServerConfig) -> Peer {
        let now = Instant::now();
        let mut server = Connection::new(&config, now);
        server.recv(PREFACE, now, &mut Echo);
        let mut peer = Peer { server, now };
        peer.hear(&frame(kind::SETTINGS, 0, 0, &[]));
        peer
    }

    /// The frames that the server sends when it gets these bytes.
    fn hear(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.server.recv(bytes, self.now, &mut Echo);
        self.server.flush(self.now, &mut Echo);
        let out = self.server.out().to_vec();
        self.server.advance(out.len());
        frames(&out)
    }
}

fn frames(mut out: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((head, tail)) = out.split_first_chunk::<HEADER_BYTES>() {
        let header = FrameHeader::read(head);
        let (payload, rest) = tail.split_at(header.payload_bytes);
        frames.push((header, payload.to_vec()));
        out = rest;
    }
    frames
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_header(&mut out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
    out
}

fn block(extra: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    let honest = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/t.T/Echo"),
        (":authority", "h"),
    ];
    let rest = [("content-type", "application/grpc"), ("te", "trailers")];
    for (name, value) in honest.iter().chain(&rest).chain(extra) {
        encode::literal(&mut block, name.as_bytes(), value.as_bytes());
    }
    block
}

const OPEN: u8 = flag::END_HEADERS;
const WHOLE: u8 = flag::END_HEADERS | flag::END_STREAM;

fn headers(flags: u8, stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, flags, stream, &block(&[]))
}

fn data(flags: u8, stream: u32, bytes: &[u8]) -> Vec<u8> {
    frame(kind::DATA, flags, stream, bytes)
}

fn call(stream: u32, message: &[u8]) -> Vec<u8> {
    let mut body = vec![0];
    body.extend((message.len() as u32).to_be_bytes());
    body.extend(message);
    [headers(OPEN, stream), data(flag::END_STREAM, stream, &body)].concat()
}

fn settings(list: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (number, value) in list {
        payload.extend(number.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(kind::SETTINGS, 0, 0, &payload)
}

fn word(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

fn code_at(payload: &[u8], at: usize) -> ErrorCode {
    ErrorCode::from_wire(u32::from_be_bytes(
        payload[at..at + 4].try_into().expect("four bytes"),
    ))
}

/// These bytes after the greeting end the connection with this code.
fn ends_connection(what: &str, bytes: &[Vec<u8>], code: ErrorCode) {
    let mut peer = Peer::new();
    let heard = peer.hear(&bytes.concat());
    let goaway = heard.iter().find(|(header, _)| header.kind == kind::GOAWAY);
    let (_, payload) = goaway.unwrap_or_else(|| panic!("{what}: no GOAWAY in {heard:?}"));
    assert_eq!(code_at(payload, 4), code, "{what}");
    assert!(peer.server.is_finished(), "{what}");
    assert_eq!(
        peer.hear(&call(99, b"late")),
        [],
        "{what}: nothing is said after GOAWAY"
    );
}

/// These bytes end stream 1 with this code, and the connection goes on.
fn ends_stream(what: &str, bytes: &[Vec<u8>], code: ErrorCode) {
    let mut peer = Peer::new();
    let heard = peer.hear(&bytes.concat());
    let reset = heard.iter().find(|(header, payload)| {
        header.kind == kind::RST_STREAM && header.stream == 1 && code_at(payload, 0) == code
    });
    assert!(
        reset.is_some(),
        "{what}: no reset with {code:?} in {heard:?}"
    );
    assert_eq!(peer.server.failure(), None, "{what}");
    let heard = peer.hear(&call(99, b"still here"));
    assert_eq!(heard.len(), 3, "{what}: the next call is answered");
}

/// These bytes are borne; what the server says to them is returned.
fn is_borne(bytes: &[Vec<u8>]) -> Vec<Frame> {
    let mut peer = Peer::new();
    let heard = peer.hear(&bytes.concat());
    assert_eq!(peer.server.failure(), None);
    let next = peer.hear(&call(99, b"still here"));
    assert_eq!(next.len(), 3, "the next call is answered, not {next:?}");
    heard
}

#[test]
fn greeting_must_be_the_preface_and_settings() {
    for start in [
        &b"INVALID CONNECTION PREFACE\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSX",
    ] {
        let now = Instant::now();
        let mut server = Connection::new(&ServerConfig::default(), now);
        server.recv(start, now, &mut Echo);
        assert_eq!(server.failure().unwrap().code, ErrorCode::ProtocolError);
    }
    let now = Instant::now();
    let mut server = Connection::new(&ServerConfig::default(), now);
    server.recv(PREFACE, now, &mut Echo);
    assert_eq!(
        frames(server.out())[0].0.kind,
        kind::SETTINGS,
        "the server's own greeting comes first"
    );
    server.recv(&frame(kind::PING, 0, 0, &[0; 8]), now, &mut Echo);
    assert_eq!(server.failure().unwrap().code, ErrorCode::ProtocolError);
}

#[test]
fn a_call_is_answered_with_headers_data_and_trailers() {
    let heard = is_borne(&[call(1, b"hello")]);
    let seen: Vec<(u8, u8, u32)> = heard
        .iter()
        .map(|(header, _)| (header.kind, header.flags, header.stream))
        .collect();
    assert_eq!(
        seen,
        [
            (kind::HEADERS, OPEN, 1),
            (kind::DATA, 0, 1),
            (kind::HEADERS, WHOLE, 1)
        ]
    );
    assert_eq!(heard[1].1, b"\0\0\0\0\x05hello");
}

#[test]
fn padding_priority_and_continuations_are_taken() {
    let head = block(&[]);
    let (first, rest) = head.split_at(10);
    let (second, third) = rest.split_at(3);
    let mut padded = vec![4, 0, 0, 0, 3, 200];
    padded.extend(first);
    padded.extend([0; 4]);
    let flags = flag::PADDED | flag::PRIORITY;
    let heard = is_borne(&[
        frame(kind::HEADERS, flags, 1, &padded),
        frame(kind::CONTINUATION, 0, 1, second),
        frame(kind::CONTINUATION, 0, 1, &[]),
        frame(kind::CONTINUATION, flag::END_HEADERS, 1, third),
        data(flag::PADDED, 1, &[2, 0, 0, 0, 0, 1, 0, 0]),
        data(flag::PADDED | flag::END_STREAM, 1, &[1, b'x', 0]),
    ]);
    assert_eq!(heard[1].1, b"\0\0\0\0\x01x");
}

#[test]
fn frames_on_the_wrong_stream_end_the_connection() {
    let protocol = ErrorCode::ProtocolError;
    ends_connection("DATA on 0", &[data(0, 0, b"x")], protocol);
    ends_connection("HEADERS on 0", &[headers(WHOLE, 0)], protocol);
    ends_connection(
        "PRIORITY on 0",
        &[frame(kind::PRIORITY, 0, 0, &[0; 5])],
        protocol,
    );
    ends_connection(
        "RST_STREAM on 0",
        &[frame(kind::RST_STREAM, 0, 0, &[0; 4])],
        protocol,
    );
    ends_connection(
        "CONTINUATION on 0",
        &[frame(kind::CONTINUATION, OPEN, 0, &[])],
        protocol,
    );
    ends_connection(
        "SETTINGS on 1",
        &[frame(kind::SETTINGS, 0, 1, &[])],
        protocol,
    );
    ends_connection("PING on 1", &[frame(kind::PING, 0, 1, &[0; 8])], protocol);
    ends_connection(
        "GOAWAY on 1",
        &[frame(kind::GOAWAY, 0, 1, &[0; 8])],
        protocol,
    );
    ends_connection(
        "PUSH_PROMISE",
        &[frame(kind::PUSH_PROMISE, OPEN, 1, &[0; 8])],
        protocol,
    );
    ends_connection("even stream", &[headers(WHOLE, 2)], protocol);
    for kind in [
        kind::DATA,
        kind::RST_STREAM,
        kind::WINDOW_UPDATE,
        kind::CONTINUATION,
    ] {
        ends_connection("idle stream", &[frame(kind, 0, 1, &word(1))], protocol);
    }
}

#[test]
fn wrong_sizes_end_the_connection() {
    let size = ErrorCode::FrameSizeError;
    ends_connection("PING", &[frame(kind::PING, 0, 0, &[0; 6])], size);
    ends_connection("SETTINGS", &[frame(kind::SETTINGS, 0, 0, &[0; 3])], size);
    ends_connection(
        "SETTINGS ack",
        &[frame(kind::SETTINGS, flag::ACK, 0, &[0; 6])],
        size,
    );
    ends_connection(
        "WINDOW_UPDATE",
        &[frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3])],
        size,
    );
    ends_connection("GOAWAY", &[frame(kind::GOAWAY, 0, 0, &[0; 7])], size);
    ends_connection(
        "RST_STREAM",
        &[headers(OPEN, 1), frame(kind::RST_STREAM, 0, 1, &[0; 3])],
        size,
    );
    ends_connection("DATA", &[headers(OPEN, 1), data(0, 1, &[0; 16_385])], size);
    ends_connection(
        "HEADERS",
        &[frame(kind::HEADERS, WHOLE, 1, &[0; 16_385])],
        size,
    );
    ends_stream(
        "PRIORITY",
        &[headers(OPEN, 1), frame(kind::PRIORITY, 0, 1, &[0; 4])],
        size,
    );
    assert_eq!(
        is_borne(&[headers(OPEN, 1), data(0, 1, &[0; 16_384])]).len(),
        4
    );
}

#[test]
fn padding_longer_than_its_frame_ends_the_connection() {
    let protocol = ErrorCode::ProtocolError;
    ends_connection(
        "DATA",
        &[headers(OPEN, 1), data(flag::PADDED, 1, &[6, 1, 2, 3, 4, 5])],
        protocol,
    );
    ends_connection(
        "HEADERS",
        &[frame(kind::HEADERS, OPEN | flag::PADDED, 1, &[9, 1, 2])],
        protocol,
    );
    ends_connection(
        "no length",
        &[headers(OPEN, 1), data(flag::PADDED, 1, &[])],
        ErrorCode::FrameSizeError,
    );
}

#[test]
fn a_header_block_must_not_be_interrupted() {
    let begun = || frame(kind::HEADERS, flag::END_STREAM, 1, &block(&[])[..5]);
    let protocol = ErrorCode::ProtocolError;
    for other in [
        data(0, 1, b"x"),
        headers(WHOLE, 1),
        headers(WHOLE, 3),
        frame(kind::PRIORITY, 0, 1, &[0; 5]),
        frame(kind::PING, 0, 0, &[0; 8]),
        frame(0x16, 0, 1, b"unknown"),
        frame(kind::CONTINUATION, OPEN, 3, &block(&[])[5..]),
    ] {
        ends_connection("interrupted", &[begun(), other], protocol);
    }
    let continued = frame(kind::CONTINUATION, OPEN, 1, &block(&[])[5..]);
    ends_connection(
        "CONTINUATION after the end",
        &[begun(), continued.clone(), continued],
        protocol,
    );
}

#[test]
fn closed_streams_take_no_frames() {
    let closed = ErrorCode::StreamClosed;
    let reset = || frame(kind::RST_STREAM, 0, 1, &word(8));
    ends_stream(
        "DATA after the end",
        &[
            headers(OPEN, 1),
            data(flag::END_STREAM, 1, b""),
            data(0, 1, b"x"),
        ],
        closed,
    );
    ends_stream(
        "DATA after reset",
        &[headers(OPEN, 1), reset(), data(0, 1, b"x")],
        closed,
    );
    ends_connection(
        "HEADERS after reset",
        &[headers(OPEN, 1), reset(), headers(WHOLE, 1)],
        closed,
    );
    ends_connection(
        "HEADERS after the answer",
        &[call(1, b""), headers(WHOLE, 1)],
        closed,
    );
    ends_connection(
        "lower stream id",
        &[call(5, b""), headers(WHOLE, 3)],
        closed,
    );
    assert_eq!(
        is_borne(&[
            call(1, b""),
            frame(kind::WINDOW_UPDATE, 0, 1, &word(1)),
            reset()
        ])
        .len(),
        3
    );
    assert_eq!(
        is_borne(&[call(1, b""), frame(kind::PRIORITY, 0, 1, &[0; 5])]).len(),
        3
    );
}

#[test]
fn late_frames_of_a_stream_that_the_server_ended_are_ignored() {
    let mut peer = Peer::new();
    // Refused before its end: answered, then reset without an error.
    let refused = [headers(OPEN, 1), data(0, 1, &[9, 0, 0, 0, 0])].concat();
    let heard = peer.hear(&refused);
    assert_eq!(
        heard
            .last()
            .map(|(header, payload)| (header.kind, code_at(payload, 0))),
        Some((kind::RST_STREAM, ErrorCode::NoError))
    );
    let late = [data(0, 1, b"more"), headers(WHOLE, 1), data(0, 1, b"more")].concat();
    assert_eq!(peer.hear(&late), []);
    assert_eq!(peer.server.failure(), None);
}

#[test]
fn trailers_must_end_the_stream_and_hold_no_pseudo_fields() {
    let protocol = ErrorCode::ProtocolError;
    ends_stream(
        "no END_STREAM",
        &[headers(OPEN, 1), headers(OPEN, 1)],
        protocol,
    );
    ends_stream(
        "pseudo field",
        &[headers(OPEN, 1), headers(WHOLE, 1)],
        protocol,
    );
    let mut trailers = Vec::new();
    encode::literal(&mut trailers, b"x", b"y");
    let heard = is_borne(&[
        headers(OPEN, 1),
        data(0, 1, &[0; 5]),
        frame(kind::HEADERS, WHOLE, 1, &trailers),
    ]);
    assert_eq!(
        heard
            .iter()
            .filter(|(header, _)| header.kind == kind::HEADERS)
            .count(),
        2
    );
}

#[test]
fn malformed_messages_end_their_stream() {
    let protocol = ErrorCode::ProtocolError;
    for extra in [
        ("Upper", "x"),
        ("connection", "close"),
        ("te", "gzip"),
        (":late", "x"),
        ("x", "a\0b"),
    ] {
        let bad = frame(kind::HEADERS, WHOLE, 1, &block(&[extra]));
        ends_stream(extra.0, &[bad], protocol);
    }
    let with_length = |length: &str| {
        frame(
            kind::HEADERS,
            OPEN,
            1,
            &block(&[("content-length", length)]),
        )
    };
    ends_stream(
        "too long",
        &[with_length("1"), data(flag::END_STREAM, 1, b"ab")],
        protocol,
    );
    ends_stream(
        "too short",
        &[
            with_length("5"),
            data(0, 1, b"ab"),
            data(flag::END_STREAM, 1, b"c"),
        ],
        protocol,
    );
    let ended = frame(kind::HEADERS, WHOLE, 1, &block(&[("content-length", "1")]));
    ends_stream("no body", &[ended], protocol);
    let itself = [&word(1)[..], &[0], &block(&[])].concat();
    ends_stream(
        "depends on itself",
        &[frame(kind::HEADERS, WHOLE | flag::PRIORITY, 1, &itself)],
        protocol,
    );
    let priority = [&word(1)[..], &[0]].concat();
    ends_stream(
        "PRIORITY on itself",
        &[headers(OPEN, 1), frame(kind::PRIORITY, 0, 1, &priority)],
        protocol,
    );
}

#[test]
fn what_is_not_hpack_ends_the_connection() {
    for bad in [
        &[0x80][..],
        &[0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x82, 0x20],
        &[0x3f, 0xe2, 0x1f],
        &[0x00, 0x85, 0xff],
    ] {
        ends_connection(
            "HPACK",
            &[frame(kind::HEADERS, WHOLE, 1, bad)],
            ErrorCode::CompressionError,
        );
    }
}

#[test]
fn settings_out_of_range_end_the_connection() {
    ends_connection("push", &[settings(&[(2, 2)])], ErrorCode::ProtocolError);
    ends_connection(
        "window",
        &[settings(&[(4, 1 << 31)])],
        ErrorCode::FlowControlError,
    );
    ends_connection(
        "frame size",
        &[settings(&[(5, 16_383)])],
        ErrorCode::ProtocolError,
    );
    ends_connection(
        "frame size",
        &[settings(&[(5, 1 << 24)])],
        ErrorCode::ProtocolError,
    );
    let heard = is_borne(&[settings(&[
        (3, 1),
        (4, 100_000),
        (5, 20_000),
        (6, 1),
        (99, 99),
    ])]);
    assert_eq!(
        heard
            .iter()
            .map(|(header, _)| (header.kind, header.flags))
            .collect::<Vec<_>>(),
        [(kind::SETTINGS, flag::ACK)]
    );
}

#[test]
fn pings_are_answered_with_their_payload_and_unknown_frames_ignored() {
    let heard = is_borne(&[
        frame(0x16, 0xff, 0, b"x"),
        frame(kind::PING, 0x80, 0, b"12345678"),
        frame(kind::PING, flag::ACK, 0, &[1; 8]),
    ]);
    assert_eq!(heard.len(), 1);
    assert_eq!(
        (heard[0].0.kind, heard[0].0.flags, &heard[0].1[..]),
        (kind::PING, flag::ACK, &b"12345678"[..])
    );
}

#[test]
fn windows_have_their_limits() {
    let update = |stream, bytes| frame(kind::WINDOW_UPDATE, 0, stream, &word(bytes));
    ends_connection("0", &[update(0, 0)], ErrorCode::ProtocolError);
    ends_connection(
        "overflow",
        &[update(0, ID_MAX), update(0, ID_MAX)],
        ErrorCode::FlowControlError,
    );
    ends_stream(
        "0",
        &[headers(OPEN, 1), update(1, 0)],
        ErrorCode::ProtocolError,
    );
    ends_stream(
        "overflow",
        &[headers(OPEN, 1), update(1, ID_MAX)],
        ErrorCode::FlowControlError,
    );
    let overflow = [
        headers(OPEN, 1),
        update(1, ID_MAX - 65_535),
        settings(&[(4, 65_536)]),
    ];
    ends_connection("SETTINGS overflow", &overflow, ErrorCode::FlowControlError);
}

#[test]
fn answers_wait_for_windows_and_follow_changes_of_settings() {
    let data_bytes = |heard: &[Frame]| -> Vec<usize> {
        heard
            .iter()
            .filter(|(header, _)| header.kind == kind::DATA)
            .map(|(header, _)| header.payload_bytes)
            .collect()
    };
    let mut peer = Peer::new();
    peer.hear(&settings(&[(4, 3)]));
    assert_eq!(data_bytes(&peer.hear(&call(1, b"0123456789"))), [3]);
    assert_eq!(data_bytes(&peer.hear(&settings(&[(4, 5)]))), [2]);
    // Below zero: nothing until it is above again.
    assert_eq!(
        data_bytes(&peer.hear(&settings(&[(4, 2)]))),
        [] as [usize; 0]
    );
    assert_eq!(
        data_bytes(&peer.hear(&frame(kind::WINDOW_UPDATE, 0, 1, &word(4)))),
        [1]
    );
    let last = peer.hear(&frame(kind::WINDOW_UPDATE, 0, 1, &word(100)));
    assert_eq!(data_bytes(&last), [9]);
    assert_eq!(
        last.last().map(|(header, _)| (header.kind, header.flags)),
        Some((kind::HEADERS, WHOLE))
    );
}

#[test]
fn streams_over_the_advertised_number_are_refused_and_can_be_tried_again() {
    let mut peer = Peer::with(ServerConfig {
        streams_max: 2,
        ..ServerConfig::default()
    });
    let heard = peer.hear(&[headers(OPEN, 1), headers(OPEN, 3), headers(OPEN, 5)].concat());
    assert_eq!(heard.len(), 1);
    assert_eq!((heard[0].0.kind, heard[0].0.stream), (kind::RST_STREAM, 5));
    assert_eq!(code_at(&heard[0].1, 0), ErrorCode::RefusedStream);
    peer.hear(&frame(kind::RST_STREAM, 0, 1, &word(8)));
    assert_eq!(peer.hear(&call(7, b"x")).len(), 3);
}

#[test]
fn receive_windows_are_enforced_and_refilled() {
    // The stream's window is twice the largest message, but at least the default.
    let config = ServerConfig {
        message_bytes_max: 10,
        ..ServerConfig::default()
    };
    let mut peer = Peer::with(config);
    peer.hear(&headers(OPEN, 1));
    // Refused at once by its length; what follows is late, and counts for the connection only.
    let heard = peer.hear(&data(0, 1, b"\0\xff\xff\xff\xff"));
    assert_eq!(heard.len(), 2);
    let mut updates = 0;
    for _ in 0..2_000 {
        for (header, payload) in peer.hear(&data(0, 1, &[0; 16_000])) {
            assert_eq!((header.kind, header.stream), (kind::WINDOW_UPDATE, 0));
            updates += u32::from_be_bytes(payload.try_into().unwrap());
        }
    }
    assert!(updates > 16 << 20);
    assert_eq!(peer.server.failure(), None);
}

#[test]
fn smaller_table_of_the_client_is_honoured_in_the_next_header_block() {
    let mut peer = Peer::new();
    peer.hear(&settings(&[(1, 0)]));
    assert_eq!(peer.hear(&call(1, b""))[0].1[0], 0x20);
    assert_eq!(peer.hear(&call(3, b""))[0].1[0], 0x88);
}

#[test]
fn a_goodbye_after_a_long_silence_leaves_time_for_calls_on_their_way() {
    let mut peer = Peer::new();
    peer.now += Duration::from_secs(600);
    peer.server.go_away(peer.now);
    let said = peer.hear(&[]);
    assert_eq!(said[0].1[..4], word(ID_MAX));
    peer.now += Duration::from_millis(100);
    peer.server.on_deadline(peer.now, &mut Echo);
    let answer = peer.hear(&call(1, b"late"));
    assert!(
        answer
            .iter()
            .any(|(header, _)| header.kind == kind::DATA && header.stream == 1),
        "{answer:?}"
    );
}
