//! What fuzzing asks of the pages of an index: no panic on any bytes, and nothing but what was
//! written.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rkyv::util::AlignedVec;

use super::archive::{CheckedPage, PageBuilder};
use super::file::{IndexFileWriter, read_now};
use super::load::{IndexLoad, LoadedIndex};
use super::table::{TableRow, TableWriter};
use crate::disk::{Disk, File, mem::MemDisk};
use crate::limits::LEAF_KEYS_MAX;
use crate::mvcc::rebuild::SALT;
use crate::mvcc::revlog::Position;
use crate::mvcc::tree::{Entry, Leaf, PageRef, walk_bottom};

/// The body of the fuzz target `checkpoint_page`. Behind an odd first byte come the bytes of a page
/// or of a table; behind an even one a script that spells keys, and, unless the byte has bit 1,
/// whose second half damages the file of their pages.
///
/// # Panics
/// When a page is taken for what it is not.
pub fn fuzz_checkpoint_page(data: &[u8]) {
    let Some((&form, rest)) = data.split_first() else {
        return;
    };
    if form % 2 == 1 {
        check_page(rest);
        let _ = read_index(rest, usize::from(form) + 1, &mut MemDisk::default());
        return;
    }
    let (script, damage) = match form & 2 {
        0 => rest.split_at(rest.len() / 2),
        _ => (rest, &[][..]),
    };
    let entries = spelled(script);
    let (mut disk, mut table) = (MemDisk::default(), Vec::new());
    let all = entries.iter().map(|(key, entry)| (&key[..], entry));
    write_index(all, &mut disk, NUMBER, &mut table);
    let written = disk.clone();
    if let Some(bytes) = disk.files.get_mut(&File::Segment(NUMBER)) {
        for change in damage.chunks_exact(4) {
            let at = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize;
            let at = at % bytes.len();
            match change[3] {
                0 => bytes.truncate(at.max(1)),
                flip => bytes[at] ^= flip,
            }
        }
    }
    let is_whole = disk.files == written.files;
    let found = read_index(&table, usize::from(form) * 8 + 1, &mut disk);
    assert_eq!(found.is_some(), is_whole);
    if let Some(found) = found {
        assert!(found.iter().map(|(key, entry)| (key, entry)).eq(&entries));
    }
}

/// Writes full pages of these keys as file `number`, and the table behind `out`.
pub(in crate::mvcc) fn write_index<'e>(
    entries: impl Iterator<Item = (&'e [u8], &'e Entry)>,
    disk: &mut dyn Disk,
    number: u64,
    out: &mut Vec<u8>,
) {
    let (mut builder, mut writer) = (PageBuilder::default(), IndexFileWriter::new(number));
    let mut table = TableWriter::default();
    let entries: Vec<_> = entries.collect();
    for some in entries.chunks(LEAF_KEYS_MAX) {
        for (key, entry) in some {
            builder.push(key, entry);
        }
        let sealed = builder.seal().expect("there are keys");
        let summary = sealed.summary;
        let page = writer.push(&sealed);
        writer.flush(disk).expect("this disk does not fail");
        let row = TableRow {
            separator: some[0].0,
            page: PageRef { file: FILE, page },
            summary,
        };
        table.push(&row, out);
    }
    let file = writer.finish(disk, SALT).expect("this disk does not fail");
    if let Some(file) = file {
        table.file(FILE, &file.named(), out);
    }
    table.finish(out);
}

/// What the index of this table holds, which comes in pieces; `None` if it is refused.
pub(super) fn read_index(
    table: &[u8],
    piece: usize,
    disk: &mut dyn Disk,
) -> Option<Vec<(Vec<u8>, Entry)>> {
    let mut load = IndexLoad::new(REVISION);
    let mut carry = Vec::new();
    for piece in table.chunks(piece) {
        carry.extend_from_slice(piece);
        let taken = load.push(&carry).ok()?;
        carry.drain(..taken);
    }
    if !load.is_complete() || !carry.is_empty() {
        return None;
    }
    let _ = load.inspect(disk, SALT, REVISION);
    let LoadedIndex { bulk, files, .. } = load.finish(disk, SALT).ok()?;
    let tree = bulk.finish(());
    let mut pages = Vec::new();
    let _: ControlFlow<()> = walk_bottom(tree.root(), b"", &mut |bottom| {
        pages.extend(bottom.page);
        ControlFlow::Continue(())
    });
    let mut found = Vec::new();
    for page in pages {
        let read = files.read(page, page.page % 3 == 0)?;
        let (pages, bytes) = read_now(disk, &read).ok()?;
        let got = (&pages, bytes);
        let leaves = files.leaves(page, &read, got, REVISION, SEGMENTS).ok()?;
        let (_, leaf) = leaves.iter().find(|(at, _)| *at == page)?;
        found.extend(entries_of(leaf));
    }
    Some(found)
}

/// A page that is accepted comes out of its own entries again.
fn check_page(bytes: &[u8]) {
    let mut aligned = AlignedVec::<16>::new();
    aligned.extend_from_slice(bytes);
    let Ok(page) = CheckedPage::open(&aligned, REVISION) else {
        return;
    };
    let entries = entries_of(&page.leaf());
    assert!(entries.is_sorted_by(|a, b| a.0 < b.0));
    let mut builder = PageBuilder::default();
    for (key, entry) in &entries {
        builder.push(key, entry);
    }
    let sealed = builder.seal().expect("a page has keys");
    assert!(sealed.summary.live as usize <= entries.len());
    let again = CheckedPage::open(&sealed.archive, REVISION).expect("just sealed");
    assert_eq!(entries_of(&again.leaf()), entries);
}

fn entries_of(leaf: &Leaf) -> Vec<(Vec<u8>, Entry)> {
    let entry = |index| (leaf.key(index).to_vec(), *leaf.entry(index));
    (0..leaf.len()).map(entry).collect()
}

/// Keys with entries as a store at `REVISION` can have them: short ones with long prefixes, and some
/// longer than most pages.
fn spelled(script: &[u8]) -> BTreeMap<Vec<u8>, Entry> {
    let entry = |word: &[u8; 4]| {
        let [a, b, c, d] = word.map(i64::from);
        let main = 1 + (a * 4 + b) % REVISION;
        let mut entry = Entry {
            main,
            at: Position {
                segment: u32::from(word[2]) % SEGMENTS_U32,
                word: u32::from(word[3]),
            },
            sub: u32::from(word[1]),
            ..Entry::default()
        };
        if d % 4 != 0 {
            entry.create = 1 + c % main;
            entry.version = d;
            entry.lease = c - 128;
            entry.value_len = u32::MAX >> (d % 32);
        }
        let repeat = [1, 3, 40, 900][usize::from(word[0] % 16).saturating_sub(12)];
        let mut key = b"/registry/".repeat(repeat);
        key.extend_from_slice(&word[..usize::from(word[3]) % 5]);
        (key, entry)
    };
    let words = script.as_chunks::<4>().0;
    words.iter().map(entry).collect()
}

/// The newest revision of what is read.
pub(super) const REVISION: i64 = 1000;
const SEGMENTS_U32: u32 = 100;
const SEGMENTS: usize = SEGMENTS_U32 as usize;
/// What the file is called in the table, and its number on the disk.
const FILE: u32 = 3;
const NUMBER: u64 = 5;
