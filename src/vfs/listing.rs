//! Directory snapshots behind the offsets of readdir.
//!
//! An offset is the number of a snapshot and an index into it, so it stays valid while entries are
//! added and removed: entries that were removed are skipped, and new ones appear the next time that
//! the directory is read. A snapshot is made when a reader starts at offset 0, and dropped when the
//! reader reaches the end. If there are too many, the one that was unused for the longest time is
//! dropped first. A reader that comes back after that continues at the same index of a new
//! snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use crate::fs::DirId;

/// How many snapshots are kept at most.
const MAX_COUNT: usize = 512;
/// How many bytes all snapshots except the newest have at most.
const MAX_BYTES: usize = 16 << 20;
/// The largest number of a snapshot. It keeps offsets positive, because programs see them as a
/// signed `off_t`.
const MAX_NUMBER: u32 = i32::MAX as u32;

/// The names of a directory at one moment.
pub(super) struct Listing {
    bytes: Vec<u8>,
    /// End of each name in `bytes`.
    ends: Vec<usize>,
}

impl Listing {
    pub fn new(names: &[Box<[u8]>]) -> Self {
        let mut listing = Self { bytes: Vec::new(), ends: Vec::with_capacity(names.len()) };
        for name in names {
            listing.bytes.extend_from_slice(name);
            listing.ends.push(listing.bytes.len());
        }
        listing
    }

    /// The name at `index`; `None` after the last one.
    pub fn name(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.bytes.get(start..end)
    }

    fn size(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<usize>()
    }
}

/// The position of a reader in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// Number of the snapshot, from 1.
    pub number: u32,
    /// Index of the next entry, counting `.` and `..`.
    pub index: u32,
}

impl Position {
    /// The position that a directory offset stands for; `None` for the start.
    pub fn decode(offset: u64) -> Option<Self> {
        let number = u32::try_from(offset >> 32).ok().filter(|&n| n != 0)?;
        Some(Self { number, index: offset as u32 })
    }

    pub fn encode(self) -> u64 {
        u64::from(self.number) << 32 | u64::from(self.index)
    }
}

struct Kept {
    dir: DirId,
    listing: Arc<Listing>,
    used: u64,
}

/// The snapshots that are being read.
#[derive(Default)]
pub(super) struct Listings {
    kept: HashMap<u32, Kept>,
    bytes: usize,
    last_number: u32,
    clock: u64,
}

impl Listings {
    /// Keep a new snapshot of `dir`. Returns its number.
    pub fn open(&mut self, dir: DirId, listing: &Arc<Listing>) -> u32 {
        self.last_number = self.last_number % MAX_NUMBER + 1;
        self.put(self.last_number, dir, listing);
        self.last_number
    }

    /// Snapshot `number` of `dir`, if it is still there.
    pub fn get(&mut self, number: u32, dir: DirId) -> Option<Arc<Listing>> {
        let kept = self.kept.get_mut(&number).filter(|kept| kept.dir == dir)?;
        self.clock += 1;
        kept.used = self.clock;
        Some(Arc::clone(&kept.listing))
    }

    /// Keep a snapshot under a number that was given out before.
    pub fn put(&mut self, number: u32, dir: DirId, listing: &Arc<Listing>) {
        self.finish(number);
        while self.kept.len() >= MAX_COUNT || (self.bytes > MAX_BYTES && !self.kept.is_empty()) {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used);
            let Some(&oldest) = oldest.map(|(number, _)| number) else { break };
            self.finish(oldest);
        }
        self.clock += 1;
        self.bytes += listing.size();
        let kept = Kept { dir, listing: Arc::clone(listing), used: self.clock };
        self.kept.insert(number, kept);
    }

    /// Note that the reader of a snapshot has reached its end.
    pub fn finish(&mut self, number: u32) {
        if let Some(kept) = self.kept.remove(&number) {
            self.bytes -= kept.listing.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::ROOT;

    fn listing(names: &[&[u8]]) -> Arc<Listing> {
        let names: Vec<Box<[u8]>> = names.iter().map(|&n| n.into()).collect();
        Arc::new(Listing::new(&names))
    }

    #[test]
    fn names_come_back_in_order() {
        let l = listing(&[b"abc", b"d", b"ef"]);
        assert_eq!(l.name(0), Some(&b"abc"[..]));
        assert_eq!(l.name(2), Some(&b"ef"[..]));
        assert_eq!(l.name(3), None);
    }

    #[test]
    fn offsets_are_positive_and_reversible() {
        assert_eq!(Position::decode(0), None);
        let p = Position { number: MAX_NUMBER, index: u32::MAX };
        assert!(i64::try_from(p.encode()).is_ok());
        assert_eq!(Position::decode(p.encode()), Some(p));
    }

    #[test]
    fn snapshots_are_bounded_and_the_oldest_goes_first() {
        let mut all = Listings::default();
        let l = listing(&[b"a"]);
        let first = all.open(ROOT, &l);
        let second = all.open(ROOT, &l);
        for _ in 0..MAX_COUNT - 1 {
            all.open(ROOT, &l);
            assert!(all.get(first, ROOT).is_some(), "in use");
        }
        assert!(all.get(second, ROOT).is_none());
        assert_eq!(all.kept.len(), MAX_COUNT);
    }

    #[test]
    fn a_huge_snapshot_pushes_out_the_others_only_when_there_are_more() {
        let mut all = Listings::default();
        let name = vec![b'x'; 1000].into_boxed_slice();
        let huge = Arc::new(Listing::new(&vec![name; 20_000]));
        let first = all.open(ROOT, &huge);
        assert!(all.get(first, ROOT).is_some());
        let second = all.open(ROOT, &huge);
        assert!(all.get(first, ROOT).is_none() && all.get(second, ROOT).is_some());
        all.finish(second);
        assert_eq!(all.bytes, 0);
    }

    #[test]
    fn numbers_wrap_without_reaching_zero() {
        let mut all = Listings { last_number: MAX_NUMBER, ..Listings::default() };
        assert_eq!(all.open(ROOT, &listing(&[])), 1);
    }
}
