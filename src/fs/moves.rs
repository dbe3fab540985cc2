//! Moves between pairs, as the flush carries them out: one commit to the target, which notes in the
//! global state what is to be deleted, and one to the source (SPEC: `0x7ff` MOVESTATE).
//!
//! The second is made to the log on disk and not through the plan of the flush: whatever happened
//! in between (a pair that moved to other blocks, a flush that failed and the changes made since),
//! the global state names the entry by its pair and id, and nothing else may go with it.

use std::collections::BTreeMap;

use super::Fs;
use super::commit::{Fault, Spec};
use super::edits::Edit;
use super::pairs::{Fate, PairInfo, PairIx, View};
use super::thread::WaysBack;
use crate::disk::Pair;
use crate::error::{Error, Result};
use crate::mdir::{COUNT_MAX, Entry, MoveId, Role, Select};

/// A durable entry on its way to another pair.
#[derive(Debug, Clone, Copy)]
pub(super) struct Move {
    pub source: PairIx,
    /// `None` when the target commit is on disk already.
    pub target: Option<PairIx>,
}

/// The pending moves. They are carried out in the order in which they were made; of those whose
/// target commit is on disk there is one at most, because the global state names only one.
#[derive(Debug)]
pub(super) struct Moves {
    pending: BTreeMap<MoveId, Move>,
    next: MoveId,
}

impl Moves {
    pub fn new() -> Self {
        Self { pending: BTreeMap::new(), next: 1 }
    }

    /// The id of a move that is about to be made.
    pub fn new_id(&mut self) -> MoveId {
        let m = self.next;
        self.next = self.next.wrapping_add(1).max(1);
        m
    }

    pub fn insert(&mut self, m: MoveId, mv: Move) {
        self.pending.insert(m, mv);
    }

    /// Move `m` is over, or will not happen.
    pub fn end(&mut self, m: MoveId) -> Option<Move> {
        self.pending.remove(&m)
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The move that is carried out next.
    pub fn first(&self) -> Option<(MoveId, Move)> {
        self.pending.first_key_value().map(|(&m, &mv)| (m, mv))
    }

    /// The pair that still holds what `m` moves.
    pub fn source(&self, m: MoveId) -> Option<PairIx> {
        self.pending.get(&m).map(|mv| mv.source)
    }

    /// A move out of `source`.
    pub fn out_of(&self, source: PairIx) -> Option<MoveId> {
        self.pending.iter().find(|(_, mv)| mv.source == source).map(|(&m, _)| m)
    }

    /// The move whose target commit is on disk, and its source.
    pub fn begun(&self) -> Option<(MoveId, PairIx)> {
        let begun = self.pending.iter().find(|(_, mv)| mv.target.is_none());
        begun.map(|(&m, mv)| (m, mv.source))
    }

    /// The target commit of `m` is on disk.
    pub fn arrived(&mut self, m: MoveId) {
        if let Some(mv) = self.pending.get_mut(&m) {
            mv.target = None;
        }
    }

    /// A split has put an entry of this role into the pair `ix`.
    pub fn follow(&mut self, role: Role, ix: PairIx) {
        match role {
            Role::Leaving(m) => {
                if let Some(mv) = self.pending.get_mut(&m) {
                    mv.source = ix;
                }
            }
            Role::Arriving(m) => {
                if let Some(mv) = self.pending.get_mut(&m) {
                    mv.target = Some(ix);
                }
            }
            Role::Live | Role::Replaced(_) => {}
        }
    }
}

impl Fs {
    /// Move what was renamed across pairs, one entry after the other.
    pub(super) fn finish_moves(&mut self, view: View) -> Result<(), Fault> {
        while let Some((first, Move { source, target })) = self.moves.first() {
            if let Some(target) = target {
                self.arrive(first, source, target, view)?;
            }
            let mut m = first;
            // leaving may leave the source with nothing but what arrives there: both in one commit
            while let Some((source, next)) = self.exchanged(m)? {
                let from = self.moves.source(next).unwrap_or(source);
                let gstate = Some(self.moving(from, next)?);
                let select = Select { arrive: Some(next), leave: Some(m) };
                self.phase(&[source], Spec { select, view, gstate })?;
                self.moves.end(m);
                self.moves.arrived(next);
                m = next;
            }
            self.end_move()?;
            self.moves.end(m);
        }
        Ok(())
    }

    /// The first commit of move `m`.
    fn arrive(
        &mut self,
        m: MoveId,
        source: PairIx,
        target: PairIx,
        view: View,
    ) -> Result<(), Fault> {
        let gstate = Some(self.moving(source, m)?);
        let select = Select { arrive: Some(m), leave: None };
        let spec = Spec { select, view, gstate };
        if self.pair(target).on_disk {
            self.phase(&[target], spec)?;
        } else {
            // what makes a new pair reachable is the commit of the one before it
            let waiting = self.mdir(target)?.clone();
            self.pair_mut(target).deferred = false;
            self.write_new(target, Spec { gstate: None, ..spec }, false)?;
            let publisher = self.thread.publisher(target, &mut WaysBack::new());
            let published = self.phase(&[publisher], spec);
            if published.is_err() && !self.pair(target).on_disk {
                // it has not arrived: another try must not write it before its move begins
                self.pair_mut(target).mdir = Some(Box::new(waiting));
            }
            published?;
        }
        self.moves.arrived(m);
        Ok(())
    }

