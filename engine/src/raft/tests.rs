mod election;
mod members;
mod reads;
mod replication;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::raft::log::Entry;

/// Members that talk through a network in memory. A disk is at once, unless it is told to hang.
struct Net {
    nodes: BTreeMap<u64, Node>,
    /// On the way: from, to, what.
    queue: VecDeque<(u64, u64, Message)>,
    /// Directed links that lose everything.
    cut: BTreeSet<(u64, u64)>,
    now: Millis,
}

struct Node {
    raft: Raft,
    /// What a crash leaves.
    durable: HardState,
    applied: Vec<Applied>,
    disk_hangs: bool,
}

/// Index, term and payload of an entry that was applied.
type Applied = (u64, u64, Vec<u8>);

fn settings(id: u64) -> Settings {
    Settings {
        seed: id,
        catch_up_bytes: 1 << 20,
        catch_up_entries: u64::MAX,
        ..Settings::default()
    }
}

fn change(id: u64) -> (Step, Vec<u8>) {
    (Step::AddVoter(MemberId(id)), vec![id as u8])
}

fn started(id: u64, voters: u64) -> Raft {
    let empty = Log::new(Mark::default());
    let (hard, config) = (HardState::default(), Config::default());
    let mut raft = Raft::new(MemberId(id), hard, config, empty, settings(id));
    raft.bootstrap(&(1..=voters).map(change).collect::<Vec<_>>());
    raft
}

impl Node {
    fn new(raft: Raft) -> Self {
        Self {
            raft,
            durable: HardState::default(),
            applied: Vec::new(),
            disk_hangs: false,
        }
    }

    /// Everything that needs no other member.
    fn run(&mut self, now: Millis) {
        self.raft.tick(now);
        if !self.disk_hangs {
            while let Some(last) = self.raft.log().next_to_stage().map(|run| run.last()) {
                self.raft.log_mut().on_staged(last);
            }
            self.raft.on_durable(self.raft.log().last().index);
            self.durable = self.raft.hard();
        }
        while let Some(Entry { at, kind, bytes }) = self.raft.log().next_to_apply() {
            let bytes = bytes.to_vec();
            self.applied.push((at.index.0, at.term.0, bytes.clone()));
            self.raft.log_mut().on_applied();
            if kind == RunKind::ConfChange {
                self.raft.on_config_applied(at.index, step_of(&bytes));
            }
        }
        self.raft.log_mut().release();
        self.raft.flush();
    }
}

/// The tests' configuration entries: a member's id, or that and what becomes of it.
fn step_of(entry: &[u8]) -> Step {
    let id = MemberId(u64::from(entry[0]));
    match entry.get(1) {
        None => Step::AddVoter(id),
        Some(b'l') => Step::AddLearner(id),
        Some(_) => Step::Remove(id),
    }
}

impl Net {
    fn new(voters: u64) -> Self {
        let nodes = (1..=voters).map(|id| (id, Node::new(started(id, voters))));
        Self {
            nodes: nodes.collect(),
            queue: VecDeque::new(),
            cut: BTreeSet::new(),
            now: Millis(0),
        }
    }

    /// Three members of whom the first leads.
    fn led() -> Self {
        let mut net = Self::new(3);
        net.settle();
        net.raft(1).campaign();
        net.settle();
        assert_eq!(net.leaders(), [1]);
        net
    }

    fn raft(&mut self, id: u64) -> &mut Raft {
        &mut self.nodes.get_mut(&id).expect("a member").raft
    }

    fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).expect("a member")
    }

    /// One step of everybody, then everything that is on the way arrives.
    fn step(&mut self) -> bool {
        for (id, node) in &mut self.nodes {
            node.run(self.now);
            let mut out = Vec::new();
            let durable = node.durable;
            node.raft.outbox().take(durable, &mut out);
            let out = out.into_iter().map(|(to, message)| (*id, to.0, message));
            self.queue.extend(out);
        }
        let moved = !self.queue.is_empty();
        while let Some((from, to, message)) = self.queue.pop_front() {
            if self.cut.contains(&(from, to)) {
                continue;
            }
            // As it travels.
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            let message = Message::decode(&bytes).expect("a message");
            if let Some(node) = self.nodes.get_mut(&to) {
                node.raft.on_message(MemberId(from), message, self.now);
            }
        }
        moved
    }

    /// Until nobody has anything to say.
    fn settle(&mut self) {
        for _ in 0..200 {
            if !self.step() {
                return;
            }
        }
        panic!("the members never settle");
    }

    /// Lets time pass in steps of a tenth of a heartbeat.
    fn pass(&mut self, millis: u64) {
        for _ in 0..millis / 10 {
            self.now = self.now.plus(Millis(10));
            self.settle();
        }
    }

    /// Cuts a member off from all others, both ways.
    fn isolate(&mut self, id: u64) {
        for other in self.nodes.keys().filter(|other| **other != id) {
            self.cut.insert((id, *other));
            self.cut.insert((*other, id));
        }
    }

    fn heal(&mut self) {
        self.cut.clear();
    }

    fn leaders(&self) -> Vec<u64> {
        let leaders = self.nodes.iter().filter(|(_, node)| node.raft.is_leader());
        leaders.map(|(id, _)| *id).collect()
    }

    /// The only leader, after as much time as an election may take.
    fn elected(&mut self) -> u64 {
        for _ in 0..1000 {
            self.pass(10);
            let mut leaders = self.leaders();
            let others = self.nodes.len() - 1;
            leaders.retain(|id| self.cut.iter().filter(|(from, _)| from == id).count() < others);
            if let [leader] = leaders[..] {
                return leader;
            }
        }
        panic!("nobody is elected");
    }

    fn propose(&mut self, id: u64, payload: &[u8]) -> Index {
        let proposed = self.raft(id).propose(RunKind::Normal, 1, framed(payload));
        proposed.expect("it leads")
    }

    fn propose_change(&mut self, id: u64, entry: &[u8]) {
        assert!(self.raft(id).takes_changes());
        let proposed = self.raft(id).propose(RunKind::ConfChange, 1, framed(entry));
        assert!(proposed.is_ok());
    }

    fn committed(&mut self, id: u64) -> u64 {
        self.raft(id).log().committed().0
    }

    /// What a member has applied of proposals.
    fn texts(&self, id: u64) -> Vec<String> {
        let applied = self.nodes[&id].applied.iter();
        let texts = applied.map(|(_, _, bytes)| String::from_utf8_lossy(bytes).into_owned());
        texts.filter(|text| text.len() > 2).collect()
    }

    /// Loses everything of a member that is not durable, and starts it again.
    fn crash(&mut self, id: u64) {
        let node = self.node(id);
        let (hard, old) = (node.durable, &node.raft);
        let mut log = Log::new(Mark::default());
        let durable = old.log().durable();
        for run in old.log().runs_from(Index(1), usize::MAX).iter() {
            let kept = u32::try_from(durable.0.saturating_sub(run.first.previous().0));
            let count = run.count.min(kept.expect("small"));
            if count > 0 {
                let len = crate::run::entries_prefix(run.bytes, count).expect("framed");
                let bytes = &run.bytes[..len];
                log.restore(crate::types::Run {
                    count,
                    bytes,
                    ..run
                })
                .expect("follows");
            }
        }
        log.commit_to(hard.commit.min(log.last().index));
        let mut config = Config::default();
        node.applied.clear();
        while let Some(Entry { at, kind, bytes }) = log.next_to_apply() {
            let bytes = bytes.to_vec();
            node.applied.push((at.index.0, at.term.0, bytes.clone()));
            if kind == RunKind::ConfChange {
                config.apply(step_of(&bytes));
            }
            log.on_applied();
        }
        let settings = Settings {
            seed: node.raft.settings().seed + 100,
            ..*node.raft.settings()
        };
        node.raft = Raft::new(MemberId(id), hard, config, log, settings);
        node.disk_hangs = false;
    }

    /// C4: whatever two members have applied at one index is the same.
    fn assert_agreement(&self) {
        let mut seen: BTreeMap<u64, &Applied> = BTreeMap::new();
        for entry in self.nodes.values().flat_map(|node| &node.applied) {
            assert_eq!(*seen.entry(entry.0).or_insert(entry), entry);
        }
    }
}
