use super::{Findings, gib};

/// What the findings come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    pub(super) fit: Fit,
    /// In whole sentences, the worst first.
    pub(super) reasons: Vec<String>,
}

/// How fit a disk is for a member; later ones are worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    Good,
    Usable,
    Unfit,
}

impl Fit {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Usable => "usable",
            Self::Unfit => "unfit",
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Good => "good: fit for a member",
            Self::Usable => "usable: a member runs here, but read what is said above",
            Self::Unfit => "unfit: do not run a member here",
        }
    }
}

pub(super) fn judge(found: &Findings) -> Advice {
    let mut said = vec![latency(found)];
    said.extend(filesystem(found));
    said.extend(space(found));
    said.extend(ways(found));
    said.sort_by_key(|(fit, _)| std::cmp::Reverse(*fit));
    Advice {
        fit: said.iter().map(|(fit, _)| *fit).max().unwrap_or(Fit::Good),
        reasons: said.into_iter().map(|(_, reason)| reason).collect(),
    }
}

/// How the log's writes become durable here.
pub(super) fn way(found: &Findings) -> &'static str {
    match (found.is_direct, found.has_dsync) {
        (true, true) => "with O_DIRECT and RWF_DSYNC",
        (true, false) => "with O_DIRECT and fdatasync",
        (false, true) => "through the page cache, with RWF_DSYNC",
        (false, false) => "through the page cache, with fdatasync",
    }
}

fn latency(found: &Findings) -> (Fit, String) {
    let slower = found.write.p99_us.max(found.fdatasync.p99_us);
    let ms = f64::from(slower) / 1000.0;
    match slower {
        0..FLUSH_P99_US_MAX => (
            Fit::Good,
            format!("p99 of a flush is {ms:.2} ms; etcd's guidance is below 10 ms"),
        ),
        FLUSH_P99_US_MAX..FLUSH_P99_US_UNFIT => (
            Fit::Usable,
            format!(
                "p99 of a flush is {ms:.0} ms, above the 10 ms of etcd's guidance: acknowledgements are slow, and elections may come \
                 under load; prefer a local SSD that nobody else writes to"
            ),
        ),
        _ => (
            Fit::Unfit,
            format!(
                "p99 of a flush is {ms:.0} ms, longer than a heartbeat of 100 ms: the leader is lost again and again; use a local SSD"
            ),
        ),
    }
}

fn filesystem(found: &Findings) -> Option<(Fit, String)> {
    let kind = found.filesystem.kind.as_str();
    match kind {
        "tmpfs" | "ramfs" => Some((
            Fit::Unfit,
            format!("{kind} lies in memory: nothing outlives a power cut"),
        )),
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "ceph" | "glusterfs" => Some((
            Fit::Usable,
            format!(
                "{kind} is a network's: a flush depends on the network and on what the server promises"
            ),
        )),
        "overlay" => Some((
            Fit::Usable,
            "overlay is a container's own layer, which goes with the container: mount a volume"
                .to_owned(),
        )),
        _ if found.write.p50_us < FLUSH_P50_US_MIN => Some((
            Fit::Usable,
            format!(
                "half of all flushes take less than {FLUSH_P50_US_MIN} us: without a cache that outlives a power cut no disk is that \
                 fast; make sure that this one keeps what it says"
            ),
        )),
        _ => None,
    }
}

fn space(found: &Findings) -> Option<(Fit, String)> {
    let free = found.filesystem.free_bytes;
    let reason = format!(
        "{} are free; with the default quota of 2 GiB a member may need {}: the data, the next checkpoint beside it, and the log",
        gib(free),
        gib(FREE_BYTES_MIN)
    );
    (free < FREE_BYTES_MIN).then_some((Fit::Usable, reason))
}

fn ways(found: &Findings) -> Vec<(Fit, String)> {
    let mut said = Vec::new();
    if let Some(why) = &found.no_uring {
        let reason = format!(
            "io_uring cannot be used ({why}): the log takes pwritev2 on a thread of its own, as durable, a little slower under load"
        );
        said.push((Fit::Good, reason));
    }
    if !found.is_direct {
        let reason = "O_DIRECT is refused: the log goes through the page cache, and what is read after a crash may come from memory";
        said.push((Fit::Usable, reason.to_owned()));
    }
    said
}

/// etcd's guidance for the 99th percentile of fdatasync: below 10 ms.
const FLUSH_P99_US_MAX: u32 = 10_000;

/// etcd's default heartbeat.
const FLUSH_P99_US_UNFIT: u32 = 100_000;

/// The fastest disks with a protected cache take about this long.
const FLUSH_P50_US_MIN: u32 = 8;

/// Twice the default quota and the log's largest size before a checkpoint is forced.
const FREE_BYTES_MIN: u64 = (4 << 30) + (1 << 29);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::disk::Latency;
    use crate::doctor::filesystem::Filesystem;
    use basalt_engine::io::WalIoKind;

    fn found(p99_us: u32) -> Findings {
        let latency = Latency {
            count: 1000,
            p50_us: 100,
            p99_us,
            max_us: p99_us,
        };
        Findings {
            filesystem: Filesystem {
                kind: "ext4".to_owned(),
                device: "/dev/sda1".to_owned(),
                mount: "/".into(),
                free_bytes: 100 << 30,
                total_bytes: 200 << 30,
            },
            is_direct: true,
            has_dsync: true,
            no_uring: None,
            wal_io: WalIoKind::Uring,
            write: latency,
            fdatasync: latency,
        }
    }

    /// [DOCTOR-2] The line between fit and unfit is etcd's, not ours.
    #[test]
    fn a_flush_is_judged_by_etcds_guidance() {
        for (p99_us, fit) in [
            (9_999, Fit::Good),
            (10_000, Fit::Usable),
            (99_999, Fit::Usable),
            (100_000, Fit::Unfit),
        ] {
            assert_eq!(judge(&found(p99_us)).fit, fit, "{p99_us}");
        }
        let mut slow_sync = found(1_000);
        slow_sync.fdatasync.p99_us = 20_000;
        assert_eq!(judge(&slow_sync).fit, Fit::Usable);
    }

    /// [DOCTOR-2] A fast disk that forgets is the worst one.
    #[test]
    fn what_cannot_keep_data_is_named_whatever_its_speed() {
        let mut memory = found(100);
        memory.filesystem.kind = "tmpfs".to_owned();
        let advice = judge(&memory);
        assert_eq!(advice.fit, Fit::Unfit);
        assert!(advice.reasons[0].contains("power cut"), "{advice:?}");
        let mut fast = found(100);
        fast.write.p50_us = 2;
        assert_eq!(judge(&fast).fit, Fit::Usable);
        let mut full = found(100);
        full.filesystem.free_bytes = 1 << 30;
        assert!(judge(&full).reasons[0].contains("1.0 GiB are free"));
        let mut refused = found(100);
        refused.no_uring = Some("seccomp".to_owned());
        assert_eq!(judge(&refused).fit, Fit::Good);
    }
}
