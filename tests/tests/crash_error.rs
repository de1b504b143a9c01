//! Error enumeration: every call of a load and of a recovery fails, in every way, once and for ever.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests.

use basalt_engine::disk::DiskErrorKind;
use basalt_engine::wal::{Corrupt, Space};
use basalt_tests::crash::{Member, Sim, check, read, restart, start};
use basalt_tests::sim_disk::{Fault, Survive};
use basalt_tests::tools;

const KINDS: [DiskErrorKind; 5] = [
    DiskErrorKind::Failed,
    DiskErrorKind::NoSpace,
    DiskErrorKind::ReadOnly,
    DiskErrorKind::Short,
    DiskErrorKind::Denied,
];

const STEPS: usize = 80;

fn faults(calls: std::ops::Range<u64>) -> impl Iterator<Item = Fault> {
    let fault = |call, kind| {
        [false, true].map(|for_ever| Fault {
            call,
            for_ever,
            kind,
        })
    };
    calls.flat_map(move |call| KINDS.into_iter().flat_map(move |kind| fault(call, kind)))
}

fn loads() -> u64 {
    tools::count("BASALT_ERROR_LOADS", 2)
}

/// After any outcome: the power comes back, the disk is sound, and nothing acknowledged is missing.
fn restart_finds_everything(member: &Member, what: Fault) {
    for survive in [Survive::Nothing, Survive::Everything] {
        let mut disk = member.disk.after_power_cut(survive);
        check(&member.disk.mark, &read(&mut disk))
            .unwrap_or_else(|wrong| panic!("{what:?}: {wrong}"));
    }
}

#[test]
fn after_a_failed_write_nothing_more_is_acknowledged() {
    let tallies = tools::in_parallel(loads(), |seed| {
        let (mut stopped, mut survived) = (0_u64, 0_u64);
        let mut whole = start(Sim::default(), seed).unwrap();
        let from = whole.disk.calls + 1;
        whole.work(STEPS).unwrap();
        for fault in faults(from..whole.disk.calls + 1) {
            let mut member = start(Sim::default(), seed).unwrap();
            member.disk.fault = Some(fault);
            let outcome = member.work(STEPS);
            let acked = member.disk.mark.acked.clone();
            if outcome.is_err() {
                stopped += 1;
                assert_eq!(member.wal.failed().copied(), outcome.err(), "{fault:?}");
                assert!(member.wal.poll_op().is_none(), "{fault:?}: the log went on");
                member.append();
                // Whatever else is tried, the stop is final, also when the disk is sound again.
                member.disk.fault = None;
                assert!(member.wal.is_idle());
                member.submit().unwrap();
                assert_eq!(
                    member.disk.mark.acked, acked,
                    "{fault:?}: acknowledged after the failure"
                );
            } else {
                survived += 1;
            }
            restart_finds_everything(&member, fault);
        }
        (stopped, survived)
    });
    let stopped: u64 = tallies.iter().map(|tally| tally.0).sum();
    let survived: u64 = tallies.iter().map(|tally| tally.1).sum();
    println!("{stopped} stopped, {survived} went on");
    assert!(stopped > 100);
    assert!(survived > 100);
}

#[test]
fn a_log_without_space_says_so_and_goes_on_when_there_is_some() {
    for seed in 0..loads() {
        let mut member = start(Sim::default(), seed).unwrap();
        member.settle().unwrap();
        // From now on no file can be made or grown; what is there can be written. Frames are not counted: they have room.
        let mut low = None;
        for _ in 0..200 {
            member.append();
            member.submit().unwrap();
            let call = member.disk.calls + 1;
            member.disk.fault = Some(Fault {
                call,
                for_ever: true,
                kind: DiskErrorKind::NoSpace,
            });
            member.settle_jobs();
            member.disk.fault = None;
            member.land_all().unwrap();
            if let Space::Low { left, cause } = member.wal.space() {
                assert_eq!(cause.kind, DiskErrorKind::NoSpace);
                low = Some(left);
                if member.wal.room() == 0 {
                    break;
                }
            }
        }
        assert!(low.is_some(), "the lack of space was never told");
        let staged = member.wal.last();
        assert!(member.wal.durable() < staged, "the log never filled up");
        // Space is back.
        member.settle().unwrap();
        for _ in 0..20 {
            member.wal.retry_space();
            member.settle_jobs();
        }
        member.settle().unwrap();
        assert_eq!(member.wal.space(), Space::Enough);
        assert_eq!(member.wal.durable(), staged);
        member.work(STEPS).unwrap();
        member.settle().unwrap();
        check(
            &member.disk.mark,
            &read(&mut member.disk.after_power_cut(Survive::Nothing)),
        )
        .unwrap();
    }
}

