//! From a directory to a member: lock it, then recover what it holds or bootstrap a new cluster.
//!
//! Promises: a member that was there keeps its ids; a directory that cannot be read whole is refused with what is wrong, where, and
//! what to do. Never: an empty start over data, a change to another program's directory. Start at [`boot`].

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use basalt_engine::io::{AheadDisk, DataDir, DirRefused};
use basalt_engine::limits::{
    CHECKPOINT_BYTES, CHECKPOINT_ENTRIES, CHECKPOINT_UNFILED_BYTES, SCRUB_FIRST_MS,
};
use basalt_engine::member::{Member, RequestIds};
use basalt_engine::mvcc::StoreConfig;
use basalt_engine::raft::Settings;
use basalt_engine::replica::{
    BadContent, Boot, BootFailed, CheckpointContent, Replica, ReplicaConfig, run_bytes_max,
};
use basalt_engine::types::{ClusterId, Index, MemberId, Millis};
use basalt_engine::wal::{
    self, CheckpointReader, Corrupt, Found, Progress, RecoverConfig, WalLimits,
};

use crate::bootstrap::FirstMembers;
use crate::config::Config;
use crate::log::log_contract::ADDED_MEMBER;
use crate::{log, memory};

/// A member that only needs somebody to turn it.
pub struct Booted {
    /// The locked directory. Dropping it gives the lock back.
    pub dir: DataDir,
    /// The member.
    pub replica: Replica,
    /// The cluster's id, for every header.
    pub cluster: ClusterId,
    /// The member's id.
    pub member: MemberId,
    /// Draws the ids of proposals, for all threads.
    pub request_ids: Arc<RequestIds>,
    /// Whom the first start named: the others' addresses until the log tells them.
    pub first_members: Vec<Member>,
    /// Drawn at this start, so that the others can tell this process from an earlier one.
    pub session: u64,
}

