//! A member of the simulation: a disk that outlives it, and a process that comes and goes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use basalt_engine::disk::{Disk, DiskAnswer, DiskDone, DiskError, DiskOp, OpId};
use basalt_engine::member::{Member, RequestIds};
use basalt_engine::mvcc::StoreConfig;
use basalt_engine::replica::{
    BadContent, Boot, BootFailed, CheckpointContent, Job, Replica, ReplicaConfig,
};
use basalt_engine::types::{ClusterId, Index, MemberId, Millis};
use basalt_engine::wal::{
    CheckpointReader, Corrupt, Found, Identity, RecoverConfig, WalLimits, create, look, recover,
};
use fastrand::Rng;

use super::plan::Settings;
use super::watch::Side;
use crate::sim_disk::{SimDisk, Survive};

/// The disk of a simulated member.
pub type NodeDisk = SimDisk<()>;

/// A member.
pub struct Node {
    /// Who it is.
    pub id: MemberId,
    /// What it wrote.
    pub disk: NodeDisk,
    /// The process, while it runs.
    pub running: Option<Process>,
    /// Counts the processes: what was meant for an older one is lost.
    pub life: u64,
    /// So many times slower is its disk than the settings say.
    pub slower: u64,
    /// Whether its disk lied or lost bits: it may refuse to start.
    pub is_damaged: bool,
    /// Whether it lost bits that it once kept.
    pub is_rotten: bool,
    /// Whether it refused to start for that: it is gone for good.
    pub is_gone: bool,
    /// The next write of the log that lies, and by how many pages it goes astray.
    pub lie: Option<u64>,
    /// Draws what survives and how long operations take.
    pub rng: Rng,
    /// Reads in flight.
    reads: BTreeMap<OpId, DiskOp>,
    drift_permille: i64,
    settings: Settings,
}

