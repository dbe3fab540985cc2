//! Names that a directory holds more than once.
//!
//! The C driver opens one of them: in the first pair of the directory that has the name, the last
//! of the pair's log. That one is shown and edited; the others are kept and hidden. A compaction
//! writes entries in the order of their ids, so in memory the one that counts stands behind the
//! others of its name, and such a pair is never appended to: then what the C driver finds stays
//! what it was, or becomes what was written here.
//!
//! Pairs with such names stay in memory, since only what opening found tells them apart.

use std::collections::{HashMap, HashSet};

use super::pairs::{CACHE_MAX, PairIx};
use super::rename::Source;
use super::{DirId, Fs};
use crate::disk::log::{self, Log};
use crate::error::Result;
use crate::mdir::{Double, Entry, Kind, Mdir, store};

/// The name of an entry, and what tells it from others of that name.
type Unreachable = (Box<[u8]>, fn(&Entry) -> bool);

impl Fs {
    /// Find out which entries have a name that another of their directory has as well.
    pub(super) fn find_doubles(&mut self) {
        let mut bytes = 0;
        for dir in self.dirs.all_readable() {
            // names in strict order differ
            if self.dirs[dir].sorted {
                continue;
            }
            match self.find_doubles_of(dir) {
                Ok(held) => bytes += held,
                Err(e) => self.damage(&e),
            }
            if bytes > CACHE_MAX {
                self.damage(&"more names are there twice than can be kept apart");
                return;
            }
        }
    }

    /// The same in one directory. Returns the bytes of memory that its pairs with such names take.
    pub(super) fn find_doubles_of(&mut self, dir: DirId) -> Result<usize> {
        // the first pair that has the name, and how many entries have it
        let mut names: HashMap<Box<[u8]>, (PairIx, u32)> = HashMap::new();
        for ix in self.dir(dir)?.pairs.clone() {
            for e in self.mdir(ix)?.entries.iter().filter(|e| e.could_be_visible()) {
                names.entry(e.name.clone()).or_insert((ix, 0)).1 += 1;
            }
        }
        names.retain(|_, (_, count)| *count > 1);
        if names.is_empty() {
            return Ok(0);
        }
        let mut bytes = 0;
        for ix in self.dir(dir)?.pairs.clone() {
            let is_double = |e: &Entry| names.contains_key(&e.name);
            if !self.mdir(ix)?.entries.iter().any(is_double) {
                continue;
            }
            let block = self.pair(ix).blocks.0[0];
            let mut bytes_of_block = vec![0; self.layout.block_size as usize];
            self.durable.dev().read(block, 0, &mut bytes_of_block)?;
            let log = store::read_log(self.durable.dev(), block)?.unwrap_or_default();
            let order = log::order_as_c(&log, &bytes_of_block);
            self.pair_mut(ix).has_doubles = true;
            let mdir = self.mdir(ix)?;
            if let Some(order) = order {
                mdir.reorder(&order);
            }
            let mut found: Vec<&[u8]> = Vec::new();
            for e in mdir.entries.iter_mut().rev().filter(|e| e.could_be_visible()) {
                match names.get_key_value(&e.name) {
                    Some((name, (first, _))) if *first == ix && !found.contains(&&**name) => {
                        found.push(name);
                        e.double = Double::Found;
                    }
                    Some(_) => e.double = Double::Hidden,
                    None => {}
                }
            }
            bytes += mdir.footprint();
        }
        self.warn(format!(
            "{} holds {} more than once: shown is what a device opens, and 'littlefs check -y' \
             moves the others to lost+found",
            self.path_of(dir),
            some_names(names.keys())
        ));
        Ok(bytes)
    }

    /// The entry `name` of `dir` that was shown is gone: another of that name, if there is one,
    /// takes its place, as it does for the C driver.
    pub(super) fn show_next_double(&mut self, dir: DirId, name: &[u8]) -> Result<()> {
        for ix in self.dir(dir)?.pairs.clone() {
            // pairs with such names stay in memory
            let Some(m) = self.pair_mut(ix).mdir.as_mut() else { continue };
            let mut hidden = m.entries.iter_mut().rev();
            if let Some(e) = hidden.find(|e| e.is_hidden_double() && *e.name == *name) {
                e.double = Double::Found;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether `dir` holds entries that are hidden by others of their name.
    pub(super) fn hides_doubles(&mut self, dir: DirId) -> Result<bool> {
        let pairs = &self.dir(dir)?.pairs;
        let hides = |m: &Mdir| m.entries.iter().any(Entry::is_hidden_double);
        Ok(pairs.iter().any(|&ix| self.pair(ix).mdir.as_ref().is_some_and(|m| hides(m))))
    }

    /// Move files and directories that cannot be reached, because the C driver opens another entry
    /// under their name, to `lost+found`. Returns for each the path before and after.
    pub fn set_doubles_aside(&mut self) -> Result<Vec<(String, String)>> {
        let _running = self.begin()?;
        let mut moved = Vec::new();
        for dir in self.dirs.all_readable() {
            for (name, is_it) in self.unreachable_in(dir)? {
                let lost = self.lost_and_found()?;
                let new = self.unused_name(lost, &name)?;
                self.rename_one(Source { dir, name: &name, is_it }, lost, &new, true)?;
                let path = |fs: &Self, dir, name| fs.path_of(dir) + &String::from_utf8_lossy(name);
                moved.push((path(self, dir, &name), path(self, lost, &new)));
            }
            self.flush()?;
        }
        Ok(moved)
    }

    /// What cannot be reached in `dir`.
    fn unreachable_in(&mut self, dir: DirId) -> Result<Vec<Unreachable>> {
        let name_max = self.superblock.name_max as usize;
        let mut unknown: HashSet<Box<[u8]>> = HashSet::new();
        let mut found: Vec<Unreachable> = Vec::new();
        for ix in self.dir(dir)?.pairs.clone() {
            for e in &self.mdir(ix)?.entries {
                if matches!(e.kind, Kind::Other(_)) {
                    unknown.insert(e.name.clone());
                } else if e.name.len() > name_max {
                    // it gets another name
                } else if e.is_hidden_double() {
                    found.push((e.name.clone(), Entry::is_hidden_double));
                } else if e.is_visible() && unknown.contains(&e.name) {
                    found.push((e.name.clone(), Entry::is_visible));
                }
            }
        }
        Ok(found)
    }

    /// Before the durable log of `ix` is compacted: put its entries into the order in which the C
    /// driver goes on finding the same of them. Returns the order as ids before, or nothing.
    pub(super) fn keep_order_as_c(&mut self, ix: PairIx, log: &mut Log) -> Result<Vec<u16>> {
        if !self.pair(ix).has_doubles {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; self.layout.block_size as usize];
        self.durable.dev().read(self.pair(ix).blocks.0[0], 0, &mut bytes)?;
        if let Some(order) = log::order_as_c(log, &bytes) {
            log.reorder(&order);
            self.mdir(ix)?.renumber(&order);
            return Ok(order);
        }
        Ok(Vec::new())
    }
}

/// A few names, for people.
fn some_names<'a>(names: impl ExactSizeIterator<Item = &'a Box<[u8]>>) -> String {
    let count = names.len();
    let shown: Vec<String> =
        names.take(3).map(|n| format!("{:?}", String::from_utf8_lossy(n))).collect();
    let more = if count > shown.len() { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}
