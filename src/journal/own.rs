//! The journal of one change, or of one run of a program. With it, the change happens completely or
//! not at all.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::error::at;
use super::{Journal, JournalError, Mode, Named, Why, commit_found};
use crate::image::Source;
use crate::show::Show;
use crate::sys;

/// The suffix in the name of such a journal.
const SUFFIX: &str = ".run";

/// A journal that is removed as soon as nothing is left to finish with it. If the user gave its
/// name, it is kept.
#[derive(Debug)]
pub struct OwnJournal {
    named: Named,
    is_temporary: bool,
}

impl OwnJournal {
    /// A journal that the user named.
    pub fn given(named: Named) -> Self {
        Self { named, is_temporary: false }
    }

    /// A new journal beside the image, where it can be found together with the image after a power
    /// cut. A journal from an earlier run is committed if its commit had begun, and removed
    /// otherwise.
    ///
    /// # Errors
    /// If the image is a block device, because there is no place beside it. If the file with the
    /// name of the journal is not a journal or cannot be trusted. Also the errors of
    /// [`commit_found`].
    pub fn beside(image: &Source) -> Result<Self, JournalError> {
        if image.metadata().file_type().is_block_device() {
            return Err(at(image.path())(Why::Device));
        }
        let left = Named::beside(image, SUFFIX)?;
        if !left.exists() {
            return Ok(Self { named: left, is_temporary: true });
        }
        finish(&left, image)?;
        left.remove()?;
        Ok(Self { named: Named::beside(image, SUFFIX)?, is_temporary: true })
    }

    /// The journal.
    pub fn named(&self) -> &Named {
        &self.named
    }

    /// The journal, for attaching it to the image.
    pub fn named_mut(&mut self) -> &mut Named {
        &mut self.named
    }

    /// Write the state of the journal into the image. If this is interrupted, the journal is kept,
    /// because it has the bytes that the image still lacks.
    ///
    /// # Errors
    /// Those of [`commit_found`]. [`OwnJournal::is_begun`] tells whether the image was written to.
    pub fn commit(&self, image: &Source) -> Result<(), JournalError> {
        commit_found(&self.named, image).map(drop)
    }

    /// Whether a commit has begun and is not done, so that the image is only partly written.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn is_begun(&self) -> Result<bool, JournalError> {
        Ok(Journal::open_quietly(&self.named, Mode::Read)?.history().begun.is_some())
    }

    /// Keep the journal, because its commit must still be finished.
    pub fn keep(&mut self) {
        self.is_temporary = false;
    }
}

impl Drop for OwnJournal {
    fn drop(&mut self) {
        if self.is_temporary
            && let Err(e) = self.named.remove()
        {
            log::warn!("{e}");
        }
    }
}

/// If the commit of a journal beside the image was interrupted, finish it. Until then, the image
/// has neither its old nor its new state, so nobody may write to it. A file of that name that is no
/// such journal is left alone.
///
/// # Errors
/// Those of [`commit_found`].
pub fn finish_interrupted(image: &Source) -> Result<(), JournalError> {
    if image.metadata().file_type().is_block_device() {
        return Ok(());
    }
    match begun(Named::beside(image, SUFFIX), image.metadata().uid()) {
        Some(left) => {
            finish(&left, image)?;
            left.remove()
        }
        None => Ok(()),
    }
}

/// An error that names the journal beside the image at `path`, if the commit of that journal was
/// interrupted. The image need not exist any more.
pub fn interruption(path: &Path) -> Option<JournalError> {
    let owner = std::fs::metadata(path).map_or_else(|_| sys::effective_uid(), |meta| meta.uid());
    let mut journal = std::fs::canonicalize(path).unwrap_or(path.to_owned());
    journal.as_mut_os_string().push(SUFFIX);
    let left = begun(Named::find(&journal), owner)?;
    Some(at(left.path())(Why::Unfinished))
}

/// The journal with this name, if it may be used for an image of the user `owner`, and its commit
/// has begun and is not done.
fn begun(named: Result<Named, JournalError>, owner: u32) -> Option<Named> {
    let left = named.ok().filter(|left| left.exists() && left.adopt(owner).is_ok())?;
    let journal = Journal::open_quietly(&left, Mode::Read).ok()?;
    journal.history().begun.is_some().then_some(left)
}

fn finish(left: &Named, image: &Source) -> Result<(), JournalError> {
    left.adopt(image.metadata().uid())?;
    let journal = Journal::open_quietly(left, Mode::Write)?;
    let is_begun = journal.history().begun.is_some();
    drop(journal);
    if is_begun {
        commit_found(left, image)?;
        log::warn!("{}: finished a commit that was interrupted", image.path().show());
    }
    Ok(())
}
