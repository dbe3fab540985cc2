//! Opening an image that may have no superblock any more.

use super::guess_block_size;
use crate::image::{
    Blocks, Dialect, OpenError, Opened, Options, Place, Reason, Source, open_blocks, open_found,
};

/// Open the blocks to look through, for reading only: those of the filesystem that the options
/// mean, or what is left of one. Without a block size in the options, it is what the superblock says,
/// or else the one that fits best.
///
/// # Errors
/// When the image cannot be read or is in use, when filesystems start elsewhere in it, when it is not
/// written as littlefs 2, and when there is neither a superblock nor anything that speaks for a block
/// size.
pub fn open(source: &Source, options: &Options) -> Result<Blocks, OpenError> {
    let options = Options { read_only: true, ..*options };
    let given = options.block_size.is_some();
    match open_found(source, &options) {
        Ok(opened) => present(source, &options, opened),
        Err(OpenError {
            reason: Reason::NotLittlefs { .. } | Reason::SuperblocksDamaged, ..
        }) => open_blocks(source, &options, &guess_block_size),
        // the filesystem that is there now is another one than is looked for
        Err(OpenError {
            reason: Reason::WrongBlockSize { .. } | Reason::UnknownVersion(_) | Reason::Elsewhere(_),
            ..
        }) if given => open_blocks(source, &options, &guess_block_size),
        Err(e) => Err(e),
    }
}

/// Those blocks of a filesystem that the image holds.
fn present(source: &Source, options: &Options, opened: Opened) -> Result<Blocks, OpenError> {
    let Opened { stored, dialect, missing, compacted, offset, superblock, notes, .. } = opened;
    if dialect != Dialect::Littlefs {
        return Err(OpenError {
            path: source.path().to_owned(),
            reason: dialect.unwritable().unwrap_or(Reason::SuperblocksDamaged),
        });
    }
    if missing == 0 && compacted == 0 {
        return Ok(Blocks { device: stored, notes });
    }
    let block_size = Some(superblock.block_size);
    let options = Options { place: Place::At(offset), block_size, ..*options };
    let Blocks { device, .. } = open_blocks(source, &options, &|_, _| None)?;
    Ok(Blocks { device, notes })
}
