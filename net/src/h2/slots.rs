use super::Protocol;
use super::stream::Stream;
use super::streams::StreamKey;

/// The open streams: a slab, and a table from id to slot.
///
/// Ids only grow, so the table is indexed by the low bits of the id: no hash. A stream that lives so long that a newer
/// one needs its place becomes an elder, found by binary search; the table is at least twice as long as streams are open,
/// so that elders are only streams that outlived many others.
#[derive(Debug)]
pub(super) struct Slots<P: Protocol> {
    slots: Vec<Stream<P>>,
    free: Vec<u32>,
    /// Slot + 1 by id / 2 modulo its length, a power of two; 0 where there is none.
    table: Vec<u32>,
    /// Id and slot of streams that lost their place in the table, by id.
    elders: Vec<(u32, u32)>,
}

const TABLE_LENGTH_MIN: usize = 32;

impl<P: Protocol> Slots<P> {
    pub(super) fn new() -> Slots<P> {
        Slots {
            slots: Vec::new(),
            free: Vec::new(),
            table: vec![0; TABLE_LENGTH_MIN],
            elders: Vec::new(),
        }
    }

    /// Number of open streams.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn find(&self, id: u32) -> Option<StreamKey> {
        let slot = match self.table[self.place(id)].checked_sub(1) {
            Some(slot) if self.slots[slot as usize].id == id => slot,
            _ => {
                let elder = self.elders.binary_search_by_key(&id, |&(id, _)| id).ok()?;
                self.elders[elder].1
            }
        };
        Some(StreamKey { id, slot })
    }

    pub(super) fn get(&self, key: StreamKey) -> Option<&Stream<P>> {
        let stream = self.slots.get(key.slot as usize)?;
        (stream.id == key.id).then_some(stream)
    }

    pub(super) fn get_mut(&mut self, key: StreamKey) -> Option<&mut Stream<P>> {
        let stream = self.slots.get_mut(key.slot as usize)?;
        (stream.id == key.id).then_some(stream)
    }

    /// Opens a stream. Its slot's buffers are those of the stream that had it before.
    pub(super) fn insert(&mut self, id: u32) -> StreamKey {
        assert!(id != 0);
        assert!(self.find(id).is_none());
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Stream::default());
            (self.slots.len() - 1) as u32
        });
        self.slots[slot as usize].id = id;
        if self.len() * 2 > self.table.len() {
            self.rebuild(self.table.len() * 2);
        } else {
            self.enter(id, slot);
        }
        StreamKey { id, slot }
    }

    /// The stream is over; the caller has made its slot as good as new.
    pub(super) fn remove(&mut self, key: StreamKey) {
        let place = self.place(key.id);
        if self.table[place] == key.slot + 1 {
            self.table[place] = 0;
        } else if let Ok(elder) = self.elders.binary_search_by_key(&key.id, |&(id, _)| id) {
            self.elders.remove(elder);
        }
        self.slots[key.slot as usize].id = 0;
        self.free.push(key.slot);
    }

    /// The open streams, in no order.
    pub(super) fn keys(&self) -> impl Iterator<Item = StreamKey> {
        (0..self.slots.len() as u32).filter_map(|slot| {
            let id = self.slots[slot as usize].id;
            (id != 0).then_some(StreamKey { id, slot })
        })
    }

    /// The open streams, in no order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream<P>> {
        self.slots.iter_mut().filter(|stream| stream.id != 0)
    }

    /// Gives memory back when nothing is open.
    pub(super) fn trim(&mut self) {
        if self.len() == 0 {
            *self = Slots::new();
        }
    }

    fn place(&self, id: u32) -> usize {
        (id >> 1) as usize & (self.table.len() - 1)
    }

    fn enter(&mut self, id: u32, slot: u32) {
        let place = self.place(id);
        if let Some(elder_slot) = self.table[place].checked_sub(1) {
            let elder_id = self.slots[elder_slot as usize].id;
            let at = self.elders.partition_point(|&(id, _)| id < elder_id);
            self.elders.insert(at, (elder_id, elder_slot));
        }
        self.table[place] = slot + 1;
    }

    fn rebuild(&mut self, length: usize) {
        self.table.clear();
        self.table.resize(length, 0);
        self.elders.clear();
        let mut keys: Vec<StreamKey> = self.keys().collect();
        keys.sort_unstable_by_key(|key| key.id);
        for key in keys {
            self.enter(key.id, key.slot);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Streams without a protocol above them.
    #[derive(Debug)]
    pub(in crate::h2) struct Nothing;

    impl Protocol for Nothing {
        type Head = ();
        type Stream = ();
        fn head_bytes(_: &()) -> usize {
            0
        }
        fn recycle(_: &mut ()) {}
    }

    #[test]
    fn streams_are_found_by_id_however_old_they_are() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut slots = Slots::<Nothing>::new();
        let mut model = BTreeMap::new();
        for round in 0..20_000u32 {
            let id = round * 2 + 1;
            model.insert(id, slots.insert(id));
            let open_max = if round % 5_000 < 2_500 { 300 } else { 5 };
            while model.len() > open_max {
                // Some streams are never chosen: they grow old.
                let place = random.usize(model.len().min(3)..model.len());
                let id = *model.keys().nth(place).unwrap();
                slots.remove(model.remove(&id).unwrap());
                assert_eq!(slots.find(id), None);
            }
            for (&id, &key) in &model {
                assert_eq!(slots.find(id), Some(key));
                assert_eq!(slots.get(key).unwrap().id, id);
            }
            assert_eq!(slots.len(), model.len());
        }
        assert!(slots.slots.len() <= 301);
    }
}
