//! The loop: the earliest event happens, the member it concerns takes a turn, and what comes of it is scheduled.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::hash::{Hash, Hasher};

use basalt_engine::disk::{DiskDone, DiskError, OpId};
use basalt_engine::mvcc::BadSegment;
use basalt_engine::raft::message::Message;
use basalt_engine::replica::{Failure, Job};
use basalt_engine::types::MemberId;
use fastrand::Rng;

use super::clients::{Asked, Client};
use super::durable::{is_promise, keeps_promise};
use super::faults::{Depose, Undo};
use super::finish::Phase;
use super::leases::{LEASES, Leases};
use super::network::Network;
use super::node::Node;
use super::plan::Plan;
use super::trace::Trace;
use super::watch::Watching;
use super::witness::Witness;
use crate::check::history::{Call, Violation};

/// What came of a simulation.
#[derive(Debug)]
pub struct Report {
    /// What must not have happened, and when.
    pub violation: Option<Violation>,
    /// 128 bits of all that happened.
    pub trace: u128,
    /// All that happened, if it was asked for.
    pub lines: Vec<String>,
    /// How much of what.
    pub tally: Tally,
}

/// How much of what happened. What stays 0 over a campaign is not tested by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(pub BTreeMap<&'static str, u64>);

impl Tally {
    pub(super) fn add(&mut self, what: &'static str, count: u64) {
        *self.0.entry(what).or_default() += count;
    }

    /// Adds another run's.
    pub fn merge(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            self.add(what, *count);
        }
    }
}

/// Runs a plan to its end, or to the first violation.
#[must_use]
pub fn run(plan: &Plan, wants_lines: bool) -> Report {
    let mut world = World::new(plan, wants_lines);
    let violation = world.run().err();
    if let Some(wrong) = &violation {
        world
            .trace
            .note(world.now_us, format_args!("VIOLATION {wrong}"));
    }
    let now_ms = world.now_us / 1000;
    world.tally.add("virtual ms", now_ms);
    let network = world.network.tally;
    world.tally.add("messages sent", network.sent);
    world.tally.add("messages lost", network.lost);
    world.tally.add("messages doubled", network.doubled);
    world.tally.add("messages spoilt", network.spoilt);
    let (trace, lines) = world.trace.finish();
    Report {
        violation: violation.map(|wrong| format!("at {now_ms} ms: {wrong}")),
        trace,
        lines,
        tally: world.tally,
    }
}

/// Everything there is.
pub(super) struct World<'p> {
    pub(super) plan: &'p Plan,
    pub(super) now_us: u64,
    events: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    pub(super) rng: Rng,
    pub(super) nodes: Vec<Node>,
    pub(super) network: Network,
    pub(super) clients: Vec<Client>,
    /// By number of the question.
    pub(super) asked: Vec<Asked>,
    pub(super) history: Vec<Call>,
    pub(super) witness: Witness,
    pub(super) phase: Phase,
    pub(super) depose: Option<Depose>,
    pub(super) leases: Leases,
    pub(super) watching: Vec<Watching>,
    pub(super) answers: u32,
    promises: u64,
    pub(super) trace: Trace,
    pub(super) tally: Tally,
}

/// Events at one time come in an order of their own luck.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Scheduled {
    at_us: u64,
    luck: u32,
    number: u64,
    event: Event,
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Event {
    /// A client asks its next question.
    Ask(usize),
    /// A question reaches its member, asking for the space of a compaction too if so.
    Arrive(At, u32, bool),
    /// A watcher opens a stream.
    Watch(usize),
    /// The watchers' loop of a process has a turn.
    Loop(At),
    /// A slow watcher has read what it was sent by a process.
    HasRead(usize, At),
    /// A client waits no longer.
    GiveUp(u32),
    /// A disk answers; an error if the operation was refused when it was asked.
    Disk(At, u64, Refusal),
    /// A member's worker does a step.
    Work(At),
    /// A member's own time has come.
    Wake(At),
    /// A message arrives: from, to, whether it was spoilt, and its bytes.
    Deliver(usize, usize, bool, Vec<u8>),
    /// A member's connection to another one is reset.
    Reset(usize, usize),
    /// The plan's next fault.
    Fault(usize),
    /// A fault ends.
    Undo(Undo),
    /// A process that can do nothing more ends.
    Die(At),
    /// A process begins, and dies while it recovers if so.
    Start(usize, bool),
    /// A leader is cut off for so many milliseconds.
    Depose(usize, u64),
    /// The faults are over.
    Heal,
    /// Whether the cluster serves and rests is looked at.
    Look,
}

