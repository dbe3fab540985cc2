//! Squashing a journal, and exporting its states as images.

use std::fs::{File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use super::error::{Why, at};
use super::named::begin;
use super::{Journal, JournalError, Mode, Named, new_id};
use crate::bd::{BlockDevice, Geometry};
use crate::files::{self, Place};
use crate::fs::{Fs, OpenOptions};
use crate::image;
use crate::time::now;
use crate::transactions::scan::scan;
use crate::transactions::{At, History, JournalDevice};

/// Bytes copied at a time.
const CHUNK: u64 = 1 << 20;
/// An exported image gets holes where it has pieces of this many bytes that are all zero.
const HOLE: usize = 4096;

/// What a squash did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Squashed {
    /// Bytes of the journal before the squash.
    pub before: u64,
    /// Bytes of the journal after the squash.
    pub after: u64,
    /// The number of the only transaction after the squash.
    pub number: u64,
}

/// Replace the journal at `path` by one that has only the net change, as one transaction with the
/// number of the last one. Savepoints at the last state are kept. Earlier states cannot be reached
/// any more. The content of blocks that are free in the last state is not kept.
///
/// # Errors
/// If one of the files cannot be opened, read or written, or if they do not belong together. In all
/// these cases the journal is left as it was.
pub fn squash(path: &Path, image_path: Option<&Path>) -> Result<Squashed, JournalError> {
    let named = Named::find(path)?;
    let journal = Journal::open_found(&named, Mode::Write)?;
    let image = journal.open_image(image_path)?;
    let (before, number) = (journal.scan.end, journal.history.last());
    let after = try_squash(&journal, named.place(), &image).map_err(at(path))?;
    Ok(Squashed { before, after, number })
}

fn try_squash(journal: &Journal, place: &Place, image: &image::Opened) -> Result<u64, Why> {
    let base = &image.device;
    let history = &journal.history;
    let number = history.last();
    let old = JournalDevice::past(base.clone(), journal.file.clone(), history, number)?;
    let mut header = journal.scan.header.clone();
    header.id = new_id(&history.fingerprint);
    header.time = now();
    header.fingerprint = history.fingerprint;
    header.base = history.base;
    header.given = history.next.saturating_sub(1);

    let file = begin(place, &header, &image.metadata)?;
    // users without access to the old journal must not get access to the new one
    let mode = file.file().metadata()?.mode() & journal.file.metadata()?.mode();
    file.file().set_permissions(Permissions::from_mode(mode & 0o777))?;
    let new_file: Arc<File> = Arc::new(file.file().try_clone()?);
    let scan = scan(&*new_file)?;
    let mut anew = History::new(&header);
    anew.next = number;
    let new = JournalDevice::live(base.clone(), new_file.clone(), &scan, anew)?;
    let old = Arc::new(old);
    let mut fs = Fs::open(old.clone(), &OpenOptions::default());
    let used = fs.as_mut().ok().and_then(|fs| fs.used_blocks().ok());
    let block_size = old.geometry().block_size;
    let mut buf = vec![0; block_size as usize];
    for (start, len) in old.changed() {
        let mut at = start;
        while at < start + len {
            let (block, off) = split(old.geometry(), at);
            let left = usize::try_from(start + len - at).unwrap_or(usize::MAX);
            let part = &mut buf[..left.min((block_size - off) as usize)];
            // if it is unknown which blocks are used, everything is kept
            if used.as_ref().is_none_or(|used| used(block)) {
                old.read(block, off, part).map_err(crate::Error::from)?;
                new.prog(block, off, part).map_err(crate::Error::from)?;
            }
            at += part.len() as u64;
        }
    }
    if number > history.base {
        new.finish_even_if_empty()?;
    }
    for savepoint in history.savepoints().iter().filter(|s| s.number == number) {
        new.save(&savepoint.name)?;
    }
    drop(new);
    new_file.sync_all()?;
    let after = new_file.metadata()?.len();
    file.put(Some(&journal.file))?;
    Ok(after)
}

fn split(g: Geometry, at: u64) -> (u32, u32) {
    let block_size = u64::from(g.block_size);
    // the position is inside the filesystem, so the numbers fit
    ((at / block_size) as u32, (at % block_size) as u32)
}

/// Write the image in one of its states to `out`, which is a new file, or with `force` replaces an
/// existing one. Zeros become holes. Returns the number of the state.
///
/// # Errors
/// If one of the files cannot be opened, read or written. In these cases `out` is as it was before.
pub fn export(
    path: &Path,
    image_path: Option<&Path>,
    state: &At,
    out: &Path,
    force: bool,
) -> Result<u64, JournalError> {
    let place = Place::new(out).map_err(at(out))?;
    let old = match place.look() {
        Ok(old) => Some(old),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => return Err(at(out)(e)),
    };
    if let Some(old) = &old {
        if !old.metadata().map_err(at(out))?.is_file() {
            return Err(at(out)(Why::NotFile));
        }
        if !force {
            return Err(at(out)(Why::Exists));
        }
    }
    let journal = Journal::open(path, Mode::Read)?;
    let image = journal.open_image(image_path)?;
    if let Some(old) = &old {
        // without the journal or its image, the other states would be lost
        let old = old.metadata().map_err(at(out))?;
        let journal = std::fs::metadata(path).map_err(at(path))?;
        if files::same(&old, &journal) || files::same(&old, &image.metadata) {
            return Err(at(out)(Why::SameFile));
        }
    }
    let number = journal.history.find(state).map_err(at(path))?;
    let dev = journal.past(image.device.clone(), state)?;
    let write = || -> Result<(), Why> {
        let new = place.begin()?;
        let file = new.file();
        files::take_access(file, &image.metadata)?;
        write_state(file, &image, &dev)?;
        file.sync_all()?;
        new.put(old.as_ref()).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => Why::Exists,
            _ => e.into(),
        })
    };
    write().map_err(at(out))?;
    Ok(number)
}

/// Write an image to the new file `file`, with the content of `dev` as its filesystem.
fn write_state(file: &File, image: &image::Opened, dev: &impl BlockDevice) -> Result<(), Why> {
    // the journal may use blocks that are missing at the end of a compacted image
    let size = image.image_size + image.compacted;
    file.set_len(size)?;
    let g = dev.geometry();
    let (from, to) = (image.offset, (image.offset + g.size()).min(size));
    let mut buf = vec![0; CHUNK as usize];
    let mut at = 0;
    while at < size {
        // the bytes before and after the filesystem in the file belong to the image as well
        let end = if at < from {
            from
        } else if at < to {
            to
        } else {
            size
        };
        let part = &mut buf[..CHUNK.min(end - at) as usize];
        if end == to && at >= from {
            let (block, off) = split(g, at - from);
            dev.read(block, off, part).map_err(crate::Error::from)?;
        } else {
            image.file.read_exact_at(part, at)?;
        }
        for (i, piece) in part.chunks(HOLE).enumerate() {
            if piece.iter().any(|b| *b != 0) {
                file.write_all_at(piece, at + (i * HOLE) as u64)?;
            }
        }
        at += part.len() as u64;
    }
    Ok(())
}
