//! Names that occur more than once in a directory.
//!
//! The C driver opens one of these entries. It uses the first pair of the directory that has the
//! name, and in the log of that pair the last entry with the name. This entry is shown and changed
//! here; the others are kept and hidden. A compaction writes entries in the order of their ids. So
//! in memory, the entry that counts comes after the others with its name, and such a pair is always
//! compacted and never appended to. Then the C driver still finds the same entry, with the content
//! that was written here.
//!
//! Pairs with such names stay in memory, because only opening finds out which entry counts.

use std::collections::{HashMap, HashSet};

use super::pairs::PairIx;
use super::rename::Source;
use super::{DirId, Fs};
use crate::disk::log::{self, Log};
use crate::error::Result;
use crate::mdir::{Double, Entry, Kind, store};

/// The name of an entry, and the condition that selects it among others of that name.
type Unreachable = (Box<[u8]>, fn(&Entry) -> bool);

/// Pairs with entries of the same name are held in memory. They may take this many bytes.
const HELD_MAX: usize = 24 << 20;

impl Fs {
    /// Find entries with a name that occurs more than once in their directory.
    pub(super) fn find_doubles(&mut self) {
        let mut bytes = 0;
        for dir in self.dirs.all_readable() {
            // names in strictly ascending order are all different
            if self.dirs[dir].sorted {
                continue;
            }
            match self.find_doubles_of(dir) {
                Ok(held) => bytes += held,
                Err(e) => self.damage(&e),
            }
            if bytes > HELD_MAX {
                self.damage(&"there are too many duplicate names to keep their entries apart");
                return;
            }
        }
    }

    /// Like [`Self::find_doubles`], in one directory. Returns how many bytes of memory its pairs
    /// with such names take.
    pub(super) fn find_doubles_of(&mut self, dir: DirId) -> Result<usize> {
        // for each name, the first pair that has it, and how many entries have it
        let mut names: HashMap<Box<[u8]>, (PairIx, u32)> = HashMap::new();
        for ix in self.dir(dir)?.pairs.clone() {
            for e in self.mdir(ix)?.entries.iter().filter(|e| e.could_be_visible()) {
                names.entry(e.name.to_box()).or_insert((ix, 0)).1 += 1;
            }
        }
        names.retain(|_, (_, count)| *count > 1);
        if names.is_empty() {
            return Ok(0);
        }
        let mut bytes = 0;
        for ix in self.dir(dir)?.pairs.clone() {
            let is_double = |e: &Entry| names.contains_key(&*e.name);
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
                match names.get_key_value(&*e.name) {
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
            "{} holds {} more than once: the entry that a device opens is shown, and 'littlefs \
             check -y' moves the others to lost+found",
            self.path_of(dir),
            some_names(names.keys())
        ));
        Ok(bytes)
    }

    /// Called when the visible entry `name` of `dir` was removed or renamed. If there is another
    /// entry of that name, it becomes visible, as it does for the C driver.
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

    /// Move files and directories to `lost+found` that cannot be reached because the C driver opens
    /// another entry under their name. Returns the old and the new path of each.
    ///
    /// # Errors
    /// Those of [`Fs::rename`] and [`Fs::flush`].
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

    /// The entries of `dir` that cannot be reached, because another entry has the same name.
    pub(super) fn unreachable_in(&mut self, dir: DirId) -> Result<Vec<Unreachable>> {
        let name_max = self.superblock.name_max as usize;
        let pairs = self.dir(dir)?.pairs.clone();
        // An entry of an unknown type cannot be moved. So another entry with its name must be
        // moved, wherever in the directory the two are.
        let mut unknown: HashSet<Box<[u8]>> = HashSet::new();
        for &ix in &pairs {
            let entries = self.mdir(ix)?.entries.iter();
            let of_unknown_type = entries.filter(|e| matches!(e.kind, Kind::Other(_)));
            unknown.extend(of_unknown_type.map(|e| e.name.to_box()));
        }
        let mut found: Vec<Unreachable> = Vec::new();
        for ix in pairs {
            for e in &self.mdir(ix)?.entries {
                if e.name.len() > name_max {
                    // entries with such a name will get another one
                } else if e.is_hidden_double() {
                    found.push((e.name.to_box(), Entry::is_hidden_double));
                } else if e.is_visible() && unknown.contains(&*e.name) {
                    found.push((e.name.to_box(), Entry::is_visible));
                }
            }
        }
        Ok(found)
    }

    /// Called before the durable log of `ix` is compacted. Puts its entries into an order in which
    /// the C driver still finds the same entry under each name. Returns the previous ids of the
    /// entries in the new order, or an empty list if the order stays.
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

/// Some of the names, in a form for people.
fn some_names<'a>(names: impl ExactSizeIterator<Item = &'a Box<[u8]>>) -> String {
    let count = names.len();
    let shown: Vec<String> =
        names.take(3).map(|n| format!("{:?}", String::from_utf8_lossy(n))).collect();
    let more = if count > shown.len() { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}
