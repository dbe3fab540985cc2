//! Why an operation on a store failed.

use std::path::PathBuf;
use std::{fmt, io};

use super::Key;
use crate::error::Error as CoreError;
use crate::show::Show;

/// The result of an operation on a store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed. Unless the variant says otherwise, nothing was changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// There is no value and no dictionary with that key.
    NotFound(Key),
    /// The key does not refer to a dictionary.
    DictionaryExpected(Key),
    /// The key does not refer to a value.
    ValueExpected(Key),
    /// The key exists already.
    AlreadyPresent(Key),
    /// A dictionary, the first key, cannot be moved into itself, the second key.
    RenameSourcePrefix(Key, Key),
    /// There is no space left in the image.
    NoSpace,
    /// Other changes came between the reads of a batch and its end, in every attempt.
    TooManyRetries,
    /// The operation, or this image, does not allow that key; the text says why.
    InvalidKey(Key, &'static str),
    /// The file of a new store cannot be made.
    Create(PathBuf, io::Error),
    /// An error of a layer below: the device failed, or the image is damaged or read-only. If the
    /// device failed, everything that the operation was to change has either its old or its new
    /// state.
    Core(CoreError),
}

impl From<CoreError> for Error {
    fn from(e: CoreError) -> Self {
        match e {
            CoreError::NoSpace => Self::NoSpace,
            e => Self::Core(e),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(key) => write!(f, "{key}: no such key"),
            Self::DictionaryExpected(key) => write!(f, "{key}: is a value, not a dictionary"),
            Self::ValueExpected(key) => write!(f, "{key}: is a dictionary, not a value"),
            Self::AlreadyPresent(key) => write!(f, "{key}: exists already"),
            Self::RenameSourcePrefix(source, dest) => {
                write!(f, "{source}: cannot be moved into itself, to {dest}")
            }
            Self::NoSpace => CoreError::NoSpace.fmt(f),
            Self::TooManyRetries => f.write_str(
                "the batch was given up after many attempts: other changes always came between its \
                 reads",
            ),
            Self::InvalidKey(key, why) => write!(f, "{key}: is not possible as a key: {why}"),
            Self::Create(path, e) => {
                write!(f, "{}: a new store cannot be made here: {e}", path.show())
            }
            Self::Core(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Core(e) => Some(e),
            Self::Create(_, e) => Some(e),
            _ => None,
        }
    }
}
