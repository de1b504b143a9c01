//! One turn: proposals into the log, durable entries into the state, answers out.

use std::mem;

use basalt_pb::etcdserverpb::CompactionRequest;
use basalt_pb::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};
use prost::Message;

use super::auto_compaction::{Ended, Seen};
use super::confchange::read_change;
use super::members::{Batch, request_id};
use super::{
    Announced, CheckpointFailed, CheckpointJob, ClusterView, Failure, Notice, Proposals, Replica,
    Status, Stopping, Turn,
};
use crate::apply::{Applied, Halt, Outcome, Refused};
use crate::command::field;
use crate::limits::{
    APPLY_SLICE_BYTES, APPLY_SLICE_RECORDS, CHECKPOINT_AFTER_START_MS, CHECKPOINT_BYTES_MAX,
    CHECKPOINT_QUIET_MS, CHECKPOINT_QUIET_SHARE, CHECKPOINT_RETRY_MS, SPACE_PAUSE_MS,
    SPACE_RECORDS_A_TURN, SPACE_RETRY_MS, UNAPPLIED_BYTES_MAX,
};
use crate::member::Release;
use crate::mutant::{Mutant, is_on};
use crate::mvcc::{CheckpointFiles, SliceBound};
use crate::raft::config::Step;
use crate::raft::log::Mark;
use crate::types::{Index, Millis, ReplyTo, RunKind};
use crate::wal::Space;

impl Replica {
    /// Does everything that the inputs so far allow. Then drain `poll_op`, `take_jobs`, `replies`.
    pub fn turn(&mut self, now: Millis) -> Turn {
        if self.failure.is_some() {
            return Turn::default();
        }
        self.now = now;
        if self.switch() {
            self.queue_reads();
            return Turn::default();
        }
        self.raft.tick(now);
        self.look_at_leader();
        self.refuse_replaced();
        self.log_inbox();
        self.apply_durable();
        if self.failure.is_some() {
            return Turn::default();
        }
        self.raise_alarm();
        self.announce(now);
        self.remove_others();
        let compaction = self.compact_by_rule(now);
        let asks = self.put_asks(now);
        let reads = self.answer_reads(now);
        let leases = self.lease_turn(now);
        // What this turn proposed itself goes with the frame that is open now.
        self.log_inbox();
        let (mut space, mut quiet, mut is_settling) = (None, None, false);
        // An entry that is looked at from its beginning again needs all that it reads at once.
        if self.parked.is_none() || self.machine.has_begun() {
            self.machine.store_mut().evict();
        }
        // In the middle of an entry readers stay at the state before it.
        if self.machine.is_mid_entry() {
            self.machine.store_mut().publish_log();
        } else {
            is_settling = self.machine.store_mut().settle();
            space = self.free_space(now);
            self.machine.store_mut().publish();
            quiet = self.begin_checkpoint(now);
        }
        let scrub = self.scrub(now);
        self.queue_reads();
        // What it proposes is for the next turn's frame.
        let has_more = self.lift_alarm() || self.has_more || is_settling;
        let more = has_more.then_some(now);
        let members = self.turn_to_members(now);
        self.publish_cluster();
        self.publish_status();
        self.end_log(now);
        let retry = self.retry_space(now);
        Turn {
            wake: space
                .into_iter()
                .chain(quiet)
                .chain(scrub)
                .chain(retry)
                .chain(compaction)
                .chain(asks)
                .chain(leases)
                .chain(more)
                .chain(reads)
                .chain(members)
                .min(),
        }
    }

