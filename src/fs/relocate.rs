//! Moving pairs to other blocks, because a block is bad or has been erased often enough.
//!
//! Wear is levelled as in the C driver. The revision of a pair counts its compactions. At each
//! multiple of `block_cycles`, which is made odd so that both blocks take turns, the pair moves
//! instead of being compacted. The superblock pair cannot move. Instead, everything except the
//! superblock goes to a new pair behind it, and from then on the superblock pair is only written
//! when that pair moves (DESIGN: the superblock chain).

use super::commit::{Fault, Spec};
use super::edits::Edit;
use super::pairs::{PairIx, View};
use super::{Fs, ROOT};
use crate::disk::commit::Commit;
use crate::disk::entry::Content;
use crate::disk::log::Log;
use crate::disk::{GState, Pair, Tail};
use crate::error::{Error, IoError, IoOp, Result};
use crate::mdir::LogEnd;

/// A worn pair moves after the pairs that name it, if these are worn, too. At most this many pairs
/// may wait for each other.
const WAITING_MAX: usize = 64;
/// To readdress a pair, another pair must be written, which may find a bad block and move as well,
/// and so on up the tree. If more moves than this are nested, something must be wrong. This limit
/// also protects the stack.
const NESTED_MAX: usize = 1000;

/// Moves of pairs to other blocks that are due or in progress.
#[derive(Debug, Default)]
pub(super) struct Relocating {
    /// Pairs whose deltas of the global state do not count, or will soon not count: pairs that are
    /// being moved and whose new blocks nothing in the thread names yet, and a pair that is about
    /// to leave the thread.
    unnamed: Vec<PairIx>,
    /// Worn pairs that wait until others have moved.
    making_way: Vec<PairIx>,
    /// Whether the superblock pair has been compacted so often that its content should leave it.
    expansion_due: bool,
    /// The revision of the superblock pair when its content last left it.
    expanded_at: Option<u32>,
    /// How many times a pair has moved to other blocks.
    count: u64,
}

impl Relocating {
    /// How many times a pair has moved to other blocks. If this number changes, a plan made before
    /// may contain old blocks.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Note that the delta of this pair does not count, until [`Self::pop_unnamed`] is called.
    pub fn push_unnamed(&mut self, ix: PairIx) {
        self.unnamed.push(ix);
    }

    /// Note that the delta of the last pushed pair counts again, or that this pair has left the
    /// thread.
    pub fn pop_unnamed(&mut self) {
        self.unnamed.pop();
    }

    /// Whether the delta of a pair does not count.
    pub fn is_unnamed(&self, ix: PairIx) -> bool {
        self.unnamed.contains(&ix)
    }
}

impl Fs {
    pub(super) fn is_superblock(&self, ix: PairIx) -> bool {
        self.pair(ix).blocks.same(Pair::SUPERBLOCK)
    }

    /// Whether the pair should move at its next compaction.
    pub(super) fn is_tired(&self, ix: PairIx) -> bool {
        let next = self.pair(ix).end.rev.wrapping_add(1);
        self.wear_modulus().is_some_and(|modulus| next.is_multiple_of(modulus))
    }

    /// A pair moves at each compaction at which its revision is a multiple of this number.
    pub(super) fn wear_modulus(&self) -> Option<u32> {
        // The number is odd, because otherwise only one block of a pair would ever be replaced. It
        // is above 1, because otherwise every move would cause another one.
        self.block_cycles.map(|cycles| cycles.saturating_add(1) | 1)
    }

