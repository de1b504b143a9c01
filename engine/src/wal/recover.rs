//! From the bytes of a data directory to a running log. Running it again after a crash in its midst gives the same log.

use super::corrupt::{Corrupt, length_of};
use super::group::{Tail, Wal};
use super::record::{Stamp, Stamps};
use super::segment::{Layout, WalLimits};
use super::superblock::{Found, Identity, Look, Superblock, look_closely};
use super::verdict::{Verdict, Wipe, judge};
use super::walk::{End, OnEvent, SegmentReader, Walk, by_generation};
use crate::disk::{Disk, DiskOp, File, Name, PAGE_BYTES, Pages, SECTOR_BYTES, remove_if_there};
use crate::limits::WAL_READ_BYTES;
use crate::mutant::{Mutant, is_on};
use crate::types::{ClusterId, HardState, Index, MemberId, Run, Term};

/// What recovery is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecoverConfig<'a> {
    /// Whose directory it must be.
    pub expect: Option<(ClusterId, MemberId)>,
    /// Start with what lies before the damage instead of refusing. Everything after it is wiped.
    pub accept_data_loss: bool,
    /// The sizes from now on.
    pub limits: WalLimits,
    /// The files of the revision log that the checkpoint names, ascending; others are removed.
    pub segments: &'a [u64],
}

/// What replay hands out, in log order.
#[derive(Debug)]
pub enum Replayed<'a> {
    /// Entries above the checkpoint, and the hard state of their frame: up to its commit they can be applied at once.
    Run(Run<'a>, HardState),
    /// Whatever was handed out from this index on is replaced. Never at or below a commit handed out before.
    CutFrom(Index),
}

/// How far replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of log replayed.
    pub done_bytes: u64,
    /// Bytes of all segments that hold log; the last one is seldom full.
    pub total_bytes: u64,
}

/// A recovered member.
#[derive(Debug)]
pub struct Recovered {
    /// The running log.
    pub wal: Wal,
    /// Term, vote and commit as they were promised.
    pub hard: HardState,
    /// The last entry, or the checkpoint's index.
    pub last: Index,
    /// The term of `last`; 0 if the log holds no entry and the checkpoint knows it.
    pub last_term: Term,
    /// `Checkpoint(index)` is what the log continues; 0 if there is none.
    pub checkpoint: Index,
    /// Whose data it is.
    pub identity: Identity,
    /// What checkpoints and files of the revision log carry.
    pub files_salt: u64,
    /// Whether the last stop was a clean one.
    pub is_clean: bool,
    /// What an operator should hear.
    pub notices: Vec<String>,
}

