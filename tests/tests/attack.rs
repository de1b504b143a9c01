//! Hostile clients against the real process: its memory stays bounded, and an honest client is served meanwhile and afterwards.
//!
//! Every flood is a bounded number of bytes. A server may end a hostile connection at any moment; a write that fails then ends the flood.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use basalt_pb::etcdserverpb::{PutRequest, PutResponse, RangeRequest, RangeResponse};
use basalt_tests::frame::{self, END_HEADERS, END_STREAM};
use basalt_tests::grpc::Client;
use basalt_tests::server::{Kind, PATIENCE, Server};
use basalt_tests::tools;
use prost::Message;

macro_rules! attacks {
    ($($(#[$doc:meta])* $attack:ident;)*) => {
        mod basalt_endures {
            $($(#[$doc])*
            #[test]
            fn $attack() {
                super::endure(super::$attack, &[], super::GROWTH_BYTES_MAX);
            })*
        }
    };
}

attacks! {
    /// [SAFE-1] [SAFE-6] Streams opened and reset at once: CVE-2023-44487.
    rapid_reset;
    /// [SAFE-1] Streams opened and ended by a window update that is an error.
    streams_ended_by_errors;
    /// [SAFE-2] [SAFE-6] A header block that never ends: CVE-2024-24549 and its family.
    continuation_flood;
    /// [SAFE-2] The same with frames that carry nothing.
    empty_continuation_flood;
    /// [SAFE-2] One remembered field, referred to thousands of times.
    hpack_bomb;
    /// [SAFE-2] Header blocks that change the table's size for ever.
    header_table_flapping;
    /// [SAFE-3] [SAFE-6] Pings whose answers nobody reads.
    ping_flood;
    /// [SAFE-3] Settings whose acknowledgements nobody reads.
    settings_flood;
    /// [SAFE-3] DATA without data.
    empty_data_flood;
    /// [SAFE-3] Priorities of streams that are not there.
    priority_flood;
    /// [SAFE-3] Windows opened by one byte at a time.
    window_update_flood;
    /// [SAFE-4] Requests begun and never ended.
    requests_without_end;
    /// [SAFE-5] The first bytes, one by one.
    slow_preface;
    /// [SAFE-5] HTTP/1.1 headers, one by one, and one that never ends.
    slow_http_1_headers;
}

/// [SAFE-4] [SAFE-6] Large answers asked for and never taken, by closed windows.
#[test]
fn zero_windows_hold_what_a_connection_may_queue() {
    let growth_max = ATTACKERS as u64 * HELD_BYTES_MAX + GROWTH_BYTES_MAX;
    endure(zero_window, &[], growth_max);
    endure(zero_window, &["--hardened"], growth_max);
}

/// [SAFE-4] Large answers asked for and never read from the socket.
#[test]
fn clients_that_never_read_hold_what_a_connection_may_queue() {
    let growth_max = ATTACKERS as u64 * HELD_BYTES_MAX + GROWTH_BYTES_MAX;
    endure(never_reading, &[], growth_max);
    endure(never_reading, &["--hardened"], growth_max);
}

/// [SAFE-5] [SAFE-6] Ten thousand connections that say nothing.
#[test]
fn ten_thousand_idle_connections() {
    let wanted = tools::count("BASALT_IDLE_CONNECTIONS", 10_000);
    raise_descriptors(wanted + 1_000);
    let Some(server) = start(&[]) else { return };
    let before = server.resident_bytes();
    let mut idle = Vec::new();
    for _ in 0..wanted {
        idle.push(TcpStream::connect_timeout(&server.address(), PATIENCE).expect("a connection"));
    }
    let mut greeting = frame::PREFACE.to_vec();
    frame::settings(&mut greeting, &[]);
    for socket in &mut idle {
        socket.write_all(&greeting).expect("room for a greeting");
    }
    let honest = Honest::new(server.address());
    honest.work(HONEST_CALLS);
    let each = server.resident_bytes().saturating_sub(before) / wanted;
    println!("{wanted} idle connections, {each} bytes each");
    assert!(
        each < IDLE_BYTES_MAX,
        "{each} bytes for one idle connection"
    );
    drop(idle);
    honest.work(HONEST_CALLS);
}

/// Starts a server, attacks it, lets an honest client work meanwhile, and looks at the memory all the time.
fn endure(attack: fn(SocketAddr) -> io::Result<()>, flags: &[&str], growth_max: u64) {
    let Some(mut server) = start(flags) else {
        return;
    };
    let to = server.address();
    let honest = Honest::new(to);
    honest.work(HONEST_CALLS);
    let before = server.resident_bytes();
    let is_over = AtomicBool::new(false);
    let most = thread::scope(|scope| {
        let attackers: Vec<_> = (0..ATTACKERS)
            .map(|_| scope.spawn(move || attack(to)))
            .collect();
        let meanwhile = scope.spawn(|| {
            // At least so many calls, and on until the attack ends.
            honest.work(HONEST_CALLS);
            while !is_over.load(Ordering::Relaxed) {
                honest.work(1);
            }
        });
        let mut most = 0;
        while attackers.iter().any(|attacker| !attacker.is_finished()) {
            most = most.max(server.resident_bytes());
            thread::sleep(SAMPLE_EVERY);
        }
        is_over.store(true, Ordering::Relaxed);
        meanwhile
            .join()
            .expect("honest calls are answered during an attack");
        for attacker in attackers {
            // The server may have ended the connection, which is what most attacks deserve.
            if let Err(error) = attacker.join().expect("no panic in an attack") {
                println!("an attack ended early: {error}");
            }
        }
        most.max(server.resident_bytes())
    });
    assert!(server.is_alive(), "the process ended:\n{}", server.log());
    println!("memory grew from {} to {} KiB", before >> 10, most >> 10);
    assert!(
        most < before + growth_max,
        "memory grew from {before} to {most} bytes"
    );
    honest.work(HONEST_CALLS);
}

fn start(flags: &[&str]) -> Option<Server> {
    Server::start(Kind::Basalt, &[&["--log-level", "error"], flags].concat())
}

/// A client that does nothing wrong, on a fresh connection for each piece of work.
struct Honest {
    to: SocketAddr,
}

impl Honest {
    fn new(to: SocketAddr) -> Self {
        Self { to }
    }

    fn work(&self, calls: u32) {
        let mut client = Client::connect(self.to).expect("the server takes connections");
        for call in 0..calls {
            let (key, value) = (format!("honest/{call}"), "v".repeat(1_000));
            let put = PutRequest {
                key: key.clone().into(),
                value: value.into(),
                ..PutRequest::default()
            };
            let _: PutResponse = client
                .ask("/etcdserverpb.KV/Put", &put)
                .expect("a put is answered");
            let get = RangeRequest {
                key: key.into(),
                ..RangeRequest::default()
            };
            let got: RangeResponse = client
                .ask("/etcdserverpb.KV/Range", &get)
                .expect("a get is answered");
            assert_eq!(got.kvs.len(), 1);
        }
    }
}

/// A connection that means harm.
struct Hostile {
    socket: TcpStream,
    out: Vec<u8>,
}

impl Hostile {
    fn connect(to: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&to, PATIENCE)?;
        socket.set_write_timeout(Some(STUCK_AFTER))?;
        let mut out = frame::PREFACE.to_vec();
        frame::settings(&mut out, &[]);
        Ok(Self { socket, out })
    }

    /// Sends what was made once it is a good piece. A server that no longer reads ends the flood: that is a defence, too.
    fn send(&mut self, at_least: usize) -> io::Result<()> {
        if self.out.len() >= at_least {
            self.socket.write_all(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }

    /// Reads in a thread of its own and throws away, so that the server never has to wait for room.
    fn swallow(&self) -> io::Result<()> {
        let mut socket = self.socket.try_clone()?;
        thread::spawn(move || {
            let mut nothing = [0; 64 << 10];
            while socket.read(&mut nothing).is_ok_and(|count| count > 0) {}
        });
        Ok(())
    }

    /// Waits until the server has closed or has been silent for a while.
    fn linger(&mut self) -> io::Result<()> {
        self.send(0)?;
        self.socket.set_read_timeout(Some(STUCK_AFTER))?;
        let mut nothing = [0; 64 << 10];
        while self.socket.read(&mut nothing)? > 0 {}
        Ok(())
    }
}

fn range_block() -> Vec<u8> {
    frame::request_block("/etcdserverpb.KV/Range", "attack")
}

fn range_of(key: &str) -> Vec<u8> {
    let get = RangeRequest {
        key: key.to_owned().into(),
        ..RangeRequest::default()
    };
    frame::message(&get.encode_to_vec())
}

fn range_from(key: &str) -> Vec<u8> {
    let range = RangeRequest {
        key: key.to_owned().into(),
        range_end: vec![0].into(),
        ..RangeRequest::default()
    };
    frame::message(&range.encode_to_vec())
}

fn rapid_reset(to: SocketAddr) -> io::Result<()> {
    let mut hostile = Hostile::connect(to)?;
    hostile.swallow()?;
    let (block, request) = (range_block(), range_of("x"));
    for place in 0..STREAMS {
        let stream = place * 2 + 1;
        frame::headers(&mut hostile.out, stream, &block, END_HEADERS);
        frame::data(&mut hostile.out, stream, &request, END_STREAM);
        frame::raw(
            &mut hostile.out,
            frame::RST_STREAM,
            0,
            stream,
            &8u32.to_be_bytes(),
        );
        hostile.send(PIECE)?;
    }
    hostile.send(0)
}

fn streams_ended_by_errors(to: SocketAddr) -> io::Result<()> {
    let mut hostile = Hostile::connect(to)?;
    hostile.swallow()?;
    let block = range_block();
    for place in 0..STREAMS {
        let stream = place * 2 + 1;
        frame::headers(&mut hostile.out, stream, &block, END_HEADERS);
        frame::window_update(&mut hostile.out, stream, 0);
        hostile.send(PIECE)?;
    }
    hostile.send(0)
}

fn continuation_flood(to: SocketAddr) -> io::Result<()> {
    let mut hostile = Hostile::connect(to)?;
    frame::headers(&mut hostile.out, 1, &range_block(), 0);
    let mut field = Vec::new();
    frame::new_name(&mut field, "x-more", &"a".repeat(16_000));
    for _ in 0..FLOOD_BYTES / field.len() {
        frame::raw(&mut hostile.out, frame::CONTINUATION, 0, 1, &field);
        hostile.send(PIECE)?;
    }
    hostile.send(0)
}

fn empty_continuation_flood(to: SocketAddr) -> io::Result<()> {
    let mut hostile = Hostile::connect(to)?;
    frame::headers(&mut hostile.out, 1, &range_block(), 0);
    for _ in 0..FRAMES {
        frame::raw(&mut hostile.out, frame::CONTINUATION, 0, 1, &[]);
        hostile.send(PIECE)?;
    }
    hostile.send(0)
}

fn hpack_bomb(to: SocketAddr) -> io::Result<()> {
    const REFERENCES: usize = 16_000;
    let mut hostile = Hostile::connect(to)?;
    hostile.swallow()?;
    let mut block = range_block();
    frame::remembered(&mut block, "x-bomb", &"b".repeat(3_900));
    // 62 is the newest entry of the dynamic table: each byte unpacks to four kilobytes.
    let mut references = range_block();
    references.extend(std::iter::repeat_n(0x80 | 62, REFERENCES));
    frame::headers(&mut hostile.out, 1, &block, END_HEADERS);
    for place in 1..300 {
        frame::headers(&mut hostile.out, place * 2 + 1, &references, END_HEADERS);
        hostile.send(PIECE)?;
    }
    hostile.send(0)
}

fn header_table_flapping(to: SocketAddr) -> io::Result<()> {
    let mut hostile = Hostile::connect(to)?;
    hostile.swallow()?;
    // Size updates to 0 and back to 4096, then an ordinary request.
    let mut block: Vec<u8> = [0x20, 0x3f, 0xe1, 0x1f].repeat(4_000);
    block.extend(range_block());
    for place in 0..300 {
        frame::headers(&mut hostile.out, place * 2 + 1, &block, END_HEADERS);
        hostile.send(PIECE)?;
    }
    hostile.send(0)
}

fn ping_flood(to: SocketAddr) -> io::Result<()> {
    flood(to, |out, _| frame::raw(out, frame::PING, 0, 0, &[0; 8]))
}

fn settings_flood(to: SocketAddr) -> io::Result<()> {
    flood(to, |out, place| {
        frame::settings(out, &[(frame::INITIAL_WINDOW_SIZE, place % 1_000)])
    })
}

fn priority_flood(to: SocketAddr) -> io::Result<()> {
    flood(to, |out, place| {
        frame::raw(
            out,
            frame::PRIORITY,
            0,
            (place % 1_000_000) * 2 + 1,
            &[0, 0, 0, 0, 1],
        )
    })
}

fn window_update_flood(to: SocketAddr) -> io::Result<()> {
    flood(to, |out, _| frame::window_update(out, 0, 1))
}

fn empty_data_flood(to: SocketAddr) -> io::Result<()> {
    let mut hostile = Hostile::connect(to)?;
    frame::headers(&mut hostile.out, 1, &range_block(), END_HEADERS);
    for _ in 0..FRAMES {
        frame::raw(&mut hostile.out, frame::DATA, 0, 1, &[]);
        hostile.send(PIECE)?;
    }
    hostile.send(0)
}

/// A great many small frames, and nobody who reads what they cause.
fn flood(to: SocketAddr, write: impl Fn(&mut Vec<u8>, u32)) -> io::Result<()> {
    let mut hostile = Hostile::connect(to)?;
    for place in 0..FRAMES {
        write(&mut hostile.out, place);
        hostile.send(PIECE)?;
    }
    hostile.send(0)
}

/// Keys whose range is a large answer; each small enough for the window that a server opens at first.
fn put_large(to: SocketAddr) -> io::Result<()> {
    let mut client = Client::connect(to)?;
    for place in 0..LARGE_KEYS {
        let put = PutRequest {
            key: format!("large{place}").into(),
            value: "l".repeat(LARGE_VALUE).into(),
            ..PutRequest::default()
        };
        let _: PutResponse = client.ask("/etcdserverpb.KV/Put", &put)?;
    }
    Ok(())
}

fn zero_window(to: SocketAddr) -> io::Result<()> {
    put_large(to)?;
    let mut hostile = Hostile::connect(to)?;
    frame::settings(&mut hostile.out, &[(frame::INITIAL_WINDOW_SIZE, 0)]);
    ask_for_large(&mut hostile)?;
    hostile.linger()
}

fn never_reading(to: SocketAddr) -> io::Result<()> {
    put_large(to)?;
    let mut hostile = Hostile::connect(to)?;
    frame::settings(
        &mut hostile.out,
        &[(frame::INITIAL_WINDOW_SIZE, (1 << 31) - 1)],
    );
    frame::window_update(&mut hostile.out, 0, (1 << 31) - 1 - frame::WINDOW_DEFAULT);
    ask_for_large(&mut hostile)?;
    hostile.send(0)?;
    // Nothing is read, so nothing tells when the server has done all it will do.
    thread::sleep(STUCK_AFTER);
    Ok(())
}

fn ask_for_large(hostile: &mut Hostile) -> io::Result<()> {
    let (block, request) = (range_block(), range_from("large"));
    for place in 0..LARGE_ANSWERS {
        frame::headers(&mut hostile.out, place * 2 + 1, &block, END_HEADERS);
        frame::data(&mut hostile.out, place * 2 + 1, &request, END_STREAM);
        hostile.send(PIECE)?;
    }
    hostile.send(0)
}

fn requests_without_end(to: SocketAddr) -> io::Result<()> {
    let mut hostile = Hostile::connect(to)?;
    let block = range_block();
    // A prefix that announces two mebibytes, and a little of them.
    let mut begun = vec![0, 0, 0x1f, 0xff, 0xff];
    begun.resize(400, b'x');
    for place in 0..50_000 {
        frame::headers(&mut hostile.out, place * 2 + 1, &block, END_HEADERS);
        frame::data(&mut hostile.out, place * 2 + 1, &begun, 0);
        hostile.send(PIECE)?;
    }
    hostile.linger()
}

fn slow_preface(to: SocketAddr) -> io::Result<()> {
    drip(to, frame::PREFACE)
}

fn slow_http_1_headers(to: SocketAddr) -> io::Result<()> {
    drip(to, b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: 1\r\n")?;
    let mut endless = TcpStream::connect_timeout(&to, PATIENCE)?;
    endless.set_write_timeout(Some(STUCK_AFTER))?;
    endless.write_all(b"GET /health HTTP/1.1\r\nX-Endless: ")?;
    for _ in 0..FLOOD_BYTES / PIECE {
        endless.write_all(&[b'a'; PIECE])?;
    }
    Ok(())
}

/// Many connections, each a byte further in every round, and none of them ever at the end.
fn drip(to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    const CONNECTIONS: usize = 300;
    let mut sockets = (0..CONNECTIONS)
        .map(|_| TcpStream::connect_timeout(&to, PATIENCE))
        .collect::<io::Result<Vec<_>>>()?;
    for byte in &bytes[..bytes.len() - 1] {
        for socket in &mut sockets {
            socket.set_nodelay(true)?;
            socket.write_all(&[*byte])?;
        }
    }
    Ok(())
}

/// # Panics
/// When the hard limit is lower: the test then proves nothing and has to be run elsewhere.
fn raise_descriptors(wanted: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    if current < wanted {
        let raised = Rlimit {
            current: Some(wanted),
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, raised)
            .expect("the hard limit of open files is too low for this test");
    }
}

/// Attackers at once.
const ATTACKERS: usize = 2;

/// What all of an attack's connections together may add to the process.
const GROWTH_BYTES_MAX: u64 = 96 << 20;

/// What one connection makes the server hold for a client that takes nothing, however much it asks for: answers that wait,
/// those being made, first slices of more.
const HELD_BYTES_MAX: u64 = 48 << 20;

/// What one idle connection may cost on average, with its share of the kernel left out.
const IDLE_BYTES_MAX: u64 = 8 << 10;

const HONEST_CALLS: u32 = 20;
const STREAMS: u32 = 60_000;
const FRAMES: u32 = 1_000_000;
const FLOOD_BYTES: usize = 128 << 20;
const LARGE_KEYS: usize = 34;
const LARGE_VALUE: usize = 30_000;
const LARGE_ANSWERS: u32 = 1_000;
const PIECE: usize = 64 << 10;

/// A hostile connection that makes no progress for so long has been stopped by the server.
const STUCK_AFTER: Duration = Duration::from_secs(2);
const SAMPLE_EVERY: Duration = Duration::from_millis(5);
