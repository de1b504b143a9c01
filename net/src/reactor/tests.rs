use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::*;
use crate::grpc::{CallId, Calls, Code, Flow, Method, Opening, Request, Status};
use crate::h1;

/// One message of `/t.T/Pieces`: more than the queue of a stream takes before it says `Full`.
const PIECE_BYTES: usize = 100_000;

/// Answers `/big/<bytes>` with so many, holds `/hold` until `Held::Answer`, anything else with its target and tag.
struct Echo {
    told: mpsc::Sender<Told>,
    orders: mpsc::Receiver<Order>,
    held: Vec<CallId>,
    /// Calls that go on until the loop stops.
    endless: Vec<CallId>,
    /// A streaming answer, its pieces left, and whether it may go on.
    pieces: Option<(CallId, usize, bool)>,
}

#[derive(Debug, PartialEq)]
enum Told {
    Held,
    Canceled,
    Ready(usize),
    Answered,
}

enum Order {
    AnswerHeld,
}

impl Service for Echo {
    fn method(&self, path: &[u8]) -> Method {
        match path {
            b"/t.T/Endless" => Method::ManyRequests,
            _ => Method::OneRequest,
        }
    }

    fn on_open(&mut self, _calls: &mut impl Calls, call: CallId, _opening: Opening<'_>) {
        self.endless.push(call);
        self.told.send(Told::Held).unwrap();
    }

    fn on_stop(&mut self, calls: &mut impl Calls) {
        for call in self.endless.drain(..) {
            calls.finish(call, Status::new(Code::Unavailable, "stopped"));
        }
    }

    fn on_request(&mut self, calls: &mut impl Calls, call: CallId, request: Request<'_>) {
        if request.path == b"/t.T/Hold" {
            self.held.push(call);
            self.told.send(Told::Held).unwrap();
        } else if request.path == b"/t.T/Pieces" {
            self.pieces = Some((call, usize::from(request.message[0]), true));
        } else {
            calls.reply(call, |out| out.extend_from_slice(request.message));
        }
    }

    fn on_end(&mut self, calls: &mut impl Calls, call: CallId) {
        calls.finish(call, Status::new(Code::Ok, ""));
    }

    fn on_cancel(&mut self, _call: CallId) {
        let _ = self.told.send(Told::Canceled);
    }

    fn on_writable(&mut self, _calls: &mut impl Calls, call: CallId) {
        if let Some((streamed, _, may_go_on)) = &mut self.pieces {
            *may_go_on |= *streamed == call;
        }
    }

    fn on_http(&mut self, calls: &mut impl Calls, call: CallId, request: h1::Request<'_>) {
        if request.target == "/hold" {
            self.held.push(call);
            self.told.send(Told::Held).unwrap();
        } else if let Some(bytes) = request.target.strip_prefix("/big/") {
            calls.reply_http(
                call,
                h1::Response::new(200, "a/b", vec![b'x'; bytes.parse().unwrap()]),
            );
        } else {
            let text = format!("{}@{}", request.target, request.tag);
            calls.reply_http(call, h1::Response::new(200, "a/b", text));
        }
    }

    fn on_turn(&mut self, calls: &mut impl Calls, _now: Instant) -> Option<Instant> {
        while let Ok(Order::AnswerHeld) = self.orders.try_recv() {
            for call in self.held.drain(..) {
                calls.reply_http(call, h1::Response::new(200, "a/b", "late"));
                calls.reply(call, |out| out.extend_from_slice(b"late"));
            }
            self.told.send(Told::Answered).unwrap();
        }
        while let Some((call, left, true)) = self.pieces {
            if left == 0 {
                calls.finish(call, Status::OK);
                self.pieces = None;
            } else {
                let flow = calls.send(call, |out| out.resize(out.len() + PIECE_BYTES, 0));
                self.pieces = Some((call, left - 1, flow == Flow::Ready));
            }
        }
        None
    }

