//! Changes to what is on disk that leave pending changes in memory alone: the sync bit, and moving
//! a pair off a bad or tired block.
//!
//! They edit a pair's log as read from the device, so a compaction writes nothing that a phase of
//! the flush still withholds.

use super::Fs;
use super::commit::Fault;
use super::pairs::{Fate, PairIx};
use crate::disk::commit::Writer;
use crate::disk::log::Log;
use crate::disk::{GState, Pair, Tail, tag};
use crate::error::{Corrupt, Error, IoError, IoOp, Result};
use crate::mdir::{LogEnd, store};

/// One change to a pair's durable log.
#[derive(Debug, Clone, Copy)]
enum Edit {
    /// Directory entry `id` points at another pair.
    Child(u16, Pair),
    /// The tail leads elsewhere.
    Tail(Tail),
    /// The pair's delta of the global state.
    Delta(GState),
}

impl Edit {
    fn apply(self, log: &mut Log) {
        match self {
            Self::Child(id, pair) => {
                if let Some(e) = log.entries.get_mut(usize::from(id)) {
                    e.data = Some((tag::DIRSTRUCT, pair.to_bytes().into()));
                }
            }
            Self::Tail(tail) => log.tail = Some(tail),
            Self::Delta(delta) => log.gdelta = delta,
        }
    }

    fn put(self, w: &mut Writer) {
        match self {
            Self::Child(id, pair) => w.tag(tag::DIRSTRUCT, id, &pair.to_bytes()),
            Self::Tail(tail) => w.tail(tail),
            Self::Delta(delta) => w.gdelta(delta),
        }
    }
}

/// All of a log as the first commit of a block; ids stay what they are.
pub(crate) fn put_log(log: &Log, w: &mut Writer) {
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
    if !log.gdelta.is_zero() {
        w.gdelta(log.gdelta);
    }
}

impl Fs {
    /// Raise or clear the sync bit, in a phase of its own.
    ///
    /// Whoever finds the bit raised takes every directory without a name for a removed one. While
    /// some of those in the thread have lost theirs by damage, it therefore stays down: a crash may
    /// then leave the thread and the tree apart, which `check` tells and mends, and nothing is lost.
    pub(super) fn set_sync(&mut self, on: bool) -> Result<()> {
        if on && !self.nameless.is_empty() {
            return Ok(());
        }
        self.commit_gstate(self.gstate.with_sync(on))
    }

    /// Change the global state by a commit to a pair with room for it, or to the first.
    pub(super) fn commit_gstate(&mut self, new: GState) -> Result<()> {
        if new == self.gstate {
            return Ok(());
        }
        let roomy = self.dirty_pairs.iter().copied().find(|&ix| {
            let p = self.pair(ix);
            self.relocating != Some(ix)
                && p.threaded
                && p.on_disk
                && p.fate == Fate::Stays
                && self.has_room(ix)
        });
        let ix = roomy.unwrap_or(PairIx(0));
        self.barrier()?;
        let delta = self.pair(ix).gdelta.xor(self.gstate).xor(new);
        self.edit(ix, Edit::Delta(delta))?;
        self.gstate = new;
        self.barrier()
    }

    fn durable_log(&self, ix: PairIx) -> Result<Log> {
        let blocks = self.pair(ix).blocks;
        store::read_log(&*self.dev, blocks.0[0])?
            .ok_or(Error::Corrupt(Corrupt::NoValidCommit(blocks)))
    }

