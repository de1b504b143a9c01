//! Leases of two members against a plain list, under clocks that drift: grants, renewals, keys, checkpoints, restarts, changes of the leader
//! and a leader that does not know yet that it is none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use basalt_pb::etcdserverpb as pb;
use basalt_pb::hot;
use prost::Message;

use super::{Applied, Machine, Meta, Outcome, Quota, Refused};
use crate::command::{Fence, LeaseRevoke, field};
use crate::lease::{Due, Lessor, Renewal};
use crate::mvcc::{KeyRange, Resume, SliceBound, Store, StoreConfig, Want};
use crate::types::{ClusterId, LeaseId, MemberId, Millis, Term};

/// Plays a game that the bytes describe.
///
/// # Panics
/// A member does something else than the list, a lease ends early, or one never ends.
pub fn fuzz_lease_model(data: &[u8]) {
    let mut input = data.iter().copied();
    let mut play = Play::new();
    while let Some(what) = input.next() {
        let mut draw = || input.next().unwrap_or(0);
        match what % 16 {
            0 | 1 => {
                let (id, ttl) = (draw(), i64::from(draw()) * 4 + 2);
                let request = pb::LeaseGrantRequest { ttl, id: lease(id) };
                play.propose(field::LEASE_GRANT, request.encode_to_vec());
            }
            2..=4 => {
                let request = pb::PutRequest {
                    key: vec![draw() % KEYS].into(),
                    lease: lease(draw()),
                    ..pb::PutRequest::default()
                };
                play.propose(field::PUT, request.encode_to_vec());
            }
            5 => {
                let first = draw() % KEYS;
                let request = pb::DeleteRangeRequest {
                    key: vec![first].into(),
                    range_end: vec![first + 1 + draw() % 3].into(),
                    prev_kv: false,
                };
                play.propose(field::DELETE_RANGE, request.encode_to_vec());
            }
            6 => {
                let id = lease(draw());
                let request = pb::LeaseRevokeRequest { id };
                play.propose(field::LEASE_REVOKE, request.encode_to_vec());
            }
            7..=9 => play.renew(LeaseId(lease(draw()))),
            10 | 11 => play.pass(u64::from(draw()).pow(2) * 20),
            12 => play.tick(draw() % 2 == 0),
            13 => play.change_leader(draw()),
            14 => play.restart(usize::from(draw()) % 2),
            _ => play.deliver(draw()),
        }
    }
    play.finish();
}

/// One of some ids; 0 is none.
fn lease(byte: u8) -> i64 {
    i64::from(byte % 6) - 1
}

/// One member: the state, and the clock if it believes that it leads.
struct Member {
    machine: Machine,
    lessor: Lessor,
    /// Of its clock to the true time, in thousandths.
    rate: u64,
    /// The term that it leads, if it believes that.
    leads: Option<Term>,
    changes: Vec<crate::lease::Change>,
}

/// What the list knows of a lease.
#[derive(Clone, Debug)]
struct Known {
    ttl: i64,
    generation: u64,
    /// True time of the grant or of the last renewal that was answered.
    renewed: u64,
    keys: BTreeSet<u8>,
}

struct Play {
    members: [Member; 2],
    /// Entries with their terms, from index 1.
    log: Vec<(Term, Vec<u8>)>,
    term: Term,
    leader: usize,
    /// True time in milliseconds.
    now: u64,
    leases: BTreeMap<i64, Known>,
    keys: BTreeMap<u8, i64>,
    /// What a leader has proposed by itself and the network has not delivered.
    late: VecDeque<(u32, Vec<u8>)>,
}

impl Play {
    fn new() -> Self {
        let member = |rate| Member {
            machine: new_machine(Store::new(StoreConfig::default()).0, Meta::default()),
            lessor: Lessor::new(),
            rate,
            leads: None,
            changes: Vec::new(),
        };
        let mut play = Self {
            members: [member(1000), member(1000 + DRIFT)],
            log: Vec::new(),
            term: Term(0),
            leader: 0,
            now: 0,
            leases: BTreeMap::new(),
            keys: BTreeMap::new(),
            late: VecDeque::new(),
        };
        play.change_leader(0);
        play
    }

