//! Repair: restoring what is missing in an image, as far as no guess is needed.
//!
//! Every step, and every crash in a step, leaves a sound image. No step runs on an image that was
//! damaged when it was opened, because then the filesystem is read-only. But files may be damaged,
//! if [`Fs::adopt_map`] says which blocks are free.

use std::collections::{HashMap, HashSet};

use super::attempt::Attempt;
use super::dirs::Dir;
use super::pairs::{Fate, PairIx};
use super::{DirId, Fs, Node, ROOT};
use crate::disk::name;
use crate::error::{Error, Result};
use crate::mdir::{Data, Double, Entry, Kind};
use crate::show::path_from_end;

/// The name of the directory for directories that have lost their name.
const LOST: &[u8] = b"lost+found";

/// Why an entry cannot keep its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFault {
    /// Such a name is impossible on Linux.
    Impossible,
    /// It is longer than `name_max`.
    TooLong,
}

impl Fs {
    /// Finish what was interrupted: moves, and directories that were being added or removed.
    /// Returns whether there was anything to finish.
    ///
    /// # Errors
    /// Those of [`Fs::flush`].
    pub fn finish_interrupted(&mut self) -> Result<bool> {
        let pending = self.unfinished;
        let _running = self.begin()?;
        self.flush()?;
        Ok(pending)
    }

    /// Put directories into the thread that are missing there. Returns their paths.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::NoSpace`], and the errors of the device.
    pub fn thread_directories(&mut self) -> Result<Vec<String>> {
        let _running = self.begin()?;
        let mut done = Vec::new();
        for dir in self.dirs.all_readable() {
            let Some(&head) = self.dirs[dir].pairs.first() else { continue };
            if self.join_thread(head)? {
                done.push(self.path_of(dir));
            }
        }
        self.sync()?;
        Ok(done)
    }

    /// Give directories that have lost their name a new one in `lost+found`, take those without
    /// entries out of the thread, and readdress pairs that the thread names by other blocks than
    /// the tree. Returns the new paths, and whether the thread has changed.
    ///
    /// # Errors
    /// Those of [`Fs::mkdir`] and [`Fs::flush`].
    pub fn place_orphans(&mut self) -> Result<(Vec<String>, bool)> {
        let _running = self.begin()?;
        let mut by_block = HashMap::new();
        let mut orphans = Vec::new();
        for ix in self.thread.ids() {
            let p = self.pair(ix);
            if p.dir.is_some() || p.chain || !p.threaded || p.fate != Fate::Stays {
                continue;
            }
            for b in p.blocks.0 {
                by_block.insert(b, ix);
            }
            if self.mdir(ix)?.entries.first().is_none_or(|e| e.kind != Kind::Superblock) {
                orphans.push(ix);
            }
        }
        // a directory that another orphan names keeps its name there
        let mut named = HashSet::new();
        for &ix in &orphans {
            for e in &self.mdir(ix)?.entries {
                if let Data::Dir { pair, .. } = e.data {
                    named.extend(pair.0.iter().filter_map(|b| by_block.get(b)).copied());
                }
            }
        }
        let (inner, outer): (Vec<_>, Vec<_>) = orphans.iter().partition(|ix| named.contains(ix));
        let mut placed = Vec::new();
        for ix in outer.into_iter().chain(inner) {
            if self.pair(ix).dir.is_some() || self.pair(ix).fate != Fate::Stays {
                continue;
            }
            let chain = self.orphan_chain(ix);
            let mut empty = true;
            for &p in &chain {
                empty &= self.mdir(p)?.entries.is_empty();
            }
            if empty {
                chain.iter().for_each(|&p| self.pair_mut(p).fate = Fate::Removed);
            } else {
                placed.push(self.give_name(ix, &by_block)?);
            }
        }
        self.flush()?;
        let wrong = !self.thread.with_wrong_tails().is_empty();
        if wrong {
            self.set_sync(true)?;
            self.recover()?;
            self.free_retired()?;
        }
        Ok((placed, wrong))
    }

