//! Shown with an allocator that counts on the server's threads: a get, from the socket to the store and back, does not touch the heap.
#![allow(
    unsafe_code,
    reason = "an allocator can only be replaced by an unsafe impl; it forwards to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use basalt::{boot, config, shutdown::Shutdown, threads};
use basalt_net::grpc::client::{Answered, Client, Template};
use basalt_net::grpc::{Code, Metadata, Status};
use basalt_pb::etcdserverpb::{PutRequest, RangeRequest};
use prost::Message;

struct Counting;

thread_local! {
    /// The calling thread's own allocations are not the server's.
    static IS_CALLER: Cell<bool> = const { Cell::new(false) };
}

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is forwarded unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !IS_CALLER.get() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How many calls are in flight at once.
const DEPTH: usize = 20;
const GETS: usize = 20_000;
/// What a whole run may allocate beside its gets: timers, the date line, a scrape of the process's own figures.
const BESIDE_MAX: u64 = 20;

/// A get allocates on its way: at a million of them a second the allocator is what one measures.
#[test]
fn a_get_allocates_nothing_in_the_server() {
    IS_CALLER.set(true);
    let dir = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let url = format!("http://{address}");
    let data_dir = dir.path().join("data").display().to_string();
    let args = [
        "--data-dir",
        &data_dir,
        "--listen-client-urls",
        &url,
        "--advertise-client-urls",
        &url,
        "--listen-peer-urls",
        "http://127.0.0.1:0",
        "--threads",
        "1",
    ]
    .map(str::to_owned);
    let shutdown = Shutdown::default();
    let server = thread::spawn({
        let shutdown = shutdown.clone();
        move || {
            let config = config::load(&args, std::iter::empty(), &mut Vec::new());
            let config = config.unwrap_or_else(|exit| panic!("{exit:?}"));
            let booted = boot::boot(&config).unwrap();
            threads::serve(&config, booted, &shutdown).unwrap();
        }
    });
    let mut caller = Caller::connect(address);
    let put = PutRequest {
        key: b"key".as_slice().into(),
        value: vec![b'v'; 256].into(),
        ..PutRequest::default()
    };
    caller.repeat("/etcdserverpb.KV/Put", &put, 100);
    let get = RangeRequest {
        key: b"key".as_slice().into(),
        ..RangeRequest::default()
    };
    caller.repeat("/etcdserverpb.KV/Range", &get, GETS);
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    caller.repeat("/etcdserverpb.KV/Range", &get, GETS);
    let allocated = ALLOCATIONS.load(Ordering::SeqCst) - before;
    shutdown.request(rustix::process::Signal::TERM.as_raw());
    server.join().unwrap();
    assert!(
        allocated <= BESIDE_MAX,
        "{allocated} allocations in {GETS} gets"
    );
}

/// A blocking client of one connection.
struct Caller {
    socket: TcpStream,
    client: Client,
    answers: Answers,
}

#[derive(Default)]
struct Answers {
    right: usize,
    messages: usize,
}

impl Answered for Answers {
    fn on_message(&mut self, _stream: u32, message: &[u8]) {
        assert!(!message.is_empty());
        self.messages += 1;
    }

    fn on_status(&mut self, _stream: u32, status: &Status, _trailers: &Metadata) {
        assert_eq!(status.code, Code::Ok, "{status:?}");
        self.right += 1;
    }
}

impl Caller {
    /// Tries until the server listens.
    fn connect(address: SocketAddr) -> Caller {
        let until = Instant::now() + Duration::from_secs(60);
        let socket = loop {
            match TcpStream::connect(address) {
                Ok(socket) => break socket,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            thread::yield_now();
        };
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("a socket takes a time-out above zero");
        Caller {
            socket,
            client: Client::new(1 << 20, Instant::now()),
            answers: Answers::default(),
        }
    }

    /// Makes `calls` calls with the same message and waits for all of them.
    fn repeat(&mut self, path: &str, request: &impl Message, calls: usize) {
        let template = Template::new(path, "test", &[], None);
        let message = request.encode_to_vec();
        self.answers = Answers::default();
        let mut opened = 0;
        let mut buffer = vec![0; 64 << 10];
        while self.answers.right < calls {
            while opened < calls && opened - self.answers.right < DEPTH {
                let call = self
                    .client
                    .call(&template, |out| out.extend_from_slice(&message));
                assert!(call.is_some(), "the server allows {DEPTH} streams");
                opened += 1;
            }
            self.client.flush(Instant::now(), &mut self.answers);
            self.socket
                .write_all(self.client.out())
                .expect("the server reads");
            let written = self.client.out().len();
            self.client.advance(written);
            let read = self
                .socket
                .read(&mut buffer)
                .expect("the server answers within a minute");
            assert!(read > 0, "the server closed the connection");
            self.client
                .recv(&buffer[..read], Instant::now(), &mut self.answers);
        }
        assert_eq!(self.answers.messages, calls);
    }
}
