//! What has left the tree in memory and is still in the thread on disk.
//!
//! [`Leaving`] owns the lists of it. What must hold: a pair or a directory is in them until the
//! commit that takes its last pair out of the thread, and [`Leaving::settle`] runs before any other
//! pair takes a place in the table.

use super::DirId;
use super::dirs::Directories;
use super::pairs::PairIx;
use super::thread::Thread;

/// A directory removed in memory whose pairs are still in the thread on disk.
#[derive(Debug)]
pub(super) struct Removed {
    pub dir: DirId,
    /// Where its entry was.
    pub parent: DirId,
    /// The pair whose commit deletes the entry.
    pub entry_pair: PairIx,
    /// Its entry goes in the target commit of a move, apart from all others.
    pub by_move: bool,
}

/// Pairs and directories that wait to leave the thread.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    removed: Vec<Removed>,
    /// Pairs without entries.
    emptied: Vec<PairIx>,
}

impl Leaving {
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.emptied.is_empty()
    }

    /// A directory was removed.
    pub fn push_removed(&mut self, removed: Removed) {
        self.removed.push(removed);
    }

    /// Removed directories.
    pub fn removed(&self) -> &[Removed] {
        &self.removed
    }

    /// A pair lost its last entry.
    pub fn push_emptied(&mut self, ix: PairIx) {
        self.emptied.push(ix);
    }

    /// Pairs that lost their last entry.
    pub fn emptied(&self) -> &[PairIx] {
        &self.emptied
    }

    /// Whether `ix` held the entry of a removed directory.
    pub fn held_entries(&self, ix: PairIx) -> bool {
        self.removed.iter().any(|r| r.entry_pair == ix)
    }

    /// Instead of `ix`, the commit of `heir` tells that such entries are gone from the disk.
    pub fn hand_on_entries(&mut self, ix: PairIx, heir: PairIx) {
        for r in self.removed.iter_mut().filter(|r| r.entry_pair == ix) {
            r.entry_pair = heir;
        }
    }

    /// Nothing is waited for any more whose pairs are forgotten.
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
