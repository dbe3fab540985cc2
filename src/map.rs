//! What each block of an image is used for, as text, JSON, SVG or an HTML page.
//!
//! [`Map::new`] walks the filesystem, and reads the blocks that nothing uses. `docs/map.md`
//! explains the output.

mod columns;
mod page;
mod picture;
mod summary;
mod verify;

use crate::bd::{BlockDevice, Geometry, IoResult};
use crate::disk::log::{Parsed, parse};
use crate::disk::{ListIndex, ctz, read_u32_le};
use crate::inspect::survey::{Kind, PathNumbers, Survey, Use};

pub use columns::Labels;
pub use page::html;
pub use picture::{svg, text};
pub use summary::{Extent, FreeExtents, Run, Summary};
pub use verify::{
    BlockDifference, Difference, Kind as DifferenceKind, Verdict, verify, verify_dialect,
};

/// The largest number of blocks in a map.
pub const BLOCKS_MAX: u32 = 1 << 24;
/// How many bytes are read at a time.
const CHUNK: usize = 1 << 20;

/// The kind of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Class {
    /// Free, and every byte reads 0xFF.
    Erased,
    /// Free, but not erased.
    Written,
    /// Free, but it holds a metadata log to which no pointer leads.
    Stale,
    /// Content of a file.
    Data,
    /// The half of a metadata pair that is not live.
    Other,
    /// The live half of a metadata pair.
    Live,
    /// The half of the superblock pair that is not live.
    SuperblockOther,
    /// The live half of the superblock pair.
    SuperblockLive,
    /// A part of a pair that is in the thread, but belongs to no directory of the tree.
    Unreachable,
    /// Used more than once.
    Shared,
    /// It cannot be read.
    Bad,
}

impl Class {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Erased,
        Self::Written,
        Self::Stale,
        Self::Data,
        Self::Other,
        Self::Live,
        Self::SuperblockOther,
        Self::SuperblockLive,
        Self::Unreachable,
        Self::Shared,
        Self::Bad,
    ];

    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Erased => "free, erased",
            Self::Written => "free, written",
            Self::Stale => "free, old metadata",
            Self::Data => "file data",
            Self::Other => "metadata, other half",
            Self::Live => "metadata, live half",
            Self::SuperblockOther => "superblock, other half",
            Self::SuperblockLive => "superblock, live half",
            Self::Unreachable => "unreachable metadata",
            Self::Shared => "used more than once",
            Self::Bad => "unreadable",
        }
    }

    /// The character that stands for it in a text map.
    pub fn letter(self) -> char {
        match self {
            Self::Erased => '.',
            Self::Written => '-',
            Self::Stale => '~',
            Self::Data => 'd',
            Self::Other => 'm',
            Self::Live => 'M',
            Self::SuperblockOther => 's',
            Self::SuperblockLive => 'S',
            Self::Unreachable => '?',
            Self::Shared => 'X',
            Self::Bad => '!',
        }
    }

    /// Whether nothing uses the block.
    pub fn is_free(self) -> bool {
        matches!(self, Self::Erased | Self::Written | Self::Stale)
    }

    /// Whether it is a sign of damage.
    pub fn is_damage(self) -> bool {
        matches!(self, Self::Unreachable | Self::Shared | Self::Bad)
    }
}

/// One block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Its kind.
    pub class: Class,
    /// How much of it is written, from 0 to 255.
    pub fill: u8,
    /// The entry it belongs to, as an index of the survey's nodes, if there is one.
    pub owner: Option<u32>,
    /// Its index in the list of its file.
    pub index: u32,
    /// Revision of a metadata block.
    pub revision: Option<u32>,
    /// How it differs from the same block of a second image.
    pub change: Change,
}

/// How a block differs from the same block of a second image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Change {
    /// Every byte is the same, or there is no second image.
    #[default]
    Same,
    /// The bytes differ, but it is used for the same thing.
    Content,
    /// It has another kind, or belongs to something else.
    Use,
    /// Only one of the images has it.
    Missing,
}

/// All blocks of an image.
pub struct Map {
    /// Size and number of blocks, from the superblock.
    pub geometry: Geometry,
    /// What the walk over the filesystem found.
    pub survey: Survey,
    /// The blocks that the image file holds.
    pub blocks: Vec<Block>,
    /// Whether it was compared with a second image.
    pub compared: bool,
}

