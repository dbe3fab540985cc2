//! The superblocks of the chain.

use super::Fs;
use super::edits::Edit;
use super::pairs::PairIx;
use crate::disk::{Pair, Superblock};
use crate::error::Result;

impl Fs {
    /// Write the number of blocks in the superblock of the root into all other superblocks of the
    /// chain. Returns the pairs that had another number. There are such pairs after a driver has
    /// let the filesystem grow, because it writes only the superblock of the root, and after an
    /// interrupted [`Fs::resize`].
    ///
    /// # Errors
    /// If the device fails.
    pub fn align_superblocks(&mut self) -> Result<Vec<Pair>> {
        let _running = self.begin()?;
        self.set_block_count(self.superblock.block_count)
    }

    /// Write this number of blocks into every superblock. The superblock of the root comes last,
    /// because it decides the size: after a crash before that, the filesystem still has its old
    /// size. Returns the pairs that had another number.
    pub(super) fn set_block_count(&mut self, block_count: u32) -> Result<Vec<Pair>> {
        let mut changed = Vec::new();
        let mut at = Some(PairIx(0));
        while let Some(ix) = at.filter(|&ix| self.pair(ix).chain) {
            let log = self.durable_log(ix)?;
            if let Some(there) = Superblock::of(&log).filter(|sb| sb.block_count != block_count) {
                changed.push(self.pair(ix).blocks);
                let edit = Edit::Superblock(Superblock { block_count, ..there });
                self.commit_edits(ix, &[edit], self.durable.gstate())?;
                self.barrier()?;
            }
            at = self.pair(ix).next;
        }
        self.sync()?;
        Ok(changed)
    }
}
