//! The block size of an image without a superblock.

use crate::bd::{BLOCK_SIZE_MAX, BLOCK_SIZE_MIN, BlockDevice, Geometry};
use crate::container::{ReadAt, Window};
use crate::disk::log::{Parsed, parse};
use crate::disk::{Pair, Superblock, entry, read_u32_le};
use crate::image::Dialect;
use crate::v1::block;

use super::version1;

/// How many bytes of the image are examined.
const SEARCHED: u64 = 64 << 20;

/// How well a block size explains an image. The most important evidence comes first.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    /// How many superblocks state it.
    superblocks: u32,
    /// How many pointers in metadata lead to metadata, and how many pointers in lists agree.
    pointers: u32,
    /// How many bytes are in commits.
    bytes: u64,
}

/// Find the dialect and the block size, in bytes, of the filesystem that starts at byte `at` of
/// `source`, from its metadata and its lists. `None` if there is no evidence.
pub fn guess(source: &dyn ReadAt, at: u64, dialects: &[Dialect]) -> Option<(Dialect, u32)> {
    let size = source.size().ok()?.saturating_sub(at).min(SEARCHED);
    let smallest = BLOCK_SIZE_MIN.next_power_of_two().trailing_zeros();
    let sizes = (smallest..=BLOCK_SIZE_MAX.trailing_zeros()).map(|shift| 1_u32 << shift);
    let possible = sizes.filter(|&block_size| u64::from(block_size) * 2 <= size);
    // a log is also found with block sizes that are too small; they explain a short log equally
    // well
    let scored = possible.filter_map(|block_size| {
        let count = u32::try_from(size / u64::from(block_size)).ok()?;
        let geometry = Geometry::new(block_size, count).ok()?;
        let window = Window::new(source, at, geometry);
        let scored = dialects.iter().map(|&dialect| (score(&window, dialect), block_size, dialect));
        scored.max_by_key(|(score, ..)| (score.superblocks, score.bytes))
    });
    let best = scored.max_by(|(a, a_size, _), (b, b_size, _)| (a, a_size).cmp(&(b, b_size)));
    let (best, block_size, dialect) = best?;
    (best != Score::default()).then_some((dialect, block_size))
}

/// The dialect that explains more of the metadata on `dev`.
pub fn dialect_of(dev: &dyn BlockDevice) -> Dialect {
    let bytes = |dialect| score(dev, dialect).bytes;
    match bytes(Dialect::V1) > bytes(Dialect::Littlefs) {
        true => Dialect::V1,
        false => Dialect::Littlefs,
    }
}

fn score(dev: &dyn BlockDevice, dialect: Dialect) -> Score {
    let Geometry { block_size, block_count } = dev.geometry();
    let mut score = Score::default();
    let mut is_metadata = vec![false; block_count as usize];
    let mut words = vec![[u32::MAX; 2]; block_count as usize];
    let mut pairs: Vec<Pair> = Vec::new();
    let mut bytes = vec![0; block_size as usize];
    for block in 0..block_count {
        if dev.read(block, 0, &mut bytes).is_err() {
            continue;
        }
        let word = |at| read_u32_le(&bytes, at).unwrap_or(u32::MAX);
        if word(0) == u32::MAX && word(4) == u32::MAX {
            continue;
        }
        let Some(said) = Said::of(&bytes, dialect) else {
            words[block as usize] = [word(0), word(4)];
            continue;
        };
        is_metadata[block as usize] = true;
        score.bytes += u64::from(said.bytes);
        score.superblocks += u32::from(said.block_size == Some(block_size));
        pairs.extend(said.pairs);
    }
    let leads = |pair: &Pair| pair.0.iter().any(|&b| is_metadata.get(b as usize) == Some(&true));
    score.pointers += pairs.iter().filter(|pair| leads(pair)).count() as u32;
    // every second block of a list names the two blocks before it, and the later of these names the
    // earlier one
    let agrees = |&[one, two]: &[u32; 2]| {
        one != two
            && words.get(one as usize).is_some_and(|&[before, _]| before == two)
            && words.get(two as usize).is_some()
    };
    score.pointers += words.iter().filter(|words| agrees(words)).count() as u32;
    score
}

/// The evidence for a block size in a metadata block.
struct Said {
    /// How many bytes are in use.
    bytes: u32,
    /// The block size in a superblock.
    block_size: Option<u32>,
    /// The pairs to which tails and entries lead.
    pairs: Vec<Pair>,
}

impl Said {
    fn of(bytes: &[u8], dialect: Dialect) -> Option<Self> {
        if dialect == Dialect::V1 {
            let (_, block) = block::of_bytes(bytes)?;
            let used = read_u32_le(bytes, 4)? & !block::CONTINUES;
            let pairs = version1::directories(bytes).into_iter().chain(block.next()).collect();
            let block_size = version1::superblock(bytes).map(|(s, _)| s.block_size);
            return Some(Self { bytes: used, block_size, pairs });
        }
        let Parsed::Log(log) = parse(bytes, bytes.len()) else { return None };
        let mut pairs: Vec<Pair> = log.tail.map(|tail| tail.pair).into_iter().collect();
        pairs.extend(entry::dirs(&log.entries));
        let block_size = Superblock::of(&log).map(|s| s.block_size);
        Some(Self { bytes: log.off, block_size, pairs })
    }
}
