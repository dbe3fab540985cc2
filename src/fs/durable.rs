//! What is durable: the device, and which writes are certain to be on it.
//!
//! The format does not say in which order a driver writes. It protects one commit against a crash
//! by its CRC (SPEC: `0x5xx` CRC tags), and the bytes after it by a forward CRC (`0x5ff` FCRC). So
//! a commit is there as a whole or not at all, but only barriers order one commit after another.
//!
//! [`Durable`] owns the device. What must hold:
//!
//! 1. A write is noted before it is tried, because even a failed write may have changed the block.
//!    The content of files is an exception: nothing names its blocks before all of them are
//!    written, so they are noted together at that time (`write.rs`).
//! 2. A write stays noted until a barrier or a sync has succeeded. A barrier orders writes:
//!    everything before it is on the medium before anything after it. A sync also waits until
//!    everything is there.
//! 3. `gstate` is the sum of the deltas of all pairs in the thread on disk. A commit that changes a
//!    delta changes `gstate` with it.
//! 4. With [`Durability::Ordered`], a flush leaves its last writes to the next barrier. Nothing
//!    that is written later may reach the medium before them. Otherwise, a crash could keep the
//!    later writes and lose the commits, and the metadata on the medium would name blocks that were
//!    freed by the flush and are overwritten already. So the barrier is made before the first write
//!    after such a flush. There is one exception: a commit that continues a log in the same sector
//!    as all waiting writes. The medium writes a sector as a whole, so no crash can keep this
//!    commit and lose the commits before it.
//! 5. Writes by an earlier user of the device may still be unordered, for example after a program
//!    was killed. So a barrier is made before the first write to an open filesystem.

use std::sync::Arc;

use crate::bd::{BlockDevice, IoResult};
use crate::disk::GState;
use crate::disk::commit::Commit;
use crate::mdir::store;

/// What a flush waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When a flush returns, everything is on the medium.
    #[default]
    Full,
    /// A flush does not wait for its last writes. They reach the medium before anything that is
    /// written later, and at the latest with the next sync. So a crash can undo the newest flushes,
    /// but never an older flush without all newer ones.
    Ordered,
}

/// Where all writes since the last barrier or sync are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// Nothing was written.
    Nothing,
    /// All writes are commits to this block, in this sector of the medium.
    Sector(u32, u64),
    /// The writes are in several sectors, or it is not known where they are.
    More,
}

/// The device, and what is known about its content.
pub(super) struct Durable {
    dev: Arc<dyn BlockDevice>,
    durability: Durability,
    gstate: GState,
    /// Whether something was written since the last barrier.
    unordered: bool,
    /// Whether metadata was committed since the last barrier.
    commits_unordered: bool,
    /// Whether something was written since the last sync.
    unsynced: bool,
    /// Whether writes of earlier flushes wait for a barrier.
    barrier_owed: bool,
    /// Where all writes that wait for a barrier are.
    within: Within,
}

impl Durable {
    pub fn new(dev: Arc<dyn BlockDevice>, durability: Durability) -> Self {
        Self {
            dev,
            durability,
            gstate: GState::default(),
            unordered: false,
            commits_unordered: false,
            unsynced: false,
            barrier_owed: true,
            within: Within::More,
        }
    }

    /// What a flush waits for.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// The device, to read from.
    pub fn dev(&self) -> &dyn BlockDevice {
        &*self.dev
    }

    /// The device, for reads without the filesystem.
    pub fn share(&self) -> Arc<dyn BlockDevice> {
        Arc::clone(&self.dev)
    }

    /// The global state on disk.
    pub fn gstate(&self) -> GState {
        self.gstate
    }

    /// Set the global state on disk, after a commit has changed it or opening has found it.
    pub fn set_gstate(&mut self, gstate: GState) {
        self.gstate = gstate;
    }

    /// Note that something was written, or is about to be.
    fn note_write(&mut self) {
        // this is called before the write, because a write that fails may have changed the medium
        self.unordered = true;
        self.unsynced = true;
        self.within = Within::More;
    }

    /// Called before anything is written. Makes the barrier that earlier flushes have left: see
    /// rule 4.
    fn make_owed_barrier(&mut self) -> IoResult<()> {
        if self.barrier_owed {
            // Blocks that the earlier flush freed may be overwritten now. Without this barrier, a
            // crash could keep the new bytes, but lose the commits that no longer name the blocks.
            self.dev.barrier()?;
            self.note_barrier();
        }
        Ok(())
    }

    /// Note a barrier.
    fn note_barrier(&mut self) {
        self.unordered = false;
        self.commits_unordered = false;
        self.barrier_owed = false;
        self.within = Within::Nothing;
    }

