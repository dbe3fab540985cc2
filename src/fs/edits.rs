//! Changes on disk that do not touch pending changes in memory: the sync bit, the addresses of
//! pairs that move to other blocks, and the end of a move. They edit the log of a pair as it is on
//! the device. So if this compacts the pair, it writes nothing that must wait for a later phase of
//! the flush.

use super::Fs;
use super::pairs::{Fate, PairIx};
use crate::disk::commit::{Commit, Writer};
use crate::disk::entry::Content;
use crate::disk::log::Log;
use crate::disk::{GState, List, Pair, Superblock, Tail, tag};
use crate::error::{Error, Result};
use crate::mdir::{LogEnd, store};

/// One change to a pair's durable log.
#[derive(Debug, Clone, Copy)]
pub(super) enum Edit {
    /// Directory entry `id` names another pair.
    Child(u16, Pair),
    /// Entry `id` is deleted.
    Delete(u16),
    /// The content of file `id` is this list.
    List(u16, List),
    /// The superblock, which is entry 0, has this content.
    Superblock(Superblock),
    /// The tail leads to another pair.
    Tail(Tail),
    /// The delta of the pair takes over this delta of another pair, which leaves the thread by the
    /// same commit. So the global state, which is the sum of all deltas, stays the same.
    Absorb(GState),
}

impl Edit {
    fn apply(self, log: &mut Log) {
        match self {
            Self::Child(id, pair) => {
                if let Some(e) = log.entries.get_mut(usize::from(id)) {
                    e.data = Content::Dir(pair).to_struct();
                }
            }
            Self::Delete(id) => {
                if usize::from(id) < log.entries.len() {
                    log.entries.remove(usize::from(id));
                }
            }
            Self::List(id, list) => {
                if let Some(e) = log.entries.get_mut(usize::from(id)) {
                    e.data = Content::List(list).to_struct();
                }
            }
            Self::Superblock(sb) => {
                if let Some(e) = log.entries.first_mut() {
                    e.data = Content::Inline(&sb.to_bytes()).to_struct();
                }
            }
            Self::Tail(tail) => log.tail = Some(tail),
            Self::Absorb(delta) => log.gdelta = log.gdelta.xor(delta),
        }
    }

    /// The same edit, if the entries are put into another order. `order` lists their present ids.
    fn reordered(self, order: &[u16]) -> Self {
        let new = |id: u16| order.iter().position(|&o| o == id).map_or(id, |new| new as u16);
        match self {
            Self::Child(id, pair) => Self::Child(new(id), pair),
            Self::Delete(id) => Self::Delete(new(id)),
            Self::List(id, list) => Self::List(new(id), list),
            Self::Superblock(_) | Self::Tail(_) | Self::Absorb(_) => self,
        }
    }

    fn put(self, w: &mut Writer) {
        match self {
            Self::Child(id, pair) => Content::Dir(pair).put(id, w),
            Self::Delete(id) => w.tag(tag::DELETE, id, &[]),
            Self::List(id, list) => Content::List(list).put(id, w),
            Self::Superblock(sb) => Content::Inline(&sb.to_bytes()).put(0, w),
            Self::Tail(tail) => w.tail(tail),
            // the commit closes with the whole delta
            Self::Absorb(_) => {}
        }
    }
}

/// Put all of a log into the first commit of a block. The ids stay the same.
pub(crate) fn put_log(log: &Log, w: &mut Writer) {
    put_entries(log, w);
    if !log.gdelta.is_zero() {
        w.gdelta(log.gdelta);
    }
}

/// Like [`put_log`], without the delta of the global state.
fn put_entries(log: &Log, w: &mut Writer) {
    for (id, e) in log.entries.iter().enumerate() {
        let id = id as u16;
        match e.name_type {
            Some(ty) => w.tag(ty, id, &e.name),
            None if e.data.is_some() => w.tag(tag::CREATE, id, &[]),
            None => continue,
        }
        if let Some((ty, data)) = &e.data {
            w.tag(*ty, id, data);
        }
        for (ty, data) in &e.attrs {
            w.tag(tag::USERATTR + u16::from(*ty), id, data);
        }
    }
    if let Some(tail) = log.tail.filter(|t| !t.pair.is_null()) {
        w.tail(tail);
    }
}

