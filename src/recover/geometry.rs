//! The block size of an image without a superblock.

use crate::bd::{BLOCK_SIZE_MAX, BLOCK_SIZE_MIN, BlockDevice, Geometry};
use crate::container::{ReadAt, Window};
use crate::disk::log::{Parsed, parse};
use crate::disk::{Pair, Superblock, read_u32_le, tag};

/// Bytes of the image that are looked at.
const SEARCHED: u64 = 64 << 20;

/// How well a block size explains an image: what counts more comes first.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    /// Superblocks that state it.
    superblocks: u32,
    /// Pointers in metadata that lead to metadata, and in lists that agree with each other.
    pointers: u32,
    /// Bytes in commits.
    bytes: u64,
}

/// Find the block size, in bytes, of the filesystem from byte `at` of `source` on, by what its metadata
/// and its lists say of each other. `None` if nothing in it speaks for any.
pub fn guess_block_size(source: &dyn ReadAt, at: u64) -> Option<u32> {
    let size = source.size().ok()?.saturating_sub(at).min(SEARCHED);
    let smallest = BLOCK_SIZE_MIN.next_power_of_two().trailing_zeros();
    let sizes = (smallest..=BLOCK_SIZE_MAX.trailing_zeros()).map(|shift| 1_u32 << shift);
    let possible = sizes.filter(|&block_size| u64::from(block_size) * 2 <= size);
    // a log is found at smaller block sizes, too, which explain it as well if it is short
    let scored = possible.filter_map(|block_size| {
        let count = u32::try_from(size / u64::from(block_size)).ok()?;
        let geometry = Geometry::new(block_size, count).ok()?;
        Some((score(&Window::new(source, at, geometry)), block_size))
    });
    let (best, block_size) = scored.max()?;
    (best != Score::default()).then_some(block_size)
}

fn score(dev: &dyn BlockDevice) -> Score {
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
        let Parsed::Log(log) = parse(&bytes, bytes.len()) else {
            words[block as usize] = [word(0), word(4)];
            continue;
        };
        is_metadata[block as usize] = true;
        score.bytes += u64::from(log.off);
        score.superblocks +=
            u32::from(Superblock::of(&log).is_some_and(|s| s.block_size == block_size));
        pairs.extend(log.tail.map(|tail| tail.pair));
        let structs = log.entries.iter().filter_map(|entry| entry.data.as_ref());
        let dirs = structs.filter(|(ty, _)| *ty == tag::DIRSTRUCT);
        pairs.extend(dirs.filter_map(|(_, data)| Pair::from_bytes(data)));
    }
    let leads = |pair: &Pair| pair.0.iter().any(|&b| is_metadata.get(b as usize) == Some(&true));
    score.pointers += pairs.iter().filter(|pair| leads(pair)).count() as u32;
    // every other block of a list names the two blocks before it, of which the later names the earlier
    let agrees = |&[one, two]: &[u32; 2]| {
        one != two
            && words.get(one as usize).is_some_and(|&[before, _]| before == two)
            && words.get(two as usize).is_some()
    };
    score.pointers += words.iter().filter(|words| agrees(words)).count() as u32;
    score
}
