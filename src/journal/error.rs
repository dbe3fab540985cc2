//! Errors of operations on a journal or its image.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::named::Unfit;
use crate::image::{self, Holder, InUse, OpenError};
use crate::show::Show;
use crate::transactions::Reason;

/// An operation on a journal or its image failed. This is displayed as `PATH: WHY`.
#[derive(Debug)]
pub struct JournalError {
    /// The path of the journal or the image, as the caller gave it.
    pub path: PathBuf,
    /// What is wrong.
    pub why: Why,
}

/// What is wrong with the journal, with the image, or with both together.
#[derive(Debug)]
#[non_exhaustive]
pub enum Why {
    /// There is no journal at this path.
    Missing,
    /// Something is wrong with the journal.
    Journal(Reason),
    /// Another process writes to the journal. If that process is known, it is named here.
    InUse(Option<Holder>),
    /// The file in place of the journal cannot be trusted.
    Unfit(Unfit),
    /// The image cannot be opened.
    Image(image::Reason),
    /// The journal and the image are the same file.
    IsImage,
    /// Its commit into the image was interrupted.
    Unfinished,
    /// The file that should be created exists already.
    Exists,
    /// The file that should be created is the journal, or its image.
    SameFile,
    /// Something that is not a plain file is in the place where a file should be created.
    NotFile,
    /// The image is a block device, so a journal cannot be placed beside it.
    Device,
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.show();
        write!(f, "{path}: ")?;
        match &self.why {
            Why::Missing => {
                f.write_str("no such journal; 'littlefs mount --journal FILE IMAGE DIR' makes one")
            }
            Why::Journal(reason) => reason.fmt(f),
            Why::Unfit(unfit) => unfit.fmt(f),
            Why::Image(reason) => f.write_str(&reason.about(&path)),
            Why::InUse(holder) => InUse(holder.as_ref()).fmt(f),
            Why::IsImage => f.write_str(
                "is the image itself, and cannot be its journal at the same time; give the journal \
                 another name",
            ),
            Why::Unfinished => write!(
                f,
                "holds a change of the image that was interrupted, so the image is partly old and \
                 partly new until 'littlefs journal commit {path} IMAGE' finishes the change (if \
                 you do not need that image any more, remove the journal)"
            ),
            Why::Exists => f.write_str("exists already; --force overwrites it"),
            Why::Device => {
                f.write_str("IMAGE is a device: give a place for the journal with --journal FILE")
            }
            Why::SameFile => f.write_str(
                "is the journal or its image, without which the other states are lost; give \
                 another name for the output",
            ),
            Why::NotFile => f.write_str("is not a plain file"),
        }
    }
}

impl std::error::Error for JournalError {}

impl From<OpenError> for JournalError {
    fn from(e: OpenError) -> Self {
        Self { path: e.path, why: Why::Image(e.reason) }
    }
}

impl From<Reason> for Why {
    fn from(reason: Reason) -> Self {
        Self::Journal(reason)
    }
}

impl From<Unfit> for Why {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit)
    }
}

impl From<io::Error> for Why {
    fn from(e: io::Error) -> Self {
        Self::Journal(e.into())
    }
}

impl From<crate::Error> for Why {
    fn from(e: crate::Error) -> Self {
        Self::Journal(e.into())
    }
}

/// Adds the path to an error.
pub(super) fn at<E: Into<Why>>(path: &Path) -> impl Fn(E) -> JournalError + '_ {
    |e| JournalError { path: path.to_owned(), why: e.into() }
}