    /// Called before a phase compacts `ix`. If the pair has been compacted often enough, this
    /// commits it to another block instead, or lets the superblock chain grow.
    ///
    /// No pair moves for wear while a move of an entry is pending. After a crash, the C driver
    /// would finish the move of the entry first. If that empties a pair of a directory, the C
    /// driver takes the pair out of the thread by a commit to the pair before. If the pair before
    /// has moved, and the thread still names its old blocks, this commit would go to the old copy
    /// and be lost.
    pub(super) fn level_wear(&mut self, ix: PairIx, spec: Spec) -> Result<(), Fault> {
        if !self.is_tired(ix) {
            return Ok(());
        }
        if self.is_superblock(ix) {
            return self.level_superblock(ix);
        }
        self.complete_map()?;
        if self.space.available() <= 1 {
            return Ok(());
        }
        if self.durable.gstate().pending_move().is_some() {
            return Ok(());
        }
        if spec.gstate.is_some() || !self.moves_alone(ix, spec.view) {
            return Err(Fault::TiredTwin(ix));
        }
        let moved = self.relocating.count;
        self.make_way(ix)?;
        if self.relocating.count != moved {
            return Err(Fault::Replan);
        }
        self.commit_elsewhere(ix, spec)
    }

    /// Called before the twins for a later phase are erased. Returns whether that phase will move
    /// `ix`.
    pub(super) fn moves_later(&mut self, ix: PairIx, view: View) -> Result<bool, Fault> {
        if !self.is_tired(ix) {
            return Ok(false);
        }
        if self.is_superblock(ix) {
            return self.level_superblock(ix).map(|()| false);
        }
        self.complete_map()?;
        if self.space.available() <= 1 {
            return Ok(false);
        }
        if self.moves_alone(ix, view) { Ok(true) } else { Err(Fault::TiredTwin(ix)) }
    }

    /// Whether the commit of `ix` does not affect other pairs: it neither publishes new pairs nor
    /// passes over removed ones.
    fn moves_alone(&self, ix: PairIx, view: View) -> bool {
        let next = self.thread.skip_from(ix, view).1;
        self.removed_behind(ix, view).is_empty() && next.is_none_or(|next| self.pair(next).on_disk)
    }

    fn level_superblock(&mut self, ix: PairIx) -> Result<(), Fault> {
        // the superblock chain has already grown because of this compaction
        if self.relocating.expanded_at == Some(self.pair(ix).end.rev) {
            return Ok(());
        }
        self.relocating.expansion_due = true;
        if self.expand_if_due()? { Err(Fault::Replan) } else { Ok(()) }
    }

    /// Write the commit of `ix` in a phase to another block than its twin, if a block is found that
    /// works.
    fn commit_elsewhere(&mut self, ix: PairIx, spec: Spec) -> Result<(), Fault> {
        let tail = self.thread.tail_in(ix, spec.view);
        let (layout, rev) = (self.layout, self.pair(ix).end.rev.wrapping_add(1));
        let gdelta = self.pair(ix).gdelta;
        let commit = self.mdir(ix)?.encode_compact(layout, rev, &spec.select, tail, gdelta);
        let commit = commit.map_err(|_| Error::NoSpace)?;
        let Some(block) = self.write_elsewhere(&commit)? else { return Ok(()) };
        let old = self.pair(ix).blocks;
        self.moved(ix, block, LogEnd { rev, off: commit.end(), etag: commit.etag })?;
        let info = self.pair_mut(ix);
        (info.gdelta, info.disk_tail) = (gdelta, tail);
        self.committed(ix, &spec.select)?;
        self.readdress(ix, old, self.durable.gstate())?;
        self.space.retire(vec![old.0[1]]);
        Ok(())
    }