impl Fs {
    /// Set or clear the sync bit, in a phase of its own.
    pub(super) fn set_sync(&mut self, on: bool) -> Result<()> {
        let state = if on {
            self.guarded(self.durable.gstate())
        } else {
            self.durable.gstate().with_sync(false)
        };
        self.commit_gstate(state)
    }

    /// The global state `state` for the time in which a crash may leave the thread and the tree
    /// apart: with the sync bit.
    ///
    /// Every driver that finds the bit set treats all directories without a name as removed. So the
    /// bit is not set as long as directories in the thread have lost their names by damage. A crash
    /// may then leave the thread and the tree apart. `check` reports and repairs this, and nothing
    /// is lost.
    pub(super) fn guarded(&self, state: GState) -> GState {
        if self.nameless.is_empty() { state.with_sync(true) } else { state }
    }

    /// Change the global state by a separate commit: to a changed pair with room for it, or to one
    /// that is about to be written anyway, or to the root.
    pub(super) fn commit_gstate(&mut self, new: GState) -> Result<()> {
        if new == self.durable.gstate() {
            return Ok(());
        }
        let counts = |ix: PairIx| {
            let p = self.pair(ix);
            p.threaded && p.on_disk && p.fate == Fate::Stays && !self.relocating.is_unnamed(ix)
        };
        let dirty = || self.thread.dirty().iter().copied().filter(|&ix| counts(ix));
        let root = self.dirs[super::ROOT].pairs.first().copied();
        let ix = dirty()
            .find(|&ix| self.has_room(ix))
            .or_else(|| dirty().find(|&ix| !self.pair(ix).blocks.same(Pair::SUPERBLOCK)))
            .or(root.filter(|&ix| counts(ix)))
            .unwrap_or(PairIx(0));
        self.commit_edits(ix, &[], new)?;
        self.barrier()
    }

    /// The log of `ix` on disk, up to the end of its last commit. Bytes after that, which a failed
    /// write has left, do not count, even if they can be read.
    pub(super) fn durable_log(&self, ix: PairIx) -> Result<Log> {
        let p = self.pair(ix);
        Ok(store::read_known(self.durable.dev(), p.blocks, p.end)?.unpack())
    }

    /// Make one commit to the log of `ix` on disk, after which the global state is `gstate`. A
    /// barrier makes sure that everything that was written before reaches the disk first. If the
    /// pair must move to other blocks for this, the new copy contains the edits, but not the new
    /// global state: nothing names the new copy yet, so its delta does not count. The commit that
    /// makes it reachable contains the global state.
    pub(super) fn commit_edits(
        &mut self,
        ix: PairIx,
        edits: &[Edit],
        gstate: GState,
    ) -> Result<()> {
        if gstate != self.durable.gstate() && self.relocating.is_unnamed(ix) {
            // nothing names this pair yet, so its delta does not count
            if gstate.needs_sync() {
                self.commit_gstate(gstate)?;
                return self.commit_edits(ix, edits, gstate);
            }
            self.commit_edits(ix, edits, self.durable.gstate())?;
            return self.commit_gstate(gstate);
        }
        self.barrier()?;
        let change = self.durable.gstate().xor(gstate);
        if self.append_edits(ix, edits, change)? {
            self.durable.set_gstate(gstate);
            return Ok(());
        }
        let moves = self.may_move(ix)?;
        let mut log = self.durable_log(ix)?;
        let order = self.keep_order_as_c(ix, &mut log)?;
        edits.iter().for_each(|e| e.reordered(&order).apply(&mut log));
        if moves && self.relocate_tired_log(ix, &log, gstate)? {
            return Ok(());
        }
        let change = self.durable.gstate().xor(gstate);
        if self.compact_edits(ix, &log, change)? {
            self.durable.set_gstate(gstate);
            return Ok(());
        }
        self.relocate_log(ix, &log, gstate)
    }