#[test]
fn a_failed_recovery_changes_nothing_and_can_be_repeated() {
    let tallies = tools::in_parallel(loads(), |seed| {
        let (mut cases, mut refused) = (0_u64, 0_u64);
        let mut member = start(Sim::default(), seed).unwrap();
        member.work(STEPS).unwrap();
        member.append();
        member.submit().unwrap();
        for chances in [0, 3, 8] {
            let mut rng = fastrand::Rng::with_seed(seed);
            let image = member
                .disk
                .after_power_cut(Survive::Random(&mut rng, chances));
            let mut whole = image.clone();
            read(&mut whole).unwrap();
            for fault in faults(1..whole.calls + 1) {
                cases += 1;
                let mut disk = image.clone();
                disk.fault = Some(fault);
                match read(&mut disk) {
                    Ok(_) => {}
                    Err(Corrupt::Disk(error)) => {
                        refused += 1;
                        assert_eq!(error.kind, fault.kind);
                    }
                    Err(other) => {
                        panic!("{fault:?}: an error of the disk was taken for damage: {other}")
                    }
                }
                disk.fault = None;
                let again = read(&mut disk.after_power_cut(Survive::Nothing));
                check(&image.mark, &again).unwrap_or_else(|wrong| panic!("{fault:?}: {wrong}"));
            }
        }
        (cases, refused)
    });
    let cases: u64 = tallies.iter().map(|tally| tally.0).sum();
    let refused: u64 = tallies.iter().map(|tally| tally.1).sum();
    println!("{cases} failures inside a recovery, {refused} refused");
    assert!(refused > 100, "{refused}");
}

#[test]
fn one_failed_read_is_repeated() {
    let mut member = start(Sim::default(), 5).unwrap();
    member.work(STEPS).unwrap();
    member.settle().unwrap();
    let image = member.disk.after_power_cut(Survive::Nothing);
    let mut whole = image.clone();
    read(&mut whole).unwrap();
    let read_once = (1..=whole.calls).filter(|call| {
        let mut disk = image.clone();
        disk.fault = Some(Fault {
            call: *call,
            for_ever: false,
            kind: DiskErrorKind::Failed,
        });
        read(&mut disk).is_ok()
    });
    assert!(read_once.count() > 5);
}

#[test]
fn a_failed_creation_can_be_repeated() {
    let mut whole = Sim::default();
    start(whole.clone(), 1).unwrap();
    basalt_engine::wal::create(
        &mut whole,
        &basalt_tests::crash::IDENTITY,
        &basalt_tests::crash::LIMITS,
    )
    .unwrap();
    for fault in faults(1..whole.calls + 1) {
        let mut disk = Sim::failing(fault);
        let made = basalt_engine::wal::create(
            &mut disk,
            &basalt_tests::crash::IDENTITY,
            &basalt_tests::crash::LIMITS,
        );
        disk.fault = None;
        for survive in [Survive::Nothing, Survive::Everything] {
            let again = disk.after_power_cut(survive);
            let member =
                start(again, 1).unwrap_or_else(|refused| panic!("{fault:?}, {made:?}: {refused}"));
            let mut member = restart(member.disk, 2).unwrap();
            member.work(20).unwrap();
        }
    }
}
