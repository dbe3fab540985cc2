//! The content of an image as the driver of version 1 shows it: directories from the root down.
//!
//! The thread through all metadata pairs matters here for one reason only: an entry that is marked
//! as moved is hidden if some entry in the thread without the mark has the same content. Otherwise
//! it is shown.

use std::collections::HashSet;

use super::block::{self, Block, DIRECTORY, Doubt};
use crate::bd::BlockDevice;
use crate::check::Recorder;
use crate::dialect::tree::{Candidate, Content, Entry, Names, Reader, Walk};
use crate::dialect::{Lists, Tree};
use crate::disk::commit::CRC_SIZE;
use crate::disk::list::{self, List};
use crate::disk::{ListIndex, Pair, ctz};
use crate::error::{Corrupt, Error, Result};
use crate::show;

/// The program size of a view, in bytes, if the size of a block is a multiple of it.
const PROG_SIZE: u32 = 16;
/// How many bytes an entry of a view has in addition to its name: the tag for the name, and a tag
/// with 8 bytes of data.
const ENTRY: u32 = 4 + 12;
/// How many bytes of a block of a view its entries cannot use: revision, tail and CRC.
const OVERHEAD: u32 = 4 + 12 + CRC_SIZE;

/// An image that was read.
pub struct Volume {
    /// The content as the driver shows it.
    pub tree: Tree,
    /// The pairs of the thread, beginning with that of the superblock.
    pub thread: Vec<Pair>,
    /// Why the thread ends too early, if it does.
    pub cut: Option<Cut>,
}

/// Why a thread ends too early.
pub enum Cut {
    /// It leads to a pair that cannot be read.
    Unreadable(Pair, Error),
    /// It leads back to a pair that it has passed.
    Loop(Pair),
}

#[cfg(any(feature = "cli", feature = "internals", feature = "mount"))]
impl Volume {
    /// The blocks of all pairs in the tree and in the thread.
    pub fn pair_blocks(&self) -> HashSet<u32> {
        let of_tree = self.tree.dirs.iter().flat_map(|dir| &dir.pairs);
        of_tree.chain(&self.thread).flat_map(|pair| pair.0).collect()
    }
}

/// Read all metadata of the image on `dev`. Damaged parts are left out and reported as findings.
///
/// # Errors
/// If the superblock or the first pair of the root cannot be read.
pub fn read(dev: &dyn BlockDevice, recorder: &mut Recorder) -> Result<Volume> {
    let g = dev.geometry();
    let root = root(dev)?;
    let mut pairs = Pairs { dev, moves: Moves::default() };
    let (thread, cut) = pairs.moves.follow(dev);
    if cut.is_some() {
        // pairs that the thread does not reach may be reached from the tree
        Walk::run(&mut Scout(&mut pairs), root, g.block_count, &mut Recorder::default())?;
    }
    let mut dirs = Walk::run(&mut pairs, root, g.block_count, recorder)?;
    if let Some(root) = dirs.first_mut() {
        root.pairs.insert(0, Pair::SUPERBLOCK);
        root.entries.iter_mut().for_each(|entry| entry.place.0 += 1);
    }
    let names = dirs.iter().flat_map(|dir| &dir.entries).map(|entry| entry.name.len() as u32);
    let needed = names.max().unwrap_or(0) + ENTRY + OVERHEAD;
    let block_size = if needed <= g.block_size { g.block_size } else { needed.next_power_of_two() };
    let prog_size = PROG_SIZE.min(1 << block_size.trailing_zeros().min(31));
    let tree = Tree { dirs, prog_size, block_size, lists: &LISTS };
    Ok(Volume { tree, thread, cut })
}

/// The first pair of the root, which the superblock names.
fn root(dev: &dyn BlockDevice) -> Result<Pair> {
    let superblock = block::fetch(dev, Pair::SUPERBLOCK)?;
    let entry = superblock.entries.first().ok_or(Corrupt::no_valid_commit(Pair::SUPERBLOCK))?;
    Ok(Pair(entry.words()))
}

/// The content of entries that are not marked as moved.
#[derive(Default)]
struct Moves(HashSet<[u8; 8]>);

impl Moves {
    fn add(&mut self, block: &Block) {
        self.0.extend(block.entries.iter().filter(|entry| !entry.moved).map(|entry| entry.data));
    }

    /// Collect the content of all pairs in the thread except that of the superblock.
    fn follow(&mut self, dev: &dyn BlockDevice) -> (Vec<Pair>, Option<Cut>) {
        let mut thread = vec![Pair::SUPERBLOCK];
        let mut seen = HashSet::from([Pair::SUPERBLOCK.0]);
        let mut next = block::fetch(dev, Pair::SUPERBLOCK).ok().and_then(|block| block.next());
        while let Some(pair) = next {
            let mut blocks = pair.0;
            blocks.sort_unstable();
            // There could be more pairs than blocks if pairs share blocks, but no driver makes such
            // a thread.
            if !seen.insert(blocks) || thread.len() as u64 > u64::from(dev.geometry().block_count) {
                return (thread, Some(Cut::Loop(pair)));
            }
            let block = match block::fetch(dev, pair) {
                Ok(block) => block,
                Err(e) => return (thread, Some(Cut::Unreadable(pair, e))),
            };
            self.add(&block);
            thread.push(pair);
            next = block.next();
        }
        (thread, None)
    }
}

