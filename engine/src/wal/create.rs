//! Makes a data directory. Nothing is promised before both superblocks say that it is complete; until then it is empty,
//! and making it starts over.

use super::corrupt::Corrupt;
use super::job::{Job, Work, remove_if_there};
use super::recover::write_superblock;
use super::segment::WalLimits;
use super::superblock::{Found, Identity, Place, Superblock, look_closely};
use crate::disk::{Disk, DiskOp, File, PAGE_BYTES};
use crate::types::{Index, Term};

/// Makes the files of a new member: ballast, first segment, superblocks. [`super::recover`] starts it.
///
/// # Errors
/// The directory is not empty, or the disk failed; then it can be tried again.
pub fn create(disk: &mut dyn Disk, identity: &Identity, limits: &WalLimits) -> Result<(), Corrupt> {
    let nothing = |_: &mut dyn Disk| Ok(());
    create_from(disk, identity, limits, (Index(0), Term(0)), nothing)
}

/// As [`create`], for a member whose state comes from elsewhere: `checkpoint` writes that of the entry at `from`, in
/// whose term the log goes on.
///
/// # Errors
/// As [`create`], or what `checkpoint` says.
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
