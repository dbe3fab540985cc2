//! Why an image could not be opened, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::{Dialect, Holder, InUse};
use crate::bd::Geometry;
use crate::container::{Doubt, Found, Kind, Label, Trouble};
use crate::disk::Superblock;
use crate::disk::superblock::{VERSION_2_0, VERSION_2_1};
use crate::error::{Error, Unsupported};
use crate::show::{self, Show};
use crate::{chamelon, v1};

/// An image could not be opened. This is displayed as `PATH: REASON`.
#[derive(Debug)]
pub struct OpenError {
    /// The path of the image, as the caller gave it.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: Reason,
}

/// Why an image cannot be used. There is one variant for each case.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason {
    /// There is nothing at the path.
    NotFound,
    /// The directory for a new file does not exist.
    NoDirectory,
    /// Neither writing nor reading is permitted.
    PermissionDenied,
    /// It is a directory.
    Directory,
    /// It is a terminal, a pipe, a socket or the like.
    NotFileOrDevice,
    /// The file has no bytes.
    Empty,
    /// The given offset is not inside the file.
    OffsetBeyondEnd {
        /// The offset in bytes.
        offset: u64,
        /// The size of the file in bytes.
        size: u64,
    },
    /// Nothing in the file looks like a littlefs.
    NotLittlefs {
        /// How many bytes from the offset were searched.
        searched: u64,
    },
    /// The image is wrapped in another format, and cannot be written there.
    Wrapped(Kind),
    /// The file is a plain image, but an image in another format is needed.
    NotWrapped,
    /// The file is a plain image, but a file of another format is needed as the pattern for a new
    /// one.
    NoPattern,
    /// The file has several stretches that are far apart: address and length of each.
    SeveralStretches(Vec<(u64, u64)>),
    /// There is nothing at this address.
    NothingAt(u64),
    /// The image is wrapped in another format, whose content cannot be read.
    Unreadable(Kind, Trouble),
    /// This partition is encrypted, and perhaps others are, too.
    Encrypted(Label),
    /// The partition does not hold a littlefs.
    OtherContent(Label),
    /// Several partitions have this name. They begin at these bytes.
    SeveralPartitions(Label, Vec<u64>),
    /// No partition has the given name.
    NoPartition {
        /// The given name.
        label: Label,
        /// The names of the partitions.
        labels: Vec<Label>,
        /// How many filesystems there are.
        count: usize,
    },
    /// It has fewer bytes than the content that it is to replace.
    TooShort {
        /// Its size in bytes.
        size: u64,
        /// The size of the content in bytes.
        wanted: u64,
    },
    /// It is a littlefs of version 1. This cannot be written, or another version was requested.
    Version1,
    /// It is a littlefs of this version, but version 1 was requested.
    NotVersion1(u32),
    /// A disk version that this library does not support (major number in the high 16 bits).
    UnknownVersion(u32),
    /// There is no filesystem at the given place, but there are some elsewhere in the file.
    Elsewhere(Vec<Found>),
    /// It may not be the filesystem that was meant, so it must not be written.
    Doubtful(Doubt),
    /// The magic of a superblock is there, but no valid superblock.
    SuperblocksDamaged,
    /// The image has another block size than the given one.
    WrongBlockSize {
        /// The given block size.
        given: u32,
        /// The block size in the image.
        found: u32,
    },
    /// The image has another number of blocks than the given one.
    WrongBlockCount {
        /// The given number.
        given: u32,
        /// The number in the image.
        found: u32,
    },
    /// The geometry is not supported.
    Geometry(Unsupported),
    /// The file is shorter than the filesystem in it, so it must not be written.
    Truncated {
        /// The geometry in the image.
        geometry: Geometry,
        /// How many bytes are missing.
        missing: u64,
    },
    /// The container of the image lacks something, or is damaged; the text says what.
    Incomplete(String),
    /// The same, and the image cannot be used for a reason to which this may have led.
    InIncomplete(String, Box<Self>),
    /// The image is in the dialect of chamelon, which cannot be written.
    Chamelon,
    /// The image is in the dialect of chamelon, which cannot be searched for deleted files.
    NotSearched,
    /// The image is in this dialect, and its root cannot be read.
    DialectDamaged(Dialect, Error),
    /// Another process holds the lock. The value is that process, if it is known.
    InUse(Option<Holder>),
    /// The system reported an error.
    Io(io::Error),
}

