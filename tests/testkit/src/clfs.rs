//! The C driver over an image in memory. It judges what this library reads and writes.
//!
//! The device under the driver is strict. It returns `LFS_ERR_IO` for everything that a flash chip
//! would not do: programming bytes that are not erased, and accesses that are not aligned or out of
//! range. The call that caused this then panics with the reason. Assertions of the driver itself,
//! if they are compiled in (feature `assertions`), print file and line and abort the process.

#![expect(unsafe_code)]

mod driver;

use std::collections::BTreeSet;
use std::ffi::{CString, c_int, c_void};
use std::fmt;
use std::mem::MaybeUninit;

use littlefs2_sys as sys;

use self::driver::Boxed;
use crate::tree::{Attrs, Entry, Kind, Tree, join};

pub use self::driver::{Config, DeviceCounts, V2_0, V2_1};

const READ: u32 = sys::lfs_open_flags_LFS_O_RDONLY;
const WRITE: u32 = sys::lfs_open_flags_LFS_O_WRONLY;
const CREATE: u32 = sys::lfs_open_flags_LFS_O_CREAT;

/// The result of a call to the driver.
pub type CResult<T> = Result<T, CError>;

/// An error of the driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CError {
    Io,
    Corrupt,
    NoEnt,
    Exist,
    NotDir,
    IsDir,
    NotEmpty,
    BadF,
    FBig,
    Inval,
    NoSpc,
    NoMem,
    NoAttr,
    NameTooLong,
    /// A code that this version of the driver does not document.
    Other(i32),
}

impl CError {
    /// The error for a negative result.
    pub fn from_code(code: i32) -> Self {
        match code {
            sys::lfs_error_LFS_ERR_IO => Self::Io,
            sys::lfs_error_LFS_ERR_CORRUPT => Self::Corrupt,
            sys::lfs_error_LFS_ERR_NOENT => Self::NoEnt,
            sys::lfs_error_LFS_ERR_EXIST => Self::Exist,
            sys::lfs_error_LFS_ERR_NOTDIR => Self::NotDir,
            sys::lfs_error_LFS_ERR_ISDIR => Self::IsDir,
            sys::lfs_error_LFS_ERR_NOTEMPTY => Self::NotEmpty,
            sys::lfs_error_LFS_ERR_BADF => Self::BadF,
            sys::lfs_error_LFS_ERR_FBIG => Self::FBig,
            sys::lfs_error_LFS_ERR_INVAL => Self::Inval,
            sys::lfs_error_LFS_ERR_NOSPC => Self::NoSpc,
            sys::lfs_error_LFS_ERR_NOMEM => Self::NoMem,
            sys::lfs_error_LFS_ERR_NOATTR => Self::NoAttr,
            sys::lfs_error_LFS_ERR_NAMETOOLONG => Self::NameTooLong,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for CError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "C littlefs: {self:?}")
    }
}

impl std::error::Error for CError {}

/// The result of `stat`, and of a directory listing for each entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Info {
    Dir,
    File { size: u32 },
}

/// A mounted C littlefs. Paths have the form of those in `Tree`: relative to the root, which is the
/// empty path.
pub struct CLfs {
    driver: Boxed,
}

impl CLfs {
    /// An image that the driver has formatted. All other blocks are erased.
    pub fn format(config: &Config) -> CResult<Vec<u8>> {
        let size = config.block_size as usize * config.block_count as usize;
        let driver = Boxed::new(vec![config.erased; size], config);
        // SAFETY: both pointers stay valid for the call; nothing is mounted afterwards.
        driver.check(unsafe { sys::lfs_format(driver.lfs(), driver.config()) })?;
        Ok(driver.take_image())
    }

    /// What is on flash if the power fails after `writes` programs and erases of formatting
    /// `image`, and whether the driver was done by then.
    pub fn interrupted_format(image: Vec<u8>, config: &Config, writes: u64) -> (Vec<u8>, bool) {
        let driver = Boxed::new(image, config);
        driver.cut_power_after(writes);
        // SAFETY: as in `format`.
        let code = unsafe { sys::lfs_format(driver.lfs(), driver.config()) };
        let done = driver.check(code).is_ok();
        (driver.take_image(), done)
    }

