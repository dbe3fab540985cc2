//! What is durable: the device, and how much of what was written is certain to be on it.
//!
//! [`Durable`] owns the device. What must hold:
//!
//! 1. A write is noted before it is tried: after a failure, too, what the block holds is unknown.
//!    Content of files is the exception. Nothing names its blocks before they are all written, so
//!    they are noted then, together (`write.rs`).
//! 2. What was noted stays so until a barrier or a sync has succeeded. A barrier orders: everything
//!    before it is on the medium before anything after it. A sync also waits until it is there.
//! 3. `gstate` is the sum of the deltas of all pairs of the thread on disk. A commit changes both
//!    or neither.

use std::sync::Arc;

use crate::bd::{BlockDevice, IoResult};
use crate::disk::GState;
use crate::disk::commit::Commit;
use crate::mdir::store;

/// The device, and what is known about its content.
pub(super) struct Durable {
    dev: Arc<dyn BlockDevice>,
    gstate: GState,
    /// Whether something was written since the last barrier.
    unordered: bool,
    /// Whether metadata was committed since the last barrier.
    commits_unordered: bool,
    /// Whether something was written since the last sync.
    unsynced: bool,
}

impl Durable {
    pub fn new(dev: Arc<dyn BlockDevice>) -> Self {
        Self {
            dev,
            gstate: GState::default(),
            unordered: false,
            commits_unordered: false,
            unsynced: false,
        }
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

    /// Note that something is about to be written.
    pub fn wrote(&mut self) {
        self.unordered = true;
        self.unsynced = true;
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
    pub fn erase(&mut self, block: u32) -> IoResult<()> {
        self.wrote();
        self.dev.erase(block)
    }

    /// Like [`store::erase_checked`].
    pub fn erase_checked(&mut self, block: u32) -> IoResult<()> {
        self.wrote();
        // even a failed erase may have changed the block
        store::erase_checked(&*self.dev, block)
    }

    /// Like [`store::write_commit`].
    pub fn write_commit(&mut self, block: u32, commit: &Commit) -> IoResult<()> {
        self.wrote();
        // an erase must not overtake this commit, because the erased block may hold what it
        // replaces
        self.commits_unordered = true;
        store::write_commit(&*self.dev, block, commit)
    }

    /// Like [`store::write_fresh`]: the first commit of a block that nothing names yet.
    pub fn write_fresh(&mut self, block: u32, commit: &Commit) -> IoResult<()> {
        self.wrote();
        store::write_fresh(&*self.dev, block, commit)
    }

    /// Order writes: everything that was written before is on disk before anything that is written
    /// later.
    pub fn barrier(&mut self) -> IoResult<()> {
        if self.unordered {
            // if this fails, everything stays noted as unordered
            self.dev.barrier()?;
            self.unordered = false;
            self.commits_unordered = false;
        }
        Ok(())
    }

    /// Wait until everything that was written is on disk.
    pub fn sync(&mut self) -> IoResult<()> {
        if self.unsynced {
            // a sync orders writes, too
            self.dev.sync()?;
            self.unordered = false;
            self.commits_unordered = false;
            self.unsynced = false;
        }
        Ok(())
    }
}
