//! Who this member is, what it voted, and from where its log must be whole. Two copies, written one after the other.

use super::corrupt::Corrupt;
use super::record::{Reader, Writer};
use crate::disk::{
    Disk, DiskAnswer, DiskError, DiskErrorKind, DiskOp, File, Name, PAGE_BYTES, Page, Pages,
    SECTOR_BYTES, read_pages,
};
use crate::types::{ClusterId, Index, MemberId, Term};

/// The number of the format of a data directory that this release writes, and the only one that it reads.
pub const DIRECTORY_FORMAT: u32 = 1;

/// The archive format of checkpoint pages: rkyv's features are part of the bytes.
pub const ARCHIVE_FEATURES: &str = "rkyv 0.8 std,bytecheck,little_endian,aligned,pointer_width_64";

const MAGIC: [u8; 32] = *b"basalt member data, see FORMAT\n\0";
const CRC_AT: usize = SECTOR_BYTES - 4;
const FEATURES_BYTES: usize = 96;

const _: () = assert!(ARCHIVE_FEATURES.len() <= FEATURES_BYTES);

/// Who writes this directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
    /// A random number drawn when the directory was made; tells its frames from those of any other directory.
    pub salt: u64,
}

impl Identity {
    /// What the frames carry: random number, cluster and member in one word.
    pub(super) fn frame_salt(&self) -> u64 {
        self.salt ^ self.cluster.0.rotate_left(17) ^ self.member.0.rotate_left(41)
    }
}

/// A segment and where it stands in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The slot, that is the number of the file.
    pub slot: u64,
    /// The length of the file; 0 if this place is not used.
    pub bytes: u64,
    /// The use of segments, counted from 1.
    pub generation: u64,
}

/// What both superblocks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Whose directory it is.
    pub identity: Identity,
    /// Whether making the directory was finished. Nothing is promised before.
    pub complete: bool,
    /// Counts writes; the higher of two good copies holds.
    pub counter: u64,
    /// The newest term heard of. The log's last frame may know a newer one.
    pub term: Term,
    /// The vote in `term`.
    pub vote: Option<MemberId>,
    /// Every frame up to this sequence was durable: a log that ends before it has lost something.
    pub floor_sequence: u64,
    /// The last index at the floor, for people.
    pub floor_index: Index,
    /// The checkpoint the log continues; 0 if there is none. `Checkpoint(index)` is its file.
    pub checkpoint: Index,
    /// Where the log starts: it must be whole from here on.
    pub start: Place,
    /// The sequence of the first frame at `start`.
    pub start_sequence: u64,
    /// Where the log goes on when the segment in use is full. No other segment is gone to.
    pub next: Place,
    /// What checkpoints and files of the revision log carry: the directory's own random number, or that of the member whose
    /// snapshot this one has taken over.
    pub files_salt: u64,
}

impl Superblock {
    /// The page to be written.
    #[must_use]
    pub fn encode(&self) -> Pages {
        let mut page = Page::ZERO;
        let mut features = [0; FEATURES_BYTES];
        features[..ARCHIVE_FEATURES.len()].copy_from_slice(ARCHIVE_FEATURES.as_bytes());
        let mut out = Writer {
            into: &mut page.0[..CRC_AT],
            at: 0,
        };
        out.put(&MAGIC);
        out.put(&DIRECTORY_FORMAT.to_le_bytes());
        out.put(&u32::from(self.complete).to_le_bytes());
        out.put(&features);
        for word in [
            self.identity.cluster.0,
            self.identity.member.0,
            self.identity.salt,
            self.counter,
            self.term.0,
            self.vote.map_or(0, |member| member.0),
            self.floor_sequence,
            self.floor_index.0,
            self.checkpoint.0,
            self.start.slot,
            self.start.bytes,
            self.start.generation,
            self.start_sequence,
            self.next.slot,
            self.next.bytes,
            self.next.generation,
            self.files_salt,
        ] {
            out.put(&word.to_le_bytes());
        }
        let crc = crc32c::crc32c(&page.0[..CRC_AT]);
        page.0[CRC_AT..SECTOR_BYTES].copy_from_slice(&crc.to_le_bytes());
        page.into()
    }

