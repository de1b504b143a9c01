//! Leases on this member: it counts their time while it leads, answers what clients ask of them, and proposes what time decides.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use basalt_pb::etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest};
use basalt_pb::hot;

use super::{Job, Proposals, Replica, Stopping};
use crate::apply::{Outcome, Refused};
use crate::command::{Fence, LeaseRevoke, field};
use crate::lease::{Change, Due, GrantsImage, Lessor, Renewal};
use crate::limits::{LEASE_ASKS_MAX, LEASE_KEYS_A_TURN, LEASE_LISTINGS_MAX};
use crate::types::{LeaseId, Millis, ReplyTo};

/// A question about leases: it is answered outside of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Lease.LeaseKeepAlive, one message of it.
    KeepAlive(LeaseId),
    /// Lease.LeaseTimeToLive.
    TimeToLive {
        /// Which lease.
        id: LeaseId,
        /// Whether its keys are wanted too.
        keys: bool,
    },
    /// Lease.LeaseLeases, which any member answers.
    Leases,
}

/// The clock, and who waits.
#[derive(Debug, Default)]
pub(super) struct Leasing {
    lessor: Lessor,
    /// At most `LEASE_ASKS_MAX` with those of `renewing`.
    asks: VecDeque<(ReplyTo, Ask)>,
    /// Renewals that wait for an entry: a revoke, or one that takes a checkpoint back.
    renewing: BTreeMap<LeaseId, Vec<ReplyTo>>,
    renewing_count: usize,
    /// Lists of keys in the making, at most `LEASE_LISTINGS_MAX`.
    listings: VecDeque<Listing>,
    /// For the worker.
    jobs: Vec<LeasesJob>,
    /// Scratch space.
    changes: Vec<Change>,
    due: Due,
}

/// The answer to a LeaseTimeToLive with keys.
#[derive(Debug)]
struct Listing {
    to: ReplyTo,
    id: LeaseId,
    generation: u64,
    /// The first key that is not listed.
    from: Vec<u8>,
    /// Field 5 of the answer.
    keys: Vec<u8>,
}

/// Makes the list of all leases in the order of their ends, which takes long if there are many. For the background worker.
#[derive(Debug)]
pub struct LeasesJob {
    pub(super) to: ReplyTo,
    /// The answer, first its header alone.
    answer: Vec<u8>,
    leases: GrantsImage,
    /// By slot.
    deadlines: Vec<Millis>,
}

impl Replica {
    /// Takes over questions; they are answered at this turn's end at the earliest.
    pub(super) fn take_asks(&mut self, asks: &mut Vec<(ReplyTo, Ask)>) {
        let failed = self.failure.is_some();
        for (to, ask) in asks.drain(..) {
            if failed {
                let refused = self.refuses().unwrap_or(Refused::Stopped);
                self.replies.push(to, Outcome::Refused(refused));
            } else if self.leases.asks.len() + self.leases.renewing_count >= LEASE_ASKS_MAX {
                let refused = Refused::TooManyRequests;
                self.replies.push(to, Outcome::Refused(refused));
            } else {
                self.leases.asks.push_back((to, ask));
            }
        }
    }

    /// Lets time pass for leases. Before the turn publishes; when to come back at the latest.
    pub(super) fn lease_turn(&mut self, now: Millis) -> Option<Millis> {
        self.tell_lessor(now);
        let is_over = self.stopping != Stopping::No;
        // A leader knows what there is once an entry of its own term is applied.
        let applied = self.raft.log().applied().index;
        let own = self.raft.led_from();
        let leads = own.is_some_and(|index| index <= applied) && !is_over;
        if leads && !self.leases.lessor.is_primary() {
            self.leases.lessor.promote(now, self.config.raft.election);
        } else if !leads && self.leases.lessor.is_primary() {
            self.leases.lessor.demote();
            for to in mem::take(&mut self.leases.renewing).into_values().flatten() {
                self.replies.push(to, Outcome::Refused(Refused::NoLeader));
            }
            self.leases.renewing_count = 0;
        }
        self.answer_asks(now);
        let has_more = self.list_keys(now);
        if !leads {
            return has_more.then_some(now);
        }
        // While a CORRUPT alarm refuses every revoke, nothing ends.
        let is_corrupt = self.machine.alarms().is_corrupt();
        if !is_corrupt {
            let Leasing { lessor, due, .. } = &mut self.leases;
            lessor.poll(self.machine.store().grants(), now, due);
        }
        self.propose_due();
        let wake = match is_corrupt {
            true => None,
            false => self.leases.lessor.wake(self.machine.store().grants()),
        };
        if has_more { Some(now) } else { wake }
    }

    /// Takes what the worker is to do.
    pub(super) fn take_lease_jobs(&mut self, jobs: &mut Vec<Job>) {
        let made = self.leases.jobs.drain(..);
        jobs.extend(made.map(|job| Job::Leases(Box::new(job))));
    }