    /// Into the log of the leader of now, whoever proposes it, and into both states.
    fn propose(&mut self, number: u32, body: Vec<u8>) {
        let mut entry = Vec::new();
        hot::write_internal_raft_request(&mut entry, 1, number, &body);
        self.log.push((self.term, entry));
        let applied = [0, 1].map(|member| self.apply_next(member));
        assert_eq!(applied[0], applied[1]);
        let refused = match applied[0] {
            Applied::Done(Outcome::Refused(refused)) => Some(refused),
            _ => None,
        };
        assert_eq!(self.expect(number, &body), refused);
        self.check();
    }

    fn apply_next(&mut self, member: usize) -> Applied {
        let now = self.clock(member);
        let Member {
            machine,
            lessor,
            changes,
            ..
        } = &mut self.members[member];
        let index = machine.applied().0.next();
        let (term, entry) = &self.log[index.0 as usize - 1];
        let mut out = Vec::new();
        let applied = loop {
            // Few enough that leases of many keys take several.
            machine.begin_slice(SliceBound {
                records: 40,
                bytes: 1000,
            });
            match machine.apply(index, *term, entry, &mut out) {
                Ok(applied) => break applied,
                Err(halt) => assert_eq!(halt, super::Halt::More),
            }
        };
        machine.take_lease_changes(changes);
        for change in changes.drain(..) {
            lessor.on_change(change, now);
        }
        machine.store_mut().publish();
        match applied {
            refused @ Applied::Done(Outcome::Refused(_)) => refused,
            // A restarted member counts its revisions anew.
            _ => Applied::Done(Outcome::Encoded { start: 0, end: 0 }),
        }
    }

    /// What the list says of an entry; it follows it.
    fn expect(&mut self, number: u32, body: &[u8]) -> Option<Refused> {
        match number {
            field::LEASE_GRANT => {
                let request = pb::LeaseGrantRequest::decode(body).expect("made here");
                if request.id == 0 {
                    return Some(Refused::LeaseNotFound);
                }
                if self.leases.contains_key(&request.id) {
                    return Some(Refused::LeaseExists);
                }
                let known = Known {
                    ttl: request.ttl,
                    generation: self.log.len() as u64,
                    renewed: self.now,
                    keys: BTreeSet::new(),
                };
                self.leases.insert(request.id, known);
            }
            field::PUT => {
                let request = pb::PutRequest::decode(body).expect("made here");
                let (key, lease) = (request.key[0], request.lease);
                if lease != 0 && !self.leases.contains_key(&lease) {
                    return Some(Refused::LeaseNotFound);
                }
                self.detach(key);
                self.keys.insert(key, lease);
                if let Some(known) = self.leases.get_mut(&lease) {
                    known.keys.insert(key);
                }
            }
            field::DELETE_RANGE => {
                let request = pb::DeleteRangeRequest::decode(body).expect("made here");
                for key in request.key[0]..request.range_end[0] {
                    self.detach(key);
                    self.keys.remove(&key);
                }
            }
            field::LEASE_REVOKE => {
                let revoke = pb::LeaseRevokeRequest::decode(body).expect("made here");
                let Some(known) = self.leases.get(&revoke.id).cloned() else {
                    return Some(Refused::LeaseNotFound);
                };
                if let Some(fence) = fence_of(body) {
                    if fence.term != self.term || fence.generation != known.generation {
                        return Some(Refused::LeaseNotFound);
                    }
                    // C12: not before its time, but for what the clock is fast.
                    let least = known.ttl.unsigned_abs() * 1000 * 1000 / (1000 + DRIFT);
                    assert!(
                        self.now >= known.renewed + least,
                        "{known:?} at {}",
                        self.now
                    );
                }
                for key in &known.keys {
                    self.keys.remove(key);
                }
                self.leases.remove(&revoke.id);
            }
            _ => {}
        }
        None
    }

