//! How long a plan takes, near enough to show the time that is left. The constants are of a two-core machine.

use super::{Cell, Method, Plan};
use crate::record::Placement;

impl Plan {
    /// Seconds without and with the repeats that a restless machine makes.
    ///
    /// The second is an upper bound of what repeats add: every one that the plan allows.
    pub(crate) fn estimate(&self) -> (f64, f64) {
        let mut seconds = (0.0, 0.0);
        for cell in &self.cells {
            // A checked plan has every method.
            let Some(method) = self.methods.get(&cell.method) else {
                continue;
            };
            let slice = cell.slice_seconds(method);
            for placement in &method.placements {
                let slices = f64::from(cell.slices(method, *placement));
                let once = cell.begin_seconds(method) + slice * slices;
                seconds.0 += once;
                seconds.1 += once + slice * f64::from(method.repeats_max);
            }
        }
        seconds
    }

    /// A line for each cell: slices, seconds of one, servers, placements, title.
    pub(crate) fn table(&self) -> String {
        let line = |cell: &Cell| {
            let method = self.methods.get(&cell.method)?;
            let placements: Vec<&str> = method.placements.iter().map(|p| p.name()).collect();
            Some(format!(
                "  {:24} {:3} x {:4.1} s  {}  {}  {}\n",
                cell.name,
                cell.all_slices(method),
                cell.slice_seconds(method),
                cell.servers(method).join(","),
                placements.join(","),
                cell.title
            ))
        };
        self.cells.iter().filter_map(line).collect()
    }

    /// Slices of all cells and placements, without repeats.
    pub(crate) fn slices(&self) -> u32 {
        let of = |cell: &Cell| {
            let method = self.methods.get(&cell.method)?;
            Some(cell.all_slices(method))
        };
        self.cells.iter().filter_map(of).sum()
    }
}

impl Method {
    /// Rounds of one cell at this placement.
    pub(crate) fn rounds(&self, placement: Placement) -> u32 {
        match placement {
            Placement::Pinned => self.rounds,
            Placement::Unpinned => self.unpinned_rounds.unwrap_or(self.rounds),
        }
    }
}

impl Cell {
    /// Slices of one placement, without repeats.
    pub(crate) fn slices(&self, method: &Method, placement: Placement) -> u32 {
        method.rounds(placement) * 2 * self.servers(method).len() as u32
    }

    fn all_slices(&self, method: &Method) -> u32 {
        let of = |placement: &Placement| self.slices(method, *placement);
        method.placements.iter().map(of).sum()
    }

    /// Seconds of one slice from starting its server to removing it.
    pub(crate) fn slice_seconds(&self, method: &Method) -> f64 {
        let keys = f64::from(self.shape.keys);
        let load = if self.stay_up {
            0.0
        } else {
            self.start_seconds() + self.load_seconds()
        };
        let kills = f64::from(self.load.leader_kills.unwrap_or(0)) * KILL_SECONDS;
        let measured = if self.load.overload {
            // Capacity and half load before, half load after.
            method.seconds + 2.0 * (method.seconds / 6.0).clamp(2.0, 5.0) + method.seconds / 2.0
        } else if self.load.capacity_p99_ms.is_some() {
            SEARCH_SECONDS + CONFIRMATIONS * (method.seconds + method.warmup)
        } else {
            method.seconds
        };
        let watching = self.load.watchers().map_or(0.0, |watching| {
            let made = f64::from(watching.watchers) * WATCH_SECONDS;
            let history = f64::from(watching.watch_behind) * HISTORY_SECONDS;
            // The load without watchers, and a rest.
            (method.seconds / 2.0).min(15.0) + method.warmup + 1.0 + made + history
        });
        SETTLE_SECONDS + load + method.warmup + measured + kills + watching + keys * CHECK_SECONDS
    }

    /// Seconds before the first slice of a placement.
    pub(crate) fn begin_seconds(&self, method: &Method) -> f64 {
        if self.stay_up {
            self.servers(method).len() as f64 * (self.start_seconds() + self.load_seconds())
        } else {
            0.0
        }
    }

    fn start_seconds(&self) -> f64 {
        match self.load.members {
            1 => START_SECONDS,
            members => ELECTION_SECONDS + f64::from(members) * START_SECONDS,
        }
    }

    fn load_seconds(&self) -> f64 {
        let beyond = self.shape.value_size.saturating_sub(SMALL_BYTES);
        let writes = f64::from(self.shape.keys) * f64::from(self.shape.revisions);
        let leased = f64::from(self.shape.leased_keys) * LOAD_SECONDS + LEASE_SECONDS;
        writes * (LOAD_SECONDS + f64::from(beyond) * LOAD_BYTE_SECONDS)
            + f64::from(self.shape.leases) * leased
    }
}

const START_SECONDS: f64 = 0.4;
/// Before a new cluster has a leader.
const ELECTION_SECONDS: f64 = 1.0;
/// From one killed leader to the next, in the mean of fast and slow clusters.
const KILL_SECONDS: f64 = 3.5;
const SETTLE_SECONDS: f64 = 0.3;
/// Of one key.
const LOAD_SECONDS: f64 = 8e-6;
/// Of each byte of a value beyond the small ones, and how small those are.
const LOAD_BYTE_SECONDS: f64 = 1.5e-8;
const SMALL_BYTES: u32 = 1024;
/// Of one lease, by a request of its own.
const LEASE_SECONDS: f64 = 4e-5;
/// Of one key: the digest over all of them.
const CHECK_SECONDS: f64 = 4e-6;
/// Of creating one watcher, and of one put before watchers begin.
const WATCH_SECONDS: f64 = 1e-5;
const HISTORY_SECONDS: f64 = 5e-5;
/// Bisection of the capacity, and how often its result is looked at.
const SEARCH_SECONDS: f64 = 20.0;
const CONFIRMATIONS: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::super::{COMMITTED, Plan};

    /// Minutes that a committed plan may take with all its repeats.
    const MINUTES_MAX: &[(&str, f64)] = &[
        ("full", 90.0),
        ("quick", 5.0),
        ("a-a", 40.0),
        ("storage", 60.0),
        ("cluster", 20.0),
        ("watch", 15.0),
        ("lease", 15.0),
    ];

    #[test]
    fn every_committed_plan_is_measured_in_bounded_time() {
        for (name, text) in COMMITTED {
            let (_, most) = Plan::parse(text).unwrap().estimate();
            let (_, bound) = MINUTES_MAX
                .iter()
                .find(|(bounded, _)| bounded == name)
                .unwrap();
            assert!(
                most / 60.0 < *bound,
                "{name} takes up to {:.1} minutes",
                most / 60.0
            );
        }
    }
}
