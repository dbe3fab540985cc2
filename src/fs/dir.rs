//! Directories: finding a name, listing names, and making room in a pair.

use super::attempt::Attempt;
use super::dirs::Dir;
use super::pairs::{PairInfo, PairIx};
use super::{DirId, Fs, Node};
use crate::disk::{Pair, align_up, name};
use crate::error::{Corrupt, Error, Result};
use crate::mdir::{COUNT_MAX, Data, Entry, Kind, Mdir, RESERVED, Role};

/// The place of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub pair: PairIx,
    pub at: usize,
}

impl Fs {
    /// What `name` in `dir` refers to.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such entry, or `dir` was removed; [`Error::Corrupt`] if
    /// the entry is damaged; and an error if its pair cannot be read.
    pub fn lookup(&mut self, dir: DirId, name: &[u8]) -> Result<Node> {
        let _running = self.run();
        let place = self.find(dir, name)?.ok_or(Error::NotFound)?;
        self.node(place)
    }

    /// All names in `dir`, in their order on disk. `check_end` says whether some are missing after
    /// them.
    ///
    /// # Errors
    /// [`Error::NotFound`] if `dir` was removed, and an error if one of its pairs cannot be read.
    pub fn list(&mut self, dir: DirId) -> Result<Vec<Box<[u8]>>> {
        let _running = self.run();
        let pairs = self.dir(dir)?.pairs.clone();
        let mut names = Vec::new();
        for ix in pairs {
            let mdir = self.mdir(ix)?;
            names.extend(mdir.entries.iter().filter(|e| e.is_visible()).map(|e| e.name.to_box()));
        }
        Ok(names)
    }

    /// Check that no entries of `dir` are missing because one of its pairs is damaged.
    ///
    /// # Errors
    /// [`Corrupt::DirectoryCut`] if there are some, after those that are listed.
    #[cfg(feature = "mount")]
    pub fn check_end(&self, dir: DirId) -> Result<()> {
        self.dirs.check_end(dir)
    }

