//! Looking for superblocks at every byte of a file.

use std::io;

use memchr::memmem;

use super::candidate::{self, Found};
use super::half::{Budget, Half, MAGIC_AT, SIGNATURE, V1_MAGIC_AT};
use super::{ReadAt, read_lenient};
use crate::bd::BLOCK_SIZE_MAX;
use crate::disk::superblock::{MAGIC, V1_ENTRY};

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;
/// Bytes before the magic that tell what it belongs to.
const BEFORE: usize = V1_MAGIC_AT as usize;
/// Bytes from the start of a superblock's entry of version 1 to the magic.
const V1_ENTRY_BEFORE: usize = 24;
/// Superblocks looked at. Real files have some dozens; a hostile one costs no more.
const HALVES_MAX: usize = 4096;
/// Places kept that begin like a superblock but hold no valid one.
const BROKEN_MAX: usize = 64;
/// Bytes that looking into blocks may read, besides the search itself.
const BUDGET: u64 = 256 << 20;

/// What a search found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Blocks with a valid superblock, by ascending position.
    pub halves: Vec<Half>,
    /// Byte positions of blocks that begin like a superblock, and hold no valid one.
    pub broken: Vec<u64>,
    /// Byte position at which the search ended.
    pub end: u64,
    /// Whether the search ended before the end of the source.
    pub cut_short: bool,
    /// Why some of the bytes could not be read.
    pub failed: Option<io::Error>,
}

impl Scan {
    /// Search the bytes from `from` on, at most `limit` of them.
    ///
    /// # Errors
    /// When the size of the source cannot be found out.
    pub fn new(source: &dyn ReadAt, from: u64, limit: u64) -> io::Result<Self> {
        let size = source.size()?;
        let mut scan = Self { end: size.min(from), ..Self::default() };
        let finder = memmem::Finder::new(MAGIC);
        let mut budget = Budget(BUDGET);
        // The start of a chunk repeats the end of the one before: a magic across the border is seen
        // once, by the chunk that holds all of it.
        let overlap = (MAGIC.len() - 1) as u64;
        let mut start = from;
        let mut left = limit;
        while start < size && left > 0 {
            // gaps are passed over, and do not count
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
                // it ends earlier than it said, or its device is dead from here on
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

    /// Look at what the magic at byte `magic` belongs to; `before` ends with it.
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

    /// The half in the block at byte `at`, if it is among those found.
    pub fn half_at(&self, at: u64) -> Option<Half> {
        let index = self.halves.binary_search_by_key(&at, |half| half.at).ok()?;
        self.halves.get(index).copied()
    }

    /// Halves that are block 1 of a filesystem at byte `at` by their own word.
    pub fn second_halves(&self, at: u64) -> impl Iterator<Item = Half> {
        let is_second = move |half: &&Half| {
            half.at.checked_sub(u64::from(half.superblock.block_size)) == Some(at)
        };
        self.halves.iter().filter(is_second).copied()
    }

    /// Whether a superblock that is no longer valid stands where a filesystem at byte `at` can have
    /// one.
    pub fn is_broken_at(&self, at: u64) -> bool {
        let can_be = |&p: &u64| {
            p.checked_sub(at).is_some_and(|d| d <= u64::from(BLOCK_SIZE_MAX) && d.is_multiple_of(4))
        };
        self.broken.iter().any(can_be)
    }

    /// The filesystems that the halves found belong to, by ascending position; those inside of a
    /// sound one are its content.
    pub fn candidates(&self, source: &dyn ReadAt) -> Vec<Found> {
        candidate::gather(source, self)
    }
}