    /// An orphan, and the pairs to which its hardtails lead.
    fn orphan_chain(&self, head: PairIx) -> Vec<PairIx> {
        let mut chain = vec![head];
        let mut at = self.pair(head).next;
        while let Some(ix) = at.filter(|&ix| {
            let p = self.pair(ix);
            p.continues && p.dir.is_none()
        }) {
            chain.push(ix);
            at = self.pair(ix).next;
        }
        chain
    }

    /// Give the orphan at `head` a name in `lost+found`, and add everything below it to the tree.
    fn give_name(&mut self, head: PairIx, by_block: &HashMap<u32, PairIx>) -> Result<String> {
        let lost = self.lost_and_found()?;
        let blocks = self.pair(head).blocks;
        let name =
            self.unused_name(lost, format!("dir-{:x}", blocks.0[0].min(blocks.0[1])).as_bytes())?;
        let id = self.take_up(head, lost, name.clone(), by_block)?;
        let e = Entry::new(&name, Kind::Dir, Data::Dir { pair: blocks, dir: Some(id) });
        self.attempt(|fs| match fs.room_for(lost, &name, e.size_on_disk())? {
            Attempt::Done(place) => fs.insert_at(place, e.clone()).map(Attempt::Done),
            Attempt::FlushFirst => Ok(Attempt::FlushFirst),
        })?;
        self.flush()?;
        // Only now, no driver that finds the sync bit set can treat it as a removed directory.
        let thread = &self.thread;
        self.nameless.retain(|&ix| thread.find(ix).is_some_and(|p| p.dir.is_none()));
        Ok(self.path_of(id))
    }

    /// Make directories of an orphan and of the orphans below it.
    fn take_up(
        &mut self,
        head: PairIx,
        parent: DirId,
        name: Box<[u8]>,
        by_block: &HashMap<u32, PairIx>,
    ) -> Result<DirId> {
        let mut made = Vec::new();
        let mut todo = vec![(head, parent, name)];
        while let Some((head, parent, name)) = todo.pop() {
            if self.pair(head).dir.is_some() {
                continue;
            }
            let chain = self.orphan_chain(head);
            let dir = Dir { sorted: false, ..Dir::new(parent, name, chain.clone()) };
            let id = self.dirs.insert(dir);
            made.push(id);
            self.dirs.set_head(id, self.pair(head).blocks);
            for &ix in &chain {
                self.pair_mut(ix).dir = Some(id);
                for e in &self.mdir(ix)?.entries {
                    if let Data::Dir { pair, .. } = e.data
                        && let Some(&child) = pair.0.iter().find_map(|b| by_block.get(b))
                    {
                        todo.push((child, id, e.name.to_box()));
                    }
                }
            }
        }
        let new: HashSet<DirId> = made.iter().copied().collect();
        for ix in self.thread.ids() {
            if self.pair(ix).dir.is_some_and(|dir| new.contains(&dir)) {
                self.resolve(ix);
            }
        }
        // names in these directories may occur twice, as in any other
        for &dir in &made {
            self.find_doubles_of(dir)?;
        }
        // the caller never passes a pair that belongs to a directory already
        made.first().copied().ok_or(Error::NotFound)
    }

