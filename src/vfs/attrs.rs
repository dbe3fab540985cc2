//! Attributes, times, permissions and space.

use super::inode::{Inode, Kind, Times};
use super::{VfsError, VfsResult, Volume, now};

/// Permission bits an entry can have; set-id and sticky bits have no place.
const PERMISSIONS: u32 = 0o777;

/// What `stat` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: u64,
    /// Whether it is a directory, else a file.
    pub is_dir: bool,
    /// Size in bytes, 0 for directories.
    pub size: u64,
    /// Access, modification and change time.
    pub times: Times,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names: 1, or 0 for what was removed. A directory counts 1, too: it tells
    /// programs like find not to conclude the number of its subdirectories.
    pub nlink: u32,
    /// Block size of the image, in bytes.
    pub block_size: u32,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The time of the call.
    Now,
    /// Nanoseconds since 1970.
    At(i64),
}

/// The attributes to set; none of those that stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Type and permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
    /// Change time.
    pub ctime: Option<SetTime>,
}

/// The space in the image, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes per block.
    pub block_size: u32,
    /// All blocks.
    pub blocks: u32,
    /// Blocks free.
    pub free: u32,
    /// Longest name, in bytes.
    pub name_max: u32,
}

impl Volume {
    /// The attributes of an inode. Never waits for the device.
    pub fn attr(&self, ino: u64) -> VfsResult<Attr> {
        let inodes = self.inodes.lock();
        let inode = inodes.get(ino).ok_or(VfsError::Stale)?;
        Ok(self.attr_of(ino, inode))
    }

    /// Change attributes, as vfat does where the image has no place for them: an owner can only
    /// be set to what it is; a mode is accepted and stays as it was, except for set-id and sticky
    /// bits, which a caller must not believe to be set.
    pub fn set_attr(&self, ino: u64, set: &SetAttr) -> VfsResult<Attr> {
        if set.uid.is_some_and(|uid| uid != self.options.uid)
            || set.gid.is_some_and(|gid| gid != self.options.gid)
            || set.mode.is_some_and(|mode| mode & 0o7777 & !PERMISSIONS != 0)
        {
            return Err(VfsError::NotPermitted);
        }
        if let Some(size) = set.size {
            self.truncate(ino, size)?;
        }
        let mut inodes = self.inodes.lock();
        let inode = inodes.get_mut(ino).ok_or(VfsError::Stale)?;
        let now = now();
        let resolve = |time| match time {
            SetTime::Now => now,
            SetTime::At(at) => at,
        };
        if let Some(atime) = set.atime {
            inode.times.atime = resolve(atime);
        }
        if let Some(mtime) = set.mtime {
            inode.times.mtime = resolve(mtime);
        }
        inode.status_changed(set.ctime.map_or(now, resolve));
        Ok(self.attr_of(ino, inode))
    }

    /// Whether the permission bits `mask` (read 4, write 2, execute 1) are granted to anybody.
    /// Who may do what is the kernel's to check (`default_permissions`); without that only the
    /// mounting user comes here.
    pub fn access(&self, ino: u64, mask: u16) -> VfsResult<bool> {
        let mode = self.attr(ino)?.mode;
        Ok(mask & !((mode >> 6 | mode >> 3 | mode) & 7) == 0)
    }

    /// The space in the image.
    pub fn space(&self) -> VfsResult<Space> {
        self.map_blocks(&|| false)?;
        let mut core = self.core();
        let usage = core.usage()?;
        let superblock = core.superblock();
        Ok(Space {
            block_size: superblock.block_size,
            blocks: superblock.block_count,
            free: usage.blocks_free,
            name_max: superblock.name_max,
        })
    }

    pub(super) fn attr_of(&self, ino: u64, inode: &Inode) -> Attr {
        let (is_dir, size, mode) = match inode.kind {
            Kind::File { size, .. } => (false, u64::from(size), self.options.file_mode),
            Kind::Dir(_) => (true, 0, self.options.dir_mode),
        };
        Attr {
            ino,
            is_dir,
            size,
            times: inode.times,
            mode,
            uid: self.options.uid,
            gid: self.options.gid,
            nlink: u32::from(inode.linked),
            block_size: self.block_size,
        }
    }
}
