//! Why an image is not converted.

use std::fmt;
use std::io;

use super::ENTRY;
use crate::bd::Geometry;
use crate::check::Finding;
use crate::error::{Error, Unsupported};
use crate::image::Reason;
use crate::mdir::RESERVED;
use crate::show;

/// Why nothing was converted. Nothing was changed either.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The old image has damage that loses content.
    Damaged(Vec<Finding>),
    /// A part of the old image cannot be read: its path, and why.
    Unreadable(String, Error),
    /// The content does not fit into the new image.
    NoSpace {
        /// The geometry of the new image.
        geometry: Geometry,
        /// The number of blocks that would be enough, if that could be found out.
        needed: Option<u32>,
    },
    /// A name does not fit into a metadata block of the new image.
    NameTooLong {
        /// The path in the old image.
        path: String,
        /// Bytes of the name.
        len: usize,
        /// Bytes of the longest name that fits.
        max: u32,
        /// Bytes in a block.
        block_size: u32,
    },
    /// The new image cannot be written.
    Unwritable(Error),
    /// The old image is on a block device.
    Device,
    /// A file of the new name exists already.
    Exists,
    /// The path of the new image names something that is not a plain file, or cannot be opened.
    Target(Reason),
    /// The new image would be the old one.
    SameFile,
    /// The file to be replaced belongs to another user, but the new file would not.
    Owner(u32),
    /// Somebody changed the old image in the meantime.
    Changed,
    /// The new image differs from the old one, because of a bug; the text says where.
    Differs(String),
    /// The geometry asked for is impossible.
    Geometry(Unsupported),
    /// The system failed.
    Io(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(findings) => {
                for Finding { place, message, .. } in findings.iter().take(3) {
                    write!(f, "{place}: {message}; ")?;
                }
                f.write_str(
                    "'littlefs check' lists all damage, and --salvage leaves out what is lost",
                )
            }
            Self::Unreadable(path, e) => write!(f, "{path}: {e}; --salvage leaves it out"),
            Self::NoSpace { geometry: g, needed } => {
                write!(
                    f,
                    "its content does not fit into a littlefs of {} blocks of {} bytes",
                    g.block_count, g.block_size
                )?;
                if let Some(needed) = needed {
                    write!(f, "; it needs {}", show::count(*needed, "block", "blocks"))?;
                }
                f.write_str("; give OUT and a larger --block-count")
            }
            Self::NameTooLong { path, len, max, block_size } => {
                let enough = (*len as u32).saturating_add(ENTRY + RESERVED).next_power_of_two();
                write!(
                    f,
                    "{path}: the name has {len} bytes, but in a littlefs of version 2 with blocks \
                     of {block_size} bytes, names have at most {max} bytes; give OUT and \
                     --to-block-size {enough}"
                )
            }
            Self::Unwritable(e) => write!(f, "the new image cannot be written: {e}"),
            Self::Device => f.write_str(
                "a block device cannot be converted in place; give a file as OUT, and copy that \
                 file to the device",
            ),
            Self::Exists => f.write_str("exists; --force overwrites it"),
            Self::Target(reason) => reason.fmt(f),
            Self::SameFile => f.write_str("is the image itself; leave OUT out to convert in place"),
            Self::Owner(uid) => write!(
                f,
                "belongs to user {uid}, and the new file would not: convert it as that user, or \
                 to another file (OUT)"
            ),
            Self::Changed => f.write_str("was changed in the meantime; convert it again"),
            Self::Differs(what) => write!(f, "the new image is wrong: {what}; please report this"),
            Self::Geometry(e) => e.fmt(f),
            Self::Io(e) => f.write_str(&show::cause(e)),
        }
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}
