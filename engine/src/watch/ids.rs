use std::collections::BTreeMap;

/// The watchers of a stream by their ids, which mostly follow each other: eight neighbours share an entry.
#[derive(Default)]
pub(super) struct Ids(BTreeMap<i64, [u32; EACH as usize]>);

impl Ids {
    /// The number of the watcher that has this id.
    pub(super) fn get(&self, id: i64) -> Option<u32> {
        let number = self.0.get(&id.div_euclid(EACH))?[place(id)];
        (number != NOBODY).then_some(number)
    }

    /// An id that nobody has is given.
    pub(super) fn insert(&mut self, id: i64, number: u32) {
        let numbers = self.0.entry(id.div_euclid(EACH));
        let given = &mut numbers.or_insert([NOBODY; EACH as usize])[place(id)];
        assert!(*given == NOBODY);
        *given = number;
    }

    pub(super) fn remove(&mut self, id: i64) -> Option<u32> {
        let numbers = self.0.get_mut(&id.div_euclid(EACH))?;
        let number = std::mem::replace(&mut numbers[place(id)], NOBODY);
        if numbers.iter().all(|number| *number == NOBODY) {
            self.0.remove(&id.div_euclid(EACH));
        }
        (number != NOBODY).then_some(number)
    }

    /// Ids and numbers, in the order of the ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, u32)> {
        self.0.iter().flat_map(|(at, numbers)| {
            let ids = (0..).zip(numbers).filter(|(_, number)| **number != NOBODY);
            ids.map(move |(place, number)| (at * EACH + place, *number))
        })
    }
}

fn place(id: i64) -> usize {
    id.rem_euclid(EACH) as usize
}

/// Few enough that ids drawn anywhere cost little more than one entry each.
const EACH: i64 = 8;

/// No watcher's number.
const NOBODY: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::btree_map::Entry;

    proptest! {
        /// A watcher that its id does not find can never be canceled.
        #[test]
        fn ids_find_what_a_plain_map_finds(
            ops in proptest::collection::vec((any::<bool>(), 0..40usize, any::<u16>()), 0..200),
        ) {
            let id = |pick: usize| match pick {
                0..30 => pick as i64 - 12,
                30..35 => i64::MIN + pick as i64 - 30,
                _ => i64::MAX - (pick as i64 - 35),
            };
            let (mut ids, mut model) = (Ids::default(), BTreeMap::new());
            for (is_insert, pick, number) in ops {
                let (id, number) = (id(pick), u32::from(number));
                prop_assert_eq!(ids.get(id), model.get(&id).copied());
                if !is_insert {
                    prop_assert_eq!(ids.remove(id), model.remove(&id));
                } else if let Entry::Vacant(free) = model.entry(id) {
                    ids.insert(id, number);
                    free.insert(number);
                }
            }
            prop_assert!(ids.iter().eq(model.clone()));
            prop_assert_eq!(ids.0.is_empty(), model.is_empty());
        }
    }
}
