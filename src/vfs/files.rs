//! The content of files.

use super::flusher::Change;
use super::inode::Kind;
use super::{Atime, SetIds, VfsError, VfsResult, Volume};
use crate::error::{Error, Result};
use crate::fs::{DirId, FileId, Fs, ReadPlan};

/// Bytes copied at a time by `copy_range`.
const COPY_CHUNK: u64 = 256 << 10;
/// Longest target of a symbolic link that the kernel accepts, in bytes.
const LINK_MAX: usize = 4095;
/// An access time is not updated if it is younger than this and younger than the content.
const DAY: i64 = 24 * 3600 * 1_000_000_000;

impl Volume {
    /// Read from `offset` on into `buf`. Returns the number of bytes, which is smaller than `buf`
    /// only at the end of the file. The device is read without the core's lock.
    ///
    /// # Errors
    /// [`VfsError::Stale`] if the inode is gone, and the errors of
    /// [`Fs::read`](crate::fs::Fs::read).
    pub fn read(&self, ino: u64, offset: u64, buf: &mut [u8]) -> VfsResult<usize> {
        let plan = {
            let mut core = self.core();
            let file = self.file(&mut core, ino)?;
            core.read(file, offset, buf.len())?
        };
        let len = plan.len();
        plan.run_into(buf, || self.will_wait())?;
        if self.options.atime != Atime::Never {
            self.accessed(ino);
        }
        Ok(len)
    }

    /// Write `data` at `offset`. Either all of it is written, or nothing.
    ///
    /// # Errors
    /// [`VfsError::Stale`] if the inode is gone, and the errors of
    /// [`Fs::write`](crate::fs::Fs::write).
    pub fn write(&self, ino: u64, offset: u64, data: &[u8], set_ids: SetIds) -> VfsResult<()> {
        let ((), mut core) = self.with_space(|core| {
            let file = self.file(core, ino)?;
            core.write(file, offset, data)?;
            self.content_changed(core, ino, file, set_ids);
            Ok(())
        })?;
        self.lost.lock().clear(ino, offset, offset.saturating_add(data.len() as u64));
        self.store(&mut core, ino);
        Ok(self.settle(&mut core, Change::Content)?)
    }

    /// Set the size of the file. Added bytes are zeros.
    ///
    /// # Errors
    /// Those of [`Self::write`].
    pub fn truncate(&self, ino: u64, size: u64, set_ids: SetIds) -> VfsResult<()> {
        let ((), mut core) = self.with_space(|core| {
            let file = self.file(core, ino)?;
            core.truncate(file, size)?;
            self.content_changed(core, ino, file, set_ids);
            Ok(())
        })?;
        self.lost.lock().clear(ino, size, u64::MAX);
        self.store(&mut core, ino);
        Ok(self.settle(&mut core, Change::Content)?)
    }

    /// Make sure that the file has at least `offset + len` bytes. Added bytes are zeros. Any `mode`
    /// other than 0 requests something that the format cannot express.
    ///
    /// # Errors
    /// Those of [`Self::write`], and an error for a mode that the format cannot express.
    pub fn allocate(
        &self,
        ino: u64,
        offset: u64,
        len: u64,
        mode: i32,
        set_ids: SetIds,
    ) -> VfsResult<()> {
        if mode != 0 {
            return Err(VfsError::NotSupported);
        }
        let end = offset.checked_add(len).ok_or(Error::FileTooLarge)?;
        let ((), mut core) = self.with_space(|core| {
            let file = self.file(core, ino)?;
            if u64::from(core.file_size(file)?) < end {
                core.truncate(file, end)?;
                self.content_changed(core, ino, file, set_ids);
            }
            Ok(())
        })?;
        self.store(&mut core, ino);
        Ok(self.settle(&mut core, Change::Content)?)
    }

    /// Copy up to `len` bytes from one file to another. Returns how many were copied: if an error
    /// occurs after the first chunk, this is fewer than `len`.
    ///
    /// # Errors
    /// Those of [`Self::read`] and [`Self::write`], if nothing was copied before.
    pub fn copy_range(
        &self,
        (from, from_offset): (u64, u64),
        (to, to_offset): (u64, u64),
        len: u64,
        set_ids: SetIds,
    ) -> VfsResult<u32> {
        let len = len.min(u64::from(u32::MAX));
        let mut done = 0;
        let mut buf = vec![0; len.min(COPY_CHUNK) as usize];
        while done < len {
            let chunk = &mut buf[..(len - done).min(COPY_CHUNK) as usize];
            let step = self.read(from, from_offset.saturating_add(done), chunk).and_then(|n| {
                if n > 0 {
                    self.write(to, to_offset.saturating_add(done), &chunk[..n], set_ids)?;
                }
                Ok(n)
            });
            match step {
                Ok(0) => break,
                Ok(n) => done += n as u64,
                Err(e) if done == 0 => return Err(e),
                Err(_) => break,
            }
        }
        Ok(u32::try_from(done).unwrap_or(u32::MAX))
    }

    /// The whole content of a small file, but no more than `max` bytes. The file need not be open.
    pub(super) fn read_small(
        core: &mut Fs,
        dir: DirId,
        name: &[u8],
        max: usize,
    ) -> Result<Vec<u8>> {
        let file = core.open_file(dir, name)?;
        let data = core.read(file, 0, max).and_then(ReadPlan::run);
        core.close_file(file);
        data
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// If the inode is not a symbolic link, or cannot be read.
    pub fn read_link(&self, ino: u64) -> VfsResult<Vec<u8>> {
        if self.attr(ino)?.mode & libc::S_IFMT != libc::S_IFLNK {
            return Err(Error::Invalid("not a symbolic link").into());
        }
        let plan = {
            let mut core = self.core();
            let file = self.file(&mut core, ino)?;
            core.read(file, 0, LINK_MAX)?
        };
        Ok(plan.run()?)
    }

    fn content_changed(&self, core: &Fs, ino: u64, file: FileId, set_ids: SetIds) {
        let Ok(new_size) = core.file_size(file) else { return };
        let mut inodes = self.inodes.lock();
        if let Some(inode) = inodes.get_mut(ino) {
            inode.modified(self.now());
            if set_ids == SetIds::Clear {
                inode.clear_set_ids();
            }
            if let Kind::File { size, .. } = &mut inode.kind {
                *size = new_size;
            }
        }
    }

    /// Update the access time in memory; it is stored with the next change.
    fn accessed(&self, ino: u64) {
        let mut inodes = self.inodes.lock();
        let Some(inode) = inodes.get_mut(ino) else { return };
        let times = &mut inode.times;
        let now = self.now();
        if self.options.atime == Atime::Always
            || times.atime <= times.mtime.max(times.ctime)
            || times.atime < now.saturating_sub(DAY)
        {
            times.atime = now;
        }
    }
}
