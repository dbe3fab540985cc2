//! Flush: the only way metadata reaches the device. A flush writes the difference between memory
//! and disk in phases, with a barrier between them. A crash can keep any subset of the writes of
//! one phase. So the image must be sound whichever of these writes survive, and this determines the
//! order of the phases:
//!
//! | phase | what is written |
//! |---|---|
//! | 1 | things that nothing on disk names yet: file data and new pairs; also erases of stale twins |
//! | 2 | the sync bit, if a crash could leave the thread and the tree apart |
//! | 3 | tails that add pairs, splits |
//! | 4 | entries; tails that pass over emptied pairs |
//! | 5 | moves between pairs, each two phases of one commit |
//! | 6 | tails that drop removed directories |
//! | 7 | the sync bit cleared |
//!
//! The sync bit and the pending move of phase 5 are parts of the global state (SPEC: `0x7ff`
//! MOVESTATE). The thread is the list of all pairs: a soft tail leads to the next directory, and a
//! hard tail to the next pair of the same one (SPEC: `0x6xx` TAIL). If a driver finds the sync bit,
//! it looks for pairs without an entry in the thread before its first write, and drops them.
//!
//! What a crash could damage in another order:
//!
//! - Phase 1 comes before everything that names these blocks. Otherwise, a crash could keep the
//!   name without the content: a file or a directory would then show the old content of the blocks.
//! - Phase 2 comes before phase 3. Without the sync bit, no driver would know that a pair in the
//!   thread without an entry is left from an interrupted flush.
//! - Phase 3 comes before phase 4, and phases 4 and 5 come before phase 6, so that a directory is
//!   in the thread as long as an entry names it. A device treats the blocks of a directory that is
//!   not in the thread as free, and would overwrite them.
//! - In phase 5, the first commit of a move writes the entry in its new pair, and the second
//!   deletes it in the old one. In the other order, a crash between them would lose the entry.
//! - Phase 7 is last, because thread and tree agree again only after phase 6.
//!
//! If one commit of one pair contains both the entry of a new directory and its place in the
//! thread, this commit publishes the whole directory. Otherwise, a crash can come between the two,
//! and leave a directory in the thread that no entry names. A C driver that finds the sync bit
//! drops such a directory: it links the pair before it to the pair after the *first pair* of the
//! directory. The other pairs of the directory would then stay in the thread without an entry. So
//! where such a crash is possible, the directory must have only one pair: a new directory is first
//! published as an empty stub, which a second round fills, and a removed directory is first cut
//! down to its first pair.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use super::commit::{Fault, Spec};
use super::leaving::Removed;
use super::pairs::{Fate, PairIx, View};
use super::thread::WaysBack;
use super::{DirId, Durability, Fs};
use crate::error::{Error, Result};
use crate::mdir::Select;

/// A flush that needs more rounds than this does not make progress.
const ROUNDS_MAX: usize = 1000;

/// What this round publishes of a new directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// One commit publishes the directory with everything in it.
    Whole,
    /// The directory is published empty.
    Stub,
    /// Nothing is published: the parent of the directory must be filled first.
    Later,
}

/// What a round will do.
struct Plan {
    /// New pairs to write.
    new: Vec<PairIx>,
    /// What is published of each new directory.
    stages: BTreeMap<DirId, Stage>,
    /// Whether the sync bit must be set during the round.
    guarded: bool,
}

impl Plan {
    fn is_stub(&self, dir: Option<DirId>) -> bool {
        dir.is_some_and(|d| self.stages.get(&d) == Some(&Stage::Stub))
    }

    /// Which pairs the tails of the round pass over.
    fn view(&self) -> View {
        if self.guarded { View::Grown } else { View::Final }
    }

    /// The spec of a phase that writes everything except moves.
    fn everything(&self) -> Spec {
        Spec { select: Select::ALL, view: self.view(), gstate: None }
    }

    /// Whether some changes have to wait for another round.
    fn needs_another(&self) -> bool {
        self.stages.values().any(|s| *s != Stage::Whole)
    }
}

impl Fs {
    /// Write everything that is in memory, and make it durable as [`OpenOptions::durability`] says.
    /// If this fails, the changes stay in memory, and the image on disk stays sound. After a failed
    /// barrier or sync, it is not known what is on disk, so the filesystem becomes read-only.
    ///
    /// [`OpenOptions::durability`]: super::OpenOptions::durability
    ///
    /// # Errors
    /// [`Error::NoSpace`] if the changes do not fit, [`Error::ReadOnly`] if there are changes that
    /// cannot be written any more, and the errors of the device.
    pub fn flush(&mut self) -> Result<()> {
        self.flush_as(self.durable.durability())
    }