    /// Commit one edit to the durable log of `ix`.
    fn edit(&mut self, ix: PairIx, edit: Edit) -> Result<()> {
        let layout = self.layout;
        if self.is_appendable(ix) {
            let mut w = Writer::append(layout, self.pair(ix).end.off, self.pair(ix).end.etag);
            edit.put(&mut w);
            if let Ok(commit) = w.finish() {
                self.wrote();
                self.commits_unordered = true;
                self.pair_mut(ix).appendable = Some(false);
                match store::write_commit(&*self.dev, self.pair(ix).blocks.0[0], &commit) {
                    Ok(()) => {
                        let info = self.pair_mut(ix);
                        info.appendable = Some(true);
                        info.end.off = commit.end();
                        info.end.etag = commit.etag;
                        self.edited(ix, edit);
                        return Ok(());
                    }
                    Err(e) if e.is_bad_block() => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
        let mut log = self.durable_log(ix)?;
        edit.apply(&mut log);
        self.keep_order_as_c(ix, &mut log)?;
        self.barrier()?;
        let Pair([active, twin]) = self.pair(ix).blocks;
        let end = self.pair(ix).end;
        let mut w = Writer::compact(layout, end.rev.wrapping_add(1));
        put_log(&log, &mut w);
        let commit = w.finish().map_err(|_| Error::NoSpace)?;
        self.wrote();
        self.commits_unordered = true;
        let erased = if self.pair(ix).twin_erased { Ok(()) } else { self.dev.erase(twin) };
        self.barrier()?;
        self.pair_mut(ix).twin_erased = false;
        match erased.and_then(|()| store::write_commit(&*self.dev, twin, &commit)) {
            Ok(()) => {
                self.wrote();
                let info = self.pair_mut(ix);
                info.blocks = Pair([twin, active]);
                info.end =
                    LogEnd { rev: end.rev.wrapping_add(1), off: commit.end(), etag: commit.etag };
                info.appendable = Some(true);
                self.edited(ix, edit);
                Ok(())
            }
            Err(e) if e.is_bad_block() => {
                self.relocate_log(ix, &log)?;
                self.edited(ix, edit);
                Ok(())
            }
            Err(e) => Err(e.into()),
        }
    }

    fn edited(&mut self, ix: PairIx, edit: Edit) {
        match edit {
            Edit::Child(..) => {}
            Edit::Tail(tail) => self.pair_mut(ix).disk_tail = tail,
            Edit::Delta(delta) => self.pair_mut(ix).gdelta = delta,
        }
    }

    /// Move the durable content of `ix` off its twin's block, and let parent and thread name the
    /// new pair (SPEC: the sync bit guards the time between).
    pub(super) fn relocate(&mut self, ix: PairIx) -> Result<()> {
        let mut log = self.durable_log(ix)?;
        self.keep_order_as_c(ix, &mut log)?;
        self.relocate_log(ix, &log)
    }

    /// The same for a block that is merely worn: it can hold something else.
    pub(super) fn relocate_tired(&mut self, ix: PairIx) -> Result<()> {
        let twin = self.pair(ix).blocks.0[1];
        self.relocate(ix)?;
        self.retire(vec![twin], std::sync::Arc::default());
        Ok(())
    }

    fn relocate_log(&mut self, ix: PairIx, log: &Log) -> Result<()> {
        let old = self.pair(ix).blocks;
        if old.same(Pair::SUPERBLOCK) {
            // It cannot move: either the device fails, or no change can be written ever again.
            let source = std::io::Error::from_raw_os_error(libc::EIO);
            return Err(IoError { op: IoOp::Prog, block: Some(old.0[1]), source }.into());
        }
        self.barrier()?;
        self.complete_map()?;
        let rev = self.pair(ix).end.rev.wrapping_add(1);
        let mut w = Writer::compact(self.layout, rev);
        put_log(log, &mut w);
        let commit = w.finish().map_err(|_| Error::NoSpace)?;
        let block = loop {
            let block = self.alloc.take_to_write()?;
            self.wrote();
            match store::write_fresh(&*self.dev, block, &commit) {
                Ok(()) => break block,
                Err(e) if e.is_bad_block() => self.alloc.spoil(block, e)?,
                Err(e) => return Err(e.into()),
            }
        };
        self.alloc.written();
        let new = Pair([block, old.0[0]]);
        ::log::warn!("pair {old} moves to {new}");
        self.rename_pair(ix, new)?;
        let info = self.pair_mut(ix);
        info.end = LogEnd { rev, off: commit.end(), etag: commit.etag };
        info.appendable = Some(true);
        info.twin_erased = false;
        let done = self.rename_on_disk(ix, old, new);
        // with memory ahead of the disk nothing may be written any more
        done.map_err(|e| self.fatal(e))
    }

    /// Let whatever names `old` on disk name `new`.
    fn rename_on_disk(&mut self, ix: PairIx, old: Pair, new: Pair) -> Result<()> {
        let info = self.pair(ix);
        if !info.on_disk {
            return Ok(());
        }
        let is_child = !info.continues;
        // until it is named, a commit to it counts for nothing
        let outer = self.relocating.replace(ix);
        let raised = is_child && !self.gstate.needs_sync();
        if raised {
            self.set_sync(true)?;
        }
        self.barrier()?;
        if is_child {
            for (parent, id) in self.naming(old)? {
                self.edit(parent, Edit::Child(id, new))?;
            }
            self.barrier()?;
        }
        for i in 0..self.pairs.len() as u32 {
            let at = PairIx(i);
            let Some(Some(p)) = self.pairs.get(i as usize) else { continue };
            let tail = p.disk_tail;
            if p.on_disk && at != ix && !tail.pair.is_null() && tail.pair.overlaps(old) {
                self.edit(at, Edit::Tail(Tail { pair: new, hard: tail.hard }))?;
            }
        }
        self.barrier()?;
        self.relocating = outer;
        if raised {
            self.set_sync(false)?;
        }
        Ok(())
    }

    /// Durable directory entries that name `pair`: by pair and id.
    fn naming(&self, pair: Pair) -> Result<Vec<(PairIx, u16)>> {
        let mut found = Vec::new();
        for (i, p) in self.pairs.iter().enumerate() {
            let Some(p) = p else { continue };
            if !p.on_disk {
                continue;
            }
            let log = self.durable_log(PairIx(i as u32))?;
            for (id, e) in log.entries.iter().enumerate() {
                if let Some((tag::DIRSTRUCT, d)) = &e.data
                    && Pair::from_bytes(d).is_some_and(|c| c.overlaps(pair))
                {
                    found.push((PairIx(i as u32), id as u16));
                }
            }
        }
        Ok(found)
    }

    /// Let the root move out of the superblock pair `ix`, which keeps a copy of the superblock
    /// only (DESIGN: the superblock chain).
    pub(super) fn expand_superblock(&mut self, ix: PairIx) -> Result<(), Fault> {
        ::log::info!("expanding the superblock chain");
        let root = self.split(ix, 0)?;
        let superblock = self.mdir(root)?.entries.first().cloned();
        let Some(mut entry) = superblock else { return Err(Error::NotFound.into()) };
        entry.did = Some(0);
        entry.inherited = false;
        self.mdir_mut(ix)?.insert(0, entry);
        self.dirs[super::ROOT.0 as usize].pairs.retain(|&p| p != ix);
        let old = self.pair_mut(ix);
        (old.dir, old.chain) = (None, true);
        self.pair_mut(root).chain = true;
        self.refresh_first(ix);
        Ok(())
    }

    /// Put a directory that the thread misses into it, so that the global state of its pairs
    /// counts. True if something was changed, to be flushed.
    pub(super) fn join_thread(&mut self, ix: PairIx) -> Result<bool> {
        if self.pair(ix).threaded {
            return Ok(false);
        }
        let dir = self.pair(ix).dir.ok_or(Error::NotFound)?;
        let chain = self.dirs[dir.0 as usize].pairs.clone();
        let last_root =
            self.dirs[super::ROOT.0 as usize].pairs.last().copied().ok_or(Error::NotFound)?;
        let next = self.pair(last_root).next;
        let (Some(&first), Some(&last)) = (chain.first(), chain.last()) else { return Ok(false) };
        // their deltas did not count so far and must not begin to
        for &p in &chain {
            if !self.pair(p).gdelta.is_zero() {
                self.edit(p, Edit::Delta(GState::default()))?;
            }
            self.pair_mut(p).threaded = true;
        }
        self.barrier()?;
        let old_tail = self.pair(last_root).disk_tail;
        self.edit(last, Edit::Tail(old_tail))?;
        self.barrier()?;
        self.edit(last_root, Edit::Tail(Tail { pair: self.pair(first).blocks, hard: false }))?;
        self.barrier()?;
        self.pair_mut(last_root).next = Some(first);
        self.pair_mut(first).prev = Some(last_root);
        self.pair_mut(last).next = next;
        if let Some(next) = next {
            self.pair_mut(next).prev = Some(last);
        }
        Ok(true)
    }
}