    /// Let the superblock chain grow, if that is due and possible. Nothing is written yet.
    pub(super) fn expand_if_due(&mut self) -> Result<bool> {
        // the global state names the entry of a pending move by its pair, so entries must not
        // change their pair now
        if !self.relocating.expansion_due || self.durable.gstate().pending_move().is_some() {
            return Ok(false);
        }
        self.relocating.expansion_due = false;
        // this cannot be undone, so more than an eighth of the image must be free, as in the C
        // driver
        let free = self.usage()?.blocks_free;
        if free <= self.superblock.block_count / 8 || free <= 2 {
            return Ok(false);
        }
        ::log::info!("expanding the superblock chain");
        let ix = PairIx(0);
        self.relocating.expanded_at = Some(self.pair(ix).end.rev);
        let next = self.split(ix, 0)?;
        let superblock = self.mdir(next)?.entries.first().cloned();
        let Some(mut entry) = superblock else { return Err(Error::NotFound) };
        entry.did = Some(0);
        entry.inherited = false;
        self.mdir_mut(ix)?.insert(0, entry);
        self.dirs[ROOT].pairs.retain(|&p| p != ix);
        let old = self.pair_mut(ix);
        (old.dir, old.chain) = (None, true);
        self.pair_mut(next).chain = true;
        self.thread.refresh_first(ix);
        Ok(true)
    }

    /// Move the durable content of `ix` to another block than its twin, which is bad, and readdress
    /// the pair in its parent and in the thread.
    pub(super) fn relocate(&mut self, ix: PairIx) -> Result<()> {
        let mut log = self.durable_log(ix)?;
        self.keep_order_as_c(ix, &mut log)?;
        self.relocate_log(ix, &log, self.durable.gstate())
    }

    /// Called before the log of `ix` is compacted by a commit of its own. Returns whether the pair
    /// is worn and may move.
    pub(super) fn may_move(&mut self, ix: PairIx) -> Result<bool> {
        if !self.is_tired(ix) {
            return Ok(false);
        }
        if self.is_superblock(ix) {
            self.relocating.expansion_due = true;
            return Ok(false);
        }
        if !self.relocating.unnamed.is_empty() || self.durable.gstate().pending_move().is_some() {
            return Ok(false);
        }
        self.make_way(ix)?;
        Ok(self.is_tired(ix))
    }

    /// Let pairs that name `ix` move first, if they would have to move for the commit that
    /// readdresses `ix`. Otherwise, a crash in the middle of two nested moves could leave two
    /// directories, one inside the other, both of which the thread names by old blocks. The C
    /// driver repairs that only if the outer directory comes first in the thread.
    fn make_way(&mut self, ix: PairIx) -> Result<()> {
        let blocks = self.pair(ix).blocks;
        if self.relocating.making_way.len() >= WAITING_MAX || !self.pair(ix).on_disk {
            return Ok(());
        }
        let is_child = !self.pair(ix).continues;
        let parents = if is_child { self.naming(ix, blocks)? } else { Vec::new() };
        let mut names: Vec<PairIx> = parents.into_iter().map(|(at, _)| at).collect();
        names.extend(self.leading_to(ix, blocks));
        self.relocating.making_way.push(ix);
        let moved = names.into_iter().try_for_each(|at| {
            let would_move = self.is_tired(at) && !self.is_superblock(at) && !self.has_room(at);
            if would_move && !self.relocating.making_way.contains(&at) {
                self.relocate_tired(at)
            } else {
                Ok(())
            }
        });
        self.relocating.making_way.pop();
        moved
    }

    /// Move `ix` away from a block that is worn, but not bad. The block can be used again.
    pub(super) fn relocate_tired(&mut self, ix: PairIx) -> Result<()> {
        self.make_way(ix)?;
        let mut log = self.durable_log(ix)?;
        self.keep_order_as_c(ix, &mut log)?;
        self.relocate_tired_log(ix, &log, self.durable.gstate())?;
        Ok(())
    }