/// Reads the log, hands out what lies above the checkpoint, repairs what may be repaired, and goes on from there.
/// Load the checkpoint first (`look` names it) if entries are applied while they stream.
///
/// # Errors
/// Whatever was promised is not there, or the directory is not this member's. Nothing was changed then, but that writes
/// which had been answered may have been flushed.
pub fn recover(
    disk: &mut dyn Disk,
    config: &RecoverConfig<'_>,
    on_event: &mut OnEvent<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Recovered, Corrupt> {
    let Look {
        found,
        names,
        stale_copy,
        mut notices,
    } = look_closely(disk)?;
    let Found::Ours(block) = found else {
        return Err(Corrupt::Missing {
            file: File::Superblock(0),
        });
    };
    let found = (block.identity.cluster, block.identity.member);
    if let Some(expected) = config.expect.filter(|expected| *expected != found) {
        return Err(Corrupt::OtherMember { found, expected });
    }
    let checkpoint = File::Checkpoint(block.checkpoint.0);
    if block.checkpoint != Index(0) && length_of(&names, checkpoint).is_none() {
        return Err(Corrupt::Missing { file: checkpoint });
    }
    flush(disk, &names)?;
    let generations = by_generation(disk, &names, &block)?;
    let mut walk = Walk {
        block: &block,
        names: &names,
        generations: &generations,
        on_event,
        progress,
        on_frame: &mut |_, _| Ok(()),
    };
    let mut end = walk.run(disk)?;
    let wipes = match judge(disk, &names, &block, &end)? {
        Verdict::Whole(wipes) => wipes,
        Verdict::Rotten(corrupt) if config.accept_data_loss || is_on(Mutant::CutAtDamage) => {
            notices.push(format!("data loss accepted: {corrupt}"));
            end.hard.commit = end.hard.commit.min(end.last);
            wipe_all_after(&names, &end)
        }
        Verdict::Rotten(corrupt) => return Err(corrupt),
    };
    if !wipes.is_empty() {
        let bytes: u64 = wipes.iter().map(|wipe| wipe.to - wipe.from).sum();
        notices.push(format!(
            "cut the unacknowledged end of the log after frame {} ({bytes} bytes)",
            end.sequence
        ));
    }
    for wipe in wipes {
        fill_anew(disk, &block, wipe)?;
    }
    let layout = tidy(disk, &names, &block, &end, config)?;
    let hard = newest_hard(&block, &end);
    let superblock = Superblock {
        counter: block.counter + 1,
        term: hard.term,
        vote: hard.vote,
        floor_sequence: end.sequence,
        floor_index: end.last,
        next: layout.next.unwrap_or_default(),
        ..block
    };
    for copy in [stale_copy, 1 - stale_copy] {
        write_superblock(disk, copy, &superblock)?;
    }
    let (last, last_term, is_clean) = (end.last, end.last_term, end.is_sealed);
    let digest = end.digest.unwrap_or(0);
    let tail = Tail {
        superblock,
        layout,
        sequence: end.sequence,
        digest,
        last,
        last_term,
        hard,
    };
    let wal = Wal::resume(tail, config.limits);
    let (checkpoint, identity) = (block.checkpoint, block.identity);
    Ok(Recovered {
        wal,
        hard,
        last,
        last_term,
        checkpoint,
        identity,
        files_salt: block.files_salt,
        is_clean,
        notices,
    })
}

/// What is about to be trusted may have been written but never flushed by a process that was killed.
fn flush(disk: &mut dyn Disk, names: &[Name]) -> Result<(), Corrupt> {
    let files = names.iter().filter_map(|name| name.file);
    for file in files.filter(|file| {
        matches!(
            file,
            File::Wal(_) | File::Superblock(_) | File::Checkpoint(_)
        )
    }) {
        disk.perform(DiskOp::Sync { file })?;
    }
    disk.perform(DiskOp::SyncDir)?;
    Ok(())
}

/// After accepted loss nothing may be left that a later start could take for promised.
fn wipe_all_after(names: &[Name], end: &End) -> Vec<Wipe> {
    let tail = end.tail();
    let mut wipes = Vec::new();
    for name in names {
        let Some(File::Wal(slot)) = name.file else {
            continue;
        };
        let to = name.bytes / PAGE_BYTES as u64 * PAGE_BYTES as u64;
        if !end.used.iter().any(|used| used.place.slot == slot) {
            wipes.push(Wipe { slot, from: 0, to });
        }
    }
    wipes.push(Wipe {
        slot: tail.place.slot,
        from: tail.at,
        to: tail.place.bytes,
    });
    wipes
}

/// Makes a stretch what it was when the segment was made.
fn fill_anew(disk: &mut dyn Disk, block: &Superblock, wipe: Wipe) -> Result<(), Corrupt> {
    let stamps = Stamps::new(block.identity.frame_salt(), wipe.slot);
    let mut offset = wipe.from;
    while offset < wipe.to {
        let take = (wipe.to - offset).min(WAL_READ_BYTES as u64);
        let mut pages = Pages::zeroed(usize::try_from(take).expect("a chunk") / PAGE_BYTES);
        stamps.stamp(pages.as_mut_slice(), offset, 0);
        disk.perform(DiskOp::Write {
            file: File::Wal(wipe.slot),
            offset,
            pages,
            durable: true,
        })?;
        offset += take;
    }
    Ok(())
}

/// Sorts the segments and removes what no superblock speaks of.
fn tidy(
    disk: &mut dyn Disk,
    names: &[Name],
    block: &Superblock,
    end: &End,
    config: &RecoverConfig<'_>,
) -> Result<Layout, Corrupt> {
    let limits = &config.limits;
    let next = Some(block.next)
        .filter(|next| next.bytes >= limits.smallest())
        .filter(|next| length_of(names, File::Wal(next.slot)) == Some(next.bytes))
        .filter(|next| next.generation == end.tail().place.generation + 1);
    let mut layout = Layout {
        used: end.used.clone(),
        next,
        ready: Vec::new(),
        slot_next: 1,
        has_ballast: false,
    };
    let mut removed = false;
    for name in names {
        let Some(file) = name.file else { continue };
        let keep = match file {
            File::Superblock(_) => true,
            File::Ballast => {
                layout.has_ballast = name.bytes >= limits.ballast_bytes;
                true
            }
            File::Checkpoint(index) => index == block.checkpoint.0,
            File::Segment(number) => config.segments.binary_search(&number).is_ok(),
            File::Temp(_) => false,
            File::Wal(slot) => {
                layout.slot_next = layout.slot_next.max(slot + 1);
                let in_log = end.used.iter().any(|used| used.place.slot == slot);
                let is_next = next.is_some_and(|next| next.slot == slot);
                let is_ready = !in_log && !is_next && is_usable(disk, name, slot, block, limits)?;
                if is_ready {
                    layout.ready.push((slot, name.bytes));
                }
                in_log || is_next || is_ready
            }
        };
        if !keep {
            remove_if_there(disk, file)?;
            removed = true;
        }
    }
    if removed {
        disk.perform(DiskOp::SyncDir)?;
    }
    Ok(layout)
}

/// Whether a segment outside the log can serve again.
fn is_usable(
    disk: &mut dyn Disk,
    name: &Name,
    slot: u64,
    block: &Superblock,
    limits: &WalLimits,
) -> Result<bool, Corrupt> {
    if name.bytes < limits.smallest() || !name.bytes.is_multiple_of(PAGE_BYTES as u64) {
        return Ok(false);
    }
    let mut reader = SegmentReader::new(slot, name.bytes);
    let stamps = Stamps::new(block.identity.frame_salt(), slot);
    let Some(first) = reader.first_page(disk)? else {
        return Ok(false);
    };
    let (sectors, _) = first.0.as_chunks::<SECTOR_BYTES>();
    let mut offsets = (0..).step_by(SECTOR_BYTES);
    Ok(sectors.iter().all(|sector| {
        matches!(
            stamps.read(sector, offsets.next().unwrap_or(0)),
            Stamp::Of(_)
        )
    }))
}

/// Term and vote stand in the superblocks and in every frame; the newer term holds.
pub(super) fn newest_hard(block: &Superblock, end: &End) -> HardState {
    let commit = end.hard.commit.max(block.checkpoint);
    match end.hard.term > block.term {
        true => HardState { commit, ..end.hard },
        false => HardState {
            term: block.term,
            vote: block.vote.or(same_term_vote(block, end)),
            commit,
        },
    }
}

fn same_term_vote(block: &Superblock, end: &End) -> Option<MemberId> {
    end.hard.vote.filter(|_| end.hard.term == block.term)
}

pub(super) fn write_superblock(
    disk: &mut dyn Disk,
    copy: u8,
    block: &Superblock,
) -> Result<(), Corrupt> {
    let file = File::Superblock(copy);
    disk.perform(DiskOp::Write {
        file,
        offset: 0,
        pages: block.encode(),
        durable: true,
    })?;
    Ok(())
}

#[cfg(test)]
mod tests;