    fn on_ready(&mut self, token: usize) {
        self.told.send(Told::Ready(token)).unwrap();
    }
}

struct Server {
    handle: Handle,
    stats: Arc<Stats>,
    address: Option<std::net::SocketAddr>,
    told: mpsc::Receiver<Told>,
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<io::Result<()>>,
}

impl Server {
    fn start(
        listeners: Vec<Listener>,
        shape: impl FnOnce(&mut Config),
        prepare: impl FnOnce(&mut Reactor),
    ) -> Server {
        let mut config = Config {
            grpc: crate::grpc::ServerConfig::default(),
            h1_body_bytes_max: 1 << 20,
            connections_max: 100,
            spin: None,
        };
        shape(&mut config);
        let address = listeners.first().and_then(Listener::local_address);
        let mut reactor = Reactor::new(config, listeners).unwrap();
        prepare(&mut reactor);
        let (handle, stats) = (reactor.handle(), reactor.stats());
        handle.accept();
        let (told_to, told) = mpsc::channel();
        let (orders, orders_from) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut echo = Echo {
                told: told_to,
                orders: orders_from,
                held: Vec::new(),
                endless: Vec::new(),
                pieces: None,
            };
            reactor.run(&mut echo)
        });
        Server {
            handle,
            stats,
            address,
            told,
            orders,
            thread,
        }
    }

    fn tcp() -> Server {
        Server::start(vec![loopback(7)], |_| {}, |_| {})
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address.unwrap()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    fn order(&self) {
        self.orders.send(Order::AnswerHeld).unwrap();
        self.handle.wake();
    }

    fn stop(self) {
        self.handle.stop(Duration::from_secs(20));
        self.thread.join().unwrap().unwrap();
    }
}

fn loopback(tag: u32) -> Listener {
    let endpoint = Endpoint::Tcp("127.0.0.1:0".parse().unwrap());
    Listener::bind(
        &endpoint,
        ListenOptions {
            tag,
            ..ListenOptions::default()
        },
    )
    .unwrap()
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

/// Reads one answer and gives its body.
fn body(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(
            stream.read(&mut byte).unwrap(),
            1,
            "ended after {:?}",
            String::from_utf8_lossy(&head)
        );
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .split("Content-Length: ")
        .nth(1)
        .unwrap()
        .split('\r')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

fn ask(stream: &mut (impl Read + Write), target: &str) -> String {
    stream.write_all(&get(target)).unwrap();
    body(stream)
}

#[test]
fn fifty_pipelined_requests_cost_one_write() {
    let server = Server::tcp();
    let mut client = server.connect();
    client
        .write_all(
            &(0..50)
                .flat_map(|number| get(&format!("/{number}")))
                .collect::<Vec<_>>(),
        )
        .unwrap();
    for number in 0..50 {
        assert_eq!(body(&mut client), format!("/{number}@7"));
    }
    // The kernel may hand over the input in pieces; there is never more than one write for each.
    assert!(server.stats.writes.get() <= server.stats.reads.get());
    assert!(server.stats.reads.get() < 10);
    server.stop();
}

#[test]
fn a_request_in_single_bytes_is_told_apart_and_answered() {
    let server = Server::tcp();
    let mut client = server.connect();
    client.set_nodelay(true).unwrap();
    for byte in b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\ny" {
        client.write_all(&[*byte]).unwrap();
    }
    assert_eq!(body(&mut client), "/x@7");
    server.stop();
}

#[test]
fn an_end_that_comes_with_the_request_does_not_lose_the_answer() {
    let server = Server::tcp();
    let mut client = server.connect();
    client.write_all(&get("/fin")).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(body(&mut client), "/fin@7");
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    server.stop();
}

#[test]
fn an_end_while_an_answer_is_awaited_does_not_lose_it() {
    let server = Server::tcp();
    let mut client = server.connect();
    client.write_all(&get("/hold")).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.told.recv().unwrap(), Told::Held);
    server.order();
    assert_eq!(body(&mut client), "late");
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    server.stop();
}

