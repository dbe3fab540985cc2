//! Opening an image whose superblock may be lost.

use std::cell::Cell;

use super::geometry;
use crate::image::{
    Blocks, Dialect, OpenError, Opened, Options, Place, Reason, Source, open_blocks, open_found,
};
use crate::show::Show;

/// The blocks to be searched, and the format in which their filesystem is, or was, written.
pub struct Remains {
    /// The blocks.
    pub blocks: Blocks,
    /// Version 2 or version 1.
    pub dialect: Dialect,
    /// Whether the blocks may hold something else than the filesystem had there: a superblock is
    /// lost, or a part of the file or of its container.
    pub doubtful: bool,
}

impl From<Opened> for Remains {
    /// The blocks of an image that was opened.
    fn from(opened: Opened) -> Self {
        let incomplete = opened.incomplete.is_some();
        // if block 1 has no superblock, it may be missing; then each block behind it is in the place
        // of the one before it
        let lacks_blocks = opened.missing > 0 || opened.compacted > 0 || opened.lost == Some(1);
        let doubtful = incomplete || lacks_blocks || opened.doubt.is_some();
        let Opened { stored, dialect, missing, offset, notes, .. } = opened;
        let blocks = Blocks { device: stored, offset, missing, incomplete, notes };
        Self { blocks, dialect, doubtful }
    }
}

/// Open the blocks to be searched, for reading only. These are the blocks of the filesystem that
/// the options select, or the remains of one, even if a filesystem of the other version is there
/// now. If the options have no block size, it is taken from the superblock, or else the block size
/// that fits best is used. The same holds for the dialect.
///
/// # Errors
/// When the image cannot be read or is in use, when filesystems start elsewhere in it, when it is
/// written by chamelon, and when there is neither a superblock nor any other evidence of a block
/// size.
pub fn open(source: &Source, options: &Options) -> Result<Remains, OpenError> {
    let options = Options { read_only: true, ..*options };
    let given = options.block_size.is_some();
    let opened = open_found(source, &options);
    // the remains are searched even if parts of the container around them are missing
    let bare = |e: OpenError| OpenError { reason: e.reason.bare(), ..e };
    match opened.map_err(bare) {
        Ok(opened) => present(source, &options, opened),
        Err(OpenError {
            reason:
                Reason::NotLittlefs { .. }
                | Reason::SuperblocksDamaged
                | Reason::DialectDamaged(Dialect::V1, _),
            ..
        }) => lost(source, &options),
        Err(OpenError { reason: Reason::Elsewhere(found), .. })
            if found.iter().all(|found| found.doubt.is_some()) =>
        {
            match &found[..] {
                [only] => {
                    let mut remains =
                        open(source, &Options { place: Place::At(only.at), ..options })?;
                    remains.blocks.notes.push(format!(
                        "{}: searching the only filesystem that was found, at offset={}",
                        source.path().show(),
                        only.at
                    ));
                    Ok(remains)
                }
                _ => Ok(Remains { doubtful: true, ..lost(source, &options)? }),
            }
        }
        Err(OpenError { reason: Reason::NotVersion1(_) | Reason::Version1, .. }) => {
            overwritten(source, &options)
        }
        // the present filesystem is not the one that is searched for
        Err(OpenError {
            reason: Reason::WrongBlockSize { .. } | Reason::UnknownVersion(_) | Reason::Elsewhere(_),
            ..
        }) if given => lost(source, &options),
        Err(e) => Err(e),
    }
}

/// The blocks of a filesystem whose superblock or root is lost.
fn lost(source: &Source, options: &Options) -> Result<Remains, OpenError> {
    let dialects = match options.dialect {
        Some(dialect) => vec![dialect],
        None => vec![Dialect::Littlefs, Dialect::V1],
    };
    let guessed = Cell::new(None);
    let guess = |bytes: &dyn crate::image::ReadAt, at| {
        let (dialect, block_size) = geometry::guess(bytes, at, &dialects)?;
        guessed.set(Some(dialect));
        Some(block_size)
    };
    let blocks = open_blocks(source, options, &guess)?;
    let dialect = options.dialect.or(guessed.get());
    let dialect = dialect.unwrap_or_else(|| geometry::dialect_of(&*blocks.device));
    let doubtful = blocks.incomplete;
    Ok(Remains { blocks, dialect, doubtful })
}

/// The blocks of a filesystem of one version that was later replaced, at the same place, by a
/// filesystem of the other version.
fn overwritten(source: &Source, options: &Options) -> Result<Remains, OpenError> {
    let present = open_found(source, &Options { dialect: None, ..*options })?;
    let options = Options { place: Place::At(present.offset), ..*options };
    let block_size = Some(present.superblock.block_size);
    drop(present);
    // the old filesystem may have had another block size
    lost(source, &options).or_else(|_| lost(source, &Options { block_size, ..options }))
}

/// The blocks of a filesystem that are present in the image.
fn present(source: &Source, options: &Options, opened: Opened) -> Result<Remains, OpenError> {
    if opened.dialect == Dialect::Chamelon {
        return Err(OpenError { path: source.path().to_owned(), reason: Reason::NotSearched });
    }
    if opened.missing == 0 && opened.compacted == 0 {
        return Ok(opened.into());
    }
    // only the blocks that the file has are searched
    let block_size = Some(opened.superblock.block_size);
    let options = Options { place: Place::At(opened.offset), block_size, ..*options };
    let blocks = open_blocks(source, &options, &|_, _| None)?;
    let remains = Remains::from(opened);
    Ok(Remains { blocks: Blocks { notes: remains.blocks.notes, ..blocks }, ..remains })
}
