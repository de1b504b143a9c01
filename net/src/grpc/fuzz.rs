//! Bodies of the fuzz targets of HTTP/2 and gRPC; property tests run them too.

use super::framing::{self, Next};
use super::{Answers, Code, Connection, Method, Opening, Request, ServerConfig, Sink, Status};
use super::{metadata, percent_decode, percent_encode, timeout};
use crate::h2::Reason;
use crate::h2::frame::put_header;
use crate::limits::Limits;
use crate::sniff::PREFACE;
use std::time::{Duration, Instant};

/// Bytes from a client, split anywhere: the same events, answers and end as when they come at once; no panic, and answers
/// in proportion to what came. The first byte says how the rest becomes a conversation.
pub fn h2_connection(data: &[u8]) {
    let Some((&mode, rest)) = data.split_first() else {
        return;
    };
    let mut wire = Vec::new();
    if mode & 1 == 0 {
        wire.extend_from_slice(PREFACE);
        put_header(&mut wire, 0, crate::h2::frame::kind::SETTINGS, 0, 0);
    }
    if mode & 2 == 0 {
        wire.extend_from_slice(rest);
    } else {
        put_frames(&mut wire, rest);
    }
    let is_hardened = mode & 4 != 0;
    let mut random = fastrand::Rng::with_seed(u64::from(mode) << 32 | data.len() as u64);
    let now = Instant::now();
    let at_once = converse(&wire, is_hardened, now, || usize::MAX);
    let in_bytes = converse(&wire, is_hardened, now, || 1);
    assert_eq!(at_once, in_bytes);
    let in_pieces = converse(&wire, is_hardened, now, || random.usize(1..100));
    assert_eq!(at_once, in_pieces);
    assert!(at_once.out.len() <= 64 * wire.len() + 4096);
}

/// Frames whose lengths and streams make sense, so that the fuzzer need not find them.
fn put_frames(wire: &mut Vec<u8>, mut rest: &[u8]) {
    while let Some((&[kind, flags, stream, length], tail)) = rest.split_first_chunk() {
        let (payload, tail) = tail.split_at(tail.len().min(usize::from(length)));
        put_header(
            wire,
            payload.len(),
            kind % 11,
            flags,
            u32::from(stream % 16),
        );
        wire.extend_from_slice(payload);
        rest = tail;
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    out: Vec<u8>,
    events: Vec<String>,
    failure: Option<Reason>,
}

fn converse(
    wire: &[u8],
    is_hardened: bool,
    now: Instant,
    mut piece_bytes: impl FnMut() -> usize,
) -> Outcome {
    let config = ServerConfig {
        message_bytes_max: 1000,
        streams_max: 5,
        limits: if is_hardened {
            Limits::hardened()
        } else {
            Limits::default()
        },
        ..ServerConfig::default()
    };
    let mut connection = Connection::new(&config, now);
    let mut log = Log::default();
    let mut rest = wire;
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(piece_bytes().min(rest.len()));
        connection.recv(piece, now, &mut log);
        rest = tail;
    }
    connection.flush(now, &mut log);
    let failure = connection.failure();
    connection.on_deadline(now + Duration::from_secs(1), &mut log);
    let out = connection.out().to_vec();
    connection.on_closed(&mut log);
    assert_eq!(connection.open_calls(), 0);
    let events = log.events;
    Outcome {
        out,
        events,
        failure,
    }
}

/// Writes down what it hears; the last byte of the path says how it answers.
#[derive(Default)]
struct Log {
    events: Vec<String>,
}

impl Sink for Log {
    fn method(&self, path: &[u8]) -> Method {
        match path.last().map(|byte| byte % 4) {
            Some(0) => Method::OneRequest,
            Some(1) => Method::ServerStreaming,
            Some(2) => Method::ManyRequests,
            _ => Method::Unknown(Status::new(Code::Unimplemented, "unknown")),
        }
    }

    fn on_request(&mut self, answers: &mut Answers, stream: u32, request: Request<'_>) {
        self.events.push(format!("{stream} {request:?}"));
        match request.path.last().map(|byte| byte % 8) {
            Some(0) => answers.reply(stream, |out| out.extend_from_slice(request.message)),
            Some(2) => {
                answers.send(stream, |out| out.extend_from_slice(request.message));
            }
            Some(4) => answers.fail(stream, Status::new(Code::NotFound, "no")),
            _ => {}
        }
    }

