//! Crashes at every call of a load, with every kind of loss, and again inside the recovery from each.

use basalt_engine::wal::{Found, look};
use fastrand::Rng;

use crate::crash::{Mark, Sim, Violation, check, read, restart, start};
use crate::sim_disk::Survive;
use crate::tools::in_parallel;

/// How thoroughly.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    /// Loads, each from a seed of its own.
    pub loads: u64,
    /// The first seed.
    pub seed: u64,
    /// Random things a load does.
    pub steps: usize,
    /// Every subset is tried up to this many units, one lost and one kept up to 64; above that, random ones.
    pub all_subsets_units: usize,
    /// Random subsets of each state.
    pub random_subsets: usize,
    /// One in so many first-level states is crashed again in its recovery, at every call.
    pub second_one_in: u64,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Moments of a load at which the power was cut.
    pub moments: u64,
    /// States that recovery was run on: a moment with a choice of what survived.
    pub states: u64,
    /// Those among them that were cut inside a recovery.
    pub second: u64,
    /// Loads that went on after the crash and crashed again.
    pub continued: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.moments += other.moments;
        self.states += other.states;
        self.second += other.second;
        self.continued += other.continued;
    }
}

/// Runs the loads, on all processors. A violation is told with the seed and the place.
pub fn crashes(depth: Depth) -> Result<Tally, Violation> {
    let mut tally = Tally::default();
    for load in in_parallel(depth.loads, |load| crashes_of(&depth, depth.seed + load)) {
        tally.add(load?);
    }
    Ok(tally)
}

/// Those of one load. The first violation ends it.
fn crashes_of(depth: &Depth, seed: u64) -> Result<Tally, Violation> {
    let mut tally = Tally::default();
    let mut rng = Rng::with_seed(seed);
    let snapshots = snapshots_of(seed, depth.steps);
    for (moment, snapshot) in snapshots.iter().enumerate() {
        tally.moments += 1;
        let mut at = Place {
            seed,
            moment,
            choice: String::new(),
        };
        each_survival(depth, snapshot, &mut rng, &mut |rng, choice, survive| {
            at.choice = choice;
            let is_second = rng.u64(0..depth.second_one_in) == 0;
            one(
                &snapshot.after_power_cut(survive),
                is_second,
                rng,
                &mut tally,
            )
            .map_err(|wrong| at.say(&wrong))
        })?;
        killed(snapshot, &mut rng, &mut tally).map_err(|wrong| at.say(&wrong))?;
    }
    Ok(tally)
}

#[derive(Debug)]
struct Place {
    seed: u64,
    moment: usize,
    choice: String,
}

impl Place {
    fn say(&self, wrong: &str) -> Violation {
        format!(
            "seed {}, moment {}, {}: {wrong}",
            self.seed, self.moment, self.choice
        )
    }
}

/// One load with every image on the way, restarts included.
fn snapshots_of(seed: u64, steps: usize) -> Vec<Sim> {
    let disk = Sim::recording();
    let mut member = start(disk, seed).expect("this disk does not fail");
    for part in 0..3 {
        member.work(steps / 3).expect("this disk does not fail");
        if part < 2 {
            if seed.is_multiple_of(2) {
                member.stop().expect("this disk does not fail");
            } else {
                member.settle().expect("this disk does not fail");
            }
            member = restart(member.disk, seed + part).expect("this disk does not fail");
        }
    }
    member.disk.snapshots
}