    /// The source of move `m` and a move that arrives there, if the source must not be without it.
    fn exchanged(&mut self, m: MoveId) -> Result<Option<(PairIx, MoveId)>> {
        let Some(source) = self.moves.source(m) else { return Ok(None) };
        let leave = Select { arrive: None, leave: Some(m) };
        if !self.pair(source).continues || !self.mdir(source)?.empties(&leave) {
            return Ok(None);
        }
        let arriving = |e: &Entry| match e.role {
            Role::Arriving(next) => Some((source, next)),
            _ => None,
        };
        Ok(self.mdir(source)?.entries.iter().find_map(arriving))
    }

    /// The global state while move `m` is under way.
    fn moving(&mut self, source: PairIx, m: MoveId) -> Result<crate::disk::GState> {
        let mut entries = self.mdir(source)?.entries.iter();
        let leaving = entries.find(|e| e.role == Role::Leaving(m)).and_then(|e| e.did);
        let id = leaving
            .filter(|id| usize::from(*id) < COUNT_MAX)
            .ok_or(Error::Invalid("a move lost its source"))?;
        Ok(self.durable.gstate().with_move(Some((self.pair(source).blocks, id))))
    }

    /// The second commit of the move that the global state on disk names, if any.
    pub(super) fn end_move(&mut self) -> Result<()> {
        let Some((blocks, id)) = self.durable.gstate().pending_move() else { return Ok(()) };
        let ended = self.durable.gstate().with_move(None);
        let begun = self.moves.begun();
        let Some(at) = self.pair_of(blocks, begun.map(|(_, source)| source)) else {
            // it is gone already
            return self.commit_gstate(ended);
        };
        let count = self.durable_log(at)?.entries.len();
        if usize::from(id) >= count {
            return self.commit_gstate(ended);
        }
        // a pair must not be left empty: the C driver cannot list past it
        let before = self.before_on_disk(at).filter(|_| count == 1 && self.pair(at).continues);
        match before {
            Some(before) => self.detach_source(at, before, begun)?,
            None => {
                self.commit_edits(at, &[Edit::Delete(id)], ended)?;
                let leaving = self.take_leaving(begun)?;
                // a compaction may have put the entries into another order
                let gone = leaving.and_then(|(_, e)| e.did).unwrap_or(id);
                if let Some(mdir) = &mut self.pair_mut(at).mdir {
                    mdir.deleted_on_disk(gone);
                }
                self.thread.count(at);
                self.thread.refresh_first(at);
            }
        }
        if let Some((m, _)) = begun {
            self.moves.end(m);
        }
        Ok(())
    }

    /// The pair on these blocks, most likely `guess`.
    fn pair_of(&self, blocks: Pair, guess: Option<PairIx>) -> Option<PairIx> {
        let is_it = |p: &PairInfo| p.on_disk && p.blocks.same(blocks);
        guess
            .filter(|&ix| self.thread.find(ix).is_some_and(is_it))
            .or_else(|| self.thread.iter().find(|(_, p)| is_it(p)).map(|(ix, _)| ix))
    }

    /// The pair whose tail on disk leads to `at`.
    fn before_on_disk(&self, at: PairIx) -> Option<PairIx> {
        let blocks = self.pair(at).blocks;
        let leads = |&ix: &PairIx| self.leads_to(ix, blocks);
        let guess = self.pair(at).prev.filter(leads);
        guess.or_else(|| self.thread.iter().map(|(ix, _)| ix).find(leads))
    }

    /// Take the entry that leaves out of its pair in memory.
    fn take_leaving(&mut self, begun: Option<(MoveId, PairIx)>) -> Result<Option<(usize, Entry)>> {
        let Some((m, source)) = begun else { return Ok(None) };
        let mdir = self.mdir(source)?;
        let at = mdir.entries.iter().position(|e| e.role == Role::Leaving(m));
        Ok(at.map(|at| (at, mdir.remove(at))))
    }

    /// The entry that leaves is all that `at` has on disk: `before` passes over the pair, and what
    /// is to come there in memory goes to a new one.
    fn detach_source(
        &mut self,
        at: PairIx,
        before: PairIx,
        begun: Option<(MoveId, PairIx)>,
    ) -> Result<()> {
        let leaving = self.take_leaving(begun)?;
        let dropped = self.pass_over(at, before);
        match (&dropped, leaving, begun) {
            (Err(_), Some((place, e)), Some((_, source))) => {
                let mdir = self.mdir(source)?;
                mdir.insert(place.min(mdir.entries.len()), e);
            }
            (Ok(()), ..) => {
                self.detach_pairs(&[at]);
                self.leave_thread(at);
                self.forget_detached();
            }
            _ => {}
        }
        dropped
    }

    fn pass_over(&mut self, at: PairIx, before: PairIx) -> Result<()> {
        if self.pair(at).fate == Fate::Stays && !self.mdir(at)?.is_vacant() {
            self.split(at, 0)?;
        }
        let p = self.pair(at);
        let edits = [Edit::Tail(p.disk_tail), Edit::Absorb(p.gdelta)];
        // nothing more may be added to the delta that is handed on
        self.relocating.push_unnamed(at);
        let passed = self.commit_edits(before, &edits, self.durable.gstate().with_move(None));
        self.relocating.pop_unnamed();
        passed
    }
}
