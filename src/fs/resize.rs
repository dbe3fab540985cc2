//! Changing the number of blocks of a filesystem in place.
//!
//! All changes are commits to the metadata as it is on disk. So a crash at any moment leaves a
//! sound image. It has the old size until the superblock of the root has the new one.

use super::Fs;
use super::edits::Edit;
use super::list::read_all_ways;
use super::pairs::PairIx;
use crate::disk::entry::Content;
use crate::disk::{List, ListIndex, ctz};
use crate::error::{Corrupt, Error, Result};

impl Fs {
    /// Give the filesystem `block_count` blocks. If these are fewer than before, the content of the
    /// blocks that will be cut off first moves to other blocks. There must be no changes in memory.
    /// Afterwards, the filesystem must be opened again, over a device with this number of blocks.
    ///
    /// # Errors
    /// [`Error::NoSpace`] if there is no room to move everything. Then everything that has moved
    /// already stays in its new place, and the size does not change.
    pub fn resize(mut self, block_count: u32) -> Result<()> {
        self.quiet = true;
        self.finish_interrupted()?;
        if block_count < self.geometry().block_count {
            self.vacate(block_count)?;
        }
        self.set_block_count(block_count).map(|_| ())
    }

    /// Move everything out of the blocks from `limit`.
    fn vacate(&mut self, limit: u32) -> Result<()> {
        self.complete_map()?;
        (limit..self.geometry().block_count).for_each(|block| self.space.pin(block));
        for ix in self.thread.ids() {
            if self.thread.find(ix).is_some_and(|p| p.on_disk) {
                self.vacate_pair(ix, limit)?;
                self.vacate_lists(ix, limit)?;
            }
        }
        self.sync()
    }

    /// Move a pair out of the blocks from `limit`, one of its blocks after the other.
    fn vacate_pair(&mut self, ix: PairIx, limit: u32) -> Result<()> {
        while self.pair(ix).blocks.0.iter().any(|&block| block >= limit) {
            let mut log = self.durable_log(ix)?;
            self.keep_order_as_c(ix, &mut log)?;
            let [_, twin] = self.pair(ix).blocks.0;
            self.relocate_log(ix, &log, self.durable.gstate())?;
            self.barrier()?;
            self.space.free(twin);
        }
        Ok(())
    }

    /// Move the lists of the files whose entries are in a pair.
    fn vacate_lists(&mut self, ix: PairIx, limit: u32) -> Result<()> {
        let mut next = 0;
        loop {
            // a commit may have changed the order of the entries
            let log = self.durable_log(ix)?;
            let lists = log
                .entries
                .iter()
                .enumerate()
                .skip(next)
                .filter_map(|(id, e)| Some((id, Content::of(e).list()?)));
            let mut found = None;
            for (id, list) in lists {
                let mut blocks = read_all_ways(self.durable.dev(), list)?.list;
                blocks.reverse();
                if let Some(first) = blocks.iter().position(|&block| block >= limit) {
                    found = Some((id, list.size, blocks, first));
                    break;
                }
            }
            let Some((id, size, blocks, first)) = found else { return Ok(()) };
            let new = self.copy_list(&blocks, first)?;
            let head = *new.last().ok_or(Error::NoSpace)?;
            let edit = Edit::List(id as u16, List { head, size });
            self.commit_edits(ix, &[edit], self.durable.gstate())?;
            self.barrier()?;
            blocks[first..].iter().for_each(|&block| self.space.free(block));
            next = if self.pair(ix).has_doubles { 0 } else { id + 1 };
        }
    }

    /// Copy the blocks of a list from index `first`, and return the blocks of the new list. Nothing
    /// names the copies yet.
    fn copy_list(&mut self, blocks: &[u32], first: usize) -> Result<Vec<u32>> {
        let mut new = blocks[..first].to_vec();
        let mut bytes = vec![0; self.layout.block_size as usize];
        for (index, &block) in blocks.iter().enumerate().skip(first) {
            self.durable.dev().read(block, 0, &mut bytes)?;
            let targets = ctz::targets(ListIndex(index as u32));
            for (slot, target) in bytes.chunks_exact_mut(4).zip(targets) {
                let to =
                    *new.get(target.as_usize()).ok_or(Corrupt::CtzLoop { head: block, block })?;
                slot.copy_from_slice(&to.to_le_bytes());
            }
            match self.write_block(&bytes) {
                Ok(block) => new.push(block),
                Err(e) => {
                    new[first..].iter().for_each(|&block| self.space.free(block));
                    return Err(e);
                }
            }
        }
        Ok(new)
    }

    /// Write a block of a list to a free block.
    fn write_block(&mut self, bytes: &[u8]) -> Result<u32> {
        loop {
            let block = self.space.take_to_write()?;
            let erased = self.durable.erase(block);
            match erased.and_then(|()| self.durable.prog_checked(block, bytes)) {
                Ok(()) => {
                    self.space.written();
                    return Ok(block);
                }
                Err(e) if e.is_bad_block() => self.space.spoil(block, e)?,
                Err(e) => return Err(e.into()),
            }
        }
    }
}
