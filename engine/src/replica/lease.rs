//! Leases on this member: it counts their time while it leads, answers what clients ask of them, and proposes what time decides.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use basalt_pb::etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest};
use basalt_pb::hot;

use super::asks::{Asked, Wants};
use super::{Job, Proposals, Replica, Stopping};
use crate::apply::{Outcome, Refused};
use crate::command::{Fence, LeaseRevoke, field};
use crate::lease::{Change, Due, GrantsImage, Lessor, Renewal};
use crate::limits::{LEASE_KEYS_A_TURN, LEASE_LISTINGS_MAX, LEASE_TIMERS_A_TURN};
use crate::mutant::{Mutant, is_on};
use crate::raft::message::Answer;
use crate::types::{Index, LeaseId, Millis, ReplyTo};

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

/// The clock, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Leasing {
    lessor: Lessor,
    /// Renewals that wait for an entry: a revoke, or one that takes a checkpoint back.
    renewing: BTreeMap<LeaseId, Vec<Asked>>,
    renewing_count: usize,
    /// Lists of keys in the making, at most `LEASE_LISTINGS_MAX`.
    listings: VecDeque<Listing>,
    /// Lists of leases, at most `LEASE_LISTINGS_MAX`. Only the last may lack deadlines.
    jobs: VecDeque<LeasesJob>,
    /// Scratch space.
    changes: Vec<Change>,
    due: Due,
}

/// The answer to a LeaseTimeToLive with keys.
#[derive(Debug)]
struct Listing {
    to: ReplyTo,
    id: LeaseId,
    /// What the leader said. The keys are listed once as much is applied here as there.
    answer: Answer,
    since: Millis,
    /// Of the lease, once the list is begun.
    generation: Option<u64>,
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
    /// By slot, as far as they are collected: that is done in slices.
    deadlines: Vec<Millis>,
    slots_end: u32,
}

impl Leasing {
    /// Renewals that wait for an entry.
    pub(super) fn renewing_count(&self) -> usize {
        self.renewing_count
    }

    /// Hands them out.
    pub(super) fn drain_renewing(&mut self, each: &mut impl FnMut(Asked)) {
        let all = mem::take(&mut self.renewing).into_values().flatten();
        all.for_each(each);
        self.renewing_count = 0;
    }

    /// Hands out those that are late.
    pub(super) fn take_late_renewing(
        &mut self,
        is_late: impl Fn(&Asked) -> bool,
        late: &mut Vec<Asked>,
    ) {
        let before = late.len();
        for waiters in self.renewing.values_mut() {
            late.extend(waiters.extract_if(.., |asked| is_late(asked)));
        }
        self.renewing.retain(|_, waiters| !waiters.is_empty());
        self.renewing_count -= late.len() - before;
    }
}

impl Replica {
    /// Whether this member leads and knows what there is: an entry of its own term is applied.
    pub(super) fn leads(&self) -> bool {
        let applied = self.raft.log().applied().index;
        self.raft.led_from().is_some_and(|index| index <= applied)
    }

    /// Lets time pass for leases. Before the turn publishes; when to come back at the latest.
    pub(super) fn lease_turn(&mut self, now: Millis) -> Option<Millis> {
        self.tell_lessor(now);
        let leads = self.leads() && self.stopping == Stopping::No;
        if leads && !self.leases.lessor.is_primary() {
            self.leases.lessor.promote(now, self.config.raft.election);
        } else if !leads && self.leases.lessor.is_primary() && !is_on(Mutant::ExpireForEver) {
            self.leases.lessor.demote();
        }
        self.answer_asks(now);
        self.send_answers();
        let lists_keys = self.list_keys(now);
        let has_more = self.collect_deadlines() || lists_keys;
        if !leads && !is_on(Mutant::ExpireForEver) {
            return has_more.then_some(now);
        }
        // While a CORRUPT alarm refuses every revoke, nothing ends; nor while no majority is heard of, which brings the next turn.
        let is_deposed = !self.raft.leads_a_quorum() && !is_on(Mutant::ExpireForEver);
        let is_held = self.machine.alarms().is_corrupt() || is_deposed;
        if !is_held {
            let Leasing { lessor, due, .. } = &mut self.leases;
            lessor.poll(self.machine.store().grants(), now, due);
        }
        self.propose_due();
        let wake = match is_held {
            true => None,
            false => self.leases.lessor.wake(self.machine.store().grants()),
        };
        if has_more { Some(now) } else { wake }
    }

