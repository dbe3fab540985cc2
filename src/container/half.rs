//! A block with a superblock: one half of the pair {0, 1}, or of the pair of a later root.
//!
//! ```text
//! version 2                       version 1
//! bytes 4-7   f0 0f ff f7 (tag)   bytes 16-27  entry header, root pair
//! bytes 8-15  "littlefs"          bytes 28-39  block size, block count, version
//!                                 bytes 40-47  "littlefs"
//! ```

use super::{ReadAt, read_lenient};
use crate::bd::{BLOCK_SIZE_MAX, BLOCK_SIZE_MIN};
use crate::disk::log::{self, Log, Parsed};
use crate::disk::superblock::{self, MAGIC};
use crate::disk::{Superblock, read_u32_le, rev_newer};

/// How many bytes of a block are read at first. They nearly always hold its whole log.
const FIRST_READ: usize = 4096;
/// Name tag and name of the superblock. They are always the first tag of a block.
pub const SIGNATURE: &[u8; 12] = b"\xf0\x0f\xff\xf7littlefs";
/// Position of [`SIGNATURE`] in a block.
pub const SIGNATURE_AT: u64 = 4;
/// Position of the magic in a block of version 2.
pub const MAGIC_AT: u64 = 8;
/// Position of the magic in a block of version 1.
pub const V1_MAGIC_AT: u64 = 40;

/// A block with a valid superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Half {
    /// Byte position of the block.
    pub at: u64,
    /// The content of the superblock. For version 1, it has the limits of that version.
    pub superblock: Superblock,
    /// The revision count of the block.
    pub rev: u32,
}

/// How many bytes may still be read to examine blocks. This bounds the time that a hostile file can
/// take.
#[derive(Debug, Clone, Copy)]
pub struct Budget(pub u64);

impl Half {
    /// The superblock, of either version, in the block at byte `at`.
    ///
    /// The block ends where its superblock says, even if the log seems to continue in the next one.
    pub fn read(source: &dyn ReadAt, at: u64, budget: &mut Budget) -> Option<Self> {
        let (mut bytes, _) = read_lenient(source, at, FIRST_READ);
        budget.0 = budget.0.saturating_sub(FIRST_READ as u64);
        if has_signature_of_version1(&bytes) {
            return Self::read_version1(source, at, bytes, budget);
        }
        if !has_signature(&bytes) {
            return None;
        }
        let mut limit = BLOCK_SIZE_MAX as usize;
        loop {
            let log = match log::parse(&bytes, limit) {
                Parsed::Empty(_) => return None,
                Parsed::Log(log) => log,
                Parsed::NeedMore => {
                    let had = bytes.len();
                    let len = (had * 4).min(limit);
                    budget.0 = budget.0.checked_sub(len as u64)?;
                    bytes = read_lenient(source, at, len).0;
                    if bytes.len() == had {
                        // the source ends here
                        limit = had;
                    }
                    continue;
                }
            };
            let superblock = Superblock::of(&log)?;
            let block_size = superblock.block_size as usize;
            if log.off as usize <= block_size || block_size < BLOCK_SIZE_MIN as usize {
                return Some(Self { at, superblock, rev: log.rev });
            }
            // the log seemed to continue in the next block
            bytes.truncate(block_size);
            limit = block_size;
        }
    }

    fn read_version1(
        source: &dyn ReadAt,
        at: u64,
        mut bytes: Vec<u8>,
        budget: &mut Budget,
    ) -> Option<Self> {
        let len = superblock::version1_len(&bytes)?;
        if len > bytes.len() {
            budget.0 = budget.0.checked_sub(len as u64)?;
            bytes = read_lenient(source, at, len).0;
        }
        let (superblock, rev) = superblock::probe_version1(&bytes)?;
        Some(Self { at, superblock, rev })
    }

    /// Whether this is version 1.
    pub fn is_version1(&self) -> bool {
        self.superblock.is_version1()
    }

    /// Whether two halves belong to the same pair: their revisions are next to each other, or their
    /// superblocks are the same.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.superblock.block_size == other.superblock.block_size
            && self.is_version1() == other.is_version1()
            && (self.superblock == other.superblock || are_neighbours(self.rev, other.rev))
    }

    /// The newer of two halves of a pair.
    pub fn newer(self, other: Self) -> Self {
        if rev_newer(other.rev, self.rev) { other } else { self }
    }
}

/// What is in the place of a lost superblock. The later the variant, the more the place looks as if
/// a superblock was being written there.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remains {
    /// Something else. A driver erases a block before it writes a superblock there.
    Other,
    /// An erased block. The power failed before anything was written.
    Erased,
    /// The beginning of a superblock: its first tag, or a revision count next to that of the other
    /// one.
    Torn,
}

impl Remains {
    /// What is in the block of `block` bytes at byte `at`, if the other superblock has the revision
    /// `rev`.
    pub fn of(source: &dyn ReadAt, at: u64, rev: u32, block: u64) -> Self {
        let len = usize::try_from(block).unwrap_or(usize::MAX).min(4096);
        let (bytes, failed) = read_lenient(source, at, len);
        let is_erased = |erased| bytes.iter().all(|&b| b == erased);
        let rev_here = read_u32_le(&bytes, 0);
        if has_signature(&bytes) || has_signature_of_version1(&bytes) {
            Self::Torn
        } else if failed.is_none() && (is_erased(0xff) || is_erased(0)) {
            Self::Erased
        } else if rev_here.is_some_and(|r| r != rev && are_neighbours(r, rev)) {
            Self::Torn
        } else {
            Self::Other
        }
    }
}

/// Whether blocks with these revisions can be the two blocks of a pair.
pub fn are_neighbours(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).wrapping_add(1) <= 2
}

/// Whether a block of version 2 begins like a superblock.
pub fn has_signature(block: &[u8]) -> bool {
    block.get(SIGNATURE_AT as usize..).is_some_and(|rest| rest.starts_with(SIGNATURE))
}

/// Whether a block of version 1 begins like a superblock.
pub fn has_signature_of_version1(block: &[u8]) -> bool {
    has_magic(block, V1_MAGIC_AT)
}

fn has_magic(block: &[u8], at: u64) -> bool {
    block.get(at as usize..).is_some_and(|rest| rest.starts_with(MAGIC))
}

/// The log in the block of `block_size` bytes at byte `at`.
pub fn read_log(source: &dyn ReadAt, at: u64, block_size: u32) -> Option<Box<Log>> {
    let mut len = FIRST_READ.min(block_size as usize);
    loop {
        let (bytes, _) = read_lenient(source, at, len);
        let limit = if bytes.len() < len { bytes.len() } else { block_size as usize };
        match log::parse(&bytes, limit) {
            Parsed::NeedMore => len = (len * 4).min(limit),
            Parsed::Empty(_) => return None,
            Parsed::Log(log) => return Some(log),
        }
    }
}
