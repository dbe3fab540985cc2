//! Mounting images with FUSE: [`MountOptions::mount`] mounts an image and serves it until
//! [`Mounted::finish`].
//!
//! | file | what is there |
//! |---|---|
//! | `options`, `prepared`, `failure` | how to mount, the open image, and why it cannot be mounted |
//! | `mounted` | a mount, from the first request to the last flush |
//! | `session`, `fusermount` | mounting, with mount(2) or through `fusermount3` |
//! | `serving`, `gate`, `errno`, `invalidate` | passing requests to the volume, and answers back |
//! | `status` | what a mount reports about itself |
//! | `daemon`, `held`, `aside` | the processes behind mounts and their files, seen from outside |
//!
//! This file translates FUSE requests to volume calls, and results to replies. It has no behaviour
//! of its own: each method converts, calls and replies.
//!
//! Nobody else changes the image. So the kernel may keep entries, missing entries, attributes and
//! pages until it changes them itself, and may open and close files without a request: `open`,
//! `opendir`, `flush` and `create` answer ENOSYS once, and then the kernel does not send them any
//! more, and makes files with MKNOD. `lseek` answers ENOSYS, too, because the kernel can answer
//! SEEK_DATA and SEEK_HOLE itself: files have no holes, and only the kernel knows the size after
//! writes that it still holds back.
//!
//! Set-id bits are cleared here when somebody changes a file (FUSE_HANDLE_KILLPRIV_V2). Otherwise,
//! the kernel would request an extended attribute before every write. With each write, the kernel
//! says whether the caller may keep the bits. Where fuser does not pass this on, only root may keep
//! them.
//!
//! FUSE_ASYNC_DIO is not requested. With it, the kernel does not drop the cached pages of the range
//! when an asynchronous direct write ends. If somebody had read the range during the write, the
//! cache would still show the old content.

#[cfg(feature = "cli")]
mod aside;
#[cfg(feature = "cli")]
pub(crate) mod daemon;
mod errno;
mod failure;
mod fusermount;
mod gate;
#[cfg(feature = "cli")]
pub(crate) mod held;
mod invalidate;
mod load;
mod mounted;
mod options;
mod prepared;
mod serving;
mod session;
pub(crate) mod status;

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, FileType,
    Filesystem, Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags,
    PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::convention::device_content;
use crate::error::Error;
use crate::sys;
use crate::time;
use crate::vfs::{Attr, New, RenameMode, SetAttr, SetIds, SetMode, SetTime, VfsError, VfsResult};

use invalidate::Stale;
use serving::{Operation, Served, Server};
use session::Alive;
use status::{About, Status};

pub use failure::MountError;
pub use mounted::Mounted;
pub use options::MountOptions;
pub use session::Access;

pub use crate::vfs::Atime;

#[cfg(feature = "cli")]
pub(crate) use {
    aside::do_aside,
    fusermount::unmount,
    options::DEFAULT_COMMIT,
    prepared::{Found, Prepared},
    session::{DEVICE, KernelMount, MountRequest, Session, mount, open_device, serve},
};