    /// Takes what the worker is to do.
    pub(super) fn take_lease_jobs(&mut self, jobs: &mut Vec<Job>) {
        let is_whole = |job: &mut LeasesJob| job.is_whole();
        while let Some(job) = self.leases.jobs.pop_front_if(is_whole) {
            jobs.push(Job::Leases(Box::new(job)));
        }
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
            // They were confirmed before.
            let waiters = waiters.into_iter().map(|asked| (Index(0), asked));
            self.asks.confirmed.extend(waiters);
        }
        self.leases.changes = changes;
    }

    /// Answers what can be answered now. What cannot be waits for a later turn.
    fn answer_asks(&mut self, now: Millis) {
        let is_partly = self.machine.is_mid_entry();
        for _ in 0..self.asks.confirmed.len() {
            let Some((index, asked)) = self.asks.confirmed.pop_front() else {
                return;
            };
            let log = self.raft.log();
            let applied = log.applied().index;
            // A lease that is missing may have been granted by an entry that is not applied here yet.
            let grants = self.machine.store().grants();
            let may_come = grants.get(asked.id).is_none() && applied < log.committed();
            let wants_keys = asked.wants == Wants::Look { keys: true };
            let is_early = index > applied || !self.leases.lessor.is_primary();
            if is_early || may_come || (wants_keys && is_partly) {
                self.asks.confirmed.push_back((index, asked));
                continue;
            }
            match asked.wants {
                Wants::Renewal => self.renew(asked, now),
                Wants::Look { .. } => self.look(asked, now),
            }
        }
    }

    fn renew(&mut self, asked: Asked, now: Millis) {
        let grants = self.machine.store().grants();
        let ttl = match self.leases.lessor.renew(grants, asked.id, now) {
            Renewal::Renewed(ttl) => {
                self.published.leases().on_renewed();
                ttl
            }
            Renewal::Missing => 0,
            Renewal::Over if is_on(Mutant::GoneTooEarly) => 0,
            waits @ (Renewal::Over | Renewal::Shortened) => {
                let waiters = self.leases.renewing.entry(asked.id).or_default();
                if waits == Renewal::Shortened && waiters.is_empty() {
                    self.leases.due.checkpoints.push((asked.id, 0));
                }
                waiters.push(asked);
                self.leases.renewing_count += 1;
                return;
            }
        };
        self.tell(asked, &self.answer_of(ttl, ttl));
    }

    fn look(&mut self, asked: Asked, now: Millis) {
        let found = self.machine.store().grants().get(asked.id);
        let lessor = &self.leases.lessor;
        let left = found.and_then(|(slot, lease)| {
            // Whole seconds, of a time that is never whole where it is measured more finely, as in etcd.
            let seconds = lessor.left(slot, lease, now)?.0.saturating_sub(1) / 1000;
            Some((i64::try_from(seconds).unwrap_or(i64::MAX), lease.ttl))
        });
        let (ttl, granted) = left.unwrap_or((-1, 0));
        self.tell(asked, &self.answer_of(ttl, granted));
    }

    /// What this leader says now.
    fn answer_of(&self, ttl: i64, granted: i64) -> Answer {
        Answer {
            number: 0,
            ttl,
            granted,
            index: self.raft.log().applied().index,
        }
    }

    pub(super) fn answer_renewal(&mut self, to: ReplyTo, id: LeaseId, ttl: i64) {
        let revision = self.shown_revision();
        let out = &mut self.replies.bytes;
        let outcome = self.machine.answer_now(revision, out, |out| {
            hot::put_int_field(out, 2, id.0);
            hot::put_int_field(out, 3, ttl);
        });
        self.replies.push(to, outcome);
    }

    pub(super) fn answer_look(&mut self, to: ReplyTo, id: LeaseId, answer: &Answer, keys: &[u8]) {
        let revision = self.shown_revision();
        let out = &mut self.replies.bytes;
        let outcome = self.machine.answer_now(revision, out, |out| {
            hot::put_int_field(out, 2, id.0);
            hot::put_int_field(out, 3, answer.ttl);
            hot::put_int_field(out, 4, answer.granted);
            out.extend_from_slice(keys);
        });
        self.replies.push(to, outcome);
    }

    pub(super) fn begin_listing(&mut self, to: ReplyTo, id: LeaseId, answer: &Answer) {
        if self.leases.listings.len() >= LEASE_LISTINGS_MAX {
            let refused = Refused::TooManyRequests;
            return self.replies.push(to, Outcome::Refused(refused));
        }
        self.leases.listings.push_back(Listing {
            to,
            id,
            answer: *answer,
            since: self.now,
            generation: None,
            from: Vec::new(),
            keys: Vec::new(),
        });
    }

    /// Goes on with lists of keys. True: there is more to do at once.
    fn list_keys(&mut self, now: Millis) -> bool {
        let timeout = self.raft.settings().request_timeout();
        self.refuse_listings(Refused::Timeout, |listing| {
            listing.generation.is_none() && now.since(listing.since) >= timeout
        });
        if self.machine.is_mid_entry() {
            return false;
        }
        let applied = self.raft.log().applied().index;
        let mut left = LEASE_KEYS_A_TURN;
        let mut has_more = false;
        for _ in 0..self.leases.listings.len() {
            let Some(mut listing) = self.leases.listings.pop_front() else {
                break;
            };
            if left == 0 || listing.answer.index > applied {
                has_more |= left == 0;
                self.leases.listings.push_back(listing);
                continue;
            }
            let store = self.machine.store();
            let found = store.grants().get(listing.id);
            let generation = found.map(|(_, lease)| lease.generation);
            if generation.is_none() || generation != listing.generation.or(generation) {
                // It has ended meanwhile, or another one has begun: that has no part in the list.
                let gone = Answer {
                    ttl: -1,
                    granted: 0,
                    ..listing.answer
                };
                self.answer_look(listing.to, listing.id, &gone, &[]);
                continue;
            }
            listing.generation = generation;
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
                has_more = true;
                self.leases.listings.push_back(listing);
            } else {
                self.answer_look(listing.to, listing.id, &listing.answer, &listing.keys);
            }
        }
        has_more
    }

    /// Gives up all lists.
    pub(super) fn refuse_lists(&mut self, refused: Refused) {
        self.refuse_listings(refused, |_| true);
        for job in self.leases.jobs.drain(..) {
            self.replies.push(job.to, Outcome::Refused(refused));
        }
    }

    fn refuse_listings(&mut self, refused: Refused, is_meant: impl Fn(&Listing) -> bool) {
        let Self {
            leases, replies, ..
        } = self;
        leases.listings.retain(|listing| {
            let is_meant = is_meant(listing);
            if is_meant {
                replies.push(listing.to, Outcome::Refused(refused));
            }
            !is_meant
        });
    }

    /// Begins a list of all leases, which any member makes of what it has applied.
    pub(super) fn list_leases(&mut self, to: ReplyTo) {
        if self.leases.jobs.len() >= LEASE_LISTINGS_MAX {
            let refused = Refused::TooManyRequests;
            return self.replies.push(to, Outcome::Refused(refused));
        }
        let grants = self.machine.store().grants();
        let mut answer = Vec::new();
        let revision = self.shown_revision();
        self.machine.answer_now(revision, &mut answer, |_| {});
        self.leases.jobs.push_back(LeasesJob {
            to,
            answer,
            leases: grants.image().clone(),
            deadlines: Vec::new(),
            slots_end: grants.slots_end(),
        });
    }

    /// Collects what lists of leases are sorted by. True: there is more to do at once.
    fn collect_deadlines(&mut self) -> bool {
        let Leasing { lessor, jobs, .. } = &mut self.leases;
        let Some(job) = jobs.iter_mut().find(|job| !job.is_whole()) else {
            return false;
        };
        let grants = self.machine.store().grants();
        let done = u32::try_from(job.deadlines.len()).expect("LEASES_MAX is far below");
        let slots = done..job.slots_end.min(done + LEASE_TIMERS_A_TURN as u32);
        job.deadlines.extend(lessor.deadlines(grants, slots));
        !job.is_whole() || jobs.iter().any(|job| !job.is_whole())
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
    fn is_whole(&self) -> bool {
        self.deadlines.len() == self.slots_end as usize
    }

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
