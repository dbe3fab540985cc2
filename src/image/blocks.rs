//! Blocks that can be read even without a sound filesystem: the blocks of an image without a
//! superblock, and of a file that is compared with an image.

use std::sync::Arc;

use super::body::{Absent, Body};
use super::{
    OpenError, Options, Place, Reason, SEARCH_DEVICE, SEARCH_FILE, Source, place, space_of,
};
use crate::bd::{BLOCK_COUNT_MAX, BlockDevice, Geometry};
use crate::container::ReadAt;
use crate::disk::Superblock;
use crate::show::Show;

/// Blocks for reading, whatever they hold.
pub struct Blocks {
    /// All blocks that the image holds from the place on, or as many as were requested. The lock is
    /// held as long as this exists.
    pub device: Arc<dyn BlockDevice>,
    /// Byte position of block 0 in the file, or in the content that is wrapped in it.
    pub offset: u64,
    /// How many bytes of the blocks the file lacks at its end. They cannot be read.
    pub missing: u64,
    /// Whether the file is known to lack a part of its content, or to have a wrong one.
    pub incomplete: bool,
    /// What the user should know. Each note is a sentence that begins with the path.
    pub notes: Vec<String>,
}

/// Open the blocks from the place that the options give, for reading only. If the options give no
/// block size, `guess` returns the block size of the filesystem that starts, or once started, at a
/// given byte of a source.
///
/// # Errors
/// If the image cannot be read or is in use, if the place is outside it, or if the block size is
/// not known.
pub fn open_blocks(
    source: &Source,
    options: &Options,
    guess: &dyn Fn(&dyn ReadAt, u64) -> Option<u32>,
) -> Result<Blocks, OpenError> {
    try_open(source, options, guess).map_err(|reason| source.refused(reason))
}

fn try_open(
    source: &Source,
    options: &Options,
    guess: &dyn Fn(&dyn ReadAt, u64) -> Option<u32>,
) -> Result<Blocks, Reason> {
    let container = source.container(true)?;
    if container.size == 0 {
        return Err(Reason::Empty);
    }
    let body = Body::of(container, options)?;
    if let Some(page) = body.spare_bytes(options)? {
        drop(body);
        return try_open(source, &Options { page: Some(page), ..*options }, guess);
    }
    let size = body.bytes().size()?;
    let space = match options.place {
        Place::Auto => 0..size,
        place => space_of(body.bytes(), place)?,
    };
    let (offset, len) = (space.start, space.end.min(size).saturating_sub(space.start));
    if len == 0 {
        return Err(Reason::OffsetBeyondEnd { offset, size });
    }
    let shown = source.path().show();
    let mut notes: Vec<String> =
        body.notes().iter().map(|note| format!("{shown}: {note}")).collect();
    let block_size = match options.block_size {
        Some(given) => given,
        None => {
            let guessed = guess(body.bytes(), offset);
            let guessed = guessed.ok_or(Reason::NotLittlefs { searched: len })?;
            notes.push(format!(
                "{shown}: no superblock is left; blocks of {guessed} bytes fit best (--block-size \
                 overrides this)"
            ));
            guessed
        }
    };
    let count = (len / u64::from(block_size.max(1))).clamp(2, BLOCK_COUNT_MAX.into());
    let geometry = Geometry::new(block_size, u32::try_from(count).unwrap_or(BLOCK_COUNT_MAX))?;
    let incomplete = body.incomplete().is_some();
    Ok(Blocks {
        device: body.into_device(offset, geometry, Absent::None),
        offset,
        missing: 0,
        incomplete,
        notes,
    })
}

/// The blocks at the place that the options give, in this geometry, for reading only. If a
/// filesystem is found, they are its blocks. Otherwise, they begin at that place. Free blocks that
/// the file leaves out at its end read as erased, and what it lacks cannot be read.
///
/// # Errors
/// If the file cannot be read or is in use, or if it is not clear which of several filesystems in
/// it is meant.
pub fn blocks_at(
    source: &Source,
    options: &Options,
    geometry: Geometry,
) -> Result<Blocks, OpenError> {
    look(source, options, geometry).map_err(|reason| source.refused(reason))
}

fn look(source: &Source, options: &Options, geometry: Geometry) -> Result<Blocks, Reason> {
    let container = source.container(true)?;
    if container.size == 0 {
        return Err(Reason::Empty);
    }
    let limit = if container.is_device { SEARCH_DEVICE } else { SEARCH_FILE };
    let body = Body::of(container, options)?;
    let (offset, superblock) = place::position(body.bytes(), limit, options)?;
    if superblock.is_none()
        && let Some(page) = body.spare_bytes(options)?
    {
        drop(body);
        return look(source, &Options { page: Some(page), ..*options }, geometry);
    }
    let shown = source.path().show();
    let mut notes: Vec<String> =
        body.notes().into_iter().map(|note| format!("{shown}: {note}")).collect();
    if let Some(page) = body.page() {
        notes.push(format!("{shown}: read as a dump of NAND flash with pages of {page}"));
    }
    match superblock {
        None => notes.push(format!(
            "{shown}: no filesystem is found at offset={offset} ({offset:#x}), where it was looked \
             for"
        )),
        Some(_) if offset > 0 => {
            notes.push(format!("{shown}: its filesystem starts at offset={offset} ({offset:#x})"));
        }
        Some(_) => {}
    }
    if let Some(Superblock { block_size, block_count, .. }) = superblock
        && (block_size, block_count) != (geometry.block_size, geometry.block_count)
    {
        notes.push(format!(
            "{shown}: holds another filesystem: {block_count} blocks of {block_size} bytes \
             instead of {} blocks of {} bytes",
            geometry.block_count, geometry.block_size
        ));
    }
    let absent = body.lacks(offset, geometry)?;
    let missing = absent.missing();
    if missing > 0 {
        notes.push(format!(
            "{shown}: the file lacks the last {missing} of the {} bytes of the filesystem",
            geometry.size()
        ));
    }
    let incomplete = body.incomplete().is_some();
    let device = body.into_device(offset, geometry, absent);
    Ok(Blocks { device, offset, missing, incomplete, notes })
}
