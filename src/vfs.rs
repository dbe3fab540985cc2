//! The mounted volume: the operations that FUSE requests, by inode number, on top of the core
//! (`Fs`).
//!
//! | file | operations |
//! |---|---|
//! | `inode` | the inode table: numbers, references, times |
//! | `listing` | directory snapshots |
//! | `names` | look up, create, remove, rename, list |
//! | `files` | read, write, truncate, allocate, copy |
//! | `lost` | content that could not be stored after the kernel had accepted it |
//! | `attrs` | attributes, times, permissions, space |
//! | `stored` | attributes that are kept in the image |
//! | `xattr` | extended attributes |
//! | `flusher` | when changes are written to the image |
//! | `status` | the state of the volume |
//!
//! littlefs itself cannot store owners, modes and times. If the image stores them in user
//! attributes by some [`crate::convention`], they are written there, in the commit of the change
//! that they belong to. Otherwise, the owner comes from the options of the mount, as on vfat, and
//! modes and times are only in memory: an unchanged file shows the mode from the options and the
//! time of the image, and changes of them last until the end of the mount.

mod attrs;
mod files;
mod flusher;
mod inode;
mod listing;
mod lost;
mod names;
mod status;
mod stored;
mod xattr;

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::convention::{Codec, Convention};
use crate::error::Error;
use crate::fs::{DirId, FileId, Fs};
use crate::time::nanos;

pub use attrs::{Attr, SetAttr, SetIds, SetTime};
pub use inode::ROOT_INO;
pub use lost::Loss;
pub use names::{New, RenameMode};
pub use status::{Condition, Filesystem, InodeCache, Stored};
pub use xattr::SetMode;

use flusher::Clock;
use inode::{Handle, InodeTable, Kind};
use listing::Listings;
use lost::LostContent;

/// Result of a volume operation.
pub type VfsResult<T> = Result<T, VfsError>;

/// Why an operation on a volume failed: an error of the core, or one that only a mounted volume
/// has.
#[derive(Debug)]
#[non_exhaustive]
pub enum VfsError {
    /// An error of the core.
    Core(Error),
    /// The image cannot store what was requested. Pretending that it can would mislead the caller.
    NotPermitted,
    /// This operation is not supported here.
    NotSupported,
    /// The kernel named an inode to which it has no reference.
    Stale,
    /// An extended attribute of that name exists already.
    AttrExists,
    /// Content that the kernel had accepted could not be stored.
    Lost(Loss),
}

impl fmt::Display for VfsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Core(e) => e.fmt(f),
            Self::NotPermitted => f.write_str("operation not permitted"),
            Self::NotSupported => f.write_str("operation not supported"),
            Self::Stale => f.write_str("stale inode number"),
            Self::AttrExists => f.write_str("the attribute exists"),
            Self::Lost(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for VfsError {}

impl From<Error> for VfsError {
    fn from(e: Error) -> Self {
        Self::Core(e)
    }
}

/// How a volume shows metadata that the image does not store, and when it writes.
#[derive(Debug, Clone)]
pub struct VolumeOptions {
    /// The convention by which user attributes keep times, owners and modes, if any.
    pub convention: Option<&'static Convention>,
    /// Show user attributes as extended attributes.
    pub user_xattr: bool,
    /// Owner of entries that have none in the image.
    pub uid: u32,
    /// Group of entries that have none in the image.
    pub gid: u32,
    /// Permission bits of files, if the image stores none.
    pub file_modes: DefaultModes,
    /// Permission bits of directories, if the image stores none.
    pub dir_modes: DefaultModes,
    /// Permission bits that are removed from every mode.
    pub withheld: u16,
    /// The times of entries that were not changed during this mount.
    pub default_time: SystemTime,
    /// When reading updates access times.
    pub atime: Atime,
    /// Flush after every operation that changes something.
    pub sync: bool,
    /// Flush after every operation that changes a directory.
    pub dirsync: bool,
    /// The longest time until a change is flushed.
    pub commit: Duration,
    /// If an image of another dialect is shown as a littlefs: what is different in the image.
    pub stored: Option<Stored>,
}

/// Permission bits to show if the image stores none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultModes {
    /// The bits of entries that are in the image already, until they are changed.
    pub bits: u16,
    /// The bits that no entry ever has, if a mask was given. New entries then have all other bits,
    /// whatever mode they are created with, as on vfat. Without a mask, they have the mode that
    /// they are created with.
    pub mask: Option<u16>,
}

