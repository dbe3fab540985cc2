//! Checking whether an image of version 1 is sound, by the rules of version 1.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::ops::ControlFlow;

use super::block;
use super::tree::{self, Cut, Volume};
use crate::bd::BlockDevice;
use crate::check::{Recorder, Report, Severity, list_code};
use crate::dialect::tree::Content;
use crate::disk::list::{self, Met};
use crate::disk::superblock::FILE_MAX;
use crate::disk::{List, Pair};
use crate::error::{Error, Result};
use crate::show::count;

/// How many blocks are accounted for between two reports of progress.
const PROGRESS_STEP: usize = 1024;

/// What uses a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// The pair of the superblock, or another pair that only the thread names.
    Thread,
    /// A metadata pair of this directory.
    Pair(u32),
    /// A file, by the indices of its directory and its entry.
    File(u32, u32),
}

struct Checker<'a> {
    dev: &'a dyn BlockDevice,
    volume: Volume,
    owners: HashMap<u32, Owner>,
    recorder: Recorder,
    progress: &'a dyn Fn(u64),
}

/// Check the image of version 1 on `dev` without changing it: pairs, names, moves, the thread,
/// lists, and what uses each block. `progress` is called repeatedly with the number of blocks that
/// have been accounted for.
///
/// # Errors
/// If the root cannot be read.
pub fn check(dev: &dyn BlockDevice, progress: &dyn Fn(u64)) -> Result<Report> {
    let mut recorder = Recorder::default();
    let what = "littlefs of version 1: mounts are read-only; 'littlefs put', 'rm' and the other \
                editing commands can change image files";
    recorder.add(Severity::Note, "dialect", "image", what);
    let volume = tree::read(dev, &mut recorder)?;
    let g = dev.geometry();
    let owners = HashMap::new();
    let mut checker = Checker { dev, volume, owners, recorder, progress };
    checker.check_thread();
    checker.claim_pairs();
    let (files, directories) = checker.check_entries();
    let mut report = checker.recorder.report;
    report.totals.files = files;
    report.totals.directories = directories;
    report.totals.blocks_used = checker.owners.len() as u64;
    report.totals.block_count = g.block_count;
    Ok(report)
}

/// The blocks of a pair in ascending order, to compare pairs that were named in either order.
fn sorted(pair: Pair) -> [u32; 2] {
    let mut blocks = pair.0;
    blocks.sort_unstable();
    blocks
}

