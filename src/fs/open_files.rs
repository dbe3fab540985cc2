//! The table of open files.
//!
//! [`OpenFiles`] owns it, and nothing else in the filesystem sees its fields. What must hold:
//!
//! 1. A file object exists as long as it is open, waits to be written, or has changes that can
//!    still be dropped. The code that ends the last of these conditions removes it.
//! 2. The bytes that are only in memory are counted. So files are changed only by
//!    [`OpenFiles::update`].
//! 3. A file that waits to be written has a name. A file without a name is never flushed.
//! 4. A file is `unsaved` as long as it keeps the content that its entry had before its changes
//!    (`unsaved.rs`).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::extents::Extents;
use super::list::BlockList;
use super::unsaved::Saved;
use super::{DirId, FileId};
use crate::disk::ctz;
use crate::error::{Error, Result};
use crate::slots::Slots;

/// A CTZ list on disk, and the changes since it was written.
#[derive(Debug, Default)]
pub(super) struct Ctz {
    /// The blocks that are written. A commit may not name all of them yet.
    pub list: Arc<BlockList>,
    /// How many bytes of `list` are content. After them, there are dirty ranges and zeros.
    pub valid: u32,
    /// The list that the entry on disk names.
    pub durable: Arc<BlockList>,
    /// How many blocks `list` and `durable` have in common at their beginning.
    pub shared: u32,
    /// Dirty ranges.
    pub dirty: Extents,
    /// How many blocks the allocator has promised for writing out the changes.
    pub reserved: u32,
}

/// Where the content of a file is.
#[derive(Debug)]
pub(super) enum Body {
    /// In its entry.
    Inline,
    /// In memory. The file was inline when it was unlinked.
    Detached(Vec<u8>),
    /// In blocks.
    Ctz(Ctz),
}

/// An open file.
#[derive(Debug)]
pub(super) struct File {
    /// The directory and name of its entry. `None` after it was unlinked.
    pub link: Option<(DirId, Box<[u8]>)>,
    /// How many times it is open. A changed file is kept after its last close until it is flushed.
    pub opens: u32,
    /// The size in bytes.
    pub size: u32,
    pub body: Body,
    /// The content that its entry had before the first change that is not durable.
    saved: Option<Saved>,
}

impl File {
    /// How many bytes of content are only in memory.
    fn dirty_bytes(&self) -> usize {
        match &self.body {
            Body::Ctz(c) => c.dirty.bytes(),
            Body::Inline | Body::Detached(_) => 0,
        }
    }
}

impl Ctz {
    /// The position at which writing out begins. `None` if no byte has changed.
    pub fn changed_from(&self, size: u32) -> Option<u32> {
        let gap = (size > self.valid).then_some(self.valid);
        match (self.dirty.first(), gap) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// How many blocks writing out will take.
    pub fn blocks_needed(&self, block_size: u32, size: u32) -> u32 {
        match self.changed_from(size) {
            Some(from) => ctz::blocks_from(block_size, size, from),
            None => 0,
        }
    }
}

impl File {
    /// A file with this content. It is not open yet.
    pub fn new(link: (DirId, Box<[u8]>), size: u32, body: Body) -> Self {
        Self { link: Some(link), opens: 0, size, body, saved: None }
    }

    /// Whether it keeps the content that its entry had before its changes.
    pub fn is_unsaved(&self) -> bool {
        self.saved.is_some()
    }
}

/// The open files, and those that wait to be written.
#[derive(Debug)]
pub(super) struct OpenFiles {
    table: Slots<File>,
    /// Files whose content in blocks has changed.
    dirty: BTreeSet<FileId>,
    /// How many bytes of content are only in memory.
    dirty_bytes: usize,
    /// Whether files keep the content that their entries had before their changes.
    tracks_unsaved: bool,
    /// The files that keep such content now.
    unsaved: BTreeSet<FileId>,
}

impl OpenFiles {
    pub fn new() -> Self {
        Self {
            table: Slots::new(u32::MAX),
            dirty: BTreeSet::new(),
            dirty_bytes: 0,
            tracks_unsaved: false,
            unsaved: BTreeSet::new(),
        }
    }

    /// Add a file object, which is not dirty.
    pub fn insert(&mut self, file: File) -> FileId {
        self.dirty_bytes += file.dirty_bytes();
        FileId(self.table.insert(file))
    }

