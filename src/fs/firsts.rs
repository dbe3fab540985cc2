//! The first name of each metadata pair, by which a search finds the pair that a name belongs to.
//!
//! They are in a separate table, because a search in a large directory looks at about twenty of
//! them, and at nothing else in these pairs. So it needs only half a cache line for each.

use std::cmp::Ordering;

use super::pairs::PairIx;
use crate::disk::name;

/// The first name of a pair.
#[derive(Debug)]
#[repr(align(32))]
pub(super) struct First {
    /// [`name::head`] of the name.
    head: u128,
    name: Box<[u8]>,
}

impl First {
    fn new(name: &[u8]) -> Self {
        Self { head: name::head(name), name: name.into() }
    }

    /// The name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// How this name compares with `name`, whose head is `head`.
    pub fn cmp_to(&self, head: u128, name: &[u8]) -> Ordering {
        self.head.cmp(&head).then_with(|| name::cmp(&self.name, name))
    }
}

/// The first names of all pairs.
#[derive(Debug, Default)]
pub(super) struct Firsts(Vec<Option<First>>);

impl Firsts {
    /// The first name of `ix`, if it has one.
    pub fn get(&self, ix: PairIx) -> Option<&First> {
        self.0.get(ix.0 as usize)?.as_ref()
    }

    /// Set the first name of `ix`.
    pub fn set(&mut self, ix: PairIx, first: Option<&[u8]>) {
        if self.get(ix).map(First::name) != first {
            self.put(ix, first.map(First::new));
        }
    }

    /// Move the first name of `from` to `to`.
    pub fn shift(&mut self, from: PairIx, to: PairIx) {
        let first = self.0.get_mut(from.0 as usize).and_then(Option::take);
        self.put(to, first);
    }

    fn put(&mut self, ix: PairIx, first: Option<First>) {
        let at = ix.0 as usize;
        if at >= self.0.len() {
            self.0.resize_with(at + 1, || None);
        }
        self.0[at] = first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_first_names_fit_into_a_cache_line() {
        assert_eq!(size_of::<Option<First>>(), 32);
    }
}