/// Why a member cannot start. Nothing was changed then, but that an empty directory may have been made.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The flags describe no cluster that can be made.
    #[error("{0}")]
    Bootstrap(String),
    /// The directory cannot be opened or locked.
    #[error(transparent)]
    Directory(#[from] DirRefused),
    /// What it holds cannot be used.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The checkpoint is whole, but not the state of a member.
    #[error(transparent)]
    Checkpoint(#[from] BadContent),
    /// The log is whole, but does not lead to a state.
    #[error(transparent)]
    Replay(#[from] BootFailed),
    /// A new log needs a random salt.
    #[error("the system gives no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
}

/// Makes or recovers the member that `config` names. Takes as long as reading the checkpoint and the log; says how far it is every 2 s.
pub fn boot(config: &Config) -> Result<Booted, BootError> {
    let dir = DataDir::open(&config.data_dir)?;
    notices(dir.notices());
    let mut disk = dir.ahead_disk();
    let limits = wal_limits(config);
    let (identity, first, checkpoint, files_salt) = match wal::look(&mut disk)? {
        Found::Empty => {
            let first = FirstMembers::of(config)?;
            first.refuse_lost_data(config)?;
            let identity = first.identity()?;
            wal::create(&mut disk, &identity, &limits)?;
            (identity, Some(first), Index(0), identity.salt)
        }
        Found::Ours(superblock) => {
            let identity = superblock.identity;
            // Needed only where the first start ended before its first entries were in the log, and of use only if it was this cluster's.
            // Asking a cluster again is for such a member alone.
            let is_needed = superblock.checkpoint == Index(0) && superblock.floor_index == Index(0);
            let first = match config.bootstrap.joins_existing && !is_needed {
                true => None,
                false => FirstMembers::of(config).ok(),
            };
            let first = first.filter(|first| first.is_of(&identity));
            (
                identity,
                first,
                superblock.checkpoint,
                superblock.files_salt,
            )
        }
    };
    let first_members = first
        .as_ref()
        .map_or(Vec::new(), |first| first.members.clone());
    // Whoever joins gets the log, and with it the first entries, from the others.
    let initial = match &first {
        Some(first) if !first.has_log => first.members.clone(),
        _ => Vec::new(),
    };
    let mut session = [0; 8];
    getrandom::fill(&mut session)?;
    let session = u64::from_ne_bytes(session);
    let cache_bytes = config
        .limits
        .cache_bytes
        .unwrap_or_else(memory::cache_bytes);
    let request_ids = Arc::new(RequestIds::new(identity.member, unix_millis()));
    let replica_config = ReplicaConfig {
        cluster: identity.cluster,
        me: identity.member,
        name: config.name.clone(),
        client_urls: config
            .advertise_client
            .iter()
            .map(ToString::to_string)
            .collect(),
        initial,
        force_new_cluster: config.force_new_cluster,
        request_ids: Arc::clone(&request_ids),
        quota_bytes: config.limits.quota_bytes,
        auto_disarm: config.auto_disarm,
        auto_compaction: config.auto_compaction,
        checkpoint_bytes: CHECKPOINT_BYTES,
        checkpoint_entries: CHECKPOINT_ENTRIES,
        checkpoint_unfiled_bytes: CHECKPOINT_UNFILED_BYTES.min(cache_bytes.max(CHECKPOINT_BYTES)),
        scrub_first: Some(Millis(SCRUB_FIRST_MS)),
        store: StoreConfig {
            cache_bytes,
            files_seed: identity.salt,
            ..StoreConfig::default()
        },
        raft: Settings {
            seed: session,
            heartbeat: millis(config.heartbeat),
            election: millis(config.election),
            catch_up_entries: config.limits.catch_up_entries.unwrap_or(u64::MAX),
            ..Settings::default()
        },
    };
    let began = Instant::now();
    let mut boot = if checkpoint > Index(0) {
        restore(&mut disk, checkpoint, files_salt, replica_config)?
    } else {
        Boot::first(replica_config)
    };
    let named = boot.named().to_vec();
    let recover = RecoverConfig {
        expect: None,
        accept_data_loss: config.accept_data_loss,
        limits,
        segments: &named,
    };
    let mut report = ProgressReport::new("replaying the log");
    let recovered = wal::recover(
        &mut disk,
        &recover,
        &mut |event, disk| boot.on_event(event, disk),
        &mut |Progress {
                  done_bytes,
                  total_bytes,
              }| report.on_progress(done_bytes, total_bytes),
    )?;
    notices(&recovered.notices);
    let (cluster, member) = (identity.cluster, identity.member);
    if recovered.last == Index(0) {
        say_first(config, cluster, member, &first_members)?;
    } else {
        let message = match config.force_new_cluster {
            true => "forcing restart member",
            false => "restarting local member",
        };
        tracing::info!(
            "cluster-id" = %cluster,
            "local-member-id" = %member,
            "commit-index" = recovered.hard.commit.0,
            "last-index" = recovered.last.0,
            "checkpoint-index" = checkpoint.0,
            "clean-stop" = recovered.is_clean,
            took = ?began.elapsed(),
            "{message}"
        );
    }
    let replica = boot.start(recovered, &mut disk)?;
    Ok(Booted {
        dir,
        replica,
        cluster,
        member,
        request_ids,
        first_members,
        session,
    })
}

fn say_first(
    config: &Config,
    cluster: ClusterId,
    own: MemberId,
    initial: &[Member],
) -> Result<(), BootError> {
    if initial.is_empty() {
        return Err(BootError::Bootstrap(format!(
            "the first start of member {own} of cluster {cluster} was interrupted, and the flags describe another cluster; start it \
             with its first flags, or remove {}, which holds no data yet",
            config.data_dir.display()
        )));
    }
    tracing::info!(
        "local-member-id" = %own,
        "cluster-id" = %cluster,
        "initial-cluster" = config.bootstrap.initial_cluster,
        "initial-cluster-token" = config.bootstrap.token,
        "starting local member"
    );
    for member in initial {
        tracing::info!(
            "cluster-id" = %cluster,
            "local-member-id" = %own,
            "added-peer-id" = %member.id,
            "added-peer-peer-urls" = ?log::list(&member.peer_urls),
            "added-peer-is-learner" = member.is_learner,
            "{ADDED_MEMBER}"
        );
    }
    Ok(())
}

fn restore(
    disk: &mut AheadDisk,
    index: Index,
    salt: u64,
    config: ReplicaConfig,
) -> Result<Boot, BootError> {
    let mut reader = CheckpointReader::open(disk, index, salt)?;
    let mut content = CheckpointContent::new(config.store);
    let mut report = ProgressReport::new("reading the checkpoint");
    let (mut done, total) = (0, reader.bytes());
    while let Some(chunk) = reader.next(disk)? {
        done += chunk.len() as u64;
        content.push(chunk)?;
        report.on_progress(done, total);
    }
    let mut report = ProgressReport::new("reading the revision log");
    let mut on_segments = |done, total| report.on_progress(done, total);
    Ok(Boot::restore(
        config,
        index,
        content,
        disk,
        salt,
        &mut on_segments,
    )?)
}

/// One line every [`PROGRESS_INTERVAL`] of a long start.
struct ProgressReport {
    what: &'static str,
    last: Instant,
}

impl ProgressReport {
    fn new(what: &'static str) -> ProgressReport {
        ProgressReport {
            what,
            last: Instant::now(),
        }
    }

    fn on_progress(&mut self, done_bytes: u64, total_bytes: u64) {
        if self.last.elapsed() >= PROGRESS_INTERVAL {
            self.last = Instant::now();
            tracing::info!(
                "done-bytes" = done_bytes,
                "total-bytes" = total_bytes,
                "{}",
                self.what
            );
        }
    }
}

/// A run is at least one request, however large requests may be.
pub(crate) fn wal_limits(config: &Config) -> WalLimits {
    let request = usize::try_from(config.limits.request_bytes).expect("checked against 256 MiB");
    WalLimits {
        run_bytes_max: run_bytes_max(request),
        ..WalLimits::default()
    }
}

fn notices(notices: &[String]) {
    for notice in notices {
        tracing::warn!("{notice}");
    }
}

fn millis(span: Duration) -> Millis {
    Millis(u64::try_from(span.as_millis()).expect("50 s at most"))
}

/// A clock before 1970 only makes request ids start low.
fn unix_millis() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Long enough not to fill a log, short enough that nobody takes a start for hung.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn config(dir: &std::path::Path, more: &[&str]) -> Config {
        let mut args = vec![
            format!("--data-dir={}", dir.display()),
            "--name=a".to_owned(),
        ];
        args.extend(more.iter().map(|word| (*word).to_owned()));
        load(&args, std::iter::empty(), &mut Vec::new()).expect("a good command line")
    }

    /// The first start may end after the directory was made and before anything is in its log.
    #[test]
    fn an_interrupted_first_start_is_taken_up_with_the_same_ids() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = boot(&config(dir.path(), &[])).expect("an empty directory");
        let ids = (first.cluster, first.member);
        drop(first);
        let second = boot(&config(dir.path(), &[])).expect("the same member");
        assert_eq!((second.cluster, second.member), ids);
        drop(second);
        let other = config(dir.path(), &["--initial-cluster-token=other"]);
        let Err(BootError::Bootstrap(error)) = boot(&other) else {
            panic!("another cluster started here")
        };
        assert!(error.contains("was interrupted"), "{error}");
    }

    /// The vector was seen on stock etcd.
    #[test]
    fn ids_are_those_that_etcd_would_give() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = config(
            dir.path(),
            &["--initial-advertise-peer-urls=http://127.0.0.1:34791"],
        );
        let booted = boot(&config).expect("an empty directory");
        assert_eq!(booted.member.to_string(), "f4927a4bc576a057");
        assert_eq!(booted.cluster.to_string(), "c57554977896bf9c");
    }

    #[test]
    fn clusters_that_cannot_be_made_are_refused_and_leave_the_directory_empty() {
        let dir = tempfile::tempdir().expect("a directory");
        for (flags, expected) in [
            (
                "--initial-cluster-state=existing",
                "could not retrieve cluster information",
            ),
            ("--discovery-srv=example.org", "not supported yet"),
        ] {
            let Err(BootError::Bootstrap(error)) = boot(&config(dir.path(), &[flags])) else {
                panic!("{flags} started")
            };
            assert!(error.contains(expected), "{error}");
        }
        assert!(boot(&config(dir.path(), &[])).is_ok());
    }
}
