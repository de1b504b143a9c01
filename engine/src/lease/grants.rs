use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::LeaseId;

/// A lease as the log knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Never 0 for a lease that exists.
    pub id: LeaseId,
    /// Seconds that it lives when it is granted and each time it is renewed.
    pub ttl: i64,
    /// Seconds that a new leader gives it, as the last checkpoint says; 0: none since the grant or since the last renewal.
    pub remaining: i64,
    /// The index of the entry that granted it: tells it from an earlier lease of the same id.
    pub generation: u64,
}

impl Lease {
    /// Seconds that a new leader gives it.
    #[must_use]
    pub fn rest(&self) -> i64 {
        match self.remaining {
            1.. => self.remaining,
            _ => self.ttl,
        }
    }
}

/// Where a lease stands while it exists, to be found again without a search. Not the same on all members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// What an entry changed, for whoever keeps the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new lease of `ttl` seconds.
    Granted {
        /// Where.
        slot: Slot,
        /// As granted.
        ttl: i64,
    },
    /// It was revoked, and its keys are deleted.
    Revoked {
        /// Where it was.
        slot: Slot,
        /// Which.
        id: LeaseId,
    },
    /// Its `remaining` was set.
    Checkpointed {
        /// Where.
        slot: Slot,
        /// Which.
        id: LeaseId,
    },
}

/// All leases. An image of them costs as much as a few pointers, whatever their number.
#[derive(Debug, Default)]
pub struct Grants {
    slots: BTreeMap<LeaseId, Slot>,
    image: GrantsImage,
    /// Slots of leases that are gone; the last is taken first.
    free: Vec<Slot>,
    /// Since they were last taken.
    changes: Vec<Change>,
}

/// All leases of one moment, whatever becomes of them.
#[derive(Clone, Debug, Default)]
pub struct GrantsImage {
    /// Copied on write, so that an image shares what has not changed.
    chunks: Arc<Vec<Arc<Chunk>>>,
}

/// Slots without a lease have the id 0.
type Chunk = [Lease; CHUNK_LEASES];

