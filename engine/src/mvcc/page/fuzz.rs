//! What fuzzing asks of the pages of an index: no panic on any bytes, and nothing but what was
//! written.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rkyv::util::AlignedVec;

use super::archive::{CheckedPage, PageBuilder};
use super::load::IndexLoad;
use super::write::IndexWriter;
use crate::mvcc::revlog::Position;
use crate::mvcc::tree::{Entry, walk};

/// The body of the fuzz target `checkpoint_page`. Behind an odd first byte come the bytes of a page
/// or of an index; behind an even one a script that spells keys, and, unless the byte has bit 1,
/// whose second half damages their pages.
///
/// # Panics
/// When a page is taken for what it is not.
pub fn fuzz_checkpoint_page(data: &[u8]) {
    let Some((&form, rest)) = data.split_first() else {
        return;
    };
    if form % 2 == 1 {
        check_page(rest);
        let _ = load(rest, usize::from(form) + 1);
        return;
    }
    let (script, damage) = match form & 2 {
        0 => rest.split_at(rest.len() / 2),
        _ => (rest, &[][..]),
    };
    let entries = spelled(script);
    let mut written = Vec::new();
    let mut writer = IndexWriter::default();
    for (key, entry) in &entries {
        writer.push(key, entry, &mut written);
    }
    writer.finish(&mut written);
    let mut bytes = written.clone();
    for change in damage.chunks_exact(4) {
        let at = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize % bytes.len();
        match change[3] {
            0 => bytes.truncate(at.max(1)),
            flip => bytes[at] ^= flip,
        }
    }
    let found = load(&bytes, usize::from(form) * 8 + 1);
    assert_eq!(found.is_some(), bytes == written);
    if let Some(found) = found {
        assert!(found.iter().eq(&entries));
    }
}

/// A page that is accepted comes out of its own entries again.
fn check_page(bytes: &[u8]) {
    let mut aligned = AlignedVec::<16>::new();
    aligned.extend_from_slice(bytes);
    let Ok(page) = CheckedPage::open(&aligned, REVISION) else {
        return;
    };
    let entries = entries_of(&page);
    assert!(entries.is_sorted_by(|a, b| a.0 < b.0));
    let mut builder = PageBuilder::default();
    for (key, entry) in &entries {
        builder.push(key, entry);
    }
    let (sealed, parent) = builder.seal().expect("a page has keys");
    assert_eq!(parent.keys as usize, entries.len());
    let again = CheckedPage::open(&sealed, REVISION).expect("just sealed");
    assert_eq!(entries_of(&again), entries);
}

fn entries_of(page: &CheckedPage<'_>) -> Vec<(Vec<u8>, Entry)> {
    let entry = |index| {
        let mut key = Vec::new();
        page.key(index, &mut key);
        (key, page.entry(index))
    };
    (0..page.len()).map(entry).collect()
}

/// What the index of these bytes holds, read in pieces; `None` if it is refused.
fn load(bytes: &[u8], piece: usize) -> Option<BTreeMap<Vec<u8>, Entry>> {
    let mut load = IndexLoad::new(REVISION);
    for piece in bytes.chunks(piece) {
        let taken = load.push(piece, |entry| entry.at.segment < SEGMENTS);
        if taken.ok()? < piece.len() {
            return None;
        }
    }
    let tree = load.finish().ok()?.0.finish(());
    let mut found = BTreeMap::new();
    let _: ControlFlow<()> = walk(tree.root(), None, None, &mut |leaf, places| {
        found.extend(places.map(|index| (leaf.key(index).to_vec(), *leaf.entry(index))));
        ControlFlow::Continue(())
    });
    Some(found)
}

/// Keys with entries as a store at `REVISION` can have them: short ones with long prefixes, and some
/// longer than a page.
fn spelled(script: &[u8]) -> BTreeMap<Vec<u8>, Entry> {
    let entry = |word: &[u8; 4]| {
        let [a, b, c, d] = word.map(i64::from);
        let main = 1 + (a * 4 + b) % REVISION;
        let mut entry = Entry {
            main,
            at: Position {
                segment: u32::from(word[2]) % SEGMENTS,
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

const REVISION: i64 = 1000;
const SEGMENTS: u32 = 100;