fn each_survival(
    depth: &Depth,
    snapshot: &Sim,
    rng: &mut Rng,
    go: &mut dyn FnMut(&mut Rng, String, Survive<'_>) -> Result<(), Violation>,
) -> Result<(), Violation> {
    let units = snapshot.units();
    go(rng, "nothing survives".to_owned(), Survive::Nothing)?;
    if units == 0 {
        return Ok(());
    }
    go(rng, "everything survives".to_owned(), Survive::Everything)?;
    if units <= depth.all_subsets_units {
        for bits in 1..(1 << units) - 1 {
            go(rng, format!("units {bits:#b} survive"), Survive::Bits(bits))?;
        }
        return Ok(());
    }
    for unit in 0..units.min(64) {
        go(rng, format!("unit {unit} is lost"), Survive::AllBut(unit))?;
        go(rng, format!("unit {unit} survives"), Survive::Only(unit))?;
    }
    for number in 0..depth.random_subsets {
        let (seed, chances) = (rng.u64(..), rng.u8(1..8));
        let mut chooser = Rng::with_seed(seed);
        go(
            rng,
            format!("random subset {number}"),
            Survive::Random(&mut chooser, chances),
        )?;
    }
    Ok(())
}

/// Recovers one image and holds the result against the model; then again after a crash at each call of that recovery, or
/// after going on with the load.
fn one(image: &Sim, is_second: bool, rng: &mut Rng, tally: &mut Tally) -> Result<(), Violation> {
    tally.states += 1;
    let mut disk = image.clone();
    disk.record = is_second;
    if !finished(&mut disk)? {
        return Ok(());
    }
    let first = read(&mut disk);
    check(&image.mark, &first)?;
    let snapshots = core::mem::take(&mut disk.snapshots);
    disk.record = false;
    for snapshot in &snapshots {
        for survive in [
            Survive::Nothing,
            Survive::Everything,
            Survive::Random(rng, 4),
        ] {
            tally.states += 1;
            tally.second += 1;
            let again = read(&mut snapshot.after_power_cut(survive));
            check(&image.mark, &again).map_err(|wrong| format!("in recovery: {wrong}"))?;
        }
    }
    if is_second {
        go_on(disk, rng, tally)?;
    }
    Ok(())
}

/// A directory in the making is made again and must then be an empty member's.
fn finished(disk: &mut Sim) -> Result<bool, Violation> {
    let is_made = disk.mark.is_made;
    match look(disk) {
        Ok(Found::Ours(_)) => Ok(true),
        Ok(Found::Empty) if is_made => Err("a finished directory looks empty".to_owned()),
        Ok(Found::Empty) => {
            let member =
                start(disk.clone(), 1).map_err(|refused| format!("made again: {refused}"))?;
            if member.disk.mark.acked.is_empty() {
                Ok(false)
            } else {
                Err("entries out of nothing".to_owned())
            }
        }
        Err(refused) => Err(format!("refused: {refused}")),
    }
}

/// The recovered member works on; its next crash is checked too: that is where old traces would hurt.
fn go_on(disk: Sim, rng: &mut Rng, tally: &mut Tally) -> Result<(), Violation> {
    let seed = rng.u64(..);
    let mut member = restart(disk, seed).map_err(|refused| format!("second start: {refused}"))?;
    member.disk.record = true;
    for _ in 0..3 {
        member.append();
        member.submit().expect("this disk does not fail");
        if rng.bool() {
            member.settle().expect("this disk does not fail");
        }
    }
    let snapshots = core::mem::take(&mut member.disk.snapshots);
    for snapshot in &snapshots {
        for chances in [0, 2, 6] {
            let survive = Survive::Random(rng, chances);
            tally.states += 1;
            tally.continued += 1;
            let mut cut = snapshot.after_power_cut(survive);
            check(&snapshot.mark, &read(&mut cut))
                .map_err(|wrong| format!("after going on: {wrong}"))?;
        }
    }
    Ok(())
}

/// The process dies, its writes live in caches; it restarts, promises what it read, and then the power is cut.
fn killed(snapshot: &Sim, rng: &mut Rng, tally: &mut Tally) -> Result<(), Violation> {
    for part in [Survive::Everything, Survive::Random(rng, 4)] {
        tally.states += 1;
        let mut disk = snapshot.after_kill(part);
        if !finished(&mut disk)? {
            continue;
        }
        let first = read(&mut disk);
        check(&snapshot.mark, &first).map_err(|wrong| format!("killed: {wrong}"))?;
        let promised = first.map_err(|refused| refused.to_string())?;
        let mark = Mark {
            acked: promised.log.clone(),
            flying: promised.log,
            promised: promised.recovered.hard,
            ..snapshot.mark.clone()
        };
        tally.states += 1;
        let again = read(&mut disk.after_power_cut(Survive::Nothing));
        check(&mark, &again).map_err(|wrong| format!("killed, read, then cut: {wrong}"))?;
    }
    Ok(())
}
