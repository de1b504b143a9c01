//! Rot enumeration: a finished data directory is damaged in every way. Either it is refused, or what is read is what was
//! written.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests.

use basalt_engine::disk::{File, PAGE_BYTES, SECTOR_BYTES};
use basalt_engine::wal::{Corrupt, Rot};
use basalt_tests::crash::{Mark, Sim, check, read, read_with, start};
use basalt_tests::sim_disk::Survive;
use basalt_tests::tools;
use fastrand::Rng;

/// A directory after some load: all of it flushed, cleanly stopped or not.
fn finished(seed: u64, is_clean: bool) -> Sim {
    let mut member = start(Sim::default(), seed).unwrap();
    member.work(120).unwrap();
    member.append();
    if is_clean {
        member.stop().unwrap();
    } else {
        member.settle().unwrap();
    }
    member.disk.after_power_cut(Survive::Everything)
}

fn seeds() -> u64 {
    tools::count("BASALT_ROT_SEEDS", 2)
}

fn images() -> impl Iterator<Item = Sim> {
    (0..seeds()).flat_map(|seed| [finished(seed, false), finished(seed, true)])
}

/// Damages one file and reads. True if it was refused.
fn harm(image: &Sim, file: File, bytes: Option<Vec<u8>>, what: &str) -> bool {
    let mut disk = image.clone();
    disk.tamper(file, bytes);
    let result = read(&mut disk);
    if result.is_err() {
        return true;
    }
    // Everything is acknowledged here: there is one right answer.
    let mark = Mark {
        flying: image.mark.acked.clone(),
        ..image.mark.clone()
    };
    check(&mark, &result)
        .unwrap_or_else(|wrong| panic!("{file}, {what}: a silent difference: {wrong}"));
    false
}

fn flip(bytes: &[u8], bit: usize) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    Some(bytes)
}

/// The frames of a segment, by their magic.
fn frames(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len())
        .step_by(PAGE_BYTES)
        .filter(|at| bytes[*at..].starts_with(b"BSLTfrm1"))
        .collect()
}

#[test]
fn every_flipped_bit_of_a_header_is_seen_or_harmless() {
    let (mut cases, mut refused) = (0_u64, 0_u64);
    for image in images().take(2) {
        for file in image.files() {
            let Some(bytes) = image.bytes_of(file) else {
                continue;
            };
            let starts = match file {
                File::Wal(_) => frames(&bytes),
                File::Superblock(_) | File::Checkpoint(_) => vec![0],
                _ => continue,
            };
            for start in starts {
                for bit in 0..144 * 8 {
                    cases += 1;
                    refused += u64::from(harm(
                        &image,
                        file,
                        flip(&bytes, start * 8 + bit),
                        "header bit",
                    ));
                }
            }
        }
    }
    println!("{cases} flips, {refused} refused");
    assert!(cases > 5_000);
    assert!(refused > 2_000);
}

#[test]
fn random_flipped_bits_change_nothing_in_silence() {
    let count = tools::count("BASALT_ROT_FLIPS", 1500);
    let tallies = tools::in_parallel(2 * seeds(), |number| {
        let image = finished(number / 2, number % 2 == 1);
        let mut rng = Rng::with_seed(7 + number);
        let mut files = image.files();
        files.retain(|file| image.bytes_of(*file).is_some_and(|bytes| !bytes.is_empty()));
        let mut refused = 0_u64;
        for _ in 0..count {
            let file = files[rng.usize(0..files.len())];
            let bytes = image.bytes_of(file).unwrap();
            let bit = rng.usize(0..bytes.len() * 8);
            let what = format!("bit {bit}");
            refused += u64::from(harm(&image, file, flip(&bytes, bit), &what));
        }
        refused
    });
    let (cases, refused) = (2 * seeds() * count, tallies.iter().sum::<u64>());
    println!("{cases} flips, {refused} refused");
    assert!(refused * 20 > cases, "{refused} of {cases}");
}

#[test]
fn zeroed_swapped_and_copied_sectors_are_seen_or_harmless() {
    let mut rng = Rng::with_seed(3);
    for image in images() {
        for file in image.files() {
            let bytes = image.bytes_of(file).unwrap();
            let sectors = bytes.len() / SECTOR_BYTES;
            for sector in 0..sectors {
                let here = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                let mut zeroed = bytes.clone();
                zeroed[here.clone()].fill(0);
                harm(
                    &image,
                    file,
                    Some(zeroed),
                    &format!("sector {sector} zeroed"),
                );
                let other = rng.usize(0..sectors) * SECTOR_BYTES;
                let mut copied = bytes.clone();
                copied.copy_within(other..other + SECTOR_BYTES, here.start);
                harm(
                    &image,
                    file,
                    Some(copied.clone()),
                    &format!("sector {sector} overwritten from {other}"),
                );
                copied[other..other + SECTOR_BYTES].copy_from_slice(&bytes[here]);
                harm(
                    &image,
                    file,
                    Some(copied),
                    &format!("sector {sector} swapped with {other}"),
                );
            }
        }
    }
}