impl Map {
    /// The map of the filesystem on `dev`. Only its first `present` blocks are in the file.
    ///
    /// # Errors
    /// A sentence for people, if there are too many blocks for a map.
    pub fn new(dev: &dyn BlockDevice, present: u32) -> Result<Self, String> {
        Self::with_survey(dev, present, |dev| Ok(Survey::new(dev)))
    }

    /// The same, with the result of a walk over an image of another dialect.
    ///
    /// # Errors
    /// Those of [`Map::new`], and those of the walk.
    pub fn with_survey(
        dev: &dyn BlockDevice,
        present: u32,
        survey: impl FnOnce(&dyn BlockDevice) -> crate::Result<Survey>,
    ) -> Result<Self, String> {
        let geometry = dev.geometry();
        let count = geometry.block_count.min(present);
        if count > BLOCKS_MAX {
            return Err(format!("has {count} blocks, but a map can show at most {BLOCKS_MAX}"));
        }
        let survey = survey(dev).map_err(|e| e.to_string())?;
        let mut blocks: Vec<Block> = (0..count).map(|block| used(&survey, block)).collect();
        look(dev, &survey, &mut blocks);
        Ok(Self { geometry, survey, blocks, compared: false })
    }

    /// Note how each block differs from the same block of `other`. The blocks of `other` are on
    /// `there`, and the blocks of this map are on `here`.
    ///
    /// # Errors
    /// If the block sizes differ.
    pub fn compare(
        &mut self,
        here: &dyn BlockDevice,
        other: &Self,
        there: &dyn BlockDevice,
    ) -> Result<(), String> {
        let size = self.geometry.block_size as usize;
        if self.geometry.block_size != other.geometry.block_size {
            return Err(format!(
                "blocks of {} bytes cannot be compared with blocks of {} bytes",
                self.geometry.block_size, other.geometry.block_size
            ));
        }
        self.compared = true;
        let mut numbers = PathNumbers::new();
        let [paths, other_paths] = [self, other].map(|map| map.survey.path_numbers(&mut numbers));
        let path = |paths: &[usize], block: &Block| {
            block.owner.and_then(|at| paths.get(at as usize).copied())
        };
        let same_use = |a: &Block, b: &Block| {
            (a.class, a.index) == (b.class, b.index) && path(&paths, a) == path(&other_paths, b)
        };
        let mut changes = Vec::with_capacity(self.blocks.len());
        let per_chunk = (CHUNK / size).max(1);
        let (mut ours, mut theirs) = (vec![0; per_chunk * size], vec![0; per_chunk * size]);
        for (k, chunk) in self.blocks.chunks(per_chunk).enumerate() {
            let first = (k * per_chunk) as u32;
            let len = chunk.len() * size;
            let bytes_here = here.read(first, 0, &mut ours[..len]).is_ok();
            let behind = other.blocks.get(first as usize..).unwrap_or_default();
            let len = chunk.len().min(behind.len()) * size;
            let bytes_there = there.read(first, 0, &mut theirs[..len]).is_ok();
            for (i, block) in chunk.iter().enumerate() {
                let range = i * size..(i + 1) * size;
                changes.push(match behind.get(i) {
                    None => Change::Missing,
                    Some(_)
                        if bytes_here && bytes_there && ours[range.clone()] == theirs[range] =>
                    {
                        Change::Same
                    }
                    Some(b) if same_use(block, b) => Change::Content,
                    Some(_) => Change::Use,
                });
            }
        }
        for (block, change) in self.blocks.iter_mut().zip(changes) {
            block.change = change;
        }
        Ok(())
    }

    /// What a block belongs to, in words; empty if nothing uses it.
    pub fn owner(&self, block: &Block) -> String {
        block.owner.map_or(String::new(), |at| self.survey.path(at as usize))
    }
}

