//! Writing the state of a journal into its image.
//!
//! Before the image is touched, the journal notes that a commit begins. When everything is in the
//! image, the journal notes that the commit is done. Between these two notes, every byte of the
//! image has its old or its new content, and the journal has all bytes that change. So whatever
//! state a crash leaves behind, image and journal together always show the new state. An
//! interrupted commit recognises its image by the same property.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::error::at;
use super::{Journal, JournalError, Mode, Named, fingerprint};
use crate::bd::{BlockDevice, FileDevice};
use crate::image::{self, Source};
use crate::transactions::{JournalDevice, Reason};

/// Bytes copied at a time.
const CHUNK: u64 = 1 << 20;

/// What a commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The number of the state that is in the image now.
    pub number: u64,
    /// Bytes written to the image.
    pub bytes: u64,
    /// Whether it finished a commit that had been interrupted.
    pub resumed: bool,
}

/// Apply the journal at `path` to the image at `image_path`, or finish an interrupted commit.
///
/// # Errors
/// If one of the two cannot be opened, read or written, or if they do not belong together. Once the
/// image has been partly written, every other command refuses both files until a commit succeeds.
pub fn commit(path: &Path, image_path: &Path) -> Result<Committed, JournalError> {
    commit_found(&Named::find(path)?, &Source::find(image_path)?)
}

/// Like [`commit`], for a journal and an image that were found before.
///
/// # Errors
/// Those of [`commit`].
pub fn commit_found(journal: &Named, image: &Source) -> Result<Committed, JournalError> {
    journal.check_apart(image)?;
    journal.adopt(image.metadata().uid())?;
    let journal = Journal::open_found(journal, Mode::Write)?;
    let (geometry, offset) = (journal.scan.header.geometry, journal.scan.header.offset);
    // The image is not opened in the usual way, because its superblocks may be partly written. The
    // geometry is in the journal.
    let refused = |reason| JournalError::from(image.refused(reason));
    let container = image.container(false).map_err(refused)?;
    if !container.writable {
        let e = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        return Err(refused(image::Reason::from(e)));
    }
    // these bytes are missing in a compacted image, and were missing when the journal was made, too
    let end = offset.saturating_add(geometry.size());
    let missing = end.min(journal.scan.header.image_size).saturating_sub(container.size);
    if missing > 0 {
        return Err(refused(image::Reason::Truncated { geometry, missing }));
    }
    let open = if container.size < end { FileDevice::compacted } else { FileDevice::new };
    let base = Arc::new(open(container.file, offset, geometry));
    commit_to(journal, &base)
}

/// Like [`commit`], for an image that is open.
///
/// # Errors
/// Those of [`commit`].
pub fn commit_to<D: BlockDevice + 'static>(
    journal: Journal,
    base: &Arc<D>,
) -> Result<Committed, JournalError> {
    let path = journal.path.clone();
    try_commit(journal, base).map_err(at(&path))
}

fn try_commit<D: BlockDevice + 'static>(
    journal: Journal,
    base: &Arc<D>,
) -> Result<Committed, Reason> {
    let begun = journal.history.begun;
    let number = journal.history.last();
    let other_image = journal.other_image();
    let expected = journal.history.fingerprint;
    if begun.is_none() && fingerprint(&**base).ok() != Some(expected) {
        return Err(other_image);
    }
    let resumed = begun.is_some();
    if !resumed && number == journal.history.base {
        return Ok(Committed { number, bytes: 0, resumed });
    }
    let dev = JournalDevice::live(base.clone(), journal.file, &journal.scan, journal.history)?;
    let to_be = fingerprint(&dev);
    let to_be = match begun {
        Some(begun) if to_be.as_ref().ok() == Some(&begun) => begun,
        Some(_) => return Err(other_image),
        None => {
            let to_be = to_be?;
            dev.begin_commit(to_be)?;
            to_be
        }
    };
    let bytes = copy(&dev, &**base)?;
    base.sync().map_err(crate::Error::from)?;
    dev.end_commit(to_be)?;
    Ok(Committed { number, bytes, resumed })
}

fn copy(dev: &JournalDevice, base: &dyn BlockDevice) -> Result<u64, Reason> {
    let block_size = u64::from(dev.geometry().block_size);
    let mut buf = vec![0; CHUNK as usize];
    let mut bytes = 0;
    for (start, len) in dev.changed() {
        let mut done = 0;
        while done < len {
            let part = &mut buf[..CHUNK.min(len - done) as usize];
            let at = start + done;
            // the position is inside the filesystem, so the numbers fit
            let (block, off) = ((at / block_size) as u32, (at % block_size) as u32);
            dev.read(block, off, part).map_err(crate::Error::from)?;
            base.prog(block, off, part).map_err(crate::Error::from)?;
            done += part.len() as u64;
        }
        bytes += len;
    }
    Ok(bytes)
}
