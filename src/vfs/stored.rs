//! Attributes that are stored in the image. They are loaded when an inode enters the table, and put
//! into the cached entry together with the change that they belong to, so the same flush writes
//! them.

use super::attrs::{PERMISSIONS, is_device};
use super::inode::{Entry, InodeTable, Owner, Stored, Times};
use super::{New, ROOT_INO, VfsError, VfsResult, Volume};
use crate::convention::{DEVICE_SIZE, Meta, Target, device_number};
use crate::error::Result;
use crate::fs::{At, DirId, Fs, Node};
use crate::time;

impl Volume {
    /// Whether owners and modes are kept in the image.
    pub fn keeps_owners(&self) -> bool {
        self.codec.as_ref().is_some_and(|codec| codec.convention().has_owners())
    }

    /// The present time, as precise as the image keeps it.
    pub(super) fn now(&self) -> i64 {
        self.rounded(time::now())
    }

    /// A time with the precision with which it is stored.
    pub(super) fn rounded(&self, time: i64) -> i64 {
        self.codec.as_ref().map_or(time, |codec| codec.rounded(time))
    }

    /// What `name` in `dir` refers to, and its stored metadata.
    pub(super) fn look(&self, core: &mut Fs, dir: DirId, name: &[u8]) -> Result<(Node, Stored)> {
        let Some(codec) = &self.codec else {
            return Ok((core.lookup(dir, name)?, Stored::default()));
        };
        let (node, meta) = core.lookup_with_attrs(dir, name, |attrs| codec.read(attrs))?;
        let mut stored = self.stored(&meta, matches!(node, Node::Dir(_)));
        if let Some(owner) = &mut stored.owner
            && is_device(owner.mode)
        {
            let content = Self::read_small(core, dir, name, DEVICE_SIZE)?;
            owner.rdev = device_number(&content);
        }
        Ok((node, stored))
    }

    /// Give the root directory its stored metadata.
    pub(super) fn load_root(&self) {
        let Some(codec) = &self.codec else { return };
        let mut core = self.core();
        match core.with_attrs(At::Root, |attrs| codec.read(attrs)) {
            Ok(meta) => self.inodes.lock().adopt(ROOT_INO, &self.stored(&meta, true)),
            Err(e) => log::warn!("cannot read the attributes of the root directory: {e}"),
        }
    }

    fn stored(&self, meta: &Meta, is_dir: bool) -> Stored {
        let changed = meta.mtime.or(meta.birth).or(meta.ctime).or(meta.atime);
        let times = changed.map(|mtime| Times {
            atime: meta.atime.unwrap_or(mtime),
            mtime,
            ctime: meta.ctime.unwrap_or(mtime),
        });
        let has_owner = meta.mode.is_some() || meta.uid.is_some() || meta.gid.is_some();
        let default = if is_dir { self.options.dir_modes } else { self.options.file_modes };
        let owner = has_owner.then(|| {
            let mode = meta.mode.unwrap_or(u32::from(default.bits));
            Owner {
                mode: self.file_type(mode, is_dir) | (mode & 0o7777),
                uid: meta.uid.unwrap_or(self.options.uid),
                gid: meta.gid.unwrap_or(self.options.gid),
                rdev: 0,
            }
        });
        Stored { times, owner }
    }

    /// The type bits of an entry whose mode says this.
    fn file_type(&self, mode: u32, is_dir: bool) -> u32 {
        let special = matches!(
            mode & libc::S_IFMT,
            libc::S_IFLNK | libc::S_IFIFO | libc::S_IFSOCK | libc::S_IFCHR | libc::S_IFBLK
        );
        match is_dir {
            true => libc::S_IFDIR,
            false if special && self.has_special_files() => mode & libc::S_IFMT,
            false => libc::S_IFREG,
        }
    }

    fn has_special_files(&self) -> bool {
        self.codec.as_ref().is_some_and(|codec| codec.convention().special_files)
    }