impl Checker<'_> {
    fn error(&mut self, code: &'static str, place: impl Display, message: impl Display) {
        self.recorder.add(Severity::Error, code, place, message);
    }

    fn note(&mut self, code: &'static str, place: impl Display, message: impl Display) {
        self.recorder.add(Severity::Note, code, place, message);
    }

    /// Check the thread. The driver finds out which blocks are in use only from the thread.
    fn check_thread(&mut self) {
        let in_thread: HashSet<[u32; 2]> =
            self.volume.thread.iter().map(|&pair| sorted(pair)).collect();
        // if the thread is cut, it is unknown which pairs follow after that place
        match self.volume.cut.take() {
            None => self.check_threaded(&in_thread),
            Some(Cut::Unreadable(pair, e)) => {
                let what = format!(
                    "{e}: the thread ends there, so a device cannot write any more, because it \
                     finds the blocks in use through the thread"
                );
                self.error("thread-broken", pair, what);
            }
            Some(Cut::Loop(pair)) => {
                let what = "the thread leads back to this pair: a device hangs when it writes";
                self.error("thread-loop", pair, what);
            }
        }
        self.check_orphans();
    }

    /// Check that every pair of the tree is in the thread.
    fn check_threaded(&mut self, in_thread: &HashSet<[u32; 2]>) {
        let blocks: HashSet<u32> = in_thread.iter().flatten().copied().collect();
        let mut missing = Vec::new();
        for (i, dir) in self.volume.tree.dirs.iter().enumerate() {
            let new = |&&pair: &&Pair| !in_thread.contains(&sorted(pair));
            missing.extend(dir.pairs.iter().filter(new).map(|&pair| (i, pair)));
        }
        for (dir, pair) in missing {
            let of = self.volume.tree.dir_path(dir);
            if pair.0.iter().any(|block| blocks.contains(block)) {
                let what = format!(
                    "the thread names the blocks that {of} had before one of them was replaced; \
                     the next write of a device repairs that"
                );
                self.note("half-orphan", pair, what);
            } else {
                let what = format!("{of} is not in the thread: a device treats its blocks as free");
                self.error("unthreaded", pair, what);
            }
        }
    }

    /// Report pairs in the thread that do not belong to a directory.
    fn check_orphans(&mut self) {
        let tree = self.volume.tree.dirs.iter().flat_map(|dir| &dir.pairs);
        let in_tree: HashSet<[u32; 2]> = tree.clone().map(|&pair| sorted(pair)).collect();
        let blocks: HashSet<u32> = tree.flat_map(|pair| pair.0).collect();
        let orphans: Vec<Pair> = self
            .volume
            .thread
            .iter()
            .filter(|&&pair| !in_tree.contains(&sorted(pair)))
            .filter(|pair| pair.0.iter().all(|block| !blocks.contains(block)))
            .copied()
            .collect();
        for pair in orphans {
            let named = block::fetch(self.dev, pair)
                .map_or(0, |block| block.entries.iter().filter(|entry| entry.is_named()).count());
            let what = match named {
                0 => {
                    "an empty directory without a name: it was removed or was being made".to_owned()
                }
                n => format!("a directory with {} has no name", count(n, "entry", "entries")),
            };
            let what = format!("{what}; the next write of a device takes it out of the thread");
            self.note("orphan", pair, what);
        }
    }

    fn claim_pairs(&mut self) {
        let Volume { tree, thread, .. } = &self.volume;
        for (i, dir) in tree.dirs.iter().enumerate() {
            for block in dir.pairs.iter().flat_map(|pair| pair.0) {
                self.owners.insert(block, Owner::Pair(i as u32));
            }
        }
        for block in thread.iter().flat_map(|pair| pair.0) {
            self.owners.entry(block).or_insert(Owner::Thread);
        }
        self.owners.insert(0, Owner::Thread);
        self.owners.insert(1, Owner::Thread);
    }

    /// Follow the lists of all files. Returns how many files and directories there are.
    fn check_entries(&mut self) -> (u64, u64) {
        let (mut files, mut directories) = (0, 0);
        for dir in 0..self.volume.tree.dirs.len() {
            for entry in 0..self.volume.tree.dirs[dir].entries.len() {
                match self.volume.tree.dirs[dir].entries[entry].content {
                    Content::Dir(_) | Content::Lost(_) => directories += 1,
                    Content::Inline(_) | Content::Nothing => files += 1,
                    Content::List { head, size } => {
                        files += 1;
                        self.check_list(Owner::File(dir as u32, entry as u32), List { head, size });
                    }
                }
            }
        }
        (files, directories)
    }

    fn describe(&self, owner: Owner) -> String {
        let tree = &self.volume.tree;
        match owner {
            Owner::Thread => "metadata that belongs to no directory".to_owned(),
            Owner::Pair(dir) => format!("metadata of {}", tree.dir_path(dir as usize)),
            Owner::File(dir, entry) => {
                let dir = dir as usize;
                let entry = tree.dirs.get(dir).and_then(|d| d.entries.get(entry as usize));
                tree.path(dir, entry.map_or(&[], |entry| &entry.name))
            }
        }
    }

    /// Follow the list of a file, with all its pointers.
    fn check_list(&mut self, file: Owner, list: List) {
        let place = self.describe(file);
        if list.size > FILE_MAX {
            let what =
                format_args!("it has {} bytes, but files have at most 2^31 - 1 bytes", list.size);
            self.error("file-too-large", &place, what);
        }
        let (dev, mut sound) = (self.dev, true);
        let visit = |met: Met<'_>| {
            match met {
                Met::Block(at) => return self.claim(file, &place, at.block),
                Met::Pointers { at, agrees: false, .. } if sound => {
                    sound = false;
                    let what = format!(
                        "the pointers of block {} of its list disagree: a device may read other \
                         data",
                        at.index
                    );
                    self.error("ctz-pointer", &place, what);
                }
                Met::Pointers { .. } => {}
            }
            ControlFlow::Continue(())
        };
        let read = |block, off, bytes: &mut [u8]| dev.read(block, off, bytes);
        let Err(broken) = list::follow(dev.geometry(), list, read, visit) else { return };
        let code = list_code(&broken);
        match Error::of_list(list, broken) {
            Error::Corrupt(why) => self.error(code, &place, why),
            e => self.error(code, &place, e),
        }
    }

    /// Note that a file uses a block, and report it if something else uses the block already.
    fn claim(&mut self, file: Owner, place: &str, block: u32) -> ControlFlow<()> {
        // two lists that share a block share all blocks before it in the file, so one finding is
        // enough
        if let Some(&other) = self.owners.get(&block) {
            let what = match other == file {
                true => format!("block {block:#x} occurs twice in its list"),
                false => format!(
                    "uses block {block:#x}, and so does {}: one of them is damaged",
                    self.describe(other)
                ),
            };
            self.error("block-shared", place, what);
            return ControlFlow::Break(());
        }
        self.owners.insert(block, file);
        if self.owners.len().is_multiple_of(PROGRESS_STEP) {
            (self.progress)(self.owners.len() as u64);
        }
        ControlFlow::Continue(())
    }
}
