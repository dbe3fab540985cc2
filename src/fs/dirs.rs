//! The table of directories: which pairs each consists of, and where it is in the tree.
//!
//! [`Directories`] owns the table. What must hold:
//!
//! 1. The first pair of every readable directory is found by either of its blocks. Whoever gives
//!    that pair other blocks says so ([`Directories::readdress`]).
//! 2. A directory that was removed in memory stays here, not `alive`, until its last pair has left
//!    the thread on disk.
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
    /// The directory that holds its entry; itself for the root.
    pub parent: DirId,
    /// Its name there.
    pub name: Box<[u8]>,
    /// Whether all names stand in the C driver's order.
    pub sorted: bool,
    /// False once removed.
    pub alive: bool,
    /// Why it cannot be read, if so: then it has no pairs.
    pub broken: Option<Corrupt>,
}

impl Dir {
    /// A directory of these pairs.
    pub fn new(parent: DirId, name: Box<[u8]>, pairs: Vec<PairIx>) -> Self {
        Self { pairs, parent, name, sorted: true, alive: true, broken: None }
    }
}

/// The directories.
#[derive(Debug)]
pub(super) struct Directories {
    table: Slots<Dir>,
    /// Directory by either block of its first pair.
    heads: HashMap<u32, DirId>,
    /// Directories that cannot be read, by the directory and the name of their entry.
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

    /// Remove a directory none of whose pairs is in the thread any more.
    pub fn remove(&mut self, id: DirId) {
        self.table.remove(id.0);
    }

    pub fn get(&self, id: DirId) -> Option<&Dir> {
        self.table.get(id.0)
    }

    /// The directory, unless it was removed or cannot be read.
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

    /// All directories that there are and that can be read.
    pub fn all_readable(&self) -> Vec<DirId> {
        let ids = self.table.iter().filter(|(_, d)| d.alive && d.broken.is_none());
        let mut ids: Vec<DirId> = ids.map(|(id, _)| DirId(id)).collect();
        ids.sort_unstable();
        ids
    }

    /// The directory that holds `id`; `None` for the root, and for one that is gone.
    pub fn parent(&self, id: DirId) -> Option<DirId> {
        self.get(id).filter(|_| id != ROOT).map(|d| d.parent)
    }

    /// How many directories `id` is below.
    pub fn depth(&self, id: DirId) -> usize {
        std::iter::successors(self.parent(id), |&dir| self.parent(dir)).count()
    }

    /// The path of a directory from the root on, with a slash behind each component; of one that
    /// is gone, nothing.
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

    /// The first pair of `id` is on these blocks.
    pub fn set_head(&mut self, id: DirId, blocks: Pair) {
        for b in blocks.0 {
            self.heads.insert(b, id);
        }
    }

    /// The first pair of `id` has other blocks now.
    pub fn readdress(&mut self, id: DirId, old: Pair, new: Pair) {
        self.forget_head(old);
        self.set_head(id, new);
    }

    /// No directory begins on these blocks.
    pub fn forget_head(&mut self, blocks: Pair) {
        for b in blocks.0 {
            self.heads.remove(&b);
        }
    }

    /// The directory `id` does not begin on these blocks; perhaps another one does.
    pub fn forget_head_of(&mut self, id: Option<DirId>, blocks: Pair) {
        for b in blocks.0 {
            if self.heads.get(&b) == id.as_ref() {
                self.heads.remove(&b);
            }
        }
    }

    /// Fill in which directory each directory entry of a pair of `parent` stands for: none if that
    /// belongs to another entry, lest the tree have loops.
    pub fn resolve(&self, parent: Option<DirId>, mut mdir: Mdir) -> Mdir {
        for e in &mut mdir.entries {
            if let Data::Dir { pair, dir } = &mut e.data {
                let named = self.heads.get(&pair.0[0]).or_else(|| self.heads.get(&pair.0[1]));
                *dir = named.copied().filter(|d| {
                    let d = self.get(*d);
                    d.is_some_and(|d| Some(d.parent) == parent && d.name == e.name)
                });
            }
        }
        mdir
    }

    /// A directory that cannot be read: its entry says that it is one, and whatever needs more of
    /// it fails with `why`.
    pub fn broken(&mut self, parent: DirId, name: Box<[u8]>, why: Corrupt) -> DirId {
        if let Some(&known) = self.broken.get(&(parent, name.clone())) {
            return known;
        }
        let dir = Dir { broken: Some(why), ..Dir::new(parent, name.clone(), Vec::new()) };
        let id = self.insert(dir);
        self.broken.insert((parent, name), id);
        id
    }

    /// The entry `name` of `dir` is `to_name` in `to` now: if it is that of a directory which
    /// cannot be read, that goes along.
    pub fn rename_broken(&mut self, dir: DirId, name: &[u8], to: DirId, to_name: &[u8]) {
        let Some(id) = self.broken.remove(&(dir, name.into())) else { return };
        if let Some(d) = self.table.get_mut(id.0) {
            (d.parent, d.name) = (to, to_name.into());
        }
        self.broken.insert((to, to_name.into()), id);
    }

    /// Places in the table, directories in it, and blocks under which one of them is found.
    #[cfg(test)]
    pub fn sizes(&self) -> [usize; 3] {
        [self.table.capacity(), self.table.iter().count(), self.heads.len()]
    }
}

impl Index<DirId> for Directories {
    type Output = Dir;

    /// # Panics
    /// When it was removed.
    fn index(&self, id: DirId) -> &Dir {
        &self.table[id.0]
    }
}

impl IndexMut<DirId> for Directories {
    fn index_mut(&mut self, id: DirId) -> &mut Dir {
        &mut self.table[id.0]
    }
}
