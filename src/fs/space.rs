//! Space: the map of free blocks, blocks on their way to be free, and counting.

use std::sync::Arc;

use super::list::{BlockList, Readings, read_all_ways, walk_down};
use super::{FileId, Fs, OpenOptions, ROOT};
use crate::bd::{BlockDevice, Geometry};
use crate::disk::ctz;
use crate::error::{Corrupt, Error, Result};
use crate::mdir::{Data, Kind};

/// Blocks of the files walked at a time for the map of free blocks.
const WALK_BLOCKS: u32 = 4096;

/// Blocks of the files that are walked before the first change of a filesystem.
const MAPPED_EARLY: u32 = 16 << 10;

/// Blocks that nothing in memory needs any more, and that are free once nothing on disk does.
#[derive(Debug)]
pub(super) enum Retired {
    /// These blocks, once no running read holds the list they are from.
    Blocks {
        /// Addresses.
        blocks: Vec<u32>,
        /// The list.
        guard: Arc<BlockList>,
    },
    /// The end of a list, once no running read holds it.
    Tail {
        /// The list.
        list: Arc<BlockList>,
        /// Index of the first block to go.
        from: u32,
    },
    /// A whole CTZ list.
    Stored {
        /// Last block.
        head: u32,
        /// Bytes of the file.
        size: u32,
    },
}

/// Blocks of lists looked at for each block of the image. Sound lists share none, so they have no
/// more than the image; others must not be followed without end.
const LOOKS_PER_BLOCK: u64 = 8;

/// Files whose blocks are to be marked in the map of free blocks: to be walked without the
/// filesystem, and handed back to [`Fs::mark`].
pub struct Unmapped {
    dev: Arc<dyn BlockDevice>,
    /// CTZ lists, head and size.
    lists: Vec<(u32, u32)>,
}

/// What walking an [`Unmapped`] found: the blocks of each list, or why it cannot be followed, up to
/// where the device failed.
pub struct Walked {
    lists: Vec<((u32, u32), Result<Readings, Corrupt>)>,
    stopped: Option<Error>,
}

impl Unmapped {
    /// How many blocks the lists have by the sizes of their files.
    fn blocks(&self, block_size: u32) -> u32 {
        let count = |&(_, size): &(u32, u32)| ctz::blocks(block_size, size);
        self.lists.iter().map(count).fold(0, u32::saturating_add)
    }

    /// Walk the lists.
    pub fn walk(self) -> Walked {
        let mut walked = Walked { lists: Vec::new(), stopped: None };
        for (head, size) in self.lists {
            match read_all_ways(&*self.dev, head, size) {
                Ok(blocks) => walked.lists.push(((head, size), Ok(blocks))),
                Err(Error::Corrupt(c)) => walked.lists.push(((head, size), Err(c))),
                Err(e) => {
                    walked.stopped = Some(e);
                    break;
                }
            }
        }
        walked
    }
}

