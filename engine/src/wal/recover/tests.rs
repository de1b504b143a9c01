use super::*;
use crate::disk::{DiskAnswer, DiskError, DiskErrorKind};
use crate::types::RunKind;
use crate::wal::mem_disk::MemDisk;
use crate::wal::mem_disk::small::{IDENTITY, LIMITS, append_entry};
use crate::wal::{create, look};

/// Recovers and counts the entries that are handed out.
fn start(disk: &mut dyn Disk, accept_data_loss: bool) -> Result<(Recovered, u64), Corrupt> {
    let config = RecoverConfig {
        accept_data_loss,
        limits: LIMITS,
        ..RecoverConfig::default()
    };
    let mut entries = 0;
    let mut on_event = |event: Replayed<'_>, _: &mut dyn Disk| {
        if let Replayed::Run(run, _) = event {
            entries += u64::from(run.count);
        }
    };
    let recovered = recover(disk, &config, &mut on_event, &mut |_| {})?;
    Ok((recovered, entries))
}

/// One entry in a frame of its own, durable.
fn append(disk: &mut MemDisk, wal: &mut Wal, payload: usize) {
    let hard = HardState {
        term: Term(1),
        vote: None,
        commit: wal.durable(),
    };
    append_entry(wal, payload, hard);
    disk.drive(wal);
}

/// A frame may hold a run, the one that replaces it, and the commit of the latter: who applied at once what the commit covers
/// would apply what was replaced.
#[test]
fn a_commit_never_covers_what_its_own_frame_replaces() {
    let mut disk = MemDisk::default();
    create(&mut disk, &IDENTITY, &LIMITS).unwrap();
    let (recovered, _) = start(&mut disk, false).unwrap();
    let mut wal = recovered.wal;
    disk.drive(&mut wal);
    let entries = [0; 8];
    for (term, first, count, commit) in [(1, 1, 2, 0), (2, 2, 1, 2)] {
        let run = Run {
            kind: RunKind::Normal,
            term: Term(term),
            first: Index(first),
            count,
            bytes: &entries[..4 * count as usize],
        };
        let hard = HardState {
            term: Term(term),
            vote: None,
            commit: Index(commit),
        };
        wal.append(run, hard);
    }
    disk.drive(&mut wal);
    drop(wal);
    let mut handed = Vec::new();
    let config = RecoverConfig {
        limits: LIMITS,
        ..RecoverConfig::default()
    };
    let mut on_event = |event: Replayed<'_>, _: &mut dyn Disk| {
        handed.push(match event {
            Replayed::Run(run, hard) => (run.term.0, run.last().0, hard.commit.0),
            Replayed::CutFrom(index) => (0, index.0, 0),
        });
    };
    recover(&mut disk, &config, &mut on_event, &mut |_| {}).unwrap();
    assert_eq!(handed, [(1, 2, 1), (0, 2, 0), (2, 2, 2)]);
}

/// A log of `entries` frames of a page each in its first segment, all released by a checkpoint but
/// not given back, as the segment is in use.
fn released(entries: u64) -> (MemDisk, Wal) {
    let mut disk = MemDisk::default();
    create(&mut disk, &IDENTITY, &LIMITS).unwrap();
    let (recovered, _) = start(&mut disk, false).unwrap();
    let mut wal = recovered.wal;
    disk.drive(&mut wal);
    for _ in 0..entries {
        append(&mut disk, &mut wal, 10);
    }
    disk.files.insert(File::Checkpoint(entries), Vec::new());
    wal.release(Index(entries), &[]);
    disk.drive(&mut wal);
    (disk, wal)
}

/// After an accepted loss below the checkpoint the log goes on behind the checkpoint: the entries
/// between stand in it, and a later start must not take that for a gap.
#[test]
fn a_log_that_lost_what_its_checkpoint_holds_can_be_started_again() {
    let (mut disk, wal) = released(8);
    drop(wal);
    disk.files.get_mut(&File::Wal(1)).unwrap()[3 * PAGE_BYTES + 180] ^= 1;
    assert!(start(&mut disk, false).is_err());
    let (recovered, _) = start(&mut disk, true).unwrap();
    assert_eq!(recovered.last, Index(8));
    let mut wal = recovered.wal;
    append(&mut disk, &mut wal, 10);
    append(&mut disk, &mut wal, 10);
    drop(wal);
    let (recovered, entries) = start(&mut disk, false).unwrap();
    assert_eq!((recovered.last, entries), (Index(10), 2));
}

