//! The table of directories: which pairs each consists of, and where it is in the tree.
//!
//! [`Directories`] owns the table. What must hold:
//!
//! 1. The first pair of every readable directory is found by either of its blocks. Code that gives
//!    that pair other blocks must call [`Directories::readdress`].
//! 2. A directory that was removed in memory stays in the table until its last pair has left the
//!    thread on disk, but is not `alive` any more.
//! 3. A directory that cannot be read has no pairs. Every lookup of its entry finds the same id.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};

use super::pairs::PairIx;
use super::{DirId, ROOT};
use crate::disk::Pair;
use crate::error::{Corrupt, Error, Result};
use crate::mdir::{Data, Mdir};
use crate::slots::Slots;

/// A directory in memory.
#[derive(Debug)]
pub(super) struct Dir {
    /// Its metadata pairs, in the order of their hardtails.
    pub pairs: Vec<PairIx>,
    /// The directory that holds its entry. For the root, this is the root.
    pub parent: DirId,
    /// Its name in that directory.
    pub name: Box<[u8]>,
    /// Whether all its names are in the order of the C driver.
    pub sorted: bool,
    /// Whether it exists. After a removal, this is false.
    pub alive: bool,
    /// Why it cannot be read, if it cannot. Then it has no pairs.
    pub broken: Option<Corrupt>,
    /// The pair that its last hardtail leads to, if that pair cannot be used. Then the entries from
    /// there on are missing.
    pub cut: Option<Pair>,
}

impl Dir {
    /// A directory with these pairs.
    pub fn new(parent: DirId, name: Box<[u8]>, pairs: Vec<PairIx>) -> Self {
        Self { pairs, parent, name, sorted: true, alive: true, broken: None, cut: None }
    }
}

/// The directories.
#[derive(Debug)]
pub(super) struct Directories {
    table: Slots<Dir>,
    /// The directory of each block of a first pair.
    heads: HashMap<u32, DirId>,
    /// Directories that cannot be read, by the parent and the name of their entry.
    broken: HashMap<(DirId, Box<[u8]>), DirId>,
}

impl Directories {
    pub fn new() -> Self {
        Self { table: Slots::new(DirId::USES), heads: HashMap::new(), broken: HashMap::new() }
    }

    /// Add a directory.
    pub fn insert(&mut self, dir: Dir) -> DirId {
        DirId(self.table.insert(dir))
    }

    /// Remove a directory from the table, when none of its pairs is in the thread any more.
    pub fn remove(&mut self, id: DirId) {
        self.table.remove(id.0);
    }

    pub fn get(&self, id: DirId) -> Option<&Dir> {
        self.table.get(id.0)
    }

    /// The directory, if it exists and can be read.
    ///
    /// # Errors
    /// Why it cannot be read, or [`Error::NotFound`].
    pub fn readable(&self, id: DirId) -> Result<&Dir> {
        match self.get(id) {
            Some(Dir { broken: Some(why), .. }) => Err(why.clone().into()),
            Some(d) if d.alive => Ok(d),
            _ => Err(Error::NotFound),
        }
    }

    /// Check that no entries are missing at the end of the directory.
    ///
    /// # Errors
    /// [`Corrupt::DirectoryCut`] if there are some.
    pub fn check_end(&self, id: DirId) -> Result<()> {
        match self.get(id).and_then(|d| d.cut) {
            Some(pair) => Err(Corrupt::DirectoryCut(pair).into()),
            None => Ok(()),
        }
    }

    /// Whether no directory is damaged.
    pub fn are_whole(&self) -> bool {
        self.broken.is_empty() && self.table.iter().all(|(_, d)| d.cut.is_none())
    }

    /// All directories that exist and can be read.
    pub fn all_readable(&self) -> Vec<DirId> {
        let ids = self.table.iter().filter(|(_, d)| d.alive && d.broken.is_none());
        let mut ids: Vec<DirId> = ids.map(|(id, _)| DirId(id)).collect();
        ids.sort_unstable();
        ids
    }

