//! The file or block device that holds an image: opening, locking and measuring it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::holder::{self, LockError};
use super::{OpenError, Reason};
use crate::bd::file::{container_size, for_writing, is_write_protected};
#[cfg(feature = "cli")]
use crate::container::unwrap;
use crate::files::{self, Place};

/// The file or block device that was found at a path. It stays the same file, whatever happens to
/// its name. It is not locked yet.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    file: File,
    metadata: Metadata,
}

impl Source {
    /// Find what is at `path`.
    ///
    /// # Errors
    /// If there is nothing, if access is denied, or if it is neither a plain file nor a block
    /// device.
    pub fn find(path: &Path) -> Result<Self, OpenError> {
        Self::from_opened(path, files::open(path))
    }

    /// The file to which descriptor `number` of this process refers. It was found at `path`.
    ///
    /// # Errors
    /// Those of [`Source::find`].
    #[cfg(all(feature = "cli", feature = "mount"))]
    pub fn inherited(path: &Path, number: u32) -> Result<Self, OpenError> {
        Self::from_opened(path, files::inherited(number))
    }

    /// The content of standard input: at most `limit` bytes, or 4 GiB without a limit. It is only
    /// read.
    ///
    /// # Errors
    /// If it cannot be read, is longer than that, or cannot be kept in a temporary file.
    #[cfg(feature = "cli")]
    pub fn standard_input(limit: Option<u64>) -> Result<Self, OpenError> {
        let spooled = files::spool(&mut io::stdin().lock(), limit.unwrap_or(unwrap::LIMIT));
        Self::from_opened(Path::new("standard input"), spooled)
    }

    fn from_opened(path: &Path, file: io::Result<File>) -> Result<Self, OpenError> {
        let found = || -> Result<Self, Reason> {
            let file = file.map_err(|e| match e.raw_os_error() {
                Some(libc::ENXIO | libc::ENODEV) => Reason::NotFileOrDevice,
                _ => e.into(),
            })?;
            let metadata = file.metadata()?;
            let kind = metadata.file_type();
            if kind.is_dir() {
                return Err(Reason::Directory);
            }
            if !kind.is_file() && !kind.is_block_device() {
                return Err(Reason::NotFileOrDevice);
            }
            Ok(Self { path: path.to_owned(), file, metadata })
        };
        found().map_err(|reason| OpenError { path: path.to_owned(), reason })
    }

    /// The path at which it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The metadata that it had when it was found.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// A descriptor of it that is passed to programs which this one starts.
    #[cfg(all(feature = "cli", feature = "mount"))]
    pub(crate) fn pass_on(&self) -> io::Result<std::os::fd::OwnedFd> {
        files::pass_on(&self.file)
    }

    /// Its directory, and its name there.
    pub(crate) fn place(&self) -> io::Result<Place> {
        Place::of(&self.file, &self.path)
    }

    /// An error about it.
    pub(crate) fn refused(&self, reason: Reason) -> OpenError {
        OpenError { path: self.path.clone(), reason }
    }

    /// Open and lock it. If it cannot be written, it is opened for reading only.
    ///
    /// # Errors
    /// If it is in use, or access is denied.
    pub fn container(&self, read_only: bool) -> Result<Container, Reason> {
        let Self { path, file, metadata } = self;
        let is_device = metadata.file_type().is_block_device();
        let again = |flags| files::reopen(file, path, flags);
        let (file, writable) = if read_only || is_write_protected(metadata) {
            (again(OFlags::RDONLY)?, false)
        } else {
            match again(for_writing(is_device)) {
                Err(e) if cannot_write(&e) => (again(OFlags::RDONLY)?, false),
                file => (file?, true),
            }
        };
        Container::lock(file, writable, is_device)
    }
}

/// An open, locked file or block device.
pub struct Container {
    /// The file. It holds the lock, which is exclusive if the file is writable and shared
    /// otherwise.
    pub file: File,
    /// Whether writing was requested and is possible.
    pub writable: bool,
    /// Whether this is a block special file.
    pub is_device: bool,
    /// Its size in bytes.
    pub size: u64,
}

impl Container {
    /// Open and lock what is at `path`. If it cannot be written, it is opened for reading only.
    ///
    /// # Errors
    /// If there is nothing, if access is denied, if it is of another type, or if it is in use.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, Reason> {
        Source::find(path).map_err(|e| e.reason)?.container(read_only)
    }

    /// Create a new file.
    ///
    /// # Errors
    /// If something of that name exists, or the file cannot be created in the directory.
    pub fn create(path: &Path) -> Result<Self, Reason> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Self::lock(file, true, false)
    }

    fn lock(file: File, writable: bool, is_device: bool) -> Result<Self, Reason> {
        holder::lock(&file, writable, is_device).map_err(|e| match e {
            LockError::Held(holder) => Reason::InUse(holder),
            LockError::Io(e) => Reason::Io(e),
        })?;
        let size = container_size(&file)?;
        Ok(Self { file, writable, is_device, size })
    }
}

fn cannot_write(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}
