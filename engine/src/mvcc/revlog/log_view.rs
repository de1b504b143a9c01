use std::sync::Arc;

use super::Position;
use super::directory::Directory;
use super::file::SegmentFile;
use super::record::Stored;
use crate::mvcc::aside::Aside;
use crate::mvcc::tree::PageRef;
use crate::mvcc::wants::NeedRead;

/// The log as one reader sees it. Clients' reads note what they miss, so that the member reads it;
/// a job that has an `Aside` reads it itself.
#[derive(Clone, Copy)]
pub(crate) struct LogView<'a> {
    directory: &'a Directory,
    aside: Option<&'a Aside>,
}

impl<'a> LogView<'a> {
    pub(crate) fn new(directory: &'a Directory) -> Self {
        Self {
            directory,
            aside: None,
        }
    }

    pub(crate) fn with(self, aside: &'a Aside) -> Self {
        Self {
            aside: Some(aside),
            ..self
        }
    }

    /// The record at `at`; `None` if compaction has dropped it.
    pub(crate) fn record(self, at: Position) -> Result<Option<Stored<'a>>, NeedRead> {
        let found = self.directory.record(at, self.aside);
        if let Err(need) = found {
            self.miss(need);
        }
        found
    }

    /// The first record at or after `at`, dropped ones skipped.
    pub(crate) fn next_from(
        self,
        at: Position,
    ) -> Result<Option<(Position, Stored<'a>)>, NeedRead> {
        let found = self.directory.next_from(at, self.aside);
        if let Err(need) = found {
            self.miss(need);
        }
        found
    }

    /// See [`Directory::seek`].
    pub(crate) fn seek(self, main: i64) -> Position {
        self.directory.seek(main)
    }

    /// See [`Directory::file_of`].
    pub(crate) fn file_of(self, need: NeedRead) -> Option<&'a Arc<SegmentFile>> {
        self.directory.file_of(need)
    }

    /// Whether a page of the index that was asked for has not come.
    pub(crate) fn is_awaited(self, page: PageRef) -> bool {
        self.directory.wants().is_awaited(page)
    }

    /// Lets the member read it.
    pub(crate) fn note(self, need: NeedRead) {
        self.directory.wants().add(need);
    }

    #[cold]
    fn miss(self, need: NeedRead) {
        if self.aside.is_none() {
            self.note(need);
        }
    }
}
