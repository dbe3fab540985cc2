//! Changing the number of blocks of a filesystem.
//!
//! For a plain file, a new filesystem is built in a file beside it, which is then renamed. On a
//! block device, and for a mount, the filesystem is resized in place: content moves out of the
//! blocks that will be cut off, and then all superblocks are written. The last one is the
//! superblock of the root, which is the one in force. So a crash at any moment leaves the old size
//! or the new one: until the root's superblock is written, the old number of blocks is in force,
//! and nothing that the old size needs has been cut off.

use std::sync::Arc;

use super::Progress;
use super::clone::{Cloning, Original};
use super::create::{Created, Failure, Size, create_in, unwritable};
use super::place::{is_blank, replace_image, target};
use super::verify::{is_sound, verify};
use crate::Misfit;
use crate::bd::{BlockDevice, FileDevice, Geometry, OverlayDevice, Prefix};
use crate::error::Error;
use crate::fs::{Fs, OpenOptions as EngineOptions};
use crate::image::{Dialect, Opened, Place, Reason, space_of};
use crate::profile::Profile;

/// The new size of a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewSize {
    /// This many bytes, which must be a multiple of the block size.
    Bytes(u64),
    /// The smallest size that its content allows.
    Least,
    /// The size of the file, device or partition that it is in.
    Most,
}

/// How to resize.
#[derive(Debug, Clone, Copy)]
pub struct Resizing {
    /// The new size.
    pub size: NewSize,
    /// Overwrite content after the filesystem in a dump.
    pub overwrite: bool,
    /// Refuse to resize if the devices of this family would refuse the image.
    pub check: Option<&'static Profile>,
}

/// Resize the filesystem in an image that is open for writing and locked. On a block device, the
/// filesystem is written through `device`, which is the device of the image or a layer over it.
///
/// # Errors
/// One [`Failure`] for each reason. Nothing was changed, unless the device itself failed.
pub fn resize(
    opened: &Opened,
    device: Arc<dyn BlockDevice>,
    how: &Resizing,
    progress: &Progress<'_>,
) -> Result<Created, Failure> {
    if opened.dialect == Dialect::Chamelon {
        return Err(Failure::Target(Reason::Chamelon));
    }
    let original = Original::new(opened)?;
    if let Some(profile) = how.check {
        let misfits = original.image().misfits(profile)?;
        if misfits.iter().any(Misfit::is_refused) {
            return Err(Failure::Misfits(profile, misfits));
        }
    }
    match opened.metadata.is_file() {
        true => rebuild(opened, &original, how, progress),
        false => in_place(opened, &original, device, how),
    }
}

/// Let a filesystem grow until it fills its device, file or partition, before it is mounted.
/// Returns the new geometry, or `None` if it already fills it.
///
/// # Errors
/// One [`Failure`] for each reason. Nothing was changed, unless the device itself failed.
pub fn grow(opened: &Opened) -> Result<Option<Geometry>, Failure> {
    let old = opened.stored.geometry();
    let new = filling(opened)?;
    if new.block_count <= old.block_count {
        return Ok(None);
    }
    check_room(opened, new, false)?;
    Original::new(opened)?;
    Fs::open(Arc::clone(&opened.device), &EngineOptions::default())?.resize(new.block_count)?;
    Ok(Some(new))
}

/// Build the filesystem in a new file, which gets the name of the old one.
fn rebuild(
    opened: &Opened,
    original: &Original,
    how: &Resizing,
    progress: &Progress<'_>,
) -> Result<Created, Failure> {
    let old = opened.stored.geometry();
    let manifest = original.manifest()?;
    let creation = |size| original.creation(&Cloning { size: Some(size), ..Cloning::default() });
    let new = match how.size {
        // the smallest size is known only after building it
        NewSize::Least => {
            let scratch = tempfile::tempfile().map_err(unwritable)?;
            let least = creation(Size::Least { free: 0 });
            create_in(&scratch, 0, &manifest, &least, &|_| ())?.geometry
        }
        NewSize::Bytes(_) | NewSize::Most => wanted(opened, how)?,
    };
    check_room(opened, new, how.overwrite)?;
    let creation = creation(Size::Blocks(new.block_count));
    // in a dump, everything around the filesystem is kept
    let kept = (!is_whole(opened)).then(|| {
        let end = opened.offset.saturating_add(old.size()).min(opened.image_size);
        opened.offset..end.max(opened.offset)
    });
    replace_image(opened, kept, &manifest, &creation, progress)
}

