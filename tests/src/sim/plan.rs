//! Everything that is decided before a simulation runs: settings, what clients ask, and which faults come when.
//!
//! A plan is plain data, so that it can be kept, read and cut down while it still fails. What it leaves open (which sectors of a
//! torn write survive, how long a message travels) is drawn from its seed by the part that needs it.

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use super::watch::{self, Watch};
use super::workload::{Step, draw_steps};

/// One simulation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// What is drawn during the run is drawn from this.
    pub seed: u64,
    /// Sizes and speeds.
    pub settings: Settings,
    /// What clients ask, each client its own in this order.
    pub steps: Vec<Step>,
    /// Who watches.
    #[serde(default)]
    pub watches: Vec<Watch>,
    /// What goes wrong, by time.
    pub faults: Vec<Fault>,
}

/// What holds for a whole simulation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Members of the cluster.
    pub members: u8,
    /// Clients.
    pub clients: u8,
    /// How long faults may last; then the majority must serve.
    pub safety_ms: u64,
    /// After this a client takes its answer for lost.
    pub patience_ms: u64,
    /// Pages of the log's smallest segment.
    pub segment_pages: u64,
    /// Bytes at which a group of the log closes.
    pub group_bytes: usize,
    /// Bytes of a segment of the revision log.
    pub store_segment_bytes: usize,
    /// Entries after which a checkpoint is due.
    pub checkpoint_entries: u64,
    /// Bytes of records in no file after which a checkpoint is due.
    pub checkpoint_unfiled_bytes: u64,
    /// Bytes of log that are kept for members who lag.
    #[serde(default = "catch_up_bytes_of_old_plans")]
    pub catch_up_bytes: usize,
    /// What a durable write takes on average.
    pub disk_us: u64,
    /// What a step of background work takes on average.
    pub job_us: u64,
    /// What a message takes on average.
    pub link_us: u64,
    /// Of 1,000 messages: lost, sent twice, spoilt.
    pub link_permille: [u16; 3],
    /// Bytes of entries in one message.
    #[serde(default = "append_bytes_of_old_plans")]
    pub append_bytes: usize,
    /// A leader is waited for so long, at least.
    pub election_ms: u64,
    /// A leader says that it is there so often.
    pub heartbeat_ms: u64,
    /// By how many permille each member's clock runs too fast or too slow, at most.
    pub drift_permille: u16,
    /// Every so many answers, the disks are searched for the entry behind one.
    pub durable_check_one_in: u32,
}

/// Something that goes wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// When, in microseconds from the start.
    pub at_us: u64,
    /// What.
    pub kind: FaultKind,
}

/// What can go wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FaultKind {
    /// The process dies. Of what is not flushed each sector survives with `chances` in 8 if the power fails with it; else
    /// only writes in flight are in doubt.
    Crash {
        /// Which member.
        member: u8,
        /// Whether the power fails.
        power: bool,
        /// Of survival, in 8.
        chances: u8,
        /// Until it is started again.
        down_ms: u64,
        /// Whether it dies once more while it recovers.
        in_recovery: bool,
    },
    /// All members lose power at once.
    Blackout {
        /// Of survival, in 8.
        chances: u8,
        /// Until they are started again.
        down_ms: u64,
    },
    /// A clean stop and start.
    Stop {
        /// Which member.
        member: u8,
    },
    /// The process gets no time, its disk goes on.
    Pause {
        /// Which member.
        member: u8,
        /// For how long.
        ms: u64,
        /// Whether its clock stands still meanwhile, as the monotonic one of a machine that was suspended.
        clock_stops: bool,
    },
    /// The next call to the disk fails, or all of them for a while.
    DiskError {
        /// Which member.
        member: u8,
        /// How it fails.
        error: DiskFault,
        /// For how long; 0 is once.
        ms: u64,
    },
    /// Others fill the disk.
    DiskFull {
        /// Which member.
        member: u8,
        /// Bytes left.
        left: u64,
        /// For how long.
        ms: u64,
    },
    /// Writes and background work take longer.
    DiskSlow {
        /// Which member.
        member: u8,
        /// So many times.
        times: u64,
        /// For how long.
        ms: u64,
    },
    /// The next write of the log is answered and done nowhere, or elsewhere.
    DiskLies {
        /// Which member.
        member: u8,
        /// By how many pages it goes astray; 0: it is lost.
        shift_pages: u64,
    },
    /// The power fails, and a durable bit flips before the member is back.
    Rot {
        /// Which member.
        member: u8,
        /// Which of its files, counted from the first.
        file: u8,
        /// Which byte, round and round.
        byte: u64,
        /// Until it is started again.
        down_ms: u64,
    },
    /// Messages from some members to others are lost.
    Cut {
        /// The senders, a bit for each.
        from: u8,
        /// The receivers.
        to: u8,
        /// Whether the other direction is cut too.
        both_ways: bool,
        /// For how long.
        ms: u64,
    },
    /// Messages between a member and all others are lost.
    Isolate {
        /// Which member.
        member: u8,
        /// Whether what it says is lost.
        says: bool,
        /// Whether what it is told is lost.
        hears: bool,
        /// For how long.
        ms: u64,
    },
    /// Leaders do not last: the next ones are cut off soon after they were elected, each for a while.
    Depose {
        /// How many of them.
        times: u8,
        /// How soon, on average.
        after_us: u64,
        /// For how long.
        ms: u64,
    },
    /// The leader, if there is one, is asked to hand over.
    Transfer {
        /// To whom.
        to: u8,
    },
    /// All links get worse.
    Noise {
        /// As in the settings.
        permille: [u16; 3],
        /// Messages travel so many times longer, each by its own luck.
        slower: u64,
        /// For how long.
        ms: u64,
    },
}

