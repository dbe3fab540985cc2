//! Flush: the only way metadata reaches the device.
//!
//! A flush lays out the difference between what is on disk and what is in memory in phases, with a
//! barrier after each that wrote something. Any subset of a phase's writes may survive a crash.
//!
//! | phase | what is written |
//! |---|---|
//! | 1 | what nothing on disk names yet: file data, new pairs; and erases of stale twins |
//! | 2 | the sync bit, if a crash could leave the thread and the tree apart |
//! | 3 | tails that add pairs, splits |
//! | 4 | entries; tails that pass over emptied pairs |
//! | 5 | moves between pairs, each two phases of one commit |
//! | 6 | tails that drop removed directories |
//! | 7 | the sync bit cleared |
//!
//! A new directory whose entry and whose place in the thread are committed by one pair is
//! published by that one commit. The C driver, finding the sync bit, drops a directory without a
//! parent by joining what follows its first pair to the directory before it; so wherever such a
//! crash is possible, a directory must consist of one pair: a new one starts as an empty stub that
//! a second round fills, a removed one is cut down to its first pair.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use super::commit::{Fault, Spec};
use super::pairs::{Fate, PairIx, View};
use super::thread::WaysBack;
use super::leaving::Removed;
use super::{DirId, Fs};
use crate::error::{Error, Result};
use crate::mdir::Select;

/// A flush that needs more rounds than this goes in circles.
const ROUNDS_MAX: usize = 1000;

/// How far a new directory gets in this round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// One commit publishes it with everything in it.
    Whole,
    /// It is published empty.
    Stub,
    /// It waits for its parent to be filled.
    Later,
}

/// What a round will do.
struct Plan {
    /// New pairs to write.
    new: Vec<PairIx>,
    /// New directories by how far they get.
    stages: BTreeMap<DirId, Stage>,
    /// Whether the sync bit guards the round.
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

    /// Whether part of what is in memory has to wait for another round.
    fn needs_another(&self) -> bool {
        self.stages.values().any(|s| *s != Stage::Whole)
    }
}

impl Fs {
    /// Make everything in memory durable.
    ///
    /// On an error what is in memory stays there, and what is on disk stays sound; a failed
    /// barrier or sync turns the filesystem read-only.
    pub fn flush(&mut self) -> Result<()> {
        let _running = self.run();
        if !self.is_dirty() {
            return self.confirm();
        }
        self.writable()?;
        self.flushing = true;
        let start = Instant::now();
        let flushed = self.flush_rounds().map_err(|e| self.judge(e));
        if flushed.is_err() {
            self.saved_is_uncertain();
        }
        self.tally.flushed(start, &flushed);
        self.flushing = false;
        flushed
    }

    /// Nothing has to be written: what was, has to be there still.
    fn confirm(&mut self) -> Result<()> {
        let was_written = !self.is_read_only() || self.turned_read_only().is_some();
        if was_written && let Err(e) = self.durable.dev().still_whole() {
            return Err(self.judge(e.into()));
        }
        if self.is_read_only() { Ok(()) } else { self.free_retired() }
    }

