//! Open files.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::metadata::{FileType, Metadata, SetMetadata};
use super::path::Place;
use super::{Core, Littlefs, Shared};
use crate::convention::Target;
use crate::error::{Error, Result};
use crate::fs::{At, FileId, Node};

/// How to open a file, like `std::fs::OpenOptions`.
///
/// ```
/// # fn main() -> littlefs::Result<()> {
/// # use littlefs::bd::{Geometry, RamDevice};
/// # let device = std::sync::Arc::new(RamDevice::new(Geometry::new(4096, 64)?));
/// # let fs = littlefs::FormatOptions::new().open_new(device)?;
/// use std::io::Write;
///
/// let mut log = littlefs::FileOptions::new().append(true).create(true).open(&fs, "log.txt")?;
/// writeln!(log, "one more line").expect("room for a line");
/// log.close()?;
/// fs.flush()
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct FileOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
}

impl FileOptions {
    /// Options that allow nothing; the calls below allow reading, writing and so on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allow reading.
    #[must_use]
    pub fn read(mut self, read: bool) -> Self {
        self.read = read;
        self
    }

    /// Allow writing.
    #[must_use]
    pub fn write(mut self, write: bool) -> Self {
        self.write = write;
        self
    }

    /// Allow writing, each time at the end of the file.
    #[must_use]
    pub fn append(mut self, append: bool) -> Self {
        self.append = append;
        self
    }

    /// Remove the old content when the file is opened; this needs [`Self::write`].
    #[must_use]
    pub fn truncate(mut self, truncate: bool) -> Self {
        self.truncate = truncate;
        self
    }

    /// Make the file if it does not exist; this needs [`Self::write`] or [`Self::append`].
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Make the file, and fail if it exists; this needs [`Self::write`] or [`Self::append`].
    #[must_use]
    pub fn create_new(mut self, create_new: bool) -> Self {
        self.create_new = create_new;
        self
    }

    /// Open the file at `path`.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the file does not exist and the options do not make it,
    /// [`Error::Exists`] with [`Self::create_new`] if it exists, [`Error::IsDirectory`] for a
    /// directory, [`Error::ReadOnly`] if the options include writing and the filesystem is
    /// read-only, and [`Error::Invalid`] for options that cannot be combined.
    pub fn open(&self, fs: &Littlefs, path: impl AsRef<[u8]>) -> Result<File> {
        let writes = self.write || self.append;
        if !(self.read || writes) {
            return Err(Error::Invalid("a file must be opened for reading or for writing"));
        }
        if (self.truncate && !self.write) || ((self.create || self.create_new) && !writes) {
            return Err(Error::Invalid(
                "a file must be opened for writing to be created or truncated",
            ));
        }
        let mut core = fs.core();
        let Place::Entry(dir, name) = core.place(path.as_ref())? else {
            return Err(Error::IsDirectory);
        };
        if writes && core.fs.is_read_only() {
            return Err(Error::ReadOnly);
        }
        match core.fs.lookup(dir, name) {
            Ok(Node::File { .. }) if self.create_new => return Err(Error::Exists),
            Ok(Node::File { .. }) => {}
            Ok(Node::Dir(_)) => return Err(Error::IsDirectory),
            Err(Error::NotFound) if self.create || self.create_new => {
                let attrs = core.initial_attrs(FileType::File, &SetMetadata::default());
                core.fs.create_with_attrs(dir, name, &attrs)?;
                core.dir_changed(dir);
            }
            Err(e) => return Err(e),
        }
        let id = core.fs.open_file(dir, name)?;
        drop(core);
        let file = File {
            shared: Arc::clone(&fs.shared),
            id,
            pos: 0,
            options: *self,
            last_error: Mutex::default(),
        };
        if self.truncate && !file.is_empty() {
            file.set_len(0)?;
        }
        Ok(file)
    }
}

/// An open file.
///
/// It stays valid when the file is renamed, and keeps its content when the file is removed. Several
/// handles of one file see each other's changes at once. Like all changes, those made through a
/// handle are in memory until they are flushed; closing a file writes nothing.
///
/// Each small read or write takes a lock. To avoid that, wrap the file in a `BufReader` or
/// `BufWriter`.
pub struct File {
    shared: Arc<Shared>,
    id: FileId,
    /// The position of the next read or write, in bytes.
    pos: u64,
    options: FileOptions,
    /// The last error of a change through this handle.
    last_error: Mutex<Option<Error>>,
}