    /// What a cluster asks for at the end of a turn: messages, time-outs, term and vote on the disk. When to look again.
    fn turn_to_members(&mut self, now: Millis) -> Option<Millis> {
        self.send_snapshots(now);
        self.raft.flush();
        // What was replaced after it was staged still stands at the end of the open frame.
        let upto = match is_on(Mutant::CommitUnstaged) {
            true => self.wal.last(),
            false => self.raft.log().staged(),
        };
        let hard = self.raft.hard_at(upto);
        if (hard.term, hard.vote) != (self.hard.term, self.hard.vote) {
            self.hard = hard;
            self.wal.set_hard(hard);
        }
        let wake = self.raft.wake();
        if wake.is_none() && self.raft.is_leader() {
            // The only member.
            return None;
        }
        self.yield_if_stalled(now);
        let late = self.refuse_late(now);
        let transfer = self.answer_transfer(now);
        wake.into_iter().chain(late).chain(transfer).min()
    }

    /// Moves batches into the log as far as the open frame has room: each becomes one run.
    fn log_inbox(&mut self) {
        self.stage();
        if !self.raft.takes_proposals() {
            return self.forward_inbox();
        }
        while let Some(batch) = self.inbox.front() {
            let bytes = batch.proposals.bytes_len();
            let unapplied = self.raft.log().unapplied_bytes();
            if bytes > self.wal.room() || unapplied > UNAPPLIED_BYTES_MAX {
                return;
            }
            let Some(batch) = self.inbox.pop_front() else {
                return;
            };
            self.inbox_bytes -= bytes;
            if batch.only_in.is_some_and(|term| term != self.raft.term()) {
                continue;
            }
            let count = u32::try_from(batch.proposals.len()).expect("RUN_ENTRIES_MAX is far below");
            let Proposals { bytes, waiters, .. } = batch.proposals;
            let Ok(first) = self.raft.propose(RunKind::Normal, count, bytes) else {
                unreachable!("it takes proposals");
            };
            self.waiting.push(first, batch.since, waiters);
            self.stage();
        }
        self.log_change();
    }

    /// Gives the log's new runs to the disk's open frame.
    pub(super) fn stage(&mut self) {
        while let Some(run) = self.raft.log().next_to_stage() {
            if run.bytes.len() > self.wal.room() {
                return;
            }
            let last = run.last();
            // What is committed behind it may stand in for other entries than those on the disk.
            self.wal.append(run, self.raft.hard_at(last));
            self.raft.log_mut().on_staged(last);
        }
    }

    /// Applies what is committed and durable here, and answers it.
    fn apply_durable(&mut self) {
        self.parked = None;
        self.has_more = false;
        self.machine.begin_slice(SliceBound {
            records: APPLY_SLICE_RECORDS,
            bytes: APPLY_SLICE_BYTES,
        });
        while let Some(entry) = self.raft.log().next_to_apply() {
            let Mark { index, term } = entry.at;
            let (mut changed, mut change_refused) = (None, None);
            let applied = match entry.kind {
                RunKind::Normal => {
                    let out = &mut self.replies.bytes;
                    match self.machine.apply(index, term, entry.bytes, out) {
                        Ok(applied) => Some(applied),
                        Err(Halt::NeedRead(need)) => {
                            self.parked = Some(need);
                            break;
                        }
                        Err(Halt::More) => {
                            self.has_more = true;
                            break;
                        }
                        Err(halt) => return self.fail(Failure::Entry { index, halt }),
                    }
                }
                RunKind::ConfChange => match read_change(entry.bytes, self.machine.members()) {
                    Ok((id, step, change)) => {
                        let applied = self.machine.apply_member_change(index, term, change);
                        // What the list did not take is no change to Raft either.
                        let step = applied.map_or(Step::Update, |()| step);
                        changed = Some((id, step));
                        change_refused = applied.err();
                        None
                    }
                    Err(change) => return self.fail(Failure::Change { index, change }),
                },
            };
            let mut waiter = None;
            if !self.forwarded.is_empty() {
                let Self {
                    forwarded, replies, ..
                } = self;
                // The leader that might have taken them is gone, and all its entries came before this one.
                forwarded.drop_before(term, &mut |to| {
                    replies.push(to, Outcome::Refused(Refused::TimeoutLeaderFailed));
                });
                let id = changed.map_or_else(|| request_id(entry.bytes), |(id, _)| Some(id));
                waiter = id.and_then(|id| forwarded.take(id));
            }
            self.raft.log_mut().on_applied();
            if let Some((_, step)) = changed {
                // Who is forced to go on alone stays the only voter, whatever its log says.
                let step = if self.is_forced { Step::Update } else { step };
                self.raft.on_config_applied(index, step);
            }
            match applied {
                Some(applied) => self.answer(index, waiter, applied),
                None => {
                    let outcome = change_refused.map_or(Outcome::MembersChanged, Outcome::Refused);
                    waiter
                        .into_iter()
                        .for_each(|to| self.replies.push(to, outcome));
                }
            }
        }
        self.raft.log_mut().release();
    }

