//! Every order of events of a small cluster on the real consensus core, and what must hold in each state.
//!
//! Three members, a network that loses, doubles and reorders, disks that are slow, and crashes that take what they have
//! not written. The search is exhaustive within [`Bounds`]: a message that is never delivered is lost, one that stays after
//! its delivery is doubled.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use basalt_engine::raft::config::{Config, Step};
use basalt_engine::raft::log::{Log, Mark};
use basalt_engine::raft::message::{Ballot, Body, Message};
use basalt_engine::raft::{Raft, Settings, framed};
use basalt_engine::run::split_entry;
use basalt_engine::types::{HardState, Index, MemberId, Millis, Run, RunKind, Term};

/// How much may happen on one path.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Bounds {
    /// Elections that begin.
    pub timeouts: u8,
    /// Entries that are proposed.
    pub proposals: u8,
    /// Members that lose what is not durable.
    pub crashes: u8,
    /// Messages that are delivered twice.
    pub doubles: u8,
    /// States after which the search ends although there are more.
    pub states_max: u64,
}

/// How a search ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Searched {
    /// Different states that were looked at.
    pub states: u64,
    /// Steps that were taken to find them.
    pub steps: u64,
    /// States in which somebody leads.
    pub led: u64,
    /// States in which an entry that was proposed is committed.
    pub committed: u64,
    /// The longest path.
    pub depth: usize,
    /// Whether there is no other state within the bounds.
    pub is_exhausted: bool,
}

/// What broke, and the events that led to it.
pub type Violation = String;

const MEMBERS: usize = 3;

/// One state of the cluster.
#[derive(Clone, Hash)]
struct State {
    members: Vec<Member>,
    /// What is on the way, sorted: from, to, what.
    network: BTreeSet<(usize, usize, Vec<u8>)>,
    bounds: Bounds,
    /// What must never change once it is so: who led a term, whom a member voted for in it, what was committed.
    leaders: BTreeMap<u64, usize>,
    votes: BTreeMap<(u64, usize), usize>,
    committed: Vec<Entry>,
}

