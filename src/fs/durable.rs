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
//! 4. With [`Durability::Ordered`], a flush leaves its last writes to the next barrier. Nothing
//!    that a later flush writes may reach the medium before them. So the first write after such a
//!    flush makes the barrier. There is one exception: a commit that continues a log in the sector
//!    in which all waiting writes lie. The medium writes a sector as a whole, so no crash can keep
//!    this commit and lose those before it.
//! 5. It is not known what an earlier owner of the device has left to a barrier. So the first write
//!    to an open filesystem is preceded by one.

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
    /// but never an older one without those after it.
    Ordered,
}

/// Where everything is that was written since the last barrier or sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// Nothing was written.
    Nothing,
    /// All of it is commits to this block, in this sector of the medium.
    Sector(u32, u64),
    /// It is in several sectors, or it is not known where it is.
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
    left: bool,
    /// Where everything is that waits for a barrier.
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
            left: true,
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
    fn wrote(&mut self) {
        self.unordered = true;
        self.unsynced = true;
        self.within = Within::More;
    }

    /// Called before anything is written. What earlier flushes have left is ordered before it.
    fn go_on(&mut self) -> IoResult<()> {
        if self.left {
            self.dev.barrier()?;
            self.is_ordered();
        }
        Ok(())
    }

    /// Note a barrier.
    fn is_ordered(&mut self) {
        self.unordered = false;
        self.commits_unordered = false;
        self.left = false;
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
    pub fn erase(&mut self, block: u32) -> IoResult<()> {
        self.go_on()?;
        self.wrote();
        self.dev.erase(block)
    }

    /// Like [`store::erase_checked`].
    pub fn erase_checked(&mut self, block: u32) -> IoResult<()> {
        self.go_on()?;
        self.wrote();
        // even a failed erase may have changed the block
        store::erase_checked(&*self.dev, block)
    }

    /// Like [`store::write_commit`].
    pub fn write_commit(&mut self, block: u32, commit: &Commit) -> IoResult<()> {
        let first = self.dev.sector(block, commit.start);
        if first.is_none_or(|sector| self.within != Within::Sector(block, sector)) {
            self.go_on()?;
        }
        let last = self.dev.sector(block, commit.end().saturating_sub(1));
        let within = match (first, self.within) {
            (Some(s), Within::Nothing) if last == first => Within::Sector(block, s),
            (Some(s), Within::Sector(b, before)) if last == first && (b, before) == (block, s) => {
                self.within
            }
            _ => Within::More,
        };
        self.wrote();
        self.within = within;
        // an erase must not overtake this commit, because the erased block may hold what it
        // replaces
        self.commits_unordered = true;
        store::write_commit(&*self.dev, block, commit)
    }

    /// Like [`store::write_fresh`]: the first commit of a block that nothing names yet.
    pub fn write_fresh(&mut self, block: u32, commit: &Commit) -> IoResult<()> {
        self.go_on()?;
        self.wrote();
        store::write_fresh(&*self.dev, block, commit)
    }

    /// Like [`store::prog_checked`], for a block that nothing names yet.
    #[cfg(feature = "transfer")]
    pub fn prog_checked(&mut self, block: u32, bytes: &[u8]) -> IoResult<()> {
        self.go_on()?;
        self.wrote();
        store::prog_checked(&*self.dev, block, 0, bytes)
    }

    /// Like [`store::rewrite_checked`], for content of a file. It is noted only with
    /// [`Self::wrote_content`], when all of it is written.
    pub fn rewrite_checked(&mut self, block: u32, data: &[u8]) -> IoResult<()> {
        self.go_on()?;
        store::rewrite_checked(&*self.dev, block, data)
    }

    /// Note that content of a file was written.
    pub fn wrote_content(&mut self) {
        self.wrote();
    }

    /// Order writes: everything that was written before is on disk before anything that is written
    /// later. What an earlier flush has left is ordered when something is written.
    pub fn barrier(&mut self) -> IoResult<()> {
        if self.unordered {
            // if this fails, everything stays noted as unordered
            self.dev.barrier()?;
            self.is_ordered();
        }
        Ok(())
    }

    /// Wait until everything that was written is on disk.
    pub fn sync(&mut self) -> IoResult<()> {
        if self.unsynced {
            // a sync orders writes, too
            self.dev.sync()?;
            self.is_ordered();
            self.unsynced = false;
        }
        Ok(())
    }

    /// At the end of a flush, defer what was written to the next barrier or sync.
    pub fn defer_sync(&mut self) {
        self.left |= self.unordered;
        self.unordered = false;
        self.commits_unordered = false;
    }
}