    fn answer(&mut self, index: Index, forwarded: Option<ReplyTo>, applied: Applied) {
        let waiter = self.waiting.take(index).or(forwarded);
        match (applied, waiter) {
            (Applied::Done(outcome), Some(to)) => self.replies.push(to, outcome),
            (Applied::WrittenWithoutSpace, Some(to)) => self.over_quota.push(to),
            (Applied::Compacting { revision, outcome }, Some(to)) => {
                let Outcome::Encoded { start, end } = outcome else {
                    unreachable!("a compaction's answer is encoded");
                };
                let encoded = self.replies.encoded(start, end).to_vec();
                self.replies.bytes.truncate(start);
                self.compacting.push_back((revision, to, encoded));
            }
            // Nobody waits: forget what was encoded for it.
            (Applied::Done(outcome) | Applied::Compacting { outcome, .. }, None) => {
                if let Outcome::Encoded { start, end } = outcome
                    && end == self.replies.bytes.len()
                {
                    self.replies.bytes.truncate(start);
                }
            }
            (Applied::WrittenWithoutSpace, None) => {}
        }
    }

    /// Publishes this member's name and client URLs once it can, and decides the cluster version if it leads and nobody has.
    fn announce(&mut self, now: Millis) {
        let is_due = match self.announced {
            Announced::No => true,
            Announced::Asked(until) => now >= until,
            Announced::InLog(_) => false,
        };
        let is_versioned =
            self.machine.cluster_version().is_some() || self.versioned == self.raft.term();
        if (!is_due && is_versioned) || self.stopping != Stopping::No {
            return;
        }
        let leads = self.leads();
        let mut batch = Proposals::new();
        if is_due && self.may_announce(leads) {
            let attributes = ClusterMemberAttrSetRequest {
                member_id: self.config.me.0,
                member_attributes: Some(Attributes {
                    name: self.config.name.clone(),
                    client_urls: self.config.client_urls.clone(),
                }),
            };
            let id = self.config.request_ids.draw();
            let body = attributes.encode_to_vec();
            batch.push(None, id, field::CLUSTER_MEMBER_ATTR_SET, &body);
        }
        if leads && !is_versioned {
            self.versioned = self.raft.term();
            let version = ClusterVersionSetRequest {
                ver: Release::OWN.cluster().to_string(),
            };
            let id = self.config.request_ids.draw();
            let body = version.encode_to_vec();
            batch.push(None, id, field::CLUSTER_VERSION_SET, &body);
        }
        if batch.is_empty() {
            return;
        }
        if is_due {
            // Alone, nothing else is in the log of this term before what clients have proposed meanwhile. In a cluster a
            // proposal may get lost.
            let last = self.raft.log().last().index.plus(batch.len() as u64);
            let timeout = self.raft.settings().request_timeout();
            self.announced = match self.raft.free_read_index() {
                Some(_) => Announced::InLog(last),
                None => Announced::Asked(now.plus(timeout)),
            };
        }
        self.push_front(batch);
    }

    /// Whether there is a leader to publish by, and this member is one of the cluster.
    fn may_announce(&self, leads: bool) -> bool {
        let follows = !self.raft.is_leader() && self.raft.leader().is_some();
        let is_known = self.machine.members().get(self.config.me).is_some();
        leads || (follows && is_known)
    }