/// How long the kernel may keep answers: practically for ever.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// Largest write request, in bytes.
const MAX_WRITE: u32 = 1 << 20;
thread_local! {
    /// The buffer into which a thread reads. It grows to the size of the largest read.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The adapter from FUSE to the volume.
struct Adapter {
    server: Server,
    /// Facts about the mount that `status` reports.
    about: About,
    /// Whether the mount was made writable after it had been mounted read-only.
    writes: AtomicBool,
    /// Whether the kernel may gather writes.
    writeback: bool,
    /// The generation of the inode numbers. Numbers are not reused during a mount, but the next
    /// mount may give the same number to another file. A file handle (open_by_handle_at(2)) of one
    /// mount must not lead to a file of the next, so each mount has its own generation.
    generation: Generation,
    /// Receives ranges that the kernel must forget, because it shows content there that could not
    /// be stored.
    stale: Sender<Stale>,
    /// Tells the session that the adapter is dropped. This is the last field, so it is dropped
    /// after the volume.
    _alive: Alive,
}

impl Adapter {
    /// Make the mount writable. Only root may request this, because only root may make the kernel
    /// remount it.
    fn become_writable(&self, req: &Request, reply: ReplyIoctl) {
        if req.uid() != 0 {
            return reply.error(Errno::EPERM);
        }
        self.server.serve(req, Operation::Remount, reply, |volume, reply| {
            let why = status::answer_to_writing(volume, &self.about);
            self.writes.fetch_or(why.is_empty(), Ordering::AcqRel);
            let why = why.as_bytes();
            let why = why.get(..sys::WRITE_SIZE).unwrap_or(why);
            reply.ioctl(why.len() as i32, why);
        });
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let mut wanted = InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_EXPLICIT_INVAL_DATA
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_NO_OPEN_SUPPORT
            | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
        if self.writeback {
            wanted |= InitFlags::FUSE_WRITEBACK_CACHE;
        }
        // An older kernel works without the capabilities that it does not know, but more slowly.
        if let Err(unsupported) = config.add_capabilities(wanted) {
            log::debug!("not supported by this kernel: {unsupported:?}");
            let _ = config.add_capabilities(wanted & !unsupported);
        }
        let _ = config.set_max_write(MAX_WRITE);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.server.serve(req, Operation::Lookup, reply, |volume, reply| {
            match volume.lookup(parent.0, name.as_bytes()) {
                Err(VfsError::Core(Error::NotFound)) => {
                    // An entry with inode number 0 tells the kernel to remember that the entry does
                    // not exist.
                    reply.entry(&FOREVER, &missing(), self.generation);
                }
                result => self.entry(volume, result, reply),
            }
        });
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.server.forget(ino.0, nlookup);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.server.serve(req, Operation::GetAttr, reply, |volume, reply| {
            attributes(volume, volume.attr(ino.0), reply);
        });
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = SetAttr {
            mode,
            uid,
            gid,
            size,
            set_ids: set_ids_by(req),
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
            ctime: ctime.map(|time| SetTime::At(nanos(time))),
        };
        self.server.serve(req, Operation::SetAttr, reply, |volume, reply| {
            attributes(volume, volume.set_attr(ino.0, &set), reply);
        });
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        self.server.serve(req, Operation::ReadLink, reply, |volume, reply| {
            match volume.read_link(ino.0) {
                Ok(target) => reply.data(&target),
                Err(e) => reply.error(volume.errno(&e)),
            }
        });
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let new = new(req, mode, rdev);
        let number = device_content(rdev);
        let content: &[u8] = match mode & libc::S_IFMT {
            libc::S_IFCHR | libc::S_IFBLK => &number,
            _ => &[],
        };
        self.server.serve(req, Operation::MkNod, reply, |volume, reply| {
            self.entry(volume, volume.create(parent.0, name.as_bytes(), &new, content), reply);
        });
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let new = new(req, libc::S_IFDIR | (mode & 0o7777), 0);
        self.server.serve(req, Operation::MkDir, reply, |volume, reply| {
            self.entry(volume, volume.mkdir(parent.0, name.as_bytes(), &new), reply);
        });
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.server.serve(req, Operation::Unlink, reply, |volume, reply| {
            empty(volume, volume.unlink(parent.0, name.as_bytes()), reply);
        });
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.server.serve(req, Operation::RmDir, reply, |volume, reply| {
            empty(volume, volume.rmdir(parent.0, name.as_bytes()), reply);
        });
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let new = new(req, libc::S_IFLNK | 0o777, 0);
        let target = target.as_os_str().as_bytes();
        self.server.serve(req, Operation::SymLink, reply, |volume, reply| {
            self.entry(volume, volume.create(parent.0, link_name.as_bytes(), &new, target), reply);
        });
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mode = match flags {
            f if f.is_empty() => RenameMode::Replace,
            RenameFlags::RENAME_NOREPLACE => RenameMode::NoReplace,
            _ => return reply.error(Errno::EINVAL),
        };
        let (from, to) = ((parent.0, name.as_bytes()), (newparent.0, newname.as_bytes()));
        self.server.serve(req, Operation::Rename, reply, |volume, reply| {
            empty(volume, volume.rename(from, to, mode), reply);
        });
    }

    fn link(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _newparent: INodeNo,
        _newname: &OsStr,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EPERM);
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.server.serve(req, Operation::Read, reply, |volume, reply| {
            BUFFER.with_borrow_mut(|buffer| {
                let size = size as usize;
                if buffer.len() < size {
                    buffer.resize(size, 0);
                }
                match volume.read(ino.0, offset, &mut buffer[..size]) {
                    Ok(n) => reply.data(&buffer[..n]),
                    Err(e) => reply.error(volume.errno(&e)),
                }
            });
        });
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let set_ids = match write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
            true => SetIds::Clear,
            false => SetIds::Keep,
        };
        let cached = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        self.server.serve(req, Operation::Write, reply, |volume, reply| {
            match volume.write(ino.0, offset, data, set_ids) {
                Ok(()) => reply.written(data.len() as u32),
                Err(e) if cached => {
                    let len = data.len() as u64;
                    volume.lose(ino.0, offset, len, &e);
                    reply.error(volume.errno(&e));
                    // This must come after the answer, because until then the kernel holds the
                    // pages. If the mount is about to end, nobody receives it.
                    let _ = self.stale.send(Stale { ino, offset, len });
                }
                Err(e) => reply.error(volume.errno(&e)),
            }
        });
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.server.serve(req, Operation::Fsync, reply, |volume, reply| {
            empty(volume, volume.fsync_file(ino.0), reply);
        });
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn readdir(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        self.server.serve(req, Operation::ReadDir, reply, |volume, mut reply| {
            let result = volume.read_dir(ino.0, offset, false, &mut |e| {
                reply.add(INodeNo(e.ino), e.offset, kind(e.mode), OsStr::from_bytes(e.name))
            });
            match result {
                Ok(()) => reply.ok(),
                Err(e) => reply.error(volume.errno(&e)),
            }
        });
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.server.serve(req, Operation::ReadDirPlus, reply, |volume, mut reply| {
            let result = volume.read_dir(ino.0, offset, true, &mut |e| {
                let ttl = if e.damaged { Duration::ZERO } else { FOREVER };
                let attr = match &e.attr {
                    Some(attr) => file_attr(attr),
                    // The kernel uses only the number and the type of `.` and `..`.
                    None => FileAttr { ino: INodeNo(e.ino), kind: kind(e.mode), ..missing() },
                };
                let name = OsStr::from_bytes(e.name);
                reply.add(attr.ino, e.offset, name, &ttl, &attr, self.generation)
            });
            match result {
                Ok(()) => reply.ok(),
                Err(e) => reply.error(volume.errno(&e)),
            }
        });
    }

    fn fsyncdir(
        &self,
        req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.server.serve(req, Operation::FsyncDir, reply, |volume, reply| {
            empty(volume, volume.fsync(), reply);
        });
    }

    fn statfs(&self, req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.server.serve(req, Operation::StatFs, reply, |volume, reply| match volume.space() {
            Ok(s) => {
                let (all, free) = (u64::from(s.blocks), u64::from(s.free));
                reply.statfs(all, free, free, 0, 0, s.block_size, s.name_max, s.block_size);
            }
            Err(e) => reply.error(volume.errno(&e)),
        });
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let mode = match flags {
            libc::XATTR_CREATE => SetMode::Create,
            libc::XATTR_REPLACE => SetMode::Replace,
            _ => SetMode::Any,
        };
        self.server.serve(req, Operation::SetXattr, reply, |volume, reply| {
            // After ENOSYS, the kernel does not send this request again. It remembers this for each
            // kind of request separately.
            if !volume.takes_xattrs() {
                return reply.error(Errno::ENOSYS);
            }
            empty(volume, volume.set_xattr(ino.0, name.as_bytes(), value, mode), reply);
        });
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.server.serve(req, Operation::GetXattr, reply, |volume, reply| {
            if !volume.has_xattrs() && !volume.is_savepoint(ino.0, name.as_bytes()) {
                return reply.error(Errno::ENOSYS);
            }
            xattr(volume, volume.get_xattr(ino.0, name.as_bytes()), size, reply);
        });
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.server.serve(req, Operation::ListXattr, reply, |volume, reply| {
            if !volume.has_xattrs() {
                return reply.error(Errno::ENOSYS);
            }
            xattr(volume, volume.list_xattrs(ino.0), size, reply);
        });
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.server.serve(req, Operation::RemoveXattr, reply, |volume, reply| {
            if !volume.has_xattrs() {
                return reply.error(Errno::ENOSYS);
            }
            empty(volume, volume.remove_xattr(ino.0, name.as_bytes()), reply);
        });
    }

    fn access(&self, req: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        self.server.serve(req, Operation::Access, reply, |volume, reply| {
            match volume.access(ino.0, mask.bits() as u16) {
                Ok(true) => reply.ok(),
                Ok(false) => reply.error(volume.refuse(Errno::EACCES)),
                Err(e) => reply.error(volume.errno(&e)),
            }
        });
    }

    fn create(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn bmap(&self, _req: &Request, _ino: INodeNo, _blocksize: u32, _idx: u64, reply: ReplyBmap) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        if cmd == sys::WRITE_REQUEST as u32 {
            return self.become_writable(req, reply);
        }
        if cmd != sys::STATUS_REQUEST as u32 {
            return reply.error(Errno::ENOTTY);
        }
        self.server.serve(req, Operation::Status, reply, |volume, reply| {
            let writes = self.writes.load(Ordering::Acquire);
            match serde_json::to_vec(&Status::of(volume, &self.about, writes)) {
                Ok(text) if text.len() <= status::SIZE_MAX => {
                    reply.ioctl(text.len() as i32, &text);
                }
                _ => reply.error(volume.refuse(Errno::EMSGSIZE)),
            }
        });
    }

    fn poll(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _ph: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let set_ids = set_ids_by(req);
        self.server.serve(req, Operation::Allocate, reply, |volume, reply| {
            empty(volume, volume.allocate(ino.0, offset, length, mode, set_ids), reply);
        });
    }

    fn lseek(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        _fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = ((ino_in.0, offset_in), (ino_out.0, offset_out));
        let set_ids = set_ids_by(req);
        self.server.serve(req, Operation::CopyRange, reply, |volume, reply| {
            match volume.copy_range(from, to, len, set_ids) {
                Ok(copied) => reply.written(copied),
                Err(e) => reply.error(volume.errno(&e)),
            }
        });
    }
}