    /// Mount an image.
    pub fn mount(image: Vec<u8>, config: &Config) -> CResult<Self> {
        let driver = Boxed::new(image, config);
        // SAFETY: the driver's state and configuration stay in place until they are dropped
        // after the unmount; a mount that fails frees what it allocated.
        driver.check(unsafe { sys::lfs_mount(driver.lfs(), driver.config()) })?;
        Ok(Self { driver })
    }

    /// Format and mount.
    pub fn fresh(config: &Config) -> CResult<Self> {
        Self::mount(Self::format(config)?, config)
    }

    /// Unmount, and return the image. The driver keeps nothing between calls, so this is also what
    /// a power loss after the last call leaves.
    pub fn unmount(self) -> Vec<u8> {
        self.driver.take_image()
    }

    /// A copy of the image as it is.
    pub fn image(&self) -> Vec<u8> {
        self.driver.image()
    }

    /// The requests that the driver has sent to its device since the mount.
    pub fn counts(&self) -> DeviceCounts {
        self.driver.counts()
    }

    /// Let the next `writes` programs and erases reach the image, and let all others fail. After
    /// the first call that fails, only `unmount` makes sense. It returns what was on flash.
    pub fn cut_power_after(&mut self, writes: u64) {
        self.driver.cut_power_after(writes);
    }

    /// How often each block was erased, including the time before the mount.
    pub fn erases(&self) -> Vec<u32> {
        self.driver.erases()
    }

    fn lfs(&mut self) -> *mut sys::lfs_t {
        self.driver.lfs()
    }

    pub fn mkdir(&mut self, path: &[u8]) -> CResult<()> {
        let path = c_path(path);
        // SAFETY: mounted; the path is a C string.
        let code = unsafe { sys::lfs_mkdir(self.lfs(), path.as_ptr()) };
        self.driver.check(code).map(drop)
    }

    /// Remove a file or an empty directory.
    pub fn remove(&mut self, path: &[u8]) -> CResult<()> {
        let path = c_path(path);
        // SAFETY: mounted; the path is a C string.
        let code = unsafe { sys::lfs_remove(self.lfs(), path.as_ptr()) };
        self.driver.check(code).map(drop)
    }

