//! Attributes, times, permissions and space.

use super::flusher::Change;
use super::inode::{Inode, Kind, Owner, Times, without_set_ids};
use super::{DefaultModes, VfsError, VfsResult, Volume};

/// Permission bits that an entry can have if the image stores no modes. Set-id and sticky bits are
/// not among them.
pub(super) const PERMISSIONS: u32 = 0o777;

/// What `stat` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// The number of a device, as the kernel encodes it.
    pub rdev: u32,
    /// Size in bytes, 0 for directories and devices.
    pub size: u64,
    /// Access, modification and change time.
    pub times: Times,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names: 1, or 0 after a removal. It is 1 for a directory as well; programs such as
    /// find then do not infer the number of subdirectories from it.
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

/// What happens to the set-id bits of a file when its content is changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetIds {
    /// They stay, because the caller has the right to keep them (CAP_FSETID).
    #[default]
    Keep,
    /// They are cleared.
    Clear,
}

/// The attributes to set. Those that are `None` do not change.
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
    /// What a change of the size does to the set-id bits.
    pub set_ids: SetIds,
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
    /// The number of all blocks.
    pub blocks: u32,
    /// The number of free blocks.
    pub free: u32,
    /// Longest name, in bytes.
    pub name_max: u32,
}

impl SetAttr {
    /// Whether the set-id bits are cleared for another reason than a change of content. This is the
    /// case for a change of the owner, and for a request that sets nothing. Such a request comes
    /// from the kernel itself, to clear the bits, or from a chown(2) that changes no owner.
    fn clears_set_ids(&self) -> bool {
        let owner = self.uid.is_some() || self.gid.is_some();
        let Self { set_ids, ctime, .. } = *self;
        owner && self.mode.is_none() || *self == Self { set_ids, ctime, ..Self::default() }
    }
}

impl Volume {
    /// The attributes of an inode. This never waits for the device.
    ///
    /// # Errors
    /// [`VfsError::Stale`] if the inode is gone.
    pub fn attr(&self, ino: u64) -> VfsResult<Attr> {
        let inodes = self.inodes.lock();
        let inode = inodes.get(ino).ok_or(VfsError::Stale)?;
        Ok(self.attr_of(ino, inode))
    }

    /// Change attributes. If the image cannot store owners and modes, the only allowed owner is the
    /// present one, as on vfat. A mode, without the bits in the mask of the mount, lasts until the
    /// end of the mount. Set-id and sticky bits are refused, because a caller must not believe that
    /// they are set.
    ///
    /// # Errors
    /// [`VfsError::Stale`] if the inode is gone, [`VfsError::NotPermitted`] for another owner or
    /// mode that cannot be stored, and the errors of the core.
    pub fn set_attr(&self, ino: u64, set: &SetAttr) -> VfsResult<Attr> {
        let keeps_owners = self.keeps_owners();
        if !keeps_owners
            && (set.uid.is_some_and(|uid| uid != self.options.uid)
                || set.gid.is_some_and(|gid| gid != self.options.gid)
                || set.mode.is_some_and(|mode| mode & 0o7777 & !PERMISSIONS != 0))
        {
            return Err(VfsError::NotPermitted);
        }
        if let Some(size) = set.size {
            self.truncate(ino, size, set.set_ids)?;
        }
        let now = self.now();
        let resolve = |time: Option<SetTime>, old| match time {
            Some(SetTime::Now) => now,
            Some(SetTime::At(at)) => self.rounded(at),
            None => old,
        };
        let (times, owner) = {
            let inodes = self.inodes.lock();
            let inode = inodes.get(ino).ok_or(VfsError::Stale)?;
            let times = Times {
                atime: resolve(set.atime, inode.times.atime),
                mtime: resolve(set.mtime, inode.times.mtime),
                ctime: resolve(set.ctime, now),
            };
            (times, self.owner_after(inode, set))
        };
        if self.codec.is_some() {
            let ((), mut core) =
                self.with_space(|core| Ok(self.store_as(core, ino, &times, owner.as_ref())?))?;
            let attr = self.set(ino, times, owner)?;
            self.settle(&mut core, Change::Entries)?;
            return Ok(attr);
        }
        self.set(ino, times, owner)
    }

