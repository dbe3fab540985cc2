//! Why an image cannot be read from a container, or written to one.

use std::fmt;
use std::io;

use super::Kind;
use super::content::Group;
use crate::show::cause;

/// What the user should know about a container that can be read.
#[derive(Debug, Clone, Default)]
pub struct Remarks {
    /// All of them.
    pub notes: Vec<String>,
    /// The first that says that a part of the container is missing or damaged.
    pub damage: Option<String>,
    /// Whether bytes are missing before the first one, and it is not known how many.
    pub start_is_lost: bool,
}

impl Remarks {
    /// Add a remark.
    pub fn note(&mut self, what: impl Into<String>) {
        self.notes.push(what.into());
    }

    /// Add a remark that says that a part of the container is missing or damaged.
    pub fn damaged(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.damage.get_or_insert_with(|| what.clone());
        self.notes.push(what);
    }
}

/// Why the content of a container cannot be read or written.
#[derive(Debug)]
#[non_exhaustive]
pub enum Trouble {
    /// It cannot be read.
    Io(io::Error),
    /// Its content cannot be unpacked into a temporary file.
    Spool(io::Error),
    /// It breaks its format; the text says how and where.
    Damaged(String),
    /// Two pieces give different bytes for the same address.
    Contradiction {
        /// The first of these addresses, or one shortly before it.
        address: u64,
    },
    /// It has more content than may be unpacked.
    TooLarge {
        /// How many bytes may be unpacked.
        limit: u64,
    },
    /// It has more pieces than any tool writes.
    TooManyPieces,
    /// There is nothing in it.
    Empty,
    /// Containers are nested more deeply than in any real file.
    TooDeep,
    /// Unpacking it needs too much memory.
    Memory {
        /// How many bytes may be used.
        limit: u64,
    },
    /// The format does not have enough addresses for so many bytes.
    NoAddress {
        /// How many bytes there are.
        size: u64,
        /// The address of the first byte.
        base: u32,
    },
    /// A copy of it with other content was to be made, but a part of it is missing or damaged; the
    /// text says what.
    Incomplete(String),
    /// The content was to be written in a format that this program cannot write.
    NotMade(Kind),
    /// Its format is one that this program only recognises.
    OnlyNamed(Kind),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => f.write_str(&cause(e)),
            Self::Spool(e) => write!(f, "its content {}", crate::files::no_room(e)),
            Self::Damaged(what) => write!(f, "it is damaged: {what}"),
            Self::Contradiction { address } => {
                write!(f, "it is damaged: it has two contents for address {address:#x}")
            }
            Self::TooLarge { limit } => write!(
                f,
                "its content is larger than {limit} bytes; give a larger --unpack-limit (-o \
                 unpack_limit=)"
            ),
            Self::TooManyPieces => f.write_str(
                "its content is in too many pieces, so it is probably damaged; make the file again, \
                 or use a raw image",
            ),
            Self::Empty => f.write_str("it has no content"),
            Self::TooDeep => f.write_str(
                "too many formats are nested in it; unpack the outer ones first, with programs like \
                 gunzip",
            ),
            Self::Memory { limit } => write!(
                f,
                "unpacking it needs more than {} MiB of memory; unpack it into a file first",
                limit >> 20
            ),
            Self::NoAddress { size, base } => write!(
                f,
                "{size} bytes from address {base:#x} on do not fit into addresses of 32 bits"
            ),
            Self::Incomplete(what) => write!(
                f,
                "{what}: no complete file can be made like it; give --like a complete file, or \
                 make one with --format"
            ),
            Self::NotMade(kind) => {
                write!(f, "{kind} cannot be made, only UF2, Intel HEX, S-records and DfuSe")
            }
            Self::OnlyNamed(kind) => f.write_str(kind.remedy()),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Only => f.write_str("the only one"),
            Self::Family(family) => match super::uf2::family_name(*family) {
                Some(name) => write!(f, "the one of family {name}"),
                None => write!(f, "the one of family {family:#010x}"),
            },
            Self::File(name) => write!(f, "the file {name:?}"),
            Self::Memory(number) => write!(f, "the one of memory {number}"),
        }
    }
}