    /// Whether metadata was committed since the last barrier.
    pub fn has_unordered_commits(&self) -> bool {
        self.commits_unordered
    }

    /// Whether something was written since the last sync.
    pub fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Like [`BlockDevice::erase`].
    ///
    /// # Errors
    /// Those of the barrier for what an earlier flush has left, and of [`BlockDevice::erase`].
    pub fn erase(&mut self, block: u32) -> IoResult<()> {
        self.make_owed_barrier()?;
        self.note_write();
        self.dev.erase(block)
    }

    /// Like [`store::erase_checked`].
    ///
    /// # Errors
    /// The same, and an error if the block is not erased afterwards.
    pub fn erase_checked(&mut self, block: u32) -> IoResult<()> {
        self.make_owed_barrier()?;
        self.note_write();
        // even a failed erase may have changed the block
        store::erase_checked(&*self.dev, block)
    }

    /// Like [`store::write_commit`].
    ///
    /// # Errors
    /// Those of the barrier for what an earlier flush has left, and of [`store::write_commit`].
    pub fn write_commit(&mut self, block: u32, commit: &Commit) -> IoResult<()> {
        let first = self.dev.sector(block, commit.start);
        // A commit in the sector of all waiting writes needs no barrier: see rule 4.
        if first.is_none_or(|sector| self.within != Within::Sector(block, sector)) {
            self.make_owed_barrier()?;
        }
        let last = self.dev.sector(block, commit.end().saturating_sub(1));
        // If the commit begins in that sector but ends in the next one, a crash may keep the next
        // one alone. So the writes no longer have one place, and whatever follows needs a barrier.
        let within = match (first, self.within) {
            (Some(s), Within::Nothing) if last == first => Within::Sector(block, s),
            (Some(s), Within::Sector(b, before)) if last == first && (b, before) == (block, s) => {
                self.within
            }
            _ => Within::More,
        };
        self.note_write();
        self.within = within;
        // If an erase overtook this commit, a crash could keep only the erase. The erased block may
        // hold what this commit replaces, so both would be lost.
        self.commits_unordered = true;
        store::write_commit(&*self.dev, block, commit)
    }

    /// Like [`store::write_fresh`]: the first commit of a block that nothing names yet.
    ///
    /// # Errors
    /// Those of the barrier for what an earlier flush has left, and of [`store::write_fresh`].
    pub fn write_fresh(&mut self, block: u32, commit: &Commit) -> IoResult<()> {
        self.make_owed_barrier()?;
        self.note_write();
        store::write_fresh(&*self.dev, block, commit)
    }

    /// Like [`store::prog_checked`], for a block that nothing names yet.
    ///
    /// # Errors
    /// Those of the barrier for what an earlier flush has left, and of [`store::prog_checked`].
    #[cfg(feature = "transfer")]
    pub fn prog_checked(&mut self, block: u32, bytes: &[u8]) -> IoResult<()> {
        self.make_owed_barrier()?;
        self.note_write();
        store::prog_checked(&*self.dev, block, 0, bytes)
    }

    /// Like [`store::rewrite_checked`], for content of a file. [`Self::note_content`] notes it
    /// when all content of the file is written.
    ///
    /// # Errors
    /// Those of the barrier for what an earlier flush has left, and of [`store::rewrite_checked`].
    pub fn rewrite_checked(&mut self, block: u32, data: &[u8]) -> IoResult<()> {
        self.make_owed_barrier()?;
        store::rewrite_checked(&*self.dev, block, data)
    }

    /// Note that content of a file was written.
    pub fn note_content(&mut self) {
        self.note_write();
    }

    /// Order writes: everything that was written before is on disk before anything that is written
    /// later. For writes that an earlier flush has left, the barrier is made when something is
    /// written.
    ///
    /// # Errors
    /// Those of [`BlockDevice::barrier`].
    pub fn barrier(&mut self) -> IoResult<()> {
        if self.unordered {
            // if this fails, everything stays noted as unordered
            self.dev.barrier()?;
            self.note_barrier();
        }
        Ok(())
    }

    /// Wait until everything that was written is on disk.
    ///
    /// # Errors
    /// Those of [`BlockDevice::sync`]. It is not known what is on disk then.
    pub fn sync(&mut self) -> IoResult<()> {
        if self.unsynced {
            // a sync orders writes, too
            self.dev.sync()?;
            self.note_barrier();
            self.unsynced = false;
        }
        Ok(())
    }

    /// At the end of a flush, leave its unordered writes to the next barrier or sync.
    pub fn defer_sync(&mut self) {
        // `within` keeps its value: the next flush may continue the same log in the same sector
        // without a barrier. Any other write makes the barrier first.
        self.barrier_owed |= self.unordered;
        self.unordered = false;
        self.commits_unordered = false;
    }
}
