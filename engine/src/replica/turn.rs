//! One turn: proposals into the log, durable entries into the state, answers out.

use std::mem;

use basalt_pb::etcdserverpb::CompactionRequest;
use basalt_pb::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};
use prost::Message;

use super::auto_compaction::{Ended, Seen};
use super::confchange::read_change;
use super::{
    Announced, CheckpointFailed, CheckpointJob, ClusterView, Failure, Notice, Proposals, Replica,
    Status, Stopping, Turn,
};
use crate::apply::{Applied, Halt, Outcome, Refused};
use crate::command::field;
use crate::limits::{
    APPLY_SLICE_BYTES, APPLY_SLICE_RECORDS, CHECKPOINT_BYTES_MAX, CHECKPOINT_RETRY_MS,
    SPACE_PAUSE_MS, SPACE_RECORDS_A_TURN, SPACE_RETRY_MS,
};
use crate::member::Release;
use crate::mvcc::{CheckpointFiles, SliceBound};
use crate::raft::log::Mark;
use crate::types::{Index, Millis, RunKind};
use crate::wal::Space;

impl Replica {
    /// Does everything that the inputs so far allow. Then drain `poll_op`, `take_jobs`, `replies`.
    pub fn turn(&mut self, now: Millis) -> Turn {
        if self.failure.is_some() {
            return Turn::default();
        }
        self.log_inbox();
        self.apply_durable();
        if self.failure.is_some() {
            return Turn::default();
        }
        self.raise_alarm();
        self.announce();
        let compaction = self.compact_by_rule(now);
        let leases = self.lease_turn(now);
        // What this turn proposed itself goes with the frame that is open now.
        self.log_inbox();
        let mut space = None;
        // In the middle of an entry readers stay at the state before it.
        if !self.machine.is_mid_entry() {
            space = self.free_space(now);
            self.machine.store_mut().publish();
            self.begin_checkpoint(now);
        }
        // What it proposes is for the next turn's frame.
        let has_more = self.lift_alarm() || self.has_more;
        let more = has_more.then_some(now);
        self.publish_cluster();
        self.publish_status();
        self.end_log();
        let retry = self.retry_space(now);
        Turn {
            wake: space
                .into_iter()
                .chain(retry)
                .chain(compaction)
                .chain(leases)
                .chain(more)
                .min(),
        }
    }

    /// Moves batches into the log as far as the open frame has room: each becomes one run.
    fn log_inbox(&mut self) {
        self.stage();
        while let Some(batch) = self.inbox.front() {
            if batch.bytes_len() > self.wal.room() {
                return;
            }
            let Some(batch) = self.inbox.pop_front() else {
                return;
            };
            self.inbox_bytes -= batch.bytes_len();
            let count = u32::try_from(batch.len()).expect("RUN_ENTRIES_MAX is far below");
            let Proposals { bytes, waiters, .. } = batch;
            match self.raft.propose(RunKind::Normal, count, bytes) {
                Ok(first) => self.waiting.push(first, waiters),
                Err(_) => {
                    self.counts.proposals_failed += u64::from(count);
                    for to in waiters.into_iter().flatten() {
                        self.replies.push(to, Outcome::Refused(Refused::NoLeader));
                    }
                }
            }
            self.stage();
        }
    }