impl File {
    fn core(&self) -> MutexGuard<'_, Core> {
        self.shared.lock()
    }

    /// Read from byte `offset` on into `buf`, up to the end of the file, and return the number of
    /// bytes.
    ///
    /// # Errors
    /// When the file was not opened for reading, or cannot be read.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        if !self.options.read {
            return Err(Error::Invalid("the file was not opened for reading"));
        }
        let plan = self.core().fs.read(self.id, offset, buf.len())?;
        if plan.is_empty() {
            return Ok(0);
        }
        let len = plan.len();
        plan.run_into(buf, || ())?;
        Ok(len)
    }

    /// Check that the file in the image has no traces of damage: all pointers of its block list
    /// must agree. Reading follows only some of them. Content has no checksums, so damage within it
    /// is not found.
    ///
    /// # Errors
    /// When the list is damaged, or cannot be read.
    pub fn check(&self) -> Result<()> {
        self.core().fs.check_file(self.id)
    }

    /// Write `data` at byte `offset`. A gap between the end of the file and `offset` reads as
    /// zeros. With [`FileOptions::append`], the offset is ignored. Either all of `data` is written,
    /// or nothing.
    ///
    /// # Errors
    /// When the file was not opened for writing, when it would become too large, or when there is
    /// no space.
    pub fn write_at(&self, data: &[u8], offset: u64) -> Result<()> {
        self.put(data, offset).map(|_| ())
    }

    /// Like [`Self::write_at`], but returns the position after the written bytes.
    fn put(&self, data: &[u8], offset: u64) -> Result<u64> {
        self.change(|fs, id| {
            let at = if self.options.append { u64::from(fs.file_size(id)?) } else { offset };
            fs.write(id, at, data)?;
            Ok(at + data.len() as u64)
        })
    }

    /// Set the size. Added bytes read as zeros.
    ///
    /// # Errors
    /// Those of [`File::write_at`].
    pub fn set_len(&self, size: u64) -> Result<()> {
        self.change(|fs, id| fs.truncate(id, size))
    }

    /// Change the content, and with it the time of the last change.
    fn change<T>(&self, change: impl FnOnce(&mut crate::fs::Fs, FileId) -> Result<T>) -> Result<T> {
        if !(self.options.write || self.options.append) {
            return self.noted(Err(Error::Invalid("the file was not opened for writing")));
        }
        let mut core = self.core();
        let changed = change(&mut core.fs, self.id);
        if changed.is_ok() && core.fs.is_linked(self.id) {
            core.touch(At::File(self.id), Target::File);
        }
        drop(core);
        self.noted(changed)
    }

    /// Remember a failure for [`File::close`].
    fn noted<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(e) = &result {
            *self.last_error.lock() = Some(e.clone());
        }
        result
    }

    /// The number of bytes in the file.
    pub fn len(&self) -> u64 {
        // this handle keeps the file open, so it exists
        self.core().fs.file_size(self.id).map_or(0, u64::from)
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The metadata of the file.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the file has no name any more. Also when its entry cannot be read.
    pub fn metadata(&self) -> Result<Metadata> {
        let mut core = self.core();
        let core = &mut *core;
        let codec = core.codec.as_ref();
        let node = Node::File { size: core.fs.file_size(self.id)? };
        core.fs.with_attrs(At::File(self.id), |attrs| Metadata::new(codec, node, attrs))
    }

    /// Set times, permissions and owner of the file, as far as the convention of the image can
    /// store them.
    ///
    /// # Errors
    /// Those of [`Littlefs::set_metadata`].
    pub fn set_metadata(&self, set: &SetMetadata) -> Result<()> {
        let file_type = self.metadata()?.file_type();
        let mut core = self.core();
        let meta = set.meta(file_type, core.now());
        let set = core.put_meta(At::File(self.id), &meta, Target::File);
        drop(core);
        self.noted(set)
    }

    /// The path of the file from the root on, without a leading slash. `None` when the file has no
    /// name any more, because it was removed or replaced. Its content exists until it is closed.
    pub fn path(&self) -> Option<Vec<u8>> {
        self.core().fs.file_path(self.id)
    }

    /// Whether the file still has a name.
    pub fn is_linked(&self) -> bool {
        self.core().fs.is_linked(self.id)
    }

    /// The data of the user attribute `ty`.
    ///
    /// # Errors
    /// [`Error::NoAttr`] if there is none of that type, [`Error::NotFound`] when the file has no
    /// name any more.
    pub fn attr(&self, ty: u8) -> Result<Vec<u8>> {
        self.core().fs.get_attr(At::File(self.id), ty)
    }

    /// All user attributes, as types and data, in ascending order of the types.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the file has no name any more.
    pub fn attrs(&self) -> Result<Vec<(u8, Vec<u8>)>> {
        self.core().attrs(At::File(self.id))
    }

    /// Set the user attribute `ty` to `data`.
    ///
    /// # Errors
    /// Those of [`Littlefs::set_attr`].
    pub fn set_attr(&self, ty: u8, data: impl AsRef<[u8]>) -> Result<()> {
        let set = self.core().fs.set_attr(At::File(self.id), ty, data.as_ref());
        self.noted(set)
    }

    /// Remove the user attribute `ty`.
    ///
    /// # Errors
    /// Those of [`Littlefs::remove_attr`].
    pub fn remove_attr(&self, ty: u8) -> Result<()> {
        let removed = self.core().fs.remove_attr(At::File(self.id), ty);
        self.noted(removed)
    }

    /// Make the file durable in its present state, with its name and the directories above it.
    ///
    /// Other open files keep in the image the content that they had before their unsaved changes,
    /// unless that content no longer fits into their directory. Changes that were made by path, and
    /// files that were closed, become durable at the same time. For a file that has lost its name,
    /// there is nothing to make durable.
    ///
    /// # Errors
    /// When the device fails, or has no space for the changes. The changes stay in memory.
    pub fn sync_all(&self) -> Result<()> {
        let mut core = self.core();
        let synced = if core.fs.is_linked(self.id) { core.fs.flush_file(self.id) } else { Ok(()) };
        drop(core);
        self.noted(synced)
    }

    /// Drop all changes of the file that are not durable yet, through any handle: content, times
    /// and attributes are again as they were when the file was last made durable. A file that was
    /// never durable becomes empty. The name stays.
    ///
    /// Changes become durable early if they exceed the memory for changes, and when an operation
    /// finds no space (unless [`Littlefs::hold`] prevents that). Such changes are not dropped.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the file has no name any more, and [`Error::NoSpace`] if the old
    /// content no longer fits, because the directory was filled in the meantime.
    pub fn discard(&self) -> Result<()> {
        let reverted = self.core().fs.revert_file(self.id);
        self.noted(reverted)
    }

    /// Close the file. This writes nothing.
    ///
    /// # Errors
    /// The last error of a change through this handle, if there was one, even if it was returned
    /// before.
    pub fn close(self) -> Result<()> {
        match self.last_error.lock().take() {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.shared.lock().fs.close_file(self.id);
    }
}

impl Read for File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.read_at(buf, self.pos)?;
        self.pos += read as u64;
        Ok(read)
    }
}

impl Write for File {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.pos = self.put(data, self.pos)?;
        Ok(data.len())
    }

    /// Does nothing: use [`File::sync_all`] to make the file durable.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(pos) => Some(pos),
            SeekFrom::End(by) => self.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.pos.checked_add_signed(by),
        };
        let before_start =
            || io::Error::new(io::ErrorKind::InvalidInput, "the position would be negative");
        self.pos = target.ok_or_else(before_start)?;
        Ok(self.pos)
    }
}

impl Littlefs {
    /// Open the file at `path` for reading.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn open_file(&self, path: impl AsRef<[u8]>) -> Result<File> {
        FileOptions::new().read(true).open(self, path)
    }

    /// Make an empty file at `path`, or empty the existing one, and open it for writing.
    ///
    /// # Errors
    /// Those of [`Littlefs::write`].
    pub fn create_file(&self, path: impl AsRef<[u8]>) -> Result<File> {
        FileOptions::new().write(true).create(true).truncate(true).open(self, path)
    }
}
