//! Committing cached pairs: one commit for each pair, and all commits of a phase together.

use super::Fs;
use super::pairs::{Fate, PairInfo, PairIx, View};
use crate::disk::commit::Commit;
use crate::disk::{GState, Pair, Tail};
use crate::error::{Error, IoError, Result};
use crate::mdir::{LogEnd, Mdir, Select, store};

/// Why a phase stopped.
#[derive(Debug)]
pub(super) enum Fault {
    /// A commit could not be appended, but the pair may be compacted: plan the round again.
    Replan,
    /// The block into which the pair was to be compacted is bad: move the pair, and plan the round
    /// again.
    BadTwin(PairIx),
    /// The twin of the pair has been erased often enough: move the pair, and plan the round again.
    TiredTwin(PairIx),
    /// A failure that cannot be solved by planning again.
    Failed(Error),
}

impl From<Error> for Fault {
    fn from(e: Error) -> Self {
        Self::Failed(e)
    }
}

impl From<IoError> for Fault {
    fn from(e: IoError) -> Self {
        Self::Failed(e.into())
    }
}

/// Which part of each pair a phase writes.
#[derive(Clone, Copy)]
pub(super) struct Spec {
    pub select: Select,
    pub view: View,
    /// The global state after the phase, if the phase changes it. Such a phase has a single commit.
    pub gstate: Option<GState>,
}

/// A commit that is ready to be written.
struct Prepared {
    ix: PairIx,
    commit: Commit,
    compact: bool,
    tail: Tail,
    gdelta: GState,
    /// Removed pairs that the tail skips.
    passed: Vec<PairIx>,
}

impl Fs {
    /// Order writes: everything before this reaches the disk before anything after it. A failure is
    /// final, because then it is not known what is on disk: the mount becomes read-only.
    pub(super) fn barrier(&mut self) -> Result<()> {
        self.durable.barrier().map_err(|e| self.judge(e.into()))
    }