/// A next segment that was cut short is not gone to after an accepted loss: its frames would lie
/// behind its end, and the next start would refuse its length.
#[test]
fn a_next_segment_of_another_length_is_not_used() {
    let (mut disk, wal) = released(1);
    drop(wal);
    let (recovered, _) = start(&mut disk, false).unwrap();
    let mut wal = recovered.wal;
    disk.drive(&mut wal);
    drop(wal);
    let Found::Ours(Superblock { next, .. }) = look(&mut disk).unwrap() else {
        panic!("a directory");
    };
    let file = disk.files.get_mut(&File::Wal(next.slot)).unwrap();
    file.truncate(file.len() - PAGE_BYTES);
    assert!(matches!(
        start(&mut disk, false),
        Err(Corrupt::Length { .. })
    ));
    let (recovered, _) = start(&mut disk, true).unwrap();
    let mut wal = recovered.wal;
    // Through all of this segment and into the next one.
    for _ in 0..10 {
        append(&mut disk, &mut wal, 20 << 10);
    }
    let last = wal.last();
    drop(wal);
    let (recovered, _) = start(&mut disk, false).unwrap();
    assert_eq!(recovered.last, last);
}

/// A disk on which one file cannot be read.
struct Unreadable<'d>(&'d mut MemDisk, File);

impl Disk for Unreadable<'_> {
    fn perform(&mut self, op: DiskOp) -> Result<DiskAnswer, DiskError> {
        match &op {
            DiskOp::Read { file, .. } if *file == self.1 => Err(DiskError {
                site: op.site(),
                kind: DiskErrorKind::Failed,
                errno: Some(5),
            }),
            _ => self.0.perform(op),
        }
    }
}

/// [D5] [D8] A sector that cannot be read is a damaged one: the other copy is there for that.
#[test]
fn one_superblock_that_cannot_be_read_is_made_again_from_its_copy() {
    for copy in [0, 1] {
        let (mut disk, wal) = released(4);
        drop(wal);
        let mut disk = Unreadable(&mut disk, File::Superblock(copy));
        let (recovered, _) = start(&mut disk, false).unwrap();
        assert_eq!(recovered.last, Index(4));
        assert!(recovered.notices.iter().any(|it| it.contains("unreadable")));
    }
    let (mut disk, wal) = released(4);
    drop(wal);
    disk.files.get_mut(&File::Superblock(1)).unwrap()[0] ^= 1;
    let mut disk = Unreadable(&mut disk, File::Superblock(0));
    // Without a good one the disk may be better the next time.
    assert!(matches!(start(&mut disk, false), Err(Corrupt::Disk(_))));
}

/// Making a directory never leaves a damaged second copy beside an unfinished first one: these were
/// a member's, and to make them anew would remove its log.
#[test]
fn an_unfinished_superblock_beside_a_damaged_one_is_not_taken_for_an_empty_directory() {
    let mut disk = MemDisk::default();
    create(&mut disk, &IDENTITY, &LIMITS).unwrap();
    let Found::Ours(block) = look(&mut disk).unwrap() else {
        panic!("a finished directory");
    };
    let unfinished = Superblock {
        complete: false,
        counter: 1,
        ..block
    };
    write_superblock(&mut disk, 0, &unfinished).unwrap();
    assert!(matches!(look(&mut disk), Ok(Found::Ours(_))));
    disk.files.get_mut(&File::Superblock(1)).unwrap()[100] ^= 1;
    assert_eq!(look(&mut disk), Err(Corrupt::SuperblocksDamaged));
    disk.files.remove(&File::Superblock(1));
    assert_eq!(look(&mut disk), Ok(Found::Empty));
}