impl Grants {
    /// The leases of an image, each id once.
    #[must_use]
    pub fn of(image: GrantsImage) -> Self {
        let (mut slots, mut free) = (BTreeMap::new(), Vec::new());
        for (number, lease) in image.slots().enumerate() {
            let slot = Slot(u32::try_from(number).expect("LEASES_MAX is far below"));
            match lease.id {
                LeaseId(0) => free.push(slot),
                id => assert!(slots.insert(id, slot).is_none()),
            }
        }
        free.reverse();
        Self {
            slots,
            image,
            free,
            changes: Vec::new(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The lease `id`, and where it stands.
    #[must_use]
    pub fn get(&self, id: LeaseId) -> Option<(Slot, &Lease)> {
        let slot = *self.slots.get(&id)?;
        Some((slot, self.at(slot)))
    }

    /// What stands at `slot`; its id is 0 if nothing does.
    #[must_use]
    pub fn at(&self, slot: Slot) -> &Lease {
        &self.image.chunks[slot.0 as usize / CHUNK_LEASES][slot.0 as usize % CHUNK_LEASES]
    }

    /// Slots in use or free: all are below this.
    #[must_use]
    pub fn slots_end(&self) -> u32 {
        let slots = self.image.chunks.len() * CHUNK_LEASES;
        u32::try_from(slots).expect("LEASES_MAX is far below")
    }

    /// All of this moment.
    #[must_use]
    pub fn image(&self) -> &GrantsImage {
        &self.image
    }

    /// Adds a lease, whose id must be new and not 0.
    pub fn insert(&mut self, lease: Lease) {
        assert!(lease.id != LeaseId(0));
        if self.free.is_empty() {
            let first = self.slots_end();
            let chunks = Arc::make_mut(&mut self.image.chunks);
            chunks.push(Arc::new([Lease::default(); CHUNK_LEASES]));
            let end = first + CHUNK_LEASES as u32;
            self.free.extend((first..end).rev().map(Slot));
        }
        let slot = self.free.pop().expect("made above");
        *self.at_mut(slot) = lease;
        assert!(self.slots.insert(lease.id, slot).is_none());
        let ttl = lease.ttl;
        self.changes.push(Change::Granted { slot, ttl });
    }

    /// Removes a lease that exists.
    pub fn remove(&mut self, id: LeaseId) {
        let slot = self.slots.remove(&id).expect("the caller has seen it");
        *self.at_mut(slot) = Lease::default();
        self.free.push(slot);
        self.changes.push(Change::Revoked { slot, id });
    }

    /// Sets what a new leader gives a lease; nothing if it does not exist.
    pub fn checkpoint(&mut self, id: LeaseId, remaining: i64) {
        if let Some(&slot) = self.slots.get(&id) {
            self.at_mut(slot).remaining = remaining;
            self.changes.push(Change::Checkpointed { slot, id });
        }
    }

    /// Hands over the changes since the last time.
    pub fn take_changes(&mut self, into: &mut Vec<Change>) {
        into.append(&mut self.changes);
    }

    fn at_mut(&mut self, slot: Slot) -> &mut Lease {
        let chunks = Arc::make_mut(&mut self.image.chunks);
        let chunk = Arc::make_mut(&mut chunks[slot.0 as usize / CHUNK_LEASES]);
        &mut chunk[slot.0 as usize % CHUNK_LEASES]
    }
}

impl GrantsImage {
    /// The leases, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.slots().filter(|lease| lease.id != LeaseId(0))
    }

    /// Every slot in order, free ones with the id 0.
    pub fn slots(&self) -> impl Iterator<Item = &Lease> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// The leases by ascending id.
    #[must_use]
    pub fn sorted(&self) -> Vec<Lease> {
        let mut sorted: Vec<Lease> = self.iter().copied().collect();
        sorted.sort_unstable_by_key(|lease| lease.id);
        sorted
    }
}

/// An image of these leases, each id once and none 0.
impl FromIterator<Lease> for GrantsImage {
    fn from_iter<I: IntoIterator<Item = Lease>>(leases: I) -> Self {
        let mut chunks: Vec<Arc<Chunk>> = Vec::new();
        let mut chunk = [Lease::default(); CHUNK_LEASES];
        let mut used = 0;
        for lease in leases {
            chunk[used] = lease;
            used += 1;
            if used == CHUNK_LEASES {
                chunks.push(Arc::new(chunk));
                (chunk, used) = ([Lease::default(); CHUNK_LEASES], 0);
            }
        }
        if used > 0 {
            chunks.push(Arc::new(chunk));
        }
        Self {
            chunks: Arc::new(chunks),
        }
    }
}

/// Where they stand does not matter.
impl PartialEq for GrantsImage {
    fn eq(&self, other: &Self) -> bool {
        self.sorted() == other.sorted()
    }
}

impl Eq for GrantsImage {}

/// Leases that are copied together when one of them changes and an image holds them: 8 KiB, under a microsecond.
const CHUNK_LEASES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: i64) -> Lease {
        Lease {
            id: LeaseId(id),
            ttl: 10,
            remaining: 0,
            generation: 1,
        }
    }

    /// A checkpoint is written from an image while entries go on changing the leases.
    #[test]
    fn an_image_stays_what_it_was() {
        let mut grants = Grants::default();
        for id in 1..=600 {
            grants.insert(lease(id));
        }
        let image = grants.image().clone();
        let before = image.sorted();
        grants.remove(LeaseId(300));
        grants.checkpoint(LeaseId(1), 4);
        grants.insert(lease(-7));
        assert_eq!(image.sorted(), before);
        assert_eq!(grants.len(), 600);
        let (_, first) = grants.get(LeaseId(1)).expect("it exists");
        assert_eq!((first.remaining, first.rest()), (4, 4));
        assert_eq!(grants.get(LeaseId(300)), None);
        let again = Grants::of(grants.image().clone());
        assert_eq!(again.image(), grants.image());
        let slots: Vec<Slot> = again.slots.values().copied().collect();
        assert_eq!(slots, grants.slots.values().copied().collect::<Vec<_>>());
        let copied: GrantsImage = image.iter().copied().collect();
        assert_eq!(copied, image);
    }
}