/// How a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskFault {
    /// EIO.
    Failed,
    /// ENOSPC.
    NoSpace,
    /// EROFS.
    ReadOnly,
    /// A write that ends early again and again.
    Short,
}

/// What a campaign asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Members; 0 lets the seed decide.
    pub members: u8,
}

impl Plan {
    /// Draws a simulation. Each seed has its own sizes, its own few kinds of faults, and its own weights of what clients ask.
    #[must_use]
    pub fn draw(seed: u64, wish: Wish) -> Self {
        let mut rng = Rng::with_seed(seed);
        let settings = Settings::draw(&mut rng, wish);
        let count = rng.usize(40..160);
        let steps = draw_steps(&mut rng, &settings, count);
        let faults = draw_faults(&mut rng, &settings);
        let watches = watch::draw(&mut rng, &settings);
        Self {
            seed,
            settings,
            steps,
            watches,
            faults,
        }
    }
}

impl Settings {
    fn draw(rng: &mut Rng, wish: Wish) -> Self {
        let members = match wish.members {
            0 => MEMBERS[rng.usize(..MEMBERS.len())],
            members => members,
        };
        let quiet = rng.bool();
        let election_ms = log_uniform(rng, 100, 2_000);
        let permille = |rng: &mut Rng| match quiet {
            true => 0,
            false => rng.u16(0..100),
        };
        Self {
            members,
            clients: rng.u8(1..6),
            safety_ms: rng.u64(4_000..12_000),
            patience_ms: rng.u64(500..4_000),
            segment_pages: rng.u64(6..17),
            group_bytes: rng.usize(2_000..16_000),
            store_segment_bytes: rng.usize(1_000..6_000),
            checkpoint_entries: log_uniform(rng, 4, 200),
            checkpoint_unfiled_bytes: log_uniform(rng, 2_000, 100_000),
            // Often less than what somebody misses: then a snapshot comes.
            catch_up_bytes: usize::try_from(log_uniform(rng, 200, 100_000)).expect("small"),
            disk_us: log_uniform(rng, 50, 20_000),
            job_us: log_uniform(rng, 100, 50_000),
            link_us: log_uniform(rng, 50, 20_000),
            link_permille: [permille(rng), permille(rng), permille(rng) / 4],
            election_ms,
            append_bytes: log_uniform(rng, 1, 100_000) as usize,
            heartbeat_ms: election_ms / rng.u64(5..12),
            drift_permille: rng.u16(0..50),
            durable_check_one_in: 8,
        }
    }
}

fn catch_up_bytes_of_old_plans() -> usize {
    16 << 20
}

fn append_bytes_of_old_plans() -> usize {
    1 << 20
}