    /// Owner and mode of an inode after `set` is applied.
    fn owner_after(&self, inode: &Inode, set: &SetAttr) -> Option<Owner> {
        let owner = inode.owner.as_deref().copied();
        let clears = set.clears_set_ids();
        if set.mode.is_none() && set.uid.is_none() && set.gid.is_none() && !clears {
            return owner;
        }
        if owner.is_none() && set.mode.is_none() && !self.keeps_owners() {
            return None;
        }
        let old = owner.unwrap_or_else(|| self.default_owner(inode));
        let mut bits = set.mode.unwrap_or(old.mode) & 0o7777;
        if !self.keeps_owners() {
            bits &= !u32::from(self.default_modes(inode).mask.unwrap_or(0));
        }
        let mode = (old.mode & libc::S_IFMT) | bits;
        Some(Owner {
            mode: if clears { without_set_ids(mode) } else { mode },
            uid: set.uid.unwrap_or(old.uid),
            gid: set.gid.unwrap_or(old.gid),
            ..old
        })
    }

    fn set(&self, ino: u64, times: Times, owner: Option<Owner>) -> VfsResult<Attr> {
        let mut inodes = self.inodes.lock();
        let inode = inodes.get_mut(ino).ok_or(VfsError::Stale)?;
        inode.times = times;
        inode.owner = owner.map(Box::new);
        inode.status_changed(times.ctime);
        Ok(self.attr_of(ino, inode))
    }

    /// Whether the permission bits `mask` (read 4, write 2, execute 1) are granted to anybody. The
    /// kernel checks who may do what (`default_permissions`); without that option, only the
    /// mounting user has access.
    ///
    /// # Errors
    /// [`VfsError::Stale`] if the inode is gone.
    pub fn access(&self, ino: u64, mask: u16) -> VfsResult<bool> {
        let mode = self.attr(ino)?.mode;
        Ok(u32::from(mask) & !((mode >> 6 | mode >> 3 | mode) & 7) == 0)
    }

    /// The space in the image. Space that the next flush frees counts as free, because an operation
    /// that needs it flushes first.
    ///
    /// # Errors
    /// The errors of the core.
    pub fn space(&self) -> VfsResult<Space> {
        self.map_blocks(&|| false)?;
        let mut core = self.core();
        let usage = core.usage()?;
        let usage = self.options.stored.map_or(usage, |stored| stored.usage);
        let superblock = core.superblock();
        Ok(Space {
            block_size: superblock.block_size,
            blocks: superblock.block_count,
            free: usage.blocks_free.saturating_add(core.blocks_to_be_freed()),
            name_max: superblock.name_max,
        })
    }

    pub(super) fn attr_of(&self, ino: u64, inode: &Inode) -> Attr {
        let owner = inode.owner.as_deref().copied();
        let Owner { mode, uid, gid, rdev } = owner.unwrap_or_else(|| self.default_owner(inode));
        let size = match inode.kind {
            // the content of a device is its number
            Kind::File { size, .. } if !is_device(mode) => u64::from(size),
            _ => 0,
        };
        Attr {
            ino,
            mode: mode & !u32::from(self.options.withheld),
            rdev,
            size,
            times: inode.times,
            uid,
            gid,
            nlink: u32::from(inode.linked),
            block_size: self.block_size,
        }
    }

    /// Owner and mode of an entry that has none in the image.
    pub(super) fn default_owner(&self, inode: &Inode) -> Owner {
        let kind = match inode.kind {
            Kind::File { .. } => libc::S_IFREG,
            Kind::Dir(_) => libc::S_IFDIR,
        };
        let mode = kind | u32::from(self.default_modes(inode).bits);
        Owner { mode, uid: self.options.uid, gid: self.options.gid, rdev: 0 }
    }

    fn default_modes(&self, inode: &Inode) -> DefaultModes {
        match inode.kind {
            Kind::File { .. } => self.options.file_modes,
            Kind::Dir(_) => self.options.dir_modes,
        }
    }
}

pub(super) fn is_device(mode: u32) -> bool {
    matches!(mode & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK)
}
