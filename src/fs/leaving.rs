//! Pairs and directories that have left the tree in memory and are still in the thread on disk.
//!
//! [`Leaving`] owns the lists of them. What must hold: a pair or a directory stays in these lists
//! until a commit takes its last pair out of the thread. [`Leaving::settle`] then runs before
//! another pair can get the place of one of them in the table.

use super::DirId;
use super::dirs::Directories;
use super::pairs::PairIx;
use super::thread::Thread;

/// A directory that was removed in memory, and whose pairs are still in the thread on disk.
#[derive(Debug)]
pub(super) struct Removed {
    pub dir: DirId,
    /// The directory that held its entry.
    pub parent: DirId,
    /// The pair whose commit deletes the entry.
    pub entry_pair: PairIx,
    /// Whether a move deletes its entry. Then the target commit of the move deletes it, separately
    /// from all other changes.
    pub by_move: bool,
}

/// Pairs and directories that wait to leave the thread.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    removed: Vec<Removed>,
    /// Pairs that have lost their last entry.
    emptied: Vec<PairIx>,
}

impl Leaving {
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.emptied.is_empty()
    }

    /// Note that a directory was removed.
    pub fn push_removed(&mut self, removed: Removed) {
        self.removed.push(removed);
    }

    /// The removed directories.
    pub fn removed(&self) -> &[Removed] {
        &self.removed
    }

    /// Note that a pair has lost its last entry.
    pub fn push_emptied(&mut self, ix: PairIx) {
        self.emptied.push(ix);
    }

    /// The pairs that have lost their last entry.
    pub fn emptied(&self) -> &[PairIx] {
        &self.emptied
    }

    /// Whether `ix` held the entry of a removed directory.
    pub fn held_entries(&self, ix: PairIx) -> bool {
        self.removed.iter().any(|r| r.entry_pair == ix)
    }

    /// Note that from now on, the commit of `heir` deletes the entries that `ix` held.
    pub fn hand_on_entries(&mut self, ix: PairIx, heir: PairIx) {
        for r in self.removed.iter_mut().filter(|r| r.entry_pair == ix) {
            r.entry_pair = heir;
        }
    }

    /// Remove from the lists the pairs that were forgotten, and the directories that have no pairs
    /// any more.
    pub fn settle(&mut self, thread: &Thread, dirs: &mut Directories) {
        self.emptied.retain(|&ix| thread.find(ix).is_some());
        self.removed.retain(|r| {
            let is_gone = dirs[r.dir].pairs.is_empty();
            if is_gone {
                dirs.remove(r.dir);
            }
            !is_gone
        });
    }
}
