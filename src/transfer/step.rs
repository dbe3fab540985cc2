//! The single steps of an operation on entries of an image.

use std::fmt;

use crate::check::show;

/// One step of an operation on an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was done.
    pub what: What,
    /// The path of the entry, from the root directory on, without a leading `/`.
    pub path: Vec<u8>,
    /// The path of the entry that was moved or copied to this path.
    pub from: Option<Vec<u8>>,
}

/// What was done to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It is gone.
    Removed,
    /// It is new.
    Created,
    /// Its content, size, times or attributes changed.
    Changed,
    /// It has a new name.
    Moved,
    /// It is a copy of another entry.
    Copied,
}

impl Step {
    /// A step that concerns only the entry at `path`.
    pub fn new(what: What, path: &[u8]) -> Self {
        Self { what, path: path.to_vec(), from: None }
    }

    /// A step that made `path` from the entry `from`.
    pub fn from(what: What, from: &[u8], path: &[u8]) -> Self {
        Self { what, path: path.to_vec(), from: Some(from.to_vec()) }
    }
}

impl What {
    /// The word for it in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Moved => "moved",
            Self::Copied => "copied",
        }
    }
}

impl fmt::Display for Step {
    /// For example `moved: /a to /b`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.what.name())?;
        if let Some(from) = &self.from {
            write!(f, "/{} to ", show(from))?;
        }
        write!(f, "/{}", show(&self.path))
    }
}
