//! Why an operation on a store failed.

use std::fmt;

use super::Key;
use crate::error::Error as CoreError;

/// Result of operations on a store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. Unless the variant says otherwise, nothing was changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// No value and no dictionary of that key.
    NotFound(Key),
    /// The key does not refer to a dictionary.
    DictionaryExpected(Key),
    /// The key does not refer to a value.
    ValueExpected(Key),
    /// The key is there already.
    AlreadyPresent(Key),
    /// A rename of a dictionary, the first, to a place inside itself, the second.
    RenameSourcePrefix(Key, Key),
    /// No space is left in the image.
    NoSpace,
    /// Other changes came between the reads of a batch and its end, time and again.
    TooManyRetries,
    /// Not a key that the operation, or this image, can have; says why.
    InvalidKey(Key, &'static str),
    /// Anything of the layers below: a failed device, a damaged image, a read-only one. After a
    /// failed device, what the operation was to change has its old or its new state.
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
            Self::DictionaryExpected(key) => write!(f, "{key}: is not a dictionary"),
            Self::ValueExpected(key) => write!(f, "{key}: is not a value"),
            Self::AlreadyPresent(key) => write!(f, "{key}: exists already"),
            Self::RenameSourcePrefix(source, dest) => {
                write!(f, "{source}: cannot be moved into itself, to {dest}")
            }
            Self::NoSpace => CoreError::NoSpace.fmt(f),
            Self::TooManyRetries => f.write_str(
                "the batch was given up after many attempts: other changes always came between its \
                 reads",
            ),
            Self::InvalidKey(key, why) => write!(f, "{key}: this key is not possible: {why}"),
            Self::Core(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Core(e) => Some(e),
            _ => None,
        }
    }
}