#[test]
fn a_client_that_does_not_read_delays_nobody_and_loses_nothing() {
    let server = Server::tcp();
    let mut slow = server.connect();
    for _ in 0..20 {
        slow.write_all(&get("/big/3000000")).unwrap();
    }
    let mut other = server.connect();
    for _ in 0..50 {
        assert_eq!(ask(&mut other, "/quick"), "/quick@7");
    }
    // Far less than the 60 MB that were asked for has been produced: what is not taken is not made.
    assert!(server.stats.sent_bytes.get() < 30_000_000);
    for _ in 0..20 {
        assert_eq!(body(&mut slow).len(), 3_000_000);
    }
    server.stop();
}

#[test]
fn a_request_behind_a_late_answer_is_served() {
    let server = Server::tcp();
    let mut client = server.connect();
    client
        .write_all(&[get("/hold"), get("/next")].concat())
        .unwrap();
    assert_eq!(server.told.recv().unwrap(), Told::Held);
    server.order();
    assert_eq!(body(&mut client), "late");
    assert_eq!(body(&mut client), "/next@7");
    server.stop();
}

#[test]
fn a_late_answer_does_not_reach_the_next_connection_in_the_same_place() {
    let server = Server::tcp();
    let mut first = server.connect();
    first.write_all(&get("/hold")).unwrap();
    assert_eq!(server.told.recv().unwrap(), Told::Held);
    // Unread input makes the close a reset, which ends the call where an orderly end would wait for it.
    socket2::SockRef::from(&first)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(first);
    assert_eq!(server.told.recv().unwrap(), Told::Canceled);
    let mut second = server.connect();
    second.write_all(&get("/hold")).unwrap();
    assert_eq!(server.told.recv().unwrap(), Told::Held);
    server.order();
    assert_eq!(body(&mut second), "late");
    assert_eq!(ask(&mut second, "/x"), "/x@7");
    server.stop();
}

