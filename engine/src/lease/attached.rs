use core::ops::Bound;
use std::collections::{BTreeMap, BTreeSet};

use crate::types::LeaseId;

/// Which live keys hang on which lease: an index over the `lease` of each key's newest record, never more than that. It may
/// name leases that do not exist, which a snapshot of somebody else's can bring.
#[derive(Debug, Default)]
pub struct Attached {
    leases: BTreeMap<LeaseId, BTreeSet<Box<[u8]>>>,
}

impl Attached {
    /// The key's newest record names `to` instead of `from`; 0 is no lease.
    pub fn change(&mut self, key: &[u8], from: LeaseId, to: LeaseId) {
        if from != NONE {
            let keys = self.leases.get_mut(&from);
            let keys = keys.expect("the key was attached when its record was written");
            assert!(keys.remove(key));
            if keys.is_empty() {
                self.leases.remove(&from);
            }
        }
        if to != NONE {
            assert!(self.leases.entry(to).or_default().insert(key.into()));
        }
    }

    /// How many keys hang on `lease`.
    #[must_use]
    pub fn count(&self, lease: LeaseId) -> usize {
        self.leases.get(&lease).map_or(0, BTreeSet::len)
    }

    /// The keys of `lease` from `start` on, in byte order.
    pub fn keys_from<'a>(
        &'a self,
        lease: LeaseId,
        start: &[u8],
    ) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let from = (Bound::Included(start), Bound::Unbounded);
        let keys = self.leases.get(&lease);
        keys.map(|keys| keys.range::<[u8], _>(from))
            .into_iter()
            .flatten()
            .map(AsRef::as_ref)
    }
}

const NONE: LeaseId = LeaseId(0);

#[cfg(test)]
mod tests {
    use super::*;

    /// A key hangs on one lease at most, and a lease without keys takes no room.
    #[test]
    fn a_key_moves_from_lease_to_lease() {
        let (one, two) = (LeaseId(1), LeaseId(-2));
        let mut attached = Attached::default();
        attached.change(b"b", NONE, one);
        attached.change(b"a", NONE, one);
        attached.change(b"c", NONE, one);
        let keys: Vec<&[u8]> = attached.keys_from(one, b"").collect();
        assert_eq!(keys, [b"a", b"b", b"c"]);
        let keys: Vec<&[u8]> = attached.keys_from(one, b"b").collect();
        assert_eq!(keys, [b"b", b"c"]);
        attached.change(b"b", one, two);
        attached.change(b"a", one, NONE);
        assert_eq!((attached.count(one), attached.count(two)), (1, 1));
        attached.change(b"c", one, NONE);
        assert_eq!(attached.count(one), 0);
        assert!(!attached.leases.contains_key(&one));
    }
}