    /// Gives the log's new runs to the disk's open frame.
    fn stage(&mut self) {
        let hard = self.raft.hard();
        while let Some(run) = self.raft.log().next_to_stage() {
            if run.bytes.len() > self.wal.room() {
                return;
            }
            self.wal.append(run, hard);
            let last = run.last();
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
                    Ok((step, change)) => {
                        self.machine.apply_member_change(index, term, change);
                        self.raft.on_config_applied(step);
                        None
                    }
                    Err(change) => return self.fail(Failure::Change { index, change }),
                },
            };
            self.raft.log_mut().on_applied();
            if let Some(applied) = applied {
                self.answer(index, applied);
            }
        }
        // A single voter keeps nothing for followers.
        let applied = self.raft.log().applied().index;
        self.raft.log_mut().release(applied);
    }

    fn answer(&mut self, index: Index, applied: Applied) {
        let waiter = self.waiting.take(index);
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

    /// Once an entry of the own term is applied: publishes this member's name and client URLs, and
    /// decides the cluster version if nobody has.
    fn announce(&mut self) {
        let applied = self.raft.log().applied().index;
        let leads = self
            .raft
            .free_read_index()
            .is_some_and(|index| index <= applied);
        if self.announced != Announced::No || !leads || self.stopping != Stopping::No {
            return;
        }
        let attributes = ClusterMemberAttrSetRequest {
            member_id: self.config.me.0,
            member_attributes: Some(Attributes {
                name: self.config.name.clone(),
                client_urls: self.config.client_urls.clone(),
            }),
        };
        let mut batch = Proposals::new();
        let draw = || self.config.request_ids.draw();
        let body = attributes.encode_to_vec();
        batch.push(None, draw(), field::CLUSTER_MEMBER_ATTR_SET, &body);
        if self.machine.cluster_version().is_none() {
            let version = ClusterVersionSetRequest {
                ver: Release::OWN.cluster().to_string(),
            };
            batch.push(
                None,
                draw(),
                field::CLUSTER_VERSION_SET,
                &version.encode_to_vec(),
            );
        }
        // Before what clients have proposed meanwhile: nothing else is in the log of this term.
        let last = self.raft.log().last().index.plus(batch.len() as u64);
        self.announced = Announced::InLog(last);
        self.push_front(batch);
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

    pub(super) fn push_front(&mut self, batch: Proposals) {
        self.inbox_bytes += batch.bytes_len();
        self.inbox.push_front(batch);
    }

    /// Gives back some memory that compaction freed; when to go on with that. Paced, because it can be
    /// held up by a reader or a checkpoint for long.
    fn free_space(&mut self, now: Millis) -> Option<Millis> {
        let store = self.machine.store_mut();
        let mut next = None;
        let began = store.finished();
        if began < store.compacted() {
            let dropped = store.dropped_records();
            self.space_began.get_or_insert((now, dropped));
            if now < self.space_due {
                return Some(self.space_due);
            }
            // A segment that is not in memory delays it too.
            if store.poll_space(SPACE_RECORDS_A_TURN).unwrap_or(true) {
                self.space_due = now.plus(Millis(SPACE_PAUSE_MS));
                next = Some(self.space_due);
            }
        }
        let finished = store.finished();
        if finished > began {
            self.tell_of_compaction(finished, now);
        }
        while let Some((_, to, encoded)) = self.compacting.pop_front_if(|it| it.0 <= finished) {
            let start = self.replies.bytes.len();
            self.replies.bytes.extend_from_slice(&encoded);
            let end = self.replies.bytes.len();
            self.replies.push(to, Outcome::Encoded { start, end });
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
    fn end_log(&mut self) {
        if self.stopping == Stopping::No || !self.inbox.is_empty() {
            return;
        }
        if self.stopping == Stopping::Wanted {
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
            let Self {
                waiting, replies, ..
            } = self;
            waiting.drain(&mut |to| replies.push(to, Outcome::Refused(Refused::Stopped)));
        }
    }

    /// Begins a checkpoint of the state just published, if the log has grown enough.
    fn begin_checkpoint(&mut self, now: Millis) {
        let (applied, _) = self.machine.applied();
        let entries = applied.0 - self.checkpoint.last.0;
        // A checkpoint is the whole state: with the state grows the log that it may replace, so that
        // writing checkpoints stays in proportion to writing the log.
        let most = CHECKPOINT_BYTES_MAX.max(self.config.checkpoint_bytes);
        let state = self.machine.store().sizes().total.min(most);
        let live = self.wal.live_bytes();
        let due = live - self.checkpoint.covered >= self.config.checkpoint_bytes.max(state)
            || entries >= self.config.checkpoint_entries
            || self.machine.store().unfiled_bytes() >= self.config.checkpoint_unfiled_bytes;
        let idle = !self.checkpoint.running && now >= self.checkpoint.not_before;
        if !due || !idle || entries == 0 || self.stopping != Stopping::No {
            return;
        }
        // Refused while compaction gives memory back; a later turn tries again.
        if let Ok(cursor) = self.machine.store_mut().checkpoint() {
            let job = CheckpointJob::new(self.machine.meta(), cursor, self.checkpoint.salt);
            self.checkpoint.ready = Some(Box::new(job));
            self.checkpoint.running = true;
            self.checkpoint.live = live;
        }
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
            self.machine.store_mut().on_checkpoint(&files);
            let mut unnamed = mem::replace(&mut self.checkpoint.named, files.named().to_vec());
            unnamed.retain(|number| files.named().binary_search(number).is_err());
            // Segments are released whole: what is left holds entries from before the checkpoint too.
            let since = self.wal.live_bytes() - self.checkpoint.live;
            self.wal.release(index, &unnamed);
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
        let members = self.machine.members().iter();
        self.published.set_cluster(ClusterView {
            members: members.map(crate::member::Member::to_proto).collect(),
            removed: self.machine.members().removed().collect(),
            alarms: self.machine.alarms().iter().collect(),
            cluster_version: self.machine.cluster_version().map(|it| it.to_string()),
        });
    }

    /// After the store's own publish: who sees the new marks also sees the state.
    pub(super) fn publish_status(&mut self) {
        let (applied, applied_term) = self.machine.applied();
        let sizes = self.machine.store().sizes();
        let me = self.config.me;
        let is_ready = match self.announced {
            Announced::InLog(last) => applied >= last,
            Announced::No => false,
        };
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
            failed: self.failure.is_some(),
        });
        self.counts.applied = self.machine.counts();
        self.counts.proposals_pending =
            self.waiting.count() + self.inbox.iter().map(|it| it.len() as u64).sum::<u64>();
        self.published.set_counts(self.counts);
        let readable = self
            .raft
            .free_read_index()
            .is_some_and(|index| index <= applied);
        let running = self.failure.is_none() && self.stopping == Stopping::No;
        self.published.read_gate().set(readable && running);
    }
}