    /// Like [`Self::relocate_tired`], with this log and this global state. Returns false if there
    /// is no block for the pair, which then stays.
    pub(super) fn relocate_tired_log(
        &mut self,
        ix: PairIx,
        log: &Log,
        gstate: GState,
    ) -> Result<bool> {
        self.complete_map()?;
        if self.space.available() <= 1 {
            return Ok(false);
        }
        let twin = self.pair(ix).blocks.0[1];
        match self.relocate_log(ix, log, gstate) {
            Ok(()) => {
                self.space.retire(vec![twin]);
                Ok(true)
            }
            // all free blocks are bad
            Err(Error::NoSpace) if !self.read_only => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Write `log` as the new content of `ix` to another block than its twin, and readdress the
    /// pair everywhere. After that, the global state is `gstate`.
    pub(super) fn relocate_log(&mut self, ix: PairIx, log: &Log, gstate: GState) -> Result<()> {
        let old = self.pair(ix).blocks;
        if old.same(Pair::SUPERBLOCK) {
            // The superblock pair cannot move. So its bad block is an error: no change could ever
            // be written to the pair again.
            let source = std::io::Error::from_raw_os_error(libc::EIO);
            return Err(IoError { op: IoOp::Prog, block: Some(old.0[1]), source }.into());
        }
        let rev = self.pair(ix).end.rev.wrapping_add(1);
        let commit = self.encode_log(log, rev, log.gdelta)?;
        let block = self.write_elsewhere(&commit)?.ok_or(Error::NoSpace)?;
        self.moved(ix, block, LogEnd { rev, off: commit.end(), etag: commit.etag })?;
        let info = self.pair_mut(ix);
        (info.gdelta, info.disk_tail) = (log.gdelta, log.tail.unwrap_or(Tail::END));
        self.readdress(ix, old, gstate)
    }

    /// Write the first commit of a new block of a pair. Nothing names the block yet. Returns `None`
    /// if there is no block for it.
    fn write_elsewhere(&mut self, commit: &Commit) -> Result<Option<u32>> {
        if self.relocating.unnamed.len() >= NESTED_MAX {
            return Ok(None);
        }
        self.barrier()?;
        self.complete_map()?;
        let block = loop {
            let block = match self.space.take_to_write() {
                Ok(block) => block,
                Err(Error::NoSpace) => return Ok(None),
                Err(e) => return Err(e),
            };
            match self.durable.write_fresh(block, commit) {
                Ok(()) => break block,
                Err(e) if e.is_bad_block() => self.space.spoil(block, e)?,
                Err(e) => return Err(e.into()),
            }
        };
        self.space.written();
        Ok(Some(block))
    }

    /// Note that the log of `ix` is now in `block`.
    fn moved(&mut self, ix: PairIx, block: u32, end: LogEnd) -> Result<()> {
        let old = self.pair(ix).blocks;
        let new = Pair([block, old.0[0]]);
        if !self.quiet {
            ::log::warn!("pair {old} moves to {new}");
        }
        self.relocating.count += 1;
        self.readdress_pair(ix, new)?;
        let info = self.pair_mut(ix);
        (info.end, info.appendable, info.twin_erased) = (end, Some(true), false);
        Ok(())
    }

    /// Readdress `ix`, which has moved, everywhere on disk.
    fn readdress(&mut self, ix: PairIx, old: Pair, gstate: GState) -> Result<()> {
        if !self.pair(ix).on_disk {
            return Ok(());
        }
        self.relocating.unnamed.push(ix);
        let named = self.readdress_on_disk(ix, old, gstate);
        self.relocating.unnamed.pop();
        // after a failure, memory and disk differ in a way that no flush expects, so nothing may be
        // written any more
        named.map_err(|e| self.fatal(e))
    }

    /// Readdress `ix`: everything on disk that names it by its old blocks gets the new ones.
    ///
    /// If the parent and the pair before it in the thread are different pairs, two commits are
    /// needed. A crash between them leaves the new blocks in the tree and the old blocks in the
    /// thread. The sync bit tells every driver to repair this (SPEC: `0x7ff` MOVESTATE): the first
    /// commit sets the bit, and the last one clears it.
    fn readdress_on_disk(&mut self, ix: PairIx, old: Pair, gstate: GState) -> Result<()> {
        // the global state names the entry of a pending move by the blocks of its pair
        let goal = match gstate.pending_move() {
            Some((pair, id)) if pair.overlaps(old) => {
                gstate.with_move(Some((self.pair(ix).blocks, id)))
            }
            _ => gstate,
        };
        let is_child = !self.pair(ix).continues;
        let parents = if is_child { self.naming(ix, old)? } else { Vec::new() };
        let before = self.leading_to(ix, old);
        if let ([(parent, id)], [at]) = (&parents[..], &before[..])
            && parent == at
        {
            let edits = [self.child_edit(*id, ix), self.tail_edit(*at, ix)];
            return self.commit_edits(*at, &edits, goal);
        }
        let guarded = if parents.is_empty() { goal } else { self.guarded(goal) };
        for (parent, id) in parents {
            self.commit_edits(parent, &[self.child_edit(id, ix)], guarded)?;
        }
        if let Some((last, others)) = before.split_last() {
            for &at in others {
                self.commit_edits(at, &[self.tail_edit(at, ix)], guarded)?;
            }
            self.commit_edits(*last, &[self.tail_edit(*last, ix)], goal)?;
        }
        self.commit_gstate(goal)?;
        self.barrier()
    }

    /// The pairs whose tails on disk lead to `ix` with these blocks.
    fn leading_to(&self, ix: PairIx, blocks: Pair) -> Vec<PairIx> {
        let all = self.thread.iter().map(|(at, _)| at);
        all.filter(|&at| at != ix && self.leads_to(at, blocks)).collect()
    }

    /// Whether the tail of `at` on disk names a pair that has one of these blocks.
    pub(super) fn leads_to(&self, at: PairIx, blocks: Pair) -> bool {
        self.thread.find(at).is_some_and(|p| {
            p.on_disk && !p.disk_tail.pair.is_null() && p.disk_tail.pair.overlaps(blocks)
        })
    }

    fn child_edit(&self, id: u16, ix: PairIx) -> Edit {
        Edit::Child(id, self.pair(ix).blocks)
    }

    fn tail_edit(&self, at: PairIx, ix: PairIx) -> Edit {
        Edit::Tail(Tail { pair: self.pair(ix).blocks, hard: self.pair(at).disk_tail.hard })
    }

    /// The directory entries on disk that name `pair`, the blocks of `ix`: the pair and the id of
    /// each. There is one, or two in the middle of a move. The entry that will be deleted is last.
    fn naming(&self, ix: PairIx, pair: Pair) -> Result<Vec<(PairIx, u16)>> {
        let moving = self.durable.gstate().pending_move();
        if moving.is_none()
            && let Some(parent) = self.parent_pair(ix)
            && let Some(id) = self.id_naming(parent, pair)?
        {
            return Ok(vec![(parent, id)]);
        }
        let mut found = Vec::new();
        for (at, p) in self.thread.iter() {
            if p.on_disk
                && let Some(id) = self.id_naming(at, pair)?
            {
                found.push((at, id));
            }
        }
        found.sort_by_key(|&(at, id)| {
            moving.is_some_and(|(source, leaving)| {
                leaving == id && source.overlaps(self.pair(at).blocks)
            })
        });
        Ok(found)
    }

    /// The pair that should hold the entry of the directory that begins with `ix`.
    fn parent_pair(&self, ix: PairIx) -> Option<PairIx> {
        let d = self.dirs.get(self.pair(ix).dir?)?;
        let parent = self.dirs.get(d.parent)?;
        let at = *parent.pairs.get(self.index_for(&parent.pairs, &d.name))?;
        self.pair(at).on_disk.then_some(at)
    }

    /// The id of a directory entry in the durable log of `at` that names `pair`.
    fn id_naming(&self, at: PairIx, pair: Pair) -> Result<Option<u16>> {
        let log = self.durable_log(at)?;
        let found = log
            .entries
            .iter()
            .position(|e| Content::of(e).dir().is_some_and(|child| child.overlaps(pair)));
        Ok(found.map(|id| id as u16))
    }
}
