//! Searching every byte of a file for superblocks.

use std::io;

use memchr::memmem;

use super::candidate::{self, Found};
use super::half::{Budget, Half, MAGIC_AT, SIGNATURE, V1_MAGIC_AT};
use super::{ReadAt, read_lenient};
use crate::bd::BLOCK_SIZE_MAX;
use crate::disk::superblock::{MAGIC, V1_ENTRY};

/// How many bytes are read at a time.
const CHUNK: usize = 1 << 20;
/// How many bytes before the magic are needed to see what it belongs to.
const BEFORE: usize = V1_MAGIC_AT as usize;
/// How many bytes there are from the start of the superblock's entry in version 1 to its magic.
const V1_ENTRY_BEFORE: usize = 24;
/// How many superblocks are examined. Real files have some dozens; this bounds the time that a
/// hostile one can take.
const HALVES_MAX: usize = 4096;
/// How many places are kept that begin like a superblock but hold no valid one.
const BROKEN_MAX: usize = 64;
/// How many bytes may be read to examine blocks, in addition to the search itself.
const BUDGET: u64 = 256 << 20;

/// What a search found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Blocks with a valid superblock, in ascending order of their positions.
    pub halves: Vec<Half>,
    /// The positions of blocks that begin like a superblock but hold no valid one.
    pub broken: Vec<u64>,
    /// The position at which the search ended.
    pub end: u64,
    /// Whether the search ended before the end of the source.
    pub cut_short: bool,
    /// Why some of the bytes could not be read.
    pub failed: Option<io::Error>,
}

impl Scan {
    /// Search at most `limit` bytes, beginning at position `from`.
    ///
    /// # Errors
    /// If the size of the source cannot be determined.
    pub fn new(source: &dyn ReadAt, from: u64, limit: u64) -> io::Result<Self> {
        let size = source.size()?;
        let mut scan = Self { end: size.min(from), ..Self::default() };
        let finder = memmem::Finder::new(MAGIC);
        let mut budget = Budget(BUDGET);
        // The start of a chunk repeats the end of the chunk before: one byte less than the length
        // of the magic. So a magic across the border is found exactly once, in the chunk that holds
        // all of it.
        let overlap = (MAGIC.len() - 1) as u64;
        let mut start = from;
        let mut left = limit;
        while start < size && left > 0 {
            // gaps are skipped and do not count towards the limit
            match source.data_from(start) {
                Some(at) if at > start => start = at,
                Some(_) => {}
                None => {
                    scan.end = size;
                    break;
                }
            }
            scan.end = size.min(start.saturating_add(left));
            let len = usize::try_from(scan.end - start).unwrap_or(CHUNK).min(CHUNK);
            let lead = BEFORE.min(usize::try_from(start).unwrap_or(BEFORE));
            let (bytes, failed) = read_lenient(source, start - lead as u64, lead + len);
            scan.failed = failed.or(scan.failed.take());
            for p in finder.find_iter(bytes.get(lead..).unwrap_or_default()) {
                if scan.halves.len() >= HALVES_MAX || budget.0 == 0 {
                    scan.end = start + p as u64;
                    scan.cut_short = true;
                    return Ok(scan);
                }
                let before = bytes.get(..lead + p + MAGIC.len()).unwrap_or_default();
                scan.look(source, start + p as u64, before, &mut budget);
            }
            if bytes.len() < lead + len {
                // the source is shorter than its reported size, or its device fails from here on
                break;
            }
            start += len as u64;
            left -= (len as u64).min(left);
            if start < scan.end {
                start -= overlap;
                left += overlap;
            }
        }
        scan.cut_short = left == 0 && scan.end < size;
        scan.halves.sort_by_key(|half| half.at);
        Ok(scan)
    }

    /// Examine what the magic at byte `magic` belongs to. `before` ends with the magic.
    fn look(&mut self, source: &dyn ReadAt, magic: u64, before: &[u8], budget: &mut Budget) {
        let is_version2 = before.ends_with(SIGNATURE);
        let before_magic = before.len().saturating_sub(MAGIC.len() + V1_ENTRY_BEFORE);
        if !is_version2 && !before[before_magic..].starts_with(&V1_ENTRY) {
            return;
        }
        let place = if is_version2 { MAGIC_AT } else { V1_MAGIC_AT };
        let Some(at) = magic.checked_sub(place) else { return };
        match Half::read(source, at, budget) {
            Some(half) => self.halves.push(half),
            None if self.broken.len() < BROKEN_MAX => self.broken.push(at),
            None => {}
        }
    }

    /// The valid superblock in the block at byte `at`, if the search found one.
    pub fn half_at(&self, at: u64) -> Option<Half> {
        let index = self.halves.binary_search_by_key(&at, |half| half.at).ok()?;
        self.halves.get(index).copied()
    }

    /// The superblocks that are block 1 of a filesystem at byte `at`, according to their own block
    /// size.
    pub fn second_halves(&self, at: u64) -> impl Iterator<Item = Half> {
        let is_second = move |half: &&Half| {
            half.at.checked_sub(u64::from(half.superblock.block_size)) == Some(at)
        };
        self.halves.iter().filter(is_second).copied()
    }

    /// Whether a filesystem at byte `at` can have a superblock where the search found one that is
    /// no longer valid.
    pub fn is_broken_at(&self, at: u64) -> bool {
        let can_be = |&p: &u64| {
            p.checked_sub(at).is_some_and(|d| d <= u64::from(BLOCK_SIZE_MAX) && d.is_multiple_of(4))
        };
        self.broken.iter().any(can_be)
    }

    /// The filesystems that the superblocks belong to, in ascending order of their positions. Those
    /// inside a sound one are its content and are left out.
    pub fn candidates(&self, source: &dyn ReadAt) -> Vec<Found> {
        candidate::gather(source, self)
    }
}
