use super::*;
use crate::disk::{Disk, DiskError, DiskErrorKind};
use crate::types::MemberId;
use crate::wal::mem_disk::MemDisk;
use crate::wal::mem_disk::small::{IDENTITY, LIMITS, append_entry};
use crate::wal::{RecoverConfig, create, recover};

fn fresh() -> (MemDisk, Wal) {
    let mut disk = MemDisk::default();
    create(&mut disk, &IDENTITY, &LIMITS).unwrap();
    let config = RecoverConfig {
        limits: LIMITS,
        ..RecoverConfig::default()
    };
    let mut wal = recover(&mut disk, &config, &mut |_, _| {}, &mut |_| {})
        .unwrap()
        .wal;
    disk.drive(&mut wal);
    (disk, wal)
}

fn append(wal: &mut Wal, payload: usize) {
    let hard = HardState {
        term: wal.hard.term,
        vote: wal.hard.vote,
        commit: Index(0),
    };
    append_entry(wal, payload, hard);
}

/// The next write of the log proper; superblocks are performed on the way.
fn frame_op(disk: &mut MemDisk, wal: &mut Wal) -> Option<(OpId, DiskOp)> {
    while let Some((id, op)) = wal.poll_op() {
        if matches!(
            op,
            DiskOp::Write {
                file: File::Wal(_),
                ..
            }
        ) {
            return Some((id, op));
        }
        let result = disk.perform(op);
        wal.on_done(DiskDone { id, result }).unwrap();
    }
    None
}

#[test]
fn whatever_is_staged_while_a_frame_flies_is_the_next_frame() {
    let (mut disk, mut wal) = fresh();
    append(&mut wal, 10);
    let (id, op) = frame_op(&mut disk, &mut wal).unwrap();
    append(&mut wal, 20);
    append(&mut wal, 30);
    assert!(wal.poll_op().is_none(), "two frames in flight");
    assert_eq!(wal.durable(), Index(0));
    let result = disk.perform(op);
    assert_eq!(
        wal.on_done(DiskDone { id, result }).unwrap(),
        Some(Index(1))
    );
    let (id, op) = frame_op(&mut disk, &mut wal).unwrap();
    let result = disk.perform(op);
    assert_eq!(
        wal.on_done(DiskDone { id, result }).unwrap(),
        Some(Index(3))
    );
    assert!(wal.is_idle());
}

#[test]
fn a_group_closes_at_its_size_or_at_one_run() {
    let (mut disk, mut wal) = fresh();
    assert_eq!(
        wal.room(),
        LIMITS.run_bytes_max,
        "an empty group takes any run"
    );
    append(&mut wal, 20 << 10);
    assert_eq!(wal.room(), 0);
    disk.drive(&mut wal);
    append(&mut wal, 1000);
    assert_eq!(
        wal.room(),
        LIMITS.group_bytes - (RUN_HEAD_BYTES + 1004) - RUN_HEAD_BYTES
    );
}

#[test]
fn a_frame_is_written_where_no_acknowledged_block_is() {
    let (mut disk, mut wal) = fresh();
    let mut end = 0;
    for payload in [1, 3000, 5000, 1] {
        append(&mut wal, payload);
        let Some((
            id,
            DiskOp::Write {
                file,
                offset,
                pages,
                durable,
            },
        )) = frame_op(&mut disk, &mut wal)
        else {
            panic!("a frame");
        };
        assert!(durable);
        assert_eq!(offset, end);
        end = offset + pages.bytes() as u64;
        let result = disk.perform(DiskOp::Write {
            file,
            offset,
            pages,
            durable,
        });
        wal.on_done(DiskDone { id, result }).unwrap();
    }
}

#[test]
fn a_vote_is_promised_only_when_both_superblocks_have_it() {
    let (mut disk, mut wal) = fresh();
    let hard = HardState {
        term: Term(7),
        vote: Some(MemberId(2)),
        commit: Index(0),
    };
    wal.set_hard(hard);
    for copy in 0..2 {
        assert_eq!(wal.durable_hard().term, Term(0));
        let (id, op) = wal.poll_op().unwrap();
        assert_eq!(op.site().file, Some(File::Superblock(copy)));
        assert!(wal.poll_op().is_none(), "both copies in flight");
        let result = disk.perform(op);
        wal.on_done(DiskDone { id, result }).unwrap();
    }
    assert_eq!(wal.durable_hard(), hard);
    assert!(wal.is_idle());
}

