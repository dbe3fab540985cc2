//! Finding the superblock pair, {0, 1}, in an image of unknown block size.
//!
//! Block 0 is at a known place and tells the block size. When it is damaged, block 1 holds the
//! same superblock at byte `block_size`, which it also tells: a match of the two is no accident.
//!
//! ```text
//! version 2, both blocks          version 1, both blocks
//! bytes 0-3   revision            bytes  0-15  revision, size, tail
//! bytes 4-7   f0 0f ff f7 (tag)   bytes 16-27  entry header, root pair
//! bytes 8-15  "littlefs"          bytes 28-39  block size, block count, version
//!                                 bytes 40-47  "littlefs"
//! ```

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Reason;
use crate::bd::file::read_up_to;
use crate::bd::{BLOCK_SIZE_MAX, BLOCK_SIZE_MIN};
use crate::disk::log::{self, Parsed};
use crate::disk::superblock::{self, MAGIC};
use crate::disk::{Pair, Superblock, Tail, read_u32_le, rev_newer};

/// Bytes of block 0 that nearly always hold a whole log, and always do for smaller blocks.
const FIRST_READ: usize = 64 << 10;
/// Where block 1 starts at the latest.
pub(super) const SCAN_END: usize = BLOCK_SIZE_MAX as usize;
/// The superblock's name tag and name as the first tag of a block, which they always are.
const SIGNATURE: &[u8; 12] = b"\xf0\x0f\xff\xf7littlefs";
/// Position of [`SIGNATURE`] in a block.
const SIGNATURE_AT: usize = 4;
/// Position of the magic in a block of version 1, and of the block size before it.
const V1_MAGIC_AT: usize = 40;
const V1_BLOCK_SIZE_AT: usize = 28;
/// Where a device fails to read, the rest is read in pieces of so many bytes.
const PIECE: usize = 4096;
/// Pieces that may fail: a device that is dead altogether takes long to say so each time.
const FAILURES_MAX: usize = 16;
/// Signatures to try as block 1. Real images have one or two; a hostile one costs no more.
const CANDIDATES_MAX: usize = 64;

/// What [`locate`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Located {
    /// The newer of the valid superblocks.
    Superblock(Superblock),
    /// A superblock of littlefs version 1.
    Version1,
    /// The magic in the right place, but no valid commit.
    Damaged,
    /// A sound superblock that belongs to a filesystem starting this many bytes further on.
    Further(u64),
    /// No trace of a littlefs.
    Nothing,
}

impl Located {
    /// The superblock, or why there is none.
    pub(super) fn into_superblock(self) -> Result<Superblock, Reason> {
        match self {
            Self::Superblock(superblock) => Ok(superblock),
            Self::Version1 => Err(Reason::Version1),
            Self::Damaged => Err(Reason::SuperblocksDamaged),
            Self::Further(bytes) => Err(Reason::Further(bytes)),
            Self::Nothing => Err(Reason::NotLittlefs),
        }
    }
}

/// Look for a superblock in the filesystem that starts at byte `offset`, by either half.
///
/// # Errors
/// When none is found, and part of the file cannot be read.
pub fn locate(file: &File, offset: u64) -> io::Result<Located> {
    let (mut bytes, mut failed) = read_vec(file, offset, FIRST_READ);
    let mut at_zero = superblock::probe(&bytes);
    let has_magic = has_signature(&bytes, 0);
    if at_zero.is_none() {
        if is_version1(&bytes, 0) {
            return Ok(Located::Version1);
        }
        let len = SCAN_END + SIGNATURE_AT + SIGNATURE.len();
        (bytes, failed) = read_vec(file, offset, len);
        if has_magic {
            at_zero = superblock::probe(&bytes);
        }
    }
    if let Some((found, _)) = at_zero {
        // The log may go on behind what was read: read the pair in its true size.
        if let Some(newest) = at_block_size(file, offset, found.block_size) {
            return Ok(Located::Superblock(newest));
        }
        return Ok(Located::Superblock(found));
    }

    let (mut damaged, mut further) = (has_magic, None);
    for start in candidates(&bytes).take(CANDIDATES_MAX) {
        damaged = true;
        if let Some(found) = at_block_size(file, offset, start) {
            return Ok(Located::Superblock(found));
        }
        if further.is_none() && !has_magic {
            let start = u64::from(start);
            let (block, _) = read_vec(file, offset.saturating_add(start), FIRST_READ);
            further = superblock::probe(&block).map(|_| start);
        }
    }
    if let Some(e) = failed {
        return Err(e);
    }
    let version1 = |p: usize| p >= BLOCK_SIZE_MIN as usize && is_version1(&bytes, p);
    Ok(if magics(&bytes).filter_map(|p| p.checked_sub(V1_MAGIC_AT)).any(version1) {
        Located::Version1
    } else if let Some(bytes) = further {
        Located::Further(bytes)
    } else if damaged {
        Located::Damaged
    } else {
        Located::Nothing
    })
}

