use super::*;
use crate::mvcc::page::fuzz::fuzz_checkpoint_page;
use crate::mvcc::page::write::IndexWriter;
use crate::mvcc::revlog::Position;
use crate::mvcc::tree::{Entry, Tree};

const REVISION: i64 = 5000;
const SEGMENTS: u32 = 8;

fn entry(main: i64) -> Entry {
    Entry {
        main,
        create: 2,
        version: 3,
        at: Position {
            segment: 7,
            word: 1,
        },
        ..Entry::default()
    }
}

fn stream(entries: impl IntoIterator<Item = (String, Entry)>) -> Vec<u8> {
    let (mut writer, mut out) = (IndexWriter::default(), Vec::new());
    for (key, entry) in entries {
        writer.push(key.as_bytes(), &entry, &mut out);
    }
    writer.finish(&mut out);
    out
}

/// Three pages and a table.
fn sound() -> Vec<u8> {
    stream((0..700).map(|key| (format!("/registry/pods/{key:05}"), entry(2 + key))))
}

/// Where each part begins.
fn parts(stream: &[u8]) -> Vec<usize> {
    let mut starts = vec![];
    let mut at = 0;
    while at < stream.len() {
        starts.push(at);
        let len = stream[at + 1..][..4].first_chunk().unwrap();
        at += PART_HEAD_BYTES + u32::from_le_bytes(*len) as usize;
    }
    starts
}

fn has_record(entry: &Entry) -> bool {
    entry.at.segment < SEGMENTS
}

fn load(stream: &[u8]) -> Result<Tree<()>, BadIndex> {
    let mut load = IndexLoad::new(REVISION);
    load.push(stream, has_record)?;
    Ok(load.finish()?.0.finish(()))
}

fn refusal(stream: &[u8]) -> BadIndex {
    load(stream).err().expect("refused")
}

/// A page of a few hundred keys is what one read brings; a long prefix is stored once.
#[test]
fn pages_are_about_as_large_as_they_should_be() {
    let stream = sound();
    let starts = parts(&stream);
    assert_eq!(starts.len(), 4);
    for pair in starts.windows(2).take(2) {
        assert!((15_000..=16_384).contains(&(pair[1] - pair[0])));
    }
    assert_eq!(
        load(&stream)
            .unwrap()
            .root()
            .get(b"/registry/pods/00699")
            .unwrap()
            .1,
        27
    );
    assert!(load(&parts_of_nothing()).unwrap().root().get(b"").is_none());
}

fn parts_of_nothing() -> Vec<u8> {
    stream([])
}

/// The bytes are those of the features that the superblock names: a dependency that switches on
/// another one would make directories that no release reads, without a word.
#[test]
fn the_layout_of_a_page_does_not_change() {
    let stream = stream(["/a/b", "/a/cd"].map(|key| (key.to_owned(), entry(0x0102_0304))));
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
    };
    let (page, table) = stream.split_at(parts(&stream)[1]);
    let row = "0403020100000000\
               0200000000000000\
               0300000000000000\
               0000000000000000\
               07000000010000000000000000000000";
    let expected = [
        "01b0000000",
        // `/a/`, `b` and `cd`, where these end.
        "2f612f",
        "626364",
        "0000",
        "0100000003000000",
        row,
        row,
        // The root: how far back each of the four lies, and how long it is.
        "90ffffffffffffff0300000000000000",
        "83ffffffffffffff0300000000000000",
        "78ffffffffffffff0200000000000000",
        "70ffffffffffffff0200000000000000",
    ];
    assert_eq!(hex(page), expected.concat());
    let expected = [
        "0224000000",
        "c8b29a58b000000002000000",
        "00000000",
        "f0ffffffffffffff0100000000000000",
        "3c403682",
    ];
    assert_eq!(hex(table), expected.concat());
}

/// What follows the index belongs to whoever wrote it.
#[test]
fn bytes_behind_the_index_are_left_alone() {
    let mut stream = sound();
    let len = stream.len();
    stream.extend_from_slice(b"more");
    let mut load = IndexLoad::new(REVISION);
    assert_eq!(load.push(&stream, has_record), Ok(len));
    assert!(load.is_complete());
    assert_eq!(load.push(b"more", has_record), Ok(0));
}

