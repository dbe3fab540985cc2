//! Flush: the only way metadata reaches the device. A flush writes the difference between disk and
//! memory in phases. After each phase that wrote something, there is a barrier. A crash may keep
//! any subset of the writes of one phase, so each phase must leave a sound image whichever of its
//! writes survive; the order of the phases follows from that.
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
//! If one commit of one pair contains both the entry of a new directory and its place in the
//! thread, this commit publishes the whole directory. Otherwise a crash can come between the two,
//! and leave a directory in the thread without a parent. A C driver that finds the sync bit drops
//! such a directory: it links the pair before it to what follows the *first pair* of the directory.
//! The other pairs would then stay in the thread without a directory. So wherever such a crash is
//! possible, a directory has only one pair: a new directory starts as an empty stub, which a second
//! round fills, and a removed directory is first cut down to its first pair.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use super::commit::{Fault, Spec};
use super::leaving::Removed;
use super::pairs::{Fate, PairIx, View};
use super::thread::WaysBack;
use super::{DirId, Durability, Fs};
use crate::error::{Error, Result};
use crate::mdir::Select;

/// If a flush needs more rounds than this, it does not make progress.
const ROUNDS_MAX: usize = 1000;

/// What this round publishes of a new directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// One commit publishes it with everything in it.
    Whole,
    /// It is published empty.
    Stub,
    /// Nothing: its parent must be filled first.
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

    /// A phase that writes everything but moves.
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
    /// If it fails, the changes stay in memory, and the image on disk stays sound. After a failed
    /// barrier or sync, it is not known what is on disk, so the filesystem becomes read-only.
    ///
    /// [`OpenOptions::durability`]: super::OpenOptions::durability
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

    /// Nothing has to be written; only check that what was written before is still there.
    fn confirm(&mut self) -> Result<()> {
        let was_written = !self.is_read_only() || self.turned_read_only().is_some();
        if was_written && let Err(e) = self.durable.dev().still_whole() {
            return Err(self.judge(e.into()));
        }
        if self.is_read_only() { Ok(()) } else { self.free_retired() }
    }

    fn flush_rounds(&mut self, durability: Durability) -> Result<()> {
        let written = self.dirty_file_ids();
        // finish the move that an earlier flush began before it failed
        self.end_move()?;
        for _ in 0..ROUNDS_MAX {
            match self.round() {
                Ok(true) => {}
                Ok(false) => {
                    // Only now is everything durable, or at least before all later writes. So what
                    // it has replaced can be retired.
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
        Err(self.fatal(Error::Invalid("flush does not come to an end")))
    }

    /// One round; true if another is needed.
    fn round(&mut self) -> Result<bool, Fault> {
        // what this round writes relies on the commits of the one before
        if self.durable.has_unordered_commits() {
            self.barrier()?;
        }
        // file data is first, because entries name its blocks in phase 4
        for id in self.dirty_file_ids() {
            self.write_out(id, false)?;
            self.publish_file(id)?;
        }
        self.expand_if_due()?;
        let plan = self.plan()?;
        self.write_unnamed(&plan)?;
        // from here to the end of the round, a crash may leave the thread and the tree apart
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

    /// Phase 1: what nothing on disk names yet, and the twins that phase 4 will need.
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

    /// Phase 3, first part: removed directories keep their first pair only.
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

    /// Phase 3, second part: new directories join the thread, empty.
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
        // a stub is filled in the next round: its entries name things that must be on disk before
        pairs.retain(|&ix| !plan.is_stub(self.pair(ix).dir));
        let mut filled = Vec::new();
        for ix in pairs {
            if !(self.pair(ix).continues && self.mdir(ix)?.empties(&Select::ALL)) {
                filled.push(ix);
            }
        }
        self.phase(&filled, plan.everything())
    }

    /// Before another round: only those new directories are still stubs whose parent is one.
    fn keep_waiting_stubs(&mut self, plan: &Plan) {
        let dirs = &self.dirs;
        let waits = |d: &DirId| {
            let parent = dirs.get(*d).map(|d| d.parent);
            parent.and_then(|p| plan.stages.get(&p)).is_some_and(|s| *s != Stage::Whole)
        };
        self.stubs = std::mem::take(&mut self.stubs).into_iter().filter(waits).collect();
    }

    /// Phase 6: tails that drop removed directories.
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

    /// Dirty pairs that metadata on disk leads to.
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
        // The C driver cannot list past an empty pair, so an empty new pair is not written here.
        // The move that fills it publishes it.
        for ix in self.thread.dirty().clone() {
            let p = self.pair(ix);
            if !p.on_disk && p.continues && self.mdir(ix)?.empties(&Select::ALL) {
                self.pair_mut(ix).deferred = true;
            }
        }
        // The bit is needed if a crash could leave a stub, or a removed directory, in the thread
        // without an entry that names it. If it is set already, it stays set until the round is
        // complete.
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

    /// Decide what this round publishes of each new directory. Those that it publishes empty are in
    /// `stubs` afterwards.
    fn decide_stages(&mut self) -> Result<BTreeMap<DirId, Stage>> {
        // if the round is planned again, stubs that it has already published have no entry yet
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

    /// What can be published of the new directory `dir`: all of it if one commit contains both its
    /// entry and its place in the thread.
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

    /// Take pairs without entries out of the thread, except the first pair of a directory; new ones
    /// are not written at all.
    fn detach_vacant(&mut self) {
        let is_vacant = |ix: &PairIx| {
            let p = self.pair(*ix);
            p.continues && p.fate == Fate::Stays && p.mdir.as_ref().is_some_and(|m| m.is_vacant())
        };
        let vacant: Vec<PairIx> = self.thread.dirty().iter().copied().filter(is_vacant).collect();
        self.detach_pairs(&vacant);
    }

    /// A pair that will only hold entries that moves bring must not be committed while it is empty,
    /// not even to change its tail. So these entries go to a new pair instead.
    fn renew_waiting(&mut self) -> Result<()> {
        for ix in self.thread.dirty().clone() {
            let p = self.pair(ix);
            let may_wait = p.on_disk && p.continues && p.fate == Fate::Stays;
            if may_wait && self.mdir(ix)?.empties(&Select::ALL) {
                match self.split(ix, 0) {
                    Ok(_) => self.detach_pairs(&[ix]),
                    // then the commit of the pair itself waits for the move
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

    /// Finish what was interrupted before this mount: a move, and a thread that does not match the
    /// tree. This is called before anything is changed in memory.
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
        Err(self.fatal(Error::Invalid("recovery does not come to an end")))
    }

    fn try_recover(&mut self) -> Result<(), Fault> {
        self.finish_moves(View::Final)?;
        if self.durable.gstate().pending_move().is_some() {
            // the source of the move does not exist any more
            self.commit_gstate(self.durable.gstate().with_move(None))?;
        }
        if self.durable.gstate().needs_sync() {
            // this takes removed directories out of the thread, and tells it where relocated pairs
            // are
            let wrong = self.thread.with_wrong_tails();
            self.phase(&wrong, Spec { select: Select::ALL, view: View::Final, gstate: None })?;
            self.set_sync(false)?;
        }
        Ok(())
    }
}
