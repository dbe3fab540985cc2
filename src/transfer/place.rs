//! Writing a new image to its place: a separate file, or the place of a filesystem in a dump.

use std::fs::{File, Metadata, Permissions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::Progress;
use super::create::{Created, Creation, Failure, Size, create_in, unwritable};
use super::manifest::Manifest;
use crate::bd::Geometry;
use crate::bd::file::{fill, read_up_to};
use crate::files::{self, Place};
use crate::image::{
    self, Container, Found, Kind as Wrapping, Located, Opened, Reason, SEARCH_DEVICE, at_root,
    locate, wipe,
};
use crate::journal::interruption;
use crate::sys;

/// Bytes copied at a time.
const PIECE: usize = 1 << 20;
/// How many bytes are examined for content that must not be overwritten.
const LOOKED_AT: usize = 64 << 10;

/// The place for a new image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// A separate file, or a block device.
    New {
        /// Whether an existing file may be replaced.
        overwrite: bool,
    },
    /// The place of a filesystem in a dump, which is replaced.
    Into {
        /// The place of that filesystem.
        place: image::Place,
        /// Whether the dump may be a block device, and whether something other than a littlefs or
        /// erased flash may be overwritten.
        overwrite: bool,
    },
}

/// Make an image of a manifest at `path`. The image is written to a temporary file beside `path`.
/// The file gets this name when it is complete and durable, so a failure changes nothing. For a
/// block device, the image is first made in a temporary file, and its superblock is copied to the
/// device last.
///
/// # Errors
/// One [`Failure`] for each reason.
pub fn create(
    path: &Path,
    placement: Placement,
    manifest: &Manifest,
    how: &Creation,
    progress: &Progress<'_>,
) -> Result<Created, Failure> {
    create_like(path, placement, None, manifest, how, progress)
}

/// The same, but a new file gets the owner and mode in `like`.
pub(super) fn create_like(
    path: &Path,
    placement: Placement,
    like: Option<&Metadata>,
    manifest: &Manifest,
    how: &Creation,
    progress: &Progress<'_>,
) -> Result<Created, Failure> {
    if let Some(e) = interruption(path) {
        return Err(Failure::Interrupted(e));
    }
    let old = match Container::open(path, false) {
        Ok(old) if old.writable => Some(old),
        Ok(_) => return Err(Failure::Target(Reason::PermissionDenied)),
        Err(Reason::NotFound) => None,
        Err(reason) => return Err(Failure::Target(reason)),
    };
    match (placement, old) {
        (Placement::New { .. }, None) => {
            let place = Place::free(path).map_err(|e| Failure::Target(Reason::of_new(e)))?;
            let new = place.begin().map_err(target)?;
            let created = create_in(new.file(), 0, manifest, how, progress)?;
            match like {
                Some(like) => files::take_access(new.file(), like),
                None => {
                    let mode = 0o666 & !u32::from(sys::umask());
                    new.file().set_permissions(Permissions::from_mode(mode))
                }
            }
            .map_err(target)?;
            new.put(None).map_err(target)?;
            Ok(created)
        }
        (Placement::New { overwrite: false }, Some(_)) => Err(Failure::Exists),
        (Placement::New { overwrite: true }, Some(old)) => match old.is_device {
            true => onto_device(&old, 0, manifest, how, progress),
            false => replace(path, &old, None, manifest, how, progress),
        },
        (Placement::Into { .. }, None) => Err(Failure::Target(Reason::NotFound)),
        (Placement::Into { place, overwrite }, Some(old)) => {
            if let Some(kind) = Wrapping::of(&old.file).map_err(target)? {
                return Err(Failure::Target(Reason::Wrapped(kind)));
            }
            let space = image::space_of(&old.file, place).map_err(Failure::Target)?;
            let offset = space.start;
            let how = &into(&old, space, overwrite, how)?;
            match old.is_device {
                true if !overwrite => Err(Failure::Device),
                true => onto_device(&old, offset, manifest, how, progress),
                false => replace(path, &old, Some(offset), manifest, how, progress),
            }
        }
    }
}

pub(super) fn target(e: io::Error) -> Failure {
    Failure::Target(e.into())
}

/// Replace the old file by a new one. With an offset, everything around the filesystem is kept.
fn replace(
    path: &Path,
    old: &Container,
    offset: Option<u64>,
    manifest: &Manifest,
    how: &Creation,
    progress: &Progress<'_>,
) -> Result<Created, Failure> {
    let kept = offset.map(|offset| offset..offset);
    replace_in(path, old, kept, manifest, how, progress)
}

/// The same, but the range of the old filesystem is erased in the kept content, and the new
/// filesystem starts at the beginning of this range.
fn replace_in(
    path: &Path,
    old: &Container,
    kept: Option<Range<u64>>,
    manifest: &Manifest,
    how: &Creation,
    progress: &Progress<'_>,
) -> Result<Created, Failure> {
    let place = Place::of(&old.file, path).map_err(target)?;
    let new = place.begin().map_err(target)?;
    if let Some(erased) = &kept {
        let mut from = old.file.try_clone().map_err(target)?;
        io::Seek::rewind(&mut from).map_err(target)?;
        io::copy(&mut from, &mut new.file()).map_err(target)?;
        fill(new.file(), erased.start, erased.end - erased.start).map_err(unwritable)?;
    }
    let offset = kept.map_or(0, |erased| erased.start);
    let created = create_in(new.file(), offset, manifest, how, progress)?;
    let metadata = old.file.metadata().map_err(target)?;
    files::take_access(new.file(), &metadata).map_err(target)?;
    let owner = new.file().metadata().map_err(target)?.uid();
    if manifest.image.is_some() && owner != metadata.uid() {
        return Err(Failure::Owner(metadata.uid()));
    }
    new.put(Some(&old.file)).map_err(target)?;
    Ok(created)
}

