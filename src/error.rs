//! Errors that a caller can act on. There are no errno values here: the FUSE adapter has the only
//! table of them.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::image::OpenError;
use crate::journal::JournalError;

pub use crate::disk::Pair;
use crate::disk::list::{Broken, List, Place};
use crate::disk::log::LogFault;
use crate::show::{self, cause};

/// The result of everything in this library that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in terms of the filesystem: one variant for each cause that a caller can act
/// on.
///
/// As in `std::fs`, an error does not repeat the path that the caller gave. An error about another
/// path contains that path, like [`PathError`](crate::PathError) on a walk.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// There is no entry of that name, or the directory was removed.
    NotFound,
    /// The name is taken.
    Exists,
    /// A directory was needed.
    NotDirectory,
    /// A file was needed.
    IsDirectory,
    /// The directory still has entries.
    NotEmpty,
    /// The name is longer than `name_max` in the superblock, or does not fit into a metadata block.
    NameTooLong,
    /// The path is longer than 4096 bytes.
    PathTooLong,
    /// The name is empty, `.` or `..`, or contains `/` or NUL.
    InvalidName,
    /// There are not enough free blocks for the operation. Nothing was changed.
    NoSpace,
    /// The operation needs the map of free blocks, which is not complete yet. Nothing was changed.
    MapUnfinished,
    /// The file would be larger than `file_max` in the superblock.
    FileTooLarge,
    /// The attribute is larger than `attr_max` in the superblock.
    AttrTooLarge,
    /// The entry has no such user attribute.
    NoAttr,
    /// The file was closed. Its id does not refer to an open file any more.
    Closed,
    /// The filesystem was opened read-only, or became read-only after an error.
    ReadOnly,
    /// An argument makes no sense; the text says which.
    Invalid(&'static str),
    /// This library does not work as it should: that is a bug, and not the caller's fault. The text
    /// says what happened.
    Internal(&'static str),
    /// The device failed.
    Io(IoError),
    /// The image breaks a rule of the format. The value says which rule, and where.
    Corrupt(Corrupt),
    /// The image is sound, but this library cannot serve it.
    Unsupported(Unsupported),
    /// The image file cannot be opened. The error has its path and says what to do.
    Image(Arc<OpenError>),
    /// The journal over the image cannot be used. The error has its path and says what to do.
    Journal(Arc<JournalError>),
}

/// What some callers must know about the cause of a failed operation.
pub trait Trouble {
    /// Whether there was no space. A flush may make space, because it frees the blocks of what was
    /// removed or replaced.
    fn is_no_space(&self) -> bool;
}

impl Trouble for Error {
    fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace)
    }
}

/// What the device was asked to do when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IoOp {
    /// Reading bytes of a block.
    Read,
    /// Programming bytes of an erased block.
    Prog,
    /// Erasing a block.
    Erase,
    /// Ordering or making durable what was written.
    Sync,
}

impl fmt::Display for IoOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Prog => "write",
            Self::Erase => "erase",
            Self::Sync => "sync",
        })
    }
}

/// A call to the device that failed.
#[derive(Debug)]
pub struct IoError {
    /// The kind of call.
    pub op: IoOp,
    /// The block, if the call was about one.
    pub block: Option<u32>,
    /// The cause.
    pub source: io::Error,
}

impl Clone for IoError {
    /// An `io::Error` cannot be cloned. The copy has the same error number, or else the same kind
    /// and text.
    fn clone(&self) -> Self {
        let source = match self.source.raw_os_error() {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::new(self.source.kind(), self.source.to_string()),
        };
        Self { op: self.op, block: self.block, source }
    }
}

impl IoError {
    /// Whether this block is bad, so that another block may work. This is false if, for example,
    /// the host's filesystem is full or the image file is gone.
    pub fn is_bad_block(&self) -> bool {
        matches!(self.op, IoOp::Prog | IoOp::Erase)
            && matches!(self.source.raw_os_error(), Some(libc::EIO | libc::EILSEQ | libc::EBADMSG))
    }

