//! The file or block device around an image: opened, locked and measured.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::Reason;
use super::holder::holder;
use crate::bd::file::{container_size, is_write_protected, open_for_writing};

/// udev looks into a block device for a moment after each change, holding its lock.
const DEVICE_LOCK_TRIES: u32 = 20;
const DEVICE_LOCK_PAUSE: Duration = Duration::from_millis(50);

/// An open, locked file or block device.
pub struct Container {
    /// Holds the lock: exclusive when writable, else shared.
    pub file: File,
    /// Whether writing was asked for and is possible.
    pub writable: bool,
    /// Whether this is a block special file.
    pub is_device: bool,
    /// Bytes in it.
    pub size: u64,
}

impl Container {
    /// Open and lock what is at `path`, for reading only where it cannot be written.
    ///
    /// # Errors
    /// When it is missing, forbidden, of another type, or in use.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, Reason> {
        let meta = path.metadata()?;
        let kind = meta.file_type();
        if kind.is_dir() {
            return Err(Reason::Directory);
        }
        let is_device = kind.is_block_device();
        if !is_device && !kind.is_file() {
            return Err(Reason::NotFileOrDevice);
        }
        let (file, writable) = if read_only || is_write_protected(&meta) {
            (File::open(path)?, false)
        } else {
            match open_for_writing(path, is_device) {
                Err(e) if cannot_write(&e) => (File::open(path)?, false),
                file => (file?, true),
            }
        };
        Self::lock(path, file, writable, is_device)
    }

    /// Create a file where there is none.
    ///
    /// # Errors
    /// When something is there by now, or the directory does not take it.
    pub fn create(path: &Path) -> Result<Self, Reason> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Self::lock(path, file, true, false)
    }

    fn lock(path: &Path, file: File, writable: bool, is_device: bool) -> Result<Self, Reason> {
        let mut tries = if is_device { DEVICE_LOCK_TRIES } else { 1 };
        loop {
            match if writable { file.try_lock() } else { file.try_lock_shared() } {
                Ok(()) => break,
                Err(TryLockError::Error(e)) => return Err(Reason::Io(e)),
                Err(TryLockError::WouldBlock) if tries <= 1 => {
                    return Err(Reason::InUse(holder(path)));
                }
                Err(TryLockError::WouldBlock) => {
                    tries -= 1;
                    thread::sleep(DEVICE_LOCK_PAUSE);
                }
            }
        }
        let size = container_size(&file)?;
        Ok(Self { file, writable, is_device, size })
    }
}

fn cannot_write(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}