/// Build a new filesystem in place of the one in an image file, which is open for writing and
/// locked. With a range in `kept`, the rest of the file is kept: the range is erased, and the
/// filesystem starts at its beginning. Otherwise the filesystem becomes the whole file.
pub(crate) fn replace_image(
    opened: &Opened,
    kept: Option<Range<u64>>,
    manifest: &Manifest,
    how: &Creation,
    progress: &Progress<'_>,
) -> Result<Created, Failure> {
    let container = Container {
        file: opened.file.try_clone().map_err(target)?,
        writable: true,
        is_device: false,
        size: opened.image_size,
    };
    replace_in(&opened.path, &container, kept, manifest, how, progress)
}

/// Write to a device. The old superblock is erased first, and the new one is written last, so after
/// an interruption, the device has no filesystem instead of a partial one.
fn onto_device(
    device: &Container,
    offset: u64,
    manifest: &Manifest,
    how: &Creation,
    progress: &Progress<'_>,
) -> Result<Created, Failure> {
    let scratch = tempfile::tempfile().map_err(unwritable)?;
    let created = create_in(&scratch, 0, manifest, how, progress)?;
    let g = created.geometry;
    let room = device.size.saturating_sub(offset);
    if g.size() > room {
        return Err(Failure::Beyond { geometry: g, room });
    }
    let write = || -> io::Result<()> {
        wipe(&device.file, offset, g.size())?;
        device.file.sync_all()?;
        let pair = 2 * u64::from(g.block_size);
        copy(&scratch, &device.file, offset, pair..created.image_size)?;
        device.file.sync_all()?;
        copy(&scratch, &device.file, offset, 0..pair)?;
        device.file.sync_all()
    };
    write().map_err(unwritable)?;
    Ok(created)
}

fn copy(from: &File, to: &File, offset: u64, range: Range<u64>) -> io::Result<()> {
    let mut buf = vec![0; PIECE];
    let mut at = range.start;
    while at < range.end {
        let len = usize::try_from(range.end - at).unwrap_or(PIECE).min(PIECE);
        from.read_exact_at(&mut buf[..len], at)?;
        to.write_all_at(&buf[..len], offset.saturating_add(at))?;
        at += len as u64;
    }
    Ok(())
}

/// The filesystem to build into a dump. Unless options say otherwise, it is as large as the old
/// filesystem or the partition, and has the limits of the old one.
fn into(
    dump: &Container,
    space: Range<u64>,
    overwrite: bool,
    how: &Creation,
) -> Result<Creation, Failure> {
    let offset = space.start;
    let room = space.end.min(dump.size).saturating_sub(offset);
    let there = match locate(&dump.file, offset, SEARCH_DEVICE).map_err(target)? {
        Located::Superblock(Found { doubt: Some(doubt), .. }) if !overwrite => {
            return Err(Failure::Target(Reason::Doubtful(doubt)));
        }
        Located::Superblock(found) => Some(at_root(&dump.file, offset, found.superblock)),
        _ if overwrite || is_erased(&dump.file, offset).map_err(target)? => None,
        other => return Err(Failure::Occupied { offset, what: describe(&other) }),
    };
    let mut how = how.clone();
    if let Some(there) = &there {
        how.format = how.format.filled_from(there);
    }
    if how.size == Size::AsBefore {
        let size = match &there {
            Some(there) => Geometry::new(there.block_size, there.block_count)?.size(),
            // the filesystem fills the partition
            None if space.end < u64::MAX => room,
            None => return Err(Failure::NoSize),
        };
        let count = size / u64::from(how.format.chosen_block_size().max(1));
        how.size = Size::Blocks(u32::try_from(count).unwrap_or(u32::MAX));
    }
    if let Size::Blocks(count) = how.size {
        let geometry = how.geometry(count)?;
        if geometry.size() > room {
            return Err(Failure::Beyond { geometry, room });
        }
    }
    Ok(how)
}

fn describe(located: &Located) -> &'static str {
    match located {
        Located::Damaged => "a damaged littlefs",
        _ => "something other than a littlefs",
    }
}

fn is_erased(file: &File, offset: u64) -> io::Result<bool> {
    is_blank(file, offset..offset.saturating_add(LOOKED_AT as u64))
}

/// Whether a range of a file is blank: its bytes, as far as they exist, are all 0xFF or all 0.
pub(super) fn is_blank(file: &File, range: Range<u64>) -> io::Result<bool> {
    let mut buf = vec![0; LOOKED_AT];
    let (mut at, mut byte) = (range.start, None);
    while at < range.end {
        let wanted = usize::try_from(range.end - at).unwrap_or(LOOKED_AT).min(LOOKED_AT);
        let read = read_up_to(file, at, &mut buf[..wanted])?;
        let Some(&first) = buf[..read].first() else { break };
        let all = *byte.get_or_insert(first);
        if !matches!(all, 0 | 0xff) || buf[..read].iter().any(|&b| b != all) {
            return Ok(false);
        }
        at += read as u64;
    }
    Ok(true)
}