    /// Whether trying again is useless because it is not known what is on the device: after a
    /// failed sync, or if the device became smaller.
    pub fn is_final(&self) -> bool {
        self.op == IoOp::Sync || self.source.get_ref().is_some_and(|e| e.is::<Shortened>())
    }

    /// If the device is a truncated image that lacks some of the bytes: how many of them it has,
    /// before the first one that is missing.
    pub(crate) fn present(&self) -> Option<usize> {
        let missing = self.source.get_ref()?.downcast_ref::<Missing>()?;
        Some(missing.present)
    }

    /// Says that the host's filesystem is full, because that is not a fault of the device.
    fn hint(&self) -> &'static str {
        match self.source.raw_os_error() {
            Some(libc::ENOSPC) => "; the disk that holds the image is full",
            Some(libc::EDQUOT) => "; a quota of the disk that holds the image is used up",
            Some(libc::EFBIG) => "; the image file has reached the limit of file sizes (ulimit -f)",
            _ => "",
        }
    }
}

/// A file or block device that became shorter while it was in use.
///
/// The missing bytes are lost. A write after the new end would make the file as long as before,
/// with zeros in place of the lost bytes. So every operation fails with this error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortened {
    /// How many bytes it has now.
    pub size: u64,
    /// How many bytes it had before.
    pub before: u64,
}

impl fmt::Display for Shortened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, before } = self;
        write!(
            f,
            "the file or device became shorter while it was in use: {size} of {before} bytes are \
             left"
        )
    }
}

impl std::error::Error for Shortened {}

impl From<Shortened> for io::Error {
    fn from(e: Shortened) -> Self {
        Self::other(e)
    }
}

/// Bytes of a filesystem that its truncated image lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// How many of the bytes that were wanted come before the end of the image.
    pub present: usize,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the image is truncated, and ends before these bytes")
    }
}

impl std::error::Error for Missing {}

impl From<Missing> for io::Error {
    fn from(e: Missing) -> Self {
        Self::other(e)
    }
}

/// Why something that can be read may not be what was written last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    /// The path of the entry, from the root on and without a leading slash. It is empty if the whole
    /// image is meant.
    pub path: Vec<u8>,
    /// The reason, as part of a sentence.
    pub why: String,
}

impl Corrupt {
    /// The error for a pair if it is not known what is wrong with its commits.
    pub(crate) fn no_valid_commit(pair: Pair) -> Self {
        Self::NoValidCommit { pair, faults: [None; 2] }
    }
}

impl Suspicion {
    /// A suspicion about the whole image.
    pub(crate) fn of_image(why: impl fmt::Display) -> Self {
        Self { path: Vec::new(), why: why.to_string() }
    }
}