    /// Make everything durable. A failure is final as well, unless the reason is that there was no
    /// space for a journal.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.durable.sync().map_err(|e| self.judge(e.into()))
    }

    /// Check an error of the device: if it is final, the filesystem becomes read-only.
    pub(super) fn judge(&mut self, e: Error) -> Error {
        match &e {
            Error::Io(io) if io.is_final() && !self.is_read_only() => self.fatal(e),
            _ => e,
        }
    }

    /// Become read-only because of `e`: it is not known any more what is on disk.
    pub(super) fn fatal(&mut self, e: Error) -> Error {
        ::log::error!(
            "{e}; from now on, nothing is written, but reads still work: copy what you need, \
             unmount, and run 'littlefs check'"
        );
        self.read_only = true;
        self.turned_read_only.get_or_insert_with(|| e.to_string());
        e
    }

    /// One phase: prepare the commits of `pairs`, erase the blocks that they are compacted into,
    /// and write the commits.
    pub(super) fn phase(&mut self, pairs: &[PairIx], spec: Spec) -> Result<(), Fault> {
        // A compaction first erases the older block of its pair. If a crash kept this erase, but
        // not an earlier commit to the newer block, neither block would be valid. So there is a
        // barrier before the erases, below.
        let mut prepared = Vec::new();
        for &ix in pairs {
            prepared.extend(self.prepare(ix, spec)?);
        }
        if prepared.is_empty() {
            return Ok(());
        }
        let compacted: Vec<PairIx> = prepared.iter().filter(|p| p.compact).map(|p| p.ix).collect();
        let moved = self.relocating.count();
        for ix in compacted {
            self.level_wear(ix, spec)?;
        }
        if self.relocating.count() != moved {
            // the prepared commits may still name the old blocks of a pair that has moved
            return Err(Fault::Replan);
        }
        self.barrier()?;
        for p in &prepared {
            if p.compact {
                self.erase_twin(p.ix)?;
            }
        }
        self.barrier()?;
        // Now the erases are on disk. Without this barrier, a crash could keep a new commit, but
        // not the erase, and old bytes after the commit could look like part of the log.
        let done = prepared.into_iter().try_for_each(|p| self.execute(p, spec));
        self.forget_detached();
        done
    }

    /// Erase, in this phase already, the blocks into which a later phase will compact. So one
    /// barrier orders both these erases and the writes of this phase.
    pub(super) fn prepare_twins(&mut self, pairs: &[PairIx], spec: Spec) -> Result<(), Fault> {
        for &ix in pairs {
            let (layout, end) = (self.layout, self.pair(ix).end);
            if self.may_append(ix) && self.mdir(ix)?.appends_certainly(layout, end, &spec.select) {
                continue;
            }
            let compact = self.prepare(ix, spec)?.is_some_and(|p| p.compact);
            if compact && !self.moves_later(ix, spec.view)? {
                self.erase_twin(ix)?;
            }
        }
        Ok(())
    }

    /// Erase the block that the next compaction of `ix` is written to. Until then, the other block
    /// has the newer revision, and the pair is read from there (SPEC: Directories / Metadata pairs).
    fn erase_twin(&mut self, ix: PairIx) -> Result<(), Fault> {
        if self.pair(ix).twin_erased {
            return Ok(());
        }
        // The twin holds the older content of the pair. If a crash kept the erase, but not the last
        // commits to the active block, both blocks could be invalid.
        if self.durable.has_unordered_commits() {
            self.barrier()?;
        }
        let twin = self.pair(ix).blocks.0[1];
        match self.durable.erase(twin) {
            Ok(()) => {
                self.pair_mut(ix).twin_erased = true;
                Ok(())
            }
            Err(e) if e.is_bad_block() => Err(Fault::BadTwin(ix)),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether a commit may be appended to the log of `ix`. This asks more than the forward CRC
    /// does (SPEC: `0x5ff` FCRC): all bytes up to the end of the block must be erased.
    pub(super) fn is_appendable(&mut self, ix: PairIx) -> bool {
        let p = self.pair(ix);
        if let Some(known) = p.appendable {
            return known;
        }
        let (block, off) = (p.blocks.0[0], p.end.off);
        // bytes other than 0xFF are left from a commit that was cut off, or from another writer
        let yes = off.is_multiple_of(self.layout.prog_size)
            && store::is_erased_from(self.durable.dev(), block, off);
        self.pair_mut(ix).appendable = Some(yes);
        yes
    }

    /// Whether the next commit of `ix` may be appended, if it fits. If a name has several entries,
    /// their order in the log decides which one counts, so the pair is compacted in that order.
    fn may_append(&mut self, ix: PairIx) -> bool {
        !self.pair(ix).has_doubles && self.is_appendable(ix)
    }

    /// Lay out the commit of `ix`. Returns `None` if the commit would change nothing.
    fn prepare(&mut self, ix: PairIx, spec: Spec) -> Result<Option<Prepared>> {
        let tail = self.thread.tail_in(ix, spec.view);
        let tail_changes = !self.thread.tail_is_right(ix, spec.view);
        let passed = self.removed_behind(ix, spec.view);
        let mut gdelta = self.pair(ix).gdelta.xor(self.deltas_of(&passed));
        if let Some(new) = spec.gstate {
            // with this delta, the sum over the thread changes from the present state to the new
            // one
            gdelta = gdelta.xor(self.durable.gstate()).xor(new);
        }
        let delta_changes = gdelta != self.pair(ix).gdelta;
        let mdir = self.mdir(ix)?;
        if !mdir.has_changes(&spec.select) && !tail_changes && !delta_changes {
            return Ok(None);
        }
        let (layout, end) = (self.layout, self.pair(ix).end);
        if self.may_append(ix) {
            let appended = self.mdir(ix)?.encode_append(
                layout,
                end,
                &spec.select,
                tail_changes.then_some(tail),
                delta_changes.then_some(gdelta),
            );
            if let Ok(commit) = appended {
                return Ok(Some(Prepared { ix, commit, compact: false, tail, gdelta, passed }));
            }
        }
        let rev = end.rev.wrapping_add(1);
        match self.mdir(ix)?.encode_compact(layout, rev, &spec.select, tail, gdelta) {
            Ok(commit) => Ok(Some(Prepared { ix, commit, compact: true, tail, gdelta, passed })),
            Err(_) => Err(Error::NoSpace),
        }
    }

    /// The pairs on disk that the tail of `ix` passes over for good.
    pub(super) fn removed_behind(&self, ix: PairIx, view: View) -> Vec<PairIx> {
        let mut passed = self.thread.skip_from(ix, view).0;
        passed.retain(|&s| self.pair(s).fate != Fate::Stays && self.pair(s).on_disk);
        passed
    }

    /// The sum of the deltas of these pairs. The pair whose commit takes them out of the thread
    /// adds this sum to its own delta, because the global state is the sum of all deltas in the
    /// thread (SPEC: `0x7xx` GSTATE).
    fn deltas_of(&self, pairs: &[PairIx]) -> GState {
        let threaded = pairs.iter().map(|&s| self.pair(s)).filter(|p| p.threaded);
        threaded.fold(GState::default(), |sum, p| sum.xor(p.gdelta))
    }

    fn execute(&mut self, p: Prepared, spec: Spec) -> Result<(), Fault> {
        let Prepared { ix, commit, compact, tail, gdelta, passed } = p;
        let blocks = self.pair(ix).blocks;
        let block = blocks.0[usize::from(compact)];
        // whether or not the write succeeds, the target block may have changed
        if compact {
            self.pair_mut(ix).twin_erased = false;
        } else {
            self.pair_mut(ix).appendable = Some(false);
        }
        match self.durable.write_commit(block, &commit) {
            Ok(()) => {}
            Err(e) if e.is_bad_block() && compact => return Err(Fault::BadTwin(ix)),
            // the pair is not appendable any more, so the next plan compacts it into its twin
            Err(e) if e.is_bad_block() => return Err(Fault::Replan),
            Err(e) => return Err(e.into()),
        }
        let info = self.pair_mut(ix);
        if compact {
            // the twin has the newer revision, so it is the active block now
            info.blocks = Pair([blocks.0[1], blocks.0[0]]);
            info.end.rev = info.end.rev.wrapping_add(1);
        }
        info.end = LogEnd { rev: info.end.rev, off: commit.end(), etag: commit.etag };
        info.appendable = Some(true);
        info.disk_tail = tail;
        info.gdelta = gdelta;
        if let Some(new) = spec.gstate {
            // the new state is part of the commit, so a crash keeps both or neither
            self.durable.set_gstate(new);
        }
        self.committed(ix, &spec.select)?;
        self.publish_behind(ix, spec.view);
        for s in passed {
            self.leave_thread(s);
        }
        Ok(())
    }

    /// Note that the selected part of `ix` is on disk.
    pub(super) fn committed(&mut self, ix: PairIx, select: &Select) -> Result<()> {
        let mdir = self.mdir(ix)?;
        mdir.committed(select);
        if !mdir.is_dirty() {
            self.thread.mark_clean(ix);
        }
        self.thread.count(ix);
        self.thread.refresh_first(ix);
        Ok(())
    }

    /// Note that the tail of `ix` has made the new pairs behind it reachable.
    fn publish_behind(&mut self, ix: PairIx, view: View) {
        let mut at = ix;
        while let (_, Some(next)) = self.thread.skip_from(at, view) {
            if self.pair(next).on_disk {
                break;
            }
            self.pair_mut(next).on_disk = true;
            for s in self.removed_behind(next, view) {
                self.leave_thread(s);
            }
            if let Some(m) = &self.pair(next).mdir
                && !m.is_dirty()
            {
                self.thread.mark_clean(next);
                self.thread.refresh_first(next);
            }
            self.thread.count(next);
            at = next;
        }
    }

    /// Note that a removed pair has left the thread on disk. Its blocks can be reused only after
    /// the flush: until then, a crash can bring back metadata that leads to them.
    pub(super) fn leave_thread(&mut self, ix: PairIx) {
        self.hand_on_entries(ix);
        let PairInfo { blocks, dir, fate, .. } = *self.pair(ix);
        self.thread.unlink(ix);
        self.thread.forget(ix);
        // an emptied pair was taken out of its directory when it was emptied
        if let Some(dir) = dir.filter(|_| fate == Fate::Removed) {
            self.dirs[dir].pairs.retain(|&p| p != ix);
        }
        self.dirs.remove_head_of(dir, blocks);
        self.space.retire(blocks.0.to_vec());
    }

    /// Forget pairs and directories that have left the thread. This must happen before another pair
    /// gets the place of one of them in the table.
    pub(super) fn forget_detached(&mut self) {
        self.leaving.settle(&self.thread, &mut self.dirs);
    }

    /// Write a pair that nothing on disk names yet: one block gets its content and its tail, and
    /// the other one is erased. With `stub`, the pair gets no entries.
    pub(super) fn write_new(&mut self, ix: PairIx, spec: Spec, stub: bool) -> Result<(), Fault> {
        let tail = self.thread.tail_in(ix, spec.view);
        let gdelta = self.deltas_of(&self.removed_behind(ix, spec.view));
        let Pair([a, b]) = self.pair(ix).blocks;
        let rev = self.first_rev(
            store::read_rev(self.durable.dev(), a).max(store::read_rev(self.durable.dev(), b)),
        );
        let layout = self.layout;
        let empty = Mdir::default();
        let mdir = self.mdir(ix)?;
        let content = if stub { &empty } else { &*mdir };
        let commit = content
            .encode_compact(layout, rev, &spec.select, tail, gdelta)
            .map_err(|_| Error::NoSpace)?;
        // Nothing names these blocks yet, so a crash may keep either write without the other. The
        // barrier before the phase that names them orders both before it.
        let written =
            self.durable.write_fresh(a, &commit).and_then(|()| self.durable.erase_checked(b));
        match written {
            Ok(()) => {
                self.space.written();
                let info = self.pair_mut(ix);
                info.end = LogEnd { rev, off: commit.end(), etag: commit.etag };
                info.appendable = Some(true);
                info.twin_erased = true;
                info.disk_tail = tail;
                info.gdelta = gdelta;
                let mdir = self.mdir(ix)?;
                if stub {
                    mdir.nothing_on_disk();
                } else {
                    mdir.committed(&spec.select);
                }
                Ok(())
            }
            Err(e) if e.is_bad_block() => {
                ::log::warn!("bad block in new pair {}: it goes elsewhere", Pair([a, b]));
                // metadata of this phase that has the old address already is written again
                let is_second = e.block == Some(b);
                self.space.spoil(if is_second { b } else { a }, e)?;
                let fresh = self.space.take_to_write()?;
                let blocks = if is_second { [a, fresh] } else { [fresh, b] };
                self.readdress_pair(ix, Pair(blocks))?;
                Err(Fault::Replan)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// The first revision of a new pair. `old` is the larger of the first words of its blocks: a
    /// revision, file data, or erased bytes. Both blocks are written before anything names the
    /// pair, so the new revision must only be newer than that of the erased twin, 0xffffffff. If
    /// `old` may be a revision, counting goes on from there, so that the revision still counts
    /// erases. For wear levelling, it is rounded up to a multiple of the cycles, so that a new pair
    /// does not move at once.
    fn first_rev(&self, old: u32) -> u32 {
        let rev = if old < u32::MAX / 4 { old + 1 } else { 1 };
        match self.wear_modulus() {
            Some(modulus) => rev.checked_next_multiple_of(modulus).unwrap_or(rev),
            None => rev,
        }
    }

    /// Note that a pair has other blocks now, everywhere in memory where it has the old ones.
    pub(super) fn readdress_pair(&mut self, ix: PairIx, blocks: Pair) -> Result<()> {
        let old = self.pair(ix).blocks;
        self.pair_mut(ix).blocks = blocks;
        let Some(dir) = self.pair(ix).dir else { return Ok(()) };
        if self.dirs.get(dir).is_none_or(|d| d.pairs.first() != Some(&ix)) {
            return Ok(());
        }
        self.dirs.readdress(dir, old, blocks);
        self.thread.contents().for_each(|m| m.readdress_dir(dir, blocks));
        Ok(())
    }

    /// Whether the next commit of `ix` can be appended without a compaction, as far as is known
    /// without reading.
    pub(super) fn has_room(&self, ix: PairIx) -> bool {
        let p = self.pair(ix);
        p.appendable == Some(true)
            && p.end.off + 64 + self.layout.prog_size <= self.layout.block_size
    }
}
