//! The interface that most users of the library need: a filesystem with paths, similar to
//! `std::fs`.
//!
//! | file | what is there |
//! |---|---|
//! | `options` | opening an image or a device |
//! | `format` | making an empty filesystem |
//! | `path` | what a path leads to |
//! | `metadata` | facts about an entry: kind, size, times, owner, mode |
//! | `file` | open files |
//! | `dir` | listing directories, and whole trees |
//! | `tree` | creating, removing, renaming and copying entries |
//! | `attr` | user attributes as they are stored |
//!
//! One mutex guards the engine; all handles share it. File data is read without holding the mutex.

mod attr;
mod dir;
mod file;
mod fit;
mod format;
mod metadata;
mod options;
mod path;
mod tree;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, MutexGuard};

use crate::bd::{BlockDevice, Geometry};
use crate::convention::{Codec, Convention};
use crate::error::{Result, Suspicion};
use crate::fs::{self, Counts, Flushes, Fs, Hold, Unwritten};
use crate::{image, show, time};

pub use dir::{DirEntry, PathError, ReadDir, Walk, WalkEntry};
pub use file::{File, FileOptions};
pub use fit::Misfit;
pub use format::FormatOptions;
pub use metadata::{FileType, Metadata, SetMetadata};
pub use options::OpenOptions;

/// An open filesystem.
///
/// Paths are bytes or strings. Absolute paths and paths relative to the root directory mean the
/// same. Components are separated by `/`; empty ones and `.` are ignored, and `..` is refused with
/// [`Error::InvalidName`](crate::Error::InvalidName). Symbolic links, which some conventions
/// support, are never followed.
///
/// **Changes stay in memory until [`Littlefs::flush`]**, [`Littlefs::close`] or [`File::sync_all`],
/// or until they exceed the memory that is reserved for changes. If one of these writes is
/// interrupted, the image stays sound. Dropping a `Littlefs` drops changes that were not flushed,
/// so a program that gives up leaves the image as it was at the last flush.
///
/// Handles are cheap to clone, and can be used from several threads at once.
#[derive(Clone)]
pub struct Littlefs {
    shared: Arc<Shared>,
}

/// What all handles of a filesystem share.
struct Shared {
    core: Mutex<Core>,
    told: Told,
    /// Why changes are refused, if they have been refused from the start although nothing is
    /// damaged.
    refused: Option<ReadOnlyReason>,
}

/// What became known when the image was opened.
#[derive(Default)]
struct Told {
    /// Warnings.
    notes: Vec<String>,
    /// What may not be what was written last.
    suspicions: Vec<Suspicion>,
}

/// What the mutex guards.
struct Core {
    fs: Fs,
    /// How the image keeps times, owners and modes, if it does.
    codec: Option<Codec>,
    /// The time that every change gets instead of the time of the clock, in nanoseconds since 1970.
    fixed_time: Option<i64>,
}

/// Why changes to a filesystem are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadOnlyReason {
    /// [`OpenOptions::read_only`] requested this.
    Asked,
    /// [`OpenOptions::at`] requested a past state of a journal.
    PastState,
    /// The image is in a dialect that can only be read.
    Dialect,
    /// The image has littlefs version 1, which can only be read.
    Version1,
    /// The image is wrapped in another format, and can only be read. The text says which format,
    /// and what to do.
    Wrapped(String),
    /// The image is truncated, and lacks this many bytes at its end.
    Truncated(u64),
    /// The image file cannot be written.
    WriteProtected,
    /// It is not certain that this is the right filesystem. The text says why.
    Doubtful(String),
    /// The image is damaged, or a write failed, and the content of the disk is unknown. The text
    /// says what is wrong.
    Damage(String),
}