/// A rule of the format that the image breaks. There is one variant for each check.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Corrupt {
    /// Neither block of the pair holds a valid commit (SPEC: Directories / Metadata pairs).
    NoValidCommit {
        /// The pair.
        pair: Pair,
        /// What is wrong with the first commit of each of its blocks, as far as that is known.
        faults: [Option<LogFault>; 2],
    },
    /// No driver reads some of the commits in the log of this pair, because one before them is
    /// damaged. So the pair shows an older state.
    CommitsHidden {
        /// The pair.
        pair: Pair,
        /// The block with the log.
        block: u32,
        /// Offset of the damaged commit in that block, in bytes.
        at: u32,
        /// How many valid commits are behind it.
        count: usize,
    },
    /// The log of the pair does not end any more with the commit that was read or written last.
    LogChanged(Pair),
    /// A metadata pair names a block outside the image, or one block twice.
    PairOutOfRange(Pair),
    /// An entry names blocks of a pair in the thread that hold an older state than the others. If
    /// the pair had been relocated, the state in its new blocks would be newer.
    PairOutdated(Pair),
    /// A pair is reached twice, because the tails or the directories form a loop.
    PairReachedTwice(Pair),
    /// A hardtail leads to this pair, but the pair cannot be used. So the directory lacks the entries
    /// of that pair and of all pairs after it.
    DirectoryCut(Pair),
    /// A CTZ list names a block outside the image.
    CtzOutOfRange {
        /// Head block of the list.
        head: u32,
        /// Index in the list of the block with the bad address.
        index: u32,
        /// The bad address.
        block: u32,
    },
    /// The pointers of a CTZ list disagree about the address of a block, so at least one of them
    /// leads to other data.
    CtzPointers {
        /// Head block of the list.
        head: u32,
        /// Index in the list of a block that has one of these pointers, or to which one leads.
        index: u32,
    },
    /// A CTZ list is longer than the image.
    CtzTooLong {
        /// Head block of the list.
        head: u32,
        /// The size in its struct, in bytes.
        size: u32,
    },
    /// A CTZ list leads back to a block that it has already been through.
    CtzLoop {
        /// Head block of the list.
        head: u32,
        /// The block that was met twice.
        block: u32,
    },
    /// A block of a CTZ list is also used by something else.
    CtzShared {
        /// Head block of the list.
        head: u32,
        /// The block.
        block: u32,
    },
    /// A pending move would delete the superblock.
    MoveOfSuperblock(Pair),
    /// A pending move names two blocks that are not a pair of the filesystem, or no longer. One of
    /// them is in a pair.
    MoveOutOfNoPair(Pair),
    /// The struct tag of an entry does not say where its content is (SPEC: `0x2xx` STRUCT).
    BadStruct {
        /// The pair that holds the entry.
        pair: Pair,
        /// The id of the entry in the pair.
        id: u16,
        /// What is wrong with the struct tag.
        why: StructFault,
    },
    /// The first entry of a pair of the superblock chain is not a valid superblock (SPEC: `0x0ff`
    /// SUPERBLOCK).
    BadSuperblock {
        /// The pair.
        pair: Pair,
        /// What is wrong with the entry.
        why: SuperblockFault,
    },
    /// A pair of a directory other than the root holds a superblock entry.
    StraySuperblock(Pair),
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoValidCommit { pair, faults } => {
                write!(f, "metadata pair {pair} holds no valid commit")?;
                let known = || pair.0.iter().zip(faults).filter_map(|(b, why)| Some((b, (*why)?)));
                for (number, (block, why)) in known().enumerate() {
                    write!(f, "{} block {block:#x}: {why}", if number == 0 { ":" } else { ";" })?;
                }
                Ok(())
            }
            Self::CommitsHidden { pair, block, at, count } => write!(
                f,
                "metadata pair {pair} shows an older state, because a commit is damaged (block \
                 {block:#x}, byte {at:#x}), and no driver reads what follows it ({}); 'littlefs \
                 recover' finds the files there",
                show::count(*count, "valid commit", "valid commits")
            ),
            Self::LogChanged(p) => write!(
                f,
                "the log of metadata pair {p} does not end with the commit that was read or \
                 written last: another program has changed the image, or the medium has lost data"
            ),
            Self::PairOutOfRange(p) => write!(f, "metadata pair {p} lies outside the image"),
            Self::PairOutdated(p) => write!(
                f,
                "metadata pair {p} holds an older state than the blocks that the thread names"
            ),
            Self::PairReachedTwice(p) => write!(f, "metadata pair {p} is reached twice (a loop)"),
            Self::DirectoryCut(p) => write!(
                f,
                "the directory goes on in metadata pair {p}, which cannot be used, so its entries \
                 from there on are missing"
            ),
            Self::CtzOutOfRange { head, index, block } => write!(
                f,
                "file with head block {head:#x}: block {index} of its list is {block:#x}, outside \
                 the image"
            ),
            Self::CtzPointers { head, index } => write!(
                f,
                "file with head block {head:#x}: the pointers of block {index} of its list \
                 disagree, so some of its bytes may come from another file"
            ),
            Self::CtzTooLong { head, size } => write!(
                f,
                "file with head block {head:#x} claims {size} bytes, more than the image has"
            ),
            Self::CtzLoop { head, block } => write!(
                f,
                "file with head block {head:#x}: its list leads back to block {block:#x} (a loop)"
            ),
            Self::CtzShared { head, block } => write!(
                f,
                "file with head block {head:#x}: its block {block:#x} is also used by something \
                 else"
            ),
            Self::MoveOfSuperblock(p) => {
                write!(f, "the global state says that the superblock was moved out of {p}")
            }
            Self::MoveOutOfNoPair(p) => write!(
                f,
                "the global state says that an entry was moved out of {p}, but these two blocks are \
                 not a pair, so it is not known which entry was moved"
            ),
            Self::BadStruct { pair, id, why } => {
                write!(f, "entry {id} of metadata pair {pair} has no usable struct: {why}")
            }
            Self::BadSuperblock { pair, why } => {
                write!(f, "metadata pair {pair} holds no usable superblock: {why}")
            }
            Self::StraySuperblock(p) => {
                write!(f, "metadata pair {p} holds a superblock where a directory should be")
            }
        }
    }
}