    fn decode(page: &Page) -> Copy {
        let (sectors, _) = page.0.as_chunks::<SECTOR_BYTES>();
        let (bytes, crc) = sectors[0].split_at(CRC_AT);
        if bytes[..MAGIC.len()] != MAGIC || crc32c::crc32c(bytes).to_le_bytes() != crc {
            return Copy::Damaged;
        }
        let mut from = Reader {
            from: &bytes[MAGIC.len()..],
        };
        let format = from.u32();
        if format != DIRECTORY_FORMAT {
            return Copy::Format(format);
        }
        let complete = from.u32() == 1;
        let (features, rest) = from.from.split_at(FEATURES_BYTES);
        let text = String::from_utf8_lossy(features);
        let text = text.trim_end_matches('\0');
        if text != ARCHIVE_FEATURES {
            return Copy::Features(text.to_owned());
        }
        let mut from = Reader { from: rest };
        let mut word = || from.u64();
        let identity = Identity {
            cluster: ClusterId(word()),
            member: MemberId(word()),
            salt: word(),
        };
        let (counter, term, vote) = (word(), Term(word()), word());
        let (floor_sequence, floor_index, checkpoint) = (word(), Index(word()), Index(word()));
        let start = Place {
            slot: word(),
            bytes: word(),
            generation: word(),
        };
        let start_sequence = word();
        let next = Place {
            slot: word(),
            bytes: word(),
            generation: word(),
        };
        // Directories that were made before there was such a word have 0 there.
        let files_salt = Some(word()).filter(|salt| *salt != 0);
        Copy::Good(Self {
            identity,
            complete,
            counter,
            term,
            vote: (vote != 0).then_some(MemberId(vote)),
            floor_sequence,
            floor_index,
            checkpoint,
            start,
            start_sequence,
            next,
            files_salt: files_salt.unwrap_or(identity.salt),
        })
    }
}

/// One copy as it was read.
#[derive(Debug)]
enum Copy {
    Absent,
    Damaged,
    /// Tried often enough. As good as damaged while the other copy is there: writing a bad sector is
    /// what may mend it.
    Unreadable(DiskError),
    Format(u32),
    Features(String),
    Good(Superblock),
}

/// What a data directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or what was left of making an empty one: [`super::create`] may go on.
    Empty,
    /// A member's data.
    Ours(Superblock),
}

/// The directory before the log is read.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) found: Found,
    pub(super) names: Vec<Name>,
    /// The copy to write first: the one that is older, damaged or absent.
    pub(super) stale_copy: u8,
    /// What an operator should hear.
    pub(super) notices: Vec<String>,
}

/// Tells an empty directory from a member's, a foreign, a damaged and a newer one. Changes nothing.
///
/// # Errors
/// Whatever is neither empty nor ours and readable: with what it is, where, and what to do.
pub fn look(disk: &mut dyn Disk) -> Result<Found, Corrupt> {
    look_closely(disk).map(|look| look.found)
}

pub(super) fn look_closely(disk: &mut dyn Disk) -> Result<Look, Corrupt> {
    let names = match disk.perform(DiskOp::List)? {
        DiskAnswer::Names(names) => names,
        other => unreachable!("List answered {other:?}"),
    };
    refuse_foreign(&names)?;
    let copies = [read_copy(disk, 0)?, read_copy(disk, 1)?];
    for (number, copy) in (0_u8..).zip(&copies) {
        let file = File::Superblock(number);
        match copy {
            Copy::Format(found) => {
                return Err(Corrupt::OtherFormat {
                    file,
                    found: *found,
                    known: DIRECTORY_FORMAT,
                });
            }
            Copy::Features(found) => {
                return Err(Corrupt::OtherFeatures {
                    file,
                    found: found.clone(),
                });
            }
            Copy::Absent | Copy::Damaged | Copy::Unreadable(_) | Copy::Good(_) => {}
        }
    }
    let mut notices = Vec::new();
    let (newest, stale_copy) = match &copies {
        [Copy::Good(a), Copy::Good(b)] => {
            if a.identity != b.identity {
                return Err(Corrupt::SuperblocksDisagree);
            }
            if a.counter.abs_diff(b.counter) > 1 {
                notices.push(format!(
                    "superblocks are more than one write apart ({} and {}): a write was lost; the newer one holds",
                    a.counter, b.counter
                ));
            }
            if a.counter >= b.counter {
                (*a, 1)
            } else {
                (*b, 0)
            }
        }
        [Copy::Good(a), other] => (*good_of_two(a, other, 1, &mut notices)?, 1),
        [other, Copy::Good(b)] => (*good_of_two(b, other, 0, &mut notices)?, 0),
        [Copy::Absent, Copy::Absent] => {
            let found = nothing_of_worth(&names).map(|()| Found::Empty)?;
            return Ok(Look {
                found,
                names,
                stale_copy: 1,
                notices,
            });
        }
        [Copy::Unreadable(error), _] | [_, Copy::Unreadable(error)] => return Err((*error).into()),
        _ => return Err(Corrupt::SuperblocksDamaged),
    };
    let found = match newest.complete {
        true => Found::Ours(newest),
        // An empty member in the place of the snapshot's would be taken for the restored one.
        false if newest.checkpoint != Index(0) => return Err(Corrupt::Unfinished),
        false => Found::Empty,
    };
    Ok(Look {
        found,
        names,
        stale_copy,
        notices,
    })
}