/// At least `FAULTS_MIN`, of a few kinds. They come one by one, or, in every other seed, several to one member at about one time.
fn draw_faults(rng: &mut Rng, settings: &Settings) -> Vec<Fault> {
    let all = if settings.members == 1 { ALONE } else { ALL };
    let enabled = rng.u32(..) | 1 << rng.u32(0..all);
    let kinds: Vec<u32> = (0..all).filter(|kind| enabled >> kind & 1 == 1).collect();
    let count = rng.usize(FAULTS_MIN..FAULTS_MAX);
    let together = if rng.bool() { 1 } else { rng.usize(2..5) };
    let leaders_in_8 = rng.u8(0..6);
    let mut faults: Vec<Fault> = Vec::new();
    while faults.len() < count {
        let from_us = rng.u64(0..settings.safety_ms * 1000);
        let member = match rng.u8(0..8) < leaders_in_8 {
            true => LEADER,
            false => rng.u8(0..settings.members),
        };
        for _ in 0..together {
            let kind = kinds[rng.usize(..kinds.len())];
            let later_us = log_uniform(rng, 1, 4_000 * settings.election_ms);
            faults.push(Fault {
                at_us: match together {
                    1 => from_us,
                    _ => (from_us + later_us).min(settings.safety_ms * 1000 - 1),
                },
                kind: draw_fault(rng, settings, kind, member),
            });
        }
    }
    faults.sort_by_key(|fault| fault.at_us);
    faults
}

fn draw_fault(rng: &mut Rng, settings: &Settings, kind: u32, member: u8) -> FaultKind {
    // What lasts about as long as an election is the worst.
    let ms = match rng.bool() {
        true => log_uniform(rng, 5, settings.safety_ms / 4),
        false => log_uniform(rng, settings.election_ms / 2, 4 * settings.election_ms),
    };
    match kind {
        0 => FaultKind::Crash {
            member,
            power: true,
            chances: rng.u8(0..9),
            down_ms: ms,
            in_recovery: rng.u8(0..4) == 0,
        },
        1 => FaultKind::Crash {
            member,
            power: false,
            chances: rng.u8(0..9),
            down_ms: ms,
            in_recovery: false,
        },
        2 => FaultKind::Pause {
            member,
            ms,
            clock_stops: rng.bool(),
        },
        3 => FaultKind::DiskError {
            member,
            error: DISK_FAULTS[rng.usize(..DISK_FAULTS.len())],
            ms: if rng.bool() { 0 } else { ms },
        },
        4 => FaultKind::DiskFull {
            member,
            left: log_uniform(rng, 1, 100_000),
            ms,
        },
        5 => FaultKind::DiskSlow {
            member,
            times: log_uniform(rng, 2, 1000),
            ms,
        },
        6 => FaultKind::Stop { member },
        7 => FaultKind::Blackout {
            chances: rng.u8(0..9),
            down_ms: ms,
        },
        8 => FaultKind::Rot {
            // A majority keeps what it wrote.
            member: rng.u8(0..((settings.members - 1) / 2).max(1)),
            file: rng.u8(..),
            byte: rng.u64(0..1 << 20),
            down_ms: ms,
        },
        9 => FaultKind::Transfer {
            to: rng.u8(0..settings.members),
        },
        10 => FaultKind::Noise {
            permille: [rng.u16(0..500), rng.u16(0..500), rng.u16(0..100)],
            slower: log_uniform(rng, 1, 100),
            ms,
        },
        11 => {
            let way = rng.u8(1..4);
            FaultKind::Isolate {
                member,
                says: way & 1 == 1,
                hears: way & 2 == 2,
                ms,
            }
        }
        12 => FaultKind::Depose {
            times: rng.u8(1..8),
            after_us: log_uniform(rng, 100, 1_000 * settings.election_ms),
            ms: log_uniform(rng, settings.election_ms, 6 * settings.election_ms),
        },
        _ => FaultKind::Cut {
            from: rng.u8(1..1 << settings.members),
            to: rng.u8(1..1 << settings.members),
            both_ways: rng.bool(),
            ms,
        },
    }
}

/// Each order of magnitude as likely as the others.
fn log_uniform(rng: &mut Rng, from: u64, to: u64) -> u64 {
    let (low, high) = ((from as f64).ln(), (to.max(from + 1) as f64).ln());
    ((low + rng.f64() * (high - low)).exp() as u64).clamp(from, to)
}

/// Kinds of faults of a member alone, and of several.
const ALONE: u32 = 9;
const ALL: u32 = 15;

/// In place of a member: whoever leads when the fault strikes.
pub const LEADER: u8 = u8::MAX;

/// What a seed has at least and at most.
const FAULTS_MIN: usize = 10;
const FAULTS_MAX: usize = 24;

/// Sizes of clusters, by their weights.
const MEMBERS: &[u8] = &[1, 2, 3, 3, 3, 3, 3, 5];

const DISK_FAULTS: [DiskFault; 4] = [
    DiskFault::Failed,
    DiskFault::NoSpace,
    DiskFault::ReadOnly,
    DiskFault::Short,
];
