//! Changing an image of littlefs version 1. Its content is copied to a scratch littlefs of version
//! 2 and changed there. A new image of version 1 is made from the result, checked and compared, and
//! gets the name of the old one.

use std::fmt;
use std::sync::Arc;

use super::{Failed, How, attempt};
use crate::bd::{FileDevice, Geometry};
use crate::convention::Choice;
use crate::disk::superblock::VERSION_1_1;
use crate::error::Trouble;
use crate::image::{Dialect, Opened, Options, Source, open_found};
use crate::show::Show;
use crate::transfer::{
    Creation, Failure, Manifest, Original, Size, create_in, name_max_of_version1, replace_image,
};
use crate::{FormatOptions, Littlefs, OpenOptions};

/// Bytes in a block of the scratch filesystem.
const SCRATCH_BLOCK: u32 = 4096;
/// Blocks of the scratch filesystem in addition to several times what the image needs.
const SCRATCH_ROOM: u32 = 4096;

/// The image, open for writing, if it has version 1 and changes are to go into the file itself.
pub(super) fn open(source: &Source, options: &OpenOptions) -> Option<Opened> {
    let options = Options { exclusive: true, ..options.to_change()? };
    // if it cannot be opened, the caller opens it like any other image, and reports the error
    let opened = open_found(source, &options).ok()?;
    let is_meant = opened.dialect == Dialect::V1 && opened.writable && opened.wrapped.is_empty();
    (is_meant && opened.doubt.is_none()).then_some(opened)
}

/// Change the image by `operation`. The new image has as many blocks as the old one.
pub(super) fn change<T, E: Trouble>(
    opened: &Opened,
    options: &OpenOptions,
    how: How,
    operation: &mut dyn FnMut(&Littlefs) -> Result<T, E>,
) -> Result<T, Failed<E>> {
    let old = opened.stored.geometry();
    if !opened.metadata.is_file() || opened.offset > 0 || opened.image_size > old.size() {
        return Err(Failed::Version1InPlace(InPlace::new(opened)));
    }
    for note in &opened.notes {
        log::warn!("{note}");
    }
    let original = Original::new(opened).map_err(Failed::Rebuild)?;
    let scratch = Scratch::of(&original.manifest().map_err(Failed::Rebuild)?, old)?;
    let image = options.open_device(Arc::new(scratch.device()?)).map_err(Failed::Open)?;
    let done = attempt(&image, false, operation).map_err(|e| match e {
        Failed::Operation { why, .. } => Failed::Operation { why, written: false },
        e => e,
    })?;
    drop(image);
    let raw = OpenOptions::new().read_only(true).convention(Choice::None);
    let image = raw.open_device(Arc::new(scratch.device()?)).map_err(Failed::Open)?;
    let manifest = Manifest::of_image(&image).map_err(|e| Failed::Rebuild(e.into()))?;
    let format = FormatOptions::new().block_size(old.block_size).disk_version(VERSION_1_1);
    let creation = Creation::new(format, Size::Blocks(old.block_count));
    let creation = Creation { compact: opened.compacted > 0, ..creation };
    match how.dry_run {
        // making the image shows whether everything fits
        true => create_in(&temporary()?, 0, &manifest, &creation, &|_| ()),
        false => replace_image(opened, None, &manifest, &creation, &|_| ()),
    }
    .map_err(|e| match e {
        Failure::HasAttributes(_) => Failed::Rebuild(Failure::NoAttributes),
        e => Failed::Rebuild(e),
    })?;
    Ok(done)
}

/// A littlefs of version 2 in a temporary file, with room for any change that could fit.
struct Scratch {
    file: std::fs::File,
    geometry: Geometry,
}

impl Scratch {
    fn of<E>(manifest: &Manifest, old: Geometry) -> Result<Self, Failed<E>> {
        let blocks = old.size().div_ceil(u64::from(SCRATCH_BLOCK)).saturating_mul(4);
        let entries = u32::try_from(manifest.items().len()).unwrap_or(u32::MAX);
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        let count = blocks.saturating_add(entries.saturating_mul(2)).saturating_add(SCRATCH_ROOM);
        let file = temporary()?;
        let format = FormatOptions::new()
            .block_size(SCRATCH_BLOCK)
            .name_max(name_max_of_version1(old.block_size));
        // only write used blocks
        let creation = Creation { compact: true, ..Creation::new(format, Size::Blocks(count)) };
        let made = create_in(&file, 0, manifest, &creation, &|_| ()).map_err(Failed::Rebuild)?;
        Ok(Self { file, geometry: made.geometry })
    }

    fn device<E>(&self) -> Result<FileDevice, Failed<E>> {
        let file = self.file.try_clone().map_err(no_scratch)?;
        Ok(FileDevice::new(file, 0, self.geometry))
    }
}

fn temporary<E>() -> Result<std::fs::File, Failed<E>> {
    tempfile::tempfile().map_err(no_scratch)
}

fn no_scratch<E>(e: std::io::Error) -> Failed<E> {
    Failed::Rebuild(Failure::Target(e.into()))
}

/// An image of version 1 that is only a part of a file: where it is, and how it can be changed.
#[derive(Debug)]
pub struct InPlace(String);

impl InPlace {
    fn new(opened: &Opened) -> Self {
        let shown = opened.path.show();
        let offset = opened.offset;
        Self(match opened.metadata.is_file() {
            true => format!(
                "it is a littlefs of version 1 inside a larger file, where it cannot be changed \
                 in place: extract its files ('littlefs extract --offset {offset} {shown} -C \
                 data'), change them, and \
                 put them back ('littlefs create --into --offset {offset} {shown} data')"
            ),
            false => format!(
                "it is a littlefs of version 1 on a device, where it cannot be changed in place: \
                 copy it into a file \
                 ('littlefs clone {shown} new.img'), change that, and write it back ('littlefs \
                 clone --force new.img {shown}')"
            ),
        })
    }
}

impl fmt::Display for InPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
