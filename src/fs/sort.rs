//! Repair: putting the entries of directories into the order in which the C driver looks for them.

use std::collections::HashSet;

use super::attempt::Attempt;
use super::dir::Place;
use super::pairs::PairIx;
use super::repair::rewritten;
use super::{DirId, Fs};
use crate::disk::name;
use crate::error::{Error, Result};
use crate::mdir::{COUNT_MAX, Entry, Kind, Role};

impl Fs {
    /// Put the entries of every directory into the order in which the C driver looks for them, and
    /// drop pairs without entries inside a directory. Returns the paths of directories that have
    /// lost pairs, and the paths of directories that were sorted.
    ///
    /// # Errors
    /// Those of [`Fs::flush`], and an error if a pair cannot be read.
    pub fn sort_directories(&mut self) -> Result<(Vec<String>, Vec<String>)> {
        let _running = self.begin()?;
        let (mut shortened, mut done) = (Vec::new(), Vec::new());
        for dir in self.dirs.all_readable() {
            let mut empty = false;
            for ix in self.dir(dir)?.pairs.clone() {
                if self.pair(ix).continues && self.mdir(ix)?.entries.is_empty() {
                    self.thread.mark_dirty(ix);
                    empty = true;
                }
            }
            if empty {
                shortened.push(self.path_of(dir));
            }
            // the order of entries with the same name shows which of them counts
            if !self.dirs[dir].sorted
                && self.unreachable_in(dir)?.is_empty()
                && (self.sort_pairs(dir)? | self.sort_across(dir)?)
            {
                done.push(self.path_of(dir));
            }
            self.flush()?;
        }
        Ok((shortened, done))
    }

    /// Sort the entries of each pair of `dir`, with one commit for each pair. Returns whether there
    /// was anything to sort.
    fn sort_pairs(&mut self, dir: DirId) -> Result<bool> {
        let mut changed = false;
        for ix in self.dir(dir)?.pairs.clone() {
            let entries = &self.mdir(ix)?.entries;
            if entries.windows(2).all(|w| in_order(&w[0], &w[1])) {
                continue;
            }
            let entries = &mut self.mdir_mut(ix)?.entries;
            entries.sort_by(|a, b| {
                let rank = |e: &Entry| e.kind != Kind::Superblock;
                rank(a).cmp(&rank(b)).then_with(|| name::cmp(&a.name, &b.name))
            });
            entries.iter_mut().filter(|e| e.kind != Kind::Superblock).for_each(rewritten);
            changed = true;
        }
        self.flush()?;
        Ok(changed)
    }

    /// Move entries that are in a wrong pair of `dir` to their place. Returns whether there were
    /// any.
    ///
    /// Each move is within the directory. So a crash at any moment leaves every entry in the
    /// directory, under its name. Entries of unknown types stay where they are. Every other entry
    /// is put into a place before which no entry has a greater name.
    fn sort_across(&mut self, dir: DirId) -> Result<bool> {
        let mut names = Vec::new();
        for ix in self.dir(dir)?.pairs.clone() {
            names.extend(
                self.mdir(ix)?
                    .entries
                    .iter()
                    .filter(|e| e.kind != Kind::Superblock)
                    .map(|e| (e.name.to_box(), e.is_visible())),
            );
        }
        let wrong = out_of_order(&names);
        let staying = (0..names.len()).filter(|i| wrong.binary_search(i).is_err());
        let staying: Vec<&[u8]> = staying.map(|i| &*names[i].0).collect();
        let sorted = staying.windows(2).all(|w| name::cmp(w[0], w[1]).is_lt());
        let mut waiting: HashSet<&[u8]> = wrong.iter().map(|&i| &*names[i].0).collect();
        for &i in &wrong {
            let name = &*names[i].0;
            let _running = self.begin()?;
            self.attempt(|fs| fs.try_move_to_place(dir, name, &waiting))?;
            waiting.remove(name);
        }
        self.flush()?;
        if sorted {
            self.now_sorted(dir)?;
        }
        Ok(!wrong.is_empty())
    }

