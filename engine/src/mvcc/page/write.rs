use super::archive::{PageBuilder, PageRef, archive_table};
use super::{KIND_PAGE, KIND_TABLE};
use crate::mvcc::tree::Entry;

/// Makes the stream of pages, and the page table behind them.
#[derive(Default)]
pub(in crate::mvcc) struct IndexWriter {
    builder: PageBuilder,
    /// What the page table will hold.
    pages: Vec<PageRef>,
}

impl IndexWriter {
    /// Takes a key above all others; appends a page to `out` when one is full.
    pub(in crate::mvcc) fn push(&mut self, key: &[u8], entry: &Entry, out: &mut Vec<u8>) {
        if self.builder.is_full_for(key) {
            self.seal_page(out);
        }
        self.builder.push(key, entry);
    }

    /// Appends the last page and the page table.
    pub(in crate::mvcc) fn finish(&mut self, out: &mut Vec<u8>) {
        self.seal_page(out);
        let table = archive_table(std::mem::take(&mut self.pages));
        push_head(out, KIND_TABLE, table.len() + DIGEST_BYTES);
        out.extend_from_slice(&table);
        out.extend_from_slice(&crc32c::crc32c(&table).to_le_bytes());
    }

    fn seal_page(&mut self, out: &mut Vec<u8>) {
        if let Some((page, parent)) = self.builder.seal() {
            push_head(out, KIND_PAGE, page.len());
            out.extend_from_slice(&page);
            self.pages.push(parent);
        }
    }
}

fn push_head(out: &mut Vec<u8>, kind: u8, bytes: usize) {
    let bytes = u32::try_from(bytes).expect("a page has one long key, the table 12 bytes a page");
    out.push(kind);
    out.extend_from_slice(&bytes.to_le_bytes());
}

const DIGEST_BYTES: usize = size_of::<u32>();