impl Reason {
    /// The reason as a sentence about the image `image`.
    pub fn about(&self, image: &dyn fmt::Display) -> String {
        match self {
            Self::Chamelon => format!("written by chamelon: {}", chamelon::remedy(image)),
            Self::Version1 => format!("a littlefs of version 1: {}", v1::remedy(image)),
            Self::Wrapped(kind) => of_wrapped(*kind, image),
            _ => self.to_string(),
        }
    }

    /// The reason without the damage of the container that may have led to it.
    pub(crate) fn bare(self) -> Self {
        match self {
            Self::InIncomplete(_, reason) => *reason,
            reason => reason,
        }
    }

    /// The reason as a sentence about the image at `path`.
    pub(super) fn at(self, path: &Path) -> String {
        OpenError { path: path.to_owned(), reason: self }.to_string()
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.show();
        match self.reason {
            Reason::NotFound if self.path == Path::new("-") => write!(
                f,
                "{path}: here, the image cannot come from standard input; save it in a file first"
            ),
            _ => write!(f, "{path}: {}", self.reason.about(&path)),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDirectory
            | Self::NotFound
            | Self::PermissionDenied
            | Self::Directory
            | Self::NotFileOrDevice
            | Self::Empty
            | Self::TooShort { .. }
            | Self::InUse(_)
            | Self::Io(_) => self.fmt_of_file(f),
            Self::OffsetBeyondEnd { .. }
            | Self::NotLittlefs { .. }
            | Self::OtherContent(_)
            | Self::SeveralPartitions(..)
            | Self::NoPartition { .. }
            | Self::Elsewhere(_)
            | Self::Doubtful(_) => self.fmt_of_place(f),
            Self::NotWrapped
            | Self::NoPattern
            | Self::Wrapped(_)
            | Self::SeveralStretches(_)
            | Self::NothingAt(_)
            | Self::Unreadable(..)
            | Self::Encrypted(_)
            | Self::Incomplete(_)
            | Self::InIncomplete(..) => self.fmt_of_container(f),
            Self::NotSearched
            | Self::Version1
            | Self::Chamelon
            | Self::NotVersion1(_)
            | Self::UnknownVersion(_)
            | Self::WrongBlockSize { .. }
            | Self::WrongBlockCount { .. } => self.fmt_of_format(f),
            Self::SuperblocksDamaged
            | Self::Geometry(_)
            | Self::Truncated { .. }
            | Self::DialectDamaged(..) => self.fmt_of_damage(f),
        }
    }
}

