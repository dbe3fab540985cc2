//! Space: the map of free blocks, blocks on their way to be free, and counting.

use std::sync::Arc;

use super::{FileId, Fs, ROOT};
use crate::error::{Corrupt, Error, Result};
use crate::mdir::{Data, Kind};

/// Blocks that nothing in memory needs any more, and that are free once nothing on disk does.
#[derive(Debug)]
pub(super) enum Retired {
    /// These blocks, once no running read holds the list they are from.
    Blocks {
        /// Addresses.
        blocks: Vec<u32>,
        /// The list.
        guard: Arc<Vec<u32>>,
    },
    /// A whole CTZ list.
    List {
        /// Last block.
        head: u32,
        /// Bytes of the file.
        size: u32,
    },
}

/// Blocks of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Blocks in use.
    pub blocks_used: u32,
    /// Blocks that can still be filled: free, and not promised to files being written.
    pub blocks_free: u32,
}

/// Entries of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files.
    pub files: u64,
    /// Directories without the root.
    pub directories: u64,
}

impl Fs {
    /// Mark the blocks of every file, if that has not been done yet.
    ///
    /// A list that cannot be followed may hold any block: nothing can be called free then, and the
    /// filesystem turns read-only.
    pub(super) fn complete_map(&mut self) -> Result<()> {
        while let Some(&(head, size)) = self.unmapped.last() {
            match self.load_list(head, size).and_then(|list| self.map_list(head, &list)) {
                Ok(()) => _ = self.unmapped.pop(),
                Err(Error::Corrupt(c)) => {
                    ::log::error!("{c}; turning read-only");
                    self.warnings.push(c.to_string());
                    self.read_only = true;
                    // with nothing to write the map is of no use
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        self.unmapped = Vec::new();
        self.alloc.set_complete();
        self.writable()
    }

    /// Mark the blocks of a list. Where none of them may be in use already, one that is would be
    /// freed with either file and lost to the other.
    fn map_list(&mut self, head: u32, list: &[u32]) -> Result<()> {
        for &block in list {
            if !self.alloc.mark(block) && !self.interrupted {
                return Err(Corrupt::CtzShared { head, block }.into());
            }
        }
        Ok(())
    }

    /// Run `op`, and once more after a flush if there was no space: a flush frees what was removed.
    pub(super) fn with_space<T>(
        &mut self,
        mut op: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<T> {
        match op(self) {
            Err(Error::NoSpace) if self.is_dirty() || !self.retired.is_empty() => {
                self.flush()?;
                op(self)
            }
            r => r,
        }
    }

    /// `blocks` go once nothing on disk and no running read needs them.
    pub(super) fn retire(&mut self, blocks: Vec<u32>, guard: Arc<Vec<u32>>) {
        if !blocks.is_empty() {
            self.retired.push(Retired::Blocks { blocks, guard });
        }
    }

    /// `blocks` were never named on disk: they go as soon as no running read needs them.
    pub(super) fn discard_blocks(&mut self, blocks: Vec<u32>, guard: Arc<Vec<u32>>) {
        if Arc::strong_count(&guard) > 1 {
            self.retire(blocks, guard);
        } else {
            blocks.into_iter().for_each(|b| self.alloc.free(b));
        }
    }

    /// Everything in memory is on disk: free what waited for that.
    pub(super) fn free_retired(&mut self) -> Result<()> {
        if self.retired.is_empty() {
            return Ok(());
        }
        self.complete_map()?;
        for r in std::mem::take(&mut self.retired) {
            match r {
                Retired::Blocks { blocks, guard } => self.discard_blocks(blocks, guard),
                Retired::List { head, size } => match self.load_list(head, size) {
                    Ok(list) => list.into_iter().for_each(|b| self.alloc.free(b)),
                    Err(e) => ::log::warn!("blocks of a removed file stay in use: {e}"),
                },
            }
        }
        Ok(())
    }

    /// Blocks used and free.
    pub fn usage(&mut self) -> Result<Usage> {
        match self.complete_map() {
            Ok(()) | Err(Error::ReadOnly) => {}
            Err(e) => return Err(e),
        }
        Ok(Usage { blocks_used: self.alloc.used(), blocks_free: self.alloc.available() })
    }

    /// Files and directories, counted by walking the tree.
    pub fn counts(&mut self) -> Result<Counts> {
        let mut counts = Counts::default();
        let mut todo = vec![ROOT];
        while let Some(dir) = todo.pop() {
            for ix in self.dir(dir)?.pairs.clone() {
                for e in self.mdir(ix)?.entries.iter().filter(|e| e.is_visible()) {
                    match (e.kind, &e.data) {
                        (Kind::Dir, Data::Dir { dir: Some(d), .. }) => {
                            counts.directories += 1;
                            todo.push(*d);
                        }
                        (Kind::Dir, _) => counts.directories += 1,
                        _ => counts.files += 1,
                    }
                }
            }
        }
        Ok(counts)
    }

    /// Files with unwritten data.
    pub(super) fn dirty_file_ids(&self) -> Vec<FileId> {
        self.dirty_files.iter().copied().collect()
    }
}
