//! Why the log ends where it ends: nothing was written there, a frame was torn that nobody was promised, or promised
//! bytes are gone. Torn only if nothing valid follows anywhere, every sector that is not the frame's own was left there
//! by the log itself, and they lie where the one frame in flight can lie. Everything else is rot.

use super::corrupt::{Corrupt, Rot, length_of};
use super::record::{Header, SECTOR_PAYLOAD, Stamp, Stamps};
use super::superblock::{Place, Superblock};
use super::walk::{End, SegmentReader, continues};
use crate::disk::{Disk, File, Name, PAGE_BYTES, PAGE_SECTORS, SECTOR_BYTES};
use crate::limits::WAL_READ_BYTES;

/// A stretch of a segment to be filled anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wipe {
    pub(super) slot: u64,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// What the end of the log is.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Nothing promised is missing. Traces of an unpromised frame are to be wiped, so that its sequence can be used.
    Whole(Vec<Wipe>),
    /// Promised bytes are gone or changed.
    Rotten(Corrupt),
}

/// One place where the next frame may lie.
#[derive(Clone, Copy, Debug)]
struct Spot {
    place: Place,
    at: u64,
}

/// What a scan of a spot's rest saw.
#[derive(Debug, Default)]
struct Traces {
    /// A frame or sector after the next: (sequence, byte).
    newer: Option<(u64, u64)>,
    /// The first and last byte of the next frame's sectors.
    own: Option<(u64, u64)>,
    /// A header of the next frame at another place.
    astray: Option<u64>,
    /// Pages with stamps that nobody wrote: (first byte, end).
    damaged: Option<(u64, u64)>,
    /// How the first sector is stamped.
    first: Option<Stamp>,
    header: Option<Header>,
}

pub(super) fn judge(
    disk: &mut dyn Disk,
    names: &[Name],
    block: &Superblock,
    end: &End,
) -> Result<Verdict, Corrupt> {
    let tail = end.tail();
    let here = Spot {
        place: tail.place,
        at: tail.at,
    };
    let room = here.place.bytes - here.at;
    let mut spots = vec![here];
    if block.next.bytes > 0 && block.next.generation == tail.place.generation + 1 {
        let file = File::Wal(block.next.slot);
        let bytes = length_of(names, file).ok_or(Corrupt::Missing { file })?;
        if bytes != block.next.bytes {
            return Ok(Verdict::Rotten(Corrupt::Length {
                file,
                bytes,
                expected: block.next.bytes,
            }));
        }
        spots.push(Spot {
            place: block.next,
            at: 0,
        });
    }
    let mut wipes = Vec::new();
    let mut seen = Vec::new();
    for spot in spots {
        let traces = scan(disk, block, end, spot)?;
        // A frame goes on to the next segment only if it does not fit here.
        let may_be_here = spot.place == here.place || room < end.window_bytes;
        if let Some(rot) = judge_spot(disk, block, end, spot, &traces, may_be_here)? {
            return Ok(Verdict::Rotten(rotten(spot, rot)));
        }
        wipes.extend(wipe(spot, &traces, spot.place == here.place));
        seen.push((spot, traces));
    }
    let sequence = end.sequence + 1;
    for (spot, traces) in &seen {
        let in_file = File::Wal(spot.place.slot);
        if let Some((later, at)) = traces.newer {
            return Ok(Verdict::Rotten(rotten(
                here,
                Rot::Followed {
                    sequence,
                    later,
                    in_file,
                    at,
                },
            )));
        }
        if let Some(at) = traces.astray {
            return Ok(Verdict::Rotten(rotten(
                here,
                Rot::Astray {
                    sequence,
                    in_file,
                    at,
                },
            )));
        }
    }
    if let [(_, one), (other, two)] = seen.as_slice()
        && let (Some(_), Some((at, _))) = (one.own, two.own)
    {
        let in_file = File::Wal(other.place.slot);
        return Ok(Verdict::Rotten(rotten(
            here,
            Rot::Astray {
                sequence,
                in_file,
                at,
            },
        )));
    }
    if end.sequence < block.floor_sequence {
        let (floor, index) = (block.floor_sequence, block.floor_index);
        return Ok(Verdict::Rotten(rotten(
            here,
            Rot::BelowFloor {
                sequence: end.sequence,
                floor,
                index,
            },
        )));
    }
    if end.hard.commit > end.last {
        let (last, commit) = (end.last, end.hard.commit);
        return Ok(Verdict::Rotten(rotten(
            here,
            Rot::CommitLost { last, commit },
        )));
    }
    Ok(Verdict::Whole(wipes))
}

fn rotten(spot: Spot, what: Rot) -> Corrupt {
    Corrupt::Rotten {
        file: File::Wal(spot.place.slot),
        offset: spot.at,
        what,
    }
}

