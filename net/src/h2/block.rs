use super::Protocol;
use super::message::{BlockKind, Facts};
use crate::limits::{BLOCK_CACHE_ENTRIES_MAX, CACHED_BLOCK_BYTES_MAX};
use std::sync::Arc;
use std::time::Instant;

/// A header block of which the last CONTINUATION has not come.
#[derive(Debug)]
pub(super) struct OpenBlock {
    pub(super) stream: u32,
    pub(super) end_stream: bool,
    pub(super) depends_on_itself: bool,
    pub(super) bytes: Vec<u8>,
    pub(super) continuations: u32,
    pub(super) since: Instant,
}

/// What the last few header blocks meant. A client with a warm table sends the same bytes for every call of a method.
///
/// An entry that refers to the dynamic table holds as long as the table is the same.
#[derive(Debug)]
pub(super) struct BlockCache<P: Protocol> {
    entries: Vec<Entry<P>>,
    /// The entry that is overwritten next.
    victim: usize,
    /// Counts changes of the decoder's dynamic table.
    table_version: u64,
}

#[derive(Debug)]
struct Entry<P: Protocol> {
    block: Vec<u8>,
    kind: BlockKind,
    /// `None`: its meaning does not depend on the table.
    table_version: Option<u64>,
    head: Arc<P::Head>,
    facts: Facts,
}

impl<P: Protocol> BlockCache<P> {
    pub(super) fn new() -> BlockCache<P> {
        BlockCache {
            entries: Vec::new(),
            victim: 0,
            table_version: 0,
        }
    }

    pub(super) fn find(&self, block: &[u8], kind: BlockKind) -> Option<(Arc<P::Head>, Facts)> {
        let entry = self
            .entries
            .iter()
            .find(|entry| entry.block == block && entry.kind == kind)?;
        let is_current = entry
            .table_version
            .is_none_or(|version| version == self.table_version);
        is_current.then(|| (entry.head.clone(), entry.facts))
    }

    /// The dynamic table is another from now on.
    pub(super) fn on_table_change(&mut self) {
        self.table_version += 1;
    }

    /// Remembers a block that left the table as it was. Returns the head that is forgotten for it.
    pub(super) fn insert(
        &mut self,
        block: &[u8],
        kind: BlockKind,
        table_used: bool,
        head: &Arc<P::Head>,
        facts: Facts,
    ) -> Option<Arc<P::Head>> {
        if block.len() > CACHED_BLOCK_BYTES_MAX {
            return None;
        }
        let table_version = table_used.then_some(self.table_version);
        let stale = self
            .entries
            .iter()
            .position(|entry| entry.block == block && entry.kind == kind);
        if stale.is_none() && self.entries.len() < BLOCK_CACHE_ENTRIES_MAX {
            self.entries.push(Entry {
                block: block.to_vec(),
                kind,
                table_version,
                head: head.clone(),
                facts,
            });
            return None;
        }
        let place = stale.unwrap_or(self.victim);
        self.victim = (place + 1) % self.entries.len();
        let entry = &mut self.entries[place];
        entry.block.clear();
        entry.block.extend_from_slice(block);
        entry.kind = kind;
        entry.table_version = table_version;
        entry.facts = facts;
        Some(std::mem::replace(&mut entry.head, head.clone()))
    }
}
