use std::ops::{Index, IndexMut};

/// Values under numbers that are used again. They stay where they are: a million do not move to make room for one more, and
/// no more room is kept than for a chunk.
pub(super) struct Slab<T> {
    /// All but the last are full.
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            *self.place(number).expect("it was used before") = Some(value);
            return number;
        }
        let number = u32::try_from(self.places()).expect("4 billion watchers do not fit in memory");
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(Some(value)),
            // The first grows as it must, as most slabs stay small.
            before => {
                let capacity = if before.is_some() { CHUNK } else { 1 };
                let mut chunk = Vec::with_capacity(capacity);
                chunk.push(Some(value));
                self.chunks.push(chunk);
            }
        }
        number
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let value = self.place(number)?.take()?;
        self.free.push(number);
        if self.free.len() == self.places() {
            *self = Self::new();
        }
        Some(value)
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let number = number as usize;
        let chunk = self.chunks.get(number / CHUNK)?;
        chunk.get(number % CHUNK)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.place(number)?.as_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.places() - self.free.len()
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + use<T> {
        let places = self.chunks.iter().flatten();
        let taken = places.map(Option::is_some).collect::<Vec<_>>();
        (0..).zip(taken).filter(|it| it.1).map(|it| it.0)
    }

    /// Numbers that were ever given.
    fn places(&self) -> usize {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        full + self.chunks.last().map_or(0, Vec::len)
    }

    fn place(&mut self, number: u32) -> Option<&mut Option<T>> {
        let number = number as usize;
        self.chunks.get_mut(number / CHUNK)?.get_mut(number % CHUNK)
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        self.get(number).expect("the number is in use")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        self.get_mut(number).expect("the number is in use")
    }
}

/// Values that lie together; a power of two, as each look divides by it.
const CHUNK: usize = 1024;