/// The kind of a block according to the walk alone.
fn used(survey: &Survey, block: u32) -> Block {
    let free = Block {
        class: Class::Erased,
        fill: 0,
        owner: None,
        index: 0,
        revision: None,
        change: Change::Same,
    };
    let Some(of) = survey.use_of(block) else { return free };
    let part = |bytes: u64| (bytes * 255 / u64::from(survey.geometry.block_size)).min(255) as u8;
    let mut seen = match of {
        Use::Data(node, index) => {
            let size = survey.nodes.get(node).map_or(0, |node| u64::from(node.size()));
            let (at, block_size) = (ListIndex(index), survey.geometry.block_size);
            let (start, end) =
                (ctz::start(block_size, at), ctz::start(block_size, at + 1).min(size));
            let bytes = u64::from(ctz::data_offset(at)) + end.saturating_sub(start);
            let owner = Some(node as u32);
            Block { class: Class::Data, fill: part(bytes), owner, index, ..free }
        }
        Use::Live(at) | Use::Twin(at) => {
            let is_live = matches!(of, Use::Live(_));
            let Some(pair) = survey.pairs.get(at) else { return free };
            let node = pair.dir.and_then(|dir| survey.nodes.get(dir));
            let orphan = node.is_some_and(|node| node.parent.is_none() && !node.name.is_empty());
            let class = match (pair.superblock.is_some(), is_live) {
                (true, true) => Class::SuperblockLive,
                (true, false) => Class::SuperblockOther,
                _ if orphan || pair.dir.is_none() => Class::Unreachable,
                (false, true) => Class::Live,
                (false, false) => Class::Other,
            };
            let revision = if is_live { pair.rev } else { pair.twin_rev };
            let owner = pair.dir.map(|dir| dir as u32);
            let fill = if is_live { part(u64::from(pair.used)) } else { 0 };
            Block { class, fill, owner, revision: Some(revision), ..free }
        }
    };
    if survey.shared_with(block).is_some() {
        seen.class = Class::Shared;
    }
    seen
}

/// Look at the bytes of free blocks and of the halves that are not live.
fn look(dev: &dyn BlockDevice, survey: &Survey, blocks: &mut [Block]) {
    let size = survey.geometry.block_size as usize;
    let per_chunk = (CHUNK / size).max(1);
    let mut bytes = vec![0; per_chunk * size];
    let erased = vec![0xff; size];
    let read_one = |block: u32, buf: &mut [u8]| -> IoResult<()> { dev.read(block, 0, buf) };
    for (k, chunk) in blocks.chunks_mut(per_chunk).enumerate() {
        let wanted = |block: &Block| {
            block.class.is_free() || matches!(block.class, Class::Other | Class::SuperblockOther)
        };
        if !chunk.iter().any(wanted) {
            continue;
        }
        let first = (k * per_chunk) as u32;
        let whole = dev.read(first, 0, &mut bytes[..chunk.len() * size]).is_ok();
        for (i, block) in chunk.iter_mut().enumerate().filter(|(_, block)| wanted(block)) {
            let bytes = &mut bytes[i * size..(i + 1) * size];
            if !whole && read_one(first + i as u32, bytes).is_err() {
                block.class = Class::Bad;
                continue;
            }
            if *bytes == erased[..] {
                // the other half of a new pair may never have been written
                block.revision = None;
                continue;
            }
            let written = bytes.iter().rposition(|&b| b != 0xff).map_or(0, |at| at + 1);
            block.fill = (written * 255 / size).max(1) as u8;
            if !block.class.is_free() {
                continue;
            }
            block.class = match parse(bytes, size) {
                Parsed::Log(_) => Class::Stale,
                _ => Class::Written,
            };
            if block.class == Class::Stale {
                block.revision = read_u32_le(bytes, 0);
            }
        }
    }
}

/// In how many runs the blocks of each file lie. Within a run, each block directly follows the one
/// before it.
fn runs_of_files(map: &Map) -> Vec<(usize, u32)> {
    let mut runs: Vec<(usize, u32)> = vec![(0, 0); map.survey.nodes.len()];
    let mut previous: Option<(u32, u32)> = None;
    for block in &map.blocks {
        let here = block.owner.filter(|_| block.class == Class::Data).map(|at| (at, block.index));
        if let Some((at, index)) = here
            && let Some((blocks, count)) = runs.get_mut(at as usize)
        {
            *blocks += 1;
            let goes_on =
                previous.is_some_and(|(owner, before)| owner == at && before + 1 == index);
            *count += u32::from(!goes_on);
        }
        previous = here;
    }
    let is_list = |at: &usize| {
        map.survey.nodes.get(*at).is_some_and(|node| matches!(node.kind, Kind::List { .. }))
    };
    runs.into_iter().enumerate().filter(|(at, _)| is_list(at)).map(|(_, run)| run).collect()
}