/// What is wrong with the next frame at this spot, if it is there at all.
fn judge_spot(
    disk: &mut dyn Disk,
    block: &Superblock,
    end: &End,
    spot: Spot,
    traces: &Traces,
    may_be_here: bool,
) -> Result<Option<Rot>, Corrupt> {
    let sequence = end.sequence + 1;
    let in_file = File::Wal(spot.place.slot);
    if !may_be_here && let Some((at, _)) = traces.own {
        return Ok(Some(Rot::Astray {
            sequence,
            in_file,
            at,
        }));
    }
    let Some(header) = &traces.header else {
        return Ok(match (traces.first, traces.own) {
            (Some(Stamp::Of(found)), _) if found == sequence => Some(Rot::Header { sequence }),
            (Some(Stamp::Damaged), _) if may_be_here => Some(Rot::Header { sequence }),
            (_, Some((_, last))) if last - spot.at >= end.window_bytes => Some(Rot::Astray {
                sequence,
                in_file,
                at: last,
            }),
            _ => None,
        });
    };
    if !continues(header, block, end, spot.place, spot.at) {
        return Ok(Some(Rot::Header { sequence }));
    }
    let frame_end = spot.at + (header.pages() * PAGE_BYTES) as u64;
    if frame_end > spot.place.bytes || frame_end - spot.at > end.window_bytes {
        return Ok(Some(Rot::Header { sequence }));
    }
    if let Some((_, last)) = traces.own
        && last >= frame_end
    {
        return Ok(Some(Rot::Astray {
            sequence,
            in_file,
            at: last,
        }));
    }
    let torn = is_torn(disk, block, spot, header)?;
    Ok((!torn).then_some(Rot::Body { sequence }))
}

/// The frame's body is not what its header says. Torn: some sector is still what was there before, and none is damaged.
fn is_torn(
    disk: &mut dyn Disk,
    block: &Superblock,
    spot: Spot,
    header: &Header,
) -> Result<bool, Corrupt> {
    let mut reader = SegmentReader::new(spot.place.slot, spot.place.bytes);
    let Some(pages) = reader.pages(disk, spot.at, header.pages())? else {
        return Ok(false);
    };
    let stamps = Stamps::new(block.identity.frame_salt(), spot.place.slot);
    let sectors = pages
        .iter()
        .flat_map(|page| page.0.as_chunks::<SECTOR_BYTES>().0);
    // Padding after the body says nothing about the body.
    let with_body =
        (super::record::HEADER_BYTES + header.body_bytes as usize).div_ceil(SECTOR_PAYLOAD);
    let mut missing = false;
    let mut at = spot.at;
    for sector in sectors.take(with_body) {
        match stamps.read(sector, at) {
            Stamp::Of(found) if found < header.sequence => missing = true,
            Stamp::Of(found) if found == header.sequence => {}
            _ => return Ok(false),
        }
        at += SECTOR_BYTES as u64;
    }
    Ok(missing)
}

/// Reads the rest of a segment from the spot on.
fn scan(disk: &mut dyn Disk, block: &Superblock, end: &End, spot: Spot) -> Result<Traces, Corrupt> {
    let sequence = end.sequence + 1;
    let mut traces = Traces::default();
    let mut reader = SegmentReader::new(spot.place.slot, spot.place.bytes);
    let stamps = Stamps::new(block.identity.frame_salt(), spot.place.slot);
    let mut at = spot.at;
    while at < spot.place.bytes {
        let rest = usize::try_from(spot.place.bytes - at).unwrap_or(usize::MAX);
        let count = (rest / PAGE_BYTES).min(WAL_READ_BYTES / PAGE_BYTES);
        let Some(pages) = reader.pages(disk, at, count)? else {
            let (file, bytes) = (File::Wal(spot.place.slot), at);
            return Err(Corrupt::Length {
                file,
                bytes,
                expected: spot.place.bytes,
            });
        };
        for page in pages {
            let (sectors, _) = page.0.as_chunks::<SECTOR_BYTES>();
            let header = Header::decode(&sectors[0]).map(|(header, _)| header);
            if let Some(header) = header.filter(|header| header.is_here(block, spot.place.slot, at))
            {
                traces.see_header(header, sequence, spot, at);
            }
            for sector in sectors {
                traces.see_stamp(stamps.read(sector, at), sequence, spot, at);
                at += SECTOR_BYTES as u64;
            }
        }
    }
    Ok(traces)
}

impl Traces {
    fn see_header(&mut self, header: Header, sequence: u64, spot: Spot, at: u64) {
        if header.sequence > sequence {
            self.newer.get_or_insert((header.sequence, at));
        } else if header.sequence == sequence && at == spot.at {
            self.header = Some(header);
        } else if header.sequence == sequence {
            self.astray.get_or_insert(at);
        }
    }

    fn see_stamp(&mut self, stamp: Stamp, sequence: u64, spot: Spot, at: u64) {
        if at == spot.at {
            self.first = Some(stamp);
        }
        match stamp {
            Stamp::Of(found) if found > sequence => {
                self.newer.get_or_insert((found, at));
            }
            Stamp::Of(found) if found == sequence => {
                let (first, _) = self.own.unwrap_or((at, at));
                self.own = Some((first, at));
            }
            Stamp::Of(_) => {}
            Stamp::Damaged => {
                let (first, _) = self.damaged.unwrap_or((at, at));
                self.damaged = Some((first, at));
            }
        }
    }
}

/// The pages at this spot that must become filling again. Damage where no frame is matters only in the segment in use.
fn wipe(spot: Spot, traces: &Traces, in_use: bool) -> Option<Wipe> {
    let header = traces.header.map(|_| (spot.at, spot.at));
    let damaged = traces.damaged.filter(|_| in_use);
    let stretches = [traces.own, header, damaged];
    let from = stretches.iter().flatten().map(|stretch| stretch.0).min()?;
    let last = stretches.iter().flatten().map(|stretch| stretch.1).max()?;
    let page = PAGE_BYTES as u64;
    Some(Wipe {
        slot: spot.place.slot,
        from: from / page * page,
        to: (last / page + 1) * page,
    })
}

const _: () = assert!(PAGE_SECTORS * SECTOR_BYTES == PAGE_BYTES);
