use rkyv::util::AlignedVec;

use super::archive::{BadPage, CheckedPage, PageRef, difference};
use super::{KIND_PAGE, KIND_TABLE, PART_HEAD_BYTES};
use crate::lease::Attached;
use crate::mvcc::tree::{Bulk, Entry};
use crate::types::LeaseId;

/// Builds the index from the pages that a checkpoint holds.
pub(in crate::mvcc) struct IndexLoad {
    /// Of the checkpoint: no entry is newer.
    revision: i64,
    stage: Stage,
    /// The head of a part, as far as it has come.
    head: Vec<u8>,
    /// The part, as far as it has come: in memory of its own, as an archive must be aligned.
    part: AlignedVec,
    bulk: Bulk,
    /// The leases of its live keys.
    attached: Attached,
    /// What the page table must say.
    pages: Vec<PageRef>,
    /// The greatest key so far.
    last_key: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Part { kind: u8, bytes: usize },
    End,
}

/// The pages are not those of an index. The file's checksums held, so they were written wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadIndex {
    /// A part of an unknown kind.
    #[error("a part of the index has the unknown kind {found}")]
    Kind {
        /// The byte found.
        found: u8,
    },
    /// A page.
    #[error("page {page} of the index cannot be read: {why:?}")]
    Page {
        /// Which, counted from 0.
        page: usize,
        /// Why.
        why: BadPage,
    },
    /// A key at a place where the revision log cannot have its record.
    #[error(
        "page {page} of the index names a record in segment {segment}, where the checkpoint has none"
    )]
    Segment {
        /// Which page, counted from 0.
        page: usize,
        /// The segment.
        segment: u32,
    },
    /// The page table cannot be read.
    #[error("the page table of the index cannot be read")]
    Table,
    /// The page table knows this page otherwise: another digest or length, missing, or one too many.
    #[error("page {page} of the index is not the one that the page table names")]
    Digest {
        /// Which, counted from 0.
        page: usize,
    },
    /// The page table has not come.
    #[error("the index has no end")]
    Short,
}

impl IndexLoad {
    /// Awaits the pages of an index at `revision`.
    pub(in crate::mvcc) fn new(revision: i64) -> Self {
        Self {
            revision,
            stage: Stage::Head,
            head: Vec::new(),
            part: AlignedVec::new(),
            bulk: Bulk::new(),
            attached: Attached::default(),
            pages: Vec::new(),
            last_key: Vec::new(),
        }
    }

    /// Takes the next bytes, cut anywhere; answers how many are of the index. `has_record` says
    /// whether the record of an entry can be where it says.
    ///
    /// # Errors
    /// They do not go on as an index does; the load is over.
    pub(in crate::mvcc) fn push(
        &mut self,
        bytes: &[u8],
        has_record: impl Fn(&Entry) -> bool,
    ) -> Result<usize, BadIndex> {
        let mut rest = bytes;
        while !rest.is_empty() && self.stage != Stage::End {
            match self.stage {
                Stage::Head => {
                    let more = rest.len().min(PART_HEAD_BYTES - self.head.len());
                    self.head.extend_from_slice(&rest[..more]);
                    rest = &rest[more..];
                    self.take_head()?;
                }
                Stage::Part { bytes, .. } => {
                    let more = rest.len().min(bytes - self.part.len());
                    self.part.extend_from_slice(&rest[..more]);
                    rest = &rest[more..];
                }
                Stage::End => {}
            }
            if let Stage::Part { kind, bytes } = self.stage
                && self.part.len() == bytes
            {
                self.take_part(kind, &has_record)?;
                self.part.clear();
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// Whether the last part has come.
    pub(in crate::mvcc) fn is_complete(&self) -> bool {
        self.stage == Stage::End
    }

    /// The index, and which keys hang on which lease.
    ///
    /// # Errors
    /// The last part has not come.
    pub(in crate::mvcc) fn finish(self) -> Result<(Bulk, Attached), BadIndex> {
        match self.is_complete() {
            true => Ok((self.bulk, self.attached)),
            false => Err(BadIndex::Short),
        }
    }

    fn take_head(&mut self) -> Result<(), BadIndex> {
        if let Some([found, bytes @ ..]) = self.head.first_chunk::<PART_HEAD_BYTES>() {
            if ![KIND_PAGE, KIND_TABLE].contains(found) {
                return Err(BadIndex::Kind { found: *found });
            }
            self.stage = Stage::Part {
                kind: *found,
                bytes: u32::from_le_bytes(*bytes) as usize,
            };
            self.head.clear();
        }
        Ok(())
    }

    fn take_part(&mut self, kind: u8, has_record: impl Fn(&Entry) -> bool) -> Result<(), BadIndex> {
        self.stage = match kind {
            KIND_PAGE => {
                self.take_page(has_record)?;
                Stage::Head
            }
            _ => {
                self.check_table()?;
                Stage::End
            }
        };
        Ok(())
    }

    fn take_page(&mut self, has_record: impl Fn(&Entry) -> bool) -> Result<(), BadIndex> {
        let page = self.pages.len();
        let bad = |why| BadIndex::Page { page, why };
        let checked = CheckedPage::open(&self.part, self.revision).map_err(bad)?;
        let mut key = Vec::new();
        checked.key(0, &mut key);
        if page > 0 && key <= self.last_key {
            return Err(bad(BadPage::Order));
        }
        for index in 0..checked.len() {
            let entry = checked.entry(index);
            if !has_record(&entry) {
                let segment = entry.at.segment;
                return Err(BadIndex::Segment { page, segment });
            }
            checked.key(index, &mut key);
            if entry.lease != 0 {
                self.attached.change(&key, LeaseId(0), LeaseId(entry.lease));
            }
            self.bulk.push(&key, entry);
        }
        self.last_key = key;
        self.pages.push(PageRef::new(&self.part, checked.len()));
        Ok(())
    }

    fn check_table(&self) -> Result<(), BadIndex> {
        let (table, digest) = self.part.split_last_chunk().ok_or(BadIndex::Table)?;
        if crc32c::crc32c(table) != u32::from_le_bytes(*digest) {
            return Err(BadIndex::Table);
        }
        match difference(table, &self.pages).map_err(|_| BadIndex::Table)? {
            Some(page) => Err(BadIndex::Digest { page }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