    fn on_open(&mut self, answers: &mut Answers, stream: u32, opening: Opening<'_>) {
        self.events.push(format!("{stream} {opening:?}"));
        if opening.path.last().is_some_and(|byte| byte % 16 == 6) {
            answers.fail(stream, Status::new(Code::Unavailable, "no"));
        }
    }

    fn on_end(&mut self, answers: &mut Answers, stream: u32) {
        self.events.push(format!("{stream} end"));
        answers.finish(stream, Status::OK);
    }

    fn on_cancel(&mut self, _: &mut Answers, stream: u32) {
        self.events.push(format!("{stream} cancel"));
    }

    fn on_writable(&mut self, _: &mut Answers, stream: u32) {
        self.events.push(format!("{stream} writable"));
    }
}

/// Message prefixes, gzip, timeouts, base64, percent escapes and quoting of arbitrary bytes: no panic, bounds respected,
/// what is written is read back.
pub fn grpc_frame(data: &[u8]) {
    const MESSAGE_BYTES_MAX: usize = 4096;
    let mut rest = data;
    let mut plain = Vec::new();
    while let Ok(Next::Message {
        message,
        rest: after,
        ..
    }) = framing::next_message(rest, MESSAGE_BYTES_MAX)
    {
        assert!(message.len() <= MESSAGE_BYTES_MAX);
        let inflated = framing::inflate(message, &mut plain, MESSAGE_BYTES_MAX);
        assert!(inflated.is_err() || plain.len() <= MESSAGE_BYTES_MAX);
        rest = after;
    }
    let mut wire = Vec::new();
    framing::put_message(&mut wire, |out| out.extend_from_slice(data));
    framing::put_gzip_message(&mut wire, |out| out.extend_from_slice(data));
    let mut rest = &wire[..];
    while let Ok(Next::Message {
        flag,
        message,
        rest: after,
    }) = framing::next_message(rest, usize::MAX)
    {
        if flag == 0 {
            assert_eq!(message, data);
        } else {
            assert_eq!(framing::inflate(message, &mut plain, data.len()), Ok(()));
            assert_eq!(plain, data);
        }
        rest = after;
    }
    assert!(rest.is_empty());
    if let Ok(read) = timeout::parse(data) {
        let mut value = Vec::new();
        timeout::put(&mut value, read);
        assert!(timeout::parse(&value).is_ok());
    }
    let mut coded = Vec::new();
    metadata::encode_base64(data, &mut coded);
    plain.clear();
    assert_eq!(metadata::decode_base64(&coded, &mut plain), Ok(()));
    assert_eq!(plain, data);
    plain.clear();
    if let Err(at) = metadata::decode_base64(data, &mut plain) {
        assert!(at <= data.len());
    }
    let message = percent_decode(data);
    let mut escaped = Vec::new();
    percent_encode(&message, &mut escaped);
    assert_eq!(percent_decode(&escaped), message);
    assert!(super::quote(data).len() >= 2);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::client::{Client, Template};
    use proptest::prelude::*;

    /// What an honest client sends, to be damaged.
    fn honest_session() -> Vec<u8> {
        let mut client = Client::new(1 << 20, Instant::now());
        for path in ["/a/x", "/a/h", "/a/z", "/a/l", "/a/c"] {
            let template =
                Template::new(path, "h", &[("k-bin", b"v")], Some(Duration::from_secs(5)));
            for bytes in [0, 3, 500] {
                client.call(&template, |out| out.resize(out.len() + bytes, b'm'));
            }
        }
        client.out().to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn arbitrary_bytes_mean_the_same_however_split(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            h2_connection(&data);
            grpc_frame(&data);
        }

        #[test]
        fn damaged_sessions_mean_the_same_however_split(
            damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4),
            is_hardened in any::<bool>(),
        ) {
            let mut wire = honest_session();
            for (at, byte) in damage {
                let at = at % wire.len();
                wire[at] = byte;
            }
            wire.insert(0, if is_hardened { 5 } else { 1 });
            h2_connection(&wire);
        }
    }
}