    /// Proposes the compaction that is due by `--auto-compaction-*`; when to look again.
    fn compact_by_rule(&mut self, now: Millis) -> Option<Millis> {
        let store = self.machine.store();
        let seen = Seen {
            revision: store.revision(),
            compacted: store.compacted(),
            leads: self.raft.is_leader() && self.announced != Announced::No,
            is_corrupt: self.machine.alarms().is_corrupt(),
        };
        let compactor = self.compactor.as_mut()?;
        let (rule, retry_interval) = (compactor.rule(), compactor.look_interval());
        let ended = compactor.poll_end(now, seen);
        let wanted = compactor.poll(now, seen);
        let wake = compactor.wake();
        if let Some((revision, took, ended)) = ended {
            self.notice(match ended {
                Ended::Done => Notice::AutoCompactionDone {
                    rule,
                    revision,
                    took,
                },
                Ended::TimedOut | Ended::Corrupt => Notice::AutoCompactionFailed {
                    rule,
                    revision,
                    retry_interval,
                    is_corrupt: ended == Ended::Corrupt,
                },
            });
        }
        if let Some(revision) = wanted {
            self.notice(Notice::AutoCompactionBegan { rule, revision });
            let request = CompactionRequest {
                revision,
                physical: false,
            };
            self.propose_own(field::COMPACTION, &request);
        }
        wake.filter(|_| self.stopping == Stopping::No)
    }

    /// Proposes what nobody asked for, ahead of what clients did.
    pub(super) fn propose_own(&mut self, field: u32, request: &impl Message) {
        let mut batch = Proposals::new();
        let id = self.config.request_ids.draw();
        batch.push(None, id, field, &request.encode_to_vec());
        self.push_front(batch);
    }

    pub(super) fn push_front(&mut self, proposals: Proposals) {
        self.inbox_bytes += proposals.bytes_len();
        self.inbox.push_front(Batch {
            proposals,
            since: self.now,
            only_in: None,
        });
    }

    /// Gives back some memory that compaction freed; when to go on with that. Paced, because it can be
    /// held up by a reader or a checkpoint for long.
    fn free_space(&mut self, now: Millis) -> Option<Millis> {
        let entries = self.machine.applied().0.0 - self.checkpoint.last.0;
        let store = self.machine.store_mut();
        let mut next = None;
        let began = store.finished();
        if began < store.compacted() {
            let dropped = store.dropped_records();
            self.space_began.get_or_insert((now, dropped));
            if now < self.space_due {
                return Some(self.space_due);
            }
            // Rewritten segments are in memory until a checkpoint has written them.
            let may_begin = entries > 0 && now >= self.checkpoint.not_before;
            let is_short =
                store.unfiled_bytes() >= self.config.checkpoint_unfiled_bytes.saturating_mul(2);
            store.set_short_of_memory(is_short);
            if is_short && (self.checkpoint.running || may_begin) {
                self.space_due = now.plus(Millis(SPACE_PAUSE_MS));
                next = Some(self.space_due);
            } else if !self.parts.is_for_space() {
                let worked = store.poll_space(SPACE_RECORDS_A_TURN);
                self.space_due = now.plus(Millis(SPACE_PAUSE_MS));
                match worked {
                    Ok(has_more) => next = has_more.then_some(self.space_due),
                    // The disk's answer brings the next turn.
                    Err(part) => self.parts.add_for_space(part),
                }
            }
        }
        let finished = store.finished();
        if finished > began {
            self.tell_of_compaction(finished, now);
        }
        while let Some((_, to, encoded)) = self.compacting.pop_front_if(|it| it.0 <= finished) {
            self.replies.push_encoded(to, &encoded);
        }
        next
    }

    fn tell_of_compaction(&mut self, revision: i64, now: Millis) {
        let store = self.machine.store();
        let dropped = store.dropped_records();
        let (since, before) = self.space_began.take().unwrap_or((now, dropped));
        let notice = Notice::CompactionFinished {
            revision,
            took: now.since(since),
            records: dropped - before,
            hash: store.newest_compact_hash(revision),
            sizes: store.sizes(),
        };
        self.notice(notice);
    }

