//! What every superblock of the chain says.

use super::Fs;
use super::edits::Edit;
use super::pairs::PairIx;
use crate::disk::{Pair, Superblock};
use crate::error::Result;

impl Fs {
    /// Let every superblock of the chain say what the root's says of the number of blocks. Returns the
    /// pairs that said something else. They do where an image was grown by a driver, which writes the
    /// root's copy only, and after an interrupted [`Fs::resize`].
    ///
    /// # Errors
    /// When the device fails.
    pub fn align_superblocks(&mut self) -> Result<Vec<Pair>> {
        let _running = self.begin()?;
        self.set_block_count(self.superblock.block_count)
    }

    /// Let every superblock say this number of blocks, the root's at last, because it is the one that
    /// counts. Returns the pairs that said something else.
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