    /// Like [`Fs::flush`], and wait until everything is on the medium, whatever the options say.
    ///
    /// # Errors
    /// Those of [`Fs::flush`].
    pub fn flush_and_sync(&mut self) -> Result<()> {
        self.flush_as(Durability::Full)
    }

    /// Wait until everything that was written is on the medium. Changes in memory are not written.
    ///
    /// # Errors
    /// If the device fails.
    pub(crate) fn sync_written(&mut self) -> Result<()> {
        if self.is_read_only() { Ok(()) } else { self.sync() }
    }

    fn flush_as(&mut self, durability: Durability) -> Result<()> {
        let _running = self.run();
        let waits = durability == Durability::Full && self.durable.is_unsynced();
        if !self.has_changes() && !waits {
            return self.confirm();
        }
        self.writable()?;
        self.flushing = true;
        let start = Instant::now();
        let flushed = self.flush_rounds(durability).map_err(|e| self.judge(e));
        if flushed.is_err() {
            self.saved_is_uncertain();
        }
        self.tally.flushed(start, &flushed);
        self.flushing = false;
        flushed
    }

    /// Called if nothing has to be written. Only checks that what was written before is still
    /// there.
    fn confirm(&mut self) -> Result<()> {
        let was_written = !self.is_read_only() || self.turned_read_only().is_some();
        if was_written && let Err(e) = self.durable.dev().still_whole() {
            return Err(self.judge(e.into()));
        }
        if self.is_read_only() { Ok(()) } else { self.free_retired() }
    }

    fn flush_rounds(&mut self, durability: Durability) -> Result<()> {
        let written = self.dirty_file_ids();
        // Finish the move that an earlier flush began before it failed. The global state names the
        // entry to delete by its id on disk. A commit of this flush could change that id, and after
        // a crash, a driver would delete another entry.
        self.end_move()?;
        for _ in 0..ROUNDS_MAX {
            match self.round() {
                Ok(true) => {}
                Ok(false) => {
                    // Only now is everything durable, or at least ordered before all later writes.
                    // If replaced blocks were freed earlier and overwritten, a crash could bring
                    // back metadata that still names them.
                    match durability {
                        Durability::Full => self.sync()?,
                        Durability::Ordered => self.durable.defer_sync(),
                    }
                    for id in written {
                        self.files.mark_clean(id);
                        self.settle_file(id);
                    }
                    self.all_is_saved();
                    self.thread.evict();
                    return self.free_retired();
                }
                Err(Fault::Replan) => {}
                Err(Fault::BadTwin(ix)) => self.relocate(ix)?,
                Err(Fault::TiredTwin(ix)) => self.relocate_tired(ix)?,
                Err(Fault::Failed(e)) => return Err(e),
            }
        }
        Err(self.fatal(Error::Internal("a flush does not come to an end")))
    }

    /// One round; true if another is needed.
    fn round(&mut self) -> Result<bool, Fault> {
        // A crash must not keep writes of this round and lose commits of the round before, because
        // this round relies on them.
        if self.durable.has_unordered_commits() {
            self.barrier()?;
        }
        // File data is first, because phase 4 commits the entries that name its blocks. If a crash
        // kept an entry without the data, the file would have the old content of these blocks.
        for id in self.dirty_file_ids() {
            self.write_out(id, false)?;
            self.publish_file(id)?;
        }
        self.expand_if_due()?;
        let plan = self.plan()?;
        self.write_unnamed(&plan)?;
        // From here to the end of the round, a crash may leave the thread and the tree apart. So
        // the sync bit is written first, and is cleared only when everything else is on disk.
        if plan.guarded {
            self.raise_guard()?;
            self.cut_down_removed()?;
            self.publish_stubs(&plan)?;
        }
        self.commit_entries(&plan)?;
        // the sync bit stays set until a later round has filled the stubs
        if plan.needs_another() {
            self.keep_waiting_stubs(&plan);
            self.end_deferral();
            return Ok(true);
        }
        self.finish_moves(plan.view())?;
        self.pass_over_removed()?;
        self.set_sync(false)?;
        self.forget_unchanged();
        Ok(!self.thread.dirty().is_empty() || self.expand_if_due()?)
    }

    /// Phase 1: writes pairs that nothing on disk names yet, and erases the twins that phase 4
    /// needs.
    fn write_unnamed(&mut self, plan: &Plan) -> Result<(), Fault> {
        let spec = plan.everything();
        for &ix in &plan.new {
            self.write_new(ix, spec, plan.is_stub(self.pair(ix).dir))?;
        }
        let dirty = self.committable();
        self.prepare_twins(&dirty, spec)
    }