#[test]
fn a_stop_lets_what_is_in_flight_end_and_closes_what_is_idle() {
    let server = Server::tcp();
    let mut idle = server.connect();
    assert_eq!(ask(&mut idle, "/a"), "/a@7");
    let mut busy = server.connect();
    busy.write_all(&get("/hold")).unwrap();
    assert_eq!(server.told.recv().unwrap(), Told::Held);
    server.handle.stop(Duration::from_secs(20));
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    drop(idle);
    assert!(!server.thread.is_finished());
    server.order();
    assert_eq!(body(&mut busy), "late");
    assert_eq!(busy.read(&mut [0]).unwrap(), 0);
    drop(busy);
    let address = server.address.unwrap();
    server.thread.join().unwrap().unwrap();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_full_loop_takes_the_next_client_when_one_leaves() {
    let server = Server::start(
        vec![loopback(0)],
        |config| config.connections_max = 2,
        |_| {},
    );
    let mut first = server.connect();
    assert_eq!(ask(&mut first, "/1"), "/1@0");
    let mut second = server.connect();
    assert_eq!(ask(&mut second, "/2"), "/2@0");
    let mut third = server.connect();
    third.write_all(&get("/3")).unwrap();
    assert_eq!(ask(&mut second, "/2"), "/2@0");
    assert_eq!(server.stats.opened.get(), 2);
    drop(first);
    assert_eq!(body(&mut third), "/3@0");
    server.stop();
}

#[test]
fn a_unix_socket_replaces_a_stale_file_and_leaves_none() {
    let path = std::env::temp_dir().join(format!("basalt-reactor-{}.sock", std::process::id()));
    std::fs::write(&path, b"stale").unwrap();
    let listener = Listener::bind(&Endpoint::Unix(path.clone()), ListenOptions::default()).unwrap();
    let server = Server::start(vec![listener], |_| {}, |_| {});
    let mut client = UnixStream::connect(&path).unwrap();
    assert_eq!(ask(&mut client, "/u"), "/u@0");
    drop(client);
    server.stop();
    assert!(!path.exists());
}

#[test]
fn accepted_connections_go_round_the_loops() {
    let second = Server::start(Vec::new(), |_| {}, |_| {});
    let other = second.handle.clone();
    let first = Server::start(
        vec![loopback(1)],
        |_| {},
        |reactor| {
            let own = reactor.handle();
            reactor.share_accepted(vec![own, other]);
        },
    );
    let mut clients: Vec<_> = (0..4).map(|_| first.connect()).collect();
    for client in &mut clients {
        assert_eq!(ask(client, "/s"), "/s@1");
    }
    assert_eq!(
        (first.stats.opened.get(), second.stats.opened.get()),
        (2, 2)
    );
    drop(clients);
    first.stop();
    second.stop();
}

#[test]
fn a_foreign_descriptor_is_reported_by_its_number() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let server = Server::start(
        vec![loopback(0)],
        |_| {},
        |reactor| {
            reactor.watch(std::os::fd::AsFd::as_fd(&theirs), 5).unwrap();
        },
    );
    ours.write_all(b"x").unwrap();
    assert_eq!(server.told.recv().unwrap(), Told::Ready(5));
    server.stop();
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HEADERS and DATA of one unary call, its header fields as plain literals.
fn call(stream: u32, path: &str, message: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    let fields = [
        (":authority", "a"),
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        ("content-type", "application/grpc"),
    ];
    for (name, value) in fields {
        block.extend_from_slice(&[0, name.len() as u8]);
        block.extend_from_slice(name.as_bytes());
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
    }
    let data = [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat();
    [frame(1, 4, stream, &block), frame(0, 1, stream, &data)].concat()
}

fn hello() -> Vec<u8> {
    [&crate::sniff::PREFACE[..], &frame(4, 0, 0, &[])].concat()
}

/// The same with windows opened wide, so that the test needs no flow control of its own.
fn wide_hello() -> Vec<u8> {
    let window = frame(8, 0, 0, &(1u32 << 30).to_be_bytes());
    let settings = [&[0, 4][..], &(1u32 << 30).to_be_bytes()].concat();
    [
        &crate::sniff::PREFACE[..],
        &frame(4, 0, 0, &settings),
        &window,
    ]
    .concat()
}

/// Reads until `count` calls have ended; gives their messages in the order of the ends.
fn answers(stream: &mut impl Read, count: usize) -> Vec<(u32, Vec<u8>)> {
    let mut messages = std::collections::BTreeMap::<u32, Vec<u8>>::new();
    let mut ended = Vec::new();
    while ended.len() < count {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).unwrap();
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match (head[3], head[4] & 1) {
            (0, _) => messages.entry(id).or_default().extend_from_slice(&payload),
            (1, 1) => ended.push((id, messages.remove(&id).unwrap_or_default().split_off(5))),
            (3 | 7, _) => panic!("reset or goodbye: {payload:?}"),
            _ => {}
        }
    }
    ended
}

#[test]
fn fifty_calls_in_one_packet_cost_one_write() {
    let server = Server::tcp();
    let mut client = server.connect();
    let calls = (0..50).flat_map(|number| call(2 * number + 1, "/t.T/Echo", &[number as u8; 300]));
    client
        .write_all(&hello().into_iter().chain(calls).collect::<Vec<_>>())
        .unwrap();
    for (number, (stream, message)) in answers(&mut client, 50).into_iter().enumerate() {
        assert_eq!(
            (stream, message),
            (2 * number as u32 + 1, vec![number as u8; 300])
        );
    }
    // The kernel may hand over the input in pieces; there is never more than one write for each.
    assert!(server.stats.writes.get() <= server.stats.reads.get());
    assert!(server.stats.reads.get() < 10);
    drop(client);
    server.stop();
}

#[test]
fn calls_answered_late_are_answered_together() {
    let server = Server::tcp();
    let mut client = server.connect();
    let calls = (0..9).flat_map(|number| call(2 * number + 1, "/t.T/Hold", b"x"));
    client
        .write_all(&hello().into_iter().chain(calls).collect::<Vec<_>>())
        .unwrap();
    for _ in 0..9 {
        assert_eq!(server.told.recv().unwrap(), Told::Held);
    }
    client.write_all(&call(19, "/t.T/Echo", b"now")).unwrap();
    assert_eq!(answers(&mut client, 1), [(19, b"now".to_vec())]);
    let writes = server.stats.writes.get();
    server.order();
    assert_eq!(answers(&mut client, 9).len(), 9);
    assert_eq!(server.stats.writes.get(), writes + 1);
    drop(client);
    server.stop();
}

#[test]
fn a_client_that_goes_away_cancels_its_calls() {
    let server = Server::tcp();
    let mut client = server.connect();
    client
        .write_all(
            &[
                hello(),
                call(1, "/t.T/Hold", b"x"),
                call(3, "/t.T/Hold", b"x"),
            ]
            .concat(),
        )
        .unwrap();
    assert_eq!(server.told.recv().unwrap(), Told::Held);
    assert_eq!(server.told.recv().unwrap(), Told::Held);
    drop(client);
    assert_eq!(server.told.recv().unwrap(), Told::Canceled);
    assert_eq!(server.told.recv().unwrap(), Told::Canceled);
    server.order();
    assert_eq!(server.told.recv().unwrap(), Told::Answered);
    server.stop();
}

#[test]
fn large_messages_pass_in_both_directions() {
    let server = Server::tcp();
    let mut client = server.connect();
    client.write_all(&wide_hello()).unwrap();
    let message = vec![7; 60_000];
    let whole = call(1, "/t.T/Echo", &message);
    // A frame carries at most 16 KiB: cut the DATA frame into such.
    let (headers, data) = whole.split_at(whole.len() - message.len() - 14);
    let mut out = headers.to_vec();
    let pieces: Vec<_> = data[9..].chunks(16_384).collect();
    for (number, piece) in pieces.iter().enumerate() {
        out.extend(frame(0, u8::from(number + 1 == pieces.len()), 1, piece));
    }
    client.write_all(&out).unwrap();
    assert_eq!(answers(&mut client, 1), [(1, message)]);
    drop(client);
    server.stop();
}

/// A service that goes on in its turn would otherwise sleep until something else happens: the client, whose windows are
/// wide, has nothing to say.
#[test]
fn a_stream_that_may_go_on_has_its_turn_at_once() {
    let server = Server::tcp();
    let mut client = server.connect();
    // Shorter than the loop's longest sleep.
    let patience = Some(Duration::from_secs(4));
    client.set_read_timeout(patience).unwrap();
    client
        .write_all(&[wide_hello(), call(1, "/t.T/Pieces", &[5])].concat())
        .unwrap();
    let [(1, message)] = &answers(&mut client, 1)[..] else {
        panic!("no answer")
    };
    assert_eq!(message.len(), 5 * (PIECE_BYTES + 5) - 5);
    drop(client);
    server.stop();
}

/// A watch would otherwise hold up every stop until its time is over.
#[test]
fn a_call_without_end_is_ended_by_its_service_when_the_loop_stops() {
    const EMPTY_MESSAGE_FRAME_BYTES: usize = 9 + 5;
    let server = Server::tcp();
    let mut client = server.connect();
    let mut opening = [hello(), call(1, "/t.T/Endless", b"")].concat();
    opening.truncate(opening.len() - EMPTY_MESSAGE_FRAME_BYTES);
    client.write_all(&opening).unwrap();
    assert_eq!(server.told.recv().unwrap(), Told::Held);
    let began = std::time::Instant::now();
    server.stop();
    assert!(began.elapsed() < Duration::from_secs(10));
    let mut farewell = Vec::new();
    client.read_to_end(&mut farewell).unwrap();
    let text = b"stopped";
    assert!(farewell.windows(text.len()).any(|bytes| bytes == text));
}