impl fmt::Display for ReadOnlyReason {
    /// Part of a sentence, with the remedy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("it was opened for reading only"),
            Self::PastState => f.write_str("a past state of a journal cannot be changed"),
            Self::Dialect => f.write_str(
                "it is in the dialect of chamelon; convert it with 'littlefs convert --from \
                 chamelon'",
            ),
            Self::Version1 => f.write_str(
                "it is a littlefs of version 1; convert it with 'littlefs convert --from v1'",
            ),
            Self::Truncated(missing) => write!(
                f,
                "it is truncated, and lacks {} at its end; read it from the device again",
                show::bytes(*missing)
            ),
            Self::WriteProtected => f.write_str(image::WRITE_PROTECTED),
            Self::Wrapped(why) | Self::Doubtful(why) => f.write_str(why),
            Self::Damage(what) => {
                write!(
                    f,
                    "{what}; 'littlefs check -p' repairs what can be repaired without loss, and \
                     'littlefs check -y' repairs the rest"
                )
            }
        }
    }
}

/// The blocks of a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Bytes per block.
    pub block_size: u32,
    /// The number of all blocks.
    pub blocks: u32,
    /// Blocks in use.
    pub blocks_used: u32,
    /// Blocks that can still be filled: they are free, and not reserved for files that are being
    /// written.
    pub blocks_free: u32,
}

/// What a filesystem can hold, and how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Version of the format, major in the high 16 bits.
    pub disk_version: u32,
    /// Longest name, in bytes.
    pub name_max: u32,
    /// Largest file, in bytes.
    pub file_max: u32,
    /// Largest user attribute, in bytes.
    pub attr_max: u32,
    /// Largest inline file, in bytes.
    pub inline_max: u32,
    /// Commits end on multiples of this many bytes.
    pub prog_size: u32,
}

impl fmt::Debug for Littlefs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Littlefs").finish_non_exhaustive()
    }
}

impl Littlefs {
    /// Open the image in the file or on the block device at `path`: for reading and writing if the
    /// file allows that, and otherwise only for reading. The geometry is read from the image.
    ///
    /// # Errors
    /// [`Error::Image`](crate::Error::Image) says why there is no usable image. Other errors say
    /// what is wrong with the filesystem in it.
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Self> {
        OpenOptions::new().open(path)
    }

    /// Open the filesystem on `device`. Its block count need not be known: a device may have more
    /// blocks than the filesystem on it.
    ///
    /// # Errors
    /// When there is no littlefs on the device, or it does not fit the geometry of the device.
    pub fn open_device(device: Arc<dyn BlockDevice>) -> Result<Self> {
        OpenOptions::new().open_device(device)
    }

    /// Make a new image file at `path`, with an empty filesystem of `size` bytes, and open it.
    /// [`FormatOptions`] has more options.
    ///
    /// # Errors
    /// When the file exists already or cannot be made, or no filesystem has that size.
    pub fn create(path: impl AsRef<std::path::Path>, size: u64) -> Result<Self> {
        FormatOptions::new().size(size).create(path)
    }

    fn new(
        mut fs: Fs,
        options: &OpenOptions,
        refused: Option<ReadOnlyReason>,
        mut told: Told,
    ) -> Result<Self> {
        let codec = options.codec(&fs)?;
        told.notes.extend(options.note_on_convention(&fs));
        fs.track_unsaved();
        let core = Mutex::new(Core { fs, codec, fixed_time: nanos(options.time) });
        Ok(Self { shared: Arc::new(Shared { core, told, refused }) })
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.shared.lock()
    }

    /// Write every change to the image. When this returns, all of them are durable.
    ///
    /// # Errors
    /// When the device fails, or has no space for the changes. What was durable before stays
    /// durable, and the changes stay in memory.
    pub fn flush(&self) -> Result<()> {
        self.core().fs.flush_and_sync()
    }

    /// Write every change to the image, and give up this handle.
    ///
    /// Open files and other clones of this handle keep the image open. Later changes through them
    /// need another flush.
    ///
    /// # Errors
    /// Those of [`Littlefs::flush`]. In this case, changes that were not durable are lost.
    pub fn close(self) -> Result<()> {
        self.flush()
    }