    /// Phase 2: the sync bit.
    fn raise_guard(&mut self) -> Result<(), Fault> {
        let moved = self.relocating.count();
        self.set_sync(true)?;
        if self.relocating.count() != moved {
            // Setting the bit moved a pair to other blocks, but the pairs of phase 1 name its old
            // blocks: write them again.
            return Err(Fault::Replan);
        }
        Ok(())
    }

    /// Phase 3, first part: removed directories keep only their first pair. This comes before phase
    /// 4 deletes their entries: after a crash in between, the C driver would drop only the first
    /// pair of each.
    fn cut_down_removed(&mut self) -> Result<(), Fault> {
        let heads: Vec<PairIx> = self
            .leaving
            .removed()
            .iter()
            .map(|r| &self.dirs[r.dir].pairs)
            .filter_map(|pairs| pairs.first().copied())
            .filter(|&head| !self.thread.tail_is_right(head, View::Stubbed))
            .collect();
        self.phase(&heads, Spec { select: Select::ALL, view: View::Stubbed, gstate: None })
    }

    /// Phase 3, second part: new directories join the thread, empty. This comes before phase 4
    /// commits their entries, because a device treats the blocks of a directory outside the thread
    /// as free.
    fn publish_stubs(&mut self, plan: &Plan) -> Result<(), Fault> {
        let stubs = plan.new.iter().filter(|&&ix| plan.is_stub(self.pair(ix).dir));
        let adding = self.publishers(stubs);
        self.phase(&adding, plan.everything())
    }

    /// Phase 4: entries, and tails that pass over emptied pairs.
    fn commit_entries(&mut self, plan: &Plan) -> Result<(), Fault> {
        let mut pairs: BTreeSet<PairIx> = self.committable().into_iter().collect();
        pairs.extend(self.publishers(plan.new.iter()));
        pairs.extend(self.kept_before_all(self.leaving.emptied()));
        if !plan.guarded {
            pairs.extend(self.before_removed());
        }
        // a stub is filled in the next round, because its entries name things that must be on disk
        // first
        pairs.retain(|&ix| !plan.is_stub(self.pair(ix).dir));
        let mut filled = Vec::new();
        for ix in pairs {
            if !(self.pair(ix).continues && self.mdir(ix)?.empties(&Select::ALL)) {
                filled.push(ix);
            }
        }
        self.phase(&filled, plan.everything())
    }

    /// Called before another round. A new directory stays a stub only if its parent was not
    /// published whole.
    fn keep_waiting_stubs(&mut self, plan: &Plan) {
        let dirs = &self.dirs;
        let waits = |d: &DirId| {
            let parent = dirs.get(*d).map(|d| d.parent);
            parent.and_then(|p| plan.stages.get(&p)).is_some_and(|s| *s != Stage::Whole)
        };
        self.stubs = std::mem::take(&mut self.stubs).into_iter().filter(waits).collect();
    }

    /// Phase 6: tails that drop removed directories. Their entries were deleted before, in phases 4
    /// and 5: if a crash kept an entry of a directory that has left the thread, a device would
    /// treat the blocks of the directory as free.
    fn pass_over_removed(&mut self) -> Result<(), Fault> {
        let before = self.before_removed();
        self.phase(&before, Spec { select: Select::ALL, view: View::Final, gstate: None })
    }

    /// Mark pairs as clean if their changes cancelled each other out, so that nothing was
    /// committed.
    fn forget_unchanged(&mut self) {
        for ix in self.thread.dirty().clone() {
            let p = self.pair(ix);
            if p.on_disk && !p.mdir.as_ref().is_some_and(|m| m.is_dirty()) {
                self.thread.mark_clean(ix);
                self.thread.refresh_first(ix);
            }
        }
    }

    /// Dirty pairs to which metadata on disk leads.
    fn committable(&self) -> Vec<PairIx> {
        let live = |ix: &PairIx| {
            let p = self.pair(*ix);
            p.on_disk && p.fate == Fate::Stays && !p.deferred
        };
        self.thread.dirty().iter().copied().filter(live).collect()
    }

