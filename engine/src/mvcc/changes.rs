use std::ops::ControlFlow;

use super::revlog::Position;
use super::revlog::record::Stored;
use super::view::{Record, View};
use super::wants::NeedRead;

/// Where a walk over the changes of a store goes on: at the first change of a revision, or in the
/// middle of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangesAt {
    /// Changes below this revision are done.
    revision: i64,
    /// Where the next record lies; not known before the first walk.
    position: Option<Position>,
}

/// One record of the log: a put or a deletion.
#[derive(Clone, Copy)]
pub struct Change<'a>(Stored<'a>);

impl ChangesAt {
    /// Before the first change of `revision`, or of the next one that there is.
    #[must_use]
    pub fn revision(revision: i64) -> Self {
        Self {
            revision,
            position: None,
        }
    }
}

impl<'a> View<'a> {
    /// Hands the changes from `at` on, in revision order, to `each`, until it breaks off, and then
    /// stands before the one that it broke off at. True: there are no more up to `until`.
    ///
    /// Revisions below the compacted one may have lost changes.
    ///
    /// # Errors
    /// A segment must be read first; go on from `at` then.
    pub fn changes(
        &self,
        at: &mut ChangesAt,
        until: i64,
        mut each: impl FnMut(Change<'a>) -> ControlFlow<()>,
    ) -> Result<bool, NeedRead> {
        let mut position = at.position.unwrap_or_else(|| self.log.seek(at.revision));
        loop {
            at.position = Some(position);
            let next = self.log.next_from(position)?;
            let Some((found, stored)) = next.filter(|(_, stored)| stored.main() <= until) else {
                return Ok(true);
            };
            if stored.main() >= at.revision && each(Change(stored)).is_break() {
                return Ok(false);
            }
            position = found.after(stored);
        }
    }

    /// The record that `change` put an end to, as it was before the revision of the change; `None`
    /// for a creation, and where that is compacted.
    ///
    /// # Errors
    /// A segment must be read first.
    pub fn before(&self, change: &Change<'_>) -> Result<Option<Record<'a>>, NeedRead> {
        let main = change.0.main();
        if main - 1 < self.compacted() || change.is_creation() {
            return Ok(None);
        }
        let mut older = change.0.prev();
        while older.main != 0 {
            let Some(stored) = self.log.record(older.at)? else {
                return Ok(None);
            };
            // A transaction may have changed the key before, in the same revision.
            if stored.main() < main {
                return Ok((!stored.is_tombstone()).then(|| stored.record()));
            }
            older = stored.prev();
        }
        Ok(None)
    }
}

impl<'a> Change<'a> {
    /// The record; of a deletion only key and revision mean something.
    #[must_use]
    pub fn record(&self) -> Record<'a> {
        self.0.record()
    }

    /// Whether it deletes its key.
    #[must_use]
    pub fn is_delete(&self) -> bool {
        self.0.is_tombstone()
    }

    /// Whether it puts a key that was not there.
    fn is_creation(&self) -> bool {
        self.0.create() == self.0.main()
    }
}