/// When reading a file updates its access time. An access time alone is never written to the image;
/// it is written together with the next change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Atime {
    /// Never.
    Never,
    /// When it is older than the last change, or than a day.
    Relative,
    /// Whenever the kernel asks for content.
    Always,
}

/// A mounted filesystem. Several threads can use it at once.
pub struct Volume {
    options: VolumeOptions,
    /// Bytes per block of the image.
    block_size: u32,
    /// Longest name, in bytes.
    name_max: usize,
    /// How the image keeps times, owners and modes, if it does.
    codec: Option<Codec>,
    /// The filesystem itself. Lock order: this, then `listings` or `inodes`, each alone. The
    /// mapping between names and inodes changes only under this lock. Operations that need neither
    /// names nor content (attributes, forgetting) do not take it, so they never wait for I/O.
    core: Mutex<Fs>,
    /// The directories that are being read.
    listings: Mutex<Listings>,
    /// The inodes that the kernel knows. This lock is never held during I/O, nor while waiting for
    /// `core`.
    inodes: Mutex<InodeTable>,
    /// Content that was lost after the kernel had accepted it. This is the innermost of all locks.
    lost: Mutex<LostContent>,
    /// Signalled, with `inodes`, when the kernel has forgotten an unlinked file.
    freed: Condvar,
    /// Inodes that the kernel has forgotten, but whose files are not closed yet.
    closing: AtomicU32,
    /// Held by the thread that completes the map of free blocks. It is locked before `core`.
    mapping: Mutex<()>,
    /// When to flush.
    clock: Clock,
    /// A failure of a flush in the background, which the next fsync reports.
    failed: Mutex<Option<Error>>,
    /// Called when a request has to wait for the device, or for another request.
    on_wait: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// The device that keeps savepoints, if it does.
    savepoints: OnceLock<Arc<dyn Savepoints>>,
}

/// A device that can give names to its states.
pub trait Savepoints: Send + Sync {
    /// Whether a savepoint has this name.
    fn exists(&self, name: &[u8]) -> bool;

    /// The name of the last savepoint, if there is one.
    fn last(&self) -> Option<String>;

    /// Give the present state this name, durably. The caller has synced everything before.
    ///
    /// # Errors
    /// When a savepoint cannot have this name, or the name cannot be stored.
    fn save(&self, name: &[u8]) -> VfsResult<()>;
}

impl Volume {
    /// A volume over an open filesystem.
    pub fn new(mut fs: Fs, options: VolumeOptions) -> Self {
        fs.defer_map();
        let default_time = nanos(options.default_time);
        let codec = options.convention.map(|c| Codec::new(c, fs.attr_usage()));
        let this = Self {
            clock: Clock::new(options.commit),
            options,
            block_size: fs.superblock().block_size,
            name_max: fs.superblock().name_max as usize,
            codec,
            core: Mutex::new(fs),
            listings: Mutex::default(),
            inodes: Mutex::new(InodeTable::new(default_time)),
            lost: Mutex::default(),
            freed: Condvar::new(),
            closing: AtomicU32::new(0),
            mapping: Mutex::default(),
            failed: Mutex::default(),
            on_wait: OnceLock::new(),
            savepoints: OnceLock::new(),
        };
        this.load_root();
        this
    }

    /// Set a function that is called whenever a thread that serves a request has to wait for the
    /// device or for another request.
    pub fn on_wait(&self, call: impl Fn() + Send + Sync + 'static) {
        // only the first call counts, because there is one mount
        let _ = self.on_wait.set(Box::new(call));
    }

    /// Keep savepoints in `device`, which is the device of the filesystem.
    pub fn keep_savepoints(&self, device: Arc<dyn Savepoints>) {
        // only the first call counts, because a filesystem has one device
        let _ = self.savepoints.set(device);
    }

    fn will_wait(&self) {
        if let Some(call) = self.on_wait.get() {
            call();
        }
    }