fn good_of_two<'a>(
    good: &'a Superblock,
    other: &Copy,
    number: u8,
    notices: &mut Vec<String>,
) -> Result<&'a Superblock, Corrupt> {
    if good.complete {
        let state = match other {
            Copy::Absent => "missing",
            Copy::Unreadable(_) => "unreadable",
            _ => "damaged",
        };
        notices.push(format!(
            "{} is {state}: its copy holds, and a start makes it again",
            File::Superblock(number)
        ));
    } else if let Copy::Unreadable(error) = other {
        return Err((*error).into());
    } else if !matches!(other, Copy::Absent) {
        // The second copy gets its name whole, and only when the directory is complete: this was a
        // member's, whose log must not be taken for the rest of an unfinished start.
        return Err(Corrupt::SuperblocksDamaged);
    }
    Ok(good)
}

fn read_copy(disk: &mut dyn Disk, number: u8) -> Result<Copy, Corrupt> {
    let file = File::Superblock(number);
    match read_pages(disk, file, 0, Pages::zeroed(1)) {
        Ok((pages, PAGE_BYTES)) => Ok(Superblock::decode(&pages.as_slice()[0])),
        Ok(_) => Ok(Copy::Damaged),
        Err(error) if error.kind == DiskErrorKind::NotFound => Ok(Copy::Absent),
        Err(error) if error.kind == DiskErrorKind::Failed => Ok(Copy::Unreadable(error)),
        Err(error) => Err(error.into()),
    }
}

/// A directory of etcd's is refused before anything else is said about it.
fn refuse_foreign(names: &[Name]) -> Result<(), Corrupt> {
    match names
        .iter()
        .find(|name| name.is_dir && (name.text == "snap" || name.text == "wal"))
    {
        Some(name) => Err(Corrupt::Etcd {
            name: name.text.clone(),
        }),
        None => Ok(()),
    }
}

/// Without any superblock only leftovers of an unfinished start may lie here.
fn nothing_of_worth(names: &[Name]) -> Result<(), Corrupt> {
    for name in names {
        match name.file {
            Some(File::Temp(_)) => {}
            Some(_) => {
                return Err(Corrupt::SuperblocksMissing {
                    name: name.text.clone(),
                });
            }
            None if IGNORED.contains(&name.text.as_str()) => {}
            None => {
                return Err(Corrupt::Foreign {
                    name: name.text.clone(),
                });
            }
        }
    }
    Ok(())
}

/// Names that a fresh directory may have: our lock, and what filesystems put into their root.
const IGNORED: [&str; 2] = ["lock", "lost+found"];

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Superblock {
        Superblock {
            identity: Identity {
                cluster: ClusterId(1),
                member: MemberId(2),
                salt: 3,
            },
            complete: true,
            counter: 4,
            term: Term(5),
            vote: Some(MemberId(6)),
            floor_sequence: 7,
            floor_index: Index(8),
            checkpoint: Index(9),
            start: Place {
                slot: 10,
                bytes: 11,
                generation: 12,
            },
            start_sequence: 13,
            next: Place {
                slot: 14,
                bytes: 15,
                generation: 16,
            },
            files_salt: 17,
        }
    }

    #[test]
    fn a_superblock_is_read_back_as_written() {
        let pages = sample().encode();
        assert!(
            matches!(Superblock::decode(&pages.as_slice()[0]), Copy::Good(read) if read == sample())
        );
    }

    #[test]
    fn every_flipped_bit_of_a_superblock_is_seen() {
        for bit in 0..SECTOR_BYTES * 8 {
            let mut pages = sample().encode();
            pages.as_mut_slice()[0].0[bit / 8] ^= 1 << (bit % 8);
            assert!(
                matches!(Superblock::decode(&pages.as_slice()[0]), Copy::Damaged),
                "bit {bit}"
            );
        }
    }
}