/// The words of each reason, in groups.
impl Reason {
    /// What is wrong with the file or device itself.
    fn fmt_of_file(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDirectory => f.write_str("the directory does not exist"),
            Self::NotFound => f.write_str(
                "no such file; correct the path, or make a new image with 'littlefs mkfs --size 1M \
                 FILE'",
            ),
            Self::PermissionDenied => f.write_str(
                "permission denied: reading needs the read permission, and changing it also needs \
                 the write permission; '-o ro' mounts with the read permission alone",
            ),
            Self::Directory => f.write_str(
                "is a directory, not an image; give the image first (for a mount, the mountpoint \
                 comes after it)",
            ),
            Self::NotFileOrDevice => f.write_str(
                "is neither a plain file nor a block device; copy its content into a file first",
            ),
            Self::Empty => f.write_str(
                "not a littlefs image: the file is empty; read it from the device again, or make a \
                 new image with 'littlefs mkfs --size 1M FILE'",
            ),
            Self::TooShort { size, wanted } => write!(
                f,
                "has {}, but the content that it is to replace has {}, so old content would be \
                 left at the end; use an image of that size, as 'littlefs unwrap' makes it, or \
                 give its place with --base",
                show::bytes(*size),
                show::bytes(*wanted)
            ),
            Self::InUse(holder) => write!(
                f,
                "{}; several can use an image at a time only if all of them just read it (mounts \
                 with -o ro)",
                InUse(holder.as_ref())
            ),
            Self::Io(e) if e.raw_os_error() == Some(libc::EIO) => write!(
                f,
                "{}; copy what can still be read into a file (for example with ddrescue), and \
                 use that file",
                show::cause(e)
            ),
            Self::Io(e) => f.write_str(&show::cause(e)),
            _ => Ok(()),
        }
    }

    /// Why the place where the filesystem should start is not right, or not certain.
    fn fmt_of_place(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OffsetBeyondEnd { offset, size } => write!(
                f,
                "offset={offset} is not inside the file, which has {size} bytes; correct it, or \
                 leave it out"
            ),
            Self::NotLittlefs { searched } => write!(
                f,
                "not a littlefs image: there is no superblock, neither \"littlefs\" at byte 8 of \
                 block 0 or block 1, nor anywhere else (searched: {}); if the filesystem starts \
                 later in the file, give its place with --offset BYTES, or -o offset=BYTES for a \
                 mount; if its superblocks are lost, 'littlefs recover --block-size BYTES' searches \
                 for its files without them",
                show::bytes(*searched)
            ),
            Self::OtherContent(label) => write!(
                f,
                "partition {label} holds no littlefs; 'littlefs scan FILE' lists everything that \
                 is found"
            ),
            Self::SeveralPartitions(label, places) => {
                write!(
                    f,
                    "several partitions are called {label}; say which one with --offset BYTES, or \
                     with -o offset=BYTES for a mount:"
                )?;
                for (i, at) in places.iter().take(NAMED_MAX).enumerate() {
                    write!(f, "{} offset={at}", if i == 0 { "" } else { " or" })?;
                }
                Ok(())
            }
            Self::NoPartition { label, labels, count } => {
                match label.to_string().parse::<u32>() {
                    Ok(n) => write!(f, "there is no filesystem with the number {n}; ")?,
                    Err(_) => write!(f, "no partition is called {label}; ")?,
                }
                match labels[..] {
                    [] => write!(f, "there is no partition table")?,
                    _ => write!(f, "the partitions are")?,
                }
                for label in labels.iter().take(4 * NAMED_MAX) {
                    write!(f, " {label}")?;
                }
                match count {
                    0 => f.write_str("; no filesystem was found in the file"),
                    1 => f.write_str("; 'littlefs scan FILE' shows the filesystem in the file"),
                    _ => write!(f, "; 'littlefs scan FILE' lists {count} filesystems"),
                }
            }
            Self::Elsewhere(found) => elsewhere(f, found),
            Self::Doubtful(doubt) => {
                write!(f, "{doubt}; so it cannot be written; {}", doubt.remedy())
            }
            _ => Ok(()),
        }
    }

    /// What is wrong with the container around the image.
    fn fmt_of_container(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWrapped => f.write_str(
                "is not a UF2, hex, DFU or compressed file, and no spare bytes were recognised \
                 (--page gives the page size): there is nothing to unwrap",
            ),
            Self::NoPattern => f.write_str(
                "is not a UF2, hex or DFU file, so the new file cannot take its format and \
                 addresses from it; give such a file, or choose the format with --format",
            ),
            Self::Wrapped(_) => f.write_str(&self.about(&"FILE")),
            Self::SeveralStretches(all) => {
                f.write_str("holds bytes at addresses that are far apart; choose where to begin:")?;
                for (i, (address, len)) in all.iter().take(NAMED_MAX).enumerate() {
                    let or = if i == 0 { "" } else { " or" };
                    write!(f, "{or} --base {address:#x} ({})", show::bytes(*len))?;
                }
                Ok(())
            }
            Self::NothingAt(address) => write!(
                f,
                "holds nothing at address {address:#x}; leave out --base, or give an address that \
                 it has ('littlefs scan' shows the first one)"
            ),
            Self::Unreadable(kind, trouble @ (Trouble::Io(_) | Trouble::OnlyNamed(_))) => {
                write!(f, "a file in the format {kind}: {trouble}")
            }
            Self::Unreadable(kind, trouble) => {
                write!(f, "a file in the format {kind}, but {trouble}")
            }
            Self::Encrypted(label) => write!(
                f,
                "partition {label} is marked as encrypted, so no filesystem can be found in it; \
                 let the device read its own flash, because that decrypts the content"
            ),
            Self::Incomplete(what) => write!(
                f,
                "{what}; make it again, or read it from the device again; 'littlefs scan' shows what \
                 it holds"
            ),
            Self::InIncomplete(what, reason) => write!(f, "{what}; {reason}"),
            _ => Ok(()),
        }
    }

    /// Why a filesystem of this format cannot be used, or not with these options.
    fn fmt_of_format(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSearched => f.write_str(
                "written by chamelon: images of this dialect cannot be searched for deleted files; \
                 'littlefs extract' copies what is there",
            ),
            Self::Version1 | Self::Chamelon => f.write_str(&self.about(&"IMAGE")),
            Self::NotVersion1(version) => write!(
                f,
                "a littlefs of version {} and not of version 1; leave out the option that \
                 requires version 1",
                DiskVersion(*version)
            ),
            Self::UnknownVersion(v) => {
                let newer = *v > VERSION_2_1;
                write!(
                    f,
                    "a littlefs of {} version {}.{}; this program knows {} and {}{}",
                    if newer { "newer" } else { "unknown" },
                    v >> 16,
                    v & 0xffff,
                    DiskVersion(VERSION_2_0),
                    DiskVersion(VERSION_2_1),
                    if newer {
                        ": look for a newer littlefs-progs"
                    } else {
                        ": read the image from the device again"
                    }
                )
            }
            Self::WrongBlockSize { given, found } => write!(
                f,
                "block size {given} is wrong: the image says {found}; leave out the block size to \
                 use that"
            ),
            Self::WrongBlockCount { given, found } => write!(
                f,
                "block count {given} is wrong: the image says {found}; leave out the block count \
                 to use that"
            ),
            _ => Ok(()),
        }
    }

    /// What is damaged in the filesystem.
    fn fmt_of_damage(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SuperblocksDamaged => f.write_str(
                "a littlefs, but both superblocks are damaged: \"littlefs\" was found, but there \
                 is no valid commit in block 0 or block 1; read the image from the device again, \
                 or bring back what is left of its files with 'littlefs recover'",
            ),
            Self::Geometry(e) => {
                write!(f, "the image has an {e}; read it from the device again")
            }
            Self::Truncated { geometry, missing } => write!(
                f,
                "truncated: its filesystem has {} blocks of {} bytes, and lacks {} at the end; \
                 read the image from the device again; 'littlefs extract' and 'littlefs mount -o \
                 ro' still give the files that are complete",
                geometry.block_count,
                geometry.block_size,
                show::bytes(*missing)
            ),
            Self::DialectDamaged(Dialect::Chamelon, e) => {
                write!(f, "an image of chamelon: {e}; read the image from the device again")
            }
            Self::DialectDamaged(_, e) => write!(
                f,
                "a littlefs of version 1: {e}; 'littlefs recover' brings back what is left of its \
                 files"
            ),
            _ => Ok(()),
        }
    }
}

