use super::super::fuzz::{fuzz_checkpoint_page, read_index, write_index};
use super::*;
use crate::disk::mem::MemDisk;
use crate::mvcc::rebuild::SALT;
use crate::mvcc::tree::Entry;

type Entries = Vec<(Vec<u8>, Entry)>;

fn entry(main: i64) -> Entry {
    Entry {
        main,
        create: 2,
        version: 3,
        ..Entry::default()
    }
}

/// The table and the disk of an index of `count` keys.
fn index(count: i64) -> (Vec<u8>, MemDisk, Entries) {
    let keys = (0..count).map(|key| format!("/registry/pods/{key:06}").into_bytes());
    let all: Vec<_> = keys.zip((2..).map(|main| entry(main % 900 + 2))).collect();
    let (mut disk, mut table) = (MemDisk::default(), Vec::new());
    let entries = all.iter().map(|(key, entry)| (&key[..], entry));
    write_index(entries, &mut disk, 5, &mut table);
    (table, disk, all)
}

/// What is no page.
fn none() -> Sealed {
    let mut archive = rkyv::util::AlignedVec::new();
    archive.extend_from_slice(b"some page");
    Sealed {
        archive,
        summary: Default::default(),
        is_leased: true,
    }
}

/// More pages than one write or one read takes.
#[test]
fn pages_are_read_back_alone_and_with_their_neighbours() {
    let (table, mut disk, all) = index(30_000);
    assert!(disk.files[&File::Segment(5)].len() > WRITE_BYTES + 100_000);
    assert!(read_index(&table, 1000, &mut disk).unwrap() == all);
    let (table, mut disk, _) = index(0);
    assert!(disk.files.is_empty());
    assert_eq!(read_index(&table, 1, &mut disk), Some(Vec::new()));
}

/// No changed bit is taken for data, wherever it lies; nor is a file cut short.
#[test]
fn every_flipped_bit_of_a_file_is_seen() {
    let (table, disk, all) = index(100);
    let file = File::Segment(5);
    let length = disk.files[&file].len();
    for byte in 0..length {
        let mut disk = disk.clone();
        disk.files.get_mut(&file).unwrap()[byte] ^= 1 << (byte % 8);
        assert_eq!(read_index(&table, 100, &mut disk), None, "byte {byte}");
    }
    for cut in (0..length).step_by(500) {
        let mut disk = disk.clone();
        disk.files.get_mut(&file).unwrap().truncate(cut);
        assert_eq!(read_index(&table, 100, &mut disk), None, "{cut} bytes");
    }
    assert_eq!(read_index(&table, 100, &mut MemDisk::default()), None);
    assert_eq!(read_index(&table, 100, &mut disk.clone()), Some(all));
}

/// A whole file of another directory or time is not this one.
#[test]
fn another_file_under_this_name_is_refused() {
    let (table, _, _) = index(100);
    let (_, mut other, _) = index(101);
    assert_eq!(read_index(&table, 100, &mut other), None);
    let (_, mut disk, _) = index(100);
    let mut writer = IndexFileWriter::new(6);
    writer.push(&none());
    let named = writer.finish(&mut disk, SALT).unwrap().unwrap().named();
    assert!(IndexFile::open(&mut disk, SALT, &named).is_ok());
    assert!(IndexFile::open(&mut disk, SALT + 1, &named).is_err());
    let moved = disk.files.remove(&File::Segment(6)).unwrap();
    disk.files.insert(File::Segment(5), moved);
    let named = IndexFileRef { number: 5, ..named };
    assert!(IndexFile::open(&mut disk, SALT, &named).is_err());
}

/// What is no page behind a right digest is refused where it is read.
#[test]
fn a_page_that_is_none_is_refused() {
    let mut disk = MemDisk::default();
    let mut writer = IndexFileWriter::new(6);
    writer.push(&none());
    let file = writer.finish(&mut disk, SALT).unwrap().unwrap();
    let rotten = BadSegment::Rotten {
        file: File::Segment(6),
        offset: 0,
        what: "a page of the index",
    };
    assert_eq!(file.check_all(&mut disk, 9), Err(rotten));
}

/// Random keys and random damage, through the fuzz target's body.
#[test]
fn random_pages_come_back_whole_or_not_at_all() {
    let (seeds, bytes) = if cfg!(miri) { (10, 60) } else { (100, 1500) };
    for seed in 0..seeds {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut data: Vec<u8> = (0..random.usize(..bytes)).map(|_| random.u8(..)).collect();
        fuzz_checkpoint_page(&data);
        data.insert(0, 2);
        fuzz_checkpoint_page(&data);
    }
}
