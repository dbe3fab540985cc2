//! Names: look up, create, remove, rename, list.

use std::sync::Arc;

use super::flusher::Change;
use super::inode::{InodeTable, Stored};
use super::listing::{Listing, Position};
use super::{Attr, VfsError, VfsResult, Volume};
use crate::convention::Target;
use crate::error::{Error, Result};
use crate::fs::{DirId, Fs, Node};

/// What a rename does when the new name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// A file replaces a file, and a directory replaces an empty directory.
    Replace,
    /// Fail.
    NoReplace,
}

/// The properties of a new entry.
#[derive(Clone, Copy, Debug)]
pub struct New {
    /// Type and permission bits.
    pub mode: u32,
    /// The number of a device, as the kernel encodes it.
    pub rdev: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// One entry of a directory, as `readdir` returns it.
pub struct DirEntry<'a> {
    /// Inode number.
    pub ino: u64,
    /// Its type, as in `st_mode`; other bits may be set.
    pub mode: u32,
    /// Where to continue after this entry.
    pub offset: u64,
    /// The name.
    pub name: &'a [u8],
    /// The attributes, if they were requested. The receiver of an entry with attributes holds a
    /// reference to the inode.
    pub attr: Option<Attr>,
    /// Whether the entry is damaged. A new look-up reports the error.
    pub damaged: bool,
}

impl Volume {
    /// The attributes of the entry with this name. Afterwards, the caller holds a reference to its
    /// inode.
    ///
    /// # Errors
    /// Those of [`Fs::lookup`](crate::fs::Fs::lookup).
    pub fn lookup(&self, parent: u64, name: &[u8]) -> VfsResult<Attr> {
        let dir = self.dir(parent)?;
        if name.len() > self.name_max {
            // The core would report that such a name does not exist.
            return Err(Error::NameTooLong.into());
        }
        let mut core = self.core();
        let (node, stored) = self.look(&mut core, dir, name)?;
        self.enter(&mut self.inodes.lock(), dir, name, node, &stored)
    }

    /// Make a file, or another entry whose type is in `new`. Afterwards, the caller holds a
    /// reference to its inode. The content of a symbolic link is its target, and the content of a
    /// device is its number.
    ///
    /// # Errors
    /// Those of [`Fs::create_with_attrs`](crate::fs::Fs::create_with_attrs), and an error for a
    /// type that the image cannot store.
    pub fn create(&self, parent: u64, name: &[u8], new: &New, content: &[u8]) -> VfsResult<Attr> {
        let dir = self.dir(parent)?;
        let owner = self.new_owner(parent, new)?;
        let now = self.now();
        let attrs = self.new_attrs(owner.as_ref(), now, Target::File);
        let ((), mut core) = self.with_space(|core| {
            core.create_with_attrs(dir, name, &attrs)?;
            if !content.is_empty()
                && let Err(e) = fill(core, dir, name, content)
            {
                core.unlink(dir, name)?;
                return Err(e.into());
            }
            Ok(())
        })?;
        let attr = {
            let mut inodes = self.inodes.lock();
            let ino = inodes.create_file(dir, name, content.len() as u32, owner, now);
            self.dir_changed(&mut inodes, dir, now);
            self.referenced(&mut inodes, ino)?
        };
        self.store(&mut core, parent);
        self.settle(&mut core, Change::Entries)?;
        Ok(attr)
    }

    /// Make a directory. Afterwards, the caller holds a reference to its inode.
    ///
    /// # Errors
    /// Those of [`Fs::create_with_attrs`](crate::fs::Fs::create_with_attrs).
    pub fn mkdir(&self, parent: u64, name: &[u8], new: &New) -> VfsResult<Attr> {
        let dir = self.dir(parent)?;
        let owner = self.new_owner(parent, new)?;
        let now = self.now();
        let attrs = self.new_attrs(owner.as_ref(), now, Target::Dir);
        let (id, mut core) =
            self.with_space(|core| Ok(core.mkdir_with_attrs(dir, name, &attrs)?))?;
        let attr = {
            let mut inodes = self.inodes.lock();
            let ino = inodes.create_dir(id, owner, now);
            self.dir_changed(&mut inodes, dir, now);
            self.referenced(&mut inodes, ino)?
        };
        self.store(&mut core, parent);
        self.settle(&mut core, Change::Entries)?;
        Ok(attr)
    }