#[derive(Clone, Hash)]
struct Member {
    raft: Raft,
    /// What a crash leaves.
    disk: Disk,
    /// What the disk was given and has not answered.
    flying: Option<Disk>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Disk {
    hard: HardOnDisk,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct HardOnDisk {
    term: u64,
    vote: Option<u64>,
    commit: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry {
    term: u64,
    is_change: bool,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Event {
    Timeout(usize),
    Propose(usize),
    Flushed(usize),
    Crash(usize),
    Deliver {
        from: usize,
        to: usize,
        bytes: Vec<u8>,
        stays: bool,
    },
}

/// Looks at every state within `bounds`.
///
/// # Errors
/// The first violation.
pub fn search(bounds: Bounds) -> Result<Searched, Violation> {
    let mut seen = HashSet::new();
    let mut found = Searched::default();
    let first = State::first(bounds)?;
    seen.insert(first.digest());
    let events = first.events();
    let mut path: Vec<(State, Vec<Event>, Event)> = vec![(first, events, Event::Timeout(0))];
    while let Some((state, events, _)) = path.last_mut() {
        let Some(event) = events.pop() else {
            path.pop();
            continue;
        };
        if found.states >= bounds.states_max {
            return Ok(found);
        }
        let mut next = state.clone();
        found.steps += 1;
        if let Err(broken) = next.take(&event) {
            let mut told = format!("{broken}\n");
            for (_, _, event) in path.iter().skip(1) {
                told += &format!("  {}\n", event.told());
            }
            return Err(told + &format!("  {}\n", event.told()));
        }
        if !seen.insert(next.digest()) {
            continue;
        }
        found.states += 1;
        found.led += u64::from(next.members.iter().any(|it| it.raft.is_leader()));
        let is_proposal = |entry: &Entry| !entry.is_change && !entry.bytes.is_empty();
        found.committed += u64::from(next.committed.iter().any(is_proposal));
        let events = next.events();
        path.push((next, events, event));
        found.depth = found.depth.max(path.len());
    }
    found.is_exhausted = true;
    Ok(found)
}

impl State {
    fn first(bounds: Bounds) -> Result<Self, Violation> {
        let members = (0..MEMBERS).map(|number| {
            let empty = Log::new(Mark::default());
            let mut raft = made(number, HardState::default(), Config::default(), empty);
            let change = |number| (Step::AddVoter(id(number)), vec![number as u8]);
            raft.bootstrap(&(0..MEMBERS).map(change).collect::<Vec<_>>());
            let mut member = Member {
                raft,
                disk: Disk::default(),
                flying: None,
            };
            // The first start ends before anything else happens.
            member.stage();
            member.on_flushed();
            member
        });
        let mut state = Self {
            members: members.collect(),
            network: BTreeSet::new(),
            bounds,
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            committed: Vec::new(),
        };
        for number in 0..MEMBERS {
            state.settle(number)?;
        }
        Ok(state)
    }

    fn digest(&self) -> u128 {
        let mut low = DefaultHasher::new();
        self.hash(&mut low);
        let mut high = DefaultHasher::new();
        1_u8.hash(&mut high);
        self.hash(&mut high);
        u128::from(low.finish()) | u128::from(high.finish()) << 64
    }

    /// Whatever may happen next.
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for (number, member) in self.members.iter().enumerate() {
            if self.bounds.timeouts > 0 && !member.raft.is_leader() {
                events.push(Event::Timeout(number));
            }
            if self.bounds.proposals > 0 && member.raft.takes_proposals() {
                events.push(Event::Propose(number));
            }
            if member.flying.is_some() {
                events.push(Event::Flushed(number));
            }
            if self.bounds.crashes > 0 {
                events.push(Event::Crash(number));
            }
        }
        for (from, to, bytes) in &self.network {
            for stays in [false, true] {
                if !stays || self.bounds.doubles > 0 {
                    events.push(Event::Deliver {
                        from: *from,
                        to: *to,
                        bytes: bytes.clone(),
                        stays,
                    });
                }
            }
        }
        events
    }

    fn take(&mut self, event: &Event) -> Result<(), Violation> {
        let number = match event {
            Event::Timeout(number) => {
                self.bounds.timeouts -= 1;
                self.members[*number].raft.campaign();
                *number
            }
            Event::Propose(number) => {
                self.bounds.proposals -= 1;
                let entry = framed(&[self.bounds.proposals + 1]);
                let proposed = self.members[*number]
                    .raft
                    .propose(RunKind::Normal, 1, entry);
                assert!(proposed.is_ok());
                *number
            }
            Event::Flushed(number) => {
                self.members[*number].on_flushed();
                *number
            }
            Event::Crash(number) => {
                self.bounds.crashes -= 1;
                self.members[*number].crash(*number)?;
                *number
            }
            Event::Deliver {
                from,
                to,
                bytes,
                stays,
            } => {
                if *stays {
                    self.bounds.doubles -= 1;
                } else {
                    self.network.remove(&(*from, *to, bytes.clone()));
                }
                let message = Message::decode(bytes).map_err(|it| it.to_string())?;
                let raft = &mut self.members[*to].raft;
                raft.on_message(id(*from), message, Millis(0));
                *to
            }
        };
        self.settle(number)
    }

    /// Does what a member does at a turn's end, and looks at what must hold.
    fn settle(&mut self, number: usize) -> Result<(), Violation> {
        let member = &mut self.members[number];
        member.apply();
        member.raft.flush();
        member.stage();
        let durable = HardState {
            term: Term(member.disk.hard.term),
            vote: member.disk.hard.vote.map(MemberId),
            commit: Index(member.disk.hard.commit),
        };
        let mut out = Vec::new();
        member.raft.outbox().take(durable, &mut out);
        let (term, leads) = (member.raft.term().0, member.raft.is_leader());
        let entries = entries_of(member.raft.log());
        let committed = member.raft.log().committed().0 as usize;
        for (to, message) in out {
            if let Body::VoteAnswer {
                ballot: Ballot::Real,
                granted: true,
            } = message.body
            {
                let to = to.0 as usize - 1;
                let first = *self.votes.entry((message.term.0, number)).or_insert(to);
                if first != to {
                    return Err(format!("member {number} votes twice in term {term}"));
                }
            }
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            self.network.insert((number, to.0 as usize - 1, bytes));
        }
        if leads {
            let first = *self.leaders.entry(term).or_insert(number);
            if first != number {
                return Err(format!("term {term} has two leaders"));
            }
            // Leader completeness.
            let known = self.committed.len().min(entries.len());
            let has_all = self.committed.len() <= entries.len();
            let newest = *self.leaders.keys().next_back().expect("just added");
            if term == newest && (!has_all || entries[..known] != self.committed[..known]) {
                return Err(format!(
                    "the leader of term {term} misses committed entries"
                ));
            }
        }
        // State machine safety and log matching of what is committed.
        let both = committed.min(self.committed.len());
        if entries[..both] != self.committed[..both] {
            return Err(format!("member {number} commits other entries"));
        }
        if committed > self.committed.len() {
            self.committed = entries[..committed].to_vec();
        }
        // Durable commit: a majority of disks has it.
        let holders = |upto: usize| {
            let has = |it: &&Member| it.disk.entries.get(..upto) == Some(&self.committed[..upto]);
            self.members.iter().filter(has).count()
        };
        if 2 * holders(self.committed.len()) <= MEMBERS {
            return Err("what is committed is not durable on a majority".to_owned());
        }
        Ok(())
    }
}

impl Member {
    /// Gives the disk what is new, if it has nothing to do.
    fn stage(&mut self) {
        while self.flying.is_none() {
            let last = self.raft.log().last().index;
            let hard = self.raft.hard_at(last);
            let staged = Disk {
                hard: HardOnDisk {
                    term: hard.term.0,
                    vote: hard.vote.map(|it| it.0),
                    // It rides on entries only.
                    commit: self.disk.hard.commit,
                },
                entries: entries_of(self.raft.log()),
            };
            if staged == self.disk {
                return;
            }
            let mut staged = staged;
            staged.hard.commit = hard.commit.0;
            while let Some(last) = self.raft.log().next_to_stage().map(|run| run.last()) {
                self.raft.log_mut().on_staged(last);
            }
            self.flying = Some(staged);
        }
    }

    fn on_flushed(&mut self) {
        let Some(flying) = self.flying.take() else {
            return;
        };
        let last = Index(flying.entries.len() as u64);
        self.disk = flying;
        self.raft.on_durable(last);
    }

    fn apply(&mut self) {
        while self.raft.log().next_to_apply().is_some() {
            self.raft.log_mut().on_applied();
        }
    }

    /// Starts from the disk.
    fn crash(&mut self, number: usize) -> Result<(), Violation> {
        let hard = HardState {
            term: Term(self.disk.hard.term),
            vote: self.disk.hard.vote.map(MemberId),
            commit: Index(self.disk.hard.commit),
        };
        let mut log = Log::new(Mark::default());
        for (at, entry) in self.disk.entries.iter().enumerate() {
            let run = Run {
                kind: match entry.is_change {
                    true => RunKind::ConfChange,
                    false => RunKind::Normal,
                },
                term: Term(entry.term),
                first: Index(at as u64 + 1),
                count: 1,
                bytes: &framed(&entry.bytes),
            };
            log.restore(run).map_err(|bad| bad.to_string())?;
        }
        log.commit_to(hard.commit.min(log.last().index));
        while log.next_to_apply().is_some() {
            log.on_applied();
        }
        // Nobody is added or removed here.
        let mut config = Config::default();
        (0..MEMBERS).for_each(|other| config.apply(Step::AddVoter(id(other))));
        self.raft = made(number, hard, config, log);
        self.flying = None;
        Ok(())
    }
}

impl Event {
    fn told(&self) -> String {
        match self {
            Self::Deliver {
                from,
                to,
                bytes,
                stays,
            } => {
                let message = Message::decode(bytes);
                format!("{from} to {to}, stays {stays}: {message:?}")
            }
            other => format!("{other:?}"),
        }
    }
}

fn made(number: usize, hard: HardState, config: Config, log: Log) -> Raft {
    let settings = Settings {
        // No time passes: whoever is asked for a vote has not heard of a leader lately.
        election: Millis(0),
        heartbeat: Millis(0),
        catch_up_bytes: 1 << 20,
        catch_up_entries: u64::MAX,
        append_bytes: 1 << 20,
        seed: 0,
    };
    Raft::new(id(number), hard, config, log, settings)
}

fn id(number: usize) -> MemberId {
    MemberId(number as u64 + 1)
}

fn entries_of(log: &Log) -> Vec<Entry> {
    let mut entries = Vec::new();
    for run in log.runs_from(Index(1), usize::MAX).iter() {
        let mut rest = run.bytes;
        while let Some((bytes, after)) = split_entry(rest) {
            rest = after;
            entries.push(Entry {
                term: run.term.0,
                is_change: run.kind == RunKind::ConfChange,
                bytes: bytes.to_vec(),
            });
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A short search must find leaders and committed entries, or the long one proves nothing.
    #[test]
    fn the_search_reaches_leaders_and_commits() {
        let bounds = Bounds {
            timeouts: 1,
            proposals: 1,
            crashes: 0,
            doubles: 0,
            states_max: 4_000,
        };
        let found = search(bounds).expect("no violation");
        assert!(found.led > 100, "{found:?}");
        assert!(found.committed > 10, "{found:?}");
    }
}
