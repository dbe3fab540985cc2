//! The map of free blocks for operations and callers, and counts.

use std::sync::Arc;

use super::list::{Readings, read_all_ways};
use super::{Fs, OpenOptions, ROOT};
use crate::bd::BlockDevice;
use crate::disk::list::List;
use crate::error::{Error, Result};
use crate::mdir::{Data, Kind};

/// How many blocks of files are followed before the first change of a filesystem.
const MAPPED_EARLY: u32 = 16 << 10;

/// Files whose blocks must be marked in the map of free blocks. Their lists can be followed while
/// others use the [`Fs`]. The result is passed to [`Fs::mark`].
pub struct Unmapped {
    dev: Arc<dyn BlockDevice>,
    lists: Vec<List>,
}

/// The result of following the lists of an [`Unmapped`]: for each list its blocks, or why it can
/// never be followed. If the device fails, the lists after that are missing.
pub struct Walked {
    lists: Vec<(List, Result<Readings>)>,
    stopped: Option<Error>,
}

impl Unmapped {
    /// How many blocks the lists have according to the sizes of their files.
    fn blocks(&self, block_size: u32) -> u32 {
        self.lists.iter().map(|list| list.blocks(block_size)).fold(0, u32::saturating_add)
    }

    /// Follow the lists.
    pub fn walk(self) -> Walked {
        let mut walked = Walked { lists: Vec::new(), stopped: None };
        for list in self.lists {
            match read_all_ways(&*self.dev, list) {
                Err(Error::Io(e)) if e.present().is_none() => {
                    walked.stopped = Some(Error::Io(e));
                    break;
                }
                // with a damaged list, or one whose end a truncated image lacks
                found => walked.lists.push((list, found)),
            }
        }
        walked
    }
}

