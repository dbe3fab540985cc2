//! Why a journal cannot be used, and what to do about it.

use std::fmt;
use std::io;

use crate::bd::Geometry;
use crate::error::Error;
use crate::show::cause;

/// What the name of a savepoint must be like, as a sentence.
pub const NAME_RULE: &str = "the name of a savepoint must be text of 1 to 255 bytes, must not be a \
    number or begin with '-', and must not contain spaces, commas or control characters";
const _: () = assert!(super::format::NAME_MAX == 255, "NAME_RULE says another number");

/// One variant for each way a journal can be unusable.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The file is not a journal.
    NotJournal,
    /// The format has a version that this program does not know.
    UnknownVersion(u32),
    /// The journal is damaged in the middle, or was not made by this program.
    Damaged {
        /// The position of the damage in the file, in bytes.
        at: u64,
        /// What is wrong.
        what: String,
    },
    /// The image has another geometry, or starts elsewhere in its file.
    OtherGeometry {
        /// Geometry and position according to the journal.
        journal: (Geometry, u64),
        /// Geometry and position of the image.
        image: (Geometry, u64),
    },
    /// The journal does not continue from this image, or not from its present state.
    OtherImage {
        /// Path of the image when the journal was made.
        path: String,
    },
    /// A commit to the image was interrupted.
    CommitBegun,
    /// There is no such transaction.
    NoTransaction {
        /// The requested number.
        number: u64,
        /// The number of the last transaction.
        last: u64,
    },
    /// The transaction was dropped by a revert.
    Reverted(u64),
    /// The state is older than what is in the image now.
    Committed {
        /// The requested number.
        number: u64,
        /// The number of the state in the image.
        base: u64,
    },
    /// There is no savepoint of that name.
    NoSavepoint(String),
    /// A savepoint cannot have this name.
    BadName(String),
    /// After a failed write, the content on disk is unknown.
    Poisoned,
    /// The filesystem in the image cannot be read.
    Filesystem(Error),
    /// The system failed.
    Io(io::Error),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJournal => {
                f.write_str("not a journal; 'littlefs mount --journal' makes one under a new name")
            }
            Self::UnknownVersion(version) => write!(
                f,
                "a journal of version {version}, but this program only knows version {}: look for \
                 a newer littlefs-progs",
                super::format::VERSION
            ),
            Self::Damaged { at: 0, what } => write!(
                f,
                "the journal is damaged: {what}, so nothing in it can be used; use a copy of the \
                 journal, or begin another one"
            ),
            Self::Damaged { at, what } => write!(
                f,
                "the journal is damaged: {what}; its first {at} bytes are sound, and 'head -c \
                 {at} JOURNAL >NEW' makes a journal of them"
            ),
            Self::OtherGeometry { journal: (j, j_at), image: (i, i_at) } => write!(
                f,
                "belongs to an image of {} blocks of {} bytes at byte {j_at}, but this image has \
                 {} blocks of {} bytes at byte {i_at}: give the image that the journal was made \
                 for",
                j.block_count, j.block_size, i.block_count, i.block_size
            ),
            Self::OtherImage { path } => write!(
                f,
                "does not belong to this image as it is now: it was made for {path}, and since \
                 then, nothing but 'littlefs journal commit' may change that image; give the image \
                 as it was then, or begin another journal"
            ),
            Self::CommitBegun => f.write_str(
                "its commit to the image was interrupted: run 'littlefs journal commit' with both \
                 files again to finish it",
            ),
            Self::NoTransaction { number, last } => {
                write!(f, "there is no transaction {number}; the last one is {last}")
            }
            Self::Reverted(number) => {
                write!(f, "transaction {number} was dropped by a revert")
            }
            Self::Committed { number, base } => write!(
                f,
                "state {number} can no longer be reached: everything up to {base} has been \
                 committed to the image"
            ),
            Self::NoSavepoint(name) => write!(
                f,
                "there is no savepoint '{name}', or its state is gone; 'littlefs journal log' \
                 lists the savepoints"
            ),
            Self::BadName(name) => write!(f, "'{name}' is not possible: {NAME_RULE}"),
            Self::Poisoned => f.write_str(
                "writing the journal failed, so it is not known what is on disk: unmount, and \
                 mount again",
            ),
            Self::Filesystem(e) => e.fmt(f),
            Self::Io(e) => f.write_str(&cause(e)),
        }
    }
}

impl std::error::Error for Reason {}

impl From<io::Error> for Reason {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

impl From<Error> for Reason {
    fn from(e: Error) -> Self {
        Self::Filesystem(e)
    }
}