/// Resize the filesystem in place.
fn in_place(
    opened: &Opened,
    original: &Original,
    device: Arc<dyn BlockDevice>,
    how: &Resizing,
) -> Result<Created, Failure> {
    if opened.dialect == Dialect::V1 {
        return Err(Failure::Target(Reason::Version1));
    }
    let old = opened.stored.geometry();
    let new = match how.size {
        NewSize::Least => {
            let least = least(opened, original)?.unwrap_or(old.block_count);
            Geometry::new(old.block_size, least)?
        }
        _ => wanted(opened, how)?,
    };
    check_room(opened, new, how.overwrite)?;
    if new.block_count < old.block_count && !rehearse(opened, original, new.block_count)? {
        let needed = least(opened, original)?;
        return Err(Failure::NoSpace { geometry: new, needed });
    }
    Fs::open(device, &EngineOptions::default())?.resize(new.block_count)?;
    let file = opened.file.try_clone().map_err(unwritable)?;
    let stored: Arc<dyn BlockDevice> = Arc::new(FileDevice::new(file, opened.offset, new));
    // only check the structure: the content was already compared in the rehearsal, and blocks of
    // the old lists may hold other data by now
    is_sound(opened.dialect, &stored)?;
    let read_only = EngineOptions { read_only: true, ..EngineOptions::default() };
    let mut fs = Fs::open(stored, &read_only)?;
    let (usage, counts) = (fs.usage()?, fs.counts()?);
    Ok(Created {
        geometry: new,
        blocks_used: usage.blocks_used,
        files: counts.files,
        directories: counts.directories,
        bytes: original.manifest()?.bytes(),
        image_size: new.size(),
        misfits: Vec::new(),
        warnings: Vec::new(),
    })
}

/// Check whether the content of a filesystem can move into this many blocks. This is tried on a
/// copy of the blocks that change, and the result is compared with the original.
fn rehearse(opened: &Opened, original: &Original, block_count: u32) -> Result<bool, Failure> {
    let overlay = OverlayDevice::new(Arc::clone(&opened.device)).map_err(unwritable)?;
    let overlay: Arc<dyn BlockDevice> = Arc::new(overlay);
    match Fs::open(Arc::clone(&overlay), &EngineOptions::default())?.resize(block_count) {
        Ok(()) => {
            verify(&Prefix::of(overlay, block_count), original.version(), original.image())?;
            Ok(true)
        }
        Err(Error::NoSpace) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// The smallest number of blocks to which it can be resized in place. This can be more than the
/// number in use, because content that moves needs its new blocks before its old blocks become
/// free.
fn least(opened: &Opened, original: &Original) -> Result<Option<u32>, Failure> {
    let usage = original.image().usage()?;
    let (mut too_few, mut enough) = (usage.blocks_used.max(2) - 1, usage.blocks);
    while enough - too_few > 1 {
        let middle = too_few.midpoint(enough);
        match rehearse(opened, original, middle)? {
            true => enough = middle,
            false => too_few = middle,
        }
    }
    Ok((enough < usage.blocks).then_some(enough))
}

/// The requested geometry.
fn wanted(opened: &Opened, how: &Resizing) -> Result<Geometry, Failure> {
    let block_size = opened.stored.geometry().block_size;
    let NewSize::Bytes(bytes) = how.size else { return filling(opened) };
    Ok(Geometry::of_size(block_size, bytes)?)
}

/// The geometry that fills the file, device or partition of the filesystem.
fn filling(opened: &Opened) -> Result<Geometry, Failure> {
    let old = opened.stored.geometry();
    // a file that is shorter than its filesystem is no limit
    let room = room(opened)?.min(opened.image_size.saturating_sub(opened.offset));
    let count = u32::try_from(room / u64::from(old.block_size)).unwrap_or(u32::MAX);
    Ok(Geometry::new(old.block_size, count.max(old.block_count))?)
}

/// Whether the file contains only the filesystem.
fn is_whole(opened: &Opened) -> bool {
    opened.metadata.is_file()
        && opened.offset == 0
        && opened.image_size <= opened.stored.geometry().size()
}

/// The largest possible size of the filesystem; unlimited if it may grow with its file. It never
/// grows into the next partition, because only a new partition table could make that right.
fn room(opened: &Opened) -> Result<u64, Failure> {
    if is_whole(opened) {
        return Ok(u64::MAX);
    }
    let end = match opened.label {
        Some(label) => {
            let space = space_of(&opened.file, Place::Partition(label)).map_err(Failure::Target)?;
            space.end.min(opened.image_size)
        }
        None => opened.image_size,
    };
    Ok(end.saturating_sub(opened.offset))
}

/// Check that no foreign content is overwritten. The bytes after the filesystem in its own
/// partition may be overwritten, and so may the rest of a device that begins with the filesystem.
fn check_room(opened: &Opened, new: Geometry, overwrite: bool) -> Result<(), Failure> {
    let room = room(opened)?;
    if new.size() > room {
        return Err(Failure::Beyond { geometry: new, room });
    }
    let (from, to) = (opened.stored.geometry().size(), new.size());
    let is_ours = opened.label.is_some() || (!opened.metadata.is_file() && opened.offset == 0);
    if to <= from || is_ours || overwrite {
        return Ok(());
    }
    let added = opened.offset.saturating_add(from)..opened.offset.saturating_add(to);
    match is_blank(&opened.file, added.clone()).map_err(target)? {
        true => Ok(()),
        false => Err(Failure::InTheWay(added)),
    }
}
