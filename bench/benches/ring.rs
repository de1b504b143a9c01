//! What handing a batch of requests to another loop and back costs: rings and wake-ups as in the server's `threads/`, whose
//! types this package must not see. The time is that of the whole process, kernel included, and so counts both loops.

mod cpu;

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use basalt_engine::replica::Proposals;
use basalt_engine::types::RequestId;
use basalt_net::grpc::{CallId, Calls, Method, Request, ServerConfig, Service, Status};
use basalt_net::h1;
use basalt_net::reactor::{Config, Handle, Reactor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_queue::ArrayQueue;
use rustix::time::{ClockId, clock_gettime};

use crate::cpu::CpuTime;

/// Requests of one batch.
const REQUESTS: [u64; 3] = [1, 10, 100];

/// A put of an 8-byte key and a 256-byte value.
const REQUEST: [u8; 270] = [b'r'; 270];

/// `InternalRaftRequest.put`.
const PUT: u32 = 4;

/// As many as the server's rings hold.
const BATCHES_MAX: usize = 8;

/// Both ways between two loops.
struct Rings {
    there: ArrayQueue<Proposals>,
    back: ArrayQueue<Proposals>,
}

impl Rings {
    fn new() -> Arc<Rings> {
        Arc::new(Rings {
            there: ArrayQueue::new(BATCHES_MAX),
            back: ArrayQueue::new(BATCHES_MAX),
        })
    }
}

fn fill(batch: &mut Proposals, requests: u64) {
    for number in 0..requests {
        batch.push(None, RequestId(number), PUT, &REQUEST);
    }
}

/// Takes one batch as the engine's loop does, and gives its room back.
fn answer(rings: &Rings) -> bool {
    let Some(mut batch) = rings.there.pop() else {
        return false;
    };
    black_box(batch.bytes_len());
    batch.clear();
    assert!(rings.back.push(batch).is_ok());
    true
}

/// What a loop of this file does in a turn.
trait Turn {
    fn turn(&mut self);
}

/// A loop without sockets: only turns.
struct Lone<T>(T);

impl<T: Turn> Service for Lone<T> {
    fn on_turn(&mut self, _calls: &mut impl Calls, _now: Instant) -> Option<Instant> {
        self.0.turn();
        None
    }

    fn method(&self, _path: &[u8]) -> Method {
        Method::Unknown(Status::OK)
    }

    // No listener, so nothing of the following is ever called.
    fn on_ready(&mut self, _token: usize) {}
    fn on_request(&mut self, _calls: &mut impl Calls, _call: CallId, _request: Request<'_>) {}
    fn on_end(&mut self, _calls: &mut impl Calls, _call: CallId) {}
    fn on_cancel(&mut self, _call: CallId) {}
    fn on_writable(&mut self, _calls: &mut impl Calls, _call: CallId) {}
    fn on_http(&mut self, _calls: &mut impl Calls, _call: CallId, _request: h1::Request<'_>) {}
}

/// The engine's end.
struct Engine {
    rings: Arc<Rings>,
    net_loop: Handle,
}

impl Turn for Engine {
    fn turn(&mut self) {
        while answer(&self.rings) {
            self.net_loop.wake();
        }
    }
}

/// The network's end: one batch is on its way at a time, so that each round pays for both wake-ups.
struct Network {
    rings: Arc<Rings>,
    engine: Handle,
    requests: u64,
    spare: Option<Proposals>,
    rounds: Arc<AtomicU64>,
    done: SyncSender<()>,
}

impl Turn for Network {
    fn turn(&mut self) {
        if let Some(batch) = self.rings.back.pop() {
            self.spare = Some(batch);
            // AcqRel: pairs with the store of the measuring thread; only this loop counts down.
            if self.rounds.fetch_sub(1, Ordering::AcqRel) == 1 {
                // Nobody waits any more only when the measuring thread has failed.
                let _ = self.done.send(());
                return;
            }
        }
        if self.rounds.load(Ordering::Acquire) == 0 {
            return;
        }
        if let Some(mut batch) = self.spare.take() {
            fill(&mut batch, self.requests);
            assert!(self.rings.there.push(batch).is_ok());
            self.engine.wake();
        }
    }
}

/// Two loops that hand batches to each other, each on its thread.
struct Loops {
    rounds: Arc<AtomicU64>,
    done: Receiver<()>,
    handles: [Handle; 2],
    threads: [JoinHandle<io::Result<()>>; 2],
}

impl Loops {
    fn new(requests: u64) -> io::Result<Loops> {
        let config = Config {
            grpc: ServerConfig::default(),
            h1_body_bytes_max: 0,
            connections_max: 0,
            spin: None,
        };
        let mut net_loop = Reactor::new(config.clone(), Vec::new())?;
        let mut engine_loop = Reactor::new(config, Vec::new())?;
        let handles = [net_loop.handle(), engine_loop.handle()];
        let (rings, rounds) = (Rings::new(), Arc::new(AtomicU64::new(0)));
        let (sender, done) = sync_channel(1);
        let mut network = Lone(Network {
            rings: rings.clone(),
            engine: engine_loop.handle(),
            requests,
            spare: Some(Proposals::new()),
            rounds: rounds.clone(),
            done: sender,
        });
        let mut engine = Lone(Engine {
            rings,
            net_loop: net_loop.handle(),
        });
        let threads = [
            std::thread::spawn(move || net_loop.run(&mut network)),
            std::thread::spawn(move || engine_loop.run(&mut engine)),
        ];
        Ok(Loops {
            rounds,
            done,
            handles,
            threads,
        })
    }

    /// The CPU time of the process for so many batches there and back.
    fn run(&self, rounds: u64) -> Duration {
        let start = process_cpu_time();
        self.rounds.store(rounds, Ordering::Release);
        self.handles[0].wake();
        self.done
            .recv()
            .expect("the loops run until they are told to stop");
        process_cpu_time() - start
    }

    fn stop(self) {
        self.handles
            .iter()
            .for_each(|handle| handle.stop(Duration::ZERO));
        for thread in self.threads {
            thread
                .join()
                .expect("a loop never panics")
                .expect("a loop without sockets never fails");
        }
    }
}

/// Of all threads together.
fn process_cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(now.tv_nsec.unsigned_abs())
}

fn same_thread(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("ring_same_thread");
    for requests in REQUESTS {
        group.throughput(Throughput::Elements(requests));
        group.bench_function(BenchmarkId::from_parameter(requests), |b| {
            let rings = Rings::new();
            let mut spare = Some(Proposals::new());
            b.iter(|| {
                let mut batch = spare.take().unwrap_or_default();
                fill(&mut batch, requests);
                assert!(rings.there.push(batch).is_ok());
                assert!(answer(&rings));
                spare = rings.back.pop();
            });
        });
    }
    group.finish();
}

fn two_threads(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("ring_two_threads");
    for requests in REQUESTS {
        group.throughput(Throughput::Elements(requests));
        group.bench_function(BenchmarkId::from_parameter(requests), |b| {
            let loops = Loops::new(requests).expect("descriptors for two loops");
            b.iter_custom(|rounds| loops.run(rounds));
            loops.stop();
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .with_measurement(CpuTime)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots();
    targets = same_thread, two_threads
}
criterion_main!(benches);