/// Each flipped bit is found, and so is each place where the stream ends early.
#[test]
fn a_changed_or_torn_page_is_refused() {
    let stream = stream((0..9).map(|key| (format!("k{key}"), entry(2))));
    for at in 0..stream.len() {
        for bit in 0..8 {
            let mut changed = stream.clone();
            changed[at] ^= 1 << bit;
            assert!(load(&changed).is_err(), "byte {at} bit {bit}");
        }
        assert_eq!(refusal(&stream[..at]), BadIndex::Short);
    }
}

/// A page of another index is whole in itself; only the parent knows better.
#[test]
fn a_page_that_the_table_does_not_name_is_refused() {
    let stream = sound();
    let other = stream_with_other_entries();
    let starts = parts(&stream);
    let mut mixed = stream.clone();
    mixed[starts[1]..starts[2]].copy_from_slice(&other[starts[1]..starts[2]]);
    assert_eq!(refusal(&mixed), BadIndex::Digest { page: 1 });
    let mut missing = stream.clone();
    missing.drain(starts[2]..starts[3]);
    assert_eq!(refusal(&missing), BadIndex::Digest { page: 2 });
    let mut first_missing = stream.clone();
    first_missing.drain(..starts[1]);
    assert_eq!(refusal(&first_missing), BadIndex::Digest { page: 0 });
}

fn stream_with_other_entries() -> Vec<u8> {
    stream((0..700).map(|key| (format!("/registry/pods/{key:05}"), entry(3 + key))))
}

#[test]
fn pages_out_of_order_are_refused() {
    let stream = sound();
    let starts = parts(&stream);
    let mut swapped = stream[starts[1]..starts[2]].to_vec();
    swapped.extend_from_slice(&stream[..starts[1]]);
    let why = BadPage::Order;
    assert_eq!(refusal(&swapped), BadIndex::Page { page: 1, why });
}

#[test]
fn keys_out_of_order_in_a_page_are_refused() {
    let stream = stream(["b", "a"].map(|key| (key.to_owned(), entry(2))));
    let why = BadPage::Order;
    assert_eq!(refusal(&stream), BadIndex::Page { page: 0, why });
}

/// A row from the future, or one that contradicts itself, would be served to clients.
#[test]
fn rows_that_no_store_makes_are_refused() {
    let sound = entry(REVISION);
    let wrong = [
        Entry {
            main: REVISION + 1,
            ..sound
        },
        Entry {
            main: 0,
            create: 0,
            version: 0,
            ..sound
        },
        Entry {
            create: REVISION + 1,
            ..sound
        },
        Entry { create: 0, ..sound },
        Entry {
            version: 0,
            ..sound
        },
        Entry {
            version: -1,
            ..sound
        },
    ];
    for entry in wrong {
        let stream = stream([("k".to_owned(), entry)]);
        let why = BadPage::Numbers;
        assert_eq!(refusal(&stream), BadIndex::Page { page: 0, why });
    }
    let at = Position {
        segment: SEGMENTS,
        word: 0,
    };
    let stream = stream([("k".to_owned(), Entry { at, ..sound })]);
    assert_eq!(
        refusal(&stream),
        BadIndex::Segment {
            page: 0,
            segment: SEGMENTS
        }
    );
}

/// An archive of something else, as another layout's would be.
#[test]
fn a_foreign_archive_is_refused() {
    let foreign = rkyv::to_bytes::<rkyv::rancor::Failure>(&vec![7u64; 20]).unwrap();
    for kind in [KIND_PAGE, KIND_TABLE] {
        let mut stream = vec![kind];
        stream.extend_from_slice(&u32::try_from(foreign.len()).unwrap().to_le_bytes());
        stream.extend_from_slice(&foreign);
        let why = BadPage::Archive;
        let expected = match kind {
            KIND_PAGE => BadIndex::Page { page: 0, why },
            _ => BadIndex::Table,
        };
        assert_eq!(refusal(&stream), expected);
    }
    assert_eq!(refusal(&[9, 0, 0, 0, 0]), BadIndex::Kind { found: 9 });
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