    /// The directory that holds `id`. `None` for the root, and for one that does not exist any
    /// more.
    pub fn parent(&self, id: DirId) -> Option<DirId> {
        self.get(id).filter(|_| id != ROOT).map(|d| d.parent)
    }

    /// How many directories are above `id`.
    pub fn depth(&self, id: DirId) -> usize {
        std::iter::successors(self.parent(id), |&dir| self.parent(dir)).count()
    }

    /// The path of a directory from the root, with a slash after each component. It is empty for a
    /// directory that does not exist any more.
    pub fn path(&self, id: DirId) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut at = id;
        while at != ROOT {
            let Some(d) = self.get(at) else { break };
            parts.push([&d.name, &b"/"[..]].concat());
            at = d.parent;
        }
        parts.into_iter().rev().flatten().collect()
    }

    /// Note that the first pair of `id` is on these blocks.
    pub fn set_head(&mut self, id: DirId, blocks: Pair) {
        for b in blocks.0 {
            self.heads.insert(b, id);
        }
    }

    /// Note that the first pair of `id` has other blocks now.
    pub fn readdress(&mut self, id: DirId, old: Pair, new: Pair) {
        self.remove_head(old);
        self.set_head(id, new);
    }

    /// Note that no directory begins on these blocks.
    pub fn remove_head(&mut self, blocks: Pair) {
        for b in blocks.0 {
            self.heads.remove(&b);
        }
    }

    /// Note that the directory `id` does not begin on these blocks. Another directory may begin
    /// there.
    pub fn remove_head_of(&mut self, id: Option<DirId>, blocks: Pair) {
        for b in blocks.0 {
            if self.heads.get(&b) == id.as_ref() {
                self.heads.remove(&b);
            }
        }
    }

    /// For each directory entry in a pair of `parent`, set the directory that it names. If another
    /// entry names that directory already, set none, because otherwise the tree could have loops.
    pub fn resolve(&self, parent: Option<DirId>, mut mdir: Mdir) -> Mdir {
        for e in &mut mdir.entries {
            if let Data::Dir { pair, dir } = &mut e.data {
                let named = self.heads.get(&pair.0[0]).or_else(|| self.heads.get(&pair.0[1]));
                *dir = named.copied().filter(|d| {
                    let d = self.get(*d);
                    d.is_some_and(|d| Some(d.parent) == parent && *d.name == *e.name)
                });
            }
        }
        mdir
    }

    /// Add a directory that cannot be read. Its entry shows that it is a directory, and every
    /// operation that needs more of it fails with `why`.
    pub fn broken(&mut self, parent: DirId, name: Box<[u8]>, why: Corrupt) -> DirId {
        if let Some(&known) = self.broken.get(&(parent, name.clone())) {
            return known;
        }
        let dir = Dir { broken: Some(why), ..Dir::new(parent, name.clone(), Vec::new()) };
        let id = self.insert(dir);
        self.broken.insert((parent, name), id);
        id
    }

    /// Note that the entry `name` of `dir` was renamed to `to_name` in `to`. If it names a
    /// directory that cannot be read, this directory is now found under the new name.
    pub fn rename_broken(&mut self, dir: DirId, name: &[u8], to: DirId, to_name: &[u8]) {
        let Some(id) = self.broken.remove(&(dir, name.into())) else { return };
        if let Some(d) = self.table.get_mut(id.0) {
            (d.parent, d.name) = (to, to_name.into());
        }
        self.broken.insert((to, to_name.into()), id);
    }

    /// The number of places in the table, of directories in it, and of blocks under which one of
    /// them is found.
    #[cfg(test)]
    pub fn sizes(&self) -> [usize; 3] {
        [self.table.capacity(), self.table.iter().count(), self.heads.len()]
    }
}

impl Index<DirId> for Directories {
    type Output = Dir;

    /// # Panics
    /// If the directory was removed from the table.
    fn index(&self, id: DirId) -> &Dir {
        &self.table[id.0]
    }
}

impl IndexMut<DirId> for Directories {
    fn index_mut(&mut self, id: DirId) -> &mut Dir {
        &mut self.table[id.0]
    }
}