    /// Owner and mode of a new entry in `parent`. If the image cannot store them, only a mode that
    /// differs from the mode of the mount is kept.
    pub(super) fn new_owner(&self, parent: u64, new: &New) -> VfsResult<Option<Owner>> {
        let kind = new.mode & libc::S_IFMT;
        if !matches!(kind, libc::S_IFREG | libc::S_IFDIR) && !self.has_special_files() {
            return Err(VfsError::NotPermitted);
        }
        if !self.keeps_owners() {
            let o = &self.options;
            let default = if kind == libc::S_IFDIR { o.dir_modes } else { o.file_modes };
            let bits = new.mode & PERMISSIONS;
            let differs = default.mask.is_none() && bits != u32::from(default.bits);
            let owner = Owner { mode: kind | bits, uid: o.uid, gid: o.gid, rdev: 0 };
            return Ok(differs.then_some(owner));
        }
        let inodes = self.inodes.lock();
        let inode = inodes.get(parent).ok_or(VfsError::Stale)?;
        let mut owner = Owner { mode: new.mode, uid: new.uid, gid: new.gid, rdev: new.rdev };
        if let Some(parent) = &inode.owner
            && parent.mode & libc::S_ISGID != 0
        {
            owner.gid = parent.gid;
            if kind == libc::S_IFDIR {
                owner.mode |= libc::S_ISGID;
            }
        }
        Ok(Some(owner))
    }

    /// The attributes of a new entry.
    pub(super) fn new_attrs(
        &self,
        owner: Option<&Owner>,
        now: i64,
        target: Target,
    ) -> Vec<(u8, Vec<u8>)> {
        let Some(codec) = &self.codec else { return Vec::new() };
        codec.initial(&Meta { birth: Some(now), ..meta(&Times::all(now), owner) }, target)
    }

    /// Put the changed metadata of an inode into its entry, after an operation that changed it. If
    /// there is no space for the times, the operation does not fail: they stay in memory, and the
    /// next change tries again.
    pub(super) fn store(&self, core: &mut Fs, ino: u64) {
        if self.codec.is_none() {
            return;
        }
        let (times, owner) = match self.inodes.lock().get(ino) {
            Some(inode) => (inode.times, inode.owner.as_deref().copied()),
            None => return,
        };
        if let Err(e) = self.store_as(core, ino, &times, owner.as_ref()) {
            log::warn!("times of inode {ino} are not stored: {e}");
        }
    }

    /// Put these times and this owner into the entry of an inode, as far as the image can store
    /// them.
    pub(super) fn store_as(
        &self,
        core: &mut Fs,
        ino: u64,
        times: &Times,
        owner: Option<&Owner>,
    ) -> Result<()> {
        let Some(codec) = &self.codec else { return Ok(()) };
        let Some(entry) = self.entry(ino) else { return Ok(()) };
        let target = match entry {
            Entry::Dir(dir) if InodeTable::dir_number(dir) == ROOT_INO => Target::Root,
            Entry::Dir(_) => Target::Dir,
            Entry::File(..) => Target::File,
        };
        let meta = meta(times, owner);
        let at = entry.at();
        let changes = core.with_attrs(at, |attrs| codec.write(attrs, &meta, target))?;
        changes.iter().try_for_each(|(ty, data)| core.set_attr(at, *ty, data))
    }

    /// Where the entry of an inode is, if it still has one.
    pub(super) fn entry(&self, ino: u64) -> Option<Entry> {
        self.inodes.lock().get(ino)?.entry()
    }
}

fn meta(times: &Times, owner: Option<&Owner>) -> Meta {
    Meta {
        atime: Some(times.atime),
        mtime: Some(times.mtime),
        ctime: Some(times.ctime),
        birth: None,
        mode: owner.map(|o| o.mode),
        uid: owner.map(|o| o.uid),
        gid: owner.map(|o| o.gid),
    }
}