/// Why a file that can be read cannot be changed, and what to do about it.
pub(crate) const WRITE_PROTECTED: &str = "the file is write-protected, or you do not have the \
    right to write to it; if it is yours, 'chmod u+w' makes it writable";

/// How many filesystems a message names. Further ones are only counted.
const NAMED_MAX: usize = 8;

/// What to do about a file at `path` that can only be read, as part of a sentence.
pub(crate) fn of_wrapped(kind: Kind, path: &dyn fmt::Display) -> String {
    let mut text = format!(
        "a file in the format {kind}, which can only be read; 'littlefs unwrap {path} RAW' makes \
         an image that can be changed"
    );
    if kind.can_be_made() {
        text += &format!(", and 'littlefs wrap --like {path} RAW NEW' puts it back");
    }
    text
}

fn elsewhere(f: &mut fmt::Formatter<'_>, all: &[Found]) -> fmt::Result {
    f.write_str("no littlefs starts here, but the file holds ")?;
    match all.len() {
        1 => f.write_str("one")?,
        n => write!(f, "{n}")?,
    }
    for (i, found) in all.iter().take(NAMED_MAX).enumerate() {
        f.write_str(if i == 0 { ": " } else { "; " })?;
        let Superblock { version, block_size, block_count, .. } = found.superblock;
        write!(
            f,
            "offset={} ({:#x}), littlefs {}, {block_count} blocks of {block_size} bytes",
            found.at,
            found.at,
            DiskVersion(version)
        )?;
        if let Some(label) = found.label {
            write!(f, ", partition {label}")?;
        }
        if let Some(doubt) = &found.doubt {
            write!(f, " (doubtful: {doubt})")?;
        }
    }
    if all.len() > NAMED_MAX {
        write!(f, "; and {} more", all.len() - NAMED_MAX)?;
    }
    f.write_str(
        "; say which one with --offset BYTES or --partition NAME, or with -o offset=BYTES or -o \
         partition=NAME for a mount",
    )
}

/// A disk version in the form that people use, such as `2.1`.
struct DiskVersion(u32);

impl fmt::Display for DiskVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 16, self.0 & 0xffff)
    }
}

impl std::error::Error for OpenError {}

impl Reason {
    /// The reason why a new file cannot be made.
    pub(crate) fn of_new(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::NotFound => Self::NoDirectory,
            _ => e.into(),
        }
    }
}

impl From<io::Error> for Reason {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::PermissionDenied => Self::PermissionDenied,
            io::ErrorKind::ResourceBusy => Self::InUse(None),
            _ => Self::Io(e),
        }
    }
}

impl From<Unsupported> for Reason {
    fn from(e: Unsupported) -> Self {
        Self::Geometry(e)
    }
}