    /// The pair of `dir` with the first entry that has a greater name and need not be moved itself.
    /// If there is none, the last pair.
    fn pair_before_greater(
        &mut self,
        dir: DirId,
        name: &[u8],
        waiting: &HashSet<&[u8]>,
    ) -> Result<PairIx> {
        let pairs = self.dir(dir)?.pairs.clone();
        let last = *pairs.last().ok_or(Error::NotFound)?;
        for ix in pairs {
            let is_behind = |e: &Entry| {
                e.kind != Kind::Superblock
                    && !matches!(e.role, Role::Leaving(_))
                    && name::cmp(&e.name, name).is_gt()
                    && !waiting.contains(&*e.name)
            };
            if self.mdir(ix)?.entries.iter().any(is_behind) {
                return Ok(ix);
            }
        }
        Ok(last)
    }

    /// Move the entry `name` of `dir` before the first entry that has a greater name and need not
    /// be moved itself.
    fn try_move_to_place(
        &mut self,
        dir: DirId,
        name: &[u8],
        waiting: &HashSet<&[u8]>,
    ) -> Result<Attempt<()>> {
        let target = loop {
            let source = self.find(dir, name)?.ok_or(Error::NotFound)?;
            let target = self.pair_before_greater(dir, name, waiting)?;
            if source.pair == target {
                return Ok(Attempt::Done(()));
            }
            let size = self.entry(source)?.size_on_disk();
            let count = self.mdir(target)?.entries.len();
            if count + 1 >= COUNT_MAX {
                self.split(target, count / 2)?;
            } else if self.grow_in_place(target, size)? {
                break target;
            }
        };
        // making room may have split its pair
        let source = self.find(dir, name)?.ok_or(Error::NotFound)?;
        let e = self.entry(source)?.clone();
        if e.did.is_none() || e.inherited || e.is_dirty() || e.role != Role::Live {
            return Ok(Attempt::FlushFirst);
        }
        if self.join_thread(target)? {
            return Ok(Attempt::FlushFirst);
        }
        let mut new = e;
        rewritten(&mut new);
        let at = self.mdir(target)?.lower_bound(name);
        self.start_move(source, Place { pair: target, at }, None, new)?;
        Ok(Attempt::Done(()))
    }

    fn now_sorted(&mut self, dir: DirId) -> Result<()> {
        self.flush()?;
        self.dirs[dir].sorted = true;
        for ix in self.dir(dir)?.pairs.clone() {
            self.mdir(ix)?;
            self.thread.refresh_first(ix);
        }
        Ok(())
    }
}

/// Whether `b` may follow `a`. Entries with the same name count as in order: here, they are of
/// unknown types, for which no order is better.
fn in_order(a: &Entry, b: &Entry) -> bool {
    a.kind == Kind::Superblock || name::cmp(&a.name, &b.name).is_le()
}

/// The indices of the fewest names that must be removed so that the others are in ascending order.
/// If the flag of a name is false, the entry is fixed, and the names before it need not be less:
/// nobody looks for it by its name.
fn out_of_order(names: &[(Box<[u8]>, bool)]) -> Vec<usize> {
    let mut kept = vec![false; names.len()];
    let mut greatest: Option<&[u8]> = None;
    // tails[n] is the index of the least name that ends an ascending sequence of n + 1 names
    let mut tails: Vec<usize> = Vec::new();
    let mut before = vec![usize::MAX; names.len()];
    for (i, (name, movable)) in names.iter().enumerate() {
        let hidden = greatest.is_some_and(|g| name::cmp(g, name).is_gt());
        if !movable {
            kept[i] = true;
            greatest = if hidden { greatest } else { Some(name) };
            continue;
        }
        if hidden {
            continue;
        }
        let n = tails.partition_point(|&t| name::cmp(&names[t].0, name).is_lt());
        if let Some(&t) = n.checked_sub(1).and_then(|n| tails.get(n)) {
            before[i] = t;
        }
        if n == tails.len() { tails.push(i) } else { tails[n] = i }
    }
    let mut at = tails.last().copied();
    while let Some(i) = at {
        kept[i] = true;
        at = before.get(i).copied().filter(|&b| b != usize::MAX);
    }
    (0..names.len()).filter(|&i| !kept[i]).collect()
}
