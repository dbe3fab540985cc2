//! The interface of the file that holds a journal.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;

use crate::bd::file::{container_size, read_up_to};
use crate::sys;

/// The zeros that are written after the end to reserve space.
static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

/// A file that grows at its end.
pub trait JournalFile: Send + Sync {
    /// The size of the file in bytes.
    ///
    /// # Errors
    /// The errors of the system.
    fn size(&self) -> io::Result<u64>;

    /// Fill `buf` from byte `at` on, up to the end of the file, and return the number of bytes
    /// read.
    ///
    /// # Errors
    /// The errors of the system.
    fn read(&self, at: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Fill `part` from byte `at` on if this is possible without waiting for storage. Return
    /// whether it was filled.
    fn read_now(&self, at: u64, part: &mut [u8]) -> bool;

    /// A hint: `len` bytes from `at` on will be read soon.
    fn will_read(&self, _at: u64, _len: u64) {}

    /// Write `data` at byte `at`. No valid content may follow it.
    ///
    /// # Errors
    /// The errors of the system.
    fn write(&self, at: u64, data: &[u8]) -> io::Result<()>;

    /// Write zeros from byte `at`, which is the end, and return their number. Syncing data that
    /// overwrites these zeros takes one write to the disk. Syncing a file that has become longer
    /// takes more writes, because its length changes.
    fn reserve(&self, _at: u64) -> u64 {
        0
    }

    /// Cut off everything from byte `len` on.
    ///
    /// # Errors
    /// The errors of the system.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Wait until everything that was written is on disk.
    ///
    /// # Errors
    /// The errors of the system. After an error, the content on disk is unknown.
    fn sync(&self) -> io::Result<()>;
}

impl JournalFile for File {
    fn size(&self) -> io::Result<u64> {
        container_size(self)
    }

    fn read(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        read_up_to(self, at, buf)
    }

    fn read_now(&self, at: u64, part: &mut [u8]) -> bool {
        let len = part.len();
        sys::read_parts(self, at, &mut [IoSliceMut::new(part)], true).is_ok_and(|n| n == len)
    }

    fn will_read(&self, at: u64, len: u64) {
        sys::will_read(self, at, len);
    }

    fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        self.write_all_at(data, at)
    }

    fn reserve(&self, at: u64) -> u64 {
        // if there is no space for the zeros, the journal works without them
        self.write_all_at(&ZEROS, at).map_or(0, |()| ZEROS.len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