/// What is wrong with the struct tag of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StructFault {
    /// There is no struct tag.
    Missing,
    /// Its type is known, but it has fewer bytes than this type needs.
    TooShort {
        /// The 11-bit type of the tag.
        ty: u16,
    },
    /// Its type is not known.
    UnknownType {
        /// The 11-bit type of the tag.
        ty: u16,
    },
    /// It is a struct for a directory although the entry is a file, or the reverse.
    OfAnotherKind,
}

impl fmt::Display for StructFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is none"),
            Self::TooShort { ty } => write!(f, "it is of type {ty:#05x} and too short for that"),
            Self::UnknownType { ty } => write!(f, "its type {ty:#05x} is not known"),
            Self::OfAnotherKind => f.write_str(
                "it is a struct of a directory although the entry is a file, or vice versa",
            ),
        }
    }
}

/// Why an entry is not a valid superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SuperblockFault {
    /// The first entry is of another type, or there is none.
    NoEntry,
    /// Its name is not "littlefs".
    Magic,
    /// Its struct tag is not an inline struct.
    NotInline,
    /// It has fewer bytes than a superblock.
    TooShort,
}

impl fmt::Display for SuperblockFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoEntry => "its first entry is not a superblock",
            Self::Magic => "its first entry is not named \"littlefs\"",
            Self::NotInline => "its first entry has no inline struct",
            Self::TooShort => "its first entry is too short",
        })
    }
}

