//! What reads find missing from memory, and how it is read.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::revlog::SegmentId;
use super::tree::PageRef;
use crate::disk::{DiskOp, File, Pages};
use crate::limits::PARTS_WANTED_MAX;

/// This is not in memory: ask again when it is ([`View::has`](super::View::has)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NeedRead {
    /// Neighbouring records of a segment of the revision log.
    Frame {
        /// The segment.
        segment: SegmentId,
        /// Which frame of its file.
        frame: u32,
    },
    /// A leaf of the index.
    Page(PageRef),
}

impl From<PageRef> for NeedRead {
    fn from(page: PageRef) -> Self {
        Self::Page(page)
    }
}

/// One part of a file that is read and checked as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartRead {
    /// What it brings.
    pub(crate) need: NeedRead,
    /// The file that holds it now; another one if it was rewritten meanwhile.
    pub(crate) file: File,
    /// In bytes.
    pub(crate) offset: u64,
    pub(crate) pages: u32,
}

/// Parts that reads found missing, from all threads, for the loop that reads them.
#[derive(Default)]
pub(crate) struct Wants {
    /// At most `PARTS_WANTED_MAX`: who is not noted asks again.
    needs: Mutex<BTreeSet<NeedRead>>,
    /// Pages that were asked for and that readers cannot see yet; at most as many.
    pages: Mutex<BTreeSet<PageRef>>,
    /// Whether `needs` may hold any; spares the loop the lock.
    is_any: AtomicBool,
    /// Tells the loop.
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl PartRead {
    /// What it brings.
    #[must_use]
    pub fn need(&self) -> NeedRead {
        self.need
    }

    /// The operation that reads it.
    #[must_use]
    pub fn op(&self) -> DiskOp {
        DiskOp::Read {
            file: self.file,
            offset: self.offset,
            into: Pages::zeroed(self.pages as usize),
        }
    }
}

impl Wants {
    /// Notes a part and wakes the loop.
    #[cold]
    pub(crate) fn add(&self, need: NeedRead) {
        if let NeedRead::Page(page) = need {
            let mut pages = self.lock_pages();
            if pages.len() < PARTS_WANTED_MAX {
                pages.insert(page);
            }
        }
        let mut needs = self.needs.lock().unwrap_or_else(PoisonError::into_inner);
        if needs.len() >= PARTS_WANTED_MAX || !needs.insert(need) {
            return;
        }
        drop(needs);
        // Pairs with the swap in `take`; the lock orders the rest.
        if !self.is_any.swap(true, Ordering::AcqRel)
            && let Some(wake) = self.wake.get()
        {
            wake();
        }
    }

    /// All that was noted since the last call.
    pub(crate) fn take(&self) -> BTreeSet<NeedRead> {
        if !self.is_any.swap(false, Ordering::AcqRel) {
            return BTreeSet::new();
        }
        std::mem::take(&mut *self.needs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a page that was asked for has not come.
    pub(crate) fn is_awaited(&self, page: PageRef) -> bool {
        self.lock_pages().contains(&page)
    }

    /// Readers can see these pages, or nobody will ask for them again.
    pub(crate) fn on_pages(&self, came: impl Iterator<Item = PageRef>) {
        let mut pages = self.lock_pages();
        let mut needs = self.needs.lock().unwrap_or_else(PoisonError::into_inner);
        for page in came {
            pages.remove(&page);
            needs.remove(&page.into());
        }
    }

    fn lock_pages(&self) -> MutexGuard<'_, BTreeSet<PageRef>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what wakes the loop; the first one holds.
    pub(crate) fn on_add(&self, wake: Box<dyn Fn() + Send + Sync>) {
        // Set once: one loop owns the store.
        let _ = self.wake.set(wake);
    }
}