    /// Append the edits to the log. Returns false if there is no room in its block, or the block is
    /// bad.
    fn append_edits(&mut self, ix: PairIx, edits: &[Edit], change: GState) -> Result<bool> {
        if !self.is_appendable(ix) {
            return Ok(false);
        }
        let (end, old) = (self.pair(ix).end, self.pair(ix).gdelta);
        let mut w = Writer::append(self.layout, end.off, end.etag);
        let (mut delta, mut tail) = (old.xor(change), self.pair(ix).disk_tail);
        for e in edits {
            e.put(&mut w);
            match *e {
                Edit::Absorb(d) => delta = delta.xor(d),
                Edit::Tail(t) => tail = t,
                Edit::Child(..) | Edit::Delete(_) | Edit::List(..) | Edit::Superblock(_) => {}
            }
        }
        if delta != old {
            w.gdelta(delta);
        }
        let Ok(commit) = w.finish() else { return Ok(false) };
        self.pair_mut(ix).appendable = Some(false);
        let block = self.pair(ix).blocks.0[0];
        if !self.write_edits(block, &commit)? {
            return Ok(false);
        }
        let info = self.pair_mut(ix);
        info.appendable = Some(true);
        info.end = LogEnd { rev: end.rev, off: commit.end(), etag: commit.etag };
        (info.gdelta, info.disk_tail) = (delta, tail);
        Ok(true)
    }

    /// Write all of `log` to the twin. Returns false if the twin is bad.
    fn compact_edits(&mut self, ix: PairIx, log: &Log, change: GState) -> Result<bool> {
        let Pair([active, twin]) = self.pair(ix).blocks;
        let rev = self.pair(ix).end.rev.wrapping_add(1);
        let delta = log.gdelta.xor(change);
        let commit = self.encode_log(log, rev, delta)?;
        if !std::mem::take(&mut self.pair_mut(ix).twin_erased) {
            match self.durable.erase(twin) {
                Ok(()) => self.barrier()?,
                Err(e) if e.is_bad_block() => return Ok(false),
                Err(e) => return Err(e.into()),
            }
        }
        if !self.write_edits(twin, &commit)? {
            return Ok(false);
        }
        let info = self.pair_mut(ix);
        info.blocks = Pair([twin, active]);
        info.end = LogEnd { rev, off: commit.end(), etag: commit.etag };
        info.appendable = Some(true);
        (info.gdelta, info.disk_tail) = (delta, log.tail.unwrap_or(Tail::END));
        Ok(true)
    }

    /// All of `log` as the first commit of a block.
    pub(super) fn encode_log(&self, log: &Log, rev: u32, delta: GState) -> Result<Commit> {
        let mut w = Writer::compact(self.layout, rev);
        put_entries(log, &mut w);
        if !delta.is_zero() {
            w.gdelta(delta);
        }
        w.finish().map_err(|_| Error::NoSpace)
    }

    /// Write a commit. Returns false if the block is bad.
    fn write_edits(&mut self, block: u32, commit: &Commit) -> Result<bool> {
        match self.durable.write_commit(block, commit) {
            Ok(()) => Ok(true),
            Err(e) if e.is_bad_block() => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Put a directory that is not in the thread into it, so that the deltas of its pairs count.
    /// Returns true if something was changed that must be flushed.
    pub(super) fn join_thread(&mut self, ix: PairIx) -> Result<bool> {
        if self.pair(ix).threaded {
            return Ok(false);
        }
        let dir = self.pair(ix).dir.ok_or(Error::NotFound)?;
        let chain = self.dirs[dir].pairs.clone();
        let last_root = self.dirs[super::ROOT].pairs.last().copied().ok_or(Error::NotFound)?;
        let next = self.pair(last_root).next;
        let (Some(&first), Some(&last)) = (chain.first(), chain.last()) else { return Ok(false) };
        // The deltas of these pairs did not count so far, and would change the global state when
        // they join the thread. So they are cleared first.
        for &p in &chain {
            let delta = self.pair(p).gdelta;
            if !delta.is_zero() {
                self.commit_edits(p, &[Edit::Absorb(delta)], self.durable.gstate())?;
            }
        }
        let old_tail = self.pair(last_root).disk_tail;
        self.commit_edits(last, &[Edit::Tail(old_tail)], self.durable.gstate())?;
        let tail = Tail { pair: self.pair(first).blocks, hard: false };
        self.commit_edits(last_root, &[Edit::Tail(tail)], self.durable.gstate())?;
        self.barrier()?;
        // this is noted only now, because if one of these commits had failed, the directory would
        // still be outside the thread
        chain.iter().for_each(|&p| self.pair_mut(p).threaded = true);
        self.pair_mut(last_root).next = Some(first);
        self.pair_mut(first).prev = Some(last_root);
        self.pair_mut(last).next = next;
        if let Some(next) = next {
            self.pair_mut(next).prev = Some(last);
        }
        Ok(true)
    }
}