    fn detach(&mut self, key: u8) {
        if let Some(lease) = self.keys.get(&key)
            && let Some(known) = self.leases.get_mut(lease)
        {
            known.keys.remove(&key);
        }
    }

    /// By the leader, which is sure that it is one.
    fn renew(&mut self, id: LeaseId) {
        let now = self.clock(self.leader);
        for _ in 0..2 {
            let Member {
                machine, lessor, ..
            } = &mut self.members[self.leader];
            let renewal = lessor.renew(machine.store().grants(), id, now);
            let known = self.leases.get_mut(&id.0);
            assert!(known.is_none() == (renewal == Renewal::Missing));
            match (renewal, known) {
                (Renewal::Renewed(ttl), Some(known)) => {
                    assert_eq!(ttl, known.ttl);
                    known.renewed = self.now;
                }
                (Renewal::Shortened, _) => {
                    let remaining_ttl = 0;
                    let checkpoints = vec![pb::LeaseCheckpoint {
                        id: id.0,
                        remaining_ttl,
                    }];
                    let request = pb::LeaseCheckpointRequest { checkpoints };
                    self.propose(field::LEASE_CHECKPOINT, request.encode_to_vec());
                    continue;
                }
                _ => {}
            }
            return;
        }
        panic!("a renewal is shortened once");
    }

    fn pass(&mut self, millis: u64) {
        self.now += millis;
    }

    /// Lets every member that believes to lead look at its leases. What it proposes may come late.
    fn tick(&mut self, is_late: bool) {
        for member in 0..2 {
            let now = self.clock(member);
            let Some(term) = self.members[member].leads else {
                continue;
            };
            let Member {
                machine, lessor, ..
            } = &mut self.members[member];
            let mut due = Due::default();
            lessor.poll(machine.store().grants(), now, &mut due);
            for (id, generation) in due.revokes {
                let fence = Some(Fence { term, generation });
                let mut body = Vec::new();
                LeaseRevoke { id, fence }.write(&mut body);
                self.late.push_back((field::LEASE_REVOKE, body));
            }
            // The rest is worth nothing if it comes late: the lease may be renewed meanwhile.
            if member == self.leader && !due.checkpoints.is_empty() {
                let checkpoint = |(id, remaining_ttl): (LeaseId, i64)| pb::LeaseCheckpoint {
                    id: id.0,
                    remaining_ttl,
                };
                let checkpoints = due.checkpoints.into_iter().map(checkpoint).collect();
                let request = pb::LeaseCheckpointRequest { checkpoints };
                self.propose(field::LEASE_CHECKPOINT, request.encode_to_vec());
            }
        }
        while !is_late && let Some((number, body)) = self.late.pop_front() {
            self.propose(number, body);
        }
    }

    /// Something that was late comes, or is lost.
    fn deliver(&mut self, which: u8) {
        if let Some((number, body)) = self.late.pop_front()
            && !which.is_multiple_of(4)
        {
            self.propose(number, body);
        }
    }

    /// Another term begins. The old leader may not have heard of it.
    fn change_leader(&mut self, how: u8) {
        self.term = self.term.next();
        if !how.is_multiple_of(3) {
            self.step_down(self.leader);
        }
        self.leader = usize::from(how % 2);
        self.step_down(self.leader);
        self.log.push((self.term, Vec::new()));
        for member in 0..2 {
            self.apply_next(member);
        }
        let now = self.clock(self.leader);
        let leader = &mut self.members[self.leader];
        leader.leads = Some(self.term);
        leader.lessor.promote(now, ELECTION);
    }

    fn step_down(&mut self, member: usize) {
        let member = &mut self.members[member];
        member.leads = None;
        member.lessor.demote();
    }

