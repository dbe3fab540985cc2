//! The table of open files.
//!
//! [`OpenFiles`] owns it, and nothing else in the filesystem sees its fields. What must hold:
//!
//! 1. A file object lives while it is open, while it waits to be written, and while its changes
//!    could still be dropped; then whoever ended the last of these removes it.
//! 2. The bytes in memory only are counted: a file is changed by [`OpenFiles::update`] alone.
//! 3. A file that waits to be written has a name. One without a name is never flushed.
//! 4. A file is `unsaved` as long as it keeps what its entry said before its changes
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

/// A CTZ list on disk and what was changed since.
#[derive(Debug, Default)]
pub(super) struct Ctz {
    /// Its blocks: on disk, committed or not.
    pub list: Arc<BlockList>,
    /// Bytes of `list` that count; beyond are dirty ranges and zeros.
    pub valid: u32,
    /// The list that the entry on disk names.
    pub durable: Arc<BlockList>,
    /// How many blocks `list` and `durable` have in common at the start.
    pub shared: u32,
    /// Dirty ranges.
    pub dirty: Extents,
    /// Blocks promised by the allocator for writing this out.
    pub reserved: u32,
}

/// Where a file's content is.
#[derive(Debug)]
pub(super) enum Body {
    /// In its entry.
    Inline,
    /// It was inline when it was unlinked.
    Detached(Vec<u8>),
    /// In blocks.
    Ctz(Ctz),
}

/// An open file.
#[derive(Debug)]
pub(super) struct File {
    /// Where its entry is; none once unlinked.
    pub link: Option<(DirId, Box<[u8]>)>,
    /// How often it is open; a changed file outlives its last close until it is flushed.
    pub opens: u32,
    /// Bytes.
    pub size: u32,
    pub body: Body,
    /// What its entry said before the first change that is not durable.
    saved: Option<Saved>,
}

impl File {
    /// Bytes of content in memory only.
    fn dirty_bytes(&self) -> usize {
        match &self.body {
            Body::Ctz(c) => c.dirty.bytes(),
            Body::Inline | Body::Detached(_) => 0,
        }
    }
}

impl Ctz {
    /// Where writing out has to begin; `None` if no byte changed.
    pub fn changed_from(&self, size: u32) -> Option<u32> {
        let gap = (size > self.valid).then_some(self.valid);
        match (self.dirty.first(), gap) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Blocks that writing out will take.
    pub fn blocks_needed(&self, block_size: u32, size: u32) -> u32 {
        match self.changed_from(size) {
            Some(from) => ctz::blocks(block_size, size) - ctz::locate(block_size, from).0,
            None => 0,
        }
    }
}

impl File {
    /// A file of this content, which is not open yet.
    pub fn new(link: (DirId, Box<[u8]>), size: u32, body: Body) -> Self {
        Self { link: Some(link), opens: 0, size, body, saved: None }
    }

    /// Whether it keeps what its entry said before its changes.
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
    /// Bytes of content in memory only.
    dirty_bytes: usize,
    /// Files keep what they were before their changes.
    tracks_unsaved: bool,
    /// Files that do so now.
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

    /// A file that is known to be there.
    pub fn get(&self, id: FileId) -> &File {
        &self.table[id.0]
    }

    /// The file that a caller of this module means.
    ///
    /// # Errors
    /// [`Error::Closed`] unless it is open.
    pub fn opened(&self, id: FileId) -> Result<&File> {
        self.table.get(id.0).filter(|f| f.opens > 0).ok_or(Error::Closed)
    }

    /// Change a file that is known to be there.
    pub fn update<R>(&mut self, id: FileId, change: impl FnOnce(&mut File) -> R) -> R {
        let file = &mut self.table[id.0];
        let before = file.dirty_bytes();
        let result = change(file);
        self.dirty_bytes = self.dirty_bytes - before + file.dirty_bytes();
        result
    }

    /// The list of a file in blocks changes; of any other file, nothing.
    pub fn update_list<R>(
        &mut self,
        id: FileId,
        change: impl FnOnce(&mut Ctz) -> R,
    ) -> Option<R> {
        self.update(id, |file| match &mut file.body {
            Body::Ctz(c) => Some(change(c)),
            Body::Inline | Body::Detached(_) => None,
        })
    }

    /// Close a file once. True if nobody needs the object any more.
    pub fn close(&mut self, id: FileId) -> bool {
        let is_changed = self.dirty.contains(&id) || self.unsaved.contains(&id);
        let Some(file) = self.table.get_mut(id.0) else { return false };
        file.opens = file.opens.saturating_sub(1);
        file.opens == 0 && !is_changed
    }

    /// Bytes of content in memory only.
    pub fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    /// Bytes of content in memory only of each file in blocks.
    pub fn by_dirty_bytes(&self) -> Vec<(usize, FileId)> {
        let in_blocks = self.table.iter().filter(|(_, f)| matches!(f.body, Body::Ctz(_)));
        in_blocks.map(|(id, f)| (f.dirty_bytes(), FileId(id))).collect()
    }

    /// The content of a file waits to be written, if it has a name.
    pub fn mark_dirty(&mut self, id: FileId) {
        if self.get(id).link.is_some() {
            self.dirty.insert(id);
        }
    }

    /// The content of a file does not wait to be written. True if it did.
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

    /// Files that a flush would settle, one way or the other.
    pub fn waiting(&self) -> usize {
        self.dirty.len().max(self.unsaved.len())
    }

    /// Files are to keep what they were before their changes.
    pub fn track_unsaved(&mut self) {
        self.tracks_unsaved = true;
    }

    /// Whether they do.
    pub fn tracks_unsaved(&self) -> bool {
        self.tracks_unsaved
    }

    /// A file keeps what its entry said.
    pub fn keep_saved(&mut self, id: FileId, saved: Saved) {
        self.table[id.0].saved = Some(saved);
        self.unsaved.insert(id);
    }

    /// What a file's entry said before its changes is not kept any more.
    pub fn take_saved(&mut self, id: FileId) -> Option<Saved> {
        self.unsaved.remove(&id);
        self.table.get_mut(id.0)?.saved.take()
    }

    /// Files that keep what they were.
    pub fn unsaved(&self) -> &BTreeSet<FileId> {
        &self.unsaved
    }

    /// What they keep, to be changed.
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