    /// The names of files and directories in `dir` that are impossible on Linux. No other operation
    /// shows these entries.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn impossible_names(&mut self, dir: DirId) -> Result<Vec<Box<[u8]>>> {
        let _running = self.run();
        let mut names = Vec::new();
        for i in 0..self.dir(dir)?.pairs.len() {
            let ix = self.dir(dir)?.pairs[i];
            let impossible = |e: &&Entry| {
                matches!(e.kind, Kind::File | Kind::Dir)
                    && matches!(e.role, Role::Live | Role::Arriving(_))
                    && !name::is_presentable(&e.name)
            };
            names.extend(self.mdir(ix)?.entries.iter().filter(impossible).map(|e| e.name.to_box()));
        }
        Ok(names)
    }

    pub(super) fn entry(&mut self, place: Place) -> Result<&Entry> {
        self.mdir(place.pair)?.entries.get(place.at).ok_or(Error::NotFound)
    }

    pub(super) fn node(&mut self, place: Place) -> Result<Node> {
        let PairInfo { blocks, dir: parent, .. } = *self.pair(place.pair);
        let e = self.entry(place)?;
        let bad_struct = || e.bad_struct(blocks, place.at as u16);
        match (e.kind, &e.data, e.file) {
            (Kind::Dir, Data::Dir { dir: Some(dir), .. }, _) => Ok(Node::Dir(*dir)),
            (Kind::Dir, data, _) => {
                let why = match data {
                    Data::Dir { pair, .. } => Corrupt::no_valid_commit(*pair),
                    _ => bad_struct(),
                };
                let name = e.name.to_box();
                let parent = parent.ok_or_else(|| why.clone())?;
                Ok(Node::Dir(self.dirs.broken(parent, name, why)))
            }
            (Kind::File, _, Some(file)) => Ok(Node::File { size: self.file(file).size }),
            (Kind::File, Data::Inline(d), _) => Ok(Node::File { size: d.len() as u32 }),
            (Kind::File, Data::Ctz(list), _) => Ok(Node::File { size: list.size }),
            _ => Err(bad_struct().into()),
        }
    }

    /// The visible entry `name` of `dir`.
    pub(super) fn find(&mut self, dir: DirId, name: &[u8]) -> Result<Option<Place>> {
        self.find_by(dir, name, Entry::is_visible)
    }

    /// The entry `name` of `dir` for which `is_it` returns true.
    pub(super) fn find_by(
        &mut self,
        dir: DirId,
        name: &[u8],
        is_it: impl Fn(&Entry) -> bool,
    ) -> Result<Option<Place>> {
        let d = self.dir(dir)?;
        if d.sorted {
            let pair = self.pair_for(d, name);
            if let Some(at) = self.mdir(pair)?.find(name, true, is_it) {
                return Ok(Some(Place { pair, at }));
            }
        } else {
            for pair in d.pairs.clone() {
                if let Some(at) = self.mdir(pair)?.find(name, false, &is_it) {
                    return Ok(Some(Place { pair, at }));
                }
            }
        }
        // the name may be among the missing ones
        self.dirs.check_end(dir).map(|()| None)
    }

    /// Whether there is an entry with this name in `dir` that is not shown: it is being removed, or
    /// its name is impossible on Linux.
    pub(super) fn is_shadowed(&mut self, dir: DirId, name: &[u8]) -> Result<bool> {
        let hides = |e: &Entry| {
            !e.could_be_visible() && !matches!(e.kind, Kind::Superblock | Kind::Nameless)
        };
        Ok(self.find_by(dir, name, hides)?.is_some())
    }

    /// The pair of a sorted directory in which `name` is, or would be: the last pair whose first
    /// name is not greater than `name`.
    fn pair_for(&self, dir: &Dir, name: &[u8]) -> PairIx {
        dir.pairs[self.index_for(&dir.pairs, name)]
    }

    /// The index of the pair of the sorted directory `dir` in which `name` is, or would be.
    pub(super) fn index_of_pair(&self, dir: DirId, name: &[u8]) -> Result<usize> {
        let d = self.dir(dir)?;
        Ok(self.index_for(&d.pairs, name))
    }

    /// Like [`Self::index_of_pair`], among the given pairs of a directory.
    pub(super) fn index_for(&self, pairs: &[PairIx], name: &[u8]) -> usize {
        let (mut lo, mut hi) = (0, pairs.len());
        let mut best = 0;
        let head = name::head(name);
        while lo < hi {
            let mid = lo + (hi - lo) / 2;
            // a pair without entries has no first name, so the next pair with a name is looked at
            let probe = (mid..hi).find_map(|i| Some((i, self.thread.first(pairs[i])?)));
            match probe {
                None => hi = mid,
                Some((i, first)) if first.cmp_to(head, name).is_le() => {
                    best = i;
                    lo = i + 1;
                }
                Some(_) => hi = mid,
            }
        }
        best
    }

    /// The index of `ix` among the pairs of its directory.
    fn index_in_dir(&self, dir: &Dir, ix: PairIx) -> Option<usize> {
        let first = self.thread.first(ix).filter(|_| dir.sorted);
        first
            .map(|first| self.index_for(&dir.pairs, first.name()))
            .filter(|&i| dir.pairs[i] == ix)
            .or_else(|| dir.pairs.iter().position(|&p| p == ix))
    }

    /// The place for a new entry `name`.
    pub(super) fn place_for(&mut self, dir: DirId, name: &[u8]) -> Result<Place> {
        let d = self.dir(dir)?;
        if d.sorted {
            let pair = self.pair_for(d, name);
            let at = self.mdir(pair)?.lower_bound(name);
            return Ok(Place { pair, at });
        }
        // The C driver stops its search at the first greater name. It finds the new entry only
        // before that name.
        let pairs = self.dir(dir)?.pairs.clone();
        let mut last = Place { pair: pairs[0], at: 0 };
        for pair in pairs {
            let mdir = self.mdir(pair)?;
            if let Some(at) = mdir.first_greater(name) {
                return Ok(Place { pair, at });
            }
            last = Place { pair, at: mdir.entries.len() };
        }
        Ok(last)
    }

    /// The compacted size up to which a pair may grow while there are free blocks. It is the same
    /// as in the C driver, so that a device also finds room for more entries.
    pub(super) fn soft_limit(&self) -> u32 {
        let bs = self.layout.block_size;
        (bs - RESERVED).min(align_up(bs / 2, self.layout.prog_size))
    }

    pub(super) fn hard_limit(&self) -> u32 {
        self.layout.block_size - RESERVED
    }

    /// Make room for a new entry of `size` bytes, and return its place. If necessary, the pair is
    /// split.
    pub(super) fn room_for(
        &mut self,
        dir: DirId,
        name: &[u8],
        size: u32,
    ) -> Result<Attempt<Place>> {
        if size > self.hard_limit() {
            return Err(Error::NameTooLong);
        }
        loop {
            let place = self.place_for(dir, name)?;
            let (soft, hard) = (self.soft_limit(), self.hard_limit());
            let m = self.mdir(place.pair)?;
            let count = m.entries.len();
            let total = m.size() + size;
            let head = m.entries.iter().take_while(|e| e.kind == Kind::Superblock).count();
            if (total <= soft && count + 1 < COUNT_MAX) || (count == head && total <= hard) {
                return Ok(Attempt::Done(place));
            }
            // the entry fits, although the pair would become larger than the soft limit
            let crowded = total <= hard && count + 1 < COUNT_MAX;
            if place.at == 0 && !crowded && self.dir(dir)?.sorted && self.follows(dir, place.pair) {
                // The new name can come before all names of such a pair only if the first name of
                // the pair was removed. The pair must not be split at that place. After a flush,
                // the new name goes to the pair before this one.
                return Ok(Attempt::FlushFirst);
            }
            // If names are created in ascending order, the old pair stays as full as it is.
            let at = if place.at == count {
                count
            } else if place.at <= head {
                head
            } else {
                middle(self.mdir(place.pair)?, head)
            };
            match self.split(place.pair, at) {
                Ok(_) => {}
                // the entry fits, so the pair is not split
                Err(Error::NoSpace) if crowded => return Ok(Attempt::Done(place)),
                Err(e) => return Err(e),
            }
            if at == count {
                // the new pair is empty, and it was checked above that the entry fits
                let next = self.pair(place.pair).next.ok_or(Error::NoSpace)?;
                return Ok(Attempt::Done(Place { pair: next, at: 0 }));
            }
        }
    }

    /// Whether `ix` is not the first pair of `dir`.
    fn follows(&self, dir: DirId, ix: PairIx) -> bool {
        self.dirs[dir].pairs.first() != Some(&ix)
    }

    /// Make room for the entry `name` to grow by `extra` bytes, and return its place.
    pub(super) fn room_to_grow(&mut self, dir: DirId, name: &[u8], extra: u32) -> Result<Place> {
        loop {
            let place = self.find(dir, name)?.ok_or(Error::NotFound)?;
            if extra == 0 || self.grow_in_place(place.pair, extra)? {
                return Ok(place);
            }
        }
    }

    /// Whether an entry of `pair` may grow by `extra` bytes. If it may not, the pair has been
    /// split, and the caller tries again.
    pub(super) fn grow_in_place(&mut self, pair: PairIx, extra: u32) -> Result<bool> {
        let (soft, hard) = (self.soft_limit(), self.hard_limit());
        let m = self.mdir(pair)?;
        let total = m.size() + extra;
        let head = m.entries.iter().take_while(|e| e.kind == Kind::Superblock).count();
        if total <= soft {
            return Ok(true);
        }
        let at = match m.entries.len() - head {
            0 | 1 if total <= hard => return Ok(true),
            // the entry may fit if the superblock entry stays alone in the old pair
            1 if head > 0 => head,
            0 | 1 => return Err(Error::NoSpace),
            _ => middle(m, head),
        };
        match self.split(pair, at) {
            Ok(_) => Ok(false),
            Err(Error::NoSpace) if total <= hard => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// Split the pair `ix`: the entries from index `at` go to a new pair behind it.
    pub(super) fn split(&mut self, ix: PairIx, mut at: usize) -> Result<PairIx> {
        // an arriving entry and the one that it replaces have the same name, and one commit must
        // write both
        let entries = &self.mdir(ix)?.entries;
        while at > 0 && at < entries.len() && entries[at - 1].name == entries[at].name {
            at += 1;
        }
        let dir = self.pair(ix).dir;
        let blocks = self.take_pair_blocks()?;
        let new = self.thread.add(PairInfo::new(blocks, dir, true));
        self.thread.link_after(ix, new);
        let tail = self.mdir_mut(ix)?.split_off(at);
        self.thread.mark_dirty(new);
        tail.entries.iter().for_each(|e| self.moves.follow(e.role, new));
        self.pair_mut(new).mdir = Some(Box::new(tail));
        if let Some(dir) = dir {
            let d = &self.dirs[dir];
            let at = self.index_in_dir(d, ix).map_or(d.pairs.len(), |at| at + 1);
            self.dirs[dir].pairs.insert(at, new);
        }
        self.thread.refresh_first(ix);
        self.thread.refresh_first(new);
        Ok(new)
    }

    /// Take two free blocks for a new pair.
    pub(super) fn take_pair_blocks(&mut self) -> Result<Pair> {
        self.need_map()?;
        self.space.take_pair().ok_or(Error::NoSpace)
    }

    /// Insert the entry `e` at `place`.
    pub(super) fn insert_at(&mut self, place: Place, e: Entry) -> Result<()> {
        self.mdir_mut(place.pair)?.insert(place.at, e);
        self.thread.refresh_first(place.pair);
        Ok(())
    }

    /// Remove the entry at `place`, and return it.
    pub(super) fn remove_at(&mut self, place: Place) -> Result<Entry> {
        let e = self.mdir_mut(place.pair)?.remove(place.at);
        self.thread.refresh_first(place.pair);
        Ok(e)
    }
}

/// The index that divides the entries of `m` after the first `head` into two halves of about equal
/// size in bytes. Each half has at least one entry.
fn middle(m: &Mdir, head: usize) -> usize {
    if m.entries.len() < head + 2 {
        return m.entries.len();
    }
    let half = m.size() / 2;
    let mut bytes = 0;
    for (i, e) in m.entries.iter().enumerate() {
        bytes += e.size_on_disk();
        if bytes > half {
            return i.clamp(head + 1, m.entries.len() - 1);
        }
    }
    m.entries.len() - 1
}
