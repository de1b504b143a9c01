use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::{Events, write_event};
use super::group::{GroupEntry, GroupHeld};
use super::index::Index;
use crate::mvcc::{Change, NeedRead, View};

/// The events of some revisions, by group, each encoded once.
#[derive(Default)]
pub(super) struct Gather {
    groups: Vec<Gathered>,
    /// Where in `groups` a group stands, by its address; never walked.
    places: BTreeMap<usize, usize>,
    bytes: usize,
    /// Kept for its room.
    found: Vec<GroupHeld>,
}

/// What one group is to see.
pub(super) struct Gathered {
    pub(super) group: GroupHeld,
    /// `events` fields; ours alone until all are gathered.
    events: Arc<Vec<u8>>,
    count: u32,
    /// The revisions in it: where in `events` each begins, and how many events are before it.
    revisions: Vec<(i64, usize, u32)>,
}

impl Gather {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Bytes of all events.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn take(&mut self) -> Vec<Gathered> {
        self.places.clear();
        self.bytes = 0;
        std::mem::take(&mut self.groups)
    }

    /// Adds the event of `change` for each group that wants it and of which `counts` is true.
    ///
    /// # Errors
    /// What was there before has to be read first; nothing is added then.
    pub(super) fn add(
        &mut self,
        index: &Index,
        view: &View<'_>,
        change: &Change<'_>,
        counts: impl Fn(GroupEntry<'_>) -> bool,
    ) -> Result<(), NeedRead> {
        let record = change.record();
        // etcd's restore marks a raised revision with an empty key, which no client can name.
        if record.key.is_empty() {
            return Ok(());
        }
        let mut found = std::mem::take(&mut self.found);
        found.clear();
        let mut needs_before = false;
        index.stab(record.key, change.is_delete(), |group| {
            if counts(group)
                && let Some(held) = group.hold()
            {
                needs_before |= group.wants_prev_kv();
                found.push(held);
            }
        });
        let before = match needs_before {
            true => view.before(change)?,
            false => None,
        };
        for group in found.drain(..) {
            let before = before.as_ref().filter(|_| group.entry().wants_prev_kv());
            let gathered = self.of(group);
            let events = Arc::get_mut(&mut gathered.events).expect("nobody has it yet");
            let start = events.len();
            let main = record.mod_revision.main;
            if gathered.revisions.last().is_none_or(|last| last.0 != main) {
                gathered.revisions.push((main, start, gathered.count));
            }
            write_event(events, change, before);
            gathered.count += 1;
            let bytes = events.len() - start;
            self.bytes += bytes;
        }
        self.found = found;
        Ok(())
    }

    fn of(&mut self, group: GroupHeld) -> &mut Gathered {
        let groups = &mut self.groups;
        let place = *self
            .places
            .entry(group.entry().address())
            .or_insert(groups.len());
        if place == groups.len() {
            groups.push(Gathered {
                group,
                events: Arc::default(),
                count: 0,
                revisions: Vec::new(),
            });
        }
        &mut groups[place]
    }
}

impl Gathered {
    /// The events from revision `next` on, encoded.
    pub(super) fn events_from(&self, next: i64) -> Events<'_> {
        let first = self.revisions.partition_point(|it| it.0 < next);
        let (at, before) = match self.revisions.get(first) {
            Some((_, at, before)) => (*at, *before),
            None => (self.events.len(), self.count),
        };
        Events {
            whole: &self.events,
            range: at..self.events.len(),
            count: self.count - before,
        }
    }
}