    /// Tells everybody who waits that this member has stopped.
    pub(super) fn fail_asks(&mut self, refused: Refused) {
        let Leasing {
            asks,
            renewing,
            listings,
            renewing_count,
            ..
        } = &mut self.leases;
        let renewing = mem::take(renewing).into_values().flatten();
        let waiting = asks.drain(..).map(|(to, _)| to).chain(renewing);
        for to in waiting.chain(listings.drain(..).map(|listing| listing.to)) {
            self.replies.push(to, Outcome::Refused(refused));
        }
        *renewing_count = 0;
    }

    /// What entries have changed of the leases since the last turn.
    fn tell_lessor(&mut self, now: Millis) {
        let mut changes = mem::take(&mut self.leases.changes);
        self.machine.take_lease_changes(&mut changes);
        for change in changes.drain(..) {
            self.leases.lessor.on_change(change, now);
            let counts = self.published.leases();
            let id = match change {
                Change::Granted { ttl, .. } => {
                    counts.on_granted(ttl);
                    continue;
                }
                Change::Revoked { id, .. } => {
                    counts.on_revoked();
                    id
                }
                Change::Checkpointed { id, .. } => id,
            };
            let waiters = self.leases.renewing.remove(&id).unwrap_or_default();
            self.leases.renewing_count -= waiters.len();
            for to in waiters {
                self.leases.asks.push_back((to, Ask::KeepAlive(id)));
            }
        }
        self.leases.changes = changes;
    }

    /// Answers what can be answered now. What cannot be waits for a later turn.
    fn answer_asks(&mut self, now: Millis) {
        for _ in 0..self.leases.asks.len() {
            let Some((to, ask)) = self.leases.asks.pop_front() else {
                return;
            };
            if let Ask::Leases = ask {
                self.list_leases(to);
                continue;
            }
            if !self.raft.is_leader() {
                self.replies.push(to, Outcome::Refused(Refused::NoLeader));
                continue;
            }
            let grants = self.machine.store().grants();
            let (id, wants_keys) = match ask {
                Ask::KeepAlive(id) => (id, false),
                Ask::TimeToLive { id, keys } => (id, keys),
                Ask::Leases => unreachable!("answered above"),
            };
            // A lease that is missing may have been granted by an entry that is not applied here yet.
            let log = self.raft.log();
            let may_come = grants.get(id).is_none() && log.applied().index < log.committed();
            let is_partly = wants_keys && self.machine.is_mid_entry();
            if !self.leases.lessor.is_primary() || may_come || is_partly {
                self.leases.asks.push_back((to, ask));
                continue;
            }
            match ask {
                Ask::KeepAlive(id) => self.renew(to, id, now),
                Ask::TimeToLive { id, keys } => self.time_to_live(to, id, keys, now),
                Ask::Leases => unreachable!("answered above"),
            }
        }
    }

    fn renew(&mut self, to: ReplyTo, id: LeaseId, now: Millis) {
        let grants = self.machine.store().grants();
        let ttl = match self.leases.lessor.renew(grants, id, now) {
            Renewal::Renewed(ttl) => {
                self.published.leases().on_renewed();
                ttl
            }
            Renewal::Missing => 0,
            waits @ (Renewal::Over | Renewal::Shortened) => {
                let waiters = self.leases.renewing.entry(id).or_default();
                if waits == Renewal::Shortened && waiters.is_empty() {
                    self.leases.due.checkpoints.push((id, 0));
                }
                waiters.push(to);
                self.leases.renewing_count += 1;
                return;
            }
        };
        let revision = self.shown_revision();
        let out = &mut self.replies.bytes;
        let outcome = self.machine.answer_now(revision, out, |out| {
            hot::put_int_field(out, 2, id.0);
            hot::put_int_field(out, 3, ttl);
        });
        self.replies.push(to, outcome);
    }

    fn time_to_live(&mut self, to: ReplyTo, id: LeaseId, keys: bool, now: Millis) {
        let lease = self.machine.store().grants().get(id);
        let Some((_, lease)) = lease.filter(|_| keys) else {
            return self.answer_time_to_live(to, id, &[], now);
        };
        if self.leases.listings.len() >= LEASE_LISTINGS_MAX {
            let refused = Refused::TooManyRequests;
            return self.replies.push(to, Outcome::Refused(refused));
        }
        self.leases.listings.push_back(Listing {
            to,
            id,
            generation: lease.generation,
            from: Vec::new(),
            keys: Vec::new(),
        });
    }