/// A process of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct At {
    pub(super) member: usize,
    pub(super) life: u64,
}

/// An error that an event carries; errors have no order of their own, and need none.
#[derive(Clone, Debug)]
pub(super) struct Refusal(Option<DiskError>);

impl PartialEq for Refusal {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Refusal {}

impl Hash for Refusal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.is_some().hash(state);
    }
}

impl PartialOrd for Refusal {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Refusal {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl<'p> World<'p> {
    fn new(plan: &'p Plan, wants_lines: bool) -> Self {
        let settings = &plan.settings;
        // Each part has its own luck, so that leaving one fault out changes as little as possible elsewhere.
        let mut seeds = Rng::with_seed(plan.seed ^ 0x5eed);
        let mut rng = || Rng::with_seed(seeds.u64(..));
        let members = usize::from(settings.members);
        let mut clients: Vec<Client> = Vec::new();
        clients.resize_with(usize::from(settings.clients), Client::default);
        for (number, step) in plan.steps.iter().enumerate() {
            clients[usize::from(step.client)].steps.push_back(number);
        }
        Self {
            plan,
            now_us: 0,
            events: BinaryHeap::new(),
            scheduled: 0,
            network: Network::new(settings, rng()),
            rng: rng(),
            nodes: (0..members)
                .map(|number| Node::new(number, settings, rng()))
                .collect(),
            clients,
            asked: Vec::new(),
            history: Vec::new(),
            witness: Witness::new(members),
            phase: Phase::Faults,
            depose: None,
            leases: Leases::default(),
            watching: plan.watches.iter().map(|_| Watching::default()).collect(),
            answers: 0,
            promises: 0,
            trace: Trace::new(wants_lines),
            tally: Tally::default(),
        }
    }

    fn run(&mut self) -> Result<(), Violation> {
        for member in 0..self.nodes.len() {
            self.schedule(0, Event::Start(member, false));
        }
        for client in 0..self.clients.len() {
            self.ask_later(client);
        }
        for (number, watch) in self.plan.watches.iter().enumerate() {
            self.schedule(watch.at_us, Event::Watch(number));
        }
        for (number, fault) in self.plan.faults.iter().enumerate() {
            self.schedule(fault.at_us, Event::Fault(number));
        }
        self.schedule(self.plan.settings.safety_ms * 1000, Event::Heal);
        while let Some(Reverse(Scheduled { at_us, event, .. })) = self.events.pop() {
            if self.phase == Phase::Over {
                break;
            }
            assert!(at_us >= self.now_us);
            self.now_us = at_us;
            self.tally.add("events", 1);
            if self.tally.0["events"] > EVENTS_MAX {
                return Err("it never comes to an end".to_owned());
            }
            self.handle(event)?;
        }
        self.check_history()
    }

    /// Lets an event happen `after_us` from now.
    pub(super) fn schedule(&mut self, after_us: u64, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse(Scheduled {
            at_us: self.now_us + after_us,
            luck: self.rng.u32(..),
            number: self.scheduled,
            event,
        }));
    }

    fn handle(&mut self, event: Event) -> Result<(), Violation> {
        self.trace.note_value(self.now_us, &event);
        if let Some((member, life)) = self.meant_for(&event) {
            let node = &self.nodes[member];
            let running = node.running.as_ref();
            let Some(process) = running.filter(|_| life.is_none_or(|life| life == node.life))
            else {
                return Ok(());
            };
            if process.paused_until_us > self.now_us {
                let later = process.paused_until_us - self.now_us;
                self.schedule(later, event);
                return Ok(());
            }
        }
        match event {
            Event::Ask(client) => {
                self.ask(client);
                Ok(())
            }
            Event::Watch(number) => {
                self.watch(number);
                Ok(())
            }
            Event::Loop(at) => self.take_events(at),
            Event::HasRead(number, at) => {
                self.has_read(number, at);
                Ok(())
            }
            Event::Arrive(at, number, _) if number & LEASES != 0 => {
                self.lease_arrives(at.member, number)
            }
            Event::Arrive(at, number, is_physical) => self.arrive(at.member, number, is_physical),
            Event::GiveUp(number) => {
                self.give_up(number);
                Ok(())
            }
            Event::Disk(at, id, Refusal(refused)) => self.on_disk(at.member, OpId(id), refused),
            Event::Work(at) => self.work(at.member),
            Event::Wake(at) => {
                let process = self.nodes[at.member].running.as_mut();
                if let Some(process) = process
                    && process.wake_us.is_some_and(|due| due <= self.now_us)
                {
                    process.wake_us = None;
                }
                self.drive(at.member)
            }
            Event::Deliver(from, to, is_spoilt, bytes) => self.deliver(from, to, is_spoilt, &bytes),
            Event::Reset(at, dead) => {
                let (clock, dead) = (self.nodes[at].clock(self.now_us), self.nodes[dead].id);
                if let Some(process) = &mut self.nodes[at].running {
                    process.replica.on_unreachable(dead, clock);
                }
                self.drive(at)
            }
            Event::Fault(number) => self.strike(number),
            Event::Undo(undo) => {
                self.undo(undo);
                Ok(())
            }
            Event::Die(at) => {
                self.die(at.member, false, 4, RESTART_US, false);
                Ok(())
            }
            Event::Start(member, dies) => self.start(member, dies),
            Event::Depose(member, ms) => {
                if self.phase == Phase::Faults {
                    self.isolate(member, true, true, ms);
                }
                Ok(())
            }
            Event::Heal => self.heal(),
            Event::Look => self.look(),
        }
    }

