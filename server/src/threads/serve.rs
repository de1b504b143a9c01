use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use basalt_engine::io::WalIo;
use basalt_engine::mvcc::Reader;
use basalt_engine::replica::Proposals;
use basalt_engine::watch::{Dispatcher, Hub};
use basalt_net::reactor::{self, Handle, Listener, Reactor};

use super::engine::{EngineLoop, Link};
use super::inline::Inline;
use super::links::Links;
use super::listen::{Bound, bind_all};
use super::machine::{Events, Machine};
use super::outbox::Outbox;
use super::plan::{facts, lease_ttl_min, net_loops, reactor_config, size, wal_io_kind};
use super::remote::Remote;
use super::rings::Rings;
use super::watchman::Watchman;
use super::worker::Worker;
use crate::api::{Api, ApiConfig};
use crate::boot::Booted;
use crate::config::Config;
use crate::http::{Access, Http};
use crate::metrics::{EngineMetrics, LoopMetrics, Registry};
use crate::peers::Connectivity;
use crate::shutdown::Shutdown;
use crate::systemd;

/// Why a member stops serving though nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A listener could not be bound.
    #[error("cannot listen on {url}: {source}")]
    Listen {
        /// As configured.
        url: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The log cannot be written in the way that was asked for.
    #[error("cannot write the log: {0}")]
    Log(#[source] io::Error),
    /// A thread or a loop failed.
    #[error("{what}: {source}")]
    Loop {
        /// Which.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The member stopped itself because going on could lose what it acknowledged.
    #[error("the member stopped: {0}")]
    Failed(String),
}

/// Why a member serves no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to end.
    Asked,
    /// Its directory holds the leader's snapshot now: it is to be started from that.
    Refilled,
}

/// Serves until the end is asked for, or a snapshot took the place of what is served; then drains, seals the log and returns.
pub fn serve(config: &Config, booted: Booted, shutdown: &Shutdown) -> Result<Ended, ServeError> {
    let bound = bind_all(config)?;
    let net_loops = net_loops(config.threads);
    let plant = Plant::build(config, booted, bound, net_loops)?;
    let handles = plant.handles();
    shutdown.on_request(move || {
        systemd::stopping();
        handles.iter().for_each(|handle| handle.stop(DRAIN_MAX));
    });
    if net_loops == 0 {
        plant.run_inline()
    } else {
        plant.run_threaded()
    }
}

/// Everything that the threads will own, put together before any of them runs.
struct Plant {
    reactors: Vec<Reactor>,
    booted: Booted,
    wal: WalIo,
    worker: Arc<Worker>,
    outboxes: Vec<Arc<Outbox>>,
    registry: Arc<Registry>,
    watchman: Watchman,
    api: ApiConfig,
    access: Access,
    links: Links,
    /// For the engine's loop, where it has one of its own.
    peer_listeners: Vec<Listener>,
    reactor_config: reactor::Config,
}

impl Plant {
    fn build(
        config: &Config,
        booted: Booted,
        bound: Bound,
        net_loops: usize,
    ) -> Result<Plant, ServeError> {
        let loops = net_loops.max(1);
        let mut listeners = bound.clients;
        let mut peer_listeners = bound.peers;
        if net_loops == 0 {
            // Else the engine's own loop has them.
            listeners.append(&mut peer_listeners);
        }
        let connectivity = Arc::<Connectivity>::default();
        let links = Links::new(config, &booted, Arc::clone(&connectivity));
        let wal = booted
            .dir
            .wal_io(wal_io_kind(config))
            .map_err(ServeError::Log)?;
        if let Some(reason) = wal.why_not_uring() {
            tracing::info!(reason, "writing the log without io_uring");
        }
        let reactor_config = reactor_config(config, loops);
        let mut listeners = Some(listeners);
        let reactors: io::Result<Vec<Reactor>> = (0..loops)
            .map(|_| Reactor::new(reactor_config.clone(), listeners.take().unwrap_or_default()))
            .collect();
        let mut reactors = reactors.map_err(in_loop("network loop"))?;
        let handles: Vec<Handle> = reactors.iter().map(Reactor::handle).collect();
        if loops > 1 {
            reactors[0].share_accepted(handles.clone());
        }
        let outboxes: Vec<Arc<Outbox>> = handles
            .iter()
            .map(|handle| Outbox::new(handle.clone()))
            .collect();
        let replica = &booted.replica;
        let hub = Hub::new(booted.cluster, booted.member, loops);
        let registry = Arc::new(Registry {
            loops: reactors
                .iter()
                .map(|reactor| (Arc::<LoopMetrics>::default(), reactor.stats()))
                .collect(),
            engine: Arc::<EngineMetrics>::default(),
            published: Arc::clone(replica.published()),
            reader: replica.reader().clone(),
            facts: facts(config, booted.cluster, booted.member),
            hub: Arc::clone(&hub),
            connectivity: Arc::clone(&connectivity),
        });
        let watchman = Watchman {
            is_ready: false,
            published: Arc::clone(replica.published()),
            member: booted.member,
            cluster: format!("{:x}", booted.cluster.0),
            addresses: bound.client_addresses,
            loops: handles,
            failure: Arc::default(),
            removed_end: None,
            is_ending: false,
        };
        let api = ApiConfig {
            net_loop: 0,
            cluster: booted.cluster,
            member: booted.member,
            quota_bytes: config.limits.quota_bytes,
            max_request_bytes: size(config.limits.request_bytes),
            max_txn_ops: size(config.limits.txn_ops),
            lease_ttl_min: lease_ttl_min(config.heartbeat, config.election),
            ids: Arc::clone(&booted.request_ids),
            hub: Arc::clone(&hub),
            watch_progress_interval: config.watch_progress_interval,
            membership: config.membership,
            connectivity,
        };
        let worker = Worker::new(outboxes.clone());
        let access = Access {
            origins: config.cors.clone(),
            hosts: config.host_whitelist.clone(),
        };
        Ok(Plant {
            access,
            links,
            peer_listeners,
            reactors,
            booted,
            wal,
            worker,
            outboxes,
            registry,
            watchman,
            api,
            reactor_config,
        })
    }

    fn handles(&self) -> Vec<Handle> {
        self.reactors.iter().map(Reactor::handle).collect()
    }

    /// What takes events to the loops; `net_loops` are those to be woken.
    fn events(&self, net_loops: Vec<Handle>) -> Events {
        let reader = &self.registry.reader;
        let dispatcher = Dispatcher::new(Arc::clone(&self.registry.hub), reader);
        Events {
            dispatcher: dispatcher.expect("nothing else holds the store yet"),
            net_loops,
        }
    }

    fn http(&self, net_loop: usize) -> Http {
        let metrics = Arc::clone(&self.registry.loops[net_loop].0);
        Http::new(Arc::clone(&self.registry), metrics, self.access.clone())
    }

    fn run_inline(mut self) -> Result<Ended, ServeError> {
        let mut reactor = self.reactors.remove(0);
        reactor
            .watch(self.wal.event_fd(), WAL_EVENTS)
            .map_err(in_loop("network loop"))?;
        let disk = self.booted.dir.disk();
        let worker_thread = self
            .worker
            .start(disk, reactor.handle())
            .map_err(in_loop("background worker"))?;
        wake_for_reads(&self.registry.reader, reactor.handle());
        let http = self.http(0);
        // The loop delivers what it dispatches in the same turn.
        let events = self.events(Vec::new());
        self.links.set_waker(reactor.handle());
        let failure = Arc::clone(&self.watchman.failure);
        let engine = Arc::clone(&self.registry.engine);
        let backend = Inline {
            reader: self.registry.reader.clone(),
            published: Arc::clone(&self.registry.published),
            machine: Machine::new(
                self.booted.replica,
                self.wal,
                Arc::clone(&self.worker),
                self.links,
                engine,
                events,
                Instant::now(),
            ),
            worker: Arc::clone(&self.worker),
            outbox: Arc::clone(&self.outboxes[0]),
            http,
            watchman: self.watchman,
            batch: Proposals::new(),
        };
        let counters = Arc::clone(&self.registry.loops[0].0);
        let mut api = Api::new(self.api, counters, backend);
        let ran = reactor.run(&mut api).map_err(in_loop("network loop"));
        let machine = &mut api.backend_mut().machine;
        machine.stop(Instant::now() + SEAL_MAX);
        end(&self.worker, worker_thread);
        ran.and(outcome(&failure, machine))
    }

    fn run_threaded(mut self) -> Result<Ended, ServeError> {
        let peer_listeners = std::mem::take(&mut self.peer_listeners);
        let mut engine_reactor = Reactor::new(self.reactor_config.clone(), peer_listeners)
            .map_err(in_loop("engine loop"))?;
        engine_reactor
            .watch(self.wal.event_fd(), WAL_EVENTS)
            .map_err(in_loop("engine loop"))?;
        let engine = engine_reactor.handle();
        wake_for_reads(&self.registry.reader, engine.clone());
        self.links.set_waker(engine.clone());
        let disk = self.booted.dir.disk();
        let worker_thread = self
            .worker
            .start(disk, engine.clone())
            .map_err(in_loop("background worker"))?;
        let events = self.events(self.handles());
        let rings: Vec<Arc<Rings>> = self
            .handles()
            .into_iter()
            .map(|net_loop| Rings::new(engine.clone(), net_loop))
            .collect();
        let running = Arc::new(Running(engine));
        let mut threads = Vec::new();
        for (number, mut reactor) in std::mem::take(&mut self.reactors).into_iter().enumerate() {
            let backend = Remote {
                reader: self.registry.reader.clone(),
                published: Arc::clone(&self.registry.published),
                rings: Arc::clone(&rings[number]),
                worker: Arc::clone(&self.worker),
                outbox: Arc::clone(&self.outboxes[number]),
                http: self.http(number),
                batch: Proposals::new(),
            };
            let net_loop = u32::try_from(number).expect("MAX_THREADS bounds the loops");
            let mut api = Api::new(
                ApiConfig {
                    net_loop,
                    ..self.api.clone()
                },
                Arc::clone(&self.registry.loops[number].0),
                backend,
            );
            let running = Arc::clone(&running);
            let run = move || {
                let ran = reactor.run(&mut api);
                drop(running);
                ran
            };
            let builder = std::thread::Builder::new().name(format!("net-{number}"));
            threads.push(builder.spawn(run).map_err(in_loop("network loop"))?);
        }
        drop(running);
        // What comes by the peers' port is counted nowhere: it is nobody's client.
        let http = Http::new(
            Arc::clone(&self.registry),
            Arc::default(),
            self.access.clone(),
        );
        let failure = Arc::clone(&self.watchman.failure);
        let metrics = Arc::clone(&self.registry.engine);
        let mut engine = EngineLoop {
            parts_read: 0,
            machine: Machine::new(
                self.booted.replica,
                self.wal,
                Arc::clone(&self.worker),
                self.links,
                metrics,
                events,
                Instant::now(),
            ),
            watchman: self.watchman,
            links: rings.into_iter().map(Link::new).collect(),
            http,
        };
        let mut ran = engine_reactor
            .run(&mut engine)
            .map_err(in_loop("engine loop"));
        engine.machine.stop(Instant::now() + SEAL_MAX);
        for thread in threads {
            let ended = thread.join().expect("a panic ends the process");
            ran = ran.and(ended.map_err(in_loop("network loop")));
        }
        end(&self.worker, worker_thread);
        ran.and(outcome(&failure, &engine.machine))
    }
}

/// Held by every network thread; when the last lets go, the engine's loop ends.
struct Running(Handle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.stop(HAND_OVER_MAX);
    }
}

fn end(worker: &Worker, thread: std::thread::JoinHandle<()>) {
    worker.stop();
    thread.join().expect("a panic ends the process");
}

fn outcome(failure: &Mutex<Option<String>>, machine: &Machine) -> Result<Ended, ServeError> {
    match failure
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
    {
        Some(reason) => Err(ServeError::Failed(reason)),
        None if machine.replica().is_refilled() => Ok(Ended::Refilled),
        None => Ok(Ended::Asked),
    }
}

fn in_loop(what: &'static str) -> impl Fn(io::Error) -> ServeError {
    move |source| ServeError::Loop { what, source }
}

/// A read that misses records is heard of at once by the loop that reads it.
fn wake_for_reads(reader: &Reader, engine: Handle) {
    reader.on_wanted(Box::new(move || engine.wake()));
}

/// For what is in flight to be answered and for clients to leave.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// For what a leader that hands over still has to say, once the clients are gone.
const HAND_OVER_MAX: Duration = Duration::from_millis(500);
/// For the log's last group and its seal. Together with the drain under the five seconds that a stop may take.
const SEAL_MAX: Duration = Duration::from_millis(1500);
/// The number under which a loop hears of the log's completions.
const WAL_EVENTS: usize = 0;
