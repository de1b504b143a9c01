use super::super::table::{TableRow, TableWriter};
use super::*;
use crate::mvcc::tree::{PageRef, Summary};

const FILE: IndexFileRef = IndexFileRef {
    number: 9,
    bytes: 12_288,
    pages: 3,
    digest: 7,
};

fn row(separator: &[u8], page: u32, live: u32, changed: i64) -> TableRow<'_> {
    let page = PageRef { file: 4, page };
    let summary = Summary { live, changed };
    TableRow {
        separator,
        page,
        summary,
    }
}

fn table(rows: &[TableRow<'_>], files: &[(u32, IndexFileRef)]) -> Vec<u8> {
    let (mut writer, mut out) = (TableWriter::default(), Vec::new());
    for row in rows {
        writer.push(row, &mut out);
    }
    for (file, named) in files {
        writer.file(*file, named, &mut out);
    }
    writer.finish(&mut out);
    out
}

fn sound() -> Vec<u8> {
    let rows = [
        row(b"", 2, 32, 900),
        row(b"/registry/b", 0, 0, 1),
        row(b"/registry/c", 1, 1, 5000),
    ];
    table(&rows, &[(4, FILE), (9, FILE)])
}

fn load(table: &[u8], piece: usize) -> Result<IndexLoad, BadIndex> {
    let mut load = IndexLoad::new(5000);
    let mut carry = Vec::new();
    for piece in table.chunks(piece) {
        carry.extend_from_slice(piece);
        let taken = load.push(&carry)?;
        carry.drain(..taken);
    }
    assert!(!load.is_complete() || carry.is_empty());
    Ok(load)
}

fn refusal(rows: &[TableRow<'_>], files: &[(u32, IndexFileRef)]) -> Option<BadIndex> {
    load(&table(rows, files), 1000).err()
}

/// Counts come from the table alone, however it is cut.
#[test]
fn a_table_is_taken_in_pieces_and_gives_a_tree_without_a_page() {
    let table = sound();
    for piece in 1..=table.len() {
        let load = load(&table, piece).unwrap();
        assert!(load.is_complete());
        assert!(load.named().eq([9, 9]));
        let tree = load.bulk.finish(());
        assert_eq!(tree.root().live(), 33);
        let missed = [&b"/registry/a"[..], b"/registry/bz", b"/z"];
        let missed = missed.map(|key| tree.root().get(key).err().unwrap().page);
        assert_eq!(missed, [2, 0, 1]);
    }
}

/// What follows the table belongs to whoever wrote it; what ends early is not complete.
#[test]
fn the_end_of_a_table_is_known() {
    let mut table = sound();
    let len = table.len();
    table.extend_from_slice(b"more");
    let mut load = IndexLoad::new(5000);
    assert_eq!(load.push(&table), Ok(len));
    assert!(load.is_complete());
    assert_eq!(load.push(b"more"), Ok(0));
    for cut in 0..len {
        let mut load = IndexLoad::new(5000);
        load.push(&table[..cut]).unwrap();
        assert!(!load.is_complete());
    }
}

/// Numbers that no checkpoint writes, as they would lead to wrong counts or into nowhere.
#[test]
fn a_table_that_no_checkpoint_writes_is_refused() {
    let files = [(4, FILE)];
    let first = || row(b"", 0, 1, 2);
    let order = Some(BadIndex::Order { leaf: 1 });
    assert_eq!(refusal(&[first(), row(b"", 1, 1, 2)], &files), order);
    let rows = [first(), row(b"b", 1, 1, 2), row(b"a", 2, 1, 2)];
    assert_eq!(refusal(&rows, &files), Some(BadIndex::Order { leaf: 2 }));
    let numbers = Some(BadIndex::Numbers { leaf: 0 });
    assert_eq!(refusal(&[row(b"", 0, 33, 2)], &files), numbers);
    assert_eq!(refusal(&[row(b"", 0, 1, 5001)], &files), numbers);
    assert_eq!(refusal(&[row(b"", 0, 1, 0)], &files), numbers);
    let page = Some(BadIndex::Page { file: 4 });
    assert_eq!(refusal(&[row(b"", 3, 1, 2)], &files), page);
    assert_eq!(refusal(&[first()], &[(5, FILE)]), page);
    let twice: Vec<_> = [b"", &b"a"[..], b"b", b"c"]
        .map(|key| row(key, 0, 1, 2))
        .into();
    assert_eq!(refusal(&twice, &files), page);
    assert_eq!(refusal(&[], &[(4, FILE), (4, FILE)]), numbers);
    assert_eq!(load(&[9], 1).err(), Some(BadIndex::Kind { found: 9 }));
    let mut mixed = table(&[], &files);
    mixed.pop();
    mixed.extend_from_slice(&table(&[first()], &[]));
    assert_eq!(load(&mixed, 9).err(), Some(BadIndex::Kind { found: 1 }));
}
