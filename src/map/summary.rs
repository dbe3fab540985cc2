//! The figures of a map, and its runs of equal blocks, for the JSON output.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Block, Change, Class, Map, runs_of_files};

/// Consecutive blocks of one kind that belong to the same entry.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// The first block.
    pub start: u32,
    /// How many blocks there are.
    pub count: u32,
    /// Their kind.
    pub class: Class,
    /// The path of the file or directory that they belong to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// For a file: the index of the first block in its list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Revision of a metadata block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
    /// How they differ from those of the second image.
    #[serde(skip_serializing_if = "is_same")]
    pub change: Change,
}

fn is_same(change: &Change) -> bool {
    *change == Change::Same
}

/// The runs of free blocks that have about the same length.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Extent {
    /// The number of blocks in the shortest run counted here; the longest one has less than twice
    /// as many.
    pub from: u32,
    /// How many runs there are.
    pub extents: u32,
    /// How many blocks they have together.
    pub blocks: u32,
}

/// All runs of free blocks.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FreeExtents {
    /// How many runs there are.
    pub count: u32,
    /// How many blocks the shortest one has.
    pub min: u32,
    /// How many blocks the longest one has.
    pub max: u32,
    /// How many blocks a run has on average.
    pub mean: f64,
    /// The runs by length, in powers of two.
    pub histogram: Vec<Extent>,
}

/// The figures.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Bytes in a block.
    pub block_size: u32,
    /// Blocks in the filesystem.
    pub block_count: u32,
    /// How many blocks at the end are missing in the image file.
    pub missing: u32,
    /// How many blocks of each kind there are.
    pub classes: BTreeMap<Class, u32>,
    /// Runs of free blocks.
    pub free: FreeExtents,
    /// How many files have blocks of their own.
    pub files: usize,
    /// How many of these files have blocks that do not all follow each other.
    pub fragmented: usize,
    /// How many runs a file has on average.
    pub runs_per_file: f64,
    /// How many blocks differ from the second image, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<usize>,
    /// Whether something is damaged or missing. A pair that belongs to no directory is damage,
    /// unless drivers of this dialect leave such pairs behind; in that case `check` reports only a
    /// note, too.
    pub damaged: bool,
}

impl Map {
    /// The figures.
    pub fn summary(&self) -> Summary {
        let mut classes = BTreeMap::new();
        for block in &self.blocks {
            *classes.entry(block.class).or_default() += 1;
        }
        let files = runs_of_files(self);
        let runs: u32 = files.iter().map(|(_, runs)| runs).sum();
        let missing = self.geometry.block_count - self.blocks.len() as u32;
        let changed = self.blocks.iter().filter(|block| block.change != Change::Same).count();
        Summary {
            block_size: self.geometry.block_size,
            block_count: self.geometry.block_count,
            missing,
            damaged: missing > 0
                || !self.survey.problems.is_empty()
                || [Class::Shared, Class::Bad].iter().any(|class| classes.contains_key(class)),
            classes,
            free: self.free_extents(),
            files: files.len(),
            fragmented: files.iter().filter(|(_, runs)| *runs > 1).count(),
            runs_per_file: f64::from(runs) / (files.len().max(1) as f64),
            changed: self.compared.then_some(changed),
        }
    }

    fn free_extents(&self) -> FreeExtents {
        let used = |block: &Block| !block.class.is_free();
        let lengths: Vec<u32> =
            (self.blocks.split(used)).map(|run| run.len() as u32).filter(|&len| len > 0).collect();
        let mut histogram: BTreeMap<u32, Extent> = BTreeMap::new();
        for &len in &lengths {
            let from = 1 << len.ilog2();
            let extent = histogram.entry(from).or_insert(Extent { from, extents: 0, blocks: 0 });
            extent.extents += 1;
            extent.blocks += len;
        }
        let blocks: u32 = lengths.iter().sum();
        FreeExtents {
            count: lengths.len() as u32,
            min: lengths.iter().copied().min().unwrap_or(0),
            max: lengths.iter().copied().max().unwrap_or(0),
            mean: f64::from(blocks) / (lengths.len().max(1) as f64),
            histogram: histogram.into_values().collect(),
        }
    }

    /// Consecutive blocks of one kind that belong to the same entry, and either follow each other
    /// in a file or belong to no file.
    pub fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut last: Option<&Block> = None;
        for (at, block) in self.blocks.iter().enumerate() {
            let goes_on = |before: &Block| {
                let steps = u32::from(block.class == Class::Data);
                (before.class, before.owner, before.change)
                    == (block.class, block.owner, block.change)
                    && before.index + steps == block.index
                    && before.revision.is_none()
                    && block.revision.is_none()
            };
            match (last, runs.last_mut()) {
                (Some(before), Some(run)) if goes_on(before) => run.count += 1,
                _ => runs.push(Run {
                    start: at as u32,
                    count: 1,
                    class: block.class,
                    path: self.owner(block),
                    index: (block.class == Class::Data).then_some(block.index),
                    revision: block.revision,
                    change: block.change,
                }),
            }
            last = Some(block);
        }
        runs
    }
}