/// Why an image that is sound cannot be served.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsupported {
    /// The version: its major number is not 2, or its minor number is above 1.
    Version(u32),
    /// The block size or count is not supported; the text says why.
    Geometry(String),
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(v) => write!(
                f,
                "littlefs version {}.{} is not supported; this program supports 2.0 and 2.1",
                v >> 16,
                v & 0xffff
            ),
            Self::Geometry(why) => write!(f, "impossible geometry: {why}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such file or directory"),
            Self::Exists => f.write_str("file exists"),
            Self::NotDirectory => f.write_str("not a directory"),
            Self::IsDirectory => f.write_str("is a directory"),
            Self::NotEmpty => f.write_str("directory not empty"),
            Self::NameTooLong => {
                f.write_str("file name too long for this image: 'littlefs info' shows its limits")
            }
            Self::PathTooLong => f.write_str("the path is longer than 4096 bytes"),
            Self::InvalidName => f.write_str(
                "invalid file name: a name must not be empty, '.' or '..', and must not contain '/' \
                 or NUL; give another path, or if the image contains this name, 'littlefs check \
                 --repair' changes it",
            ),
            Self::NoSpace => {
                f.write_str("no space left in the image: 'littlefs info' shows how much is free")
            }
            Self::MapUnfinished => f.write_str(
                "the free blocks are not known yet, because the image is still being searched for \
                 them; try again a little later",
            ),
            Self::FileTooLarge => {
                f.write_str("file too large for this image: 'littlefs info' shows its limits")
            }
            Self::AttrTooLarge => {
                f.write_str("attribute too large for this image: 'littlefs info' shows its limits")
            }
            Self::NoAttr => f.write_str("no such attribute"),
            Self::Closed => f.write_str("the file was closed"),
            Self::ReadOnly => f.write_str("read-only filesystem"),
            Self::Invalid(what) => write!(f, "invalid argument: {what}"),
            Self::Internal(what) => write!(f, "internal error: {what}; please report this"),
            Self::Io(e) => {
                let (why, hint) = (cause(&e.source), e.hint());
                match e.block {
                    Some(b) => write!(f, "{} of block {b:#x} failed: {why}{hint}", e.op),
                    None => write!(f, "{} failed: {why}{hint}", e.op),
                }
            }
            Self::Corrupt(c) => write!(f, "damaged image: {c}"),
            Self::Unsupported(u) => u.fmt(f),
            Self::Image(e) => e.fmt(f),
            Self::Journal(e) => e.fmt(f),
        }
    }
}

impl Error {
    /// The error for a list that could not be followed.
    pub(crate) fn of_list(list: List, broken: Broken<IoError>) -> Self {
        let List { head, size } = list;
        match broken {
            Broken::TooLong { .. } => Corrupt::CtzTooLong { head, size }.into(),
            Broken::Outside(Place { index, block }) => {
                Corrupt::CtzOutOfRange { head, index: index.0, block }.into()
            }
            Broken::Loop { block } => Corrupt::CtzLoop { head, block }.into(),
            Broken::Unreadable { error, .. } => error.into(),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(e) => Some(&e.source),
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    /// The error in the form of `std::io`. Its kind tells the cause, and the message stays the
    /// same.
    fn from(e: Error) -> Self {
        use io::ErrorKind as Kind;
        let kind = match &e {
            Error::NotFound | Error::NoAttr => Kind::NotFound,
            Error::Exists => Kind::AlreadyExists,
            Error::NotDirectory => Kind::NotADirectory,
            Error::IsDirectory => Kind::IsADirectory,
            Error::NotEmpty => Kind::DirectoryNotEmpty,
            Error::NameTooLong | Error::PathTooLong | Error::InvalidName => Kind::InvalidFilename,
            Error::NoSpace => Kind::StorageFull,
            Error::MapUnfinished => Kind::WouldBlock,
            Error::FileTooLarge => Kind::FileTooLarge,
            Error::AttrTooLarge | Error::Closed | Error::Invalid(_) => Kind::InvalidInput,
            Error::ReadOnly => Kind::ReadOnlyFilesystem,
            Error::Io(e) => e.source.kind(),
            Error::Corrupt(_) => Kind::InvalidData,
            Error::Unsupported(_) => Kind::Unsupported,
            Error::Internal(_) | Error::Image(_) | Error::Journal(_) => Kind::Other,
        };
        Self::new(kind, e)
    }
}

impl From<OpenError> for Error {
    fn from(e: OpenError) -> Self {
        Self::Image(Arc::new(e))
    }
}

impl From<JournalError> for Error {
    fn from(e: JournalError) -> Self {
        Self::Journal(Arc::new(e))
    }
}

impl From<IoError> for Error {
    fn from(e: IoError) -> Self {
        Self::Io(e)
    }
}

impl From<Corrupt> for Error {
    fn from(c: Corrupt) -> Self {
        Self::Corrupt(c)
    }
}

impl From<Unsupported> for Error {
    fn from(u: Unsupported) -> Self {
        Self::Unsupported(u)
    }
}