#[test]
fn truncated_grown_missing_and_exchanged_files_are_seen_or_harmless() {
    for image in images() {
        let files = image.files();
        for file in &files {
            let bytes = image.bytes_of(*file).unwrap();
            for length in (0..bytes.len()).step_by(SECTOR_BYTES) {
                harm(
                    &image,
                    *file,
                    Some(bytes[..length].to_vec()),
                    &format!("cut to {length}"),
                );
            }
            harm(
                &image,
                *file,
                Some([bytes.clone(), vec![0; PAGE_BYTES]].concat()),
                "grown",
            );
            harm(&image, *file, None, "missing");
            for other in &files {
                harm(
                    &image,
                    *file,
                    image.bytes_of(*other),
                    &format!("replaced by {other}"),
                );
            }
        }
    }
}

#[test]
fn an_older_copy_of_a_segment_below_the_floor_is_refused() {
    for seed in 0..4 {
        let mut member = start(Sim::default(), seed).unwrap();
        member.work(60).unwrap();
        member.settle().unwrap();
        let older = member.disk.after_power_cut(Survive::Everything);
        member.append();
        member.append();
        // The stop lifts the floor over everything.
        member.stop().unwrap();
        let newer = member.disk.after_power_cut(Survive::Everything);
        let mut changed = 0;
        for file in older
            .files()
            .into_iter()
            .filter(|file| matches!(file, File::Wal(_)))
        {
            if older.bytes_of(file) != newer.bytes_of(file) {
                changed += 1;
                assert!(
                    harm(&newer, file, older.bytes_of(file), "an older copy"),
                    "{file}"
                );
            }
        }
        assert!(changed > 0);
    }
}

#[test]
fn a_changed_body_in_the_last_frame_is_rot_and_not_torn() {
    let image = finished(1, false);
    let mut seen = 0;
    for file in image.files() {
        let bytes = image.bytes_of(file).unwrap();
        let Some(last) = frames(&bytes)
            .pop()
            .filter(|_| matches!(file, File::Wal(_)))
        else {
            continue;
        };
        let mut disk = image.clone();
        disk.tamper(file, flip(&bytes, (last + 200) * 8));
        if let Err(Corrupt::Rotten {
            file: named,
            offset,
            what: Rot::Body { .. },
        }) = read(&mut disk)
        {
            assert_eq!((named, offset), (file, last as u64));
            seen += 1;
        }
    }
    assert!(seen > 0);
}

#[test]
fn accepted_loss_starts_with_what_lies_before_the_damage() {
    let image = finished(2, false);
    let mut tried = 0;
    for file in image.files() {
        let bytes = image.bytes_of(file).unwrap();
        for start in frames(&bytes) {
            let mut disk = image.clone();
            disk.tamper(file, flip(&bytes, (start + 180) * 8));
            if !matches!(read(&mut disk), Err(Corrupt::Rotten { .. })) {
                continue;
            }
            tried += 1;
            let first = read_with(&mut disk, true).unwrap();
            // From now on the shorter log is the log.
            let again = read(&mut disk.after_power_cut(Survive::Nothing)).unwrap();
            assert_eq!(first.log, again.log);
            let mark = &image.mark;
            assert!(first.log.len() <= mark.acked.len() || first.log != mark.acked);
        }
    }
    assert!(tried > 3, "{tried}");
}

#[test]
fn a_lost_write_before_the_last_frame_is_refused() {
    let (mut lost, mut followed) = (0, 0);
    for seed in 0..4 {
        let mut member = start(Sim::default(), seed).unwrap();
        member.work(60).unwrap();
        member.settle().unwrap();
        let older = member.disk.after_power_cut(Survive::Everything);
        for _ in 0..4 {
            member.append();
            member.submit().unwrap();
            member.land_all().unwrap();
        }
        let newer = member.disk.after_power_cut(Survive::Everything);
        let wal = |file: &File| matches!(file, File::Wal(_));
        for file in older.files().into_iter().filter(wal) {
            let (old, new) = (older.bytes_of(file).unwrap(), newer.bytes_of(file).unwrap());
            let starts = frames(&new);
            let fresh = |at: &usize| old[*at..at + PAGE_BYTES] != new[*at..at + PAGE_BYTES];
            let fresh: Vec<usize> = starts.into_iter().filter(fresh).collect();
            for pair in fresh.windows(2) {
                // Frame and all, as if the disk had only said that it wrote it.
                let mut bytes = new.clone();
                bytes[pair[0]..pair[1]].copy_from_slice(&old[pair[0]..pair[1]]);
                let mut disk = newer.clone();
                disk.tamper(file, Some(bytes));
                let refused = read(&mut disk).map(|read| read.log.len()).unwrap_err();
                // The first frame of a segment is missed by the floor: naming the segment after it raised that.
                let what = match refused {
                    Corrupt::Rotten { what, .. } => what,
                    other => panic!("{other}"),
                };
                followed += u32::from(matches!(what, Rot::Followed { .. }));
                assert!(
                    matches!(what, Rot::Followed { .. } | Rot::BelowFloor { .. }),
                    "{what}"
                );
                lost += 1;
            }
        }
    }
    assert!(lost > 4, "{lost}");
    assert!(followed > 2, "{followed}");
}
