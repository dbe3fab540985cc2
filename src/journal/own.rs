//! The journal of one change, or of one run of a program, which makes it happen completely or not
//! at all.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::error::at;
use super::{Journal, JournalError, Mode, Named, Why, commit_found};
use crate::image::Source;
use crate::show::Show;

/// What the name of such a journal ends with.
const SUFFIX: &str = ".run";

/// A journal that is removed as soon as nothing must be finished any more; a journal that the user
/// named stays.
#[derive(Debug)]
pub struct OwnJournal {
    named: Named,
    is_temporary: bool,
}

impl OwnJournal {
    /// One that the user named.
    pub fn given(named: Named) -> Self {
        Self { named, is_temporary: false }
    }

    /// A new one beside the image, because a commit that a power cut interrupts needs both. If an
    /// earlier journal is left, it is committed if its commit had begun, and otherwise dropped.
    ///
    /// # Errors
    /// For a block device, beside which there is no place; when the file of that name is not a
    /// journal, or cannot be trusted; and as [`commit_found`].
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

    /// The same, to be attached to the image.
    pub fn named_mut(&mut self) -> &mut Named {
        &mut self.named
    }

    /// Write the state of the journal into the image. If that is interrupted, the journal stays,
    /// because it has what the image lacks.
    ///
    /// # Errors
    /// As [`commit_found`]. [`OwnJournal::is_begun`] tells whether the image was written to.
    pub fn commit(&self, image: &Source) -> Result<(), JournalError> {
        commit_found(&self.named, image).map(drop)
    }

    /// Whether the image is only partly written.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn is_begun(&self) -> Result<bool, JournalError> {
        Ok(Journal::open_found(&self.named, Mode::Read)?.history().begun.is_some())
    }

    /// Leave it where it is, for a commit to be finished.
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

/// Finish the commit of a journal beside the image, if one was interrupted: until then, the image
/// has neither its old nor its new state. Any other file of that name stays.
///
/// # Errors
/// As [`commit_found`].
pub fn finish_interrupted(image: &Source) -> Result<(), JournalError> {
    if image.metadata().file_type().is_block_device() {
        return Ok(());
    }
    match Named::beside(image, SUFFIX) {
        Ok(left) if left.exists() && left.adopt(image.metadata().uid()).is_ok() => {
            match Journal::open_found(&left, Mode::Read) {
                Ok(journal) if journal.history().begun.is_some() => {
                    finish(&left, image)?;
                    left.remove()
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn finish(left: &Named, image: &Source) -> Result<(), JournalError> {
    left.adopt(image.metadata().uid())?;
    let journal = Journal::open_found(left, Mode::Write)?;
    let is_begun = journal.history().begun.is_some();
    drop(journal);
    if is_begun {
        commit_found(left, image)?;
        log::warn!("{}: finished a commit that was interrupted", image.path().show());
    }
    Ok(())
}