/// A process of a member.
pub struct Process {
    /// The member's machine.
    pub replica: Replica,
    /// Its watchers.
    pub watch: Side,
    /// Its background work, first come first served.
    pub jobs: VecDeque<Job>,
    /// Whether an event for the first job is under way.
    pub is_working: bool,
    /// When an event wakes it although nothing happens; microseconds.
    pub wake_us: Option<u64>,
    /// Whether it was told to stop.
    pub is_stopping: bool,
    /// Until when it gets no time.
    pub paused_until_us: u64,
    /// Draws the ids of its proposals.
    pub request_ids: Arc<RequestIds>,
    /// Its clock began here, later by what it stood still since.
    pub began_us: u64,
}

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Directory or log.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The checkpoint.
    #[error(transparent)]
    Content(#[from] BadContent),
    /// The replay.
    #[error(transparent)]
    Boot(#[from] BootFailed),
}

impl Refused {
    /// Whether the disk gave an error, which may pass.
    #[must_use]
    pub fn is_disk_error(&self) -> bool {
        use basalt_engine::mvcc::BadSegment;
        matches!(
            self,
            Self::Corrupt(Corrupt::Disk(_))
                | Self::Content(BadContent::Segment(BadSegment::Disk(_)))
                | Self::Boot(BootFailed::Content(BadContent::Segment(BadSegment::Disk(
                    _
                ))))
        )
    }
}

impl Node {
    /// A member with an empty disk.
    #[must_use]
    pub fn new(number: usize, settings: &Settings, mut rng: Rng) -> Self {
        let drift = i64::from(settings.drift_permille);
        Self {
            id: member_id(number),
            disk: NodeDisk::default(),
            running: None,
            life: 1,
            slower: 1,
            is_damaged: false,
            is_rotten: false,
            is_gone: false,
            lie: None,
            drift_permille: rng.i64(-drift..=drift),
            rng,
            reads: BTreeMap::new(),
            settings: settings.clone(),
        }
    }

    /// What the member's clock says: it counts from the process's start, a bit too fast or too slow.
    #[must_use]
    pub fn clock(&self, now_us: u64) -> Millis {
        let began = self.running.as_ref().map_or(now_us, |it| it.began_us);
        Millis(now_us.saturating_sub(began) * self.rate() / 1_000_000)
    }

    /// How long the member must wait for its clock to show `at`.
    #[must_use]
    pub fn until(&self, at: Millis, now_us: u64) -> u64 {
        let ahead = at.since(self.clock(now_us));
        (ahead.0 * 1_000_000).div_ceil(self.rate()).max(SOON_US)
    }

    fn rate(&self) -> u64 {
        u64::try_from(1000 + self.drift_permille).expect("drifts are small")
    }

    /// How long the next operation on its disk takes.
    pub fn disk_us(&mut self) -> u64 {
        let mean = self.settings.disk_us;
        let takes = self.rng.u64(mean / 2..=mean + mean / 2) * self.slower;
        1 + takes.min(SLOWEST_US)
    }

    /// How long the next step of its background work takes.
    pub fn job_us(&mut self) -> u64 {
        let mean = self.settings.job_us;
        1 + (self.rng.u64(0..=2 * mean) * self.slower).min(SLOWEST_US)
    }

    /// Hands an operation to the disk. An error is its answer; else it is in flight.
    pub fn submit(&mut self, id: OpId, op: DiskOp) -> Result<(), DiskError> {
        if matches!(op, DiskOp::Read { .. }) {
            self.reads.insert(id, op);
            return Ok(());
        }
        self.disk.submit(id.0, op)
    }

    /// Ends an operation in flight.
    pub fn land(&mut self, id: OpId) -> DiskDone {
        if let Some(read) = self.reads.remove(&id) {
            let result = self.disk.perform(read);
            return DiskDone { id, result };
        }
        let is_log = self.disk.is_log_write(id.0);
        let answer: DiskAnswer = match self.lie.take_if(|_| is_log) {
            None => self.disk.land(id.0),
            Some(lie) => {
                self.is_damaged = true;
                match lie {
                    0 => self.disk.land_nowhere(id.0),
                    shift_pages => self.disk.land_elsewhere(id.0, shift_pages),
                }
            }
        };
        DiskDone {
            id,
            result: Ok(answer),
        }
    }

    /// Ends the process. With the power each unflushed sector is lost, or not, with `chances` in 8 to survive.
    pub fn kill(&mut self, power: bool, chances: u8) {
        self.running = None;
        self.reads.clear();
        self.life += 1;
        let survive = Survive::Random(&mut self.rng, chances);
        let after = match power {
            true => self.disk.after_power_cut(survive),
            false => self.disk.after_kill(survive),
        };
        let before = std::mem::replace(&mut self.disk, after);
        (self.disk.fault, self.disk.calls) = (before.fault, before.calls);
        self.disk.capacity_bytes = before.capacity_bytes;
    }

    /// Recovers and dies in the midst of it.
    pub fn recover_and_die(&mut self, now_us: u64, chances: u8) {
        self.disk.record = true;
        let _ = self.start(now_us);
        self.disk.record = false;
        let moments = std::mem::take(&mut self.disk.snapshots);
        if !moments.is_empty() {
            let moment = self.rng.usize(..moments.len());
            let (fault, capacity) = (self.disk.fault, self.disk.capacity_bytes);
            self.disk = moments[moment].clone();
            (self.disk.fault, self.disk.capacity_bytes) = (fault, capacity);
        }
        self.kill(true, chances);
    }

    /// Starts a process on whatever the disk holds.
    ///
    /// # Errors
    /// It does not start; nothing runs then.
    pub fn start(&mut self, now_us: u64) -> Result<(), Refused> {
        assert!(self.running.is_none());
        let request_ids = Arc::new(RequestIds::new(self.id, UNIX_EPOCH_MS + now_us / 1000));
        let limits = self.limits();
        let seed = self.rng.u64(..);
        let disk: &mut dyn Disk = &mut self.disk;
        let (salts, checkpoint) = match look(disk)? {
            Found::Ours(block) => ((block.identity.salt, block.files_salt), block.checkpoint),
            Found::Empty => {
                let identity = Identity {
                    cluster: CLUSTER,
                    member: self.id,
                    salt: self.rng.u64(..),
                };
                create(disk, &identity, &limits)?;
                ((identity.salt, identity.salt), Index(0))
            }
        };
        let (files_seed, files_salt) = salts;
        let config = self.config(Arc::clone(&request_ids), seed, files_seed);
        let disk: &mut dyn Disk = &mut self.disk;
        let mut boot = match checkpoint {
            Index(0) => Boot::first(config),
            index => {
                let mut content = CheckpointContent::new(config.store);
                let mut reader = CheckpointReader::open(disk, index, files_salt)?;
                while let Some(chunk) = reader.next(disk)? {
                    content.push(chunk)?;
                }
                Boot::restore(config, index, content, disk, files_salt, &mut |_, _| {})?
            }
        };
        let named = boot.named().to_vec();
        let told = RecoverConfig {
            expect: Some((CLUSTER, self.id)),
            accept_data_loss: false,
            limits,
            segments: &named,
        };
        let recovered = recover(
            disk,
            &told,
            &mut |event, disk| boot.on_event(event, disk),
            &mut |_| {},
        )?;
        let replica = boot.start(recovered, disk)?;
        let watch = Side::new(CLUSTER, self.id, &replica).expect("nothing else is held yet");
        self.running = Some(Process {
            replica,
            watch,
            jobs: VecDeque::new(),
            is_working: false,
            wake_us: None,
            is_stopping: false,
            paused_until_us: 0,
            request_ids,
            began_us: now_us,
        });
        Ok(())
    }

    /// The sizes of its log.
    #[must_use]
    pub fn limits(&self) -> WalLimits {
        let segment_bytes_min = self.settings.segment_pages * 4096;
        WalLimits {
            group_bytes: self.settings.group_bytes,
            run_bytes_max: RUN_BYTES_MAX,
            segment_bytes_min,
            segment_bytes_max: 2 * segment_bytes_min,
            ballast_bytes: 4096,
            fill_bytes: 16 << 10,
        }
    }

    fn config(&self, request_ids: Arc<RequestIds>, seed: u64, files_seed: u64) -> ReplicaConfig {
        let initial = (0..usize::from(self.settings.members)).map(|number| Member {
            id: member_id(number),
            name: format!("m{number}"),
            peer_urls: vec![format!("http://10.0.0.{number}:2380")],
            ..Member::default()
        });
        ReplicaConfig {
            cluster: CLUSTER,
            me: self.id,
            name: format!("m{}", self.id),
            client_urls: vec![format!("http://{}:2379", self.id)],
            initial: initial.collect(),
            request_ids,
            force_new_cluster: false,
            quota_bytes: -1,
            auto_disarm: true,
            auto_compaction: None,
            scrub_first: None,
            checkpoint_bytes: u64::MAX,
            checkpoint_entries: self.settings.checkpoint_entries,
            checkpoint_unfiled_bytes: self.settings.checkpoint_unfiled_bytes,
            store: StoreConfig {
                segment_bytes: self.settings.store_segment_bytes,
                // All of a run's: reads here want all that they need at once.
                cache_bytes: u64::MAX,
                files_seed,
            },
            raft: basalt_engine::raft::Settings {
                seed,
                heartbeat: Millis(self.settings.heartbeat_ms),
                election: Millis(self.settings.election_ms),
                catch_up_bytes: self.settings.catch_up_bytes,
                catch_up_entries: u64::MAX,
                append_bytes: self.settings.append_bytes,
            },
        }
    }
}

/// The id of the member with that number.
#[must_use]
pub fn member_id(number: usize) -> MemberId {
    MemberId(0xbd01 + number as u64)
}

const CLUSTER: ClusterId = ClusterId(0xc1);

/// Any date will do.
const UNIX_EPOCH_MS: u64 = 1_700_000_000_000;

/// Larger than any question of the workload.
const RUN_BYTES_MAX: usize = 24 << 10;

/// A member that wants to go on at once lets others do something meanwhile.
const SOON_US: u64 = 20;

/// No operation of a slow disk takes longer: it must be over some time after the disk has healed.
const SLOWEST_US: u64 = 5_000_000;
