//! Checking whether an image of chamelon is sound, by chamelon's own rules.

use std::collections::HashMap;
use std::fmt::Display;

use super::tree::{self, modified};
use super::{list, remedy};
use crate::bd::{BlockDevice, Geometry};
use crate::check::{Recorder, Report, Severity};
use crate::dialect::Tree;
use crate::dialect::tree::Content;
use crate::disk::read_u32_le;
use crate::disk::superblock::FILE_MAX;
use crate::error::{Corrupt, Error, Result};

/// How many blocks are accounted for between two reports of progress.
const PROGRESS_STEP: usize = 1024;
/// After this many blocks of a list that something else uses, too, the rest of the list is not
/// followed.
const SHARED_MAX: u32 = 16;

/// What uses a block.
#[derive(Debug, Clone, Copy)]
enum Owner {
    /// A metadata pair of this directory.
    Pair(u32),
    /// A value, and the index of the block in the value's list.
    Value(Value, u32),
}

/// A value, by the index of its directory and that of its entry there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Value {
    dir: u32,
    entry: u32,
}

struct Checker<'a> {
    dev: &'a dyn BlockDevice,
    g: Geometry,
    tree: Tree,
    owners: HashMap<u32, Owner>,
    progress: &'a dyn Fn(u64),
}

/// Check the image of chamelon's dialect on `dev` without changing it: pairs, names, lists, and
/// what uses each block. `progress` is called repeatedly with the number of blocks that have been
/// accounted for.
///
/// # Errors
/// If the root cannot be read.
pub fn check(dev: &dyn BlockDevice, progress: &dyn Fn(u64)) -> Result<Report> {
    let mut recorder = Recorder::default();
    recorder.add(
        Severity::Note,
        "dialect",
        "image",
        format_args!("written by chamelon: {}", remedy(&"IMAGE")),
    );
    let tree = tree::read(dev, &mut recorder)?;
    let mut checker = Checker { dev, g: dev.geometry(), tree, owners: HashMap::new(), progress };
    checker.claim_pairs();
    let (mut files, mut directories) = (0, 0);
    for dir in 0..checker.tree.dirs.len() {
        for entry in 0..checker.tree.dirs[dir].entries.len() {
            match checker.tree.dirs[dir].entries[entry].content {
                Content::Dir(_) | Content::Lost(_) => directories += 1,
                Content::Inline(_) | Content::Nothing => files += 1,
                Content::List { head, size } => {
                    files += 1;
                    let value = Value { dir: dir as u32, entry: entry as u32 };
                    checker.check_list(&mut recorder, value, head, size);
                }
            }
        }
    }
    let mut report = recorder.report;
    report.totals.files = files;
    report.totals.directories = directories;
    report.totals.blocks_used = checker.owners.len() as u64;
    report.totals.block_count = checker.g.block_count;
    Ok(report)
}