    /// Seals the log once everything that was taken over is in it.
    fn end_log(&mut self, now: Millis) {
        if self.stopping == Stopping::No || !self.has_handed_over(now) {
            return;
        }
        if self.raft.is_leader() && !self.inbox.is_empty() {
            return;
        }
        if self.stopping != Stopping::Sealed {
            self.wal.seal();
            self.stopping = Stopping::Sealed;
        }
        // The alarm is not raised any more: the next write after the restart does that.
        for to in self.over_quota.drain(..) {
            self.replies.push(to, Outcome::Refused(Refused::NoSpace));
        }
        // The compaction is in the log; its memory goes with the process.
        for (_, to, _) in self.compacting.drain(..) {
            self.replies.push(to, Outcome::Refused(Refused::Stopped));
        }
        if self.is_stopped() {
            self.refuse_all(Outcome::Refused(Refused::Stopped));
        }
    }

    /// Begins a checkpoint of the state just published, if the log has grown enough, or some and nothing more happens. When
    /// that may be the case without anything happening.
    fn begin_checkpoint(&mut self, now: Millis) -> Option<Millis> {
        let (applied, _) = self.machine.applied();
        let entries = applied.0 - self.checkpoint.last.0;
        if self.checkpoint.quiet.0 != applied {
            self.checkpoint.quiet = (applied, now.plus(Millis(CHECKPOINT_QUIET_MS)));
        }
        // A checkpoint writes a page for each leaf that changed: the more of them, the more log it
        // replaces, so that writing checkpoints stays in proportion to writing the log.
        let most = CHECKPOINT_BYTES_MAX.max(self.config.checkpoint_bytes);
        let store = self.machine.store();
        let index = store.changed_index_bytes().min(most);
        let live = self.wal.live_bytes();
        let since = live - self.checkpoint.covered;
        let unfiled = store.unfiled_bytes() + store.unfiled_index_bytes();
        // What would be replayed does not cost anybody anything to write now.
        let is_some = since >= self.config.checkpoint_bytes / CHECKPOINT_QUIET_SHARE;
        let due = since >= self.config.checkpoint_bytes.max(index)
            || entries >= self.config.checkpoint_entries
            || unfiled >= self.config.checkpoint_unfiled_bytes
            || self.checkpoint.is_wanted
            || is_some && now >= self.checkpoint.quiet.1;
        // A start that has replayed much serves first. It may need the checkpoint for that: as its log has no room, or a follower
        // waits for it.
        let serves_by = now.plus(Millis(CHECKPOINT_AFTER_START_MS));
        let serves_by = *self.checkpoint.serves_by.get_or_insert(serves_by);
        if due && now < serves_by && !self.is_ready() {
            return Some(serves_by);
        }
        let idle = !self.checkpoint.running
            && !self.refill.is_checking()
            && now >= self.checkpoint.not_before
            && self.machine.store().is_settled();
        if !due || !idle || entries == 0 || self.stopping != Stopping::No {
            let (_, quiet) = self.checkpoint.quiet;
            return (is_some && entries > 0 && quiet > now).then_some(quiet);
        }
        // Refused while compaction gives memory back; a later turn tries again.
        if let Ok(cursor) = self.machine.store_mut().checkpoint() {
            let job = CheckpointJob::new(self.machine.meta(), cursor, self.checkpoint.salt);
            self.checkpoint.ready = Some(Box::new(job));
            self.checkpoint.running = true;
            if self.checkpoint.is_wanted {
                self.raft.log_mut().hold_behind(Some(applied));
            }
            self.checkpoint.live = live;
            if is_on(Mutant::ReleaseEarly) {
                self.wal.release(applied, &[]);
            }
        }
        None
    }

