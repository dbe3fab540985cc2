//! Names: look up, create, remove, rename, list.

use std::sync::Arc;

use super::flusher::Change;
use super::inode::InodeTable;
use super::listing::{Listing, Position};
use super::{Attr, VfsError, VfsResult, Volume, now};
use crate::error::{Error, Result};
use crate::fs::{DirId, Fs, Node};

/// What a rename does when the new name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace a file by a file, an empty directory by a directory.
    Replace,
    /// Fail.
    NoReplace,
}

/// One entry of a directory, as `readdir` returns it.
pub struct DirEntry<'a> {
    /// Inode number.
    pub ino: u64,
    /// Whether it is a directory, else a file.
    pub is_dir: bool,
    /// Where to continue after this entry.
    pub offset: u64,
    /// The name.
    pub name: &'a [u8],
    /// The attributes, when asked for. The receiver of an entry with attributes holds a reference
    /// to the inode.
    pub attr: Option<Attr>,
    /// Whether using the entry fails, which a new look-up reports.
    pub damaged: bool,
}

impl Volume {
    /// The entry of a name; the caller holds a reference then.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> VfsResult<Attr> {
        let dir = self.dir(parent)?;
        if name.len() > self.name_max {
            // To the core such a name is merely not there.
            return Err(Error::NameTooLong.into());
        }
        let mut core = self.core();
        let node = core.lookup(dir, name)?;
        self.enter(&mut self.inodes.lock(), dir, name, node)
    }

    /// Make an empty file; the caller holds a reference then.
    pub fn create(&self, parent: u64, name: &[u8]) -> VfsResult<Attr> {
        let dir = self.dir(parent)?;
        let ((), mut core) = self.with_space(|core| Ok(core.create(dir, name)?))?;
        let now = now();
        let attr = {
            let mut inodes = self.inodes.lock();
            let ino = inodes.create_file(dir, name, now);
            self.dir_changed(&mut inodes, dir, now);
            self.referenced(&mut inodes, ino)?
        };
        self.settle(&mut core, Change::Entries)?;
        Ok(attr)
    }

    /// Make a directory; the caller holds a reference then.
    pub fn mkdir(&self, parent: u64, name: &[u8]) -> VfsResult<Attr> {
        let dir = self.dir(parent)?;
        let (id, mut core) = self.with_space(|core| Ok(core.mkdir(dir, name)?))?;
        let now = now();
        let attr = {
            let mut inodes = self.inodes.lock();
            let ino = inodes.create_dir(id, now);
            self.dir_changed(&mut inodes, dir, now);
            self.referenced(&mut inodes, ino)?
        };
        self.settle(&mut core, Change::Entries)?;
        Ok(attr)
    }

    /// Remove a file. Its content lives until the kernel forgets the inode.
    pub fn unlink(&self, parent: u64, name: &[u8]) -> VfsResult<()> {
        let dir = self.dir(parent)?;
        let mut core = self.core();
        self.pin(&mut core, dir, name)?;
        core.unlink(dir, name)?;
        let now = now();
        let close = {
            let mut inodes = self.inodes.lock();
            self.dir_changed(&mut inodes, dir, now);
            inodes.unlink_file(dir, name, now)
        };
        if let Some(file) = close {
            core.close_file(file);
        }
        Ok(self.settle(&mut core, Change::Entries)?)
    }

    /// Remove an empty directory.
    pub fn rmdir(&self, parent: u64, name: &[u8]) -> VfsResult<()> {
        let dir = self.dir(parent)?;
        let mut core = self.core();
        let Node::Dir(removed) = core.lookup(dir, name)? else {
            return Err(Error::NotDirectory.into());
        };
        core.rmdir(dir, name)?;
        let now = now();
        {
            let mut inodes = self.inodes.lock();
            inodes.unlink_dir(removed, now);
            self.dir_changed(&mut inodes, dir, now);
        }
        Ok(self.settle(&mut core, Change::Entries)?)
    }

    /// Rename a file or directory.
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
        let now = now();
        let mut inodes = self.inodes.lock();
        let close = match target {
            Some(Node::File { .. }) => inodes.unlink_file(to, to_name, now),
            Some(Node::Dir(replaced)) => {
                inodes.unlink_dir(replaced, now);
                None
            }
            None => None,
        };
        match node {
            Node::File { .. } => inodes.rename_file((dir, name), (to, to_name), now),
            Node::Dir(moved) => {
                if let Some(inode) = inodes.dir_mut(moved) {
                    inode.status_changed(now);
                }
            }
        }
        self.dir_changed(&mut inodes, dir, now);
        self.dir_changed(&mut inodes, to, now);
        drop(inodes);
        if let Some(file) = close {
            core.close_file(file);
        }
        Ok(self.settle(&mut core, Change::Entries)?)
    }

    /// Hand the entries of a directory from `offset` on to `sink`, until it returns true for one
    /// it has no room for. With `attributes`, look each up and reference its inode.
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
                    sink(&DirEntry { ino, is_dir: true, offset, name, attr: None, damaged: false })
                }
                _ => {
                    let Some(name) = listing.name(index as usize - 2) else {
                        if index == start.index {
                            self.listings.lock().finish(start.number);
                        }
                        break;
                    };
                    match core.lookup(dir, name) {
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

    /// Hand out one entry that a look-up found, or failed to.
    fn emit(
        &self,
        dir: DirId,
        name: &[u8],
        node: Result<Node>,
        offset: u64,
        attributes: bool,
        sink: &mut dyn FnMut(&DirEntry<'_>) -> bool,
    ) -> VfsResult<bool> {
        let mut inodes = self.inodes.lock();
        Ok(match node {
            node if attributes => {
                // What is damaged still shows; using it reports the damage.
                let damaged = node.is_err();
                let node = node.unwrap_or(Node::File { size: 0 });
                let attr = self.enter(&mut inodes, dir, name, node)?;
                let (ino, is_dir) = (attr.ino, attr.is_dir);
                let full = sink(&DirEntry { ino, is_dir, offset, name, attr: Some(attr), damaged });
                if full {
                    // The kernel never saw it. Nothing was opened, so nothing is to be closed.
                    inodes.forget(ino, 1);
                }
                full
            }
            Ok(Node::Dir(id)) => {
                let ino = InodeTable::dir_number(id);
                sink(&DirEntry { ino, is_dir: true, offset, name, attr: None, damaged: false })
            }
            Ok(Node::File { .. }) | Err(_) => {
                let ino = inodes.file_number(dir, name);
                sink(&DirEntry { ino, is_dir: false, offset, name, attr: None, damaged: false })
            }
        })
    }

    /// The snapshot an offset belongs to, and the place in it; a new one at the start.
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
            // A damaged file can be removed all the same.
            None | Some(Ok(_) | Err(VfsError::Core(Error::Corrupt(_)))) => Ok(()),
            Some(Err(e)) => Err(e),
        }
    }

    /// Enter what a look-up found into the inode table and reference it.
    fn enter(
        &self,
        inodes: &mut InodeTable,
        dir: DirId,
        name: &[u8],
        node: Node,
    ) -> VfsResult<Attr> {
        let ino = match node {
            Node::File { size } => inodes.enter_file(dir, name, size),
            Node::Dir(id) => inodes.enter_dir(id),
        };
        self.referenced(inodes, ino)
    }

    fn referenced(&self, inodes: &mut InodeTable, ino: u64) -> VfsResult<Attr> {
        let inode = inodes.reference(ino).ok_or(VfsError::Stale)?;
        Ok(self.attr_of(ino, inode))
    }
}