impl Checker<'_> {
    fn claim_pairs(&mut self) {
        for (i, dir) in self.tree.dirs.iter().enumerate() {
            for block in dir.pairs.iter().flat_map(|pair| pair.0) {
                self.owners.insert(block, Owner::Pair(i as u32));
            }
        }
    }

    fn path(&self, value: Value) -> String {
        let dir = value.dir as usize;
        let entry = self.tree.dirs.get(dir).and_then(|d| d.entries.get(value.entry as usize));
        self.tree.path(dir, entry.map_or(&[], |e| &e.name))
    }

    /// Follow the list of a value, with all its pointers.
    fn check_list(&mut self, recorder: &mut Recorder, value: Value, head: u32, size: u32) {
        let mut error = |code, place: &str, message: &dyn Display| {
            recorder.add(Severity::Error, code, place, message);
        };
        let place = self.path(value);
        if size > FILE_MAX {
            error("file-too-large", &place, &format_args!("{size} bytes exceed file_max"));
        }
        let len = list::blocks(self.g.block_size, size);
        if len > self.g.block_count {
            return error("ctz-too-long", &place, &Corrupt::CtzTooLong { head, size });
        }
        // the addresses of blocks still to be visited, by index, from pointers other than the first
        let mut expected: HashMap<u32, u32> = HashMap::new();
        let (mut block, mut sound, mut shared) = (head, true, 0);
        for index in (0..len).rev() {
            if block >= self.g.block_count {
                return error("ctz-range", &place, &Corrupt::CtzOutOfRange { head, index, block });
            }
            if let Some(&other) = self.owners.get(&block) {
                let (place, message) = self.describe_shared(block, other, value, index);
                error("block-shared", &place, &message);
                shared += 1;
                // two lists that share a block share all blocks before it in the file, so one
                // finding is enough
                let meet = index > 0 && !matches!(other, Owner::Value(_, 0));
                if meet || shared == SHARED_MAX {
                    return;
                }
            } else {
                self.owners.insert(block, Owner::Value(value, index));
                if self.owners.len().is_multiple_of(PROGRESS_STEP) {
                    (self.progress)(self.owners.len() as u64);
                }
            }
            let mut pointers = vec![0; 4 * list::pointers(index) as usize];
            if let Err(e) = self.dev.read(block, 0, &mut pointers) {
                return error("ctz-unreadable", &place, &Error::Io(e));
            }
            let agrees = expected.remove(&index).is_none_or(|e| e == block);
            if sound && !agrees {
                sound = false;
                let what = "the pointers of its list disagree: chamelon reads other data in some \
                            parts";
                error("ctz-pointer", &place, &what);
            }
            for k in 1..list::pointers(index) {
                if let Some(to) = read_u32_le(&pointers, 4 * k as usize) {
                    expected.entry(index >> k).or_insert(to);
                }
            }
            block = read_u32_le(&pointers, 0).unwrap_or(0);
        }
    }

    /// Describe how a value is damaged, and which one, as far as that is known. chamelon overlooks
    /// the first block of each list when it looks for free blocks, so a later write overwrites that
    /// block.
    fn describe_shared(
        &self,
        block: u32,
        other: Owner,
        value: Value,
        index: u32,
    ) -> (String, String) {
        let bytes = |value: Value| {
            let first = self.g.block_size;
            let end = match self.content(value) {
                Some(&Content::List { size, .. }) => first.min(size),
                _ => first,
            };
            format!("bytes 0..{end}")
        };
        let lost = |value: Value, by: String| {
            let what = format!(
                "{} are lost: chamelon overwrote them in block {block:#x} with {by}",
                bytes(value)
            );
            (self.path(value), what)
        };
        match other {
            Owner::Pair(dir) => {
                let by = format!("metadata of {}", self.tree.dir_path(dir as usize));
                match index {
                    0 => lost(value, by),
                    _ => (
                        self.path(value),
                        format!(
                            "block {block:#x} of its list now holds {by}: its former content \
                             is lost"
                        ),
                    ),
                }
            }
            Owner::Value(first, _) if first == value => {
                (self.path(value), format!("block {block:#x} occurs twice in its list"))
            }
            Owner::Value(first, at) => match (at, index) {
                (0, 0) => match self.older(first, value) {
                    Some((older, newer)) => lost(older, format!("data of {}", self.path(newer))),
                    None => self.either(block, first, value),
                },
                (0, _) => lost(first, format!("data of {}", self.path(value))),
                (_, 0) => lost(value, format!("data of {}", self.path(first))),
                _ => self.either(block, first, value),
            },
        }
    }

    fn either(&self, block: u32, a: Value, b: Value) -> (String, String) {
        let other = self.path(a);
        let what = format!("uses block {block:#x}, and so does {other}: one of them is damaged");
        (self.path(b), what)
    }

    /// The two values in the order of their last changes, if both times are known and differ.
    fn older(&self, a: Value, b: Value) -> Option<(Value, Value)> {
        let time = |value: Value| {
            let dir = self.tree.dirs.get(value.dir as usize)?;
            modified(&dir.entries.get(value.entry as usize)?.attrs)
        };
        let (of_a, of_b) = (time(a)?, time(b)?);
        match of_a.cmp(&of_b) {
            std::cmp::Ordering::Less => Some((a, b)),
            std::cmp::Ordering::Greater => Some((b, a)),
            std::cmp::Ordering::Equal => None,
        }
    }

    fn content(&self, value: Value) -> Option<&Content> {
        let dir = self.tree.dirs.get(value.dir as usize)?;
        Some(&dir.entries.get(value.entry as usize)?.content)
    }
}