    /// Remove a file. Its content exists until the kernel forgets the inode.
    ///
    /// # Errors
    /// Those of [`Fs::unlink`](crate::fs::Fs::unlink).
    pub fn unlink(&self, parent: u64, name: &[u8]) -> VfsResult<()> {
        let dir = self.dir(parent)?;
        let mut core = self.core();
        self.pin(&mut core, dir, name)?;
        core.unlink(dir, name)?;
        let now = self.now();
        let close = {
            let mut inodes = self.inodes.lock();
            self.dir_changed(&mut inodes, dir, now);
            inodes.unlink_file(dir, name, now)
        };
        if let Some(file) = close {
            core.close_file(file);
        }
        self.store(&mut core, parent);
        Ok(self.settle(&mut core, Change::Entries)?)
    }

    /// Remove an empty directory.
    ///
    /// # Errors
    /// Those of [`Fs::rmdir`](crate::fs::Fs::rmdir).
    pub fn rmdir(&self, parent: u64, name: &[u8]) -> VfsResult<()> {
        let dir = self.dir(parent)?;
        let mut core = self.core();
        let Node::Dir(removed) = core.lookup(dir, name)? else {
            return Err(Error::NotDirectory.into());
        };
        core.rmdir(dir, name)?;
        let now = self.now();
        {
            let mut inodes = self.inodes.lock();
            inodes.unlink_dir(removed, now);
            self.dir_changed(&mut inodes, dir, now);
        }
        self.store(&mut core, parent);
        Ok(self.settle(&mut core, Change::Entries)?)
    }

    /// Rename a file or directory.
    ///
    /// # Errors
    /// Those of [`Fs::rename`](crate::fs::Fs::rename), and an error for flags that are not
    /// supported.
    pub fn rename(
        &self,
        (parent, name): (u64, &[u8]),
        (to_parent, to_name): (u64, &[u8]),
        mode: RenameMode,
    ) -> VfsResult<()> {
        let (dir, to) = (self.dir(parent)?, self.dir(to_parent)?);
        let no_replace = mode == RenameMode::NoReplace;
        let (moved, mut core) = self.with_space(|core| {
            let node = core.lookup(dir, name)?;
            let target = match core.lookup(to, to_name) {
                Ok(target) => Some(target),
                Err(Error::NotFound) => None,
                Err(e) => return Err(e.into()),
            };
            if matches!(target, Some(Node::File { .. })) && !no_replace {
                self.pin(core, to, to_name)?;
            }
            core.rename(dir, name, to, to_name, no_replace)?;
            Ok((node, target))
        })?;
        if (dir, name) == (to, to_name) {
            return Ok(());
        }
        let (node, target) = moved;
        let now = self.now();
        let mut inodes = self.inodes.lock();
        let close = match target {
            Some(Node::File { .. }) => inodes.unlink_file(to, to_name, now),
            Some(Node::Dir(replaced)) => {
                inodes.unlink_dir(replaced, now);
                None
            }
            None => None,
        };
        let moved = match node {
            Node::File { .. } => {
                inodes.rename_file((dir, name), (to, to_name), now);
                inodes.find_file(to, to_name)
            }
            Node::Dir(moved) => {
                if let Some(inode) = inodes.dir_mut(moved) {
                    inode.status_changed(now);
                }
                Some(InodeTable::dir_number(moved))
            }
        };
        self.dir_changed(&mut inodes, dir, now);
        self.dir_changed(&mut inodes, to, now);
        drop(inodes);
        if let Some(file) = close {
            core.close_file(file);
        }
        for ino in [moved, Some(parent), Some(to_parent)].into_iter().flatten() {
            self.store(&mut core, ino);
        }
        Ok(self.settle(&mut core, Change::Entries)?)
    }

