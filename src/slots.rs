//! Tables whose places are reused, but whose ids are not.

use std::ops::{Index, IndexMut};

/// The id of a value in a [`Slots`]: its place, and how often that place was used before. So the id
/// of a value that was removed never refers to another value.
///
/// It is small, because it is kept for every file that the kernel knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId {
    place: u32,
    generation: u32,
}

impl SlotId {
    /// The id of the first value in every table.
    pub const FIRST: Self = Self { place: 0, generation: 0 };

    /// A number that no other id of the table has. It is the number of the place until the place is
    /// used again.
    pub fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.place)
    }
}

/// A table of `T`.
#[derive(Debug)]
pub struct Slots<T> {
    places: Vec<Slot<T>>,
    /// Empty places, which will be reused.
    vacant: Vec<u32>,
    /// How often a place may be used. After that, it stays empty.
    uses: u32,
}

#[derive(Debug)]
struct Slot<T> {
    /// How often the place was used before.
    generation: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    /// An empty table that uses each place at most this many times.
    pub fn new(uses: u32) -> Self {
        Self { places: Vec::new(), vacant: Vec::new(), uses }
    }

    /// Add `value`.
    pub fn insert(&mut self, value: T) -> SlotId {
        if let Some(place) = self.vacant.pop() {
            let slot = &mut self.places[place as usize];
            slot.value = Some(value);
            return SlotId { place, generation: slot.generation };
        }
        self.places.push(Slot { generation: 0, value: Some(value) });
        SlotId { place: self.places.len() as u32 - 1, generation: 0 }
    }

    /// The value with this id, unless it was removed.
    pub fn get(&self, id: SlotId) -> Option<&T> {
        let slot = self.places.get(id.place as usize)?;
        slot.value.as_ref().filter(|_| slot.generation == id.generation)
    }

    /// Like [`Self::get`], for changing the value.
    pub fn get_mut(&mut self, id: SlotId) -> Option<&mut T> {
        let slot = self.places.get_mut(id.place as usize)?;
        slot.value.as_mut().filter(|_| slot.generation == id.generation)
    }

    /// Remove the value with this id. Its place will be reused.
    pub fn remove(&mut self, id: SlotId) -> Option<T> {
        self.get(id)?;
        let slot = self.places.get_mut(id.place as usize)?;
        slot.generation += 1;
        if slot.generation < self.uses {
            self.vacant.push(id.place);
        }
        slot.value.take()
    }

    /// Everything in the table, in the order of its places.
    pub fn iter(&self) -> impl Iterator<Item = (SlotId, &T)> {
        self.places.iter().enumerate().filter_map(|(place, slot)| {
            let id = SlotId { place: place as u32, generation: slot.generation };
            Some((id, slot.value.as_ref()?))
        })
    }

    /// How many places there are, including vacant ones.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.places.len()
    }
}

impl<T> Index<SlotId> for Slots<T> {
    type Output = T;

    /// # Panics
    /// If the value was removed.
    fn index(&self, id: SlotId) -> &T {
        match self.get(id) {
            Some(value) => value,
            None => panic!("{id:?} was removed"),
        }
    }
}

impl<T> IndexMut<SlotId> for Slots<T> {
    fn index_mut(&mut self, id: SlotId) -> &mut T {
        match self.get_mut(id) {
            Some(value) => value,
            None => panic!("{id:?} was removed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_reused_but_ids_are_not() {
        let mut slots = Slots::new(40);
        let a = slots.insert('a');
        let b = slots.insert('b');
        assert_eq!((a, a.number(), b.number()), (SlotId::FIRST, 0, 1));
        let mut stale = vec![a];
        assert_eq!(slots.remove(a), Some('a'));
        for round in 0..100 {
            let c = slots.insert('c');
            assert!(stale.iter().all(|&id| slots.get(id).is_none() && id.number() != c.number()));
            assert_eq!(slots.remove(c), Some('c'));
            assert_eq!(slots.remove(c), None, "only once");
            stale.push(c);
            // a place that was used 40 times is not used again
            assert_eq!(slots.capacity(), 2 + (round + 1) / 40, "{round}");
        }
        assert_eq!(slots.iter().collect::<Vec<_>>(), [(b, &'b')]);
    }
}
