use std::ops::ControlFlow;

use super::aside::Aside;
use super::hold::{Hold, HoldRefused};
use super::revlog::{BadSegment, Position};
use super::store::{Marks, Reader};
use super::view::Record;
use crate::disk::Disk;
use crate::lease::GrantsImage;

/// All records up to one published revision, held for as long as this lives: whoever walks twice
/// sees the same twice, whatever is written or compacted meanwhile.
pub struct History {
    reader: Reader,
    _hold: Hold,
    marks: Marks,
    leases: GrantsImage,
    aside: Aside,
}

/// Where a walk over a [`History`] goes on. The default is before the first record.
#[derive(Clone, Copy, Debug, Default)]
pub struct HistoryAt(Position);

impl History {
    /// Holds what is published now.
    ///
    /// # Errors
    /// `Swept` while compaction is giving memory back: ask again when it is done. `Full` if too
    /// many jobs are in flight.
    pub fn take(reader: &Reader) -> Result<Self, HoldRefused> {
        let pin = reader.pin();
        let marks = pin.view().marks;
        let leases = pin.leases().clone();
        let hold = reader.hold(marks.finished)?;
        Ok(Self {
            reader: reader.clone(),
            _hold: hold,
            marks,
            leases,
            aside: Aside::default(),
        })
    }

    /// The newest revision in it.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.marks.revision
    }

    /// The compacted revision, -1 if there was no compaction.
    #[must_use]
    pub fn compacted(&self) -> i64 {
        self.marks.compacted
    }

    /// The compaction whose superseded records are all gone, -1 if there is none; at most
    /// `compacted`.
    #[must_use]
    pub fn finished(&self) -> i64 {
        self.marks.finished
    }

    /// The leases, of the same moment as the records.
    #[must_use]
    pub fn leases(&self) -> &GrantsImage {
        &self.leases
    }

    /// Hands the records from `at` on to `each`, deletions as records of version 0, in revision order
    /// until it breaks off; what is not in memory is read from `disk`, each time between two pins.
    /// False: there are no more.
    ///
    /// # Errors
    /// Records cannot be read.
    pub fn visit(
        &mut self,
        at: &mut HistoryAt,
        disk: &mut dyn Disk,
        mut each: impl FnMut(&Record<'_>) -> ControlFlow<()>,
    ) -> Result<bool, BadSegment> {
        let until = self.marks.revision;
        self.aside.run(&self.reader, disk, |view| {
            loop {
                let next = view.log.next_from(at.0)?;
                let Some((found, stored)) = next.filter(|(_, stored)| stored.main() <= until)
                else {
                    return Ok(false);
                };
                at.0 = found.after(stored);
                if each(&stored.record()).is_break() {
                    return Ok(true);
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::mem::MemDisk;
    use crate::mvcc::{Store, StoreConfig};
    use crate::types::LeaseId;

    fn revisions(history: &mut History) -> Vec<(i64, i64)> {
        let (mut at, mut seen) = (HistoryAt::default(), Vec::new());
        let mut more = true;
        while more {
            more = history
                .visit(&mut at, &mut MemDisk::default(), |record| {
                    seen.push((record.mod_revision.main, record.version));
                    ControlFlow::Break(())
                })
                .unwrap();
        }
        seen
    }

    /// A snapshot is laid out in a first walk and written in a second one: they must not differ.
    #[test]
    fn writes_and_compactions_do_not_change_what_is_held() {
        let (mut store, reader) = Store::new(StoreConfig {
            segment_bytes: 300,
            ..StoreConfig::default()
        });
        for value in [b"1", b"2", b"3"] {
            store.write().put(b"k", value, LeaseId(0)).unwrap();
        }
        store.write().delete(b"k").unwrap();
        store.publish();
        let mut history = History::take(&reader).unwrap();
        let held = revisions(&mut history);
        assert_eq!(held, [(2, 1), (3, 2), (4, 3), (5, 0)]);
        store.write().put(b"k", b"4", LeaseId(0)).unwrap();
        store.compact(6).unwrap();
        for _ in 0..100 {
            let _ = store.poll_space(1000).unwrap();
            store.publish();
        }
        assert_eq!(revisions(&mut history), held);
        drop(history);
        while store.poll_space(1000).unwrap() {}
        store.publish();
        let mut after = History::take(&reader).unwrap();
        assert_eq!(revisions(&mut after), [(6, 1)]);
        assert_eq!(after.finished(), 6);
    }
}