    /// Choose whether operations that find no space fail at once. Otherwise, they flush, because
    /// this frees the blocks of what was removed, and try again. As long as [`Littlefs::flushes`]
    /// counts no new flushes, dropping this handle undoes every change.
    pub fn hold(&self, held: bool) {
        self.core().fs.hold(if held { Hold::Space } else { Hold::Nothing });
    }

    /// The flushes so far that had something to write: those that were requested, and those that
    /// happened because the changes exceeded the memory for changes.
    pub fn flushes(&self) -> Flushes {
        self.core().fs.flushes()
    }

    /// What the next flush would write.
    pub fn unwritten(&self) -> Unwritten {
        self.core().fs.unwritten()
    }

    /// Whether an operation that was interrupted earlier, perhaps on a device, is still unfinished.
    /// This call does not finish it; the first change does.
    pub fn is_pending(&self) -> bool {
        self.core().fs.is_interrupted()
    }

    /// Why changes are refused; `None` if they are not. If there are several reasons, this is the
    /// one that must be removed first.
    pub fn read_only_reason(&self) -> Option<ReadOnlyReason> {
        let core = self.core();
        let damage = core.fs.turned_read_only().map(|why| ReadOnlyReason::Damage(why.to_owned()));
        match &self.shared.refused {
            None | Some(ReadOnlyReason::Asked) => damage.or_else(|| self.shared.refused.clone()),
            // damage can be repaired only where changes are possible
            refused => refused.clone(),
        }
    }

    /// Why any of the content may be wrong, or older than what was written last: the container of
    /// the image is damaged, the commit of a journal was interrupted, a block that may hold newer
    /// metadata cannot be read, the thread of metadata pairs is broken, or a directory of another
    /// dialect ends too early. The list is empty if nothing of that is known.
    pub fn suspicions(&self) -> Vec<Suspicion> {
        let mut all = self.shared.told.suspicions.clone();
        all.extend(self.core().fs.suspect().map(Suspicion::of_image));
        all
    }

    /// How many blocks are used and free. The first call follows the block list of every file.
    ///
    /// # Errors
    /// When the device fails.
    pub fn usage(&self) -> Result<Usage> {
        let mut core = self.core();
        let fs::Usage { blocks_used, blocks_free } = core.fs.usage()?;
        let Geometry { block_size, block_count } = core.fs.geometry();
        Ok(Usage { block_size, blocks: block_count, blocks_used, blocks_free })
    }

    /// The number of files and directories. This reads the whole tree.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn counts(&self) -> Result<Counts> {
        self.core().fs.counts()
    }

    /// Block size and block count.
    pub fn geometry(&self) -> Geometry {
        self.core().fs.geometry()
    }

    /// What the filesystem can hold, and how it is written.
    pub fn limits(&self) -> Limits {
        let fs = &self.core().fs;
        let superblock = fs.superblock();
        Limits {
            disk_version: superblock.version,
            name_max: superblock.name_max,
            file_max: superblock.file_max,
            attr_max: superblock.attr_max,
            inline_max: fs.inline_max(),
            prog_size: fs.prog_size(),
        }
    }

    /// The convention by which user attributes store times, owners and modes; `None` if they do
    /// not.
    pub fn convention(&self) -> Option<&'static Convention> {
        self.core().codec.as_ref().map(Codec::convention)
    }

    /// The warnings from opening the image, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut all = self.shared.told.notes.clone();
        all.extend_from_slice(self.core().fs.warnings());
        all
    }
}

impl Shared {
    /// Lock the filesystem for this thread.
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock()
    }
}

impl Core {
    /// The time that a change gets, in nanoseconds since 1970.
    fn now(&self) -> i64 {
        self.fixed_time.unwrap_or_else(time::now)
    }
}

fn nanos(time: Option<SystemTime>) -> Option<i64> {
    time.map(time::nanos)
}