    /// The member that an event concerns, and the process of it, which no event but a message outlives.
    fn meant_for(&self, event: &Event) -> Option<(usize, Option<u64>)> {
        match event {
            Event::Disk(at, ..)
            | Event::Work(at)
            | Event::Wake(at)
            | Event::Die(at)
            | Event::Loop(at)
            | Event::Arrive(at, ..) => Some((at.member, Some(at.life))),
            Event::Deliver(_, to, ..) | Event::Reset(to, _) => Some((*to, None)),
            _ => None,
        }
    }

    fn on_disk(
        &mut self,
        member: usize,
        id: OpId,
        refused: Option<DiskError>,
    ) -> Result<(), Violation> {
        let node = &mut self.nodes[member];
        let done = match refused {
            Some(error) => DiskDone {
                id,
                result: Err(error),
            },
            None => node.land(id),
        };
        if let Some(process) = &mut node.running {
            process.replica.on_disk(done);
        }
        self.drive(member)
    }

    /// One step of the oldest job.
    fn work(&mut self, member: usize) -> Result<(), Violation> {
        let node = &mut self.nodes[member];
        let clock = node.clock(self.now_us);
        let Some(process) = &mut node.running else {
            return Ok(());
        };
        process.is_working = false;
        if let Some(job) = process.jobs.front_mut()
            && let Some(done) = job.step(&mut node.disk)
        {
            let is_checkpoint = matches!(process.jobs.pop_front(), Some(Job::Checkpoint(_)));
            self.tally.add("checkpoints", u64::from(is_checkpoint));
            process.replica.on_job(done, clock);
        }
        self.drive(member)
    }

    /// Gives a member a turn and takes what comes of it.
    pub(super) fn drive(&mut self, member: usize) -> Result<(), Violation> {
        let node = &mut self.nodes[member];
        let clock = node.clock(self.now_us);
        let at = At {
            member,
            life: node.life,
        };
        let Some(process) = &mut node.running else {
            return Ok(());
        };
        let turn = process.replica.turn(clock);
        self.tally.add("turns", 1);
        let is_elected = self.witness.observe(member, node.life, &process.replica)?;
        let ended = self.witness.take_ended();
        let mut later = VecDeque::new();
        while let Some((id, op)) = process.replica.poll_op() {
            self.trace.note(self.now_us, format_args!("{}", op.site()));
            later.push_back((id, op));
        }
        let mut jobs = Vec::new();
        process.replica.take_jobs(&mut jobs);
        process.jobs.extend(jobs);
        let begins_work = !process.is_working && !process.jobs.is_empty();
        process.is_working |= begins_work;
        process.replica.take_notices(&mut Vec::new());
        let mut messages = Vec::new();
        process.replica.take_messages(&mut messages);
        let has_failed = process.replica.failure().is_some();
        let has_lost = matches!(
            process.replica.failure(),
            Some(Failure::Records(BadSegment::Rotten { .. }))
        );
        let is_stopped = process.is_stopping && process.replica.is_stopped();
        let is_refilled = process.replica.is_refilled();
        for (id, op) in later {
            let refused = self.nodes[member].submit(id, op).err();
            let takes = self.nodes[member].disk_us();
            self.schedule(takes, Event::Disk(at, id.0, Refusal(refused)));
        }
        for (to, message) in messages {
            self.send_message(member, to, &message)?;
        }
        if is_elected {
            self.on_elected(member);
        }
        if begins_work {
            let takes = self.nodes[member].job_us();
            self.schedule(takes, Event::Work(at));
        }
        if let Some(wake) = turn.wake {
            self.wake(at, wake);
        }
        self.on_ended(ended)?;
        self.dispatch(at);
        self.take_answers(member)?;
        if has_lost && self.nodes[member].is_damaged {
            // As one that refuses to start: somebody must put the file back.
            self.nodes[member].kill(false, 8);
            self.hang_up(member);
            self.tally.add("damage refused", 1);
            self.on_refused(member);
        } else if has_failed {
            self.tally.add("failed writes", 1);
            let after = self.rng.u64(0..FAILED_FOR_US);
            self.schedule(after, Event::Die(at));
        } else if is_refilled {
            self.tally.add("snapshots taken over", 1);
            self.schedule(0, Event::Die(at));
        } else if is_stopped {
            self.tally.add("clean stops", 1);
            self.schedule(0, Event::Die(at));
        }
        Ok(())
    }