    fn answer_time_to_live(&mut self, to: ReplyTo, id: LeaseId, keys: &[u8], now: Millis) {
        let found = self.machine.store().grants().get(id);
        let lessor = &self.leases.lessor;
        let left = found.and_then(|(slot, lease)| {
            let left = lessor.left(slot, lease, now)?;
            Some((left, lease.ttl))
        });
        let revision = self.shown_revision();
        let out = &mut self.replies.bytes;
        let outcome = self.machine.answer_now(revision, out, |out| {
            hot::put_int_field(out, 2, id.0);
            match left {
                Some((left, ttl)) => {
                    // Whole seconds, of a time that is never whole where it is measured more finely, as in etcd.
                    let seconds = left.0.saturating_sub(1) / 1000;
                    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
                    hot::put_int_field(out, 3, seconds);
                    hot::put_int_field(out, 4, ttl);
                    out.extend_from_slice(keys);
                }
                // There is no such lease.
                None => hot::put_int_field(out, 3, -1),
            }
        });
        self.replies.push(to, outcome);
    }

    /// Goes on with lists of keys. True: there is more to do.
    fn list_keys(&mut self, now: Millis) -> bool {
        if self.machine.is_mid_entry() {
            return !self.leases.listings.is_empty();
        }
        let mut left = LEASE_KEYS_A_TURN;
        while left > 0
            && let Some(mut listing) = self.leases.listings.pop_front()
        {
            let store = self.machine.store();
            let generation = |(_, lease): (_, &crate::lease::Lease)| lease.generation;
            if store.grants().get(listing.id).map(generation) != Some(listing.generation) {
                // It has ended meanwhile, or another one has begun: that has no part in the list.
                self.answer_time_to_live(listing.to, listing.id, &[], now);
                continue;
            }
            let mut keys = store.attached().keys_from(listing.id, &listing.from);
            let next = loop {
                let next = keys.next();
                let Some(key) = next.filter(|_| left > 0) else {
                    break next.map(<[u8]>::to_vec);
                };
                left -= 1;
                hot::put_bytes_field(&mut listing.keys, 5, key);
            };
            drop(keys);
            if let Some(next) = next {
                listing.from = next;
                self.leases.listings.push_back(listing);
            } else {
                self.answer_time_to_live(listing.to, listing.id, &listing.keys, now);
            }
        }
        !self.leases.listings.is_empty()
    }

    fn list_leases(&mut self, to: ReplyTo) {
        if self.leases.jobs.len() >= LEASE_LISTINGS_MAX {
            let refused = Refused::TooManyRequests;
            return self.replies.push(to, Outcome::Refused(refused));
        }
        let grants = self.machine.store().grants();
        let mut answer = Vec::new();
        let revision = self.shown_revision();
        self.machine.answer_now(revision, &mut answer, |_| {});
        self.leases.jobs.push(LeasesJob {
            to,
            answer,
            leases: grants.image().clone(),
            deadlines: self.leases.lessor.deadlines(grants),
        });
    }

    /// Into the log with what is due, before what clients have proposed.
    fn propose_due(&mut self) {
        let Leasing { due, .. } = &mut self.leases;
        if due.revokes.is_empty() && due.checkpoints.is_empty() {
            return;
        }
        let ids = &self.config.request_ids;
        let mut batch = Proposals::new();
        let mut body = Vec::new();
        for (id, generation) in due.revokes.drain(..) {
            let term = self.raft.term();
            let fence = Some(Fence { term, generation });
            body.clear();
            LeaseRevoke { id, fence }.write(&mut body);
            batch.push(None, ids.draw(), field::LEASE_REVOKE, &body);
        }
        self.published.leases().on_expired(batch.len() as u64);
        if !batch.is_empty() {
            self.push_front(batch);
        }
        let due = &mut self.leases.due;
        if due.checkpoints.is_empty() {
            return;
        }
        let checkpoint = |(id, remaining_ttl): (LeaseId, i64)| LeaseCheckpoint {
            id: id.0,
            remaining_ttl,
        };
        let request = LeaseCheckpointRequest {
            checkpoints: due.checkpoints.drain(..).map(checkpoint).collect(),
        };
        self.propose_own(field::LEASE_CHECKPOINT, &request);
    }

    /// The revision that readers see at least when the turn's answers go out.
    fn shown_revision(&self) -> i64 {
        match self.machine.is_mid_entry() {
            true => self.reader.pin().view().revision(),
            false => self.machine.store().revision(),
        }
    }
}

impl LeasesJob {
    /// Makes the whole answer.
    pub(super) fn run(&mut self) -> Vec<u8> {
        let slots = self.leases.slots().zip(&self.deadlines);
        let live = slots.filter(|(lease, _)| lease.id != LeaseId(0));
        let mut leases: Vec<(Millis, LeaseId)> = live.map(|(it, end)| (*end, it.id)).collect();
        leases.sort_unstable();
        let mut answer = mem::take(&mut self.answer);
        for (_, id) in leases {
            let status = hot::begin_nested(&mut answer, 2);
            hot::put_int_field(&mut answer, 1, id.0);
            hot::end_nested(&mut answer, status);
        }
        answer
    }
}