    /// Lock the core for this thread.
    fn core(&self) -> MutexGuard<'_, Fs> {
        self.core.try_lock().unwrap_or_else(|| {
            self.will_wait();
            self.core.lock()
        })
    }

    /// Whether the filesystem can be written.
    pub fn is_read_only(&self) -> bool {
        self.core().is_read_only()
    }

    /// Accept changes from now on, if they were refused only because of an option.
    ///
    /// # Errors
    /// Why that is impossible.
    pub fn become_writable(&self) -> std::io::Result<()> {
        self.core().become_writable()
    }

    /// The directory of an inode number; `NotFound` if it was removed.
    fn dir(&self, ino: u64) -> VfsResult<DirId> {
        let inodes = self.inodes.lock();
        let inode = inodes.get(ino).ok_or(VfsError::Stale)?;
        match inode.kind {
            Kind::File { .. } => Err(Error::NotDirectory.into()),
            Kind::Dir(_) if !inode.linked => Err(Error::NotFound.into()),
            Kind::Dir(dir) => Ok(dir),
        }
    }

    /// The open file object of an inode; it is opened now if necessary.
    fn file(&self, core: &mut Fs, ino: u64) -> VfsResult<FileId> {
        let handle = self.inodes.lock().handle(ino);
        let (dir, name) = match handle {
            Some(Handle::Open(file)) => return Ok(file),
            Some(Handle::Key(dir, name)) => (dir, name),
            None => return Err(self.no_file(ino)),
        };
        let file = core.open_file(dir, &name)?;
        let close = self.inodes.lock().opened(ino, file);
        for other in &close {
            core.close_file(*other);
        }
        if close.contains(&file) { Err(VfsError::Stale) } else { Ok(file) }
    }

    fn no_file(&self, ino: u64) -> VfsError {
        match self.inodes.lock().get(ino).map(|inode| inode.kind) {
            Some(Kind::Dir(_)) => Error::IsDirectory.into(),
            _ => VfsError::Stale,
        }
    }

    /// Complete the map of free blocks, unless `stop` says that it is not needed any more. Files
    /// are walked without the core's lock, so that others can read in the meantime.
    ///
    /// # Errors
    /// If the device fails.
    pub fn map_blocks(&self, stop: &dyn Fn() -> bool) -> crate::Result<()> {
        let _mapping = self.mapping.try_lock().unwrap_or_else(|| {
            self.will_wait();
            self.mapping.lock()
        });
        while !stop() {
            let Some(unmapped) = self.core().unmapped() else { break };
            self.will_wait();
            let walked = unmapped.walk();
            self.core().mark(walked)?;
        }
        Ok(())
    }

    /// Run an operation that may need space, on the locked core. The space of a deleted file
    /// becomes free when the kernel forgets the file, a moment after the deletion. So if there is
    /// no space, wait for a moment, and try again.
    fn with_space<T>(
        &self,
        mut operation: impl FnMut(&mut Fs) -> VfsResult<T>,
    ) -> VfsResult<(T, MutexGuard<'_, Fs>)> {
        const MOMENT: Duration = Duration::from_millis(100);
        let end = Instant::now() + MOMENT;
        let mut core = self.core();
        let mut result = operation(&mut core);
        if matches!(result, Err(VfsError::Core(Error::MapUnfinished))) {
            drop(core);
            self.map_blocks(&|| false)?;
            core = self.core();
            result = operation(&mut core);
        }
        while matches!(result, Err(VfsError::Core(Error::NoSpace))) {
            let mut inodes = self.inodes.lock();
            let coming = inodes.orphans() > 0 || self.closing.load(Ordering::Acquire) > 0;
            if !coming || Instant::now() >= end {
                break;
            }
            drop(core);
            self.will_wait();
            // wait in short steps, because the signal of a file that was closed just now may have
            // come already
            self.freed.wait_for(&mut inodes, MOMENT / 10);
            drop(inodes);
            core = self.core();
            result = operation(&mut core);
        }
        Ok((result?, core))
    }

    /// The kernel dropped `count` references to an inode.
    pub fn forget(&self, ino: u64, count: u64) {
        self.closing.fetch_add(1, Ordering::AcqRel);
        let close = {
            let mut inodes = self.inodes.lock();
            let close = inodes.forget(ino, count);
            if !inodes.is_referenced(ino) {
                self.lost.lock().forget(ino);
            }
            close
        };
        if let Some(file) = close {
            self.core().close_file(file);
        }
        self.closing.fetch_sub(1, Ordering::AcqRel);
        if close.is_none() {
            return;
        }
        self.freed.notify_all();
        // The blocks of an unlinked file can be used again after the next flush.
        self.clock.changed();
    }

    /// Set the times of a directory whose entries changed.
    fn dir_changed(&self, inodes: &mut InodeTable, dir: DirId, now: i64) {
        if let Some(inode) = inodes.dir_mut(dir) {
            inode.modified(now);
        }
    }
}