    /// Rename. A file may replace a file, and a directory an empty directory. The driver does not
    /// notice that a directory is moved into itself, so the caller must not do that.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> CResult<()> {
        let (from, to) = (c_path(from), c_path(to));
        // SAFETY: mounted; both paths are C strings.
        let code = unsafe { sys::lfs_rename(self.lfs(), from.as_ptr(), to.as_ptr()) };
        self.driver.check(code).map(drop)
    }

    pub fn stat(&mut self, path: &[u8]) -> CResult<Info> {
        let path = c_path(path);
        let mut info = sys::lfs_info { type_: 0, size: 0, name: [0; 256] };
        // SAFETY: mounted; the path is a C string and `info` is writable.
        let code = unsafe { sys::lfs_stat(self.lfs(), path.as_ptr(), &mut info) };
        self.driver.check(code)?;
        Ok(to_info(&info))
    }

    /// The entries of a directory in the order of the driver, without `.` and `..`.
    pub fn list(&mut self, path: &[u8]) -> CResult<Vec<(Vec<u8>, Info)>> {
        let path = c_path(path);
        let mut dir = MaybeUninit::<sys::lfs_dir_t>::zeroed();
        let dir = dir.as_mut_ptr();
        // SAFETY: mounted; `dir` stays in place until it is closed below.
        let code = unsafe { sys::lfs_dir_open(self.lfs(), dir, path.as_ptr()) };
        self.driver.check(code)?;
        let mut entries = Vec::new();
        let read = loop {
            let mut info = sys::lfs_info { type_: 0, size: 0, name: [0; 256] };
            // SAFETY: `dir` is open and `info` is writable.
            let code = unsafe { sys::lfs_dir_read(self.lfs(), dir, &mut info) };
            match self.driver.check(code) {
                Ok(0) => break Ok(()),
                Ok(_) => {
                    let name = c_name(&info.name);
                    // For a pair without entries behind the first of its directory, the driver
                    // reads on until an id that it takes for the root.
                    assert!(!name.contains(&b'/'), "C lists the root: a pair is empty");
                    entries.push((name, to_info(&info)));
                }
                Err(e) => break Err(e),
            }
        };
        // SAFETY: `dir` is open.
        let code = unsafe { sys::lfs_dir_close(self.lfs(), dir) };
        self.driver.check(code)?;
        entries.retain(|(name, _)| !matches!(&name[..], b"." | b".."));
        read.map(|()| entries)
    }

    /// Create a file with these bytes, or replace its content.
    pub fn write_file(&mut self, path: &[u8], bytes: &[u8]) -> CResult<()> {
        self.with_file(path, WRITE | CREATE | sys::lfs_open_flags_LFS_O_TRUNC, |file| {
            file.write_all(bytes)
        })
    }

    /// Create an empty file. This is `Exist` if the name exists.
    pub fn create(&mut self, path: &[u8]) -> CResult<()> {
        self.with_file(path, WRITE | CREATE | sys::lfs_open_flags_LFS_O_EXCL, |_| Ok(()))
    }

    /// Write to the end of an existing file.
    pub fn append(&mut self, path: &[u8], bytes: &[u8]) -> CResult<()> {
        self.with_file(path, WRITE | sys::lfs_open_flags_LFS_O_APPEND, |file| file.write_all(bytes))
    }

    /// Write into an existing file; a gap before `off` becomes zeros.
    pub fn write_at(&mut self, path: &[u8], off: u32, bytes: &[u8]) -> CResult<()> {
        self.with_file(path, READ | WRITE, |file| {
            file.seek(off)?;
            file.write_all(bytes)
        })
    }

    /// Shorten an existing file, or extend it with zeros.
    pub fn truncate(&mut self, path: &[u8], size: u32) -> CResult<()> {
        self.with_file(path, READ | WRITE, |file| file.truncate(size))
    }

    /// All bytes of a file.
    pub fn read_file(&mut self, path: &[u8]) -> CResult<Vec<u8>> {
        self.with_file(path, READ, |file| file.read_all())
    }

    /// Open a file while `body` runs. If it does not exist, it is created.
    pub fn open<T>(
        &mut self,
        path: &[u8],
        body: impl FnOnce(&mut OpenFile<'_>) -> CResult<T>,
    ) -> CResult<T> {
        self.with_file(path, READ | WRITE | CREATE, body)
    }

    /// Open a file while `body` runs. The close commits what was written. If `body` has failed, the
    /// driver itself drops what was written.
    fn with_file<T>(
        &mut self,
        path: &[u8],
        flags: u32,
        body: impl FnOnce(&mut OpenFile<'_>) -> CResult<T>,
    ) -> CResult<T> {
        let path = c_path(path);
        let mut file = MaybeUninit::<sys::lfs_file_t>::zeroed();
        let file = file.as_mut_ptr();
        // SAFETY: mounted; `file` stays in place until it is closed below.
        let code = unsafe { sys::lfs_file_open(self.lfs(), file, path.as_ptr(), flags as c_int) };
        self.driver.check(code)?;
        let result = body(&mut OpenFile { driver: &self.driver, file });
        // SAFETY: `file` is open.
        let code = unsafe { sys::lfs_file_close(self.lfs(), file) };
        let closed = self.driver.check(code);
        let value = result?;
        closed?;
        Ok(value)
    }

    /// An attribute of an entry, or of the root.
    pub fn getattr(&mut self, path: &[u8], ty: u8) -> CResult<Vec<u8>> {
        let path = c_path(path);
        let mut value = vec![0; sys::LFS_ATTR_MAX as usize];
        // SAFETY: mounted; the path is a C string and the buffer has the length given.
        let code = unsafe {
            sys::lfs_getattr(
                self.lfs(),
                path.as_ptr(),
                ty,
                value.as_mut_ptr().cast(),
                sys::LFS_ATTR_MAX,
            )
        };
        let len = self.driver.check(code)?;
        value.truncate(len as usize);
        Ok(value)
    }

    pub fn setattr(&mut self, path: &[u8], ty: u8, value: &[u8]) -> CResult<()> {
        let path = c_path(path);
        // SAFETY: mounted; the path is a C string and the buffer has the length given.
        let code = unsafe {
            sys::lfs_setattr(
                self.lfs(),
                path.as_ptr(),
                ty,
                value.as_ptr().cast(),
                value.len() as u32,
            )
        };
        self.driver.check(code).map(drop)
    }

    /// Remove an attribute. It is not an error for the driver if there is none.
    pub fn removeattr(&mut self, path: &[u8], ty: u8) -> CResult<()> {
        let path = c_path(path);
        // SAFETY: mounted; the path is a C string.
        let code = unsafe { sys::lfs_removeattr(self.lfs(), path.as_ptr(), ty) };
        self.driver.check(code).map(drop)
    }

    /// How many blocks are in use, as the driver counts them along the thread.
    pub fn fs_size(&mut self) -> CResult<u32> {
        // SAFETY: mounted.
        let code = unsafe { sys::lfs_fs_size(self.lfs()) };
        self.driver.check(code)
    }

    /// Finish pending moves and orphans, if there are any.
    pub fn mkconsistent(&mut self) -> CResult<()> {
        // SAFETY: mounted.
        let code = unsafe { sys::lfs_fs_mkconsistent(self.lfs()) };
        self.driver.check(code).map(drop)
    }

    /// Search for free blocks now, and not in the middle of an operation. If the window of the
    /// allocator is larger than the image, the driver searches again each time.
    pub fn find_free_blocks(&mut self) -> CResult<()> {
        // SAFETY: mounted.
        let code = unsafe { sys::lfs_fs_gc(self.lfs()) };
        self.driver.check(code).map(drop)
    }

    /// Grow the filesystem to `block_count` blocks. The image must have them already.
    pub fn grow(&mut self, block_count: u32) -> CResult<()> {
        // SAFETY: mounted.
        let code = unsafe { sys::lfs_fs_grow(self.lfs(), block_count) };
        self.driver.check(code).map(drop)
    }

    /// The content of the superblock.
    pub fn fs_stat(&mut self) -> CResult<sys::lfs_fsinfo> {
        let mut info = sys::lfs_fsinfo::default();
        // SAFETY: mounted; `info` is writable.
        let code = unsafe { sys::lfs_fs_stat(self.lfs(), &mut info) };
        self.driver.check(code)?;
        Ok(info)
    }

    /// Blocks in use, by the thread and by directory entries. There are as many as `fs_size` says,
    /// unless something is shared that must not be, or a directory is not in the thread.
    pub fn blocks(&mut self) -> CResult<BTreeSet<u32>> {
        let mut blocks = Vec::<u32>::new();
        // SAFETY: mounted; `blocks` outlives the call and is of the type the callback expects.
        let code =
            unsafe { sys::lfs_fs_traverse(self.lfs(), Some(on_block), (&raw mut blocks).cast()) };
        self.driver.check(code)?;
        Ok(blocks.into_iter().collect())
    }

    /// Every entry with its bytes, and with its attributes of the given types.
    pub fn tree(&mut self, attr_types: &[u8]) -> CResult<Tree> {
        let mut tree = Tree::new();
        let mut todo = vec![Vec::new()];
        while let Some(path) = todo.pop() {
            for (name, info) in self.list(&path)? {
                let path = join(&path, &name);
                match info {
                    Info::Dir => todo.push(path),
                    Info::File { size } => {
                        let bytes = self.read_file(&path)?;
                        assert_eq!(bytes.len() as u32, size, "size in the directory listing");
                        let attrs = self.attrs(&path, attr_types)?;
                        tree.insert(path, Entry { kind: Kind::File(bytes), attrs });
                    }
                }
            }
            let attrs = self.attrs(&path, attr_types)?;
            tree.insert(path, Entry { kind: Kind::Dir, attrs });
        }
        Ok(tree)
    }

    fn attrs(&mut self, path: &[u8], types: &[u8]) -> CResult<Attrs> {
        let mut attrs = Attrs::new();
        for &ty in types {
            match self.getattr(path, ty) {
                Ok(value) => _ = attrs.insert(ty, value),
                Err(CError::NoAttr) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(attrs)
    }
}

impl Drop for CLfs {
    fn drop(&mut self) {
        // SAFETY: mounted once, and unmounted only here; frees the driver's buffers. It does no
        // I/O, so it does not matter whether the image was taken before.
        unsafe { sys::lfs_unmount(self.driver.lfs()) };
    }
}

/// A file between its open and its close.
pub struct OpenFile<'a> {
    driver: &'a Boxed,
    file: *mut sys::lfs_file_t,
}

impl OpenFile<'_> {
    pub fn write_all(&mut self, bytes: &[u8]) -> CResult<()> {
        let (data, len) = (bytes.as_ptr().cast(), bytes.len() as u32);
        // SAFETY: the file is open and the buffer has the length given.
        let code = unsafe { sys::lfs_file_write(self.driver.lfs(), self.file, data, len) };
        let written = self.driver.check(code)?;
        assert_eq!(written, len, "the driver writes all or nothing");
        Ok(())
    }

    fn read_all(&mut self) -> CResult<Vec<u8>> {
        // SAFETY: the file is open.
        let size = unsafe { sys::lfs_file_size(self.driver.lfs(), self.file) };
        let size = self.driver.check(size)?;
        let mut bytes = vec![0; size as usize];
        let buffer = bytes.as_mut_ptr().cast();
        // SAFETY: the file is open and the buffer has the length given.
        let code = unsafe { sys::lfs_file_read(self.driver.lfs(), self.file, buffer, size) };
        let len = self.driver.check(code)?;
        assert_eq!(len, size, "the driver reads all of the file");
        Ok(bytes)
    }

    /// Fill `buf` from the current position of the file.
    pub fn read_exact(&mut self, buf: &mut [u8]) -> CResult<()> {
        let (data, len) = (buf.as_mut_ptr().cast(), buf.len() as u32);
        // SAFETY: the file is open and the buffer has the length given.
        let code = unsafe { sys::lfs_file_read(self.driver.lfs(), self.file, data, len) };
        assert_eq!(self.driver.check(code)?, len, "the file is long enough");
        Ok(())
    }

    /// Commit what was written.
    pub fn sync(&mut self) -> CResult<()> {
        // SAFETY: the file is open.
        let code = unsafe { sys::lfs_file_sync(self.driver.lfs(), self.file) };
        self.driver.check(code).map(drop)
    }

    pub fn seek(&mut self, off: u32) -> CResult<()> {
        let off = i32::try_from(off).map_err(|_| CError::Inval)?;
        let whence = sys::lfs_whence_flags_LFS_SEEK_SET as c_int;
        // SAFETY: the file is open.
        let code = unsafe { sys::lfs_file_seek(self.driver.lfs(), self.file, off, whence) };
        self.driver.check(code).map(drop)
    }

    fn truncate(&mut self, size: u32) -> CResult<()> {
        // SAFETY: the file is open.
        let code = unsafe { sys::lfs_file_truncate(self.driver.lfs(), self.file, size) };
        self.driver.check(code).map(drop)
    }
}

fn c_path(path: &[u8]) -> CString {
    // The driver wants a non-empty path for the root.
    CString::new(if path.is_empty() { b"/" } else { path })
        .expect("paths of the driver hold no NUL")
}

fn c_name(name: &[std::ffi::c_char; 256]) -> Vec<u8> {
    name.iter().take_while(|&&c| c != 0).map(|&c| c as u8).collect()
}

fn to_info(info: &sys::lfs_info) -> Info {
    if u32::from(info.type_) == sys::lfs_type_LFS_TYPE_DIR {
        Info::Dir
    } else {
        Info::File { size: info.size }
    }
}

unsafe extern "C" fn on_block(blocks: *mut c_void, block: u32) -> c_int {
    // SAFETY: `CLfs::blocks` passes a vector that outlives the traversal and is used by nobody
    // else during it.
    unsafe { &mut *blocks.cast::<Vec<u32>>() }.push(block);
    0
}
