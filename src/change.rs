//! One change to an image. The whole change is tried in memory first, and written by one flush if
//! possible. If it fails before that flush, nothing is written.

mod version1;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Trouble};
use crate::image::Source;
use crate::journal::OwnJournal;
use crate::show::Show;
use crate::transfer::Failure;
use crate::{Littlefs, OpenOptions, ReadOnlyReason};

pub use version1::InPlace;

/// Why a change was not made, or only partly.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failed<E> {
    /// The image cannot be opened; nothing was changed.
    Open(Error),
    /// The image cannot be changed; nothing was changed.
    ReadOnly(ReadOnlyReason),
    /// The operation failed.
    Operation {
        /// Why.
        why: E,
        /// Whether earlier parts of the operation were already written to the image, because the
        /// changes exceeded the memory for them.
        written: bool,
    },
    /// The image has version 1 and is only a part of a file; nothing was changed.
    Version1InPlace(InPlace),
    /// The old image of version 1 could not be replaced by a new one; nothing was changed.
    Rebuild(Failure),
    /// Writing failed: the image is sound, and each entry has its old or its new state.
    Write(Error),
    /// The journal that was to make the change atomic could not be written; nothing was changed.
    Journal(Error),
    /// The change is complete in its journal, which could not be committed.
    Commit {
        /// Why.
        error: Error,
        /// The journal, if the image was already partly written: committing the journal finishes
        /// the change.
        unfinished: Option<PathBuf>,
    },
}

impl<E: fmt::Display> fmt::Display for Failed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(e) => e.fmt(f),
            Self::ReadOnly(reason) => write!(f, "cannot be changed: {reason}"),
            Self::Version1InPlace(why) => write!(f, "cannot be changed: {why}"),
            Self::Rebuild(Failure::NoSpace { geometry: g, needed: Some(needed) }) => write!(
                f,
                "its new content needs {needed} blocks of {} bytes, but there are only {}: \
                 'littlefs resize --size {}' makes room; nothing was changed",
                g.block_size,
                g.block_count,
                u64::from(*needed) * u64::from(g.block_size)
            ),
            Self::Rebuild(e) => write!(f, "{e}; nothing was changed"),
            Self::Operation { why, written: false } => write!(f, "{why}; nothing was changed"),
            Self::Operation { why, written: true } => {
                write!(f, "{why}; the changes before that are in the image")
            }
            Self::Journal(e) => {
                write!(
                    f,
                    "{e}, while the journal of the change was being written; nothing was changed"
                )
            }
            Self::Commit { error, unfinished: None } => write!(f, "{error}; nothing was changed"),
            Self::Commit { error, unfinished: Some(journal) } => write!(
                f,
                "{error}; the image is only partly written: finish it with 'littlefs journal \
                 commit {} IMAGE'",
                journal.show()
            ),
            Self::Write(e) => write!(
                f,
                "{e}, while the changes were being written: each file has its old or its new \
                 content"
            ),
        }
    }
}

impl<E: fmt::Display + fmt::Debug> std::error::Error for Failed<E> {}

/// How to make a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct How {
    /// Write nothing at all.
    pub dry_run: bool,
    /// Make the whole change or none of it, whatever its size and whatever interrupts it. The
    /// change goes through a journal beside the image, which is removed at the end.
    pub atomic: bool,
}

/// Change the image at `path` by `operation`, which may be called several times, each time on the
/// unchanged image.
///
/// The first attempt holds everything in memory. It may run out of space, because only a flush
/// frees replaced blocks. In this case the operation is rehearsed on copies of the blocks that it
/// changes. If the rehearsal succeeds, the operation is done on the image in several flushes.
///
/// The blocks of an image of version 1 cannot be changed one by one. So a new image is built beside
/// it, and gets its name.
///
/// # Errors
/// One [`Failed`] for each reason.
pub fn change<T, E: Trouble>(
    path: &Path,
    options: &OpenOptions,
    how: How,
    operation: &mut dyn FnMut(&Littlefs) -> Result<T, E>,
) -> Result<T, Failed<E>> {
    let source = Source::find(path).map_err(|e| Failed::Open(e.into()))?;
    if let Some(opened) = version1::open(&source, options) {
        return version1::change(&opened, options, how, operation);
    }
    if how.atomic && !how.dry_run {
        return change_at_once(&source, options, operation);
    }
    let options = options.clone().discard_changes(how.dry_run);
    match attempt(&open(&options, &source)?, true, operation) {
        Err(Failed::Operation { why, written: false }) if why.is_no_space() => {}
        done => return done,
    }
    let rehearsal = options.clone().discard_changes(true);
    let rehearsed = attempt(&open(&rehearsal, &source)?, false, operation);
    match rehearsed {
        Ok(value) if how.dry_run => Ok(value),
        Ok(_) => attempt(&open(&options, &source)?, false, operation),
        Err(Failed::Operation { why, .. }) => Err(Failed::Operation { why, written: false }),
        Err(e) => Err(e),
    }
}

/// Write all changes to a journal, and from there into the image once they are complete.
fn change_at_once<T, E: Trouble>(
    source: &Source,
    options: &OpenOptions,
    operation: &mut dyn FnMut(&Littlefs) -> Result<T, E>,
) -> Result<T, Failed<E>> {
    let mut journal = OwnJournal::beside(source).map_err(|e| Failed::Open(e.into()))?;
    let opened = options.open_over(journal.named_mut(), source).map_err(Failed::Open)?;
    let done = match attempt(&changeable(opened)?, false, operation) {
        Err(Failed::Operation { why, .. }) => Err(Failed::Operation { why, written: false }),
        Err(Failed::Write(e)) => Err(Failed::Journal(e)),
        done => done,
    }?;
    if let Err(e) = journal.commit(source) {
        // if this is unknown, assume that the commit has begun, because in that case the journal is
        // needed
        let unfinished = journal.is_begun().unwrap_or(true).then(|| {
            journal.keep();
            journal.named().path().to_owned()
        });
        return Err(Failed::Commit { error: e.into(), unfinished });
    }
    Ok(done)
}

fn open<E>(options: &OpenOptions, source: &Source) -> Result<Littlefs, Failed<E>> {
    changeable(options.open_source(source).map_err(Failed::Open)?)
}

fn changeable<E>(image: Littlefs) -> Result<Littlefs, Failed<E>> {
    match image.read_only_reason() {
        None => Ok(image),
        Some(reason) => Err(Failed::ReadOnly(reason)),
    }
}

/// Run the operation, and write its changes. With `held`, nothing is written before the end, unless
/// the changes exceed the memory for changes.
fn attempt<T, E: Trouble>(
    image: &Littlefs,
    held: bool,
    operation: &mut dyn FnMut(&Littlefs) -> Result<T, E>,
) -> Result<T, Failed<E>> {
    image.hold(held);
    match operation(image) {
        Ok(value) => {
            image.hold(false);
            image.flush().map_err(Failed::Write)?;
            Ok(value)
        }
        Err(why) => {
            let flushes = image.flushes();
            let written = flushes.done + flushes.failed > 0;
            if written {
                image.hold(false);
                // flush, so that exactly the changes before the failure are in the image
                image.flush().map_err(Failed::Write)?;
            }
            Err(Failed::Operation { why, written })
        }
    }
}
