//! Finding out how many blocks a manifest needs, by building it.

use std::fs::File;
use std::sync::Arc;

use super::Progress;
use super::build::BuildError;
use super::create::{Creation, Failure, failure, fill_file, unwritable};
use super::manifest::{Kind, Manifest};
use crate::bd::fresh::FreshDevice;
use crate::bd::{BLOCK_COUNT_MAX, Geometry};
use crate::disk::ctz;
use crate::error::Error;
use crate::fs::Fs;

/// The largest number of bytes that an entry uses in its directory, in addition to its name and its
/// content.
const ENTRY_SIZE: u64 = 96;

/// Build the filesystem in the file with as few blocks as possible, plus `free` bytes.
pub(super) fn fill_least(
    file: &File,
    offset: u64,
    manifest: &Manifest,
    how: &Creation,
    free: u64,
    progress: &Progress<'_>,
) -> Result<(Geometry, Fs), Failure> {
    let least = needed(manifest, how)?;
    let margin = free.div_ceil(u64::from(how.format.chosen_block_size().max(1)));
    let margin = u32::try_from(margin).unwrap_or(u32::MAX);
    let geometry = how.geometry(least.saturating_add(margin))?;
    let filled = fill_file(file, offset, geometry, manifest, how, progress);
    Ok((geometry, filled.map_err(|e| failure(e, geometry, || Ok(least)))?))
}

/// The smallest number of blocks that is enough.
pub(super) fn needed(manifest: &Manifest, how: &Creation) -> Result<u32, Failure> {
    let mut room = estimate(manifest, how);
    let mut least = loop {
        match used_of(room, manifest, how)? {
            Some(used) => break used,
            None if room < BLOCK_COUNT_MAX => room = room.saturating_mul(2).min(BLOCK_COUNT_MAX),
            None => return Err(Failure::NoSpace { geometry: how.geometry(room)?, needed: None }),
        }
    };
    // If space is short, metadata pairs are split later. So fewer blocks can be enough than are
    // used when there is plenty of space; in principle, a few more can be necessary.
    while used_of(least, manifest, how)?.is_none() {
        least = least.saturating_add(1);
    }
    while let Some(used) = used_of(least - 1, manifest, how)? {
        least = used.min(least - 1);
    }
    Ok(least)
}

/// The number of blocks in use after building with this many blocks, in a temporary file; `None` if
/// they are not enough.
fn used_of(count: u32, manifest: &Manifest, how: &Creation) -> Result<Option<u32>, Failure> {
    let Ok(geometry) = how.geometry(count) else { return Ok(None) };
    let scratch = tempfile::tempfile().map_err(unwritable)?;
    let device = Arc::new(FreshDevice::new(scratch, 0, geometry));
    match how.fill(device, manifest, &|_| ()) {
        Ok(mut fs) => Ok(Some(fs.usage()?.blocks_used)),
        Err(BuildError::Fs(Error::NoSpace)) => Ok(None),
        Err(e) => Err(failure(e, geometry, || Ok(count))),
    }
}

/// An estimate that is usually more than the manifest needs.
fn estimate(manifest: &Manifest, how: &Creation) -> u32 {
    let block_size = u64::from(how.format.chosen_block_size());
    let mut blocks = 16;
    let mut metadata = 0;
    for item in &manifest.items {
        metadata += ENTRY_SIZE + item.path.len() as u64;
        match item.kind {
            Kind::Dir => blocks += 2,
            _ => {
                let size = u32::try_from(item.size).unwrap_or(u32::MAX);
                blocks += u64::from(ctz::blocks(how.format.chosen_block_size(), size)) + 1;
            }
        }
    }
    // each pair has two blocks, and pairs are only half full after a split
    blocks += 8 * metadata.div_ceil(block_size.max(1));
    u32::try_from(blocks).unwrap_or(BLOCK_COUNT_MAX).min(BLOCK_COUNT_MAX)
}