    /// From its checkpoint; a leader comes back in a new term.
    fn restart(&mut self, member: usize) {
        let machine = &mut self.members[member].machine;
        let mut bytes = Vec::new();
        machine.meta().write(&mut bytes);
        let meta = Meta::read(&bytes).expect("just written");
        // The store's own checkpoints have a model of their own: here it is its keys that come back.
        let (mut store, _) = Store::new(StoreConfig::default());
        let mut write = store.write();
        let view = machine.store().view();
        let (mut resume, bound) = (Resume::default(), SliceBound::NONE);
        let all = KeyRange::All;
        view.visit(
            &all,
            view.revision(),
            Want::Keys,
            &mut resume,
            bound,
            |key| {
                write.put(key.key, b"", key.lease).expect("in memory");
                core::ops::ControlFlow::Continue(())
            },
        )
        .expect("all is in memory");
        write.finish();
        self.step_down(member);
        self.members[member].machine = new_machine(store, meta);
        if member == self.leader {
            self.change_leader(u8::try_from(member).expect("two") + 2);
        }
        self.check();
    }

    /// Both members have what the list has.
    fn check(&self) {
        for member in &self.members {
            let store = member.machine.store();
            let grants = store.grants().image().sorted();
            let found = grants.iter().map(|it| (it.id.0, it.ttl, it.generation));
            let known = self.leases.iter();
            assert!(found.eq(known.map(|(id, it)| (*id, it.ttl, it.generation))));
            for (id, known) in &self.leases {
                let keys = store.attached().keys_from(LeaseId(*id), &[]);
                assert!(keys.eq(known.keys.iter().map(core::slice::from_ref)));
            }
            let view = store.view();
            let (mut resume, bound) = (Resume::default(), SliceBound::NONE);
            let (all, mut found) = (KeyRange::All, BTreeMap::new());
            view.visit(
                &all,
                view.revision(),
                Want::Keys,
                &mut resume,
                bound,
                |record| {
                    found.insert(record.key[0], record.lease.0);
                    core::ops::ControlFlow::Continue(())
                },
            )
            .expect("all is in memory");
            assert_eq!(found, self.keys);
        }
    }

    /// A leader that nobody disturbs ends every lease.
    fn finish(mut self) {
        self.late.clear();
        self.change_leader(1);
        for _ in 0..20 {
            self.pass(200_000);
            self.tick(false);
        }
        assert!(self.leases.is_empty(), "{:?}", self.leases);
        self.check();
        assert!(self.keys.values().all(|lease| *lease == 0));
    }

    fn clock(&self, member: usize) -> Millis {
        Millis(self.now * self.members[member].rate / 1000)
    }
}

fn new_machine(store: Store, meta: Meta) -> Machine {
    Machine::restore(ClusterId(1), MemberId(1), Quota::from_flag(-1), store, meta)
}

fn fence_of(body: &[u8]) -> Option<Fence> {
    let mut entry = Vec::new();
    hot::write_internal_raft_request(&mut entry, 1, field::LEASE_REVOKE, body);
    match crate::command::Command::read(&entry).expect("made here").1 {
        crate::command::Command::LeaseRevoke(revoke) => revoke.fence,
        other => panic!("unexpected {other:?}"),
    }
}

const KEYS: u8 = 24;
const ELECTION: Millis = Millis(1000);

/// How fast a member's clock is, in thousandths.
const DRIFT: u64 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    /// [LEASE-5] [LEASE-9] C3, C12: no lease ends early, none lives for ever, none comes back, whoever leads.
    #[test]
    fn leases_of_two_members_match_a_list() {
        let (seeds, bytes) = if cfg!(miri) { (2, 100) } else { (200, 600) };
        for seed in 0..seeds {
            let mut random = fastrand::Rng::with_seed(seed);
            let data: Vec<u8> = (0..bytes).map(|_| random.u8(..)).collect();
            fuzz_lease_model(&data);
        }
    }
}
