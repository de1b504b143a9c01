//! Makes a data directory. Nothing is promised before both superblocks say that it is complete; until then it is empty,
//! and making it starts over.

use super::corrupt::Corrupt;
use super::job::{Job, Work};
use super::recover::write_superblock;
use super::segment::WalLimits;
use super::superblock::{Found, Identity, Place, Superblock, look_closely};
use crate::disk::{Disk, DiskOp, File, PAGE_BYTES, remove_if_there};
use crate::types::{Index, Term};

/// Makes the files of a new member: ballast, first segment, superblocks. [`super::recover`] starts it.
///
/// # Errors
/// The directory is not empty, or the disk failed; then it can be tried again.
pub fn create(disk: &mut dyn Disk, identity: &Identity, limits: &WalLimits) -> Result<(), Corrupt> {
    let nothing = |_: &mut dyn Disk| Ok(());
    create_from(disk, identity, limits, (Index(0), Term(0)), nothing)
}

/// As [`create`], for a member whose state comes from elsewhere: `checkpoint` writes that of the entry at `index`, which is
/// above 0 and in whose term the log goes on.
///
/// # Errors
/// As [`create`], or what `checkpoint` says. What is left then is refused as [`Corrupt::Unfinished`]: it must be removed.
pub fn create_from<E: From<Corrupt>>(
    disk: &mut dyn Disk,
    identity: &Identity,
    limits: &WalLimits,
    (index, term): (Index, Term),
    checkpoint: impl FnOnce(&mut dyn Disk) -> Result<(), E>,
) -> Result<(), E> {
    let look = look_closely(disk)?;
    if look.found != Found::Empty {
        return Err(Corrupt::NotEmpty.into());
    }
    let first = Place {
        slot: 1,
        bytes: limits.smallest(),
        generation: 1,
    };
    let mut block = Superblock {
        identity: *identity,
        complete: false,
        counter: 1,
        term,
        vote: None,
        floor_sequence: 0,
        floor_index: Index(0),
        checkpoint: index,
        start: first,
        start_sequence: 1,
        next: Place::default(),
        files_salt: identity.salt,
    };
    // From here on an unfinished directory is told from one that lost its superblocks.
    new_superblock(disk, 0, &block)?;
    for file in look
        .names
        .iter()
        .filter_map(|name| name.file)
        .filter(|file| *file != File::Superblock(0))
    {
        remove_if_there(disk, file).map_err(Corrupt::from)?;
    }
    let work = [
        Work::Ballast {
            bytes: limits.ballast_bytes,
        },
        Work::Fill {
            slot: first.slot,
            bytes: first.bytes,
            salt: identity.frame_salt(),
            chunk: limits.fill_bytes,
            spend_ballast: false,
        },
    ];
    for work in work {
        Job::new(work).run(disk).result.map_err(Corrupt::from)?;
    }
    checkpoint(disk)?;
    block.complete = true;
    block.counter = 2;
    new_superblock(disk, 1, &block)?;
    Ok(write_superblock(disk, 0, &block)?)
}

/// Puts a whole superblock under its name at once.
fn new_superblock(disk: &mut dyn Disk, copy: u8, block: &Superblock) -> Result<(), Corrupt> {
    let temp = File::Temp(SUPERBLOCK_TEMP);
    remove_if_there(disk, temp)?;
    disk.perform(DiskOp::Create {
        file: temp,
        bytes: PAGE_BYTES as u64,
    })?;
    disk.perform(DiskOp::Write {
        file: temp,
        offset: 0,
        pages: block.encode(),
        durable: true,
    })?;
    disk.perform(DiskOp::Sync { file: temp })?;
    disk.perform(DiskOp::Rename {
        from: temp,
        to: File::Superblock(copy),
    })?;
    disk.perform(DiskOp::SyncDir)?;
    Ok(())
}

/// No slot and no other maker has this number.
const SUPERBLOCK_TEMP: u64 = u64::MAX - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{DiskAnswer, DiskError, DiskErrorKind};
    use crate::wal::mem_disk::MemDisk;
    use crate::wal::mem_disk::small::{IDENTITY, LIMITS};
    use crate::wal::{CheckpointReader, CheckpointWriter, look};

    /// A disk that performs only so many operations.
    struct Ends<'d>(&'d mut MemDisk, usize);

    impl Disk for Ends<'_> {
        fn perform(&mut self, op: DiskOp) -> Result<DiskAnswer, DiskError> {
            let failed = DiskError {
                site: op.site(),
                kind: DiskErrorKind::Failed,
                errno: None,
            };
            self.1 = self.1.checked_sub(1).ok_or(failed)?;
            self.0.perform(op)
        }
    }

    const FROM: (Index, Term) = (Index(7), Term(2));

    fn checkpoint(disk: &mut dyn Disk) -> Result<(), Corrupt> {
        let mut writer = CheckpointWriter::new(FROM.0, IDENTITY.salt);
        writer.begin(disk)?;
        for _ in 0..3 {
            disk.perform(writer.push(&[1; 10_000]))?;
        }
        for op in writer.finish() {
            disk.perform(op)?;
        }
        Ok(())
    }

    /// [RESTORE-4] A member that starts empty in the place of the restored one would be taken for it.
    #[test]
    fn a_directory_whose_making_from_a_snapshot_ended_early_does_not_start() {
        let (mut is_empty, mut is_refused) = (0, 0);
        for operations in 0.. {
            let mut disk = MemDisk::default();
            let cut = &mut Ends(&mut disk, operations);
            let made = create_from(cut, &IDENTITY, &LIMITS, FROM, checkpoint);
            match look(&mut disk) {
                // Nothing has a name yet that says whose directory it is.
                Ok(Found::Empty) => {
                    assert!(!disk.files.contains_key(&File::Superblock(0)));
                    is_empty += 1;
                }
                Err(refused) => {
                    assert_eq!(refused, Corrupt::Unfinished);
                    let again = create_from(&mut disk, &IDENTITY, &LIMITS, FROM, checkpoint);
                    assert_eq!(again, Err(Corrupt::Unfinished));
                    is_refused += 1;
                }
                Ok(Found::Ours(block)) => {
                    assert_eq!((block.checkpoint, block.term), FROM);
                    let reader = CheckpointReader::open(&mut disk, FROM.0, IDENTITY.salt);
                    let mut reader = reader.unwrap();
                    while reader.next(&mut disk).unwrap().is_some() {}
                }
            }
            if made.is_ok() {
                break;
            }
        }
        assert!(is_empty < 12, "{is_empty}");
        assert!(is_refused > 12, "{is_refused}");
    }
}
