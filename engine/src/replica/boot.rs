//! From what the disk held to a running member: checkpoint, then the log's tail, then `start`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::checkpoint::{BadContent, CheckpointContent};
use super::confchange::{BadChange, read_change};
use super::{AutoCompaction, Checkpointing, Replica};
use crate::apply::{Halt, Machine, Quota};
use crate::disk::Disk;
use crate::lease::Change;
use crate::limits::{REPLAY_BATCH_BYTES, SPACE_RECORDS_A_TURN};
use crate::member::{Member, RequestIds};
use crate::mvcc::{OnSegments, Reader, Store, StoreConfig};
use crate::raft::confchange::ConfChange;
use crate::raft::config::{Config, Step};
use crate::raft::log::{BadRun, Log, Mark};
use crate::raft::{Raft, Settings};
use crate::types::{ClusterId, HardState, Index, MemberId, Millis, RequestId, RunKind};
use crate::wal::{Recovered, Replayed};

/// What a member is told when it starts.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// The cluster.
    pub cluster: ClusterId,
    /// This member.
    pub me: MemberId,
    /// The name it publishes.
    pub name: String,
    /// The client URLs it publishes.
    pub client_urls: Vec<String>,
    /// The cluster's first members, with ids and names; used at the very first start only. Empty for a member that joins a
    /// cluster: it waits for the leader.
    pub initial: Vec<Member>,
    /// Draws the ids of proposals; shared with whoever proposes.
    pub request_ids: Arc<RequestIds>,
    /// Whether it makes a cluster of itself alone out of what it holds, as the others are lost: etcd's `--force-new-cluster`. Has no
    /// effect at the very first start.
    pub force_new_cluster: bool,
    /// etcd's flag: 0 is 2 GiB, negative is none.
    pub quota_bytes: i64,
    /// Whether the NOSPACE alarm ends by itself once there is room again.
    pub auto_disarm: bool,
    /// Whether and how it compacts without being asked, while it leads.
    pub auto_compaction: Option<AutoCompaction>,
    /// A checkpoint is due after this many bytes of log, or as many as the changed leaves of the index
    /// take if those are more, up to `CHECKPOINT_BYTES_MAX`.
    pub checkpoint_bytes: u64,
    /// A checkpoint is due after this many entries.
    pub checkpoint_entries: u64,
    /// A checkpoint is due once so many bytes lie in no file: records, and changed leaves where memory
    /// is too small for the whole index.
    pub checkpoint_unfiled_bytes: u64,
    /// When the first scrub begins, by the time that turns are told; `None`: never.
    pub scrub_first: Option<Millis>,
    /// Sizes of the key space.
    pub store: StoreConfig,
    /// Times, sizes and randomness of the consensus.
    pub raft: Settings,
}

/// A member that replays its log. `on_event` is [`crate::wal::recover`]'s callback.
pub struct Boot {
    config: ReplicaConfig,
    machine: Machine,
    reader: Reader,
    log: Log,
    /// The configuration as of the last applied entry.
    voters: Config,
    /// The newest hard state that was replayed.
    commit: Index,
    unused: Vec<u8>,
    unused_changes: Vec<Change>,
    /// The files of the revision log that the checkpoint names, ascending.
    named: Vec<u64>,
    failed: Option<BootFailed>,
}