    /// What leaves a member is promised: votes and copies are looked up on its disk.
    fn send_message(
        &mut self,
        from: usize,
        to: MemberId,
        message: &Message,
    ) -> Result<(), Violation> {
        let Some(to) = self.nodes.iter().position(|node| node.id == to) else {
            return Err(format!("member {from} writes to nobody: {to}"));
        };
        self.trace.note_value(self.now_us, &(from, to, message));
        self.witness.check_vote(from, to, message)?;
        self.promises += 1;
        let one_in = u64::from(self.plan.settings.durable_check_one_in) * 4;
        if is_promise(message) && self.promises.is_multiple_of(one_in) {
            self.tally.add("promises looked up", 1);
            if !keeps_promise(&self.nodes[from], self.nodes[to].id, message) {
                return Err(format!(
                    "member {from} does not hold what it says: {message:?}"
                ));
            }
        }
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        for (after, is_spoilt, bytes) in self.network.send(from, to, bytes) {
            self.schedule(after, Event::Deliver(from, to, is_spoilt, bytes));
        }
        Ok(())
    }

    fn deliver(
        &mut self,
        from: usize,
        to: usize,
        is_spoilt: bool,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let message = match Message::decode(bytes) {
            Ok(_) if is_spoilt => return Err("a spoilt message is taken for a sound one".into()),
            Ok(message) => message,
            Err(_) if is_spoilt => return Ok(()),
            Err(bad) => return Err(format!("a message cannot be read: {bad}")),
        };
        let (from, clock) = (self.nodes[from].id, self.nodes[to].clock(self.now_us));
        if let Some(process) = &mut self.nodes[to].running {
            process.replica.on_message(from, message, clock);
        }
        self.drive(to)
    }

    fn wake(&mut self, at: At, wake: basalt_engine::types::Millis) {
        let node = &mut self.nodes[at.member];
        let after = node.until(wake, self.now_us);
        let due = self.now_us + after;
        if let Some(process) = &mut node.running
            && process.wake_us.is_none_or(|other| other > due)
        {
            process.wake_us = Some(due);
            self.schedule(after, Event::Wake(at));
        }
    }

    /// Starts a member on its disk.
    fn start(&mut self, member: usize, dies: bool) -> Result<(), Violation> {
        let now_us = self.now_us;
        let node = &mut self.nodes[member];
        if node.running.is_some() || node.is_gone {
            return Ok(());
        }
        if dies {
            self.tally.add("crashes in recovery", 1);
            let chances = node.rng.u8(0..9);
            node.recover_and_die(now_us, chances);
        }
        match node.start(now_us) {
            Ok(()) => {
                self.tally.add("starts", 1);
                self.drive(member)
            }
            Err(refused) if refused.is_disk_error() => {
                self.tally.add("starts on a failing disk", 1);
                self.schedule(RESTART_US, Event::Start(member, false));
                Ok(())
            }
            Err(refused) if node.is_damaged => {
                self.trace.note(now_us, format_args!("refused: {refused}"));
                self.tally.add("damage refused", 1);
                self.on_refused(member);
                Ok(())
            }
            Err(refused) => Err(format!("member {member} refuses to start: {refused}")),
        }
    }
}

/// A run that makes more events than this goes round in circles.
const EVENTS_MAX: u64 = 1_000_000;

/// Until a process that ended by itself is started again.
const RESTART_US: u64 = 30_000;

/// How long a member lives on at most after its disk failed.
const FAILED_FOR_US: u64 = 500_000;