    /// Pass the entries of a directory from `offset` on to `sink`, until it returns true for an
    /// entry that does not fit any more. With `attributes`, look up each entry and reference its
    /// inode.
    ///
    /// # Errors
    /// If the directory was removed, or cannot be read.
    pub fn read_dir(
        &self,
        ino: u64,
        offset: u64,
        attributes: bool,
        sink: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> VfsResult<()> {
        let dir = self.dir(ino)?;
        let mut core = self.core();
        let (start, listing) = self.snapshot(&mut core, dir, offset)?;
        for index in start.index.. {
            let next = Position { number: start.number, index: index.saturating_add(1) };
            let full = match index {
                0 | 1 => {
                    let (name, of): (&[u8], _) = match index {
                        0 => (b".", dir),
                        _ => (b"..", core.parent(dir).unwrap_or(dir)),
                    };
                    let ino = InodeTable::dir_number(of);
                    let offset = next.encode();
                    let mode = libc::S_IFDIR;
                    sink(&DirEntry { ino, mode, offset, name, attr: None, damaged: false })
                }
                _ => {
                    let Some(name) = listing.name(index as usize - 2) else {
                        if index == start.index {
                            self.listings.lock().finish(start.number);
                            // the entries before the damage have been passed on
                            core.check_end(dir)?;
                        }
                        break;
                    };
                    match self.look(&mut core, dir, name) {
                        // Removed since the snapshot was taken.
                        Err(Error::NotFound) => false,
                        node => self.emit(dir, name, node, next.encode(), attributes, sink)?,
                    }
                }
            };
            if full {
                break;
            }
        }
        Ok(())
    }

    /// Pass one entry to `sink`. `found` is the result of the look-up, which may be an error.
    fn emit(
        &self,
        dir: DirId,
        name: &[u8],
        found: Result<(Node, Stored)>,
        offset: u64,
        attributes: bool,
        sink: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> VfsResult<bool> {
        let mut inodes = self.inodes.lock();
        // A damaged entry is still listed. Using it reports the damage.
        let damaged = found.is_err();
        let (node, stored) = found.unwrap_or((Node::File { size: 0 }, Stored::default()));
        if attributes {
            let attr = self.enter(&mut inodes, dir, name, node, &stored)?;
            let (ino, mode) = (attr.ino, attr.mode);
            let full = sink(&DirEntry { ino, mode, offset, name, attr: Some(attr), damaged });
            if full {
                // The kernel never saw the inode. Nothing was opened, so nothing must be closed.
                inodes.forget(ino, 1);
            }
            return Ok(full);
        }
        let (ino, mode) = match node {
            Node::Dir(id) => (InodeTable::dir_number(id), libc::S_IFDIR),
            Node::File { .. } => (
                inodes.file_number(dir, name),
                stored.owner.map_or(libc::S_IFREG, |owner| owner.mode),
            ),
        };
        Ok(sink(&DirEntry { ino, mode, offset, name, attr: None, damaged: false }))
    }

    /// The snapshot that an offset belongs to, and the position in it. At the start, this is a new
    /// snapshot.
    fn snapshot(
        &self,
        core: &mut Fs,
        dir: DirId,
        offset: u64,
    ) -> VfsResult<(Position, Arc<Listing>)> {
        let position = Position::decode(offset);
        if let Some(position) = position
            && let Some(listing) = self.listings.lock().get(position.number, dir)
        {
            return Ok((position, listing));
        }
        let listing = Arc::new(Listing::new(&core.list(dir)?));
        let mut listings = self.listings.lock();
        let position = match position {
            Some(position) => {
                listings.put(position.number, dir, &listing);
                position
            }
            None => Position { number: listings.open(dir, &listing), index: 0 },
        };
        Ok((position, listing))
    }

    /// Open a file that is about to lose its name, if the kernel knows its inode: somebody may
    /// have it open, and without its name only the file object leads to the content.
    fn pin(&self, core: &mut Fs, dir: DirId, name: &[u8]) -> VfsResult<()> {
        let known = {
            let inodes = self.inodes.lock();
            inodes.find_file(dir, name).filter(|&ino| inodes.is_referenced(ino))
        };
        match known.map(|ino| self.file(core, ino)) {
            // A damaged file can be removed nevertheless.
            None | Some(Ok(_) | Err(VfsError::Core(Error::Corrupt(_)))) => Ok(()),
            Some(Err(e)) => Err(e),
        }
    }

    /// Add the inode of an entry that a look-up found to the inode table, and reference it.
    fn enter(
        &self,
        inodes: &mut InodeTable,
        dir: DirId,
        name: &[u8],
        node: Node,
        stored: &Stored,
    ) -> VfsResult<Attr> {
        let ino = match node {
            Node::File { size } => inodes.enter_file(dir, name, size, stored),
            Node::Dir(id) => inodes.enter_dir(id, stored),
        };
        self.referenced(inodes, ino)
    }

    fn referenced(&self, inodes: &mut InodeTable, ino: u64) -> VfsResult<Attr> {
        let inode = inodes.reference(ino).ok_or(VfsError::Stale)?;
        Ok(self.attr_of(ino, inode))
    }
}

/// Write the content of a file that was just made.
fn fill(core: &mut Fs, dir: DirId, name: &[u8], content: &[u8]) -> Result<()> {
    let file = core.open_file(dir, name)?;
    let written = core.write(file, 0, content);
    core.close_file(file);
    written
}