/// The newer superblock of the pair {0, 1} for one block size, if it agrees with that size.
pub fn at_block_size(file: &File, offset: u64, block_size: u32) -> Option<Superblock> {
    newest(file, offset, block_size, Pair::SUPERBLOCK).map(|(superblock, _)| superblock)
}

/// The copy that counts: each expansion of the superblock made a new root behind the old one, and
/// drivers that grow a filesystem update the last only.
pub fn at_root(file: &File, offset: u64, anchor: Superblock) -> Superblock {
    let (mut last, mut pair, mut seen) = (anchor, Pair::SUPERBLOCK, HashSet::new());
    while pair.0.iter().all(|&block| seen.insert(block)) {
        let Some((superblock, block)) = newest(file, offset, anchor.block_size, pair) else {
            break;
        };
        last = superblock;
        let Parsed::Log(log) = log::parse(&block, block.len()) else { break };
        match log.tail {
            Some(Tail { pair: next, hard: true }) => pair = next,
            _ => break,
        }
    }
    last
}

/// The newer superblock of a pair, if it agrees with the block size, and the block it is in.
fn newest(file: &File, offset: u64, block_size: u32, pair: Pair) -> Option<(Superblock, Vec<u8>)> {
    if !(BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(&block_size) {
        return None;
    }
    let mut newest: Option<(Superblock, u32, Vec<u8>)> = None;
    for block in pair.0 {
        let start = offset.saturating_add(u64::from(block) * u64::from(block_size));
        let (bytes, _) = read_vec(file, start, block_size as usize);
        match superblock::probe(&bytes) {
            Some((found, rev))
                if found.block_size == block_size
                    && newest.as_ref().is_none_or(|&(_, older, _)| rev_newer(rev, older)) =>
            {
                newest = Some((found, rev, bytes));
            }
            _ => {}
        }
    }
    newest.map(|(superblock, _, bytes)| (superblock, bytes))
}

/// Destroy whatever [`locate`] could take for a superblock in the `len` bytes from `offset`.
///
/// # Errors
/// When the file cannot be read or written.
pub fn wipe(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let scanned = SCAN_END + V1_MAGIC_AT + MAGIC.len();
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(scanned).min(scanned)];
    let read = read_up_to(file, offset, &mut bytes)?;
    for p in magics(&bytes[..read]) {
        file.write_all_at(&[0xff; MAGIC.len()], offset.saturating_add(p as u64))?;
    }
    Ok(())
}

/// Up to `len` bytes from `start`, fewer where the file ends, and why some could not be read: those
/// are zeros, which are no superblock.
fn read_vec(file: &File, start: u64, len: usize) -> (Vec<u8>, Option<io::Error>) {
    let mut bytes = vec![0; len];
    if let Ok(read) = read_up_to(file, start, &mut bytes) {
        bytes.truncate(read);
        return (bytes, None);
    }
    let (mut failed, mut failures, mut end) = (None, 0, len);
    for (i, piece) in bytes.chunks_mut(PIECE).enumerate() {
        let at = i * PIECE;
        match read_up_to(file, start.saturating_add(at as u64), piece) {
            Ok(read) if read == piece.len() => {}
            Ok(read) => {
                end = at + read;
                break;
            }
            Err(e) => {
                piece.fill(0);
                failed = Some(e);
                failures += 1;
                if failures == FAILURES_MAX {
                    end = at;
                    break;
                }
            }
        }
    }
    bytes.truncate(end);
    (bytes, failed)
}

/// Positions of the magic.
fn magics(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let last = MAGIC.len() - 1;
    bytes
        .windows(MAGIC.len())
        .enumerate()
        // the last byte first: compares one byte where the other is erased
        .filter(move |(_, w)| w[last] == MAGIC[last] && *w == MAGIC)
        .map(|(p, _)| p)
}

/// Positions of a superblock's signature where a block 1 can start: possible block sizes.
fn candidates(bytes: &[u8]) -> impl Iterator<Item = u32> {
    magics(bytes)
        .filter_map(|p| p.checked_sub(8))
        .filter(|&start| start.is_multiple_of(4) && has_signature(bytes, start))
        .filter_map(|start| u32::try_from(start).ok())
        .filter(|start| (BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(start))
}

/// Whether the block at `start` begins like a superblock.
fn has_signature(bytes: &[u8], start: usize) -> bool {
    bytes.get(start + SIGNATURE_AT..).is_some_and(|rest| rest.starts_with(SIGNATURE))
}

/// Whether the block at `start` is a superblock of version 1: block 0, or block 1 by its own word.
fn is_version1(bytes: &[u8], start: usize) -> bool {
    let Some(block) = bytes.get(start..) else { return false };
    block.get(V1_MAGIC_AT..).is_some_and(|rest| rest.starts_with(MAGIC))
        && (start == 0 || read_u32_le(block, V1_BLOCK_SIZE_AT).is_some_and(|n| n as usize == start))
}
