//! The log's entries as the simulator's checkers see them.

use super::{Entry, FRAMED, Log, Mark};
use crate::run::{ENTRY_LENGTH_BYTES, split_entry};
use crate::types::Index;

impl Log {
    /// Hands out the entries from `from` on that are held here.
    pub fn visit_from(&self, from: Index, mut each: impl FnMut(Entry<'_>)) {
        for run in self.runs.iter().filter(|run| run.last() >= from) {
            let (mut index, mut offset) = (run.first, 0);
            while offset < run.bytes.len() {
                let (bytes, _) = split_entry(&run.bytes[offset..]).expect(FRAMED);
                offset += ENTRY_LENGTH_BYTES + bytes.len();
                if index >= from {
                    let at = Mark {
                        index,
                        term: run.term,
                    };
                    let kind = run.kind;
                    each(Entry { at, kind, bytes });
                }
                index = index.next();
            }
        }
    }
}
