//! Moving pairs to other blocks: off bad ones, and off those that have been erased often enough.
//!
//! Wear is levelled as the C driver does it: every pair counts its compactions in its revision,
//! and at each multiple of `block_cycles` (made odd, so that both blocks take turns) it moves
//! instead of being compacted: directories, their parents, and the root. The superblock pair
//! cannot move. It hands everything but the superblock on to a new pair behind it, and is written
//! from then on only when that one moves (DESIGN: the superblock chain).

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

/// A worn pair moves after those that name it, if these are worn, too. That many moves may wait for
/// each other.
const WAITING_MAX: usize = 64;
/// A pair's new name may find a bad block where it is to be written, and so on up the tree. With
/// this many something is wrong, and a stack is only so deep.
const NESTED_MAX: usize = 1000;

/// Moves of pairs to other blocks, due and under way.
#[derive(Debug, Default)]
pub(super) struct Relocating {
    /// Pairs whose deltas of the global state do not count, or not for long: those being moved to
    /// other blocks, while nothing in the thread names these, and one that is about to leave it.
    unnamed: Vec<PairIx>,
    /// Worn pairs that wait for others to move first.
    making_way: Vec<PairIx>,
    /// The superblock pair has been compacted so often that what it holds should leave it.
    expansion_due: bool,
    /// The revision of the superblock pair when it did so last.
    expanded_at: Option<u32>,
    /// How often a pair has moved to other blocks.
    count: u64,
}

impl Relocating {
    /// How often a pair has moved to other blocks: if that changes meanwhile, what was planned may
    /// name the old ones.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Until [`Self::pop_unnamed`], the delta of this pair does not count.
    pub fn push_unnamed(&mut self, ix: PairIx) {
        self.unnamed.push(ix);
    }

    /// The delta of the pair that was pushed last counts again, or the pair has left the thread.
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

    /// Whether the next compaction of `ix` is the one that should move it.
    pub(super) fn is_tired(&self, ix: PairIx) -> bool {
        let next = self.pair(ix).end.rev.wrapping_add(1);
        self.wear_modulus().is_some_and(|modulus| next.is_multiple_of(modulus))
    }

    /// After so many compactions a pair moves.
    pub(super) fn wear_modulus(&self) -> Option<u32> {
        // odd, lest only one block of a pair ever be replaced; and above 1, lest it never end
        self.block_cycles.map(|cycles| cycles.saturating_add(1) | 1)
    }

    /// Before `ix` is compacted by a phase: if it has been compacted often enough, commit it to
    /// another block instead, or let the superblock chain grow.
    ///
    /// No pair moves for wear while a move between pairs is pending. The C driver ends that first,
    /// and where this leaves a pair of a directory empty, it takes that out of the thread by a
    /// commit to the pair before. If that is a pair that has moved, and whose old blocks the thread
    /// still names, the commit goes to the old copy and is lost.
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

    /// Before the twins of a later phase are erased: whether that phase will move `ix`.
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

    /// Whether the commit of `ix` changes nothing about other pairs: it neither publishes new ones
    /// nor passes over removed ones.
    fn moves_alone(&self, ix: PairIx, view: View) -> bool {
        let next = self.thread.skip_from(ix, view).1;
        self.removed_behind(ix, view).is_empty() && next.is_none_or(|next| self.pair(next).on_disk)
    }

    fn level_superblock(&mut self, ix: PairIx) -> Result<(), Fault> {
        // the compaction that the chain has grown for
        if self.relocating.expanded_at == Some(self.pair(ix).end.rev) {
            return Ok(());
        }
        self.relocating.expansion_due = true;
        if self.expand_if_due()? { Err(Fault::Replan) } else { Ok(()) }
    }

    /// The commit of `ix` in a phase, to another block than its twin, if there is one that works.
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

