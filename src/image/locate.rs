//! Finding the superblock pair {0, 1} of the filesystem that starts at a given position.
//!
//! Block 0 is at that position and holds the block size. If it is damaged, block 1 holds the same
//! superblock, one block size after that position. If a superblock names exactly its distance from
//! the position as its block size, this is no accident.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Reason;
use crate::bd::file::read_up_to;
use crate::bd::{BLOCK_SIZE_MAX, BLOCK_SIZE_MIN};
use crate::container::half::{self, Budget, V1_MAGIC_AT};
use crate::container::{Doubt, Found, Half, ReadAt, SEARCH_DEVICE, Scan, candidate};
use crate::disk::log::Log;
use crate::disk::superblock::MAGIC;
use crate::disk::{Pair, Superblock, Tail, rev_newer};

/// What [`locate`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Located {
    /// There is a filesystem at that position.
    Superblock(Found),
    /// The magic of a superblock is in the right place, but there is no valid commit.
    Damaged,
    /// There is nothing at that position, but these filesystems are at others.
    Elsewhere(Vec<Found>),
    /// There is no trace of a littlefs.
    Nothing {
        /// How many bytes from the position were searched.
        searched: u64,
    },
}

impl Located {
    /// The filesystem, or the reason why there is none.
    pub(super) fn into_found(self) -> Result<Found, Reason> {
        match self {
            Self::Superblock(found) => Ok(found),
            Self::Damaged => Err(Reason::SuperblocksDamaged),
            Self::Elsewhere(found) => Err(Reason::Elsewhere(found)),
            Self::Nothing { searched } => Err(Reason::NotLittlefs { searched }),
        }
    }
}

/// Look for the filesystem that starts at byte `at`, by the superblock in its block 0 or in its
/// block 1. If there is none, search the first `limit` bytes of the source for others.
///
/// # Errors
/// If no filesystem is found and a part of the source cannot be read.
pub fn locate(source: &dyn ReadAt, at: u64, limit: u64) -> io::Result<Located> {
    let (cell, failed) = (OnceCell::new(), OnceCell::new());
    let scan = || {
        cell.get_or_init(|| {
            search(source, at, limit).unwrap_or_else(|e| {
                let _ = failed.set(e);
                Scan::default()
            })
        })
    };
    if let Some(half) = Half::read(source, at, &mut Budget(u64::MAX)) {
        let found = candidate::judge(source, at, half.superblock.block_size, scan);
        // if the format does not allow the block size, the place of block 1 is not known
        let found = found.unwrap_or_else(|| alone(at, half));
        return Ok(Located::Superblock(found));
    }
    for half in scan().second_halves(at) {
        match candidate::judge(source, at, half.superblock.block_size, scan) {
            // position 0 may only be the default, so a whole filesystem elsewhere is preferred
            Some(Found { doubt: Some(Doubt::PartOf(_)), .. }) if at == 0 => {}
            Some(found) => return Ok(Located::Superblock(found)),
            None => {}
        }
    }
    let elsewhere = scan().candidates(source);
    let elsewhere: Vec<Found> = elsewhere.into_iter().filter(|f| f.doubt.is_none()).collect();
    if !elsewhere.is_empty() {
        return Ok(Located::Elsewhere(elsewhere));
    }
    let is_damaged = scan().is_broken_at(at);
    let searched = scan().end.saturating_sub(at);
    let failed = failed.into_inner().or(cell.into_inner().and_then(|scan| scan.failed));
    match failed {
        Some(e) => Err(e),
        None if is_damaged => Ok(Located::Damaged),
        None => Ok(Located::Nothing { searched }),
    }
}

/// The superblocks in the first `limit` bytes, or up to the last possible place for block 1 of the
/// filesystem at `at`.
fn search(source: &dyn ReadAt, at: u64, limit: u64) -> io::Result<Scan> {
    let second = SEARCH_DEVICE;
    if at.saturating_add(second) <= limit {
        return Scan::new(source, 0, limit);
    }
    Scan::new(source, at, second)
}

fn alone(at: u64, half: Half) -> Found {
    let superblock = half.superblock;
    Found { at, superblock, lost: Some(1), doubt: None, evidence: Default::default(), label: None }
}

/// The filesystem at byte `at` with blocks of this size, if one of its superblocks has this size.
pub fn at_block_size(source: &dyn ReadAt, at: u64, block_size: u32, limit: u64) -> Option<Found> {
    if !(BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(&block_size) {
        return None;
    }
    let cell = OnceCell::new();
    let scan = || cell.get_or_init(|| search(source, at, limit).unwrap_or_default());
    candidate::judge(source, at, block_size, scan)
}

/// The superblock of the root, which is up to date. Each expansion of the superblock chain makes a
/// new root behind the old one, and drivers that let a filesystem grow update only the superblock
/// of the last one.
pub fn at_root(source: &dyn ReadAt, at: u64, anchor: Superblock) -> Superblock {
    let (mut last, mut pair, mut seen) = (anchor, Pair::SUPERBLOCK, HashSet::new());
    while pair.0.iter().all(|&block| seen.insert(block)) {
        let Some((superblock, log)) = newest(source, at, anchor.block_size, pair) else { break };
        last = superblock;
        match log.tail {
            Some(Tail { pair: next, hard: true }) => pair = next,
            _ => break,
        }
    }
    last
}

/// The newer superblock of a pair, if it has the right block size, and the log that holds it.
fn newest(
    source: &dyn ReadAt,
    at: u64,
    block_size: u32,
    pair: Pair,
) -> Option<(Superblock, Box<Log>)> {
    if !(BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(&block_size) {
        return None;
    }
    let mut newest: Option<(Superblock, Box<Log>)> = None;
    for block in pair.0 {
        let start = at.saturating_add(u64::from(block) * u64::from(block_size));
        let Some(log) = half::read_log(source, start, block_size) else { continue };
        match Superblock::of(&log) {
            Some(found)
                if found.block_size == block_size
                    && newest.as_ref().is_none_or(|(_, older)| rev_newer(log.rev, older.rev)) =>
            {
                newest = Some((found, log));
            }
            _ => {}
        }
    }
    newest
}

/// Destroy everything that [`locate`] could recognise as a superblock in `len` bytes from `offset`.
///
/// # Errors
/// If the file cannot be read or written.
pub fn wipe(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let scanned = BLOCK_SIZE_MAX as usize + V1_MAGIC_AT as usize + MAGIC.len();
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(scanned).min(scanned)];
    let read = read_up_to(file, offset, &mut bytes)?;
    for p in memchr::memmem::find_iter(&bytes[..read], MAGIC) {
        file.write_all_at(&[0xff; MAGIC.len()], offset.saturating_add(p as u64))?;
    }
    Ok(())
}