#[test]
fn a_failed_write_is_final_and_says_where() {
    let (mut disk, mut wal) = fresh();
    append(&mut wal, 10);
    let (id, op) = frame_op(&mut disk, &mut wal).unwrap();
    let site = op.site();
    let error = DiskError {
        site,
        kind: DiskErrorKind::Failed,
        errno: Some(5),
    };
    let failed = wal
        .on_done(DiskDone {
            id,
            result: Err(error),
        })
        .unwrap_err();
    assert_eq!(failed.site(), site);
    assert!(failed.to_string().contains("errno 5"), "{failed}");
    append(&mut wal, 10);
    assert!(wal.poll_op().is_none());
    assert_eq!(wal.durable(), Index(0));
    assert_eq!(
        wal.on_done(DiskDone {
            id,
            result: Ok(DiskAnswer::Done)
        }),
        Err(failed)
    );
}

#[test]
fn released_segments_are_used_again_and_the_log_stops_growing() {
    let (mut disk, mut wal) = fresh();
    let mut most = 0;
    for round in 0..200 {
        append(&mut wal, 9000);
        disk.drive(&mut wal);
        if round % 5 == 4 {
            wal.release(wal.durable(), &[]);
            disk.drive(&mut wal);
        }
        let bytes: usize = disk.files.values().map(Vec::len).sum();
        if round == 100 {
            most = bytes;
        }
        assert!(
            round <= 100 || bytes <= most,
            "round {round}: {bytes} bytes after {most}"
        );
    }
    assert!(wal.live_bytes() < 128 << 10);
}

#[test]
fn a_clean_stop_leaves_a_sealed_log() {
    let (mut disk, mut wal) = fresh();
    append(&mut wal, 10);
    wal.seal();
    disk.drive(&mut wal);
    assert!(wal.is_idle());
    let config = RecoverConfig {
        limits: LIMITS,
        ..RecoverConfig::default()
    };
    let recovered = recover(&mut disk, &config, &mut |_, _| {}, &mut |_| {}).unwrap();
    assert!(recovered.is_clean);
    assert_eq!(recovered.last, Index(1));
}

#[test]
fn no_next_segment_is_named_while_the_first_frame_of_this_one_flies() {
    let (mut disk, mut wal) = fresh();
    // A free segment is at hand, so that the next one could be named at once.
    while wal.segments.current.place.generation < 3 {
        append(&mut wal, 9000);
        disk.drive(&mut wal);
    }
    wal.release(wal.durable(), &[]);
    disk.drive(&mut wal);
    let generation = wal.segments.current.place.generation;
    let (id, op) = loop {
        append(&mut wal, 9000);
        let (id, op) = frame_op(&mut disk, &mut wal).unwrap();
        if wal.segments.current.place.generation > generation {
            break (id, op);
        }
        let result = disk.perform(op);
        wal.on_done(DiskDone { id, result }).unwrap();
    };
    assert!(wal.segments.wants_naming());
    assert!(wal.poll_op().is_none(), "named too early");
    // Whatever else makes the superblocks be written must not name it either.
    wal.set_hard(HardState {
        term: Term(9),
        ..wal.hard
    });
    let named = wal.supers.durable.next;
    assert_eq!(named, wal.segments.current.place);
    while let Some((id, op)) = wal.poll_op() {
        let result = disk.perform(op);
        wal.on_done(DiskDone { id, result }).unwrap();
    }
    assert_eq!(
        (wal.supers.durable.term, wal.supers.durable.next),
        (Term(9), named)
    );
    let result = disk.perform(op);
    wal.on_done(DiskDone { id, result }).unwrap();
    disk.drive(&mut wal);
    assert_eq!(wal.supers.durable.next.generation, generation + 2);
}

/// A crash before the superblocks name the new checkpoint still needs what only the older one names.
#[test]
fn files_that_only_an_older_checkpoint_names_go_after_the_superblocks() {
    let (mut disk, mut wal) = fresh();
    append(&mut wal, 100);
    disk.drive(&mut wal);
    let file = File::Segment(7);
    disk.files.insert(file, Vec::new());
    wal.release(wal.durable(), &[7]);
    for job in wal.take_jobs() {
        let done = job.run(&mut disk);
        wal.on_job_done(done);
    }
    assert!(disk.files.contains_key(&file));
    disk.drive(&mut wal);
    assert!(!disk.files.contains_key(&file));
}