    /// A checkpoint is durable, or was given up.
    pub(super) fn on_checkpoint(
        &mut self,
        index: Index,
        result: Result<CheckpointFiles, CheckpointFailed>,
        now: Millis,
    ) {
        self.checkpoint.running = false;
        if let Ok(files) = result {
            self.checkpoint.last = index;
            let mut unnamed = mem::replace(&mut self.checkpoint.named, files.named().to_vec());
            unnamed.retain(|number| files.named().binary_search(number).is_err());
            self.machine.store_mut().on_checkpoint(files);
            // Segments are released whole: what is left holds entries from before the checkpoint too.
            let since = self.wal.live_bytes() - self.checkpoint.live;
            if !is_on(Mutant::ReleaseEarly) {
                self.wal.release(index, &unnamed);
            }
            self.checkpoint.covered = self.wal.live_bytes() - since;
        } else {
            self.checkpoint.not_before = now.plus(Millis(CHECKPOINT_RETRY_MS));
        }
    }

    /// Lets a log that is short of space try again; when to come back for that.
    fn retry_space(&mut self, now: Millis) -> Option<Millis> {
        if !matches!(self.wal.space(), Space::Low { .. }) {
            self.space_retry = None;
            return None;
        }
        let due = *self
            .space_retry
            .get_or_insert(now.plus(Millis(SPACE_RETRY_MS)));
        if now < due {
            return Some(due);
        }
        self.wal.retry_space();
        let next = now.plus(Millis(SPACE_RETRY_MS));
        self.space_retry = Some(next);
        Some(next)
    }

    pub(super) fn publish_cluster(&mut self) {
        let changes = self.machine.cluster_changes();
        if changes == self.cluster_changes {
            return;
        }
        self.cluster_changes = changes;
        let me = self.machine.members().get(self.config.me);
        let is_published = me.is_some_and(|me| {
            me.name == self.config.name && me.client_urls == self.config.client_urls
        });
        if is_published && matches!(self.announced, Announced::Asked(_)) {
            self.announced = Announced::InLog(self.raft.log().applied().index);
        }
        let members = self.machine.members().iter();
        self.published.set_cluster(ClusterView {
            members: members.map(crate::member::Member::to_proto).collect(),
            removed: self.machine.members().removed().collect(),
            alarms: self.machine.alarms().iter().collect(),
            cluster_version: self.machine.cluster_version().map(|it| it.to_string()),
        });
    }

    /// Whether this start's name and client URLs are applied.
    fn is_ready(&self) -> bool {
        match self.announced {
            Announced::InLog(last) => self.machine.applied().0 >= last,
            Announced::No | Announced::Asked(_) => false,
        }
    }

    /// After the store's own publish: who sees the new marks also sees the state.
    pub(super) fn publish_status(&mut self) {
        let (applied, applied_term) = self.machine.applied();
        let sizes = self.machine.store().sizes();
        let me = self.config.me;
        let is_ready = self.is_ready();
        self.published.set_status(Status {
            leader: self.raft.leader(),
            raft_term: self.raft.term(),
            committed: self.raft.log().committed(),
            applied,
            applied_term,
            db_size: sizes.total,
            db_size_in_use: sizes.in_use,
            is_learner: self.raft.config().learners.contains(&me),
            is_ready,
            failed: self.failure.as_ref().map(Failure::refused),
        });
        self.counts.applied = self.machine.counts();
        let unlogged = self.inbox.iter().map(|it| it.proposals.len() as u64);
        self.counts.proposals_pending =
            self.waiting.count() + self.forwarded.count() + unlogged.sum::<u64>();
        self.counts.cache_reads = self.parts.done;
        self.counts.cache_bytes = self.machine.store().cache_bytes();
        self.counts.scrub = self.scrub.counts;
        self.published.set_counts(self.counts);
        let readable = self
            .raft
            .free_read_index()
            .is_some_and(|index| index <= applied);
        let running = self.failure.is_none() && self.stopping == Stopping::No;
        self.published.read_gate().set(readable && running);
    }
}