    /// The directory `lost+found` in the root. If it does not exist, it is created. If a file has
    /// that name, this is the first of `lost+found~1`, `lost+found~2`... that is a directory or can
    /// be created.
    pub(super) fn lost_and_found(&mut self) -> Result<DirId> {
        for n in 0..u32::MAX {
            let name = numbered(LOST, n, self.superblock.name_max as usize);
            match self.lookup(ROOT, &name) {
                Ok(Node::Dir(dir)) if self.dir(dir).is_ok() => return Ok(dir),
                Err(Error::NotFound) if !self.is_shadowed(ROOT, &name)? => {
                    return self.mkdir(ROOT, &name);
                }
                // a directory that cannot be read cannot get entries
                Ok(_) | Err(Error::NotFound | Error::Corrupt(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Err(Error::NoSpace)
    }

    /// The first of `name`, `name~1`, `name~2`... that does not exist in `dir`.
    pub(super) fn unused_name(&mut self, dir: DirId, name: &[u8]) -> Result<Box<[u8]>> {
        self.unused_name_from(dir, name, &mut 0)
    }

    /// Like [`Self::unused_name`], beginning with the number `next`.
    fn unused_name_from(&mut self, dir: DirId, name: &[u8], next: &mut u32) -> Result<Box<[u8]>> {
        let max = self.superblock.name_max as usize;
        for n in *next.. {
            *next = n.saturating_add(1);
            let candidate = numbered(name, n, max);
            self.check_name(&candidate)?;
            if self.find(dir, &candidate)?.is_none() && !self.is_shadowed(dir, &candidate)? {
                return Ok(candidate.into());
            }
        }
        Err(Error::NoSpace)
    }

    /// Give a new, unused name to every file and directory whose name is impossible or too long.
    /// Entries that share a possible name are not changed. Returns the new paths, and the reasons.
    ///
    /// # Errors
    /// Those of [`Fs::rename`] and [`Fs::flush`].
    pub fn mend_names(&mut self) -> Result<Vec<(String, NameFault)>> {
        let _running = self.begin()?;
        let mut done = Vec::new();
        for dir in self.dirs.all_readable() {
            let max = self.superblock.name_max as usize;
            // for each name the next number to try, so that many equal names do not take quadratic
            // time
            let mut tried: HashMap<Vec<u8>, u32> = HashMap::new();
            for ix in self.dir(dir)?.pairs.clone() {
                for at in 0..self.mdir(ix)?.entries.len() {
                    let Some(e) = self.mdir(ix)?.entries.get(at) else { break };
                    let (kind, old, data) = (e.kind, e.name.clone(), e.data.clone());
                    if !matches!(kind, Kind::File | Kind::Dir) {
                        continue;
                    }
                    let fault = if !name::is_presentable(&old) {
                        NameFault::Impossible
                    } else if old.len() > max {
                        NameFault::TooLong
                    } else {
                        continue;
                    };
                    let wanted = name::presentable(&old);
                    let next = tried.entry(wanted.clone()).or_default();
                    let new = self.unused_name_from(dir, &wanted, next)?;
                    self.mdir_mut(ix)?.update(at, |e| {
                        e.name = new.clone().into();
                        e.double = Double::No;
                        rewritten(e);
                    });
                    if let Data::Dir { dir: Some(child), .. } = data {
                        self.dirs[child].name = new.clone();
                    }
                    self.dirs[dir].sorted = false;
                    done.push((self.path_of(dir) + &String::from_utf8_lossy(&new), fault));
                }
            }
            self.flush()?;
        }
        Ok(done)
    }

    /// The path of a directory for people, with a slash at its end. Only the end of a long path is
    /// shown.
    pub(super) fn path_of(&self, dir: DirId) -> String {
        let mut at = dir;
        let up = std::iter::from_fn(|| {
            let d = self.dirs.get(at).filter(|_| at != ROOT)?;
            at = d.parent;
            Some(&*d.name)
        });
        // an empty name at each end gives the path a slash there; the root has only one
        let empty: &[u8] = b"";
        let names = std::iter::once(empty).chain(up).chain((dir != ROOT).then_some(empty));
        String::from_utf8_lossy(&path_from_end(names)).into_owned()
    }
}

/// The name `name` for `n` = 0, and otherwise `name~n`. It is cut before the number so that it has
/// at most `max` bytes.
pub(super) fn numbered(name: &[u8], n: u32, max: usize) -> Vec<u8> {
    let suffix = if n == 0 { String::new() } else { format!("~{n}") };
    let kept = name.len().min(max.saturating_sub(suffix.len()));
    [&name[..kept], suffix.as_bytes()].concat()
}

/// Let the entry be written again, in its place among the others.
pub(super) fn rewritten(e: &mut Entry) {
    e.did = None;
    e.dirty = true;
    e.attrs.make_mut().iter_mut().for_each(|a| a.dirty = true);
}