/// Blocks of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Blocks in use.
    pub blocks_used: u32,
    /// Blocks that can still be filled: they are free, and not promised to files that are being
    /// written.
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
    /// Some files whose blocks are not in the map of free blocks yet. `None` when the map is
    /// complete.
    pub fn unmapped(&mut self) -> Option<Unmapped> {
        let _running = self.run();
        let lists = self.space.next_lists()?;
        Some(Unmapped { dev: self.durable.share(), lists })
    }

    /// Mark the blocks of the lists that were followed.
    ///
    /// A list that cannot be followed may contain any block. Then no block is known to be free, and
    /// the filesystem becomes read-only. The other lists are marked nevertheless, for
    /// [`Fs::usage`].
    ///
    /// # Errors
    /// The errors of the device that stopped the walk.
    pub fn mark(&mut self, walked: Walked) -> Result<()> {
        let _running = self.run();
        for (list, found) in walked.lists {
            let Some(taken) = self.space.take_up(list, found) else { return Ok(()) };
            if taken.disagrees {
                self.warn(format!(
                    "the pointers of the list that ends in block {:#x} disagree: every block that \
                     one of them leads to stays in use until 'littlefs check -y' has rewritten the \
                     file",
                    list.head
                ));
            }
            if let Some(problem) = taken.problem {
                self.unmappable(&problem);
            }
        }
        match walked.stopped {
            Some(e) if !self.space.is_complete() => Err(e),
            _ => Ok(()),
        }
    }

    /// Open a filesystem that will be changed: like [`Fs::open`], but the map of free blocks is
    /// made before the first change, unless the image is large. Only the map shows that a list uses
    /// blocks of a metadata pair, which a commit would overwrite.
    ///
    /// # Errors
    /// Those of [`Fs::open`].
    pub fn open_to_change(dev: Arc<dyn BlockDevice>, options: &OpenOptions) -> Result<Self> {
        let mut fs = Self::open(dev, options)?;
        // if something cannot be read now, the first change that needs the map tries again, and
        // reports the error
        let _ = fs.map_early();
        Ok(fs)
    }

    /// Complete the map of free blocks now, if the lists that must be followed have no more than
    /// [`MAPPED_EARLY`] blocks. In any case, check that all lists begin inside the image. So most
    /// of the damage that makes the filesystem read-only is found now, and not during the first
    /// write.
    ///
    /// # Errors
    /// If the device cannot be read.
    pub fn map_early(&mut self) -> Result<()> {
        if self.read_only {
            return Ok(());
        }
        let mut blocks = MAPPED_EARLY;
        let block_size = self.layout.block_size;
        if let Some(corrupt) = self.space.list_outside() {
            self.unmappable(&corrupt.into());
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

    /// Note that it is not known which blocks are free, because of this damage and perhaps other
    /// damage.
    fn unmappable(&mut self, problem: &Error) {
        if !self.space.set_unmappable() {
            return;
        }
        let why = match problem {
            Error::Corrupt(c) => c.to_string(),
            e => e.to_string(),
        };
        if self.quiet {
            // the caller reads the warnings
        } else if self.read_only {
            ::log::warn!("{why}");
        } else {
            ::log::error!("{why}; from now on, nothing can be written");
        }
        self.read_only = true;
        self.turned_read_only.get_or_insert_with(|| why.clone());
        self.warnings.push(why);
    }

    /// Mark the blocks of all files, unless that has been done.
    pub(super) fn complete_map(&mut self) -> Result<()> {
        while let Some(unmapped) = self.unmapped() {
            self.mark(unmapped.walk())?;
        }
        self.writable()
    }

    /// Called by an operation that needs the map of free blocks and can be tried again.
    pub(super) fn need_map(&mut self) -> Result<()> {
        if self.space.is_deferred() && !self.flushing && self.unmapped().is_some() {
            return Err(Error::MapUnfinished);
        }
        self.complete_map()
    }

    /// Free the blocks that waited for a flush. Everything in memory is on disk now.
    pub(super) fn free_retired(&mut self) -> Result<()> {
        if !self.space.has_retired() {
            return Ok(());
        }
        // blocks that are freed before the map is complete would be marked as used again
        if !self.space.is_deferred() {
            self.complete_map()?;
        } else if self.unmapped().is_some() {
            return Ok(());
        }
        self.space.free_retired(self.durable.dev());
        Ok(())
    }

    /// How many blocks of removed, shortened and rewritten files are in use until the next flush.
    #[cfg(feature = "mount")]
    pub fn blocks_to_be_freed(&self) -> u32 {
        // after the filesystem has become read-only, nothing is flushed any more
        if self.read_only { 0 } else { self.space.blocks_retired() }
    }

    /// Begin the search for free blocks at the first block, and not at a place that depends on the
    /// content of the image. This is for a new image, in which the blocks in use should be close
    /// together.
    #[cfg(feature = "transfer")]
    pub(crate) fn allocate_from_the_start(&mut self) {
        self.space.search_from(0);
    }

    /// How many blocks are used and free.
    ///
    /// # Errors
    /// If the device fails while the map of free blocks is completed.
    pub fn usage(&mut self) -> Result<Usage> {
        let _running = self.run();
        match self.complete_map() {
            Ok(()) if !self.is_dirty() => self.free_retired()?,
            Ok(()) | Err(Error::ReadOnly) => {}
            Err(e) => return Err(e),
        }
        Ok(self.space.usage())
    }

    /// A function that tells for each block whether it is in use.
    ///
    /// # Errors
    /// If that cannot be known, or if nothing may be changed.
    pub fn used_blocks(&mut self) -> Result<impl Fn(u32) -> bool + '_> {
        let _running = self.run();
        self.complete_map()?;
        Ok(|block| self.space.is_used(block))
    }

    /// The number of the block after the last one in use on `dev`. Nothing is written or logged.
    ///
    /// # Errors
    /// If the filesystem cannot be opened, or is damaged.
    pub fn used_end_of(dev: Arc<dyn BlockDevice>) -> Result<u32> {
        // a filesystem that is opened for reading only does not look for free blocks
        let mut fs = Self::open(dev, &OpenOptions { quiet: true, ..OpenOptions::default() })?;
        fs.quiet = true;
        fs.used_end()
    }

    /// The number of the block after the last one in use.
    ///
    /// # Errors
    /// Those of [`Self::used_blocks`].
    pub fn used_end(&mut self) -> Result<u32> {
        let _running = self.run();
        self.complete_map()?;
        Ok(self.space.end())
    }

    /// The numbers of files and directories, found by walking over the tree.
    ///
    /// # Errors
    /// If a pair of a directory cannot be read.
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
}