    fn flush_rounds(&mut self) -> Result<()> {
        let written = self.dirty_file_ids();
        // what a flush that failed began
        self.end_move()?;
        for _ in 0..ROUNDS_MAX {
            match self.round() {
                Ok(true) => {}
                Ok(false) => {
                    self.sync()?;
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
        if self.durable.has_unordered_commits() {
            self.barrier()?;
        }
        for id in self.dirty_file_ids() {
            self.write_out(id, false)?;
            self.publish_file(id)?;
        }
        self.expand_if_due()?;
        let plan = self.plan()?;
        self.write_unnamed(&plan)?;
        if plan.guarded {
            self.raise_guard()?;
            self.cut_down_removed()?;
            self.publish_stubs(&plan)?;
        }
        self.commit_entries(&plan)?;
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
            // what phase 1 wrote names a pair that has moved since
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
        // a stub is filled in the next round, when what its entries name is written
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

    /// Pairs whose changes cancelled out were not committed, and need not be.
    fn forget_unchanged(&mut self) {
        for ix in self.thread.dirty().clone() {
            let p = self.pair(ix);
            if p.on_disk && !p.mdir.as_ref().is_some_and(|m| m.is_dirty()) {
                self.thread.mark_clean(ix);
                self.thread.refresh_first(ix);
            }
        }
    }

    /// Dirty pairs that durable metadata reaches.
    fn committable(&self) -> Vec<PairIx> {
        let live = |ix: &PairIx| {
            let p = self.pair(*ix);
            p.on_disk && p.fate == Fate::Stays && !p.deferred
        };
        self.thread.dirty().iter().copied().filter(live).collect()
    }

    /// Durable pairs whose tails make these new pairs reachable.
    fn publishers<'a>(&self, new: impl Iterator<Item = &'a PairIx>) -> Vec<PairIx> {
        let mut ways = WaysBack::new();
        let set: BTreeSet<PairIx> = new.map(|&ix| self.thread.publisher(ix, &mut ways)).collect();
        set.into_iter().filter(|&ix| self.pair(ix).fate == Fate::Stays).collect()
    }

    /// Durable pairs whose tails pass over removed ones.
    fn before_removed(&self) -> Vec<PairIx> {
        self.kept_before_all(self.leaving.removed().iter().flat_map(|r| &self.dirs[r.dir].pairs))
    }

    fn kept_before_all<'a>(&self, pairs: impl IntoIterator<Item = &'a PairIx>) -> Vec<PairIx> {
        let mut ways = WaysBack::new();
        let set: BTreeSet<PairIx> =
            pairs.into_iter().filter_map(|&ix| self.kept_before(ix, &mut ways)).collect();
        set.into_iter().collect()
    }

    /// The nearest durable pair before `ix` that stays in the thread.
    fn kept_before(&self, ix: PairIx, ways: &mut WaysBack) -> Option<PairIx> {
        self.thread.back_to(self.pair(ix).prev?, |p| p.on_disk && p.fate == Fate::Stays, ways)
    }

    fn plan(&mut self) -> Result<Plan> {
        self.end_deferral();
        self.detach_vacant();
        self.renew_waiting()?;
        let mut stages = BTreeMap::new();
        // where a round is planned again, what it has published empty is not named yet
        let stubs = std::mem::take(&mut self.stubs);
        let mut new_dirs: Vec<DirId> = self.thread.dirty()
            .iter()
            .filter(|&&ix| !self.pair(ix).on_disk && !self.pair(ix).continues)
            .filter_map(|&ix| self.pair(ix).dir)
            .chain(stubs.into_iter().filter(|&d| self.dir(d).is_ok()))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        // the stage of a parent is known before those of its children
        new_dirs.sort_by_cached_key(|&dir| self.dirs.depth(dir));
        let mut ways = WaysBack::new();
        for dir in new_dirs {
            let stage = self.stage(dir, &stages, &mut ways)?;
            stages.insert(dir, stage);
            if stage == Stage::Stub {
                self.stubs.insert(dir);
            }
        }
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
        // the C driver cannot list past an empty pair: such a one is written by the move that fills it
        for ix in self.thread.dirty().clone() {
            let p = self.pair(ix);
            if !p.on_disk && p.continues && self.mdir(ix)?.empties(&Select::ALL) {
                self.pair_mut(ix).deferred = true;
            }
        }
        let guarded = stages.values().any(|s| *s == Stage::Stub)
            || self.durable.gstate().needs_sync()
            || !self.removals_are_atomic();
        let new = self.thread.dirty()
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

    /// How far the new directory `dir` gets: whether one commit makes both its entry and its place
    /// in the thread.
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

    /// Whether every removed directory leaves tree and thread by one commit.
    fn removals_are_atomic(&self) -> bool {
        let by_dir: HashMap<DirId, &Removed> = self.leaving.removed().iter().map(|r| (r.dir, r)).collect();
        let (mut kept, mut publishers) = (WaysBack::new(), WaysBack::new());
        self.leaving.removed().iter().all(|r| {
            let mut entry = r.entry_pair;
            // an entry in a removed directory goes with that
            while self.pair(entry).fate == Fate::Removed {
                match self.pair(entry).dir.and_then(|dir| by_dir.get(&dir)) {
                    Some(o) if o.dir != r.dir => entry = o.entry_pair,
                    _ => return false,
                }
            }
            let Some(&head) = self.dirs[r.dir].pairs.first() else { return true };
            !r.by_move
                && self.kept_before(head, &mut kept) == Some(self.thread.publisher(entry, &mut publishers))
        })
    }

    /// Pairs without entries, other than the first of a directory, leave the thread; new ones do
    /// not even join it.
    fn detach_vacant(&mut self) {
        let is_vacant = |ix: &PairIx| {
            let p = self.pair(*ix);
            p.continues && p.fate == Fate::Stays && p.mdir.as_ref().is_some_and(|m| m.is_vacant())
        };
        let vacant: Vec<PairIx> = self.thread.dirty().iter().copied().filter(is_vacant).collect();
        self.detach_pairs(&vacant);
    }

    /// A pair that keeps nothing but what moves will bring must not be committed empty, not even
    /// to change its tail: what it waits for goes to a new pair instead.
    fn renew_waiting(&mut self) -> Result<()> {
        for ix in self.thread.dirty().clone() {
            let p = self.pair(ix);
            let may_wait = p.on_disk && p.continues && p.fate == Fate::Stays;
            if may_wait && self.mdir(ix)?.empties(&Select::ALL) {
                match self.split(ix, 0) {
                    Ok(_) => self.detach_pairs(&[ix]),
                    // then its own commit waits for the move
                    Err(Error::NoSpace) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    /// Take pairs out of their directories; of none the first.
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

    /// Finish what a former mount left undone: a move, and a thread that does not match the tree.
    /// Nothing else has been changed in memory yet.
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
            // its source is gone
            self.commit_gstate(self.durable.gstate().with_move(None))?;
        }
        if self.durable.gstate().needs_sync() {
            let wrong = self.thread.with_wrong_tails();
            self.phase(&wrong, Spec { select: Select::ALL, view: View::Final, gstate: None })?;
            self.set_sync(false)?;
        }
        Ok(())
    }
}