    /// Pairs on disk whose tails will make these new pairs reachable.
    fn publishers<'a>(&self, new: impl Iterator<Item = &'a PairIx>) -> Vec<PairIx> {
        let mut ways = WaysBack::new();
        let set: BTreeSet<PairIx> = new.map(|&ix| self.thread.publisher(ix, &mut ways)).collect();
        set.into_iter().filter(|&ix| self.pair(ix).fate == Fate::Stays).collect()
    }

    /// Pairs on disk whose tails will skip removed pairs.
    fn before_removed(&self) -> Vec<PairIx> {
        self.kept_before_all(self.leaving.removed().iter().flat_map(|r| &self.dirs[r.dir].pairs))
    }

    fn kept_before_all<'a>(&self, pairs: impl IntoIterator<Item = &'a PairIx>) -> Vec<PairIx> {
        let mut ways = WaysBack::new();
        let set: BTreeSet<PairIx> =
            pairs.into_iter().filter_map(|&ix| self.kept_before(ix, &mut ways)).collect();
        set.into_iter().collect()
    }

    /// The nearest pair before `ix` that is on disk and stays in the thread.
    fn kept_before(&self, ix: PairIx, ways: &mut WaysBack) -> Option<PairIx> {
        self.thread.back_to(self.pair(ix).prev?, |p| p.on_disk && p.fate == Fate::Stays, ways)
    }

    fn plan(&mut self) -> Result<Plan> {
        self.end_deferral();
        self.detach_vacant();
        self.renew_waiting()?;
        let stages = self.decide_stages()?;
        for (&dir, &stage) in &stages {
            let from = match stage {
                Stage::Whole => continue,
                Stage::Stub => 1,
                Stage::Later => 0,
            };
            let pairs = self.dirs[dir].pairs.clone();
            for &ix in pairs.iter().skip(from) {
                self.pair_mut(ix).deferred = true;
            }
        }
        // The C driver cannot list past an empty pair. So a new pair that is still empty is not
        // written here: the move that fills it publishes it.
        for ix in self.thread.dirty().clone() {
            let p = self.pair(ix);
            if !p.on_disk && p.continues && self.mdir(ix)?.empties(&Select::ALL) {
                self.pair_mut(ix).deferred = true;
            }
        }
        // The bit is needed if a crash could leave a stub, or a removed directory, in the thread
        // without an entry that names it. If the bit is set already, it stays set until the round
        // is complete.
        let guarded = stages.values().any(|s| *s == Stage::Stub)
            || self.durable.gstate().needs_sync()
            || !self.removals_are_atomic();
        let new = self
            .thread
            .dirty()
            .iter()
            .copied()
            .filter(|&ix| !self.pair(ix).on_disk && !self.pair(ix).deferred)
            .collect();
        Ok(Plan { new, stages, guarded })
    }

    fn end_deferral(&mut self) {
        for ix in self.thread.dirty().clone() {
            self.pair_mut(ix).deferred = false;
        }
    }

    /// Decide what this round publishes of each new directory. Afterwards, `stubs` has the
    /// directories that it publishes empty.
    fn decide_stages(&mut self) -> Result<BTreeMap<DirId, Stage>> {
        // if the round is planned again, stubs that are in the thread already still have no entry
        let stubs = std::mem::take(&mut self.stubs);
        let mut new_dirs: Vec<DirId> = self
            .thread
            .dirty()
            .iter()
            .filter(|&&ix| !self.pair(ix).on_disk && !self.pair(ix).continues)
            .filter_map(|&ix| self.pair(ix).dir)
            .chain(stubs.into_iter().filter(|&d| self.dir(d).is_ok()))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        // parents first, because the stage of a child depends on that of its parent
        new_dirs.sort_by_cached_key(|&dir| self.dirs.depth(dir));
        let mut ways = WaysBack::new();
        let mut stages = BTreeMap::new();
        for dir in new_dirs {
            let stage = self.stage(dir, &stages, &mut ways)?;
            stages.insert(dir, stage);
            if stage == Stage::Stub {
                self.stubs.insert(dir);
            }
        }
        Ok(stages)
    }

    /// What can be published of the new directory `dir`. If one commit contains both its entry and
    /// its place in the thread, the whole directory can be published.
    fn stage(
        &mut self,
        dir: DirId,
        stages: &BTreeMap<DirId, Stage>,
        ways: &mut WaysBack,
    ) -> Result<Stage> {
        let d = &self.dirs[dir];
        let (parent, name, head) = (d.parent, d.name.clone(), d.pairs[0]);
        if self.pair(head).on_disk {
            return Ok(Stage::Stub);
        }
        if stages.get(&parent).is_some_and(|s| *s != Stage::Whole) {
            return Ok(Stage::Later);
        }
        let entry = self.find(parent, &name)?.ok_or(Error::NotFound)?;
        let whole = self.thread.publisher(entry.pair, ways) == self.thread.publisher(head, ways);
        Ok(if whole { Stage::Whole } else { Stage::Stub })
    }

    /// Whether, for every removed directory, one commit takes it out of the tree and out of the
    /// thread.
    fn removals_are_atomic(&self) -> bool {
        let by_dir: HashMap<DirId, &Removed> =
            self.leaving.removed().iter().map(|r| (r.dir, r)).collect();
        let (mut kept, mut publishers) = (WaysBack::new(), WaysBack::new());
        self.leaving.removed().iter().all(|r| {
            let mut entry = r.entry_pair;
            // an entry in a removed directory disappears together with that directory
            while self.pair(entry).fate == Fate::Removed {
                match self.pair(entry).dir.and_then(|dir| by_dir.get(&dir)) {
                    Some(o) if o.dir != r.dir => entry = o.entry_pair,
                    _ => return false,
                }
            }
            let Some(&head) = self.dirs[r.dir].pairs.first() else { return true };
            !r.by_move
                && self.kept_before(head, &mut kept)
                    == Some(self.thread.publisher(entry, &mut publishers))
        })
    }

    /// Take pairs without entries out of the thread, except the first pair of a directory. New
    /// pairs without entries are not written at all.
    fn detach_vacant(&mut self) {
        let is_vacant = |ix: &PairIx| {
            let p = self.pair(*ix);
            p.continues && p.fate == Fate::Stays && p.mdir.as_ref().is_some_and(|m| m.is_vacant())
        };
        let vacant: Vec<PairIx> = self.thread.dirty().iter().copied().filter(is_vacant).collect();
        self.detach_pairs(&vacant);
    }

    /// If moves bring all entries that a pair will hold, it must not be committed while it is
    /// empty, not even to change its tail. So these entries go to a new pair instead.
    fn renew_waiting(&mut self) -> Result<()> {
        for ix in self.thread.dirty().clone() {
            let p = self.pair(ix);
            let may_wait = p.on_disk && p.continues && p.fate == Fate::Stays;
            if may_wait && self.mdir(ix)?.empties(&Select::ALL) {
                match self.split(ix, 0) {
                    Ok(_) => self.detach_pairs(&[ix]),
                    // without space for a new pair, the commit of this pair waits for the move
                    Err(Error::NoSpace) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    /// Take pairs out of their directories, except the first pair of a directory.
    pub(super) fn detach_pairs(&mut self, pairs: &[PairIx]) {
        let mut gone: BTreeMap<DirId, BTreeSet<PairIx>> = BTreeMap::new();
        for &ix in pairs {
            let Some(dir) = self.pair(ix).dir else { continue };
            if self.dirs.get(dir).is_some_and(|d| d.pairs.first() != Some(&ix)) {
                gone.entry(dir).or_default().insert(ix);
            }
        }
        for (dir, gone) in gone {
            self.dirs[dir].pairs.retain(|ix| !gone.contains(ix));
            for ix in gone {
                self.thread.mark_clean(ix);
                if self.pair(ix).on_disk {
                    self.pair_mut(ix).fate = Fate::Emptied;
                    self.leaving.push_emptied(ix);
                } else {
                    self.forget_new(ix);
                }
            }
        }
    }

    /// Finish what was interrupted before this mount: a move, and changes after which the thread
    /// does not match the tree. This is called before anything is changed in memory.
    pub(super) fn recover(&mut self) -> Result<()> {
        ::log::info!("finishing what was interrupted before");
        self.unfinished = false;
        for _ in 0..ROUNDS_MAX {
            match self.try_recover() {
                Ok(()) => return self.sync(),
                Err(Fault::Replan) => {}
                Err(Fault::BadTwin(ix)) => self.relocate(ix)?,
                Err(Fault::TiredTwin(ix)) => self.relocate_tired(ix)?,
                Err(Fault::Failed(e)) => {
                    self.unfinished = true;
                    return Err(e);
                }
            }
        }
        Err(self.fatal(Error::Internal("the recovery of an image does not come to an end")))
    }

    fn try_recover(&mut self) -> Result<(), Fault> {
        self.finish_moves(View::Final)?;
        if self.durable.gstate().pending_move().is_some() {
            // the source of the move does not exist any more
            self.commit_gstate(self.durable.gstate().with_move(None))?;
        }
        let wrong = self.thread.with_wrong_tails();
        if !wrong.is_empty() || self.durable.gstate().needs_sync() {
            // This takes removed directories out of the thread, and gives it the new blocks of
            // relocated pairs. The sync bit is set until that is done: a crash before the end must
            // find it.
            self.set_sync(true)?;
            self.phase(&wrong, Spec { select: Select::ALL, view: View::Final, gstate: None })?;
            self.set_sync(false)?;
        }
        Ok(())
    }
}