/// Why a member cannot start. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootFailed {
    /// The checkpoint's content.
    #[error(transparent)]
    Content(#[from] BadContent),
    /// The checkpoint's state is of another index than its name and the superblocks say.
    #[error("the checkpoint of index {expected} holds the state of index {found}")]
    OtherIndex {
        /// What was asked for.
        expected: Index,
        /// What it holds.
        found: Index,
    },
    /// The log.
    #[error(transparent)]
    Run(#[from] BadRun),
    /// An entry of the log.
    #[error("the entry at index {index} cannot be applied: {halt}")]
    Entry {
        /// Which.
        index: Index,
        /// Why.
        halt: Halt,
    },
    /// A configuration entry of the log.
    #[error("the entry at index {index} cannot be applied: {change}")]
    Change {
        /// Which.
        index: Index,
        /// Why.
        change: BadChange,
    },
}

impl Boot {
    /// A member without a checkpoint: its state is what the log says, or nothing yet.
    #[must_use]
    pub fn first(config: ReplicaConfig) -> Self {
        let (store, reader) = Store::new(config.store);
        let quota = Quota::from_flag(config.quota_bytes);
        let machine = Machine::new(config.cluster, config.me, quota, store);
        Self::with_machine(config, machine, reader)
    }

    /// A member with the checkpoint of `index`, whose segments it reads. `salt` is the directory's; `on_segments` hears how
    /// many bytes of how many are read.
    ///
    /// # Errors
    /// The checkpoint is not whole or not the one that was asked for.
    pub fn restore(
        config: ReplicaConfig,
        index: Index,
        content: CheckpointContent,
        disk: &mut dyn Disk,
        salt: u64,
        on_segments: OnSegments<'_>,
    ) -> Result<Self, BootFailed> {
        let named = content.named();
        let (meta, store, reader) = content.finish(disk, salt, on_segments)?;
        let found = meta.applied.0;
        if found != index {
            return Err(BootFailed::OtherIndex {
                expected: index,
                found,
            });
        }
        let quota = Quota::from_flag(config.quota_bytes);
        let machine = Machine::restore(config.cluster, config.me, quota, store, meta);
        let boot = Self::with_machine(config, machine, reader);
        Ok(Self { named, ..boot })
    }

    /// The files of the revision log that the checkpoint names, for [`crate::wal::RecoverConfig`].
    #[must_use]
    pub fn named(&self) -> &[u64] {
        &self.named
    }

    fn with_machine(config: ReplicaConfig, machine: Machine, reader: Reader) -> Self {
        let (index, term) = machine.applied();
        let mut voters = Config::default();
        for member in machine.members().iter() {
            voters.apply(match member.is_learner {
                true => Step::AddLearner(member.id),
                false => Step::AddVoter(member.id),
            });
        }
        let mut boot = Self {
            config,
            machine,
            reader,
            log: Log::new(Mark { index, term }),
            voters,
            commit: index,
            unused: Vec::new(),
            unused_changes: Vec::new(),
            named: Vec::new(),
            failed: None,
        };
        boot.keep_for_others();
        boot
    }

    /// What members who lag may need is kept from the start.
    fn keep_for_others(&mut self) {
        let ReplicaConfig { me, raft, .. } = &self.config;
        let bytes = raft.kept_bytes(*me, &self.voters);
        self.log.keep(bytes, raft.catch_up_entries);
    }

    /// Hears what recovery reads, in the order of the log, and reads what that needs. The first failure is kept for `start`.
    pub fn on_event(&mut self, event: Replayed<'_>, disk: &mut dyn Disk) {
        if self.failed.is_none()
            && let Err(failed) = self.replay(event, disk)
        {
            self.failed = Some(failed);
        }
    }

    fn replay(&mut self, event: Replayed<'_>, disk: &mut dyn Disk) -> Result<(), BootFailed> {
        match event {
            Replayed::CutFrom(index) => self.log.cut_from(index)?,
            Replayed::Run(run, hard) => {
                self.log.restore(run)?;
                self.commit_to(hard);
                // So that the log is never whole in memory.
                if self.log.unapplied_bytes() >= REPLAY_BATCH_BYTES {
                    self.apply_committed(disk)?;
                }
            }
        }
        Ok(())
    }

    fn commit_to(&mut self, hard: HardState) {
        self.commit = self.commit.max(hard.commit);
        self.log.commit_to(self.commit.min(self.log.last().index));
    }

    fn apply_committed(&mut self, disk: &mut dyn Disk) -> Result<(), BootFailed> {
        if self.machine.store().has_cold() {
            let mut wanted = BTreeSet::new();
            for entry in self.log.to_apply() {
                self.machine.pages_ahead(entry, &mut wanted);
            }
            let store = self.machine.store_mut();
            let read = store.read_pages_now(&wanted, disk);
            read.map_err(BadContent::Segment)?;
        }
        while let Some(entry) = self.log.next_to_apply() {
            let Mark { index, term } = entry.at;
            match entry.kind {
                RunKind::Normal => {
                    match self
                        .machine
                        .apply(index, term, entry.bytes, &mut self.unused)
                    {
                        Ok(_) => {}
                        Err(Halt::NeedRead(need)) => {
                            let store = self.machine.store_mut();
                            store.read_now(need, disk).map_err(BadContent::Segment)?;
                            continue;
                        }
                        Err(halt) => return Err(BootFailed::Entry { index, halt }),
                    }
                    self.unused.clear();
                }
                RunKind::ConfChange => {
                    let read = read_change(entry.bytes, self.machine.members());
                    let (_, step, change) =
                        read.map_err(|change| BootFailed::Change { index, change })?;
                    let applied = self.machine.apply_member_change(index, term, change);
                    self.voters.apply(applied.map_or(Step::Update, |()| step));
                    self.keep_for_others();
                }
            }
            self.log.on_applied();
        }
        self.log.release();
        // Nobody keeps their time yet.
        self.machine.take_lease_changes(&mut self.unused_changes);
        self.unused_changes.clear();
        self.machine.store_mut().evict();
        if self.machine.store().finished() < self.machine.store().compacted() {
            // What this leaves, also because a segment is not in memory, the first turns do.
            let _ = self.machine.store_mut().poll_space(SPACE_RECORDS_A_TURN);
        }
        Ok(())
    }

    /// The entry up to which the state is known.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.machine.applied().0
    }

    /// Runs the member: at the very first start with its cluster's first entries, then in a new term.
    ///
    /// # Errors
    /// The first failure of the replay.
    pub fn start(
        mut self,
        recovered: Recovered,
        disk: &mut dyn Disk,
    ) -> Result<Replica, BootFailed> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        self.commit_to(recovered.hard);
        self.apply_committed(disk)?;
        assert!(self.log.last().index == recovered.last);
        self.machine.store_mut().publish();
        let is_first = self.log.last() == Mark::default();
        let (me, settings) = (self.config.me, self.config.raft);
        let is_forced = self.config.force_new_cluster && !is_first;
        if is_forced {
            self.voters = Config::default();
            self.voters.apply(Step::AddVoter(me));
        }
        let mut raft = Raft::new(me, recovered.hard, self.voters, self.log, settings);
        if is_first && !self.config.initial.is_empty() {
            raft.bootstrap(&first_entries(&self.config.initial));
        }
        if raft.config().voters.is_only(me) {
            raft.campaign();
        }
        let salt = recovered.files_salt;
        let checkpoint = Checkpointing::after(recovered.checkpoint, self.named, salt);
        let mut replica = Replica::new(
            self.config,
            self.machine,
            self.reader,
            raft,
            recovered.wal,
            checkpoint,
        );
        replica.is_forced = is_forced;
        Ok(replica)
    }
}

/// One configuration entry for each member, by ascending id.
fn first_entries(members: &[Member]) -> Vec<(Step, Vec<u8>)> {
    let mut sorted: Vec<&Member> = members.iter().collect();
    sorted.sort_unstable_by_key(|member| member.id);
    let entry = |member: &Member| {
        let mut json = String::new();
        member.write_json(&mut json, false);
        let step = Step::AddVoter(member.id);
        let change = ConfChange {
            id: RequestId(0),
            step,
            member: member.id,
            context: json.into(),
        };
        (step, change.encode())
    };
    sorted.into_iter().map(entry).collect()
}