/// Reads the pairs of directories.
struct Pairs<'a> {
    dev: &'a dyn BlockDevice,
    moves: Moves,
}

impl Reader for Pairs<'_> {
    fn read(
        &mut self,
        walk: &mut Walk<'_>,
        dir: usize,
        number: usize,
        pair: Pair,
        names: &mut Names,
    ) -> Result<Option<Pair>> {
        let block = block::fetch(self.dev, pair)?;
        doubt(walk, dir, pair, &block);
        let numbered = (0_u16..).zip(&block.entries);
        for (i, entry) in numbered.filter(|(_, entry)| entry.is_named()) {
            self.add(walk, dir, (number, i), entry, names);
        }
        Ok(Some(block.tail).filter(|_| block.continues))
    }
}

impl Pairs<'_> {
    fn add(
        &self,
        walk: &mut Walk<'_>,
        dir: usize,
        at: (usize, u16),
        entry: &block::Entry,
        names: &mut Names,
    ) {
        if entry.moved {
            let place = walk.path(dir, &entry.name);
            if self.moves.0.contains(&entry.data) {
                let what = "a rename was interrupted when only this old name had to be removed; \
                            it is not shown any more";
                return walk.note("move-pending", place, what);
            }
            let what = "a rename was interrupted before the new name existed; the entry keeps \
                        this name";
            walk.note("move-pending", place, what);
        }
        if entry.attr_len > 0 {
            let attrs = show::bytes(entry.attr_len);
            let what = format!("{attrs} of attributes, which are not shown");
            walk.note("attributes", walk.path(dir, &entry.name), what);
        }
        if entry.data_len < 8 {
            let len = show::bytes(entry.data_len);
            let what = format!("its entry has {len} of data instead of 8");
            return walk.error("bad-struct", walk.path(dir, &entry.name), what);
        }
        let [first, second] = entry.words();
        let (content, below) = match entry.kind {
            DIRECTORY => (Content::Nothing, Some(Pair([first, second]))),
            _ => (Content::List { head: first, size: second }, None),
        };
        if names.contains_key(&entry.name) {
            let place = walk.path(dir, &entry.name);
            let what = "the directory has several entries of this name; the driver opens the \
                        first, so the others are not shown";
            return walk.error("name-duplicate", place, what);
        }
        let name = entry.name.clone();
        let shown = Entry { name: name.clone(), content, attrs: Vec::new(), place: at };
        names.insert(name, Candidate { entry: shown, dir: below });
    }
}

/// Collects the content of those pairs of directories that are not in the thread.
struct Scout<'a, 'd>(&'a mut Pairs<'d>);

impl Reader for Scout<'_, '_> {
    fn read(
        &mut self,
        _walk: &mut Walk<'_>,
        _dir: usize,
        number: usize,
        pair: Pair,
        names: &mut Names,
    ) -> Result<Option<Pair>> {
        let block = block::fetch(self.0.dev, pair)?;
        self.0.moves.add(&block);
        for entry in block.entries.iter().filter(|entry| entry.kind == DIRECTORY) {
            let content = Content::Nothing;
            let name = entry.name.clone();
            let place = (number, 0);
            let found = Entry { name: name.clone(), content, attrs: Vec::new(), place };
            names.insert(name, Candidate { entry: found, dir: Some(Pair(entry.words())) });
        }
        Ok(Some(block.tail).filter(|_| block.continues))
    }
}

/// Report a problem of a pair that can be read nevertheless.
fn doubt(walk: &mut Walk<'_>, dir: usize, pair: Pair, block: &Block) {
    match &block.doubt {
        None => {}
        Some(Doubt::Torn) => walk.note_torn(pair),
        Some(Doubt::Unreadable(e)) => walk.suspect_unreadable(dir, pair, e),
    }
    if let Some(at) = block.broken {
        let of = walk.dir_path(dir);
        let what =
            format!("an entry of {of} at byte {at} extends beyond its block; the rest is lost");
        walk.suspect(dir, "entry-broken", pair, what);
    }
}

/// The lists of version 1 for a view. They are the same as in version 2.
static LISTS: ListsOfV1 = ListsOfV1;

struct ListsOfV1;

impl Lists for ListsOfV1 {
    fn load(&self, dev: &dyn BlockDevice, head: u32, size: u32) -> Result<Vec<u32>> {
        let list = List { head, size };
        list::addresses(dev.geometry(), list, |block, off, bytes| dev.read(block, off, bytes))
            .map_err(|broken| Error::of_list(list, broken))
    }

    fn locate(&self, block_size: u32, pos: u32) -> (ListIndex, u32) {
        ctz::locate(block_size, pos)
    }
}