impl Adapter {
    fn entry(&self, volume: &Served<'_>, result: VfsResult<Attr>, reply: ReplyEntry) {
        match result {
            Ok(attr) => reply.entry(&FOREVER, &file_attr(&attr), self.generation),
            Err(e) => reply.error(volume.errno(&e)),
        }
    }
}

fn attributes(volume: &Served<'_>, result: VfsResult<Attr>, reply: ReplyAttr) {
    match result {
        Ok(attr) => reply.attr(&FOREVER, &file_attr(&attr)),
        Err(e) => reply.error(volume.errno(&e)),
    }
}

fn empty(volume: &Served<'_>, result: VfsResult<()>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(volume.errno(&e)),
    }
}

/// Reply with the value, or with its length if the caller's size is 0.
fn xattr(volume: &Served<'_>, result: VfsResult<Vec<u8>>, size: u32, reply: ReplyXattr) {
    match result {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(volume.refuse(Errno::ERANGE)),
        Ok(value) => reply.data(&value),
        Err(e) => reply.error(volume.errno(&e)),
    }
}

/// A new entry, which belongs to the caller.
fn new(req: &Request, mode: u32, rdev: u32) -> New {
    New { mode, rdev, uid: req.uid(), gid: req.gid() }
}

/// Whether the caller may keep set-id bits if the kernel does not say so: only root may.
fn set_ids_by(req: &Request) -> SetIds {
    if req.uid() == 0 { SetIds::Keep } else { SetIds::Clear }
}

fn kind(mode: u32) -> FileType {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFSOCK => FileType::Socket,
        _ => FileType::RegularFile,
    }
}

fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(nanos(time)),
    }
}

/// A time from the kernel in nanoseconds since 1970. For times before 1970, fuser 0.18 subtracts
/// the fraction of a second instead of adding it; this is corrected here.
fn nanos(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(_) => time::nanos(time),
        Err(before) => {
            let part = before.duration().subsec_nanos();
            time::nanos(time).saturating_add(2 * i64::from(part))
        }
    }
}

fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.size.div_ceil(512),
        atime: time::system_time(attr.times.atime),
        mtime: time::system_time(attr.times.mtime),
        ctime: time::system_time(attr.times.ctime),
        crtime: SystemTime::UNIX_EPOCH,
        kind: kind(attr.mode),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        // Smaller blocks would only make programs use smaller buffers.
        blksize: attr.block_size.max(4096),
        flags: 0,
    }
}

/// The attributes for a missing entry: number 0.
fn missing() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}