/// The addresses of a CTZ list, in any order.
fn read_blocks(dev: &dyn BlockDevice, head: u32, size: u32) -> Result<Vec<u32>> {
    let g = dev.geometry();
    let count = ctz::blocks(g.block_size, size);
    if count > g.block_count {
        return Err(Corrupt::CtzTooLong { head, size }.into());
    }
    let mut blocks = Vec::new();
    if count > 0 {
        walk_down(dev, head, count - 1, 0, &mut |block| blocks.push(block))?;
    }
    Ok(blocks)
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
    /// Some files whose blocks are not in the map of free blocks yet; none once it is complete.
    pub fn unmapped(&mut self) -> Option<Unmapped> {
        let _running = self.run();
        if self.alloc.is_complete() {
            return None;
        }
        let block_size = self.layout.block_size;
        let mut blocks = 0u32;
        let lists: Vec<(u32, u32)> = self
            .unmapped
            .iter()
            .rev()
            .take_while(|(_, size)| {
                let more = blocks < WALK_BLOCKS;
                blocks = blocks.saturating_add(ctz::blocks(block_size, *size));
                more
            })
            .copied()
            .collect();
        if lists.is_empty() {
            self.alloc.set_complete();
            return None;
        }
        Some(Unmapped { dev: Arc::clone(&self.dev), lists })
    }

    /// Mark what was walked.
    ///
    /// A list that cannot be followed may hold any block: nothing can be called free then, and the
    /// filesystem turns read-only. The other lists are marked all the same, for [`Fs::usage`].
    pub fn mark(&mut self, walked: Walked) -> Result<()> {
        let _running = self.run();
        for ((head, size), found) in walked.lists {
            // somebody else may have walked it meanwhile
            if self.unmapped.last() != Some(&(head, size)) {
                return Ok(());
            }
            self.unmapped.pop();
            if let Err(c) = found.and_then(|blocks| self.map_list(head, &blocks)) {
                self.unmappable(&c);
            }
            let count = ctz::blocks(self.layout.block_size, size).min(self.superblock.block_count);
            self.blocks_mapped += u64::from(count);
            if self.blocks_mapped > LOOKS_PER_BLOCK * u64::from(self.superblock.block_count) {
                self.unmapped = Vec::new();
            }
        }
        match walked.stopped {
            Some(e) if !self.alloc.is_complete() => Err(e),
            _ => Ok(()),
        }
    }

    /// Open a filesystem that is going to be changed: as [`Fs::open`], and the map of free blocks is
    /// made before the first change, unless the image is large. A list that uses blocks of a metadata
    /// pair, which a commit would overwrite, is noticed by the map only.
    ///
    /// # Errors
    /// As [`Fs::open`].
    pub fn open_to_change(dev: Arc<dyn BlockDevice>, options: &OpenOptions) -> Result<Self> {
        let mut fs = Self::open(dev, options)?;
        // What cannot be read now is tried again, and reported, by the first change that needs the map.
        let _ = fs.map_early();
        Ok(fs)
    }

    /// Complete the map of free blocks now, if following lists of [`MAPPED_EARLY`] blocks in all is
    /// enough for that, and see that all lists at least begin inside the image. So most of what makes
    /// the filesystem read-only shows at once, and not with the first write.
    ///
    /// # Errors
    /// When the device cannot be read.
    pub fn map_early(&mut self) -> Result<()> {
        if self.read_only {
            return Ok(());
        }
        let mut blocks = MAPPED_EARLY;
        let Geometry { block_size, block_count } = self.dev.geometry();
        let outside = self.unmapped.iter().find_map(|&(head, size)| {
            let count = ctz::blocks(block_size, size);
            match count.checked_sub(1)? {
                index if count <= block_count && head >= block_count => {
                    Some(Corrupt::CtzOutOfRange { head, index, block: head })
                }
                _ if count > block_count => Some(Corrupt::CtzTooLong { head, size }),
                _ => None,
            }
        });
        if let Some(corrupt) = outside {
            self.unmappable(&corrupt);
            return Ok(());
        }
        while let Some(unmapped) = self.unmapped() {
            let wanted = unmapped.blocks(block_size);
            if wanted > blocks {
                break;
            }
            blocks -= wanted;
            self.mark(unmapped.walk())?;
        }
        Ok(())
    }

    /// What is free cannot be told, because of this and perhaps because of more.
    fn unmappable(&mut self, c: &Corrupt) {
        if std::mem::replace(&mut self.is_unmappable, true) {
            return;
        }
        if self.quiet {
            // whoever asked looks at the warnings
        } else if self.read_only {
            ::log::warn!("{c}");
        } else {
            ::log::error!("{c}; from now on nothing can be written");
        }
        self.warnings.push(c.to_string());
        self.read_only = true;
        self.turned_read_only.get_or_insert_with(|| c.to_string());
    }

    /// Mark the blocks of every file, if that has not been done yet.
    pub(super) fn complete_map(&mut self) -> Result<()> {
        while let Some(unmapped) = self.unmapped() {
            self.mark(unmapped.walk())?;
        }
        self.writable()
    }

    /// The map of free blocks is needed by an operation that can be tried again.
    pub(super) fn need_map(&mut self) -> Result<()> {
        if self.map_deferred && !self.flushing && self.unmapped().is_some() {
            return Err(Error::MapUnfinished);
        }
        self.complete_map()
    }

    /// Mark the blocks of a list. One that is in use already would be freed with either owner and
    /// lost to the other; an interrupted move alone lets two entries name one list, but never a
    /// list and a metadata pair one block.
    ///
    /// Where the pointers of a list disagree, whatever any of them leads to stays in use: a device
    /// may read the file by those, and which of them are right is not known.
    fn map_list(&mut self, head: u32, readings: &Readings) -> Result<(), Corrupt> {
        if !readings.others.is_empty() {
            self.warn(format!(
                "pointers of the list that ends in block {head:#x} disagree: blocks that any of \
                 them leads to stay in use until 'littlefs check -y' has rewritten the file"
            ));
            for &block in &readings.others {
                self.alloc.pin(block);
            }
        }
        let mut shared = None;
        for &block in &readings.list {
            let is_another =
                || self.interrupted.as_ref().is_none_or(|pairs| pairs.contains(&block));
            if !self.alloc.mark(block) && !self.alloc.is_pinned(block) && is_another() {
                shared.get_or_insert(Corrupt::CtzShared { head, block });
            }
        }
        shared.map_or(Ok(()), Err)
    }

    /// Run `op`, and once more after a flush if there was no space: a flush frees what was removed.
    pub(super) fn with_space<T>(
        &mut self,
        mut op: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<T> {
        match op(self) {
            Err(Error::NoSpace) if !self.held && (self.is_dirty() || !self.retired.is_empty()) => {
                self.flush()?;
                op(self)
            }
            r => r,
        }
    }

    /// `blocks` go once nothing on disk and no running read needs them.
    pub(super) fn retire(&mut self, blocks: Vec<u32>, guard: Arc<BlockList>) {
        if !blocks.is_empty() {
            self.retired.push(Retired::Blocks { blocks, guard });
        }
    }

    /// The blocks of `list` from index `from` on go once nothing on disk and no running read needs
    /// them.
    pub(super) fn retire_list(&mut self, list: Arc<BlockList>, from: u32) {
        if from < list.len() {
            self.retired.push(Retired::Tail { list, from });
        }
    }

    /// `blocks` were never named on disk: they go as soon as no running read needs them.
    pub(super) fn discard_blocks(&mut self, blocks: Vec<u32>, guard: Arc<BlockList>) {
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
        // what was freed before the map is complete would be marked afterwards
        if !self.map_deferred {
            self.complete_map()?;
        } else if self.unmapped().is_some() {
            return Ok(());
        }
        let mut waiting = Vec::new();
        for r in std::mem::take(&mut self.retired) {
            let blocks = match &r {
                Retired::Blocks { guard, .. } if Arc::strong_count(guard) > 1 => {
                    waiting.push(r);
                    continue;
                }
                Retired::Tail { list, .. } if Arc::strong_count(list) > 1 => {
                    waiting.push(r);
                    continue;
                }
                Retired::Blocks { blocks, .. } => Ok(blocks.clone()),
                Retired::Tail { list, from } => list.addresses(&*self.dev, *from, list.len()),
                Retired::Stored { head, size } => read_blocks(&*self.dev, *head, *size),
            };
            match blocks {
                Ok(blocks) => blocks.into_iter().for_each(|b| self.alloc.free(b)),
                Err(e) => ::log::warn!("blocks of a removed file stay in use: {e}"),
            }
        }
        self.retired = waiting;
        Ok(())
    }

    /// Blocks of removed, shortened and rewritten files that are in use until the next flush.
    #[cfg(feature = "mount")]
    pub fn blocks_to_be_freed(&self) -> u32 {
        // nothing is flushed any more
        if self.read_only {
            return 0;
        }
        let count = |r: &Retired| match r {
            Retired::Blocks { blocks, .. } => blocks.len() as u32,
            Retired::Tail { list, from } => list.len().saturating_sub(*from),
            Retired::Stored { size, .. } => ctz::blocks(self.layout.block_size, *size),
        };
        self.retired.iter().map(count).fold(0, u32::saturating_add).min(self.alloc.used())
    }

    /// Let the search for free blocks begin at the first one, not where the image's own content
    /// says: for a new image whose blocks in use are to stand together.
    #[cfg(feature = "transfer")]
    pub(crate) fn allocate_from_the_start(&mut self) {
        self.alloc.search_from(0);
    }

    /// Blocks used and free.
    pub fn usage(&mut self) -> Result<Usage> {
        let _running = self.run();
        match self.complete_map() {
            Ok(()) if !self.is_dirty() => self.free_retired()?,
            Ok(()) | Err(Error::ReadOnly) => {}
            Err(e) => return Err(e),
        }
        Ok(Usage { blocks_used: self.alloc.used(), blocks_free: self.alloc.available() })
    }

    /// Tells of each block whether it is in use.
    ///
    /// # Errors
    /// When that cannot be known, or nothing may be changed.
    pub fn used_blocks(&mut self) -> Result<impl Fn(u32) -> bool + '_> {
        let _running = self.run();
        self.complete_map()?;
        Ok(|block| self.alloc.is_used(block))
    }

    /// The block behind the last one in use on `dev`. Nothing is written, and nothing logged.
    ///
    /// # Errors
    /// When the filesystem cannot be opened, or is damaged.
    pub fn used_end_of(dev: Arc<dyn BlockDevice>) -> Result<u32> {
        // one that is opened for reading only does not look for free blocks
        let mut fs = Self::open(dev, &OpenOptions { quiet: true, ..OpenOptions::default() })?;
        fs.quiet = true;
        fs.used_end()
    }

    /// The block behind the last one in use.
    ///
    /// # Errors
    /// As [`Self::used_blocks`].
    pub fn used_end(&mut self) -> Result<u32> {
        let _running = self.run();
        self.complete_map()?;
        Ok(self.alloc.end())
    }

    /// Files and directories, counted by walking the tree.
    pub fn counts(&mut self) -> Result<Counts> {
        let _running = self.run();
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