    /// Remove a file object.
    pub fn remove(&mut self, id: FileId) -> Option<File> {
        let file = self.table.remove(id.0)?;
        self.dirty_bytes -= file.dirty_bytes();
        self.dirty.remove(&id);
        self.unsaved.remove(&id);
        Some(file)
    }

    /// The file with this id, which the caller knows to exist.
    pub fn get(&self, id: FileId) -> &File {
        &self.table[id.0]
    }

    /// The open file with this id.
    ///
    /// # Errors
    /// [`Error::Closed`] if it is not open.
    pub fn opened(&self, id: FileId) -> Result<&File> {
        self.table.get(id.0).filter(|f| f.opens > 0).ok_or(Error::Closed)
    }

    /// Change the file with this id, which the caller knows to exist.
    pub fn update<R>(&mut self, id: FileId, change: impl FnOnce(&mut File) -> R) -> R {
        let file = &mut self.table[id.0];
        let before = file.dirty_bytes();
        let result = change(file);
        self.dirty_bytes = self.dirty_bytes - before + file.dirty_bytes();
        result
    }

    /// Change the list of a file that is in blocks. For any other file, nothing is done.
    pub fn update_list<R>(&mut self, id: FileId, change: impl FnOnce(&mut Ctz) -> R) -> Option<R> {
        self.update(id, |file| match &mut file.body {
            Body::Ctz(c) => Some(change(c)),
            Body::Inline | Body::Detached(_) => None,
        })
    }

    /// Close a file once. Returns true if nothing needs the object any more.
    pub fn close(&mut self, id: FileId) -> bool {
        let is_changed = self.dirty.contains(&id) || self.unsaved.contains(&id);
        let Some(file) = self.table.get_mut(id.0) else { return false };
        file.opens = file.opens.saturating_sub(1);
        file.opens == 0 && !is_changed
    }

    /// How many bytes of content are only in memory.
    pub fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    /// For each file in blocks, how many bytes of content are only in memory.
    pub fn by_dirty_bytes(&self) -> Vec<(usize, FileId)> {
        let in_blocks = self.table.iter().filter(|(_, f)| matches!(f.body, Body::Ctz(_)));
        in_blocks.map(|(id, f)| (f.dirty_bytes(), FileId(id))).collect()
    }

    /// Note that the content of a file waits to be written, if the file has a name.
    pub fn mark_dirty(&mut self, id: FileId) {
        if self.get(id).link.is_some() {
            self.dirty.insert(id);
        }
    }

    /// Note that the content of a file does not wait to be written. Returns whether it did.
    pub fn mark_clean(&mut self, id: FileId) -> bool {
        self.dirty.remove(&id)
    }

    /// Whether the content of a file waits to be written.
    pub fn is_dirty(&self, id: FileId) -> bool {
        self.dirty.contains(&id)
    }

    /// Files whose content waits to be written.
    pub fn dirty(&self) -> &BTreeSet<FileId> {
        &self.dirty
    }

    /// How many files a flush would write or make durable.
    pub fn waiting(&self) -> usize {
        self.dirty.len().max(self.unsaved.len())
    }

    /// Let files keep the content that their entries had before their changes.
    pub fn track_unsaved(&mut self) {
        self.tracks_unsaved = true;
    }

    /// Whether files keep the content that their entries had before their changes.
    pub fn tracks_unsaved(&self) -> bool {
        self.tracks_unsaved
    }

    /// Let a file keep the content that its entry had.
    pub fn keep_saved(&mut self, id: FileId, saved: Saved) {
        self.table[id.0].saved = Some(saved);
        self.unsaved.insert(id);
    }

    /// Remove the content that a file keeps of its entry, and return it.
    pub fn take_saved(&mut self, id: FileId) -> Option<Saved> {
        self.unsaved.remove(&id);
        self.table.get_mut(id.0)?.saved.take()
    }

    /// The files that keep the content that their entries had.
    pub fn unsaved(&self) -> &BTreeSet<FileId> {
        &self.unsaved
    }

    /// Change the content that each of these files keeps.
    pub fn each_saved(&mut self, mut change: impl FnMut(&mut Saved)) {
        for id in &self.unsaved {
            if let Some(saved) = &mut self.table[id.0].saved {
                change(saved);
            }
        }
    }

    /// How many file objects there is room for.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.table.capacity()
    }
}
