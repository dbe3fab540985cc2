//! One change to an image: tried as a whole in memory, written by one flush where that is possible,
//! and nothing at all when it fails before that.

use std::fmt;
use std::path::Path;

use crate::error::Error;
use crate::{Littlefs, OpenOptions, PathError, ReadOnlyReason};

/// Why an operation could not be done, as far as it matters here.
pub trait Trouble {
    /// Whether there was no space: flushing what was removed or replaced may make some.
    fn is_no_space(&self) -> bool;
}

impl Trouble for Error {
    fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace)
    }
}

impl Trouble for PathError {
    fn is_no_space(&self) -> bool {
        self.error.is_no_space()
    }
}

/// Why a change was not made, or not wholly.
#[derive(Debug)]
pub enum Failed<E> {
    /// The image cannot be opened; nothing was changed.
    Open(Error),
    /// The image cannot be changed; nothing was changed.
    ReadOnly(ReadOnlyReason),
    /// The operation failed.
    Operation {
        /// Why.
        why: E,
        /// Whether what it did before is in the image, because it was too much to be held in memory.
        written: bool,
    },
    /// Writing failed: the image is sound, and each entry has its old or its new state.
    Write(Error),
}

impl<E: fmt::Display> fmt::Display for Failed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(e) => e.fmt(f),
            Self::ReadOnly(reason) => write!(f, "cannot be changed: {reason}"),
            Self::Operation { why, written: false } => write!(f, "{why}; nothing was changed"),
            Self::Operation { why, written: true } => {
                write!(f, "{why}; what was done before that is in the image")
            }
            Self::Write(e) => write!(
                f,
                "{e}, while the changes were being written: each file has its old or its new content"
            ),
        }
    }
}

impl<E: fmt::Display + fmt::Debug> std::error::Error for Failed<E> {}

/// Change the image at `path` by `operation`, which may be called several times, each time on the
/// image as it was.
///
/// The first try holds everything in memory. If there is no space that way, because only a flush
/// frees what is replaced, the operation is rehearsed on a copy of the blocks it changes, and done in
/// several flushes only if it gets through there. With `dry_run` nothing is written at all.
///
/// # Errors
/// One [`Failed`] for each reason.
pub fn change<T, E: Trouble>(
    path: &Path,
    options: &OpenOptions,
    dry_run: bool,
    operation: &mut dyn FnMut(&Littlefs) -> Result<T, E>,
) -> Result<T, Failed<E>> {
    let options = options.clone().discard_changes(dry_run);
    match attempt(&open(path, &options)?, true, operation) {
        Err(Failed::Operation { why, written: false }) if why.is_no_space() => {}
        done => return done,
    }
    let rehearsal = options.clone().discard_changes(true);
    let rehearsed = attempt(&open(path, &rehearsal)?, false, operation);
    match rehearsed {
        Ok(value) if dry_run => Ok(value),
        Ok(_) => attempt(&open(path, &options)?, false, operation),
        Err(Failed::Operation { why, .. }) => Err(Failed::Operation { why, written: false }),
        Err(e) => Err(e),
    }
}

fn open<E>(path: &Path, options: &OpenOptions) -> Result<Littlefs, Failed<E>> {
    let image = options.open(path).map_err(Failed::Open)?;
    match image.read_only_reason() {
        None => Ok(image),
        Some(reason) => Err(Failed::ReadOnly(reason)),
    }
}

/// Do it, and write it. With `held` nothing is written before the end unless it is too much for
/// memory.
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
                // so that what was done is known: everything before the failure
                image.flush().map_err(Failed::Write)?;
            }
            Err(Failed::Operation { why, written })
        }
    }
}
