//! Moves of entries between pairs, as the flush carries them out (SPEC: `0x7ff` MOVESTATE). The
//! first commit, to the target pair, writes the entry there and notes in the global state which
//! entry is to be deleted. The second commit, to the source pair, deletes that entry and clears the
//! note. A crash between the two commits leaves both entries on disk, but every driver hides the
//! entry that the global state names. If the second commit reached the disk without the first, the
//! entry would be lost.
//!
//! The second commit edits the log as it is on disk, and does not use the plan of the flush. Since
//! the first commit, a pair may have moved to other blocks, or a flush may have failed and entries
//! may have changed. But the global state always names the entry by its pair and its id on disk,
//! and nothing but this entry may be deleted.

use std::collections::BTreeMap;

use super::Fs;
use super::commit::{Fault, Spec};
use super::edits::Edit;
use super::pairs::{Fate, PairInfo, PairIx, View};
use super::thread::WaysBack;
use crate::disk::Pair;
use crate::error::{Error, Result};
use crate::mdir::{COUNT_MAX, Entry, MoveId, Role, Select};

/// The move of an entry that is on disk to another pair.
#[derive(Debug, Clone, Copy)]
pub(super) struct Move {
    pub source: PairIx,
    /// `None` if the target commit is on disk already.
    pub target: Option<PairIx>,
}

/// The pending moves. They are carried out in the order in which they were made. The target commit
/// of only one of them can be on disk, because the global state can name only one entry.
#[derive(Debug)]
pub(super) struct Moves {
    pending: BTreeMap<MoveId, Move>,
    next: MoveId,
}

impl Moves {
    pub fn new() -> Self {
        Self { pending: BTreeMap::new(), next: 1 }
    }

    /// The id for a new move.
    pub fn new_id(&mut self) -> MoveId {
        let m = self.next;
        self.next = self.next.wrapping_add(1).max(1);
        m
    }

    pub fn insert(&mut self, m: MoveId, mv: Move) {
        self.pending.insert(m, mv);
    }

    /// Remove move `m`, because it is complete or will not happen.
    pub fn end(&mut self, m: MoveId) -> Option<Move> {
        self.pending.remove(&m)
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The move to carry out next.
    pub fn first(&self) -> Option<(MoveId, Move)> {
        self.pending.first_key_value().map(|(&m, &mv)| (m, mv))
    }

    /// The pair that still holds the entry which `m` moves.
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

    /// Note that the target commit of `m` is on disk.
    pub fn arrived(&mut self, m: MoveId) {
        if let Some(mv) = self.pending.get_mut(&m) {
            mv.target = None;
        }
    }

    /// Note that a split has moved an entry with this role to the pair `ix`.
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
    /// Carry out the moves of entries that were renamed from pair to pair, one after the other.
    pub(super) fn finish_moves(&mut self, view: View) -> Result<(), Fault> {
        while let Some((first, Move { source, target })) = self.moves.first() {
            if let Some(target) = target {
                self.arrive(first, source, target, view)?;
            }
            let mut m = first;
            // The source may have no other entry left than one that arrives there by another move.
            // Then one commit writes that entry and deletes this one, so that the pair is never
            // empty on disk.
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

    /// Make the first commit of move `m`.
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
            // a new pair counts as on disk only when the commit of the pair before it names it
            let waiting = self.mdir(target)?.clone();
            self.pair_mut(target).deferred = false;
            self.write_new(target, Spec { gstate: None, ..spec }, false)?;
            let publisher = self.thread.publisher(target, &mut WaysBack::new());
            let published = self.phase(&[publisher], spec);
            if published.is_err() && !self.pair(target).on_disk {
                // the entry has not arrived, and another attempt must not write it before its move
                // begins
                self.pair_mut(target).mdir = Some(Box::new(waiting));
            }
            published?;
        }
        self.moves.arrived(m);
        Ok(())
    }

    /// The source of move `m`, and a move that arrives there, if the source would be empty without
    /// the entry that arrives.
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

    /// The global state between the two commits of move `m`.
    fn moving(&mut self, source: PairIx, m: MoveId) -> Result<crate::disk::GState> {
        let mut entries = self.mdir(source)?.entries.iter();
        let leaving = entries.find(|e| e.role == Role::Leaving(m)).and_then(|e| e.did);
        let id = leaving
            .filter(|id| usize::from(*id) < COUNT_MAX)
            .ok_or(Error::Internal("the source of an unfinished move is not known any more"))?;
        Ok(self.durable.gstate().with_move(Some((self.pair(source).blocks, id))))
    }

    /// Make the second commit of the move that the global state on disk names, if there is one.
    pub(super) fn end_move(&mut self) -> Result<()> {
        let Some((blocks, id)) = self.durable.gstate().pending_move() else { return Ok(()) };
        let ended = self.durable.gstate().with_move(None);
        let begun = self.moves.begun();
        let Some(at) = self.pair_of(blocks, begun.map(|(_, source)| source)) else {
            // the pair does not exist any more
            return self.commit_gstate(ended);
        };
        let count = self.durable_log(at)?.entries.len();
        if usize::from(id) >= count {
            return self.commit_gstate(ended);
        }
        // a pair inside a directory must never be empty on disk, because the C driver cannot list
        // past it
        let before = self.before_on_disk(at).filter(|_| count == 1 && self.pair(at).continues);
        match before {
            Some(before) => self.detach_source(at, before, begun)?,
            None => {
                self.commit_edits(at, &[Edit::Delete(id)], ended)?;
                let leaving = self.take_leaving(begun)?;
                // a compaction may have changed the order of the entries
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

    /// The pair that has the first of these blocks, or else the second. Opening uses the same rule
    /// when it hides the entry that moves. `guess` is tried first.
    fn pair_of(&self, blocks: Pair, guess: Option<PairIx>) -> Option<PairIx> {
        let has = |p: &PairInfo, block| p.on_disk && p.blocks.0.contains(&block);
        let at_block = |block| self.thread.iter().find(|(_, p)| has(p, block)).map(|(ix, _)| ix);
        guess
            .filter(|&ix| self.thread.find(ix).is_some_and(|p| p.blocks.same(blocks) && p.on_disk))
            .or_else(|| blocks.0.into_iter().find_map(at_block))
    }

    /// The pair whose tail on disk leads to `at`.
    fn before_on_disk(&self, at: PairIx) -> Option<PairIx> {
        let blocks = self.pair(at).blocks;
        let leads = |&ix: &PairIx| self.leads_to(ix, blocks);
        let guess = self.pair(at).prev.filter(leads);
        guess.or_else(|| self.thread.iter().map(|(ix, _)| ix).find(leads))
    }

    /// Remove the entry that leaves from its pair in memory.
    fn take_leaving(&mut self, begun: Option<(MoveId, PairIx)>) -> Result<Option<(usize, Entry)>> {
        let Some((m, source)) = begun else { return Ok(None) };
        let mdir = self.mdir(source)?;
        let at = mdir.entries.iter().position(|e| e.role == Role::Leaving(m));
        Ok(at.map(|at| (at, mdir.remove(at))))
    }

    /// The entry that leaves is the only one that `at` has on disk. So the tail of `before` is
    /// changed to pass over the pair. If the pair has other entries in memory, these go to a new
    /// pair.
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
        // nothing may be added to this delta any more, because `before` takes it over as it is
        self.relocating.push_unnamed(at);
        let passed = self.commit_edits(before, &edits, self.durable.gstate().with_move(None));
        self.relocating.pop_unnamed();
        passed
    }
}