    /// Let the superblock chain grow if that is due and possible. Nothing is written yet.
    pub(super) fn expand_if_due(&mut self) -> Result<bool> {
        // what is to be deleted is known by its pair, which must not change on the way
        if !self.relocating.expansion_due || self.durable.gstate().pending_move().is_some() {
            return Ok(false);
        }
        self.relocating.expansion_due = false;
        // it cannot be undone: only while an eighth of the image is free, as in the C driver
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

    /// Move the durable content of `ix` off its twin's block, which is bad, and let parent and
    /// thread name the new pair.
    pub(super) fn relocate(&mut self, ix: PairIx) -> Result<()> {
        let mut log = self.durable_log(ix)?;
        self.keep_order_as_c(ix, &mut log)?;
        self.relocate_log(ix, &log, self.durable.gstate())
    }

    /// Before the log of `ix` is compacted by a commit of its own: whether it is worn and may move.
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

    /// Let pairs that name `ix` move first, if the commit of its new name would be the one to move
    /// them. In the middle of its own move, a crash would leave two directories named by old blocks,
    /// one in the other, and the C driver mends that only where the outer one comes first in the
    /// thread.
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

    /// Move `ix` off a block that is merely worn: it can hold something else.
    pub(super) fn relocate_tired(&mut self, ix: PairIx) -> Result<()> {
        self.make_way(ix)?;
        let mut log = self.durable_log(ix)?;
        self.keep_order_as_c(ix, &mut log)?;
        self.relocate_tired_log(ix, &log, self.durable.gstate())?;
        Ok(())
    }

    /// False if there is no block for it: then it stays.
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
            // all that were free are bad
            Err(Error::NoSpace) if !self.read_only => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Write `log` as the new content of `ix` to another block than its twin, and let whatever
    /// names the pair name the new one; then the global state is `gstate`.
    pub(super) fn relocate_log(&mut self, ix: PairIx, log: &Log, gstate: GState) -> Result<()> {
        let old = self.pair(ix).blocks;
        if old.same(Pair::SUPERBLOCK) {
            // It cannot move: either the device fails, or no change can be written ever again.
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

    /// Write the first commit of a pair's new block, which nothing names yet. `None` if there is no
    /// block for it.
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

    /// The log of `ix` is in `block` now.
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

    /// `ix` has moved: let whatever names it on disk follow.
    fn readdress(&mut self, ix: PairIx, old: Pair, gstate: GState) -> Result<()> {
        if !self.pair(ix).on_disk {
            return Ok(());
        }
        self.relocating.unnamed.push(ix);
        let named = self.readdress_on_disk(ix, old, gstate);
        self.relocating.unnamed.pop();
        // with memory ahead of the disk nothing may be written any more
        named.map_err(|e| self.fatal(e))
    }

    /// Let whatever names `ix` by its old blocks on disk name the new ones.
    ///
    /// Where parent and thread name it by different pairs, the sync bit guards the time between
    /// their commits (SPEC: `0x7ff` MOVESTATE): it goes up with the first and down with the last.
    fn readdress_on_disk(&mut self, ix: PairIx, old: Pair, gstate: GState) -> Result<()> {
        // an entry on its way out is known by its pair
        let goal = match gstate.pending_move() {
            Some((pair, id)) if pair.same(old) => {
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

    /// The pairs whose tails on disk lead to `ix` by these blocks.
    fn leading_to(&self, ix: PairIx, blocks: Pair) -> Vec<PairIx> {
        let all = self.thread.iter().map(|(at, _)| at);
        all.filter(|&at| at != ix && self.leads_to(at, blocks)).collect()
    }

    /// Whether the tail of `at` on disk names a pair by one of these blocks.
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

    /// Durable directory entries that name `pair`, the blocks of `ix`: by pair and id. One, or, in
    /// the middle of a move, two; that which is on its way out is the last.
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
            moving
                .is_some_and(|(source, leaving)| leaving == id && source.same(self.pair(at).blocks))
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

    /// The id in the durable log of `at` of a directory entry that names `pair`.
    fn id_naming(&self, at: PairIx, pair: Pair) -> Result<Option<u16>> {
        let log = self.durable_log(at)?;
        let found = log
            .entries
            .iter()
            .position(|e| Content::of(e).dir().is_some_and(|child| child.overlaps(pair)));
        Ok(found.map(|id| id as u16))
    }
}
